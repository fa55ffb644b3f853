use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::Vault;
use crate::digest::{Algorithm, VerityDigest, VerityHasher};
use crate::error::{Case, Refusal, Result};
use crate::pki;
use crate::sys::draft::{Draft, NewDraft};
use crate::sys::files;
use crate::sys::keyring::VerityKeyring;
use crate::sys::verity;

impl Vault {
    /// Returns the directory of objects, to put something into it.
    pub(crate) fn objects(&self) -> &OwnedFd {
        &self.objects
    }

    /// Returns the directory of objects for the overlay's `datadir+`: Linux 6.12 takes no layer from a mount that is
    /// attached nowhere.
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

    /// Returns whether there is a file of this name.
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

    /// Lists the objects whose fs-verity data the filesystem has lost, without opening one.
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

    /// Lists the directories that objects lie in, by the first two digits of their digests.
    pub(super) fn shards(&self) -> Result<Vec<String>> {
        let is_shard = |name: &String| name.len() == 2 && name.bytes().all(|b| b.is_ascii_hexdigit());
        Ok(self.entries("objects")?.into_iter().filter(is_shard).collect())
    }

    /// Returns an object's path, for messages.
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
        self.put_pieces(digest, std::iter::once(bytes), signature)
    }

    /// Stores an object like [`Self::put_object`], of bytes that come in pieces.
    pub(super) fn put_pieces<'a>(
        &self,
        digest: &VerityDigest,
        mut pieces: impl Iterator<Item = &'a [u8]>,
        signature: Option<&[u8]>,
    ) -> Result<()> {
        let (dir, name) = self.object_place(digest)?;
        let mut new = NewDraft::create(&dir, 0o444).map_err(|e| self.io(e))?;
        pieces.try_for_each(|piece| new.write_all(piece)).map_err(|e| self.io(e))?;
        let done = new.finish().map_err(|e| self.io(e))?;
        self.enable(&done, digest, signature)?;
        done.sync().map_err(|e| self.io(e))?;
        done.rename(&dir, &name).map_err(|e| self.io(e))
    }

    /// Enables fs-verity on a file that is to be an object. A key that the kernel's keyring lacks is no reason to
    /// refuse: the signature is then checked by us alone, and the kernel is not given it. Nor is a filesystem without
    /// fs-verity, here: mounting asks for it.
    ///
    /// # Errors
    /// G02, except for the missing key.
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

    /// Enables fs-verity on an object that is there without: one whose writing was interrupted, or from a time when the
    /// filesystem had none.
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

    /// Returns whether the object is there and is what its name says: measured, or hashed where the filesystem cannot
    /// measure. The digest covers the size: a file of another one is not looked at, and nobody makes us hash a sparse
    /// file that is larger than the disk.
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

    /// Does `work` and makes the kernel write to the disk meanwhile, so that [`Self::sync`] finds little left.
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

/// What is said about a file whose fs-verity data is gone.
pub(super) const LOST: &str =
    "the filesystem has lost its fs-verity data, and was not asked for it; see `layerseal fsck`";

/// Returns whether the kernel's keyring has the certificate of this signature, where the kernel looks at signatures at
/// all.
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

/// Splits [`VerityDigest::object_path`] into its two parts.
pub(super) fn shard_and_name(digest: &VerityDigest) -> (String, String) {
    let mut shard = digest.to_hex();
    let name = shard.split_off(2);
    (shard, name)
}

/// Computes the fs-verity digest of a file here.
pub(crate) fn hash(mut file: File, algorithm: Algorithm) -> std::io::Result<VerityDigest> {
    let mut hasher = VerityHasher::new(algorithm);
    // One byte more shows the end of a small file. A large buffer is slower: each of its pages is a fault.
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut buffer = vec![0; size.saturating_add(1).min(1 << 17)];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..n]);
    }
}
