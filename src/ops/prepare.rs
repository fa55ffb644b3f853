use super::seals::copy_seal;
use super::{Choice, Context, Outcome, SealSources};
use crate::identify::ClaimedImage;
use crate::oci::Reference;
use crate::policy::{Directories, Policy};
use crate::report::{Refusal, Result};
use crate::seal::About;
use crate::start::{Prepared, prepare_image, vault_of};

/// Images that are to be made ready before they are started.
#[derive(Clone, Debug)]
pub struct PrepareRequest {
    /// Which images.
    pub images: Choice,
    /// Where seals are that the store does not have yet.
    pub seals: Vec<Reference>,
    /// Whether these are only to be brought.
    pub seals_only: bool,
}

/// What has become of an image.
#[derive(Debug)]
pub enum Readiness {
    /// It can be started.
    Ready(Box<Prepared>),
    /// Nothing is asked of it.
    Off,
    /// It has its seals, and was not looked at.
    SealsOnly,
}

/// Makes images of the container store ready; tells `each` of every one.
///
/// # Errors
/// F03 for the policy, those of [`SealSources`] and of [`Choice`]; the first refusal comes back where it counts.
pub fn prepare(
    context: &Context,
    request: &PrepareRequest,
    each: &mut dyn FnMut(Outcome<'_, Readiness>),
) -> Result<Option<Refusal>> {
    let policy = Policy::load(&Directories::system())?;
    let seals = SealSources::open(context, &request.seals)?;
    let work = |image: &ClaimedImage, name: &str| {
        if !request.seals.is_empty() {
            keep_seals(context, image, &seals)?;
        }
        if request.seals_only {
            return Ok(Readiness::SealsOnly);
        }
        one(context, &policy, image, name)
    };
    request.images.each(context, work, each)
}

/// Puts the seals of other places beside the image.
fn keep_seals(context: &Context, image: &ClaimedImage, seals: &SealSources) -> Result<()> {
    let vault = vault_of(&image.root)?;
    let _lock = vault.shared()?;
    for candidate in &image.images {
        for found in seals.about(&candidate.image, &context.budget)? {
            copy_seal(&vault, &candidate.image, &found, About::Image, &context.budget)?;
        }
    }
    Ok(())
}

fn one(context: &Context, policy: &Policy, image: &ClaimedImage, name: &str) -> Result<Readiness> {
    let Some(first) = image.images.first() else { return Ok(Readiness::Off) };
    let step = context.begin_layers("preparing", &first.image);
    match prepare_image(policy, image, &|n| step.done(n)) {
        Ok(Some(prepared)) => Ok(Readiness::Ready(Box::new(prepared))),
        Ok(None) => Ok(Readiness::Off),
        Err(r) => Err(r.within_once("image", name)),
    }
}
