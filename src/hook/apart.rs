//! podman runs the runtime of a container with user IDs of its own in a mount namespace apart, with a copy of the container's
//! mount. Two overlays over one upper directory damage it, and what is replaced must be so for podman too: so the copies go,
//! the work is done where podman is, and what lies there then is copied again.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Outcome;
use crate::report::{Case, Refusal, Result};
use crate::sys::mounts::{self, MountInfo};

/// The copies that this namespace has of a mount of another one.
struct Apart {
    /// This namespace.
    own: File,
    /// The one that the mount was made in.
    home: File,
    /// Where the copies are, the lowest first.
    copies: Vec<PathBuf>,
}

/// Does `work` on the mount at `target` in the namespace that it was made in. Where `work` refuses, and leaves a mount, that
/// is copied all the same: `audit` may let it pass.
///
/// # Errors
/// Those of `work`; [`Case::O06Swap`] where the copies cannot be taken away or made again.
pub(super) fn at_home(target: &Path, work: impl FnOnce() -> Result<Outcome>) -> Result<Outcome> {
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::O06Swap, target.display().to_string(), e);
    let Some(Apart { own, home, copies }) = Apart::find(target).map_err(|e| refuse(&e))? else { return work() };
    for copy in copies.iter().rev() {
        mounts::unmount_now(copy).map_err(|e| refuse(&format!("{}: {e}", copy.display())))?;
    }
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
    // What was refused says more than that there is nothing to copy then.
    outcome.and_then(|outcome| copied.map(|()| outcome))
}

fn enter(namespace: &File) -> rustix::io::Result<()> {
    use std::os::fd::AsFd as _;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
}

impl Apart {
    /// `None` where nobody else has the mount. On a host as it is booted the engine is in the first namespace, and who else
    /// has a copy there has it by chance.
    fn find(target: &Path) -> std::io::Result<Option<Self>> {
        let all = mounts::mountinfo()?;
        let Ok(canonical) = std::fs::canonicalize(target) else { return Ok(None) };
        let Some(top) = canonical.to_str().and_then(|shown| mounts::topmost(&all, shown)) else { return Ok(None) };
        let own = namespace("self").ok_or_else(|| std::io::Error::other("/proc/self/ns/mnt cannot be opened"))?;
        let first = namespace("1");
        if first.as_ref().is_some_and(|first| first.0 == own.0) {
            return Ok(None);
        }
        let has_it = |pid: &str| {
            let all = pid.parse().ok().and_then(|pid| mounts::mountinfo_of(pid).ok()).unwrap_or_default();
            mounts::topmost(&all, &top.target).is_some_and(|there| there.device == top.device)
        };
        // Whoever is there longest made it: the first process, else the engine before what it started.
        let mut others: BTreeMap<u64, String> = BTreeMap::new();
        let mut pids: Vec<u32> = std::fs::read_dir("/proc")?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        for pid in pids.iter().map(ToString::to_string) {
            let Ok(found) = std::fs::metadata(format!("/proc/{pid}/ns/mnt")) else { continue };
            if found.ino() == own.0 || others.contains_key(&found.ino()) {
                continue;
            }
            others.insert(found.ino(), pid.clone());
            if has_it(&pid)
                && let Some((_, home)) = namespace(&pid)
            {
                return Ok(Some(Self { own: own.1, home, copies: copies(&all, top) }));
            }
        }
        Ok(None)
    }
}

/// The number of a process's mount namespace, and the namespace.
fn namespace(pid: &str) -> Option<(u64, File)> {
    let file = File::open(format!("/proc/{pid}/ns/mnt")).ok()?;
    Some((file.metadata().ok()?.ino(), file))
}

/// All places where this namespace shows the filesystem.
fn copies(all: &[MountInfo], top: &MountInfo) -> Vec<PathBuf> {
    all.iter().filter(|m| m.device == top.device).map(|m| PathBuf::from(&m.target)).collect()
}
