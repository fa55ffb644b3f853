//! Seals against images and trust: the only room that can say yes.

mod content;
mod decide;
mod floors;
mod layers;
mod signatures;
mod waiver;

pub use decide::{
    CheckedRole, JudgeRequest, Judgement, Noted, SealCandidate, SealReport, Verdict, judge, nothing_noted, unsigned,
    unsigned_layers,
};
pub use floors::Floors;
pub use layers::{Layers, Wanted};
pub use signatures::{Requirements, SignedBy};
pub use waiver::Waiver;

use crate::digest::{Algorithm, BlobDigest, VerityDigest};
use crate::oci::Facts;
use crate::oci::Image;
use crate::report::Result;
use crate::seal::{Binding, Dialect, Role};

/// An image that may be mounted. Only this room makes one, from a seal that passed everything that
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
}

/// An EROFS image whose digest is trusted; mounting measures it once more.
#[derive(Clone, Debug)]
pub struct VerifiedErofs {
    role: Role,
    digest: VerityDigest,
    signature: Option<Vec<u8>>,
    bytes: Option<Vec<u8>>,
}

impl VerifiedErofs {
    /// A layer or a tree.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The digest that fs-verity must measure.
    pub fn digest(&self) -> &VerityDigest {
        &self.digest
    }

    /// The PKCS#7 over that digest, for the kernel.
    pub fn signature(&self) -> Option<&[u8]> {
        self.signature.as_deref()
    }

    /// The image itself, where this run had it in its hands.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.bytes.as_deref()
    }
}

impl VerifiedImage {
    /// Manifest, config and layers; `None` for layers that are no image.
    pub fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    /// All by which it can be denied: its image, its seal, who vouches, and the EROFS images.
    ///
    /// # Errors
    /// [`crate::report::Case::B07Digest`] for a fingerprint that is none.
    pub fn facts(&self) -> Result<Facts> {
        let mut facts = self.image.as_ref().map(Facts::of).unwrap_or_default();
        self.seal.iter().for_each(|seal| facts.blob("seal", *seal));
        for erofs in self.all() {
            facts.erofs(erofs.role.to_string(), erofs.digest);
        }
        if let Some(binding) = &self.binding {
            let (blob, measured) = binding.marks();
            facts.blob("statement", blob);
            // Of the manifest that was signed, which this host may have in another form.
            binding.blobs().into_iter().for_each(|(what, digest)| facts.blob(what, digest));
            facts.erofs("statement", measured);
        }
        let certificates = self.signer.iter().flat_map(|s| s.anchor.iter().chain(Some(&s.fingerprint)).chain(&s.marks));
        for fingerprint in certificates {
            facts.certificate(fingerprint)?;
        }
        Ok(facts)
    }

    /// The artifact that vouches; `None` for inline seals and unsigned images.
    pub fn seal(&self) -> Option<&BlobDigest> {
        self.seal.as_ref()
    }

    /// What a host notes the seal by that was compared with the layers: the artifact's digest, or, for an inline
    /// seal, that of the manifest that it is in. `None` for unsigned images, and for seals without a statement,
    /// which are compared every time.
    pub fn seal_name(&self) -> Option<BlobDigest> {
        match self.dialect {
            Some(Dialect::Inline) => self.binding.as_ref().and(self.image.as_ref()).map(|image| image.digest),
            _ => self.seal,
        }
    }

    /// The dialect of the seal that vouches.
    pub fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// Who signed, where signatures were asked for.
    pub fn signer(&self) -> Option<&SignedBy> {
        self.signer.as_ref()
    }

    /// The binding statement, where the seal has one.
    pub fn binding(&self) -> Option<&Binding> {
        self.binding.as_ref()
    }

    /// The manifest that was signed, where it is not this image's: the same image, compressed in another way.
    pub fn signed_manifest(&self) -> Option<BlobDigest> {
        let signed = self.binding.as_ref()?.subject?;
        self.image.as_ref().is_some_and(|image| image.digest != signed).then_some(signed)
    }

    /// The algorithm of the EROFS images and their objects.
    pub fn algorithm(&self) -> Algorithm {
        self.root.digest.algorithm()
    }

    /// What a container is started from: the container's tree, or, where others have sealed composefs' tree
    /// alone, that.
    pub fn root(&self) -> &VerifiedErofs {
        &self.root
    }

    /// composefs' canonical tree, where there is one.
    pub fn merged(&self) -> Option<&VerifiedErofs> {
        self.merged.as_ref()
    }

    /// All EROFS images, the layers' first.
    pub fn all(&self) -> impl Iterator<Item = &VerifiedErofs> {
        self.layers.iter().chain(Some(&self.root)).chain(&self.merged)
    }

    /// The layers' images, lowest first.
    pub fn layers(&self) -> &[VerifiedErofs] {
        &self.layers
    }

    /// Whether the layers' images hold their whiteouts, so that a stack of them shows the image.
    pub fn stackable(&self) -> bool {
        self.stackable
    }
}
