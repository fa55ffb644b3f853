use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Timespec, Timestamps, UTIME_NOW, flock, futimens, unlinkat};
use rustix::io::Errno;

use super::Vault;
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::sys::files;

/// How long a process waits for the vault. Collecting keeps others out for moments only: if it takes longer, the other
/// process was stopped, or its disk does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A hold on the vault; it ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct Lock {
    _directory: OwnedFd,
}

/// The right of one process to do what a first use takes: see [`Vault::turn`]. It ends when this is dropped, or with
/// the process.
#[derive(Debug)]
pub struct Turn {
    _held: Option<HeldTurn>,
}

#[derive(Debug)]
struct HeldTurn {
    directory: OwnedFd,
    name: String,
    /// The file whose lock is held.
    _file: File,
    /// Ends the sign of life.
    _alive: Sender<()>,
}

impl Drop for HeldTurn {
    fn drop(&mut self) {
        // Before the lock ends: the next process that locks this file sees that the name is gone, and takes another.
        let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
    }
}

/// How often a process shows that it is still at work.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

impl Vault {
    /// Waits for the turn to read all of an image, or of the layers beneath one, whichever `what` names: of many first
    /// starts at once one does the work, and the others find it done. No check depends on it, so nothing is refused for
    /// lack of it: a process that shows no sign of life for ten seconds is not waited for any longer.
    ///
    /// The caller holds [`Vault::shared`], and asks nobody over a network meanwhile.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn turn(&self, what: &BlobDigest) -> Result<Turn> {
        const LOOK: Duration = Duration::from_millis(20);
        let directory = files::make_dir_at(&self.root, "locks").map_err(|e| self.io(e))?;
        let name = what.hex();
        let mut last = (0, 0);
        let mut seen = Instant::now();
        loop {
            let file = files::open_lock_at(&directory, &name).map_err(|e| self.io(e))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    // By the changes of its time, not by its age: the clock may be set meanwhile.
                    let stat = rustix::fs::fstat(&file).map_err(|e| self.io(e.into()))?;
                    if (stat.st_mtime, stat.st_mtime_nsec) != last {
                        last = (stat.st_mtime, stat.st_mtime_nsec);
                        seen = Instant::now();
                    }
                    if seen.elapsed() > PATIENCE {
                        log::warn!(
                            "{what}: another process prepares it and shows no sign of life: not waiting any longer"
                        );
                        return Ok(Turn { _held: None });
                    }
                    std::thread::sleep(LOOK);
                    continue;
                }
                Err(e) => return Err(self.io(e.into())),
            }
            if rustix::fs::fstat(&file).map_err(|e| self.io(e.into()))?.st_nlink == 0 {
                continue;
            }
            let alive = show_life(&file).map_err(|e| self.io(e))?;
            return Ok(Turn { _held: Some(HeldTurn { directory, name, _file: file, _alive: alive }) });
        }
    }

    /// Keeps what is in the vault there: for reading it or adding to it, from before the first look until the mount
    /// stands. Several processes can hold it.
    ///
    /// It is not a lock of containers-storage and waits for none: a mount program can take it.
    ///
    /// # Errors
    /// [`Case::VaultBusy`] when a collection keeps others out for ten seconds.
    pub fn shared(&self) -> Result<Lock> {
        self.lock(FlockOperation::NonBlockingLockShared, PATIENCE, "it is being collected by `layerseal gc`")
    }

    /// Keeps everybody else out: for removing what is not needed.
    ///
    /// # Errors
    /// [`Case::VaultBusy`] when others do not end within ten seconds.
    pub fn exclusive(&self) -> Result<Lock> {
        self.lock(FlockOperation::NonBlockingLockExclusive, PATIENCE, "an image is being pulled, prepared or mounted")
    }

    fn lock(&self, operation: FlockOperation, wait: Duration, who: &str) -> Result<Lock> {
        let refuse = || Refusal::new(Case::VaultBusy, self.path.display().to_string(), who);
        let directory = files::lock(&self.root, operation, wait).map_err(|e| self.io(e))?;
        directory.map(|directory| Lock { _directory: directory }).ok_or_else(refuse)
    }
}

/// Touches the file once a second, until the sender is dropped: a process that is stopped does not.
fn show_life(file: &File) -> std::io::Result<Sender<()>> {
    let file = file.try_clone()?;
    let (alive, ended) = channel::<()>();
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW as _ };
    let touch = move || {
        while ended.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
            let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
        }
    };
    std::thread::Builder::new().name("sign of life".into()).spawn(touch)?;
    Ok(alive)
}
