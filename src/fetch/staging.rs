//! A place for what is fetched and not kept.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use tempfile::TempDir;

use crate::error::{Refusal, Result};
use crate::oci::BlobStore;
use crate::sys::files;

const PREFIX: &str = "layerseal-work.";

/// A directory that is removed with this value, or, where the process is killed, when the next one is made.
#[derive(Debug)]
pub(super) struct Workplace {
    dir: TempDir,
    root: OwnedFd,
    /// Tells others that it is in use.
    _lock: Option<OwnedFd>,
}

impl Workplace {
    /// Makes a directory in `$TMPDIR`, or in `/var/tmp`, as other tools do for layers: `/tmp` may be memory.
    pub(super) fn new() -> Result<Self> {
        let base = base();
        let io = |e: std::io::Error| Refusal::io(base.display().to_string(), e);
        sweep(&base);
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&base).map_err(io)?;
        let root = files::open_dir(dir.path()).map_err(io)?;
        let lock = files::lock(&root, FlockOperation::NonBlockingLockExclusive, Duration::ZERO).map_err(io)?;
        Ok(Self { dir, root, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// A place for blobs that is removed when this value is dropped.
#[derive(Debug)]
pub struct Staging {
    store: BlobStore,
    _place: Workplace,
}

impl Staging {
    /// Makes a place.
    ///
    /// # Errors
    /// [`crate::error::Case::Io`].
    pub fn new() -> Result<Self> {
        let place = Workplace::new()?;
        let store = BlobStore::passing(&place.root, place.path())?;
        Ok(Self { store, _place: place })
    }

    /// Returns the store of the blobs.
    pub fn store(&self) -> &BlobStore {
        &self.store
    }
}

fn base() -> PathBuf {
    std::env::var_os("TMPDIR").filter(|v| !v.is_empty()).map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

/// Removes what killed processes had fetched.
pub fn sweep_staging() {
    sweep(&base());
}

/// Removes directories of ours that nobody holds any more. Those of the last minute may be about to be held, and the
/// clock may have been set back since.
fn sweep(base: &Path) {
    const YOUNG: i64 = 60;
    let me = rustix::process::getuid().as_raw();
    let Ok(base_fd) = files::open_dir(base) else { return };
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(dir) = files::open_dir_at(&base_fd, entry.file_name()) else { continue };
        let old =
            |stat: rustix::fs::Stat| stat.st_uid == me && (crate::sys::process::now() - stat.st_mtime).abs() > YOUNG;
        let left = rustix::fs::fstat(&dir).is_ok_and(old);
        if left && matches!(files::lock(&dir, FlockOperation::NonBlockingLockExclusive, Duration::ZERO), Ok(Some(_))) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
