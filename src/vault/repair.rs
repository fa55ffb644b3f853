//! Making damaged objects again.

use std::collections::BTreeSet;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::Vault;
use super::fsck::{Checked, Fault, Fsck, Remedy};
use super::named::ALGORITHMS;
use super::objects::Import;
use crate::digest::{BlobDigest, VerityDigest, verity_digest};
use crate::image::Contents;
use crate::oci::{Image, Platform};
use crate::report::{Case, Refusal, Result};
use crate::seal::{Bytes, Parsed, Seal, parse};

impl Fsck<'_> {
    /// Mends what [`Fsck::check`] found. Objects are made again from the image's layers where these are
    /// in the vault and are what their digests say. What cannot be made again is removed, with the notes
    /// that it is good, so that whoever has the files makes it again at the next start.
    ///
    /// # Errors
    /// [`Case::Io`], [`Case::G02Enable`] and the like, where nothing can be written.
    pub fn repair(&mut self, checked: &mut Checked) -> Result<()> {
        let faulty: BTreeSet<VerityDigest> = checked.damage.iter().map(|d| d.object).collect();
        if faulty.is_empty() {
            return Ok(());
        }
        for damage in checked.damage.iter().filter(|d| d.fault == Fault::Unprotected) {
            self.vault.enable(&self.vault.open_object(&damage.object)?, &damage.object, None)?;
        }
        let protected = checked.damage.iter().filter(|d| d.fault == Fault::Unprotected).map(|d| d.object);
        let rest: BTreeSet<VerityDigest> = faulty.difference(&protected.collect()).copied().collect();
        if !rest.is_empty()
            && let Err(refusal) = self.again(&checked.image, &rest)
        {
            log::info!("{}: not made again from its layers: {refusal}", checked.image);
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
        Ok(())
    }

    /// Writes the objects `faulty` anew, as far as layers and seals of the image hold them.
    fn again(&self, image: &BlobDigest, faulty: &BTreeSet<VerityDigest>) -> Result<()> {
        let store = self.vault.store();
        let image = Image::read(store, image, &Platform::host(), self.budget)?;
        self.carried(&image, faulty)?;
        for layer in &image.layers {
            // Before anything is written from them.
            if !store.holds(&layer.digest)? {
                return Err(Refusal::new(Case::C04Missing, store.name(&layer.digest), "or damaged"));
            }
        }
        for algorithm in ALGORITHMS {
            let again: BTreeSet<_> = faulty.iter().filter(|d| d.algorithm() == algorithm).copied().collect();
            if again.is_empty() {
                continue;
            }
            let import = Import::again(self.vault, algorithm, again.clone());
            let contents = Contents::read(&image, algorithm, &import, self.budget, &|_| {})?;
            let images = contents.layer_digests.iter().zip(&contents.layers);
            for (digest, bytes) in images.chain(Some((&contents.merged_digest, &contents.merged))) {
                if again.contains(digest) {
                    self.put(&image, digest, bytes)?;
                }
            }
        }
        Ok(())
    }

    /// EROFS images that a seal carries: others' are not what we would make of the layers.
    fn carried(&self, image: &Image, faulty: &BTreeSet<VerityDigest>) -> Result<()> {
        let seals = self.seals(image);
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
        let signature = self.seals(image).into_iter().flat_map(|seal| seal.signatures).find(|s| s.digest == *digest);
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

    fn seals(&self, image: &Image) -> Vec<Seal> {
        let seals = self.vault.seals(&image.digest, self.budget).unwrap_or_default();
        let read = |digest: &BlobDigest| {
            let raw = self.vault.store().read(digest, None, self.budget.manifest).ok()?;
            match parse(&raw, digest, image, self.budget).ok()? {
                Parsed::Seal(seal) => Some(*seal),
                Parsed::Other(_) => None,
            }
        };
        seals.iter().filter_map(read).collect()
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

fn remove(vault: &Vault, path: &str) -> Result<()> {
    match unlinkat(&vault.root, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(Refusal::io(vault.path.join(path).display().to_string(), std::io::Error::from(e))),
    }
}
