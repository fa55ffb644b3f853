//! Containers by their IDs: for hooks, which are told about a container and not about its layers.

use std::path::{Path, PathBuf};

use super::image_store::ImageStore;
use super::own_files::check_unchanged;
use super::storage::{ContainerRecord, ImageRecord, Store, is_name};
use super::{PodNamespace, image, is_dir, layer_paths};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::name::UNKNOWN;
use crate::oci::{ContainerId, DenySubjects, ImageId, LayerId, is_id};

/// A container that a store has on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredContainer {
    /// Its ID.
    pub id: ContainerId,
    /// Its names.
    pub names: Vec<String>,
    /// Its own layer.
    pub layer: String,
    /// The image that it is made from.
    pub made_from: MadeFrom,
    /// How the image was asked for; `None` if nobody says.
    pub asked: Option<RequestedBy>,
    /// Where it runs.
    pub place: PodNamespace,
    /// The storage driver.
    driver: String,
}

impl StoredContainer {
    /// Returns the container as podman's or CRI-O's. Both call the runtime with the ID of the record, and record how the image
    /// was asked for: if that is not there, somebody took it away. buildah makes up other IDs, and records nothing.
    #[must_use]
    pub fn of_engine(mut self) -> Self {
        if self.made_from != MadeFrom::Nothing {
            self.asked.get_or_insert(RequestedBy::SomeName);
        }
        self
    }

    /// Checks that no document of the image was changed in its place since the container was made, `made` nanoseconds since
    /// 1970: podman took the command and the mounts from what they said then, and replaces them as a whole.
    ///
    /// # Errors
    /// [`Case::B09Replaced`], [`Case::Io`].
    pub fn check_documents(&self, made: i128) -> Result<()> {
        let MadeFrom::Image { id, store, .. } = &self.made_from else { return Ok(()) };
        check_unchanged(&store.join(format!("{}-images/{id}", self.driver)), made)
    }

    /// Collects everything that the image can be denied by, from its documents in the store.
    ///
    /// # Errors
    /// `B01` to `B13` for documents that cannot be read: then nobody can say that nothing in it is denied.
    pub fn facts(&self) -> Result<DenySubjects> {
        match &self.made_from {
            MadeFrom::Image { id, store, .. } => {
                let store = Store::open_without_layers(store, &self.driver)?;
                let gone = || Refusal::new(Case::B11Gone, format!("image {id}"), "its record is gone");
                image::facts(&store, store.image(id.as_str()).ok_or_else(gone)?)
                    .map_err(|r| r.within(format!("image {id}")))
            }
            MadeFrom::Unknown { id } => {
                let mut facts = DenySubjects::default();
                facts.blob("config", BlobDigest::from_hex(id.as_str())?);
                Ok(facts)
            }
            MadeFrom::Nothing => Ok(DenySubjects::default()),
        }
    }
}

/// How an image was asked for when a container was made from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedBy {
    /// By a name, after short ones were resolved.
    Name(String),
    /// By its ID; the image had no name, or nobody looked for one.
    Id,
    /// By the ID of an image for a pod. The kubelet looks for the name that the pod gives, asks CRI-O for the ID that it
    /// has found, and leaves the name in no record: it may be any of the image's. So it is if the record has lost it.
    SomeName,
}

impl RequestedBy {
    /// Reads how the image was asked for from a container's record.
    pub(super) fn of(container: &ContainerRecord) -> Result<Option<Self>> {
        let Some(name) = container.asked()? else { return Ok(None) };
        let id = name.strip_prefix("sha256:").unwrap_or(&name);
        // podman takes the beginning of an image's ID for the ID, and never for a name.
        let is_id = id.len() >= 3 && id.bytes().all(|b| b.is_ascii_hexdigit()) && container.image.starts_with(id);
        Ok(Some(match name {
            _ if is_id && container.metadata()?.is_of_pod() => Self::SomeName,
            _ if is_id => Self::Id,
            name if is_name(&name) => Self::Name(name),
            _ => Self::Name(UNKNOWN.to_owned()),
        }))
    }

    /// Returns the name, if it was asked for by one that is known.
    pub fn name(&self) -> Option<&String> {
        match self {
            Self::Name(name) => Some(name),
            Self::Id | Self::SomeName => None,
        }
    }
}

/// Returns the names that the policy decides by: an image without any that podman made a container from goes by
/// `<unknown>`. Nobody can be sure that it never had a name, and removing one must not get anybody the rule for builds;
/// buildah, whose containers say nothing of how their image was asked for, needs that rule.
pub fn or_unknown(names: Vec<String>, asked: Option<&RequestedBy>) -> Vec<String> {
    if names.is_empty() && asked.is_some() { vec![UNKNOWN.to_owned()] } else { names }
}

/// What a container is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeFrom {
    /// An image; it may have no name.
    Image {
        /// Its ID.
        id: ImageId,
        /// Its names.
        names: Vec<String>,
        /// The digest of its manifest as it is stored, for the record; `None` if it cannot be read.
        manifest: Option<BlobDigest>,
        /// The root of the store that has it.
        store: PathBuf,
    },
    /// An image that is in none of the stores.
    Unknown {
        /// Its ID.
        id: ImageId,
    },
    /// No image: `podman run --rootfs`, and buildah's `FROM scratch`.
    Nothing,
}

/// Finds container `id` of an engine in the store at `root`, whatever its storage driver; its image may also be in one of
/// `others`. If its record does not say how the image was asked for, that was taken from it.
/// `None` if the store has no such container, or there is no store.
///
/// # Errors
/// `B01`, `B09`, `B13`.
pub fn stored_container(root: &Path, driver: &str, id: &str, others: &[PathBuf]) -> Result<Option<StoredContainer>> {
    if !is_id(id.as_bytes()) || !is_dir(&root.join(format!("{driver}-containers")))? {
        return Ok(None);
    }
    let store = Store::open_without_layers(root, driver)?;
    let found = store.container(id).map(|container| stored(&store, container, driver, others)).transpose()?;
    Ok(found.map(StoredContainer::of_engine))
}

/// Finds a container by its own layer, in an overlay store.
///
/// # Errors
/// `B01`, `B09`, `B13`.
pub fn container_of_layer(root: &Path, layer: &LayerId, others: &[PathBuf]) -> Result<Option<StoredContainer>> {
    let store = Store::open_without_layers(root, "overlay")?;
    store.container_of(layer)?.map(|container| stored(&store, container, "overlay", others)).transpose()
}

pub(super) fn stored(
    store: &Store,
    container: &ContainerRecord,
    driver: &str,
    others: &[PathBuf],
) -> Result<StoredContainer> {
    let of = |store: &Store, found: &ImageRecord, id: ImageId| MadeFrom::Image {
        id,
        names: found.names.clone(),
        manifest: store.manifest(driver, found),
        store: store.path().to_owned(),
    };
    let mut made_from = container.image()?.map_or(MadeFrom::Nothing, |id| MadeFrom::Unknown { id });
    // In podman's order.
    let image_store = ImageStore::of(store);
    let before = match &image_store {
        Some(ImageStore::First(place)) => Some(place),
        _ => None,
    };
    let places =
        before.into_iter().map(PathBuf::as_path).chain([store.path()]).chain(others.iter().map(PathBuf::as_path));
    for place in places {
        let MadeFrom::Unknown { id } = &made_from else { break };
        let id = id.clone();
        if place == store.path() {
            made_from = store.image(id.as_str()).map_or(MadeFrom::Unknown { id: id.clone() }, |i| of(store, i, id));
        } else if is_dir(place)? {
            let other = Store::open_without_layers(place, driver)?;
            if let Some(found) = other.image(id.as_str()) {
                made_from = of(&other, found, id);
            }
        }
    }
    if let (Some(ImageStore::Somewhere(other)), MadeFrom::Image { id, names, manifest, store }) =
        (&image_store, &mut made_from)
        && store != other
    {
        let other = Store::open_without_layers(other, driver)?;
        if let Some(found) = other.image(id.as_str()) {
            if other.manifest(driver, found) != *manifest {
                let (one, other) = (store.display(), other.path().display());
                let why = format!("it is in {one} and, with another manifest, in {other}");
                return Err(Refusal::new(Case::B04Several, format!("image {id}"), why));
            }
            names.extend(found.names.iter().cloned());
        }
    }
    let (asked, place) = (RequestedBy::of(container)?, PodNamespace::of(store, container)?);
    let (id, layer, driver) = (container.id()?, container.layer.clone(), driver.to_owned());
    Ok(StoredContainer { id, names: container.names.clone(), layer, made_from, asked, place, driver })
}

/// Returns the store and the layer of a path `ROOT/overlay/ID/merged`; `None` for any other path.
pub fn layer_of(path: &Path) -> Option<(PathBuf, LayerId)> {
    layer_paths::target(path).ok().flatten().map(|home| (home.root, home.id))
}
