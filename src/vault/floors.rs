//! Rollback floors: the highest sequence that this host has accepted for each name.
//!
//! Not in the vault: that is on a disk that others may have written, and is emptied with podman's store.
//! Whoever can write to `/var/lib/layerseal` can lower a floor; a host that fears that keeps the directory on a
//! filesystem of its own.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, fstat};

use crate::digest::BlobDigest;
use crate::report::{Case, Refusal, Result};
use crate::sys::files;
use crate::verify::Floors;

const PLACE: &str = "/var/lib/layerseal";
const DIRECTORY: &str = "floors";
/// A name of 255 bytes and a number.
const MAX_NOTE: u64 = 1024;

/// All floors of this host; none where nothing was accepted yet.
///
/// # Errors
/// [`Case::D10Floors`] where the directory cannot be read, or others than root could have written to it. One note
/// that cannot be read is a matter of its name alone: see [`Floors::of`].
pub fn floors() -> Result<Floors> {
    let place = Path::new(PLACE).join(DIRECTORY);
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::D10Floors, place.display().to_string(), e);
    let dir = match files::open_dir(&place) {
        Ok(dir) => dir,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Floors::none()),
        Err(e) => return Err(refuse(&e)),
    };
    let stat = fstat(&dir).map_err(|e| refuse(&e))?;
    if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 {
        return Err(refuse(&"others than root can write to it"));
    }
    let names = files::list(dir.as_fd()).map_err(|e| refuse(&e))?;
    let mut floors = Floors::none();
    for (file, digest) in names.iter().filter_map(|name| Some((name, BlobDigest::from_hex(name).ok()?))) {
        let note = files::open_file_at(&dir, file).and_then(|f| files::read_all(f, MAX_NOTE));
        match note.ok().and_then(|note| parse(&note)).filter(|(name, _)| file_of(name) == *file) {
            Some((name, sequence)) => floors.insert(name, sequence),
            None => floors.insert_unreadable(digest, place.join(file).display().to_string()),
        }
    }
    Ok(floors)
}

/// Removes what somebody was writing who was killed.
///
/// # Errors
/// [`Case::D10Floors`].
pub fn sweep_floors() -> Result<()> {
    let place = Path::new(PLACE).join(DIRECTORY);
    let refuse = |e: std::io::Error| Refusal::new(Case::D10Floors, place.display().to_string(), e);
    match files::open_dir(&place) {
        Ok(dir) => files::sweep_remains(&dir).map_err(refuse),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(refuse(e)),
    }
}

/// Raises the floor of each of these names to `sequence`, where it is lower.
///
/// # Errors
/// [`Case::D10Floors`].
pub fn raise<'a>(names: impl Iterator<Item = &'a String>, sequence: u64, known: &Floors) -> Result<()> {
    let place = Path::new(PLACE).join(DIRECTORY);
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::D10Floors, place.display().to_string(), e);
    // A warm start writes nothing.
    let names = lower(names, sequence, known)?;
    if names.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(PLACE).map_err(|e| refuse(&e))?;
    let base = files::open_dir(Path::new(PLACE)).map_err(|e| refuse(&e))?;
    let dir = files::make_dir_at(&base, DIRECTORY).map_err(|e| refuse(&e))?;
    // Between reading and writing nobody else raises: the higher one must stay.
    let lock = files::lock(&dir, FlockOperation::NonBlockingLockExclusive, Duration::from_secs(10));
    let _lock = lock.map_err(|e| refuse(&e))?.ok_or_else(|| refuse(&"another process holds it"))?;
    let now = floors()?;
    for name in lower(names.into_iter(), sequence, &now)? {
        let note = format!("{name}\n{sequence}\n");
        files::write_atomic(&dir, &file_of(name), 0o600, note.as_bytes()).map_err(|e| refuse(&e))?;
    }
    Ok(())
}

/// The names whose floor is lower than `sequence`.
fn lower<'a>(names: impl Iterator<Item = &'a String>, sequence: u64, floors: &Floors) -> Result<Vec<&'a String>> {
    let names = names.map(|name| Ok((floors.of(name)?, name))).collect::<Result<Vec<_>>>()?;
    Ok(names.into_iter().filter(|(floor, _)| floor.is_none_or(|f| f < sequence)).map(|(_, name)| name).collect())
}

/// Names hold slashes.
fn file_of(name: &str) -> String {
    BlobDigest::of(name.as_bytes()).hex()
}

fn parse(note: &[u8]) -> Option<(String, u64)> {
    let mut lines = std::str::from_utf8(note).ok()?.lines();
    let (name, sequence) = (lines.next()?, lines.next()?.parse().ok()?);
    lines.next().is_none().then(|| (name.to_owned(), sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d10_a_note_is_a_name_and_a_number() {
        assert_eq!(parse(b"registry.example.com/app\n7\n"), Some(("registry.example.com/app".into(), 7)));
        for bad in [&b""[..], b"app", b"app\n", b"app\n-1\n", b"app\n7\n8\n", b"app\nx\n", b"\xff\n7\n"] {
            assert_eq!(parse(bad), None);
        }
    }
}
