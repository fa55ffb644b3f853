//! Which image is meant, and where it is: layouts, registries and the vault, behind one way of naming them.

use std::rc::Rc;

use super::{Context, Task};
use crate::digest::{Algorithm, BlobDigest};
use crate::error::{Case, Refusal, Result};
use crate::fetch::{FetchedDocument, Session, Staging};
use crate::image::{Contents, ContentsRequest, ErofsImages, Keep, LayerVisitor, ReadOnly};
use crate::oci::{BlobStore, Image, Instance, Layout, Platform, Reference, Repository};
use crate::vault::{Import, Vault};

/// An image and the place where it was found.
#[derive(Debug)]
pub struct Located {
    /// The place.
    pub place: ImageLocation,
    /// The image.
    pub image: Image,
}

/// Where an image is.
#[derive(Debug)]
pub enum ImageLocation {
    /// An OCI layout.
    Layout(Layout),
    /// This host's vault.
    Vault(Vault),
    /// A registry.
    Registry(RemoteImage),
}

/// An image in a registry. What is fetched of it is removed with this value.
#[derive(Debug)]
pub struct RemoteImage {
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
    /// C01 and others if it does not exist or cannot be read.
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
                Ok(Located { place: ImageLocation::Layout(layout), image })
            }
            Reference::Registry { repository, tag, digest } => {
                let session = self.session()?;
                let staging = Staging::new()?;
                let document = session.document(repository, tag.as_deref(), digest.as_ref())?;
                let host = Platform::host();
                let image =
                    session.image(repository, document, platform.unwrap_or(&host), staging.store()).map_err(within)?;
                Ok(Located {
                    place: ImageLocation::Registry(RemoteImage { repository: repository.clone(), session, staging }),
                    image,
                })
            }
            _ => {
                let found = self.open_vault().and_then(|vault| {
                    let image = vault.image(reference, &self.budget).map_err(within)?;
                    Ok(Located { place: ImageLocation::Vault(vault), image })
                });
                found.map_err(|refusal| self.or_podmans(reference, refusal))
            }
        }
    }

    /// Lists the images that a reference stands for if no platform is named: for an index everything in it, each by its
    /// digest. `None` for a single image.
    ///
    /// # Errors
    /// [`Case::D13Platform`] for an index without any image, and errors of reading it.
    pub fn instances(&self, reference: &Reference) -> Result<Option<Vec<(Reference, Instance)>>> {
        let instances = match reference {
            Reference::Layout { dir, tag, digest } => {
                let layout = Layout::open(dir)?;
                let digest = digest.map_or_else(|| layout.resolve(tag.as_deref(), &self.budget), Ok)?;
                let raw = layout.store().read(&digest, None, self.budget.manifest)?;
                Image::instances(&raw, &digest)?
            }
            Reference::Registry { repository, tag, digest } => {
                let FetchedDocument { digest, raw } =
                    self.session()?.document(repository, tag.as_deref(), digest.as_ref())?;
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
    /// Returns the store with its blobs.
    pub fn store(&self) -> &BlobStore {
        match &self.place {
            ImageLocation::Layout(layout) => layout.store(),
            ImageLocation::Vault(vault) => vault.store(),
            ImageLocation::Registry(remote) => remote.staging.store(),
        }
    }

    /// Lists the seals that are beside the image.
    ///
    /// # Errors
    /// Errors of reading the place.
    pub fn seals(&self, context: &Context) -> Result<Vec<BlobDigest>> {
        match &self.place {
            ImageLocation::Layout(layout) => layout.referrers(&self.image.digest, &context.budget),
            ImageLocation::Vault(vault) => vault.seals(&self.image.digest, &context.budget),
            ImageLocation::Registry(remote) => {
                let _step = context.begin(Task::Waiting(&format!("looking for seals in {}", remote.repository)));
                remote.session.seals(&remote.repository, &self.image, remote.staging.store())
            }
        }
    }

    /// Fetches the layers into `store`, if they are still in a registry.
    pub(super) fn fetch_layers(&self, context: &Context, store: &BlobStore) -> Result<()> {
        let ImageLocation::Registry(remote) = &self.place else { return Ok(()) };
        let step = context.begin_transfer("fetching", self.image.layers.iter().map(|l| l.size).sum());
        remote.session.layers(&remote.repository, &self.image, None, store, &|n| step.done(n))
    }

    /// Reads the layers and makes the EROFS images, but keeps nothing.
    pub(super) fn contents(&self, context: &Context, wanted: ContentsRequest) -> Result<Contents> {
        self.read(context, &ReadOnly { store: self.store(), algorithm: wanted.algorithm }, wanted)
    }

    /// Reads the layers and makes the EROFS images; if the image is in the vault, its objects are kept there.
    pub(super) fn import(&self, context: &Context, wanted: ContentsRequest) -> Result<Contents> {
        let ImageLocation::Vault(vault) = &self.place else { return self.contents(context, wanted) };
        self.read(context, &Import::new(vault, vault.store(), wanted.algorithm), wanted)
    }

    /// Returns the EROFS images, for signing. For an image in the vault these are the ones that this host made when it
    /// pulled the image: whoever has written to the vault since then can get another tree signed, but every host
    /// refuses that tree when it first compares it with the layers (H08, D07).
    pub(super) fn images(&self, context: &Context, algorithm: Algorithm, keep: bool) -> Result<ErofsImages> {
        let wanted = ContentsRequest { algorithm, keep: Keep::Images };
        let ImageLocation::Vault(vault) = &self.place else { return self.contents(context, wanted).map(|c| c.images) };
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

    fn read(&self, context: &Context, visitor: &dyn LayerVisitor, wanted: ContentsRequest) -> Result<Contents> {
        self.fetch_layers(context, self.store())?;
        let step = context.begin_layers("reading", &self.image);
        Contents::read(&self.image, wanted, visitor, &context.budget, &|n| step.done(n))
    }
}
