//! Seals that this host has accepted, outside of the vault: the vault is in the graph root, which is removed together
//! with podman's or CRI-O's store, by CRI-O itself after a power cut. Images come back by a pull, and their seals from
//! here, whether the registry can be reached or not. A kept seal is like any seal that is found: it means nothing
//! before it is verified.
//!
//! ```text
//! /var/lib/layerseal/seals/blobs/sha256/…               manifests of seals, signatures, statements; no EROFS images
//!                          images/<manifest>/<seal>     the seals of an image
//! ```

use serde::Deserialize;

use super::Vault;
use crate::digest::BlobDigest;
use crate::error::{Refusal, Result};
use crate::oci::{BlobStore, Budget};
use crate::state::StateDir;
use crate::sys::{files, new_files};

const DIR: StateDir = StateDir::Seals;
/// The largest blob that is kept: signatures and statements have a few thousand bytes, and the EROFS images that some
/// seals carry are made of the layers again.
const MAX_BLOB: u64 = 1 << 20;
/// The most images: a host has no more in years, and each takes some 20 kB.
const MAX_IMAGES: usize = 10_000;

/// What a seal's manifest refers to, whatever its kind.
#[derive(Deserialize)]
struct SealParts {
    config: Option<SealPart>,
    #[serde(default)]
    layers: Vec<SealPart>,
}

#[derive(Deserialize)]
struct SealPart {
    digest: String,
    size: u64,
}

/// Keeps a seal of `image` that was accepted. A seal that is kept is not written again.
///
/// # Errors
/// [`crate::error::Case::Io`] and those of reading blobs.
pub fn keep_seal(vault: &Vault, image: &BlobDigest, seal: &BlobDigest) -> Result<()> {
    let place = DIR.path();
    let io = |e: std::io::Error| Refusal::io(place.display().to_string(), e);
    let marker = place.join("images").join(image.hex()).join(seal.hex());
    if marker.exists() {
        return Ok(());
    }
    let root = DIR.make().map_err(io)?;
    let images = files::make_dir_at(&root, "images").map_err(io)?;
    if files::names(&images).map_err(io)?.len() >= MAX_IMAGES {
        log::info!("{}: full", place.display());
        return Ok(());
    }
    let store = BlobStore::create(&root, &place)?;
    let raw = vault.store().read(seal, None, Budget::STANDARD.manifest)?;
    for digest in small(&raw) {
        // A blob that is not here was not needed.
        if let Ok(bytes) = vault.store().read(&digest, None, MAX_BLOB) {
            store.write(&bytes)?;
        }
    }
    store.write(&raw)?;
    let own = files::make_dir_at(&images, &image.hex()).map_err(io)?;
    new_files::write_atomic(own, &seal.hex(), 0o644, b"").map_err(io)
}

/// Finds where kept seals are, and which there are of `image`; `None` where none can be read.
pub fn kept_seals(image: &BlobDigest) -> Option<(BlobStore, Vec<BlobDigest>)> {
    let root = DIR.open().ok()??;
    let store = BlobStore::open(&root, &DIR.path()).ok()?;
    let names = files::open_dir_at(&root, format!("images/{}", image.hex())).and_then(files::names).ok()?;
    let seals = names.iter().filter_map(|name| BlobDigest::from_hex(name.to_str()?).ok());
    Some((store, seals.take(Budget::STANDARD.seals).collect()))
}

/// Brings the seals of `image` that are kept into the vault; returns whether there are any that it did not have.
///
/// # Errors
/// [`crate::error::Case::Io`] of writing to the vault. What cannot be read is left out.
pub fn bring_kept(vault: &Vault, image: &BlobDigest) -> Result<bool> {
    let had = vault.seals(image, &Budget::STANDARD)?;
    bring(vault, image, |seal| !had.contains(seal))
}

/// Brings all seals that are kept of `image` into the vault, in place of what is damaged there.
///
/// # Errors
/// As [`bring_kept`].
pub fn restore_kept(vault: &Vault, image: &BlobDigest) -> Result<bool> {
    bring(vault, image, |_| true)
}

fn bring(vault: &Vault, image: &BlobDigest, is_wanted: impl Fn(&BlobDigest) -> bool) -> Result<bool> {
    let place = DIR.path();
    let Ok(Some(root)) = DIR.open() else { return Ok(false) };
    let Ok(store) = BlobStore::open(&root, &place) else { return Ok(false) };
    let own = files::open_dir_at(&root, format!("images/{}", image.hex()));
    let names = own.and_then(files::names).unwrap_or_default();
    if names.is_empty() {
        return Ok(false);
    }
    let seals = names.iter().filter_map(|name| BlobDigest::from_hex(name.to_str()?).ok());
    let mut brought = false;
    for seal in seals.filter(is_wanted).take(Budget::STANDARD.seals) {
        let Ok(raw) = store.read(&seal, None, Budget::STANDARD.manifest) else { continue };
        for digest in small(&raw) {
            if let Ok(bytes) = store.read(&digest, None, MAX_BLOB) {
                vault.store().write(&bytes)?;
            }
        }
        vault.add_seal(image, &raw)?;
        brought = true;
    }
    Ok(brought)
}

/// Lists the blobs of a seal except for large ones.
fn small(raw: &[u8]) -> Vec<BlobDigest> {
    let Ok(SealParts { config, layers }) = serde_json::from_slice(raw) else { return Vec::new() };
    let all = config.into_iter().chain(layers).filter(|part| part.size <= MAX_BLOB);
    all.filter_map(|part| part.digest.parse().ok()).collect()
}
