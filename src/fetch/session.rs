use std::cell::RefCell;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::client::Client;
use super::clock::Clock;
use super::proxy::{Into, Opened, Proxy, Wanted};
use super::referrers::{self, Candidates};
use super::registries::{self, Endpoint};
use super::{Context, Options, skopeo};
use crate::digest::BlobDigest;
use crate::oci::{BlobStore, Budget, Document, Image, Platform, Repository, document, fallback_tag};
use crate::report::{Case, Refusal, Result};
use crate::seal::{Parsed, parse};

/// A conversation with registries, through one skopeo that is started when it is needed.
pub struct Session {
    pub(super) options: Options,
    pub(super) budget: Budget,
    /// What bounds a whole search for seals, or everything together.
    bound: Bound,
    runtime: Option<Runtime>,
    proxy: RefCell<Option<Proxy>>,
}

/// How long things may take.
#[derive(Clone, Copy)]
enum Bound {
    /// The search for the seals of an image.
    Search(Duration),
    /// Everything.
    All(Clock),
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Session {
    /// Prepares one; nothing is started or asked yet.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn new(options: Options, budget: Budget) -> Result<Self> {
        Self::within(options, budget, Bound::Search(budget.search))
    }

    /// One that must be done with everything after `whole`.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn hurried(options: Options, budget: Budget, whole: Duration) -> Result<Self> {
        Self::within(options, budget, Bound::All(Clock::of(whole)))
    }

    fn within(options: Options, budget: Budget, bound: Bound) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| Refusal::io("tokio", e))?;
        Ok(Self { options, budget, bound, runtime: Some(runtime), proxy: RefCell::new(None) })
    }

    /// For what is begun now.
    pub(super) fn clock(&self) -> Clock {
        match self.bound {
            Bound::Search(search) => Clock::of(search),
            Bound::All(clock) => clock,
        }
    }

    pub(super) fn context<'a>(&'a self, clock: &'a Clock) -> Result<Context<'a>> {
        Ok(Context { options: &self.options, budget: &self.budget, clock, runtime: self.runtime()? })
    }

    pub(super) fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().ok_or_else(|| Refusal::new(Case::Bug, "tokio", "no runtime"))
    }

    /// The running proxy, for one piece of work. One that failed in any other way than by saying that there is
    /// nothing is given up: what it says later would be taken for the answer to the next question.
    fn with_proxy<T>(&self, clock: &Clock, work: impl AsyncFnOnce(&Proxy) -> Result<T>) -> Result<T> {
        let runtime = self.runtime()?;
        let proxy = match self.proxy.take() {
            Some(proxy) => proxy,
            None => runtime.block_on(Proxy::start(&self.options, clock, &self.budget))?,
        };
        let done = runtime.block_on(work(&proxy));
        if done.is_ok() || done.as_ref().is_err_and(|r| r.case() == Case::C18NoImage) {
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
        self.with_proxy(&self.clock(), async |proxy| Ok(proxy.version()))
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
        let clock = self.clock();
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
        let clock = self.clock();
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
    /// manifests. One that cannot be had does not hide the others, and a mirror that lists none that can be
    /// had does not hide what the registry has. None at all is an answer only if the repository has the
    /// image and could be asked.
    ///
    /// # Errors
    /// [`Case::C18NoImage`], [`Case::C02TooMany`], C03, C04, C09, C10, C11, C16, C17.
    pub fn seals(&self, repository: &Repository, image: &Image, store: &BlobStore) -> Result<Vec<BlobDigest>> {
        let clock = self.clock();
        let endpoints = registries::endpoints(repository, &self.options)?;
        let candidates = self.discover(repository, &endpoints, &image.digest, false, &clock)?;
        let brought = self.bring(repository, &candidates.digests, image, store, &clock);
        let brought = match brought {
            Ok(seals) if seals.is_empty() && endpoints.len() == 1 => Ok(seals),
            Ok(seals) if !seals.is_empty() => return Ok(seals),
            Err(refusal) if endpoints.len() == 1 => return Err(refusal),
            nothing => {
                let mut others = self.discover(repository, &endpoints, &image.digest, true, &clock)?.digests;
                others.retain(|digest| !candidates.digests.contains(digest));
                match self.bring(repository, &others, image, store, &clock)? {
                    seals if seals.is_empty() => nothing,
                    seals => Ok(seals),
                }
            }
        }?;
        if brought.is_empty() {
            self.open(repository, &image.digest, &clock)?;
        }
        Ok(brought)
    }

    /// Brings those of the candidates that are seals of the image, small ones first: what is large is not
    /// to keep the others from being had.
    fn bring(
        &self,
        repository: &Repository,
        candidates: &[BlobDigest],
        image: &Image,
        store: &BlobStore,
        clock: &Clock,
    ) -> Result<Vec<BlobDigest>> {
        let mut first: Option<Refusal> = None;
        let mut failed = |digest: &BlobDigest, refusal: Refusal| {
            let refusal = match refusal.case() {
                // The image is there; what a list names, or a seal, is not.
                Case::C18NoImage => Refusal::new(Case::C04Missing, refusal.subject(), refusal.detail()),
                _ => refusal,
            };
            log::warn!("{repository}: seal {digest}: left behind: {refusal}");
            first.get_or_insert(refusal.within(format!("seal {digest}")));
        };
        let mut seals = Vec::new();
        for digest in candidates {
            match self.candidate(repository, digest, image, clock) {
                Ok(found) => seals.extend(found),
                Err(refusal) => failed(digest, refusal),
            }
        }
        seals.sort_by_key(|seal| seal.blobs.iter().map(|(_, size)| *size).fold(0, u64::saturating_add));
        let mut room = self.budget.seal_bytes;
        let mut found = Vec::new();
        for seal in &seals {
            match self.blobs(seal, store, &mut room, clock) {
                Ok(()) => found.push(store.write(&seal.raw)?),
                Err(refusal) => failed(&seal.digest, refusal),
            }
        }
        match first {
            Some(refusal) if found.is_empty() => Err(refusal),
            _ => Ok(found),
        }
    }

    /// Both lists together: a registry may have learned the API after the tag was written. With `all` every
    /// place is asked by ourselves, and else skopeo for the tag.
    fn discover(
        &self,
        repository: &Repository,
        endpoints: &[Endpoint],
        image: &BlobDigest,
        all: bool,
        clock: &Clock,
    ) -> Result<Candidates> {
        let context = self.context(clock)?;
        let mut found = Candidates::default();
        let tag = fallback_tag(image);
        let mut refused: Vec<Refusal> = Vec::new();
        match referrers::from_api(&context, endpoints, image, all) {
            Ok(listed) => found = listed,
            Err(refusal) => refused.push(refusal),
        }
        let mut lists = Vec::new();
        if all {
            let ask = |endpoint: &Endpoint| Client::new(&context, endpoint.clone())?.manifest(&tag);
            lists.extend(endpoints.iter().map(ask));
        } else {
            lists.push(self.fallback(repository, image, clock));
        }
        for list in lists {
            let mut tagged = Candidates::default();
            let read = list.and_then(|raw| match raw {
                None => Ok(()),
                Some(raw) => tagged.add(&raw, &format!("{repository}:{tag}"), &self.budget),
            });
            refused.extend(read.and_then(|()| found.join(tagged, &self.budget)).err());
        }
        // The first says what is wrong; where anything was found it is only told.
        match refused.into_iter().next() {
            Some(refusal) if found.digests.is_empty() || refusal.case() == Case::C02TooMany => Err(refusal),
            Some(refusal) => {
                log::warn!("{refusal}");
                Ok(found)
            }
            None => Ok(found),
        }
    }

    /// The raw index of the fallback tag. Never opened as an image: that gives one referrer or another.
    fn fallback(&self, repository: &Repository, image: &BlobDigest, clock: &Clock) -> Result<Option<Vec<u8>>> {
        match self.raw(repository, Some(&fallback_tag(image)), None, clock) {
            Ok((_, raw)) => Ok(Some(raw)),
            Err(refusal) if refusal.case() == Case::C18NoImage => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// One artifact, if it is a seal of the image; what is none leaves nothing.
    fn candidate(
        &self,
        repository: &Repository,
        digest: &BlobDigest,
        image: &Image,
        clock: &Clock,
    ) -> Result<Option<Found>> {
        let (_, raw) = self.manifest(repository, digest, None, clock)?;
        match parse(&raw, digest, image, &self.budget)? {
            Parsed::Seal(seal) => {
                Ok(Some(Found { repository: repository.clone(), digest: *digest, raw, blobs: seal.blobs() }))
            }
            Parsed::Other(_) => Ok(None),
        }
    }

    /// The blobs of a seal. Only what came is taken from what there is room for.
    fn blobs(&self, seal: &Found, store: &BlobStore, room: &mut u64, clock: &Clock) -> Result<()> {
        let opened = self.open(&seal.repository, &seal.digest, clock)?;
        for (digest, size) in &seal.blobs {
            if store.holds(digest)? {
                continue;
            }
            if *size > self.budget.erofs || size > room {
                let why = format!("{digest} has {size} bytes, allowed are {}", self.budget.erofs.min(*room));
                return Err(Refusal::new(Case::C03Slow, "", why));
            }
            self.blob(&opened, &Wanted { digest, size: *size }, store, clock, &|_| ())?;
            *room -= size;
        }
        Ok(())
    }
}

/// A seal that can be had.
struct Found {
    repository: Repository,
    digest: BlobDigest,
    raw: Vec<u8>,
    blobs: Vec<(BlobDigest, u64)>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Threads that wait for an answer of a skopeo that hangs end with the process.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
