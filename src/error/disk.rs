//! What the disk reports when something is written to it.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{StatVfs, fstatvfs, statvfs};

/// An error of writing that surfaces where something was read: reader and copy are one stream there.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}")]
pub(super) struct WriteFailed {
    pub(super) path: String,
    pub(super) error: io::Error,
}

/// Marks an error of writing to `path` on its way up through readers, so that nobody takes it for a reader's.
pub fn write_failed(path: impl Into<String>, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), WriteFailed { path: path.into(), error })
}

/// Returns whether it was marked by [`write_failed`].
pub fn is_of_write(error: &io::Error) -> bool {
    failed(error).is_some()
}

pub(super) fn failed(error: &io::Error) -> Option<&WriteFailed> {
    error.get_ref()?.downcast_ref()
}

/// What is left on a filesystem.
#[derive(Clone, Copy, Debug)]
pub struct FreeSpace {
    /// How many bytes a program of root can still write.
    pub bytes: u64,
    /// How many files can still be made, if their number is fixed, as on ext4.
    pub files: Option<u64>,
}

impl FreeSpace {
    /// Returns what is left on the filesystem of an open file.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub(super) fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::from(&fstatvfs(file)?))
    }

    /// Returns what is left on the filesystem that a path leads to, or would lead to: at that point only a name in a
    /// message is known.
    pub(super) fn at(subject: &str) -> Option<Self> {
        // "vault /path", or a path as it was typed.
        let path = subject.find(" /").map_or(subject, |at| &subject[at + 1..]);
        // Text that is no path is told apart from a file name in the working directory by its blanks.
        let path: PathBuf = match path.contains(char::is_whitespace) {
            true => path.into(),
            false => std::path::absolute(path).ok()?,
        };
        let there = path.ancestors().filter(|path| !path.as_os_str().is_empty());
        there.into_iter().find_map(|path| statvfs(path).ok()).map(|found| Self::from(&found))
    }
}

impl From<&StatVfs> for FreeSpace {
    fn from(found: &StatVfs) -> Self {
        // f_bfree, not f_bavail: what is reserved for root is available to us.
        Self { bytes: found.f_bfree * found.f_frsize, files: (found.f_files > 0).then_some(found.f_ffree) }
    }
}

impl fmt::Display for FreeSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes / 1024;
        match self.files {
            Some(0) => f.write_str("no inode is free"),
            // Then either can have been the reason: ext4 also refuses while there are some, those that were deleted a
            // moment ago.
            Some(files @ 1..256) => write!(f, "{bytes} KiB and {files} inodes are free"),
            _ => write!(f, "{bytes} KiB are free"),
        }
    }
}
