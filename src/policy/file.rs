//! The file's words.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::refuse;
use crate::oci::name;
use crate::pki::Dates;
use crate::report::Result;

/// Whether a seal is needed; the stricter is the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// No valid seal: no container.
    Enforce,
    /// Mounted, and logged what would have been refused.
    Audit,
    /// Not looked at.
    Off,
}

/// What becomes of a seal without a binding statement; the stricter is the smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BindingRule {
    /// Refuse it
    #[default]
    Required,
    /// Accept it, and compare its images with the layers every time
    Local,
}

/// Whether the kernel must check every byte; the stricter is the smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Verity {
    /// It must (`verity=require`)
    #[default]
    Require,
    /// It does not: for hosts without fs-verity. EROFS images are hashed once, and objects not at all
    Off,
}

/// What the upper directory may hold (the stricter is the smaller) when a container is mounted for the first time since the host was
/// started.
///
/// What is in it covers verified files, and it is not sealed: who can write to the disk while the host is
/// off can put anything there. With [`Self::Empty`] a container begins with nothing, and may then be
/// stopped and started as long as the host runs, which remembers it in `/run/layerseal/uppers`. After a
/// reboot it must be made again. `audit` lets the rest pass with a word in the journal, `off` does not look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Upper {
    /// Nothing, or what it got since this host mounted it empty in this boot.
    Empty,
    /// Anything: what is in it covers verified files.
    Any,
}

/// Whether seals may be fetched when a container starts; the stricter is the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fetch {
    /// They must be there.
    Never,
    /// Once, under a deadline.
    OnMount,
}

/// Whether a seal may be older than one that this host accepted before for the same name; the stricter is the
/// smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rollback {
    /// It may not, by the sequence in its statement; one without a sequence is older than any with.
    Refuse,
    /// It may; nobody keeps count.
    Allow,
}

/// Whether a container may come back from a checkpoint, of which nobody sealed what was in its memory and in its writable
/// layer; the stricter is the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checkpoint {
    /// It may not.
    Refuse,
    /// It may, on layers that are verified as at any other start.
    Allow,
}

/// A setting is shown in the word that the file has for it.
macro_rules! shown {
    ($($setting:ty)*) => { $(
        impl std::fmt::Display for $setting {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.serialize(f)
            }
        }
    )* };
}

shown!(Mode BindingRule Verity Upper Fetch Rollback Checkpoint Top);

/// What containers see as their root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Top {
    /// The kernel's overlay.
    #[default]
    Kernel,
    /// fuse-overlayfs over a verified read-only mount: for hosts that need `diff` and `commit` of
    /// running containers.
    FuseOverlayfs,
}

/// How images are mounted on this host; containers-storage loses what its own configuration says of
/// these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MountSettings {
    /// Device files are not honoured.
    pub nodev: bool,
    /// Set-user-ID bits and file capabilities are not honoured.
    pub nosuid: bool,
    /// What lies on top.
    pub top: Top,
}

impl Default for MountSettings {
    fn default() -> Self {
        Self { nodev: true, nosuid: false, top: Top::Kernel }
    }
}

/// What a rule or the default says; the rest is said elsewhere.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) mode: Option<Mode>,
    pub(super) trust: Option<Vec<String>>,
    pub(super) binding: Option<BindingRule>,
    pub(super) identity: Option<bool>,
    pub(super) verity: Option<Verity>,
    pub(super) upper: Option<Upper>,
    pub(super) dates: Option<Dates>,
    pub(super) fetch: Option<Fetch>,
    pub(super) cover: Option<Vec<Cover>>,
    pub(super) rollback: Option<Rollback>,
    pub(super) checkpoint: Option<Checkpoint>,
    /// In seconds.
    pub(super) fetch_timeout: Option<std::num::NonZeroU16>,
    /// In seconds; 0 asks each time.
    pub(super) fetch_retry: Option<u16>,
}

impl Settings {
    /// These settings, and those of `base` where these say nothing.
    pub(super) fn over(self, base: &Self) -> Self {
        Self {
            mode: self.mode.or(base.mode),
            trust: self.trust.or_else(|| base.trust.clone()),
            binding: self.binding.or(base.binding),
            identity: self.identity.or(base.identity),
            verity: self.verity.or(base.verity),
            upper: self.upper.or(base.upper),
            dates: self.dates.or(base.dates),
            fetch: self.fetch.or(base.fetch),
            cover: self.cover.or_else(|| base.cover.clone()),
            rollback: self.rollback.or(base.rollback),
            checkpoint: self.checkpoint.or(base.checkpoint),
            fetch_timeout: self.fetch_timeout.or(base.fetch_timeout),
            fetch_retry: self.fetch_retry.or(base.fetch_retry),
        }
    }
}

/// A path of an image that mounts of its containers may cover, and all that is beneath it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Cover(String);

impl TryFrom<String> for Cover {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        if text.contains('*') {
            return Err("cover: no star: a path stands for itself and all that is beneath it");
        }
        let mut parts = text.strip_prefix('/').ok_or("cover: paths begin with /")?.split('/');
        // One word for one place: what is compared with it is the kernel's.
        if text != "/" && parts.any(|part| matches!(part, "" | "." | "..")) {
            return Err("cover: a path without . and .., and no / twice or at its end");
        }
        Ok(Self(text))
    }
}

impl Cover {
    /// The place itself.
    pub(super) fn path(&self) -> &str {
        &self.0
    }

    /// Whether `path`, absolute and as the kernel writes it, is that path or beneath it.
    pub fn holds(&self, path: &str) -> bool {
        self.0 == "/" || path.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl std::fmt::Display for Cover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which images a rule is for: a name without tag, or one that ends in a star.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    prefix: bool,
}

impl Pattern {
    fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        let (text, prefix) = text.strip_suffix('*').map_or((text, false), |text| (text, true));
        if text.contains('*') {
            return Err("a star can only stand at the end");
        }
        if text.is_empty() && !prefix {
            return Err("the pattern is empty");
        }
        if !prefix && name::repository(text) != text {
            return Err("the pattern has a tag or digest: rules are for names without");
        }
        let text = match text.split_once('/') {
            Some(_) if !prefix => name::canonical(text),
            Some((first, rest)) => format!("{}{rest}", name::canonical(&format!("{first}/"))),
            // All of it is of a host.
            None if prefix => text.to_ascii_lowercase(),
            None => text.to_owned(),
        };
        Ok(Self { text, prefix })
    }

    /// Whether a short name that podman completes to one of this pattern's is `name`: for patterns that say more
    /// than the host.
    pub(super) fn matches_short(&self, name: &str) -> bool {
        let Some((_, path)) = self.text.split_once('/') else { return false };
        let matches = |path: &str| match self.prefix {
            true => path.contains('/') && name.starts_with(path),
            false => name == path,
        };
        // docker.io/library/app is app.
        matches(path) || self.text.strip_prefix("docker.io/library/").is_some_and(|app| !app.is_empty() && matches(app))
    }

    /// Whether it is one name, and says nothing of others.
    pub(super) fn is_whole(&self) -> bool {
        !self.prefix
    }

    /// Whether it is for every name, and the default for none.
    pub(super) fn is_all(&self) -> bool {
        self.prefix && self.text.is_empty()
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        if self.prefix { name.starts_with(&self.text) } else { name == self.text }
    }

    /// A whole name is more than any prefix; a longer prefix is more than a shorter one.
    pub(super) fn specificity(&self) -> (bool, usize) {
        (!self.prefix, self.text.len())
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.text, if self.prefix { "*" } else { "" })
    }
}

/// Which Kubernetes namespaces a rule is for: one, or all that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namespace {
    text: String,
    prefix: bool,
}

impl Namespace {
    fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        let (text, prefix) = text.strip_suffix('*').map_or((text, false), |text| (text, true));
        if text.is_empty() && !prefix {
            return Err("namespace: it is empty");
        }
        // Kubernetes has no others (RFC 1123): a rule that can never apply is a mistake.
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match text.len() <= 63 && text.bytes().all(known) {
            true => Ok(Self { text: text.to_owned(), prefix }),
            false => Err("namespace: lower-case letters, digits and -, 63 at most, and a star at the end"),
        }
    }

    pub(super) fn matches(&self, namespace: &str) -> bool {
        if self.prefix { namespace.starts_with(&self.text) } else { namespace == self.text }
    }
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.text, if self.prefix { "*" } else { "" })
    }
}

/// What a rule is for: all that it names must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) image: Pattern,
    /// `None` for containers in all namespaces, and in none.
    pub(super) namespace: Option<Namespace>,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} (namespace {namespace})", self.image),
            None => self.image.fmt(f),
        }
    }
}

/// What counts for containers of users other than root, whose images nothing can mount for them.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RootlessSettings {
    /// `off` where the policy does not say: their containers are as they were before layerseal was installed.
    #[serde(default = "RootlessSettings::off")]
    pub(super) mode: Mode,
}

impl RootlessSettings {
    const fn off() -> Mode {
        Mode::Off
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: Option<i64>,
    default: Option<Settings>,
    mount: Option<MountSettings>,
    rootless: Option<RootlessSettings>,
    #[serde(default)]
    rule: Vec<RawRule>,
}

#[derive(Deserialize)]
struct RawRule {
    image: String,
    namespace: Option<String>,
    // `flatten` would let unknown keys pass: they are collected and read strictly.
    #[serde(flatten)]
    settings: toml::Table,
}

/// One file, read.
pub(super) struct File {
    pub(super) default: Option<Settings>,
    pub(super) mount: Option<MountSettings>,
    pub(super) rootless: Option<RootlessSettings>,
    pub(super) rules: Vec<(Subject, Settings)>,
}

/// Reads a policy file.
///
/// # Errors
/// F03: not TOML, unknown keys or values, another version.
pub(super) fn parse(text: &str, path: &str) -> Result<File> {
    let raw: Raw = toml::from_str(text).map_err(|e| refuse(path, e.message()))?;
    match raw.version {
        Some(1) => {}
        Some(other) => return Err(refuse(path, format!("version {other} is not known, this is 1"))),
        None => return Err(refuse(path, "it does not say version = 1")),
    }
    let mut rules = Vec::new();
    for rule in raw.rule {
        let named = |why: &dyn std::fmt::Display| refuse(path, format!("rule for {}: {why}", rule.image));
        let image = Pattern::parse(&rule.image).map_err(|e| named(&e))?;
        let namespace = rule.namespace.as_deref().map(Namespace::parse).transpose().map_err(|e| named(&e))?;
        let settings = rule.settings.clone().try_into::<Settings>().map_err(|e| named(&e.message()))?;
        rules.push((Subject { image, namespace }, settings));
    }
    Ok(File { default: raw.default, mount: raw.mount, rootless: raw.rootless, rules })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f03_only_what_is_known_is_read() {
        assert!(
            parse("version = 1\n[default]\nmode = \"audit\"\n[[rule]]\nimage = \"a/*\"\nfetch = \"on-mount\"", "p")
                .is_ok()
        );
        for bad in [
            "",
            "version = 2",
            "version = 1\nextra = 1",
            "version = 1\n[default]\nmodes = \"off\"",
            "version = 1\n[default]\nmode = \"Off\"",
            "version = 1\n[[rule]]\nmode = \"off\"",
            "version = 1\n[[rule]]\nimage = \"a\"\nmdoe = \"off\"",
            "version = 1\n[[rule]]\nimage = \"a*b\"",
            "version = 1\n[[rule]]\nimage = \"a:tag\"",
            "version = 1\n[[rule]]\nimage = \"\"",
            "version = 1\n[[rule]]\nimage = \"a\"\nnamespace = \"\"",
            "version = 1\n[[rule]]\nimage = \"a\"\nnamespace = \"Prod\"",
            "version = 1\n[[rule]]\nimage = \"a\"\nnamespace = \"p*d\"",
            "version = 1\n[[rule]]\nimage = \"a\"\nnamespace = [\"prod\"]",
            "version = 1\n[[rule]]\nnamespace = \"prod\"",
            "version = 1\n[default]\nnamespace = \"prod\"",
            // The container runtime is not told of it.
            "version = 1\n[[rule]]\nimage = \"a\"\nservice_account = \"default\"",
            "version = 1\n[default]\ncover = \"/usr\"",
            "version = 1\n[default]\ncover = [\"usr\"]",
            "version = 1\n[default]\ncover = [\"/usr/\"]",
            "version = 1\n[default]\ncover = [\"/usr/share/*\"]",
            "version = 1\n[default]\ncover = [\"/usr/../etc\"]",
            "version = 1\nversion = 1",
            "version = 1\n[mount]\nnoexec = true",
            "version = 1\n[mount]\ntop = \"fuse\"",
            "version = 1\n[[mount]]\nnodev = true",
            "version = 1\n[rootless]\nmode = \"no\"",
            "version = 1\n[rootless]\nidentity = false",
            "version = 1\n[default]\nnodev = true",
            "{",
        ] {
            assert_eq!(parse(bad, "p").err().map(|r| r.case()), Some(crate::report::Case::F03Policy), "{bad}");
        }
    }

    #[test]
    fn o04_a_cover_is_a_place_and_what_is_beneath_it() {
        let cover = |text: &str| Cover::try_from(text.to_owned()).unwrap();
        assert!(cover("/usr/lib").holds("/usr/lib") && cover("/usr/lib").holds("/usr/lib/x"));
        assert!(!cover("/usr/lib").holds("/usr/lib64") && !cover("/usr/lib").holds("/usr"));
        assert!(cover("/").holds("/usr"));
    }

    #[test]
    fn f04_patterns_match_and_rank() {
        let pattern = |text: &str| Pattern::parse(text).unwrap();
        assert!(pattern("localhost/*").matches("localhost/x/y"));
        assert!(!pattern("localhost/*").matches("localhost"));
        assert!(pattern("*").matches("anything"));
        assert!(pattern("a/b").matches("a/b") && !pattern("a/b").matches("a/bc"));
        assert!(pattern("a/b").specificity() > pattern("a/bcdef*").specificity());
        assert!(pattern("a/b*").specificity() > pattern("a/*").specificity());
    }
}
