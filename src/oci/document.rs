//! Manifests and indexes as JSON, read as podman reads them.

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde_json::Value;

use super::{go_json, strict_json};
use crate::error::{Case, Refusal, Result};

/// A manifest or an index, but never both (CVE-2021-41190).
pub(crate) enum ManifestOrIndex {
    /// An image or artifact manifest.
    Manifest(Box<ImageManifest>),
    /// An index.
    Index(Box<ImageIndex>),
}

/// Reads `raw` as a manifest or an index.
///
/// # Errors
/// [`Case::B06Ambiguous`], [`Case::B13Folded`], [`Case::D14Json`].
pub(crate) fn document(raw: &[u8], name: &str) -> Result<ManifestOrIndex> {
    let mut value = strict_json::value(raw, name)?;
    go_json::check_value(&value, &go_json::MANIFEST, name)?;
    let has = |key: &str| value.get(key).is_some_and(|v| !v.is_null());
    let media = value.get("mediaType").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_index = has("manifests");
    let ambiguous = match is_index {
        true => has("layers") || has("config") || media.contains("manifest.v"),
        false => media.contains("index"),
    };
    if ambiguous {
        return Err(Refusal::new(Case::B06Ambiguous, name, ""));
    }
    let shape = |e: serde_json::Error| Refusal::new(Case::D14Json, name, e);
    // Go writes null for a list that was never made.
    if let Some(layers) = value.get_mut("layers").filter(|layers| layers.is_null()) {
        *layers = Value::Array(Vec::new());
    }
    let document = match is_index {
        true => ManifestOrIndex::Index(Box::new(serde_json::from_value(value).map_err(shape)?)),
        false => ManifestOrIndex::Manifest(Box::new(serde_json::from_value(value).map_err(shape)?)),
    };
    // Go knows no larger sizes.
    let size = document.descriptors().map(Descriptor::size).find(|size| i64::try_from(*size).is_err());
    size.map_or(Ok(document), |size| Err(Refusal::new(Case::D14Json, name, format!("a size of {size}"))))
}

impl ManifestOrIndex {
    /// Iterates over the descriptors of its parts.
    fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        let (one, more) = match self {
            Self::Manifest(manifest) => (Some(manifest.config()), manifest.layers()),
            Self::Index(index) => (None, index.manifests()),
        };
        one.into_iter().chain(more)
    }
}

/// The digests that a manifest or an index names, as they are written there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedDigests {
    /// The digest of the config; an index has none.
    pub config: Option<String>,
    /// The digests of the layers.
    pub layers: Vec<String>,
    /// The digests of the manifests in an index.
    pub manifests: Vec<String>,
}

/// Returns what a raw manifest or index names, for tests that compare readers.
///
/// # Errors
/// [`Case::B06Ambiguous`], [`Case::B13Folded`], [`Case::D14Json`].
pub fn named(raw: &[u8]) -> Result<NamedDigests> {
    let digests = |all: &[Descriptor]| all.iter().map(|d| d.digest().to_string()).collect();
    Ok(match document(raw, "manifest")? {
        ManifestOrIndex::Manifest(manifest) => NamedDigests {
            config: Some(manifest.config().digest().to_string()),
            layers: digests(manifest.layers()),
            manifests: Vec::new(),
        },
        ManifestOrIndex::Index(index) => {
            NamedDigests { manifests: digests(index.manifests()), ..NamedDigests::default() }
        }
    })
}
