//! Images: what is mounted of them, and where.

use super::choice::{Choice, Prepared};
use super::layers::{self, Lowers};
use super::made::audit;
use super::{Onto, Written, own, place, uppers};
use crate::digest::BlobDigest;
use crate::identify::{ClaimedImage, OwnLayer, open_target, open_target_home};
use crate::invoke::Call;
use crate::mount::{self, Instead, Kind, Record};
use crate::policy::{Decision, Facts, Mode, Policy};
use crate::report::{Refusal, Result};
use crate::sys::mounts;

pub(super) fn start(call: &Call, policy: &Policy, claimed: ClaimedImage, onto: Onto<'_>) -> Result<()> {
    let question = Choice::of(policy, &claimed)?;
    // Nothing is asked, and nothing is read: the program that knows the whiteouts of such a store shows its layers.
    if !question.asked() && mount::has_fuse_overlayfs() {
        return LetPass::of(&question).show(call, policy, claimed, onto, None);
    }
    let refusal = match question.as_it_is(&claimed) {
        Ok(true) => {
            let (decision, facts) = (question.decision.clone(), question.facts());
            let lowers = (Lowers::Layers(claimed.layers), facts);
            return layers::plain(call, policy, &decision, lowers, claimed.own, &claimed.root, onto);
        }
        Ok(false) => {
            let put = |prepared: &Prepared| put(call, policy, prepared, to_mount(&claimed)?, onto, None);
            match question.ready(&claimed, call).and_then(|(_vault, _lock, prepared)| put(&prepared)) {
                Ok(_) => return Ok(()),
                Err(refusal) => refusal,
            }
        }
        Err(refusal) => refusal,
    };
    if !question.lets_pass(&refusal) {
        return Err(refusal);
    }
    // What cannot be made into a tree, read or enforced is left to be shown as it is.
    audit(&refusal, call);
    LetPass::of(&question).show(call, policy, claimed, onto, Some(&refusal))
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
pub(super) fn swap(
    call: &Call,
    policy: &Policy,
    claimed: ClaimedImage,
    instead: Instead,
    written: &Written,
) -> Result<Swap> {
    let question = Choice::of(policy, &claimed)?;
    if !question.asked() {
        return Ok(Swap::Stays(None));
    }
    let put = |prepared: &Prepared| {
        let home = open_target_home(&claimed.root, call)?;
        let onto = Onto { at: Some(&home), instead: Some(instead) };
        put(call, policy, prepared, to_mount(&claimed)?, onto, Some(written))
    };
    let refusal = match question.ready(&claimed, call).and_then(|(_vault, _lock, prepared)| put(&prepared)) {
        Ok(record) => return Ok(Swap::Done(Box::new(record))),
        Err(refusal) if question.lets_pass(&refusal) => refusal,
        Err(refusal) => return Err(refusal),
    };
    audit(&refusal, call);
    let at = open_target(&claimed.root, call)?;
    let there = mounts::identify(&at).map_err(|e| Refusal::io(call.target.display().to_string(), e))?;
    if there != instead.mount {
        // The overlay that was there had to go first, and the verified one cannot be made.
        LetPass::of(&question).show(call, policy, claimed, Onto { at: Some(&at), instead: None }, Some(&refusal))?;
    }
    Ok(Swap::Stays(Some(refusal)))
}

fn put(
    call: &Call,
    policy: &Policy,
    prepared: &Prepared,
    layer: Option<OwnLayer>,
    onto: Onto<'_>,
    written: Option<&Written>,
) -> Result<Record> {
    if let Some(refusal) = &prepared.would_refuse {
        audit(refusal, call);
    }
    policy.denied().anything(&prepared.facts)?;
    let container = layer.as_ref().and_then(|own| own.container.clone());
    let (upper, above) = own(layer);
    let place = place(call, policy, onto, upper, above)?;
    let upper = uppers::check(&place, &prepared.decision, Some(&prepared.image), written)?;
    upper.iter().for_each(|refusal| audit(refusal, call));
    let mounted = mount::mount(&prepared.image, &place)?;
    let kind = match (prepared.decision.mode, prepared.would_refuse.is_some() || upper.is_some()) {
        (Mode::Off, _) => Kind::Off,
        (_, true) => Kind::Audit,
        _ => Kind::Sealed,
    };
    let record = prepared.record(&mounted, &place, kind);
    let would_refuse = prepared.would_refuse.as_ref().or(upper.as_ref()).map(Into::into);
    let record = Record { container: container.map(|c| c.id), whole: place.above.is_none(), would_refuse, ..record };
    mount::keep(&record)?;
    Ok(record)
}

/// An image that is shown as its layers lie on the disk, with what is said of it.
struct LetPass {
    decision: Decision,
    facts: Facts,
    manifest: BlobDigest,
    names: Vec<String>,
}

impl LetPass {
    fn of(question: &Choice<'_>) -> Self {
        let first = question.candidates[0];
        Self {
            decision: question.decision.clone(),
            facts: question.facts(),
            manifest: first.image.digest,
            names: first.names.clone(),
        }
    }

    /// Shows it, although it would have been refused.
    fn show(
        self,
        call: &Call,
        policy: &Policy,
        claimed: ClaimedImage,
        onto: Onto<'_>,
        refusal: Option<&Refusal>,
    ) -> Result<()> {
        let Self { decision, facts, manifest, names } = self;
        let pass = layers::LetPass { manifest: Some(&manifest), names: &names, refusal };
        let lowers = (Lowers::Layers(claimed.layers), facts);
        layers::show(call, policy, &decision, lowers, claimed.own, &claimed.root, onto, Some(&pass))
    }
}

/// The container's own layer for a mount. A copy: where the mount fails and nothing is enforced, it is needed again.
fn to_mount(claimed: &ClaimedImage) -> Result<Option<OwnLayer>> {
    claimed.own.as_ref().map(OwnLayer::try_clone).transpose()
}
