use std::cell::RefCell;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::clock::Clock;
use super::proxy::{Into, Opened, Proxy, Wanted};
use super::referrers::{self, Candidates};
use super::{Context, Options, skopeo};
use crate::digest::BlobDigest;
use crate::oci::{BlobStore, Budget, Document, Image, Platform, Repository, document, fallback_tag};
use crate::report::{Case, Refusal, Result};
use crate::seal::{Parsed, parse};

/// A conversation with registries, through one skopeo that is started when it is needed.
pub struct Session {
    pub(super) options: Options,
    pub(super) budget: Budget,
    /// What bounds a whole search for seals.
    search: Duration,
    runtime: Option<Runtime>,
    proxy: RefCell<Option<Proxy>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Session {
    /// Prepares one; nothing is started or asked yet. `search` is how long all questions for the seals of
    /// one image may take together.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn new(options: Options, budget: Budget, search: Duration) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| Refusal::io("tokio", e))?;
        Ok(Self { options, budget, search, runtime: Some(runtime), proxy: RefCell::new(None) })
    }

    pub(super) fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().ok_or_else(|| Refusal::new(Case::Bug, "tokio", "no runtime"))
    }

    /// The running proxy, for one piece of work. One that failed to answer in time is given up: what it
    /// says later would be taken for the answer to the next question.
    fn with_proxy<T>(&self, clock: &Clock, work: impl AsyncFnOnce(&Proxy) -> Result<T>) -> Result<T> {
        let runtime = self.runtime()?;
        let proxy = match self.proxy.take() {
            Some(proxy) => proxy,
            None => runtime.block_on(Proxy::start(&self.options, clock, &self.budget))?,
        };
        let done = runtime.block_on(work(&proxy));
        if !matches!(&done, Err(refusal) if refusal.case() == Case::C03Slow) {
            self.proxy.replace(Some(proxy));
        }
        done
    }

    /// An old skopeo is found out before it does half of what is asked.
    pub(super) fn check_skopeo(&self, clock: &Clock) -> Result<()> {
        self.with_proxy(clock, async |_| Ok(()))
    }

    /// The version of the proxy protocol that skopeo speaks.
    ///
    /// # Errors
    /// [`Case::C16Skopeo`] where there is none, or one that is too old.
    pub fn protocol(&self) -> Result<String> {
        self.with_proxy(&Clock::of(self.search), async |proxy| Ok(proxy.version()))
    }

    /// The raw document that a tag or digest names, and its digest.
    ///
    /// # Errors
    /// [`Case::C18NoImage`], [`Case::C04Bytes`], C03, C10, C11, C16, C17.
    pub fn document(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        digest: Option<&BlobDigest>,
    ) -> Result<(BlobDigest, Vec<u8>)> {
        let clock = Clock::of(self.search);
        self.check_skopeo(&clock)?;
        self.raw(repository, tag, digest, &clock)
    }

    fn raw(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        digest: Option<&BlobDigest>,
        clock: &Clock,
    ) -> Result<(BlobDigest, Vec<u8>)> {
        let name = digest.map_or_else(|| repository.tagged(tag.unwrap_or("latest")), |d| repository.at(d));
        let mut arguments: Vec<std::ffi::OsString> = vec!["inspect".into(), "--raw".into()];
        arguments.extend(skopeo::access(&self.options, ""));
        arguments.push(name.as_str().into());
        let work = skopeo::run(&name, arguments, self.budget.manifest, clock, Some(self.budget.answer));
        let raw = self.runtime()?.block_on(work)?;
        let found = BlobDigest::of(&raw);
        match digest {
            Some(wanted) if *wanted != found => {
                Err(Refusal::new(Case::C04Bytes, name, format!("they have the digest {found}")))
            }
            _ => Ok((found, raw)),
        }
    }

    /// Brings index, manifest and config of an image into `store`, and reads it there: that of `platform`,
    /// where there are several.
    ///
    /// # Errors
    /// Those of [`Self::document`] and of [`Image::read`]; [`Case::C19Policy`].
    pub fn image(
        &self,
        repository: &Repository,
        (digest, raw): (BlobDigest, Vec<u8>),
        platform: &Platform,
        store: &BlobStore,
    ) -> Result<Image> {
        let clock = Clock::of(self.search);
        store.write(&raw)?;
        let chosen = Image::choose(&raw, &digest, platform)?;
        let (opened, raw) = self.manifest(repository, &chosen, (chosen == digest).then_some(raw), &clock)?;
        store.write(&raw)?;
        let name = format!("manifest {chosen}");
        let config = match document(&raw, &name)? {
            Document::Manifest(manifest) => manifest.config().clone(),
            Document::Index(_) => return Err(Refusal::new(Case::B06Ambiguous, name, "an index inside an index")),
        };
        let config_digest = crate::oci::blob_digest(&config)?;
        if config.size() > self.budget.config {
            let why = format!("{} bytes, allowed are {}", config.size(), self.budget.config);
            return Err(Refusal::new(Case::C03TooBig, format!("config {config_digest}"), why));
        }
        let wanted = Wanted { digest: &config_digest, size: config.size() };
        self.blob(&opened, &wanted, store, &clock, &|_| ())?;
        Image::read(store, &digest, platform, &self.budget)
    }

    /// Opens a manifest, which asks policy.json.
    pub(super) fn open(&self, repository: &Repository, digest: &BlobDigest, clock: &Clock) -> Result<Opened> {
        let budget = self.budget;
        self.with_proxy(clock, async |proxy| proxy.open(repository, digest, clock, &budget).await)
    }

    /// Opens a manifest, and gives its bytes too.
    fn manifest(
        &self,
        repository: &Repository,
        digest: &BlobDigest,
        known: Option<Vec<u8>>,
        clock: &Clock,
    ) -> Result<(Opened, Vec<u8>)> {
        let mut opened = self.open(repository, digest, clock)?;
        let raw = match known.or_else(|| opened.raw.take()) {
            Some(raw) => raw,
            // The proxy has converted it: docker's own manifests are not OCI's.
            None => self.raw(repository, None, Some(digest), clock)?.1,
        };
        Ok((opened, raw))
    }

    fn blob(
        &self,
        from: &Opened,
        wanted: &Wanted<'_>,
        store: &BlobStore,
        clock: &Clock,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        if store.holds(wanted.digest)? {
            progress(wanted.size);
            return Ok(());
        }
        let budget = self.budget;
        let into = Into { store, clock, budget: &budget, progress };
        self.with_proxy(clock, async |proxy| proxy.blob(from, wanted, into).await)
    }

    /// Brings layers of an image into `store`, but for those that are there: all, or those whose numbers
    /// are given.
    ///
    /// # Errors
    /// [`Case::C04Bytes`], C03, C10, C11, C17, C18.
    pub fn layers(
        &self,
        repository: &Repository,
        image: &Image,
        only: Option<&[usize]>,
        store: &BlobStore,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        let clock = Clock::open();
        let opened = self.open(repository, &image.digest, &clock)?;
        for (number, layer) in image.layers.iter().enumerate() {
            if only.is_some_and(|only| !only.contains(&number)) {
                continue;
            }
            if layer.size > self.budget.layer {
                let why = format!("{} bytes, allowed are {}", layer.size, self.budget.layer);
                return Err(Refusal::new(Case::C03TooBig, format!("layer {number}"), why));
            }
            let wanted = Wanted { digest: &layer.digest, size: layer.size };
            self.blob(&opened, &wanted, store, &clock, progress).map_err(|r| r.within(format!("layer {number}")))?;
        }
        Ok(())
    }

    /// Brings the seals of `image` that the repository has into `store`, and gives the digests of their
    /// manifests. One that cannot be had does not hide the others. None at all is an answer only if the
    /// repository has the image and could be asked.
    ///
    /// # Errors
    /// [`Case::C18NoImage`], [`Case::C02TooMany`], C03, C09, C10, C11, C16, C17.
    pub fn seals(&self, repository: &Repository, image: &Image, store: &BlobStore) -> Result<Vec<BlobDigest>> {
        let clock = Clock::of(self.search);
        let name = repository.to_string();
        let candidates = self.discover(repository, &image.digest, &clock)?;
        let mut room = self.budget.seal_bytes;
        let mut found = Vec::new();
        let mut first: Option<Refusal> = None;
        for digest in &candidates {
            match self.seal(repository, digest, image, store, &mut room, &clock) {
                Ok(true) => found.push(*digest),
                Ok(false) => {}
                Err(refusal) => {
                    log::warn!("{name}: seal {digest}: left behind: {refusal}");
                    first.get_or_insert(refusal.within(format!("seal {digest}")));
                }
            }
        }
        match first {
            Some(refusal) if found.is_empty() => return Err(refusal),
            _ => {}
        }
        if candidates.is_empty() {
            self.open(repository, &image.digest, &clock)?;
        }
        Ok(found)
    }

    /// Both lists together: a registry may have learned the API after the tag was written.
    fn discover(&self, repository: &Repository, image: &BlobDigest, clock: &Clock) -> Result<Vec<BlobDigest>> {
        let mut found = Candidates::default();
        let context = Context { options: &self.options, budget: &self.budget, clock, runtime: self.runtime()? };
        let api = referrers::from_api(&context, repository, image, &mut found);
        let tag = self.fallback(repository, image, clock).and_then(|raw| match raw {
            None => Ok(()),
            Some(raw) => found.add(&raw, &format!("{repository}:{}", fallback_tag(image)), &self.budget),
        });
        for failed in [api.map(drop), tag] {
            match failed {
                Err(refusal) if found.digests.is_empty() || refusal.case() == Case::C02TooMany => return Err(refusal),
                Err(refusal) => log::warn!("{refusal}"),
                Ok(()) => {}
            }
        }
        Ok(found.digests)
    }

    /// The raw index of the fallback tag. Never opened as an image: that gives one referrer or another.
    pub(super) fn fallback(
        &self,
        repository: &Repository,
        image: &BlobDigest,
        clock: &Clock,
    ) -> Result<Option<Vec<u8>>> {
        match self.raw(repository, Some(&fallback_tag(image)), None, clock) {
            Ok((_, raw)) => Ok(Some(raw)),
            Err(refusal) if refusal.case() == Case::C18NoImage => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Whether the registry lists `artifact` by its API.
    pub(super) fn is_listed(
        &self,
        repository: &Repository,
        image: &BlobDigest,
        artifact: &BlobDigest,
        clock: &Clock,
    ) -> Result<bool> {
        let mut found = Candidates::default();
        let context = Context { options: &self.options, budget: &self.budget, clock, runtime: self.runtime()? };
        Ok(referrers::from_api(&context, repository, image, &mut found)? && found.digests.contains(artifact))
    }

    /// Brings one artifact if it is a seal of the image: manifest, signatures, EROFS images.
    fn seal(
        &self,
        repository: &Repository,
        digest: &BlobDigest,
        image: &Image,
        store: &BlobStore,
        room: &mut u64,
        clock: &Clock,
    ) -> Result<bool> {
        let (opened, raw) = self.manifest(repository, digest, None, clock)?;
        // What is no seal of this image leaves nothing.
        let Parsed::Seal(seal) = parse(&raw, digest, image, &self.budget)? else { return Ok(false) };
        for (blob, size) in seal.blobs() {
            if size > self.budget.erofs || size > *room {
                let why = format!("{blob} has {size} bytes, allowed are {}", self.budget.erofs.min(*room));
                return Err(Refusal::new(Case::C03Slow, "", why));
            }
            *room -= size;
            self.blob(&opened, &Wanted { digest: &blob, size }, store, clock, &|_| ())?;
        }
        store.write(&raw)?;
        Ok(true)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Threads that wait for an answer of a skopeo that hangs end with the process.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
