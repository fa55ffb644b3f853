use std::cell::OnceCell;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use super::{Progress, Step, Task};
use crate::fetch::{Options, Session};
use crate::identify::{further_stores, graph_root};
use crate::oci::{Budget, Image};
use crate::report::{Refusal, Result};
use crate::vault::{Lock, Vault};

/// What every operation works with: the vault, the limits, the way to registries, and who is told of progress.
pub struct Context {
    /// Where the vault is, or is to be.
    pub vault: PathBuf,
    /// What may be spent.
    pub budget: Budget,
    progress: Box<dyn Progress>,
    /// Taken when the vault is first opened, and held until the program ends.
    lock: OnceCell<Lock>,
    registry: Options,
    /// Begun when a registry is first asked.
    session: OnceCell<Rc<Session>>,
}

impl Context {
    /// For the vault at `vault`, or the one in the graph root of containers-storage.
    ///
    /// # Errors
    /// Those of [`graph_root`].
    pub fn new(vault: Option<PathBuf>, registry: Options, progress: Box<dyn Progress>) -> Result<Self> {
        let vault = match vault {
            Some(dir) => dir,
            None => graph_root()?.join("layerseal"),
        };
        let (lock, session) = (OnceCell::new(), OnceCell::new());
        Ok(Self { vault, budget: Budget::STANDARD, progress, lock, registry, session })
    }

    /// The conversation with registries.
    ///
    /// # Errors
    /// Those of [`Session::new`].
    pub fn session(&self) -> Result<Rc<Session>> {
        if let Some(session) = self.session.get() {
            return Ok(session.clone());
        }
        let session = Rc::new(Session::new(self.registry.clone(), self.budget)?);
        Ok(self.session.get_or_init(|| session).clone())
    }

    /// Whether there is a vault.
    ///
    /// # Errors
    /// [`crate::report::Case::Io`] where that cannot be told.
    pub fn has_vault(&self) -> Result<bool> {
        self.vault.try_exists().map_err(|e| Refusal::io(self.vault.display().to_string(), e))
    }

    /// Opens the vault, which must be there.
    ///
    /// # Errors
    /// Those of [`Vault::open`].
    pub fn open_vault(&self) -> Result<Vault> {
        self.hold(Vault::open(&self.vault)?)
    }

    /// Opens the vault, and makes it where it is missing.
    ///
    /// # Errors
    /// Those of [`Vault::create`].
    pub fn create_vault(&self) -> Result<Vault> {
        self.hold(Vault::create(&self.vault)?)
    }

    /// Here and not in the verbs: none of them can forget it.
    fn hold(&self, vault: Vault) -> Result<Vault> {
        if self.lock.get().is_none() {
            // Set by nobody else: there is one thread here.
            let _ = self.lock.set(vault.shared()?);
        }
        Ok(vault)
    }

    /// The container stores whose images are the vault's: the one that it lies in, and those that
    /// containers-storage is configured to take images from as well.
    ///
    /// # Errors
    /// [`crate::report::Case::Io`], and those of reading the configuration.
    pub fn stores(&self) -> Result<Vec<PathBuf>> {
        let name = |e| Refusal::io(self.vault.display().to_string(), e);
        let vault = match (std::fs::canonicalize(&self.vault), self.vault.parent(), self.vault.file_name()) {
            // It may not be there yet.
            (Err(e), Some(parent), Some(file)) if e.kind() == std::io::ErrorKind::NotFound => {
                match std::fs::canonicalize(parent) {
                    // Nor may any store; or there are others alone, that came with the disk. Then podman would make
                    // it, where the vault is to be too.
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
        let (Some(root), true) = (vault.parent(), vault.ends_with("layerseal")) else { return Ok(Vec::new()) };
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

    /// Tells that something begins.
    pub(super) fn begin(&self, task: Task<'_>) -> Box<dyn Step> {
        self.progress.begin(task)
    }

    /// The same of the layers of an image.
    pub(super) fn begin_layers(&self, what: &'static str, image: &Image) -> Box<dyn Step> {
        self.begin(Task::Layers(what, image.layers.len()))
    }

    /// The same of so many bytes.
    pub(super) fn begin_transfer(&self, what: &'static str, bytes: u64) -> Box<dyn Step> {
        let step = self.begin(Task::Bytes(what));
        step.expect(bytes);
        step
    }
}
