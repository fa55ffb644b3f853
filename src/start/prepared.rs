//! What comes of choosing, verifying and preparing.

use crate::digest::BlobDigest;
use crate::mount::{AboutImage, Record};
use crate::oci::Facts;
use crate::policy::Decision;
use crate::prepare::PreparedImage;
use crate::report::Refusal;
use crate::verify::SignedBy;

/// An image that can be mounted, and what is to be said about it.
#[derive(Debug)]
pub struct Prepared {
    /// What to mount.
    pub image: PreparedImage,
    /// What the policy asked.
    pub decision: Decision,
    /// Digest of the manifest that counted.
    pub manifest: BlobDigest,
    /// Its names.
    pub names: Vec<String>,
    /// The artifact that vouches.
    pub seal: Option<BlobDigest>,
    /// The manifest that was signed, where it is another one.
    pub signed_manifest: Option<BlobDigest>,
    /// Who signed.
    pub signer: Option<SignedBy>,
    /// The image's ID in the store.
    pub id: String,
    /// The names that the seal is for.
    pub identities: Vec<String>,
    /// All by which it can be denied.
    pub facts: Facts,
    /// What would have been refused.
    pub would_refuse: Option<Refusal>,
}

impl Prepared {
    /// The record of a mount of it.
    pub(super) fn describe(&self, record: Record) -> Record {
        let about = AboutImage {
            manifest: Some(&self.manifest),
            id: Some(&self.id),
            names: &self.names,
            identities: &self.identities,
            facts: self.facts.clone(),
            seal: self.seal.as_ref(),
            signed_manifest: self.signed_manifest,
            signer: self.signer.as_ref(),
        };
        record.describing(&self.image, &about)
    }
}
