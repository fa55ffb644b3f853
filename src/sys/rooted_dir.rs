//! Paths as a container sees them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, CWD, Mode, OFlags, ResolveFlags};

use super::files::proc_path;

/// A directory that paths are looked up in as by a process whose root directory it is: absolute symlinks begin
/// there too, and none leads out of it.
#[derive(Debug)]
pub struct RootedDir(OwnedFd);

impl RootedDir {
    /// Opens the root directory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(fs::openat(CWD, root, flags, Mode::empty())?))
    }

    fn at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// Opens the directory `path`, which is absolute.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.at(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Opens whatever `path` leads to, to look at it only.
    ///
    /// # Errors
    /// The kernel's.
    pub fn any(&self, path: &Path) -> io::Result<OwnedFd> {
        self.at(path, OFlags::PATH)
    }

    /// Opens what `path` leads to, like [`Self::any`]; a symlink at its end is not followed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn last(&self, path: &Path) -> io::Result<OwnedFd> {
        self.at(path, OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// Opens a regular file or directory for reading.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self, path: &Path) -> io::Result<File> {
        Ok(self.at(path, OFlags::RDONLY | OFlags::NONBLOCK)?.into())
    }

    /// Finds where each of `paths` leads, as a path within the root; those that lead nowhere are left out.
    pub fn real_paths<'a>(&self, paths: impl Iterator<Item = &'a str>) -> Vec<PathBuf> {
        // Both as the kernel itself names them.
        let name = |fd: &OwnedFd| std::fs::read_link(proc_path(fd)).ok();
        let Some(top) = name(&self.0) else { return Vec::new() };
        let real = |path: &str| {
            let file = self.at(Path::new(path), OFlags::PATH).ok()?;
            Some(Path::new("/").join(name(&file)?.strip_prefix(&top).ok()?))
        };
        paths.filter_map(real).collect()
    }
}
