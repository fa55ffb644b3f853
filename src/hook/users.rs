//! Containers of users: the service mounts them, by root's policy, and keeps the records that the hooks compare with.
//! The hooks themselves run as the user, in the namespace of that user's podman: they protect a user from images and
//! files that are not what was sealed, and nobody from that user, who may call podman without hooks.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Outcome, Stage};
use crate::container_store::{StoredContainer, layer_of, use_store_of_user};
use crate::error::{Case, Refusal, Result};
use crate::mount::{self, Record};
use crate::policy::{Directories, Mode, Policy};
use crate::protocol::{self, Bundle, ContainerConfig};
use crate::sys::id_maps::IdMaps;
use crate::sys::mountinfo::{self, MountInfo};
use crate::sys::process::{self, User};
use crate::{start, state};

/// Returns whether the hook looks at a container of a user other than root, in the user namespace of that user's podman.
pub(super) fn is_in_namespace() -> bool {
    rustix::process::geteuid().is_root() && user() == User::Rootless
}

/// Returns whose process this is, which is asked for many times in a start, and never changes.
fn user() -> User {
    static USER: OnceLock<User> = OnceLock::new();
    *USER.get_or_init(process::user)
}

/// Loads the policy, for whose container this is: rules can ask for less of a user's than `[rootless]` does, and whom
/// they trust is for the service. It is read once: one start is decided by one policy.
///
/// # Errors
/// As for [`Policy::load`], and for [`start::refused::check_configuration`].
pub(super) fn policy() -> Result<Policy> {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    if let Some(read) = POLICY.get() {
        return Ok(read.clone());
    }
    let directories = Directories::system();
    let read = match is_in_namespace() {
        true => Policy::of_user(&directories, Policy::rootless(&directories)?),
        false => start::refused::check_configuration().and_then(|()| Policy::load(&directories)),
    }?;
    Ok(POLICY.get_or_init(|| read).clone())
}

/// Finds the record of a mount: a user's is the service's.
///
/// # Errors
/// As for [`mount::of_mount`] and [`start::record_of_user`].
pub(super) fn record(mount: &MountInfo) -> Result<Option<Record>> {
    match is_in_namespace() {
        true => start::record_of_user(mount),
        false => mount::of_mount(mount),
    }
}

/// Finds the record of the mount on the root of a container, which is `merged` in its store; `process` is its first
/// process, if there is one yet.
///
/// # Errors
/// As for [`mount::of_mount`] and [`start::record_of_root`].
pub(super) fn record_of_root(
    mount: &MountInfo,
    merged: &Path,
    stored: &StoredContainer,
    process: Option<u32>,
) -> Result<Option<Record>> {
    match is_in_namespace() {
        true => start::record_of_root(mount, merged, stored, process),
        false => mount::of_mount(mount),
    }
}

/// Decides about a container of a user other than root, as far as nothing need be known of it; `None` for root's
/// containers, and for those of users that are looked at in the same way. `input` is what the caller of a hook hands in,
/// or the configuration for a runtime, and `bundle` is where podman calls a hook.
pub(super) fn rootless(stage: Stage, bundle: &Path, input: impl Fn() -> Result<Vec<u8>>) -> Option<Result<Outcome>> {
    let refusal = || Refusal::new(Case::Rootless, "", "");
    let mode = match user() {
        User::Root => return None,
        User::Unknown => return Some(Err(refusal())),
        User::Rootless => Policy::rootless(&Directories::system()),
    };
    let mode = match mode {
        Ok(Mode::Off) => return Some(Ok(Outcome::NotCalled)),
        Ok(mode) => mode,
        Err(refusal) => return Some(Err(refusal)),
    };
    if is_in_namespace()
        && stage != Stage::Runtime
        && let Ok(input) = input()
        && let Ok(root) = root_of(stage, &input)
    {
        // With other IDs the root is mounted elsewhere later; and a runtime says where the bundle is.
        let bundle = protocol::root_of(&input).map_or_else(|_| Bundle::of(bundle), |(bundle, _)| Bundle::of(&bundle));
        settle_in_store(layer_of(&root).map(|(graph_root, _)| graph_root).or(bundle.map(|bundle| bundle.root)));
        return None;
    }
    Some(match (stage, mode) {
        // Nobody swaps its mount, but `precreate` may have.
        (Stage::Runtime, _) if input().and_then(|input| is_by_service(&root_of(stage, &input)?)).unwrap_or(false) => {
            Ok(Outcome::Allowed)
        }
        (_, Mode::Audit) => Ok(Outcome::Audit(refusal())),
        _ => Err(refusal()),
    })
}

/// Returns what becomes of a container of a user that cannot be identified, or is refused: no rule is for that.
pub(super) fn unknown(refusal: Refusal) -> Result<Outcome> {
    match Policy::rootless(&Directories::system())? {
        Mode::Off => Ok(Outcome::NotCalled),
        Mode::Audit => Ok(Outcome::Audit(refusal)),
        // It says itself that it is about rootless containers.
        Mode::Enforce if refusal.case() == Case::Rootless => Err(refusal),
        Mode::Enforce => Err(refusal.within("rootless")),
    }
}

/// Returns whether the service mounted the root of the container that a runtime is called for.
fn is_by_service(root: &Path) -> Result<bool> {
    let mounts = mountinfo::own()?;
    let Some(top) = mountinfo::topmost(&mounts, root) else { return Ok(false) };
    Ok(is_of_root(top) || start::record_of_user(top)?.is_some_and(|record| top.source == *record.source))
}

/// Returns the path of the root that a hook is called about.
fn root_of(stage: Stage, input: &[u8]) -> Result<PathBuf> {
    let config =
        |bytes: &[u8], bundle: &Path| protocol::config(bytes).map(|ContainerConfig { root, .. }| bundle.join(root));
    match stage {
        Stage::CreateRuntime | Stage::CreateContainer => {
            let (bundle, _) = protocol::root_of(input)?;
            let read = protocol::read_config(&bundle);
            config(&read.map_err(|e| Refusal::io(bundle.display().to_string(), e))?, &bundle)
        }
        // podman and CRI-O write an absolute path.
        Stage::Precreate | Stage::Runtime => config(input, Path::new("/")),
    }
}

/// Finds what the hooks have remembered of this user's containers, for that user to look at. False if they were not called
/// since the user logged in.
pub fn has_own_notes() -> bool {
    let user = rustix::process::geteuid().as_raw();
    let run = run_directory(&user.to_string());
    if user == 0 || !run.is_dir() {
        return false;
    }
    // What is kept is not looked at.
    state::keep_for_user(run, PathBuf::new());
    true
}

/// Returns where notes are that end with the session of a user.
fn run_directory(user: &str) -> PathBuf {
    Path::new("/run/user").join(user).join("layerseal")
}

/// Has this store count as podman's, and what the hooks remember of this user's containers be kept beside
/// the vault in it: of podman's writes and of volumes, which lie there too. Nothing that vouches for a mount is among it.
fn settle_in_store(graph_root: Option<PathBuf>) {
    let Some(graph_root) = graph_root else { return };
    // Root of the namespace is the user.
    let Some((uid, _)) = IdMaps::own().ok().and_then(|ids| ids.root()) else { return };
    let uid = uid.to_string();
    state::keep_for_user(run_directory(&uid), graph_root.join("layerseal-notes"));
    use_store_of_user(graph_root, Path::new("/run/user").join(uid).join("containers"));
}

/// Tells whether a mount is an overlay over a sealed image that no user can have made: in a user namespace overlayfs
/// refuses these options (fs/overlayfs/params.c, `ovl_fs_params_verify`).
fn is_of_root(mount: &MountInfo) -> bool {
    mount.is_overlay_of("composefs:") && mount.super_has("metacopy=on") && mount.super_has("redirect_dir=on")
}
