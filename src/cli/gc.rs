use std::path::PathBuf;

use serde_json::json;

use crate::cli::args;
use crate::cli::home::Home;
use crate::cli::output;
use crate::digest::BlobDigest;
use crate::fetch::sweep_staging;
use crate::identify::{layer_ids, manifest_digests};
use crate::mount::sweep_records;
use crate::report::Result;
use crate::vault::{GcReport, GcRoots, Vault, collect, sweep_floors};

/// `layerseal gc`
pub(super) fn run(home: &Home, args: &args::Gc) -> Result<()> {
    // Before the first pull there is no vault, and nothing to remove.
    let collected = match home.has_vault()? {
        true => {
            let stores: Vec<_> = home.stores()?.into_iter().chain(args.store.iter().cloned()).collect();
            if stores.is_empty() {
                // Said where it can be read later: seals that a store's images need would go too.
                log::warn!(
                    "no container store around {}: only names and mounts keep images; see --store",
                    home.vault.display()
                );
            }
            // Not by way of `home`, which would hold the vault against us.
            let vault = Vault::open(&home.vault)?;
            let collected = collect(&vault, &|| roots(&stores), &home.budget, args.dry_run)?;
            if !args.dry_run {
                sweep_floors()?;
                sweep_records()?;
                sweep_staging();
            }
            collected
        }
        false => GcReport::default(),
    };
    if args.json {
        output::document(&json!({
            "dry_run": args.dry_run,
            "removed": {
                "images": collected.images.iter().map(BlobDigest::to_string).collect::<Vec<_>>(),
                "objects": collected.objects,
                "blobs": collected.blobs,
                "files": collected.files,
                "bytes": collected.bytes,
            },
            "kept": {"images": collected.kept, "mounts": collected.mounts},
        }));
        return Ok(());
    }
    for image in &collected.images {
        output::line(image);
    }
    output::line(format!(
        "{} {} images, {} files, {}; {} images stay",
        if args.dry_run { "would remove" } else { "removed" },
        collected.images.len(),
        collected.files,
        output::bytes(collected.bytes),
        collected.kept,
    ));
    Ok(())
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
