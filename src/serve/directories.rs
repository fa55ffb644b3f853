//! The directories that a caller hands in: each must be its own. Root's overlay reaches them with root's rights, and so
//! must not reach anything that the caller could not.

use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat, statat};

use super::caller::CallingUser;
use crate::error::{Case, Refusal, Result};
use crate::sys::mounts::{self, MountId};
use crate::sys::{files, filesystems, userns};

/// What overlayfs makes in a work directory (fs/overlayfs/super.c).
const OF_OVERLAYFS: [&str; 2] = ["work", "index"];

/// Checks that a directory is the caller's, and the root of a mount that is attached nowhere or in the caller's
/// namespace.
///
/// # Errors
/// [`Case::R03Directory`].
pub(super) fn check_mount(caller: &CallingUser, dir: &OwnedFd, what: &str) -> Result<()> {
    check(caller, dir, what)?;
    match identify(dir, what)?.is_root {
        true => Ok(()),
        false => Err(Refusal::new(Case::R03Directory, what, "it is not the uppermost of a mount")),
    }
}

/// Has the mount of the objects show nothing but what the caller's IDs own. If objects are not measured, anything that
/// has the name of one is shown with the owner and mode that the image says; and the caller can give such a name to
/// whatever lies in a directory of its own, such as what root wrote there for itself.
///
/// # Errors
/// [`Case::R03Directory`] for a mount that is attached, or is shown under other IDs already, and for a filesystem that
/// cannot do this.
pub(super) fn only_callers(caller: &CallingUser, objects: &OwnedFd) -> Result<()> {
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::R03Directory, "objects", why);
    // Each of these IDs stays as it is. All others are nobody's there, and a right over files is one over files that
    // somebody owns: overlayfs then reads of them only what everybody may.
    let mut map = String::new();
    for (first, count) in caller.uids() {
        let _ = writeln!(map, "{first} {first} {count}");
    }
    let all = format!("0 0 {}", u32::MAX);
    let namespace = userns::with_maps(&map, &all)?.map_err(|failed| refuse(&failed.error))?;
    mounts::map_ids(objects, &namespace).map_err(|e| refuse(&e))
}

/// Checks upper and work directory, on the mount `layer`: both must be the caller's, and the work directory may only
/// contain what overlayfs left there, which it removes with root's rights.
///
/// # Errors
/// [`Case::R03Directory`].
pub(super) fn check_upper(caller: &CallingUser, layer: &OwnedFd, upper: &OwnedFd, work: &OwnedFd) -> Result<()> {
    check_mount(caller, layer, "layer")?;
    let mount = identify(layer, "layer")?.id;
    let upper_stat = check(caller, upper, "upper")?;
    let work_stat = check(caller, work, "work")?;
    for (dir, what) in [(upper, "upper"), (work, "work")] {
        if identify(dir, what)?.id != mount {
            return Err(Refusal::new(Case::R03Directory, what, "it is on another mount than the layer"));
        }
    }
    if (upper_stat.st_dev, upper_stat.st_ino) == (work_stat.st_dev, work_stat.st_ino) {
        return Err(Refusal::new(Case::R03Directory, "work", "it is the upper directory"));
    }
    check_work(caller, work)
}

fn check_work(caller: &CallingUser, work: &OwnedFd) -> Result<()> {
    let io = |e: std::io::Error| Refusal::new(Case::R03Directory, "work", e);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(work, ".", flags, Mode::empty()).map_err(|e| io(e.into()))?;
    for name in files::names(&dir).map_err(io)? {
        if !OF_OVERLAYFS.iter().any(|known| name == *known) {
            return Err(Refusal::new(Case::R03Directory, "work", "it holds something else than overlayfs' own"));
        }
        let inner = openat(&dir, &name, flags, Mode::empty()).map_err(|e| io(e.into()))?;
        check(caller, &inner, "work")?;
        for name in files::names(&inner).map_err(io)? {
            let stat = statat(&inner, &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).map_err(|e| io(e.into()))?;
            owned(caller, &stat, "work")?;
        }
    }
    Ok(())
}

/// Checks that a directory is the caller's, and on a filesystem of this kernel's. Its mode does not matter: the caller
/// is root over it.
fn check(caller: &CallingUser, dir: impl AsFd, what: &str) -> Result<Stat> {
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::R03Directory, what, why);
    let stat = fstat(&dir).map_err(|e| refuse(&e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(refuse(&"it is no directory"));
    }
    if !filesystems::is_own(&dir).map_err(|e| refuse(&e))? {
        return Err(refuse(&"a filesystem that answers by a program, or for another host"));
    }
    owned(caller, &stat, what)?;
    Ok(stat)
}

fn owned(caller: &CallingUser, stat: &Stat, what: &str) -> Result<()> {
    match caller.owns(stat.st_uid) {
        true => Ok(()),
        false => Err(Refusal::new(Case::R03Directory, what, format!("user {} owns it", stat.st_uid))),
    }
}

fn identify(dir: &OwnedFd, what: &str) -> Result<MountId> {
    mounts::identify(dir).map_err(|e| Refusal::new(Case::R03Directory, what, e))
}

/// Returns whether nothing can be executed there: then nothing can be executed in what is mounted over it.
pub(super) fn is_noexec(dir: &OwnedFd) -> bool {
    // A mount that cannot be queried must not get more rights than it may have.
    rustix::fs::fstatvfs(dir).map_or(true, |found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}
