//! What the records of a container store say: JSON that containers-storage reads and writes in Go.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::id_sets;
use crate::error::{Case, Refusal, Result};
use crate::oci::go_json::{self, GoShape};
use crate::oci::{ContainerId, ImageId, strict_json};

/// The fields of `layers.json` (storage/layers.go, `Layer`).
const LAYERS: GoShape = GoShape::Each(&GoShape::Struct(&[
    ("id", &GoShape::Any),
    ("names", &GoShape::Any),
    ("parent", &GoShape::Any),
    ("metadata", &GoShape::Any),
    ("mountlabel", &GoShape::Any),
    ("created", &GoShape::Any),
    ("compressed-diff-digest", &GoShape::Any),
    ("compressed-size", &GoShape::Any),
    ("diff-digest", &GoShape::Any),
    ("diff-size", &GoShape::Any),
    ("toc-digest", &GoShape::Any),
    ("compression", &GoShape::Any),
    ("uidset", &GoShape::Any),
    ("gidset", &GoShape::Any),
    ("uidmap", &GoShape::Any),
    ("gidmap", &GoShape::Any),
    ("big-data-names", &GoShape::Any),
    ("flags", &GoShape::Any),
]));

/// The fields of `images.json` (storage/images.go, `Image`).
const IMAGES: GoShape = GoShape::Each(&GoShape::Struct(&[
    ("id", &GoShape::Any),
    ("digest", &GoShape::Any),
    ("names", &GoShape::Any),
    ("names-history", &GoShape::Any),
    ("layer", &GoShape::Any),
    ("mapped-layers", &GoShape::Any),
    ("metadata", &GoShape::Any),
    ("big-data-names", &GoShape::Any),
    ("big-data-sizes", &GoShape::Any),
    ("big-data-digests", &GoShape::Any),
    ("created", &GoShape::Any),
    ("flags", &GoShape::Any),
]));

/// The fields of `containers.json` (storage/containers.go, `Container`).
const CONTAINERS: GoShape = GoShape::Each(&GoShape::Struct(&[
    ("id", &GoShape::Any),
    ("names", &GoShape::Any),
    ("image", &GoShape::Any),
    ("layer", &GoShape::Any),
    ("metadata", &GoShape::Any),
    ("big-data-names", &GoShape::Any),
    ("big-data-sizes", &GoShape::Any),
    ("big-data-digests", &GoShape::Any),
    ("created", &GoShape::Any),
    ("uidmap", &GoShape::Any),
    ("gidmap", &GoShape::Any),
    ("flags", &GoShape::Any),
]));

/// The fields of a container's metadata (podman, libpod/storage.go, `RuntimeContainerMetadata`), and those that CRI-O
/// adds (internal/storage/runtime.go, the same name).
const METADATA: GoShape = GoShape::Struct(&[
    ("image-name", &GoShape::Any),
    ("image-id", &GoShape::Any),
    ("name", &GoShape::Any),
    ("created-at", &GoShape::Any),
    ("mountlabel", &GoShape::Any),
    ("pod-name", &GoShape::Any),
    ("pod-id", &GoShape::Any),
    ("metadata-name", &GoShape::Any),
    ("uid", &GoShape::Any),
    ("namespace", &GoShape::Any),
    ("attempt", &GoShape::Any),
    ("pod", &GoShape::Any),
    ("privileged", &GoShape::Any),
]);

/// Reads `null` as Go does: like no value at all.
fn null<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    reader: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}

/// What `layers.json` says about a layer (storage/layers.go, `Layer`).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct LayerRecord {
    pub id: String,
    #[serde(default, deserialize_with = "null")]
    pub names: Vec<String>,
    #[serde(default, deserialize_with = "null")]
    pub parent: String,
    /// Digest of the uncompressed tar; empty if only a table of contents was checked.
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
    /// Whether the layer is being written, or its writer died.
    #[serde(default)]
    pub incomplete: bool,
}

/// What `images.json` says about an image (storage/images.go, `Image`).
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
    /// Returns its uppermost layer; empty for none.
    pub fn top(&self) -> &str {
        &self.layer
    }

    /// Returns whether this image has no layer at all.
    pub fn is_empty(&self) -> bool {
        self.layer.is_empty()
    }

    /// Collects the digests by which podman takes this image for an instance of a list, whatever its documents are
    /// (storage/images.go, `recomputeDigests`).
    pub fn claims(&self) -> HashSet<&str> {
        let is_manifest = |key: &str| key == "manifest" || key.starts_with("manifest-");
        let by_name = self.big_data_names.iter().filter_map(|key| key.strip_prefix("manifest-"));
        let by_key = self.big_data_digests.iter().filter(|(key, _)| is_manifest(key)).map(|(_, value)| value.as_str());
        by_name.chain(by_key).chain([self.digest.as_str()]).collect()
    }

    /// Returns whether `layer` is the uppermost one of this image, or a copy of that for other user IDs.
    pub fn has_top(&self, layer: &str) -> bool {
        !layer.is_empty() && (self.layer == layer || self.mapped_layers.iter().any(|l| l == layer))
    }
}

/// What `containers.json` says about a container (storage/containers.go, `Container`).
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

/// What the maker of a container says in its record.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Metadata {
    #[serde(default, rename = "image-name", deserialize_with = "null")]
    image_name: String,
    /// CRI-O: the ID of the pod's sandbox, which is a container too.
    #[serde(default, rename = "pod-id", deserialize_with = "null")]
    pub pod_id: String,
    /// CRI-O, for a sandbox only: the namespace.
    #[serde(default, deserialize_with = "null")]
    pub namespace: String,
    /// CRI-O: whether it is a sandbox.
    #[serde(default, deserialize_with = "null")]
    pub pod: bool,
}

impl Metadata {
    /// Returns whether CRI-O has made the container: it runs each of them, and each sandbox, in a pod.
    pub fn is_of_pod(&self) -> bool {
        self.pod || !self.pod_id.is_empty() || !self.namespace.is_empty()
    }
}

impl ContainerRecord {
    /// Returns its ID.
    ///
    /// # Errors
    /// [`Case::B07Digest`].
    pub fn id(&self) -> Result<ContainerId> {
        self.id.parse()
    }

    /// Returns the ID of the image that it is made from, if it is made from one.
    ///
    /// # Errors
    /// [`Case::B07Digest`].
    pub fn image(&self) -> Result<Option<ImageId>> {
        let image = Some(&self.image).filter(|image| !image.is_empty());
        image.map(|image| image.parse().map_err(|r: Refusal| r.within(format!("container {}", self.id)))).transpose()
    }

    /// Reads its metadata; empty if it has none.
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

    /// Returns the name by which the image was asked for: podman writes it when it makes the container, after it has
    /// resolved short names. For an image that was asked for by its ID it is one of its names, or the ID if it has none
    /// or `sha256:` stood before it; for a list it is the list's. `None` if whoever made the container does not say.
    ///
    /// # Errors
    /// [`Case::B01Records`], [`Case::B13Folded`].
    pub fn asked(&self) -> Result<Option<String>> {
        Ok(Some(self.metadata()?.image_name).filter(|name| !name.is_empty()))
    }
}

/// A record, and what Go knows of a file of them.
pub(super) trait Record: DeserializeOwned {
    const FILE: &GoShape;
}

impl Record for LayerRecord {
    const FILE: &GoShape = &LAYERS;
}

impl Record for ImageRecord {
    const FILE: &GoShape = &IMAGES;
}

impl Record for ContainerRecord {
    const FILE: &GoShape = &CONTAINERS;
}

/// Reads the records in a file of them.
pub(super) fn parse<T: Record>(bytes: &[u8], name: &str) -> Result<Vec<T>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    // Go replaces such bytes with something else; nobody should have to ask by what.
    std::str::from_utf8(bytes).map_err(|e| Refusal::new(Case::B01Records, name, e))?;
    go_json::check(bytes, T::FILE, name)?;
    // Go writes `null` for a list that never had an element.
    serde_json::from_slice::<Option<Vec<T>>>(bytes)
        .map(Option::unwrap_or_default)
        .map_err(|e| Refusal::new(Case::B01Records, name, e))
}

/// An image as its record describes it, for tests that compare readers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedImage {
    /// Its ID.
    pub id: String,
    /// Its names, as they stand there.
    pub names: Vec<String>,
    /// Its uppermost layer.
    pub layer: String,
    /// Copies of that for other user IDs.
    pub mapped: Vec<String>,
    /// The keys of its documents.
    pub keys: Vec<String>,
    /// What it says is the digest of its manifest.
    pub digest: String,
    /// What it says are the digests of its documents, by their keys.
    pub digests: BTreeMap<String, String>,
}

/// Reads the images of an `images.json`.
///
/// # Errors
/// [`Case::B01Records`], [`Case::B13Folded`].
pub fn recorded_images(bytes: &[u8]) -> Result<Vec<RecordedImage>> {
    let read = |i: ImageRecord| RecordedImage {
        id: i.id,
        names: i.names,
        layer: i.layer,
        mapped: i.mapped_layers,
        keys: i.big_data_names,
        digest: i.digest,
        digests: i.big_data_digests.into_iter().collect(),
    };
    parse(bytes, "images.json").map(|all: Vec<ImageRecord>| all.into_iter().map(read).collect())
}

/// A container as its record describes it: ID, image, layer and the name that was asked for, for tests that compare
/// readers.
pub type RecordedContainer = (String, String, String, Option<String>);

/// Reads the containers of a `containers.json`.
///
/// # Errors
/// [`Case::B01Records`], [`Case::B13Folded`].
pub fn recorded_containers(bytes: &[u8]) -> Result<Vec<RecordedContainer>> {
    let all: Vec<ContainerRecord> = parse(bytes, "containers.json")?;
    all.into_iter().map(|c| c.asked().map(|asked| (c.id, c.image, c.layer, asked))).collect()
}

/// A layer as its record describes it: ID, parent, diff_id, the digest of a table of contents, and whether it is being
/// written; for tests that compare readers.
pub type RecordedLayer = (String, String, String, String, bool);

/// Reads the layers of a `layers.json`, as it is read from a file.
///
/// # Errors
/// [`Case::B01Records`], [`Case::B13Folded`].
pub fn recorded_layers(bytes: &[u8]) -> Result<Vec<RecordedLayer>> {
    let name = "layers.json";
    let kept = id_sets::read_without(bytes, u64::MAX, u64::MAX).map_err(|e| Refusal::new(Case::B01Records, name, e))?;
    let all: Vec<LayerRecord> = parse(&kept, name)?;
    Ok(all.into_iter().map(|l| (l.id, l.parent, l.diff_digest, l.toc_digest, l.flags.incomplete)).collect())
}
