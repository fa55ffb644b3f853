use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;

use super::document::{ManifestOrIndex, document};
use super::{BlobStore, Budget, Platform, go_json, strict_json};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};

/// How a layer blob is compressed, read from its bytes and not from its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// Zstandard, RFC 8878; `zstd:chunked` is read as the zstd stream that it also is.
    Zstd,
}

/// One layer of an image, as its manifest and config state it.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Digest of the blob as it is stored and transported.
    pub digest: BlobDigest,
    /// Size of that blob in bytes.
    pub size: u64,
    /// Digest of the uncompressed tar (image-spec, config.md, `rootfs.diff_ids`).
    pub diff_id: BlobDigest,
    /// Whether its blob is compressed, by its media type.
    pub compressed: bool,
    /// The descriptor's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// An image: raw manifest and config whose bytes match their digests, and the layers that both name.
///
/// The raw bytes are kept, because digests and signatures are over them; JSON is never serialised
/// again for a digest.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the raw manifest.
    pub digest: BlobDigest,
    /// The raw manifest.
    pub manifest: Vec<u8>,
    /// The manifest's media type.
    pub media_type: String,
    /// Whether podman takes it for an image of Docker: see [`Self::differs_by_kind`].
    docker: bool,
    /// The manifest's own annotations.
    pub annotations: BTreeMap<String, String>,
    /// Digest of the raw config.
    pub config_digest: BlobDigest,
    /// The raw config.
    pub config: Vec<u8>,
    /// The config descriptor's annotations.
    pub config_annotations: BTreeMap<String, String>,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
}

/// The parts of the config that matter here; the rest is the container engine's.
#[derive(Deserialize)]
struct ImageConfig {
    rootfs: RootFs,
    os: Option<String>,
    architecture: Option<String>,
}

#[derive(Deserialize)]
struct RootFs {
    /// Go writes null for a list that was never made.
    diff_ids: Option<Vec<String>>,
}

impl Image {
    /// Returns whether none of its layers is compressed: podman keeps what it builds and loads in this form, and what
    /// it pulls as it was pushed, which is compressed.
    pub fn is_uncompressed(&self) -> bool {
        !self.layers.is_empty() && self.layers.iter().all(|layer| !layer.compressed)
    }

    /// Reads the image whose manifest has `digest`; through an index, the instance for `platform`.
    ///
    /// # Errors
    /// `C03`, `C04`, `B06`, `B07`, `D13`, `D14` and the like: see docs/attacks.md.
    pub fn read(store: &BlobStore, digest: &BlobDigest, platform: &Platform, budget: &Budget) -> Result<Self> {
        let raw = store.read(digest, None, budget.manifest)?;
        let name = format!("manifest {digest}");
        match document(&raw, &name)? {
            ManifestOrIndex::Manifest(manifest) => Self::from_manifest(store, *digest, raw, &manifest, budget),
            ManifestOrIndex::Index(index) => {
                let instance = instance(&index, digest, platform)?;
                let digest = blob_digest(instance)?;
                let raw = store.read(&digest, Some(instance.size()), budget.manifest)?;
                match document(&raw, &format!("manifest {digest}"))? {
                    ManifestOrIndex::Manifest(manifest) => {
                        let image = Self::from_manifest(store, digest, raw, &manifest, budget)?;
                        image.check_platform(platform)?;
                        Ok(image)
                    }
                    ManifestOrIndex::Index(_) => Err(index_in_index(&digest)),
                }
            }
        }
    }

    /// Returns the digest of the image that a raw document with `digest` stands for: `digest` itself, or for an index
    /// that of the instance for `platform`, by which the caller then fetches it.
    ///
    /// # Errors
    /// [`Case::D13Platform`], B06, B07, D14.
    pub fn choose(raw: &[u8], digest: &BlobDigest, platform: &Platform) -> Result<BlobDigest> {
        match document(raw, &format!("manifest {digest}"))? {
            ManifestOrIndex::Manifest(_) => Ok(*digest),
            ManifestOrIndex::Index(index) => blob_digest(instance(&index, digest, platform)?),
        }
    }

    /// Lists the images of an index, for all platforms, and what else is in it; `None` for the manifest of an image.
    ///
    /// # Errors
    /// B06, B07, D14.
    pub fn instances(raw: &[u8], digest: &BlobDigest) -> Result<Option<Vec<Instance>>> {
        let ManifestOrIndex::Index(index) = document(raw, &format!("manifest {digest}"))? else { return Ok(None) };
        let instances: Vec<Instance> = index.manifests().iter().map(Instance::of).collect::<Result<_>>()?;
        if instances.iter().all(|instance| instance.passed_over.is_some()) && nested(&index).is_some() {
            return Err(index_in_index(digest));
        }
        Ok(Some(instances))
    }

    /// Returns what podman would treat differently if the manifest were of the other kind, OCI's or Docker's: from an
    /// image of Docker it takes the health check and no annotations, from one of OCI the annotations and no health
    /// check (libimage, `Inspect`; libpod, `addHealthCheck`).
    pub fn differs_by_kind(&self) -> Option<&'static str> {
        if self.docker && !self.annotations.is_empty() {
            return Some("annotations");
        }
        // Read as Go reads it, which ignores case.
        let config = strict_json::value(&self.config, "config").ok();
        let keys = config.as_ref().and_then(|c| c.get("config")?.as_object());
        let any =
            keys.is_some_and(|keys| keys.iter().any(|(key, v)| go_json::folds(key, "Healthcheck") && !v.is_null()));
        any.then_some("a health check")
    }

    /// Returns whether podman takes it for an image of Docker.
    pub fn is_docker(&self) -> bool {
        self.docker
    }

    /// Lists the places of the volumes that podman makes for every container of the image (`VOLUME`).
    pub fn volumes(&self) -> Vec<String> {
        let config = strict_json::value(&self.config, "config").ok();
        let volumes = config.as_ref().and_then(|config| config.get("config")?.get("Volumes")?.as_object());
        volumes.map(|volumes| volumes.keys().cloned().collect()).unwrap_or_default()
    }

    /// Returns the platform that the config names, or this host's if it names none.
    pub fn platform(&self) -> Platform {
        let config = read_config(&self.config, "config").ok();
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        match config.map(|c| (given(c.os), given(c.architecture))) {
            Some((Some(os), Some(architecture))) => Platform { os, architecture, variant: None },
            _ => Platform::host(),
        }
    }

    /// Checks that the config agrees with the index from which the image was chosen. An index is not signed: without
    /// this check it could make one platform's sealed image run in the place of another's.
    fn check_platform(&self, platform: &Platform) -> Result<()> {
        let name = format!("config {}", self.config_digest);
        let config = read_config(&self.config, &name)?;
        // An empty field contradicts nothing: Go writes an empty string for what was never set.
        let differs =
            |found: &Option<String>, wanted: &str| found.as_ref().is_some_and(|f| !f.is_empty() && f != wanted);
        if differs(&config.os, platform.os()) || differs(&config.architecture, platform.architecture()) {
            let found = format!("{}/{}", config.os.unwrap_or_default(), config.architecture.unwrap_or_default());
            return Err(Refusal::new(Case::D13Platform, name, format!("the index says {platform}, the image {found}")));
        }
        Ok(())
    }

    /// Builds the image of a raw manifest and a raw config that were found together somewhere, such as in
    /// containers-storage: the digest is the manifest's own, and the config must be the one that the manifest names.
    ///
    /// # Errors
    /// `C03`, `C04`, `B06`, `B07`, `D14` and the like, as for [`Self::read`].
    pub fn from_bytes(manifest: Vec<u8>, config: Vec<u8>, budget: &Budget) -> Result<Self> {
        let digest = BlobDigest::of(&manifest);
        let name = format!("manifest {digest}");
        for (what, bytes, max) in [("manifest", &manifest, budget.manifest), ("config", &config, budget.config)] {
            if bytes.len() as u64 > max {
                let why = format!("its {what} has {} bytes, allowed are {max}", bytes.len());
                return Err(Refusal::new(Case::C03TooBig, name, why));
            }
        }
        let parsed = match document(&manifest, &name)? {
            ManifestOrIndex::Manifest(parsed) => parsed,
            ManifestOrIndex::Index(_) => {
                return Err(Refusal::new(Case::B06Ambiguous, name, "an index in the place of a manifest"));
            }
        };
        let named = blob_digest(parsed.config())?;
        if BlobDigest::of(&config) != named || config.len() as u64 != parsed.config().size() {
            return Err(Refusal::new(Case::C04Bytes, format!("config {named}"), ""));
        }
        Self::assemble(digest, manifest, &parsed, config, budget)
    }

    fn from_manifest(
        store: &BlobStore,
        digest: BlobDigest,
        raw: Vec<u8>,
        manifest: &ImageManifest,
        budget: &Budget,
    ) -> Result<Self> {
        let config = store.read(&blob_digest(manifest.config())?, Some(manifest.config().size()), budget.config)?;
        Self::assemble(digest, raw, manifest, config, budget)
    }

    /// Puts together what was compared with its digests: `raw` with `digest`, `config` with its descriptor.
    fn assemble(
        digest: BlobDigest,
        raw: Vec<u8>,
        manifest: &ImageManifest,
        config: Vec<u8>,
        budget: &Budget,
    ) -> Result<Self> {
        let name = format!("manifest {digest}");
        if manifest.layers().len() > budget.layers {
            return Err(Refusal::new(
                Case::H07Budget,
                name,
                format!("{} layers, allowed are {}", manifest.layers().len(), budget.layers),
            ));
        }
        let config_digest = blob_digest(manifest.config())?;
        let diff_ids = diff_ids(&config, &config_digest)?;
        if diff_ids.len() != manifest.layers().len() {
            let why = format!("{} layers, but {} diff_ids in the config", manifest.layers().len(), diff_ids.len());
            return Err(Refusal::new(Case::D05Layers, name, why));
        }
        let layers = manifest
            .layers()
            .iter()
            .zip(diff_ids)
            .map(|(descriptor, diff_id)| layer(descriptor, diff_id))
            .collect::<Result<_>>()?;
        let media_type = manifest
            .media_type()
            .as_ref()
            .map_or_else(|| oci_spec::image::MediaType::ImageManifest.to_string(), ToString::to_string);
        Ok(Self {
            digest,
            media_type,
            docker: is_docker(manifest),
            annotations: sorted(manifest.annotations()),
            config_digest,
            config_annotations: sorted(manifest.config().annotations()),
            manifest: raw,
            config,
            layers,
        })
    }
}

/// Guesses the kind as containers/image does (manifest, `GuessMIMEType`): by what the manifest says it is, or, if it
/// says nothing, by what it says about its config.
fn is_docker(manifest: &ImageManifest) -> bool {
    let media = manifest.media_type().as_ref().map(ToString::to_string).filter(|media| !media.is_empty());
    match media {
        Some(media) => media != oci_spec::image::MediaType::ImageManifest.to_string(),
        None => *manifest.config().media_type() != oci_spec::image::MediaType::ImageConfig,
    }
}

/// One entry of an index.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The digest of its manifest.
    pub digest: BlobDigest,
    /// The platform that the index states.
    pub platform: Option<String>,
    /// Why it is not an image that can be sealed, if it is not one.
    pub passed_over: Option<&'static str>,
}

impl Instance {
    fn of(descriptor: &Descriptor) -> Result<Self> {
        let platform = descriptor.platform().as_ref();
        let os = platform.map(|p| p.os().to_string()).unwrap_or_default();
        // BuildKit's attestations, for an unknown platform.
        let about = descriptor.annotations().iter().flatten().any(|(key, _)| key == "vnd.docker.reference.type");
        let passed_over = match () {
            () if about || os == "unknown" => Some("an attestation"),
            () if descriptor.artifact_type().is_some() => Some("an artifact"),
            () if is_index(descriptor) => Some("an index in an index"),
            () if os == "windows" => Some("an image of Windows"),
            () => None,
        };
        let shown = platform.map(|p| {
            let variant = p.variant().as_ref().map(|v| format!("/{v}")).unwrap_or_default();
            format!("{}/{}{variant}", p.os(), p.architecture())
        });
        Ok(Self { digest: blob_digest(descriptor)?, platform: shown, passed_over })
    }
}

fn is_index(descriptor: &Descriptor) -> bool {
    let media = descriptor.media_type().to_string();
    media.contains("image.index") || media.contains("manifest.list")
}

fn nested(index: &ImageIndex) -> Option<&Descriptor> {
    index.manifests().iter().find(|d| is_index(d))
}

/// Makes the refusal for an index within an index: podman does not accept one either.
fn index_in_index(digest: &BlobDigest) -> Refusal {
    Refusal::new(Case::B06Ambiguous, format!("index {digest}"), "an index lies in an index, and no tool looks there")
}

fn instance<'a>(index: &'a ImageIndex, digest: &BlobDigest, platform: &Platform) -> Result<&'a Descriptor> {
    index.manifests().iter().find(|d| platform.matches(d)).ok_or_else(|| {
        if nested(index).is_some() {
            return index_in_index(digest);
        }
        let why = format!("it has no image for {platform}");
        Refusal::new(Case::D13Platform, format!("index {digest}"), why)
    })
}

fn layer(descriptor: &Descriptor, diff_id: BlobDigest) -> Result<Layer> {
    let media = descriptor.media_type().to_string();
    // Encrypted and foreign layers have their own media types; a tar layer's contains "tar".
    if !media.contains("tar") || media.contains("encrypted") {
        return Err(Refusal::new(
            Case::H11Layer,
            descriptor.digest().to_string(),
            format!("media type {media} is not a tar layer"),
        ));
    }
    Ok(Layer {
        digest: blob_digest(descriptor)?,
        size: descriptor.size(),
        diff_id,
        compressed: !media.ends_with("tar"),
        annotations: sorted(descriptor.annotations()),
    })
}

fn diff_ids(config: &[u8], digest: &BlobDigest) -> Result<Vec<BlobDigest>> {
    let name = format!("config {digest}");
    let config = read_config(config, &name)?;
    config.rootfs.diff_ids.iter().flatten().map(|d| d.parse::<BlobDigest>().map_err(|r| r.within(&name))).collect()
}

/// Reads the config as Go reads it too.
fn read_config(config: &[u8], name: &str) -> Result<ImageConfig> {
    let value = strict_json::value(config, name)?;
    go_json::check_value(&value, &go_json::CONFIG, name)?;
    serde_json::from_value(value).map_err(|e| Refusal::new(Case::D14Json, name, e))
}

/// Returns the digest of a descriptor, in the only form that we accept.
///
/// # Errors
/// [`Case::B07Digest`].
pub(crate) fn blob_digest(descriptor: &Descriptor) -> Result<BlobDigest> {
    descriptor.digest().to_string().parse()
}

/// Sorts annotations into a fixed order.
pub(crate) fn sorted(annotations: &Option<std::collections::HashMap<String, String>>) -> BTreeMap<String, String> {
    annotations.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests;
