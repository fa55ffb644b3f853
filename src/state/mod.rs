//! What this host keeps apart from its vaults: each directory beneath `/run/layerseal` and `/var/lib/layerseal`, and
//! the notes in them. All of it belongs to root, and what others could have written is not trusted.

mod by_device;
mod directories;
mod events;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, Stat, fchmod, fstat, unlinkat};
use rustix::io::Errno;

use crate::sys::{files, new_files};

pub use by_device::{device_note, remove_device_note, sweep_devices, write_device_note};
pub use directories::NotedDirectories;
pub use events::{BUCKETS, CountedDecision, Event, Times, Totals, append as append_event, events};

/// Gone after a reboot. Users other than root may pass through it but not list it: the configuration in it is for
/// everybody.
pub const RUN: &str = "/run/layerseal";

/// Kept over reboots.
pub const LIB: &str = "/var/lib/layerseal";

/// What stands for [`RUN`] and [`LIB`] in a process of a user other than root, if it keeps notes.
static OF_USER: OnceLock<[PathBuf; 2]> = OnceLock::new();

/// Has this process keep its notes in directories of its user's: what ends with the boot, and what is kept. Only in a
/// user namespace, in which that user is root, or to look at them.
pub fn keep_for_user(run: PathBuf, lib: PathBuf) {
    // Whoever comes second has the same user.
    let _ = OF_USER.set([run, lib]);
}

/// A directory of notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateDir {
    /// A record of each mount, by device: `run`.
    Mounts,
    /// A record of each mount that the service made for a user, by device: `run`.
    Users,
    /// Upper directories that were empty when they were first seen, by device and inode: `run`.
    Uppers,
    /// Layers whose content is what their diff_ids say: `run`.
    Content,
    /// Images whose seals were asked for, with a directory each: `run`.
    Asked,
    /// Registries that did not answer, or not with anything of use: `run`.
    Silent,
    /// Whether the kernel does what `verity=require` promises, by filesystem: `run`.
    Proof,
    /// Certificates of the host's trust stores that may sign, by their fingerprints: `run`.
    Certificates,
    /// Signatures that were verified: `run`.
    Signatures,
    /// The last call of each hook: `run`.
    Hooks,
    /// What was decided about each start: `run`.
    Log,
    /// Rollback floors, by name: kept.
    Floors,
    /// What podman had filled for containers that were refused: kept.
    Filled,
    /// Seals that were accepted: kept.
    Seals,
    /// Upper directories of containers that were started on a verified image: kept.
    Started,
    /// Upper directories that the mount program mounted over a verified image: kept.
    Mounted,
    /// Copies of EROFS images that the service has mounted for users: kept, for want of room elsewhere.
    Copies,
}

impl StateDir {
    const fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Mounts => (RUN, "mounts"),
            Self::Users => (RUN, "users"),
            Self::Uppers => (RUN, "uppers"),
            Self::Content => (RUN, "content"),
            Self::Asked => (RUN, "asked"),
            Self::Silent => (RUN, "silent"),
            Self::Proof => (RUN, "proof"),
            Self::Certificates => (RUN, "certificates"),
            Self::Signatures => (RUN, "signatures"),
            Self::Hooks => (RUN, "hooks"),
            Self::Log => (RUN, "log"),
            Self::Floors => (LIB, "floors"),
            Self::Filled => (LIB, "filled"),
            Self::Seals => (LIB, "seals"),
            Self::Started => (LIB, "started"),
            Self::Mounted => (LIB, "mounted"),
            Self::Copies => (LIB, "copies"),
        }
    }

    /// Returns whether it outlives the boot.
    pub fn is_kept(self) -> bool {
        self.parts().0 == LIB
    }

    /// Returns where it is.
    pub fn path(self) -> PathBuf {
        self.base().join(self.parts().1)
    }

    fn base(self) -> &'static Path {
        match OF_USER.get() {
            Some([run, lib]) => {
                if self.is_kept() {
                    lib
                } else {
                    run
                }
            }
            None => Path::new(self.parts().0),
        }
    }

    /// Opens it; `None` if there is none yet.
    ///
    /// # Errors
    /// Errors of the kernel; an error if users other than root can write to it.
    pub fn open(self) -> std::io::Result<Option<Notes>> {
        let (base, name) = (self.base(), self.parts().1);
        let opened = files::open_dir(base).and_then(|base| {
            only_root(&base)?;
            files::open_dir_at(&base, name)
        });
        match opened {
            Ok(dir) => only_root(&dir).map(|_| Some(Notes(dir))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens it, and makes it if it is missing.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn make(self) -> std::io::Result<Notes> {
        let (base, name) = (self.base(), self.parts().1);
        let base = make_base(base)?;
        let dir = files::make_dir_at(&base, name)?;
        let stat = fstat(&dir)?;
        if stat.st_uid != owner() {
            return Err(others());
        }
        // A directory that somebody made earlier with another mode.
        if stat.st_mode & 0o7777 != 0o700 {
            fchmod(&dir, Mode::RWXU)?;
        }
        Ok(Notes(dir))
    }
}

impl fmt::Display for StateDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

/// Makes [`RUN`] or [`LIB`] if it is missing.
///
/// # Errors
/// As for [`StateDir::open`].
pub fn make_base(base: impl AsRef<Path>) -> std::io::Result<OwnedFd> {
    let base = base.as_ref();
    let dir = match files::open_dir(base) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new().recursive(true).mode(0o711).create(base)?;
            files::open_dir(base)?
        }
        there => there?,
    };
    let stat = only_root(&dir)?;
    // As an earlier version or a strict umask left it.
    if base == Path::new(RUN) && stat.st_mode & 0o777 == 0o700 {
        fchmod(&dir, Mode::from_raw_mode(0o711))?;
    }
    Ok(dir)
}

/// An open directory of notes.
#[derive(Debug)]
pub struct Notes(OwnedFd);

impl Notes {
    /// Lists the names of all notes, and of those that are being written. A name that is not UTF-8 is not ours.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn names(&self) -> std::io::Result<Vec<String>> {
        files::list(self.0.as_fd())
    }

    /// Returns whether there is a note of this name.
    pub fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }

    /// Returns when a note was written; `None` if there is none.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn written(&self, name: &str) -> std::io::Result<Option<SystemTime>> {
        match files::open_file_at(&self.0, name) {
            Ok(file) => file.metadata()?.modified().map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads a note; `None` if there is none.
    ///
    /// # Errors
    /// Errors of the kernel; `FileTooLarge` for more than `max` bytes, and an error if users other than root could have
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

    /// Writes a note, whole or not at all.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn write(&self, name: &str, text: &[u8]) -> std::io::Result<()> {
        new_files::write_atomic(&self.0, name, 0o600, text)
    }

    /// Does the same without waiting for the disk: for what is about something as new as the note, and is lost with it.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn write_soon(&self, name: &str, text: &[u8]) -> std::io::Result<()> {
        new_files::write_soon(&self.0, name, 0o600, text)
    }

    /// Removes a note; it is no error if it is already gone.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn remove(&self, name: &str) -> std::io::Result<()> {
        match unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes the directory's lock as one of those who write notes of names that are given again. It ends with the value.
    ///
    /// # Errors
    /// Errors of the kernel; `TimedOut` if somebody removes notes all the time.
    pub fn lock_to_write(&self) -> std::io::Result<OwnedFd> {
        // It takes some milliseconds to remove what is gone.
        const WAIT: Duration = Duration::from_secs(10);
        let lock = files::lock(&self.0, FlockOperation::NonBlockingLockShared, WAIT)?;
        lock.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::TimedOut, "somebody else has its lock"))
    }

    /// Takes the directory's lock for a look at notes and their removal, while nobody writes them; `None` if others have
    /// it for longer than `wait`.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn lock_to_remove(&self, wait: Duration) -> std::io::Result<Option<OwnedFd>> {
        files::lock(&self.0, FlockOperation::NonBlockingLockExclusive, wait)
    }

    /// Removes what a writer that was killed has left.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn sweep(&self) -> std::io::Result<()> {
        new_files::sweep_remains(&self.0)
    }
}

impl AsFd for Notes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Checks that a file is root's alone, or the user's whose notes are kept.
fn only_root(file: impl AsFd) -> std::io::Result<Stat> {
    let stat = fstat(file)?;
    if stat.st_uid != owner() || stat.st_mode & 0o022 != 0 { Err(others()) } else { Ok(stat) }
}

fn owner() -> u32 {
    if OF_USER.get().is_some() { rustix::process::geteuid().as_raw() } else { 0 }
}

fn others() -> std::io::Error {
    std::io::Error::other("others than root can write to it")
}
