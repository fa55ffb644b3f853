use std::os::fd::OwnedFd;
use std::path::Path;

use super::PLAIN;
use crate::error::{Case, Refusal, Result};
use crate::sys::mountinfo::{self, MountInfo};
use crate::sys::mounts::{self, MountId};

/// Returns whether this program made the mount, by what the mount itself says.
pub fn is_ours(mount: &MountInfo) -> bool {
    mount.is_overlay_of("composefs:") || (mount.kind == "overlay" && mount.source == PLAIN)
}

/// What is mounted on a directory, uppermost.
pub(super) struct OnTop {
    pub(super) identity: MountId,
    pub(super) info: MountInfo,
}

impl OnTop {
    pub(super) fn is_ours(&self) -> bool {
        is_ours(&self.info)
    }

    pub(super) fn refuse(&self) -> Refusal {
        Refusal::new(Case::I06Mounted, self.info.target.display().to_string(), self.info.describe())
    }
}

/// Finds the mount whose uppermost directory the open `target` is; `shown` is for messages.
pub(super) fn on_top(target: &OwnedFd, shown: &Path) -> Result<Option<OnTop>> {
    let identity = mounts::identify(target).map_err(|e| Refusal::new(Case::I09Kernel, "statx", e))?;
    if !identity.is_root {
        return Ok(None);
    }
    let all = mountinfo::own()?;
    // The descriptor keeps the mount, and with it the number.
    match all.iter().find(|m| m.id == identity.mountinfo) {
        Some(info) => Ok(Some(OnTop { identity, info: info.clone() })),
        None => Err(Refusal::new(Case::I05Attach, shown.display().to_string(), "a mount that is not in mountinfo")),
    }
}

/// Puts a read-only clone of our mount on top of it: see [`super::again`].
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
