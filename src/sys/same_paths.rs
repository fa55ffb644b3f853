//! Paths that lead every process to the same place. A link of the kernel's own (`/proc/self/cwd`) leads each one
//! elsewhere: what is found there, or is not, says nothing of what podman found, which has another working directory.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

/// Opens something by a path that may go through symlinks, and through no link of the kernel's own.
///
/// # Errors
/// The kernel's: `ELOOP` for one.
pub fn open(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat2(CWD, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?)
}

/// Opens a directory in this way.
///
/// # Errors
/// As for [`open`].
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    open(path, OFlags::DIRECTORY | OFlags::RDONLY)
}

/// Returns whether there is a directory of this name. Where that cannot be told it is an error, and not "no".
///
/// # Errors
/// As for [`open`].
pub fn is_dir(path: &Path) -> io::Result<bool> {
    let kind = open(path, OFlags::PATH).and_then(|found| Ok(FileType::from_raw_mode(fstat(found)?.st_mode)));
    match kind {
        Ok(kind) => Ok(kind == FileType::Directory),
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOENT | Errno::NOTDIR)) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b09_links_of_the_kernels_own_are_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        std::fs::create_dir(at("dir")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
        link("dir", "link");
        link("none", "dangling");
        link("/proc/self/cwd/none", "magic");
        link("/proc/self/root", "root");
        let found = |name: &str| is_dir(&at(name)).map_err(|e| Errno::from_io_error(&e));
        for (name, is) in [("dir", true), ("link", true), ("file", false), ("file/x", false), ("none", false)] {
            assert_eq!(found(name), Ok(is), "{name}");
        }
        assert_eq!(found("dangling"), Ok(false));
        for name in ["magic", "root", "root/usr"] {
            assert_eq!(found(name), Err(Some(Errno::LOOP)), "{name}");
            assert!(open_dir(&at(name)).is_err(), "{name}");
        }
        assert!(open_dir(&at("link")).is_ok());
    }
}
