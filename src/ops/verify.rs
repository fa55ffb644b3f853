use super::{Context, ImageLocation, ImageNames, SealSources, Trust};
use crate::error::{Case, Refusal, Result};
use crate::image::ContentsRequest;
use crate::oci::{Image, Platform, Reference};
use crate::seal::ArtifactSubject;
use crate::verify::{JudgeRequest, Judgement, LayerReader, ReadOptions, judge, nothing_noted};

/// An image whose seals are to be judged.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// The image.
    pub image: Reference,
    /// What is asked of a seal.
    pub trust: Trust,
    /// Which instance; otherwise this host's.
    pub platform: Option<Platform>,
}

/// The outcome.
#[derive(Debug)]
pub struct Verified {
    /// The image.
    pub image: Image,
    /// What it is called on this host, wherever it was looked at.
    pub names: ImageNames,
    /// What was found out about each seal.
    pub judgement: Judgement,
    /// Whether signatures were required.
    pub signatures: bool,
}

/// Judges every seal of an image. Everything is checked, whatever this host has noted before, and nothing is kept.
///
/// # Errors
/// Errors of finding the image and its seals; [`Case::Usage`] for an image whose layers are podman's. What is wrong
/// with a seal is part of the answer.
pub fn verify(context: &Context, request: &VerifyRequest) -> Result<Verified> {
    let located = context.locate(&context.in_own_words(&request.image)?, request.platform.as_ref())?;
    let names = context.host_names().of(&located.image.digest);
    if let ImageLocation::Vault(vault) = &located.place
        && !vault.was_pulled(&located.image.digest)?
        && located.image.layers.iter().any(|layer| vault.store().size(&layer.digest).is_none())
    {
        let name = names.stored().map_or_else(|| request.image.to_string(), str::to_owned);
        let why = format!(
            "its layers are podman's, and not in the vault: `layerseal check {name}` says whether it starts, and \
             `layerseal prepare {name}` compares all of it"
        );
        return Err(Refusal::new(Case::Usage, request.image.to_string(), why));
    }
    let sources = SealSources::open(context, &request.trust.seals)?;
    let found = sources.found(context, &located)?;
    let requirements = request.trust.requirements()?;
    let mut layers = LayerReader::new(|ReadOptions { algorithm, keep, .. }| {
        located.contents(context, ContentsRequest { algorithm, keep })
    });
    let what = JudgeRequest {
        image: &located.image,
        found: &found,
        home: located.store(),
        requirements: &requirements,
        budget: &context.budget,
        about: ArtifactSubject::Manifest,
    };
    let judgement = judge(&what, &nothing_noted, &mut layers);
    drop(layers);
    let signatures = requirements.certificates.is_some();
    drop(found);
    Ok(Verified { image: located.image, names, judgement, signatures })
}
