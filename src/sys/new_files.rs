//! Files that have no name until they are complete, and names that replace others.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::files::{list, proc_path};
use super::process;

/// A file that has no name until it is complete, so that neither failure nor `SIGKILL` leaves half
/// of one (`O_TMPFILE`, open(2)).
#[derive(Debug)]
pub struct NewFile {
    file: File,
    dir: OwnedFd,
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

impl NewFile {
    /// Creates a nameless file of mode `mode` that is to appear in `dir`.
    pub fn create(dir: impl AsFd, mode: u32) -> io::Result<Self> {
        let dir = dir.as_fd().try_clone_to_owned()?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(fs::openat(&dir, ".", flags, Mode::from_raw_mode(mode))?);
        Ok(Self { file, dir })
    }

    /// Gives the file its name, and replaces whatever had it; the file stays as it is.
    pub fn replace_in(&self, dir: impl AsFd, name: &str) -> io::Result<()> {
        replace_link(&self.file, dir, name)
    }

    /// Ends writing and reopens the file read-only, as enabling fs-verity needs (ETXTBSY otherwise).
    pub fn finish(self) -> io::Result<Finished> {
        let read_only = fs::openat(CWD, proc_path(&self.file), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Finished { file: File::from(read_only), dir: self.dir })
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A complete file that still has no name.
#[derive(Debug)]
pub struct Finished {
    /// The file, open for reading.
    pub file: File,
    dir: OwnedFd,
}

impl Finished {
    /// Flushes the content to the disk, so that after a power cut the name stands for all of it.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fs::fdatasync(&self.file)?)
    }

    /// Has the content written to the disk soon, and waits for nothing. Filesystems that cannot, write it when they do.
    fn sync_soon(&self) {
        use std::os::fd::AsRawFd as _;
        // SAFETY: four numbers; the call reads and writes no memory.
        unsafe { libc::sync_file_range(self.file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    }

    /// Gives the file its name, and replaces whatever had it.
    pub fn replace(&self, name: &str) -> io::Result<()> {
        self.replace_in(&self.dir, name)
    }

    /// Replaces a file like [`Self::replace`], in another directory of the same filesystem.
    pub fn replace_in(&self, dir: impl AsFd, name: &str) -> io::Result<()> {
        replace_link(&self.file, dir, name)
    }
}

/// How the name of a file begins that is about to get another name; after a kill it stays, and means nothing.
pub const REMAINS: &str = ".new-";

/// Removes the files that processes were writing to a directory and left when they ended, judging by the process number
/// in the name: nothing else has such a name for longer than a moment.
///
/// # Errors
/// The kernel's.
pub fn sweep_remains(dir: impl AsFd) -> io::Result<()> {
    let dir = dir.as_fd();
    for name in list(dir)? {
        let Some(owner) = name.strip_prefix(REMAINS).and_then(|rest| rest.split('-').next()) else { continue };
        if owner.parse().ok().is_none_or(process::has_ended) {
            match fs::unlinkat(dir, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}

/// Calls `make` with a name that nothing has yet, and returns both. Others may be at work in the same directory, even
/// under this process's number: in another PID namespace, or before the last boot.
pub(super) fn unused_name<T>(make: impl Fn(&str) -> Result<T, Errno>) -> Result<(String, T), Errno> {
    loop {
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{REMAINS}{}-{serial}", std::process::id());
        match make(&name) {
            Err(Errno::EXIST) => {}
            other => return other.map(|made| (name, made)),
        }
    }
}

pub(super) fn linkat(file: &File, dir: impl AsFd, name: &str) -> Result<(), Errno> {
    match fs::linkat(file, "", &dir, name, AtFlags::EMPTY_PATH) {
        // Without CAP_DAC_READ_SEARCH (linkat(2)).
        Err(Errno::NOENT) => fs::linkat(CWD, proc_path(file), &dir, name, AtFlags::SYMLINK_FOLLOW),
        other => other,
    }
}

/// Gives an open file one more name; false when something has that name already.
///
/// # Errors
/// The kernel's: `EXDEV` unless file and directory were opened in the same mount (link(2)).
pub fn link(file: &File, dir: impl AsFd, name: &str) -> io::Result<bool> {
    match linkat(file, dir, name) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Gives an open file one more name, and replaces whatever had it.
///
/// # Errors
/// As [`link`].
pub fn replace_link(file: &File, dir: impl AsFd, name: &str) -> io::Result<()> {
    let dir = dir.as_fd();
    if link(file, dir, name)? {
        return Ok(());
    }
    let (temporary, ()) = unused_name(|name| linkat(file, dir, name))?;
    let renamed = fs::renameat(dir, &temporary, dir, name);
    // Both are names of one file: rename(2) does nothing and reports success.
    let _ = fs::unlinkat(dir, &temporary, AtFlags::empty());
    Ok(renamed?)
}

/// Writes `bytes` into the file `name` in `dir`, which is the one that `was` describes and has no other name, for a reader
/// that comes later: in place, because a filesystem takes longer to give a file back than to write one, and without
/// waiting for the disk.
///
/// # Errors
/// The kernel's, after which the file may hold a part; [`io::ErrorKind::InvalidInput`] where it is another file, or has
/// further names.
pub fn rewrite(dir: impl AsFd, name: &str, was: &fs::Stat, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = super::files::open_file_to_write_at(dir, name)?;
    let is = fs::fstat(&file)?;
    if (is.st_dev, is.st_ino, is.st_nlink) != (was.st_dev, was.st_ino, 1) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "another file took its place, or it has several names",
        ));
    }
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)
}

/// Writes `bytes` as `name` in `dir`, whole or not at all.
pub fn write_atomic(dir: impl AsFd, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut new = NewFile::create(dir, mode)?;
    new.write_all(bytes)?;
    let done = new.finish()?;
    done.sync()?;
    done.replace(name)
}

/// Does the same, and does not wait for the disk: after a power cut in the seconds after that, the file may be missing or
/// empty.
pub fn write_soon(dir: impl AsFd, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut new = NewFile::create(dir, mode)?;
    new.write_all(bytes)?;
    let done = new.finish()?;
    done.sync_soon();
    done.replace(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_file_is_rewritten_where_it_is_unless_it_has_other_names() {
        let tmp = tempfile::tempdir().unwrap();
        let (path, dir) = (tmp.path().join("f"), super::super::files::open_dir(tmp.path()).unwrap());
        let stat = || fs::stat(&path).unwrap();
        for (before, after) in [("short", "longer than before"), ("longer than after", "short"), ("", "x"), ("x", "")] {
            std::fs::write(&path, before).unwrap();
            let inode = std::fs::metadata(&path).unwrap().ino();
            rewrite(&dir, "f", &stat(), after.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
            assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
        }
        let refused = |was: &fs::Stat| rewrite(&dir, "f", was, b"new").unwrap_err().kind();
        std::fs::write(&path, "old").unwrap();
        std::fs::hard_link(&path, tmp.path().join("other")).unwrap();
        assert_eq!(refused(&stat()), io::ErrorKind::InvalidInput);
        let was = stat();
        std::fs::write(tmp.path().join("new"), "old").unwrap();
        std::fs::rename(tmp.path().join("new"), &path).unwrap();
        assert_eq!(refused(&was), io::ErrorKind::InvalidInput);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    }
}
