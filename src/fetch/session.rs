use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::client::{Contact, SessionCache};
use super::clients::{Clients, FetchedDocument};
use super::clock::Clock;
use super::proxy::{BlobDescriptor, Into, Opened, Proxy};
use super::{FetchContext, Options, skopeo};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::{BlobStore, Budget, Image, ManifestOrIndex, Platform, Repository, document};
use crate::sys::authorities;

/// A conversation with registries, through one skopeo that is started when it is needed.
pub struct Session {
    pub(super) options: Options,
    pub(super) budget: Budget,
    /// The limit for a whole search for seals, or for everything together.
    bound: TimeLimit,
    runtime: Option<Runtime>,
    proxy: RefCell<Option<Proxy>>,
    cache: SessionCache,
    /// How many were given up.
    given_up: Cell<usize>,
}

/// How long things may take.
#[derive(Clone, Copy)]
enum TimeLimit {
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
    /// Prepares a session; nothing is started or asked yet.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn new(options: Options, budget: Budget) -> Result<Self> {
        Self::within(options, budget, TimeLimit::Search(budget.search))
    }

    /// Prepares a session that must be done with everything after `whole`.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn hurried(options: Options, budget: Budget, whole: Duration) -> Result<Self> {
        Self::within(options, budget, TimeLimit::All(Clock::of(whole)))
    }

    fn within(options: Options, budget: Budget, bound: TimeLimit) -> Result<Self> {
        authorities::find_by_name(options.tls_verify);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| Refusal::io("tokio", e))?;
        let (proxy, cache, given_up) = (RefCell::default(), SessionCache::default(), Cell::new(0));
        Ok(Self { options, budget, bound, runtime: Some(runtime), proxy, cache, given_up })
    }

    /// Returns whether the time for all questions together is over: nobody is asked any more.
    pub fn is_over(&self) -> bool {
        matches!(self.bound, TimeLimit::All(clock) if clock.is_over())
    }

    /// Returns the clock for what is begun now.
    pub(super) fn clock(&self) -> Clock {
        match self.bound {
            TimeLimit::Search(search) => Clock::of(search),
            TimeLimit::All(clock) => clock,
        }
    }

    pub(super) fn context<'a>(&'a self, clock: &'a Clock) -> Result<FetchContext<'a>> {
        let (options, budget, cache) = (&self.options, &self.budget, &self.cache);
        Ok(FetchContext { options, budget, clock, runtime: self.runtime()?, cache })
    }

    pub(super) fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().ok_or_else(|| Refusal::new(Case::Bug, "tokio", "no runtime"))
    }

    /// Runs one piece of work with the proxy, and starts it where it is not running. A proxy whose work failed in any
    /// way other than reporting that there is nothing is given up: what it says later would be taken for the answer to
    /// the next question.
    fn with_proxy<T>(&self, clock: &Clock, work: impl AsyncFnOnce(&Proxy) -> Result<T>) -> Result<T> {
        let runtime = self.runtime()?;
        let proxy = match self.proxy.take() {
            Some(proxy) => proxy,
            None => runtime.block_on(Proxy::start(&self.options, clock, &self.budget))?,
        };
        let done = runtime.block_on(work(&proxy));
        if done.is_ok() || done.as_ref().is_err_and(|r| r.case() == Case::C18NoImage) {
            self.proxy.replace(Some(proxy));
        } else {
            self.given_up.set(self.given_up.get() + 1);
        }
        done
    }

    /// Returns what became of the questions of this session about `repository`.
    pub fn contact(&self, repository: &Repository) -> Contact {
        let clock = self.clock();
        let found = self.context(&clock).and_then(|context| Ok(Clients::new(&context, repository)?.contact()));
        // Without a place nobody was asked.
        found.unwrap_or_default()
    }

    /// Returns how many proxies were given up: what one has opened the next does not know.
    pub(super) fn given_up(&self) -> usize {
        self.given_up.get()
    }

    /// Checks that skopeo is not too old, before it does half of what is asked.
    pub(super) fn check_skopeo(&self, clock: &Clock) -> Result<()> {
        self.with_proxy(clock, async |_| Ok(()))
    }

    /// Returns the version of the proxy protocol that skopeo speaks.
    ///
    /// # Errors
    /// [`Case::C16Skopeo`] where there is none, or one that is too old.
    pub fn protocol(&self) -> Result<String> {
        self.with_proxy(&self.clock(), async |proxy| Ok(proxy.version()))
    }

    /// Reads the raw document that a tag or digest names, and computes its digest.
    ///
    /// # Errors
    /// [`Case::C18NoImage`], [`Case::C04Bytes`], C03, C10, C11, C16, C17.
    pub fn document(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        digest: Option<&BlobDigest>,
    ) -> Result<FetchedDocument> {
        let clock = self.clock();
        let context = self.context(&clock)?;
        let reference = digest.map_or_else(|| tag.unwrap_or("latest").to_owned(), ToString::to_string);
        if let Some(found) = Clients::new(&context, repository)?.document(&reference, digest)? {
            return Ok(found);
        }
        if self.proxy.borrow().is_some() {
            return self.raw(repository, tag, digest, &clock);
        }
        // Both start a skopeo; where it is too old, that is the error.
        let (proxy, document) = self.runtime()?.block_on(async {
            tokio::join!(
                Proxy::start(&self.options, &clock, &self.budget),
                self.ask_raw(repository, tag, digest, &clock)
            )
        });
        self.proxy.replace(Some(proxy?));
        document
    }

    pub(super) fn raw(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        digest: Option<&BlobDigest>,
        clock: &Clock,
    ) -> Result<FetchedDocument> {
        self.runtime()?.block_on(self.ask_raw(repository, tag, digest, clock))
    }

    async fn ask_raw(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        digest: Option<&BlobDigest>,
        clock: &Clock,
    ) -> Result<FetchedDocument> {
        let name = digest.map_or_else(|| repository.tagged(tag.unwrap_or("latest")), |d| repository.at(d));
        let mut arguments: Vec<std::ffi::OsString> = vec!["inspect".into(), "--raw".into()];
        arguments.extend(skopeo::access(&self.options, ""));
        arguments.push(name.as_str().into());
        let raw = skopeo::run(&name, arguments, self.budget.manifest, clock, Some(self.budget.answer)).await?;
        let found = BlobDigest::of(&raw);
        match digest {
            Some(wanted) if *wanted != found => {
                Err(Refusal::new(Case::C04Bytes, name, format!("they have the digest {found}")))
            }
            _ => Ok(FetchedDocument { digest: found, raw }),
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
        FetchedDocument { digest, raw }: FetchedDocument,
        platform: &Platform,
        store: &BlobStore,
    ) -> Result<Image> {
        let clock = self.clock();
        let context = self.context(&clock)?;
        let clients = Clients::new(&context, repository)?;
        store.write(&raw)?;
        let chosen = Image::choose(&raw, &digest, platform)?;
        let manifest = self.manifest(&clients, &chosen, (chosen == digest).then_some(raw))?;
        store.write(&manifest.raw)?;
        let name = format!("manifest {chosen}");
        let config = match document(&manifest.raw, &name)? {
            ManifestOrIndex::Manifest(manifest) => manifest.config().clone(),
            ManifestOrIndex::Index(_) => {
                return Err(Refusal::new(
                    Case::B06Ambiguous,
                    name,
                    "an index lies in an index, and no tool looks there",
                ));
            }
        };
        let config_digest = crate::oci::blob_digest(&config)?;
        if config.size() > self.budget.config {
            let why = format!("{} bytes, allowed are {}", config.size(), self.budget.config);
            return Err(Refusal::new(Case::C03TooBig, format!("config {config_digest}"), why));
        }
        let wanted = BlobDescriptor { digest: &config_digest, size: config.size() };
        self.blob(&clients, &manifest, &wanted, store)?;
        Image::read(store, &digest, platform, &self.budget)
    }

    /// Opens a manifest, which asks policy.json.
    pub(super) fn open(&self, repository: &Repository, digest: &BlobDigest, clock: &Clock) -> Result<Opened> {
        let budget = self.budget;
        self.with_proxy(clock, async |proxy| proxy.open(repository, digest, clock, &budget).await)
    }

    /// Reads a blob of an opened manifest by the proxy into `store`, unless it is there.
    pub(super) fn blob_by_proxy(
        &self,
        from: &Opened,
        wanted: &BlobDescriptor<'_>,
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

    /// Brings layers of an image into `store`, except those that are there: all, or those whose numbers are given.
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
            let wanted = BlobDescriptor { digest: &layer.digest, size: layer.size };
            self.blob_by_proxy(&opened, &wanted, store, &clock, progress)
                .map_err(|r| r.within(format!("layer {number}")))?;
        }
        Ok(())
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
