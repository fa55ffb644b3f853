//! Verifying one image with what a vault has, and making of its layers what a start needs.

use super::made::{UNSIGNED, made_before};
use crate::digest::BlobDigest;
use crate::identify::{Candidate, ClaimedImage};
use crate::image::{Contents, Keep, Progress};
use crate::oci::Budget;
use crate::policy::Denied;
use crate::prepare::{ImportRules, VerityMode, enroll, import};
use crate::report::Result;
use crate::seal::About;
use crate::vault::{Vault, keep_seal};
use crate::verify::{Found, Layers, Question, Rules, VerifiedImage, Wanted, judge, unsigned};

/// What verifying and preparing one image needs.
pub(super) struct Work<'a> {
    pub(super) vault: &'a Vault,
    pub(super) claimed: &'a ClaimedImage,
    pub(super) mode: VerityMode,
    pub(super) budget: &'a Budget,
    pub(super) progress: Progress<'a>,
    pub(super) denied: &'a Denied,
}

impl Work<'_> {
    pub(super) fn sealed(&self, candidate: &Candidate, rules: &Rules) -> Result<VerifiedImage> {
        let (vault, budget, image) = (self.vault, self.budget, &candidate.image);
        let seals = vault.seals(&image.digest, budget)?;
        // Where the layers may have to be read: many starts at once are one that works, and others that wait.
        let ready = seals.iter().all(|seal| vault.was_checked(&image.digest, seal));
        let mut _turn = if ready { None } else { Some(vault.turn(&image.digest)?) };
        let found: Vec<Found<'_>> = seals.into_iter().map(|digest| Found { digest, store: vault.store() }).collect();
        let mut layers = Layers::new(|wanted| self.import(wanted));
        let checked = |seal: &BlobDigest| vault.was_checked(&image.digest, seal);
        let question = Question {
            image,
            found: &found,
            home: vault.store(),
            rules,
            budget,
            about: About::Image,
            checked: &checked,
        };
        let mut verified = judge(&question, &mut layers).into_result()?;
        if verified.root().bytes().is_none() && vault.open_erofs(verified.root().digest()).is_err() {
            // It was compared before and is lost: the layers make it again.
            if ready {
                _turn = Some(vault.turn(&image.digest)?);
            }
            verified = judge(&Question { checked: &|_| false, ..question }, &mut layers).into_result()?;
        }
        if let Some(contents) = layers.into_last() {
            self.keep(candidate, &verified, &contents)?;
        }
        if let Some(seal) = verified.seal_name()
            && let Err(refusal) = keep_seal(self.vault, &image.digest, &seal)
        {
            log::info!("the seal is not kept: {refusal}");
        }
        Ok(verified)
    }

    /// What was learned from the layers, for the next start. The marker comes last.
    fn keep(&self, candidate: &Candidate, verified: &VerifiedImage, contents: &Contents) -> Result<()> {
        let image = &candidate.image.digest;
        verified.all().try_for_each(|erofs| enroll(self.vault, erofs))?;
        self.keep_image(candidate, contents)?;
        match verified.seal_name() {
            Some(seal) if verified.stackable() => self.vault.mark_checked(image, &seal),
            _ => Ok(()),
        }
    }

    fn keep_image(&self, candidate: &Candidate, contents: &Contents) -> Result<()> {
        let (vault, image) = (self.vault, &candidate.image);
        vault.store().write(&image.manifest)?;
        vault.store().write(&image.config)?;
        vault.keep_images(&image.digest, &contents.images)?;
        // Every object got its name from a descriptor of which the digest was measured, a moment ago.
        let enforced = self.mode == VerityMode::Require;
        contents.images.all().try_for_each(|(digest, _)| vault.mark_prepared(digest, enforced))?;
        vault.add_image(image)
    }

    fn import(&self, Wanted { algorithm, bound, keep }: Wanted) -> Result<Contents> {
        let rules = ImportRules { algorithm, mode: self.mode, diff_ids: !bound, keep, budget: self.budget };
        import(self.vault, &self.claimed.layers, &rules, self.progress)
    }

    /// The image as this host finds it.
    pub(super) fn unsigned(&self, candidate: &Candidate) -> Result<VerifiedImage> {
        let (vault, image) = (self.vault, &candidate.image);
        let known = || {
            let made = made_before(vault, |algorithm| vault.contents(&image.digest, algorithm));
            made.filter(|known| known.layers.len() == image.layers.len())
        };
        let mut _turn = None;
        let made = match known() {
            Some(digests) => Some(digests),
            None => {
                _turn = Some(vault.turn(&image.digest)?);
                known()
            }
        };
        let digests = match made {
            Some(digests) => digests,
            None => {
                let contents = self.import(Wanted { algorithm: UNSIGNED, bound: true, keep: Keep::Images })?;
                self.keep_image(candidate, &contents)?;
                contents.images.digests()?
            }
        };
        unsigned(image, &digests, self.denied)
    }
}
