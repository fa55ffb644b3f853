use super::{Context, ImageLocation, ImageNames, SealSources, Trust};
use crate::error::{Case, Refusal, Result};
use crate::image::ContentsRequest;
use crate::oci::{Image, Platform, Reference};
use crate::seal::ArtifactSubject;
use crate::verify::{
    JudgeRequest, LayerReader, Noted, ReadOptions, SealReport, SignedBy, as_stated, judge, nothing_noted,
};

/// An image whose seals are to be judged.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// The image.
    pub image: Reference,
    /// What is asked of a seal.
    pub trust: Trust,
    /// Which instance; otherwise this host's.
    pub platform: Option<Platform>,
    /// Whether the layers of an image in a registry are read and compared, where a statement that somebody trusted has
    /// signed names image and EROFS images: otherwise that is enough.
    pub layers: bool,
}

/// The outcome.
#[derive(Debug)]
pub struct Verified {
    /// The image.
    pub image: Image,
    /// What it is called on this host, wherever it was looked at.
    pub names: ImageNames,
    /// What was found out about each seal.
    pub reports: Vec<SealReport>,
    /// Who signed the seal that vouches, where signatures were required; or why none does.
    pub signer: Result<Option<SignedBy>>,
    /// Whether signatures were required.
    pub signatures: bool,
}

/// Judges every seal of an image. Everything is checked, whatever this host has noted before, and nothing is kept. Only
/// the layers of an image in a registry are not read unless that is asked for, or no trusted statement names them.
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
    let remote = matches!(located.place, ImageLocation::Registry(_));
    let noted: Noted<'_> = if remote && !request.layers { &as_stated } else { &nothing_noted };
    let judgement = judge(&what, noted, &mut layers);
    drop(layers);
    // The image itself does not leave this place, as it could be mounted and may not have been compared.
    let signer = judgement.accepted.as_ref().map(|image| image.signer().cloned()).ok_or_else(|| judgement.refusal());
    let reports = judgement.reports;
    let signatures = requirements.certificates.is_some();
    drop(found);
    Ok(Verified { image: located.image, names, reports, signer, signatures })
}
