use super::{Context, SealSources, Trust};
use crate::oci::{Image, Platform, Reference};
use crate::report::Result;
use crate::seal::About;
use crate::verify::{JudgeRequest, Judgement, Layers, Wanted, judge, nothing_noted};

/// An image whose seals are to be looked at.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// The image.
    pub image: Reference,
    /// What is asked of a seal.
    pub trust: Trust,
    /// Which instance; else this host's.
    pub platform: Option<Platform>,
}

/// What came of it.
#[derive(Debug)]
pub struct Verified {
    /// The image.
    pub image: Image,
    /// What was found of each seal.
    pub judgement: Judgement,
    /// Whether signatures were asked for.
    pub signatures: bool,
}

/// Judges every seal of an image. Everything is looked at, whatever this host has noted before, and nothing is kept.
///
/// # Errors
/// Those of finding the image and its seals. What is wrong with a seal is part of the answer.
pub fn verify(context: &Context, request: &VerifyRequest) -> Result<Verified> {
    let located = context.locate(&request.image, request.platform.as_ref())?;
    let sources = SealSources::open(context, &request.trust.seals)?;
    let found = sources.found(context, &located)?;
    let requirements = request.trust.requirements()?;
    let mut layers = Layers::new(|Wanted { algorithm, keep, .. }| located.contents(context, (algorithm, keep)));
    let what = JudgeRequest {
        image: &located.image,
        found: &found,
        home: located.store(),
        requirements: &requirements,
        budget: &context.budget,
        about: About::Manifest,
    };
    let judgement = judge(&what, &nothing_noted, &mut layers);
    drop(layers);
    let signatures = requirements.certificates.is_some();
    drop(found);
    Ok(Verified { image: located.image, judgement, signatures })
}
