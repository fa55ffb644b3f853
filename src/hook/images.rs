//! Images that are mounted in a container besides its root: `--mount type=image`, volumes of the driver `image`, and
//! parts of them. podman mounts those by its own overlay, which nobody verified, unless layerseal is its mount program.

use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode as Bits, OFlags, openat};

use super::create_runtime::not_denied;
use super::root;
use crate::invoke::{Mount, Native};
use crate::mount::{self, Record};
use crate::oci::name::UNKNOWN;
use crate::policy::{Decision, Mode, Policy};
use crate::report::{Case, Refusal, Result};
use crate::start;
use crate::sys::mounts::{self, MountInfo};

/// Looks at what each of `mounts` shows: a layer of a container store, other than what is mounted on the container's own
/// `root`, must be verified as that is, unless `decision` says that its place may be covered, or the mounted image's own
/// rule asks for nothing. What is denied is denied whatever they say. What `audit` lets pass is given back.
///
/// # Errors
/// [`Case::O11ImageMount`], [`Case::F06Denied`], and those of reading the records of mounts and stores.
pub(super) fn check(mounts: &[Mount], root: &Path, decision: &Decision, policy: &Policy) -> Result<Option<Refusal>> {
    let mut audit = None;
    if mounts.iter().all(|mount| mount.sources.is_empty()) {
        return Ok(audit);
    }
    let all = mounts::mountinfo().map_err(|e| Refusal::io("/proc/self/mountinfo", e))?;
    let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let root = root.to_str().and_then(|root| mounts::topmost(&all, root)).map(|top| top.device);
    for mount in mounts {
        let place = mount.destination.to_str();
        let covered = place.is_some_and(|place| decision.cover.iter().any(|cover| cover.holds(place)));
        let shown = mount.sources.iter().flat_map(|source| shown(source, &all, MAX_DEPTH));
        for shown in shown.filter(|shown| Some(shown.mount.device) != root) {
            match judge(&shown, mount, policy) {
                // Of what it is nobody can tell it may be what is denied.
                Err(refusal) if !covered || !policy.denied().is_empty() => return Err(refusal),
                Ok((Ok(()), _) | (_, Mode::Off)) => {}
                _ if covered => {}
                Ok((Err(refusal), Mode::Audit)) => audit = audit.or(Some(refusal)),
                Err(refusal) | Ok((Err(refusal), Mode::Enforce)) => return Err(refusal),
            }
        }
    }
    Ok(audit)
}

/// Whether what is shown was verified, and what the policy makes of it if not.
///
/// # Errors
/// [`Case::F06Denied`], and where it cannot be found out what it is.
fn judge(shown: &Shown<'_>, mount: &Mount, policy: &Policy) -> Result<(Result<()>, Mode)> {
    let refuse = |why: String| Refusal::new(Case::O11ImageMount, mount.destination.display().to_string(), why);
    if let Some(record) = mount::of_device(shown.mount.device)? {
        not_denied(Some(&record), None, policy)?;
        let asked = asked_of(&record, policy);
        let checked = root::is_recorded(shown.mount, &record).and_then(|()| root::satisfies(&record, &asked, None));
        return Ok((checked.map_err(|r| refuse(r.to_string())), asked.mode));
    }
    let asked = match &shown.layer {
        Some(target) => Native::read(shown.mount, target)
            .and_then(|native| start::asked_of_mounted(policy, &native))
            .map_err(|r| if r.case() == Case::F06Denied { r } else { refuse(r.to_string()) })?,
        // Nobody can say what it is, and so not that it is not denied.
        None if !policy.denied().is_empty() => {
            let why = format!("{} shows a layer of no image, and something is denied", mount.destination.display());
            return Err(Refusal::new(Case::F06Denied, shown.mount.target.clone(), why));
        }
        None => policy.decide(&[UNKNOWN.to_owned()]),
    };
    let names = if asked.names.is_empty() { UNKNOWN.to_owned() } else { asked.names.join(", ") };
    let why = format!("{names}: it is {} {}", shown.mount.kind, shown.mount.source);
    Ok((Err(refuse(why)), asked.mode))
}

/// By the names that the image had when it was mounted.
fn asked_of(record: &Record, policy: &Policy) -> Decision {
    // Whoever can take an image's name away gets no rule for builds by that.
    let unknown = [UNKNOWN.to_owned()];
    policy.decide(if record.names.is_empty() { &unknown } else { &record.names })
}

/// A layer of a container store that is shown somewhere, whole or in part.
struct Shown<'a> {
    /// The mount that it is on.
    mount: &'a MountInfo,
    /// The place of that mount in a store, `ROOT/overlay/ID/merged`; `None` where it is at no such place.
    layer: Option<PathBuf>,
}

/// Overlays upon overlays that are looked through: the kernel makes no more (fs/overlayfs, `FILESYSTEM_MAX_STACK_DEPTH`).
const MAX_DEPTH: usize = 3;

/// What `source` shows: a layer is known by the path that is named, for that is podman's own and no link in a store can
/// change it; by where the filesystem that it leads to is mounted, for it may be named by any other path; and by what
/// an overlay is made of that is at no such place, an overlay volume of podman.
fn shown<'a>(source: &Path, all: &'a [MountInfo], depth: usize) -> Vec<Shown<'a>> {
    let mount = || {
        let file = openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Bits::empty()).ok()?;
        let id = mounts::identify(file).ok()?.mountinfo;
        all.iter().find(|m| m.id == id)
    };
    let Some(found) = mount() else { return Vec::new() };
    let same = all.iter().filter(|m| m.device == found.device);
    let (place, mount) = same.filter_map(|m| Some((in_store(Path::new(&m.target))?, m))).next().unzip();
    if let Some(layer) = in_store(source).or(place) {
        return vec![Shown { mount: mount.unwrap_or(found), layer: Some(layer) }];
    }
    let lowers = Native::read(found, source).map(|native| native.call.lowers).unwrap_or_default();
    let through = |lower: &PathBuf| match in_store(lower) {
        Some(_) if depth > 0 => shown(lower, all, depth - 1),
        _ if of_store(lower) => vec![Shown { mount: found, layer: None }],
        _ => Vec::new(),
    };
    lowers.iter().flat_map(through).collect()
}

/// The part `ROOT/overlay/ID/merged` of a path, whatever the ID looks like, where there is such a store.
fn in_store(path: &Path) -> Option<PathBuf> {
    let parts: Vec<Component<'_>> = path.components().collect();
    let at = parts.windows(3).rposition(|w| w[0].as_os_str() == "overlay" && w[2].as_os_str() == "merged")?;
    let home: PathBuf = parts[..=at].iter().collect();
    home.join("l").is_dir().then(|| parts[..at + 3].iter().collect())
}

/// Whether a lower directory is named as a store names one of its layers: `overlay/l/LINK`, `ID/diff` and the like.
fn of_store(lower: &Path) -> bool {
    let parts: Vec<&std::ffi::OsStr> = lower.components().map(Component::as_os_str).collect();
    let is_layer = |name: &std::ffi::OsStr| name == "diff" || name == "merged" || name == "empty";
    match &parts[..] {
        [.., l, link] if *l == "l" => link.len() == 26,
        [.., id, name] if is_layer(name) => id.len() == 64 || parts.iter().any(|part| *part == "overlay"),
        // A number of a descriptor: only containers-storage mounts so.
        [number] => number.as_encoded_bytes().iter().all(u8::is_ascii_digit),
        _ => false,
    }
}
