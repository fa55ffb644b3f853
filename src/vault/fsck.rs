//! Reading everything that an image needs, and naming what is damaged.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read as _};

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;

use super::Vault;
use super::damage::{Blob, BlobDamage, Damage, Fault, ImageFsckReport, ImagePart, Remedy};
use super::references::References;
use crate::digest::{BlobDigest, VerityDigest, VerityHasher, verity_digest};
use crate::error::{Case, Refusal, Result};
use crate::image::{TreeDigests, external_files};
use crate::oci::{Budget, ManifestOrIndex, blob_digest, document};
use crate::sys::{files, verity};

/// Is told how much there is to read, and how much was read, in bytes, each since the last call.
pub struct FsckProgress<'a> {
    /// This much more to read was found.
    pub found: &'a (dyn Fn(u64) + Sync),
    /// This much was read.
    pub read: &'a (dyn Fn(u64) + Sync),
}

/// A check of several images, which reads what they share once.
pub struct VaultCheck<'a> {
    pub(super) vault: &'a Vault,
    pub(super) budget: &'a Budget,
    pub(super) progress: FsckProgress<'a>,
    pub(super) seen: HashMap<VerityDigest, Option<Fault>>,
}

impl<'a> VaultCheck<'a> {
    /// Begins a check. The caller holds [`Vault::shared`].
    pub fn new(vault: &'a Vault, budget: &'a Budget, progress: FsckProgress<'a>) -> Self {
        Self { vault, budget, progress, seen: HashMap::new() }
    }

    /// Reads every EROFS image and object of an image. What the kernel protects it also checks, block
    /// by block; what it does not is hashed here.
    ///
    /// # Errors
    /// [`Case::Io`] where nothing can be said at all.
    pub fn check(&mut self, image: &BlobDigest) -> Result<ImageFsckReport> {
        let (documents, blobs, damage) = (Vec::new(), Vec::new(), Vec::new());
        let mut checked = ImageFsckReport { image: *image, objects: 0, documents, blobs, damage };
        if self.vault.was_made(image)? {
            self.blobs(image, &mut checked)?;
            if checked.blobs.iter().any(|b| b.blob == Blob::Manifest) {
                // What the manifest names cannot be told.
                return Ok(checked);
            }
        }
        self.seal_manifests(image, &mut checked)?;
        if checked.blobs.iter().any(|b| b.blob == Blob::Seal && !b.missing) {
            // And neither can what these name.
            return Ok(checked);
        }
        let named = match self.vault.named(image, self.budget) {
            Ok(named) => named,
            Err(refusal) => {
                checked.documents.push(refusal);
                return Ok(checked);
            }
        };
        self.parts_of_seals(&named, &mut checked)?;
        let mut met: HashSet<VerityDigest> = HashSet::new();
        for (part, erofs) in self.parts(&named)? {
            let listed = self.erofs(part, &erofs, &mut checked);
            let mut objects = vec![(None, erofs, None)];
            objects.extend(listed.into_iter().map(|f| (Some(f.path), f.object, Some(f.size))));
            for (path, object, size) in objects {
                // An object is counted once, but every name of it in a layer is reported; the trees only add what no
                // layer has.
                if met.insert(object) {
                    checked.objects += 1;
                } else if !matches!(part, ImagePart::Layer(_)) {
                    continue;
                }
                let fault = self.object(&object, size)?;
                if let Some(fault) = fault {
                    let path = path.map(|p| String::from_utf8_lossy(&p).into_owned());
                    checked.damage.push(Damage { part, path, object, fault, remedy: Remedy::None });
                }
            }
        }
        Ok(checked)
    }

    /// Reads manifest, config and layers. The layers of podman's images are not in the vault.
    fn blobs(&self, image: &BlobDigest, checked: &mut ImageFsckReport) -> Result<()> {
        let pulled = self.vault.was_pulled(image)?;
        let mut look = |blob: Blob, digest: BlobDigest| -> Result<bool> {
            let missing = self.vault.store().open_blob(&digest).is_err_and(|r| r.case() == Case::C04Missing);
            let good = (missing && matches!(blob, Blob::Layer(_)) && !pulled) || self.vault.store().holds(&digest)?;
            if !good {
                checked.blobs.push(BlobDamage { blob, digest, missing, remedy: Remedy::None });
            }
            Ok(good)
        };
        if !look(Blob::Manifest, *image)? {
            return Ok(());
        }
        let raw = self.vault.store().read(image, None, self.budget.manifest)?;
        let ManifestOrIndex::Manifest(manifest) = document(&raw, &image.to_string())? else { return Ok(()) };
        look(Blob::Config, blob_digest(manifest.config())?)?;
        for (number, layer) in manifest.layers().iter().enumerate() {
            (self.progress.found)(layer.size());
            look(Blob::Layer(number), blob_digest(layer)?)?;
            (self.progress.read)(layer.size());
        }
        Ok(())
    }

    fn seal_manifests(&self, image: &BlobDigest, checked: &mut ImageFsckReport) -> Result<()> {
        for digest in self.vault.seals(image, self.budget)? {
            if !self.vault.store().holds(&digest)? {
                let missing = self.vault.store().open_blob(&digest).is_err_and(|r| r.case() == Case::C04Missing);
                checked.blobs.push(BlobDamage { blob: Blob::Seal, digest, missing, remedy: Remedy::None });
            }
        }
        Ok(())
    }

    /// Reads what else documents name, as far as it is here: signatures and statements. Of EROFS images that a seal
    /// carries the objects are looked at, and layers of podman's images are podman's.
    fn parts_of_seals(&self, named: &References, checked: &mut ImageFsckReport) -> Result<()> {
        for digest in &named.blobs {
            let is_here = self.vault.store().size(digest).is_some();
            if is_here && checked.blobs.iter().all(|b| b.digest != *digest) && !self.vault.store().holds(digest)? {
                let blob = if *digest == checked.image { Blob::Manifest } else { Blob::Seal };
                checked.blobs.push(BlobDamage { blob, digest: *digest, missing: false, remedy: Remedy::None });
            }
        }
        Ok(())
    }

    /// Lists the EROFS images that the image has here, layers first: they tell more than the trees.
    fn parts(&self, named: &References) -> Result<Vec<(ImagePart, VerityDigest)>> {
        let mut parts: Vec<(ImagePart, VerityDigest)> = Vec::new();
        for tree in &named.trees {
            let TreeDigests { rootfs, merged, layers } = &tree.digests;
            let layers = layers.iter().enumerate().map(|(number, digest)| (ImagePart::Layer(number), *digest));
            let merged = merged.map(|digest| (ImagePart::Merged, digest));
            for (part, digest) in layers.chain(Some((ImagePart::Rootfs, *rootfs))).chain(merged) {
                if tree.made || self.is_expected(&digest)? {
                    parts.push((part, digest));
                }
            }
        }
        // Images of seals without a statement, as far as they are here.
        let others = named.erofs.iter().filter(|digest| parts.iter().all(|(_, known)| known != *digest));
        let others = others.map(|d| Ok((self.is_expected(d)?, (ImagePart::Merged, *d)))).collect::<Result<Vec<_>>>()?;
        parts.extend(others.into_iter().filter_map(|(expected, part)| expected.then_some(part)));
        Ok(parts)
    }

    /// Returns whether an EROFS image that a seal names was used here.
    fn is_expected(&self, digest: &VerityDigest) -> Result<bool> {
        Ok(self.vault.was_prepared(digest, true)
            || self.vault.was_prepared(digest, false)
            || self.vault.has_object(digest)?)
    }

    /// Reads the files of an EROFS image; there are none where it is damaged: the caller reports its object.
    fn erofs(
        &mut self,
        part: ImagePart,
        digest: &VerityDigest,
        checked: &mut ImageFsckReport,
    ) -> Vec<crate::image::External> {
        let Ok(file) = self.vault.open_erofs(digest) else { return Vec::new() };
        let Ok(bytes) = files::read_all(file, self.budget.erofs) else { return Vec::new() };
        if verity_digest(digest.algorithm(), &bytes) != *digest {
            return Vec::new();
        }
        match external_files(&bytes, digest.algorithm()) {
            Ok(files) => {
                (self.progress.found)(files.iter().map(|f| f.size).sum());
                files
            }
            Err(refusal) => {
                checked.documents.push(refusal.within(part));
                Vec::new()
            }
        }
    }

    /// Returns what is wrong with an object; each is read once.
    fn object(&mut self, digest: &VerityDigest, size: Option<u64>) -> Result<Option<Fault>> {
        let fault = match self.seen.get(digest) {
            Some(fault) => {
                (self.progress.read)(size.unwrap_or(0));
                fault.clone()
            }
            None => {
                let fault = self.read(digest)?;
                self.seen.insert(*digest, fault.clone());
                fault
            }
        };
        let Some(size) = size.filter(|_| fault.is_none()) else { return Ok(fault) };
        let length = self.vault.open_object(digest)?.metadata().map_err(|e| self.vault.io(e))?.len();
        // The digest covers the size: if they differ it is the EROFS image that lies.
        Ok((length != size).then(|| Fault::Damaged(format!("{length} bytes instead of {size}"))))
    }

    pub(super) fn read(&self, digest: &VerityDigest) -> Result<Option<Fault>> {
        let name = self.vault.object_name(digest);
        let path = files::open_file_path_at(&self.vault.objects, digest.object_path());
        let file = match path.and_then(|path| Ok((verity::is_lost(&path)?, path))) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Some(Fault::Missing)),
            Err(e) => return Ok(Some(Fault::Damaged(e.to_string()))),
            Ok((true, _)) => return Ok(Some(Fault::Lost)),
            Ok((false, path)) => match files::reopen_file(&path) {
                Err(e) => return Ok(Some(Fault::Damaged(e.to_string()))),
                Ok(file) => file,
            },
        };
        // Read from the disk and not from memory, where it may still be good.
        fadvise(&file, 0, None, Advice::DontNeed).map_err(|e| Refusal::io(&name, e))?;
        let hash = match verity::check(&file, digest, &name) {
            Ok(()) => None,
            Err(r) if matches!(r.case(), Case::G01Missing | Case::G06Unsupported) => Some(r.case()),
            Err(r) if r.case() == Case::G01Other => return Ok(Some(Fault::Damaged(r.detail().to_owned()))),
            Err(r) => return Ok(Some(Fault::Damaged(r.to_string()))),
        };
        let found = match self.content(file, digest, hash.is_some()) {
            Ok(found) => found,
            Err(e) if e.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                let why = if hash.is_none() { "fs-verity refuses to read it" } else { "it cannot be read" };
                return Ok(Some(Fault::Damaged(why.into())));
            }
            Err(e) => return Ok(Some(Fault::Damaged(e.to_string()))),
        };
        Ok(match (found, hash) {
            (Some(found), _) if found != *digest => Some(Fault::Damaged(format!("its content is that of {found}"))),
            (_, Some(Case::G01Missing)) => Some(Fault::Unprotected),
            _ => None,
        })
    }

    /// Reads all of a file, and hashes it where `hash` says that nobody else does.
    fn content(&self, mut file: File, digest: &VerityDigest, hash: bool) -> std::io::Result<Option<VerityDigest>> {
        let mut hasher = hash.then(|| VerityHasher::new(digest.algorithm()));
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                return Ok(hasher.map(VerityHasher::finish));
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(&buffer[..n]);
            }
            (self.progress.read)(n as u64);
        }
    }
}
