//! The store in which podman looks for images before all others, where that is known.

use std::path::{Path, PathBuf};

use super::configured::configured;
use super::may_be_dir;
use super::storage::Store;

/// The image store of podman (`imagestore`), for a store that is not itself that one.
pub(super) enum ImageStore {
    /// The store is the graph root beside it: podman looks for images in the image store first.
    First(PathBuf),
    /// The store is another one, by podman's database or command line: which is first is not known here.
    Somewhere(PathBuf),
}

impl ImageStore {
    /// Finds the image store for `store`, if one is configured.
    pub fn of(store: &Store) -> Option<Self> {
        let found = configured().ok()?;
        let place = found.image_store.filter(|place| may_be_dir(place) && !store.is_at(place))?;
        Some(if store.is_at(&found.graph_root) { Self::First(place) } else { Self::Somewhere(place) })
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        match self {
            Self::First(path) | Self::Somewhere(path) => path,
        }
    }
}
