//! The copies of users and groups that podman mounts in a container whose root is read-only, and CRI-O in any for a user
//! or a group that the image does not know. They are made once, in the container's own directory, from what is found in the
//! root at the first start that is tried. That start may have failed, or run without a hook, before the image was what it
//! is now; and in no case was the root verified then.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fstat, openat};

use crate::error::{Case, Refusal, Result};
use crate::protocol::{BindMount, Bundle, IdMapping};
use crate::start::{LastStart, are_users_of_image};
use crate::sys::files;
use crate::sys::rooted_dir::RootedDir;

/// What is copied.
pub(super) const USERS: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// What an engine may give the copies that belong to root (libpod, `writeStringToStaticDir`), and less of it.
const MODE: u32 = 0o644;

/// Attributes that the host gives whatever is made on it.
const OF_HOST: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// A container for which users and groups are copied.
pub(super) struct CopiedFor<'a> {
    pub(super) user: (u32, u32),
    pub(super) directory: &'a Path,
    /// How its user and group IDs are mapped.
    pub(super) maps: (&'a IdMapping, &'a IdMapping),
    /// Whether its root is shown as the host sees the mapped IDs.
    pub(super) is_shown_mapped: bool,
}

impl CopiedFor<'_> {
    fn mapped(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        (self.maps.0.host(uid), self.maps.1.host(gid))
    }

    /// Returns whether nobody can do more with the copy than with the image's file, if it has one. podman gives its
    /// copies to the container's root; CRI-O gives them the owner and the mode of the file that it has found (cri-o,
    /// utils.go, `createAndSecureFile`), and mounts them so that they can be written.
    fn is_as_safe(&self, copy: &File, image: Option<&File>) -> io::Result<bool> {
        let metadata = |file: &File| fstat(file).map(|stat| (stat.st_mode & 0o7777, (stat.st_uid, stat.st_gid)));
        let (mode, owner) = metadata(copy)?;
        let within = |allowed: u32| mode & !allowed == 0;
        let attributes = image.map(files::xattrs).transpose()?.unwrap_or_default();
        let is_known = |found: &(Vec<u8>, Vec<u8>)| OF_HOST.contains(&found.0.as_slice()) || attributes.contains(found);
        let as_image = match image.map(metadata).transpose()? {
            Some((mode, sealed)) if self.is_shown_mapped => owner == sealed && within(mode),
            Some((mode, sealed)) => owner == self.mapped(sealed) && within(mode),
            None => false,
        };
        let as_roots = owner == self.mapped((0, 0)) && within(MODE);
        Ok((as_image || as_roots) && files::xattrs(copy)?.iter().all(is_known))
    }
}

/// Compares those among `mounts` with the users and groups of `root`, which is verified, where the container never ran.
///
/// # Errors
/// [`Case::O09Tampered`].
pub(super) fn check(
    mounts: &[BindMount],
    of: &CopiedFor<'_>,
    root: &Path,
    ran: impl FnOnce() -> LastStart,
) -> Result<()> {
    let io = |path: &Path, e: io::Error| Refusal::io(path.display().to_string(), e);
    let users = mounts.iter().filter(|m| USERS.iter().any(|users| m.destination == Path::new(users)));
    let copies = users.flat_map(|m| m.sources.iter().map(|source| (m.destination.as_path(), source)));
    // Others are files of whoever made the container.
    let copies: Vec<_> = copies.filter(|(_, source)| source.parent().and_then(Bundle::of).is_some()).collect();
    if copies.is_empty() || ran() != LastStart::Never {
        return Ok(());
    }
    for (place, source) in copies {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let copy: File = openat(CWD, source, flags, Mode::empty()).map_err(|e| io(source, e.into()))?.into();
        let image = match RootedDir::open(root).and_then(|root| root.read(place)) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(io(place, e)),
        };
        let tampered = |why: &str| Refusal::new(Case::O09Tampered, source.display().to_string(), why);
        if !of.is_as_safe(&copy, image.as_ref()).map_err(|e| io(source, e))? {
            return Err(tampered("its owner, its mode or an attribute"));
        }
        let as_made = are_users_of_image(place, copy, image, of.user, of.directory);
        if as_made.map_err(|e| io(source, e))? == Some(false) {
            return Err(tampered("as podman copied it"));
        }
    }
    Ok(())
}
