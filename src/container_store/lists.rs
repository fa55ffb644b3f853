//! Lists of images (`podman manifest`, and what older versions pulled): podman resolves the name of one to the image of
//! its instance, which may have no name at all (libimage, `LookupInstance`).

use std::collections::HashSet;

use memchr::memmem;
use serde_json::Value;

use super::layers::OpenStores;
use super::storage::{ImageRecord, Store};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::{Budget, DenySubjects, go_json, strict_json};

/// Bytes of all documents that are searched for digests in one call. Any number of records can share one document.
const MAX_SEARCHED: u64 = 512 << 20;

/// What may still be read.
struct Left {
    searched: u64,
    parsed: u64,
}

impl Left {
    fn new() -> Self {
        Self { searched: MAX_SEARCHED, parsed: Budget::STANDARD.lists }
    }

    fn take(left: &mut u64, document: &[u8]) -> Result<()> {
        *left = left.checked_sub(document.len() as u64).ok_or_else(|| {
            Refusal::new(
                Case::C03TooBig,
                "manifest",
                "the lists of the store are too large to look for an image in them",
            )
        })?;
        Ok(())
    }
}

/// What a record's document says about an image.
enum Listing {
    /// Nothing, or it is no list.
    None,
    /// It lists these digests.
    Of(BlobDigest, HashSet<String>),
    /// It names the image, and what it says of it cannot be told.
    Unreadable(BlobDigest, Refusal),
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
/// An image that somebody pulled and nobody started must not keep others from starting: where the name that was asked
/// for is known, which decides in any case, what cannot be read only adds its name.
pub(super) fn lists(stores: &OpenStores, all: &[Wanted<'_>], thorough: bool) -> Result<Vec<Listed>> {
    let digests: Vec<&str> =
        all.iter().flat_map(|one| one.claims.iter().copied().chain([one.digest.as_str()])).collect();
    let mut found: Vec<Listed> = all.iter().map(|_| Listed::default()).collect();
    let mut left = Left::new();
    for store in stores.all() {
        for list in store.images() {
            let named = list.big_data_names.iter().any(|key| key == "instances.json");
            if !(thorough || list.is_empty() || named) || all.iter().any(|one| one.id == list.id) {
                continue;
            }
            let name = || format!("image {} in {}", list.id, store.path().display());
            let (digest, listed) = match listing(store, list, &digests, &mut left) {
                Ok(Listing::None) => continue,
                Ok(Listing::Of(digest, listed)) => (digest, Some(listed)),
                Ok(Listing::Unreadable(digest, refusal)) if !thorough => {
                    log::warn!("{}: taken for a list: {refusal}", name());
                    (digest, None)
                }
                Err(refusal) if !thorough => {
                    log::warn!("{}: {refusal}", name());
                    continue;
                }
                Ok(Listing::Unreadable(_, refusal)) | Err(refusal) => return Err(refusal.within(name())),
            };
            for (found, one) in found.iter_mut().zip(all) {
                match &listed {
                    None => found.indexes.push(digest),
                    Some(listed) if listed.contains(&one.digest) => found.indexes.push(digest),
                    Some(listed) if !listed.iter().any(|d| one.claims.contains(d.as_str())) => continue,
                    Some(_) => {}
                }
                found.names.extend(list.names.iter().cloned());
            }
        }
    }
    Ok(found)
}

/// Adds the indexes by which the image of a record, with the manifest `digest`, can be denied. One that names it and
/// cannot be read is among them.
pub(super) fn deny_by_lists(store: &Store, record: &ImageRecord, digest: &str, facts: &mut DenySubjects) -> Result<()> {
    let mut left = Left::new();
    for list in store.images().iter().filter(|i| i.id != record.id && i.is_empty()) {
        match listing(store, list, &[digest], &mut left)? {
            Listing::Of(index, listed) if listed.contains(digest) => facts.blob("index", index),
            Listing::Unreadable(index, _) => facts.blob("index", index),
            Listing::Of(..) | Listing::None => {}
        }
    }
    Ok(())
}

/// Reads what a record's document says, if it can be about one of the `wanted` digests.
fn listing(store: &Store, record: &ImageRecord, wanted: &[&str], left: &mut Left) -> Result<Listing> {
    let Some(raw) = store.big_data(record, "manifest", Budget::STANDARD.manifest)? else { return Ok(Listing::None) };
    Left::take(&mut left.searched, &raw)?;
    if !can_name(&raw, wanted) {
        return Ok(Listing::None);
    }
    Left::take(&mut left.parsed, &raw)?;
    if serde_json::from_slice::<serde::de::IgnoredAny>(&raw).is_err() {
        // Nor is it a list for podman.
        return Ok(Listing::None);
    }
    let value = strict_json::value(&raw, "manifest")
        .and_then(|value| go_json::check_value(&value, &go_json::MANIFEST, "manifest").map(|()| value));
    let digest = BlobDigest::of(&raw);
    let value = match value {
        Ok(value) => value,
        Err(refusal) => return Ok(Listing::Unreadable(digest, refusal)),
    };
    let Some(manifests) = value.get("manifests").and_then(Value::as_array) else { return Ok(Listing::None) };
    let listed = manifests.iter().filter_map(|m| m.get("digest")?.as_str()).map(str::to_owned).collect();
    Ok(Listing::Of(digest, listed))
}

/// Returns whether a JSON document can hold one of these digests: as it is, or written in escapes. For many of them it is
/// not looked for each: whoever parses it has a limit.
pub(super) fn can_name(raw: &[u8], digests: &[&str]) -> bool {
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
        let wanted = [digest.as_str(), ""];
        assert!(can_name(format!("[\"{digest}\"]").as_bytes(), &wanted));
        assert!(can_name(br#"["sha256:\u0061b"]"#, &wanted));
        assert!(can_name(format!("[\"sha256\\/{}\"]", "ab".repeat(32)).as_bytes(), &wanted));
        assert!(!can_name(format!("[\"{}\\n\"]", digest.replace('a', "c")).as_bytes(), &wanted));
        assert!(!can_name(b"[]", &wanted));
    }
}
