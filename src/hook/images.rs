//! Images that are mounted in a container in addition to its root: `--mount type=image`, volumes of the driver `image`,
//! and parts of them. podman mounts those by its own overlay, which nobody verified, unless layerseal is its mount
//! program.

use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode as Bits, OFlags, fstat, openat};

use super::create_runtime::not_denied;
use super::lookup::layers_of;
use super::{root, users};
use crate::container_store::{check_layer_ids, find_untrue_note, run_root};
use crate::error::{Case, Refusal, Result};
use crate::mount::Record;
use crate::oci::is_id;
use crate::oci::name::{ImageName, UNKNOWN};
use crate::policy::{Decision, Mode, Policy};
use crate::protocol::{BindMount, Bundle, ContainerConfig, Native};
use crate::start;
use crate::sys::mountinfo::{self, MountInfo};
use crate::sys::{filesystems, mounts, same_paths};

/// Checks what each of `mounts` shows: a layer of a container store, other than what is mounted on the container's own
/// `root`, must be verified like the root, unless `decision` allows its place to be covered, or the mounted image's own
/// rule asks for nothing. What is denied is denied whatever they say. Returns what `audit` lets pass.
///
/// # Errors
/// [`Case::O11ImageMount`], [`Case::F06Denied`], and errors of reading the records of mounts and stores.
pub(super) fn check(
    config: &ContainerConfig,
    root: &Path,
    decision: &Decision,
    policy: &Policy,
) -> Result<Option<Refusal>> {
    let mut audit = None;
    let mounts = &config.mounts;
    if mounts.iter().all(|mount| mount.sources.is_empty()) {
        return Ok(audit);
    }
    let doubtful = match doubtful_run_root(config)? {
        None => doubtful_store(config)?,
        why => why,
    };
    let all = mountinfo::own()?;
    let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let root = mountinfo::topmost(&all, &root).map(|top| top.device);
    for mount in mounts {
        let covered = decision.cover.iter().any(|cover| cover.holds(&mount.destination));
        let shown = mount.sources.iter().flat_map(|source| {
            let beneath = if mount.recursive { shown_beneath(source, &all) } else { Vec::new() };
            shown(source, &all, MAX_DEPTH).into_iter().chain(beneath)
        });
        let judged = shown.filter(|shown| Some(shown.mount.device) != root).map(|shown| judge(&shown, mount, policy));
        let unknown = doubtful.as_ref().filter(|_| is_overlay(mount)).map(|why| judge_unknown(why, mount, policy));
        let artifact = not_an_artifacts_file(mount).map(|refusal| Ok((Err(refusal), decision.mode)));
        for judged in judged.chain(unknown).chain(artifact) {
            match judged {
                // If nobody can tell what it is, it may be something that is denied.
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

/// Checks that what is shown was verified, and returns what the policy makes of it otherwise.
///
/// # Errors
/// [`Case::F06Denied`], and errors of finding out what it is.
fn judge(shown: &ShownLayer<'_>, mount: &BindMount, policy: &Policy) -> Result<(Result<()>, Mode)> {
    let refuse = |why: String| Refusal::new(Case::O11ImageMount, mount.destination.display().to_string(), why);
    if let Some(judged) = judge_recorded(shown.mount, mount, policy)? {
        return Ok(judged);
    }
    // A user's podman mounts as users can, and nobody else's is looked at there.
    let read = if users::is_in_namespace() { Native::any } else { Native::read };
    let or_denied = |r: Refusal| if r.case() == Case::F06Denied { r } else { refuse(r.to_string()) };
    let asked = match &shown.layer {
        Some(target) => {
            let native = read(shown.mount, target).map_err(or_denied)?;
            let asked = start::asked_of_mounted(policy, &native).map_err(or_denied)?;
            if users::is_in_namespace() && asked.mode != Mode::Off {
                match replaced(shown.mount, &native).and_then(|top| judge_recorded(&top, mount, policy)) {
                    Ok(Some(judged)) => return Ok(judged),
                    Ok(None) => {}
                    Err(refusal) if refusal.case() == Case::F06Denied => return Err(refusal),
                    Err(refusal) => return Ok((Err(refuse(refusal.to_string())), asked.mode)),
                }
            }
            asked
        }
        // Nobody can say what it is, so it may be something that is denied.
        None if !policy.denied().is_empty() => {
            let why = format!("{} shows a layer of no image, and something is denied", mount.destination.display());
            return Err(Refusal::new(Case::F06Denied, shown.mount.target.display().to_string(), why));
        }
        None => policy.decide(&[UNKNOWN.to_owned()]),
    };
    let names = if asked.names.is_empty() { UNKNOWN.to_owned() } else { ImageName::list(&asked.names) };
    let why = format!("{names}: it is {}", shown.mount.describe());
    Ok((Err(refuse(why)), asked.mode))
}

/// Returns what the policy makes of a mount that is on record; `None` for any other.
///
/// # Errors
/// [`Case::F06Denied`], and errors of reading the records of mounts.
fn judge_recorded(shown: &MountInfo, mount: &BindMount, policy: &Policy) -> Result<Option<(Result<()>, Mode)>> {
    let Some(record) = users::record(shown)? else { return Ok(None) };
    let refuse = |r: Refusal| Refusal::new(Case::O11ImageMount, mount.destination.display().to_string(), r);
    not_denied(Some(&record), None, policy)?;
    let asked = asked_of(&record, policy);
    let checked = root::is_recorded(shown, &record).and_then(|()| root::satisfies(&record, &asked, &[]));
    Ok(Some((checked.map_err(refuse), asked.mode)))
}

/// Has the service mount the image that podman of a user has mounted in its store, in place of that mount, and returns
/// what is there then.
///
/// # Errors
/// Why the service mounts nothing; [`Case::O03OtherMount`] if something else is there.
fn replaced(mount: &MountInfo, native: &Native) -> Result<MountInfo> {
    let target = &native.call.target;
    let other = |why: &dyn std::fmt::Display| Refusal::new(Case::O03OtherMount, target.display().to_string(), why);
    let identity = mounts::open_target(target).and_then(mounts::identify).map_err(|e| other(&e))?;
    if identity.mountinfo != mount.id || !identity.is_root {
        return Err(other(&"something else lies there"));
    }
    start::swap_image_of_user(native, identity)?;
    let canonical = std::fs::canonicalize(target).map_err(|e| other(&e))?;
    let all = mountinfo::own()?;
    mountinfo::topmost(&all, &canonical).cloned().ok_or_else(|| other(&"nothing is mounted there"))
}

/// Returns why nobody can say which directory podman takes for a mounted image: in its run root it notes where the layers
/// of images are mounted, and takes any mount point that is named there. In memory it is what podman has written since the
/// boot. But podman's database can name another run root, on the disk, and the configured one can be there.
fn doubtful_run_root(config: &ContainerConfig) -> Result<Option<String>> {
    // A user's podman has a run root of its own, and that user chooses it.
    if users::is_in_namespace() || !config.mounts.iter().any(is_overlay) {
        return Ok(None);
    }
    let Some(used) = &config.run_root else {
        // Something else is in the place of the file that would tell.
        let unknown = || "which run root podman uses is unknown, and so is what it takes for an image".to_owned();
        return Ok(config.container.as_ref().map(|_| unknown()));
    };
    let configured = run_root()?;
    let here = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let shown = used.display();
    let why = match here(used) == here(&configured) {
        true if outlasts_boot(used)? => find_untrue_note(used, &mountinfo::own()?)
            .map(|note| format!("podman's run root {shown} is on a disk, and {note}")),
        true => None,
        false => Some(format!("podman uses the run root {shown}, and {} is configured", configured.display())),
    };
    Ok(why.map(|why| format!("{why}: what it takes for an image is unknown")))
}

/// Returns why nobody can say which layers are shown by podman's overlays: IDs of layers in the stores that podman uses
/// lead elsewhere. It has its overlays in the container's directory.
fn doubtful_store(config: &ContainerConfig) -> Result<Option<String>> {
    let mut sources =
        config.mounts.iter().filter(|mount| is_overlay(mount)).flat_map(|mount| &mount.sources).peekable();
    if sources.peek().is_none() {
        return Ok(None);
    }
    let bundles = sources.filter_map(|source| source.ancestors().find_map(Bundle::of));
    let stores = bundles.map(|bundle| layers_of(&bundle)).collect::<Result<Vec<_>>>()?;
    Ok(check_layer_ids(stores).err().map(|refusal| refusal.to_string()))
}

/// Returns whether a run root outlasts the boot.
fn outlasts_boot(run_root: &Path) -> Result<bool> {
    let in_memory = same_paths::open_dir(run_root).and_then(filesystems::is_in_memory);
    in_memory.map(|in_memory| !in_memory).map_err(|e| Refusal::io(run_root.display().to_string(), e))
}

/// Returns whether podman made an overlay for a mount, as it does for every mounted image (buildah, pkg/overlay): then
/// there are lower directories, unless a mount program mounted it.
fn is_overlay(mount: &BindMount) -> bool {
    let by_podman = |source: &PathBuf| {
        let dir = source.parent().and_then(Path::parent);
        source.ends_with("merge") && dir.is_some_and(|dir| dir.ends_with("userdata/overlay"))
    };
    mount.sources.len() > 1 || mount.sources.iter().any(by_podman)
}

/// Refuses what lies in the place of an artifact's blob and is no file: a directory, or a link. podman mounts it under the
/// name that the artifact gives it, and for the name `..` that is the directory above the one that podman was told.
fn not_an_artifacts_file(mount: &BindMount) -> Option<Refusal> {
    let place = mount.sources.first().filter(|source| is_blob(source))?;
    let file = openat(CWD, place, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Bits::empty());
    let is_file = file.and_then(fstat).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
    let why = || format!("in the place of an artifact's file, {}, lies something else", place.display());
    (!is_file).then(|| Refusal::new(Case::O11ImageMount, mount.destination.display().to_string(), why()))
}

/// Returns whether this is where podman has a blob of an artifact: `ROOT/artifacts/blobs/ALGORITHM/HEX`.
fn is_blob(path: &Path) -> bool {
    let mut parts = path.components().rev().map(|part| part.as_os_str().as_encoded_bytes());
    let is_hex = parts.next().is_some_and(|name| name.len() >= 64 && name.iter().all(u8::is_ascii_hexdigit));
    is_hex && parts.nth(1) == Some(b"blobs") && parts.next() == Some(b"artifacts")
}

/// Returns what the policy makes of a mount of which nobody can say what it is.
fn judge_unknown(why: &str, mount: &BindMount, policy: &Policy) -> Result<(Result<()>, Mode)> {
    let refusal = Refusal::new(Case::O11ImageMount, mount.destination.display().to_string(), why);
    match policy.for_unknown() {
        Some(decision) => Ok((Err(refusal), decision.mode)),
        None if policy.denied().is_empty() => Ok((Err(refusal), Mode::Enforce)),
        None => Err(refusal),
    }
}

/// Returns what the policy asks of an image, by the names that it had when it was mounted.
fn asked_of(record: &Record, policy: &Policy) -> Decision {
    // Removing an image's name must not get anybody the rule for builds.
    let unknown = [UNKNOWN.to_owned()];
    policy.decide(if record.names.is_empty() { &unknown } else { &record.names })
}

/// A layer of a container store that is shown somewhere, whole or in part.
struct ShownLayer<'a> {
    /// The mount that it is on.
    mount: &'a MountInfo,
    /// The place of that mount in a store, `ROOT/overlay/ID/merged`; `None` if it is elsewhere.
    layer: Option<PathBuf>,
}

/// How many overlays upon overlays are looked through: the kernel makes no more (fs/overlayfs,
/// `FILESYSTEM_MAX_STACK_DEPTH`).
const MAX_DEPTH: usize = 3;

/// Finds the layers that `source` shows. A layer is recognized by the path that is named, because that is podman's own
/// and no link in a store can change it; by where the filesystem that the path leads to is mounted, because it may be
/// named by any other path; and, for an overlay elsewhere (an overlay volume of podman), by what the overlay is made
/// of.
fn shown<'a>(source: &Path, all: &'a [MountInfo], depth: usize) -> Vec<ShownLayer<'a>> {
    let mount = || {
        let file = openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Bits::empty()).ok()?;
        let id = mounts::identify(file).ok()?.mountinfo;
        all.iter().find(|m| m.id == id)
    };
    mount().map_or_else(Vec::new, |found| shown_by(found, source, all, depth))
}

/// Finds the layers that `found` shows at `source`, which is on that mount.
fn shown_by<'a>(found: &'a MountInfo, source: &Path, all: &'a [MountInfo], depth: usize) -> Vec<ShownLayer<'a>> {
    let same = all.iter().filter(|m| m.device == found.device);
    let (place, mount) = same.filter_map(|m| Some((in_store(&m.target)?, m))).next().unzip();
    if let Some(layer) = in_store(source).or(place) {
        return vec![ShownLayer { mount: mount.unwrap_or(found), layer: Some(layer) }];
    }
    let lowers = Native::any(found, source).map(|native| native.call.lowers).unwrap_or_default();
    let through = |lower: &PathBuf| match in_store(lower) {
        Some(_) if depth > 0 => shown(lower, all, depth - 1),
        _ if of_store(lower) => vec![ShownLayer { mount: found, layer: None }],
        _ => Vec::new(),
    };
    lowers.iter().flat_map(through).collect()
}

/// Finds the layers that somebody has mounted beneath `source`. In the places where engines themselves mount layers they
/// are left out: whoever is given a store, or the whole host, sees what is on the disk there.
fn shown_beneath<'a>(source: &Path, all: &'a [MountInfo]) -> Vec<ShownLayer<'a>> {
    let Ok(source) = std::fs::canonicalize(source) else { return Vec::new() };
    // Bytes first: there may be thousands of mounts, and taking all their paths apart for each source takes milliseconds.
    let begins = source.as_os_str().as_encoded_bytes();
    let may_be = |m: &&MountInfo| m.target.as_os_str().as_encoded_bytes().starts_with(begins);
    let is = |m: &&MountInfo| m.target != source && m.target.starts_with(&source) && !is_engines(&m.target);
    let beneath = |m: &&MountInfo| may_be(m) && is(m);
    all.iter().filter(beneath).flat_map(|mount| shown_by(mount, &mount.target, all, MAX_DEPTH)).collect()
}

/// Returns whether an engine mounts layers here: in its store, in a container's directory, or for a build.
fn is_engines(target: &Path) -> bool {
    let is_id = |path: &Path| path.file_name().is_some_and(|name| is_id(name.as_encoded_bytes()));
    let is_root = |path: &Path| path.ends_with("merged") && path.parent().is_some_and(is_id);
    target.ends_with("mnt/rootfs") || target.ancestors().any(|path| is_root(path) || Bundle::of(path).is_some())
}

/// Returns the part `ROOT/overlay/ID/merged` of a path, whatever the ID looks like, if there is such a store.
fn in_store(path: &Path) -> Option<PathBuf> {
    let parts: Vec<Component<'_>> = path.components().collect();
    let at = parts.windows(3).rposition(|w| w[0].as_os_str() == "overlay" && w[2].as_os_str() == "merged")?;
    let home: PathBuf = parts[..=at].iter().collect();
    home.join("l").is_dir().then(|| parts[..at + 3].iter().collect())
}

/// Tells whether a lower directory is named as a store names one of its layers: `overlay/l/LINK`, `ID/diff` and the
/// like.
fn of_store(lower: &Path) -> bool {
    let parts: Vec<&std::ffi::OsStr> = lower.components().map(Component::as_os_str).collect();
    let is_layer = |name: &std::ffi::OsStr| name == "diff" || name == "merged" || name == "empty";
    match &parts[..] {
        [.., l, link] if *l == "l" => link.len() == 26,
        [.., id, name] if is_layer(name) => id.len() == 64 || parts.iter().any(|part| *part == "overlay"),
        // The number of a descriptor: only containers-storage mounts that way.
        [number] => number.as_encoded_bytes().iter().all(u8::is_ascii_digit),
        _ => false,
    }
}
