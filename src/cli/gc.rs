use crate::cli::{args, json, output};
use crate::ops::{Context, GcRequest, gc};
use crate::report::Result;

/// `layerseal gc`
pub(super) fn run(context: &Context, args: args::Gc) -> Result<()> {
    let request = GcRequest { stores: args.store, dry_run: args.dry_run };
    let collected = gc(context, &request)?;
    if args.json {
        output::document(json::Collected {
            dry_run: args.dry_run,
            removed: json::Removed {
                images: collected.images.iter().map(ToString::to_string).collect(),
                objects: collected.objects,
                blobs: collected.blobs,
                files: collected.files,
                bytes: collected.bytes,
            },
            kept: json::Kept { images: collected.kept, mounts: collected.mounts },
        });
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
