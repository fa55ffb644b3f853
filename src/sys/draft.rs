//! Files under a name of their own from the beginning: what fs-verity may be enabled on.
//!
//! A failed `FS_IOC_ENABLE_VERITY` on an inode without a name leaves the inode in ext4's orphan list on the
//! disk: the kernel takes it out in memory only (fs/ext4/verity.c, `ext4_end_enable_verity`; seen with
//! 6.12 and 7.3). The next mount truncates whatever has that inode number by then to its size, and behind
//! the size lie Merkle tree and descriptor. So nothing here enables fs-verity on an `O_TMPFILE` file, or on
//! one whose only name somebody else may take away meanwhile: [`super::verity::enable`] takes a [`Draft`]
//! and nothing else. See docs/assurance.md.

use std::fs::File;
use std::io::{self, Seek as _, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};

use super::files::proc_path;
use super::new_files::unused_name;

/// A name in a directory that goes with this value, unless it was exchanged for another.
#[derive(Debug)]
struct DraftName {
    dir: OwnedFd,
    name: String,
    taken: bool,
}

impl Drop for DraftName {
    fn drop(&mut self) {
        if !self.taken {
            // What stays is swept by `layerseal gc`.
            let _ = fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
        }
    }
}

/// A new file, being written.
#[derive(Debug)]
pub struct NewDraft {
    name: DraftName,
    file: File,
}

impl NewDraft {
    /// Creates a file of mode `mode` in `dir`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create(dir: impl AsFd, mode: u32) -> io::Result<Self> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (name, file) = unused_name(|name| fs::openat(&dir, name, flags, Mode::from_raw_mode(mode)))?;
        let dir = dir.as_fd().try_clone_to_owned();
        Ok(Self { name: DraftName { dir: dir?, name, taken: false }, file: file.into() })
    }

    /// Fills the file, which is new, with the content of another: by sharing its blocks where the filesystem can
    /// (btrfs, XFS), else inside the kernel, else by reading and writing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn copy_of(&mut self, source: &File) -> io::Result<()> {
        if fs::ioctl_ficlone(&self.file, source).is_ok() {
            return Ok(());
        }
        let mut from = source;
        from.rewind()?;
        // By copy_file_range(2) where both filesystems can.
        io::copy(&mut from, &mut self.file).map(drop)
    }

    /// Ends writing, and opens the file again for reading only: fs-verity is refused while somebody could write
    /// (ETXTBSY).
    ///
    /// # Errors
    /// The kernel's.
    pub fn finish(self) -> io::Result<Draft> {
        let read_only = fs::openat(CWD, proc_path(&self.file), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Draft { name: self.name, file: read_only.into(), linked: None })
    }
}

impl Write for NewDraft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A complete file with a name that is only ours, open for reading.
#[derive(Debug)]
pub struct Draft {
    name: DraftName,
    file: File,
    /// The file's time when it got this name, where it has other names.
    linked: Option<Timespec>,
}

impl Draft {
    /// Makes one more name in `dir` for an open file that has one already, so that it keeps one whatever becomes of the
    /// others.
    ///
    /// # Errors
    /// The kernel's: `EXDEV` unless file and directory were opened in the same mount, `ENOENT` for a file that
    /// has no name (link(2)).
    pub fn of(file: &File, dir: impl AsFd) -> io::Result<Self> {
        let (name, ()) = unused_name(|name| super::new_files::linkat(file, &dir, name))?;
        let name = DraftName { dir: dir.as_fd().try_clone_to_owned()?, name, taken: false };
        let stat = fs::fstat(file)?;
        let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        Ok(Self { name, file: file.try_clone()?, linked: Some(time) })
    }

    /// Returns the file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives a file that is also somebody else's its time back: ext4 sets a new one when fs-verity is enabled (seen
    /// with 6.12). The file is still the layer's, and podman shows its time and copies it into volumes.
    pub(super) fn restore_time(&self) -> io::Result<()> {
        let Some(time) = self.linked else { return Ok(()) };
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ };
        Ok(fs::futimens(&self.file, &Timestamps { last_access: omit, last_modification: time })?)
    }

    /// Flushes the content to the disk, so that after a power cut the name stands for all of it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fs::fdatasync(&self.file)?)
    }

    /// Exchanges the name for `name` in `dir`, and replaces whatever had that.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rename(mut self, dir: impl AsFd, name: &str) -> io::Result<()> {
        fs::renameat(&self.name.dir, &self.name.name, dir, name)?;
        // Between two names of one file rename(2) does nothing: then the first goes with this value.
        self.name.taken = self.linked.is_none();
        Ok(())
    }
}
