//! `precreate`: podman has mounted the container's overlay itself, and holds no lock. A verified one takes
//! its place, with the same upper directory, before the runtime hears of the container.

use std::path::Path;

use super::changed::ReadSince;
use super::copied_users::CopiedFor;
use super::create_runtime::not_denied;
use super::filled::Filled;
use super::inject::Hook;
use super::last_call::CRI_O;
use super::lookup::{Found, MountedContainer, StartPaths, find, own_directory};
use super::namespace::place;
use super::snapshot::Snapshot;
use super::{
    JournalSubject, Outcome, anonymous_volumes, copied_users, cover, document_names, images, inject, names,
    no_redirection, other_namespace, own_files, root, users,
};
use crate::container_store::{MadeFrom, check_database, layer_of};
use crate::error::{Case, Refusal, Result};
use crate::mount::{self, MountKind, Record, WouldRefuse};
use crate::policy::{Checkpoint, Decision, Mode, Policy, Verity};
use crate::protocol::{self, Bundle, ContainerConfig, Native, Start, Verb};
use crate::start::{self, PodmanWrites, Swap, Writer};
use crate::sys::mountinfo::{self, MountInfo};
use crate::sys::{files, mounts, process};

/// Decides about a container, and returns the configuration if the hook that keeps the root's flags was added to it.
pub(super) fn run(input: &[u8], bundle: &Path, about: &mut JournalSubject) -> Result<(Outcome, Option<Vec<u8>>)> {
    let config = protocol::config(input)?;
    let outcome = look(&config, bundle, process::parent_started(), None, about)?;
    let edited = match outcome {
        Outcome::Off => None,
        _ => inject::with_hooks(input, Hook::for_flags(&config, &outcome).as_slice())?,
    };
    Ok((outcome, edited))
}

/// Decides about a container, whichever engine runs it. `started` is when podman was started, if that is known, and
/// `runtime` is what an OCI runtime is called for.
pub(super) fn look(
    config: &ContainerConfig,
    bundle: &Path,
    started: Option<i128>,
    runtime: Option<&Start>,
    about: &mut JournalSubject,
) -> Result<Outcome> {
    let id = Bundle::of(bundle).map(|b| b.id).or_else(|| config.container.clone());
    about.container = id.clone().unwrap_or_default();
    about.manager.clone_from(&config.manager);
    let named = runtime.and_then(|start| start.bundle.as_deref());
    let paths = StartPaths { bundle, named, id: runtime.map(|start| start.id.as_str()) };
    // Somebody else's root is no image's here: a container's mounted root given to `--rootfs`.
    let others = |found: &Found| found.stored().is_some_and(|s| id.as_ref().is_some_and(|id| id != s.id.as_str()));
    let found = find(config, &paths).map(|found| if others(&found) { Found::OtherLayer } else { found });
    let root = found.as_ref().ok().and_then(Found::target).unwrap_or(&config.root);
    let filled = Filled::before(config, Some(root), own_directory(bundle, id.as_deref()), started);
    let own_files = own_files::check(config, &paths, found.as_ref().ok());
    let given = own_files.and_then(|()| document_names::check(config));
    let ended = given.and(found).and_then(|found| decide(config, found, &filled, runtime, about));
    let is_verified = match &ended {
        Ok(outcome) => matches!(outcome, Outcome::Allowed),
        Err(refusal) => refusal.case() == Case::O04Covered,
    };
    if is_verified {
        filled.settled();
    }
    ended.map_err(|refusal| match refusal.case() {
        // Everything that podman has made of the image was compared by then.
        Case::O04Covered => refusal,
        _ => filled.after(refusal, &about.container),
    })
}

fn decide(
    config: &ContainerConfig,
    found: Found,
    filled: &Filled,
    runtime: Option<&Start>,
    about: &mut JournalSubject,
) -> Result<Outcome> {
    no_redirection(config.redirection.as_ref())?;
    let stored = found.stored();
    let policy = users::policy()?.at(place(stored, &config.manager, config.namespace.as_ref()));
    let outcome = root_of(config, &found, filled, runtime, &policy, about)?;
    if matches!(outcome, Outcome::Allowed) {
        // It was judged together with the root.
        return Ok(outcome);
    }
    // Nothing was asked of the root, or not enforced; other things that are mounted have rules of their own, and may be
    // denied.
    let decision = policy.decide(&names(None, stored, matches!(found, Found::NoImage)));
    let target = found.target().unwrap_or(&config.root);
    match (outcome, images::check(config, target, &decision, &policy)?) {
        (Outcome::Off | Outcome::AuditBefore(_), Some(refusal)) => Ok(Outcome::Audit(refusal)),
        (outcome, _) => Ok(outcome),
    }
}

/// Decides about the root.
fn root_of(
    config: &ContainerConfig,
    found: &Found,
    filled: &Filled,
    runtime: Option<&Start>,
    policy: &Policy,
    about: &mut JournalSubject,
) -> Result<Outcome> {
    if let Some(stored) = found.stored() {
        about.stored(stored);
        not_denied(None, Some(stored), policy)?;
    }
    let Found::Mounted(found) = found else {
        if let Some(start) = runtime
            && found.stored().is_none()
            && let Some((top, record)) = record_of(&config.root)?
        {
            return by_record(config, &top, &record, start, policy, about);
        }
        let decision = policy.decide(&names(None, found.stored(), matches!(found, Found::NoImage)));
        let why = "it is no container of an image in an overlay store";
        return Outcome::of(Err(Refusal::new(Case::O01NotOurs, config.root.display().to_string(), why)), &decision);
    };
    let decision = policy.decide(&names(None, Some(&found.stored), false));
    if decision.mode == Mode::Off
        && matches!(found.stored.made_from, MadeFrom::Image { .. })
        && !policy.denied().names_blobs()
        && !policy.denied().names_erofs()
    {
        return Ok(Outcome::Off);
    }
    if decision.mode == Mode::Enforce {
        // Before the mount: what a checkpoint brought into the writable layer is no image's, and says less.
        no_checkpoint(runtime, &decision, &config.root)?;
    }
    let call = ContainerCreation { config, found, filled, policy, runtime };
    match runtime {
        Some(_) => other_namespace::at_home(&found.target, || replace(&call, about)),
        None => replace(&call, about),
    }
}

/// Returns what the policy makes of the root as it was found, and then of what else the container was given.
fn judge(root: Result<()>, call: &ContainerCreation<'_>, decision: &Decision) -> Result<Outcome> {
    let ContainerCreation { config, found, filled, policy, runtime } = call;
    let outcome = besides(root, decision, || {
        no_checkpoint(*runtime, decision, &config.root)?;
        let root = layer_of(&found.target).map(|(root, _)| root);
        check_database(root.as_deref().into_iter().chain(config.run_root.as_deref()))?;
        filled.check(&config.mounts)?;
        filled.check_refused(&found.stored)?;
        filled.check_documents(&found.stored)?;
        let maps = (&config.uids, &config.gids);
        let of = CopiedFor { user: config.user, directory: &config.directory, maps, is_shown_mapped: true };
        copied_users::check(&config.mounts, &of, &found.target, || filled.ran())?;
        anonymous_volumes::check(&config.mounts, &found.target, &filled.before_start(config), || filled.ran())?;
        images::check(config, &found.target, decision, policy)
    })?;
    covered(outcome, config, &found.target, *runtime, decision)
}

/// Returns what the policy makes of a root and of what else was given; a rule of its own may let pass the latter.
fn besides(root: Result<()>, decision: &Decision, given: impl FnOnce() -> Result<Option<Refusal>>) -> Result<Outcome> {
    let mut by_rule = None;
    let checked = root.and_then(|()| given()).map(|refusal| by_rule = refusal);
    Ok(match (Outcome::of(checked, decision)?, by_rule) {
        (Outcome::Allowed, Some(refusal)) => Outcome::Audit(refusal),
        (outcome, _) => outcome,
    })
}

/// What is decided about.
#[derive(Clone, Copy)]
struct ContainerCreation<'a> {
    config: &'a ContainerConfig,
    found: &'a MountedContainer,
    filled: &'a Filled,
    policy: &'a Policy,
    /// What an OCI runtime is called for.
    runtime: Option<&'a Start>,
}

/// Puts the verified mount in the place of the native one, unless it is there already.
fn replace(call: &ContainerCreation<'_>, about: &mut JournalSubject) -> Result<Outcome> {
    let ContainerCreation { config, found, filled, policy, .. } = *call;
    let target = &found.target;
    files::check_proc()?;
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::O06Swap, target.display().to_string(), why);
    let all = mountinfo::own()?;
    let canonical = std::fs::canonicalize(target).map_err(|e| refuse(&e))?;
    let shown = canonical.display().to_string();
    let Some(top) = mountinfo::topmost(&all, &canonical) else { return Err(refuse(&"nothing is mounted there")) };
    if let Some(record) = users::record_of_root(top, target, &found.stored, None)? {
        about.record(&record);
        let decision = policy.decide(&names(Some(&record), Some(&found.stored), false));
        let its_own = || match layer_of(&record.target) {
            Some((_, layer)) if layer.as_str() == found.stored.layer => Ok(()),
            _ => Err(Refusal::new(Case::O03OtherMount, &shown, format!("made for {}", record.target.display()))),
        };
        not_denied(Some(&record), None, policy)?;
        let checked = root::is_recorded(top, &record)
            .and_then(|()| its_own())
            .and_then(|()| root::is_image_of(&record, &found.stored))
            .and_then(|()| root::satisfies(&record, &decision, &root::required(policy, &record, Some(&found.stored))));
        return settle_start(judge(checked, call, &decision), &record, filled);
    }
    let identity = mounts::open_target(&canonical).and_then(mounts::identify).map_err(|e| refuse(&e))?;
    if identity.mountinfo != top.id || !identity.is_root {
        return Err(Refusal::new(Case::O03OtherMount, &shown, "it was mounted again meanwhile"));
    }
    if top.is_fuse_overlayfs() {
        let decision = policy.decide(&names(None, Some(&found.stored), false));
        if decision.mode == Mode::Off && !policy.denied().names_erofs() {
            return Ok(Outcome::Off);
        }
        return Outcome::of(Err(Refusal::new(Case::O14FuseOverlay, &shown, "")), &decision);
    }
    let of_user = users::is_in_namespace();
    let native = if of_user { Native::of_user } else { Native::of };
    let native = native(top, target, config.uids.clone(), config.gids.clone())?;
    let since = match policy.decide(&names(None, Some(&found.stored), false)).verity {
        Verity::Require => filled.read_since(canonical),
        Verity::Off => ReadSince::ANY,
    };
    let before = Snapshot::of(target, &config.mounts, &config.tmpfs, &since)?;
    let by = match call.runtime {
        Some(start) if is_restore(start) => Writer::Checkpoint,
        Some(_) if config.manager == CRI_O => Writer::CriO,
        _ => Writer::Podman,
    };
    let directory = config.directory.clone();
    let written = PodmanWrites { user: config.user, directory, since: filled.since()?, by };
    let swapped = if of_user {
        let decision = policy.decide(&names(None, Some(&found.stored), false));
        start::swap_of_user(&decision, &native, identity, &found.stored, &written)?
    } else {
        start::swap(policy, &native, identity, &(&found.stored).into(), &written)?
    };
    let record = match swapped {
        Swap::Done(record) => record,
        Swap::Stays(None) => return Ok(Outcome::Off),
        Swap::Stays(Some(refusal)) => return Ok(Outcome::AuditBefore((&refusal).into())),
    };
    about.record(&record);
    if matches!(record.kind, MountKind::Off | MountKind::Volume) {
        return Ok(Outcome::Off);
    }
    let decision = policy.decide(&names(Some(&record), Some(&found.stored), false));
    let same =
        Snapshot::of(target, &config.mounts, &config.tmpfs, &ReadSince::ANY).and_then(|after| before.same_as(&after));
    let judged = settle_start(judge(same, call, &decision), &record, filled);
    if judged.is_err() {
        // The container is refused: nothing of it stays.
        mount::unmount(target)?;
    }
    judged
}

/// Returns the outcome of a start on the mount of `record`, and remembers it: nobody has verified anything that audit
/// let pass, neither when it was mounted nor now.
fn settle_start(judged: Result<Outcome>, record: &Record, filled: &Filled) -> Result<Outcome> {
    match judged {
        Ok(Outcome::Allowed) if record.kind == MountKind::Sealed => {
            filled.started();
            Ok(Outcome::Allowed)
        }
        Ok(Outcome::Allowed) if record.kind == MountKind::Audit => {
            let unknown = || WouldRefuse::from(&Refusal::new(Case::C07NoSeal, "", ""));
            Ok(Outcome::AuditBefore(record.would_refuse.clone().unwrap_or_else(unknown)))
        }
        judged => judged,
    }
}

/// Checks what will be mounted over system paths of a verified root, as far as the configuration tells. `createRuntime` sees
/// all of it and refuses it too, but crun shows only the exit code of that, and its `restore` calls no hook.
fn covered(
    outcome: Outcome,
    config: &ContainerConfig,
    root: &Path,
    runtime: Option<&Start>,
    decision: &Decision,
) -> Result<Outcome> {
    let Some(start) = runtime.filter(|_| matches!(outcome, Outcome::Allowed)) else { return Ok(outcome) };
    match cover::check_wanted(&config.mounts, root, &decision.cover) {
        Err(refusal) if decision.mode == Mode::Enforce || is_restore(start) => Outcome::of(Err(refusal), decision),
        // What audit lets pass is told once, by the hook.
        _ => Ok(outcome),
    }
}

fn is_restore(start: &Start) -> bool {
    start.verb == Verb::Restore
}

fn no_checkpoint(runtime: Option<&Start>, decision: &Decision, root: &Path) -> Result<()> {
    match runtime.is_some_and(is_restore) && decision.checkpoint == Checkpoint::Refuse {
        true => Err(Refusal::new(Case::O12Checkpoint, root.display().to_string(), "")),
        false => Ok(()),
    }
}

/// Finds the record of what is mounted on the root of a bundle that is in no store.
fn record_of(root: &Path) -> Result<Option<(MountInfo, Record)>> {
    let all = mountinfo::own()?;
    let canonical =
        std::fs::canonicalize(root).map_err(|e| Refusal::new(Case::O05Call, root.display().to_string(), e))?;
    let Some(top) = mountinfo::topmost(&all, &canonical) else { return Ok(None) };
    Ok(mount::of_mount(top)?.map(|record| (top.clone(), record)))
}

/// Decides about a root that layerseal mounted, by hand or as the mount program of a build.
fn by_record(
    config: &ContainerConfig,
    top: &MountInfo,
    record: &Record,
    start: &Start,
    policy: &Policy,
    about: &mut JournalSubject,
) -> Result<Outcome> {
    about.record(record);
    not_denied(Some(record), None, policy)?;
    let decision = policy.decide(&names(Some(record), None, false));
    let its_own = || match &record.container {
        // buildah binds it into the bundle, which has a different name.
        Some(container) if container.as_str() != start.id && !config.root.ends_with("mnt/rootfs") => Err(Refusal::new(
            Case::O03OtherMount,
            top.target.display().to_string(),
            "it was made for another container",
        )),
        _ => Ok(()),
    };
    let checked = root::is_recorded(top, record)
        .and_then(|()| its_own())
        .and_then(|()| root::satisfies(record, &decision, &[]))
        .and_then(|()| no_checkpoint(Some(start), &decision, &config.root));
    let outcome = besides(checked, &decision, || images::check(config, &config.root, &decision, policy))?;
    covered(outcome, config, &config.root, Some(start), &decision)
}
