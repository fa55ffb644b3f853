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
//! [mount]                   # once, for all images
//! nodev = true
//! ```
//!
//! An image without any name goes by the name `<none>`, as podman shows it; a rule for `<none>`, or one
//! for `*`, is for it. A root that is no image's (`podman run --rootfs`) goes by `<rootfs>`: not by
//! `<none>`, which builds need to be lenient with.
//!
//! What [`Denied`] reads from `deny.d/` is refused whatever a rule says, in audit and off mode too.
//!
//! The names of an image are not bound by anything but the binding statement: whoever can change the
//! store's files can rename an image. That is why `identity` is on unless a rule says otherwise, and
//! why a rule with `mode = "off"` is an opening on a disk that others can write to.

mod config;
mod denied;
mod rule;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::oci::Budget;
use crate::pki::{Anchor, Certificate, Dates, Ownership, TrustStore, anchors};
use crate::report::{Case, Refusal, Result};

pub use config::Directories;
pub use denied::Denied;
pub use rule::{Binding, Cover, Fetch, Mode, MountSettings, Rollback, Top, Upper, Verity};
use rule::{Pattern, Settings};

/// The name of an image that has none.
const NAMELESS: &str = "<none>";

/// The name of a root that is no image's: `podman run --rootfs`, and what no record says anything about.
pub const ROOTFS: &str = "<rootfs>";

/// The name of a container of a store whose image is not on record there, or of an image with a name that none
/// can have.
pub const UNKNOWN: &str = "<unknown>";

/// The policy of this host: one consistent snapshot, read once.
#[derive(Debug)]
pub struct Policy {
    default: Decision,
    rules: Vec<(Pattern, Decision)>,
    mount: MountSettings,
    denied: Denied,
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
    pub binding: Binding,
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
    /// Which system paths of the image its containers may cover by mounts of their own.
    pub cover: Vec<Cover>,
    /// Whether a seal may be older than one that was accepted before.
    pub rollback: Rollback,
    /// Where this was decided: the pattern and its file.
    pub source: String,
    /// All names of the image that the rule matched: a seal for one of them is a seal for the image, which
    /// may have been given others here.
    pub names: Vec<String>,
    /// The name of the image that the rule matched, the smallest one where the default decided; `None`
    /// for an image without any name.
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
        let mut rules: Vec<(Pattern, Settings, String)> = Vec::new();
        for (path, text) in files {
            let file = rule::parse(&text, &path)?;
            once(&mut default, file.default, "[default]", &path)?;
            once(&mut mount, file.mount, "[mount]", &path)?;
            for (pattern, settings) in file.rules {
                // Two rules for one pattern would make the order of files decide.
                if let Some((_, _, other)) = rules.iter().find(|(p, ..)| *p == pattern) {
                    return Err(refuse(&path, format!("the rule for {pattern} stands in {other} too")));
                }
                rules.push((pattern, settings, path.clone()));
            }
        }
        let mut stores = Stores { directories, loaded: BTreeMap::new() };
        let (base, path) = default.unwrap_or((Settings::default(), "built in".into()));
        let decided = stores.decision(&base, format!("[default] in {path}"))?;
        let rules = rules
            .into_iter()
            .map(|(pattern, settings, path)| {
                let decision = stores.decision(&settings.over(&base), format!("{pattern} in {path}"))?;
                Ok((pattern, decision))
            })
            .collect::<Result<_>>()?;
        let mount = mount.map(|(mount, _)| mount).unwrap_or_default();
        Ok(Self { default: decided, rules, mount, denied: Denied::load(directories)? })
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
    /// goes by `<none>`. One rule decides, whatever the order of names and files:
    ///
    /// 1. for each name its most specific pattern, the default where none matches;
    /// 2. among these the strictest mode: an alias never loosens the mode that another name asks for;
    /// 3. among those of that mode a rule before the default, then the most specific pattern, then the
    ///    smaller name.
    ///
    /// By the third step an alias can decide which stores are trusted, where rules of one mode name
    /// different ones. Whoever can rename an image chooses among signers that the host trusts for that
    /// other name; `identity`, on unless a rule says otherwise, then asks the seal for that name too.
    pub fn decide(&self, names: &[String]) -> Decision {
        let nameless = [NAMELESS.to_owned()];
        let (names, named) = if names.is_empty() { (&nameless[..], false) } else { (names, true) };
        let mut found: Vec<(&Pattern, &Decision, String)> = Vec::new();
        let mut unmatched: Vec<String> = Vec::new();
        for name in names {
            let name = repository(name).to_owned();
            let best = self.rules.iter().filter(|(p, _)| p.matches(&name)).max_by_key(|(p, _)| p.specificity());
            match best {
                Some((pattern, decision)) => found.push((pattern, decision, name)),
                None => unmatched.push(name),
            }
        }
        found.sort_by(|(p, d, n), (q, e, m)| {
            (d.mode, std::cmp::Reverse(p.specificity()), n).cmp(&(e.mode, std::cmp::Reverse(q.specificity()), m))
        });
        unmatched.sort();
        let (decision, all) = match found.first() {
            Some((pattern, decision, _)) if unmatched.is_empty() || decision.mode <= self.default.mode => {
                (*decision, found.iter().filter(|(p, ..)| p == pattern).map(|(_, _, name)| name.clone()).collect())
            }
            _ => (&self.default, unmatched),
        };
        let mut names: Vec<String> = if named { all } else { Vec::new() };
        names.dedup();
        Decision { name: names.first().cloned(), names, ..decision.clone() }
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

/// An image name without tag and digest.
pub fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        // A colon before a slash is a port.
        Some((front, tag)) if !tag.contains('/') => front,
        _ => name,
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
            binding: settings.binding.unwrap_or(Binding::Required),
            identity: settings.identity.unwrap_or(true),
            verity: settings.verity.unwrap_or(Verity::Require),
            upper: settings.upper.unwrap_or(Upper::Any),
            dates: match settings.dates {
                Some(rule::DatesSetting::Ignore) => Dates::Ignore,
                _ => Dates::Enforce,
            },
            fetch: settings.fetch.unwrap_or(Fetch::Never),
            cover: settings.cover.clone().unwrap_or_default(),
            rollback: settings.rollback.unwrap_or(Rollback::Allow),
            fetch_timeout: settings
                .fetch_timeout
                .map_or(Budget::STANDARD.on_mount, |seconds| Duration::from_secs(u64::from(seconds.get()))),
            source,
            names: Vec::new(),
            name: None,
        })
    }
}
