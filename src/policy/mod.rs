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
//! [rootless]                # containers of users other than root
//! mode = "off"
//! ```
//!
//! An image without any name goes by the name `<none>`, as podman shows it; a rule for `<none>`, or one
//! for `*`, is for it. A root that is no image's (`podman run --rootfs`) goes by `<rootfs>`: not by
//! `<none>`, which builds need to be lenient with.
//!
//! Rules that name a namespace are for the containers that the store's records say are in it ([`Place`]), and for no other:
//! not for podman's. Rules of one place are a list of their own, of which the most specific counts; lists combine as names
//! do, each setting to its strictest. So a rule of a place loosens what the default asks there, and no other rule.
//!
//! What [`Denied`] reads from `deny.d/` is refused whatever a rule says, in audit and off mode too.
//!
//! The names of an image are not bound by anything but the binding statement: whoever can change the
//! store's files can rename an image. That is why `identity` is on unless a rule says otherwise, and
//! why a rule with `mode = "off"` is an opening on a disk that others can write to.

mod combine;
mod config_dirs;
mod denied;
mod file;
mod runtime;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::identify::Place;
use crate::oci::Budget;
use crate::oci::name::{self, UNKNOWN, canonical};
use crate::pki::{Anchor, Certificate, Dates, Ownership, TrustStore, anchors};
use crate::report::{Case, Refusal, Result};

use combine::{Part, combine};

pub use combine::Sources;
pub use config_dirs::Directories;
pub use denied::Denied;
pub use file::{BindingRule, Checkpoint, Cover, Fetch, Mode, MountSettings, Rollback, Top, Upper, Verity};
use file::{Namespace, Pattern, Settings, Subject};
pub use runtime::real_runtime;

/// Seconds for which a registry that did not answer is not asked again, unless something else is said.
const RETRY: u16 = 60;

/// The name of an image that has none.
const NAMELESS: &str = "<none>";

/// The policy of this host: one consistent snapshot, read once.
#[derive(Debug)]
pub struct Policy {
    default: Decision,
    /// What `[default]` says itself.
    said: Settings,
    rules: Vec<Rule>,
    mount: MountSettings,
    denied: Denied,
    /// Whose containers are decided about.
    place: Place,
}

/// A rule, and what it comes to over the default.
#[derive(Debug)]
struct Rule {
    subject: Subject,
    decision: Decision,
    said: Settings,
}

/// What is asked of one image.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Whether a seal is needed.
    pub mode: Mode,
    /// Whom to trust: the certificates of all trust stores that the rule names.
    pub certificates: Vec<Certificate>,
    /// Whom to trust to vouch for signers whose certificates travel in their signatures.
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
    pub upper: Upper,
    /// Whether a certificate outside its dates counts.
    pub dates: Dates,
    /// Whether seals may be fetched when they are needed.
    pub fetch: Fetch,
    /// How long that may take.
    pub fetch_timeout: Duration,
    /// How long a registry that did not answer is not asked again.
    pub fetch_retry: Duration,
    /// Which system paths of the image its containers may cover by mounts of their own.
    pub cover: Vec<Cover>,
    /// Whether a seal may be older than one that was accepted before.
    pub rollback: Rollback,
    /// Whether a container may come back from a checkpoint.
    pub checkpoint: Checkpoint,
    /// Where the mode was decided: the pattern and its file.
    pub source: String,
    /// The same for each setting.
    pub sources: Sources,
    /// All names of the image, as they are compared.
    pub names: Vec<String>,
    /// The name of the image that decided the mode; `None` for an image without any name.
    pub name: Option<String>,
}

impl Policy {
    /// Reads the policy of `directories`.
    ///
    /// # Errors
    /// [`Case::F03Policy`] when there is none, when it cannot be read or is not root's; F01 and F02 for
    /// its trust stores and for certificates that are denied.
    pub fn load(directories: &Directories) -> Result<Self> {
        let files = directories.files()?;
        let mut default: Option<(Settings, String)> = None;
        let mut mount: Option<(MountSettings, String)> = None;
        let mut rootless: Option<(file::RootlessSettings, String)> = None;
        let mut rules: Vec<(Subject, Settings, String)> = Vec::new();
        for (path, text) in files {
            let file = file::parse(&text, &path)?;
            once(&mut default, file.default, "[default]", &path)?;
            once(&mut mount, file.mount, "[mount]", &path)?;
            once(&mut rootless, file.rootless, "[rootless]", &path)?;
            for (subject, settings) in file.rules {
                // Two rules for one pattern would make the order of files decide.
                if let Some((_, _, other)) = rules.iter().find(|(s, ..)| *s == subject) {
                    return Err(refuse(&path, format!("the rule for {subject} stands in {other} too")));
                }
                rules.push((subject, settings, path.clone()));
            }
        }
        let mut stores = Stores { directories, loaded: BTreeMap::new() };
        let (base, path) = default.unwrap_or((Settings::default(), "built in".into()));
        let decided = stores.decision(&base, format!("[default] in {path}"))?;
        let rules = rules
            .into_iter()
            .map(|(subject, settings, path)| {
                let decision = stores.decision(&settings.clone().over(&base), format!("{subject} in {path}"))?;
                Ok(Rule { subject, decision, said: settings })
            })
            .collect::<Result<_>>()?;
        let mount = mount.map(|(mount, _)| mount).unwrap_or_default();
        let (denied, place) = (Denied::load(directories)?, Place::Nowhere);
        Ok(Self { default: decided, said: base, rules, mount, denied, place })
    }

    /// The same for a container in this place; without it rules that name a namespace do not apply.
    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// The mode for containers of users other than root, whatever the rules say of their images. Nothing else of the
    /// policy is read: trust stores may be root's alone to read.
    ///
    /// # Errors
    /// [`Case::F03Policy`] for what cannot be understood. Where there is no policy, or none that this user may read,
    /// nothing is asked.
    pub fn rootless(directories: &Directories) -> Result<Mode> {
        let mut rootless: Option<(file::RootlessSettings, String)> = None;
        for (path, text) in directories.readable() {
            once(&mut rootless, file::parse(&text, &path)?.rootless, "[rootless]", &path)?;
        }
        Ok(rootless.map_or(Mode::Off, |(settings, _)| settings.mode))
    }

    /// Whether there is an image, of whatever name, that must be sealed. Where there is none no container is to be
    /// stopped by what cannot be found out of it.
    pub fn enforces(&self) -> bool {
        self.default.mode == Mode::Enforce || self.rules.iter().any(|rule| rule.decision.mode == Mode::Enforce)
    }

    /// The least that a root is asked of which nobody can say what it is: nothing is where no image must be sealed, and
    /// nothing is denied, for which it would have to be known.
    pub fn for_unknown(&self) -> Option<Decision> {
        let any = self.enforces() || !self.denied.is_empty();
        (!any).then(|| self.decide_at(&Place::Unknown, &[UNKNOWN.to_owned()]))
    }

    /// How images are mounted.
    pub fn mount(&self) -> &MountSettings {
        &self.mount
    }

    /// What is refused whatever the rules say. [`Self::decide`] does not ask: verifying does, and
    /// whoever mounts what nobody vouches for must.
    pub fn denied(&self) -> &Denied {
        &self.denied
    }

    /// What is asked of an image that goes by `names` (tags and digests are dropped); without any it
    /// goes by `<none>`. Each name has its most specific rule, the default where none matches, and of what all
    /// of them ask each setting counts in its strictest form: an alias loosens nothing that another name asks
    /// for, whom to trust included.
    ///
    /// A name `localhost/acme/app` is what podman finds first for the short name `acme/app`. So a rule for
    /// `HOST/acme/app` or `HOST/acme/*` is asked too, unless one is for all of `localhost/acme/app`.
    ///
    /// Rules that name a namespace count as said in [`Place`]: none outside of pods, those for its namespace in one, and
    /// all of them where that cannot be told, beside what is asked everywhere.
    pub fn decide(&self, names: &[String]) -> Decision {
        self.decide_at(&self.place, names)
    }

    fn decide_at(&self, place: &Place, names: &[String]) -> Decision {
        let mut named: Vec<String> = names.iter().map(|name| canonical(name)).collect();
        named.sort();
        named.dedup();
        let nameless = [NAMELESS.to_owned()];
        let asked = if named.is_empty() { &nameless[..] } else { &named[..] };
        let mut found: Vec<(Option<&Rule>, &String)> = Vec::new();
        let lists = self.lists(place);
        for name in asked {
            let mut by_default = true;
            for list in &lists {
                let best = self.most_specific(*list, |p| p.matches(name));
                // Where it cannot be told that a rule applies, what counts without it counts too.
                by_default &= best.is_none() || (list.is_some() && *place == Place::Unknown);
                found.extend(best.map(|rule| (Some(rule), name)));
                let whole = best.is_some_and(|rule| rule.subject.image.is_whole());
                if let Some(short) = name::short(name).filter(|_| !whole)
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
            Some(rule) => Part { decision: &rule.decision, said: &rule.said },
            None => Part { decision: &self.default, said: &self.said },
        });
        let parts: Vec<Part<'_>> = parts.collect();
        let first = parts.first().map_or(&self.default, |p| p.decision);
        let name = found.first().map(|(_, name)| (*name).clone()).filter(|_| !named.is_empty());
        Decision { name, names: named, ..combine(first, &parts) }
    }

    /// The mode of names that no rule is for.
    pub fn default_mode(&self) -> Mode {
        self.default.mode
    }

    /// The lists of rules that have a say in a place: that of the rules that name none, and one for each that is named.
    fn lists(&self, place: &Place) -> Vec<Option<&Namespace>> {
        let mut lists = vec![None];
        for namespace in self.rules.iter().filter_map(|rule| rule.subject.namespace.as_ref()) {
            let applies = match place {
                Place::Nowhere => false,
                Place::Namespace(name) => namespace.matches(name),
                Place::Unknown => true,
            };
            if applies && !lists.contains(&Some(namespace)) {
                lists.push(Some(namespace));
            }
        }
        lists
    }

    fn most_specific(&self, list: Option<&Namespace>, matches: impl Fn(&Pattern) -> bool) -> Option<&Rule> {
        let of_list = self.rules.iter().filter(|r| r.subject.namespace.as_ref() == list);
        of_list.filter(|r| matches(&r.subject.image)).max_by_key(|r| r.subject.image.specificity())
    }

    /// Settings in which the default asks for less than a rule does: whoever can give an image a name that no
    /// rule is for has it go by the default.
    pub fn lenient(&self) -> Vec<String> {
        let mut found = Vec::new();
        let default = &self.default;
        let can_be_missed = |r: &&Rule| r.decision.mode != Mode::Off && !r.subject.image.is_all();
        for Rule { decision: rule, .. } in self.rules.iter().filter(can_be_missed) {
            let settings = [
                ("mode", default.mode > rule.mode),
                ("binding", default.binding > rule.binding),
                ("identity", !default.identity && rule.identity),
                ("verity", default.verity > rule.verity),
                ("upper", default.upper > rule.upper),
                ("dates", default.dates > rule.dates),
                ("rollback", default.rollback > rule.rollback),
                ("checkpoint", default.checkpoint > rule.checkpoint),
            ];
            let lenient = settings.into_iter().filter(|(_, lenient)| *lenient);
            found.extend(lenient.map(|(setting, _)| format!("{setting} (stricter for {})", rule.source)));
        }
        found
    }
}

/// Keeps what may stand in one file only: two would make the order of files decide.
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

fn load(signers: &[PathBuf], authorities: &[PathBuf]) -> Result<(Vec<Certificate>, Vec<Anchor>)> {
    let signers = match signers {
        [] => Vec::new(),
        paths => TrustStore::load(paths, Ownership::RootOnly)?.certificates().to_vec(),
    };
    Ok((signers, anchors(authorities, Ownership::RootOnly)?))
}

/// Trust stores, each read once.
struct Stores<'a> {
    directories: &'a Directories,
    loaded: BTreeMap<String, (Vec<Certificate>, Vec<Anchor>)>,
}

impl Stores<'_> {
    fn decision(&mut self, settings: &Settings, source: String) -> Result<Decision> {
        let mode = settings.mode.unwrap_or(Mode::Enforce);
        let stores = settings.trust.clone().unwrap_or_default();
        let (mut certificates, mut anchors) = (Vec::new(), Vec::new());
        for store in &stores {
            if !self.loaded.contains_key(store) {
                let paths = self.directories.trust(store).map_err(|r| r.within(&source))?;
                self.loaded.insert(store.clone(), load(&paths.0, &paths.1)?);
            }
            if let Some((signers, authorities)) = self.loaded.get(store) {
                certificates.extend(signers.iter().cloned());
                anchors.extend(authorities.iter().cloned());
            }
        }
        if certificates.is_empty() && anchors.is_empty() && mode == Mode::Enforce && settings.trust.is_some() {
            return Err(refuse(&source, "trust names no store"));
        }
        Ok(Decision {
            mode,
            certificates,
            anchors,
            stores,
            binding: settings.binding.unwrap_or(BindingRule::Required),
            identity: settings.identity.unwrap_or(true),
            verity: settings.verity.unwrap_or(Verity::Require),
            upper: settings.upper.unwrap_or(Upper::Any),
            dates: settings.dates.unwrap_or_default(),
            fetch: settings.fetch.unwrap_or(Fetch::Never),
            cover: settings.cover.clone().unwrap_or_default(),
            rollback: settings.rollback.unwrap_or(Rollback::Allow),
            checkpoint: settings.checkpoint.unwrap_or(Checkpoint::Refuse),
            fetch_timeout: settings
                .fetch_timeout
                .map_or(Budget::STANDARD.on_mount, |seconds| Duration::from_secs(u64::from(seconds.get()))),
            fetch_retry: Duration::from_secs(settings.fetch_retry.unwrap_or(RETRY).into()),
            source,
            sources: Sources::new(),
            names: Vec::new(),
            name: None,
        })
    }
}
