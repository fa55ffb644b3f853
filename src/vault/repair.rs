//! Making damaged objects again.

use std::collections::BTreeSet;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::Vault;
use super::damage::{Blob, BlobDamage, Fault, ImageFsckReport, ImagePart, Remedy};
use super::fsck::VaultCheck;
use super::import::Import;
use super::references::ALGORITHMS;
use crate::digest::{Algorithm, BlobDigest, VerityDigest, verity_digest};
use crate::error::{Case, Refusal, Result};
use crate::image::{ContentSink, Contents, ContentsRequest, HashOnly, Keep, LayerBlob, LayerVisitor};
use crate::oci::{BlobStore, Image, Layer, Platform};
use crate::seal::{Bytes, Parsed, Seal, parse};

/// Where to get what the vault does not have.
pub trait Elsewhere {
    /// Brings manifest and config of an image.
    ///
    /// # Errors
    /// [`Case::C04Missing`] where there is no such place, and whatever the place says.
    fn documents(&self, image: &BlobDigest, into: &BlobStore) -> Result<()>;

    /// Brings the seals of an image into the vault, as far as they are damaged there.
    ///
    /// # Errors
    /// [`Case::C04Missing`] where there is no such place, and whatever the place says.
    fn seals(&self, image: &Image, vault: &Vault) -> Result<()>;

    /// Brings the layers of these numbers.
    ///
    /// # Errors
    /// [`Case::C04Missing`] where there is no such place, and whatever the place says.
    fn layers(&self, image: &Image, numbers: &[usize]) -> Result<Box<dyn FetchedLayers>>;
}

/// Layers that were brought. They are gone when this value is dropped.
pub trait FetchedLayers {
    /// Returns the store that has the layers.
    fn store(&self) -> &BlobStore;

    /// Returns whether the layers are to stay in the vault: those of images whose layers it keeps.
    fn keep(&self) -> bool;
}

/// Layers that are partly here and partly not.
struct RepairStores<'a> {
    own: &'a BlobStore,
    fetched: Option<&'a BlobStore>,
    algorithm: Algorithm,
}

impl LayerVisitor for RepairStores<'_> {
    fn sink(&self) -> Box<dyn ContentSink + '_> {
        Box::new(HashOnly::new(self.algorithm))
    }

    fn open(&self, layer: &Layer) -> Result<Box<dyn LayerBlob + '_>> {
        let fetched = self.fetched.and_then(|store| store.open_blob(&layer.digest).ok());
        Ok(Box::new(fetched.map_or_else(|| self.own.open_blob(&layer.digest), Ok)?))
    }
}

impl VaultCheck<'_> {
    /// Repairs what [`VaultCheck::check`] found. Objects are made again from the image's layers where these are in the
    /// vault and are what their digests say; `elsewhere` can bring those that are not. What cannot be made again is
    /// removed, with the notes that it is good, so that the next start makes it again where the files are to be had.
    ///
    /// # Errors
    /// [`Case::Io`], [`Case::G02Enable`] and the like, where nothing can be written.
    pub fn repair(&mut self, checked: &mut ImageFsckReport, elsewhere: &dyn Elsewhere) -> Result<()> {
        if !checked.documents.is_empty() && self.forget_notes(&checked.image)? {
            if let Err(refusal) = self.notes_again(&checked.image, elsewhere) {
                told(&checked.image, &refusal);
            }
            *checked = self.check(&checked.image)?;
        }
        if !checked.blobs.is_empty() {
            if let Err(refusal) = self.blobs_again(checked, elsewhere) {
                told(&checked.image, &refusal);
            }
            for damage in &mut checked.blobs {
                if self.vault.store().holds(&damage.digest)? {
                    damage.remedy = Remedy::Repaired;
                } else if damage.blob == Blob::Seal {
                    self.remove_seals(&checked.image, &damage.digest)?;
                    damage.remedy = Remedy::Removed;
                }
            }
            let hid = |b: &BlobDamage| match b.blob {
                Blob::Manifest => b.remedy == Remedy::Repaired,
                Blob::Seal => !b.missing,
                Blob::Config | Blob::Layer(_) => false,
            };
            if checked.blobs.iter().any(hid) {
                // Now the other faults can be found.
                let before = std::mem::take(&mut checked.blobs);
                *checked = self.check(&checked.image)?;
                self.repair(checked, elsewhere)?;
                checked.blobs.splice(0..0, before);
                return Ok(());
            }
        }
        let faulty: BTreeSet<VerityDigest> = checked.damage.iter().map(|d| d.object).collect();
        if faulty.is_empty() {
            return Ok(());
        }
        for damage in checked.damage.iter().filter(|d| d.fault == Fault::Unprotected) {
            self.vault.protect(&self.vault.open_object(&damage.object)?, &damage.object)?;
        }
        let protected = checked.damage.iter().filter(|d| d.fault == Fault::Unprotected).map(|d| d.object);
        let rest: BTreeSet<VerityDigest> = faulty.difference(&protected.collect()).copied().collect();
        if !rest.is_empty()
            && let Err(refusal) = self.again(checked, &rest, elsewhere)
        {
            told(&checked.image, &refusal);
        }
        self.vault.sync()?;
        for object in &faulty {
            let fault = self.read(object)?;
            let remedy = if fault.is_none() { Remedy::Repaired } else { Remedy::Removed };
            if fault.is_some() {
                self.remove(object)?;
            }
            self.seen.insert(*object, fault.map(|_| Fault::Missing));
            checked.damage.iter_mut().filter(|d| d.object == *object).for_each(|d| d.remedy = remedy);
        }
        if checked.damage.iter().any(|d| d.remedy == Remedy::Removed) {
            self.forget(&checked.image)?;
        }
        if checked.damage.iter().any(|d| d.path.is_none() && d.remedy == Remedy::Repaired) {
            // Only now can it be told which files it lists.
            let mut next = self.check(&checked.image)?;
            self.repair(&mut next, elsewhere)?;
            next.damage.splice(0..0, checked.damage.drain(..));
            next.blobs.splice(0..0, checked.blobs.drain(..));
            *checked = next;
        }
        Ok(())
    }

    /// Looks again at what was not whole, after somebody else has made it again.
    ///
    /// # Errors
    /// As [`VaultCheck::check`].
    pub fn look_again(&mut self, checked: &mut ImageFsckReport) -> Result<()> {
        self.seen.retain(|_, fault| fault.is_none());
        let now = self.check(&checked.image)?;
        for damage in checked.damage.iter_mut().filter(|d| d.remedy != Remedy::Repaired) {
            if now.damage.iter().all(|left| left.object != damage.object) {
                damage.remedy = Remedy::Repaired;
            }
        }
        for damage in checked.blobs.iter_mut().filter(|b| b.remedy != Remedy::Repaired) {
            if self.vault.store().holds(&damage.digest)? {
                damage.remedy = Remedy::Repaired;
            }
        }
        checked.documents = now.documents;
        checked.objects = now.objects;
        Ok(())
    }

    /// Brings documents and layers again, from wherever they are to be had.
    fn blobs_again(&self, checked: &ImageFsckReport, elsewhere: &dyn Elsewhere) -> Result<()> {
        let own = self.vault.store();
        if checked.blobs.iter().any(|b| matches!(b.blob, Blob::Manifest | Blob::Config)) {
            elsewhere.documents(&checked.image, own)?;
        }
        if checked.blobs.iter().any(|b| b.blob == Blob::Seal) {
            let image = Image::read(own, &checked.image, &Platform::host(), self.budget);
            if let Err(refusal) = image.and_then(|image| elsewhere.seals(&image, self.vault)) {
                told(&checked.image, &refusal);
            }
        }
        let number = |b: &BlobDamage| if let Blob::Layer(number) = b.blob { Some(number) } else { None };
        let layers: Vec<usize> = checked.blobs.iter().filter_map(number).collect();
        if layers.is_empty() {
            return Ok(());
        }
        let image = Image::read(own, &checked.image, &Platform::host(), self.budget)?;
        let fetched = elsewhere.layers(&image, &layers)?;
        layers.iter().filter_map(|n| image.layers.get(*n)).try_for_each(|l| own.copy_from(fetched.store(), &l.digest))
    }

    /// Removes a blob of an image's seals, and the manifests that name it. It stays on record that the image had these
    /// seals, so that this is reported until they are back, unless another one of them is whole.
    fn remove_seals(&self, image: &BlobDigest, damaged: &BlobDigest) -> Result<()> {
        let (mut gone, mut others) = (vec![*damaged], false);
        for seal in self.vault.seals(image, self.budget)? {
            let raw = self.vault.store().read(&seal, None, self.budget.manifest).unwrap_or_default();
            let named = damaged.to_string();
            match raw.is_empty() || raw.windows(named.len()).any(|part| part == named.as_bytes()) {
                true => gone.push(seal),
                false => others = true,
            }
        }
        for digest in &gone {
            remove(self.vault, &format!("blobs/sha256/{}", digest.hex()))?;
            if others {
                remove(self.vault, &format!("images/{}/seals/{}", image.hex(), digest.hex()))?;
            }
        }
        Ok(())
    }

    /// Removes notes of an image that cannot be read; returns whether there were any.
    fn forget_notes(&self, image: &BlobDigest) -> Result<bool> {
        let mut found = false;
        for algorithm in ALGORITHMS {
            if self.vault.kept_contents(image, algorithm).is_err() {
                remove(self.vault, &format!("images/{}/digests.{algorithm}", image.hex()))?;
                found = true;
            }
        }
        if found {
            self.forget(image)?;
        }
        Ok(found)
    }

    /// Makes the notes again from the layers. For podman's images the next start does that.
    fn notes_again(&self, image: &BlobDigest, elsewhere: &dyn Elsewhere) -> Result<()> {
        if !self.vault.was_pulled(image)? {
            return Ok(());
        }
        let own = self.vault.store();
        let image = Image::read(own, image, &Platform::host(), self.budget)?;
        let mut missing = Vec::new();
        for (number, layer) in image.layers.iter().enumerate() {
            if !own.holds(&layer.digest)? {
                missing.push(number);
            }
        }
        let fetched = if missing.is_empty() { None } else { Some(elsewhere.layers(&image, &missing)?) };
        let algorithm = Algorithm::Sha512;
        let stores = RepairStores { own, fetched: fetched.as_deref().map(FetchedLayers::store), algorithm };
        let contents =
            Contents::read(&image, ContentsRequest { algorithm, keep: Keep::Images }, &stores, self.budget, &|_| {})?;
        self.vault.keep_images(&image.digest, &contents.images)
    }

    /// Writes the objects `faulty` anew, as far as layers and seals of the image hold them. Files need the layer that
    /// they are in; EROFS images that no seal carries need all layers.
    fn again(
        &self,
        checked: &ImageFsckReport,
        faulty: &BTreeSet<VerityDigest>,
        elsewhere: &dyn Elsewhere,
    ) -> Result<()> {
        let own = self.vault.store();
        let image = Image::read(own, &checked.image, &Platform::host(), self.budget)?;
        let mut faulty = faulty.clone();
        self.carried(&image, &faulty)?;
        for erofs in checked.damage.iter().filter(|d| d.path.is_none()) {
            // An object that has just been taken from a seal is whole now.
            if self.read(&erofs.object)?.is_none() {
                faulty.remove(&erofs.object);
            }
        }
        let damage = || checked.damage.iter().filter(|d| faulty.contains(&d.object));
        let whole = damage().any(|d| d.path.is_none() || !matches!(d.part, ImagePart::Layer(_)));
        let numbers: BTreeSet<usize> = match whole {
            true => (0..image.layers.len()).collect(),
            false => damage().filter_map(|d| if let ImagePart::Layer(n) = d.part { Some(n) } else { None }).collect(),
        };
        let (mut here, mut missing) = (Vec::new(), Vec::new());
        for number in numbers {
            let held = image.layers.get(number).map(|l| own.holds(&l.digest)).transpose()?.unwrap_or_default();
            if held { here.push(number) } else { missing.push(number) }
        }
        // Before anything is written from them.
        let fetched = if missing.is_empty() { None } else { Some(elsewhere.layers(&image, &missing)?) };
        for algorithm in ALGORITHMS {
            let again: BTreeSet<_> = faulty.iter().filter(|d| d.algorithm() == algorithm).copied().collect();
            if again.is_empty() {
                continue;
            }
            if let Some(fetched) = &fetched {
                let import = Import::again(self.vault, fetched.store(), algorithm, again.clone(), fetched.keep());
                Contents::visit(&image, &missing, &import, self.budget, &|_| {})?;
            }
            let import = Import::again(self.vault, own, algorithm, again.clone(), true);
            Contents::visit(&image, &here, &import, self.budget, &|_| {})?;
            if whole {
                self.erofs_again(&image, fetched.as_deref(), &again, algorithm)?;
            }
        }
        Ok(())
    }

    /// Makes EROFS images again, from layers that have been looked at by now.
    fn erofs_again(
        &self,
        image: &Image,
        fetched: Option<&dyn FetchedLayers>,
        again: &BTreeSet<VerityDigest>,
        algorithm: Algorithm,
    ) -> Result<()> {
        let stores = RepairStores { own: self.vault.store(), fetched: fetched.map(FetchedLayers::store), algorithm };
        let contents =
            Contents::read(image, ContentsRequest { algorithm, keep: Keep::Images }, &stores, self.budget, &|_| {})?;
        for (digest, bytes) in contents.images.all() {
            if again.contains(digest) {
                self.put(image, digest, bytes)?;
            }
        }
        Ok(())
    }

    /// Takes EROFS images from a seal that carries them: others' are not what we would make of the layers.
    fn carried(&self, image: &Image, faulty: &BTreeSet<VerityDigest>) -> Result<()> {
        let seals = self.seals(image)?;
        for erofs in seals.iter().flat_map(|seal| &seal.erofs).filter(|e| faulty.contains(&e.digest)) {
            let bytes = self.vault.store().read(&erofs.blob, Some(erofs.size), self.budget.erofs);
            if let Ok(bytes) = bytes
                && verity_digest(erofs.digest.algorithm(), &bytes) == erofs.digest
            {
                self.put(image, &erofs.digest, &bytes)?;
            }
        }
        Ok(())
    }

    /// Stores an EROFS image with its signature, for kernels that have the key. The signature is not judged here: the
    /// kernel or the next verification does that.
    fn put(&self, image: &Image, digest: &VerityDigest, bytes: &[u8]) -> Result<()> {
        let signature = self.seals(image)?.into_iter().flat_map(|seal| seal.signatures).find(|s| s.digest == *digest);
        let der = signature.and_then(|s| match s.der {
            Some(Bytes::Blob { digest, size }) => {
                self.vault.store().read(&digest, Some(size), self.budget.signature).ok()
            }
            Some(Bytes::Here(der)) => Some(der),
            None => None,
        });
        match self.vault.put_object(digest, bytes, der.as_deref()) {
            Err(r) if r.case() == Case::G02Rejected => self.vault.put_object(digest, bytes, None),
            other => other,
        }
    }

    /// Reads the seals that can be read: one that cannot vouches for nothing.
    fn seals(&self, image: &Image) -> Result<Vec<Seal>> {
        let seals = self.vault.seals(&image.digest, self.budget)?;
        let read = |digest: &BlobDigest| {
            let raw = self.vault.store().read(digest, None, self.budget.manifest).ok()?;
            match parse(&raw, digest, image, self.budget).ok()? {
                Parsed::Seal(seal) => Some(*seal),
                Parsed::Other(_) => None,
            }
        };
        Ok(seals.iter().filter_map(read).collect())
    }

    fn remove(&self, object: &VerityDigest) -> Result<()> {
        remove(self.vault, &format!("objects/{}", object.object_path()))
    }

    /// Takes away the notes that spare a start its work: the one that the image was compared with its layers, and,
    /// because other images may have had the same object, every note that all objects are there.
    fn forget(&self, image: &BlobDigest) -> Result<()> {
        let place = format!("images/{}", image.hex());
        let notes = self.vault.entries(&place)?.into_iter().filter(|name| name.starts_with("checked."));
        for note in notes {
            remove(self.vault, &format!("{place}/{note}"))?;
        }
        for note in self.vault.entries("prepared")? {
            remove(self.vault, &format!("prepared/{note}"))?;
        }
        Ok(())
    }
}

/// Warns of a refusal, except where nobody could be asked: then nothing went wrong.
fn told(image: &BlobDigest, refusal: &Refusal) {
    let level = if refusal.case() == Case::C04Missing { log::Level::Info } else { log::Level::Warn };
    log::log!(level, "{image}: not made again: {refusal}");
}

fn remove(vault: &Vault, path: &str) -> Result<()> {
    match unlinkat(&vault.root, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(Refusal::io(vault.path.join(path).display().to_string(), std::io::Error::from(e))),
    }
}
