//! Lists of images (`podman manifest`, and what older versions pulled): podman resolves the name of one to the image of
//! its instance, which may have no name at all (libimage, `LookupInstance`).

use std::collections::HashSet;

use memchr::memmem;

use super::instances::instances;
use super::layers::OpenStores;
use super::storage::{ImageRecord, Store};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::DenySubjects;

/// Bytes of one document. podman takes 4 MiB from a registry, and does not count them where it takes documents from
/// elsewhere.
const MAX_DOCUMENT: u64 = 64 << 20;

/// Bytes of all documents that are searched for digests in one call: seconds of work. Any number of records can share one
/// document, but whoever only pushes images needs thousands of the largest for so many.
const MAX_SEARCHED: u64 = 16 << 30;

/// Counts what is searched.
struct Searched(u64);

impl Searched {
    fn add(&mut self, document: &[u8]) -> Result<()> {
        self.0 += document.len() as u64;
        if self.0 > MAX_SEARCHED {
            let why = "the lists of the store are too large to look for an image in them";
            return Err(Refusal::new(Case::C03TooBig, "manifest", why));
        }
        Ok(())
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
    let wanted: HashSet<&str> =
        all.iter().flat_map(|one| one.claims.iter().copied().chain([one.digest.as_str()])).collect();
    let mut found: Vec<Listed> = all.iter().map(|_| Listed::default()).collect();
    let mut searched = Searched(0);
    for store in stores.all() {
        for list in store.images() {
            let named = list.big_data_names.iter().any(|key| key == "instances.json");
            if !(thorough || list.is_empty() || named) || all.iter().any(|one| one.id == list.id) {
                continue;
            }
            let (index, listed) = match listing(store, list, &wanted, &mut searched) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(refusal) => {
                    let refusal = refusal.within(format!("image {} in {}", list.id, store.path().display()));
                    if thorough {
                        return Err(refusal);
                    }
                    log::warn!("{refusal}");
                    continue;
                }
            };
            for (found, one) in found.iter_mut().zip(all) {
                let by_digest = listed.contains(&one.digest);
                if by_digest {
                    found.indexes.push(index);
                }
                if by_digest || listed.iter().any(|digest| one.claims.contains(digest.as_str())) {
                    found.names.extend(list.names.iter().cloned());
                }
            }
        }
    }
    Ok(found)
}

/// Adds the indexes by which the image of a record, with the manifest `digest`, can be denied.
pub(super) fn deny_by_lists(store: &Store, record: &ImageRecord, digest: &str, facts: &mut DenySubjects) -> Result<()> {
    let mut searched = Searched(0);
    let wanted = HashSet::from([digest]);
    for list in store.images().iter().filter(|i| i.id != record.id && i.is_empty()) {
        if let Some((index, _)) = listing(store, list, &wanted, &mut searched)? {
            facts.blob("index", index);
        }
    }
    Ok(())
}

/// A list, and which of the wanted digests it lists.
type Listing = (BlobDigest, HashSet<String>);

/// Reads which of the `wanted` digests a record's document lists, if any.
fn listing(
    store: &Store,
    record: &ImageRecord,
    wanted: &HashSet<&str>,
    searched: &mut Searched,
) -> Result<Option<Listing>> {
    let Some(raw) = store.big_data(record, "manifest", MAX_DOCUMENT)? else { return Ok(None) };
    searched.add(&raw)?;
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
        let mut searched = Searched(MAX_SEARCHED - 4);
        searched.add(b"four").unwrap();
        assert_eq!(searched.add(b"x").unwrap_err().case(), Case::C03TooBig);
    }
}
