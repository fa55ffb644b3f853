//! Which image is meant, and where it is: layouts, registries and the vault, behind one way of naming them.

use std::rc::Rc;

use super::{Context, Task};
use crate::digest::{Algorithm, BlobDigest};
use crate::fetch::{Session, Staging};
use crate::image::{Contents, ErofsImages, Keep, LayerVisitor, ReadOnly};
use crate::oci::{BlobStore, Image, Instance, Layout, Platform, Reference, Repository};
use crate::report::{Case, Refusal, Result};
use crate::vault::{Import, Vault};

/// An image and the place where it was found.
#[derive(Debug)]
pub struct Located {
    /// The place.
    pub place: Place,
    /// The image.
    pub image: Image,
}

/// Where images are.
#[derive(Debug)]
pub enum Place {
    /// An OCI layout.
    Layout(Layout),
    /// This host's vault.
    Vault(Vault),
    /// A registry.
    Registry(Remote),
}

/// An image in a registry. What is fetched of it goes with this value.
#[derive(Debug)]
pub struct Remote {
    /// Where it is.
    pub repository: Repository,
    /// How the registry is spoken to.
    pub session: Rc<Session>,
    pub(super) staging: Staging,
}

impl Context {
    /// Finds an image.
    ///
    /// # Errors
    /// C01 and others where it is not there or cannot be read.
    pub fn locate(&self, reference: &Reference, platform: Option<&Platform>) -> Result<Located> {
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
    ///
    /// # Errors
    /// [`Case::D13Platform`] for an index without any image, and those of reading it.
    pub fn instances(&self, reference: &Reference) -> Result<Option<Vec<(Reference, Instance)>>> {
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
    /// Where its blobs are.
    pub fn store(&self) -> &BlobStore {
        match &self.place {
            Place::Layout(layout) => layout.store(),
            Place::Vault(vault) => vault.store(),
            Place::Registry(remote) => remote.staging.store(),
        }
    }

    /// The seals that are beside the image.
    ///
    /// # Errors
    /// Those of reading the place.
    pub fn seals(&self, context: &Context) -> Result<Vec<BlobDigest>> {
        match &self.place {
            Place::Layout(layout) => layout.referrers(&self.image.digest, &context.budget),
            Place::Vault(vault) => vault.seals(&self.image.digest, &context.budget),
            Place::Registry(remote) => {
                let _step = context.begin(Task::Waiting(&format!("looking for seals in {}", remote.repository)));
                remote.session.seals(&remote.repository, &self.image, remote.staging.store())
            }
        }
    }

    /// Brings the layers, where they are still in a registry, into `store`.
    pub(super) fn fetch_layers(&self, context: &Context, store: &BlobStore) -> Result<()> {
        let Place::Registry(remote) = &self.place else { return Ok(()) };
        let step = context.begin_transfer("fetching", self.image.layers.iter().map(|l| l.size).sum());
        remote.session.layers(&remote.repository, &self.image, None, store, &|n| step.done(n))
    }

    /// Reads the layers and makes the EROFS images, and keeps nothing.
    pub(super) fn contents(&self, context: &Context, wanted: (Algorithm, Keep)) -> Result<Contents> {
        self.read(context, &ReadOnly { store: self.store(), algorithm: wanted.0 }, wanted)
    }

    /// The same; of an image in the vault, its objects are kept there.
    pub(super) fn import(&self, context: &Context, wanted: (Algorithm, Keep)) -> Result<Contents> {
        let Place::Vault(vault) = &self.place else { return self.contents(context, wanted) };
        self.read(context, &Import::new(vault, vault.store(), wanted.0), wanted)
    }

    /// The EROFS images, for signing. Of an image in the vault those that this host made when it pulled the
    /// image: who has written to the vault since can have another tree signed, which every host refuses
    /// when it first compares it with the layers (H08, D07).
    pub(super) fn images(&self, context: &Context, algorithm: Algorithm, keep: bool) -> Result<ErofsImages> {
        let wanted = (algorithm, Keep::Images);
        let Place::Vault(vault) = &self.place else { return self.contents(context, wanted).map(|c| c.images) };
        let whole =
            |made: &ErofsImages| made.container.as_ref().is_ok_and(|made| made.layers.len() == self.image.layers.len());
        match vault.kept_images(&self.image.digest, algorithm, &context.budget).filter(whole) {
            Some(made) => Ok(made),
            None if keep => {
                let images = self.import(context, wanted)?.images;
                vault.keep_images(&self.image.digest, &images)?;
                Ok(images)
            }
            None => self.contents(context, wanted).map(|c| c.images),
        }
    }

    fn read(&self, context: &Context, visitor: &dyn LayerVisitor, wanted: (Algorithm, Keep)) -> Result<Contents> {
        self.fetch_layers(context, self.store())?;
        let step = context.begin_layers("reading", &self.image);
        Contents::read(&self.image, wanted, visitor, &context.budget, &|n| step.done(n))
    }
}
