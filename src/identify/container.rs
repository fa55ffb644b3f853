//! Containers by their IDs: for hooks, which are told of a container and not of its layers.

use std::path::{Path, PathBuf};

use super::storage::{ContainerRecord, ImageRecord, Store, is_id, is_name};
use super::{Place, image, is_dir, places};
use crate::digest::BlobDigest;
use crate::oci::Facts;
use crate::oci::name::UNKNOWN;
use crate::report::{Case, Refusal, Result};

/// A container that a store has on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its ID.
    pub id: String,
    /// Its own layer.
    pub layer: String,
    /// The image that it is made from.
    pub made_from: MadeFrom,
    /// What that was asked for by; `None` where nobody says.
    pub asked: Option<Asked>,
    /// Where it runs.
    pub place: Place,
    /// The storage driver.
    driver: String,
}

impl Stored {
    /// All by which the image can be denied, as its documents lie in the store.
    ///
    /// # Errors
    /// `B01` to `B13` for documents that cannot be read: nobody can say then that nothing of it is denied.
    pub fn facts(&self) -> Result<Facts> {
        match &self.made_from {
            MadeFrom::Image { id, store, .. } => {
                let store = Store::open_without_layers(store, &self.driver)?;
                let gone = || Refusal::new(Case::B11Gone, format!("image {id}"), "its record is gone");
                image::facts(&store, store.image(id).ok_or_else(gone)?).map_err(|r| r.within(format!("image {id}")))
            }
            MadeFrom::Unknown { id } => {
                let mut facts = Facts::default();
                facts.blob("config", BlobDigest::from_hex(id)?);
                Ok(facts)
            }
            MadeFrom::Nothing => Ok(Facts::default()),
        }
    }
}

/// What an image was asked for by, when a container was made from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A name, after short ones were resolved.
    Name(String),
    /// Its ID, and it had no name or none was looked for.
    Id,
}

impl Asked {
    /// What a container's record says.
    pub(super) fn of(container: &ContainerRecord) -> Result<Option<Self>> {
        let Some(name) = container.asked()? else { return Ok(None) };
        let id = name.strip_prefix("sha256:").unwrap_or(&name);
        // What an image's ID begins with podman takes for it, and for no name.
        let is_id = id.len() >= 3 && id.bytes().all(|b| b.is_ascii_hexdigit()) && container.image.starts_with(id);
        Ok(Some(match name {
            _ if is_id => Self::Id,
            name if is_name(&name) => Self::Name(name),
            _ => Self::Name(UNKNOWN.to_owned()),
        }))
    }

    /// The name, where it is one.
    pub fn name(&self) -> Option<&String> {
        match self {
            Self::Name(name) => Some(name),
            Self::Id => None,
        }
    }
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
        /// The root of the store that has it.
        store: PathBuf,
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
/// `B01`, `B09`, `B13`.
pub fn stored_container(root: &Path, driver: &str, id: &str, others: &[PathBuf]) -> Result<Option<Stored>> {
    if !is_id(id.as_bytes()) || !is_dir(&root.join(format!("{driver}-containers")))? {
        return Ok(None);
    }
    let store = Store::open_without_layers(root, driver)?;
    store.container(id).map(|container| stored(&store, container, driver, others)).transpose()
}

/// The same by the container's own layer, in an overlay store.
///
/// # Errors
/// `B01`, `B09`, `B13`.
pub fn container_of_layer(root: &Path, layer: &str, others: &[PathBuf]) -> Result<Option<Stored>> {
    let store = Store::open_without_layers(root, "overlay")?;
    store.container_of(layer)?.map(|container| stored(&store, container, "overlay", others)).transpose()
}

fn stored(store: &Store, container: &ContainerRecord, driver: &str, others: &[PathBuf]) -> Result<Stored> {
    let id = container.image.clone();
    let of = |store: &Store, found: &ImageRecord| MadeFrom::Image {
        id: found.id.clone(),
        names: found.names.clone(),
        manifest: store.manifest(driver, found),
        store: store.path().to_owned(),
    };
    let mut made_from = match store.image(&id) {
        _ if id.is_empty() => MadeFrom::Nothing,
        Some(found) => of(store, found),
        None => MadeFrom::Unknown { id },
    };
    for other in others.iter().filter(|o| *o != store.path()) {
        let MadeFrom::Unknown { id } = &made_from else { break };
        if !is_dir(other)? {
            continue;
        }
        let other = Store::open_without_layers(other, driver)?;
        if let Some(found) = other.image(id) {
            made_from = of(&other, found);
        }
    }
    let (asked, place) = (Asked::of(container)?, Place::of(store, container)?);
    let (id, layer, driver) = (container.id.clone(), container.layer.clone(), driver.to_owned());
    Ok(Stored { id, layer, made_from, asked, place, driver })
}

/// The store and the layer of a path `ROOT/overlay/ID/merged`; `None` for any other.
pub fn layer_of(path: &Path) -> Option<(PathBuf, String)> {
    places::target(path).ok().flatten().map(|home| (home.root, home.id))
}
