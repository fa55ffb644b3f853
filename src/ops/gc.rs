use std::path::PathBuf;

use super::Context;
use crate::fetch::sweep_staging;
use crate::identify::{layer_ids, manifest_digests};
use crate::mount::sweep_records;
use crate::report::Result;
use crate::vault::{GcReport, GcRoots, Vault, collect, sweep_floors};

/// What is to be kept besides, and whether anything is to be removed.
#[derive(Clone, Debug)]
pub struct GcRequest {
    /// Container stores whose images are kept too.
    pub stores: Vec<PathBuf>,
    /// Whether nothing is removed.
    pub dry_run: bool,
}

/// Removes from the vault what no image needs.
///
/// # Errors
/// Where anything that tells what is needed cannot be read: then nothing is removed.
pub fn gc(context: &Context, request: &GcRequest) -> Result<GcReport> {
    // Before the first pull there is no vault, and nothing to remove.
    if !context.has_vault()? {
        return Ok(GcReport::default());
    }
    let stores: Vec<_> = context.stores()?.into_iter().chain(request.stores.iter().cloned()).collect();
    if stores.is_empty() {
        // Said where it can be read later: seals that a store's images need would go too.
        log::warn!(
            "no container store around {}: only names and mounts keep images; see --store",
            context.vault.display()
        );
    }
    // Not by way of the context, which would hold the vault against us.
    let vault = Vault::open(&context.vault)?;
    let collected = collect(&vault, &|| roots(&stores), &context.budget, request.dry_run)?;
    if !request.dry_run {
        sweep_floors()?;
        sweep_records()?;
        sweep_staging();
    }
    Ok(collected)
}

/// What the container stores need. All images that are in them are kept.
fn roots(stores: &[PathBuf]) -> Result<GcRoots> {
    let mut roots = GcRoots::default();
    for store in stores {
        roots.images.extend(manifest_digests(store)?);
        roots.layers.extend(layer_ids(store)?);
    }
    Ok(roots)
}
