//! Manifests and their blobs: our own client asks where skopeo would do the same and no more, and else the proxy does.

use std::cell::RefCell;

use super::Session;
use super::clients::Clients;
use super::proxy::{BlobDescriptor, Opened};
use crate::digest::BlobDigest;
use crate::error::Result;
use crate::oci::BlobStore;

/// A manifest that policy.json lets pass.
pub(super) struct RemoteManifest {
    digest: BlobDigest,
    /// Its bytes.
    pub(super) raw: Vec<u8>,
    /// What the proxy reads its blobs by, as it was opened after so many proxies had been given up; `None` before that.
    opened: RefCell<Option<(Opened, usize)>>,
}

impl Session {
    /// Reads a manifest by its digest, unless its bytes are known.
    pub(super) fn manifest(
        &self,
        clients: &Clients<'_>,
        digest: &BlobDigest,
        known: Option<Vec<u8>>,
    ) -> Result<RemoteManifest> {
        let made = |raw, opened| RemoteManifest { digest: *digest, raw, opened: RefCell::new(opened) };
        let found = match known {
            None => clients.document(&digest.to_string(), Some(digest))?.map(|found| found.raw),
            known => known,
        };
        let (repository, clock) = (clients.repository, clients.context.clock);
        match found {
            Some(raw) if clients.asks_itself() => Ok(made(raw, None)),
            found => {
                let mut opened = self.open(repository, digest, clock)?;
                let raw = match found.or_else(|| opened.raw.take()) {
                    Some(raw) => raw,
                    // The proxy has converted it: docker's own manifests are not OCI's.
                    None => self.raw(repository, None, Some(digest), clock)?.raw,
                };
                Ok(made(raw, Some((opened, self.given_up()))))
            }
        }
    }

    /// Brings a blob of a manifest into `store`, unless it is there.
    pub(super) fn blob(
        &self,
        clients: &Clients<'_>,
        of: &RemoteManifest,
        wanted: &BlobDescriptor<'_>,
        store: &BlobStore,
    ) -> Result<()> {
        if store.holds(wanted.digest)? {
            return Ok(());
        }
        if let Some(bytes) = clients.blob(wanted.digest, wanted.size)? {
            return store.write(&bytes).map(drop);
        }
        let clock = clients.context.clock;
        let opened = match of.opened.take().filter(|(_, before)| *before == self.given_up()) {
            Some((opened, _)) => opened,
            None => self.open(clients.repository, &of.digest, clock)?,
        };
        let read = self.blob_by_proxy(&opened, wanted, store, clock, &|_| ());
        // Of a proxy that was given up for this blob it is of no use.
        of.opened.replace(read.is_ok().then(|| (opened, self.given_up())));
        read
    }
}
