//! Images: what is mounted of them, and where.

use super::attach::{Onto, Ready, Request, Said};
use super::choice::Choice;
use super::common::audit;
use super::layers::{self, AsTheyAre, Lowers};
use super::prepared::Prepared;
use crate::digest::BlobDigest;
use crate::identify::{ClaimedImage, OwnLayer, open_target, open_target_home};
use crate::mount::{Instead, Kind, Record};
use crate::oci::Facts;
use crate::policy::{Decision, Mode};
use crate::report::{Refusal, Result};
use crate::sys::mounts;

pub(super) fn start(request: &Request<'_>, claimed: ClaimedImage) -> Result<()> {
    let choice = Choice::of(request.policy, &claimed)?;
    // Nothing is asked, and nothing is read: the program that knows the whiteouts of such a store shows its layers.
    if !choice.asked() && crate::mount::has_fuse_overlayfs() {
        return LetPass::of(&choice).show(request, claimed, None);
    }
    let refusal = match choice.as_it_is(&claimed) {
        Ok(true) => {
            let (decision, facts) = (choice.decision.clone(), choice.facts());
            return layers::show(
                request,
                &AsTheyAre::of(&decision, facts),
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
    if !choice.lets_pass(&refusal) {
        return Err(refusal);
    }
    // What cannot be made into a tree, read or enforced is left to be shown as it is.
    audit(&refusal, request.call);
    LetPass::of(&choice).show(request, claimed, Some(&refusal))
}

/// What became of an overlay of containers-storage.
#[derive(Debug)]
pub enum Swap {
    /// A verified mount is in its place.
    Done(Box<Record>),
    /// It stays, or its like is in its place: nothing is asked, or, with what would have been refused, it is let pass.
    Stays(Option<Refusal>),
}

/// The same in the place of an overlay of containers-storage.
pub(super) fn swap(request: &Request<'_>, claimed: ClaimedImage, instead: Instead) -> Result<Swap> {
    let choice = Choice::of(request.policy, &claimed)?;
    if !choice.asked() {
        return Ok(Swap::Stays(None));
    }
    let call = request.call;
    let refusal = match mount(request, &choice, &claimed, Some(instead)) {
        Ok(record) => return Ok(Swap::Done(Box::new(record))),
        Err(refusal) if choice.lets_pass(&refusal) => refusal,
        Err(refusal) => return Err(refusal),
    };
    audit(&refusal, call);
    let at = open_target(&claimed.root, call)?;
    let there = mounts::identify(&at).map_err(|e| Refusal::io(call.target.display().to_string(), e))?;
    if there != instead.mount {
        // The overlay that was there had to go first, and the verified one cannot be made.
        let request = Request { onto: Onto { at: Some(&at), instead: None }, written: None, ..*request };
        LetPass::of(&choice).show(&request, claimed, Some(&refusal))?;
    }
    Ok(Swap::Stays(Some(refusal)))
}

/// Verifies an image, makes it ready and mounts it, where `instead` says so in the place of an overlay.
fn mount(
    request: &Request<'_>,
    choice: &Choice<'_>,
    claimed: &ClaimedImage,
    instead: Option<Instead>,
) -> Result<Record> {
    let (_vault, _lock, prepared) = choice.ready(claimed, request.call)?;
    let Prepared { image, decision, facts, would_refuse, .. } = &prepared;
    let home = instead.map(|_| open_target_home(&claimed.root, request.call)).transpose()?;
    let onto = if instead.is_some() { Onto { at: home.as_ref(), instead } } else { request.onto };
    let request = Request { onto, ..*request };
    // A copy: where the mount fails and nothing is enforced, it is needed again.
    let own = claimed.own.as_ref().map(OwnLayer::try_clone).transpose()?;
    if let Some(refusal) = would_refuse {
        audit(refusal, request.call);
    }
    request.policy.denied().anything(facts)?;
    let kind = if decision.mode == Mode::Off { Kind::Off } else { Kind::Sealed };
    let said = Said { kind, decision: Some(decision), would_refuse: would_refuse.as_ref() };
    request.attach(Ready::Image(image), own.into(), &said, |record| prepared.describe(record))
}

/// An image that is shown as its layers lie on the disk, with what is said of it.
struct LetPass {
    decision: Decision,
    facts: Facts,
    manifest: BlobDigest,
    names: Vec<String>,
}

impl LetPass {
    fn of(choice: &Choice<'_>) -> Self {
        let first = choice.candidates[0];
        Self {
            decision: choice.decision.clone(),
            facts: choice.facts(),
            manifest: first.image.digest,
            names: first.names.clone(),
        }
    }

    /// Shows it, although it would have been refused.
    fn show(self, request: &Request<'_>, claimed: ClaimedImage, refusal: Option<&Refusal>) -> Result<()> {
        let image = Some((&self.manifest, &*self.names));
        let what = AsTheyAre { image, refusal, ..AsTheyAre::of(&self.decision, self.facts) };
        layers::show(request, &what, Lowers::Layers(claimed.layers), &claimed.root, claimed.own)
    }
}
