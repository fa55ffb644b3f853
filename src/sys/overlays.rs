//! The overlays of all mount namespaces that some process is in.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::mountinfo::{self, MountInfo};

/// `PROC_PID_INIT_INO`, include/uapi/linux/nsfs.h: the PID namespace of the whole machine.
const INITIAL: &str = "pid:[4026531836]";

/// An overlay that is mounted somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Its source, as it was given when it was made.
    pub source: String,
    /// Device and inode of its first data directory; `None` where that cannot be told any more.
    pub data: Option<(u64, u64)>,
}

/// Returns whether every process of the machine can be seen from here.
pub fn sees_all() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|ns| ns == Path::new(INITIAL))
}

/// Lists all overlays, those of other mount namespaces too, as long as a thread is in them. An overlay that was
/// detached and is still open is not found: it is in no namespace.
///
/// # Errors
/// The kernel's, where a process lives and its mounts cannot be read: not root, or `/proc` is hidden.
pub fn live() -> io::Result<Vec<Overlay>> {
    let mut found: HashMap<(u32, u32), Overlay> = HashMap::new();
    each_mount(|mount, root| {
        if mount.kind != "overlay" {
            return;
        }
        let overlay = overlay(mount, root);
        // One filesystem can be in several namespaces: the process that can tell more of it does.
        let known = found.entry(mount.device).or_insert_with(|| overlay.clone());
        known.data = known.data.or(overlay.data);
    })?;
    Ok(found.into_values().collect())
}

/// Collects the sources of all overlays, by device number.
///
/// # Errors
/// As [`live`].
pub fn by_device() -> io::Result<HashMap<(u32, u32), String>> {
    let mut found = HashMap::new();
    each_mount(|mount, _| {
        if mount.kind == "overlay" {
            found.entry(mount.device).or_insert_with(|| mount.source.to_string_lossy().into_owned());
        }
    })?;
    Ok(found)
}

/// Collects the device numbers of everything that is mounted, major and minor.
///
/// # Errors
/// As [`live`].
pub fn devices() -> io::Result<HashSet<(u32, u32)>> {
    let mut found = HashSet::new();
    each_mount(|mount, _| _ = found.insert(mount.device))?;
    Ok(found)
}

/// Shows each mount of each namespace, with the root directory of a process in it.
fn each_mount(mut look: impl FnMut(&MountInfo, &Path)) -> io::Result<()> {
    let mut seen = HashSet::new();
    for process in numbers(Path::new("/proc"))? {
        let Some(threads) = there(numbers(&process.join("task")))? else { continue };
        for thread in threads {
            // Root itself may not ask a process with more capabilities for its namespace. It may read its mounts, and
            // reading those of one namespace twice does no harm.
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
            mountinfo::parse(&text)?.iter().for_each(|mount| look(mount, &root));
        }
    }
    Ok(())
}

/// Lists the entries of `dir` that are named by a number.
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

/// Turns the error for a process that has ended meanwhile into `None`; one that has ended and waits for its parent is
/// in no namespace, which `mountinfo` calls EINVAL.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) => match Errno::from_io_error(&e) {
            Some(Errno::NOENT | Errno::SRCH | Errno::INVAL) => Ok(None),
            _ => Err(e),
        },
    }
}

/// Describes an overlay as a process with that root directory sees it.
fn overlay(mount: &MountInfo, root: &Path) -> Overlay {
    let data = mount.super_values("datadir+=").next();
    Overlay { source: mount.source.to_string_lossy().into_owned(), data: data.and_then(|path| identity(root, path)) }
}

/// Identifies the directory that a path means for the process; `None` for the name of a descriptor, and for `/`, which is
/// all that is shown of a directory of a mount that is attached nowhere: these mean nothing to us.
fn identity(root: &Path, path: Vec<u8>) -> Option<(u64, u64)> {
    let path = PathBuf::from(OsString::from_vec(path));
    let inside = path.strip_prefix("/").ok().filter(|p| !p.starts_with("proc") && !p.as_os_str().is_empty())?;
    let metadata = std::fs::metadata(root.join(inside)).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_of_an_overlay_is_what_its_process_sees() {
        let dir = tempfile::Builder::new().prefix("a b,").tempdir().unwrap();
        let shown = dir.path().display().to_string().replace(' ', "\\040").replace(',', "\\054");
        let line = format!(
            "45 27 0:40 / /m ro,nodev - overlay composefs:ab ro,lowerdir+=/,datadir+={shown},datadir+=/x,metacopy=on"
        );
        let read = |line: &str| overlay(&mountinfo::parse(line.as_bytes()).unwrap()[0], Path::new("/"));
        let found = read(&line);
        let metadata = dir.path().metadata().unwrap();
        assert_eq!(found, Overlay { source: "composefs:ab".into(), data: Some((metadata.dev(), metadata.ino())) });
        let labelled = line.replace(" ro,lowerdir", " ro,context=\"a:s0:c1,datadir+=/y,c2\",lowerdir");
        assert_eq!(read(&labelled), found);
        for unknown in ["/proc/self/fd/7", "/not/there", "/"] {
            let line = format!("45 27 0:40 / /m ro - overlay composefs:ab ro,datadir+={unknown}");
            assert_eq!(read(&line).data, None);
        }
    }
}
