use std::cell::Cell;

use super::seals::copy_seal;
use super::trust::denied;
use super::{Context, ImageLocation, Located, SealSources, Trust};
use crate::digest::{Algorithm, BlobDigest};
use crate::error::{Case, Refusal, Result};
use crate::image::{Contents, ContentsRequest, Keep};
use crate::oci::{BlobStore, Budget, Image, Platform, Reference};
use crate::prepare::{Acceptance, Measured, accept, keep_contents};
use crate::seal::{ArtifactSubject, Parsed, parse};
use crate::vault::{Import, Vault};
use crate::verify::{JudgeRequest, LayerReader, ReadOptions, Requirements, SealCandidate};

/// An image that is to be brought into the vault.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The image.
    pub image: Reference,
    /// Its name there; otherwise the name is made from where the image is.
    pub name: Option<String>,
    /// Whose seal it must have; no seal is needed if no certificate is named.
    pub trust: Trust,
    /// The algorithm of its objects; otherwise that of its seals.
    pub algorithm: Option<Algorithm>,
    /// Which instance; otherwise this host's.
    pub platform: Option<Platform>,
}

/// An image that is in the vault now.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Its name.
    pub name: String,
    /// Its manifest's digest.
    pub image: BlobDigest,
    /// Whether its objects have fs-verity.
    pub verity: bool,
}

/// Brings an image into the vault and names it.
///
/// # Errors
/// [`Case::Usage`] for an image that is there already; errors of finding, judging and reading it.
pub fn pull(context: &Context, request: &PullRequest) -> Result<Pulled> {
    let located = context.locate(&request.image, request.platform.as_ref())?;
    if matches!(located.place, ImageLocation::Vault(_)) {
        return Err(Refusal::new(Case::Usage, request.image.to_string(), "it is in the vault already"));
    }
    let name = request.name.clone().unwrap_or_else(|| default_name(&request.image));
    // A name that cannot be given is refused before anything is written.
    Vault::check_name(&name)?;
    denied()?.image(&located.image)?;
    let sources = SealSources::open(context, &request.trust.seals)?;
    let found = sources.found(context, &located)?;
    let vault = context.create_vault()?;
    let requirements = request.trust.demands()?;
    let brought = Incoming { context, vault: &vault, located: &located, found: &found };
    let verity = brought.import(requirements.as_ref(), request.algorithm)?;
    vault.set_tag(&name, &located.image.digest)?;
    if !verity {
        log::warn!(
            "the filesystem of {} has no fs-verity: nothing protects the files yet, and mounting needs --verity off; see `layerseal doctor`",
            vault.path().display()
        );
    }
    Ok(Pulled { name, image: located.image.digest, verity })
}

/// Returns the default name: the tag, or the directory's name if the tag says nothing.
fn default_name(reference: &Reference) -> String {
    match reference {
        // The name that podman uses.
        Reference::Registry { repository, tag, .. } => match tag {
            Some(tag) => format!("{repository}:{tag}"),
            None => repository.to_string(),
        },
        Reference::Layout { tag: Some(tag), .. } if tag != "latest" => tag.clone(),
        Reference::Layout { dir, .. } => {
            let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.clone());
            dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
        }
        other => other.to_string(),
    }
}

/// An image on its way into the vault.
pub(super) struct Incoming<'a> {
    pub(super) context: &'a Context,
    pub(super) vault: &'a Vault,
    pub(super) located: &'a Located,
    pub(super) found: &'a [SealCandidate<'a>],
}

impl Incoming<'_> {
    /// Imports it without a tag, and returns whether its objects have fs-verity. With `requirements` nothing is
    /// imported before the signatures of a seal have passed. If its content then turns out to be wrong, objects that
    /// were read so far stay, as after an interrupted import: no image and no tag names them.
    pub(super) fn import(&self, requirements: Option<&Requirements>, algorithm: Option<Algorithm>) -> Result<bool> {
        let Self { vault, located, found, .. } = *self;
        let (image, budget) = (&located.image, &self.context.budget);
        let without_verity = Cell::new(false);
        let mut layers = LayerReader::new(|wanted| {
            let (contents, verity) = self.read(wanted)?;
            without_verity.set(without_verity.get() || !verity);
            Ok(contents)
        });
        // Every object was measured on its way in, and so were those that were already there.
        let measured = || (!without_verity.get()).then_some(Measured::Enforced);
        let algorithm = match requirements {
            Some(requirements) => {
                let home = located.store();
                let request =
                    JudgeRequest { image, found, home, requirements, budget, about: ArtifactSubject::Manifest };
                let acceptance = Acceptance { vault, request, shape: None, measured: &measured };
                let verified = accept(&acceptance, &mut layers)?;
                algorithm.unwrap_or(verified.algorithm())
            }
            None => algorithm.unwrap_or_else(|| sealed_algorithm(image, found, budget)),
        };
        let kept = layers.last();
        let contents = layers.get(ReadOptions { algorithm, bound: true, keep: Keep::Images })?;
        if requirements.is_none() {
            // No seal is for another tree that could be shown instead.
            contents.images.container()?;
        }
        if kept.is_none_or(|kept| !std::rc::Rc::ptr_eq(&kept, &contents)) {
            keep_contents(vault, image, &contents, measured())?;
        }
        let repository = match &located.place {
            ImageLocation::Registry(remote) => Some(&remote.repository),
            _ => None,
        };
        vault.set_source(&image.digest, repository)?;
        found.iter().try_for_each(|seal| copy_seal(vault, image, seal, ArtifactSubject::Manifest, budget))?;
        Ok(!without_verity.get())
    }

    /// Reads the layers into the vault, and returns whether all objects have fs-verity.
    fn read(&self, ReadOptions { algorithm, keep, .. }: ReadOptions) -> Result<(Contents, bool)> {
        let Self { context, vault, located, .. } = *self;
        let image = &located.image;
        // From a registry they are fetched to where they are to stay.
        let from = if matches!(located.place, ImageLocation::Registry(_)) { vault.store() } else { located.store() };
        let (bytes, files) = needed(vault, image, from)?;
        vault.check_room(bytes, files)?;
        located.fetch_layers(context, from)?;
        let import = Import::new(vault, from, algorithm);
        let step = context.begin_layers("pulling", image);
        let read =
            || Contents::read(image, ContentsRequest { algorithm, keep }, &import, &context.budget, &|n| step.done(n));
        let contents = vault.syncing(read)?;
        // Names of objects are on the disk before anything says that they are complete.
        vault.sync()?;
        Ok((contents, !import.without_verity()))
    }
}

/// Estimates how many bytes and files the vault needs at least, for the layers themselves: the size of what they unpack
/// to is not known yet.
fn needed(vault: &Vault, image: &Image, from: &BlobStore) -> Result<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    for layer in &image.layers {
        let linked = || from.open_blob(&layer.digest).is_ok_and(|blob| vault.store().can_link(&blob).unwrap_or(false));
        if !vault.store().has_blob(&layer.digest)? && !linked() {
            bytes += layer.size;
            files += 1;
        }
    }
    Ok((bytes, files))
}

/// Returns the algorithm of the first seal that can be read: its objects will be needed.
fn sealed_algorithm(image: &Image, found: &[SealCandidate<'_>], budget: &Budget) -> Algorithm {
    found
        .iter()
        .find_map(|f| {
            match parse(&f.store.read(&f.digest, None, budget.manifest).ok()?, &f.digest, image, budget).ok()? {
                Parsed::Seal(seal) => Some(seal.algorithm),
                Parsed::Other(_) => None,
            }
        })
        .unwrap_or(Algorithm::Sha512)
}
