use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::storage::Store;
use crate::error::{Case, Refusal, Result};
use crate::sys::files;

/// The places in a container store that a call involves.
#[derive(Clone, Debug)]
pub struct Root {
    /// The graph root whose vault is used, open.
    pub dir: Arc<OwnedFd>,
    /// Its path, for messages.
    pub path: PathBuf,
    /// The store that the layers are in: the same, or an additional one.
    pub store: PathBuf,
    /// The directory above `overlay/ID/merged`: the same, or the run root.
    pub(super) targets: Arc<OwnedFd>,
}

impl Root {
    /// Takes one store for everything.
    pub(super) fn of(store: &Store) -> Self {
        Self { dir: store.root(), path: store.path().to_owned(), store: store.path().to_owned(), targets: store.root() }
    }

    /// Keeps the layers of this store, but uses the vault of another.
    pub(super) fn with_vault_of(self, vault: &Self) -> Self {
        Self { dir: Arc::clone(&vault.dir), path: vault.path.clone(), ..self }
    }

    /// Finds the places for a call for a layer of `store`, whose target is beneath `run`, if that is given.
    ///
    /// Layers of an additional store are shown in that store, or, since it may be read-only, beneath the
    /// run root (overlay.go, `getMergedDir`). The graph root is where containers-storage runs mount
    /// programs, which nothing else in the call tells; elsewhere a store's own vault counts.
    pub(super) fn of_call(store: &Store, run: Option<&Path>) -> Result<Self> {
        let refuse =
            |path: &Path, why: &dyn std::fmt::Display| Refusal::new(Case::A08Target, path.display().to_string(), why);
        let open = |path: &Path| files::open_dir(path).map(Arc::new).map_err(|e| refuse(path, &e));
        let mut root = Self::of(store);
        if let Some(graph) = graph_root() {
            root.dir = open(&graph)?;
            root.path = graph;
        }
        if let Some(run) = run {
            root.targets = open(run)?;
        }
        Ok(root)
    }
}

/// Returns the store whose `overlay` directory we run in.
pub(super) fn graph_root() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let root = here.parent().filter(|_| here.ends_with("overlay"))?;
    files::open_dir(root).and_then(|dir| files::open_dir_at(dir, "overlay-layers")).ok()?;
    Some(root.to_owned())
}
