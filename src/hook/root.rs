//! Whether a mount is one that layerseal made for a container, of an image that somebody vouches for.

use super::cover::beneath;
use crate::identify::{Asked, MadeFrom, Stored};
use crate::mount::{Kind, PLAIN, Record, Shows};
use crate::oci::name::{canonical, one_host};
use crate::policy::{self, Mode, Verity};
use crate::report::{Case, Refusal, Result};
use crate::sys::mounts::MountInfo;

/// Compares what the kernel shows of the mount with its record: the filesystem itself and not a part of it,
/// by its own name, made of as many layers and as strictly checked as when it was mounted.
pub(super) fn is_recorded(mount: &MountInfo, record: &Record) -> Result<()> {
    let shown = || mount.target.clone();
    let other = |why: String| Err(Refusal::new(Case::O03OtherMount, shown(), why));
    if mount.root != "/" {
        return other(format!("only {} of the mount", mount.root));
    }
    let fuse = mount.kind == "fuse.fuse-overlayfs";
    if !fuse && (mount.kind != "overlay" || mount.source != record.source) {
        return other(format!("it is {} {}, the record is about {}", mount.kind, mount.source, record.source));
    }
    let shows = Shows::of(mount);
    if shows != record.shows {
        let why = format!(
            "{} lower and {} data layers, recorded are {} and {}",
            shows.lowers, shows.data, record.shows.lowers, record.shows.data
        );
        return Err(Refusal::new(Case::O07Layers, shown(), why));
    }
    if !record.whole || record.kind == Kind::Volume {
        return other("a part of an image, a volume, or a view of another container".into());
    }
    Ok(())
}

/// Whether the mount shows the image that the container is made from, and not another one of the same layers.
pub(super) fn is_image_of(record: &Record, stored: &Stored) -> Result<()> {
    let (MadeFrom::Image { id, .. } | MadeFrom::Unknown { id }) = &stored.made_from else { return Ok(()) };
    match &record.image_id {
        Some(mounted) if mounted != id => {
            let why = format!("it shows image {mounted}, the container is made from {id}");
            Err(Refusal::new(Case::O03OtherMount, record.target.display().to_string(), why))
        }
        _ => Ok(()),
    }
}

/// Whether what was decided at the mount is enough for what the policy asks now, of an image that was asked for so.
pub(super) fn satisfies(record: &Record, decision: &policy::Decision, asked: Option<&Asked>) -> Result<()> {
    let shown = || record.target.display().to_string();
    if decision.mode != Mode::Enforce && record.kind != Kind::Sealed {
        return Ok(());
    }
    if record.kind != Kind::Sealed || record.source == PLAIN {
        return Err(Refusal::new(Case::O02Unsealed, shown(), format!("in mode {}", record.kind)));
    }
    if decision.verity == Verity::Require && !record.verity {
        return Err(Refusal::new(Case::O02Unsealed, shown(), "without fs-verity"));
    }
    if let Some(name) = asked.and_then(Asked::name).filter(|_| decision.identity)
        && !record.identities.iter().any(|identity| one_host(identity) == canonical(name))
    {
        let why = format!("sealed for {}, not for {}", record.identities.join(", "), canonical(name));
        return Err(Refusal::new(Case::O02Unsealed, shown(), why));
    }
    let trusted = |fingerprint: &String| decision.certificates.iter().any(|c| c.fingerprint() == fingerprint);
    let anchored = |fingerprint: &String| decision.anchors.iter().any(|a| a.fingerprint() == fingerprint);
    if !record.certificate.as_ref().is_some_and(trusted) && !record.anchor.as_ref().is_some_and(anchored) {
        let signer = record.signer.clone().unwrap_or_else(|| "nobody".into());
        return Err(Refusal::new(Case::E07Untrusted, shown(), format!("by {signer} when it was mounted")));
    }
    Ok(())
}

/// The mounts on `root` that `top` covers may hold nothing: a runtime binds the root on itself with what lay
/// in it, and mounts the rest over that. What lay in it before is nobody's that the container was made with.
pub(super) fn nothing_before(mounts: &[MountInfo], root: &str, top: &MountInfo) -> Result<()> {
    let covered = |id: u64| mounts.iter().any(|m| m.id == id && m.id != top.id && m.target == root);
    match mounts.iter().find(|m| covered(m.parent) && beneath(&m.target, root).is_some()) {
        Some(other) => {
            let why = format!("{} {} was mounted in it before the container was created", other.kind, other.source);
            Err(Refusal::new(Case::O03OtherMount, other.target.clone(), why))
        }
        None => Ok(()),
    }
}
