use std::cell::OnceCell;

use super::client::{Client, Contact};
use super::registries::{Endpoint, endpoints};
use super::registries_conf::configured;
use super::{FetchContext, image_policy};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::Repository;

/// A manifest or an index, as a registry gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedDocument {
    /// The digest of its bytes.
    pub digest: BlobDigest,
    /// Its bytes.
    pub raw: Vec<u8>,
}

/// The places of a repository, mirrors first, with one client each, which is made when it is first needed.
pub(super) struct Clients<'a> {
    pub(super) context: &'a FetchContext<'a>,
    pub(super) repository: &'a Repository,
    places: Vec<(Endpoint, OnceCell<Client<'a>>)>,
    mirrored: bool,
}

impl<'a> Clients<'a> {
    /// Finds the places; nothing is asked yet.
    ///
    /// # Errors
    /// [`Case::C17Network`] for a blocked registry; [`Case::Usage`] for a configuration that is not understood.
    pub(super) fn new(context: &'a FetchContext<'a>, repository: &'a Repository) -> Result<Self> {
        if context.cache.registries.get().is_none() {
            let _ = context.cache.registries.set(configured()?);
        }
        let registries = context.cache.registries.get().map_or(&[][..], Vec::as_slice);
        let found = endpoints(registries, repository, context.options)?;
        let places = found.list.into_iter().map(|endpoint| (endpoint, OnceCell::new())).collect();
        Ok(Self { context, repository, places, mirrored: found.mirrored })
    }

    /// Returns how many places there are.
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// Returns what became of the questions of this session about the repository: the most of any place.
    pub(super) fn contact(&self) -> Contact {
        let places = self.places.iter().map(|(endpoint, _)| Client::contact(self.context, endpoint));
        places.max().unwrap_or_default()
    }

    /// Returns the clients of all places, in their order; a place whose certificates cannot be read has none.
    pub(super) fn all(&self) -> impl Iterator<Item = Result<&Client<'a>>> {
        self.places.iter().map(|(endpoint, made)| {
            if made.get().is_none() {
                let client = Client::new(self.context, endpoint.clone())?;
                let _ = made.set(client);
            }
            made.get().ok_or_else(|| Refusal::new(Case::Bug, &endpoint.name, "no client"))
        })
    }

    /// Returns the client of the only place, if there is one place: skopeo would ask the same there, and takes longer.
    pub(super) fn only(&self) -> Option<&Client<'a>> {
        if self.count() == 1 && !self.mirrored { self.all().next()?.ok() } else { None }
    }

    /// Returns whether documents are asked for without skopeo: there is one place, and policy.json lets anything pass.
    pub(super) fn asks_itself(&self) -> bool {
        self.only().is_some() && *self.context.cache.unchecked.get_or_init(image_policy::accepts_anything)
    }

    /// Reads the manifest or index of a tag or digest, if [`Self::asks_itself`]. `None` if skopeo is to be asked: it
    /// knows mirrors and policy.json, and says what is wrong.
    ///
    /// # Errors
    /// [`Case::C03Slow`]: who has waited as long as is allowed does not wait again.
    pub(super) fn document(&self, reference: &str, wanted: Option<&BlobDigest>) -> Result<Option<FetchedDocument>> {
        let Some(client) = self.only().filter(|_| self.asks_itself()) else { return Ok(None) };
        let raw = match client.manifest(reference) {
            Ok(found) => found,
            Err(refusal) if refusal.case() == Case::C03Slow => return Err(refusal),
            Err(_) => None,
        };
        let found = raw.map(|raw| FetchedDocument { digest: BlobDigest::of(&raw), raw });
        Ok(found.filter(|document| wanted.is_none_or(|wanted| *wanted == document.digest)))
    }

    /// Reads a blob of at most the size of a manifest from the only place; `None` if the proxy is to be asked.
    ///
    /// # Errors
    /// As [`Client::blob`].
    pub(super) fn blob(&self, digest: &BlobDigest, size: u64) -> Result<Option<Vec<u8>>> {
        self.only().map_or(Ok(None), |client| client.blob(digest, size))
    }
}
