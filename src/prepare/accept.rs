//! Judging an image's seals, and keeping what was learned from its layers: the one place that does both, for starts,
//! mounts and pulls.

use super::{Shape, enroll};
use crate::digest::{Algorithm, BlobDigest, VerityDigest};
use crate::image::{Contents, ErofsImages, TreeDigests};
use crate::oci::Image;
use crate::report::Result;
use crate::vault::Vault;
use crate::verify::{JudgeRequest, Layers, VerifiedErofs, VerifiedImage, judge, nothing_noted};

/// An image whose seals are to be judged, and how what comes of that is kept.
#[derive(Clone, Copy)]
pub struct Acceptance<'a> {
    /// Where things are kept.
    pub vault: &'a Vault,
    /// What is to be judged.
    pub request: JudgeRequest<'a>,
    /// What is to be mounted of it; `None` where it is only brought here. Then what this host noted before counts for
    /// nothing, and nobody is waited for: layers may come over a network.
    pub shape: Option<Shape>,
    /// How the objects were found to be when the layers were read; `None` where nobody can say it for all.
    pub measured: &'a dyn Fn() -> Option<Measured>,
}

/// How the objects of an image were found to be while its layers were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// Each has fs-verity and the digest that its name says.
    Enforced,
    /// Each has the digest, and fs-verity was not asked for.
    Unprotected,
}

/// Judges the seals of an image by what this host noted before and, where that does not do, by the layers; and keeps
/// what these hold for the next time.
///
/// # Errors
/// Those of [`judge`]: the refusal of the best seal, C07 where there is none; those of keeping.
pub fn accept(this: &Acceptance<'_>, layers: &mut Layers<'_>) -> Result<VerifiedImage> {
    let Acceptance { vault, ref request, shape, .. } = *this;
    let (image, found) = (request.image, request.found);
    let noted = |seal: &BlobDigest| shape.is_some() && vault.was_checked(&image.digest, seal);
    // Where the layers may have to be read: many at once are one that works, and others that wait.
    let ready = found.iter().all(|found| noted(&found.digest));
    let mut _turn = match shape {
        Some(_) if !ready => Some(vault.turn(&image.digest)?),
        _ => None,
    };
    let mut verified = judge(request, &noted, layers).into_result()?;
    if shape.is_some_and(|shape| is_lost(vault, &verified, shape)) {
        // It was compared before and is lost: the layers make it again.
        if _turn.is_none() {
            _turn = Some(vault.turn(&image.digest)?);
        }
        verified = judge(request, &nothing_noted, layers).into_result()?;
    }
    if let Some(contents) = layers.last() {
        verified.all().try_for_each(|erofs| enroll(vault, erofs))?;
        keep_contents(vault, image, &contents, (this.measured)())?;
        // The marker comes last. One whose layer images cannot be stacked is looked at again: it would not say so.
        if let Some(seal) = verified.seal_name().filter(|_| verified.stackable()) {
            vault.mark_checked(&image.digest, &seal)?;
        }
    }
    Ok(verified)
}

/// Keeps what the layers of an image hold, and makes the image known. Its objects are in the vault already.
///
/// # Errors
/// [`crate::report::Case::Io`], G02.
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

/// The EROFS images of an image, or of layers, that nobody vouches for: those that this host made before, where what
/// is to be mounted is still here, and else what `make` makes and keeps.
///
/// # Errors
/// [`crate::report::Case::Io`], and those of `make`.
pub fn made_once(
    vault: &Vault,
    name: &BlobDigest,
    algorithms: &[Algorithm],
    shape: Shape,
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
    // Many first looks at once are one that works, and others that wait.
    let _turn = vault.turn(name)?;
    match known() {
        Some(digests) => Ok(digests),
        None => make()?.digests(),
    }
}

/// Whether an EROFS image that is to be mounted is neither in this run's hands nor in the vault any more.
fn is_lost(vault: &Vault, image: &VerifiedImage, shape: Shape) -> bool {
    let layers = image.layers().iter().filter(|_| image.stackable());
    let needed: Vec<&VerifiedErofs> = match shape {
        Shape::Root => vec![image.root()],
        Shape::Merged => image.merged().into_iter().collect(),
        Shape::Stack => layers.collect(),
        Shape::Lowest(count) => layers.take(count).collect(),
    };
    needed.iter().any(|erofs| erofs.bytes().is_none() && vault.open_erofs(erofs.digest()).is_err())
}

/// The digests of what is to be mounted.
fn of_shape(digests: &TreeDigests, shape: Shape) -> Box<dyn Iterator<Item = &VerityDigest> + '_> {
    match shape {
        Shape::Root => Box::new(std::iter::once(&digests.rootfs)),
        Shape::Merged => Box::new(digests.merged.iter()),
        Shape::Stack => Box::new(digests.layers.iter()),
        Shape::Lowest(count) => Box::new(digests.layers.iter().take(count)),
    }
}
