//! What is mounted on this host for containers and images, verified or not.

use std::collections::HashMap;

use super::Context;
use crate::container_store::{
    MadeFrom, container_names, container_of_layer, further_stores, graph_root, layer_of, run_root,
};
use crate::error::Result;
use crate::mount::{MountKind, MountSummary, Record, live};
use crate::policy::{Directories, Mode, Policy};
use crate::serve::{UserMount, VouchedImage, of_all_users};
use crate::start::mounts_of_user;
use crate::sys::mountinfo;
use crate::sys::process::{self, User};

/// What is mounted.
#[derive(Debug)]
pub struct HostStatus {
    /// What layerseal mounted.
    pub records: Vec<Record>,
    /// Roots of containers that their engine mounted, and that nobody verified.
    pub unverified: Vec<UnverifiedRoot>,
    /// What the service mounted for users; for root, to whom their containers are not known.
    pub users: Vec<UserMount>,
    /// Names of containers, by their IDs.
    pub containers: HashMap<String, String>,
}

/// The root of a container that its engine mounted.
#[derive(Debug)]
pub struct UnverifiedRoot {
    /// Where it is mounted.
    pub target: String,
    /// The container.
    pub container: String,
    /// The names of its image.
    pub names: Vec<String>,
    /// What the policy asks of it now: under `audit` it would be refused, and under `enforce` it will be, at its next
    /// start.
    pub mode: Mode,
}

/// Returns the names of containers, by their IDs; what cannot be found out is left out.
pub(super) fn names_of_containers() -> HashMap<String, String> {
    let names = |root: &std::path::Path| container_names(root, &run_root().ok()?).ok();
    graph_root().ok().and_then(|root| names(&root)).unwrap_or_default()
}

/// Describes the mounts of this user that the service made, and that are in this mount namespace: that of
/// `podman unshare`.
fn of_this_user() -> Result<Vec<Record>> {
    let own = mounts_of_user().unwrap_or_else(|refusal| {
        log::warn!("who vouches for a mount is not known: {refusal}");
        Vec::new()
    });
    let others = further_stores().unwrap_or_default();
    let mut records: Vec<Record> = Vec::new();
    for mount in mountinfo::own()?.iter() {
        let known = own.iter().find(|own| own.device == mount.device && mount.is_overlay_of(&own.source));
        // Mounts of one filesystem that are in several places are one.
        let Some(known) = known.filter(|_| records.iter().all(|record| record.device != mount.device)) else {
            continue;
        };
        let container =
            layer_of(&mount.target).and_then(|(root, layer)| container_of_layer(&root, &layer, &others).ok().flatten());
        let (image_id, names) = match container.as_ref().map(|container| &container.made_from) {
            Some(MadeFrom::Image { id, names, .. }) => (Some(id.clone()), names.clone()),
            _ => (None, known.vouched.identities.iter().map(ToString::to_string).collect()),
        };
        let VouchedImage { image, identities, seal, signer, certificate, anchor, .. } = known.vouched.clone();
        records.push(Record {
            device: mount.device,
            mount_id: mount.id,
            target: mount.target.clone(),
            source: known.source.clone(),
            kind: MountKind::Sealed,
            image: Some(image),
            image_id,
            container: container.map(|container| container.id),
            names,
            identities,
            facts: None,
            seal,
            signer,
            certificate,
            anchor,
            upper: None,
            verity: known.verity,
            whole: false,
            would_refuse: None,
            signed_manifest: None,
            shows: MountSummary::default(),
            since: known.since,
        });
    }
    Ok(records)
}

/// Examines all mounts.
///
/// # Errors
/// Errors of reading records and mounts. If a container's name cannot be found out, it is left out.
pub fn status(_context: &Context) -> Result<HostStatus> {
    let is_root = process::user() == User::Root;
    let (records, users) = if is_root { (live()?, of_all_users()?) } else { (of_this_user()?, Vec::new()) };
    let containers = names_of_containers();
    let others = further_stores().unwrap_or_default();
    let policy = is_root.then(|| Policy::load(&Directories::system()).ok()).flatten();
    let of_user = if is_root { Mode::Off } else { Policy::rootless(&Directories::system()).unwrap_or(Mode::Off) };
    let mut unverified = Vec::new();
    let all = mountinfo::own()?;
    for mount in all.iter().filter(|mount| mount.kind == "overlay" || mount.is_fuse_overlayfs()) {
        if records.iter().any(|record| record.device == mount.device) {
            continue;
        }
        let Some((root, layer)) = layer_of(&mount.target) else { continue };
        let Ok(Some(stored)) = container_of_layer(&root, &layer, &others) else { continue };
        let names = match &stored.made_from {
            MadeFrom::Image { names, .. } => names.clone(),
            MadeFrom::Unknown { .. } | MadeFrom::Nothing => Vec::new(),
        };
        let asked = stored.asked.as_ref().and_then(|by| by.name()).cloned();
        let all: Vec<String> = names.iter().cloned().chain(asked).collect();
        // Without a policy, layerseal is involved in no start.
        let mode = policy.as_ref().map_or(of_user, |policy| policy.decide(&all).mode);
        unverified.push(UnverifiedRoot {
            target: mount.target.display().to_string(),
            container: stored.id.to_string(),
            names,
            mode,
        });
    }
    Ok(HostStatus { records, unverified, users, containers })
}
