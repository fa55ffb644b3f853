//! Seals in the image itself: a new manifest, and so a new image, under the old one's tag.

use super::{Context, ImageLocation, Located, Plan, PlanItem};
use crate::digest::{Algorithm, BlobDigest};
use crate::error::{Case, Refusal, Result};
use crate::oci::{Layout, Platform, Reference};
use crate::seal::{ArtifactRole, Binding, Role, other_annotations, write_inline, write_label};

/// An image that is to hold digests of itself.
#[derive(Clone, Debug)]
pub struct SealRequest {
    /// The image, in a layout.
    pub image: Reference,
    /// The algorithm of the digests.
    pub algorithm: Algorithm,
    /// Whether it goes into annotations of the manifest instead of a label of the config.
    pub inline: bool,
    /// Which instance; otherwise this host's.
    pub platform: Option<Platform>,
}

/// Writes digests into an image that nobody has signed, and returns the digest of the resulting image.
///
/// # Errors
/// [`Case::Usage`] for an image that is in no layout; errors of reading it.
pub fn seal(context: &Context, request: &SealRequest) -> Result<BlobDigest> {
    let located = context.locate(&request.image, request.platform.as_ref())?;
    in_layout(&located)?;
    let images = located.images(context, request.algorithm, false)?;
    if !request.inline {
        let (_, merged) = images.merged.as_ref().map_err(|r| r.clone().within("the label names the merged tree"))?;
        let (config, manifest) = write_label(&located.image, merged)?;
        located.store().write(&config)?;
        return replace(&located, &request.image, &manifest);
    }
    let binding = Binding::new(&located.image, &images.digests()?, &[], None);
    let plan = Plan { located, images, binding };
    let unsigned: Vec<ArtifactRole> = plan.items().into_iter().map(|item| part(item, Vec::new())).collect();
    let manifest = write_inline(&plan.located.image, &unsigned, None)?;
    replace(&plan.located, &request.image, &manifest)
}

/// Signs a seal in the image itself, and returns the digest of the resulting image.
pub(super) fn sign_inline(
    plan: Plan,
    reference: &Reference,
    der: impl Fn(&PlanItem<'_>) -> Result<Vec<u8>>,
) -> Result<BlobDigest> {
    in_layout(&plan.located)?;
    // The manifest that holds the statement is the one that it is about.
    let annotations = other_annotations(&plan.located.image);
    let plan = Plan { binding: Binding { subject: None, annotations, ..plan.binding.clone() }, ..plan };
    let (mut parts, mut statement) = (Vec::new(), Vec::new());
    for item in plan.items().into_iter().filter(|i| i.role != Role::Manifest) {
        let signature = der(&item)?;
        match item.role {
            Role::Binding => statement = signature,
            _ => parts.push(part(item, signature)),
        }
    }
    let text = plan.binding.text();
    let manifest = write_inline(&plan.located.image, &parts, Some((&text, &statement)))?;
    replace(&plan.located, reference, &manifest)
}

fn part(item: PlanItem<'_>, der: Vec<u8>) -> ArtifactRole<'_> {
    ArtifactRole { role: item.role, digest: item.digest, der, erofs: None }
}

/// Returns the layout that the image is in.
fn in_layout(located: &Located) -> Result<&Layout> {
    match &located.place {
        ImageLocation::Layout(layout) => Ok(layout),
        _ => {
            let why = "a seal in the image itself is a new image: copy it into a layout (oci:DIR) first, and push that";
            Err(Refusal::new(Case::Usage, located.image.digest.to_string(), why))
        }
    }
}

/// Stores the new manifest under the old one's tag.
fn replace(located: &Located, reference: &Reference, manifest: &[u8]) -> Result<BlobDigest> {
    let tag = if let Reference::Layout { tag, .. } = reference { tag.as_deref() } else { None };
    in_layout(located)?.replace_image(&located.image.digest, tag, manifest)
}
