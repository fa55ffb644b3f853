//! Images that are mounted in a container besides its root: `--mount type=image`, volumes of the driver `image`, and
//! parts of them. podman mounts those by its own overlay, which nobody verified, unless layerseal is its mount program.

use std::path::PathBuf;

use rustix::fs::{CWD, Mode as Bits, OFlags, openat};

use super::create_runtime::not_denied;
use super::root;
use crate::identify::{layer_of, names_of_layer};
use crate::invoke::Mount;
use crate::mount;
use crate::policy::{Decision, Mode, Policy, UNKNOWN};
use crate::report::{Case, Refusal, Result};
use crate::sys::mounts::{self, MountInfo};

/// Looks at what each of `mounts` shows: a layer of a container store, other than the container's `own`, must be
/// verified as its root is, unless `decision` says that its place may be covered, or the mounted image's own rule
/// asks for nothing. What `audit` lets pass is given back.
///
/// # Errors
/// [`Case::O11ImageMount`], and those of reading the records of mounts and stores.
pub(super) fn check(mounts: &[Mount], own: &str, decision: &Decision, policy: &Policy) -> Result<Option<Refusal>> {
    let mut audit = None;
    let all = mounts::mountinfo().map_err(|e| Refusal::io("/proc/self/mountinfo", e))?;
    for mount in mounts {
        let place = mount.destination.to_str();
        if place.is_some_and(|place| decision.cover.iter().any(|cover| cover.holds(place))) {
            continue;
        }
        for source in &mount.sources {
            let Some((found, store, layer)) = layer_at(source, &all) else { continue };
            if layer == own {
                continue;
            }
            let refuse = |why: &dyn std::fmt::Display| {
                Refusal::new(Case::O11ImageMount, mount.destination.display().to_string(), why)
            };
            let record = mount::of_device(found.device)?;
            let mut names = names_of_layer(&store, &layer).unwrap_or_default();
            if names.is_empty() {
                // Whoever can take an image's name away gets no rule for builds by that.
                names.push(UNKNOWN.to_owned());
            }
            names.extend(record.iter().flat_map(|record| record.names.iter().cloned()));
            let asked = policy.decide(&names);
            let checked = match &record {
                None => Err(refuse(&format!("{}: it is {} {}", names.join(", "), found.kind, found.source))),
                Some(record) => root::is_recorded(found, record)
                    .and_then(|()| not_denied(Some(record), None, policy))
                    .and_then(|()| root::satisfies(record, &asked, None))
                    .map_err(|r| if r.case() == Case::F06Denied { r } else { refuse(&r) }),
            };
            match (checked, asked.mode) {
                (Err(refusal), _) if refusal.case() == Case::F06Denied => return Err(refusal),
                (Ok(()), _) | (_, Mode::Off) => {}
                (Err(refusal), Mode::Audit) => audit = audit.or(Some(refusal)),
                (Err(refusal), Mode::Enforce) => return Err(refusal),
            }
        }
    }
    Ok(audit)
}

/// The layer of a store that `source` is part of, by whatever path: it is on the same filesystem as the layer's mount.
fn layer_at<'a>(source: &PathBuf, all: &'a [MountInfo]) -> Option<(&'a MountInfo, PathBuf, String)> {
    let file = openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Bits::empty()).ok()?;
    let device = mounts::identify(file).ok()?.mountinfo;
    let device = all.iter().find(|m| m.id == device)?.device;
    all.iter().filter(|m| m.device == device).find_map(|m| {
        let (root, layer) = layer_of(m.target.as_ref())?;
        Some((m, root, layer))
    })
}
