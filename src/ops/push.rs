use super::seals::left_behind;
use super::{Context, Located, Task};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::{Layout, Reference, Repository};
use crate::seal::{Parsed, Seal, artifact_descriptor, parse};

/// What is to be copied, and where to.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// The image.
    pub image: Reference,
    /// A repository or a layout.
    pub to: Reference,
    /// Whether to copy the image itself.
    pub content: bool,
    /// Whether to copy its seals.
    pub signatures: bool,
}

/// What was copied.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The image's digest.
    pub image: BlobDigest,
    /// The seals' digests.
    pub seals: Vec<BlobDigest>,
}

/// Copies an image, its seals, or both.
///
/// # Errors
/// [`Case::Usage`] for a target that accepts none; [`Case::C07NoSeal`] if seals are wanted and there are none; errors
/// of reading and writing.
pub fn push(context: &Context, request: &PushRequest) -> Result<Pushed> {
    let PushRequest { image, to, content, signatures } = request;
    let target = PushTarget::of(to)?;
    if let (false, PushTarget::Registry { tag: Some(tag), .. }) = (*content, &target)
        && *tag != "latest"
    {
        return Err(Refusal::new(Case::Usage, to.to_string(), "seals have no tag: name the repository alone"));
    }
    let located = context.locate(image, None)?;
    let seals = if *signatures { readable_seals(context, &located)? } else { Vec::new() };
    if *signatures && seals.is_empty() {
        return Err(Refusal::new(Case::C07NoSeal, image.to_string(), ""));
    }
    if *content {
        located.fetch_layers(context, located.store())?;
    }
    match target {
        PushTarget::Layout { layout, tag } => {
            let tag = tag.or(tag_of(image)).unwrap_or("latest");
            into_layout(&located, &Layout::open_or_create(layout)?, content.then_some(tag), &seals)?;
        }
        PushTarget::Registry { repository, tag } => {
            let with = if *content { PushedContent::Image { tag } } else { PushedContent::SealsOnly };
            into_registry(context, &located, repository, with, &seals)?;
        }
    }
    let seals = seals.iter().map(|(raw, _)| BlobDigest::of(raw)).collect();
    Ok(Pushed { image: located.image.digest, seals })
}

enum PushTarget<'a> {
    Layout { layout: &'a std::path::Path, tag: Option<&'a str> },
    Registry { repository: &'a Repository, tag: Option<&'a str> },
}

impl<'a> PushTarget<'a> {
    fn of(to: &'a Reference) -> Result<Self> {
        match to {
            Reference::Layout { dir, tag, digest: None } => Ok(Self::Layout { layout: dir, tag: tag.as_deref() }),
            Reference::Registry { repository, tag, digest: None } => {
                Ok(Self::Registry { repository, tag: tag.as_deref() })
            }
            _ => Err(Refusal::new(
                Case::Usage,
                to.to_string(),
                "the target is docker://HOST/NAME[:TAG] or oci:DIR[:TAG]",
            )),
        }
    }
}

fn tag_of(image: &Reference) -> Option<&str> {
    match image {
        Reference::Layout { tag, .. } | Reference::Registry { tag, .. } => tag.as_deref(),
        _ => None,
    }
}

type RawSeal = (Vec<u8>, Box<Seal>);

fn readable_seals(context: &Context, located: &Located) -> Result<Vec<RawSeal>> {
    let mut seals = Vec::new();
    for digest in located.seals(context)? {
        let parsed = located.store().read(&digest, None, context.budget.manifest).and_then(|raw| {
            let parsed = parse(&raw, &digest, &located.image, &context.budget)?;
            Ok((raw, parsed))
        });
        match parsed {
            Ok((raw, Parsed::Seal(seal))) => seals.push((raw, seal)),
            Ok((_, Parsed::Other(_))) => {}
            Err(r) => left_behind(r)?,
        }
    }
    Ok(seals)
}

/// Copies blobs first, and the entry in the index last: a partial copy is not found.
fn into_layout(located: &Located, layout: &Layout, tag: Option<&str>, seals: &[RawSeal]) -> Result<()> {
    let image = &located.image;
    let sealed = seals.iter().flat_map(|(_, seal)| seal.blobs());
    let sealed = sealed.filter_map(|(blob, _)| Some((blob, located.store().size(&blob)?)));
    let content = image.layers.iter().map(|layer| (layer.digest, layer.size));
    layout.store().check_room(sealed.chain(content.filter(|_| tag.is_some())))?;
    if let Some(tag) = tag {
        for layer in &image.layers {
            layout.store().copy_from(located.store(), &layer.digest)?;
        }
        layout.store().write(&image.config)?;
        layout.store().write(&image.manifest)?;
        let size = image.manifest.len() as u64;
        layout.add_image(&image.digest, size, &image.media_type, Some(tag), Some(&image.platform()))?;
    }
    for (raw, seal) in seals {
        for (blob, _) in seal.blobs() {
            layout.store().copy_from(located.store(), &blob)?;
        }
        layout.store().write(raw)?;
        layout.add_referrer(&image.digest, &artifact_descriptor(raw))?;
    }
    Ok(())
}

/// What a registry gets in addition to seals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PushedContent<'a> {
    SealsOnly,
    Image { tag: Option<&'a str> },
}

/// Pushes the image without a name, then its seals, then the name: whoever finds it by its name finds it sealed.
fn into_registry(
    context: &Context,
    located: &Located,
    repository: &Repository,
    with: PushedContent<'_>,
    seals: &[RawSeal],
) -> Result<()> {
    let session = context.session()?;
    let _step = context.begin(Task::Waiting(&format!("pushing to {repository}")));
    if with != PushedContent::SealsOnly {
        session.push_image(repository, &located.image, located.store())?;
    }
    for (raw, _) in seals {
        session.push_seal(repository, &located.image.digest, raw, located.store())?;
    }
    match with {
        PushedContent::Image { tag: Some(tag) } => session.push_tag(repository, tag, &located.image, located.store()),
        PushedContent::Image { tag: None } | PushedContent::SealsOnly => Ok(()),
    }
}
