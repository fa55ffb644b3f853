//! The chain of layers that a call names, compared with the chain that the store has on record.

use std::collections::HashSet;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::configured::{further_stores, graph_root};
use super::image_store::ImageStore;
use super::layer_paths::{LayerDir, LayerName, LowerDir, LowerKind};
use super::may_be_dir;
use super::storage::{LayerRecord, Store};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::LayerId;
use crate::sys::files;

/// How the ID of a layer is tied to its content, as far as the store tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// The ID is that of the layers below it and this one's diff_id.
    DiffId,
    /// The ID is that of the layers below it and of a table of contents: a `zstd:chunked` layer whose tar nobody ever
    /// saw as a whole.
    Toc,
    /// The ID is random, and only the store's record names a diff_id: copies for other user IDs, and layers committed
    /// by other tools.
    Record,
    /// Nothing is on record about the content.
    None,
}

/// A layer that the store claims to have.
#[derive(Debug)]
pub struct ClaimedLayer {
    /// Its ID in the store, which is not the OCI chain ID.
    pub id: LayerId,
    /// `…/overlay/ID/diff`, for messages.
    pub path: PathBuf,
    /// The same directory, open.
    pub diff: OwnedFd,
    /// The digest of its tar: from the image, or, if no image is known, from the store's record.
    pub diff_id: Option<BlobDigest>,
    /// How its ID is tied to its content.
    pub tie: Tie,
    /// Whether its content was copied for other user IDs and also lies in `diff1` and others.
    pub shifted: bool,
    /// The roots of the stores that may have the table of its tar, open.
    pub tables: Vec<Arc<OwnedFd>>,
    /// How it was transported, if an image is known.
    pub blob: Option<LayerBlob>,
}

/// What an image's manifest says about the blob of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerBlob {
    /// Its size in bytes.
    pub size: u64,
    /// Whether it is a compressed tar.
    pub compressed: bool,
}

impl ClaimedLayer {
    /// Opens the table of the layer's tar that the store keeps (storage/layers.go, `tarSplitPath`).
    ///
    /// # Errors
    /// [`Case::B11Gone`] when there is none: the layer was never written as a tar.
    pub fn tar_split(&self) -> Result<File> {
        let name = format!("overlay-layers/{}.tar-split.gz", self.id);
        let mut opened = Err(ErrorKind::NotFound.into());
        for root in &self.tables {
            opened = files::open_file_at(&**root, &name);
            if !opened.as_ref().is_err_and(|e: &std::io::Error| e.kind() == ErrorKind::NotFound) {
                break;
            }
        }
        opened.map_err(|e| {
            let case = if e.kind() == ErrorKind::NotFound { Case::B11Gone } else { Case::B09Replaced };
            Refusal::new(case, name, e)
        })
    }
}

/// One layer of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChainLink {
    /// The store, by its place in [`OpenStores`].
    pub store: usize,
    pub home: LayerDir,
    pub shifted: bool,
}

/// The stores that a call involves; the target's is the first.
#[derive(Debug)]
pub(super) struct OpenStores {
    pub(super) stores: Vec<Store>,
    /// Which of them is the one in which podman looks for images before it looks in the graph root (`imagestore`).
    pub(super) image_store: Option<usize>,
    /// Whether there is an image store of which nobody knows whether podman looks there first.
    pub(super) other_image_store: bool,
    /// Those in which podman looks after all others (`additionalimagestores`), in its order.
    pub(super) additional: Vec<usize>,
}

impl OpenStores {
    /// Opens the store of the target.
    pub fn open(root: &Path) -> Result<Self> {
        let mut store = Store::open(root)?;
        if !store.images().is_empty() {
            // It may be an image store. If podman calls, the working directory tells the graph root.
            let graph = super::root::graph_root().or_else(|| graph_root().ok());
            if let Some(graph) = graph.filter(|graph| may_be_dir(graph) && !store.is_at(graph)) {
                store.beside(&Store::open(&graph)?);
            }
        }
        let image_store = ImageStore::of(&store);
        let other_image_store = matches!(image_store, Some(ImageStore::Somewhere(_)));
        let mut stores = Self { stores: vec![store], image_store: None, other_image_store, additional: Vec::new() };
        // It has records of images also where no layer of the call lies in it.
        let number = image_store.map(|found| stores.number(found.path())).transpose()?;
        stores.image_store = number.filter(|_| !other_image_store);
        Ok(stores)
    }

    /// Returns the number of the store at `root`, and opens it as an additional one if it is not open yet.
    pub(super) fn number(&mut self, root: &Path) -> Result<usize> {
        if let Some(at) = self.stores.iter().position(|s| s.path() == root) {
            return Ok(at);
        }
        // podman usually follows links on the way to its store, and sometimes does not: one directory, two paths.
        if let Some(at) = self.stores.iter().position(|s| s.is_at(root)) {
            return Ok(at);
        }
        let mut store = Store::open(root)?;
        store.beside(&self.stores[0]);
        self.stores.push(store);
        Ok(self.stores.len() - 1)
    }

    /// Returns the number of the store for a place that is shown in the target's own store, with its IDs mapped, and
    /// may lie in any store that images come from (overlay.go, `mapped`).
    fn number_of_mapped(&mut self, place: &LowerDir) -> Result<usize> {
        let own = self.number(&place.root)?;
        let there = |store: &Store| match &place.name {
            LayerName::Id(id) => store.has_directory(id),
            LayerName::Link(link) => store.link(link).is_ok(),
        };
        if there(&self.stores[own]) {
            return Ok(own);
        }
        for other in further_stores()?.iter().filter(|other| may_be_dir(other)) {
            let number = self.number(other)?;
            if there(&self.stores[number]) {
                return Ok(number);
            }
        }
        Ok(own)
    }

    /// Returns all of them.
    pub fn all(&self) -> &[Store] {
        &self.stores
    }

    /// Returns the store of a layer.
    pub fn of(&self, link: &ChainLink) -> &Store {
        &self.stores[link.store]
    }

    /// Returns the store of the target.
    pub fn own(&self) -> &Store {
        &self.stores[0]
    }

    /// Resolves a place to its layer and kind, and opens its store as an additional one.
    fn resolve(&mut self, place: LowerDir) -> Result<(ChainLink, LowerKind)> {
        let store = if place.mapped { self.number_of_mapped(&place)? } else { self.number(&place.root)? };
        let id = match place.name {
            LayerName::Id(id) => id,
            LayerName::Link(link) => self.stores[store].link(&link)?,
        };
        let root = self.stores[store].path().to_owned();
        Ok((ChainLink { store, home: LayerDir { root, id }, shifted: false }, place.kind))
    }
}

/// What the lower directories of a call mean.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Their layers, uppermost first.
    pub links: Vec<ChainLink>,
    /// Whether old content of the target's own layer is among them.
    pub own_shifted: bool,
    /// The directories as the call names them: the store of each, and its name beneath the store's root.
    pub directories: Vec<(usize, String)>,
}

/// Resolves the lower directories to layers. `writing` says that the target's own layer is the upper directory and not
/// the first lower one.
///
/// # Errors
/// [`Case::B08Lowers`] for directories that are not layers, or are in the wrong place.
pub(super) fn chain(places: Vec<LowerDir>, own: &LayerDir, writing: bool, stores: &mut OpenStores) -> Result<Chain> {
    let Chain { links: mut chain, mut own_shifted, mut directories } = Chain::default();
    let count = places.len();
    for (at, place) in places.into_iter().enumerate() {
        let (link, kind) = stores.resolve(place)?;
        let refuse = |why: &str| Refusal::new(Case::B08Lowers, link.home.join("").display().to_string(), why);
        directories.push((link.store, format!("overlay/{}/{}", link.home.id, kind.directory())));
        match kind {
            LowerKind::Diff => chain.push(link),
            LowerKind::Extra(_) => match chain.last_mut() {
                Some(last) if last.home.id == link.home.id => last.shifted = true,
                None if writing && link.home.id == own.id => own_shifted = true,
                _ => return Err(refuse("its old content, but not below its content")),
            },
            LowerKind::Empty => {
                let alone = chain.len() == usize::from(!writing) && at + 1 == count;
                if !alone || link.home.id != own.id {
                    return Err(refuse("an empty directory, but not in the place of a missing parent"));
                }
                if !files::is_empty(stores.of(&link).dir(&format!("overlay/{}/empty", link.home.id))?).unwrap_or(false)
                {
                    return Err(Refusal::new(Case::B09Replaced, link.home.join("empty").display().to_string(), ""));
                }
            }
        }
    }
    Ok(Chain { links: chain, own_shifted, directories })
}

/// Compares the chain with the store's records: each layer complete, each the parent of the one above it, none missing
/// at the bottom. `own` is the layer above the chain, whose record may be missing: a transient store keeps it where we
/// do not look. Also finds copies for other user IDs.
///
/// # Errors
/// [`Case::B08Lowers`], [`Case::B11Gone`].
pub(super) fn check(stores: &OpenStores, own: Option<&mut ChainLink>, chain: &mut [ChainLink]) -> Result<()> {
    if let Some(own) = own
        && let Some(record) = stores.of(own).layer(&own.home.id)
    {
        own.shifted |= is_copy_of_next(own, record, chain.first(), stores)?;
    }
    for at in 0..chain.len() {
        let (link, next) = (&chain[at], chain.get(at + 1));
        let Some(record) = stores.of(link).layer(&link.home.id) else {
            return Err(Refusal::new(Case::B08Lowers, shown(link), "the store has no record of this layer"));
        };
        if record.flags.incomplete {
            return Err(Refusal::new(Case::B11Gone, shown(link), "the layer is incomplete"));
        }
        let copy = is_copy_of_next(link, record, next, stores)?;
        chain[at].shifted |= copy;
    }
    Ok(())
}

/// Returns `false` when `next` is the parent of `link`, as it should be. `true` when the two have the same parent and
/// the same tar: containers-storage makes a copy for other user IDs from a template, which it then leaves below
/// (overlay.go, `CreateFromTemplate`).
fn is_copy_of_next(
    link: &ChainLink,
    record: &LayerRecord,
    next: Option<&ChainLink>,
    stores: &OpenStores,
) -> Result<bool> {
    let parent = next.map_or("", |n| n.home.id.as_str());
    if record.parent == parent {
        return Ok(false);
    }
    let template = next.filter(|n| n.home != link.home).and_then(|n| stores.of(n).layer(&n.home.id));
    let alike = |t: &LayerRecord| t.parent == record.parent && t.diff_digest == record.diff_digest;
    if template.is_some_and(|t| alike(t) && !t.diff_digest.is_empty()) {
        return Ok(true);
    }
    let or_none = |id: &str| if id.is_empty() { "none".to_owned() } else { id.to_owned() };
    let why = format!("its parent is {}, but the call has {}", or_none(&record.parent), or_none(parent));
    Err(Refusal::new(Case::B08Lowers, shown(link), why))
}

/// Leaves out what containers-storage copied for other user IDs: the copy of the uppermost layer, which lies over the layer
/// that it was made of, or the content of the container's own layer before anything was written there.
pub(super) fn leave_out_copies(stores: &OpenStores, own: Option<&mut ChainLink>, chain: &mut Vec<ChainLink>) {
    if let Some(own) = own {
        own.shifted = false;
    }
    if let [first, template, ..] = chain.as_slice()
        && let Some(record) = stores.of(first).layer(&first.home.id)
        && is_copy_of_next(first, record, Some(template), stores).is_ok_and(|copy| copy)
    {
        chain.remove(0);
    }
}

pub(super) fn shown(link: &ChainLink) -> String {
    link.home.join("diff").display().to_string()
}

/// Opens the content of the chain. `known` are the diff_ids of an image that the chain was compared with, lowest first
/// like the result.
///
/// # Errors
/// [`Case::B07Digest`], [`Case::B09Replaced`], [`Case::B11Gone`].
pub(super) fn open(
    stores: &OpenStores,
    chain: &[ChainLink],
    known: Option<&[BlobDigest]>,
) -> Result<Vec<ClaimedLayer>> {
    let mut seen = HashSet::new();
    let mut parent = "";
    let mut layers = Vec::with_capacity(chain.len());
    for (at, link) in chain.iter().rev().enumerate() {
        let store = stores.of(link);
        let diff = store.dir(&format!("overlay/{}/diff", link.home.id))?;
        let stat = rustix::fs::fstat(&diff).map_err(|e| Refusal::io(shown(link), e))?;
        if !seen.insert((stat.st_dev, stat.st_ino)) {
            return Err(Refusal::new(Case::B09Replaced, shown(link), "it is another layer's directory too"));
        }
        let record = store.layer(&link.home.id);
        let diff_id = match (known, record.map(|r| r.diff_digest.as_str())) {
            (Some(known), _) => Some(known[at]),
            (None, None | Some("")) => None,
            (None, Some(text)) => Some(text.parse::<BlobDigest>().map_err(|r| r.within(shown(link)))?),
        };
        let tie = record.map_or(Tie::None, |r| tie(parent, link.home.id.as_str(), r, diff_id.as_ref()));
        layers.push(ClaimedLayer {
            id: link.home.id.clone(),
            path: link.home.join("diff"),
            diff,
            diff_id,
            tie,
            shifted: link.shifted,
            tables: store.tables(),
            blob: None,
        });
        parent = link.home.id.as_str();
    }
    Ok(layers)
}

/// Returns how a layer's ID follows from its parent's ID and its content (image/storage/storage_dest.go, `layerID`):
/// the diff_id's hex for a base, otherwise the SHA-256 of `PARENT+HEX`; with a table of contents always the SHA-256 of
/// `PARENT+@TOC=HEX`.
pub(super) fn tie(parent: &str, id: &str, record: &LayerRecord, diff_id: Option<&BlobDigest>) -> Tie {
    let sum = |component: &str| BlobDigest::of(format!("{parent}+{component}").as_bytes()).hex();
    if let Some(diff_id) = diff_id {
        let expected = if parent.is_empty() { diff_id.hex() } else { sum(&diff_id.hex()) };
        if id == expected {
            return Tie::DiffId;
        }
    }
    if let Ok(toc) = record.toc_digest.parse::<BlobDigest>()
        && id == sum(&format!("@TOC={}", toc.hex()))
    {
        return Tie::Toc;
    }
    if record.diff_digest.is_empty() { Tie::None } else { Tie::Record }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(diff: &str, toc: &str) -> LayerRecord {
        let json = serde_json::json!({"id": "x", "diff-digest": diff, "toc-digest": toc});
        serde_json::from_value(json).unwrap()
    }

    /// Compares with IDs that podman 4.3.1 gave to the layers of an image.
    #[test]
    fn b03_layer_ids_follow_from_diff_ids() {
        let base = "5353806b736df417b4d21f7614c826bdb117d79e79eb86bf19a74261c4144d01";
        let middle = "c4d39ba80087a739c7dd0a3d2066a685548449fd5a9280b5ef288517819da9c9";
        let top = "ebd52d0a7b604cd1749a472d89712ed25836361387163c666ccb46a409d2af24";
        let diff_ids = [
            base,
            "23c796163231c9a755efbadc6c61de1acb8a9e7e6e5d38f60d77c5c64cbaff18",
            "0ad0b9bad38661542fdac31c75027070db4da7080c08b5d483f591d54ac57818",
        ];
        for (at, (parent, id)) in [("", base), (base, middle), (middle, top)].into_iter().enumerate() {
            let diff_id = BlobDigest::from_hex(diff_ids[at]).unwrap();
            let record = record(&diff_id.to_string(), "");
            assert_eq!(tie(parent, id, &record, Some(&diff_id)), Tie::DiffId);
            assert_eq!(tie(top, id, &record, Some(&diff_id)), Tie::Record);
        }
    }

    #[test]
    fn layer_ids_of_tables_of_contents() {
        let (toc, diff_id) = (BlobDigest::of(b"toc"), BlobDigest::of(b"tar"));
        let id = BlobDigest::of(format!("+@TOC={}", toc.hex()).as_bytes()).hex();
        assert_eq!(tie("", &id, &record("", &toc.to_string()), Some(&diff_id)), Tie::Toc);
        assert_eq!(tie("", &id, &record("", ""), Some(&diff_id)), Tie::None);
        // The ID of a base is hashed even though it has no parent.
        assert_eq!(tie("", &toc.hex(), &record("", &toc.to_string()), Some(&diff_id)), Tie::None);
    }
}
