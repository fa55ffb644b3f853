//! Seals beside an image and in other places, and copying them from one to another.

use super::{Context, Located, RemoteImage};
use crate::digest::BlobDigest;
use crate::error::{Case, Class, Refusal, Result};
use crate::fetch::Staging;
use crate::oci::{Budget, Image, Layout, Reference};
use crate::seal::{ArtifactSubject, Parsed, parse_about};
use crate::vault::Vault;
use crate::verify::SealCandidate;

/// Places named by `--seal`, kept open while the seals there are judged.
pub struct SealSources(Vec<Source>);

enum Source {
    Layout(Layout),
    Registry(RemoteImage),
}

impl SealSources {
    /// Opens them.
    ///
    /// # Errors
    /// [`Case::Usage`] for a place that cannot hold seals, and errors of opening it.
    pub fn open(context: &Context, seals: &[Reference]) -> Result<Self> {
        let source = |reference: &Reference| match reference {
            Reference::Layout { dir, .. } => Layout::open(dir).map(Source::Layout),
            Reference::Registry { repository, .. } => {
                let (session, staging) = (context.session()?, Staging::new()?);
                Ok(Source::Registry(RemoteImage { repository: repository.clone(), session, staging }))
            }
            other => Err(Refusal::new(Case::Usage, other.to_string(), "--seal takes oci:DIR or docker://HOST/NAME")),
        };
        seals.iter().map(source).collect::<Result<_>>().map(Self)
    }

    /// Finds the seals that say they are about `image`, under whichever manifest.
    ///
    /// # Errors
    /// Errors of looking for them.
    pub fn about(&self, image: &Image, budget: &Budget) -> Result<Vec<SealCandidate<'_>>> {
        self.search(image, &|layout| {
            let is_about = |digest: &BlobDigest| -> Result<bool> {
                let raw = match layout.store().read(digest, None, budget.manifest) {
                    Err(refusal) if refusal.case().class() == Class::Rejected => return Ok(false),
                    other => other?,
                };
                Ok(matches!(parse_about(ArtifactSubject::Image, &raw, digest, image, budget), Ok(Parsed::Seal(_))))
            };
            let mut found = layout.referrers(&image.digest, budget)?;
            for digest in layout.artifacts(budget)? {
                if !found.contains(&digest) && is_about(&digest)? {
                    found.push(digest);
                }
            }
            Ok(found)
        })
    }

    /// Finds the seals in these places and beside the image. In a layout every artifact counts: the person said "this
    /// is the seal".
    ///
    /// # Errors
    /// Errors of looking for them.
    pub fn found<'a>(&'a self, context: &Context, located: &'a Located) -> Result<Vec<SealCandidate<'a>>> {
        let named = self.search(&located.image, &|layout| layout.artifacts(&context.budget))?;
        let beside = located.seals(context)?.into_iter().map(|digest| SealCandidate { digest, store: located.store() });
        // If the same artifact is in two places, both are tried: one copy may be damaged.
        Ok(named.into_iter().chain(beside).collect())
    }

    fn search(
        &self,
        image: &Image,
        of_layout: &dyn Fn(&Layout) -> Result<Vec<BlobDigest>>,
    ) -> Result<Vec<SealCandidate<'_>>> {
        let mut found = Vec::new();
        for source in &self.0 {
            let (digests, store) = match source {
                Source::Layout(layout) => (of_layout(layout)?, layout.store()),
                Source::Registry(remote) => {
                    let store = remote.staging.store();
                    (remote.session.seals(&remote.repository, image, store)?, store)
                }
            };
            found.extend(digests.into_iter().map(|digest| SealCandidate { digest, store }));
        }
        Ok(found)
    }
}

/// Copies a seal, whether it is good or not: verifying says so every time. A seal that cannot even be read stays
/// behind.
pub(super) fn copy_seal(
    vault: &Vault,
    image: &Image,
    found: &SealCandidate<'_>,
    about: ArtifactSubject,
    budget: &Budget,
) -> Result<()> {
    let raw = match found.store.read(&found.digest, None, budget.manifest) {
        Ok(raw) => raw,
        Err(r) => return left_behind(r),
    };
    let blobs = match parse_about(about, &raw, &found.digest, image, budget) {
        Ok(Parsed::Seal(seal)) => seal.blobs(),
        Ok(Parsed::Other(_)) => return Ok(()),
        Err(r) => return left_behind(r),
    };
    let sizes = blobs.iter().filter_map(|(blob, _)| Some((*blob, found.store.size(blob)?)));
    vault.store().check_room(sizes.filter(|(_, size)| *size <= budget.erofs))?;
    for (blob, _) in blobs {
        match found.store.read(&blob, None, budget.erofs) {
            Ok(bytes) => vault.store().write(&bytes)?,
            Err(r) => return left_behind(r),
        };
    }
    vault.add_seal(&image.digest, &raw).map(drop)
}

/// Leaves behind a seal that is wrong. If it could not be read because of a fault of the disk, the work ends.
pub(super) fn left_behind(refusal: Refusal) -> Result<()> {
    if refusal.case().class() == Class::Internal {
        return Err(refusal);
    }
    log::warn!("seal left behind: {refusal}");
    Ok(())
}
