//! The artifact that we write: `erofs-alongside.v1` with everything.

use oci_spec::image::MediaType;
use serde_json::{Value, json};

use super::Role;
use super::keys::*;
use crate::digest::{BlobDigest, VerityDigest};
use crate::oci::Image;

/// One role of an artifact that is being made.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it is about.
    pub role: Role,
    /// Its fs-verity digest.
    pub digest: VerityDigest,
    /// The PKCS#7 over it.
    pub der: Vec<u8>,
    /// The EROFS image, for layers and merged.
    pub erofs: Option<Vec<u8>>,
}

/// An artifact ready to be stored: the manifest, and the blobs that it names.
#[derive(Debug)]
pub struct Artifact {
    /// The manifest's bytes; the same parts give the same bytes.
    pub manifest: Vec<u8>,
    /// Its blobs: EROFS images, signatures, the empty config.
    pub blobs: Vec<Vec<u8>>,
}

impl Artifact {
    /// The artifact for `image` from its parts (in role order) and the signed binding statement.
    pub fn erofs_alongside(image: &Image, parts: &[Part], statement: &str, statement_der: &[u8]) -> Self {
        let mut blobs = vec![b"{}".to_vec()];
        let mut layers = Vec::new();
        let mut add = |bytes: &[u8], media: &str, key: &str, role: Role, digest: &VerityDigest| {
            layers.push(json!({
                "mediaType": media,
                "digest": BlobDigest::of(bytes).to_string(),
                "size": bytes.len(),
                "annotations": {key: role_name(role), DIGEST: digest.to_hex()},
            }));
            blobs.push(bytes.to_vec());
        };
        for part in parts {
            if let Some(erofs) = &part.erofs {
                add(erofs, EROFS, EROFS_TYPE, part.role, &part.digest);
            }
        }
        for part in parts {
            add(&part.der, PKCS7, SIGNATURE_TYPE, part.role, &part.digest);
        }
        let algorithm = parts.first().map(|p| p.digest.algorithm().name()).unwrap_or_default();
        // serde_json keeps objects sorted by key: the same seal is the same bytes.
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ALONGSIDE,
            "config": {"mediaType": EMPTY, "digest": BlobDigest::of(b"{}").to_string(), "size": 2},
            "layers": layers,
            "subject": {"mediaType": image.media_type, "digest": image.digest.to_string(), "size": image.manifest.len()},
            "annotations": {
                ALGORITHM: algorithm,
                BINDING: statement,
                BINDING_SIG: openssl::base64::encode_block(statement_der),
            },
        });
        Self { manifest: manifest.to_string().into_bytes(), blobs }
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Manifest => "manifest",
        Role::Config => "config",
        Role::Layer(_) => "layer",
        Role::Merged => "merged",
        Role::Bootable => "merged.bootable",
        Role::Binding => "binding",
    }
}

/// The entry that lists an artifact manifest in an index of referrers (distribution-spec, "Listing
/// Referrers"): with its artifact type and annotations, short ones only.
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
