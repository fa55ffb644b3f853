//! A directory tree on a filesystem, read as the entries of one layer: to compare it with what a seal says. Nothing is
//! mounted from it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use composefs::INLINE_CONTENT_MAX_V0;
use composefs::generic_tree::{Stat, is_allowed_container_xattr};
use rustix::fs::{AtFlags, Dir, FileType, fgetxattr, flistxattr, readlinkat, statat};

use crate::digest::{Algorithm, VerityDigest, VerityHasher, verity_digest};
use crate::error::{Case, Refusal, Result};
use crate::image::{EntryKind, TarEntry, Writer};
use crate::oci::Budget;
use crate::sys::{files, workers};

/// Files up to this size are read as a whole: hashing is fastest when it gets several blocks at once.
const WHOLE: usize = 1 << 20;

/// Computes the fs-verity digest of the EROFS image that the tree at `path` makes: the merged image of a container
/// image that unpacks to it.
///
/// # Errors
/// H03–H12: what cannot be sealed; [`Case::Io`].
pub fn digest_of_directory(path: &Path, algorithm: Algorithm, budget: &Budget) -> Result<VerityDigest> {
    let root = files::open_dir(path).map_err(|e| Refusal::io(path.display().to_string(), e))?;
    let tree = DirectoryWalk { path, root, algorithm, budget };
    let mut found = tree.walk()?;
    // A directory precedes its contents, and the first name of a file its other names.
    found.sort_unstable_by(|a, b| a.entry.path.cmp(&b.entry.path));
    let entries = link(found);
    Ok(verity_digest(algorithm, &Writer::merged(algorithm, [entries])?))
}

/// Turns all but the first name of a file with several names into links to that.
fn link(found: Vec<DirectoryEntry>) -> Vec<TarEntry> {
    let mut first: HashMap<(u64, u64), Box<[u8]>> = HashMap::new();
    let link = |DirectoryEntry { mut entry, links }: DirectoryEntry| {
        if let Some(inode) = links {
            match first.get(&inode) {
                Some(target) => entry.kind = EntryKind::Hardlink(target.clone()),
                None => _ = first.insert(inode, entry.path.clone()),
            }
        }
        entry
    };
    found.into_iter().map(link).collect()
}

struct DirectoryEntry {
    entry: TarEntry,
    /// Device and inode of a file that has several names.
    links: Option<(u64, u64)>,
}

struct DirectoryWalk<'a> {
    /// Where it is, for messages.
    path: &'a Path,
    root: OwnedFd,
    algorithm: Algorithm,
    budget: &'a Budget,
}

impl DirectoryWalk<'_> {
    fn walk(&self) -> Result<Vec<DirectoryEntry>> {
        let stat = rustix::fs::fstat(&self.root).map_err(|e| self.io(b"", e))?;
        let root = TarEntry {
            path: Box::default(),
            kind: EntryKind::Directory,
            stat: self.stat(&stat, &self.root, b"", &mut vec![0; WHOLE])?,
            beyond: None,
        };
        let mut all = vec![DirectoryEntry { entry: root, links: None }];
        let count = AtomicUsize::new(0);
        // Directories by their paths, since descriptors would run out; those of one depth at once.
        let mut depth: Vec<Box<[u8]>> = vec![Box::default()];
        while !depth.is_empty() {
            let read = |buffer: &mut Vec<u8>, number: usize| {
                let entries = self.directory(&depth[number], buffer)?;
                if count.fetch_add(entries.len(), Ordering::Relaxed) + entries.len() > self.budget.entries {
                    let why = format!("more than {} entries", self.budget.entries);
                    return Err(Refusal::new(Case::H07Budget, "directory", why));
                }
                Ok(entries)
            };
            let found = workers::each(workers::processors(), depth.len(), || vec![0; WHOLE], read)?;
            let first = all.len();
            all.extend(found.into_iter().flatten());
            let below = all[first..].iter().filter(|f| matches!(f.entry.kind, EntryKind::Directory));
            depth = below.map(|f| f.entry.path.clone()).collect();
        }
        Ok(all)
    }

    /// Reads what is in one directory.
    fn directory(&self, path: &[u8], buffer: &mut [u8]) -> Result<Vec<DirectoryEntry>> {
        let mut found = Vec::new();
        let open = |path| files::open_dir_at(&self.root, OsStr::from_bytes(path));
        let dir = if path.is_empty() { self.root.try_clone() } else { open(path) };
        let dir = dir.map_err(|e| Refusal::io(self.name(path), e))?;
        for name in Dir::read_from(&dir).map_err(|e| self.io(path, e))? {
            let entry = name.map_err(|e| self.io(path, e))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = if path.is_empty() { name.into() } else { [path, b"/", name].concat().into_boxed_slice() };
            let name = OsStr::from_bytes(name);
            found.push(match entry.file_type() {
                FileType::RegularFile => self.file(&dir, name, path, buffer)?,
                _ => self.other(&dir, name, path, buffer)?,
            });
        }
        Ok(found)
    }

    fn file(&self, dir: &OwnedFd, name: &OsStr, path: Box<[u8]>, buffer: &mut [u8]) -> Result<DirectoryEntry> {
        let file = files::open_file_at(dir, name).map_err(|e| Refusal::io(self.name(&path), e))?;
        let stat = rustix::fs::fstat(&file).map_err(|e| self.io(&path, e))?;
        let attributes = self.stat(&stat, &file, &path, buffer)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let kind = self.content(file, size, buffer).map_err(|e| Refusal::io(self.name(&path), e))?;
        let links = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
        Ok(DirectoryEntry { entry: TarEntry { path, kind, stat: attributes, beyond: None }, links })
    }

    /// Reads an entry that is not a regular file.
    fn other(&self, dir: &OwnedFd, name: &OsStr, path: Box<[u8]>, buffer: &mut [u8]) -> Result<DirectoryEntry> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| self.io(&path, e))?;
        let mut attributes = plain(&stat);
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let sub = files::open_dir_at(dir, name).map_err(|e| Refusal::io(self.name(&path), e))?;
                attributes = self.stat(&stat, &sub, &path, buffer)?;
                EntryKind::Directory
            }
            FileType::Symlink => EntryKind::Symlink(
                readlinkat(dir, name, Vec::new()).map_err(|e| self.io(&path, e))?.into_bytes().into(),
            ),
            FileType::CharacterDevice => EntryKind::CharacterDevice(stat.st_rdev),
            FileType::BlockDevice => EntryKind::BlockDevice(stat.st_rdev),
            FileType::Fifo => EntryKind::Fifo,
            _ => {
                return Err(Refusal::new(Case::H06Entry, self.name(&path), "no image holds a socket: remove it"));
            }
        };
        let links = (stat.st_nlink > 1 && !matches!(kind, EntryKind::Directory)).then_some((stat.st_dev, stat.st_ino));
        Ok(DirectoryEntry { entry: TarEntry { path, kind, stat: attributes, beyond: None }, links })
    }

    /// Reads `size` bytes, or to the end of a file that has become shorter.
    fn content(&self, file: File, size: u64, buffer: &mut [u8]) -> std::io::Result<EntryKind> {
        let mut hasher = VerityHasher::new(self.algorithm);
        let mut file = file.take(size);
        let mut done = 0;
        loop {
            let mut filled = 0;
            while filled < buffer.len() && file.limit() > 0 {
                match file.read(&mut buffer[filled..])? {
                    0 => break,
                    n => filled += n,
                }
            }
            let (piece, whole) = (&buffer[..filled], done == 0 && filled < buffer.len());
            if whole && filled <= INLINE_CONTENT_MAX_V0 {
                return Ok(EntryKind::Inline(piece.into()));
            }
            if whole {
                return Ok(EntryKind::External(verity_digest(self.algorithm, piece), filled as u64));
            }
            hasher.update(piece);
            done += filled as u64;
            if filled < buffer.len() {
                return Ok(EntryKind::External(hasher.finish(), done));
            }
        }
    }

    /// Reads the metadata, with the extended attributes that a seal covers. `names` has room for a list of any length
    /// (`XATTR_LIST_MAX`).
    fn stat(&self, stat: &rustix::fs::Stat, file: impl AsFd, path: &[u8], names: &mut [u8]) -> Result<Stat> {
        let mut found = plain(stat);
        let length = match flistxattr(&file, &mut *names) {
            Err(rustix::io::Errno::OPNOTSUPP) => 0,
            other => other.map_err(|e| self.io(path, e))?,
        };
        let covered = |name: &&[u8]| is_allowed_container_xattr(OsStr::from_bytes(name));
        for name in names[..length].split(|b| *b == 0).filter(covered) {
            let mut value = vec![0; 1 << 16];
            let length = fgetxattr(&file, name, value.as_mut_slice()).map_err(|e| self.io(path, e))?;
            value.truncate(length);
            found.xattrs.insert(OsStr::from_bytes(name).into(), value.into());
        }
        Ok(found)
    }

    fn name(&self, path: &[u8]) -> String {
        self.path.join(OsStr::from_bytes(path)).display().to_string()
    }

    fn io(&self, path: &[u8], e: rustix::io::Errno) -> Refusal {
        Refusal::io(self.name(path), std::io::Error::from(e))
    }
}

fn plain(stat: &rustix::fs::Stat) -> Stat {
    Stat {
        st_mode: stat.st_mode & 0o7777,
        st_uid: stat.st_uid,
        st_gid: stat.st_gid,
        st_mtim_sec: stat.st_mtime,
        st_mtim_nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        xattrs: Default::default(),
    }
}
