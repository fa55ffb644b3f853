//! The copies of users and groups that podman mounts in a container whose root is read-only. It makes them once, in the
//! container's own directory, from what it finds in the root at the first start that it tries. That start may have
//! failed, or run without a hook, before the image was what it is now.

use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Case, Refusal, Result};
use crate::protocol::{BindMount, Bundle};
use crate::start::{LastStart, are_users_of_image};
use crate::sys::files::RootedDir;

/// What podman copies for a root that cannot be written to.
const USERS: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// Compares those among `mounts` with the users and groups of `root`, which is verified, where the container never ran.
/// `user` and `directory` are the container's.
///
/// # Errors
/// [`Case::O09Tampered`].
pub(super) fn check(
    mounts: &[BindMount],
    (user, directory): ((u32, u32), &Path),
    root: &Path,
    ran: impl FnOnce() -> LastStart,
) -> Result<()> {
    let io = |path: &Path, e: std::io::Error| Refusal::io(path.display().to_string(), e);
    let users = mounts.iter().filter(|m| USERS.iter().any(|users| m.destination == Path::new(users)));
    let copies = users.flat_map(|m| m.sources.iter().map(|source| (m.destination.as_path(), source)));
    // Others are files of whoever made the container.
    let copies: Vec<_> = copies.filter(|(_, source)| source.parent().and_then(Bundle::of).is_some()).collect();
    if copies.is_empty() || ran() != LastStart::Never {
        return Ok(());
    }
    for (place, source) in copies {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let copy = openat(CWD, source, flags, Mode::empty()).map_err(|e| io(source, e.into()))?;
        let image = match RootedDir::open(root).and_then(|root| root.read(place)) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(io(place, e)),
        };
        let as_made = are_users_of_image(place, copy.into(), image, user, directory);
        if as_made.map_err(|e| io(source, e))? == Some(false) {
            return Err(Refusal::new(Case::O09Tampered, source.display().to_string(), "as podman copied it"));
        }
    }
    Ok(())
}
