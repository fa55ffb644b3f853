//! `precreate`: podman has mounted the container's overlay itself, and holds no lock. A verified one takes
//! its place, with the same upper directory, before the runtime hears of the container.

use std::path::{Path, PathBuf};

use super::create_runtime::not_denied;
use super::filled::Filled;
use super::place::place;
use super::seen::Seen;
use super::{About, Outcome, apart, images, inject, names, no_redirection, root};
use crate::identify::{MadeFrom, Stored, configured, container_of_layer, further_stores, layer_of, stored_container};
use crate::invoke::{self, Bundle, Config, Native, Start, Verb};
use crate::mount::{self, Kind, Record};
use crate::policy::{Checkpoint, Decision, Directories, Mode, Policy};
use crate::report::{Case, Refusal, Result};
use crate::start::{Swap, Written};
use crate::sys::mounts::MountInfo;
use crate::sys::{files, mounts, process};

/// A container, and where its root is mounted.
struct Found {
    stored: Stored,
    target: PathBuf,
}

/// With the configuration, where it got the hook that keeps the root's flags.
pub(super) fn run(input: &[u8], bundle: &Path, about: &mut About) -> Result<(Outcome, Option<Vec<u8>>)> {
    let config = invoke::config(input)?;
    let outcome = look(&config, bundle, process::parent_started(), None, about)?;
    let edited = match outcome {
        Outcome::Off => None,
        _ => inject::with_hooks(input, inject::for_flags(&config))?,
    };
    Ok((outcome, edited))
}

/// The same for whoever else runs containers. `started` is when podman was, where that is known, and `runtime` what an OCI
/// runtime is called for.
pub(super) fn look(
    config: &Config,
    bundle: &Path,
    started: Option<i128>,
    runtime: Option<&Start>,
    about: &mut About,
) -> Result<Outcome> {
    let id = Bundle::of(bundle).map(|b| b.id).or_else(|| config.container.clone());
    about.container = id.clone().unwrap_or_default();
    about.manager.clone_from(&config.manager);
    // Somebody else's root is nobody's image here: `--rootfs` of a container that is mounted.
    let found = find(config, bundle).map(|found| found.filter(|f| id.as_ref().is_none_or(|id| *id == f.stored.id)));
    let root =
        found.as_ref().ok().and_then(|found| found.as_ref()).map_or(config.root.as_path(), |f| f.target.as_path());
    let filled = Filled::before(config, Some(root), own_directory(bundle, id.as_deref()), started);
    let ended = found.and_then(|found| decide(config, found, &filled, runtime, about));
    if matches!(ended, Ok(Outcome::Allowed)) {
        filled.settled();
    }
    ended.map_err(|refusal| filled.after(refusal, &about.container))
}

/// The container's own directory in its store, where that can be told: podman 4.3 runs its hooks wherever it is itself.
fn own_directory(bundle: &Path, id: Option<&str>) -> Option<PathBuf> {
    let by_id = || {
        let directory = configured().ok()?.graph_root.join("overlay-containers").join(id?).join("userdata");
        directory.is_dir().then_some(directory)
    };
    Bundle::of(bundle).map(|_| bundle.to_owned()).or_else(by_id)
}

fn decide(
    config: &Config,
    found: Option<Found>,
    filled: &Filled,
    runtime: Option<&Start>,
    about: &mut About,
) -> Result<Outcome> {
    no_redirection(config.redirection.as_ref())?;
    let stored = found.as_ref().map(|f| &f.stored);
    let policy = Policy::load(&Directories::system())?.at(place(stored, &config.manager, config.namespace.as_ref()));
    let outcome = root_of(config, found.as_ref(), filled, runtime, &policy, about)?;
    if matches!(outcome, Outcome::Allowed) {
        // That was asked with it.
        return Ok(outcome);
    }
    // Nothing was asked of the root, or not enforced; what is mounted besides it has rules of its own, and may be denied.
    let decision = policy.decide(&names(None, stored, stored.is_some() || layer_of(&config.root).is_some()));
    let target = found.as_ref().map_or(&config.root, |f| &f.target);
    match (outcome, images::check(&config.mounts, target, &decision, &policy)?) {
        (Outcome::Off | Outcome::AuditBefore(_), Some(refusal)) => Ok(Outcome::Audit(refusal)),
        (outcome, _) => Ok(outcome),
    }
}

/// What becomes of the root.
fn root_of(
    config: &Config,
    found: Option<&Found>,
    filled: &Filled,
    runtime: Option<&Start>,
    policy: &Policy,
    about: &mut About,
) -> Result<Outcome> {
    let Some(found) = found else {
        if let Some(start) = runtime
            && let Some(record) = record_of(&config.root)?
        {
            return by_record(config, record, start, policy, about);
        }
        let decision = policy.decide(&names(None, None, layer_of(&config.root).is_some()));
        let why = "it is no container of an image in an overlay store";
        return Outcome::of(Err(Refusal::new(Case::O01NotOurs, config.root.display().to_string(), why)), &decision);
    };
    about.stored(&found.stored);
    not_denied(None, Some(&found.stored), policy)?;
    if matches!(found.stored.made_from, MadeFrom::Image { .. })
        && !policy.denied().names_blobs()
        && !policy.denied().names_erofs()
    {
        let decision = policy.decide(&names(None, Some(&found.stored), true));
        if decision.mode == Mode::Off {
            return Ok(Outcome::Off);
        }
    }
    let restore = runtime.is_some_and(|start| start.verb == Verb::Restore);
    let call = Call { config, found, filled, policy, restore };
    match runtime {
        Some(_) => apart::at_home(&found.target, || replace(&call, about)),
        None => replace(&call, about),
    }
}

/// What the policy makes of what was found of the root, and then of what the container was given besides it.
fn judge(root: Result<()>, call: &Call<'_>, decision: &Decision) -> Result<Outcome> {
    let Call { config, found, filled, policy, restore } = call;
    besides(root, decision, || {
        no_checkpoint(*restore, decision, &config.root)?;
        filled.check(&config.mounts)?;
        filled.check_refused()?;
        images::check(&config.mounts, &found.target, decision, policy)
    })
}

/// What the policy makes of a root, and of what is besides it, of which a rule of its own may let pass what it is.
fn besides(root: Result<()>, decision: &Decision, given: impl FnOnce() -> Result<Option<Refusal>>) -> Result<Outcome> {
    let mut by_rule = None;
    let checked = root.and_then(|()| given()).map(|refusal| by_rule = refusal);
    Ok(match (Outcome::of(checked, decision)?, by_rule) {
        (Outcome::Allowed, Some(refusal)) => Outcome::Audit(refusal),
        (outcome, _) => outcome,
    })
}

/// What is looked at.
#[derive(Clone, Copy)]
struct Call<'a> {
    config: &'a Config,
    found: &'a Found,
    filled: &'a Filled,
    policy: &'a Policy,
    /// It comes back from a checkpoint.
    restore: bool,
}

/// Puts the verified mount in the place of the native one, unless it is there.
fn replace(call: &Call<'_>, about: &mut About) -> Result<Outcome> {
    let Call { config, found, filled, policy, .. } = *call;
    let target = &found.target;
    files::check_proc()?;
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::O06Swap, target.display().to_string(), why);
    let all = mounts::mountinfo().map_err(|e| Refusal::io("/proc/self/mountinfo", e))?;
    let canonical = std::fs::canonicalize(target).map_err(|e| refuse(&e))?;
    let shown = canonical.to_str().ok_or_else(|| refuse(&"its path is not UTF-8"))?;
    let Some(top) = mounts::topmost(&all, shown) else { return Err(refuse(&"nothing is mounted there")) };
    if let Some(record) = mount::of_device(top.device)? {
        about.record(&record);
        let decision = policy.decide(&names(Some(&record), Some(&found.stored), true));
        let its_own = || match layer_of(&record.target) {
            Some((_, layer)) if layer == found.stored.layer => Ok(()),
            _ => Err(Refusal::new(Case::O03OtherMount, shown, format!("made for {}", record.target.display()))),
        };
        not_denied(Some(&record), None, policy)?;
        let checked = root::is_recorded(top, &record)
            .and_then(|()| its_own())
            .and_then(|()| root::is_image_of(&record, &found.stored))
            .and_then(|()| root::satisfies(&record, &decision, found.stored.asked.as_ref()));
        let judged = judge(checked, call, &decision);
        if matches!(judged, Ok(Outcome::Allowed)) {
            filled.started();
        }
        return judged;
    }
    let identity = mounts::open_target(&canonical).and_then(mounts::identify).map_err(|e| refuse(&e))?;
    if identity.mountinfo != top.id || !identity.is_root {
        return Err(Refusal::new(Case::O03OtherMount, shown, "it was mounted again meanwhile"));
    }
    if top.kind == "fuse.fuse-overlayfs" {
        let decision = policy.decide(&names(None, Some(&found.stored), true));
        if decision.mode == Mode::Off && !policy.denied().names_erofs() {
            return Ok(Outcome::Off);
        }
        let why = "it is fuse-overlayfs: podman takes that where there was a mount_program once; without one remove \
                   GRAPHROOT/overlay/.has-mount-program";
        return Err(refuse(&why));
    }
    let native = Native::of(top, target, config.uids.clone(), config.gids.clone())?;
    let before = Seen::of(target, &config.mounts)?;
    let written = Written { user: config.user, directory: config.directory.clone(), since: filled.since()? };
    let record = match crate::start::swap(policy, &native, identity, &(&found.stored).into(), &written)? {
        Swap::Done(record) => record,
        Swap::Stays(None) => return Ok(Outcome::Off),
        Swap::Stays(Some(refusal)) => return Ok(Outcome::AuditBefore(refusal.case().id().to_owned())),
    };
    about.record(&record);
    if matches!(record.kind, Kind::Off | Kind::Volume) {
        return Ok(Outcome::Off);
    }
    let decision = policy.decide(&names(Some(&record), Some(&found.stored), true));
    let same = Seen::of(target, &config.mounts).and_then(|after| before.same_as(&after));
    let judged = judge(same, call, &decision);
    if matches!(judged, Ok(Outcome::Allowed)) && record.kind == Kind::Sealed {
        filled.started();
    }
    match judged {
        Ok(Outcome::Allowed) if record.kind == Kind::Audit => {
            let case = record.would_refuse.as_ref().map(|refusal| refusal.case.clone());
            Ok(Outcome::AuditBefore(case.unwrap_or_default()))
        }
        Err(refusal) => {
            // No container: nothing of it stays.
            mount::unmount(target)?;
            Err(refusal)
        }
        outcome => outcome,
    }
}

fn no_checkpoint(restore: bool, decision: &Decision, root: &Path) -> Result<()> {
    match restore && decision.checkpoint == Checkpoint::Refuse {
        true => Err(Refusal::new(Case::O12Checkpoint, root.display().to_string(), "")),
        false => Ok(()),
    }
}

/// The record of what is mounted on the root of a bundle that is in no store.
fn record_of(root: &Path) -> Result<Option<(MountInfo, Record)>> {
    let all = mounts::mountinfo().map_err(|e| Refusal::io("/proc/self/mountinfo", e))?;
    let canonical =
        std::fs::canonicalize(root).map_err(|e| Refusal::new(Case::O05Call, root.display().to_string(), e))?;
    let Some(top) = canonical.to_str().and_then(|shown| mounts::topmost(&all, shown)) else { return Ok(None) };
    Ok(mount::of_device(top.device)?.map(|record| (top.clone(), record)))
}

/// A root that layerseal mounted, by hand or as the mount program of a build.
fn by_record(
    config: &Config,
    (top, record): (MountInfo, Record),
    start: &Start,
    policy: &Policy,
    about: &mut About,
) -> Result<Outcome> {
    about.record(&record);
    not_denied(Some(&record), None, policy)?;
    let decision = policy.decide(&names(Some(&record), None, layer_of(&config.root).is_some()));
    let its_own = || match &record.container {
        // buildah binds it into the bundle, which has a name of its own.
        Some(container) if *container != start.id && !config.root.ends_with("mnt/rootfs") => {
            Err(Refusal::new(Case::O03OtherMount, top.target.clone(), "it was made for another container"))
        }
        _ => Ok(()),
    };
    let checked = root::is_recorded(&top, &record)
        .and_then(|()| its_own())
        .and_then(|()| root::satisfies(&record, &decision, None))
        .and_then(|()| no_checkpoint(start.verb == Verb::Restore, &decision, &config.root));
    besides(checked, &decision, || images::check(&config.mounts, &config.root, &decision, policy))
}

/// The container of the layer that the configuration names, or of the bundle that podman runs us in: for other
/// user IDs the configuration names a directory on which the root will be mounted later, and a transient store
/// has its containers elsewhere than its layers. Podman 4.3 runs us wherever its caller is.
fn find(config: &Config, bundle: &Path) -> Result<Option<Found>> {
    let mut others = further_stores()?;
    let named = layer_of(&config.root);
    if let Some((root, layer)) = &named {
        if let Some(stored) = container_of_layer(root, layer, &others)? {
            return Ok(Some(Found { stored, target: config.root.clone() }));
        }
        others.push(root.clone());
    }
    let Some(bundle) = Bundle::of(bundle).filter(|b| b.driver == "overlay") else { return Ok(None) };
    let store = layers_of(&bundle)?;
    others.push(store.clone());
    let Some(stored) = stored_container(&bundle.root, &bundle.driver, &bundle.id, &others)? else { return Ok(None) };
    match named {
        Some((_, layer)) if layer == stored.layer => Ok(Some(Found { stored, target: config.root.clone() })),
        Some(_) => Ok(None),
        None => {
            let target = store.join("overlay").join(&stored.layer).join("merged");
            // podman keeps a layer for a container with `--rootfs` too, and never mounts it.
            let rootfs = stored.made_from == MadeFrom::Nothing && !is_mounted(&target)?;
            Ok((!rootfs).then_some(Found { stored, target }))
        }
    }
}

/// The store that has the layers of the bundle's container: that of the bundle, unless that is the run root, where a
/// transient store keeps its containers.
fn layers_of(bundle: &Bundle) -> Result<PathBuf> {
    let configured = configured()?;
    let here = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    Ok(match here(&bundle.root) == here(&configured.run_root) {
        true => configured.graph_root,
        false => bundle.root.clone(),
    })
}

fn is_mounted(target: &Path) -> Result<bool> {
    let all = mounts::mountinfo().map_err(|e| Refusal::io("/proc/self/mountinfo", e))?;
    let target = std::fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
    Ok(target.to_str().is_some_and(|target| mounts::topmost(&all, target).is_some()))
}
