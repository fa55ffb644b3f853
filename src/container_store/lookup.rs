//! Images of a store, by name or ID: for what is done before a container starts.

use std::path::{Path, PathBuf};

use super::configured::run_root;
use super::layer_paths::LayerDir;
use super::layers::{self, ChainLink, OpenStores};
use super::storage::{ImageRecord, LayerRecord, Store};
use super::{ClaimedImage, RequestedBy, Root, image, is_dir, layer_paths};
use crate::digest::BlobDigest;
use crate::error::{Case, Class, Refusal, Result};
use crate::oci::{ImageId, LayerId};

/// `maxDepth` of containers-storage; a longer chain of parents is a circle.
const MAX_DEPTH: usize = 500;

/// An image that a store has on record.
#[derive(Debug)]
pub struct StoredImage {
    /// Its ID in the store.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// What it is, or why that cannot be found out.
    pub image: Result<ClaimedImage>,
}

impl StoredImage {
    /// Returns what podman records as the name by which a container was made, if this image was named `wanted`.
    pub fn asked(&self, wanted: &str) -> RequestedBy {
        let name = self.names.iter().find(|name| is_named(name, wanted));
        let short = || self.names.iter().find(|name| is_short_for(name, wanted));
        let is_id = self.id.starts_with(wanted.strip_prefix("sha256:").unwrap_or(wanted));
        match name.or_else(|| if is_id { None } else { short() }) {
            Some(name) => RequestedBy::Name(name.clone()),
            None => RequestedBy::Id,
        }
    }
}

fn is_named(name: &str, wanted: &str) -> bool {
    name == wanted || name.strip_suffix(":latest") == Some(wanted)
}

/// Returns whether `wanted` is the name without its registry, or without more of its beginning.
fn is_short_for(name: &str, wanted: &str) -> bool {
    let left = |wanted: &str| name.strip_suffix(wanted).is_some_and(|rest| rest.ends_with('/'));
    left(wanted) || left(&format!("{wanted}:latest"))
}

/// Finds images in container stores: the one that `wanted` names, in the first store that has one, or all. The vault of
/// the first store is used for all of them.
///
/// # Errors
/// [`Case::NotStored`], and [`Case::Usage`] for a name that means several; errors of reading the records.
pub fn stored_images(roots: &[PathBuf], wanted: Option<&str>) -> Result<Vec<StoredImage>> {
    let mut found = Vec::new();
    let mut first: Option<Root> = None;
    for root in roots {
        let stores = OpenStores::open(root)?;
        let own = Root::of(stores.own());
        let vault = first.get_or_insert(own);
        let images = stores.own().images();
        let chosen: Vec<&ImageRecord> = match wanted {
            None => images.iter().collect(),
            Some(name) => choose(images, name)?.into_iter().collect(),
        };
        found.extend(chosen.into_iter().map(|record| {
            StoredImage {
                id: record.id.clone(),
                names: record.names.clone(),
                image: claimed(&stores, record, root)
                    .map(|image| ClaimedImage { root: image.root.clone().with_vault_of(vault), ..image }),
            }
        }));
        if wanted.is_some() && !found.is_empty() {
            break;
        }
    }
    match wanted {
        Some(name) if found.is_empty() => {
            let roots: Vec<String> = roots.iter().map(|r| r.display().to_string()).collect();
            Err(Refusal::new(Case::NotStored, name, roots.join(", ")))
        }
        _ => Ok(found),
    }
}

/// Finds images that have `layer` beneath their uppermost one: whoever vouches for one of them vouches for the layer.
/// An image whose records are wrong is left out, since it can vouch for nothing.
///
/// # Errors
/// Errors of reading the records; [`Case::Io`].
pub fn images_above(root: &Path, layer: &LayerId) -> Result<Vec<ClaimedImage>> {
    let stores = OpenStores::open(root)?;
    let above = |record: &&ImageRecord| {
        chain(stores.own(), record, root).is_ok_and(|chain| chain.iter().skip(1).any(|link| link.home.id == *layer))
    };
    let mut found = Vec::new();
    for record in stores.own().images().iter().filter(above) {
        match claimed(&stores, record, root) {
            Ok(image) => found.push(image),
            Err(refusal) if refusal.case().class() == Class::Internal => return Err(refusal),
            Err(_) => {}
        }
    }
    Ok(found)
}

/// Returns the lower directories of a layer's mount, uppermost first, as the stores have them on record: for mounts
/// that show them under names that say nothing (overlay.go, `mapped/N/diff`, for other user IDs). Layers that the
/// layer's own store does not have are looked for in `others`.
///
/// # Errors
/// [`Case::B08Lowers`], and errors of reading the records.
pub fn recorded_lowers(target: &Path, others: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let refuse = |what: &str, why: &str| Refusal::new(Case::B08Lowers, what, why);
    let home = layer_paths::target(target)?.ok_or_else(|| refuse(&target.display().to_string(), "not in a store"))?;
    let mut stores = vec![Store::open(&home.root)?];
    for other in others.iter().filter(|o| **o != home.root) {
        if is_dir(other)? {
            let mut other = Store::open(other)?;
            other.beside(&stores[0]);
            stores.push(other);
        }
    }
    let find = |id: &LayerId| stores.iter().find_map(|store| Some((store, store.layer(id)?)));
    let mut lowers = Vec::new();
    let first = match find(&home.id) {
        Some((_, layer)) => layer.parent.clone(),
        // In a transient store the layers of containers are on record in the run root.
        None => {
            let run = run_root()?;
            let there = run.join("overlay-layers").is_dir().then(|| Store::open(&run)).transpose()?;
            let layer = there.as_ref().and_then(|store| store.layer(&home.id));
            layer.ok_or_else(|| refuse(home.id.as_str(), "no record of this layer"))?.parent.clone()
        }
    };
    let mut next = first;
    while !next.is_empty() {
        let id: LayerId = next.parse()?;
        let (store, layer) = find(&id).ok_or_else(|| refuse(&next, "no store has a record of this layer"))?;
        if lowers.len() == MAX_DEPTH {
            return Err(refuse(&next, "its parents go round"));
        }
        // The records of an image store are in the graph root, and the directories are not.
        let has = stores.iter().find(|store| store.layer(&id).is_some() && store.has_directory(&id));
        lowers.push(has.unwrap_or(store).path().join("overlay").join(&next).join("diff"));
        next = layer.parent.clone();
    }
    Ok(lowers)
}

/// Chooses the image with this name, where tag and registry are as optional as they are for podman, or the one whose ID
/// begins this way.
fn choose<'a>(images: &'a [ImageRecord], wanted: &str) -> Result<Option<&'a ImageRecord>> {
    let id = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let hex = id.len() >= 3 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let ways: [&dyn Fn(&ImageRecord) -> bool; 3] = [
        &|i: &ImageRecord| i.names.iter().any(|name| is_named(name, wanted)),
        &|i: &ImageRecord| hex && i.id.starts_with(id),
        &|i: &ImageRecord| i.names.iter().any(|name| is_short_for(name, wanted)),
    ];
    for way in ways {
        let found: Vec<&ImageRecord> = images.iter().filter(|i| way(i)).collect();
        match found.as_slice() {
            [] => {}
            [one] => return Ok(Some(one)),
            several => {
                let ids: Vec<&str> = several.iter().map(|i| i.id.get(..12).unwrap_or(&i.id)).collect();
                return Err(Refusal::new(Case::Usage, wanted, format!("it means several images: {}", ids.join(", "))));
            }
        }
    }
    Ok(None)
}

fn claimed(stores: &OpenStores, record: &ImageRecord, root: &Path) -> Result<ClaimedImage> {
    let id: ImageId = record.id.parse()?;
    let mut chain = chain(stores.own(), record, root)?;
    layers::check(stores, None, &mut chain)?;
    let images: Vec<_> =
        image::candidates(stores, &chain, Some(&id), false)?.into_iter().filter(|c| c.id == id).collect();
    let Some(first) = images.first() else {
        return Err(Refusal::new(Case::B03Layers, record.id.clone(), "it has no layers"));
    };
    let diff_ids: Vec<BlobDigest> = first.image.layers.iter().map(|l| l.diff_id).collect();
    let layers = image::with_blobs(layers::open(stores, &chain, Some(&diff_ids))?, &images);
    Ok(ClaimedImage { images, layers, own: None, root: Root::of(stores.own()) })
}

/// Lists the layers of an image, uppermost first, by the parents that the store has on record.
fn chain(store: &Store, record: &ImageRecord, root: &Path) -> Result<Vec<ChainLink>> {
    let mut chain = Vec::new();
    let mut next = record.top().to_owned();
    while !next.is_empty() {
        let id: LayerId = next.parse()?;
        let layer: &LayerRecord = store.layer(&id).ok_or_else(|| {
            Refusal::new(
                Case::B08Lowers,
                next.clone(),
                "the store has no record of this layer; it may be another store's",
            )
        })?;
        if chain.len() == MAX_DEPTH {
            return Err(Refusal::new(Case::B08Lowers, next, "its parents go round"));
        }
        let home = LayerDir { root: root.to_owned(), id };
        chain.push(ChainLink { store: 0, home, shifted: false });
        next = layer.parent.clone();
    }
    Ok(chain)
}
