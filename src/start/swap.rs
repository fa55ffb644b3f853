//! A verified mount in the place of an overlay that containers-storage made itself: for the `precreate` hook.

use super::attach::{Onto, Request};
use super::choice::asked_of;
use super::common::audit;
use super::image::Swap;
use super::{Written, image, layers, uppers};
use crate::identify::{Container, Target, further_stores, identify_with, recorded_lowers};
use crate::invoke::{Call, Native};
use crate::mount::Instead;
use crate::policy::{Decision, Mode, Policy};
use crate::report::{Case, Refusal, Result};
use crate::sys::mounts::Identity;

/// Verifies the image that `native` shows, and puts it in the place of that overlay, which is the mount
/// `mount`. `None` where nothing is asked of the image: then the overlay stays. Where the store has no record of
/// the container, it is `container`. `written` is what podman did before.
///
/// # Errors
/// Whatever a start by the mount program would be refused for; [`Case::O06Swap`] and [`Case::O03OtherMount`]
/// where the overlay cannot be taken away, or is another one by then. A failure after that leaves nothing
/// mounted.
pub fn swap(
    policy: &Policy,
    native: &Native,
    mount: Identity,
    container: &Container,
    written: &Written,
) -> Result<Swap> {
    let call = &named(native)?;
    match identify_with(call, &|_| Ok(Some(container.clone())))? {
        Target::Image(claimed) => {
            let own = claimed.own.as_ref();
            let _alone = own.map(|o| uppers::alone(&o.diff, &o.path)).transpose()?;
            let instead = Instead { mount, metacopy: native.metacopy };
            let request = Request { call, policy, onto: Onto::default(), written: Some(written) };
            image::swap(&request, *claimed, instead)
        }
        Target::Layers(claimed) => {
            layers::denied(policy, &claimed)?;
            let refusal = Refusal::new(Case::B12Layers, call.target.display().to_string(), claimed.why);
            match policy.decide(&claimed.names).mode {
                Mode::Enforce => Err(refusal),
                Mode::Audit => {
                    audit(&refusal, call);
                    Ok(Swap::Stays(Some(refusal)))
                }
                Mode::Off => Ok(Swap::Stays(None)),
            }
        }
        Target::Volume => Err(Refusal::new(Case::O06Swap, call.target.display().to_string(), "not in a store")),
    }
}

/// The call, with the names of its layers.
fn named(native: &Native) -> Result<Call> {
    let mut call = native.call.clone();
    if native.nameless {
        // They are not what is mounted: what the layers are is found out and verified as for any other.
        let mut recorded = recorded_lowers(&call.target, &further_stores()?)?;
        // What shows an image shows the layer that it is named by too.
        if call.upper.is_none() {
            recorded.insert(0, call.target.with_file_name("diff"));
        }
        if recorded.len() != call.lowers.len() {
            let why = format!("{} lower directories, the store has {} on record", call.lowers.len(), recorded.len());
            return Err(Refusal::new(Case::B08Lowers, call.target.display().to_string(), why));
        }
        call.lowers = recorded;
    }
    Ok(call)
}

/// What is asked of an image, or of layers that are none, which podman mounted by itself at a place other than a
/// container's root: by all names that a start would go by.
///
/// # Errors
/// [`Case::F06Denied`], in every mode; those of finding out what it is.
pub fn asked_of_mounted(policy: &Policy, native: &Native) -> Result<Decision> {
    match identify_with(&named(native)?, &|_| Ok(None))? {
        Target::Image(claimed) => asked_of(policy, &claimed),
        Target::Layers(claimed) => {
            layers::denied(policy, &claimed)?;
            Ok(policy.decide(&claimed.names))
        }
        Target::Volume => {
            Err(Refusal::new(Case::B08Lowers, native.call.target.display().to_string(), "not in a store"))
        }
    }
}
