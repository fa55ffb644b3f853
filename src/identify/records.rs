//! What the records of a container store say: JSON that containers-storage reads and writes in Go.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::oci::go_json::{self, Shape};
use crate::oci::strict_json;
use crate::report::{Case, Refusal, Result};

/// The fields of `layers.json` (storage/layers.go, `Layer`).
pub(super) const LAYERS: Shape = Shape::Each(&Shape::Struct(&[
    ("id", &Shape::Any),
    ("names", &Shape::Any),
    ("parent", &Shape::Any),
    ("metadata", &Shape::Any),
    ("mountlabel", &Shape::Any),
    ("created", &Shape::Any),
    ("compressed-diff-digest", &Shape::Any),
    ("compressed-size", &Shape::Any),
    ("diff-digest", &Shape::Any),
    ("diff-size", &Shape::Any),
    ("toc-digest", &Shape::Any),
    ("compression", &Shape::Any),
    ("uidset", &Shape::Any),
    ("gidset", &Shape::Any),
    ("uidmap", &Shape::Any),
    ("gidmap", &Shape::Any),
    ("big-data-names", &Shape::Any),
    ("flags", &Shape::Any),
]));

/// The fields of `images.json` (storage/images.go, `Image`).
pub(super) const IMAGES: Shape = Shape::Each(&Shape::Struct(&[
    ("id", &Shape::Any),
    ("digest", &Shape::Any),
    ("names", &Shape::Any),
    ("names-history", &Shape::Any),
    ("layer", &Shape::Any),
    ("mapped-layers", &Shape::Any),
    ("metadata", &Shape::Any),
    ("big-data-names", &Shape::Any),
    ("big-data-sizes", &Shape::Any),
    ("big-data-digests", &Shape::Any),
    ("created", &Shape::Any),
    ("flags", &Shape::Any),
]));

/// The fields of `containers.json` (storage/containers.go, `Container`).
pub(super) const CONTAINERS: Shape = Shape::Each(&Shape::Struct(&[
    ("id", &Shape::Any),
    ("names", &Shape::Any),
    ("image", &Shape::Any),
    ("layer", &Shape::Any),
    ("metadata", &Shape::Any),
    ("big-data-names", &Shape::Any),
    ("big-data-sizes", &Shape::Any),
    ("big-data-digests", &Shape::Any),
    ("created", &Shape::Any),
    ("uidmap", &Shape::Any),
    ("gidmap", &Shape::Any),
    ("flags", &Shape::Any),
]));

/// The fields of a container's metadata (podman, libpod/storage.go, `RuntimeContainerMetadata`), and those that CRI-O
/// adds (internal/storage/runtime.go, the same name).
const METADATA: Shape = Shape::Struct(&[
    ("image-name", &Shape::Any),
    ("image-id", &Shape::Any),
    ("name", &Shape::Any),
    ("created-at", &Shape::Any),
    ("mountlabel", &Shape::Any),
    ("pod-name", &Shape::Any),
    ("pod-id", &Shape::Any),
    ("metadata-name", &Shape::Any),
    ("uid", &Shape::Any),
    ("namespace", &Shape::Any),
    ("attempt", &Shape::Any),
    ("pod", &Shape::Any),
    ("privileged", &Shape::Any),
]);

/// For Go `null` is no value at all.
fn null<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    reader: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}

/// What `layers.json` says of a layer (storage/layers.go, `Layer`).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct LayerRecord {
    pub id: String,
    #[serde(default, deserialize_with = "null")]
    pub parent: String,
    /// Digest of the uncompressed tar; missing where only a table of contents was checked.
    #[serde(default, rename = "diff-digest", deserialize_with = "null")]
    pub diff_digest: String,
    /// Digest of the table of contents of a `zstd:chunked` or eStargz layer.
    #[serde(default, rename = "toc-digest", deserialize_with = "null")]
    pub toc_digest: String,
    #[serde(default, deserialize_with = "null")]
    pub flags: LayerFlags,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct LayerFlags {
    /// The layer is being written, or its writer died.
    #[serde(default)]
    pub incomplete: bool,
}

/// What `images.json` says of an image (storage/images.go, `Image`).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ImageRecord {
    pub id: String,
    #[serde(default, deserialize_with = "null")]
    pub names: Vec<String>,
    #[serde(default, deserialize_with = "null")]
    layer: String,
    #[serde(default, rename = "mapped-layers", deserialize_with = "null")]
    mapped_layers: Vec<String>,
    #[serde(default, rename = "big-data-names", deserialize_with = "null")]
    pub big_data_names: Vec<String>,
    #[serde(default, deserialize_with = "null")]
    digest: String,
    #[serde(default, rename = "big-data-digests", deserialize_with = "null")]
    big_data_digests: HashMap<String, String>,
}

impl ImageRecord {
    /// Its uppermost layer; empty for none.
    pub fn top(&self) -> &str {
        &self.layer
    }

    /// Whether this image has no layer at all.
    pub fn is_empty(&self) -> bool {
        self.layer.is_empty()
    }

    /// The digests by which podman takes this image for an instance of a list, whatever its documents are
    /// (storage/images.go, `recomputeDigests`).
    pub fn claims(&self) -> HashSet<&str> {
        let is_manifest = |key: &str| key == "manifest" || key.starts_with("manifest-");
        let by_name = self.big_data_names.iter().filter_map(|key| key.strip_prefix("manifest-"));
        let by_key = self.big_data_digests.iter().filter(|(key, _)| is_manifest(key)).map(|(_, value)| value.as_str());
        by_name.chain(by_key).chain([self.digest.as_str()]).collect()
    }

    /// Whether `layer` is the uppermost one of this image, or a copy of that for other user IDs.
    pub fn has_top(&self, layer: &str) -> bool {
        !layer.is_empty() && (self.layer == layer || self.mapped_layers.iter().any(|l| l == layer))
    }
}

/// What `containers.json` says of a container (storage/containers.go, `Container`).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ContainerRecord {
    pub id: String,
    #[serde(default, deserialize_with = "null")]
    pub names: Vec<String>,
    #[serde(default, deserialize_with = "null")]
    pub image: String,
    #[serde(default, deserialize_with = "null")]
    pub layer: String,
    #[serde(default, deserialize_with = "null")]
    metadata: String,
}

/// What whoever made a container says of it in its record.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Metadata {
    #[serde(default, rename = "image-name", deserialize_with = "null")]
    image_name: String,
    /// CRI-O's: the ID of the pod's sandbox, which is a container too.
    #[serde(default, rename = "pod-id", deserialize_with = "null")]
    pub pod_id: String,
    /// CRI-O's, of a sandbox only.
    #[serde(default, deserialize_with = "null")]
    pub namespace: String,
    /// CRI-O's: it is a sandbox.
    #[serde(default, deserialize_with = "null")]
    pub pod: bool,
}

impl ContainerRecord {
    /// Its metadata; nothing in it where there is none.
    ///
    /// # Errors
    /// [`Case::B01Records`], [`Case::B13Folded`].
    pub fn metadata(&self) -> Result<Metadata> {
        if self.metadata.is_empty() {
            return Ok(Metadata::default());
        }
        let subject = format!("metadata of container {}", self.id);
        go_json::check(self.metadata.as_bytes(), &METADATA, &subject)?;
        strict_json::parse(self.metadata.as_bytes(), &subject)
            .map_err(|r| Refusal::new(Case::B01Records, subject, r.detail()))
    }

    /// The name that the image was asked for by: podman writes it when it makes the container, after it has
    /// resolved short names. For an image that was asked for by its ID it is some name of it, or the ID where it
    /// has none or where `sha256:` stood before it; of a list it is the list's. `None` where whoever made the
    /// container does not say.
    ///
    /// # Errors
    /// [`Case::B01Records`], [`Case::B13Folded`].
    pub fn asked(&self) -> Result<Option<String>> {
        Ok(Some(self.metadata()?.image_name).filter(|name| !name.is_empty()))
    }
}

/// The records in a file of them.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], shape: &Shape, name: &str) -> Result<Vec<T>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    // Go puts something else in its place; what that would be is no question to have.
    std::str::from_utf8(bytes).map_err(|e| Refusal::new(Case::B01Records, name, e))?;
    go_json::check(bytes, shape, name)?;
    // Go writes `null` for a list that never had an element.
    serde_json::from_slice::<Option<Vec<T>>>(bytes)
        .map(Option::unwrap_or_default)
        .map_err(|e| Refusal::new(Case::B01Records, name, e))
}

/// An image by its record, for whoever compares readers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedImage {
    /// Its ID.
    pub id: String,
    /// Its names, as they stand there.
    pub names: Vec<String>,
    /// Its uppermost layer.
    pub layer: String,
    /// The keys of its documents.
    pub keys: Vec<String>,
}

/// The images of an `images.json`.
///
/// # Errors
/// [`Case::B01Records`], [`Case::B13Folded`].
pub fn recorded_images(bytes: &[u8]) -> Result<Vec<RecordedImage>> {
    let read = |i: ImageRecord| RecordedImage { id: i.id, names: i.names, layer: i.layer, keys: i.big_data_names };
    parse(bytes, &IMAGES, "images.json").map(|all: Vec<ImageRecord>| all.into_iter().map(read).collect())
}

/// A container by its record: ID, image, layer and the name that was asked for, for whoever compares readers.
pub type RecordedContainer = (String, String, String, Option<String>);

/// The containers of a `containers.json`.
///
/// # Errors
/// [`Case::B01Records`], [`Case::B13Folded`].
pub fn recorded_containers(bytes: &[u8]) -> Result<Vec<RecordedContainer>> {
    let all: Vec<ContainerRecord> = parse(bytes, &CONTAINERS, "containers.json")?;
    all.into_iter().map(|c| c.asked().map(|asked| (c.id, c.image, c.layer, asked))).collect()
}
