//! Large bytes, written once and looked at a few times: they are in a file without a name, and memory holds only the
//! part that is being looked at. What is not large is simply in memory.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Deref;
use std::os::fd::AsRawFd as _;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};

/// The size from which a file is worth while.
const LARGE: usize = 32 << 20;

/// How much is written or looked at in one piece.
const PIECE: usize = 1 << 20;

/// Where files without a name are made: on a disk, which /tmp is not everywhere (file-hierarchy(7)).
const PLACE: &str = "/var/tmp";

/// The bytes. A clone shares them.
#[derive(Clone)]
pub struct Scratch(Arc<Bytes>);

enum Bytes {
    Memory(Vec<u8>),
    File(Mapping),
}

/// A file without a name, mapped: nobody else has it, and nobody writes to it any more.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is memory that nobody writes to, and whoever drops it is the last.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn of(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at a place that the kernel chooses; the file has `len` bytes, which were written.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        match NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED) {
            Some(start) => Ok(Self { start, len }),
            None => Err(io::Error::last_os_error()),
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: as long as it is borrowed it is mapped, and nobody writes to it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Takes the file's pages out of this process; the kernel brings them back when they are looked at.
    fn forget(&self) {
        // SAFETY: a shared mapping of a file loses nothing by it.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, libc::MADV_DONTNEED) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped, with this length, and nothing borrows it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

impl Scratch {
    /// Returns the bytes in pieces, of which memory holds one at a time.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let next = |piece| {
            self.forget();
            piece
        };
        self.chunks(PIECE).map(next)
    }

    /// Lets go of the memory that the bytes take, once they have been looked at: a file still has them.
    pub fn forget(&self) {
        if let Bytes::File(mapping) = &*self.0 {
            mapping.forget();
        }
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Bytes::Memory(bytes) => bytes,
            Bytes::File(mapping) => mapping.bytes(),
        }
    }
}

impl PartialEq for Scratch {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Scratch {}

impl From<Vec<u8>> for Scratch {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Bytes::Memory(bytes)))
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scratch").field(&self.len()).finish()
    }
}

/// Writes a [`Scratch`] from its beginning to its end. An error is reported at the end.
#[derive(Debug)]
pub struct ScratchWriter {
    /// What is not in the file yet.
    buffer: Vec<u8>,
    file: Option<File>,
    /// Bytes in the file.
    written: usize,
    failed: Option<io::Error>,
}

impl ScratchWriter {
    /// Makes a writer for this many bytes. They are kept in memory where no file can be made.
    pub fn new(expected: usize) -> Self {
        let unnamed =
            || openat(CWD, PLACE, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o600));
        let file = if expected < LARGE { None } else { unnamed().ok().map(File::from) };
        let buffer = Vec::with_capacity(if file.is_some() { 2 * PIECE } else { expected });
        Self { buffer, file, written: 0, failed: None }
    }

    /// Returns how many bytes have been written so far.
    pub fn size(&self) -> usize {
        self.written + self.buffer.len()
    }

    /// Adds these bytes.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.write_pieces();
    }

    /// Adds zeros until there are `len` bytes.
    pub fn zeros_to(&mut self, len: usize) {
        self.buffer.resize(self.buffer.len().max(len.saturating_sub(self.written)), 0);
        self.write_pieces();
    }

    fn write_pieces(&mut self) {
        if self.file.is_some() && self.buffer.len() >= PIECE {
            self.write();
        }
    }

    fn write(&mut self) {
        if let Some(file) = &mut self.file {
            let written = file.write_all(&self.buffer);
            self.failed = self.failed.take().or(written.err());
            self.written += self.buffer.len();
            self.buffer.clear();
        }
    }

    /// Finishes writing, and returns the bytes.
    ///
    /// # Errors
    /// The kernel's, where they could not be written.
    pub fn finish(mut self) -> io::Result<Scratch> {
        self.write();
        match (self.failed, self.file) {
            (Some(e), _) => Err(e),
            (None, None) => Ok(self.buffer.into()),
            (None, Some(file)) => Ok(Scratch(Arc::new(Bytes::File(Mapping::of(&file, self.written)?)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_small_ones_are_the_bytes_that_were_written() {
        for expected in [10, LARGE] {
            let mut writer = ScratchWriter::new(expected);
            let mut wanted = Vec::new();
            for number in 0..3_u8 {
                let bytes = vec![number + 1; PIECE - 7];
                writer.extend_from_slice(&bytes);
                wanted.extend_from_slice(&bytes);
                wanted.resize(wanted.len().next_multiple_of(4096), 0);
                writer.zeros_to(wanted.len());
                // What is there already stays.
                writer.zeros_to(1);
                assert_eq!(writer.size(), wanted.len());
            }
            let scratch = writer.finish().unwrap();
            assert!(*scratch == *wanted);
            assert!(scratch.pieces().flatten().eq(&wanted));
            scratch.clone().forget();
            assert!(*scratch == *wanted);
        }
    }
}
