//! Notes on directories by what they are, not by what they are called: inode and time of birth.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};
use rustix::io::Errno;

use super::{Notes, StateDir};
use crate::sys::process;
use crate::sys::times::birth;

/// Room for a path and a time.
const MAX_NOTE: u64 = 8192;

/// How many notes are looked at whenever one is written: so as many go as come, and a start costs the same beside a
/// thousand containers as beside one.
const LOOKED_AT: usize = 8;

/// A container may be made, and filled by `podman cp`, some time before the first one of a new host is started.
const DAY: i64 = 86_400;

/// Returns whether a directory was there before the notes. Notes from the future were made when the clock was wrong,
/// and say nothing.
fn is_before(dir: Option<i64>, notes: Option<i64>, now: i64) -> bool {
    dir.zip(notes).is_some_and(|(dir, notes)| dir.saturating_add(DAY) < notes && notes <= now)
}

/// Returns when a directory was made, in seconds since 1970.
fn born(dir: impl AsFd) -> io::Result<Option<i64>> {
    Ok(birth(dir)?.and_then(|born| (born / 1_000_000_000).try_into().ok()))
}

/// A set of directories.
#[derive(Debug)]
pub struct NotedDirectories {
    notes: Notes,
    /// Whether devices keep their numbers as long as the notes are kept.
    with_device: bool,
}

impl NotedDirectories {
    /// Opens the notes at `place`, and makes the directory if it is missing.
    ///
    /// # Errors
    /// As for [`StateDir::make`].
    pub fn of(place: StateDir) -> io::Result<Self> {
        Ok(Self { notes: place.make()?, with_device: !place.is_kept() })
    }

    /// Opens the notes at `place`, if there are any.
    ///
    /// # Errors
    /// As for [`StateDir::open`].
    pub fn open(place: StateDir) -> io::Result<Option<Self>> {
        Ok(place.open()?.map(|notes| Self { notes, with_device: !place.is_kept() }))
    }

    /// Returns whether this very directory is noted. On a filesystem without times of birth, a directory never counts
    /// as noted if the notes outlive the boot.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn holds(&self, dir: &OwnedFd) -> io::Result<bool> {
        let Some((name, born)) = self.named(dir)? else { return Ok(false) };
        let note = self.notes.read(&name, MAX_NOTE)?;
        Ok(note.is_some_and(|note| note.starts_with(format!("{born} ").as_bytes())))
    }

    /// Returns whether the directory is at least a day older than these notes, which say nothing about earlier times.
    /// False if a time cannot be told.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn predate(&self, dir: &OwnedFd) -> io::Result<bool> {
        Ok(is_before(born(dir)?, born(&self.notes)?, process::now()))
    }

    /// Returns the same for notes that would be made now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn would_predate(dir: &OwnedFd) -> io::Result<bool> {
        let now = process::now();
        Ok(is_before(born(dir)?, Some(now), now))
    }

    /// Notes the directory, which is at `path`. With a new note some of those of directories that are gone are taken away.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub fn insert(&self, dir: &OwnedFd, path: &Path) -> io::Result<()> {
        let Some((name, born)) = self.named(dir)? else { return Ok(()) };
        let path = std::path::absolute(path)?;
        let note = [born.as_bytes(), b" ", path.as_os_str().as_bytes()].concat();
        let there = self.notes.read(&name, MAX_NOTE).ok().flatten();
        let is_known = there.is_some() || self.notes.has(&name);
        // A container that is started again: writing would only make it wait for the disk.
        if there.is_some_and(|there| there == note) {
            return Ok(());
        }
        if !is_known {
            self.remove_some_that_are_gone(&name)?;
        }
        let _lock = self.notes.lock_to_write()?;
        // A start would wait for the disk, and that longer than for all the rest; what the container engine has just made
        // of the directory does not survive a power cut any better.
        self.notes.write_soon(&name, &note)
    }

    /// Looks at some notes, and removes those of directories that are gone, unless others are at it.
    fn remove_some_that_are_gone(&self, name: &String) -> io::Result<()> {
        // Numbers are given again: between the look at a note and its removal another start could write it anew.
        let Some(_lock) = self.notes.lock_to_remove(Duration::ZERO)? else { return Ok(()) };
        let others = self.notes.names()?;
        // Starting after its own place, which differs each time.
        let at = others.partition_point(|other| other < name);
        for other in others.iter().cycle().skip(at).take(LOOKED_AT.min(others.len())) {
            if self.notes.read(other, MAX_NOTE).is_ok_and(|n| n.is_some_and(|note| self.is_gone(other, &note))) {
                let _ = self.notes.remove(other);
            }
        }
        Ok(())
    }

    fn named(&self, dir: &OwnedFd) -> io::Result<Option<(String, String)>> {
        let stat = statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::BTIME)?;
        Ok(self.numbers(&stat))
    }

    /// Returns the note's name, and what tells a directory from a later one with the same numbers.
    fn numbers(&self, stat: &Statx) -> Option<(String, String)> {
        let born = (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then_some(stat.stx_btime);
        let born = born.map(|t| format!("{}.{:09}", t.tv_sec, t.tv_nsec));
        match self.with_device {
            true => Some((
                format!("{}:{}:{}", stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino),
                born.unwrap_or_else(|| "?".to_owned()),
            )),
            false => born.map(|born| (stat.stx_ino.to_string(), born)),
        }
    }

    /// Returns whether the directory of a note is gone, or another one is in its place. If that cannot be told, the
    /// note stays.
    fn is_gone(&self, name: &str, note: &[u8]) -> bool {
        let Some(at) = note.iter().position(|b| *b == b' ') else { return true };
        let path = Path::new(OsStr::from_bytes(&note[at + 1..]));
        match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO | StatxFlags::BTIME) {
            Ok(stat) => self.numbers(&stat).is_none_or(|(other, born)| other != name || born.as_bytes() != &note[..at]),
            // If the store is not mounted, nothing is gone.
            Err(e) => {
                let there = path.parent().and_then(Path::parent).is_some_and(Path::is_dir);
                matches!(e, Errno::NOENT | Errno::NOTDIR) && there
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_before;

    #[test]
    fn what_was_there_a_day_before_the_notes_is_older_than_these() {
        for (dir, notes, before) in [
            (Some(0), Some(86_401), true),
            (Some(0), Some(1_000_001), false),
            (Some(0), Some(86_400), false),
            (Some(10), Some(5), false),
            (Some(i64::MAX), Some(0), false),
            (None, Some(1 << 40), false),
            (Some(0), None, false),
        ] {
            assert_eq!(is_before(dir, notes, 1_000_000), before, "{dir:?} {notes:?}");
        }
    }
}
