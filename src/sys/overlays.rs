//! The overlays of all mount namespaces that some process is in.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::mounts::{split_options, unescape};

/// `PROC_PID_INIT_INO`, include/uapi/linux/nsfs.h: the PID namespace of the whole machine.
const INITIAL: &str = "pid:[4026531836]";

/// An overlay that is mounted somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Its source, as it was given when it was made.
    pub source: String,
    /// Device and inode of its first directory of data; `None` where that cannot be told any more.
    pub data: Option<(u64, u64)>,
}

/// Whether every process of the machine can be seen from here.
pub fn sees_all() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|ns| ns == Path::new(INITIAL))
}

/// All overlays, those of other mount namespaces too, as long as a thread is in them. One that was
/// detached and is still open is not found: it is in no namespace.
///
/// # Errors
/// The kernel's, where a process lives and its mounts cannot be read: not root, or `/proc` is hidden.
pub fn live() -> io::Result<Vec<Overlay>> {
    let mut found: HashMap<Vec<u8>, Overlay> = HashMap::new();
    each_mount(|line, root| {
        let Some((device, overlay)) = overlay(line, root) else { return };
        // One filesystem in several namespaces: whoever can tell more of it does.
        let known = found.entry(device).or_insert_with(|| overlay.clone());
        known.data = known.data.or(overlay.data);
    })?;
    Ok(found.into_values().collect())
}

/// The device numbers of all that is mounted, `MAJOR:MINOR`.
///
/// # Errors
/// As [`live`].
pub fn devices() -> io::Result<HashSet<String>> {
    let mut found = HashSet::new();
    each_mount(|line, _| {
        let device = line.split(|b| *b == b' ').nth(2).map(String::from_utf8_lossy);
        found.extend(device.map(|device| device.into_owned()));
    })?;
    Ok(found)
}

/// Shows each line of mountinfo (proc(5)) of each namespace, with the root directory of a process in it.
fn each_mount(mut look: impl FnMut(&[u8], &Path)) -> io::Result<()> {
    let mut seen = HashSet::new();
    for process in numbers(Path::new("/proc"))? {
        let Some(threads) = there(numbers(&process.join("task")))? else { continue };
        for thread in threads {
            // Root itself may not ask a process with more capabilities for its namespace. Its mounts it may
            // read, and reading those of one namespace twice is no harm.
            let namespace = match std::fs::read_link(thread.join("ns/mnt")) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => None,
                other => match there(other)? {
                    Some(namespace) => Some(namespace),
                    None => continue,
                },
            };
            if namespace.as_ref().is_some_and(|n| seen.contains(n)) {
                continue;
            }
            let Some(text) = there(std::fs::read(thread.join("mountinfo")))? else { continue };
            seen.extend(namespace);
            let root = thread.join("root");
            text.split(|b| *b == b'\n').for_each(|line| look(line, &root));
        }
    }
    Ok(())
}

/// The entries of `dir` that are named by a number.
fn numbers(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        if name.as_bytes().iter().all(u8::is_ascii_digit) {
            found.push(dir.join(name));
        }
    }
    Ok(found)
}

/// `None` for a process that has ended meanwhile; one that has ended and waits for its parent is in no
/// namespace, which `mountinfo` calls EINVAL.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) => match Errno::from_io_error(&e) {
            Some(Errno::NOENT | Errno::SRCH | Errno::INVAL) => Ok(None),
            _ => Err(e),
        },
    }
}

/// A line of mountinfo (proc(5)), if it is an overlay's, with the filesystem's device number.
fn overlay(line: &[u8], root: &Path) -> Option<(Vec<u8>, Overlay)> {
    let at = line.windows(3).position(|w| w == b" - ")?;
    let device = line[..at].split(|b| *b == b' ').nth(2)?.to_vec();
    let mut right = line[at + 3..].split(|b| *b == b' ');
    if right.next()? != b"overlay" {
        return None;
    }
    let source = String::from_utf8_lossy(&unescape(right.next()?)).into_owned();
    let options = split_options(right.next()?).unwrap_or_default();
    let data = options.into_iter().find_map(|o| o.strip_prefix(b"datadir+=")).map(unescape);
    Some((device, Overlay { source, data: data.and_then(|path| identity(root, path)) }))
}

/// The directory that a path means for the process; a descriptor's name means nothing to us.
fn identity(root: &Path, path: Vec<u8>) -> Option<(u64, u64)> {
    let path = PathBuf::from(OsString::from_vec(path));
    let inside = path.strip_prefix("/").ok().filter(|p| !p.starts_with("proc"))?;
    let metadata = std::fs::metadata(root.join(inside)).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlays_are_told_from_other_mounts() {
        let dir = tempfile::Builder::new().prefix("a b,").tempdir().unwrap();
        let shown = dir.path().display().to_string().replace(' ', "\\040").replace(',', "\\054");
        let line = format!(
            "45 27 0:40 / /m ro,nodev - overlay composefs:ab ro,lowerdir+=/,datadir+={shown},datadir+=/x,metacopy=on"
        );
        let (device, found) = overlay(line.as_bytes(), Path::new("/")).unwrap();
        assert_eq!(device, b"0:40");
        let metadata = dir.path().metadata().unwrap();
        assert_eq!(found, Overlay { source: "composefs:ab".into(), data: Some((metadata.dev(), metadata.ino())) });
        let labelled = line.replace(" ro,lowerdir", " ro,context=\"a:s0:c1,datadir+=/y,c2\",lowerdir");
        assert_eq!(overlay(labelled.as_bytes(), Path::new("/")).unwrap().1, found);
        for unknown in ["/proc/self/fd/7", "/not/there"] {
            let line = format!("45 27 0:40 / /m ro - overlay composefs:ab ro,datadir+={unknown}");
            assert_eq!(overlay(line.as_bytes(), Path::new("/")).unwrap().1.data, None);
        }
        assert_eq!(overlay(b"45 27 0:40 / /m ro - erofs none ro", Path::new("/")), None);
        assert_eq!(overlay(b"", Path::new("/")), None);
    }
}
