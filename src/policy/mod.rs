//! What this host asks of images: `policy.toml`, trust stores, and what they decide for an image.
//!
//! ```toml
//! version = 1
//!
//! [default]                 # what counts where a rule does not say
//! mode = "enforce"          # enforce | audit | off
//! trust = ["acme"]          # trust.d/acme/
//!
//! [[rule]]
//! image = "localhost/*"     # a name without tag; a star at the end stands for anything
//! mode = "off"
//!
//! [[rule]]
//! image = "*"
//! namespace = "dev-*"       # of Kubernetes: only for containers there
//! mode = "audit"
//!
//! [mount]                   # once, for all images
//! nodev = true
//!
//! [store]
//! vault = "/srv/vault"      # elsewhere than in the graph root
//!
//! [rootless]                # containers of users other than root
//! mode = "off"
//! ```
//!
//! An image without a name goes by the name `<none>`, as podman shows it; a rule for `<none>`, or one for `*`, applies
//! to it. A root that is no image's (`podman run --rootfs`) goes by `<rootfs>`: not by `<none>`, for which builds need
//! lenient rules.
//!
//! Rules that name a namespace apply only to containers that are in it according to the store's records
//! ([`PodNamespace`]), so never to podman's. The rules for one place form a list of their own, in which the most
//! specific counts; lists combine like names, each setting to its strictest. So a rule for a place can loosen what the
//! default asks there, but no other rule.
//!
//! What [`Denied`] reads from `deny.d/` is refused whatever a rule says, even in the modes audit and off.
//!
//! Nothing but the binding statement binds the names of an image: whoever can change the store's files can rename an
//! image. That is why `identity` is on unless a rule says otherwise, and why a rule with `mode = "off"` is a hole on a
//! disk that others can write to.

mod change;
mod combine;
mod config_dirs;
mod covered;
mod denied;
mod file;
mod pattern;
mod resolve;
mod runtime;
mod runtime_note;
mod weaker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::container_store::PodNamespace;
use crate::digest::Fingerprint;
use crate::error::{Case, Refusal, Result};
use crate::oci::name::{self, ImageName, NAMELESS, UNKNOWN};
use crate::pki::{Anchor, Certificate, Dates};
use combine::{NamedDecision, combine};

pub use change::{ConfigWriter, ETC, ModeChange};
pub use combine::Sources;
pub use config_dirs::Directories;
pub use covered::{configuration_at, configuration_places, is_configuration};
pub use denied::Denied;
use file::RuleSettings;
pub use file::{
    BindingRule, Checkpoint, Cover, FetchRule, Mode, MountSettings, Rollback, RootDriver, UpperRule, Verity,
};
use pattern::{NamePattern, NamespacePattern, Specificity, Subject};
use resolve::TrustStores;
pub use runtime::{note_runtime, real_runtime};
pub use runtime_note::{GO_ON, REMOVE, SUPERVISE};

/// The policy of this host: one consistent snapshot, read once.
#[derive(Clone, Debug)]
pub struct Policy {
    default: Decision,
    /// What `[default]` itself says.
    said: RuleSettings,
    rules: Vec<Rule>,
    mount: MountSettings,
    vault: Option<PathBuf>,
    denied: Denied,
    /// Where the containers run that are decided about.
    place: PodNamespace,
    /// What `[rootless]` asks of a user's containers: a rule can ask for less, and not for more.
    of_user: Option<Mode>,
}

/// A rule, and what it amounts to on top of the default.
#[derive(Clone, Debug)]
struct Rule {
    subject: Subject,
    decision: Decision,
    said: RuleSettings,
}

/// What is asked of one image.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Whether a seal is needed.
    pub mode: Mode,
    /// Whom to trust: the certificates of all trust stores that the rule names.
    pub certificates: Vec<Certificate>,
    /// Whom to trust to vouch for signers whose certificates are in their signatures.
    pub anchors: Vec<Anchor>,
    /// The names of those stores.
    pub stores: Vec<String>,
    /// Whether a binding statement is needed.
    pub binding: BindingRule,
    /// Whether the image's name must be one of the statement's identities.
    pub identity: bool,
    /// Whether the kernel must check every byte.
    pub verity: Verity,
    /// What the upper directory may hold at the first mount.
    pub upper: UpperRule,
    /// Whether a certificate outside its dates counts.
    pub dates: Dates,
    /// Whether seals may be fetched when they are needed.
    pub fetch: FetchRule,
    /// How long that may take.
    pub fetch_timeout: Duration,
    /// How long a registry that did not answer is not asked again.
    pub fetch_retry: Duration,
    /// Which system paths of the image its containers may cover by their own mounts.
    pub cover: Vec<Cover>,
    /// Whether a seal may be older than one that was accepted before.
    pub rollback: Rollback,
    /// Whether a container may be restored from a checkpoint.
    pub checkpoint: Checkpoint,
    /// Where the mode was decided: the pattern and its file.
    pub source: String,
    /// The same for each setting.
    pub sources: Sources,
    /// All names of the image, as they are compared.
    pub names: Vec<ImageName>,
    /// The name of the image that decided the mode; `None` for an image without any name.
    pub name: Option<ImageName>,
}

impl Policy {
    /// Reads the policy of `directories`.
    ///
    /// # Errors
    /// [`Case::F03Policy`] if there is none, if it cannot be read or is not root's; F01 and F02 for its trust stores
    /// and for certificates that are denied; [`Case::F10Covered`].
    pub fn load(directories: &Directories) -> Result<Self> {
        covered::check(directories)?;
        let denied = Denied::load(directories)?;
        Self::of_files(Some(directories), directories.files()?, denied)
    }

    /// Reads the policy of these files, each with its path.
    fn of_files(trust: Option<&Directories>, files: Vec<(String, String)>, denied: Denied) -> Result<Self> {
        let mut default: Option<(RuleSettings, String)> = None;
        let mut mount: Option<(MountSettings, String)> = None;
        let mut rootless: Option<(file::RootlessSettings, String)> = None;
        let mut store: Option<(file::StoreSettings, String)> = None;
        let mut rules: Vec<(Subject, RuleSettings, String)> = Vec::new();
        for (path, text) in files {
            let file = file::parse(&text, &path)?;
            once(&mut default, file.default, "[default]", &path)?;
            once(&mut mount, file.mount, "[mount]", &path)?;
            once(&mut rootless, file.rootless, "[rootless]", &path)?;
            once(&mut store, file.store, "[store]", &path)?;
            for (subject, settings) in file.rules {
                // With two rules for one pattern, the order of files would decide.
                if let Some((_, _, other)) = rules.iter().find(|(s, ..)| *s == subject) {
                    return Err(refuse(&path, format!("the rule for {subject} stands in {other} too")));
                }
                rules.push((subject, settings, path.clone()));
            }
        }
        let mut stores = TrustStores { directories: trust, loaded: BTreeMap::new() };
        let (base, path) = default.unwrap_or((RuleSettings::default(), "built in".into()));
        let decided = stores.resolve(&base, format!("[default] in {path}"))?;
        let rules = rules
            .into_iter()
            .map(|(subject, settings, path)| {
                let decision = stores.resolve(&settings.clone().over(&base), format!("{subject} in {path}"))?;
                Ok(Rule { subject, decision, said: settings })
            })
            .collect::<Result<_>>()?;
        let mount = mount.map(|(mount, _)| mount).unwrap_or_default();
        let vault = file::vault_dir(store);
        let place = PodNamespace::NotInPod;
        Ok(Self { default: decided, said: base, rules, mount, vault, denied, place, of_user: None })
    }

    /// Returns the policy for a container in this place; without a place, rules that name a namespace do not apply.
    pub fn at(self, place: PodNamespace) -> Self {
        Self { place, ..self }
    }

    /// Reads what a user other than root can read of the policy, for that user's containers, of which `[rootless]` asks
    /// `mode`. In a user namespace nobody can tell whose the files are: so nobody is trusted by it, nothing is denied,
    /// and both are for the service to decide.
    ///
    /// # Errors
    /// [`Case::F03Policy`] for a policy that cannot be understood.
    pub fn of_user(directories: &Directories, mode: Mode) -> Result<Self> {
        Ok(Self { of_user: Some(mode), ..Self::of_files(None, directories.readable(), Denied::nothing())? })
    }

    /// Reads the mode for containers of users other than root, whatever the rules say about their images. Nothing else
    /// of the policy is read: perhaps only root may read the trust stores.
    ///
    /// # Errors
    /// [`Case::F03Policy`] for a policy that cannot be understood. If there is no policy, or none that this user may
    /// read, nothing is asked.
    pub fn rootless(directories: &Directories) -> Result<Mode> {
        let mut rootless: Option<(file::RootlessSettings, String)> = None;
        for (path, text) in directories.readable() {
            once(&mut rootless, file::parse(&text, &path)?.rootless, "[rootless]", &path)?;
        }
        Ok(rootless.map_or(Mode::Off, |(settings, _)| settings.mode))
    }

    /// Reads where the vault is, for callers that need nothing else of the policy; `None` for the one in the graph
    /// root, also if there is no policy.
    ///
    /// # Errors
    /// [`Case::F03Policy`] for a policy that cannot be read, since the place is then unknown.
    pub fn configured_vault(directories: &Directories) -> Result<Option<PathBuf>> {
        let mut store: Option<(file::StoreSettings, String)> = None;
        for (path, text) in directories.any_files()? {
            once(&mut store, file::parse(&text, &path)?.store, "[store]", &path)?;
        }
        Ok(file::vault_dir(store))
    }

    /// Returns where the vault is; `None` for the one in each graph root.
    pub fn vault(&self) -> Option<&Path> {
        self.vault.as_deref()
    }

    /// Returns whether any image, of whatever name, must be sealed. If none must, no container is stopped because
    /// something about it cannot be found out.
    pub fn enforces(&self) -> bool {
        let any =
            self.default.mode == Mode::Enforce || self.rules.iter().any(|rule| rule.decision.mode == Mode::Enforce);
        any && self.of_user.is_none_or(|mode| mode == Mode::Enforce)
    }

    /// Returns what is asked of a root that nobody can identify; `None` if it must not start: because some image must
    /// be sealed, or because something is denied, which it might be.
    pub fn for_unknown(&self) -> Option<Decision> {
        let any = self.enforces() || !self.denied.is_empty();
        (!any).then(|| self.decide_at(&PodNamespace::Unknown, &[UNKNOWN.to_owned()]))
    }

    /// Lists the rules that set a different mode themselves: the default does not apply to their images.
    pub fn rules_with_mode(&self, mode: Mode) -> Vec<String> {
        let said = self.rules.iter().filter(|rule| rule.said.mode == Some(mode));
        said.map(|rule| rule.decision.source.clone()).collect()
    }

    /// Returns the trust stores that the default or any rule names.
    pub fn stores(&self) -> std::collections::BTreeSet<&str> {
        let rules = self.rules.iter().map(|rule| &rule.decision);
        rules.chain(Some(&self.default)).flat_map(|d| d.stores.iter().map(String::as_str)).collect()
    }

    /// Returns how images are mounted.
    pub fn mount(&self) -> &MountSettings {
        &self.mount
    }

    /// Returns what is refused whatever the rules say. [`Self::decide`] does not consult it: verifying does, and
    /// whoever mounts what nobody vouches for must.
    pub fn denied(&self) -> &Denied {
        &self.denied
    }

    /// Decides what is asked of an image that goes by `names` (tags and digests are dropped); without any it goes by
    /// `<none>`. Each name has its most specific rule, or the default if none matches, and of what all of them ask each
    /// setting counts in its strictest form: an alias loosens nothing that another name asks for, including whom to
    /// trust.
    ///
    /// podman looks for the short name `acme/app` first as `localhost/acme/app`. So for that name a rule for
    /// `HOST/acme/app` or `HOST/acme/*` counts too, unless one is for all of `localhost/acme/app`.
    ///
    /// Rules that name a namespace count as [`PodNamespace`] says: outside of pods none of them, in a pod those for its
    /// namespace, and all of them if the namespace cannot be told; always in addition to what is asked everywhere.
    pub fn decide(&self, names: &[String]) -> Decision {
        self.decide_at(&self.place, names)
    }

    fn decide_at(&self, place: &PodNamespace, names: &[String]) -> Decision {
        let named = ImageName::all(names);
        let nameless = [ImageName::of(NAMELESS)];
        let asked = if named.is_empty() { &nameless[..] } else { &named[..] };
        let mut found: Vec<(Option<&Rule>, &ImageName)> = Vec::new();
        let lists = self.lists(place);
        for name in asked {
            let mut by_default = true;
            for list in &lists {
                let best = self.most_specific(*list, |p| p.matches(name.as_str()));
                // If it cannot be told whether a rule applies, what counts without it counts too.
                by_default &= best.is_none() || (list.is_some() && *place == PodNamespace::Unknown);
                found.extend(best.map(|rule| (Some(rule), name)));
                let whole = best.is_some_and(|rule| rule.subject.image.is_whole());
                if let Some(short) = name::short(name.as_str()).filter(|_| !whole)
                    && let Some(rule) = self.most_specific(*list, |p| p.matches_short(short))
                {
                    found.push((Some(rule), name));
                }
            }
            if by_default {
                found.push((None, name));
            }
        }
        let decision = |rule: Option<&Rule>| rule.map_or(&self.default, |r| &r.decision).mode;
        let rank = |rule: Option<&Rule>| std::cmp::Reverse(rule.map(|r| r.subject.image.specificity()));
        found.sort_by(|(p, n), (q, m)| (decision(*p), rank(*p), n).cmp(&(decision(*q), rank(*q), m)));
        let parts = found.iter().map(|(rule, _)| match rule {
            Some(rule) => NamedDecision { decision: &rule.decision, said: &rule.said },
            None => NamedDecision { decision: &self.default, said: &self.said },
        });
        let parts: Vec<NamedDecision<'_>> = parts.collect();
        let first = parts.first().map_or(&self.default, |p| p.decision);
        let name = found.first().map(|(_, name)| (*name).clone()).filter(|_| !named.is_empty());
        let decision = Decision { name, names: named, ..combine(first, &parts) };
        match self.of_user {
            Some(of_user) if of_user > decision.mode => {
                Decision { mode: of_user, source: "[rootless]".to_owned(), ..decision }
            }
            _ => decision,
        }
    }

    /// Returns whether a signer, or the anchor that vouches for it, is trusted with images of this name.
    pub fn trusts(&self, name: &str, signer: Fingerprint, anchor: Option<Fingerprint>) -> bool {
        let asked = self.decide(&[name.to_owned()]);
        asked.certificates.iter().any(|known| known.fingerprint() == signer)
            || asked.anchors.iter().any(|known| Some(known.fingerprint()) == anchor)
    }

    /// Returns the mode for names that no rule is for.
    pub fn default_mode(&self) -> Mode {
        self.default.mode
    }

    /// Returns whether the kernel must check every byte if no rule says otherwise.
    pub fn default_verity(&self) -> Verity {
        self.default.verity
    }

    /// Returns the lists of rules that apply in a place: that of the rules without a namespace, and one for each
    /// namespace pattern.
    fn lists(&self, place: &PodNamespace) -> Vec<Option<&NamespacePattern>> {
        let mut lists = vec![None];
        for namespace in self.rules.iter().filter_map(|rule| rule.subject.namespace.as_ref()) {
            let applies = match place {
                PodNamespace::NotInPod => false,
                PodNamespace::Namespace(name) => namespace.matches(name),
                PodNamespace::Unknown => true,
            };
            if applies && !lists.contains(&Some(namespace)) {
                lists.push(Some(namespace));
            }
        }
        lists
    }

    fn most_specific(
        &self,
        list: Option<&NamespacePattern>,
        matches: impl Fn(&NamePattern) -> Option<Specificity>,
    ) -> Option<&Rule> {
        let of_list = self.rules.iter().filter(|r| r.subject.namespace.as_ref() == list);
        let matching = of_list.filter_map(|rule| Some((matches(&rule.subject.image)?, rule)));
        matching.max_by_key(|(specificity, _)| *specificity).map(|(_, rule)| rule)
    }
}

/// Keeps something that may only be in one file: with two, the order of files would decide.
fn once<T>(kept: &mut Option<(T, String)>, found: Option<T>, table: &str, path: &str) -> Result<()> {
    match (&*kept, found) {
        (_, None) => Ok(()),
        (Some((_, other)), Some(_)) => Err(refuse(path, format!("{table} stands in {other} too"))),
        (None, Some(found)) => {
            *kept = Some((found, path.to_owned()));
            Ok(())
        }
    }
}

fn refuse(path: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Case::F03Policy, path, why)
}
