//! A verified mount in the place of an overlay that containers-storage made itself: for the `precreate` hook.

use super::attach::{MountTarget, PendingMount};
use super::choice::asked_of;
use super::image::Swap;
use super::{PodmanWrites, image, layers, uppers};
use crate::container_store::{
    CallTarget, ClaimedContainer, further_stores, identify_with, or_unknown, recorded_lowers,
};
use crate::error::{Case, Refusal, Result};
use crate::mount::ReplacedMount;
use crate::policy::{Decision, Mode, Policy};
use crate::protocol::{MountCall, Native};
use crate::sys::mounts::MountId;

/// Verifies the image that `native` shows, and puts it in the place of that overlay, which is the mount `mount`. `None`
/// if nothing is asked of the image: then the overlay stays. If the store has no record of the container, it is
/// `container`. `written` is what podman did before.
///
/// # Errors
/// Whatever a start by the mount program would be refused for; [`Case::O06Swap`] and [`Case::O03OtherMount`] if the
/// overlay cannot be removed, or is a different one by then. A failure after that leaves nothing mounted.
pub fn swap(
    policy: &Policy,
    native: &Native,
    mount: MountId,
    container: &ClaimedContainer,
    written: &PodmanWrites,
) -> Result<Swap> {
    let call = &named(native)?;
    match identify_with(call, &|_| Ok(Some(container.clone())))? {
        CallTarget::Image(mut claimed) => {
            // The record may not say how the image was asked for, though it is an engine's container.
            if let Some(found) = claimed.own.as_mut().and_then(|own| own.container.as_mut())
                && found.asked.is_none()
            {
                found.asked.clone_from(&container.asked);
            }
            let own = claimed.own.as_ref();
            let _alone = own.map(|o| uppers::lock_upper(&o.diff, &o.path)).transpose()?;
            let instead = ReplacedMount { mount, metacopy: native.metacopy };
            let request =
                PendingMount { call, policy, onto: MountTarget::default(), written: Some(written), by_hook: true };
            image::swap(&request, *claimed, instead)
        }
        CallTarget::Layers(claimed) => {
            layers::denied(policy, &claimed)?;
            let refusal = Refusal::new(Case::B12Layers, call.target.display().to_string(), claimed.why);
            match policy.decide(&or_unknown(claimed.names.clone(), container.asked.as_ref())).mode {
                Mode::Enforce => Err(refusal),
                Mode::Audit => Ok(Swap::Stays(Some(refusal))),
                Mode::Off => Ok(Swap::Stays(None)),
            }
        }
        CallTarget::Volume => Err(Refusal::new(Case::O06Swap, call.target.display().to_string(), "not in a store")),
    }
}

/// Builds the call, with the names of its layers.
pub(super) fn named(native: &Native) -> Result<MountCall> {
    let mut call = native.call.clone();
    if native.nameless {
        // They are not what is mounted: what the layers are is found out and verified as for any others.
        let mut recorded = recorded_lowers(&call.target, &further_stores()?)?;
        // A mount that shows an image also shows the layer that the image is named by.
        if call.upper.is_none() {
            recorded.insert(0, call.target.with_file_name("diff"));
        }
        if recorded.len() != call.lowers.len() {
            return Err(other_lowers(&call, recorded.len()));
        }
        call.lowers = recorded;
    }
    Ok(call)
}

/// Returns the refusal of a call that has not as many lower directories as are on record.
pub(super) fn other_lowers(call: &MountCall, recorded: usize) -> Refusal {
    let why = format!("{} lower directories, the store has {recorded} on record", call.lowers.len());
    Refusal::new(Case::B08Lowers, call.target.display().to_string(), why)
}

/// Returns what is asked of something that podman mounted by itself elsewhere than on a container's root, be it an
/// image or layers of none: by all names that a start would go by.
///
/// # Errors
/// [`Case::F06Denied`], in every mode; errors of finding out what it is.
pub fn asked_of_mounted(policy: &Policy, native: &Native) -> Result<Decision> {
    match identify_with(&named(native)?, &|_| Ok(None))? {
        CallTarget::Image(claimed) => asked_of(policy, &claimed),
        CallTarget::Layers(claimed) => {
            layers::denied(policy, &claimed)?;
            Ok(policy.decide(&claimed.names))
        }
        CallTarget::Volume => {
            Err(Refusal::new(Case::B08Lowers, native.call.target.display().to_string(), "not in a store"))
        }
    }
}
