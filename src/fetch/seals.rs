//! Seals beside an image: who lists some, which of them can be had, and their blobs.

use super::Session;
use super::clients::Clients;
use super::proxy::BlobDescriptor;
use super::referrers::{self, ReferrerCandidates};
use super::remote::RemoteManifest;
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::{BlobStore, Image, Repository, fallback_tag};
use crate::seal::{Parsed, parse};

impl Session {
    /// Brings the seals of `image` that the repository has into `store`, and returns the digests of their manifests.
    /// One that cannot be had does not hide the others, and a mirror that lists none that can be had does not hide what
    /// the registry has. That there are none is an answer only if the repository has the image and could be asked.
    ///
    /// # Errors
    /// [`Case::C18NoImage`], [`Case::C02TooMany`], C03, C04, C09, C10, C11, C16, C17.
    pub fn seals(&self, repository: &Repository, image: &Image, store: &BlobStore) -> Result<Vec<BlobDigest>> {
        let clock = self.clock();
        let context = self.context(&clock)?;
        let search = Search { image, clients: Clients::new(&context, repository)? };
        let mut tried: Vec<BlobDigest> = Vec::new();
        let mut first: Option<Refusal> = None;
        // As a pull would; and where that brings nothing, every place by itself.
        for all in [false, true] {
            if all && search.clients.count() == 1 {
                break;
            }
            let (found, missing) = self.discover(&search, all)?;
            let mut candidates = found.digests;
            candidates.retain(|digest| !tried.contains(digest));
            match self.bring(&search, &candidates, store) {
                Ok(seals) if !seals.is_empty() => return Ok(seals),
                // What could not be had may have been a seal.
                Ok(_) => first = first.or(missing),
                Err(refusal) => first = first.or(Some(refusal)),
            }
            tried.extend(candidates);
        }
        match first {
            Some(refusal) => Err(refusal),
            None => self.manifest(&search.clients, &image.digest, None).map(|_| Vec::new()),
        }
    }

    /// Brings those of the candidates that are seals of the image, small ones first: large ones must not keep the
    /// others from being had.
    fn bring(&self, search: &Search<'_>, candidates: &[BlobDigest], store: &BlobStore) -> Result<Vec<BlobDigest>> {
        let mut first: Option<Refusal> = None;
        let mut failed = |digest: &BlobDigest, refusal: Refusal| {
            let refusal = match refusal.case() {
                // The image is there; what a list names, or a seal, is not.
                Case::C18NoImage => Refusal::new(Case::C04Missing, refusal.subject(), refusal.detail()),
                _ => refusal,
            };
            log::warn!("{}: seal {digest}: left behind: {refusal}", search.clients.repository);
            first.get_or_insert(refusal.within(format!("seal {digest}")));
        };
        let mut seals = Vec::new();
        for digest in candidates {
            match self.candidate(search, digest) {
                Ok(found) => seals.extend(found),
                Err(refusal) => failed(digest, refusal),
            }
        }
        seals.sort_by_key(|seal| seal.blobs.iter().map(|(_, size)| *size).fold(0, u64::saturating_add));
        let mut room = self.budget.seal_bytes;
        let mut found = Vec::new();
        for seal in &seals {
            match self.blobs(seal, search, store, &mut room) {
                Ok(()) => found.push(store.write(&seal.manifest.raw)?),
                Err(refusal) => failed(&seal.digest, refusal),
            }
        }
        match first {
            Some(refusal) if found.is_empty() => Err(refusal),
            _ => Ok(found),
        }
    }

    /// Collects both lists: a registry may have learned the API after the tag was written. With `all` we ask every
    /// place ourselves, and otherwise skopeo for the tag. Where something was found, what went wrong is returned too.
    fn discover(&self, search: &Search<'_>, all: bool) -> Result<(ReferrerCandidates, Option<Refusal>)> {
        let clients = &search.clients;
        let repository = clients.repository;
        let image = &search.image.digest;
        let tag = fallback_tag(image);
        let (mut found, missing) = referrers::from_api(clients, image, all);
        // Where another place listed some, the error of one of them is not a refusal.
        let (missing, mut refused) = match found.digests.is_empty() {
            true => (None, missing.into_iter().collect()),
            false => (missing, Vec::new()),
        };
        let mut lists = Vec::new();
        if all {
            lists.extend(clients.all().map(|client| client?.manifest(&tag)));
        } else {
            lists.push(self.fallback(search));
        }
        for list in lists {
            let mut tagged = ReferrerCandidates::default();
            let read = list.and_then(|raw| match raw {
                // A registry that takes the tag for the digest in it (GitLab's) answers with the image itself: no list.
                Some(raw) if BlobDigest::of(&raw) == *image => Ok(()),
                None => Ok(()),
                Some(raw) => tagged.add(&raw, &format!("{repository}:{tag}"), &self.budget),
            });
            refused.extend(read.and_then(|()| found.join(tagged, &self.budget)).err());
        }
        // The first says what is wrong; where anything was found it is only reported.
        match refused.into_iter().next() {
            Some(refusal) if found.digests.is_empty() || refusal.case() == Case::C02TooMany => Err(refusal),
            Some(refusal) => {
                log::warn!("{refusal}");
                Ok((found, Some(refusal)))
            }
            None => Ok((found, missing)),
        }
    }

    /// Reads the raw index of the fallback tag. It is never opened as an image: that gives one referrer or another.
    fn fallback(&self, search: &Search<'_>) -> Result<Option<Vec<u8>>> {
        let tag = fallback_tag(&search.image.digest);
        if let Some(Ok(list)) = search.clients.only().map(|client| client.manifest(&tag)) {
            return Ok(list);
        }
        match self.raw(search.clients.repository, Some(&tag), None, search.clients.context.clock) {
            Ok(document) => Ok(Some(document.raw)),
            Err(refusal) if refusal.case() == Case::C18NoImage => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Reads one artifact, if it is a seal of the image; `None` if it is not.
    fn candidate(&self, search: &Search<'_>, digest: &BlobDigest) -> Result<Option<RemoteSeal>> {
        let manifest = self.manifest(&search.clients, digest, None)?;
        match parse(&manifest.raw, digest, search.image, &self.budget)? {
            Parsed::Seal(seal) => Ok(Some(RemoteSeal { digest: *digest, blobs: seal.blobs(), manifest })),
            Parsed::Other(_) => Ok(None),
        }
    }

    /// Brings the blobs of a seal. Only what came is subtracted from what there is room for.
    fn blobs(&self, seal: &RemoteSeal, search: &Search<'_>, store: &BlobStore, room: &mut u64) -> Result<()> {
        for (digest, size) in &seal.blobs {
            if store.holds(digest)? {
                continue;
            }
            if *digest == BlobDigest::of(NO_CONFIG) && *size == NO_CONFIG.len() as u64 {
                store.write(NO_CONFIG)?;
                continue;
            }
            if *size > self.budget.erofs || size > room {
                let why = format!("{digest} has {size} bytes, allowed are {}", self.budget.erofs.min(*room));
                return Err(Refusal::new(Case::C03Slow, "", why));
            }
            self.blob(&search.clients, &seal.manifest, &BlobDescriptor { digest, size: *size }, store)?;
            *room -= size;
        }
        Ok(())
    }
}

/// What every artifact without a config has for one (image-spec, "Guidance for an Empty Descriptor"): nobody needs to be
/// asked for it.
const NO_CONFIG: &[u8] = b"{}";

/// A search for the seals of an image.
struct Search<'a> {
    image: &'a Image,
    clients: Clients<'a>,
}

/// A seal that can be had.
struct RemoteSeal {
    digest: BlobDigest,
    blobs: Vec<(BlobDigest, u64)>,
    manifest: RemoteManifest,
}
