//! Whether there is room for what is about to be written.

use std::os::fd::AsFd;
use std::path::Path;

use super::disk::FreeSpace;
use super::{Case, Refusal, Result};

/// Checks that so many bytes in so many new files have room on the filesystem of the open directory `dir`, which people
/// know as `name`: asked before the work, once it is known how much it needs at least.
///
/// # Errors
/// [`Case::NoRoom`], with what is needed.
pub fn check_room(dir: impl AsFd, name: &Path, bytes: u64, files: u64) -> Result<()> {
    let shown = || name.display().to_string();
    let room = FreeSpace::of(dir).map_err(|e| Refusal::io(shown(), e))?;
    let why = if bytes > room.bytes {
        format!("{} KiB are needed, {} KiB are free", bytes.div_ceil(1024), room.bytes / 1024)
    } else if let Some(free) = room.files.filter(|free| files > *free) {
        let free = if free == 0 { "no inode is free".to_owned() } else { format!("{free} are free") };
        format!("{files} inodes are needed, {free}")
    } else {
        return Ok(());
    };
    Err(Refusal::new(Case::NoRoom, shown(), why))
}
