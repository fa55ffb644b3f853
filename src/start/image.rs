//! Images: what is mounted of them, and where.

use super::attach::{MountReason, MountSource, MountTarget, PendingMount};
use super::choice::ChosenCandidates;
use super::layers::{self, Lowers, UnverifiedMount};
use super::prepared::JudgedImage;
use crate::container_store::{ClaimedImage, OwnLayer, check_database, open_target, open_target_home};
use crate::digest::BlobDigest;
use crate::error::{Refusal, Result};
use crate::mount::{MountKind, Record, ReplacedMount};
use crate::oci::DenySubjects;
use crate::policy::{Decision, Mode};
use crate::sys::mounts;

pub(super) fn start(request: &PendingMount<'_>, claimed: ClaimedImage) -> Result<()> {
    let choice = ChosenCandidates::of(request.policy, &claimed)?;
    // Nothing is asked, so nothing is read: the program that knows the whiteouts of such a store shows its layers.
    if !choice.needs_verification() && crate::mount::has_fuse_overlayfs() {
        return UnverifiedImage::of(&choice).show(request, claimed, None);
    }
    let refusal = match choice.mounts_unverified(&claimed) {
        Ok(true) => {
            let (decision, facts) = (choice.decision.clone(), choice.facts());
            return layers::show(
                request,
                &UnverifiedMount::of(&decision, facts),
                Lowers::Layers(claimed.layers),
                &claimed.root,
                claimed.own,
            );
        }
        Ok(false) => match mount(request, &choice, &claimed, None) {
            Ok(_) => return Ok(()),
            Err(refusal) => refusal,
        },
        Err(refusal) => refusal,
    };
    if !choice.is_not_fatal(&refusal) {
        return Err(refusal);
    }
    // An image that cannot be made into a tree, read or enforced is shown as it is.
    UnverifiedImage::of(&choice).show(request, claimed, Some(&refusal))
}

/// What became of an overlay of containers-storage.
#[derive(Debug)]
pub enum Swap {
    /// A verified mount is in its place.
    Done(Box<Record>),
    /// It stays, or an equal one is in its place: nothing is asked, or it is let pass despite this refusal.
    Stays(Option<Refusal>),
}

/// Mounts the verified image in the place of an overlay of containers-storage.
pub(super) fn swap(request: &PendingMount<'_>, claimed: ClaimedImage, instead: ReplacedMount) -> Result<Swap> {
    let choice = ChosenCandidates::of(request.policy, &claimed)?;
    if !choice.needs_verification() {
        return Ok(Swap::Stays(None));
    }
    let call = request.call;
    let refusal = match mount(request, &choice, &claimed, Some(instead)) {
        Ok(record) => return Ok(Swap::Done(Box::new(record))),
        Err(refusal) if choice.is_not_fatal(&refusal) => refusal,
        Err(refusal) => return Err(refusal),
    };
    let at = open_target(&claimed.root, call)?;
    let there = mounts::identify(&at).map_err(|e| Refusal::io(call.target.display().to_string(), e))?;
    if there != instead.mount {
        // The overlay that was there had to go first, and the verified one cannot be made.
        let request = PendingMount { onto: MountTarget { at: Some(&at), instead: None }, written: None, ..*request };
        UnverifiedImage::of(&choice).show(&request, claimed, Some(&refusal))?;
    }
    Ok(Swap::Stays(Some(refusal)))
}

/// Verifies an image, makes it ready and mounts it, in the place of an overlay if `instead` says so.
fn mount(
    request: &PendingMount<'_>,
    choice: &ChosenCandidates<'_>,
    claimed: &ClaimedImage,
    instead: Option<ReplacedMount>,
) -> Result<Record> {
    // The hooks check it for whatever is mounted.
    if claimed.own.is_some() && !request.by_hook {
        check_database(Some(claimed.root.path.as_path()))?;
    }
    let ready = choice.ready(claimed, request.call)?;
    let JudgedImage { image, decision, facts, would_refuse, .. } = &ready.judged;
    let home = instead.map(|_| open_target_home(&claimed.root, request.call)).transpose()?;
    let onto = if instead.is_some() { MountTarget { at: home.as_ref(), instead } } else { request.onto };
    let request = PendingMount { onto, ..*request };
    // A copy: if the mount fails and nothing is enforced, it is needed again.
    let own = claimed.own.as_ref().map(OwnLayer::try_clone).transpose()?;
    request.policy.denied().anything(facts)?;
    let kind = if decision.mode == Mode::Off { MountKind::Off } else { MountKind::Sealed };
    let said = MountReason { kind, decision: Some(decision), would_refuse: would_refuse.as_ref() };
    request.attach(MountSource::Image(image), own.into(), &said, |record| ready.judged.describe(record))
}

/// An image that is shown as its layers lie on the disk, and what is recorded about it.
struct UnverifiedImage {
    decision: Decision,
    facts: DenySubjects,
    manifest: BlobDigest,
    names: Vec<String>,
}

impl UnverifiedImage {
    fn of(choice: &ChosenCandidates<'_>) -> Self {
        let first = choice.candidates[0];
        Self {
            decision: choice.decision.clone(),
            facts: choice.facts(),
            manifest: first.image.digest,
            names: first.names.clone(),
        }
    }

    /// Shows the image, although it would have been refused.
    fn show(self, request: &PendingMount<'_>, claimed: ClaimedImage, refusal: Option<&Refusal>) -> Result<()> {
        let image = Some((&self.manifest, &*self.names));
        let what = UnverifiedMount { image, refusal, ..UnverifiedMount::of(&self.decision, self.facts) };
        layers::show(request, &what, Lowers::Layers(claimed.layers), &claimed.root, claimed.own)
    }
}
