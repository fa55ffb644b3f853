//! What podman has read from a container before its root was verified: users and groups, which it resolves and copies,
//! the hosts that it begins with, and what it fills new volumes with. The same paths are read from podman's overlay
//! and, after the swap, from the verified one; the upper directory is the same in both, so any difference comes from
//! the layers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, SeekFrom, Stat, fstat, seek, statat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::changed::ReadSince;
use super::copied_users::USERS;
use super::copies::{copied_attributes, read_block};
use crate::error::{Case, Refusal, Result};
use crate::protocol::BindMount;
use crate::sys::files;
use crate::sys::rooted_dir::RootedDir;

/// podman takes users, groups and homes from the first two (containers/common, pkg/lookup and its own
/// getPasswd), and with `base_hosts_file = "image"` the container's hosts from the third.
const READ: [&str; 3] = [USERS[0], USERS[1], "/etc/hosts"];

/// Where podman mounts empty filesystems in any container, and beneath which.
const USUAL: [&str; 5] = ["/run", "/run/lock", "/tmp", "/var/log/journal", "/var/tmp"];
const BENEATH: [&str; 3] = ["/dev", "/proc", "/sys"];

/// How many entries beneath one volume are read: an image's data directory does not hold more than this.
const MAX_ENTRIES: usize = 1_000_000;

/// How many entries of a whole root are read.
const MAX_ALL: usize = 10_000_000;

/// How many bytes of one of [`READ`] are read: podman and libc read them line by line.
const MAX_READ: u64 = 16 << 20;

/// How many bytes beneath one volume are read, without holes: nobody has verified yet how large a file may be.
const MAX_CONTENT: u64 = 16 << 30;

/// How many bytes are read at once.
const BLOCK: usize = 64 << 10;

/// What is at one path, and the links on the way there, or where they lead: podman follows some of these out of the root.
#[derive(Debug, PartialEq, Eq)]
struct PathState {
    links: Vec<(PathBuf, Vec<u8>)>,
    found: PathContent,
}

#[derive(Debug, PartialEq, Eq)]
enum PathContent {
    Nothing,
    /// An empty directory, root's and 0755: a volume that is filled from it is the same as if there were none.
    Plain,
    Is([u8; 32]),
    /// Something was changed while podman read it.
    Changed,
}

/// Each path with what is there.
#[derive(Debug)]
pub(super) struct Snapshot(Vec<(PathBuf, PathState)>);

impl Snapshot {
    /// Reads what is on `root` now: users, groups, hosts and the places of these mounts, whatever is mounted there.
    /// Only a mount that is not a directory cannot have been filled (libpod, `mountNamedVolume`). podman follows the root's
    /// links to the place of a tmpfs, and names only where they lead: if something is hidden there, all links count, and in
    /// any case those on the way to the usual places.
    pub(super) fn of(root: &Path, mounts: &[BindMount], tmpfs: &[PathBuf], since: &ReadSince) -> Result<Self> {
        let shown = root.display().to_string();
        let root = RootedDir::open(root).map_err(|e| Refusal::io(shown, e))?;
        let mut all = Vec::new();
        for path in READ.map(Path::new) {
            all.push((
                path.to_owned(),
                place(&root, path, |root, path| read(root, path, since)).map_err(|e| io(path, e))?,
            ));
        }
        for mount in mounts.iter().filter(|m| may_be_filled(m)) {
            let path = &mount.destination;
            all.push((
                path.clone(),
                place(&root, path, |root, path| look(root, path, since)).map_err(|e| io(path, e))?,
            ));
        }
        // Every container has some beneath /dev.
        let is_any = tmpfs.iter().any(|path| !is_beneath(path));
        for path in USUAL.iter().chain(&BENEATH).filter(|_| is_any) {
            all.push((PathBuf::from(path), leads(&root, path)));
        }
        for path in tmpfs.iter().filter(|path| !is_usual(path)) {
            let see = if hides(&root, path).map_err(|e| io(path, e))? { links } else { nothing };
            all.push((path.clone(), place(&root, path, see).map_err(|e| io(path, e))?));
        }
        Ok(Self(all))
    }

    /// Checks that the verified root shows the same.
    ///
    /// # Errors
    /// [`Case::O09Tampered`], naming the first path that is not the same.
    pub(super) fn same_as(&self, verified: &Self) -> Result<()> {
        let same = |(path, one): &(PathBuf, PathState), (other, verified): &(PathBuf, PathState)| {
            let as_none = one.found == PathContent::Plain && verified.found == PathContent::Nothing;
            path == other && one.links == verified.links && (one.found == verified.found || as_none)
        };
        match self.0.iter().zip(&verified.0).find(|(a, b)| !same(a, b)) {
            Some(((path, state), _)) => {
                let why = if state.found == PathContent::Changed { "it was changed while podman read it" } else { "" };
                Err(Refusal::new(Case::O09Tampered, path.display().to_string(), why))
            }
            None => Ok(()),
        }
    }
}

/// Returns whether an empty filesystem on `path` hides nothing of an image that matters, whoever chose that place.
fn is_usual(path: &Path) -> bool {
    is_beneath(path) || USUAL.iter().any(|usual| path == Path::new(usual))
}

/// Returns whether the path is in one of the kernel's directories.
fn is_beneath(path: &Path) -> bool {
    BENEATH.iter().any(|above| path.starts_with(above))
}

/// Returns whether the mount may be of a volume that was filled: such a volume is a directory.
pub(super) fn may_be_filled(mount: &BindMount) -> bool {
    let is_other = |source: &PathBuf| std::fs::metadata(source).is_ok_and(|found| !found.is_dir());
    mount.sources.is_empty() || !mount.sources.iter().all(is_other)
}

fn io(path: &Path, e: std::io::Error) -> Refusal {
    if e.kind() == std::io::ErrorKind::FileTooLarge {
        return Refusal::new(Case::O09Tampered, path.display().to_string(), e);
    }
    Refusal::io(path.display().to_string(), e)
}

/// Makes the error for more content than is compared: an image's data directory does not hold as much.
fn too_large(why: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::FileTooLarge, why)
}

fn is_missing(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn place(
    root: &RootedDir,
    path: &Path,
    see: impl Fn(&RootedDir, &Path) -> std::io::Result<PathContent>,
) -> std::io::Result<PathState> {
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
    Ok(PathState { links, found: see(root, path)? })
}

/// Finds where a path leads in the root.
fn leads(root: &RootedDir, path: &str) -> PathState {
    let there = root.real_paths([path].into_iter());
    let links =
        there.into_iter().map(|real| (PathBuf::from(path), real.into_os_string().into_encoded_bytes())).collect();
    PathState { links, found: PathContent::Nothing }
}

/// Reads a file that is only read, or copied with its owner and its mode.
fn read(root: &RootedDir, path: &Path, since: &ReadSince) -> std::io::Result<PathContent> {
    let mut tree = TreeHash::new(since);
    match root.any(path) {
        Ok(there) if FileType::from_raw_mode(fstat(&there)?.st_mode) == FileType::RegularFile => {
            let file = root.read(path)?;
            let stat = fstat(&file)?;
            tree.notice(&file, OsStr::new(""), &stat)?;
            if USERS.iter().any(|users| path == Path::new(users)) {
                tree.hash.update(format!("\0{:o} {} {}\0", stat.st_mode, stat.st_uid, stat.st_gid).as_bytes());
                tree.attributes(&file)?;
            }
            tree.content(&file, MAX_READ)?;
        }
        Ok(_) => tree.hash.update(b"no file"),
        Err(e) if is_missing(&e) => return Ok(PathContent::Nothing),
        Err(e) => return Err(e),
    }
    Ok(tree.found())
}

/// Returns whether the root has anything in the directory `path`.
fn hides(root: &RootedDir, path: &Path) -> std::io::Result<bool> {
    match root.dir(path).and_then(|_| root.read(path)) {
        Ok(dir) => Ok(!files::is_empty(OwnedFd::from(dir))?),
        Err(e) if is_missing(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

fn nothing(_: &RootedDir, _: &Path) -> std::io::Result<PathContent> {
    Ok(PathContent::Nothing)
}

/// Reads all links of the root, and where they lead.
fn links(root: &RootedDir, _: &Path) -> std::io::Result<PathContent> {
    let top = OwnedFd::from(root.read(Path::new("/"))?);
    let (mut todo, mut count, mut hash) = (vec![PathBuf::from(".")], 0, Sha256::default());
    while let Some(path) = todo.pop() {
        let dir = files::open_dir_at(&top, &path)?;
        for name in files::names(&dir)? {
            count += 1;
            if count > MAX_ALL {
                return Err(too_large(format!("more than {MAX_ALL} entries")));
            }
            match FileType::from_raw_mode(statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode) {
                FileType::Directory => todo.push(path.join(name)),
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(&dir, &name, Vec::new())?;
                    hash.update(path.join(name).as_os_str().as_bytes());
                    hash.update(b"\0");
                    hash.update(target.to_bytes_with_nul());
                }
                _ => {}
            }
        }
    }
    Ok(PathContent::Is(hash.finalize().into()))
}

/// Reads what podman copies: the metadata of the name itself, and the content of what it leads to, within the root.
fn look(root: &RootedDir, path: &Path, since: &ReadSince) -> std::io::Result<PathContent> {
    let last = match root.last(path) {
        Ok(last) => last,
        Err(e) if is_missing(&e) => return Ok(PathContent::Nothing),
        Err(e) => return Err(e),
    };
    let mut tree = TreeHash::new(since);
    let stat = fstat(&last)?;
    tree.notice(&last, OsStr::new(""), &stat)?;
    tree.stat(&stat);
    match root.any(path) {
        Ok(there) => {
            let stat = fstat(&there)?;
            tree.notice(&there, OsStr::new(""), &stat)?;
            tree.stat(&stat);
            let plain = (stat.st_mode, stat.st_uid, stat.st_gid) == (0o40755, 0, 0);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let dir = root.read(path)?;
                    let attributes = tree.attributes(&dir)?;
                    if plain && attributes == 0 && files::is_empty(&dir)? {
                        return Ok(PathContent::Plain);
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
    Ok(tree.found())
}

/// A hash of everything that buildah's copier takes along (buildah, copier/copier.go and xattrs.go: the same in podman
/// 4.3, 5.4 and 5.8) and of what podman does to the volume itself (libpod, `fixVolumePermissions`). Without the times
/// of directories: those that a layer only implies are made when it is unpacked.
struct TreeHash<'a> {
    since: &'a ReadSince,
    /// Whether anything was changed since then.
    changed: bool,
    hash: Sha256,
    /// Files by device and inode: the number under which each was met first.
    links: HashMap<(u64, u64), usize>,
    count: usize,
    /// How many bytes were read.
    bytes: u64,
}

impl<'a> TreeHash<'a> {
    fn new(since: &'a ReadSince) -> Self {
        Self { since, changed: false, hash: Sha256::default(), links: HashMap::new(), count: 0, bytes: 0 }
    }

    fn found(self) -> PathContent {
        if self.changed { PathContent::Changed } else { PathContent::Is(self.hash.finalize().into()) }
    }

    /// Notices a file that was changed; see [`ReadSince::has_changed`].
    fn notice(&mut self, dir: impl AsFd, name: &OsStr, stat: &Stat) -> std::io::Result<()> {
        self.changed = self.changed || self.since.has_changed(dir, name, stat)?;
        Ok(())
    }

    fn stat(&mut self, stat: &Stat) {
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let (size, time) = if directory { (0, 0) } else { (stat.st_size, stat.st_mtime) };
        let text = format!("\0{:o} {} {} {} {size} {time}\0", stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
        self.hash.update(text.as_bytes());
    }

    /// Adds the attributes that the copier sets on what it makes, and returns how many there are.
    fn attributes(&mut self, file: &impl AsFd) -> std::io::Result<usize> {
        let found = copied_attributes(file)?;
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

    /// Adds the size, and each block that does not consist of zeros: a hole is not read, and need not be a hole in the
    /// other tree. Reads no more than `max` bytes of all files together.
    fn content(&mut self, file: &File, max: u64) -> std::io::Result<()> {
        let mut buffer = vec![0; BLOCK];
        let mut at = 0;
        loop {
            match seek(file, SeekFrom::Data(at)) {
                // Blocks begin at the same offsets wherever data begins.
                Ok(data) => at = data - data % BLOCK as u64,
                Err(Errno::NXIO) => break,
                // A filesystem that has no holes.
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
                self.hash.update(at.to_le_bytes());
                self.hash.update(&buffer[..read]);
            }
            at += read as u64;
        }
        self.hash.update(format!("\0{}\0", fstat(file)?.st_size).as_bytes());
        Ok(())
    }

    /// Adds everything beneath a directory, in the order of the names.
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
                self.notice(&dir, &name, &stat)?;
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
                // Covered names count in podman's overlay, so the number of links is of no use.
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
