//! The artifacts that we write: each with a signature for every role, and the statement.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_spec::image::MediaType;
use serde_json::{Value, json};

use super::artifact::metadata_order;
use super::keys::*;
use super::{Dialect, Role};
use crate::digest::{BlobDigest, VerityDigest};
use crate::oci::Image;

/// One role of an artifact that is being made.
#[derive(Clone, Debug)]
pub struct ArtifactRole<'a> {
    /// What it is about.
    pub role: Role,
    /// Its fs-verity digest.
    pub digest: VerityDigest,
    /// The PKCS#7 over it.
    pub der: Vec<u8>,
    /// The EROFS image, for layers and trees.
    pub erofs: Option<Cow<'a, [u8]>>,
}

/// An artifact ready to be stored: the manifest, and the blobs that it names.
#[derive(Debug)]
pub struct Artifact<'a> {
    /// The manifest's bytes; the same parts give the same bytes.
    pub manifest: Vec<u8>,
    /// Its blobs: EROFS images, signatures, the empty config.
    pub blobs: Vec<Cow<'a, [u8]>>,
}

/// The artifacts that we write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// [`Dialect::ErofsAlongside`].
    ErofsAlongside,
    /// [`Dialect::Canonical`].
    Canonical,
    /// [`Dialect::Metadata`].
    #[default]
    Metadata,
}

impl From<Format> for Dialect {
    fn from(format: Format) -> Self {
        match format {
            Format::ErofsAlongside => Self::ErofsAlongside,
            Format::Canonical => Self::Canonical,
            Format::Metadata => Self::Metadata,
        }
    }
}

impl<'a> Artifact<'a> {
    /// Builds the artifact for `image` from its parts (in role order) and the signed binding statement.
    pub fn new(
        format: Format,
        image: &Image,
        parts: &[ArtifactRole<'a>],
        statement: &str,
        statement_der: &[u8],
    ) -> Self {
        let mut entries = Entries { blobs: vec![b"{}".into()], layers: Vec::new() };
        let mut annotations = json!({BINDING: statement, BINDING_SIG: STANDARD.encode(statement_der)});
        if format == Format::Metadata {
            let mut parts: Vec<&ArtifactRole<'_>> = parts.iter().collect();
            parts.sort_by_key(|p| metadata_order(p.role));
            for part in parts {
                let key = digest_key(part.role, part.digest.algorithm());
                if part.role == Role::Rootfs {
                    // Upstream's reader does not know this role, and accepts no entry that it does not know.
                    if !part.der.is_empty() {
                        annotations[format!("{key}.sig")] = STANDARD.encode(&part.der).into();
                    }
                    annotations[key] = part.digest.to_hex().into();
                    continue;
                }
                entries.add(part.der.clone().into(), PKCS7, &json!({key: part.digest.to_hex()}));
            }
        } else {
            for part in parts.iter().filter(|_| format == Format::ErofsAlongside) {
                if let Some(erofs) = &part.erofs {
                    entries.add(
                        erofs.clone(),
                        EROFS,
                        &json!({EROFS_TYPE: role_name(part.role), DIGEST: part.digest.to_hex()}),
                    );
                }
            }
            for part in parts {
                let about = json!({SIGNATURE_TYPE: role_name(part.role), DIGEST: part.digest.to_hex()});
                entries.add(part.der.clone().into(), PKCS7, &about);
            }
            annotations[ALGORITHM] = parts.first().map(|p| p.digest.algorithm().name()).unwrap_or_default().into();
        }
        // serde_json keeps objects sorted by key: the same seal is the same bytes.
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": match format {
                Format::ErofsAlongside => ALONGSIDE,
                Format::Canonical => CANONICAL,
                Format::Metadata => METADATA,
            },
            "config": {"mediaType": EMPTY, "digest": BlobDigest::of(b"{}").to_string(), "size": 2},
            "layers": entries.layers,
            "subject": {"mediaType": image.media_type, "digest": image.digest.to_string(), "size": image.manifest.len()},
            "annotations": annotations,
        });
        Self { manifest: manifest.to_string().into_bytes(), blobs: entries.blobs }
    }
}

/// The blobs of an artifact, and their descriptors.
struct Entries<'a> {
    blobs: Vec<Cow<'a, [u8]>>,
    layers: Vec<Value>,
}

impl<'a> Entries<'a> {
    fn add(&mut self, bytes: Cow<'a, [u8]>, media: &str, annotations: &Value) {
        self.layers.push(json!({
            "mediaType": media,
            "digest": BlobDigest::of(&bytes).to_string(),
            "size": bytes.len(),
            "annotations": annotations,
        }));
        self.blobs.push(bytes);
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Manifest => "manifest",
        Role::Config => "config",
        Role::Layer(_) => "layer",
        Role::Merged => "merged",
        Role::Bootable => "merged.bootable",
        Role::Rootfs => "rootfs",
        Role::Binding => "binding",
    }
}

/// Returns the entry that lists an artifact manifest in an index of referrers (distribution-spec, "Listing Referrers"):
/// with its artifact type and annotations, short ones only.
pub fn artifact_descriptor(manifest: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let mut descriptor = json!({
        "mediaType": MediaType::ImageManifest.to_string(),
        "digest": BlobDigest::of(manifest).to_string(),
        "size": manifest.len(),
    });
    if let Some(artifact_type) = value.get("artifactType") {
        descriptor["artifactType"] = artifact_type.clone();
    }
    if let Some(algorithm) = value.pointer("/annotations").and_then(|a| a.get(ALGORITHM)) {
        descriptor["annotations"] = json!({ALGORITHM: algorithm});
    }
    descriptor
}
