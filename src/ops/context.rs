use std::cell::OnceCell;
use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Progress, Step, Task};
use crate::container_store::{further_stores, graph_root, image_names};
use crate::digest::BlobDigest;
use crate::error::{Refusal, Result};
use crate::fetch::{Options, Session};
use crate::oci::{Budget, Image};
use crate::policy::{Directories, Policy};
use crate::sys::process::{self, User};
use crate::vault::{self, Lock, Vault};

/// What every operation works with: the vault, the limits, the way to registries, and where progress is reported.
pub struct Context {
    /// The vault that was named on the command line.
    named: Option<PathBuf>,
    /// Where the policy places the vault, found out when it is first asked for.
    elsewhere: OnceCell<Option<PathBuf>>,
    /// Where the vault is, found out when it is first needed.
    vault: OnceCell<PathBuf>,
    /// The limits on what may be spent.
    pub budget: Budget,
    progress: Box<dyn Progress>,
    /// Taken when the vault is first opened, and held until the program ends.
    lock: OnceCell<Lock>,
    registry: Options,
    /// Begun when a registry is first asked.
    session: OnceCell<Rc<Session>>,
}

impl Context {
    /// Makes the context for the vault at `vault`, the one that the policy names, or the one in the graph root of
    /// containers-storage.
    pub fn new(vault: Option<PathBuf>, registry: Options, progress: Box<dyn Progress>) -> Self {
        let (elsewhere, found) = (OnceCell::new(), OnceCell::new());
        let (lock, session) = (OnceCell::new(), OnceCell::new());
        Self { named: vault, elsewhere, vault: found, budget: Budget::STANDARD, progress, lock, registry, session }
    }

    /// Returns where the policy places the vault; `None` for the graph root. That vault is root's: other users have
    /// their own.
    ///
    /// # Errors
    /// F03 for a policy that cannot be read.
    pub fn elsewhere(&self) -> Result<Option<&Path>> {
        if let Some(found) = self.elsewhere.get() {
            return Ok(found.as_deref());
        }
        let found = match process::user() {
            User::Root => Policy::configured_vault(&Directories::system())?,
            _ => None,
        };
        Ok(self.elsewhere.get_or_init(|| found).as_deref())
    }

    /// Returns where the vault is, or is to be.
    ///
    /// # Errors
    /// The errors of [`Self::elsewhere`], of [`graph_root`] and of [`vault::check_place`].
    pub fn vault(&self) -> Result<&Path> {
        if let Some(found) = self.named.as_ref().or(self.vault.get()) {
            return Ok(found);
        }
        let elsewhere = self.elsewhere()?.map(Path::to_owned);
        let is_elsewhere = elsewhere.is_some();
        let found = match elsewhere {
            Some(dir) => dir,
            None => graph_root()?.join(vault::NAME),
        };
        vault::check_place(&found, is_elsewhere)?;
        Ok(self.vault.get_or_init(|| found))
    }

    /// Returns the session with registries, and begins it if necessary.
    ///
    /// # Errors
    /// The errors of [`Session::new`].
    pub fn session(&self) -> Result<Rc<Session>> {
        if let Some(session) = self.session.get() {
            return Ok(session.clone());
        }
        let session = Rc::new(Session::new(self.registry.clone(), self.budget)?);
        Ok(self.session.get_or_init(|| session).clone())
    }

    /// Returns whether there is a vault.
    ///
    /// # Errors
    /// [`crate::error::Case::Io`] if that cannot be told.
    pub fn has_vault(&self) -> Result<bool> {
        let vault = self.vault()?;
        vault.try_exists().map_err(|e| Refusal::io(vault.display().to_string(), e))
    }

    /// Opens the vault, which must exist.
    ///
    /// # Errors
    /// The errors of [`Vault::open`] and [`Self::vault`].
    pub fn open_vault(&self) -> Result<Vault> {
        self.hold(Vault::open(self.vault()?)?)
    }

    /// Opens the vault, and makes it if it is missing.
    ///
    /// # Errors
    /// The errors of [`Vault::create`] and [`Self::vault`].
    pub fn create_vault(&self) -> Result<Vault> {
        self.hold(Vault::create(self.vault()?)?)
    }

    /// Locks the vault. This is done here and not in the verbs, so none of them can forget it.
    fn hold(&self, vault: Vault) -> Result<Vault> {
        if self.lock.get().is_none() {
            // Nobody else sets it: there is only one thread here.
            let _ = self.lock.set(vault.shared()?);
        }
        Ok(vault)
    }

    /// Returns whether the vault is the one that the policy names.
    ///
    /// # Errors
    /// The errors of [`Self::vault`].
    pub fn is_elsewhere(&self) -> Result<bool> {
        Ok(self.elsewhere()? == Some(self.vault()?))
    }

    /// Lists the configured stores, and those that were noted in the vault.
    fn stores_of_elsewhere(&self, vault: &Path) -> Result<Vec<PathBuf>> {
        let mut stores = vec![graph_root()?];
        stores.extend(further_stores()?);
        if !stores[0].is_dir() && stores.iter().any(|store| store.is_dir()) {
            // podman would make it too.
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&stores[0]);
            made.map_err(|e| Refusal::io(stores[0].display().to_string(), e))?;
        }
        if self.has_vault()? && vault.join("objects").is_dir() {
            stores.extend(Vault::open(vault)?.noted_stores()?);
        }
        stores.retain(|store| store.is_dir());
        let mut seen = std::collections::BTreeSet::new();
        stores.retain(|store| seen.insert(std::fs::canonicalize(store).unwrap_or_else(|_| store.clone())));
        Ok(stores)
    }

    /// Lists the container stores whose images use the vault: the one that it lies in, those from which
    /// containers-storage is also configured to take images, and, if the vault is in no store, those that have used it.
    ///
    /// # Errors
    /// [`crate::error::Case::Io`], and errors of reading the configuration.
    pub fn stores(&self) -> Result<Vec<PathBuf>> {
        let place = self.vault()?;
        let name = |e| Refusal::io(place.display().to_string(), e);
        if self.is_elsewhere()? {
            return self.stores_of_elsewhere(place);
        }
        let vault = match (std::fs::canonicalize(place), place.parent(), place.file_name()) {
            // It may not exist yet.
            (Err(e), Some(parent), Some(file)) if e.kind() == std::io::ErrorKind::NotFound => {
                match std::fs::canonicalize(parent) {
                    // Perhaps no store exists either; or there are only others, which came with the disk. Then podman
                    // would make it, and the vault belongs there too.
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                        if *parent != graph_root()? || !further_stores()?.iter().any(|store| store.is_dir()) {
                            return Ok(Vec::new());
                        }
                        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
                        made.and_then(|()| std::fs::canonicalize(parent)).map_err(name)?.join(file)
                    }
                    parent => parent.map_err(name)?.join(file),
                }
            }
            (vault, ..) => vault.map_err(name)?,
        };
        let (Some(root), true) = (vault.parent(), vault.ends_with(vault::NAME)) else { return Ok(Vec::new()) };
        let root = root.to_owned();
        let mut stores = vec![root.clone()];
        let configured = graph_root()?;
        let is_ours = match std::fs::canonicalize(&configured) {
            Ok(configured) => configured == root,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
            Err(e) => return Err(Refusal::io(configured.display().to_string(), e)),
        };
        if is_ours {
            stores.extend(further_stores()?.into_iter().filter(|s| *s != root && *s != configured));
        }
        Ok(stores)
    }

    /// Returns the names that podman and others have for images, by the digests of their manifests; none if that cannot
    /// be found out.
    pub(super) fn stored_names(&self) -> HashMap<BlobDigest, Vec<String>> {
        self.stores().and_then(|stores| image_names(&stores)).unwrap_or_else(|refusal| {
            log::debug!("no names of the container store: {refusal}");
            HashMap::new()
        })
    }

    /// Reports that something begins.
    pub(super) fn begin(&self, task: Task<'_>) -> Box<dyn Step> {
        self.progress.begin(task)
    }

    /// Reports that work on the layers of an image begins.
    pub(super) fn begin_layers(&self, what: &'static str, image: &Image) -> Box<dyn Step> {
        self.begin(Task::Layers(what, image.layers.len()))
    }

    /// Reports that a transfer of so many bytes begins.
    pub(super) fn begin_transfer(&self, what: &'static str, bytes: u64) -> Box<dyn Step> {
        let step = self.begin(Task::Bytes(what));
        step.expect(bytes);
        step
    }
}
