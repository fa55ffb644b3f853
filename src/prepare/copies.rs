//! Copies of EROFS images that users have handed in: without fs-verity the kernel must be given a file that no user can
//! change. Each is kept while the service is there, for the next container of the image: reading it, writing it and
//! hashing it twice takes as long as the rest of a start, and every copy has its own pages in memory.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;

use rustix::fs::{Mode, OFlags};

use super::hashes_to;
use crate::digest::VerityDigest;
use crate::error::{Refusal, Result};
use crate::state::{Notes, StateDir};
use crate::sys::{files, new_files};

/// What messages call the file that a user has handed in.
pub(super) const NAME: &str = "the caller's EROFS image";

/// How many images are kept: of more than any user runs at a time. Of others each container has its own copy.
const MAX_KEPT: usize = 100;

/// The directory of those that are kept.
pub(super) struct Copies(Notes);

impl Copies {
    /// Opens the directory.
    ///
    /// # Errors
    /// [`crate::error::Case::Io`] if it cannot be made.
    pub(super) fn open() -> Result<Self> {
        StateDir::Copies.make().map(Self).map_err(io)
    }

    /// Returns the copy of the image with this digest; `None` if there is none that is right.
    pub(super) fn find(&self, digest: &VerityDigest, max: u64) -> Option<File> {
        let file = files::open_file_at(&self.0, digest.to_hex()).ok()?;
        hashes_to(&file, digest, &StateDir::Copies.to_string(), max).is_ok().then_some(file)
    }

    /// Copies `size` bytes of a file, and keeps what came of it if that has the digest.
    ///
    /// # Errors
    /// As for [`Self::open`]; [`crate::error::Case::G01Other`] if it has another digest.
    pub(super) fn copy(&self, file: &File, digest: &VerityDigest, size: u64) -> Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let to = rustix::fs::openat(self.0.as_fd(), ".", flags, Mode::from_raw_mode(0o600));
        let mut to = File::from(to.map_err(|e| io(e.into()))?);
        let mut from = file.try_clone().map_err(io)?;
        from.seek(SeekFrom::Start(0)).map_err(io)?;
        std::io::copy(&mut from.take(size), &mut to).map_err(io)?;
        to.seek(SeekFrom::Start(0)).map_err(io)?;
        hashes_to(&to, digest, NAME, size)?;
        let has_room = self.0.names().is_ok_and(|names| names.len() < MAX_KEPT);
        if has_room && let Err(e) = new_files::replace_link(&to, &self.0, &digest.to_hex()) {
            log::info!("{}: {e}", StateDir::Copies);
        }
        Ok(to)
    }
}

/// Removes all copies: what is mounted stays until it is unmounted.
pub fn forget_copies() {
    let removed = StateDir::Copies.open().and_then(|notes| {
        let Some(notes) = notes else { return Ok(()) };
        notes.names()?.iter().try_for_each(|name| notes.remove(name))
    });
    if let Err(e) = removed {
        log::warn!("{}: {e}", StateDir::Copies);
    }
}

fn io(e: std::io::Error) -> Refusal {
    Refusal::io(StateDir::Copies.to_string(), e)
}
