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
use crate::pki;
use crate::report::{Case, Refusal, Result, write_failed};
use crate::sys::draft::{Draft, NewDraft};
use crate::sys::files;
use crate::sys::keyring::VerityKeyring;
use crate::sys::new_files::NewFile;
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

    /// Whether there is a file of this name.
    ///
    /// # Errors
    /// [`Case::I02Object`] where that cannot be told.
    pub fn has_object(&self, digest: &VerityDigest) -> Result<bool> {
        match files::open_file_path_at(&self.objects, digest.object_path()) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Refusal::new(Case::I02Object, self.object_name(digest), e)),
        }
    }

    /// Objects of which the filesystem has lost the fs-verity data, without opening one.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn lost_objects(&self) -> Result<Vec<String>> {
        let mut lost = Vec::new();
        for shard in self.shards()? {
            let dir = files::open_dir_at(&self.objects, &shard).map_err(|e| self.io(e))?;
            for name in self.list(&dir, &format!("objects/{shard}"))? {
                let path = match files::open_file_path_at(&dir, &name) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                    other => other.map_err(|e| self.io(e))?,
                };
                if verity::is_lost(&path).map_err(|e| self.io(e))? {
                    lost.push(format!("{shard}{name}"));
                }
            }
        }
        Ok(lost)
    }

    /// The directories that objects lie in, by the first two digits of their digests.
    pub(super) fn shards(&self) -> Result<Vec<String>> {
        let is_shard = |name: &String| name.len() == 2 && name.bytes().all(|b| b.is_ascii_hexdigit());
        Ok(self.entries("objects")?.into_iter().filter(is_shard).collect())
    }

    /// An object's path, for messages.
    pub fn object_name(&self, digest: &VerityDigest) -> String {
        self.path.join("objects").join(digest.object_path()).display().to_string()
    }

    /// Opens an object that this host wrote itself, an EROFS image, or whatever has its name; it is not yet
    /// measured.
    ///
    /// # Errors
    /// [`Case::I02Object`] when it is missing, and, without opening it, when the filesystem has lost its fs-verity
    /// data: see [`verity::is_lost`].
    pub fn open_erofs(&self, digest: &VerityDigest) -> Result<File> {
        let refuse = |e: std::io::Error| Refusal::new(Case::I02Object, self.object_name(digest), e);
        let path = files::open_file_path_at(&self.objects, digest.object_path()).map_err(refuse)?;
        if verity::is_lost(&path).map_err(refuse)? {
            return Err(refuse(std::io::Error::other(LOST)));
        }
        files::reopen_file(&path).map_err(refuse)
    }

    /// Stores `bytes` as an object, with fs-verity where the filesystem has it, and with the
    /// signature where the kernel has the key.
    ///
    /// # Errors
    /// [`Case::Io`], G02.
    pub fn put_object(&self, digest: &VerityDigest, bytes: &[u8], signature: Option<&[u8]>) -> Result<()> {
        let (dir, name) = self.object_place(digest)?;
        let mut new = NewDraft::create(&dir, 0o444).map_err(|e| self.io(e))?;
        new.write_all(bytes).map_err(|e| self.io(e))?;
        let done = new.finish().map_err(|e| self.io(e))?;
        self.enable(&done, digest, signature)?;
        done.sync().map_err(|e| self.io(e))?;
        done.rename(&dir, &name).map_err(|e| self.io(e))
    }

    /// Enables fs-verity on a file that is to be an object. A key that the kernel's keyring lacks is no reason
    /// to refuse: the signature is then checked by us alone, and the kernel is not given it. A filesystem
    /// without fs-verity is none either, here: mounting asks.
    ///
    /// # Errors
    /// G02 but for the missing key.
    fn enable(&self, draft: &Draft, digest: &VerityDigest, signature: Option<&[u8]>) -> Result<()> {
        let name = self.object_name(digest);
        let signature = signature.filter(|der| kernel_knows(der));
        let mut result = verity::enable(draft, digest.algorithm(), signature, &name);
        if signature.is_some() && matches!(&result, Err(r) if r.case() == Case::G02Key) {
            // It was taken out of the keyring a moment ago.
            result = verity::enable(draft, digest.algorithm(), None, &name);
        }
        match result {
            Err(r) if r.case() == Case::G06Unsupported => Ok(()),
            Err(r) => Err(r),
            Ok(_) => Ok(()),
        }
    }

    /// Enables fs-verity on an object that is there without: one whose writing was cut off, or of a time when
    /// the filesystem had none.
    ///
    /// # Errors
    /// [`Case::Io`], G02.
    pub fn protect(&self, object: &File, digest: &VerityDigest) -> Result<()> {
        let draft = Draft::of(object, &self.objects).map_err(|e| self.io(e))?;
        self.enable(&draft, digest, None)
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
        let Ok(file) = self.open_erofs(digest) else { return false };
        if file.metadata().map_or(true, |found| found.len() != size) {
            return false;
        }
        let name = self.object_name(digest);
        let measured = match verity::check(&file, digest, &name) {
            Err(r) if r.case() == Case::G01Missing => {
                self.protect(&file, digest).and_then(|()| verity::check(&file, digest, &name))
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

/// What is said of a file whose fs-verity data is gone.
pub(super) const LOST: &str =
    "the filesystem has lost its fs-verity data, and was not asked for it; see `layerseal fsck`";

/// Whether the kernel's keyring has the certificate of this signature, where the kernel looks at signatures at all.
pub(crate) fn kernel_knows(signature: &[u8]) -> bool {
    let known = || {
        let (serial, issuer) = pki::signer_id(signature)?;
        VerityKeyring::find()?.holds(&serial, &issuer)
    };
    verity::kernel_verifies()
        && known().unwrap_or_else(|refusal| {
            log::debug!("not given to the kernel: {refusal}");
            false
        })
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
    /// The directory of an object, and its name in it.
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
