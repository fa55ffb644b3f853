//! Pushing to a registry: what is pushed is found only when all of it is there.

use std::ffi::OsString;
use std::os::unix::fs::symlink;

use super::client::Client;
use super::clock::Clock;
use super::referrers::{self, ReferrerCandidates};
use super::staging::Workplace;
use super::{Session, Staging, registries, skopeo};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::{BlobStore, INDEX, Image, Repository, fallback_tag, referrers_index};
use crate::seal::artifact_descriptor;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// How often the fallback tag is written: others may write it at the same time, so it is read again after it was
/// written.
const TRIES: usize = 3;

impl Session {
    /// Pushes an image whose blobs are in `store`, by its digest: it has no name yet.
    ///
    /// # Errors
    /// [`Case::C16Skopeo`], C10, C11, C17.
    pub fn push_image(&self, repository: &Repository, image: &Image, store: &BlobStore) -> Result<()> {
        let outbox = Outbox::new(store, &image.media_type, &image.digest, image.manifest.len())?;
        self.copy(&outbox, &repository.at(&image.digest), &[])
    }

    /// Gives an image that was pushed a name.
    ///
    /// # Errors
    /// As [`Self::push_image`].
    pub fn push_tag(&self, repository: &Repository, tag: &str, image: &Image, store: &BlobStore) -> Result<()> {
        let outbox = Outbox::new(store, &image.media_type, &image.digest, image.manifest.len())?;
        self.copy(&outbox, &repository.tagged(tag), &[])
    }

    /// Pushes a seal of `image`, whose manifest is `artifact` and whose blobs are in `store`: by its digest, and,
    /// unless the registry then lists it by the referrers API, into the index of the fallback tag. What is there
    /// already is kept. Pushing again changes nothing.
    ///
    /// # Errors
    /// As [`Self::push_image`]; [`Case::C17Network`] where others keep writing the tag; [`Case::C20NoList`] where the
    /// registry lists no referrers in any way.
    pub fn push_seal(
        &self,
        repository: &Repository,
        image: &BlobDigest,
        artifact: &[u8],
        store: &BlobStore,
    ) -> Result<()> {
        let digest = BlobDigest::of(artifact);
        self.check_skopeo(&Clock::open())?;
        // Where its manifest is there its blobs are; and some registries list twice what is pushed twice.
        if self.at_origin(repository, &digest.to_string())?.is_none_or(|raw| BlobDigest::of(&raw) != digest) {
            let outbox = Outbox::new(store, MANIFEST, &digest, artifact.len())?;
            self.copy(&outbox, &repository.at(&digest), &[])?;
        }
        match self.is_listed(repository, image, &digest) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // The tag is for those who cannot use the API.
            Err(refusal) => log::info!("{refusal}"),
        }
        let descriptor = artifact_descriptor(artifact);
        let lists = |raw: &[u8]| {
            let value: Value = serde_json::from_slice(raw).unwrap_or_default();
            let entries = value.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default();
            entries.iter().any(|e| e.get("digest") == descriptor.get("digest"))
        };
        let tag = fallback_tag(image);
        for _ in 0..TRIES {
            let old = self.at_origin(repository, &tag)?;
            if old.as_deref().is_some_and(|raw| BlobDigest::of(raw) == *image) {
                return Err(lists_none(repository, &tag, "the fallback tag is answered with the image itself"));
            }
            if old.as_deref().is_some_and(lists) {
                return Ok(());
            }
            let index = referrers_index(old.as_deref(), &descriptor, &format!("{repository}:{tag}"))?;
            let staging = Staging::new()?;
            let digest = staging.store().write(&index)?;
            let outbox = Outbox::new(staging.store(), INDEX, &digest, index.len())?;
            self.copy(&outbox, &repository.tagged(&tag), &["--multi-arch=index-only"])?;
        }
        match self.at_origin(repository, &tag)? {
            Some(raw) if lists(&raw) => Ok(()),
            Some(raw) if BlobDigest::of(&raw) == *image => {
                Err(lists_none(repository, &tag, "the fallback tag is answered with the image itself"))
            }
            None => Err(lists_none(repository, &tag, "the fallback tag was written, and is not there")),
            _ => Err(Refusal::new(Case::C17Network, repository.tagged(&tag), "others write this tag at the same time")),
        }
    }

    /// Reads the raw manifest that a tag or digest has in the registry that we write to: mirrors may lag behind, and an
    /// index of theirs would remove the entries of others.
    fn at_origin(&self, repository: &Repository, reference: &str) -> Result<Option<Vec<u8>>> {
        let clock = Clock::of(self.budget.search);
        let context = self.context(&clock)?;
        let endpoint = registries::origin(repository, &self.options)?;
        Client::new(&context, endpoint)?.manifest(reference)
    }

    /// Returns whether the registry lists `artifact` by its API.
    fn is_listed(&self, repository: &Repository, image: &BlobDigest, artifact: &BlobDigest) -> Result<bool> {
        let clock = Clock::of(self.budget.search);
        let context = self.context(&clock)?;
        let mut found = ReferrerCandidates::default();
        let endpoint = registries::origin(repository, &self.options)?;
        Ok(referrers::of_endpoint(&Client::new(&context, endpoint)?, &context, image, &mut found)?
            && found.digests.contains(artifact))
    }

    /// Copies the outbox into the registry. Only the person who asked for a push waits for it: it may take its time.
    fn copy(&self, outbox: &Outbox, to: &str, more: &[&str]) -> Result<()> {
        let mut arguments: Vec<OsString> = vec!["copy".into(), "--quiet".into(), "--preserve-digests".into()];
        arguments.extend(more.iter().map(OsString::from));
        arguments.extend(skopeo::access(&self.options, "dest-"));
        arguments.push(outbox.name());
        arguments.push(to.into());
        let clock = Clock::open();
        self.check_skopeo(&clock)?;
        self.runtime()?.block_on(skopeo::run(to, arguments, self.budget.manifest, &clock, None)).map(drop)
    }
}

/// Makes the refusal for a registry that takes a seal, and would list it for nobody.
fn lists_none(repository: &Repository, tag: &str, why: &str) -> Refusal {
    Refusal::new(Case::C20NoList, repository.tagged(tag), why)
}

/// One document of a store, as a layout that skopeo can read: its blobs are the store's own.
struct Outbox {
    place: Workplace,
}

impl Outbox {
    fn new(store: &BlobStore, media_type: &str, digest: &BlobDigest, size: usize) -> Result<Self> {
        let io = |e: std::io::Error| Refusal::io("a layout for skopeo", e);
        let place = Workplace::new()?;
        let dir = place.path();
        if dir.as_os_str().as_encoded_bytes().contains(&b':') {
            // skopeo would look for the layout in what is before it.
            return Err(Refusal::new(Case::Usage, dir.display().to_string(), "TMPDIR must not hold a colon"));
        }
        std::fs::create_dir(dir.join("blobs")).map_err(io)?;
        symlink(store.path_for_others(), dir.join("blobs/sha256")).map_err(io)?;
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).map_err(io)?;
        let entry = json!({
            "mediaType": media_type,
            "digest": digest.to_string(),
            "size": size,
            "annotations": {"org.opencontainers.image.ref.name": "it"},
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        std::fs::write(dir.join("index.json"), index.to_string()).map_err(io)?;
        Ok(Self { place })
    }

    fn name(&self) -> OsString {
        let mut name = OsString::from("oci:");
        name.push(self.place.path());
        name.push(":it");
        name
    }
}
