//! Whether a directory may hold what podman copied into it from a container's root: something new, and like what the
//! root has under the same name. A directory that others use has names of the image too, and new files.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::{Errno, pread};

use crate::start::refused::{FOLLOW, born};
use crate::sys::files;
use crate::sys::rooted_dir::RootedDir;
use crate::sys::times::changed;

/// How many entries are compared; with more, the directory counts as filled.
const MAX_ENTRIES: usize = 10_000;

/// How many bytes of one file are compared; larger files of the same size count as the same.
const MAX_CONTENT: u64 = 64 << 20;

const BLOCK: usize = 64 << 10;

const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What podman may have copied.
pub(super) struct CopiedFrom<'a> {
    /// The container's root.
    pub root: &'a RootedDir,
    /// Anything older was not made for this start, in nanoseconds since 1970.
    pub since: i128,
    /// Whether owners are mapped.
    pub mapped: bool,
}

impl CopiedFrom<'_> {
    /// Returns whether the directory `volume` may hold a copy of anything that the root has at `place`.
    ///
    /// # Errors
    /// The kernel's, other than for a place or a volume that is not there.
    pub(super) fn is_in(&self, volume: &Path, place: &Path) -> std::io::Result<bool> {
        let Ok(volume) = openat(CWD, volume, FOLLOW | OFlags::DIRECTORY, Mode::empty()) else { return Ok(false) };
        if self.root.dir(place).is_err() {
            return Ok(false);
        }
        let image = OwnedFd::from(self.root.read(place)?);
        let volume = openat(&volume, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // An empty directory of the image: podman gives the volume its mode and owner, and nothing else.
        if files::is_empty(&volume)? {
            let (own, other) = (fstat(&volume)?, fstat(&image)?);
            let owner = |stat: &Stat| (stat.st_uid, stat.st_gid);
            let alike = rights(&own) == rights(&other) && (self.mapped || owner(&own) == owner(&other));
            return Ok(alike && changed(&volume).is_ok_and(|changed| changed >= self.since));
        }
        self.any(&volume, &image)
    }

    fn any(&self, volume: &OwnedFd, image: &OwnedFd) -> std::io::Result<bool> {
        let (mut todo, mut count) = (vec![PathBuf::from(".")], 0);
        while let Some(path) = todo.pop() {
            let Some(own) = or_gone(files::open_dir_at(volume, &path))? else { continue };
            let other = files::open_dir_at(image, &path)?;
            let names = files::names(&other)?;
            // A directory that is there for its own sake.
            if path != Path::new(".") && names.is_empty() && files::is_empty(&own)? {
                return Ok(true);
            }
            for name in names {
                count += 1;
                if count > MAX_ENTRIES {
                    return Ok(true);
                }
                let Ok(file) = openat(&own, &name, PATH, Mode::empty()) else { continue };
                if born(&file).is_none_or(|(_, born)| born < self.since) {
                    continue;
                }
                let (a, b) = (fstat(&file)?, statat(&other, &name, AtFlags::SYMLINK_NOFOLLOW)?);
                let kind = FileType::from_raw_mode(a.st_mode);
                if kind != FileType::from_raw_mode(b.st_mode) || rights(&a) != rights(&b) {
                    continue;
                }
                let alike = match kind {
                    FileType::Directory => {
                        todo.push(path.join(&name));
                        false
                    }
                    FileType::Symlink => {
                        let target = or_gone(readlinkat(&own, &name, Vec::new()).map_err(Into::into))?;
                        target == Some(readlinkat(&other, &name, Vec::new())?)
                    }
                    // No time is certain: a filesystem may not have that of the image.
                    FileType::RegularFile => {
                        a.st_size == b.st_size && (a.st_mtime == b.st_mtime || is_same(&own, &other, Path::new(&name))?)
                    }
                    _ => a.st_rdev == b.st_rdev,
                };
                if alike {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Returns the mode without the bits that the kernel removes when the owner changes.
fn rights(stat: &Stat) -> u32 {
    stat.st_mode & 0o777
}

/// Returns `None` for what somebody removed or replaced meanwhile: then it is in use, and was not copied.
fn or_gone<T>(found: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match found {
        Err(e) if files::no_file(&e).is_some() => Ok(None),
        found => found.map(Some),
    }
}

fn is_same(own: &OwnedFd, other: &OwnedFd, name: &Path) -> std::io::Result<bool> {
    let Some(own) = or_gone(files::open_file_at(own, name))? else { return Ok(false) };
    let other = files::open_file_at(other, name)?;
    let (mut left, mut right, mut at) = (vec![0; BLOCK], vec![0; BLOCK], 0);
    while at < MAX_CONTENT {
        let (a, b) = (read_block(own.as_fd(), &mut left, at)?, read_block(other.as_fd(), &mut right, at)?);
        if left[..a] != right[..b] {
            return Ok(false);
        }
        if a == 0 {
            break;
        }
        at += a as u64;
    }
    Ok(true)
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_block(file: impl AsFd, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
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

/// Reads the extended attributes that the copier sets on what it makes.
pub(super) fn copied_attributes(file: &impl AsFd) -> std::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let copied = |name: &[u8]| name.starts_with(b"user.") || matches!(name, b"security.capability" | b"security.ima");
    Ok(files::xattrs(file)?.into_iter().filter(|(name, _)| copied(name)).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(dir: &Path, name: &str, text: &str, seconds: u64) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn o10_only_what_is_like_the_root_was_copied_from_it() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        write(&root.join("data"), "file", "sealed", 1000);
        write(&root.join("data"), "sub/deep", "deep", 1000);
        symlink("file", root.join("data/link")).unwrap();
        std::fs::create_dir_all(root.join("empty")).unwrap();
        std::fs::create_dir_all(root.join("data/hollow")).unwrap();
        let within = RootedDir::open(&root).unwrap();
        let number = std::cell::Cell::new(0);
        let filled_at = |since: i128, place: &str, make: &dyn Fn(&Path)| {
            number.set(number.get() + 1);
            let volume = scratch.path().join(format!("volume{}", number.get()));
            std::fs::create_dir(&volume).unwrap();
            make(&volume);
            CopiedFrom { root: &within, since, mapped: false }.is_in(&volume, Path::new(place)).unwrap()
        };
        let filled = |make: &dyn Fn(&Path)| filled_at(i128::MIN, "/data", make);
        assert!(filled(&|volume| write(volume, "file", "sealed", 1000)));
        // A filesystem with other times, and content that podman read while it was another one.
        assert!(filled(&|volume| write(volume, "file", "sealed", 2000)));
        assert!(filled(&|volume| write(volume, "file", "SEALED", 1000)));
        assert!(filled(&|volume| write(volume, "sub/deep", "deep", 1000)));
        assert!(filled(&|volume| symlink("file", volume.join("link")).unwrap()));
        assert!(filled(&|volume| std::fs::create_dir(volume.join("hollow")).unwrap()));
        assert!(filled(&|_| ()));
        // In use by others, who have names of the image too.
        assert!(!filled(&|volume| write(volume, "file", "live", 1000)));
        assert!(!filled(&|volume| write(volume, "file", "LIVING", 2000)));
        assert!(!filled(&|volume| write(volume, "sub/deep", "log", 1000)));
        assert!(!filled(&|volume| write(volume, "sub/other", "deep", 1000)));
        assert!(!filled(&|volume| symlink("other", volume.join("link")).unwrap()));
        assert!(!filled(&|volume| write(volume, "other", "sealed", 1000)));
        assert!(!filled(&|volume| write(volume, "hollow/mine", "mine", 1000)));
        assert!(!filled_at(i128::MIN, "/nowhere", &|volume| write(volume, "file", "sealed", 1000)));
        assert!(!filled_at(i128::MAX, "/data", &|volume| write(volume, "file", "sealed", 1000)));
        assert!(!filled_at(i128::MAX, "/empty", &|_| ()));
    }
}
