//! Notes about mounts, by the device numbers of their filesystems, which the kernel gives again once they are free.
//!
//! A number can be given again, and the note of the new mount be written, between a look at the note of the old one and
//! its removal. So whoever removes one has the directory's lock alone, and whoever writes one shares it.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, SystemTime};

use super::{Notes, StateDir};
use crate::sys::overlays;

/// How long notes that could be removed are waited for; one that is left over counts for nothing.
const WAIT: Duration = Duration::from_secs(1);

/// A mount that the service hands over is attached nowhere for a moment, while its note is there already.
const HANDED_OVER: Duration = Duration::from_secs(60);

/// Names a note after the major and minor number of a filesystem.
pub fn device_note((major, minor): (u32, u32)) -> String {
    format!("{major}:{minor}.json")
}

/// Writes the note of a mount, in place of that of an earlier mount whose number was given again.
///
/// # Errors
/// Errors of the kernel; `TimedOut` if somebody else has the lock all the time.
pub fn write_device_note(dir: &Notes, device: (u32, u32), text: &[u8]) -> io::Result<()> {
    let _lock = dir.lock_to_write()?;
    dir.write(&device_note(device), text)
}

/// Removes the note of `device` if it is `about` the mount that is gone, and not about a later one.
///
/// # Errors
/// As [`write_device_note`], and those of `about`.
pub fn remove_device_note(
    dir: &Notes,
    device: (u32, u32),
    about: impl FnOnce(&str) -> io::Result<bool>,
) -> io::Result<()> {
    let Some(_lock) = dir.lock_to_remove(WAIT)? else { return Ok(()) };
    let name = device_note(device);
    if about(&name)? { dir.remove(&name) } else { Ok(()) }
}

/// Removes the notes of filesystems that are no longer mounted in any namespace, and what killed processes were writing.
/// If not all namespaces can be seen, no note is removed: one that is left over counts for nothing in any case.
///
/// # Errors
/// As [`write_device_note`].
pub fn sweep_devices(place: StateDir) -> io::Result<()> {
    let Some(dir) = place.open()? else { return Ok(()) };
    dir.sweep()?;
    // Without the lock first: mostly nothing is gone, and then nobody waits.
    if !overlays::sees_all() || gone(&dir)?.is_empty() {
        return Ok(());
    }
    let Some(_lock) = dir.lock_to_remove(WAIT)? else { return Ok(()) };
    gone(&dir)?.iter().try_for_each(|name| dir.remove(name))
}

/// Lists the notes of filesystems that are mounted nowhere, but for new ones.
fn gone(dir: &Notes) -> io::Result<Vec<String>> {
    // Names first: whoever mounts meanwhile is not among them.
    let mut names = dir.names()?;
    let old = |name: &String| {
        let written = dir.written(name).ok().flatten();
        written.and_then(|at| SystemTime::now().duration_since(at).ok()).is_some_and(|age| age > HANDED_OVER)
    };
    names.retain(|name| name.ends_with(".json") && old(name));
    if !names.is_empty() {
        let known: HashSet<String> = overlays::devices()?.into_iter().map(device_note).collect();
        names.retain(|name| !known.contains(name));
    }
    Ok(names)
}
