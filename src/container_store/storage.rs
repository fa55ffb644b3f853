//! The records of a container store: JSON files that containers-storage replaces by renaming (storage/pkg/ioutils,
//! `AtomicFileWriter`), so that each read sees a single state.
//!
//! No lock of the store is taken. The caller of a mount program holds them for writing (storage/store.go, `Mount` and
//! `MountImage`), and waits for us: taking one would be a deadlock.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::id_sets::read_without;
use super::own_files::check_only_name;
use super::parsed;
pub(super) use super::records::{ContainerRecord, ImageRecord, LayerRecord};
use super::records::{Record, parse};
use crate::error::{Case, Refusal, Result};
use crate::oci::name::UNKNOWN;
use crate::oci::{LayerId, is_id};
use crate::sys::{files, same_paths};

/// How many bytes the list of a layer's lower directories may have, several times what the largest possible number
/// needs.
const MAX_LOWERS: u64 = 1 << 20;
/// How many characters the link to a layer has.
const LINK: usize = 26;

/// How many bytes a file of records may have, without the sets of user IDs in those of layers. A layer's record takes
/// 1 KiB, and an image's 1 to 4 KiB: this is room for tens of thousands, and containers-storage itself gets slow long
/// before.
const MAX_RECORDS: u64 = 64 << 20;

/// How many bytes it may have with them.
const MAX_FILE: u64 = 4 << 30;

/// A container store, its records read once.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    driver: String,
    root: Arc<OwnedFd>,
    /// The roots of the stores that may have the tables of its layers' tars: its own, and for an image store also the
    /// graph root's.
    tables: Vec<Arc<OwnedFd>>,
    /// Of each file, by ID.
    layers: Vec<Arc<HashMap<String, LayerRecord>>>,
    images: Arc<Vec<ImageRecord>>,
    /// Of each file.
    containers: Vec<Arc<Vec<ContainerRecord>>>,
}

/// Tells whether this is `l/` and the link to a layer, as containers-storage writes lower directories (drivers/overlay,
/// `generateID`).
fn is_link(name: &[u8]) -> bool {
    let link = name.strip_prefix(b"l/").unwrap_or_default();
    link.len() == LINK && link.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

impl Store {
    /// Opens the store at `path`, which may contain symlinks: an administrator chose it. Nothing beneath it may be one.
    ///
    /// # Errors
    /// [`Case::B01Records`], [`Case::B09Replaced`].
    pub fn open(path: &Path) -> Result<Self> {
        let mut store = Self::of(path, "overlay")?;
        // The second of each is for containers with --rm; a transient store keeps it elsewhere.
        for name in ["overlay-layers/layers.json", "overlay-layers/volatile-layers.json"] {
            let layers = store.records(name, |all: Vec<LayerRecord>| {
                let mut by_id = HashMap::new();
                for layer in all {
                    if let Some(twice) = by_id.insert(layer.id.clone(), layer) {
                        return Err(store.twice(name, &twice.id));
                    }
                }
                Ok(by_id)
            })?;
            if let Some(twice) = layers.keys().find(|id| store.layers.iter().any(|before| before.contains_key(*id))) {
                return Err(store.twice(name, twice));
            }
            store.layers.push(layers);
        }
        store.read_images("overlay")?;
        store.read_containers("overlay")?;
        Ok(store)
    }

    /// Adds what the graph root has for an image store (`imagestore` of storage.conf), in case this is one: tables of
    /// its layers are in the graph root then, and before podman 6 the records of layers are there and nowhere else.
    pub fn beside(&mut self, graph: &Self) {
        if self.layers.iter().all(|layers| layers.is_empty()) {
            self.layers.clone_from(&graph.layers);
        }
        self.tables.push(Arc::clone(&graph.root));
    }

    /// Opens the store with containers and images only, for any storage driver.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_without_layers(path: &Path, driver: &str) -> Result<Self> {
        let mut store = Self::of(path, driver)?;
        store.read_images(driver)?;
        store.read_containers(driver)?;
        Ok(store)
    }

    fn of(path: &Path, driver: &str) -> Result<Self> {
        let root = same_paths::open_dir(path).map_err(|e| super::not_of_all(path, e))?;
        let root = Arc::new(root);
        Ok(Self {
            path: path.to_owned(),
            driver: driver.to_owned(),
            tables: vec![Arc::clone(&root)],
            root,
            layers: Vec::new(),
            images: Arc::default(),
            containers: Vec::new(),
        })
    }

    fn read_images(&mut self, driver: &str) -> Result<()> {
        let name = format!("{driver}-images/images.json");
        self.images = self.records(&name, |mut images: Vec<ImageRecord>| {
            // A name that no image can have is still a name, and no rule is for it.
            for name in images.iter_mut().flat_map(|image| &mut image.names).filter(|name| !is_name(name)) {
                UNKNOWN.clone_into(name);
            }
            self.unique(&name, images.iter().map(|i| &i.id)).map(|()| images)
        })?;
        Ok(())
    }

    fn read_containers(&mut self, driver: &str) -> Result<()> {
        for file in ["containers.json", "volatile-containers.json"] {
            let name = format!("{driver}-containers/{file}");
            let containers = self.records(&name, |all: Vec<ContainerRecord>| {
                self.unique(&name, all.iter().map(|c| &c.id)).map(|()| all)
            })?;
            let known: HashSet<&str> = self.containers().map(|c| c.id.as_str()).collect();
            if let Some(twice) = containers.iter().find(|c| known.contains(c.id.as_str())) {
                return Err(self.twice(&name, &twice.id));
            }
            self.containers.push(containers);
        }
        Ok(())
    }

    /// Returns its storage driver.
    pub(super) fn driver(&self) -> &str {
        &self.driver
    }

    /// Returns where it is, for messages and to tell stores apart.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether `path` is its root too.
    pub fn is_at(&self, path: &Path) -> bool {
        let other = same_paths::open_dir(path).ok().and_then(|dir| rustix::fs::fstat(dir).ok());
        let own = rustix::fs::fstat(&*self.root).ok();
        own.zip(other).is_some_and(|(a, b)| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }

    /// Returns its root, open.
    pub fn root(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.root)
    }

    /// Returns where the tables of its layers' tars may be.
    pub fn tables(&self) -> Vec<Arc<OwnedFd>> {
        self.tables.clone()
    }

    /// Returns whether a layer's directory is here.
    pub fn has_directory(&self, id: &LayerId) -> bool {
        self.dir(&format!("overlay/{id}")).is_ok()
    }

    /// Returns the record of a layer.
    pub fn layer(&self, id: &LayerId) -> Option<&LayerRecord> {
        self.layers.iter().find_map(|layers| layers.get(id.as_str()))
    }

    /// Returns all layers.
    pub fn layers(&self) -> impl Iterator<Item = &LayerRecord> {
        self.layers.iter().flat_map(|layers| layers.values())
    }

    /// Returns all images.
    pub fn images(&self) -> &[ImageRecord] {
        &self.images
    }

    /// Returns all containers.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerRecord> {
        self.containers.iter().flat_map(|containers| containers.iter())
    }

    /// Finds the container with this ID.
    pub fn container(&self, id: &str) -> Option<&ContainerRecord> {
        self.containers().find(|c| c.id == id)
    }

    /// Finds the image with this ID.
    pub fn image(&self, id: &str) -> Option<&ImageRecord> {
        self.images.iter().find(|i| i.id == id)
    }

    /// Finds the container whose own layer this is.
    ///
    /// # Errors
    /// [`Case::B01Records`] if two containers have it.
    pub fn container_of(&self, layer: &LayerId) -> Result<Option<&ContainerRecord>> {
        let mut containers = self.containers().filter(|c| c.layer == layer.as_str());
        match (containers.next(), containers.next()) {
            (Some(_), Some(_)) => Err(self.bad("overlay-containers", format!("two containers have layer {layer}"))),
            (container, _) => Ok(container),
        }
    }

    /// Opens a directory beneath the root, through no symlink.
    ///
    /// # Errors
    /// [`Case::B09Replaced`], [`Case::B11Gone`].
    pub fn dir(&self, name: &str) -> Result<OwnedFd> {
        files::open_dir_at(&*self.root, name).map_err(|e| {
            let case = match Errno::from_io_error(&e) {
                Some(Errno::LOOP | Errno::NOTDIR) => Case::B09Replaced,
                Some(Errno::NOENT) => Case::B11Gone,
                _ => Case::Io,
            };
            Refusal::new(case, self.name(name), e)
        })
    }

    /// Resolves the short name `overlay/l/LINK` to its layer (overlay.go, `create`): the text of the symlink is
    /// `../ID/diff`, and the symlink itself is never followed.
    ///
    /// # Errors
    /// [`Case::B09Replaced`], [`Case::B11Gone`].
    pub fn link(&self, link: &str) -> Result<LayerId> {
        let name = format!("overlay/l/{link}");
        let dir = self.dir("overlay/l")?;
        let text = rustix::fs::readlinkat(&dir, link, Vec::new()).map_err(|e| {
            let case = if e == Errno::NOENT { Case::B11Gone } else { Case::B09Replaced };
            Refusal::new(case, self.name(&name), e)
        })?;
        text.to_str()
            .ok()
            .and_then(|t| t.strip_prefix("../")?.strip_suffix("/diff"))
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| Refusal::new(Case::B09Replaced, self.name(&name), "it does not point to ../ID/diff"))
    }

    /// Checks that the lower directories of a layer are names of layers and nothing else. containers-storage copies
    /// these files unchanged into the options of a mount, and a comma in one would begin another option.
    ///
    /// # Errors
    /// [`Case::B08Lowers`], [`Case::B01Records`], [`Case::B09Replaced`].
    pub fn check_lowers(&self, id: &LayerId) -> Result<()> {
        for file in ["lower", "lower-layers"] {
            let name = format!("overlay/{id}/{file}");
            let text = self.read(&name, MAX_LOWERS)?.unwrap_or_default();
            let text = text.strip_suffix(b"\n").unwrap_or(&text);
            let is_name = if file == "lower" { is_link } else { is_id };
            if !text.is_empty() && !text.split(|byte| *byte == b':').all(is_name) {
                return Err(Refusal::new(Case::B08Lowers, self.name(&name), "it holds what is no name of a layer"));
            }
        }
        Ok(())
    }

    /// Reads the records of a file, and `arranges` them; none of a file that is missing. Once for each file.
    fn records<R: Record, T: Any + Default + Send + Sync>(
        &self,
        name: &str,
        arrange: impl FnOnce(Vec<R>) -> Result<T>,
    ) -> Result<Arc<T>> {
        let Some((file, found)) = self.open_file(name)? else { return Ok(Arc::default()) };
        parsed::once(file, &found, |file| {
            let bytes = read_without(file, MAX_RECORDS, MAX_FILE).map_err(|e| self.bad(name, e))?;
            arrange(parse(&bytes, &self.name(name))?)
        })
    }

    /// Reads a regular file beneath the root, if there is one.
    pub(super) fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>> {
        self.open_file(name)?.map(|(file, found)| self.content(name, file, found.len(), max)).transpose()
    }

    /// Opens a regular file beneath the root, if there is one.
    pub(super) fn open_file(&self, name: &str) -> Result<Option<(File, Metadata)>> {
        match files::open_known_file_at(&*self.root, name) {
            Ok((file, found)) => check_only_name(&found, || self.name(name)).map(|()| Some((file, found))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) if Errno::from_io_error(&e) == Some(Errno::LOOP) => {
                Err(Refusal::new(Case::B09Replaced, self.name(name), e))
            }
            Err(e) => Err(self.bad(name, e)),
        }
    }

    /// Reads an open file of this length.
    pub(super) fn content(&self, name: &str, file: File, length: u64, max: u64) -> Result<Vec<u8>> {
        // Before reading: a sparse file can be larger than memory.
        if length > max {
            return Err(self.bad(name, format!("{length} bytes, allowed are {max}")));
        }
        files::read_all(file, max).map_err(|e| self.bad(name, e))
    }

    fn unique<'a>(&self, name: &str, ids: impl Iterator<Item = &'a String>) -> Result<()> {
        let mut seen = HashSet::new();
        for id in ids {
            if !seen.insert(id) {
                return Err(self.twice(name, id));
            }
        }
        Ok(())
    }

    fn twice(&self, name: &str, id: &str) -> Refusal {
        self.bad(name, format!("{id:?} occurs twice"))
    }

    pub(super) fn bad(&self, name: &str, why: impl std::fmt::Display) -> Refusal {
        Refusal::new(Case::B01Records, self.name(name), why)
    }

    fn name(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

/// Returns whether an image can have this name: the policy has words of its own, such as `<rootfs>`, and prefixes that
/// a name with `..` would only seem to match (distribution/reference, "Grammar").
pub(super) fn is_name(name: &str) -> bool {
    let repository = crate::oci::name::repository(name);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.');
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"._-/:".contains(&b);
    !repository.is_empty() && repository.bytes().all(letter) && repository.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f04_names_that_no_image_can_have() {
        for name in
            ["registry.example.com:5000/a/b:1", "localhost/x@sha256:00", "x", "docker.io/library/a_b.c-d:latest"]
        {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "<rootfs>", "<none>", "localhost/../other/x", "a//b", "/a", "a/", "a b", "a/./b", ":tag", "*"]
        {
            assert!(!is_name(name), "{name}");
        }
    }
}
