use std::collections::HashMap;

use super::{Context, HostNames, ImageSelection, PrepareRequest, Task, prepare};
use crate::container_store::{Candidate, StoredImage, stored_images};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::fetch::Staging;
use crate::oci::{BlobStore, Image, Platform, Reference, Repository};
use crate::start::repositories;
use crate::vault::{Elsewhere, FetchedLayers, FsckProgress, ImageFsckReport, Vault, VaultCheck, restore_kept};

/// What was found in the vault.
#[derive(Debug, Default)]
pub struct FsckReport {
    /// One report per image.
    pub images: Vec<ImageFsckReport>,
    /// What they are called.
    pub names: HostNames,
    /// The repositories that they came from.
    sources: HashMap<BlobDigest, Repository>,
}

/// What a person must do about an image that is not whole.
#[derive(Debug)]
pub enum ByHand {
    /// podman pulls it again.
    Podman(String),
    /// Its seals come from the registry, or from wherever they are.
    Seals(String),
    /// It has to be pulled into the vault again: from where, and by which name.
    Pull(Option<String>, String),
    /// Nothing has a name for it.
    Gc,
}

impl FsckReport {
    /// Returns what is left to do for an image.
    pub fn by_hand(&self, checked: &ImageFsckReport) -> ByHand {
        let names = self.names.of(&checked.image);
        match (names.stored(), names.names.first()) {
            (Some(name), _) if checked.lacks_seals_alone() => ByHand::Seals(name.to_owned()),
            (Some(name), _) => ByHand::Podman(name.to_owned()),
            (None, Some(name)) => {
                let source = self
                    .sources
                    .get(&checked.image)
                    .map(|repository| format!("docker://{repository}@{}", checked.image));
                ByHand::Pull(source, name.clone())
            }
            (None, None) => ByHand::Gc,
        }
    }

    /// Returns whether nothing is wrong, or not any more.
    pub fn is_whole(&self) -> bool {
        self.images.iter().all(ImageFsckReport::is_whole)
    }
}

/// Reads images in the vault, or all if none is named, and reports what is damaged; with `repair` it makes that again.
///
/// # Errors
/// [`Case::NotFound`] and [`Case::Usage`] for images that do not exist, and whatever prevents the check. Damage is part
/// of the answer.
pub fn fsck(context: &Context, references: &[Reference], repair: bool) -> Result<FsckReport> {
    if !context.has_vault()? && references.is_empty() {
        return Ok(FsckReport::default());
    }
    let vault = context.open_vault()?;
    let step = context.begin(Task::Bytes(if repair { "checking and repairing" } else { "checking" }));
    let progress = FsckProgress { found: &|n| step.expect(n), read: &|n| step.done(n) };
    let registries = Registries { context, vault: &vault };
    let mut fsck = VaultCheck::new(&vault, &context.budget, progress);
    let mut checked = Vec::new();
    for image in images(context, &vault, references)? {
        let mut found = fsck.check(&image)?;
        if repair {
            // Notes that could not be read are made again, too.
            let had_notes = found.documents.is_empty();
            fsck.repair(&mut found, &registries)?;
            if !found.is_whole() || !had_notes {
                by_podmans_files(context, &mut fsck, &mut found)?;
            }
        }
        checked.push(found);
    }
    let source = |found: &ImageFsckReport| Some((found.image, vault.source(&found.image).ok()??));
    let sources = checked.iter().filter_map(source).collect();
    Ok(FsckReport { images: checked, names: context.host_names(), sources })
}

/// Repairs from the container store what the vault cannot make again: a start would take the store's files and seals
/// for it, and so does this, by this host's policy.
fn by_podmans_files(context: &Context, fsck: &mut VaultCheck<'_>, found: &mut ImageFsckReport) -> Result<()> {
    let names = context.host_names().of(&found.image);
    let Some(name) = names.stored() else { return Ok(()) };
    let images = ImageSelection::Named(vec![name.to_owned()]);
    let request = PrepareRequest { images, seals: Vec::new(), seals_only: false };
    match prepare(context, &request, &mut |_| ()) {
        Ok(None) => fsck.look_again(found),
        Ok(Some(refusal)) | Err(refusal) => {
            log::info!("{name}: not made again from the container store: {refusal}");
            Ok(())
        }
    }
}

fn images(context: &Context, vault: &Vault, references: &[Reference]) -> Result<Vec<BlobDigest>> {
    if references.is_empty() {
        return vault.images();
    }
    let mut found = Vec::new();
    for reference in references {
        found.extend(context.in_vault(Some(vault), reference)?);
    }
    Ok(found)
}

/// The repositories that images came from: as noted in the vault, or by their names in the container store.
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

    fn seals(&self, image: &Image, vault: &Vault) -> Result<()> {
        if restore_kept(vault, &image.digest)?
            && vault
                .seals(&image.digest, &self.context.budget)?
                .iter()
                .all(|seal| vault.store().holds(seal).unwrap_or(false))
        {
            return Ok(());
        }
        let places = match vault.source(&image.digest)? {
            Some(repository) => vec![repository],
            None => self.of_store(&image.digest),
        };
        let mut failed =
            Refusal::new(Case::C04Missing, image.digest.to_string(), "no registry is known to have its seals");
        for repository in places {
            match self.context.session()?.seals(&repository, image, vault.store()) {
                Ok(seals) => {
                    for seal in seals {
                        let raw = vault.store().read(&seal, None, self.context.budget.manifest)?;
                        vault.add_seal(&image.digest, &raw)?;
                    }
                    return Ok(());
                }
                Err(refusal) => failed = refusal,
            }
        }
        Err(failed)
    }

    fn layers(&self, image: &Image, numbers: &[usize]) -> Result<Box<dyn FetchedLayers>> {
        let noted = self.vault.source(&image.digest)?;
        // The vault has the layers of images that were pulled into it, but not those of podman's images.
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

impl FetchedLayers for Fetched {
    fn store(&self) -> &BlobStore {
        self.staging.store()
    }

    fn keep(&self) -> bool {
        self.keep
    }
}
