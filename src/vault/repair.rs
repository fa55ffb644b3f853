//! Making damaged objects again.

use std::collections::BTreeSet;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::Vault;
use super::fsck::{Blob, BlobDamage, Checked, Fault, Fsck, Part, Remedy};
use super::named::ALGORITHMS;
use super::objects::Import;
use crate::digest::{Algorithm, BlobDigest, VerityDigest, verity_digest};
use crate::image::{ContentSink, Contents, HashOnly, Keep, LayerBlob, LayerVisitor};
use crate::oci::{BlobStore, Image, Layer, Platform};
use crate::report::{Case, Refusal, Result};
use crate::seal::{Bytes, Parsed, Seal, parse};

/// Where things are that the vault does not have.
pub trait Elsewhere {
    /// Brings manifest and config of an image.
    ///
    /// # Errors
    /// [`Case::C04Missing`] where there is no such place, and whatever it says.
    fn documents(&self, image: &BlobDigest, into: &BlobStore) -> Result<()>;

    /// Brings the layers of these numbers.
    ///
    /// # Errors
    /// [`Case::C04Missing`] where there is no such place, and whatever it says.
    fn layers(&self, image: &Image, numbers: &[usize]) -> Result<Box<dyn Layers>>;
}

/// Layers that were brought. They go with this value.
pub trait Layers {
    /// Where they are.
    fn store(&self) -> &BlobStore;

    /// Whether they are to stay in the vault: those of images that it has them of.
    fn keep(&self) -> bool;
}

/// Layers that are partly here and partly not.
struct Stores<'a> {
    own: &'a BlobStore,
    fetched: Option<&'a BlobStore>,
    algorithm: Algorithm,
}

impl LayerVisitor for Stores<'_> {
    fn sink(&self) -> Box<dyn ContentSink + '_> {
        Box::new(HashOnly::new(self.algorithm))
    }

    fn open(&self, layer: &Layer) -> Result<Box<dyn LayerBlob + '_>> {
        let fetched = self.fetched.and_then(|store| store.open_blob(&layer.digest).ok());
        Ok(Box::new(fetched.map_or_else(|| self.own.open_blob(&layer.digest), Ok)?))
    }
}

impl Fsck<'_> {
    /// Mends what [`Fsck::check`] found. Objects are made again from the image's layers where these are
    /// in the vault and are what their digests say; those that are not `elsewhere` can bring. What cannot be
    /// made again is removed, with the notes that it is good, so that whoever has the files makes it again
    /// at the next start.
    ///
    /// # Errors
    /// [`Case::Io`], [`Case::G02Enable`] and the like, where nothing can be written.
    pub fn repair(&mut self, checked: &mut Checked, elsewhere: &dyn Elsewhere) -> Result<()> {
        if !checked.blobs.is_empty() {
            if let Err(refusal) = self.blobs_again(checked, elsewhere) {
                told(&checked.image, &refusal);
            }
            for damage in &mut checked.blobs {
                if self.vault.store().holds(&damage.digest)? {
                    damage.remedy = Remedy::Repaired;
                }
            }
            if checked.blobs.iter().any(|b| b.blob == Blob::Manifest && b.remedy == Remedy::Repaired) {
                // Now it can be told what else is wrong.
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
            // Only now can be told which files it lists.
            let mut next = self.check(&checked.image)?;
            self.repair(&mut next, elsewhere)?;
            next.damage.splice(0..0, checked.damage.drain(..));
            next.blobs.splice(0..0, checked.blobs.drain(..));
            *checked = next;
        }
        Ok(())
    }

    /// Documents and layers, from wherever they are to be had.
    fn blobs_again(&self, checked: &Checked, elsewhere: &dyn Elsewhere) -> Result<()> {
        let own = self.vault.store();
        if checked.blobs.iter().any(|b| matches!(b.blob, Blob::Manifest | Blob::Config)) {
            elsewhere.documents(&checked.image, own)?;
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

    /// Writes the objects `faulty` anew, as far as layers and seals of the image hold them. Files need the
    /// layer that they are of, EROFS images that no seal carries all of them.
    fn again(&self, checked: &Checked, faulty: &BTreeSet<VerityDigest>, elsewhere: &dyn Elsewhere) -> Result<()> {
        let own = self.vault.store();
        let image = Image::read(own, &checked.image, &Platform::host(), self.budget)?;
        let mut faulty = faulty.clone();
        self.carried(&image, &faulty)?;
        for erofs in checked.damage.iter().filter(|d| d.path.is_none()) {
            // One that has just been taken from a seal is whole now.
            if self.read(&erofs.object)?.is_none() {
                faulty.remove(&erofs.object);
            }
        }
        let damage = || checked.damage.iter().filter(|d| faulty.contains(&d.object));
        let whole = damage().any(|d| d.path.is_none() || !matches!(d.part, Part::Layer(_)));
        let numbers: BTreeSet<usize> = match whole {
            true => (0..image.layers.len()).collect(),
            false => damage().filter_map(|d| if let Part::Layer(n) = d.part { Some(n) } else { None }).collect(),
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

    /// EROFS images, from layers that were looked at by now.
    fn erofs_again(
        &self,
        image: &Image,
        fetched: Option<&dyn Layers>,
        again: &BTreeSet<VerityDigest>,
        algorithm: Algorithm,
    ) -> Result<()> {
        let stores = Stores { own: self.vault.store(), fetched: fetched.map(Layers::store), algorithm };
        let contents = Contents::read(image, (algorithm, Keep::Images), &stores, self.budget, &|_| {})?;
        for (digest, bytes) in contents.images.all() {
            if again.contains(digest) {
                self.put(image, digest, bytes)?;
            }
        }
        Ok(())
    }

    /// EROFS images that a seal carries: others' are not what we would make of the layers.
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

    /// Stores an EROFS image with its signature, for kernels that have the key. The signature is
    /// nobody's word here: the kernel or the next verification judges it.
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

    /// Those that can be read: what cannot is nobody's word.
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

    /// Takes away the notes that spare a start its work: that the image was compared with its layers,
    /// and, because other images may have had the same object, every one that all objects are there.
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

/// Where there is nobody to ask nothing went wrong.
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
