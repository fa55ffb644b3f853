//! Containers of users: their mounts are made by the service, which keeps no records. In a user's namespace a hook can
//! only tell that root made the mount.

use std::path::{Path, PathBuf};

use super::{MAX_INPUT, Outcome, Stage};
use crate::error::{Case, Refusal, Result};
use crate::policy::{Directories, Mode, Policy};
use crate::protocol::{self, ContainerConfig};
use crate::sys::files;
use crate::sys::mountinfo::{self, MountInfo};
use crate::sys::process::{self, User};

/// Decides about a container of a user other than root; `None` for root's containers, which are looked at. `input` is
/// what the caller of a hook hands in, or the configuration for a runtime.
pub(super) fn rootless(stage: Stage, input: impl FnOnce() -> Result<Vec<u8>>) -> Option<Result<Outcome>> {
    let refusal = || Refusal::new(Case::Rootless, "", "");
    match process::user() {
        User::Root => None,
        User::Unknown => Some(Err(refusal())),
        User::Rootless => Some(Policy::rootless(&Directories::system()).and_then(|mode| match mode {
            Mode::Off => Ok(Outcome::NotCalled),
            _ if input().and_then(|input| by_service(stage, &input)).unwrap_or(false) => Ok(Outcome::Allowed),
            Mode::Audit => Ok(Outcome::Audit(refusal())),
            Mode::Enforce => Err(refusal()),
        })),
    }
}

/// Returns whether the container's root was mounted by the service.
fn by_service(stage: Stage, input: &[u8]) -> Result<bool> {
    let config =
        |bytes: &[u8], bundle: &Path| protocol::config(bytes).map(|ContainerConfig { root, .. }| bundle.join(root));
    let root: PathBuf = match stage {
        Stage::CreateRuntime | Stage::CreateContainer => {
            let (bundle, _) = protocol::root_of(input)?;
            let io = |e| Refusal::io(bundle.display().to_string(), e);
            let dir = files::open_dir(&bundle).map_err(io)?;
            let bytes = files::open_file_at(dir, "config.json").and_then(|file| files::read_all(file, MAX_INPUT));
            config(&bytes.map_err(io)?, &bundle)?
        }
        // podman and CRI-O write an absolute path.
        Stage::Precreate | Stage::Runtime => config(input, Path::new("/"))?,
    };
    let mounts = mountinfo::own()?;
    Ok(mountinfo::topmost(&mounts, &root).is_some_and(is_of_root))
}

/// Tells whether a mount is an overlay over a sealed image that no user can have made: in a user namespace overlayfs
/// refuses these options (fs/overlayfs/params.c, `ovl_fs_params_verify`).
fn is_of_root(mount: &MountInfo) -> bool {
    mount.is_overlay_of("composefs:") && mount.super_has("metacopy=on") && mount.super_has("redirect_dir=on")
}
