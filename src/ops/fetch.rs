use super::{Choice, Context, Outcome, Task};
use crate::digest::BlobDigest;
use crate::fetch::Session;
use crate::identify::ClaimedImage;
use crate::oci::{Reference, Repository};
use crate::report::{Case, Refusal, Result};
use crate::start::{repositories, vault_of};

/// Images whose seals are to be brought.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// Which images.
    pub images: Choice,
    /// Where to look; else in the repositories that their names are of.
    pub from: Vec<Reference>,
}

/// Brings the seals of images of the container store from their registries; tells `each` of every image.
///
/// # Errors
/// [`Case::Usage`] for a place that is no repository, and those of [`Choice`]; the first refusal comes back where it
/// counts.
pub fn fetch_seals(
    context: &Context,
    request: &FetchRequest,
    each: &mut dyn FnMut(Outcome<'_, Vec<BlobDigest>>),
) -> Result<Option<Refusal>> {
    let from = request.from.iter().map(repository).collect::<Result<Vec<_>>>()?;
    let session = context.session()?;
    let work = |image: &ClaimedImage, name: &str| {
        let _step = context.begin(Task::Waiting(&format!("looking for seals of {name}")));
        one(image, &from, &session)
    };
    request.images.each(context, work, each)
}

fn repository(reference: &Reference) -> Result<Repository> {
    match reference {
        Reference::Registry { repository, .. } => Ok(repository.clone()),
        other => Err(Refusal::new(Case::Usage, other.to_string(), "--from takes docker://HOST/NAME")),
    }
}

/// The seals of all images that the layers may be.
fn one(image: &ClaimedImage, from: &[Repository], session: &Session) -> Result<Vec<BlobDigest>> {
    let vault = vault_of(&image.root)?;
    let _lock = vault.shared()?;
    let mut seals = Vec::new();
    for candidate in &image.images {
        let named = repositories(&candidate.names);
        let places = if from.is_empty() { &named } else { from };
        seals.extend(crate::start::fetch_seals(&vault, candidate, places, session)?);
    }
    let name = image.images.first().and_then(|c| c.names.first());
    match seals.is_empty() {
        true => Err(Refusal::new(Case::C07NoSeal, name.map_or_else(String::new, |n| format!("image {n}")), "")),
        false => Ok(seals),
    }
}
