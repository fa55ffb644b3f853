//! A policy file: its settings and their values.

use std::path::{Component, Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::pattern::{NamePattern, NamespacePattern, Subject};
use super::refuse;
use crate::error::{Result, in_toml};
use crate::pki::Dates;

/// Whether a seal is needed; the stricter is the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// No valid seal: no container.
    Enforce,
    /// Mounted, and what would have been refused is logged.
    Audit,
    /// Images are not looked at.
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

/// What the upper directory may hold when a container is mounted for the first time since the host was started; the
/// stricter is the smaller.
///
/// Its content covers verified files, and is not sealed: whoever can write to the disk while the host is off can put
/// anything there. With [`Self::Empty`] a container begins with nothing, and may then be stopped and started as long as
/// the host runs, which remembers it in `/run/layerseal/uppers`. After a reboot it must be made again. `audit` lets
/// anything else pass and logs it, `off` does not look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpperRule {
    /// Nothing, or what it received since this host mounted it empty in this boot.
    Empty,
    /// Anything: what is in it covers verified files.
    Any,
}

/// Whether seals may be fetched when a container starts; the stricter is the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FetchRule {
    /// They must already be there.
    Never,
    /// Once, under a deadline.
    OnMount,
}

/// Whether a seal may be older than one that this host accepted before for the same name; the stricter is the
/// smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rollback {
    /// It may not, going by the sequence in its statement; a seal without a sequence counts as older than any with one.
    Refuse,
    /// It may; nobody keeps track.
    Allow,
}

/// Whether a container may be restored from a checkpoint: nobody sealed what was in its memory and in its writable
/// layer. The stricter is the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checkpoint {
    /// It may not.
    Refuse,
    /// It may, on layers that are verified as at any other start.
    Allow,
}

/// A setting is shown as the word that the file uses for it.
macro_rules! shown {
    ($($setting:ty)*) => { $(
        impl std::fmt::Display for $setting {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.serialize(f)
            }
        }
    )* };
}

shown!(Mode BindingRule Verity UpperRule FetchRule Rollback Checkpoint RootDriver);

/// What containers see as their root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootDriver {
    /// The kernel's overlay.
    #[default]
    Kernel,
    /// fuse-overlayfs over a verified read-only mount: for hosts that need `diff` and `commit` of running containers.
    FuseOverlayfs,
}

/// How images are mounted on this host. When layerseal mounts, what containers-storage's own configuration says about
/// these is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MountSettings {
    /// Whether device files are ignored.
    pub nodev: bool,
    /// Whether set-user-ID bits and file capabilities are ignored.
    pub nosuid: bool,
    /// What lies on top.
    pub top: RootDriver,
}

impl Default for MountSettings {
    fn default() -> Self {
        Self { nodev: true, nosuid: false, top: RootDriver::Kernel }
    }
}

/// What a rule or the default says; what they leave out is said elsewhere.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleSettings {
    pub(super) mode: Option<Mode>,
    pub(super) trust: Option<Vec<String>>,
    pub(super) binding: Option<BindingRule>,
    pub(super) identity: Option<bool>,
    pub(super) verity: Option<Verity>,
    pub(super) upper: Option<UpperRule>,
    pub(super) dates: Option<Dates>,
    pub(super) fetch: Option<FetchRule>,
    pub(super) cover: Option<Vec<Cover>>,
    pub(super) rollback: Option<Rollback>,
    pub(super) checkpoint: Option<Checkpoint>,
    /// In seconds.
    pub(super) fetch_timeout: Option<std::num::NonZeroU16>,
    /// In seconds; 0 asks each time.
    pub(super) fetch_retry: Option<u16>,
}

impl RuleSettings {
    /// Returns these settings, filled up with those of `base`.
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

/// A path of an image that mounts of its containers may cover, together with everything beneath it.
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
        // One spelling for one place: it is compared with the kernel's.
        if text != "/" && parts.any(|part| matches!(part, "" | "." | "..")) {
            return Err("cover: a path without . and .., and no / twice or at its end");
        }
        Ok(Self(text))
    }
}

impl Cover {
    /// Returns the place itself.
    pub(super) fn path(&self) -> &str {
        &self.0
    }

    /// Returns whether `path`, absolute and as the kernel writes it, is that path or beneath it.
    pub fn holds(&self, path: impl AsRef<Path>) -> bool {
        path.as_ref().starts_with(&self.0)
    }
}

impl std::fmt::Display for Cover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The settings for containers of users other than root, whose images nothing can mount for them.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RootlessSettings {
    /// `off` if the policy does not say: then these containers run as they did before layerseal was installed.
    #[serde(default = "RootlessSettings::off")]
    pub(super) mode: Mode,
}

/// Where this host keeps what it prepares.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StoreSettings {
    /// `None` for a vault in each graph root.
    pub(super) vault: Option<VaultDir>,
}

/// The vault's directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathBuf")]
pub(super) struct VaultDir(pub(super) PathBuf);

impl TryFrom<PathBuf> for VaultDir {
    type Error = &'static str;

    fn try_from(path: PathBuf) -> std::result::Result<Self, Self::Error> {
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        // The root directory itself would be covered by what a vault holds.
        if !path.is_absolute() || path.parent().is_none() || !path.components().all(plain) {
            return Err("vault: an absolute path of a directory, without ..");
        }
        // One spelling for one place: it is compared with how others name it.
        Ok(Self(path.components().collect()))
    }
}

/// Returns the vault's directory that a file says.
pub(super) fn vault_dir(store: Option<(StoreSettings, String)>) -> Option<PathBuf> {
    store.and_then(|(store, _)| store.vault).map(|dir| dir.0)
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
    default: Option<RuleSettings>,
    mount: Option<MountSettings>,
    rootless: Option<RootlessSettings>,
    store: Option<StoreSettings>,
    #[serde(default)]
    rule: Vec<RawRule>,
}

#[derive(Deserialize)]
struct RawRule {
    image: String,
    namespace: Option<String>,
    // `flatten` would let unknown keys pass, so they are collected and read strictly.
    #[serde(flatten)]
    settings: toml::Table,
}

/// The content of one file.
pub(super) struct PolicyFile {
    pub(super) default: Option<RuleSettings>,
    pub(super) mount: Option<MountSettings>,
    pub(super) rootless: Option<RootlessSettings>,
    pub(super) store: Option<StoreSettings>,
    pub(super) rules: Vec<(Subject, RuleSettings)>,
}

/// Reads a policy file.
///
/// # Errors
/// F03: not TOML, unknown keys or values, another version.
pub(super) fn parse(text: &str, path: &str) -> Result<PolicyFile> {
    let raw: Raw = toml::from_str(text).map_err(|e| refuse(path, in_toml(text, &e)))?;
    match raw.version {
        Some(1) => {}
        Some(other) => return Err(refuse(path, format!("version {other} is not known, this is 1"))),
        None => return Err(refuse(path, "it does not say version = 1")),
    }
    let mut rules = Vec::new();
    for rule in raw.rule {
        let named = |why: &dyn std::fmt::Display| refuse(path, format!("rule for {}: {why}", rule.image));
        let image = NamePattern::parse(&rule.image).map_err(|e| named(&e))?;
        let namespace = rule.namespace.as_deref().map(NamespacePattern::parse).transpose().map_err(|e| named(&e))?;
        let settings = rule.settings.clone().try_into::<RuleSettings>().map_err(|e| named(&e.message()))?;
        rules.push((Subject { image, namespace }, settings));
    }
    Ok(PolicyFile { default: raw.default, mount: raw.mount, rootless: raw.rootless, store: raw.store, rules })
}

#[cfg(test)]
mod tests;
