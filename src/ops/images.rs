use super::{Context, ImageNames};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::Reference;

/// An image in the vault.
#[derive(Clone, Debug)]
pub struct ListedImage {
    /// What it is called.
    pub names: ImageNames,
    /// Its digest.
    pub digest: BlobDigest,
    /// How many layers it has; 0 if it is damaged.
    pub layers: usize,
    /// The size of its layers in bytes.
    pub size: u64,
    /// How many seals it has.
    pub seals: usize,
}

/// Lists the images in the vault. Before the first pull there are none, and that is no error.
///
/// # Errors
/// [`Case::Io`], [`Case::C02TooMany`].
pub fn images(context: &Context) -> Result<Vec<ListedImage>> {
    if !context.has_vault()? {
        return Ok(Vec::new());
    }
    let vault = context.open_vault()?;
    let names = context.host_names();
    let one = |digest: BlobDigest| {
        let seals = vault.seals(&digest, &context.budget)?.len();
        // A damaged image is listed too, with what is known about it.
        let image = vault.image(&Reference::Digest(digest), &context.budget);
        let (layers, size) = image.as_ref().map_or((0, 0), |i| (i.layers.len(), i.layers.iter().map(|l| l.size).sum()));
        Ok(ListedImage { names: names.of(&digest), digest, layers, size, seals })
    };
    vault.images()?.into_iter().map(one).collect()
}

/// Gives an image in the vault one more name, and returns its digest.
///
/// # Errors
/// [`Case::Usage`] for an image of another place, [`Case::NotFound`], [`Case::Reference`].
pub fn tag(context: &Context, image: &Reference, name: &str) -> Result<BlobDigest> {
    if matches!(image, Reference::Layout { .. } | Reference::Registry { .. }) {
        return Err(Refusal::new(Case::Usage, image.to_string(), "pull it into the vault first"));
    }
    let vault = context.open_vault()?;
    let digest = vault.image(image, &context.budget)?.digest;
    vault.set_tag(name, &digest)?;
    Ok(digest)
}

/// Removes a name.
///
/// # Errors
/// [`Case::NotFound`].
pub fn untag(context: &Context, name: &str) -> Result<()> {
    context.open_vault()?.remove_tag(name)
}
