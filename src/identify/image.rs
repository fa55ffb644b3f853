//! From the uppermost layer to the images that it may belong to: their documents against each
//! other, and against the chain of layers.

use std::path::PathBuf;

use serde_json::Value;

use super::layers::{Link, Stores, Tie, shown, tie};
use super::storage::{ImageRecord, Store};
use crate::digest::BlobDigest;
use crate::oci::{Budget, Image, strict_json};
use crate::report::{Case, Refusal, Result};

/// Manifests stored for one image. There is one for each way its layers were compressed, and the
/// indexes that it was pulled by.
const MAX_MANIFESTS: usize = 64;

/// The annotations under which a layer's descriptor names its table of contents
/// (storage/pkg/chunked/toc).
const TOC_ANNOTATIONS: [&str; 2] =
    ["io.github.containers.zstd-chunked.manifest-checksum", "containerd.io/snapshot/stargz/toc.digest"];

/// An image that the layers may be: its documents and the layers hold together, and nobody has
/// vouched for any of it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Manifest and config.
    pub image: Image,
    /// Its ID in the store.
    pub id: String,
    /// The names that the store gives it. Nothing binds them.
    pub names: Vec<String>,
    /// Digests of the indexes that it was pulled by, as far as they are stored and list it: seals
    /// may be about them.
    pub indexes: Vec<BlobDigest>,
    /// The root of the store that knows it.
    pub store: PathBuf,
    /// The container's record names this image.
    pub claimed_by_container: bool,
}

/// All images whose uppermost layer is that of the chain (uppermost first), the one that the
/// container claims first. An image that claims the layer and does not fit is not left out but
/// refused: which image was meant must not depend on which record was damaged.
///
/// # Errors
/// `B01` to `B06` and those of [`Image::from_bytes`].
pub(super) fn candidates(stores: &Stores, chain: &[Link], claimed: Option<&str>) -> Result<Vec<Candidate>> {
    let Some(top) = chain.first() else { return Ok(Vec::new()) };
    let mut all: Vec<Candidate> = Vec::new();
    for store in stores.all() {
        for record in store.images().iter().filter(|i| i.has_top(&top.home.id)) {
            let name = format!("image {} in {}", record.id, store.path().display());
            for mut candidate in read(store, record, stores, chain).map_err(|r| r.within(name))? {
                candidate.claimed_by_container = claimed == Some(&candidate.id);
                // Several stores may hold the same image.
                match all.iter_mut().find(|c| c.image.digest == candidate.image.digest && c.id == candidate.id) {
                    Some(same) => same.names.extend(candidate.names),
                    None => all.push(candidate),
                }
            }
        }
    }
    if let Some((first, rest)) = all.split_first() {
        let diff_ids = |c: &Candidate| c.image.layers.iter().map(|l| l.diff_id).collect::<Vec<_>>();
        if let Some(other) = rest.iter().find(|c| diff_ids(c) != diff_ids(first)) {
            let why = format!("images {} and {} name other diff_ids for them", first.id, other.id);
            return Err(Refusal::new(Case::B03Layers, shown(top), why));
        }
    }
    all.sort_by_key(|c| !c.claimed_by_container);
    Ok(all)
}

/// The images that one record stands for: one for each manifest.
fn read(store: &Store, record: &ImageRecord, stores: &Stores, chain: &[Link]) -> Result<Vec<Candidate>> {
    let budget = Budget::STANDARD;
    let bad = |why: String| Refusal::new(Case::B05Documents, "", why);
    let (manifests, indexes) = documents(store, record, &budget)?;
    let mut candidates = Vec::new();
    for (digest, manifest) in manifests {
        let value = strict_json::value(&manifest, &format!("manifest {digest}"))?;
        let config: BlobDigest = value
            .pointer("/config/digest")
            .and_then(Value::as_str)
            .ok_or_else(|| bad(format!("manifest {digest} names no config")))?
            .parse()?;
        let config = store
            .big_data(record, &config.to_string(), budget.config)?
            .ok_or_else(|| bad(format!("there is no config {config}")))?;
        let image = Image::from_bytes(manifest, config, &budget).map_err(|r| match r.case() {
            Case::C04Bytes => bad(format!("{} was changed", r.subject())),
            _ => r,
        })?;
        let tocs = compare(&image, stores, chain)?;
        if record.id != image.config_digest.hex() && Some(&record.id) != toc_image_id(&tocs).as_ref() {
            return Err(bad(format!("its config is {}", image.config_digest)));
        }
        let lists = |index: &Value| {
            let entries = index.get("manifests").and_then(Value::as_array);
            let listed = |e: &Value| e.get("digest").and_then(Value::as_str) == Some(&digest.to_string());
            entries.is_some_and(|entries| entries.iter().any(listed))
        };
        candidates.push(Candidate {
            indexes: indexes.iter().filter(|(_, index)| lists(index)).map(|(digest, _)| *digest).collect(),
            image,
            id: record.id.clone(),
            names: record.names.clone(),
            store: store.path().to_owned(),
            claimed_by_container: false,
        });
    }
    Ok(candidates)
}

type Manifests = Vec<(BlobDigest, Vec<u8>)>;
type Indexes = Vec<(BlobDigest, Value)>;

/// The stored manifests, that under `manifest` first, and indexes. Those under `manifest-DIGEST`
/// must have that digest, and the one under `manifest` must be among them where there are any.
fn documents(store: &Store, record: &ImageRecord, budget: &Budget) -> Result<(Manifests, Indexes)> {
    let bad = |why: String| Refusal::new(Case::B05Documents, "", why);
    let named: Vec<BlobDigest> = record
        .big_data_names
        .iter()
        .filter_map(|key| key.strip_prefix("manifest-"))
        .map(str::parse)
        .collect::<Result<_>>()?;
    if named.len() > MAX_MANIFESTS {
        return Err(bad(format!("{} manifests, allowed are {MAX_MANIFESTS}", named.len())));
    }
    let (mut manifests, mut indexes) = (Vec::new(), Vec::new());
    if let Some(raw) = store.big_data(record, "manifest", budget.manifest)? {
        let digest = BlobDigest::of(&raw);
        if !named.is_empty() && !named.contains(&digest) {
            return Err(bad("its manifest was changed".into()));
        }
        manifests.push((digest, raw));
    }
    for digest in named {
        let raw = store
            .big_data(record, &format!("manifest-{digest}"), budget.manifest)?
            .ok_or_else(|| bad(format!("there is no manifest {digest}")))?;
        if BlobDigest::of(&raw) != digest {
            return Err(bad(format!("manifest {digest} was changed")));
        }
        let value = strict_json::value(&raw, &format!("manifest {digest}"))?;
        // What is both is refused with the manifests.
        if value.get("manifests").is_some() && value.get("layers").is_none() && value.get("config").is_none() {
            indexes.push((digest, value));
        } else if manifests.iter().all(|(d, _)| *d != digest) {
            manifests.push((digest, raw));
        }
    }
    if manifests.is_empty() {
        return Err(bad("it has no manifest".into()));
    }
    Ok((manifests, indexes))
}

/// Compares every layer of the image with the chain, and gives the tables of contents by which
/// layers are known, lowest first.
fn compare(image: &Image, stores: &Stores, chain: &[Link]) -> Result<Vec<Option<BlobDigest>>> {
    if image.layers.len() != chain.len() {
        let why = format!("the image has {}, the call {}", image.layers.len(), chain.len());
        return Err(Refusal::new(Case::B03Layers, "", why));
    }
    let mut parent = "";
    let mut tocs = Vec::with_capacity(chain.len());
    for (layer, link) in image.layers.iter().zip(chain.iter().rev()) {
        let differs = |case, why: String| Err(Refusal::new(case, shown(link), why));
        let Some(record) = stores.of(link).layer(&link.home.id) else {
            return differs(Case::B08Lowers, "the store has no record of this layer".into());
        };
        let on_record = match record.diff_digest.as_str() {
            "" => None,
            text => Some(text.parse::<BlobDigest>()?),
        };
        let tie = tie(parent, &link.home.id, record, Some(&layer.diff_id));
        match (tie, on_record) {
            // ID and image agree, and the record does not: it is the record that was changed.
            (Tie::DiffId | Tie::Toc, Some(found)) if found != layer.diff_id => {
                return differs(Case::B02DiffDigest, format!("{found} instead of {}", layer.diff_id));
            }
            (_, Some(found)) if found != layer.diff_id => {
                return differs(Case::B03Layers, format!("its diff_id is {found}, the image's {}", layer.diff_id));
            }
            (Tie::None, _) => {
                return differs(Case::B03Layers, format!("nothing says that its diff_id is {}", layer.diff_id));
            }
            _ => {}
        }
        tocs.push(match tie {
            Tie::Toc => {
                let toc: BlobDigest = record.toc_digest.parse()?;
                let named = TOC_ANNOTATIONS.iter().filter_map(|key| layer.annotations.get(*key));
                if !named.into_iter().any(|n| *n == record.toc_digest) {
                    return differs(Case::B02DiffDigest, format!("the image names no table of contents {toc}"));
                }
                Some(toc)
            }
            _ => None,
        });
        parent = &link.home.id;
    }
    Ok(tocs)
}

/// The ID of an image with a layer that is known by its table of contents
/// (image/storage/storage_dest.go, `computeID`).
fn toc_image_id(tocs: &[Option<BlobDigest>]) -> Option<String> {
    let input: String = tocs.iter().map(|t| t.map_or_else(|| "|".to_owned(), |t| format!("{t}|"))).collect();
    tocs.iter().any(Option::is_some).then(|| BlobDigest::of(format!("@With TOC:{input}").as_bytes()).hex())
}
