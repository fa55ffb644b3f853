//! What the vault's documents about an image name: more than is needed, never less.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, OwnedFd};

use serde_json::Value;

use super::Vault;
use crate::digest::{Algorithm, BlobDigest, VerityDigest};
use crate::error::{Case, Refusal, Result};
use crate::image::TreeDigests;
use crate::oci::{Budget, strict_json};
use crate::seal::Binding;
use crate::sys::files;

/// Both algorithms of an image's objects.
pub(super) const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha512, Algorithm::Sha256];

/// Digests that the manifest of an image, its seals and the host's own notes name.
#[derive(Debug, Default)]
pub(super) struct References {
    /// Documents and what they name: config, layers, seals, signatures.
    pub(super) blobs: BTreeSet<BlobDigest>,
    /// Digests that may be those of its EROFS images. Any digest in a document is taken for one: its object tells
    /// whether it is, and whether it is here.
    pub(super) erofs: BTreeSet<VerityDigest>,
    /// EROFS images that belong together, each set once.
    pub(super) trees: Vec<TreeReference>,
}

/// The EROFS images of an image in one algorithm.
#[derive(Clone, Debug)]
pub(super) struct TreeReference {
    pub(super) digests: TreeDigests,
    /// Whether this host made them, so that they are here; else a seal names them, and they may be.
    pub(super) made: bool,
}

impl References {
    fn tree(&mut self, digests: TreeDigests, made: bool) {
        self.erofs.extend(digests.all());
        if self.trees.iter().all(|tree| tree.digests != digests) {
            self.trees.push(TreeReference { digests, made });
        }
    }
}

impl Vault {
    /// Reads the documents of one image, strictly: what cannot be read is never taken for nothing.
    pub(super) fn named(&self, image: &BlobDigest, budget: &Budget) -> Result<References> {
        let mut named = References::default();
        named.blobs.insert(*image);
        for algorithm in ALGORITHMS {
            if let Some(digests) = self.kept_contents(image, algorithm)? {
                named.tree(digests, true);
            }
        }
        if !self.document(image, budget, &mut named)? && self.was_made(image)? {
            // It was here, and what it needs is no longer known.
            return Err(Refusal::new(Case::C04Missing, self.store.name(image), "see `layerseal fsck --repair`"));
        }
        for seal in self.entries(&format!("images/{}/seals", image.hex()))? {
            let Ok(seal) = BlobDigest::from_hex(&seal) else { continue };
            named.blobs.insert(seal);
            self.document(&seal, budget, &mut named)?;
        }
        Ok(named)
    }

    /// Adds what a manifest names. One that is not here names nothing: it is the store's, or its seal cannot be used
    /// any more. Returns whether it is here.
    fn document(&self, digest: &BlobDigest, budget: &Budget, named: &mut References) -> Result<bool> {
        let raw = match self.store.read(digest, None, budget.manifest) {
            Err(r) if r.case() == Case::C04Missing => return Ok(false),
            other => other?,
        };
        // What is not JSON is refused by every reader, and its digest is right: it names nothing.
        if let Ok(value) = strict_json::value(&raw, &digest.to_string()) {
            walk(&value, budget, named);
        }
        Ok(true)
    }

    /// Lists the names in a directory of the vault; none where it is missing.
    pub(super) fn entries(&self, name: &str) -> Result<Vec<String>> {
        match files::open_dir_at(&self.root, name) {
            Ok(dir) => self.list(&dir, name),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(Refusal::io(self.path.join(name).display().to_string(), e)),
        }
    }

    pub(super) fn list(&self, dir: &OwnedFd, name: &str) -> Result<Vec<String>> {
        files::list(dir.as_fd()).map_err(|e| Refusal::io(self.path.join(name).display().to_string(), e))
    }
}

fn walk(value: &Value, budget: &Budget, named: &mut References) {
    match value {
        Value::String(text) => string(text, budget, named),
        Value::Array(items) => items.iter().for_each(|item| walk(item, budget, named)),
        Value::Object(members) => members.values().for_each(|member| walk(member, budget, named)),
        _ => {}
    }
}

fn string(text: &str, budget: &Budget, named: &mut References) {
    if let Ok(binding) = Binding::parse(text.as_bytes(), budget) {
        named.tree(binding.digests(), false);
    } else if let Ok(blob) = text.parse::<BlobDigest>() {
        named.blobs.insert(blob);
    } else {
        named.erofs.extend(ALGORITHMS.iter().filter_map(|a| VerityDigest::from_hex(*a, text)));
    }
}
