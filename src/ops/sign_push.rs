//! An image that podman built: pushed by podman, sealed in the registry, and then ready to start here without a pull.

use std::process::Command;

use super::sign::{SignRequest, SignedInstance, sign as seal};
use super::{Context, ImageSelection, Task};
use crate::error::{Case, Refusal, Result};
use crate::fetch;
use crate::oci::{Reference, Repository};
use crate::pki::Signer;
use crate::start::vault_of;
use crate::sys::authorities;

/// An image of the container store that is to be pushed and sealed.
#[derive(Clone, Debug)]
pub struct SignPushRequest {
    /// Its name or ID in the store.
    pub image: String,
    /// How it is sealed; the image in it is where it is pushed to.
    pub sign: SignRequest,
    /// The options of registries, as podman takes them.
    pub options: Vec<String>,
}

/// Pushes, seals and fetches the seals: podman may compress layers again when it pushes them, so what is signed is what
/// lies in the registry. The local image gets the name under which it was pushed.
///
/// # Errors
/// [`Case::Usage`] for a place that is not a repository, [`Case::NotStored`], podman's message if it does not push, and
/// the errors of [`seal`] and of fetching.
pub fn sign_and_push(
    context: &Context,
    request: SignPushRequest,
    signer: &Signer,
    each: &mut dyn FnMut(SignedInstance),
) -> Result<()> {
    let SignPushRequest { image, mut sign, options } = request;
    let Reference::Registry { repository, tag, digest: None } = sign.image.clone() else {
        return Err(Refusal::new(Case::Usage, sign.image.to_string(), "--push takes docker://HOST/NAME[:TAG]"));
    };
    let chosen = ImageSelection::Named(vec![image]);
    let id = match chosen.by_word(context)?.first() {
        Some((_, stored)) => stored.id.clone(),
        None => return Err(Refusal::new(Case::NotStored, sign.image.to_string(), "")),
    };
    let name = format!("{repository}:{}", tag.as_deref().unwrap_or("latest"));
    {
        let _step = context.begin(Task::Waiting(&format!("pushing {name}")));
        podman(
            &[&["push".to_owned(), "--quiet".to_owned()], &options[..], &[id.clone(), format!("docker://{name}")]]
                .concat(),
        )?;
    }
    if sign.statement.identities.is_empty() {
        sign.statement.identities = vec![repository.to_string()];
    }
    seal(context, &sign, signer, each)?;
    podman(&["tag".to_owned(), id.clone(), name])?;
    bring(context, &id, &sign.image, &repository)
}

/// Fetches the seals of the image that was pushed, for the local one.
fn bring(context: &Context, id: &str, pushed: &Reference, repository: &Repository) -> Result<()> {
    let session = context.session()?;
    let pushed = context.locate(pushed, None)?.image;
    for (_, stored) in ImageSelection::Named(vec![id.to_owned()]).by_word(context)? {
        let image = stored.image?;
        let vault = vault_of(context.elsewhere()?, &image.root)?;
        let _lock = vault.shared()?;
        let seals = session.seals(repository, &pushed, vault.store())?;
        let same = image.images.iter().filter(|candidate| candidate.image.config_digest == pushed.config_digest);
        for (candidate, seal) in same.flat_map(|candidate| seals.iter().map(move |seal| (candidate, seal))) {
            let raw = vault.store().read(seal, None, context.budget.manifest)?;
            vault.add_seal(&candidate.image.digest, &raw)?;
        }
        if seals.is_empty() {
            return Err(Refusal::new(Case::C07NoSeal, pushed.digest.to_string(), "the registry does not list it"));
        }
    }
    Ok(())
}

fn podman(args: &[String]) -> Result<()> {
    let what = format!("podman {}", args[0]);
    let mut command = Command::new("podman");
    authorities::as_before(&mut command);
    let output = command.args(args).output().map_err(|e| Refusal::io(&what, e))?;
    match output.status.success() {
        true => Ok(()),
        // In the words of the same library as skopeo's.
        false => Err(fetch::said(&what, String::from_utf8_lossy(&output.stderr).trim())),
    }
}
