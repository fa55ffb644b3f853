//! Seals against images and trust: the only module that can say yes.

mod content;
mod floors;
mod judge;
mod layers;
mod requirements;
mod signatures;
mod waiver;

pub use floors::RollbackFloors;
pub use judge::{
    CheckedRole, JudgeRequest, Judgement, Noted, SealCandidate, SealReport, Verdict, as_stated, judge, nothing_noted,
    unsigned, unsigned_layers,
};
pub use layers::{LayerReader, ReadOptions};
pub use requirements::Requirements;
pub use signatures::SignedBy;
pub use waiver::Waiver;

use crate::digest::{Algorithm, BlobDigest, VerityDigest};
use crate::oci::DenySubjects;
use crate::oci::Image;
use crate::seal::{Binding, Dialect, Identity, Role};
use crate::sys::scratch::Scratch;

/// An image that may be mounted. Only this module makes one, from a seal that passed everything that
/// was asked of it.
#[derive(Debug)]
pub struct VerifiedImage {
    image: Option<Image>,
    seal: Option<BlobDigest>,
    dialect: Option<Dialect>,
    signer: Option<SignedBy>,
    binding: Option<Binding>,
    root: VerifiedErofs,
    merged: Option<VerifiedErofs>,
    layers: Vec<VerifiedErofs>,
    stackable: bool,
    /// The names that other seals of it are for, which passed too.
    further: Vec<Identity>,
}

/// An EROFS image whose digest is trusted; mounting measures it once more.
#[derive(Clone, Debug)]
pub struct VerifiedErofs {
    role: Role,
    digest: VerityDigest,
    signature: Option<Vec<u8>>,
    bytes: Option<Scratch>,
}

impl VerifiedErofs {
    /// Returns the image's role: a layer or a tree.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the digest that fs-verity must measure.
    pub fn digest(&self) -> &VerityDigest {
        &self.digest
    }

    /// Returns the PKCS#7 over that digest, for the kernel.
    pub fn signature(&self) -> Option<&[u8]> {
        self.signature.as_deref()
    }

    /// Returns the image itself, where this run had it in memory.
    pub fn bytes(&self) -> Option<&Scratch> {
        self.bytes.as_ref()
    }
}

impl VerifiedImage {
    /// Returns manifest, config and layers; `None` for layers that are not an image.
    pub fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    /// Collects everything by which it can be denied: its image, its seal, who vouches, and the EROFS images.
    pub fn facts(&self) -> DenySubjects {
        let mut facts = self.image.as_ref().map(DenySubjects::of).unwrap_or_default();
        self.seal.iter().for_each(|seal| facts.blob("seal", *seal));
        for erofs in self.all() {
            facts.erofs(erofs.role.to_string(), erofs.digest);
        }
        if let Some(binding) = &self.binding {
            let (blob, measured) = binding.marks();
            facts.blob("statement", blob);
            // Of the manifest that was signed: this host may have the image under another.
            binding.blobs().into_iter().for_each(|(what, digest)| facts.blob(what, digest));
            facts.erofs("statement", measured);
        }
        let certificates = self.signer.iter().flat_map(|s| s.anchor.iter().chain(Some(&s.fingerprint)).chain(&s.marks));
        for fingerprint in certificates {
            facts.certificate(*fingerprint);
        }
        facts
    }

    /// Returns the artifact that vouches; `None` for inline seals and unsigned images.
    pub fn seal(&self) -> Option<&BlobDigest> {
        self.seal.as_ref()
    }

    /// Returns the digest by which a host notes that the seal was compared with the layers: the artifact's, or, for an
    /// inline seal, that of the manifest that it is in. `None` for unsigned images, and for seals without a statement,
    /// which are compared every time.
    pub fn seal_name(&self) -> Option<BlobDigest> {
        match self.dialect {
            Some(Dialect::Inline) => self.binding.as_ref().and(self.image.as_ref()).map(|image| image.digest),
            _ => self.seal,
        }
    }

    /// Returns the dialect of the seal that vouches.
    pub fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// Returns who signed, where signatures were asked for.
    pub fn signer(&self) -> Option<&SignedBy> {
        self.signer.as_ref()
    }

    /// Returns the binding statement, where the seal has one.
    pub fn binding(&self) -> Option<&Binding> {
        self.binding.as_ref()
    }

    /// Lists the names that it is sealed for.
    pub fn identities(&self) -> Vec<Identity> {
        let own = self.binding.iter().flat_map(|binding| &binding.identities);
        own.chain(&self.further).cloned().collect()
    }

    /// Adds the names of the image's seal that passed for another name.
    #[must_use]
    pub fn sealed_again(mut self, other: &Self) -> Self {
        for identity in other.identities() {
            if !self.identities().contains(&identity) {
                self.further.push(identity);
            }
        }
        self
    }

    /// Returns the manifest that was signed, where it is not this image's: the same image, compressed in another way.
    pub fn signed_manifest(&self) -> Option<BlobDigest> {
        let signed = self.binding.as_ref()?.subject?;
        self.image.as_ref().is_some_and(|image| image.digest != signed).then_some(signed)
    }

    /// Returns the algorithm of the EROFS images and their objects.
    pub fn algorithm(&self) -> Algorithm {
        self.root.digest.algorithm()
    }

    /// Returns the image that a container is started from: the container's tree, or, where others have sealed
    /// composefs' tree only, that one.
    pub fn root(&self) -> &VerifiedErofs {
        &self.root
    }

    /// Returns composefs' canonical tree, where there is one.
    pub fn merged(&self) -> Option<&VerifiedErofs> {
        self.merged.as_ref()
    }

    /// Lists all EROFS images, the layers' first.
    pub fn all(&self) -> impl Iterator<Item = &VerifiedErofs> {
        self.layers.iter().chain(Some(&self.root)).chain(&self.merged)
    }

    /// Returns the layers' images, lowest first.
    pub fn layers(&self) -> &[VerifiedErofs] {
        &self.layers
    }

    /// Returns whether the layers' images hold their whiteouts, so that a stack of them shows the image.
    pub fn stackable(&self) -> bool {
        self.stackable
    }
}
