//! What podman has read of a container before its root was verified: users and groups, which it resolves and
//! copies, and what it fills new volumes with. The same paths are read from podman's overlay and, after the
//! swap, from the verified one; the upper directory is the same in both, so a difference is the layers'.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use openssl::sha::Sha256;
use rustix::fs::{AtFlags, Dir, FileType, statat};

use crate::report::{Case, Refusal, Result};
use crate::sys::files::{self, Within};

/// podman takes users, groups and homes from these (containers/common, pkg/lookup and its own getPasswd).
const READ: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// Entries beneath one volume: what is larger than this is no content of an image's directory for data.
const MAX_ENTRIES: usize = 1_000_000;

/// Each path with the digest of what is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen(Vec<(PathBuf, [u8; 32])>);

impl Seen {
    /// Reads what is on `root` now: users, groups and the places of these volumes.
    pub(super) fn of(root: &Path, volumes: &[(PathBuf, PathBuf)]) -> Result<Self> {
        let places = volumes.iter().map(|(_, place)| place.clone());
        let paths = READ.iter().map(PathBuf::from).chain(places);
        let root = Within::open(root).map_err(|e| Refusal::io(root.display().to_string(), e))?;
        paths.map(|path| Ok((path.clone(), digest(&root, &path)?))).collect::<Result<_>>().map(Self)
    }

    /// # Errors
    /// [`Case::O09Tampered`], naming the first path that is not the same.
    pub(super) fn same_as(&self, verified: &Self) -> Result<()> {
        match self.0.iter().zip(&verified.0).find(|(a, b)| a != b) {
            Some(((path, _), _)) => Err(Refusal::new(Case::O09Tampered, path.display().to_string(), "")),
            None => Ok(()),
        }
    }
}

fn digest(root: &Within, path: &Path) -> Result<[u8; 32]> {
    let io = |e: &dyn std::fmt::Display| Refusal::io(path.display().to_string(), e);
    let mut hash = Sha256::new();
    // Links lead where they lead for podman: within the root.
    match root.any(path) {
        Ok(file) => {
            let stat = rustix::fs::fstat(&file).map_err(|e| io(&e))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => tree(&mut hash, file.into()).map_err(|e| io(&e))?,
                FileType::RegularFile => content(&mut hash, file).map_err(|e| io(&e))?,
                _ => hash.update(b"special"),
            }
        }
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            hash.update(b"nothing");
        }
        Err(e) => return Err(io(&e)),
    }
    Ok(hash.finish())
}

fn content(hash: &mut Sha256, mut file: File) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Everything beneath a directory, in the order of the names: kind, mode, owner, target, size, content.
fn tree(hash: &mut Sha256, top: OwnedFd) -> std::io::Result<()> {
    let mut todo = vec![PathBuf::from(".")];
    let mut count = 0;
    while let Some(path) = todo.pop() {
        let dir = files::open_dir_at(&top, &path)?;
        let mut names: Vec<OsString> = Vec::new();
        for entry in Dir::read_from(&dir)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        names.sort();
        for name in names {
            count += 1;
            if count > MAX_ENTRIES {
                return Err(std::io::Error::other(format!("more than {MAX_ENTRIES} entries")));
            }
            let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let size = if kind == FileType::Directory { 0 } else { stat.st_size };
            let place = path.join(&name);
            hash.update(place.as_os_str().as_bytes());
            hash.update(
                format!("\0{:o} {} {} {} {}\0", stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev, size).as_bytes(),
            );
            match kind {
                FileType::Directory => todo.push(place),
                FileType::Symlink => hash.update(rustix::fs::readlinkat(&dir, &name, Vec::new())?.as_bytes()),
                FileType::RegularFile => content(hash, files::open_file_at(&dir, &name)?)?,
                _ => {}
            }
        }
    }
    Ok(())
}
