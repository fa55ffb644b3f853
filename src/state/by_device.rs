//! Notes about mounts, by the device numbers of their filesystems, which the kernel gives again once they are free.

use std::collections::HashSet;
use std::io;

use super::StateDir;
use crate::sys::overlays;

/// Names a note after the major and minor number of a filesystem.
pub fn device_note((major, minor): (u32, u32)) -> String {
    format!("{major}:{minor}.json")
}

/// Removes the notes of filesystems that are no longer mounted in any namespace, and what killed processes were writing.
/// If not all namespaces can be seen, no note is removed: one that is left over counts for nothing in any case.
///
/// # Errors
/// Errors of the kernel.
pub fn sweep_devices(place: StateDir) -> io::Result<()> {
    let Some(dir) = place.open()? else { return Ok(()) };
    dir.sweep()?;
    if !overlays::sees_all() {
        return Ok(());
    }
    // Names first: whoever mounts meanwhile is not among them.
    let names = dir.names()?;
    let known: HashSet<String> = overlays::devices()?.into_iter().map(device_note).collect();
    let gone = |name: &&String| name.ends_with(".json") && !known.contains(*name);
    names.iter().filter(gone).try_for_each(|name| dir.remove(name))
}
