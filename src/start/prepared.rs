//! The result of choosing, verifying and preparing.

use crate::digest::BlobDigest;
use crate::error::Refusal;
use crate::mount::{AboutImage, Record};
use crate::oci::{DenySubjects, ImageId};
use crate::policy::Decision;
use crate::prepare::PreparedImage;
use crate::seal::Identity;
use crate::verify::SignedBy;

/// An image that can be mounted, and what is recorded about it.
#[derive(Debug)]
pub struct JudgedImage {
    /// What to mount.
    pub image: PreparedImage,
    /// What the policy asked.
    pub decision: Decision,
    /// Digest of the manifest that counted.
    pub manifest: BlobDigest,
    /// Its names.
    pub names: Vec<String>,
    /// The artifact that vouches for it.
    pub seal: Option<BlobDigest>,
    /// The manifest that was signed, if it is a different one.
    pub signed_manifest: Option<BlobDigest>,
    /// Who signed.
    pub signer: Option<SignedBy>,
    /// The image's ID in the store.
    pub id: ImageId,
    /// The names that the seal is for.
    pub identities: Vec<Identity>,
    /// Everything that it can be denied by.
    pub facts: DenySubjects,
    /// Why it would have been refused.
    pub would_refuse: Option<Refusal>,
}

impl JudgedImage {
    /// Adds what is known of the image to the record of its mount.
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
