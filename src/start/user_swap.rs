//! The service's mount in the place of an overlay that a user's podman made itself: for the `precreate` hook. It runs in
//! the user and mount namespace of that podman, and may take away what podman mounted there.

use super::service_call;
use super::service_request::ServiceRequest;
use super::swap::{named, other_lowers};
use super::upper_check::PodmanWrites;
use super::uppers::UserView;
use super::{Swap, common, uppers, user_record};
use crate::container_store::{
    CallTarget, ClaimedImage, StoredContainer, further_stores, identify_beneath_copies, identify_with, open_target,
    open_target_home, recorded_lowers,
};
use crate::error::{Case, Refusal, Result};
use crate::mount::{Record, ReplacedMount, UpperDir};
use crate::policy::{Decision, Mode};
use crate::protocol::{IdMapping, MountCall, Native};
use crate::sys::mounts::{self, MountId};

/// Has the service mount the image that `native` shows, and puts that in the place of that overlay, which is the mount
/// `mount`. If `decision` lets pass what is wrong, the overlay stays. `written` is what podman did before.
///
/// # Errors
/// Why the service mounts nothing; [`Case::M01Upper`] and [`Case::O09Tampered`] for what podman wrote from layers that
/// nobody had verified; [`Case::O06Swap`] and [`Case::O03OtherMount`] if the overlay cannot be removed, or is a
/// different one by then. A failure after that leaves nothing mounted, and is one in every mode.
pub fn swap_of_user(
    decision: &Decision,
    native: &Native,
    mount: MountId,
    stored: &StoredContainer,
    written: &PodmanWrites,
) -> Result<Swap> {
    let shown = || native.call.target.display().to_string();
    let look = || -> Result<(MountCall, Box<ClaimedImage>)> {
        // Without a service nothing is read or written.
        service_call::is_there()?;
        let call = named_of_user(native)?;
        match identify_beneath_copies(&call, &|_| Ok(Some(stored.into())))? {
            CallTarget::Image(claimed) => Ok((call, claimed)),
            CallTarget::Layers(claimed) => Err(Refusal::new(Case::B12Layers, shown(), claimed.why)),
            CallTarget::Volume => Err(Refusal::new(Case::O06Swap, shown(), "not in a store")),
        }
    };
    let refusal = match look() {
        Ok((call, claimed)) => match swap(&call, &claimed, decision, mount, stored, written) {
            Ok(record) => return Ok(Swap::Done(Box::new(record))),
            Err(refusal) => {
                let there = mounts::identify(open_target(&claimed.root, &call)?);
                if there.map_err(|e| Refusal::io(shown(), e))? != mount {
                    return Err(refusal);
                }
                refusal
            }
        },
        Err(refusal) => refusal,
    };
    match decision.mode != Mode::Enforce && refusal.case() != Case::F06Denied {
        true => Ok(Swap::Stays(Some(refusal))),
        false => Err(refusal),
    }
}

/// Has the service mount an image that a user's podman has mounted read-only in its store, for other containers to show,
/// and puts that in the place of that mount, which is `mount`.
///
/// # Errors
/// As for [`swap_of_user`]. A failure after podman's mount was removed leaves nothing mounted.
pub fn swap_image_of_user(native: &Native, mount: MountId) -> Result<()> {
    let shown = || native.call.target.display().to_string();
    service_call::is_there()?;
    let call = named(native)?;
    let claimed = match identify_with(&call, &|_| Ok(None))? {
        CallTarget::Image(claimed) if claimed.own.is_none() => claimed,
        CallTarget::Image(_) => return Err(Refusal::new(Case::O06Swap, shown(), "it is a container's")),
        CallTarget::Layers(claimed) => return Err(Refusal::new(Case::B12Layers, shown(), claimed.why)),
        CallTarget::Volume => return Err(Refusal::new(Case::O06Swap, shown(), "not in a store")),
    };
    let vault = common::vault_of(None, &claimed.root)?;
    let _lock = vault.shared()?;
    let home = open_target_home(&claimed.root, &call)?;
    let _alone = uppers::lock_upper(&home, &call.target)?;
    let there = mounts::identify(open_target(&claimed.root, &call)?).map_err(|e| Refusal::io(shown(), e))?;
    if there != mount {
        // Another start was faster.
        return Ok(());
    }
    let request = ServiceRequest::new(&claimed, Some(&vault))?;
    let verified = request.mount(&|_| ()).map_err(|no| no.refusal)?;
    ReplacedMount { mount, metacopy: false }.remove(&home, &call.target)?;
    let at = open_target(&claimed.root, &call)?;
    mounts::attach(&verified, &at).map_err(|e| Refusal::new(Case::I05Attach, shown(), e))
}

/// Builds the call, with the names of its layers. Those without names are looked up, and then their number tells whether
/// podman shows a copy of the uppermost one for other user IDs: that lies over its own old content and over what it was
/// made of (drivers/overlay, `CreateFromTemplate` and `UpdateLayerIDMap`).
fn named_of_user(native: &Native) -> Result<MountCall> {
    let mut call = native.call.clone();
    if native.nameless {
        let recorded = recorded_lowers(&call.target, &further_stores()?)?;
        match call.lowers.len().checked_sub(recorded.len()) {
            Some(0) => (call.uids, call.gids) = (IdMapping::None, IdMapping::None),
            Some(2) => {}
            _ => return Err(other_lowers(&call, recorded.len())),
        }
        call.lowers = recorded;
    }
    Ok(call)
}

fn swap(
    call: &MountCall,
    claimed: &ClaimedImage,
    decision: &Decision,
    mount: MountId,
    stored: &StoredContainer,
    written: &PodmanWrites,
) -> Result<Record> {
    let shown = || call.target.display().to_string();
    let none = || Refusal::new(Case::O06Swap, shown(), "it has no upper directory of its own");
    let own = claimed.own.as_ref().ok_or_else(none)?.try_clone()?;
    let _alone = uppers::lock_upper(&own.diff, &own.path)?;
    let upper = UpperDir { upper: own.diff, work: own.work.ok_or_else(none)?, path: own.path };
    // The vault that the policy names is root's.
    let vault = common::vault_of(None, &claimed.root)?;
    let _lock = vault.shared()?;
    let mut request = ServiceRequest::new(claimed, Some(&vault))?;
    request.show_as(call)?;
    // The image alone, while podman's overlay is there still: what podman wrote is compared with it, and it shows that
    // the service mounts it.
    let view = request.mount(&|_| ()).map_err(|no| no.refusal)?;
    uppers::check_of_user(&upper, decision, UserView { image: &view, ids: (&call.uids, &call.gids) }, written)?;
    drop(view);
    let home = open_target_home(&claimed.root, call)?;
    ReplacedMount { mount, metacopy: false }.remove(&home, &call.target)?;
    (request.call, request.native) = (Some(call), true);
    let (verified, record) = request.mount_with_record(&|_| ()).map_err(|no| no.refusal)?;
    let gone = || Refusal::new(Case::R06Service, shown(), "there is no record of what it mounted");
    let record = user_record::of_root(*record.ok_or_else(gone)?, &call.target, stored)?;
    let at = open_target(&claimed.root, call)?;
    mounts::attach(&verified, &at).map_err(|e| Refusal::new(Case::I05Attach, shown(), e))?;
    Ok(record)
}
