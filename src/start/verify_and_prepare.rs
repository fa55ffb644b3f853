//! Verifying one image with what a vault has, and making of its layers what a start needs.

use super::common::{ALGORITHMS, UNSIGNED};
use crate::identify::{Candidate, ClaimedImage};
use crate::image::{Contents, Keep, Progress};
use crate::oci::Budget;
use crate::policy::Denied;
use crate::policy::Verity;
use crate::prepare::{Acceptance, ImportRules, Measured, Shape, accept, import, keep_contents, made_once};
use crate::report::Result;
use crate::seal::About;
use crate::vault::{Vault, keep_seal};
use crate::verify::{JudgeRequest, Layers, Requirements, SealCandidate, VerifiedImage, Wanted, unsigned};

/// What verifying and preparing one image needs.
pub(super) struct Work<'a> {
    pub(super) vault: &'a Vault,
    pub(super) claimed: &'a ClaimedImage,
    pub(super) mode: Verity,
    pub(super) shape: Shape,
    pub(super) budget: &'a Budget,
    pub(super) progress: Progress<'a>,
    pub(super) denied: &'a Denied,
}

impl Work<'_> {
    pub(super) fn sealed(&self, candidate: &Candidate, requirements: &Requirements) -> Result<VerifiedImage> {
        let (vault, budget, image) = (self.vault, self.budget, &candidate.image);
        let seals = vault.seals(&image.digest, budget)?;
        let found: Vec<SealCandidate<'_>> =
            seals.into_iter().map(|digest| SealCandidate { digest, store: vault.store() }).collect();
        let request =
            JudgeRequest { image, found: &found, home: vault.store(), requirements, budget, about: About::Image };
        let acceptance = Acceptance { vault, request, shape: Some(self.shape), measured: &|| Some(self.measured()) };
        let verified = accept(&acceptance, &mut Layers::new(|wanted| self.import(wanted)))?;
        if let Some(seal) = verified.seal_name()
            && let Err(refusal) = keep_seal(self.vault, &image.digest, &seal)
        {
            log::info!("the seal is not kept: {refusal}");
        }
        Ok(verified)
    }

    /// Every object got its name from a descriptor of which the digest was measured, a moment ago.
    fn measured(&self) -> Measured {
        if self.mode == Verity::Require { Measured::Enforced } else { Measured::Unprotected }
    }

    fn import(&self, Wanted { algorithm, bound, keep }: Wanted) -> Result<Contents> {
        let rules = ImportRules { algorithm, mode: self.mode, diff_ids: !bound, keep, budget: self.budget };
        import(self.vault, &self.claimed.layers, &rules, self.progress)
    }

    /// The image as this host finds it.
    pub(super) fn unsigned(&self, candidate: &Candidate) -> Result<VerifiedImage> {
        let (vault, image) = (self.vault, &candidate.image);
        let noted = |algorithm| {
            let made = vault.contents(&image.digest, algorithm);
            made.filter(|known| known.layers.len() == image.layers.len())
        };
        let digests = made_once(vault, &image.digest, &ALGORITHMS, self.shape, noted, || {
            let contents = self.import(Wanted { algorithm: UNSIGNED, bound: true, keep: Keep::Images })?;
            keep_contents(vault, image, &contents, Some(self.measured()))?;
            Ok(contents.images)
        })?;
        unsigned(image, &digests, self.denied)
    }
}
