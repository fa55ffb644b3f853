//! What podman has read of a container before its root was verified: users and groups, which it resolves and
//! copies, the hosts that it begins with, and what it fills new volumes with. The same paths are read from
//! podman's overlay and, after the swap, from the verified one; the upper directory is the same in both, so a
//! difference is the layers'.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use openssl::sha::Sha256;
use rustix::fs::{AtFlags, FileType, SeekFrom, Stat, fstat, seek, statat};
use rustix::io::{Errno, pread};

use crate::invoke::Mount;
use crate::report::{Case, Refusal, Result};
use crate::sys::files::{self, Within};

/// podman takes users, groups and homes from the first two (containers/common, pkg/lookup and its own
/// getPasswd), and with `base_hosts_file = "image"` the container's hosts from the third.
const READ: [&str; 3] = ["/etc/passwd", "/etc/group", "/etc/hosts"];

/// Entries beneath one volume: what is larger than this is no content of an image's directory for data.
const MAX_ENTRIES: usize = 1_000_000;

/// Bytes of content of one of [`READ`]: podman and libc read them line by line.
const MAX_READ: u64 = 16 << 20;

/// Bytes beneath one volume, without holes: nobody has verified yet how large a file may be that is compared.
const MAX_CONTENT: u64 = 16 << 30;

/// What is read at once.
const BLOCK: usize = 64 << 10;

/// What is at one path, and the links on the way there: podman follows some of them out of the root.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    links: Vec<(PathBuf, Vec<u8>)>,
    found: Found,
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// An empty directory, root's and 0755: a volume that is filled from it is as one for which there is none.
    Plain,
    Is([u8; 32]),
}

/// Each path with what is there.
#[derive(Debug)]
pub(super) struct Seen(Vec<(PathBuf, Place)>);

impl Seen {
    /// Reads what is on `root` now: users, groups, hosts and the places of these mounts, whatever it is that is
    /// mounted there. Only what shows no directory cannot have been filled (libpod, `mountNamedVolume`).
    pub(super) fn of(root: &Path, mounts: &[Mount]) -> Result<Self> {
        let shown = root.display().to_string();
        let root = Within::open(root).map_err(|e| Refusal::io(shown, e))?;
        let mut all = Vec::new();
        for path in READ.map(Path::new) {
            all.push((path.to_owned(), place(&root, path, read).map_err(|e| io(path, e))?));
        }
        for mount in mounts.iter().filter(|m| may_be_filled(m)) {
            let path = &mount.destination;
            all.push((path.clone(), place(&root, path, look).map_err(|e| io(path, e))?));
        }
        Ok(Self(all))
    }

    /// # Errors
    /// [`Case::O09Tampered`], naming the first path that is not the same.
    pub(super) fn same_as(&self, verified: &Self) -> Result<()> {
        let same = |(path, one): &(PathBuf, Place), (other, verified): &(PathBuf, Place)| {
            let as_none = one.found == Found::Plain && verified.found == Found::Nothing;
            path == other && one.links == verified.links && (one.found == verified.found || as_none)
        };
        match self.0.iter().zip(&verified.0).find(|(a, b)| !same(a, b)) {
            Some(((path, _), _)) => Err(Refusal::new(Case::O09Tampered, path.display().to_string(), "")),
            None => Ok(()),
        }
    }
}

/// Whether the mount can be of a volume that was filled: those are directories.
pub(super) fn may_be_filled(mount: &Mount) -> bool {
    let is_other = |source: &PathBuf| std::fs::metadata(source).is_ok_and(|found| !found.is_dir());
    mount.sources.is_empty() || !mount.sources.iter().all(is_other)
}

fn io(path: &Path, e: std::io::Error) -> Refusal {
    if e.kind() == std::io::ErrorKind::FileTooLarge {
        return Refusal::new(Case::O09Tampered, path.display().to_string(), e);
    }
    Refusal::io(path.display().to_string(), e)
}

/// Of more than is compared: what an image's directory for data does not hold.
fn too_large(why: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::FileTooLarge, why)
}

fn is_missing(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn place(root: &Within, path: &Path, see: fn(&Within, &Path) -> std::io::Result<Found>) -> std::io::Result<Place> {
    let mut links = Vec::new();
    for above in path.ancestors().skip(1).filter(|above| above.file_name().is_some()) {
        match root.last(above) {
            Ok(file) if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::Symlink => {
                links.push((above.to_owned(), rustix::fs::readlinkat(&file, "", Vec::new())?.into_bytes()));
            }
            Ok(_) => {}
            Err(e) if is_missing(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(Place { links, found: see(root, path)? })
}

/// What podman only reads.
fn read(root: &Within, path: &Path) -> std::io::Result<Found> {
    let mut tree = Tree::default();
    match root.any(path) {
        Ok(there) if FileType::from_raw_mode(fstat(&there)?.st_mode) == FileType::RegularFile => {
            tree.content(&root.read(path)?, MAX_READ)?;
        }
        Ok(_) => tree.hash.update(b"no file"),
        Err(e) if is_missing(&e) => return Ok(Found::Nothing),
        Err(e) => return Err(e),
    }
    Ok(Found::Is(tree.hash.finish()))
}

/// podman takes the metadata of the name, and the content of what it leads to: within the root.
fn look(root: &Within, path: &Path) -> std::io::Result<Found> {
    let last = match root.last(path) {
        Ok(last) => last,
        Err(e) if is_missing(&e) => return Ok(Found::Nothing),
        Err(e) => return Err(e),
    };
    let mut tree = Tree::default();
    tree.stat(&fstat(&last)?);
    match root.any(path) {
        Ok(there) => {
            let stat = fstat(&there)?;
            tree.stat(&stat);
            let plain = (stat.st_mode, stat.st_uid, stat.st_gid) == (0o40755, 0, 0);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let dir = root.read(path)?;
                    let attributes = tree.attributes(&dir)?;
                    if plain && attributes == 0 && files::is_empty(&dir)? {
                        return Ok(Found::Plain);
                    }
                    tree.all(dir.into())?;
                }
                FileType::RegularFile => tree.file(root.read(path)?)?,
                _ => {}
            }
        }
        Err(e) if is_missing(&e) => tree.hash.update(b"nothing"),
        Err(e) => return Err(e),
    }
    Ok(Found::Is(tree.hash.finish()))
}

/// Everything that buildah's copier takes along (buildah, copier/copier.go and xattrs.go: the same in podman 4.3,
/// 5.4 and 5.8) and what podman does to the volume itself (libpod, `fixVolumePermissions`). Without the times of
/// directories: those that a layer only implies are made when it is unpacked.
#[derive(Default)]
struct Tree {
    hash: Sha256,
    /// Files by device and inode: under which number each was met first.
    links: HashMap<(u64, u64), usize>,
    count: usize,
    /// Bytes that were read.
    bytes: u64,
}

/// Reads until the buffer is full or the file ends.
fn read_block(file: impl AsFd, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match pread(&file, &mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(filled)
}

impl Tree {
    fn stat(&mut self, stat: &Stat) {
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let (size, time) = if directory { (0, 0) } else { (stat.st_size, stat.st_mtime) };
        let text = format!("\0{:o} {} {} {} {size} {time}\0", stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
        self.hash.update(text.as_bytes());
    }

    /// Those that the copier sets on what it makes; how many there are.
    fn attributes(&mut self, file: &impl AsFd) -> std::io::Result<usize> {
        let copied =
            |name: &[u8]| name.starts_with(b"user.") || matches!(name, b"security.capability" | b"security.ima");
        let found: Vec<_> = files::xattrs(file)?.into_iter().filter(|(name, _)| copied(name)).collect();
        for (name, value) in &found {
            self.hash.update(name);
            self.hash.update(format!("\0{}\0", value.len()).as_bytes());
            self.hash.update(value);
        }
        Ok(found.len())
    }

    fn file(&mut self, file: File) -> std::io::Result<()> {
        self.attributes(&file)?;
        self.content(&file, MAX_CONTENT)
    }

    /// The size, and each block that holds more than zeros: a hole is not read, and may be none in the other tree. No
    /// more than `max` bytes of all files.
    fn content(&mut self, file: &File, max: u64) -> std::io::Result<()> {
        let mut buffer = vec![0; BLOCK];
        let mut at = 0;
        loop {
            match seek(file, SeekFrom::Data(at)) {
                // The same blocks wherever data begins.
                Ok(data) => at = data - data % BLOCK as u64,
                Err(Errno::NXIO) => break,
                // A filesystem that knows no holes.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
                Err(e) => return Err(e.into()),
            }
            let read = read_block(file, &mut buffer, at)?;
            if read == 0 {
                break;
            }
            self.bytes += read as u64;
            if self.bytes > max {
                return Err(too_large(format!("more than {max} bytes, before anything was verified")));
            }
            if buffer[..read].iter().any(|byte| *byte != 0) {
                self.hash.update(&at.to_le_bytes());
                self.hash.update(&buffer[..read]);
            }
            at += read as u64;
        }
        self.hash.update(format!("\0{}\0", fstat(file)?.st_size).as_bytes());
        Ok(())
    }

    /// Everything beneath a directory, in the order of the names.
    fn all(&mut self, top: OwnedFd) -> std::io::Result<()> {
        let mut todo = vec![PathBuf::from(".")];
        while let Some(path) = todo.pop() {
            let dir = files::open_dir_at(&top, &path)?;
            for name in files::names(&dir)? {
                self.count += 1;
                if self.count > MAX_ENTRIES {
                    return Err(too_large(format!("more than {MAX_ENTRIES} entries")));
                }
                let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                let place = path.join(&name);
                self.hash.update(place.as_os_str().as_bytes());
                self.stat(&stat);
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => {
                        self.attributes(&files::open_dir_at(&dir, &name)?)?;
                        todo.push(place);
                        continue;
                    }
                    FileType::Symlink => self.hash.update(rustix::fs::readlinkat(&dir, &name, Vec::new())?.as_bytes()),
                    FileType::RegularFile => self.file(files::open_file_at(&dir, &name)?)?,
                    _ => {}
                }
                // Names that are covered count for podman's overlay, so it is not their number.
                match self.links.entry((stat.st_dev, stat.st_ino)) {
                    Entry::Occupied(first) => self.hash.update(format!("\0{}\0", first.get()).as_bytes()),
                    Entry::Vacant(new) => {
                        new.insert(self.count);
                    }
                }
            }
        }
        Ok(())
    }
}
