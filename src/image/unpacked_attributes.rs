//! What podman gives to a file that it unpacks, out of what a layer's entry says.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::Stat;
use composefs::tree::{LeafContent, RegularFile};

use super::acl::{self, Acl};
use super::tar::EntryKind;
use crate::error::{Case, Refusal, Result};

/// Go's last time as nanoseconds of 64 bits; beyond it, and before 1970, times become 1970 (`system.Chtimes`).
const LAST_SECOND: i64 = i64::MAX / 1_000_000_000;

/// Seconds and nanoseconds.
pub(super) type Time = (i64, u32);

/// Returns the time that `system.Chtimes` sets.
pub(super) fn time(given: &Stat) -> Time {
    match given.st_mtim_sec {
        0..=LAST_SECOND => (given.st_mtim_sec, given.st_mtim_nsec),
        _ => (0, 0),
    }
}

/// What a file's type allows.
pub(super) struct FileKind {
    pub(super) directory: bool,
    pub(super) regular: bool,
    pub(super) symlink: bool,
}

/// Gives owner, mode, time and attributes of an entry to its file, in this order: each may change what the one before
/// has set. `link` says that the entry is another name of it.
pub(super) fn attributes(
    stat: &mut Stat,
    kind: &FileKind,
    given: &Stat,
    link: bool,
) -> std::result::Result<(), (Case, String)> {
    if kind.regular && (stat.st_uid, stat.st_gid) != (given.st_uid, given.st_gid) {
        // chown(2) takes it away, and is called only where the owner changes.
        stat.xattrs.remove(OsStr::new("security.capability"));
    }
    (stat.st_uid, stat.st_gid) = (given.st_uid, given.st_gid);
    let access = OsStr::from_bytes(acl::ACCESS);
    if kind.symlink {
        stat.st_mode = 0o777;
    } else {
        stat.st_mode = given.st_mode;
        if let Some(Ok(Some(mut list))) = stat.xattrs.get(access).map(|value| Acl::parse(value)) {
            list.set_mode(given.st_mode);
            stat.xattrs.insert(access.into(), list.value());
        }
    }
    (stat.st_mtim_sec, stat.st_mtim_nsec) = match kind.symlink {
        // A time is ignored where the entry is another name of a symlink.
        true if link => (stat.st_mtim_sec, stat.st_mtim_nsec),
        true => (given.st_mtim_sec, given.st_mtim_nsec),
        false => time(given),
    };
    for (name, value) in &given.xattrs {
        attribute(stat, kind, name.as_bytes(), value)
            .map_err(|why| (Case::H05Xattr, format!("{}: {why}", name.to_string_lossy())))?;
    }
    Ok(())
}

/// Sets an attribute as lsetxattr(2) by root does. podman ignores what the kernel does not know, and so do we.
fn attribute(stat: &mut Stat, kind: &FileKind, name: &[u8], value: &[u8]) -> std::result::Result<(), &'static str> {
    let key = OsStr::from_bytes(name);
    match name {
        acl::ACCESS | acl::DEFAULT if kind.symlink => {}
        acl::ACCESS => match Acl::parse(value)? {
            None => _ = stat.xattrs.remove(key),
            Some(list) => {
                let (mode, all) = list.mode();
                stat.st_mode = (stat.st_mode & !0o777) | mode;
                match all {
                    true => _ = stat.xattrs.remove(key),
                    false => _ = stat.xattrs.insert(key.into(), list.value()),
                }
            }
        },
        acl::DEFAULT => match Acl::parse(value)? {
            None => _ = stat.xattrs.remove(key),
            Some(_) if !kind.directory => return Err("only directories have a default list"),
            Some(list) => _ = stat.xattrs.insert(key.into(), list.value()),
        },
        // The mount gives the label.
        b"security.selinux" => {}
        _ if name.starts_with(b"security.") => _ = stat.xattrs.insert(key.into(), value.into()),
        _ if name.starts_with(b"user.") && (kind.regular || kind.directory) => {
            _ = stat.xattrs.insert(key.into(), value.into());
        }
        _ if name.starts_with(b"user.") => return Err("only files and directories have attributes of users"),
        _ => {}
    }
    Ok(())
}

/// Returns the content of a file of a layer.
///
/// # Errors
/// [`Case::D09Algorithm`].
pub(super) fn content<H: FsVerityHashValue>(path: &[u8], kind: &EntryKind) -> Result<LeafContent<H>> {
    Ok(match kind {
        EntryKind::Inline(data) => LeafContent::Regular(RegularFile::Inline(data.clone())),
        EntryKind::External(digest, size) => {
            let id = H::read_from_bytes(digest.as_bytes()).map_err(|_| {
                let shown = String::from_utf8_lossy(path);
                Refusal::new(Case::D09Algorithm, shown, "digests of two algorithms in one tree")
            })?;
            LeafContent::Regular(RegularFile::External(id, *size))
        }
        EntryKind::Symlink(target) => LeafContent::Symlink(OsStr::from_bytes(target).into()),
        EntryKind::CharacterDevice(number) => LeafContent::CharacterDevice(*number),
        EntryKind::BlockDevice(number) => LeafContent::BlockDevice(*number),
        EntryKind::Fifo => LeafContent::Fifo,
        EntryKind::Directory | EntryKind::Root | EntryKind::Hardlink(_) | EntryKind::Whiteout | EntryKind::Opaque => {
            return Err(Refusal::new(Case::Bug, String::from_utf8_lossy(path), "no file"));
        }
    })
}
