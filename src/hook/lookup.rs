//! Which container a start is of, as the stores have it on record. A root counts as no image's (`<rootfs>`) only where
//! something says so: the engine's own record of the container, or a bundle that is no engine's. What is merely not
//! found may be an image's, because the store decides by which path podman reaches a bundle, and with which driver.

use std::path::{Component, Path, PathBuf};

use crate::container_store::{
    MadeFrom, StoredContainer, configured, container_of_layer, further_stores, layer_of, stored_container,
};
use crate::error::{Case, Refusal, Result};
use crate::oci::is_id;
use crate::protocol::{Bundle, ContainerConfig, IdMapping};
use crate::sys::mountinfo;

/// A container, and where its root is mounted.
pub(super) struct MountedContainer {
    pub stored: StoredContainer,
    pub target: PathBuf,
}

/// What a start is of.
pub(super) enum Found {
    /// A container in an overlay store.
    Mounted(MountedContainer),
    /// A container in a store with another driver.
    OtherDriver(StoredContainer),
    /// A root that is no image's: `--rootfs`, or a bundle that is no engine's.
    NoImage,
    /// A layer that is another container's.
    OtherLayer,
}

impl Found {
    /// Returns what the store has on record about the container.
    pub(super) fn stored(&self) -> Option<&StoredContainer> {
        match self {
            Self::Mounted(mounted) => Some(&mounted.stored),
            Self::OtherDriver(stored) => Some(stored),
            Self::NoImage | Self::OtherLayer => None,
        }
    }

    /// Returns where the container's root is mounted, if it is on an overlay of its store.
    pub(super) fn target(&self) -> Option<&Path> {
        match self {
            Self::Mounted(mounted) => Some(&mounted.target),
            _ => None,
        }
    }
}

/// The paths by which a start names its container.
pub(super) struct StartPaths<'a> {
    /// The bundle, without symlinks; for podman 4.3's `precreate` its caller's directory.
    pub bundle: &'a Path,
    /// The bundle as the runtime's caller named it.
    pub named: Option<&'a Path>,
    /// The ID that the runtime was called with.
    pub id: Option<&'a str>,
}

impl StartPaths<'_> {
    /// Returns whether an engine made the bundle for a container in its store: by its path, or because the container's
    /// files are there. buildah's bundles are elsewhere, and so are those of whoever calls the runtime by hand.
    fn is_engines(&self, config: &ContainerConfig) -> bool {
        let its_own = self.id.is_some() && self.id == config.container.as_deref();
        its_own || [Some(self.bundle), self.named].into_iter().flatten().any(is_engines_path)
    }

    /// Checks that no symlink within the store is on the way to the bundle: its records would be those of another
    /// directory.
    fn check_links(&self) -> Result<()> {
        let Some(named) = self.named.filter(|named| named.is_absolute()) else { return Ok(()) };
        let Some(of_store) = Bundle::of(named) else { return Ok(()) };
        let within = named.strip_prefix(&of_store.root).unwrap_or(named);
        let root = std::fs::canonicalize(&of_store.root)
            .map_err(|e| Refusal::new(Case::O05Call, of_store.root.display().to_string(), e))?;
        match root.join(within) == self.bundle {
            true => Ok(()),
            false => Err(linked(named)),
        }
    }
}

fn linked(path: &Path) -> Refusal {
    Refusal::new(Case::B09Replaced, path.display().to_string(), "a symlink within the store leads there")
}

/// Returns whether a path is one that engines give bundles: `…/ID/userdata`.
fn is_engines_path(path: &Path) -> bool {
    path.ends_with("userdata")
}

/// Checks that a bundle that no record is known of is no engine's; `is_engines` says whether it is one.
///
/// # Errors
/// [`Case::O01NotOurs`].
pub(super) fn no_engines(bundle: &Path, id: &str, container: Option<&str>) -> Result<()> {
    let paths = StartPaths { bundle, named: None, id: Some(id) };
    match is_engines_path(bundle) || (paths.id == container) {
        true => Err(not_on_record(bundle)),
        false => Ok(()),
    }
}

fn not_on_record(bundle: &Path) -> Refusal {
    let why = "it is a container's in a store, and there is no record of that container";
    Refusal::new(Case::O01NotOurs, bundle.display().to_string(), why)
}

/// Checks that the records of the configured store are where podman's path leads, not elsewhere by a symlink.
///
/// # Errors
/// [`Case::B09Replaced`].
pub(super) fn check_records(driver: &str) -> Result<()> {
    let found = configured()?;
    let places = [&found.graph_root, &found.run_root].map(|root| root.join(format!("{driver}-containers")));
    match places.iter().find(|place| place.is_symlink()) {
        Some(place) => Err(linked(place)),
        None => Ok(()),
    }
}

/// Returns whether a path leads into a layer of a store, whatever its driver: they are in directories by their IDs, as
/// containers are beneath `DRIVER-containers`.
pub(super) fn is_in_layer(path: &Path) -> bool {
    let names: Vec<&[u8]> = path.components().filter_map(name_of).collect();
    names.windows(2).any(|pair| is_id(pair[1]) && !pair[0].ends_with(b"-containers"))
}

fn name_of(component: Component<'_>) -> Option<&[u8]> {
    match component {
        Component::Normal(name) => Some(name.as_encoded_bytes()),
        _ => None,
    }
}

/// Finds the container whose layer the configuration names, or whose bundle podman runs us in: for other user IDs the
/// configuration names a directory on which the root will be mounted later, and a transient store keeps its containers
/// elsewhere than its layers. Podman 4.3 runs us in its caller's directory.
///
/// # Errors
/// `B01`, `B09`, `B13`; [`Case::O01NotOurs`] for the bundle of a container that is not on record.
pub(super) fn find(config: &ContainerConfig, paths: &StartPaths<'_>) -> Result<Found> {
    paths.check_links()?;
    let mut others = further_stores()?;
    let named = layer_of(&config.root);
    if let Some((root, layer)) = &named {
        if let Some(stored) = container_of_layer(root, layer, &others)? {
            let is_engines = paths.id.is_none_or(|id| id == stored.id.as_str()) || paths.is_engines(config);
            let stored = if is_engines { stored.of_engine() } else { stored };
            return Ok(Found::Mounted(MountedContainer { stored, target: config.root.clone() }));
        }
        others.push(root.clone());
    }
    let unnamed = || if named.is_some() { Found::OtherLayer } else { Found::NoImage };
    let Some(bundle) = Bundle::of(paths.bundle) else {
        return match paths.is_engines(config) {
            true => Err(not_on_record(paths.bundle)),
            false => Ok(unnamed()),
        };
    };
    check_records(&bundle.driver)?;
    let store = layers_of(&bundle)?;
    others.push(store.clone());
    let mut stored = stored_container(&bundle.root, &bundle.driver, &bundle.id, &others)?;
    if stored.is_none() && store != bundle.root && bundle.driver != "overlay" {
        // CRI-O's bundles are in the run root; with overlay the configuration names the layer.
        stored = stored_container(&store, &bundle.driver, &bundle.id, &others)?;
    }
    let stored = stored.ok_or_else(|| not_on_record(paths.bundle))?;
    let is_rootfs = stored.made_from == MadeFrom::Nothing && named.is_none() && !is_in_layer(&config.root);
    if bundle.driver != "overlay" {
        // With user IDs of its own, the root may be any layer that will be shown later.
        let is_mapped = config.uids != IdMapping::None || config.gids != IdMapping::None;
        return Ok(if is_rootfs && !is_mapped { Found::NoImage } else { Found::OtherDriver(stored) });
    }
    match named {
        Some((_, layer)) if layer.as_str() == stored.layer => {
            Ok(Found::Mounted(MountedContainer { stored, target: config.root.clone() }))
        }
        Some(_) => Ok(Found::OtherLayer),
        None => {
            let target = merged_of(&bundle, &stored)?;
            // podman keeps a layer for a container with `--rootfs` too, and never mounts it.
            let is_rootfs = is_rootfs && !is_mounted(&target)?;
            Ok(if is_rootfs { Found::NoImage } else { Found::Mounted(MountedContainer { stored, target }) })
        }
    }
}

/// Returns the store that has the layers of the bundle's container: the bundle's own, unless that is the run root,
/// where a transient store keeps its containers.
pub(super) fn layers_of(bundle: &Bundle) -> Result<PathBuf> {
    let configured = configured()?;
    let here = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    Ok(match here(&bundle.root) == here(&configured.run_root) {
        true => configured.graph_root,
        false => bundle.root.clone(),
    })
}

/// Returns where the store has the root of a container that podman shows elsewhere, for user IDs that podman itself does
/// not have.
pub(super) fn merged_of(bundle: &Bundle, stored: &StoredContainer) -> Result<PathBuf> {
    Ok(layers_of(bundle)?.join("overlay").join(&stored.layer).join("merged"))
}

fn is_mounted(target: &Path) -> Result<bool> {
    let all = mountinfo::own()?;
    let target = std::fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
    Ok(mountinfo::topmost(&all, &target).is_some())
}

/// Finds the container's own directory in its store, if that can be told: podman 4.3 runs its hooks in its own working
/// directory.
pub(super) fn own_directory(bundle: &Path, id: Option<&str>) -> Option<PathBuf> {
    let by_id = || {
        let directory = configured().ok()?.graph_root.join("overlay-containers").join(id?).join("userdata");
        directory.is_dir().then_some(directory)
    };
    Bundle::of(bundle).map(|_| bundle.to_owned()).or_else(by_id)
}
