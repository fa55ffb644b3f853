//! The seals that were found for the images of the vault, whoever made them.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, statat, unlinkat};

use super::Vault;
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::Budget;
use crate::sys::{files, new_files};

impl Vault {
    /// Puts an artifact's manifest beside the image; its blobs are in the store. If there are as many as the budget allows,
    /// it takes the place of the oldest that this host never accepted, or of the oldest of all: whatever a registry lists
    /// must not be in the way of what is good.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn add_seal(&self, image: &BlobDigest, manifest: &[u8]) -> Result<BlobDigest> {
        let digest = self.store.write(manifest)?;
        let dir = files::make_dir_at(&self.root, &format!("images/{}/seals", image.hex())).map_err(|e| self.io(e))?;
        self.make_room(image, &dir, &digest)?;
        new_files::write_atomic(&dir, &digest.hex(), 0o644, b"").map_err(|e| self.io(e))?;
        Ok(digest)
    }

    fn make_room(&self, image: &BlobDigest, dir: &OwnedFd, new: &BlobDigest) -> Result<()> {
        let mut seals = self.seal_names(image)?;
        let most = Budget::STANDARD.seals;
        seals.retain(|seal| seal != new);
        let extra = (seals.len() + 1).saturating_sub(most);
        if extra == 0 {
            return Ok(());
        }
        let worth = |seal: &BlobDigest| {
            let stat = statat(dir, seal.hex(), AtFlags::SYMLINK_NOFOLLOW);
            (self.was_checked(image, seal), stat.map_or((0, 0), |stat| (stat.st_mtime, stat.st_mtime_nsec)))
        };
        seals.sort_by_cached_key(worth);
        for seal in &seals[..extra] {
            unlinkat(dir, seal.hex(), AtFlags::empty()).map_err(|e| self.io(e.into()))?;
        }
        Ok(())
    }

    fn seal_names(&self, image: &BlobDigest) -> Result<Vec<BlobDigest>> {
        let names = self.entries(&format!("images/{}/seals", image.hex()))?;
        Ok(names.iter().filter_map(|name| BlobDigest::from_hex(name).ok()).collect())
    }

    /// Lists the seals that were found for the image, at most as many as the budget allows.
    ///
    /// # Errors
    /// [`Case::C02TooMany`].
    pub fn seals(&self, image: &BlobDigest, budget: &Budget) -> Result<Vec<BlobDigest>> {
        let seals = self.seal_names(image)?;
        if seals.len() > budget.seals {
            return Err(Refusal::new(
                Case::C02TooMany,
                image.to_string(),
                format!(
                    "{}, allowed are {}; `layerseal fetch` makes room for what it brings",
                    seals.len(),
                    budget.seals
                ),
            ));
        }
        Ok(seals)
    }

    /// Returns whether the images of this seal were compared with the layers on this host before. Only of use for a
    /// seal whose signed statement names image and digests: then a forged marker gives an attacker nothing that the
    /// signer did not sign.
    pub fn was_checked(&self, image: &BlobDigest, seal: &BlobDigest) -> bool {
        files::open_dir_at(&self.root, format!("images/{}", image.hex()))
            .and_then(|dir| files::open_file_at(dir, format!("checked.{}", seal.hex())))
            .is_ok()
    }

    /// Remembers that the images of this seal were compared with the layers.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn mark_checked(&self, image: &BlobDigest, seal: &BlobDigest) -> Result<()> {
        let dir = files::make_dir_at(&self.root, &format!("images/{}", image.hex())).map_err(|e| self.io(e))?;
        new_files::write_atomic(dir, &format!("checked.{}", seal.hex()), 0o644, b"").map_err(|e| self.io(e))
    }
}
