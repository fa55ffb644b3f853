//! Layers that are no image, and images of which nothing is asked: `podman build`, `podman diff`.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::image::{self, UNSIGNED, made_before, vault_of, verity_mode};
use super::{Onto, own, place, uppers};
use crate::digest::BlobDigest;
use crate::identify::{ClaimedLayer, ClaimedLayers, OwnLayer, Root, images_above};
use crate::image::Keep;
use crate::invoke::Call;
use crate::mount::{self, Kind, Record};
use crate::oci::Budget;
use crate::policy::{Decision, Mode, Policy};
use crate::prepare::{ImportRules, Shape, VerityMode, import, prepare};
use crate::report::{Case, Refusal, Result};
use crate::sys::files;
use crate::verify::{Waiver, unsigned_layers};

pub(super) fn start(call: &Call, policy: &Policy, claimed: ClaimedLayers, onto: Onto<'_>) -> Result<()> {
    let decision = policy.decide(&[]);
    denied(policy, &claimed)?;
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
            made(call, policy, &decision, (top, layers), own, &root, onto)
        }
        _ => {
            let lowers = if copies.is_empty() { Lowers::Layers(layers) } else { Lowers::Copies(copies) };
            plain(call, policy, &decision, lowers, own, &root, onto)
        }
    }
}

/// What is denied is denied in every mode, and whether it is an image or not: a layer by its diff_id, and
/// the image that a container was made from by its config, even where its record is gone.
pub(super) fn denied(policy: &Policy, claimed: &ClaimedLayers) -> Result<()> {
    let container = claimed.own.as_ref().and_then(|own| own.container.as_ref());
    if let Some(config) = container.and_then(|c| BlobDigest::from_hex(&c.image).ok()) {
        policy.denied().blob(&config, "config")?;
    }
    let diff_ids = claimed.layers.iter().enumerate().filter_map(|(n, l)| Some((n, l.diff_id.as_ref()?)));
    diff_ids.into_iter().try_for_each(|(n, d)| policy.denied().blob(d, &format!("diff_id of layer {n}")))
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
        let sealed = match image::prepare_lowest(call, policy, &vault, &image, count) {
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
        let record = Record::new(&mounted, &place, sealed.image.description(), Kind::Sealed);
        mount::keep(&sealed.describe(record))?;
        return Ok(true);
    }
    denied.filter(|_| !others).map_or(Ok(false), Err)
}

/// One EROFS image of all layers.
fn made(
    call: &Call,
    policy: &Policy,
    decision: &Decision,
    (top, layers): (BlobDigest, Vec<ClaimedLayer>),
    own_layer: Option<OwnLayer>,
    root: &Root,
    onto: Onto<'_>,
) -> Result<()> {
    let waiver = Waiver::by_policy(decision)?;
    let vault = vault_of(root)?;
    let _lock = vault.shared()?;
    let mode = verity_mode(decision, call);
    let known = made_before(&vault, |algorithm| vault.layers(&top, algorithm));
    let digests = match known {
        Some(digests) => digests,
        None => {
            let rules = ImportRules {
                algorithm: UNSIGNED,
                mode,
                diff_ids: false,
                keep: Keep::Images,
                budget: &Budget::STANDARD,
            };
            let contents = import(&vault, &layers, &rules, &|_| ())?;
            vault.keep_layers(&top, &contents.images)?;
            contents.images.digests()?
        }
    };
    let verified = unsigned_layers(&waiver, &digests, policy.denied())?;
    let image = prepare(&vault, &verified, Shape::Root, mode, &Budget::STANDARD)?;
    let container = own_layer.as_ref().and_then(|own| own.container.clone());
    let (upper, above) = own(own_layer);
    let place = place(call, policy, onto, upper, above)?;
    uppers::check(&place, decision)?.iter().for_each(|refusal| image::audit(refusal, call));
    let mounted = mount::mount(&image, &place)?;
    let record = Record::new(&mounted, &place, image.description(), kind(decision));
    let verity = mode == VerityMode::Require;
    let whole = place.above.is_none();
    mount::keep(&Record { container: container.map(|c| c.id), verity, whole, ..record })
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
    lowers: Lowers,
    own_layer: Option<OwnLayer>,
    root: &Root,
    onto: Onto<'_>,
) -> Result<()> {
    show(call, policy, decision, lowers, own_layer, root, onto, None)
}

/// The same for an image that would be refused, or cannot be enforced, and is let pass.
#[allow(clippy::too_many_arguments)]
pub(super) fn show(
    call: &Call,
    policy: &Policy,
    decision: &Decision,
    lowers: Lowers,
    own_layer: Option<OwnLayer>,
    root: &Root,
    onto: Onto<'_>,
    image: Option<&LetPass<'_>>,
) -> Result<()> {
    let waiver = Waiver::by_policy(decision)?;
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
    uppers::check(&place, decision)?.iter().for_each(|refusal| image::audit(refusal, call));
    let mounted = mount::plain(&waiver, lowers, &place)?;
    let mut record = Record::new(&mounted, &place, mount::PLAIN, kind(decision));
    if let Some(image) = image {
        record.image = image.manifest.map(ToString::to_string);
        record.names = image.names.to_vec();
        record.would_refuse = image.refusal.map(Into::into);
    }
    let whole = place.above.is_none();
    mount::keep(&Record { container: container.map(|c| c.id), whole, ..record })
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

/// Whether one of the layers holds whiteouts as files `.wh.NAME`, which overlayfs would show, and what
/// they hide with them: containers-storage writes them where it has a mount program.
pub(super) fn any_aufs(root: &Root, layers: &[ClaimedLayer]) -> Result<bool> {
    let vault = vault_of(root)?;
    for layer in layers {
        let id = BlobDigest::from_hex(&layer.id)?;
        let aufs = match vault.aufs_whiteouts(&id) {
            Some(known) => known,
            None => {
                let found = holds_aufs(&layer.diff, &layer.path)?;
                vault.mark_whiteouts(&id, found)?;
                found
            }
        };
        if aufs {
            return Ok(true);
        }
    }
    Ok(false)
}

fn holds_aufs(diff: &OwnedFd, path: &Path) -> Result<bool> {
    use rustix::fs::{Dir, FileType};
    use std::os::unix::ffi::OsStrExt as _;
    let io = |e: std::io::Error| Refusal::io(path.display().to_string(), e);
    // By name and not by descriptor: a directory can hold more directories than may be open.
    let mut todo = vec![PathBuf::from(".")];
    while let Some(name) = todo.pop() {
        let dir = files::open_dir_at(diff, &name).map_err(io)?;
        for entry in Dir::read_from(&dir).map_err(|e| io(e.into()))? {
            let entry = entry.map_err(|e| io(e.into()))?;
            let child = entry.file_name().to_bytes();
            if child.starts_with(b".wh.") {
                return Ok(true);
            }
            if entry.file_type() == FileType::Directory && !matches!(child, b"." | b"..") {
                todo.push(name.join(OsStr::from_bytes(child)));
            }
        }
    }
    Ok(false)
}
