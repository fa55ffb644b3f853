//! What a container store holds, so that others do not throw it away.

use std::path::Path;

use super::storage::{ImageRecord, Store};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::Budget;

/// Lists the digests of all manifests and indexes of all images in the container store at `root`: those that it names,
/// and that of the one it uses by default. They are claims: an image is in the store as long as its record is.
///
/// # Errors
/// [`Case::B01Records`] and [`Case::B09Replaced`] for records that cannot be read, [`Case::B07Digest`] for a name that
/// is not a digest. A store without any record holds nothing.
pub fn manifest_digests(root: &Path) -> Result<Vec<BlobDigest>> {
    let store = Store::open(root)?;
    let mut digests = Vec::new();
    for image in store.images() {
        let within = |r: Refusal| r.within(format!("image {} in {}", image.id, root.display()));
        digests.extend(manifest_digests_of(&store, image).map_err(within)?);
    }
    digests.sort_unstable();
    digests.dedup();
    Ok(digests)
}

/// Lists the same for one image.
pub(super) fn manifest_digests_of(store: &Store, image: &ImageRecord) -> Result<Vec<BlobDigest>> {
    let mut digests = Vec::new();
    for name in image.big_data_names.iter().filter_map(|key| key.strip_prefix("manifest-")) {
        digests.push(name.parse()?);
    }
    if image.big_data_names.iter().any(|key| key == "manifest") {
        let raw = store.big_data(image, "manifest", Budget::STANDARD.manifest)?;
        let gone = || Refusal::new(Case::B01Records, "manifest", "it is missing");
        digests.push(BlobDigest::of(&raw.ok_or_else(gone)?));
    }
    Ok(digests)
}

/// Lists the IDs of all layers in the container store at `root`.
///
/// # Errors
/// [`Case::B01Records`] and [`Case::B09Replaced`] for records that cannot be read.
pub fn layer_ids(root: &Path) -> Result<Vec<BlobDigest>> {
    // An ID has the form of a digest, and often is one. Others belong to nobody.
    Ok(Store::open(root)?.layers().filter_map(|layer| BlobDigest::from_hex(&layer.id).ok()).collect())
}
