use std::os::fd::OwnedFd;
use std::path::Path;

use super::PLAIN;
use crate::report::{Case, Refusal, Result};
use crate::sys::mounts::{self, Identity, MountInfo};

/// What is mounted on a directory, uppermost.
pub(super) struct OnTop {
    pub(super) identity: Identity,
    pub(super) info: MountInfo,
}

impl OnTop {
    /// Whether this program made it, by what the mount itself says.
    pub(super) fn is_ours(&self) -> bool {
        self.info.kind == "overlay" && (self.info.source.starts_with("composefs:") || self.info.source == PLAIN)
    }

    pub(super) fn refuse(&self) -> Refusal {
        let what = format!("{} {}", self.info.kind, self.info.source);
        Refusal::new(Case::I06Mounted, &self.info.target, what)
    }
}

/// The mount whose uppermost directory the open `target` is; `shown` is for messages.
pub(super) fn on_top(target: &OwnedFd, shown: &Path) -> Result<Option<OnTop>> {
    let identity = mounts::identify(target).map_err(|e| Refusal::new(Case::I09Kernel, "statx", e))?;
    if !identity.is_root {
        return Ok(None);
    }
    let all = mounts::mountinfo().map_err(|e| Refusal::io("/proc/self/mountinfo", e))?;
    // The descriptor keeps the mount, and with it the number.
    match all.into_iter().find(|m| m.id == identity.mountinfo) {
        Some(info) => Ok(Some(OnTop { identity, info })),
        None => Err(Refusal::new(Case::I05Attach, shown.display().to_string(), "a mount that is not in mountinfo")),
    }
}

/// See [`super::again()`].
pub(super) fn clone_on_top(target: &OwnedFd, shown: &Path) -> Result<bool> {
    let Some(top) = on_top(target, shown)? else { return Ok(false) };
    if !top.is_ours() {
        return Err(top.refuse());
    }
    let refuse = |e| Refusal::new(Case::I05Attach, shown.display().to_string(), e);
    let clone = mounts::clone_mount(target).map_err(refuse)?;
    mounts::make_read_only(&clone).map_err(refuse)?;
    mounts::attach(&clone, target).map_err(refuse)?;
    Ok(true)
}
