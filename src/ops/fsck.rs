use super::{Context, Task};
use crate::digest::BlobDigest;
use crate::fetch::Staging;
use crate::identify::{Candidate, StoredImage, stored_images};
use crate::oci::{BlobStore, Image, Platform, Reference, Repository};
use crate::report::{Case, Refusal, Result};
use crate::start::repositories;
use crate::vault::{Checked, Elsewhere, Fsck, Layers, Progress, Tag, Vault};

/// What was found in the vault.
#[derive(Debug, Default)]
pub struct Fscked {
    /// Of each image.
    pub images: Vec<Checked>,
    /// The names in the vault.
    pub names: Vec<Tag>,
}

impl Fscked {
    /// Whether nothing is wrong, or not any more.
    pub fn is_whole(&self) -> bool {
        self.images.iter().all(Checked::is_whole)
    }

    /// A name of the image, if it has one.
    pub fn name(&self, image: &BlobDigest) -> Option<&str> {
        self.names.iter().find(|tag| tag.digest == *image).map(|tag| tag.name.as_str())
    }
}

/// Reads images in the vault, or all where none is named, and names what is damaged; with `repair` makes it again.
///
/// # Errors
/// [`Case::NotFound`] and [`Case::Usage`] for images that are not there, and what keeps it from looking. Damage is
/// part of the answer.
pub fn fsck(context: &Context, references: &[Reference], repair: bool) -> Result<Fscked> {
    if !context.has_vault()? && references.is_empty() {
        return Ok(Fscked::default());
    }
    let vault = context.open_vault()?;
    let names = vault.tags()?;
    let step = context.begin(Task::Bytes(if repair { "checking and repairing" } else { "checking" }));
    let progress = Progress { found: &|n| step.expect(n), read: &|n| step.done(n) };
    let registries = Registries { context, vault: &vault };
    let mut fsck = Fsck::new(&vault, &context.budget, progress);
    let mut checked = Vec::new();
    for image in images(&vault, references)? {
        let mut found = fsck.check(&image)?;
        if repair {
            fsck.repair(&mut found, &registries)?;
        }
        checked.push(found);
    }
    Ok(Fscked { images: checked, names })
}

fn images(vault: &Vault, references: &[Reference]) -> Result<Vec<BlobDigest>> {
    if references.is_empty() {
        return vault.images();
    }
    let known = vault.images()?;
    let digest = |reference: &Reference| {
        let digest = match reference {
            Reference::Tag(name) => vault.tag(name)?,
            Reference::Digest(digest) => Some(*digest),
            Reference::Layout { .. } | Reference::Registry { .. } => {
                return Err(Refusal::new(Case::Usage, reference.to_string(), "fsck looks at images in the vault"));
            }
        };
        // Not by reading it: what is damaged is to be found.
        digest.filter(|d| known.contains(d)).ok_or_else(|| Refusal::new(Case::NotFound, reference.to_string(), ""))
    };
    references.iter().map(digest).collect()
}

/// The repositories that images came from: as the vault noted, or by their names in the container store.
struct Registries<'a> {
    context: &'a Context,
    vault: &'a Vault,
}

impl Registries<'_> {
    fn stored(&self) -> Vec<StoredImage> {
        self.context.stores().and_then(|roots| stored_images(&roots, None)).unwrap_or_default()
    }

    fn of_store(&self, image: &BlobDigest) -> Vec<Repository> {
        let stored = self.stored();
        let names = candidates(&stored).filter(|c| c.image.digest == *image).flat_map(|c| c.names.clone());
        repositories(&names.collect::<Vec<_>>())
    }
}

impl Elsewhere for Registries<'_> {
    fn documents(&self, image: &BlobDigest, into: &BlobStore) -> Result<()> {
        let stored = self.stored();
        if let Some(candidate) = candidates(&stored).find(|c| c.image.digest == *image) {
            into.write(&candidate.image.manifest)?;
            return into.write(&candidate.image.config).map(drop);
        }
        let nobody = || Refusal::new(Case::C04Missing, image.to_string(), "nothing is known to have its documents");
        let repository = self.vault.source(image)?.ok_or_else(nobody)?;
        let session = self.context.session()?;
        let document = session.document(&repository, None, Some(image))?;
        session.image(&repository, document, &Platform::host(), into).map(drop)
    }

    fn layers(&self, image: &Image, numbers: &[usize]) -> Result<Box<dyn Layers>> {
        let noted = self.vault.source(&image.digest)?;
        // The vault has the layers of images that were pulled into it, and not those of podman's.
        let (places, keep) = match noted {
            Some(repository) => (vec![repository], true),
            None => (self.of_store(&image.digest), false),
        };
        let nobody =
            || Refusal::new(Case::C04Missing, image.digest.to_string(), "no registry is known to have its layers");
        let mut failed = None;
        for repository in places {
            let (session, staging) = (self.context.session()?, Staging::new()?);
            let total = numbers.iter().filter_map(|n| image.layers.get(*n)).map(|l| l.size).sum();
            let step = self.context.begin_transfer("fetching", total);
            match session.layers(&repository, image, Some(numbers), staging.store(), &|n| step.done(n)) {
                Ok(()) => return Ok(Box::new(Fetched { staging, keep })),
                Err(refusal) => failed = Some(refusal),
            }
        }
        Err(failed.unwrap_or_else(nobody))
    }
}

fn candidates(stored: &[StoredImage]) -> impl Iterator<Item = &Candidate> {
    stored.iter().filter_map(|s| s.image.as_ref().ok()).flat_map(|claimed| &claimed.images)
}

struct Fetched {
    staging: Staging,
    keep: bool,
}

impl Layers for Fetched {
    fn store(&self) -> &BlobStore {
        self.staging.store()
    }

    fn keep(&self) -> bool {
        self.keep
    }
}
