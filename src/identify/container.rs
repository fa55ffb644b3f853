//! Containers by their IDs: for hooks, which are told of a container and not of its layers.

use std::path::{Path, PathBuf};

use super::places;
use super::storage::{ContainerRecord, ImageRecord, Store, is_id};
use crate::digest::BlobDigest;
use crate::report::Result;

/// A container that a store has on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its ID.
    pub id: String,
    /// Its own layer.
    pub layer: String,
    /// The image that it is made from.
    pub made_from: MadeFrom,
}

/// What a container is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeFrom {
    /// An image; it may have no name.
    Image {
        /// Its ID.
        id: String,
        /// Its names.
        names: Vec<String>,
        /// The digest of its manifest as it is stored, for the record; `None` where it cannot be read.
        manifest: Option<BlobDigest>,
    },
    /// An image that is in none of the stores.
    Unknown {
        /// Its ID.
        id: String,
    },
    /// None: `podman run --rootfs`, and buildah's `FROM scratch`.
    Nothing,
}

/// Finds container `id` in the store at `root`, whatever its storage driver; its image may be in one of
/// `others` too. `None` where the store has no such container, or there is no store.
///
/// # Errors
/// `B01`, `B09`.
pub fn stored_container(root: &Path, driver: &str, id: &str, others: &[PathBuf]) -> Result<Option<Stored>> {
    if !is_id(id.as_bytes()) || !root.join(format!("{driver}-containers")).is_dir() {
        return Ok(None);
    }
    let store = Store::open_without_layers(root, driver)?;
    store.container(id).map(|container| stored(&store, container, driver, others)).transpose()
}

/// The same by the container's own layer, in an overlay store.
///
/// # Errors
/// `B01`, `B09`.
pub fn container_of_layer(root: &Path, layer: &str, others: &[PathBuf]) -> Result<Option<Stored>> {
    let store = Store::open_without_layers(root, "overlay")?;
    store.container_of(layer)?.map(|container| stored(&store, container, "overlay", others)).transpose()
}

fn stored(store: &Store, container: &ContainerRecord, driver: &str, others: &[PathBuf]) -> Result<Stored> {
    let id = container.image.clone();
    let image = |store: &Store, found: &ImageRecord| MadeFrom::Image {
        id: found.id.clone(),
        names: found.names.clone(),
        manifest: store.manifest(driver, found),
    };
    let mut made_from = match store.image(&id) {
        _ if id.is_empty() => MadeFrom::Nothing,
        Some(found) => image(store, found),
        None => MadeFrom::Unknown { id },
    };
    for other in others.iter().filter(|o| *o != store.path() && o.is_dir()) {
        let MadeFrom::Unknown { id } = &made_from else { break };
        let other = Store::open_without_layers(other, driver)?;
        if let Some(found) = other.image(id) {
            made_from = image(&other, found);
        }
    }
    Ok(Stored { id: container.id.clone(), layer: container.layer.clone(), made_from })
}

/// The store and the layer of a path `ROOT/overlay/ID/merged`; `None` for any other.
pub fn layer_of(path: &Path) -> Option<(PathBuf, String)> {
    places::target(path).ok().flatten().map(|home| (home.root, home.id))
}

/// All names of the images whose uppermost layer is `layer`, and of the image of the container whose own it is.
///
/// # Errors
/// `B01`, `B09`.
pub fn names_of_layer(root: &Path, layer: &str) -> Result<Vec<String>> {
    let store = Store::open_without_layers(root, "overlay")?;
    let mut names: Vec<String> =
        store.images().iter().filter(|image| image.has_top(layer)).flat_map(|image| image.names.clone()).collect();
    if let Some(container) = store.container_of(layer)? {
        names.extend(store.image(&container.image).into_iter().flat_map(|image| image.names.clone()));
    }
    Ok(names)
}
