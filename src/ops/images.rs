use super::Context;
use crate::digest::BlobDigest;
use crate::oci::Reference;
use crate::report::{Case, Refusal, Result};

/// An image in the vault.
#[derive(Clone, Debug)]
pub struct ListedImage {
    /// Its names.
    pub names: Vec<String>,
    /// Its digest.
    pub digest: BlobDigest,
    /// How many layers it has; 0 where it is damaged.
    pub layers: usize,
    /// Their bytes.
    pub size: u64,
    /// How many seals it has.
    pub seals: usize,
}

/// Lists the images in the vault. Before the first pull there is none, and that is no error.
///
/// # Errors
/// [`Case::Io`], [`Case::C02TooMany`].
pub fn images(context: &Context) -> Result<Vec<ListedImage>> {
    if !context.has_vault()? {
        return Ok(Vec::new());
    }
    let vault = context.open_vault()?;
    let tags = vault.tags()?;
    let one = |digest: BlobDigest| {
        let names = tags.iter().filter(|t| t.digest == digest).map(|t| t.name.clone()).collect();
        let seals = vault.seals(&digest, &context.budget)?.len();
        // A damaged image is listed too, with what is known of it.
        let image = vault.image(&Reference::Digest(digest), &context.budget);
        let (layers, size) = image.as_ref().map_or((0, 0), |i| (i.layers.len(), i.layers.iter().map(|l| l.size).sum()));
        Ok(ListedImage { names, digest, layers, size, seals })
    };
    vault.images()?.into_iter().map(one).collect()
}

/// Gives an image in the vault one more name; its digest.
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

/// Takes a name away.
///
/// # Errors
/// [`Case::NotFound`].
pub fn untag(context: &Context, name: &str) -> Result<()> {
    context.open_vault()?.remove_tag(name)
}
