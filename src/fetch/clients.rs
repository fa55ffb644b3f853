use std::cell::{Cell, OnceCell};

use super::FetchContext;
use super::client::Client;
use super::registries::Endpoint;
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};

/// The largest blob that we ask for ourselves, in bytes: a signature, with room. Larger ones need a proxy that reads piece
/// by piece.
const SMALL: u64 = 64 << 10;

/// The places of a repository, mirrors first, with one client each: it is made when it is first needed, and keeps what
/// it has learned about the place (how to log in, whether there is TLS) and its connection.
pub(super) struct Clients<'a> {
    context: &'a FetchContext<'a>,
    places: Vec<(Endpoint, OnceCell<Client<'a>>)>,
    /// Whether a blob could not be had without the proxy: the next one would not either.
    needs_proxy: Cell<bool>,
}

impl<'a> Clients<'a> {
    pub(super) fn new(context: &'a FetchContext<'a>, endpoints: Vec<Endpoint>) -> Self {
        let places = endpoints.into_iter().map(|endpoint| (endpoint, OnceCell::new())).collect();
        Self { context, places, needs_proxy: Cell::new(false) }
    }

    /// Returns how many places there are.
    pub(super) fn count(&self) -> usize {
        self.places.len()
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
        if self.count() == 1 { self.all().next()?.ok() } else { None }
    }

    /// Reads a small blob from the only place. `None` if there are several, or if it is not small, or if this one or one
    /// before it cannot be had like this: the proxy may be led elsewhere by the registry, and says what is wrong.
    ///
    /// # Errors
    /// [`Case::C03Slow`]: who has waited as long as is allowed does not wait again.
    pub(super) fn small_blob(&self, digest: &BlobDigest, size: u64) -> Result<Option<Vec<u8>>> {
        let Some(client) = self.only().filter(|_| size <= SMALL && !self.needs_proxy.get()) else { return Ok(None) };
        let found = match client.get(&format!("blobs/{digest}")) {
            Ok(answer) => {
                let right = answer.status == 200 && answer.body.len() as u64 == size;
                Some(answer.body).filter(|body| right && BlobDigest::of(body) == *digest)
            }
            Err(refusal) if refusal.case() == Case::C03Slow => return Err(refusal),
            Err(_) => None,
        };
        self.needs_proxy.set(found.is_none());
        Ok(found)
    }
}
