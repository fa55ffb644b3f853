//! From the uppermost layer to the images that it may belong to: their documents are compared with each other, and with
//! the chain of layers.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use serde_json::Value;

use super::layers::{ChainLink, ClaimedLayer, LayerBlob, OpenStores, Tie, shown, tie};
use super::lists::{self, Listed, Wanted};
use super::storage::{ImageRecord, Store};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::DenySubjects;
use crate::oci::{Budget, Image, ImageId, go_json, strict_json};

/// How many bytes of manifests beside images' own are read in one call, of all its images. There is one for each way the
/// layers of one were compressed, and one for each index by which it was pulled: anybody can push any number of these that
/// list it, and podman keeps them all.
const MAX_OTHERS: u64 = 512 << 20;

/// The annotations under which a layer's descriptor names its table of contents
/// (storage/pkg/chunked/toc).
const TOC_ANNOTATIONS: [&str; 2] =
    ["io.github.containers.zstd-chunked.manifest-checksum", "containerd.io/snapshot/stargz/toc.digest"];

/// An image that the layers may be: its documents match each other and the layers, but nobody has vouched for any of
/// it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Manifest and config.
    pub image: Image,
    /// Its ID in the store.
    pub id: ImageId,
    /// The names that the store gives it, and those of lists by which podman finds it. Nothing ties a name to an image.
    pub names: Vec<String>,
    /// Digests of the indexes that list its manifest, as far as they are stored: those by which it was pulled, and
    /// those with their own records.
    pub indexes: Vec<BlobDigest>,
    /// A digest by which CRI-O finds it too, for one of its names with that digest, and which is of something else: no
    /// manifest with this config, and no index that lists one.
    pub also_found_by: Option<String>,
    /// The root of the store that knows it.
    pub store: PathBuf,
    /// Whether the container's record names this image.
    pub claimed_by_container: bool,
}

impl Candidate {
    /// Adds what lists say about it.
    fn listed_as(mut self, listed: Listed) -> Self {
        self.indexes.extend(listed.indexes);
        self.names.extend(listed.names);
        let mut seen = HashSet::new();
        self.names.retain(|name| seen.insert(name.clone()));
        self
    }
}

/// Adds to the layers what the manifests say about their blobs: of several the largest.
pub(super) fn with_blobs(mut layers: Vec<ClaimedLayer>, images: &[Candidate]) -> Vec<ClaimedLayer> {
    for (number, layer) in layers.iter_mut().enumerate() {
        let blob = |candidate: &Candidate| {
            let layer = candidate.image.layers.get(number)?;
            Some(LayerBlob { size: layer.size, compressed: layer.compressed })
        };
        layer.blob = images.iter().filter_map(blob).max_by_key(|blob| (blob.compressed, blob.size));
    }
    layers
}

/// Finds all images whose uppermost layer is that of the chain (uppermost first); if a container claims one, only that
/// one. `thorough` says that nobody knows which name was asked for. An image that claims the layer and does not match
/// is not left out but refused: which image was meant must not depend on which record was damaged.
///
/// # Errors
/// `B01` to `B06`, `B13` and the errors of [`Image::from_bytes`].
pub(super) fn candidates(
    stores: &OpenStores,
    chain: &[ChainLink],
    claimed: Option<&ImageId>,
    thorough: bool,
) -> Result<Vec<Candidate>> {
    let Some(top) = chain.first() else { return Ok(Vec::new()) };
    let mut all: Vec<(Candidate, &ImageRecord)> = Vec::new();
    let is_claimed = |i: &ImageRecord| claimed.is_some_and(|claimed| claimed.as_str() == i.id);
    let mut with_top = stores.all().iter().flat_map(Store::images).filter(|i| i.has_top(top.home.id.as_str()));
    // Others with the same layers are not looked at: what somebody pulled must not keep this one from starting.
    let one_is_claimed = with_top.any(is_claimed);
    let mut left = MAX_OTHERS;
    for store in stores.all() {
        let of_top = store.images().iter().filter(|i| i.has_top(top.home.id.as_str()));
        for record in of_top.filter(|i| !one_is_claimed || is_claimed(i)) {
            let name = format!("image {} in {}", record.id, store.path().display());
            let mut candidate = read(store, record, stores, chain, &mut left).map_err(|r| r.within(name))?;
            candidate.claimed_by_container = claimed == Some(&candidate.id);
            // Several stores may hold the same image.
            match all.iter_mut().find(|(c, _)| c.image.digest == candidate.image.digest && c.id == candidate.id) {
                Some((same, _)) => {
                    same.names.extend(candidate.names);
                    same.also_found_by = same.also_found_by.take().or(candidate.also_found_by);
                }
                None => all.push((candidate, record)),
            }
        }
    }
    if let Some(((first, _), rest)) = all.split_first() {
        let diff_ids = |c: &Candidate| c.image.layers.iter().map(|l| l.diff_id).collect::<Vec<_>>();
        if let Some((other, _)) = rest.iter().find(|(c, _)| diff_ids(c) != diff_ids(first)) {
            let why = format!("images {} and {} name other diff_ids for them", first.id, other.id);
            return Err(Refusal::new(Case::B03Layers, shown(top), why));
        }
    }
    if all.iter().any(|(c, _)| c.claimed_by_container) {
        all.retain(|(c, _)| c.claimed_by_container);
        // podman takes the first store that has the image; the order of those that are not its own is not known here.
        if stores.knows_order(top)
            && let Some(first) = stores.in_order().find(|store| all.iter().any(|(c, _)| c.store == store.path()))
        {
            all.retain(|(c, _)| c.store == first.path());
        }
        if let [(one, _), (other, _), ..] = all.as_slice() {
            let why =
                format!("it is in {} and, with another manifest, in {}", one.store.display(), other.store.display());
            return Err(Refusal::new(Case::B04Several, format!("image {}", one.id), why));
        }
    }
    let wanted: Vec<Wanted<'_>> = all
        .iter()
        .map(|(candidate, record)| Wanted {
            id: candidate.id.as_str(),
            digest: candidate.image.digest.to_string(),
            claims: record.claims(),
        })
        .collect();
    let listed = lists::lists(stores, &wanted, thorough)?;
    Ok(all.into_iter().zip(listed).map(|((candidate, _), listed)| candidate.listed_as(listed)).collect())
}

/// Collects everything that the image of a record can be denied by, from its documents and not from what the record
/// says about them.
pub(super) fn facts(store: &Store, record: &ImageRecord) -> Result<DenySubjects> {
    let mut left = MAX_OTHERS;
    let (image, beside) = parse(store, record, &mut left)?;
    let mut facts = DenySubjects::of(&image);
    beside.indexes.into_iter().for_each(|index| facts.blob("index", index));
    lists::deny_by_lists(store, record, &image.digest.to_string(), &mut facts)?;
    Ok(facts)
}

/// Reads the image that a record stands for, if it is the chain's. `left` is what is left of [`MAX_OTHERS`].
fn read(
    store: &Store,
    record: &ImageRecord,
    stores: &OpenStores,
    chain: &[ChainLink],
    left: &mut u64,
) -> Result<Candidate> {
    let (image, beside) = parse(store, record, left)?;
    let tocs = compare(&image, stores, chain)?;
    if record.id != image.config_digest.hex() && Some(&record.id) != toc_image_id(&tocs).as_ref() {
        return Err(Refusal::new(Case::B05Documents, "", format!("its config is {}", image.config_digest)));
    }
    Ok(Candidate {
        also_found_by: beside.unrelated(record, &image),
        indexes: beside.indexes,
        image,
        id: record.id.parse()?,
        names: record.names.clone(),
        store: store.path().to_owned(),
        claimed_by_container: false,
    })
}

/// Reads the image of the manifest under `manifest`, whatever others are kept beside it, and the digests of the indexes
/// that list it. That manifest is the one from which podman takes config, command and annotations.
fn parse(store: &Store, record: &ImageRecord, left: &mut u64) -> Result<(Image, DocumentsBeside)> {
    let budget = Budget::STANDARD;
    let bad = |why: String| Refusal::new(Case::B05Documents, "", why);
    let (digest, manifest, beside) = documents(store, record, &budget, left)?;
    let name = format!("manifest {digest}");
    let value = strict_json::value(&manifest, &name)?;
    go_json::check_value(&value, &go_json::MANIFEST, &name)?;
    let config: BlobDigest = value
        .pointer("/config/digest")
        .and_then(Value::as_str)
        .ok_or_else(|| bad(format!("{name} names no config")))?
        .parse()?;
    let config = store
        .big_data(record, &config.to_string(), budget.config)?
        .ok_or_else(|| bad(format!("there is no config {config}")))?;
    let image = Image::from_bytes(manifest, config, &budget).map_err(|r| match r.case() {
        Case::C04Bytes => bad(format!("{} was changed", r.subject())),
        _ => r,
    })?;
    Ok((image, beside))
}

/// What a record has beside its manifest, each compared with its digest.
#[derive(Default)]
struct DocumentsBeside {
    /// The digests of the indexes that list it.
    indexes: Vec<BlobDigest>,
    /// All else.
    others: Vec<(BlobDigest, Vec<u8>)>,
}

impl DocumentsBeside {
    /// Returns a digest of those by which the image is found that is of another image. Of one image there may be several
    /// manifests, as its layers are compressed anew, and indexes that list any of them.
    fn unrelated(&self, record: &ImageRecord, image: &Image) -> Option<String> {
        let own = image.digest.to_string();
        let mut known: HashSet<String> = self.indexes.iter().map(ToString::to_string).chain([own]).collect();
        let config = image.config_digest.to_string();
        let is_of_config = |raw: &[u8]| {
            let value: Option<Value> = serde_json::from_slice(raw).ok();
            value.is_some_and(|value| value.pointer("/config/digest").and_then(Value::as_str) == Some(&config))
        };
        let (same, rest): (Vec<_>, Vec<_>) = self.others.iter().partition(|(_, raw)| is_of_config(raw));
        known.extend(same.iter().map(|(digest, _)| digest.to_string()));
        let manifests: HashSet<&str> = known.iter().map(String::as_str).collect();
        let lists = rest.iter().filter(|(_, raw)| !lists::listed_in(raw, &manifests).is_empty());
        let lists: Vec<String> = lists.map(|(digest, _)| digest.to_string()).collect();
        known.extend(lists);
        let mut claims: Vec<&str> = record.claims().into_iter().filter(|digest| !digest.is_empty()).collect();
        claims.sort_unstable();
        claims.into_iter().find(|digest| !known.contains(*digest)).map(str::to_owned)
    }
}

/// A manifest with its digest, and what is beside it.
type Documents = (BlobDigest, Vec<u8>, DocumentsBeside);

/// Reads the manifest under `manifest`, and the stored indexes. What is stored under `manifest-DIGEST` must have that
/// digest, and if anything is, the manifest must be among it.
fn documents(store: &Store, record: &ImageRecord, budget: &Budget, left: &mut u64) -> Result<Documents> {
    let bad = |why: String| Refusal::new(Case::B05Documents, "", why);
    let named: BTreeSet<BlobDigest> = record
        .big_data_names
        .iter()
        .filter_map(|key| key.strip_prefix("manifest-"))
        .map(str::parse)
        .collect::<Result<_>>()?;
    let manifest =
        store.big_data(record, "manifest", budget.manifest)?.ok_or_else(|| bad("it has no manifest".into()))?;
    let digest = BlobDigest::of(&manifest);
    if !named.is_empty() && !named.contains(&digest) {
        return Err(bad("its manifest was changed".into()));
    }
    let (own, mut beside) = (digest.to_string(), DocumentsBeside::default());
    let wanted = HashSet::from([own.as_str()]);
    for other in named {
        let document = store
            .document(record, &format!("manifest-{other}"))?
            .ok_or_else(|| bad(format!("there is no manifest {other}")))?;
        // Before reading: holes in a file take no room on the disk.
        let Some(rest) = left.checked_sub(document.length().min(budget.manifest)) else {
            // They must not keep the image from starting. What is lost are references by one of them, and denials by
            // its digest, which whoever stores the image otherwise escapes too.
            log::warn!("image {} has more manifests beside its own than are read", record.id);
            break;
        };
        *left = rest;
        let raw = document.read(budget.manifest)?;
        if BlobDigest::of(&raw) != other {
            return Err(bad(format!("manifest {other} was changed")));
        }
        // Anybody can push a list of it, and whoever pulls by that adds it to this record.
        if other == digest {
            continue;
        }
        match lists::listed_in(&raw, &wanted).is_empty() {
            true => beside.others.push((other, raw)),
            false => beside.indexes.push(other),
        }
    }
    Ok((digest, manifest, beside))
}

/// Compares every layer of the image with the chain, and returns the tables of contents by which layers are known,
/// lowest first.
fn compare(image: &Image, stores: &OpenStores, chain: &[ChainLink]) -> Result<Vec<Option<BlobDigest>>> {
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
        let tie = tie(parent, link.home.id.as_str(), record, Some(&layer.diff_id));
        match (tie, on_record) {
            // ID and image agree, and the record does not: the record was changed.
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
        parent = link.home.id.as_str();
    }
    Ok(tocs)
}

/// Computes the ID of an image with a layer that is known by its table of contents (image/storage/storage_dest.go,
/// `computeID`).
fn toc_image_id(tocs: &[Option<BlobDigest>]) -> Option<String> {
    let input: String = tocs.iter().map(|t| t.map_or_else(|| "|".to_owned(), |t| format!("{t}|"))).collect();
    tocs.iter().any(Option::is_some).then(|| BlobDigest::of(format!("@With TOC:{input}").as_bytes()).hex())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // Documents that are holes cost nothing to keep, and any number of images can have some.
    #[test]
    fn c03_manifests_beside_those_of_all_images_are_counted_together() {
        const LENGTH: u64 = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        let images = dir.path().join("overlay-images");
        let (own, other) = (BlobDigest::of(b"own"), BlobDigest::of(&vec![0; LENGTH as usize]));
        let keys = json!(["manifest", format!("manifest-{own}"), format!("manifest-{other}")]);
        let ids = ["1".repeat(64), "2".repeat(64), "3".repeat(64)];
        let records: Vec<Value> = ids.iter().map(|id| json!({"id": id, "big-data-names": keys})).collect();
        std::fs::create_dir(&images).unwrap();
        std::fs::write(images.join("images.json"), Value::from(records).to_string()).unwrap();
        for image in ids.iter().map(|id| images.join(id)) {
            std::fs::create_dir(&image).unwrap();
            let file = |key: &str| image.join(super::super::big_data::file_name(key));
            std::fs::write(file("manifest"), b"own").unwrap();
            std::fs::write(file(&format!("manifest-{own}")), b"own").unwrap();
            std::fs::File::create(file(&format!("manifest-{other}"))).unwrap().set_len(LENGTH).unwrap();
        }
        let store = Store::open_without_layers(dir.path(), "overlay").unwrap();
        let mut left = 2 * LENGTH + 9;
        let mut others = store.images().iter().map(|record| {
            let (digest, _, beside) = documents(&store, record, &Budget::STANDARD, &mut left).unwrap();
            assert_eq!(digest, own);
            beside.others.len()
        });
        assert_eq!(others.by_ref().sum::<usize>(), 2, "each is its own and the other one, and there are three");
    }
}
