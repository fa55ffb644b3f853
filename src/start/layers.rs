//! Layers that are no image, and images of which nothing is asked: `podman build`, `podman diff`.

use std::os::fd::OwnedFd;

use super::choice::prepare_lowest;
use super::content::{Table, any_aufs, content};
use super::made::{ALGORITHMS, UNSIGNED, audit, vault_of, verity_mode};
use super::{Onto, own, place, uppers};
use crate::digest::BlobDigest;
use crate::identify::{ClaimedLayer, ClaimedLayers, OwnLayer, Root, Tie, images_above};
use crate::image::Keep;
use crate::invoke::Call;
use crate::mount::{self, Kind, Record, Said};
use crate::oci::Budget;
use crate::policy::{Decision, Facts, Mode, Policy};
use crate::prepare::{ImportRules, Shape, import, made_once, prepare};
use crate::report::{Case, Refusal, Result};
use crate::sys::files;
use crate::verify::{Waiver, unsigned_layers};

pub(super) fn start(call: &Call, policy: &Policy, claimed: ClaimedLayers, onto: Onto<'_>) -> Result<()> {
    let decision = policy.decide(&claimed.names);
    let facts = denied(policy, &claimed)?;
    if part(call, policy, &claimed, onto)? {
        return Ok(());
    }
    if decision.mode == Mode::Enforce {
        return Err(Refusal::new(Case::B12Layers, call.target.display().to_string(), claimed.why));
    }
    let ClaimedLayers { layers, own, copies, root, .. } = claimed;
    match layers.last().and_then(|top| BlobDigest::from_hex(&top.id).ok()) {
        // Layers without a table were never written as a tar: a container's own, in a store that we do
        // not know.
        Some(top)
            if copies.is_empty()
                && (policy.denied().names_erofs() || any_aufs(&root, &layers)?)
                && layers.iter().all(|l| l.tar_split().is_ok()) =>
        {
            made(call, policy, &decision, (top, layers, facts), own, &root, onto)
        }
        _ => {
            let lowers = if copies.is_empty() { Lowers::Layers(layers) } else { Lowers::Copies(copies) };
            plain(call, policy, &decision, (lowers, facts), own, &root, onto)
        }
    }
}

/// What is denied is denied in every mode, and whether it is an image or not: a layer by its diff_id, and
/// the image that a container was made from by its config, even where its record is gone.
pub(super) fn denied(policy: &Policy, claimed: &ClaimedLayers) -> Result<Facts> {
    let mut facts = Facts::default();
    let denied = policy.denied();
    let container = claimed.own.as_ref().and_then(|own| own.container.as_ref());
    if let Some(container) = container.filter(|c| !c.image.is_empty() && denied.names_blobs()) {
        let config = BlobDigest::from_hex(&container.image).map_err(|r| r.within("the container's image"))?;
        facts.blob("config", config);
    }
    for (number, layer) in claimed.layers.iter().enumerate() {
        match layer.diff_id {
            Some(diff_id) => facts.blob(format!("diff_id of layer {number}"), diff_id),
            // Of a table of contents the ID says which it is. Of any other nobody says anything.
            None if denied.names_blobs() && layer.tie != Tie::Toc => {
                let why = "nothing says what its content is, and layers are denied";
                return Err(Refusal::new(Case::F06Denied, layer.path.display().to_string(), why));
            }
            None => {}
        }
    }
    denied.anything(&facts)?;
    if denied.names_blobs() && claimed.copies.is_empty() {
        content(&claimed.root, &claimed.layers, Table::IfAny)?;
    }
    Ok(facts)
}

/// Shows the lowest layers of a sealed image, as `podman image diff` and `podman system check` ask for
/// each of them: who sealed the image sealed its layers. Old versions ask for the uppermost of them to be
/// writable and only read; what is sealed is read-only. False when no seal passes. Where all images that
/// they are of are denied, so are they.
fn part(call: &Call, policy: &Policy, claimed: &ClaimedLayers, onto: Onto<'_>) -> Result<bool> {
    let (top, count) = match &claimed.own {
        Some(own) if own.container.is_some() => return Ok(false),
        Some(own) => (Some(&own.id), claimed.layers.len() + 1),
        None => (claimed.layers.last().map(|l| &l.id), claimed.layers.len()),
    };
    let Some(top) = top else { return Ok(false) };
    // It lives until the mount is made: its directories are on a mount that ends with it.
    let vault = vault_of(&claimed.root)?;
    let _lock = vault.shared()?;
    let (mut denied, mut others) = (None, false);
    for image in images_above(&claimed.root.store, top)? {
        let sealed = match prepare_lowest(call, policy, &vault, &image, count) {
            Ok(Some(sealed)) => sealed,
            Ok(None) => {
                others = true;
                continue;
            }
            Err(refusal) if refusal.case() == Case::F06Denied => {
                denied = Some(refusal);
                continue;
            }
            Err(refusal) => return Err(refusal),
        };
        let place = place(call, policy, onto, None, None)?;
        let mounted = mount::mount(&sealed.image, &place)?;
        mount::keep(&sealed.record(&mounted, &place, Kind::Sealed))?;
        return Ok(true);
    }
    denied.filter(|_| !others).map_or(Ok(false), Err)
}

/// One EROFS image of all layers.
fn made(
    call: &Call,
    policy: &Policy,
    decision: &Decision,
    (top, layers, facts): (BlobDigest, Vec<ClaimedLayer>, Facts),
    own_layer: Option<OwnLayer>,
    root: &Root,
    onto: Onto<'_>,
) -> Result<()> {
    let waiver = Waiver::by_policy(decision, policy.denied(), &facts)?;
    let vault = vault_of(root)?;
    let _lock = vault.shared()?;
    let mode = verity_mode(decision, call);
    let noted = |algorithm| vault.layers(&top, algorithm);
    let digests = made_once(&vault, &top, &ALGORITHMS, Shape::Root, noted, || {
        let budget = &Budget::STANDARD;
        let rules = ImportRules { algorithm: UNSIGNED, mode, diff_ids: false, keep: Keep::Images, budget };
        let contents = import(&vault, &layers, &rules, &|_| ())?;
        vault.keep_layers(&top, &contents.images)?;
        Ok(contents.images)
    })?;
    let verified = unsigned_layers(&waiver, &digests, policy.denied())?;
    let image = prepare(&vault, &verified, Shape::Root, mode, &Budget::STANDARD)?;
    let container = own_layer.as_ref().and_then(|own| own.container.clone());
    let (upper, above) = own(own_layer);
    let place = place(call, policy, onto, upper, above)?;
    uppers::check(&place, decision, Some(&image), None)?.iter().for_each(|refusal| audit(refusal, call));
    let mounted = mount::mount(&image, &place)?;
    // Who has made it of its layers says nothing of what it is.
    let said = Said { facts: facts.and(verified.facts()?), ..Said::default() };
    let record = Record::of(&mounted, &place, &image, kind(decision), &said);
    mount::keep(&Record { container: container.map(|c| c.id), whole: place.above.is_none(), ..record })
}

/// What is to be shown as it is on the disk.
pub(super) enum Lowers {
    /// Layers, lowest first.
    Layers(Vec<ClaimedLayer>),
    /// All directories of the call, uppermost first: copies for other user IDs lie in several, which only
    /// the call names in order.
    Copies(Vec<OwnedFd>),
}

/// The layers as they are on the disk.
pub(super) fn plain(
    call: &Call,
    policy: &Policy,
    decision: &Decision,
    (lowers, facts): (Lowers, Facts),
    own_layer: Option<OwnLayer>,
    root: &Root,
    onto: Onto<'_>,
) -> Result<()> {
    show(call, policy, decision, (lowers, facts), own_layer, root, onto, None)
}

/// The same for an image that would be refused, or cannot be enforced, and is let pass.
#[allow(clippy::too_many_arguments)]
pub(super) fn show(
    call: &Call,
    policy: &Policy,
    decision: &Decision,
    (lowers, facts): (Lowers, Facts),
    own_layer: Option<OwnLayer>,
    root: &Root,
    onto: Onto<'_>,
    image: Option<&LetPass<'_>>,
) -> Result<()> {
    let waiver = Waiver::by_policy(decision, policy.denied(), &facts)?;
    let container = own_layer.as_ref().and_then(|own| own.container.clone());
    let own_id = own_layer.as_ref().map(|own| own.id.clone());
    let (upper, above) = own(own_layer);
    // Whether it does matters only where it can be told; without fuse-overlayfs the kernel shows the files.
    let aufs = match &lowers {
        Lowers::Layers(layers) if image.is_some() => any_aufs(root, layers).unwrap_or(false),
        _ => false,
    };
    let (mut lowers, above): (Vec<OwnedFd>, _) = match lowers {
        // The own layer is among them.
        Lowers::Copies(directories) => (directories, None),
        Lowers::Layers(layers) => (layers.into_iter().rev().map(|layer| layer.diff).collect(), above),
    };
    if lowers.is_empty() {
        let id = own_id.ok_or_else(|| Refusal::new(Case::B08Lowers, call.target.display().to_string(), "no layers"))?;
        lowers.push(empty(root, &id)?);
    }
    let mut place = place(call, policy, onto, upper, above)?;
    place.how.aufs = aufs;
    uppers::check(&place, decision, None, None)?.iter().for_each(|refusal| audit(refusal, call));
    let mounted = mount::plain(&waiver, lowers, &place)?;
    let mut record = Record::new(&mounted, &place, mount::PLAIN, kind(decision));
    if let Some(image) = image {
        record.image = image.manifest.map(ToString::to_string);
        record.names = image.names.to_vec();
        record.would_refuse = image.refusal.map(Into::into);
    }
    let whole = place.above.is_none();
    mount::keep(&Record { container: container.map(|c| c.id), whole, facts: Some(facts), ..record })
}

/// An image that is let pass, and why it would not have been.
pub(super) struct LetPass<'a> {
    pub(super) manifest: Option<&'a BlobDigest>,
    pub(super) names: &'a [String],
    pub(super) refusal: Option<&'a Refusal>,
}

fn kind(decision: &Decision) -> Kind {
    if decision.mode == Mode::Audit { Kind::Audit } else { Kind::Off }
}

/// The empty directory that containers-storage keeps for layers without a parent.
fn empty(root: &Root, id: &str) -> Result<OwnedFd> {
    let name = format!("overlay/{id}/empty");
    files::open_dir_at(&*root.dir, &name)
        .map_err(|e| Refusal::new(Case::B11Gone, root.path.join(name).display().to_string(), e))
}
