//! Whether a mount was made by layerseal for a container, from an image that somebody vouches for.

use std::path::Path;

use super::cover::beneath;
use super::users;
use crate::container_store::{MadeFrom, RequestedBy, StoredContainer};
use crate::digest::Fingerprint;
use crate::error::{Case, Refusal, Result};
use crate::mount::{MountKind, MountSummary, PLAIN, Record};
use crate::oci::name::ImageName;
use crate::policy::{self, Mode, Policy, Verity};
use crate::seal::Identity;
use crate::start::asking;
use crate::sys::mountinfo::MountInfo;

/// Compares what the kernel shows of the mount with its record: the whole filesystem, by its own name, made of as many
/// layers and as strictly checked as when it was mounted.
pub(super) fn is_recorded(mount: &MountInfo, record: &Record) -> Result<()> {
    let shown = || mount.target.display().to_string();
    let other = |why: String| Err(Refusal::new(Case::O03OtherMount, shown(), why));
    if mount.root != Path::new("/") {
        return other(format!("only {} of the mount", mount.root.display()));
    }
    let fuse = mount.is_fuse_overlayfs();
    if !fuse && (mount.kind != "overlay" || mount.source != *record.source) {
        return other(format!("it is {}, the record is about {}", mount.describe(), record.source));
    }
    let shows = MountSummary::of(mount);
    if shows != record.shows {
        let why = format!(
            "{} lower and {} data layers, recorded are {} and {}",
            shows.lowers, shows.data, record.shows.lowers, record.shows.data
        );
        return Err(Refusal::new(Case::O07Layers, shown(), why));
    }
    if !record.whole || record.kind == MountKind::Volume {
        return other("a part of an image, a volume, or a view of another container".into());
    }
    Ok(())
}

/// Checks that the mount shows the image that the container is made from, and not another one with the same layers.
pub(super) fn is_image_of(record: &Record, stored: &StoredContainer) -> Result<()> {
    let (MadeFrom::Image { id, .. } | MadeFrom::Unknown { id }) = &stored.made_from else { return Ok(()) };
    match &record.image_id {
        Some(mounted) if mounted != id => {
            let why = format!("it shows image {mounted}, the container is made from {id}");
            Err(Refusal::new(Case::O03OtherMount, record.target.display().to_string(), why))
        }
        _ => Ok(()),
    }
}

/// Lists the names that the seal of a container's image must be for: the one that was asked for, or, for a pod, all that
/// require a seal.
pub(super) fn required(policy: &Policy, record: &Record, stored: Option<&StoredContainer>) -> Vec<ImageName> {
    let Some(stored) = stored else { return Vec::new() };
    match (&stored.asked, &stored.made_from) {
        (Some(RequestedBy::Name(name)), _) => vec![ImageName::of(name)],
        (Some(RequestedBy::SomeName), MadeFrom::Image { names, .. }) => {
            let all: Vec<String> = names.iter().chain(&record.names).cloned().collect();
            asking(policy, &all)
        }
        (Some(RequestedBy::SomeName), _) => asking(policy, &record.names),
        _ => Vec::new(),
    }
}

/// Checks that what was decided at the mount satisfies what the policy asks now of an image whose seal must be for all of
/// `names`.
pub(super) fn satisfies(record: &Record, decision: &policy::Decision, names: &[ImageName]) -> Result<()> {
    let shown = || record.target.display().to_string();
    if decision.mode != Mode::Enforce && record.kind != MountKind::Sealed {
        return Ok(());
    }
    if record.kind != MountKind::Sealed || record.source == PLAIN {
        return Err(Refusal::new(Case::O02Unsealed, shown(), format!("in mode {}", record.kind)));
    }
    if decision.verity == Verity::Require && !record.verity {
        return Err(Refusal::new(Case::O02Unsealed, shown(), "without fs-verity"));
    }
    let sealed_for = |name: &ImageName| record.identities.iter().any(|identity| identity.allows(name));
    if let Some(name) = names.iter().find(|name| decision.identity && !sealed_for(name)) {
        let why = format!("sealed for {}, not for {name}", Identity::list(&record.identities));
        return Err(Refusal::new(Case::O02Unsealed, shown(), why));
    }
    if users::is_in_namespace() {
        // The service says nothing of a mount whose signer is not trusted any more.
        return Ok(());
    }
    let trusted = |fingerprint: &Fingerprint| decision.certificates.iter().any(|c| c.fingerprint() == *fingerprint);
    let anchored = |fingerprint: &Fingerprint| decision.anchors.iter().any(|a| a.fingerprint() == *fingerprint);
    if !record.certificate.as_ref().is_some_and(trusted) && !record.anchor.as_ref().is_some_and(anchored) {
        let signer = record.signer.clone().unwrap_or_else(|| "nobody".into());
        return Err(Refusal::new(Case::E07Untrusted, shown(), format!("by {signer} when it was mounted")));
    }
    Ok(())
}

/// Checks that nothing is mounted in `root` yet, which a runtime is about to bind on itself with what is in it.
pub(super) fn nothing_in(mounts: &[MountInfo], root: &Path) -> Result<()> {
    mounts.iter().find(|m| beneath(&m.target, root).is_some()).map_or(Ok(()), |other| Err(mounted_before(other)))
}

/// Checks that the mounts on `root` beneath `top` hold nothing: a runtime binds the root on itself with what was
/// mounted in it, and mounts the rest over that. What was in it before does not belong to the container.
pub(super) fn nothing_before(mounts: &[MountInfo], root: &Path, top: &MountInfo) -> Result<()> {
    let covered = |id: u64| mounts.iter().any(|m| m.id == id && m.id != top.id && m.target == root);
    match mounts.iter().find(|m| covered(m.parent) && beneath(&m.target, root).is_some()) {
        Some(other) => Err(mounted_before(other)),
        None => Ok(()),
    }
}

fn mounted_before(other: &MountInfo) -> Refusal {
    let why = format!("{} was mounted in it before the container was created", other.describe());
    Refusal::new(Case::O03OtherMount, other.target.display().to_string(), why)
}
