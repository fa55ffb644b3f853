//! What the service has on record of a mount, as the record that the hooks compare with: it is root's, and who asks is
//! told of their own mounts alone.

use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::service_call;
use crate::container_store::{MadeFrom, StoredContainer};
use crate::error::{Case, Refusal, Result};
use crate::mount::{MountKind, Record};
use crate::oci::ImageId;
use crate::serve::{UpperId, UserMount, VouchedImage};
use crate::sys::id_maps::IdMaps;
use crate::sys::mountinfo::MountInfo;

/// Finds the record of a mount that the service made for this user; `None` for mounts that others made, and without a
/// call where a mount does not even claim to be one.
///
/// # Errors
/// [`Case::Rootless`] if there is no service, and what it refuses.
pub fn record_of_user(mount: &MountInfo) -> Result<Option<Record>> {
    Ok(found(mount)?.map(|found| record(found, &mount.target)))
}

/// Finds the record of a mount on the root of a container: `merged` is where the store has it, and `process` is the first
/// process of the container, if there is one yet.
///
/// # Errors
/// As for [`record_of_user`]; [`Case::O03OtherMount`] for a mount that was made with another container's upper
/// directory, from another image than the container's, or for other user IDs than the process has.
pub fn record_of_root(
    mount: &MountInfo,
    merged: &Path,
    stored: &StoredContainer,
    process: Option<u32>,
) -> Result<Option<Record>> {
    let Some(found) = found(mount)? else { return Ok(None) };
    if let Some(pid) = process {
        let has =
            IdMaps::of_process(pid).map_err(|e| Refusal::new(Case::O05Call, format!("/proc/{pid}/uid_map"), e))?;
        if found.ids != has {
            let why = "the service made it for other user IDs than the container has";
            return Err(Refusal::new(Case::O03OtherMount, merged.display().to_string(), why));
        }
    }
    of_root(found, merged, stored).map(Some)
}

/// Makes the same of what the service has just said.
///
/// # Errors
/// [`Case::O03OtherMount`], as for [`record_of_root`].
pub(super) fn of_root(found: UserMount, merged: &Path, stored: &StoredContainer) -> Result<Record> {
    let refuse = |why: String| Refusal::new(Case::O03OtherMount, merged.display().to_string(), why);
    let diff = merged.with_file_name("diff");
    let own = openat(CWD, &diff, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let own = own.map_err(std::io::Error::from).and_then(UpperId::of);
    let own = own.map_err(|e| Refusal::io(diff.display().to_string(), e))?;
    if found.upper != Some(own) {
        return Err(refuse("the service made it with another upper directory".into()));
    }
    let id = match &stored.made_from {
        MadeFrom::Image { id, manifest, .. } if is_image(&found, id) || *manifest == Some(found.vouched.image) => id,
        MadeFrom::Unknown { id } if is_image(&found, id) => id,
        _ => {
            let why =
                format!("it shows image {}, and not the one that the container is made from", found.vouched.image);
            return Err(refuse(why));
        }
    };
    let (container, image_id) = (Some(stored.id.clone()), Some(id.clone()));
    Ok(Record { container, image_id, upper: Some(diff), ..record(found, merged) })
}

fn is_image(found: &UserMount, id: &ImageId) -> bool {
    found.config.is_some_and(|config| config.hex() == id.as_str())
}

fn found(mount: &MountInfo) -> Result<Option<UserMount>> {
    match mount.is_overlay_of("composefs:") {
        // The number may have been another mount's before.
        true => Ok(service_call::mount_of_user(mount.device)?.filter(|found| mount.source == *found.source)),
        false => Ok(None),
    }
}

fn record(found: UserMount, target: &Path) -> Record {
    let VouchedImage { image, identities, seal, signer, certificate, anchor, .. } = found.vouched;
    Record {
        device: found.device,
        // It is another one in each namespace.
        mount_id: 0,
        target: target.to_owned(),
        source: found.source,
        // The service mounts nothing else.
        kind: MountKind::Sealed,
        image: Some(image),
        image_id: None,
        container: None,
        names: found.names,
        identities,
        facts: found.facts,
        seal,
        signer,
        certificate,
        anchor,
        upper: None,
        verity: found.verity,
        whole: found.whole,
        would_refuse: None,
        signed_manifest: None,
        shows: found.shows,
        since: found.since,
    }
}
