use std::fs::{File, Metadata};
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::digest::BlobDigest;
use crate::error::{self, Case, Refusal, Result};
use crate::sys::{files, new_files};

/// A `blobs/sha256` directory: files named by the SHA-256 of their content. Nothing in it is believed; every reader
/// hashes.
#[derive(Debug)]
pub struct BlobStore {
    dir: OwnedFd,
    path: PathBuf,
    /// Whether it ends with this process: nothing in it needs to survive a power cut.
    passing: bool,
}

impl BlobStore {
    /// Opens `blobs/sha256` beneath the directory `root`, which `path` names in messages.
    ///
    /// # Errors
    /// [`Case::LayoutBroken`] if there is none.
    pub fn open(root: impl AsFd, path: &Path) -> Result<Self> {
        let dir = files::open_dir_at(root, "blobs/sha256")
            .map_err(|e| Refusal::new(Case::LayoutBroken, path.display().to_string(), format!("blobs/sha256: {e}")))?;
        Ok(Self { dir, path: path.join("blobs/sha256"), passing: false })
    }

    /// Opens it, and makes it first if it is missing.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn create(root: impl AsFd, path: &Path) -> Result<Self> {
        let dir = files::make_dir_at(root, "blobs/sha256").map_err(|e| Refusal::io(path.display().to_string(), e))?;
        Ok(Self { dir, path: path.join("blobs/sha256"), passing: false })
    }

    /// Makes a store that ends with this process: waiting for the disk would take longer than fetching its content.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn passing(root: impl AsFd, path: &Path) -> Result<Self> {
        Ok(Self { passing: true, ..Self::create(root, path)? })
    }

    fn name_it(&self, done: &new_files::Finished, digest: &BlobDigest) -> std::io::Result<()> {
        if !self.passing {
            done.sync()?;
        }
        done.replace(&digest.hex())
    }

    /// Returns a path to the directory for other programs, as long as this process lives: it leads where the descriptor
    /// does, even if directories are renamed.
    pub(crate) fn path_for_others(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.dir.as_raw_fd()))
    }

    /// Returns the blob's path, for messages only.
    pub fn name(&self, digest: &BlobDigest) -> String {
        self.path.join(digest.hex()).display().to_string()
    }

    /// Opens a blob; its bytes are not yet compared with the digest.
    ///
    /// # Errors
    /// [`Case::C04Missing`], [`Case::C04Bytes`] if it is not a regular file, [`Case::Io`].
    pub fn open_blob(&self, digest: &BlobDigest) -> Result<File> {
        self.open_known_blob(digest).map(|(file, _)| file)
    }

    fn open_known_blob(&self, digest: &BlobDigest) -> Result<(File, Metadata)> {
        files::open_known_file_at(&self.dir, digest.hex()).map_err(|e| match files::no_file(&e) {
            Some(files::NoFile::Missing) => Refusal::new(Case::C04Missing, self.name(digest), e),
            Some(files::NoFile::Other) => Refusal::new(Case::C04Bytes, self.name(digest), e),
            None => Refusal::io(self.name(digest), e),
        })
    }

    /// Returns how large a blob is here, whatever anybody says about it; `None` if it cannot be read.
    pub fn size(&self, digest: &BlobDigest) -> Option<u64> {
        self.open_known_blob(digest).ok().map(|(_, found)| found.len())
    }

    /// Checks that there is room for blobs of these sizes, except those that are already here.
    ///
    /// # Errors
    /// [`Case::NoRoom`], with what is needed.
    pub fn check_room(&self, blobs: impl IntoIterator<Item = (BlobDigest, u64)>) -> Result<()> {
        let mut missing: Vec<(BlobDigest, u64)> = blobs.into_iter().collect();
        missing.sort_unstable();
        missing.dedup();
        missing.retain(|(digest, _)| !matches!(self.has_blob(digest), Ok(true)));
        let bytes = missing.iter().map(|(_, size)| *size).fold(0, u64::saturating_add);
        error::check_room(&self.dir, &self.path, bytes, missing.len() as u64)
    }

    /// Returns whether there is a file of this name; its bytes are not looked at.
    ///
    /// # Errors
    /// [`Case::C04Bytes`] if it is not a regular file, [`Case::Io`] if it cannot be opened.
    pub fn has_blob(&self, digest: &BlobDigest) -> Result<bool> {
        match self.open_blob(digest) {
            Ok(_) => Ok(true),
            Err(r) if r.case() == Case::C04Missing => Ok(false),
            Err(r) => Err(r),
        }
    }

    /// Reads a blob of at most `max` bytes and compares it with its digest and, if the descriptor gives one, its size.
    ///
    /// # Errors
    /// [`Case::C03TooBig`], [`Case::C04Bytes`].
    pub fn read(&self, digest: &BlobDigest, size: Option<u64>, max: u64) -> Result<Vec<u8>> {
        let too_big =
            |n: u64| Refusal::new(Case::C03TooBig, self.name(digest), format!("{n} bytes, allowed are {max}"));
        if let Some(size) = size.filter(|s| *s > max) {
            return Err(too_big(size));
        }
        let (file, found) = self.open_known_blob(digest)?;
        if found.len() > max {
            return Err(too_big(found.len()));
        }
        let bytes = files::read_length(&file, found.len()).map_err(|e| Refusal::io(self.name(digest), e))?;
        if size.is_some_and(|s| s != bytes.len() as u64) || BlobDigest::of(&bytes) != *digest {
            return Err(Refusal::new(Case::C04Bytes, self.name(digest), ""));
        }
        Ok(bytes)
    }

    /// Writes a blob, whole or not at all.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn write(&self, bytes: &[u8]) -> Result<BlobDigest> {
        let digest = BlobDigest::of(bytes);
        // A blob of this name may be there but damaged: it is replaced unless it is the same.
        if self.read(&digest, None, bytes.len() as u64).is_err() {
            let io = |e| Refusal::io(self.name(&digest), e);
            let mut new = self.new_blob()?;
            new.write_all(bytes).map_err(io)?;
            new.finish().and_then(|done| self.name_it(&done, &digest)).map_err(io)?;
        }
        Ok(digest)
    }

    /// Copies a blob of any size from another store, comparing it with its digest on the way.
    ///
    /// # Errors
    /// [`Case::C04Bytes`], [`Case::Io`].
    pub fn copy_from(&self, other: &Self, digest: &BlobDigest) -> Result<()> {
        if self.holds(digest)? {
            return Ok(());
        }
        let io = |e| Refusal::io(self.name(digest), e);
        let mut source = other.open_blob(digest)?;
        let mut new = new_files::NewFile::create(&self.dir, 0o644).map_err(io)?;
        let found = hash_through(&mut source, |bytes| new.write_all(bytes)).map_err(io)?;
        if found != *digest {
            return Err(Refusal::new(Case::C04Bytes, other.name(digest), ""));
        }
        let done = new.finish().map_err(io)?;
        self.name_it(&done, digest).map_err(io)
    }

    /// Returns whether the blob is there, byte for byte. A blob that the disk does not give back counts as missing: the
    /// caller makes it again, or says that it is damaged.
    ///
    /// # Errors
    /// [`Case::Io`] for every other fault.
    pub fn holds(&self, digest: &BlobDigest) -> Result<bool> {
        let found =
            files::open_file_at(&self.dir, digest.hex()).and_then(|mut file| hash_through(&mut file, |_| Ok(())));
        match found {
            Ok(found) => Ok(found == *digest),
            Err(e) if files::no_file(&e).is_some() || files::is_damage(&e) => Ok(false),
            Err(e) => Err(Refusal::io(self.name(digest), e)),
        }
    }

    /// Returns whether a blob of another store may be given a name in this one as well, instead of being copied: nobody
    /// else can write to it, and it is on this filesystem.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn can_link(&self, source: &File) -> Result<bool> {
        use std::os::unix::fs::MetadataExt as _;
        let io = |e| Refusal::io(self.path.display().to_string(), e);
        let found = source.metadata().map_err(io)?;
        let dir = rustix::fs::fstat(&self.dir).map_err(|e| io(e.into()))?;
        Ok(found.dev() == dir.st_dev && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0)
    }

    /// Gives an open blob of another store, which the caller has read and compared with `digest`, a name in this one.
    ///
    /// # Errors
    /// Errors of the kernel: `CrossesDevices` between two mounts of one filesystem (link(2)).
    pub fn link(&self, source: &File, digest: &BlobDigest) -> std::io::Result<()> {
        new_files::replace_link(source, &self.dir, &digest.hex())
    }

    /// Returns whether `file` is the blob itself, by whatever name it was opened.
    pub fn is_blob(&self, file: &File, digest: &BlobDigest) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let id = |file: &File| file.metadata().map(|m| (m.dev(), m.ino()));
        let Ok(blob) = self.open_blob(digest) else { return false };
        matches!((id(&blob), id(file)), (Ok(a), Ok(b)) if a == b)
    }

    /// Creates a file that is to become a blob of this store.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn new_blob(&self) -> Result<new_files::NewFile> {
        new_files::NewFile::create(&self.dir, 0o644).map_err(|e| Refusal::io(self.path.display().to_string(), e))
    }

    /// Gives a written file its name; the caller has hashed what it wrote.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn adopt(&self, new: new_files::NewFile, digest: &BlobDigest) -> Result<()> {
        let io = |e| Refusal::io(self.name(digest), e);
        let done = new.finish().map_err(io)?;
        self.name_it(&done, digest).map_err(io)
    }
}

fn hash_through(source: &mut File, mut sink: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<BlobDigest> {
    let mut hasher = crate::digest::BlobHasher::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = std::io::Read::read(source, &mut buffer)?;
        if n == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..n]);
        sink(&buffer[..n])?;
    }
}
