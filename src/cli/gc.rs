use crate::cli::{args, json, output};
use crate::error::Result;
use crate::ops::{Collected, Context, GcRequest, KeptByMount, RemovedImage, gc};

/// Runs `layerseal gc`.
pub(super) fn run(context: &Context, args: args::Gc) -> Result<()> {
    let request = GcRequest { stores: args.store, dry_run: args.dry_run };
    let collected = gc(context, &request)?;
    if args.json {
        output::document(document(collected, args.dry_run));
        return Ok(());
    }
    for image in &collected.removed {
        output::line(format!("{}{}", image.image, known(image)));
    }
    for image in &collected.mounted {
        output::line(format!("{} stays: {}", image.image, users(image)));
    }
    let report = &collected.report;
    output::line(format!(
        "{} {} images, {} files, {}; {} images stay",
        if args.dry_run { "would remove" } else { "removed" },
        report.images.len(),
        report.files,
        output::bytes(report.bytes),
        report.kept,
    ));
    Ok(())
}

/// Returns what tells a person which image it was.
fn known(image: &RemovedImage) -> String {
    match (&image.repository, image.identities.is_empty()) {
        (Some(repository), _) => format!(" (pulled from {repository})"),
        (None, false) => format!(" (sealed for {})", image.identities.join(", ")),
        (None, true) => String::new(),
    }
}

fn users(image: &KeptByMount) -> String {
    match (image.containers.is_empty(), image.targets.is_empty()) {
        (false, _) => format!("containers run from it: {}", image.containers.join(", ")),
        (true, false) => format!("it is mounted on {}", image.targets.join(", ")),
        (true, true) => "it is mounted".to_owned(),
    }
}

fn document(collected: Collected, dry_run: bool) -> json::Collected {
    let report = collected.report;
    let detail = |image: RemovedImage| json::RemovedImage {
        image: image.image.to_string(),
        repository: image.repository,
        identities: image.identities,
    };
    let mounted = |image: KeptByMount| json::MountedImage {
        image: image.image.to_string(),
        containers: image.containers,
        targets: image.targets,
    };
    json::Collected {
        dry_run,
        removed: json::Removed {
            images: report.images.iter().map(ToString::to_string).collect(),
            details: collected.removed.into_iter().map(detail).collect(),
            objects: report.objects,
            blobs: report.blobs,
            files: report.files,
            bytes: report.bytes,
        },
        kept: json::Kept {
            images: report.kept,
            mounts: report.mounts,
            mounted: collected.mounted.into_iter().map(mounted).collect(),
        },
    }
}
