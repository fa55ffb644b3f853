//! Layers that belong to no image, and images that nothing is asked of: `podman build`, `podman diff`.

use std::os::fd::OwnedFd;

use super::attach::{MountReason, MountSource, PendingMount, WritableLayer, unsealed};
use super::choice::prepare_lowest;
use super::common::{ALGORITHMS, UNSIGNED, vault_of, verity_mode};
use super::content::{Table, any_aufs, content};
use super::kernel_probe::prepare_proven;
use crate::container_store::{ClaimedLayer, ClaimedLayers, OwnLayer, Root, Tie, images_above};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::image::Keep;
use crate::mount::{AboutImage, MountKind, Record};
use crate::oci::DenySubjects;
use crate::oci::{Budget, LayerId};
use crate::policy::{Decision, Mode, Policy};
use crate::prepare::{ImportRules, RootShape, import, made_once};
use crate::sys::files;
use crate::verify::{Waiver, unsigned_layers};

pub(super) fn start(request: &PendingMount<'_>, claimed: ClaimedLayers) -> Result<()> {
    let (call, policy) = (request.call, request.policy);
    let decision = policy.decide(&claimed.names);
    let facts = denied(policy, &claimed)?;
    if part(request, &claimed)? {
        return Ok(());
    }
    if decision.mode == Mode::Enforce {
        return Err(Refusal::new(Case::B12Layers, call.target.display().to_string(), claimed.why));
    }
    let ClaimedLayers { layers, own, copies, root, .. } = claimed;
    match layers.last().and_then(|top| BlobDigest::from_hex(top.id.as_str()).ok()) {
        // Layers without a table were never written as a tar: a container's own, in a store that we do not know.
        Some(top)
            if copies.is_empty()
                && (policy.denied().names_erofs() || any_aufs(policy, &root, &layers)?)
                && layers.iter().all(|l| l.tar_split().is_ok()) =>
        {
            made(request, &decision, TabledLayers { top, layers, facts }, own, &root)
        }
        _ => {
            let lowers = if copies.is_empty() { Lowers::Layers(layers) } else { Lowers::Copies(copies) };
            show(request, &UnverifiedMount::of(&decision, facts), lowers, &root, own)
        }
    }
}

/// Checks that nothing in these layers is denied, in any mode, whether they are an image or not: a layer by its
/// diff_id, and the image that a container was made from by its config, even if its record is gone.
pub(super) fn denied(policy: &Policy, claimed: &ClaimedLayers) -> Result<DenySubjects> {
    let facts = denied_by_records(policy, claimed)?;
    if policy.denied().names_blobs() && claimed.copies.is_empty() {
        content(policy, &claimed.root, &claimed.layers, Table::IfAny)?;
    }
    Ok(facts)
}

/// Checks the same by what the store's records say, and reads nothing else.
pub(super) fn denied_by_records(policy: &Policy, claimed: &ClaimedLayers) -> Result<DenySubjects> {
    let mut facts = DenySubjects::default();
    let denied = policy.denied();
    let container = claimed.own.as_ref().and_then(|own| own.container.as_ref());
    let image = container.and_then(|container| container.image.as_ref());
    if let Some(image) = image.filter(|_| denied.names_blobs()) {
        let config = BlobDigest::from_hex(image.as_str()).map_err(|r| r.within("the container's image"))?;
        facts.blob("config", config);
    }
    for (number, layer) in claimed.layers.iter().enumerate() {
        match layer.diff_id {
            Some(diff_id) => facts.blob(format!("diff_id of layer {number}"), diff_id),
            // The ID of a layer with a table of contents says which table that is. Nothing says it for any other layer.
            None if denied.names_blobs() && layer.tie != Tie::Toc => {
                let why = "nothing says what its content is, and layers are denied";
                return Err(Refusal::new(Case::F06Denied, layer.path.display().to_string(), why));
            }
            None => {}
        }
    }
    denied.anything(&facts)?;
    Ok(facts)
}

/// Shows the lowest layers of a sealed image, as `podman image diff` and `podman system check` ask for each of them:
/// who sealed the image sealed its layers. Old versions ask for the uppermost of them to be writable, although they
/// only read; what is sealed is read-only. False when no seal passes. If all images that the layers belong to are
/// denied, so are the layers.
fn part(request: &PendingMount<'_>, claimed: &ClaimedLayers) -> Result<bool> {
    let (top, count) = match &claimed.own {
        Some(own) if own.container.is_some() => return Ok(false),
        Some(own) => (Some(&own.id), claimed.layers.len() + 1),
        None => (claimed.layers.last().map(|l| &l.id), claimed.layers.len()),
    };
    let Some(top) = top else { return Ok(false) };
    // It lives until the mount is made: its directories are on a mount that ends with it.
    let vault = vault_of(request.policy.vault(), &claimed.root)?;
    let _lock = vault.shared()?;
    let (mut denied, mut others) = (None, false);
    for image in images_above(&claimed.root.store, top)? {
        let sealed = match prepare_lowest(request.call, request.policy, &vault, &image, count) {
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
        let said = MountReason { kind: MountKind::Sealed, decision: None, would_refuse: None };
        request.attach(MountSource::Image(&sealed.image), WritableLayer::default(), &said, |record| {
            sealed.describe(record)
        })?;
        return Ok(true);
    }
    denied.filter(|_| !others).map_or(Ok(false), Err)
}

/// Layers of no image that have tables of what their tars were, lowest first.
struct TabledLayers {
    /// The digest by which the uppermost layer is known.
    top: BlobDigest,
    layers: Vec<ClaimedLayer>,
    facts: DenySubjects,
}

/// Mounts one EROFS image of all layers.
fn made(
    request: &PendingMount<'_>,
    decision: &Decision,
    TabledLayers { top, layers, facts }: TabledLayers,
    own: Option<OwnLayer>,
    root: &Root,
) -> Result<()> {
    let denied = request.policy.denied();
    let waiver = Waiver::by_policy(decision, denied, &facts)?;
    let vault = vault_of(request.policy.vault(), root)?;
    let _lock = vault.shared()?;
    let mode = verity_mode(decision, request.call);
    let noted = |algorithm| vault.layers(&top, algorithm);
    let digests = made_once(&vault, &top, &ALGORITHMS, RootShape::Root, noted, || {
        let budget = &Budget::STANDARD;
        let rules = ImportRules { algorithm: UNSIGNED, mode, diff_ids: false, keep: Keep::Images, budget };
        let contents = import(&vault, &layers, &rules, &|_| ())?;
        vault.keep_layers(&top, &contents.images)?;
        Ok(contents.images)
    })?;
    let verified = unsigned_layers(&waiver, &digests, denied)?;
    let image = prepare_proven(&vault, &verified, RootShape::Root, mode, &Budget::STANDARD)?;
    let about = AboutImage { facts: facts.and(verified.facts()), ..AboutImage::default() };
    let said = MountReason { kind: unsealed(decision), decision: Some(decision), would_refuse: None };
    let describe = |record: Record| record.describing(&image, &about);
    request.attach(MountSource::Image(&image), own.into(), &said, describe).map(|_| ())
}

/// What is to be shown as it is on the disk.
pub(super) enum Lowers {
    /// Layers, lowest first.
    Layers(Vec<ClaimedLayer>),
    /// All directories of the call, uppermost first: copies for other user IDs lie in several directories, and only the
    /// call names these in order.
    Copies(Vec<OwnedFd>),
}

/// Why something is shown as it is on the disk, and what is recorded about it.
pub(super) struct UnverifiedMount<'a> {
    pub(super) decision: &'a Decision,
    pub(super) facts: DenySubjects,
    /// Manifest and names of an image that is let pass although it would be refused, or cannot be enforced.
    pub(super) image: Option<(&'a BlobDigest, &'a [String])>,
    /// Why it would be refused.
    pub(super) refusal: Option<&'a Refusal>,
}

impl<'a> UnverifiedMount<'a> {
    /// Makes the reasons for a mount without anything to say about an image.
    pub(super) fn of(decision: &'a Decision, facts: DenySubjects) -> Self {
        Self { decision, facts, image: None, refusal: None }
    }
}

/// Mounts the layers as they are on the disk.
pub(super) fn show(
    request: &PendingMount<'_>,
    what: &UnverifiedMount<'_>,
    lowers: Lowers,
    root: &Root,
    own_layer: Option<OwnLayer>,
) -> Result<()> {
    let waiver = &Waiver::by_policy(what.decision, request.policy.denied(), &what.facts)?;
    let own_id = own_layer.as_ref().map(|own| own.id.clone());
    let mut own = WritableLayer::from(own_layer);
    // Whether that matters can be told only here; without fuse-overlayfs the kernel shows the files.
    let aufs = match &lowers {
        Lowers::Layers(layers) if what.image.is_some() => any_aufs(request.policy, root, layers).unwrap_or(false),
        _ => false,
    };
    let mut lowers: Vec<OwnedFd> = match lowers {
        Lowers::Copies(directories) => {
            // The own layer is among them.
            own.above = None;
            directories
        }
        Lowers::Layers(layers) => layers.into_iter().rev().map(|layer| layer.diff).collect(),
    };
    if lowers.is_empty() {
        let nothing = || Refusal::new(Case::B08Lowers, request.call.target.display().to_string(), "no layers");
        lowers.push(empty(root, &own_id.ok_or_else(nothing)?)?);
    }
    let said = MountReason { kind: unsealed(what.decision), decision: Some(what.decision), would_refuse: what.refusal };
    let facts = Some(what.facts.clone());
    let describe = |record| match what.image {
        Some((manifest, names)) => Record { image: Some(*manifest), names: names.to_vec(), facts, ..record },
        None => Record { facts, ..record },
    };
    request.attach(MountSource::Directories { waiver, lowers, aufs }, own, &said, describe).map(|_| ())
}

/// Opens the empty directory that containers-storage keeps for layers without a parent.
fn empty(root: &Root, id: &LayerId) -> Result<OwnedFd> {
    let name = format!("overlay/{id}/empty");
    files::open_dir_at(&*root.dir, &name)
        .map_err(|e| Refusal::new(Case::B11Gone, root.path.join(name).display().to_string(), e))
}
