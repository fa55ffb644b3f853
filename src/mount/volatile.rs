//! The mark that a volatile mount leaves behind, `work/incompat/volatile/dirty` in the work directory, so that the next
//! mount is refused: after a crash the upper directory may lack what was written to it. containers-storage removes it
//! before each mount (drivers/overlay/overlay.go).

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use crate::error::{Refusal, Result};
use crate::sys::files;

/// Returns whether a volatile mount has left its mark in the work directory.
pub(super) fn is_left(work: &OwnedFd) -> bool {
    files::open_dir_at(work, "work/incompat/volatile").is_ok()
}

/// Takes the mark away, for a caller that says `volatile` and so does not mind.
pub(crate) fn clear(work: &OwnedFd) -> Result<()> {
    let io = |e: std::io::Error| Refusal::io("work/incompat/volatile of the work directory", e);
    let incompat = match files::open_dir_at(work, "work/incompat") {
        Ok(dir) => dir,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(e)),
    };
    match files::open_dir_at(&incompat, "volatile") {
        Ok(dir) => {
            gone(unlinkat(&dir, "dirty", AtFlags::empty())).map_err(|e| io(e.into()))?;
            gone(unlinkat(&incompat, "volatile", AtFlags::REMOVEDIR)).map_err(|e| io(e.into()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io(e)),
    }
}

fn gone(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
