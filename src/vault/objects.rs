use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::Vault;
use crate::digest::{Algorithm, BlobDigest, VerityDigest, VerityHasher, verity_digest};
use crate::image::{ContentSink, LayerBlob, LayerVisitor};
use crate::oci::{BlobStore, Layer};
use crate::report::{Case, Refusal, Result};
use crate::sys::files::{self, NewFile};
use crate::sys::verity;

/// Files up to this size are collected in memory first: most are duplicates or smaller, and then
/// there is one write, or none.
const COLLECT: u64 = 1 << 20;

impl Vault {
    /// The directory of objects, to put something into.
    pub(crate) fn objects(&self) -> &OwnedFd {
        &self.objects
    }

    /// The directory of objects, for the overlay's `datadir+`: Linux 6.12 takes no layer from a mount
    /// that is attached nowhere.
    pub fn data_dir(&self) -> &OwnedFd {
        self.attached.as_ref().unwrap_or(&self.objects)
    }

    /// Opens an object; it is not yet measured.
    ///
    /// # Errors
    /// [`Case::I02Object`] when it is missing.
    pub fn open_object(&self, digest: &VerityDigest) -> Result<File> {
        files::open_file_at(&self.objects, digest.object_path())
            .map_err(|e| Refusal::new(Case::I02Object, self.object_name(digest), e))
    }

    /// An object's path, for messages.
    pub fn object_name(&self, digest: &VerityDigest) -> String {
        self.path.join("objects").join(digest.object_path()).display().to_string()
    }

    /// Stores `bytes` as an object, with fs-verity where the filesystem has it, and with the
    /// signature where the kernel has the key.
    ///
    /// # Errors
    /// [`Case::Io`], G02.
    pub fn put_object(&self, digest: &VerityDigest, bytes: &[u8], signature: Option<&[u8]>) -> Result<()> {
        let (dir, name) = self.object_place(digest)?;
        let mut new = NewFile::create(&dir, 0o444).map_err(|e| self.io(e))?;
        new.write_all(bytes).map_err(|e| self.io(e))?;
        let done = new.finish().map_err(|e| self.io(e))?;
        self.enable(&done.file, digest, signature)?;
        done.sync().map_err(|e| self.io(e))?;
        done.replace(&name).map_err(|e| self.io(e))
    }

    /// Enables fs-verity on a file of the vault. A key that the kernel's keyring lacks is no reason
    /// to refuse: the signature is then checked by us alone. A filesystem without fs-verity is none
    /// either, here: mounting asks.
    ///
    /// # Errors
    /// G02 but for the missing key.
    pub fn enable(&self, file: &File, digest: &VerityDigest, signature: Option<&[u8]>) -> Result<()> {
        let name = self.object_name(digest);
        let signature = signature.filter(|_| verity::kernel_verifies());
        let mut result = verity::enable(file, digest.algorithm(), signature, &name);
        if signature.is_some() && matches!(&result, Err(r) if r.case() == Case::G02Key) {
            result = verity::enable(file, digest.algorithm(), None, &name);
        }
        match result {
            Err(r) if r.case() == Case::G06Unsupported => Ok(()),
            Err(r) => Err(r),
            Ok(_) => Ok(()),
        }
    }

    pub(super) fn object_place(&self, digest: &VerityDigest) -> Result<(OwnedFd, String)> {
        let (shard, name) = shard_and_name(digest);
        let dir = files::make_dir_at(&self.objects, &shard).map_err(|e| self.io(e))?;
        Ok((dir, name))
    }

    /// Whether the object is there and is what its name says: measured, or hashed where the
    /// filesystem cannot measure. The digest covers the size: a file of another one is not looked at, and
    /// nobody makes us hash a sparse file that is larger than the disk.
    pub fn holds(&self, digest: &VerityDigest, size: u64) -> bool {
        let Ok(file) = self.open_object(digest) else { return false };
        if file.metadata().map_or(true, |found| found.len() != size) {
            return false;
        }
        let name = self.object_name(digest);
        let measured = match verity::check(&file, digest, &name) {
            // An import that was cut off may have left the file without.
            Err(r) if r.case() == Case::G01Missing => {
                verity::enable(&file, digest.algorithm(), None, &name).and_then(|_| verity::check(&file, digest, &name))
            }
            other => other,
        };
        match measured {
            Err(r) if r.case() == Case::G06Unsupported => {
                hash(file, digest.algorithm()).is_ok_and(|found| found == *digest)
            }
            other => other.is_ok(),
        }
    }

    /// Does `work` and has the kernel write to the disk meanwhile, so that [`Self::sync`] finds little left.
    pub fn syncing<T>(&self, work: impl FnOnce() -> T) -> T {
        const PAUSE: Duration = Duration::from_millis(500);
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                    let _ = self.sync();
                }
            });
            let done = work();
            drop(stop);
            done
        })
    }

    /// Flushes everything to the disk, before a name is given to it.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.root).map_err(|e| self.io(e.into()))
    }
}

/// The two parts of [`VerityDigest::object_path`].
fn shard_and_name(digest: &VerityDigest) -> (String, String) {
    let mut shard = digest.to_hex();
    let name = shard.split_off(2);
    (shard, name)
}

/// The fs-verity digest of a file, computed here.
pub(crate) fn hash(mut file: File, algorithm: Algorithm) -> std::io::Result<VerityDigest> {
    let mut hasher = VerityHasher::new(algorithm);
    // One byte more shows the end of a small file.
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut buffer = vec![0; size.saturating_add(1).min(1 << 20)];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..n]);
    }
}

/// Imports layers into the vault: files become objects, and the blob is copied on the way, so that
/// the bytes are read once.
#[derive(Debug)]
pub struct Import<'a> {
    vault: &'a Vault,
    from: &'a BlobStore,
    algorithm: Algorithm,
    /// Written again even if they are here and measure right.
    again: BTreeSet<VerityDigest>,
    /// Whether the blobs stay too.
    keep_blobs: bool,
    /// Set once the filesystem has said that it has no fs-verity, to ask it once only.
    without_verity: AtomicBool,
    /// The directories of objects, by the first byte of a digest, opened when they are needed.
    shards: Box<[OnceLock<OwnedFd>]>,
}

impl<'a> Import<'a> {
    /// From the blobs of `from`.
    pub fn new(vault: &'a Vault, from: &'a BlobStore, algorithm: Algorithm) -> Self {
        let (again, without_verity) = (BTreeSet::new(), AtomicBool::new(false));
        let shards = (0..256).map(|_| OnceLock::new()).collect();
        Self { vault, from, algorithm, again, keep_blobs: true, without_verity, shards }
    }

    /// To put good objects in the place of damaged ones: fs-verity's digest of a file stays right when its
    /// content on the disk is not.
    pub(super) fn again(
        vault: &'a Vault,
        from: &'a BlobStore,
        algorithm: Algorithm,
        again: BTreeSet<VerityDigest>,
        keep_blobs: bool,
    ) -> Self {
        Self { again, keep_blobs, ..Self::new(vault, from, algorithm) }
    }

    /// Whether the vault's filesystem turned out to have no fs-verity.
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

/// How a blob gets into the vault's store.
enum KeepBlob {
    /// It is there, or is not to be.
    Nothing,
    /// By one more name.
    Link,
    /// By what is read from it.
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
            copy.write_all(&buffer[..n])?;
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
    file: Option<NewFile>,
}

impl ContentSink for ObjectSink<'_> {
    fn begin(&mut self, size: u64) -> Result<()> {
        self.hasher = VerityHasher::new(self.import.algorithm);
        self.collected.clear();
        self.size = size;
        self.file = None;
        if size > COLLECT {
            self.file = Some(self.import.new_file()?);
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
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let mut file = self.import.new_file()?;
                file.write_all(&self.collected).map_err(|e| vault.io(e))?;
                file
            }
        };
        self.import.keep(file, &digest)?;
        Ok(digest)
    }
}

impl Import<'_> {
    /// In the objects directory itself: its final place is known when the digest is.
    fn new_file(&self) -> Result<NewFile> {
        NewFile::create(&self.vault.objects, 0o444).map_err(|e| self.vault.io(e))
    }

    fn keep(&self, file: NewFile, digest: &VerityDigest) -> Result<()> {
        let io = |e| self.vault.io(e);
        let (shard, name) = shard_and_name(digest);
        let number = usize::from(digest.as_bytes().first().copied().unwrap_or(0));
        let dir = match self.shards[number].get() {
            Some(dir) => dir,
            None => {
                let dir = files::make_dir_at(&self.vault.objects, &shard).map_err(io)?;
                self.shards[number].get_or_init(|| dir)
            }
        };
        if self.without_verity() {
            return file.replace_in(dir, &name).map_err(io);
        }
        let file = file.finish().map_err(io)?;
        match verity::enable(&file.file, self.algorithm, None, &name) {
            Ok(_) => verity::check(&file.file, digest, &self.vault.object_name(digest))?,
            Err(r) if r.case() == Case::G06Unsupported => self.without_verity.store(true, Ordering::Relaxed),
            Err(r) => return Err(r),
        }
        file.replace_in(dir, &name).map_err(io)
    }
}
