use crate::cli::home::{Home, Located};
use crate::cli::{output, pull};
use crate::oci::{Layout, Reference};
use crate::report::{Case, Refusal, Result};
use crate::seal::{Parsed, artifact_descriptor, parse};

/// `layerseal push` and `layerseal export-signatures`
pub(super) fn run(
    home: &Home,
    image: &Reference,
    to: &Reference,
    signatures: bool,
    content: bool,
) -> anyhow::Result<()> {
    let Reference::Layout { dir, tag, digest: None } = to else {
        return Err(Refusal::new(Case::Usage, to.to_string(), "the target is oci:DIR[:TAG]").into());
    };
    let located = home.locate(image, None)?;
    let seals = if signatures { readable_seals(home, &located)? } else { Vec::new() };
    if !content && seals.is_empty() {
        return Err(Refusal::new(Case::C07NoSeal, image.to_string(), "").into());
    }
    let layout = Layout::open_or_create(dir)?;
    if content {
        copy_image(&located, &layout, tag.as_deref().or(tag_of(image)).unwrap_or("latest"))?;
    }
    for (raw, blobs) in &seals {
        for blob in blobs {
            layout.store().copy_from(located.store(), blob)?;
        }
        layout.store().write(raw)?;
        layout.add_referrer(&located.image.digest, &artifact_descriptor(raw))?;
    }
    output::line(located.image.digest);
    Ok(())
}

fn tag_of(image: &Reference) -> Option<&str> {
    match image {
        Reference::Layout { tag, .. } => tag.as_deref(),
        _ => None,
    }
}

type SealBlobs = (Vec<u8>, Vec<crate::digest::BlobDigest>);

fn readable_seals(home: &Home, located: &Located) -> Result<Vec<SealBlobs>> {
    let mut seals = Vec::new();
    for digest in located.seals(&home.budget)? {
        let parsed = located.store().read(&digest, None, home.budget.manifest).and_then(|raw| {
            let parsed = parse(&raw, &digest, &located.image, &home.budget)?;
            Ok((raw, parsed))
        });
        match parsed {
            Ok((raw, Parsed::Seal(seal))) => seals.push((raw, pull::seal_blobs(&seal))),
            Ok((_, Parsed::Other(_))) => {}
            Err(r) => log::warn!("seal left behind: {r}"),
        }
    }
    Ok(seals)
}

/// Blobs first, the entry in the index last: what is half copied is not found.
fn copy_image(located: &Located, layout: &Layout, tag: &str) -> Result<()> {
    let image = &located.image;
    for layer in &image.layers {
        layout.store().copy_from(located.store(), &layer.digest)?;
    }
    layout.store().write(&image.config)?;
    layout.store().write(&image.manifest)?;
    layout.add_image(&image.digest, image.manifest.len() as u64, &image.media_type, Some(tag), Some(&image.platform()))
}
