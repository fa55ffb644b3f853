use std::collections::HashMap;
use std::path::PathBuf;

use super::status::names_of_containers;
use super::{Context, HostNames};
use crate::container_store::{layer_ids, manifest_digests};
use crate::digest::BlobDigest;
use crate::error::Result;
use crate::fetch::sweep_staging;
use crate::mount::{live, sweep_records};
use crate::oci::{Budget, Reference};
use crate::seal::{Binding, Parsed, parse};
use crate::serve::sweep_user_mounts;
use crate::sys::process::{self, User};
use crate::vault::{GcReport, GcRoots, Vault, collect, sweep_floors};

/// What else is to be kept, and whether anything is to be removed.
#[derive(Clone, Debug)]
pub struct GcRequest {
    /// Container stores whose images are kept too.
    pub stores: Vec<PathBuf>,
    /// Whether nothing is removed.
    pub dry_run: bool,
}

/// What was removed, and what is known about it.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// What was removed, and what stays.
    pub report: GcReport,
    /// The images that are gone.
    pub removed: Vec<RemovedImage>,
    /// Images that only mounts keep.
    pub mounted: Vec<KeptByMount>,
}

/// An image that was removed, because nothing on this host has a name for it.
#[derive(Clone, Debug)]
pub struct RemovedImage {
    /// Its manifest.
    pub image: BlobDigest,
    /// The repository that it was pulled from.
    pub repository: Option<String>,
    /// The names that its seals claim to be for; nobody has verified them now.
    pub identities: Vec<String>,
}

/// An image that has no name, and stays as long as it is mounted.
#[derive(Clone, Debug)]
pub struct KeptByMount {
    /// Its manifest.
    pub image: BlobDigest,
    /// The containers that it is mounted for: by name, or by ID if they have none.
    pub containers: Vec<String>,
    /// Where else it is mounted.
    pub targets: Vec<String>,
}

/// Removes from the vault whatever no image needs.
///
/// # Errors
/// If anything that tells what is needed cannot be read: then nothing is removed.
pub fn gc(context: &Context, request: &GcRequest) -> Result<Collected> {
    // Before the first pull there is no vault, and nothing to remove.
    if !context.has_vault()? {
        return Ok(Collected::default());
    }
    let stores: Vec<_> = context.stores()?.into_iter().chain(request.stores.iter().cloned()).collect();
    if stores.is_empty() {
        // Logged so that it can be read later: seals that a store's images need would be removed too.
        log::warn!(
            "no container store around {}: only names and mounts keep images; see --store",
            context.vault()?.display()
        );
    }
    // Not by way of the context, whose lock on the vault would be in our own way.
    let vault = Vault::open(context.vault()?)?;
    let mut known = known(&vault, &context.host_names(), &context.budget);
    let report = collect(&vault, &|| roots(&stores), &context.budget, request.dry_run)?;
    if !request.dry_run {
        // Floors and records are root's.
        if process::user() == User::Root {
            sweep_floors()?;
            sweep_records()?;
            sweep_user_mounts()?;
        }
        sweep_staging();
    }
    let nothing = |image| RemovedImage { image, repository: None, identities: Vec::new() };
    let removed = report.images.iter().map(|image| known.remove(image).unwrap_or_else(|| nothing(*image))).collect();
    let mounted = mounted(&report.mounted);
    Ok(Collected { report, removed, mounted })
}

/// Collects what the container stores need. All images in them are kept.
fn roots(stores: &[PathBuf]) -> Result<GcRoots> {
    let mut roots = GcRoots::default();
    for store in stores {
        roots.images.extend(manifest_digests(store)?);
        roots.layers.extend(layer_ids(store)?);
    }
    Ok(roots)
}

/// Collects what the vault knows about images without a name, before they are gone. This is only for the report: what
/// cannot be read keeps nothing.
fn known(vault: &Vault, names: &HostNames, budget: &Budget) -> HashMap<BlobDigest, RemovedImage> {
    let images = vault.images().unwrap_or_default().into_iter().filter(|image| names.of(image).first().is_none());
    let one = |image: BlobDigest| {
        let repository = vault.source(&image).ok().flatten().map(|repository| repository.to_string());
        let identities = identities(vault, &image, budget).unwrap_or_default();
        (image, RemovedImage { image, repository, identities })
    };
    images.map(one).collect()
}

fn identities(vault: &Vault, image: &BlobDigest, budget: &Budget) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let read = vault.image(&Reference::Digest(*image), budget)?;
    for seal in vault.seals(image, budget)? {
        let raw = vault.store().read(&seal, None, budget.manifest);
        let Ok(Parsed::Seal(parsed)) = raw.and_then(|raw| parse(&raw, &seal, &read, budget)) else { continue };
        let Some(Ok(binding)) = parsed.binding.as_ref().map(|(text, _)| Binding::parse(text, budget)) else { continue };
        for name in binding.identities.iter().map(ToString::to_string) {
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    Ok(found)
}

fn mounted(images: &[BlobDigest]) -> Vec<KeptByMount> {
    if images.is_empty() {
        return Vec::new();
    }
    let (records, names) = (live().unwrap_or_default(), names_of_containers());
    let one = |image: &BlobDigest| {
        let mut kept = KeptByMount { image: *image, containers: Vec::new(), targets: Vec::new() };
        for record in records.iter().filter(|record| record.image == Some(*image)) {
            match &record.container {
                Some(id) => kept.containers.push(names.get(id.as_str()).cloned().unwrap_or_else(|| id.to_string())),
                None => kept.targets.push(record.target.display().to_string()),
            }
        }
        kept
    };
    images.iter().map(one).collect()
}
