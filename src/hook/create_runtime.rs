//! `createRuntime`: all mounts of the container are made, but the root has not been changed to its root yet. The
//! uppermost mount on the root's path in the container's mount namespace is what the container will see; nothing that
//! happens on the host afterwards changes it.
//!
//! In front of the runtime ([`super::runtime`]) the same is looked at once the runtime has made the container: its first
//! process waits to be started then, and that mount is on the container's `/`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::call_log::let_pass;
use super::filled::Filled;
use super::lookup::{check_records, is_in_layer, merged_of, no_engines};
use super::namespace::place;
use super::{JournalSubject, Outcome, cover, document_names, names, no_redirection, root, users};
use crate::container_store::{MadeFrom, StoredContainer, further_stores, layer_of, stored_container};
use crate::error::{Case, Refusal, Result};
use crate::mount::{self, MountKind, Record};
use crate::oci::name::ROOTFS;
use crate::policy::{self, Policy};
use crate::protocol::{self, Bundle, ContainerConfig, ContainerState};
use crate::sys::mountinfo::{self, MountInfo};
use crate::sys::{files, mounts};

/// A container, as the kernel and the stores describe it.
struct ObservedContainer {
    state: ContainerState,
    /// The path of its root, as the kernel writes it.
    root: PathBuf,
    /// Its mounts, by the paths that they have before the root is changed.
    mounts: Vec<MountInfo>,
    /// Whether nothing was mounted in the root before, where the mounts do not tell.
    before: Option<Result<()>>,
    /// The record of the uppermost mount on it.
    record: Option<Record>,
    /// Why there is no record, if that is not simply that there is none.
    unrecorded: Option<Refusal>,
    stored: Option<StoredContainer>,
}

pub(super) fn run(input: &[u8], about: &mut JournalSubject) -> Result<Outcome> {
    let state = protocol::state(input)?;
    about.container.clone_from(&state.id);
    about.manager.clone_from(&state.manager);
    no_redirection(state.redirection.as_ref())?;
    // Nothing may have been asked before.
    config_of(&state.bundle).map_or(Ok(()), |config| document_names::check(&config))?;
    look(&ObservedContainer::of(state, None)?, about)
}

/// Looks at a container that the runtime has made. `before` says whether anything was mounted in the root when the
/// runtime was called.
pub(super) fn look_at_created(
    state: ContainerState,
    before: Result<()>,
    about: &mut JournalSubject,
) -> Result<Outcome> {
    look(&ObservedContainer::of(state, Some(before))?, about)
}

fn look(container: &ObservedContainer, about: &mut JournalSubject) -> Result<Outcome> {
    let ended = match decide(container, about) {
        // That `precreate` left podman's own overlay there is no reason of its own: it said why.
        Ok(Outcome::Audit(refusal)) if refusal.case() == Case::O01NotOurs => Ok(match let_pass(&about.container) {
            Some(before) => Outcome::AuditBefore(before),
            None => Outcome::Audit(refusal),
        }),
        ended => ended,
    };
    // Without `precreate` this is the first to refuse what podman has filled volumes from.
    match container.record {
        Some(_) => ended,
        None => ended.map_err(|refusal| filled(container, refusal)),
    }
}

/// Remembers what podman had filled by then, as far as the configuration tells, and returns the refusal; see
/// [`Filled`].
fn filled(container: &ObservedContainer, refusal: Refusal) -> Refusal {
    let ContainerState { id, bundle, .. } = &container.state;
    match config_of(bundle) {
        Ok(config) => Filled::before(&config, Some(&container.root), Some(bundle.clone()), None).after(refusal, id),
        Err(e) => {
            log::warn!("{}: what was filled is not known: {e}", bundle.display());
            refusal
        }
    }
}

fn config_of(bundle: &Path) -> Result<ContainerConfig> {
    let read = protocol::read_config(bundle).map_err(|e| Refusal::io("config.json", e));
    read.and_then(|bytes| protocol::config(&bytes))
}

fn decide(container: &ObservedContainer, about: &mut JournalSubject) -> Result<Outcome> {
    let ContainerState { id, bundle, manager, namespace, .. } = &container.state;
    if container.stored.is_none() && container.record.is_none() {
        let named = config_of(bundle).ok().and_then(|config| config.container);
        no_engines(bundle, id, named.as_deref())?;
    }
    let place = place(container.stored.as_ref(), manager, namespace.as_ref());
    let policy = users::policy()?.at(place);
    if let Some(stored) = &container.stored {
        about.stored(stored);
    }
    if let Some(record) = &container.record {
        about.record(record);
    }
    not_denied(container.record.as_ref(), container.stored.as_ref(), &policy)?;
    let mut names = names(container.record.as_ref(), container.stored.as_ref(), container.is_no_images());
    if container.is_rootfs() {
        names.push(ROOTFS.to_owned());
    }
    let decision = policy.decide(&names);
    Outcome::of(container.check(&policy, &decision), &decision)
}

/// Checks that neither what was mounted nor the image that the container is made from is denied, whatever else is asked
/// of it.
pub(super) fn not_denied(record: Option<&Record>, stored: Option<&StoredContainer>, policy: &Policy) -> Result<()> {
    let denied = policy.denied();
    if denied.is_empty() {
        return Ok(());
    }
    match record {
        Some(Record { facts: Some(facts), .. }) => denied.anything(facts)?,
        Some(record) if record.kind != MountKind::Volume => {
            let why = "an earlier layerseal mounted it, and kept no record of what can be denied: unmount it";
            return Err(Refusal::new(Case::F06Denied, record.target.display().to_string(), why));
        }
        _ => {}
    }
    stored.map_or(Ok(()), |stored| denied.anything(&stored.facts()?))
}

impl ObservedContainer {
    /// Reads what the kernel and the stores say of a container; `before` is given for one that is made.
    fn of(state: ContainerState, before: Option<Result<()>>) -> Result<Self> {
        files::check_proc()?;
        let root = root_path(&state)?;
        let mut mounts = mountinfo::of_process(state.pid)
            .map_err(|e| Refusal::new(Case::O05Call, format!("/proc/{}/mountinfo", state.pid), e))?;
        if before.is_some() {
            for mount in &mut mounts {
                let path = mount.target.strip_prefix("/").unwrap_or(Path::new(""));
                mount.target = if path.as_os_str().is_empty() { root.clone() } else { root.join(path) };
            }
        }
        let top = mountinfo::topmost(&mounts, &root);
        if let (Some(_), Some(top)) = (&before, top) {
            sees(&state, top)?;
        }
        if users::is_in_namespace() {
            let stored = stored(&state, &root, None)?;
            let found = match (top, &stored) {
                (Some(top), Some(stored)) => {
                    // The root's own path may be another: podman binds it elsewhere for IDs that cannot reach the store.
                    let elsewhere = Bundle::of(&state.bundle).filter(|_| layer_of(&root).is_none());
                    let merged = elsewhere.map_or_else(|| Ok(root.clone()), |bundle| merged_of(&bundle, stored));
                    merged.and_then(|merged| users::record_of_root(top, &merged, stored, Some(state.pid)))
                }
                _ => Ok(None),
            };
            let (record, unrecorded) = found.map_or_else(|refusal| (None, Some(refusal)), |record| (record, None));
            return Ok(Self { state, root, mounts, before, record, unrecorded, stored });
        }
        let record = match top {
            Some(top) => mount::of_mount(top)?,
            None => None,
        };
        let stored = stored(&state, &root, record.as_ref())?;
        Ok(Self { state, root, mounts, before, record, unrecorded: None, stored })
    }

    /// Returns the root, for messages.
    fn shown(&self) -> String {
        self.root.display().to_string()
    }

    /// Returns whether the root is a layer of a store, by its path or by where its changes go.
    fn in_store(&self) -> bool {
        let upper = |path: Vec<u8>| layer_of(&PathBuf::from(OsString::from_vec(path)).parent()?.join("merged"));
        let top = mountinfo::topmost(&self.mounts, &self.root);
        let of_other_driver = |top: &MountInfo| is_in_layer(&top.root) || is_in_layer(Path::new(&top.source));
        is_in_layer(&self.root)
            || top.is_some_and(|top| of_other_driver(top) || top.super_values("upperdir=").any(|o| upper(o).is_some()))
    }

    /// Returns whether the root is known to be no image's: by the record of the container, or because the container is
    /// no engine's, which [`decide`] has checked.
    fn is_no_images(&self) -> bool {
        self.is_rootfs() || (self.stored.is_none() && !self.in_store())
    }

    /// Returns whether the container is in a store, and was made from no image there.
    fn is_rootfs(&self) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.made_from == MadeFrom::Nothing) && !self.in_store()
    }

    fn check(&self, policy: &Policy, decision: &policy::Decision) -> Result<()> {
        let top = mountinfo::topmost(&self.mounts, &self.root)
            .ok_or_else(|| Refusal::new(Case::O01NotOurs, self.shown(), "a directory, on which nothing is mounted"))?;
        let Some(record) = &self.record else {
            if let Some(refusal) = &self.unrecorded {
                return Err(refusal.clone());
            }
            let what = format!("{}, of which there is no record", top.describe());
            return Err(Refusal::new(Case::O01NotOurs, self.shown(), what));
        };
        root::is_recorded(top, record)?;
        self.is_its_own(record)?;
        match &self.before {
            Some(before) => before.clone()?,
            None => root::nothing_before(&self.mounts, &self.root, top)?,
        }
        root::satisfies(record, decision, &root::required(policy, record, self.stored.as_ref()))?;
        cover::check(&self.mounts, &self.root, &cover::system_paths(&record.target)?, &decision.cover)
    }

    /// Checks that the mount was made for this container and not for another one.
    fn is_its_own(&self, record: &Record) -> Result<()> {
        let refuse = |why: String| Err(Refusal::new(Case::O03OtherMount, self.shown(), why));
        if self.is_rootfs() {
            return Err(Refusal::new(Case::O01NotOurs, self.shown(), "it is no container of an image"));
        }
        let mounted_at = layer_of(&record.target);
        if let Some(stored) = &self.stored {
            return match mounted_at {
                Some((_, layer)) if layer.as_str() == stored.layer => root::is_image_of(record, stored),
                _ => refuse(format!("it was made for {}", record.target.display())),
            };
        }
        // Whoever runs a bundle without a store names the root, or, like buildah, binds it into the bundle.
        let target = std::fs::canonicalize(&record.target).unwrap_or_else(|_| record.target.clone());
        match self.root.as_path() {
            // One writable layer is for one container.
            named if named == target && record.container.as_ref().is_none_or(|c| c.as_str() == self.state.id) => Ok(()),
            named if named == target => refuse("it was made for another container".into()),
            bound if bound == self.state.bundle.join("mnt/rootfs") && record.container.is_some() => Ok(()),
            _ => refuse(format!("it was mounted on {}", record.target.display())),
        }
    }
}

/// Checks that the first process of a container that is made has this mount as its root. What is mounted over a root
/// afterwards, as it can be from outside where mounts are shared, is listed above it, and no path leads there.
fn sees(state: &ContainerState, top: &MountInfo) -> Result<()> {
    let place = PathBuf::from(format!("/proc/{}/root", state.pid));
    let shown = || place.display().to_string();
    let refuse = |e: std::io::Error| Refusal::new(Case::O05Call, shown(), e);
    let root = files::open_dir(&place).and_then(|root| Ok(mounts::identify(root)?)).map_err(refuse)?;
    if root.mountinfo == top.id {
        return Ok(());
    }
    let why = format!("{} was mounted over it when it was made", top.describe());
    Err(Refusal::new(Case::O03OtherMount, shown(), why))
}

/// Finds the path of the root, as the kernel writes it: without symlinks, `.` and `..`.
fn root_path(state: &ContainerState) -> Result<PathBuf> {
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::O05Call, state.bundle.display().to_string(), e);
    let path = match &state.root {
        Some(root) => root.clone(),
        // runc does not say.
        None => protocol::config(&protocol::read_config(&state.bundle).map_err(|e| refuse(&e))?)?.root,
    };
    std::fs::canonicalize(state.bundle.join(path)).map_err(|e| refuse(&e))
}

/// Finds the container's record in a store: that of the mount, of the bundle or of the root's path. The first two are
/// the same for podman; CRI-O's bundles are in the run root.
fn stored(state: &ContainerState, root: &Path, record: Option<&Record>) -> Result<Option<StoredContainer>> {
    let overlay = |path: &Path| layer_of(path).map(|(root, _)| (root, "overlay".to_owned()));
    let mut places: Vec<(PathBuf, String)> = record.and_then(|r| overlay(&r.target)).into_iter().collect();
    if let Some(bundle) = Bundle::of(&state.bundle) {
        check_records(&bundle.driver)?;
        places.push((bundle.root, bundle.driver));
    }
    places.extend(overlay(root));
    places.dedup();
    for (place, driver) in places {
        // If the mount says which image it is, no other store is asked for its names.
        let others = if record.is_some() { Vec::new() } else { further_stores()? };
        if let Some(stored) = stored_container(&place, &driver, &state.id, &others)? {
            return Ok(Some(stored));
        }
    }
    Ok(None)
}
