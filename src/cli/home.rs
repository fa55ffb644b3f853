//! Where images are: layouts and the vault, behind one way of naming them.

use std::cell::OnceCell;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use crate::cli::args::{BindingArg, DatesArg, TrustArgs};
use crate::cli::progress;
use crate::digest::{Algorithm, BlobDigest};
use crate::fetch::{Options, Session, Staging};
use crate::identify::{further_stores, graph_root};
use crate::image::{Contents, ErofsImages, Keep, LayerVisitor, ReadOnly};
use crate::oci::{BlobStore, Budget, Image, Instance, Layout, Platform, Reference, Repository};
use crate::pki::{Dates, Ownership, TrustStore};
use crate::policy::{Denied, Directories};
use crate::report::{Case, Class, Refusal, Result};
use crate::seal::{About, Parsed, parse_about};
use crate::sys::process::now;
use crate::vault::{Import, Lock, Vault};
use crate::verify::{BindingRule, Floors, Found, Rules};

/// The vault's place, and the limits.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) vault: PathBuf,
    pub(super) budget: Budget,
    /// Taken when the vault is first opened, and held until the program ends.
    lock: OnceCell<Lock>,
    registry: Options,
    /// Begun when a registry is first asked.
    session: OnceCell<Rc<Session>>,
}

/// An image and the place where it was found.
pub(super) struct Located {
    pub(super) place: Place,
    pub(super) image: Image,
}

pub(super) enum Place {
    Layout(Layout),
    Vault(Vault),
    Registry(Remote),
}

/// An image in a registry. What is fetched of it goes with this value.
pub(super) struct Remote {
    pub(super) repository: Repository,
    pub(super) session: Rc<Session>,
    staging: Staging,
}

impl Home {
    pub(super) fn new(vault: Option<PathBuf>, registry: Options) -> Result<Self> {
        let vault = match vault {
            Some(dir) => dir,
            None => graph_root()?.join("layerseal"),
        };
        let (lock, session) = (OnceCell::new(), OnceCell::new());
        Ok(Self { vault, budget: Budget::STANDARD, lock, registry, session })
    }

    /// The conversation with registries.
    pub(super) fn session(&self) -> Result<Rc<Session>> {
        if let Some(session) = self.session.get() {
            return Ok(session.clone());
        }
        let session = Rc::new(Session::new(self.registry.clone(), self.budget)?);
        Ok(self.session.get_or_init(|| session).clone())
    }

    /// Whether there is a vault.
    ///
    /// # Errors
    /// [`Case::Io`] where that cannot be told.
    pub(super) fn has_vault(&self) -> Result<bool> {
        self.vault.try_exists().map_err(|e| Refusal::io(self.vault.display().to_string(), e))
    }

    /// Opens the vault, which must be there.
    pub(super) fn open_vault(&self) -> Result<Vault> {
        self.hold(Vault::open(&self.vault)?)
    }

    /// Opens the vault, and makes it where it is missing.
    pub(super) fn create_vault(&self) -> Result<Vault> {
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
    pub(super) fn stores(&self) -> Result<Vec<PathBuf>> {
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

    /// Finds an image.
    pub(super) fn locate(&self, reference: &Reference, platform: Option<&Platform>) -> Result<Located> {
        let within = |r: Refusal| r.within_once("", reference);
        match reference {
            Reference::Layout { dir, tag, digest } => {
                let layout = Layout::open(dir)?;
                let host = Platform::host();
                let digest = match digest {
                    Some(digest) => *digest,
                    None => layout.resolve(tag.as_deref(), &self.budget)?,
                };
                let image =
                    Image::read(layout.store(), &digest, platform.unwrap_or(&host), &self.budget).map_err(within)?;
                Ok(Located { place: Place::Layout(layout), image })
            }
            Reference::Registry { repository, tag, digest } => {
                let session = self.session()?;
                let staging = Staging::new()?;
                let document = session.document(repository, tag.as_deref(), digest.as_ref())?;
                let host = Platform::host();
                let image =
                    session.image(repository, document, platform.unwrap_or(&host), staging.store()).map_err(within)?;
                Ok(Located {
                    place: Place::Registry(Remote { repository: repository.clone(), session, staging }),
                    image,
                })
            }
            _ => {
                let vault = self.open_vault()?;
                let image = vault.image(reference, &self.budget).map_err(within)?;
                Ok(Located { place: Place::Vault(vault), image })
            }
        }
    }

    /// The images that a reference stands for where no platform is named: of an index everything that is in it,
    /// each by its digest. `None` for one image.
    pub(super) fn instances(&self, reference: &Reference) -> Result<Option<Vec<(Reference, Instance)>>> {
        let instances = match reference {
            Reference::Layout { dir, tag, digest } => {
                let layout = Layout::open(dir)?;
                let digest = digest.map_or_else(|| layout.resolve(tag.as_deref(), &self.budget), Ok)?;
                let raw = layout.store().read(&digest, None, self.budget.manifest)?;
                Image::instances(&raw, &digest)?
            }
            Reference::Registry { repository, tag, digest } => {
                let (digest, raw) = self.session()?.document(repository, tag.as_deref(), digest.as_ref())?;
                Image::instances(&raw, &digest)?
            }
            _ => None,
        };
        let Some(instances) = instances else { return Ok(None) };
        if instances.iter().all(|instance| instance.passed_over.is_some()) {
            return Err(Refusal::new(Case::D13Platform, reference.to_string(), "the index lists no image"));
        }
        let by_digest = |digest: BlobDigest| match reference.clone() {
            Reference::Layout { dir, .. } => Reference::Layout { dir, tag: None, digest: Some(digest) },
            Reference::Registry { repository, .. } => {
                Reference::Registry { repository, tag: None, digest: Some(digest) }
            }
            other => other,
        };
        Ok(Some(instances.into_iter().map(|instance| (by_digest(instance.digest), instance)).collect()))
    }
}

impl Located {
    pub(super) fn store(&self) -> &BlobStore {
        match &self.place {
            Place::Layout(layout) => layout.store(),
            Place::Vault(vault) => vault.store(),
            Place::Registry(remote) => remote.staging.store(),
        }
    }

    /// The seals that are beside the image.
    pub(super) fn seals(&self, budget: &Budget) -> Result<Vec<BlobDigest>> {
        match &self.place {
            Place::Layout(layout) => layout.referrers(&self.image.digest, budget),
            Place::Vault(vault) => vault.seals(&self.image.digest, budget),
            Place::Registry(remote) => {
                let spinner = progress::spinner(format!("looking for seals in {}", remote.repository));
                let seals = remote.session.seals(&remote.repository, &self.image, remote.staging.store());
                spinner.finish_and_clear();
                seals
            }
        }
    }

    /// Brings the layers, where they are still in a registry, into `store`.
    pub(super) fn fetch_layers(&self, store: &BlobStore) -> Result<()> {
        let Place::Registry(remote) = &self.place else { return Ok(()) };
        let bar = progress::transfer("fetching", self.image.layers.iter().map(|l| l.size).sum());
        let done = remote.session.layers(&remote.repository, &self.image, None, store, &|n| bar.inc(n));
        bar.finish_and_clear();
        done
    }

    /// Reads the layers and makes the EROFS images, and keeps nothing.
    pub(super) fn contents(&self, wanted: (Algorithm, Keep), budget: &Budget) -> Result<Contents> {
        self.read(&ReadOnly { store: self.store(), algorithm: wanted.0 }, wanted, budget)
    }

    /// The same; of an image in the vault, objects and EROFS images are kept there.
    pub(super) fn keep_contents(&self, wanted: (Algorithm, Keep), budget: &Budget) -> Result<Contents> {
        let Place::Vault(vault) = &self.place else { return self.contents(wanted, budget) };
        let contents = self.read(&Import::new(vault, vault.store(), wanted.0), wanted, budget)?;
        vault.keep_images(&self.image.digest, &contents.images)?;
        Ok(contents)
    }

    /// The EROFS images, for signing. Of an image in the vault those that this host made when it pulled the
    /// image: who has written to the vault since can have another tree signed, which every host refuses
    /// when it first compares it with the layers (H08, D07).
    pub(super) fn images(&self, algorithm: Algorithm, keep: bool, budget: &Budget) -> Result<ErofsImages> {
        let made = match &self.place {
            Place::Vault(vault) => vault.kept_images(&self.image.digest, algorithm, budget),
            _ => None,
        };
        let whole =
            |made: &ErofsImages| made.container.as_ref().is_ok_and(|made| made.layers.len() == self.image.layers.len());
        match made.filter(whole) {
            Some(made) => Ok(made),
            None if keep => self.keep_contents((algorithm, Keep::Images), budget).map(|c| c.images),
            None => self.contents((algorithm, Keep::Images), budget).map(|c| c.images),
        }
    }

    fn read(&self, visitor: &dyn LayerVisitor, wanted: (Algorithm, Keep), budget: &Budget) -> Result<Contents> {
        self.fetch_layers(self.store())?;
        let bar = progress::layers(&self.image, "reading");
        let contents = Contents::read(&self.image, wanted, visitor, budget, &|n| bar.inc(n));
        bar.finish_and_clear();
        contents
    }
}

/// Places named by `--seal`, kept open while their seals are judged.
pub(super) struct Extra(Vec<Source>);

enum Source {
    Layout(Layout),
    Registry(Remote),
}

impl Extra {
    pub(super) fn open(home: &Home, seals: &[Reference]) -> Result<Self> {
        let source = |reference: &Reference| match reference {
            Reference::Layout { dir, .. } => Layout::open(dir).map(Source::Layout),
            Reference::Registry { repository, .. } => {
                let (session, staging) = (home.session()?, Staging::new()?);
                Ok(Source::Registry(Remote { repository: repository.clone(), session, staging }))
            }
            other => Err(Refusal::new(Case::Usage, other.to_string(), "--seal takes oci:DIR or docker://HOST/NAME")),
        };
        seals.iter().map(source).collect::<Result<_>>().map(Self)
    }

    /// Those that say they are about `image`, under whatever manifest.
    pub(super) fn about(&self, image: &Image, budget: &Budget) -> Result<Vec<Found<'_>>> {
        self.search(image, &|layout| {
            let is_about = |digest: &BlobDigest| -> Result<bool> {
                let raw = match layout.store().read(digest, None, budget.manifest) {
                    Err(refusal) if refusal.case().class() == Class::Rejected => return Ok(false),
                    other => other?,
                };
                Ok(matches!(parse_about(About::Image, &raw, digest, image, budget), Ok(Parsed::Seal(_))))
            };
            let mut found = layout.referrers(&image.digest, budget)?;
            for digest in layout.artifacts(budget)? {
                if !found.contains(&digest) && is_about(&digest)? {
                    found.push(digest);
                }
            }
            Ok(found)
        })
    }

    /// These seals and those beside the image. Of a layout every artifact: the person says "this is the
    /// seal".
    pub(super) fn found<'a>(&'a self, located: &'a Located, budget: &Budget) -> Result<Vec<Found<'a>>> {
        let named = self.search(&located.image, &|layout| layout.artifacts(budget))?;
        let beside = located.seals(budget)?.into_iter().map(|digest| Found { digest, store: located.store() });
        // The same artifact in two places is tried in both: one copy may be damaged.
        Ok(named.into_iter().chain(beside).collect())
    }

    fn search(&self, image: &Image, of_layout: &dyn Fn(&Layout) -> Result<Vec<BlobDigest>>) -> Result<Vec<Found<'_>>> {
        let mut found = Vec::new();
        for source in &self.0 {
            let (digests, store) = match source {
                Source::Layout(layout) => (of_layout(layout)?, layout.store()),
                Source::Registry(remote) => {
                    let store = remote.staging.store();
                    (remote.session.seals(&remote.repository, image, store)?, store)
                }
            };
            found.extend(digests.into_iter().map(|digest| Found { digest, store }));
        }
        Ok(found)
    }
}

/// What `--trust` and its companions ask for, where something is to be mounted or imported: `None` when
/// nobody is named. A companion alone would be a demand that nobody checks.
///
/// # Errors
/// [`Case::Usage`] for a companion without `--trust`; those of [`rules`].
pub(super) fn demands(args: &TrustArgs) -> Result<Option<Rules>> {
    let companions = [
        ("--identity", args.identity.is_some()),
        ("--seal", !args.seal.is_empty()),
        ("--binding", matches!(args.binding, BindingArg::Local)),
        ("--dates", matches!(args.dates, DatesArg::Ignore)),
    ];
    match (args.trust.is_empty(), companions.iter().find(|(_, given)| *given)) {
        (true, Some((name, _))) => Err(Refusal::new(Case::Usage, *name, "it says nothing without --trust")),
        (true, None) => Ok(None),
        (false, _) => rules(args).map(Some),
    }
}

/// What `--trust` and its companions ask for.
pub(super) fn rules(args: &TrustArgs) -> Result<Rules> {
    let certificates = match args.trust.as_slice() {
        [] => None,
        paths => Some(TrustStore::load(paths, Ownership::Any)?.certificates().to_vec()),
    };
    Ok(Rules {
        certificates,
        anchors: Vec::new(),
        dates: match args.dates {
            DatesArg::Enforce => Dates::Enforce,
            DatesArg::Ignore => Dates::Ignore,
        },
        now: now(),
        binding: match args.binding {
            BindingArg::Required => BindingRule::Required,
            BindingArg::Local => BindingRule::Local,
        },
        identities: args.identity.iter().cloned().collect(),
        denied: denied()?,
        floors: Floors::none(),
    })
}

/// What this host denies, which holds for a person at the command line too.
pub(super) fn denied() -> Result<Denied> {
    Denied::load(&Directories::system())
}
