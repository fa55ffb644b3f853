//! What a publisher adds to an image, in the formats that are in use: read and written here, but nothing is believed.
//! Pure: bytes in, values out.
//!
//! | dialect | where | signs |
//! |---|---|---|
//! | `erofs-alongside.v1` | artifact with `subject` | manifest, config, layers, merged, rootfs; carries the EROFS images |
//! | `canonical.v1` | the same without EROFS images | the same |
//! | `metadata.v1` | artifact with `subject` | one annotation key per role; rootfs in the artifact's own annotations |
//! | inline | annotations of the image manifest | config, layers, merged, rootfs |
//!
//! `rootfs`, the layers' form and the [`Binding`] are ours, placed so that other readers still find what they know.

mod annotations;
mod artifact;
mod binding;
mod identity;
mod inline;
mod keys;
mod write;

use std::fmt;

use crate::digest::{Algorithm, BlobDigest, VerityDigest};

pub use artifact::{ArtifactSubject, Parsed, parse, parse_about};
pub use binding::{Binding, annotations, other_annotations};
pub use identity::Identity;
pub use inline::{claims, label, parse_inline, write_inline, write_label};
pub(crate) use keys::ARTIFACT_TYPES;
pub use write::{Artifact, ArtifactRole, Format, artifact_descriptor};

/// What a signature is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The raw image manifest.
    Manifest,
    /// The raw image config.
    Config,
    /// The EROFS image of layer N, counted from the lowest, 0.
    Layer(usize),
    /// The EROFS image of composefs' canonical tree.
    Merged,
    /// The EROFS image of all layers with `/boot` in the EROFS: verified when present, never required.
    Bootable,
    /// The EROFS image of the container's tree: what every start mounts. Ours; upstream does not know it.
    Rootfs,
    /// The binding statement.
    Binding,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => f.write_str("manifest"),
            Self::Config => f.write_str("config"),
            Self::Layer(n) => write!(f, "layer-{n}"),
            Self::Merged => f.write_str("merged"),
            Self::Bootable => f.write_str("merged.bootable"),
            Self::Rootfs => f.write_str("rootfs"),
            Self::Binding => f.write_str("binding"),
        }
    }
}

/// How a seal is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `application/vnd.composefs.erofs-alongside.v1`.
    ErofsAlongside,
    /// `application/vnd.composefs.canonical.v1`.
    Canonical,
    /// `application/vnd.composefs.metadata.v1`.
    Metadata,
    /// Annotations of the image manifest.
    Inline,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ErofsAlongside => "erofs-alongside.v1",
            Self::Canonical => "canonical.v1",
            Self::Metadata => "metadata.v1",
            Self::Inline => "inline",
        })
    }
}

/// Bytes that a seal carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// In a blob of its own.
    Blob {
        /// The blob's digest.
        digest: BlobDigest,
        /// Its size in bytes.
        size: u64,
    },
    /// In the document itself.
    Here(Vec<u8>),
}

/// One signature: role, the digest it claims to be over, the DER.
#[derive(Clone, Debug)]
pub struct Signature {
    /// What it is about.
    pub role: Role,
    /// The fs-verity digest that the seal names for the role.
    pub digest: VerityDigest,
    /// The PKCS#7; `None` for a digest-only claim.
    pub der: Option<Bytes>,
}

/// An EROFS image that the seal carries.
#[derive(Clone, Debug)]
pub struct Erofs {
    /// [`Role::Layer`], [`Role::Merged`] or [`Role::Rootfs`].
    pub role: Role,
    /// Its fs-verity digest, as the seal claims.
    pub digest: VerityDigest,
    /// The image.
    pub blob: BlobDigest,
    /// Its size in bytes.
    pub size: u64,
}

/// A seal as it was found: shape checked, nothing verified.
#[derive(Clone, Debug)]
pub struct Seal {
    /// How it is written down.
    pub dialect: Dialect,
    /// Where it was found, for messages: `sha256:…` of the artifact, or `inline`.
    pub origin: String,
    /// The manifest that the artifact says it is about; `None` for an inline seal, which is in the manifest.
    pub subject: Option<BlobDigest>,
    /// The algorithm of all its digests.
    pub algorithm: Algorithm,
    /// EROFS images, in role order.
    pub erofs: Vec<Erofs>,
    /// Signatures, in role order.
    pub signatures: Vec<Signature>,
    /// The binding statement's text and its PKCS#7.
    pub binding: Option<(Vec<u8>, Vec<u8>)>,
}

impl Seal {
    /// Lists the blobs that an artifact consists of besides its manifest, with the sizes that it states.
    pub fn blobs(&self) -> Vec<(BlobDigest, u64)> {
        let signatures = self.signatures.iter().filter_map(|s| match &s.der {
            Some(Bytes::Blob { digest, size }) => Some((*digest, *size)),
            _ => None,
        });
        let empty = (BlobDigest::of(b"{}"), 2);
        self.erofs.iter().map(|e| (e.blob, e.size)).chain(signatures).chain(Some(empty)).collect()
    }
}
