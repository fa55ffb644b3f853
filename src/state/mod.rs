//! What this host keeps beside its vaults: each directory beneath `/run/layerseal` and `/var/lib/layerseal`, and the
//! notes in them. All of it is root's, and what others could have written counts for nothing.

mod directories;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, Stat, fchmod, fstat, statat, unlinkat};
use rustix::io::Errno;

use crate::sys::{files, new_files};

pub use directories::NotedDirectories;

/// Gone after a reboot. Whoever is not root may pass through it and list nothing: configuration in it is for all.
pub const RUN: &str = "/run/layerseal";

/// Kept.
pub const LIB: &str = "/var/lib/layerseal";

/// A directory of notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateDir {
    /// A record of each mount, by device: `run`.
    Mounts,
    /// Upper directories that were empty when they were seen first, by device and inode: `run`.
    Uppers,
    /// Layers whose content is what their diff_ids say: `run`.
    Content,
    /// Images whose seals were asked for, a directory each: `run`.
    Asked,
    /// Registries that did not answer: `run`.
    Silent,
    /// The last call of each hook: `run`.
    Hooks,
    /// Rollback floors, by name: kept.
    Floors,
    /// What podman had filled for containers that were refused: kept.
    Filled,
    /// Seals that were accepted: kept.
    Seals,
    /// Upper directories of containers that were started on a verified image: kept.
    Started,
}

impl StateDir {
    const fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Mounts => (RUN, "mounts"),
            Self::Uppers => (RUN, "uppers"),
            Self::Content => (RUN, "content"),
            Self::Asked => (RUN, "asked"),
            Self::Silent => (RUN, "silent"),
            Self::Hooks => (RUN, "hooks"),
            Self::Floors => (LIB, "floors"),
            Self::Filled => (LIB, "filled"),
            Self::Seals => (LIB, "seals"),
            Self::Started => (LIB, "started"),
        }
    }

    /// Whether it outlives the boot.
    pub fn is_kept(self) -> bool {
        self.parts().0 == LIB
    }

    /// Where it is.
    pub fn path(self) -> PathBuf {
        let (base, name) = self.parts();
        Path::new(base).join(name)
    }

    /// Opens it; `None` where there is none yet.
    ///
    /// # Errors
    /// The kernel's; one of its own where others than root can write to it.
    pub fn open(self) -> std::io::Result<Option<Notes>> {
        let (base, name) = self.parts();
        let opened = files::open_dir(Path::new(base)).and_then(|base| {
            only_root(&base)?;
            files::open_dir_at(&base, name)
        });
        match opened {
            Ok(dir) => only_root(&dir).map(|_| Some(Notes(dir))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens it, and makes it where it is missing.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn make(self) -> std::io::Result<Notes> {
        let (base, name) = self.parts();
        let base = make_base(base)?;
        let dir = files::make_dir_at(&base, name)?;
        let stat = fstat(&dir)?;
        if stat.st_uid != 0 {
            return Err(others());
        }
        // A directory that somebody made before with another mode.
        if stat.st_mode & 0o7777 != 0o700 {
            fchmod(&dir, Mode::RWXU)?;
        }
        Ok(Notes(dir))
    }
}

impl fmt::Display for StateDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (base, name) = self.parts();
        write!(f, "{base}/{name}")
    }
}

/// Makes [`RUN`] or [`LIB`] where it is missing.
///
/// # Errors
/// As [`StateDir::open`].
pub fn make_base(base: &str) -> std::io::Result<OwnedFd> {
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(base)?;
    let dir = files::open_dir(Path::new(base))?;
    let stat = only_root(&dir)?;
    // As an earlier version made it, or a strict umask.
    if base == RUN && stat.st_mode & 0o777 == 0o700 {
        fchmod(&dir, Mode::from_raw_mode(0o711))?;
    }
    Ok(dir)
}

/// An open directory of notes.
#[derive(Debug)]
pub struct Notes(OwnedFd);

impl Notes {
    /// The names of all notes, and of what somebody is writing. A name that is no UTF-8 is none of ours.
    ///
    /// # Errors
    /// The kernel's.
    pub fn names(&self) -> std::io::Result<Vec<String>> {
        files::list(self.0.as_fd())
    }

    /// Whether there is such a note.
    pub fn has(&self, name: &str) -> bool {
        files::open_file_at(&self.0, name).is_ok()
    }

    /// What a note says; `None` where there is none.
    ///
    /// # Errors
    /// The kernel's; `FileTooLarge` for more than `max` bytes, and one of its own where others than root could have
    /// written it.
    pub fn read(&self, name: &str, max: u64) -> std::io::Result<Option<Vec<u8>>> {
        let file = match files::open_file_at(&self.0, name) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        only_root(&file)?;
        files::read_all(&file, max).map(Some)
    }

    /// When a note was written last, in nanoseconds since 1970; `None` where there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn written(&self, name: &str) -> std::io::Result<Option<i128>> {
        match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes a note, whole or not at all.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&self, name: &str, text: &[u8]) -> std::io::Result<()> {
        new_files::write_atomic(&self.0, name, 0o600, text)
    }

    /// Removes a note; one that is gone is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self, name: &str) -> std::io::Result<()> {
        match unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Removes what somebody was writing who was killed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sweep(&self) -> std::io::Result<()> {
        new_files::sweep_remains(&self.0)
    }
}

impl AsFd for Notes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn only_root(file: impl AsFd) -> std::io::Result<Stat> {
    let stat = fstat(file)?;
    if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 { Err(others()) } else { Ok(stat) }
}

fn others() -> std::io::Error {
    std::io::Error::other("others than root can write to it")
}
