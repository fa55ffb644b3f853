//! Judging an image's seals, and keeping what its layers revealed: the one module that does both, for starts, mounts
//! and pulls.

use super::{RootShape, enroll};
use crate::digest::{Algorithm, BlobDigest, VerityDigest};
use crate::error::Result;
use crate::image::{Contents, ErofsImages, TreeDigests};
use crate::oci::Image;
use crate::vault::Vault;
use crate::verify::{JudgeRequest, LayerReader, VerifiedErofs, VerifiedImage, judge, nothing_noted};

/// An image whose seals are to be judged, and how the result is kept.
#[derive(Clone, Copy)]
pub struct Acceptance<'a> {
    /// Where the results are kept.
    pub vault: &'a Vault,
    /// What is to be judged.
    pub request: JudgeRequest<'a>,
    /// Which parts of it are to be mounted; `None` if it is only brought here. In that case what this host noted before
    /// is ignored, and nobody waits for this: layers may come over a network.
    pub shape: Option<RootShape>,
    /// How the objects were found to be when the layers were read; `None` if that cannot be said about all of them.
    pub measured: &'a dyn Fn() -> Option<Measured>,
}

/// How the objects of an image were found to be while its layers were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// Each has fs-verity and the digest in its name.
    Enforced,
    /// Each has the digest, and fs-verity was not required.
    Unprotected,
}

/// Judges the seals of an image by what this host noted before and, if that is not enough, by the layers; and keeps
/// what it finds in these for the next time.
///
/// # Errors
/// The errors of [`judge`]: the refusal of the best seal, C07 if there is none; errors of keeping.
pub fn accept(this: &Acceptance<'_>, layers: &mut LayerReader<'_>) -> Result<VerifiedImage> {
    let Acceptance { vault, ref request, shape, .. } = *this;
    let (image, found) = (request.image, request.found);
    let noted = |seal: &BlobDigest| shape.is_some() && vault.was_checked(&image.digest, seal);
    // If the layers may have to be read: of many starts at once one does the work, and the others wait.
    let ready = found.iter().all(|found| noted(&found.digest));
    let mut _turn = match shape {
        Some(_) if !ready => Some(vault.turn(&image.digest)?),
        _ => None,
    };
    let mut judgement = judge(request, &noted, layers);
    let mut compared = std::mem::take(&mut judgement.compared);
    let mut verified = judgement.into_result()?;
    if shape.is_some_and(|shape| is_lost(vault, &verified, shape)) {
        // It was compared before and got lost: the layers make it again.
        if _turn.is_none() {
            _turn = Some(vault.turn(&image.digest)?);
        }
        let mut judgement = judge(request, &nothing_noted, layers);
        compared = std::mem::take(&mut judgement.compared);
        verified = judgement.into_result()?;
    }
    if let Some(contents) = layers.last() {
        verified.all().try_for_each(|erofs| enroll(vault, erofs))?;
        keep_contents(vault, image, &contents, (this.measured)())?;
        // The markers come last: one for each seal that passed, otherwise the next start would read the layers for the
        // others.
        compared.iter().try_for_each(|seal| vault.mark_checked(&image.digest, seal))?;
    }
    Ok(verified)
}

/// Keeps what was found in the layers of an image, and makes the image known. Its objects are in the vault already.
///
/// # Errors
/// [`crate::error::Case::Io`], G02.
pub fn keep_contents(vault: &Vault, image: &Image, contents: &Contents, measured: Option<Measured>) -> Result<()> {
    vault.store().write(&image.manifest)?;
    vault.store().write(&image.config)?;
    vault.keep_images(&image.digest, &contents.images)?;
    if let Some(measured) = measured {
        let enforced = measured == Measured::Enforced;
        contents.images.all().try_for_each(|(digest, _)| vault.mark_prepared(digest, enforced))?;
    }
    vault.add_image(image)
}

/// Returns the EROFS images of an image, or of layers, that nobody vouches for: those that this host made before, if
/// what is to be mounted is still here, and otherwise those that `make` makes and keeps.
///
/// # Errors
/// [`crate::error::Case::Io`], and the errors of `make`.
pub fn made_once(
    vault: &Vault,
    name: &BlobDigest,
    algorithms: &[Algorithm],
    shape: RootShape,
    noted: impl Fn(Algorithm) -> Option<TreeDigests>,
    make: impl FnOnce() -> Result<ErofsImages>,
) -> Result<TreeDigests> {
    let known = || {
        let here = |digests: &TreeDigests| of_shape(digests, shape).all(|digest| vault.open_erofs(digest).is_ok());
        algorithms.iter().copied().filter_map(&noted).find(here)
    };
    if let Some(digests) = known() {
        return Ok(digests);
    }
    // Of many first looks at once one does the work, and the others wait.
    let _turn = vault.turn(name)?;
    match known() {
        Some(digests) => Ok(digests),
        None => make()?.digests(),
    }
}

/// Returns whether an EROFS image that is to be mounted is neither at hand in this run nor in the vault any more.
pub fn is_lost(vault: &Vault, image: &VerifiedImage, shape: RootShape) -> bool {
    let layers = image.layers().iter().filter(|_| image.stackable());
    let needed: Vec<&VerifiedErofs> = match shape {
        RootShape::Root => vec![image.root()],
        RootShape::Merged => image.merged().into_iter().collect(),
        RootShape::Stack => layers.collect(),
        RootShape::Lowest(count) => layers.take(count).collect(),
    };
    needed.iter().any(|erofs| erofs.bytes().is_none() && vault.open_erofs(erofs.digest()).is_err())
}

/// Returns the digests of what is to be mounted.
fn of_shape(digests: &TreeDigests, shape: RootShape) -> Box<dyn Iterator<Item = &VerityDigest> + '_> {
    match shape {
        RootShape::Root => Box::new(std::iter::once(&digests.rootfs)),
        RootShape::Merged => Box::new(digests.merged.iter()),
        RootShape::Stack => Box::new(digests.layers.iter()),
        RootShape::Lowest(count) => Box::new(digests.layers.iter().take(count)),
    }
}
