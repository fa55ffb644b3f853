//! The outcome of a container's start, found out without one: its image as [`crate::start`] finds it, what this host
//! noted about it, and what would be mounted in it.

use std::path::Path;

use super::foretold::{Foretold, is_mount_program, last_config, not_by_fuse_overlayfs};
use super::given::{GivenContainer, GivenMount};
use super::{cover, names, no_redirection};
use crate::container_store::{
    CallTarget, ListedContainer, MadeFrom, PodNamespace, StoredImage, check_layer, check_made, check_own_files,
};
use crate::error::{Case, Refusal, Result};
use crate::mount::{self, MountOptions};
use crate::oci::name::UNKNOWN;
use crate::policy::Policy;
use crate::prepare::PreparedImage;
use crate::start::{Expected, StartVerdict, expect_image, expect_layers};
use crate::sys::files;

/// Finds out what starting this container would come to, with what it is given; `images` are those in the store.
pub fn expect_container(
    policy: &Policy,
    container: &ListedContainer,
    given: &GivenContainer,
    images: &dyn Fn() -> Vec<StoredImage>,
) -> Expected {
    let stored = match &container.stored {
        Ok(stored) => stored,
        Err(refusal) => {
            let policy = policy.clone().at(PodNamespace::Unknown);
            return Expected::unknown(&policy, &[UNKNOWN.to_owned()], refusal.clone());
        }
    };
    let policy = policy.clone().at(stored.place.clone());
    let redirection = last_config(container).map_or_else(|| given.redirection.clone(), |last| last.redirection);
    if let Err(refusal) = no_redirection(redirection.as_ref()).and_then(|()| check_own(container)) {
        let decision = policy.decide(&stored_names(container));
        return Expected {
            decision,
            manifest: None,
            verdict: StartVerdict::Refused(refusal),
            image: None,
            ready: false,
        };
    }
    let seen = match &container.target {
        Ok(CallTarget::Image(image)) => {
            let seen = expect_image(&policy, image, None).and(not_by_fuse_overlayfs());
            let copied = match (&seen.verdict, image.own.as_ref()) {
                (StartVerdict::Sealed(_), Some(own)) => {
                    let (by_program, image_of) = (is_mount_program(), seen.image.as_ref());
                    Foretold { container, claimed: image, own, image: image_of, given, by_program }.check()
                }
                _ => Ok(()),
            };
            seen.and(copied)
        }
        Ok(CallTarget::Layers(layers)) if stored.made_from == MadeFrom::Nothing => {
            not_ours(&policy, stored_names(container), &layers.root.path)
        }
        Ok(CallTarget::Layers(layers)) => expect_layers(&policy, layers),
        Ok(CallTarget::Volume) => not_ours(&policy, stored_names(container), Path::new(&container.id)),
        Err(refusal) => Expected::unknown(&policy, &stored_names(container), refusal.clone()),
    };
    let (refused, audited) = match &seen.verdict {
        StartVerdict::Sealed(_) => check_images(&policy, &seen, &given.mounts, images),
        _ => (Ok(()), None),
    };
    let seen = seen.and(refused).and_audited(audited);
    let covered = match &seen.verdict {
        StartVerdict::Sealed(_) => check_cover(seen.image.as_ref(), &seen, &given.mounts),
        _ => Ok(()),
    };
    seen.and(covered)
}

/// Checks what the hook checks whatever the policy says, and the mount program too.
fn check_own(container: &ListedContainer) -> Result<()> {
    let own = match &container.target {
        Ok(CallTarget::Image(image)) => image.own.as_ref(),
        Ok(CallTarget::Layers(layers)) => layers.own.as_ref(),
        _ => None,
    };
    container.directory.ancestors().nth(3).map_or(Ok(()), check_made)?;
    check_own_files(&container.directory)?;
    own.and_then(|own| own.path.parent()).map_or(Ok(()), check_layer)
}

fn stored_names(container: &ListedContainer) -> Vec<String> {
    names(None, container.stored.as_ref().ok(), false)
}

/// Returns the outcome for a root that is no image's.
fn not_ours(policy: &Policy, names: Vec<String>, path: &Path) -> Expected {
    let decision = policy.decide(&names);
    let why = "it is no container of an image in an overlay store";
    let refusal = Refusal::new(Case::O01NotOurs, path.display().to_string(), why);
    Expected { verdict: StartVerdict::of(refusal, decision.mode), decision, manifest: None, image: None, ready: false }
}

/// Checks the mounted images as the hook does: see [`super::images`]. If layerseal is the mount program, these images
/// are verified like containers'. Returns the refusal, and otherwise what `audit` lets pass.
fn check_images(
    policy: &Policy,
    seen: &Expected,
    mounts: &[GivenMount],
    images: &dyn Fn() -> Vec<StoredImage>,
) -> (Result<()>, Option<Refusal>) {
    let shown = || mounts.iter().filter_map(|mount| Some((mount, mount.image.as_ref()?)));
    if shown().next().is_none() {
        return (Ok(()), None);
    }
    let (stored, mut audited) = (images(), None);
    let is_verified = is_mount_program();
    for (mount, image) in shown() {
        let found = image.find(&stored);
        let names = found.map(|found| found.names.clone()).filter(|names| !names.is_empty());
        let names = names.unwrap_or_else(|| vec![UNKNOWN.to_owned()]);
        let own =
            found.and_then(|found| found.image.as_ref().ok()).map(|image| expect_image(policy, image, None).verdict);
        let verdict = match own {
            Some(StartVerdict::Refused(refusal)) if is_verified || refusal.case() == Case::F06Denied => {
                return (Err(refusal), audited);
            }
            Some(own) if is_verified => own,
            _ if seen.decision.cover.iter().any(|cover| cover.holds(&mount.destination)) => continue,
            _ => {
                let why = format!("{}: podman mounts it by an overlay of its own", names.join(", "));
                let refusal = Refusal::new(Case::O11ImageMount, mount.destination.clone(), why);
                StartVerdict::of(refusal, policy.decide(&names).mode)
            }
        };
        match verdict {
            StartVerdict::Refused(refusal) => return (Err(refusal), audited),
            StartVerdict::Audit(refusal) => audited = audited.or(Some(refusal)),
            StartVerdict::Sealed(_) | StartVerdict::Unasked => {}
        }
    }
    (Ok(()), audited)
}

/// Checks what the mounts cover. Links of the image lead to more system paths; as long as it cannot be looked into,
/// only the names count.
fn check_cover(image: Option<&PreparedImage>, seen: &Expected, mounts: &[GivenMount]) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    let view = image.map(|image| mount::view(image, &MountOptions::default())).transpose()?;
    let system = match &view {
        Some(view) => cover::system_paths(Path::new(&files::proc_path(view)))?,
        None => cover::names(),
    };
    mounts.iter().try_for_each(|mount| {
        cover::check_one(Path::new(&mount.destination), &system, &seen.decision.cover, || mount.what.clone())
    })
}
