//! Layers that are read into the vault.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Vault;
use super::objects::shard_and_name;
use crate::digest::{Algorithm, BlobDigest, VerityDigest, VerityHasher, verity_digest};
use crate::error::{Case, Result, write_failed};
use crate::image::{ContentSink, LayerBlob, LayerVisitor};
use crate::oci::{BlobStore, Layer};
use crate::sys::draft::NewDraft;
use crate::sys::files;
use crate::sys::new_files::NewFile;
use crate::sys::verity;

/// Files up to this size are collected in memory first: most are duplicates or smaller, and then
/// there is one write, or none.
const COLLECT: u64 = 1 << 20;

/// Imports layers into the vault: files become objects, and the blob is copied on the way, so that
/// the bytes are read once.
#[derive(Debug)]
pub struct Import<'a> {
    vault: &'a Vault,
    from: &'a BlobStore,
    algorithm: Algorithm,
    /// Objects that are written again even if they are here and measure right.
    again: BTreeSet<VerityDigest>,
    /// Whether the blobs stay too.
    keep_blobs: bool,
    /// Set once the filesystem has said that it has no fs-verity, to ask it once only.
    without_verity: AtomicBool,
    /// The directories of objects, by the first byte of a digest, opened when they are needed.
    shards: Box<[OnceLock<OwnedFd>]>,
}

impl<'a> Import<'a> {
    /// Makes an import from the blobs of `from`.
    pub fn new(vault: &'a Vault, from: &'a BlobStore, algorithm: Algorithm) -> Self {
        let (again, without_verity) = (BTreeSet::new(), AtomicBool::new(false));
        let shards = (0..256).map(|_| OnceLock::new()).collect();
        Self { vault, from, algorithm, again, keep_blobs: true, without_verity, shards }
    }

    /// Makes an import that puts good objects in place of damaged ones: fs-verity's digest of a file stays right when
    /// its content on the disk is not.
    pub(super) fn again(
        vault: &'a Vault,
        from: &'a BlobStore,
        algorithm: Algorithm,
        again: BTreeSet<VerityDigest>,
        keep_blobs: bool,
    ) -> Self {
        Self { again, keep_blobs, ..Self::new(vault, from, algorithm) }
    }

    /// Returns whether the vault's filesystem turned out to have no fs-verity.
    pub fn without_verity(&self) -> bool {
        self.without_verity.load(Ordering::Relaxed)
    }
}

impl LayerVisitor for Import<'_> {
    fn sink(&self) -> Box<dyn ContentSink + '_> {
        Box::new(ObjectSink {
            import: self,
            hasher: VerityHasher::new(self.algorithm),
            collected: Vec::new(),
            size: 0,
            file: None,
        })
    }

    fn open(&self, layer: &Layer) -> Result<Box<dyn LayerBlob + '_>> {
        let source = self.from.open_blob(&layer.digest)?;
        let store = &self.vault.store;
        let keep = if !self.keep_blobs || store.is_blob(&source, &layer.digest) {
            KeepBlob::Nothing
        } else if store.can_link(&source)? {
            KeepBlob::Link
        } else if store.holds(&layer.digest)? {
            KeepBlob::Nothing
        } else {
            KeepBlob::Copy(store.new_blob()?)
        };
        Ok(Box::new(Tee { source, keep, digest: layer.digest, import: self }))
    }
}

/// How a blob is put into the vault's store.
enum KeepBlob {
    /// It is there already, or is not to be kept.
    Nothing,
    /// It is given one more name.
    Link,
    /// What is read from it is copied.
    Copy(NewFile),
}

/// Reads a blob and keeps it.
struct Tee<'a> {
    source: File,
    keep: KeepBlob,
    digest: BlobDigest,
    import: &'a Import<'a>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.source.read(buffer)?;
        if let KeepBlob::Copy(copy) = &mut self.keep {
            let store = self.import.vault.store();
            copy.write_all(&buffer[..n]).map_err(|e| write_failed(store.name(&self.digest), e))?;
        }
        Ok(n)
    }
}

impl LayerBlob for Tee<'_> {
    fn keep(self: Box<Self>) -> Result<()> {
        let store = &self.import.vault.store;
        match self.keep {
            KeepBlob::Nothing => Ok(()),
            KeepBlob::Copy(copy) => store.adopt(copy, &self.digest),
            // Between two mounts of one filesystem nothing can be linked.
            KeepBlob::Link => match store.link(&self.source, &self.digest) {
                Ok(()) => Ok(()),
                Err(_) => store.copy_from(self.import.from, &self.digest),
            },
        }
    }
}

struct ObjectSink<'a> {
    import: &'a Import<'a>,
    hasher: VerityHasher,
    /// The file so far, until it is larger than [`COLLECT`].
    collected: Vec<u8>,
    size: u64,
    /// The file, if it is larger.
    file: Option<NewDraft>,
}

impl ContentSink for ObjectSink<'_> {
    fn begin(&mut self, size: u64) -> Result<()> {
        self.hasher = VerityHasher::new(self.import.algorithm);
        self.collected.clear();
        self.size = size;
        self.file = None;
        if size > COLLECT {
            // Its digest, and with that its place, is known at its end.
            self.file = Some(NewDraft::create(&self.import.vault.objects, 0o444).map_err(|e| self.import.vault.io(e))?);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.file {
            Some(file) => {
                self.hasher.update(bytes);
                file.write_all(bytes).map_err(|e| self.import.vault.io(e))
            }
            None => {
                self.collected.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn end(&mut self) -> Result<VerityDigest> {
        let vault = self.import.vault;
        let algorithm = self.import.algorithm;
        let done = std::mem::replace(&mut self.hasher, VerityHasher::new(algorithm));
        let digest = if self.file.is_some() { done.finish() } else { verity_digest(algorithm, &self.collected) };
        if !self.import.again.contains(&digest) && vault.holds(&digest, self.size) {
            self.file = None;
            return Ok(digest);
        }
        let (dir, name) = self.import.place(&digest)?;
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let mut file = NewDraft::create(dir, 0o444).map_err(|e| vault.io(e))?;
                file.write_all(&self.collected).map_err(|e| vault.io(e))?;
                file
            }
        };
        self.import.keep(file, &digest, dir, &name)?;
        Ok(digest)
    }
}

impl Import<'_> {
    /// Returns the directory of an object, and its name in it.
    fn place(&self, digest: &VerityDigest) -> Result<(&OwnedFd, String)> {
        let (shard, name) = shard_and_name(digest);
        let number = usize::from(digest.as_bytes().first().copied().unwrap_or(0));
        let dir = match self.shards[number].get() {
            Some(dir) => dir,
            None => {
                let dir = files::make_dir_at(&self.vault.objects, &shard).map_err(|e| self.vault.io(e))?;
                self.shards[number].get_or_init(|| dir)
            }
        };
        Ok((dir, name))
    }

    fn keep(&self, file: NewDraft, digest: &VerityDigest, dir: &OwnedFd, name: &str) -> Result<()> {
        let io = |e| self.vault.io(e);
        let file = file.finish().map_err(io)?;
        if !self.without_verity() {
            match verity::enable(&file, self.algorithm, None, name) {
                Ok(_) => verity::check(file.file(), digest, &self.vault.object_name(digest))?,
                Err(r) if r.case() == Case::G06Unsupported => self.without_verity.store(true, Ordering::Relaxed),
                Err(r) => return Err(r),
            }
        }
        file.rename(dir, name).map_err(io)
    }
}
