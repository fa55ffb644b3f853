//! The store of a user in whose namespace this process runs as root.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::Configured;
use crate::sys::process::{self, User};

/// The graph root and run root of the user in whose namespace this process was started, if that is known.
static OF_NAMESPACE: OnceLock<[PathBuf; 2]> = OnceLock::new();

/// Has the store of the user count as the one that is configured: for hooks, which podman calls in that user's namespace,
/// and tells where a container is.
pub fn use_store_of_user(graph_root: PathBuf, run_root: PathBuf) {
    // Whoever comes second has the same user.
    let _ = OF_NAMESPACE.set([graph_root, run_root]);
}

/// Replaces the store in a user namespace with the user's, which `podman unshare` names (cmd/podman/unshare.go).
pub(super) fn of(found: Configured, variable: &dyn Fn(&str) -> Option<OsString>) -> Configured {
    let place = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let told = OF_NAMESPACE.get().map(|[graph_root, run_root]| (graph_root.clone(), run_root.clone())).unzip();
    let named = (place("CONTAINERS_GRAPHROOT"), place("CONTAINERS_RUNROOT"));
    match if told.0.is_some() { told } else { named } {
        (Some(graph_root), Some(run_root)) if process::user() == User::Rootless => {
            Configured { graph_root, run_root, image_store: None, additional: Vec::new(), ..found }
        }
        _ => found,
    }
}
