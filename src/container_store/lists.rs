//! Lists of images (`podman manifest`, and what older versions pulled): podman resolves the name of one to the image of
//! its instance, which may have no name at all (libimage, `LookupInstance`).

use std::collections::HashSet;

use memchr::memmem;

use super::big_data::Document;
use super::instances::instances;
use super::layers::OpenStores;
use super::storage::{ImageRecord, Store};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::DenySubjects;

/// Bytes of one list: a hundred have names for ten thousand images each. podman takes 4 MiB from a registry, and does not
/// count them where it takes documents from elsewhere.
const MAX_LIST: u64 = 8 << 20;

/// Bytes of all documents that are searched for digests in one call: a second of work. Those of a thousand real lists take
/// some megabytes, and whoever only pushes images needs more than a hundred of the largest for so many.
const MAX_SEARCHED: u64 = 512 << 20;

/// Bytes of a list that is searched before larger ones: so these hide no other.
const SMALL: u64 = 1 << 20;

/// Bytes that a document counts for at least, since opening it is work too.
const LEAST: u64 = 4 << 10;

/// How many bytes may still be searched; `None` after there were more.
struct Searched(Option<u64>);

impl Searched {
    fn nothing() -> Self {
        Self(Some(MAX_SEARCHED))
    }

    /// Counts a document before it is read: holes in a file take no room on the disk.
    fn add(&mut self, length: u64) -> Result<()> {
        self.0 = self.0.and_then(|left| left.checked_sub(length.max(LEAST)));
        let why = "the lists of the store are too large to look for an image in them";
        self.0.map(|_| ()).ok_or_else(|| Refusal::new(Case::C03TooBig, "manifest", why))
    }

    fn is_at_end(&self) -> bool {
        self.0.is_none()
    }
}

/// An image that lists are searched for.
pub(super) struct Wanted<'a> {
    /// The ID of its record.
    pub(super) id: &'a str,
    /// The digest of its manifest.
    pub(super) digest: String,
    /// Digests that its record claims, by which podman finds it.
    pub(super) claims: HashSet<&'a str>,
}

/// What lists say about an image.
#[derive(Default)]
pub(super) struct Listed {
    /// Names by which podman finds it.
    pub(super) names: Vec<String>,
    /// The digests of indexes that list it.
    pub(super) indexes: Vec<BlobDigest>,
}

/// Finds out what lists say about each of the images. podman finds the image of an instance by recorded digests, which
/// need not be true. Records without layers are looked at, and, if nobody has said which name was asked for, the manifests
/// of all.
///
/// An image that somebody pulled and nobody started must not keep others from starting: only what podman reads as a list
/// says anything. Where the name that was asked for is known, which decides in any case, what cannot be read is left out.
pub(super) fn lists(stores: &OpenStores, all: &[Wanted<'_>], thorough: bool) -> Result<Vec<Listed>> {
    let mut search = Search::of(all, thorough);
    search.through(stores.all())?;
    if let Some(refusal) = search.left_out {
        log::warn!("{refusal}; lists that are not read say nothing about images");
    }
    Ok(search.found)
}

/// A search for images in lists.
struct Search<'a> {
    all: &'a [Wanted<'a>],
    ids: HashSet<&'a str>,
    wanted: HashSet<&'a str>,
    thorough: bool,
    searched: Searched,
    found: Vec<Listed>,
    /// The first reason for which a list was left out.
    left_out: Option<Refusal>,
}

impl<'a> Search<'a> {
    fn of(all: &'a [Wanted<'a>], thorough: bool) -> Self {
        Self {
            all,
            ids: all.iter().map(|one| one.id).collect(),
            wanted: all.iter().flat_map(|one| one.claims.iter().copied().chain([one.digest.as_str()])).collect(),
            thorough,
            searched: Searched::nothing(),
            found: all.iter().map(|_| Listed::default()).collect(),
            left_out: None,
        }
    }

    /// Looks at the records of these stores, small lists before large ones.
    fn through(&mut self, stores: &[Store]) -> Result<()> {
        let mut large = Vec::new();
        for store in stores {
            for list in store.images() {
                if self.searched.is_at_end() {
                    return Ok(());
                }
                if !self.may_be(list) {
                    continue;
                }
                match store.document(list, "manifest") {
                    Ok(Some(document)) if document.length() > SMALL => large.push((document.length(), store, list)),
                    opened => self.look(store, list, opened)?,
                }
            }
        }
        large.sort_by_key(|(length, ..)| *length);
        for (_, store, list) in large {
            if self.searched.is_at_end() {
                break;
            }
            self.look(store, list, store.document(list, "manifest"))?;
        }
        Ok(())
    }

    /// Returns whether the document of a record is looked at.
    fn may_be(&self, list: &ImageRecord) -> bool {
        let named = || list.big_data_names.iter().any(|key| key == "instances.json");
        (self.thorough || list.is_empty() || named()) && !self.ids.contains(list.id.as_str())
    }

    fn look(&mut self, store: &Store, list: &ImageRecord, opened: Result<Option<Document<'_>>>) -> Result<()> {
        match opened.and_then(|document| listing(document, &self.wanted, &mut self.searched)) {
            Ok(Some((index, listed))) => self.add(list, index, &listed),
            Ok(None) => {}
            Err(refusal) => {
                let refusal = refusal.within(format!("image {} in {}", list.id, store.path().display()));
                if self.thorough {
                    return Err(refusal);
                }
                self.left_out.get_or_insert(refusal);
            }
        }
        Ok(())
    }

    /// Adds what a list says about the images.
    fn add(&mut self, list: &ImageRecord, index: BlobDigest, listed: &HashSet<String>) {
        let listed: HashSet<&str> = listed.iter().map(String::as_str).collect();
        for (found, one) in self.found.iter_mut().zip(self.all) {
            let by_digest = listed.contains(one.digest.as_str());
            if by_digest {
                found.indexes.push(index);
            }
            if by_digest || !listed.is_disjoint(&one.claims) {
                found.names.extend(list.names.iter().cloned());
            }
        }
    }
}

/// Adds the indexes by which the image of a record, with the manifest `digest`, can be denied.
pub(super) fn deny_by_lists(store: &Store, record: &ImageRecord, digest: &str, facts: &mut DenySubjects) -> Result<()> {
    deny_within(&mut Searched::nothing(), store, record, digest, facts)
}

fn deny_within(
    searched: &mut Searched,
    store: &Store,
    record: &ImageRecord,
    digest: &str,
    facts: &mut DenySubjects,
) -> Result<()> {
    let wanted = HashSet::from([digest]);
    for list in store.images().iter().filter(|i| i.id != record.id && i.is_empty()) {
        if let Some((index, _)) = listing(store.document(list, "manifest")?, &wanted, searched)? {
            facts.blob("index", index);
        }
    }
    Ok(())
}

/// A list, and which of the wanted digests it lists.
type Listing = (BlobDigest, HashSet<String>);

/// Reads which of the `wanted` digests a record's document lists, if any.
fn listing(document: Option<Document<'_>>, wanted: &HashSet<&str>, searched: &mut Searched) -> Result<Option<Listing>> {
    let Some(document) = document else { return Ok(None) };
    // Of one that is too large by itself nothing is read.
    let length = document.length();
    searched.add(if length > MAX_LIST { 0 } else { length })?;
    let raw = document.read(MAX_LIST)?;
    let listed = listed_in(&raw, wanted);
    Ok((!listed.is_empty()).then(|| (BlobDigest::of(&raw), listed)))
}

/// Returns which of the `wanted` digests a document lists.
pub(super) fn listed_in(raw: &[u8], wanted: &HashSet<&str>) -> HashSet<String> {
    if !can_name(raw, wanted) {
        return HashSet::new();
    }
    instances(raw, &|digest| wanted.contains(digest))
}

/// Returns whether a JSON document can hold one of these digests: as it is, or written in escapes. For many of them it is
/// not looked for each.
fn can_name(raw: &[u8], digests: &HashSet<&str>) -> bool {
    const MANY: usize = 16;
    let holds = |text: &str| memmem::find(raw, text.as_bytes()).is_some();
    digests.len() > MANY
        || holds("\\u")
        || digests.iter().any(|digest| !digest.is_empty() && holds(digest.rsplit(':').next().unwrap_or(digest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_names_a_digest_as_it_is_or_in_escapes() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let wanted = HashSet::from([digest.as_str(), ""]);
        assert!(can_name(format!("[\"{digest}\"]").as_bytes(), &wanted));
        assert!(can_name(br#"["sha256:\u0061b"]"#, &wanted));
        assert!(can_name(format!("[\"sha256\\/{}\"]", "ab".repeat(32)).as_bytes(), &wanted));
        assert!(!can_name(format!("[\"{}\\n\"]", digest.replace('a', "c")).as_bytes(), &wanted));
        assert!(!can_name(b"[]", &wanted));
    }

    #[test]
    fn c03_what_is_searched_for_an_image_has_a_limit() {
        let mut searched = Searched(Some(LEAST + 7));
        searched.add(7).unwrap();
        assert_eq!(searched.0, Some(7), "a small one");
        let mut searched = Searched(Some(2 * LEAST));
        searched.add(2 * LEAST).unwrap();
        assert!(!searched.is_at_end());
        assert_eq!(searched.add(0).unwrap_err().case(), Case::C03TooBig);
        assert!(searched.is_at_end());
        assert_eq!(searched.add(0).unwrap_err().case(), Case::C03TooBig);
    }

    /// What may be searched here: less than otherwise, and in the same way.
    const LIMIT: u64 = 3 * MAX_LIST;

    /// Makes a store of lists of these lengths, which are holes, and after them one that lists `digest`.
    fn of_holes(lengths: &[u64], digest: &str) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let images = dir.path().join("overlay-images");
        let mut records = Vec::new();
        let mut add = |name: &str| {
            let id = BlobDigest::of(name.as_bytes()).hex();
            std::fs::create_dir_all(images.join(&id)).unwrap();
            records.push(serde_json::json!({"id": id, "names": [name]}));
            images.join(id).join("manifest")
        };
        for (number, length) in lengths.iter().enumerate() {
            std::fs::File::create(add(&format!("holes:{number}"))).unwrap().set_len(*length).unwrap();
        }
        std::fs::write(add("list:1"), format!("{{\"manifests\":[{{\"digest\":\"{digest}\"}}]}}")).unwrap();
        std::fs::write(images.join("images.json"), serde_json::Value::from(records).to_string()).unwrap();
        let store = Store::open_without_layers(dir.path(), "overlay").unwrap();
        (dir, store)
    }

    #[test]
    fn c03_lists_that_are_holes_are_counted_before_they_are_read() {
        let digest = BlobDigest::of(b"manifest").to_string();
        let all = [Wanted { id: "x", digest: digest.clone(), claims: HashSet::new() }];
        let after = |lengths: &[u64], thorough: bool| {
            let (_dir, store) = of_holes(lengths, &digest);
            let mut search = Search::of(&all, thorough);
            assert_eq!(search.searched.0, Some(MAX_SEARCHED));
            search.searched = Searched(Some(LIMIT));
            let result = search.through(&[store]);
            let left_out = search.left_out.map(|refusal| refusal.case());
            (result.map_err(|r| r.case()), search.found[0].names.clone(), left_out, search.searched.0)
        };
        let names = vec!["list:1".to_owned()];
        // A list of a gibibyte is not read, and counts as little as it costs.
        let left = Some(LIMIT - 3 * LEAST);
        assert_eq!(after(&[1 << 30; 2], false), (Ok(()), names.clone(), Some(Case::B01Records), left));
        let ended = after(&[1 << 30; 2], true);
        assert_eq!((ended.0, ended.1), (Err(Case::B01Records), names.clone()));
        // What is counted is read: the limit is reached after so many, and the real list is found before them.
        let many = [MAX_LIST; (LIMIT / MAX_LIST) as usize];
        assert_eq!(after(&many, false), (Ok(()), names.clone(), Some(Case::C03TooBig), None));
        assert_eq!(after(&many, true), (Err(Case::C03TooBig), names.clone(), None, None));
        let fewer = &many[1..];
        assert_eq!(after(fewer, true), (Ok(()), names, None, Some(MAX_LIST - LEAST)));
    }

    // Nobody can say then that the image is not denied.
    #[test]
    fn c03_lists_that_are_holes_deny_nothing_unseen() {
        let digest = BlobDigest::of(b"manifest").to_string();
        let record: ImageRecord = serde_json::from_value(serde_json::json!({"id": "x"})).unwrap();
        let facts = |lengths: &[u64]| {
            let (_dir, store) = of_holes(lengths, &digest);
            let mut facts = DenySubjects::default();
            deny_within(&mut Searched(Some(LIMIT)), &store, &record, &digest, &mut facts)
                .map(|()| facts.blobs().len())
                .map_err(|r| r.case())
        };
        assert_eq!(facts(&[0, 4096]), Ok(1));
        assert_eq!(facts(&[1 << 30]), Err(Case::B01Records));
        assert_eq!(facts(&[MAX_LIST; (LIMIT / MAX_LIST) as usize]), Err(Case::C03TooBig));
    }
}
