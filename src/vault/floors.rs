//! Rollback floors: the highest sequence that this host has accepted for each name.
//!
//! They are not in the vault: that is on a disk that others may have written, and is emptied with podman's store.
//! Whoever can write to `/var/lib/layerseal` can lower a floor; a host that fears that keeps the directory on a
//! separate filesystem.

use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::name::ImageName;
use crate::seal::Identity;
use crate::state::StateDir;
use crate::sys::files;
use crate::verify::RollbackFloors;

const DIR: StateDir = StateDir::Floors;
/// Room for a name of 255 bytes and a number.
const MAX_NOTE: u64 = 1024;

/// Reads all floors of this host; there are none where nothing was accepted yet.
///
/// # Errors
/// [`Case::D10Floors`] where the directory cannot be read, or others than root could have written to it. One note
/// that cannot be read is a matter of its name alone: see [`RollbackFloors::of`].
pub fn floors() -> Result<RollbackFloors> {
    let Some(dir) = DIR.open().map_err(|e| refuse(&e))? else { return Ok(RollbackFloors::empty()) };
    let names = dir.names().map_err(|e| refuse(&e))?;
    let mut floors = RollbackFloors::empty();
    for (file, digest) in names.iter().filter_map(|name| Some((name, BlobDigest::from_hex(name).ok()?))) {
        match dir
            .read(file, MAX_NOTE)
            .ok()
            .flatten()
            .and_then(|note| parse(&note))
            .filter(|(name, _)| file_of(name.as_str()) == *file)
        {
            Some((name, sequence)) => floors.insert(&name, sequence),
            None => floors.insert_unreadable(digest, format!("{DIR}/{file}")),
        }
    }
    Ok(floors)
}

/// A floor of this host; one that cannot be read has no sequence, and the name of its file.
pub type ListedFloor = (String, Option<u64>);

/// Lists all floors, by name.
///
/// # Errors
/// As for [`floors`].
pub fn list_floors() -> Result<Vec<ListedFloor>> {
    let Some(dir) = DIR.open().map_err(|e| refuse(&e))? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for file in dir.names().map_err(|e| refuse(&e))?.into_iter().filter(|name| BlobDigest::from_hex(name).is_ok()) {
        let note = dir.read(&file, MAX_NOTE).ok().flatten().and_then(|note| parse(&note));
        found.push(match note.filter(|(name, _)| file_of(name) == file) {
            Some((name, sequence)) => (name, Some(sequence)),
            None => (file, None),
        });
    }
    found.sort_unstable();
    Ok(found)
}

/// Forgets the floor of a name, or of the file of one that cannot be read: an older build is accepted again, and the
/// next start notes the sequence that it accepts. Returns false where there is none.
///
/// # Errors
/// [`Case::D10Floors`].
pub fn reset_floor(name: &str) -> Result<bool> {
    let Some(dir) = DIR.open().map_err(|e| refuse(&e))? else { return Ok(false) };
    let lock = files::lock(&dir, FlockOperation::NonBlockingLockExclusive, Duration::from_secs(10));
    let _lock = lock.map_err(|e| refuse(&e))?.ok_or_else(|| refuse(&"another process holds it"))?;
    let names = dir.names().map_err(|e| refuse(&e))?;
    let meant = [file_of(name), file_of(ImageName::of(name).as_str()), name.to_owned()];
    // Earlier versions noted a name as the signer had written it.
    let is_of = |file: &str| {
        let note = dir.read(file, MAX_NOTE).ok().flatten().and_then(|note| parse(&note));
        note.is_some_and(|(noted, _)| ImageName::of(&noted) == ImageName::of(name))
    };
    let is_meant = |file: &&String| BlobDigest::from_hex(file).is_ok() && (meant.contains(file) || is_of(file));
    let found: Vec<&String> = names.iter().filter(is_meant).collect();
    found.iter().try_for_each(|file| dir.remove(file)).map_err(|e| refuse(&e))?;
    Ok(!found.is_empty())
}

/// Removes what killed processes were writing.
///
/// # Errors
/// [`Case::D10Floors`].
pub fn sweep_floors() -> Result<()> {
    DIR.open().and_then(|dir| dir.map_or(Ok(()), |dir| dir.sweep())).map_err(|e| refuse(&e))
}

/// Raises the floor of each of these names to `sequence`, where it is lower.
///
/// # Errors
/// [`Case::D10Floors`].
pub fn raise<'a>(names: impl Iterator<Item = &'a Identity>, sequence: u64, known: &RollbackFloors) -> Result<()> {
    // A warm start writes nothing.
    let names = lower(names, sequence, known)?;
    if names.is_empty() {
        return Ok(());
    }
    let dir = DIR.make().map_err(|e| refuse(&e))?;
    // Between reading and writing nobody else may raise it: the higher one must stay.
    let lock = files::lock(&dir, FlockOperation::NonBlockingLockExclusive, Duration::from_secs(10));
    let _lock = lock.map_err(|e| refuse(&e))?.ok_or_else(|| refuse(&"another process holds it"))?;
    let now = floors()?;
    for name in lower(names.into_iter(), sequence, &now)? {
        let name = ImageName::of(name.as_str());
        let note = format!("{name}\n{sequence}\n");
        dir.write(&file_of(name.as_str()), note.as_bytes()).map_err(|e| refuse(&e))?;
    }
    Ok(())
}

fn refuse(e: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Case::D10Floors, DIR.to_string(), e)
}

/// Finds the names whose floor is lower than `sequence`.
fn lower<'a>(
    names: impl Iterator<Item = &'a Identity>,
    sequence: u64,
    floors: &RollbackFloors,
) -> Result<Vec<&'a Identity>> {
    let names = names.map(|name| Ok((floors.of(name.as_str())?, name))).collect::<Result<Vec<_>>>()?;
    Ok(names.into_iter().filter(|(floor, _)| floor.is_none_or(|f| f < sequence)).map(|(_, name)| name).collect())
}

/// Returns the name of a floor's file: names hold slashes, so it is a digest.
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
