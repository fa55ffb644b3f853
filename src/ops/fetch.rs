use std::path::Path;

use super::{Context, ImageSelection, StoredOutcome, Task};
use crate::container_store::{ClaimedImage, StoredImage};
use crate::digest::BlobDigest;
use crate::error::{Case, Class, Refusal, Result};
use crate::fetch::Session;
use crate::oci::{Reference, Repository};
use crate::policy::{Directories, Mode, Policy};
use crate::start::{repositories, vault_of};

/// Said about an image whose names belong to no registry.
const BUILT_HERE: &str = "it was built here, and no registry has it under its names: what is sealed is the image that was \
                          pushed, so push it, sign it there, and pull it";

/// Images whose seals are to be brought.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// Which images.
    pub images: ImageSelection,
    /// Where to look; otherwise in the repositories that their names belong to.
    pub from: Vec<Reference>,
}

/// Fetches the seals of images of the container store from their registries; reports each image to `each`.
///
/// # Errors
/// [`Case::Usage`] for a place that is not a repository, and the errors of [`ImageSelection`]. A refusal of one image
/// is no error here: the first one that counts is returned.
pub fn fetch_seals(
    context: &Context,
    request: &FetchRequest,
    each: &mut dyn FnMut(StoredOutcome<'_, Vec<BlobDigest>>),
) -> Result<Option<Refusal>> {
    let from = request.from.iter().map(repository).collect::<Result<Vec<_>>>()?;
    let session = context.session()?;
    let work = |image: &ClaimedImage, name: &str| {
        let _step = context.begin(Task::Waiting(&format!("looking for seals of {name}")));
        one(context.elsewhere()?, image, name, &from, &session)
    };
    // Without a policy nobody can say which images require a seal.
    let policy = Policy::load(&Directories::system()).ok();
    let unasked = |stored: &StoredImage, refusal: &Refusal| {
        let asks = policy.as_ref().is_none_or(|policy| policy.decide(&stored.names).mode != Mode::Off);
        !asks && matches!(refusal.case().class(), Class::NotSealed | Class::Inconclusive)
    };
    request.images.each(context, work, unasked, each)
}

fn repository(reference: &Reference) -> Result<Repository> {
    match reference {
        Reference::Registry { repository, .. } => Ok(repository.clone()),
        other => Err(Refusal::new(Case::Usage, other.to_string(), "--from takes docker://HOST/NAME")),
    }
}

/// Fetches the seals of all images that the layers may be.
fn one(
    elsewhere: Option<&Path>,
    image: &ClaimedImage,
    name: &str,
    from: &[Repository],
    session: &Session,
) -> Result<Vec<BlobDigest>> {
    let vault = vault_of(elsewhere, &image.root)?;
    let _lock = vault.shared()?;
    let mut seals = Vec::new();
    let mut first: Option<Refusal> = None;
    let mut asked = false;
    for candidate in &image.images {
        let named = repositories(&candidate.names);
        let places = if from.is_empty() { &named } else { from };
        asked |= !places.is_empty();
        // One image can have several manifests: if one of them has no seal, or exists nowhere, that must not hide a
        // seal of another.
        match crate::start::fetch_seals(&vault, candidate, places, session) {
            Ok(found) => seals.extend(found),
            Err(refusal) => drop(first.get_or_insert(refusal)),
        }
    }
    match first {
        _ if !seals.is_empty() => {
            if let Some(refusal) = first {
                log::info!("{refusal}");
            }
            Ok(seals)
        }
        Some(refusal) => Err(refusal.within_once("image", name)),
        None => {
            let why = if asked { "" } else { BUILT_HERE };
            Err(Refusal::new(Case::C07NoSeal, format!("image {name}"), why))
        }
    }
}
