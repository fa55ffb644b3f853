//! Verifying one image with what a vault has, and making what a start needs from its layers.

use super::common::{ALGORITHMS, UNSIGNED};
use crate::container_store::{Candidate, ClaimedImage};
use crate::error::{Case, Refusal, Result};
use crate::image::{Contents, Keep, ReadProgress};
use crate::oci::Budget;
use crate::policy::Denied;
use crate::policy::Verity;
use crate::prepare::{
    Acceptance, ImportRules, Measured, RootShape, accept, check_content, import, keep_contents, made_once,
};
use crate::seal::ArtifactSubject;
use crate::vault::{Vault, keep_seal};
use crate::verify::{JudgeRequest, LayerReader, ReadOptions, Requirements, SealCandidate, VerifiedImage, unsigned};

/// What verifying and preparing one image needs.
pub(super) struct PreparationRequest<'a> {
    pub(super) vault: &'a Vault,
    pub(super) claimed: &'a ClaimedImage,
    pub(super) mode: Verity,
    pub(super) shape: RootShape,
    pub(super) budget: &'a Budget,
    pub(super) progress: ReadProgress<'a>,
    pub(super) denied: &'a Denied,
}

impl PreparationRequest<'_> {
    pub(super) fn verified(&self, candidate: &Candidate, requirements: &Requirements) -> Result<VerifiedImage> {
        let (vault, budget, image) = (self.vault, self.budget, &candidate.image);
        let seals = vault.seals(&image.digest, budget)?;
        let found: Vec<SealCandidate<'_>> =
            seals.into_iter().map(|digest| SealCandidate { digest, store: vault.store() }).collect();
        let request = JudgeRequest {
            image,
            found: &found,
            home: vault.store(),
            requirements,
            budget,
            about: ArtifactSubject::Image,
        };
        let acceptance = Acceptance { vault, request, shape: Some(self.shape), measured: &|| Some(self.measured()) };
        let accepted = accept(&acceptance, &mut LayerReader::new(|wanted| self.import(wanted)));
        let verified = accepted.map_err(|refusal| self.explained(candidate, refusal))?;
        if let Some(seal) = verified.seal_name()
            && let Err(refusal) = keep_seal(self.vault, &image.digest, &seal)
        {
            log::info!("the seal is not kept: {refusal}");
        }
        Ok(verified)
    }

    /// Returns the refusal, or what is behind it: a disk that lost part of a layer yields a different tree, and then
    /// nobody needs to sign anything again; and no seal is for an image that was built here and never pushed.
    fn explained(&self, candidate: &Candidate, refusal: Refusal) -> Refusal {
        match refusal.case() {
            case @ (Case::H08View | Case::D07Digest) => {
                let same = if case == Case::H08View { Case::H08Damaged } else { Case::D07Damaged };
                let damaged = |layer| {
                    let found: Refusal = check_content(Some(self.vault), layer, self.budget).err()?;
                    Some(Refusal::new(same, layer.path.display().to_string(), found.what_and_detail()))
                };
                self.claimed.layers.iter().find_map(damaged).unwrap_or(refusal)
            }
            Case::C07NoSeal if candidate.image.is_uncompressed() => refusal.and(
                "its layers are not compressed, as those of an image that was built or loaded here: what is sealed is the \
                 image that was pushed, so push it, sign it there, and `layerseal fetch` it",
            ),
            _ => refusal,
        }
    }

    /// Returns how the objects were measured: each got its name a moment ago from a descriptor whose digest was
    /// measured.
    fn measured(&self) -> Measured {
        if self.mode == Verity::Require { Measured::Enforced } else { Measured::Unprotected }
    }

    fn import(&self, ReadOptions { algorithm, bound, keep }: ReadOptions) -> Result<Contents> {
        let rules = ImportRules { algorithm, mode: self.mode, diff_ids: !bound, keep, budget: self.budget };
        import(self.vault, &self.claimed.layers, &rules, self.progress)
    }

    /// Describes the image as this host finds it, without a seal.
    pub(super) fn unsigned(&self, candidate: &Candidate) -> Result<VerifiedImage> {
        let (vault, image) = (self.vault, &candidate.image);
        let noted = |algorithm| {
            let made = vault.contents(&image.digest, algorithm);
            made.filter(|known| known.layers.len() == image.layers.len())
        };
        let digests = made_once(vault, &image.digest, &ALGORITHMS, self.shape, noted, || {
            let contents = self.import(ReadOptions { algorithm: UNSIGNED, bound: true, keep: Keep::Images })?;
            keep_contents(vault, image, &contents, Some(self.measured()))?;
            Ok(contents.images)
        })?;
        unsigned(image, &digests, self.denied)
    }
}

/// Who judges the seals of a candidate.
pub(super) trait Judging {
    /// Finds a seal for the image that passes what is asked.
    ///
    /// # Errors
    /// Why none does.
    fn sealed(&self, candidate: &Candidate, requirements: &Requirements) -> Result<VerifiedImage>;

    /// Returns whether what is accepted counts from now on.
    fn remembers(&self) -> bool;
}

impl Judging for PreparationRequest<'_> {
    fn sealed(&self, candidate: &Candidate, requirements: &Requirements) -> Result<VerifiedImage> {
        self.verified(candidate, requirements)
    }

    fn remembers(&self) -> bool {
        true
    }
}
