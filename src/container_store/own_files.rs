//! The places in a store that podman, as root, mounts on, writes into, and has the OCI runtime read: a container's own
//! directory (`overlay-containers/ID/userdata`) and the directories of its layer. podman follows a symlink there: it mounts on
//! a directory of the host, with what the store holds; and where a link is another one for every process
//! (`/proc/self/cwd`), the runtime reads a configuration that podman did not write.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, statat};
use rustix::io::Errno;

use crate::error::{Case, Refusal, Result};
use crate::oci::is_id;
use crate::sys::mountinfo::MountInfo;
use crate::sys::{files, process, times};

/// Why a file that podman never links is not taken.
pub(super) const ANOTHER_NAME: &str =
    "the file has another name (`find -samefile`), by which it can be changed after podman has read it";

/// The files and directories of a store that podman opens when it starts a container, and makes where they are missing: locks,
/// the note about a mount program, and what is removed later. Where a link leads, podman makes an empty file, which may hide
/// another one.
const MADE: [&str; 13] = [
    "storage.lock",
    "userns.lock",
    "overlay-images/images.lock",
    "overlay-layers/layers.lock",
    "overlay-layers/mountpoints.lock",
    "overlay-layers/tmp",
    "overlay-containers/containers.lock",
    "overlay/.has-mount-program",
    "overlay/staging",
    "overlay/tempdirs",
    "secrets/secrets.lock",
    "secrets/filedriver/secretsdata.lock",
    "artifacts/index.lock",
];

/// Where podman writes in a container's own layer.
pub const WRITABLE: [&str; 2] = ["diff", "work"];

/// Checks that a container's own directory, `ROOT/DRIVER-containers/ID/userdata`, and what is in it, are where their
/// names say; there may be none. podman replaces whatever else than a symlink is in the place of a file.
///
/// # Errors
/// [`Case::O15OwnFiles`].
pub fn check_own_files(directory: &Path) -> Result<()> {
    links_in(directory)?.first().map_or(Ok(()), |link| Err(leads_elsewhere(link)))
}

/// Lists the symlinks in a container's own directory; the directory alone if one leads there.
///
/// # Errors
/// [`Case::Io`].
pub fn links_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let opened = match beneath_root(directory, 3, files::open_dir_at) {
        Ok(Some(opened)) => opened,
        Ok(None) => return Ok(Vec::new()),
        Err(refusal) if refusal.case() == Case::O15OwnFiles => return Ok(vec![directory.to_owned()]),
        Err(refusal) => return Err(refusal),
    };
    let failed = |e: Errno| Refusal::io(directory.display().to_string(), e);
    let mut links = Vec::new();
    for entry in Dir::read_from(&opened).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        let kind = match entry.file_type() {
            FileType::Unknown => kind_of(&opened, name).map_err(failed)?,
            known => known,
        };
        if kind == FileType::Symlink {
            links.push(directory.join(OsStr::from_bytes(name)));
        }
    }
    Ok(links)
}

/// Checks that what podman makes in a graph root, a run root or an image store is where its name says; the root itself may be
/// a link of the administrator's, or missing.
///
/// # Errors
/// [`Case::O15OwnFiles`].
pub fn check_made(root: &Path) -> Result<()> {
    made_links(root)?.first().map_or(Ok(()), |link| Err(leads_elsewhere(link)))
}

/// Lists the symlinks there.
///
/// # Errors
/// [`Case::Io`].
pub fn made_links(root: &Path) -> Result<Vec<PathBuf>> {
    let opened = match files::open_dir(root) {
        Ok(opened) => opened,
        Err(e) if files::no_file(&e).is_some() => return Ok(Vec::new()),
        Err(e) => return Err(Refusal::io(root.display().to_string(), e)),
    };
    let mut links = Vec::new();
    for name in MADE {
        match kind_of(&opened, name.as_bytes()) {
            Ok(FileType::Symlink) => links.push(root.join(name)),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(e) => return Err(Refusal::io(root.join(name).display().to_string(), e)),
        }
    }
    Ok(links)
}

/// Checks that the place on which podman mounts a layer, `ROOT/overlay/ID/merged`, is there and nowhere else; it may be
/// missing.
///
/// # Errors
/// [`Case::O15OwnFiles`].
pub fn check_merged(merged: &Path) -> Result<()> {
    beneath_root(merged, 3, files::open_path_at).map(|_| ())
}

/// Checks the same of all directories of a layer that is a container's own: what podman mounts on, and what it writes into.
///
/// # Errors
/// [`Case::O15OwnFiles`].
pub fn check_layer(layer: &Path) -> Result<()> {
    WRITABLE.into_iter().chain(["merged"]).try_for_each(|name| check_merged(&layer.join(name)))
}

/// Checks that a volume of the store, `ROOT/volumes/NAME/_data`, is where its name says: a link may lead somewhere else by the
/// time that anybody looks, if a container can change what it leads through. It may be missing.
///
/// # Errors
/// [`Case::O15OwnFiles`].
pub fn check_volume(volume: &Path) -> Result<()> {
    beneath_root(volume, 2, files::open_path_at).map(|_| ())
}

/// Opens a directory of a store that is this many names beneath its root, through no symlink after that; `None` if it is
/// not there.
fn beneath_root<'a>(
    path: &'a Path,
    depth: usize,
    open: impl Fn(OwnedFd, &'a Path) -> std::io::Result<OwnedFd>,
) -> Result<Option<OwnedFd>> {
    let root = path.ancestors().nth(depth).unwrap_or(Path::new("/"));
    let name = path.strip_prefix(root).unwrap_or(path);
    match files::open_dir(root).and_then(|root| open(root, name)) {
        Ok(opened) => Ok(Some(opened)),
        Err(e) => match Errno::from_io_error(&e) {
            Some(Errno::NOENT) => Ok(None),
            Some(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => Err(leads_elsewhere(path)),
            _ => Err(Refusal::io(path.display().to_string(), e)),
        },
    }
}

/// Checks that a file which podman replaces as a whole, and never links, has no other name: a container could write it by
/// that, in a volume of its own, after podman has read it.
///
/// # Errors
/// [`Case::B09Replaced`].
pub(super) fn check_only_name(file: &Metadata, shown: impl Fn() -> String) -> Result<()> {
    match file.nlink() {
        0 | 1 => Ok(()),
        _ => Err(Refusal::new(Case::B09Replaced, shown(), ANOTHER_NAME)),
    }
}

/// Checks that each file in a directory is either older than `since` (nanoseconds since 1970) and as it was then, or newer.
/// Whoever writes the disk writes a time of birth too: one that is still to come, or that this file alone lacks, makes it no
/// newer. On a filesystem that keeps none nothing can be told.
///
/// # Errors
/// [`Case::B09Replaced`], [`Case::Io`].
pub(super) fn check_unchanged(directory: &Path, since: i128) -> Result<()> {
    let failed = |e: std::io::Error| Refusal::io(directory.display().to_string(), e);
    let opened = files::open_dir(directory).map_err(failed)?;
    let keeps_births = times::birth(&opened).map_err(failed)?.is_some();
    for name in files::names(&opened).map_err(failed)? {
        let file = match files::open_file_at(&opened, &name) {
            Ok(file) => file,
            Err(e) if files::no_file(&e).is_some() => continue,
            Err(e) => return Err(failed(e)),
        };
        let born = times::birth(&file).map_err(failed)?;
        // Asked for afterwards: podman may replace the file now.
        if is_old(born, since, process::now_nanoseconds(), keeps_births)
            && times::changed(&file).map_err(failed)? >= since
        {
            let why = "it was changed after the container had been made from it";
            return Err(Refusal::new(Case::B09Replaced, directory.join(name).display().to_string(), why));
        }
    }
    Ok(())
}

fn is_old(born: Option<i128>, since: i128, now: i128, keeps_births: bool) -> bool {
    born.map_or(keeps_births, |born| born < since || born > now)
}

fn kind_of(directory: impl AsFd, name: &[u8]) -> rustix::io::Result<FileType> {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode))
}

fn leads_elsewhere(path: &Path) -> Refusal {
    Refusal::new(Case::O15OwnFiles, path.display().to_string(), "a symlink is there, and podman follows it")
}

/// Returns whether a container engine made this mount of what its store holds: of layers, or a container's shared memory.
/// With fuse-overlayfs the kernel does not say what is shown.
pub fn is_of_engine(mount: &MountInfo) -> bool {
    const KEYS: [&str; 3] = ["lowerdir=", "lowerdir+=", "upperdir="];
    let is_layer = |path: &[u8]| {
        let path = PathBuf::from(OsStr::from_bytes(path));
        let mut last = path.components().rev().map(|part| match part {
            Component::Normal(name) => name.as_bytes(),
            _ => b"",
        });
        match (last.next(), last.next()) {
            (Some(name), Some(id)) if is_id(id) => name.starts_with(b"diff") || name == b"empty",
            (Some(_), Some(b"l")) => true,
            _ => false,
        }
    };
    let of_layers = || {
        let values = KEYS.iter().flat_map(|key| mount.super_values(key));
        values.into_iter().any(|value| value.split(|b| *b == b':').any(is_layer))
    };
    match mount.kind.as_bytes() {
        b"overlay" => of_layers(),
        b"tmpfs" => mount.source == "shm",
        _ => mount.is_fuse_overlayfs(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_old;

    #[test]
    fn b09_a_birth_that_cannot_be_makes_no_document_newer() {
        let (since, now) = (10, 20);
        for (born, keeps_births, expected) in [
            (Some(9), true, true),
            (Some(10), true, false),
            (Some(20), true, false),
            (Some(21), true, true),
            (None, true, true),
            (None, false, false),
        ] {
            assert_eq!(is_old(born, since, now, keeps_births), expected, "{born:?} {keeps_births}");
        }
    }
}
