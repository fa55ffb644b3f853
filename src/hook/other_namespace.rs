//! podman runs the runtime of a container with its own user IDs in a separate mount namespace, with a copy of the
//! container's mount. Two overlays over one upper directory damage it, and podman too must see the replacement: so the
//! copies are removed, the work is done where podman is, and what is there afterwards is copied again.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Outcome;
use crate::error::{Case, Refusal, Result};
use crate::sys::mount_namespaces;
use crate::sys::mountinfo::{self, MountInfo};
use crate::sys::mounts;

/// The copies in this namespace of a mount from another one.
struct NamespaceCopies {
    /// This namespace.
    own: File,
    /// The namespace that the mount was made in.
    home: File,
    /// Where the copies are, lowest first.
    copies: Vec<PathBuf>,
}

/// Does `work` on the mount at `target` in the namespace that it was made in. If `work` refuses but leaves a mount,
/// that is copied all the same: `audit` may let it pass.
///
/// # Errors
/// The errors of `work`; [`Case::O06Swap`] if the copies cannot be removed or made again.
pub(super) fn at_home(target: &Path, work: impl FnOnce() -> Result<Outcome>) -> Result<Outcome> {
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::O06Swap, target.display().to_string(), e);
    let Some(NamespaceCopies { own, home, copies }) = NamespaceCopies::find(target).map_err(|e| refuse(&e))? else {
        return work();
    };
    for copy in copies.iter().rev() {
        mounts::unmount_now(copy).map_err(|e| refuse(&format!("{}: {e}", copy.display())))?;
    }
    // What is loaded only when it is needed is not loaded from there.
    crate::sys::openssl::load();
    enter(&home).map_err(|e| refuse(&e))?;
    let outcome = work();
    let mount = || mounts::clone_mount(mounts::open_target(target)?);
    let clones = copies.iter().map(|_| mount()).collect::<rustix::io::Result<Vec<_>>>().map_err(|e| refuse(&e));
    enter(&own).map_err(|e| refuse(&e))?;
    let attach = |clones: Vec<_>| {
        clones.iter().zip(&copies).try_for_each(|(clone, copy)| {
            let attached = mounts::open_target(copy).and_then(|place| mounts::attach(clone, place));
            attached.map_err(|e| refuse(&format!("{}: {e}", copy.display())))
        })
    };
    let copied = clones.and_then(attach);
    // A refusal is more informative than the fact that there is nothing to copy afterwards.
    outcome.and_then(|outcome| copied.map(|()| outcome))
}

fn enter(namespace: &File) -> rustix::io::Result<()> {
    use std::os::fd::AsFd as _;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
}

impl NamespaceCopies {
    /// Finds the namespace that the mount was made in; `None` if it is this one. A copy is younger than its original,
    /// and the kernel numbers mounts in order: so the oldest is the engine's, and all others belong to namespaces that
    /// were made since then by the engine, or by a container that starts at the same time.
    fn find(target: &Path) -> Result<Option<Self>> {
        let io = |e| Refusal::io(target.display().to_string(), e);
        let all = mountinfo::own()?;
        let Ok(canonical) = std::fs::canonicalize(target) else { return Ok(None) };
        let Some(top) = mountinfo::topmost(&all, &canonical) else { return Ok(None) };
        let own = mount_namespaces::of("self").ok_or_else(|| io(std::io::Error::other("it has no mount namespace")))?;
        // On a booted host the engine is in the first namespace.
        if mount_namespaces::of("1").is_some_and(|first| first.0 == own.0) {
            return Ok(None);
        }
        let here = mounts::open_target(&canonical).and_then(mounts::identify).map_err(|e| io(e.into()))?;
        let oldest =
            mount_namespaces::elsewhere(&canonical, top.device).map_err(io)?.min_by_key(|there| there.mount.id);
        let home = oldest.filter(|there| there.mount.id < here.id);
        Ok(home.map(|home| Self { own: own.1, home: home.namespace, copies: copies(&all, top) }))
    }
}

/// Does `work` in another mount namespace, and comes back. It opens and loads nothing that it does not mean to.
pub(super) fn within<T>(
    there: &File,
    own: &File,
    work: impl FnOnce() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    enter(there)?;
    let done = work();
    enter(own)?;
    done
}

/// Lists all places where this namespace shows the filesystem.
fn copies(all: &[MountInfo], top: &MountInfo) -> Vec<PathBuf> {
    all.iter().filter(|m| m.device == top.device).map(|m| m.target.clone()).collect()
}
