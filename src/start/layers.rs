//! Layers that are no image, and images of which nothing is asked: `podman build`, `podman diff`.

use std::os::fd::OwnedFd;

use super::attach::{Own, Ready, Request, Said, unsealed};
use super::choice::prepare_lowest;
use super::common::{ALGORITHMS, UNSIGNED, vault_of, verity_mode};
use super::content::{Table, any_aufs, content};
use crate::digest::BlobDigest;
use crate::identify::{ClaimedLayer, ClaimedLayers, OwnLayer, Root, Tie, images_above};
use crate::image::Keep;
use crate::mount::{AboutImage, Kind, Record};
use crate::oci::Budget;
use crate::oci::Facts;
use crate::policy::{Decision, Mode, Policy};
use crate::prepare::{ImportRules, Shape, import, made_once, prepare};
use crate::report::{Case, Refusal, Result};
use crate::sys::files;
use crate::verify::{Waiver, unsigned_layers};

pub(super) fn start(request: &Request<'_>, claimed: ClaimedLayers) -> Result<()> {
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
    match layers.last().and_then(|top| BlobDigest::from_hex(&top.id).ok()) {
        // Layers without a table were never written as a tar: a container's own, in a store that we do
        // not know.
        Some(top)
            if copies.is_empty()
                && (policy.denied().names_erofs() || any_aufs(&root, &layers)?)
                && layers.iter().all(|l| l.tar_split().is_ok()) =>
        {
            made(request, &decision, (top, layers, facts), own, &root)
        }
        _ => {
            let lowers = if copies.is_empty() { Lowers::Layers(layers) } else { Lowers::Copies(copies) };
            show(request, &AsTheyAre::of(&decision, facts), lowers, &root, own)
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
fn part(request: &Request<'_>, claimed: &ClaimedLayers) -> Result<bool> {
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
        let said = Said { kind: Kind::Sealed, decision: None, would_refuse: None };
        request.attach(Ready::Image(&sealed.image), Own::default(), &said, |record| sealed.describe(record))?;
        return Ok(true);
    }
    denied.filter(|_| !others).map_or(Ok(false), Err)
}

/// Mounts one EROFS image of all layers.
fn made(
    request: &Request<'_>,
    decision: &Decision,
    (top, layers, facts): (BlobDigest, Vec<ClaimedLayer>, Facts),
    own: Option<OwnLayer>,
    root: &Root,
) -> Result<()> {
    let denied = request.policy.denied();
    let waiver = Waiver::by_policy(decision, denied, &facts)?;
    let vault = vault_of(root)?;
    let _lock = vault.shared()?;
    let mode = verity_mode(decision, request.call);
    let noted = |algorithm| vault.layers(&top, algorithm);
    let digests = made_once(&vault, &top, &ALGORITHMS, Shape::Root, noted, || {
        let budget = &Budget::STANDARD;
        let rules = ImportRules { algorithm: UNSIGNED, mode, diff_ids: false, keep: Keep::Images, budget };
        let contents = import(&vault, &layers, &rules, &|_| ())?;
        vault.keep_layers(&top, &contents.images)?;
        Ok(contents.images)
    })?;
    let verified = unsigned_layers(&waiver, &digests, denied)?;
    let image = prepare(&vault, &verified, Shape::Root, mode, &Budget::STANDARD)?;
    let about = AboutImage { facts: facts.and(verified.facts()?), ..AboutImage::default() };
    let said = Said { kind: unsealed(decision), decision: Some(decision), would_refuse: None };
    let describe = |record: Record| record.describing(&image, &about);
    request.attach(Ready::Image(&image), own.into(), &said, describe).map(|_| ())
}

/// What is to be shown as it is on the disk.
pub(super) enum Lowers {
    /// Layers, lowest first.
    Layers(Vec<ClaimedLayer>),
    /// All directories of the call, uppermost first: copies for other user IDs lie in several, which only
    /// the call names in order.
    Copies(Vec<OwnedFd>),
}

/// Why something is shown as it is on the disk, and what is said of it.
pub(super) struct AsTheyAre<'a> {
    pub(super) decision: &'a Decision,
    pub(super) facts: Facts,
    /// Manifest and names of an image that would be refused, or cannot be enforced, and is let pass.
    pub(super) image: Option<(&'a BlobDigest, &'a [String])>,
    /// Why it would be refused.
    pub(super) refusal: Option<&'a Refusal>,
}

impl<'a> AsTheyAre<'a> {
    /// Where nothing is said of an image.
    pub(super) fn of(decision: &'a Decision, facts: Facts) -> Self {
        Self { decision, facts, image: None, refusal: None }
    }
}

/// Mounts the layers as they are on the disk.
pub(super) fn show(
    request: &Request<'_>,
    what: &AsTheyAre<'_>,
    lowers: Lowers,
    root: &Root,
    own_layer: Option<OwnLayer>,
) -> Result<()> {
    let waiver = &Waiver::by_policy(what.decision, request.policy.denied(), &what.facts)?;
    let own_id = own_layer.as_ref().map(|own| own.id.clone());
    let mut own = Own::from(own_layer);
    // Whether it does matters only where it can be told; without fuse-overlayfs the kernel shows the files.
    let aufs = match &lowers {
        Lowers::Layers(layers) if what.image.is_some() => any_aufs(root, layers).unwrap_or(false),
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
    let said = Said { kind: unsealed(what.decision), decision: Some(what.decision), would_refuse: what.refusal };
    let facts = Some(what.facts.clone());
    let describe = |record| match what.image {
        Some((manifest, names)) => Record { image: Some(manifest.to_string()), names: names.to_vec(), facts, ..record },
        None => Record { facts, ..record },
    };
    request.attach(Ready::Directories { waiver, lowers, aufs }, own, &said, describe).map(|_| ())
}

/// The empty directory that containers-storage keeps for layers without a parent.
fn empty(root: &Root, id: &str) -> Result<OwnedFd> {
    let name = format!("overlay/{id}/empty");
    files::open_dir_at(&*root.dir, &name)
        .map_err(|e| Refusal::new(Case::B11Gone, root.path.join(name).display().to_string(), e))
}
