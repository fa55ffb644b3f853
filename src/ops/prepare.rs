use super::seals::copy_seal;
use super::{Context, ImageSelection, SealSources, StoredOutcome};
use crate::container_store::ClaimedImage;
use crate::error::{Refusal, Result};
use crate::oci::Reference;
use crate::pki;
use crate::policy::{Directories, Policy};
use crate::seal::ArtifactSubject;
use crate::start::{JudgedImage, UserReadiness, prepare_for_user, prepare_image, vault_of};
use crate::sys::process::{self, User};

/// Images that are to be made ready before they are started.
#[derive(Clone, Debug)]
pub struct PrepareRequest {
    /// Which images.
    pub images: ImageSelection,
    /// Where there are seals that the store does not have yet.
    pub seals: Vec<Reference>,
    /// Whether only the seals are to be fetched.
    pub seals_only: bool,
}

/// What has become of an image.
#[derive(Debug)]
pub enum Readiness {
    /// It can be started.
    Ready(Box<JudgedImage>),
    /// Nothing is asked of it.
    Off,
    /// It has its seals, and was not looked at.
    SealsOnly,
    /// A user's image: root's service has decided.
    OfUser(UserReadiness),
}

/// Makes images of the container store ready, and reports each to `each`.
///
/// # Errors
/// F03 for the policy, the errors of [`SealSources`] and of [`ImageSelection`]. A refusal of one image is no error
/// here: the first one that counts is returned.
pub fn prepare(
    context: &Context,
    request: &PrepareRequest,
    each: &mut dyn FnMut(StoredOutcome<'_, Readiness>),
) -> Result<Option<Refusal>> {
    // Fetching seals asks nothing of them; and in a user's namespace no file of root's looks like root's.
    let of_user = process::user() != User::Root;
    let policy = match request.seals_only || of_user {
        true => None,
        false => {
            // So that the first start has nothing to do that a later one has not.
            pki::keep_facts();
            Some(Policy::load(&Directories::system())?)
        }
    };
    let seals = SealSources::open(context, &request.seals)?;
    let work = |image: &ClaimedImage, name: &str| {
        if !request.seals.is_empty() {
            keep_seals(context, image, &seals)?;
        }
        match &policy {
            Some(policy) => one(context, policy, image, name),
            None if request.seals_only => Ok(Readiness::SealsOnly),
            None => one_of_user(context, image, name),
        }
    };
    // What may stay as it is was not looked at.
    request.images.each(context, work, |_, _| false, each)
}

/// Puts seals from other places beside the image.
fn keep_seals(context: &Context, image: &ClaimedImage, seals: &SealSources) -> Result<()> {
    let vault = vault_of(context.elsewhere()?, &image.root)?;
    let _lock = vault.shared()?;
    for candidate in &image.images {
        for found in seals.about(&candidate.image, &context.budget)? {
            copy_seal(&vault, &candidate.image, &found, ArtifactSubject::Image, &context.budget)?;
        }
    }
    Ok(())
}

fn one_of_user(context: &Context, image: &ClaimedImage, name: &str) -> Result<Readiness> {
    let Some(first) = image.images.first() else { return Ok(Readiness::OfUser(UserReadiness::Unasked)) };
    let step = context.begin_layers("preparing", &first.image);
    let ready = prepare_for_user(image, &|n| step.done(n)).map_err(|r| r.within_once("image", name))?;
    Ok(Readiness::OfUser(ready))
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
