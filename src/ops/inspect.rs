use super::{Context, ImageNames};
use crate::digest::VerityDigest;
use crate::error::Result;
use crate::oci::{Image, Platform, Reference};
use crate::seal::{Binding, Parsed, Seal, claims, label, parse, parse_inline};

/// An image and its seals, none of it verified.
#[derive(Debug)]
pub struct Inspected {
    /// The image.
    pub image: Image,
    /// What it is called on this host, wherever it was looked at.
    pub names: ImageNames,
    /// What its annotations claim about each layer.
    pub claims: Vec<Vec<VerityDigest>>,
    /// What its config claims about the merged tree.
    pub label: Option<VerityDigest>,
    /// Its seals, the one in the image first.
    pub seals: Vec<InspectedSeal>,
}

/// One seal.
#[derive(Debug)]
pub struct InspectedSeal {
    /// The artifact's digest, or `inline`.
    pub origin: String,
    /// What it is, or why that cannot be told.
    pub what: Result<SealKind>,
}

/// What an artifact is.
#[derive(Debug)]
pub enum SealKind {
    /// A seal, and what its statement says, if it has one.
    Seal(Box<Seal>, Option<Result<Box<Binding>>>),
    /// Not a seal, but an artifact of this type.
    Other(String),
}

/// Shows an image and its seals.
///
/// # Errors
/// Errors of finding the image.
pub fn inspect(context: &Context, image: &Reference, platform: Option<&Platform>) -> Result<Inspected> {
    let located = context.locate(&context.in_own_words(image)?, platform)?;
    let (image, budget) = (&located.image, &context.budget);
    let seal = |seal: Box<Seal>| {
        let binding = seal.binding.as_ref().map(|(text, _)| Binding::parse(text, budget).map(Box::new));
        SealKind::Seal(seal, binding)
    };
    let mut seals = Vec::new();
    let origin = || "inline".to_owned();
    match parse_inline(image, budget) {
        Ok(None) => {}
        Ok(Some(inline)) => {
            seals.push(InspectedSeal { origin: inline.origin.clone(), what: Ok(seal(Box::new(inline))) })
        }
        Err(refusal) => seals.push(InspectedSeal { origin: origin(), what: Err(refusal) }),
    }
    for digest in located.seals(context)? {
        let raw = located.store().read(&digest, None, budget.manifest);
        let what = raw.and_then(|raw| parse(&raw, &digest, image, budget)).map(|parsed| match parsed {
            Parsed::Seal(parsed) => seal(parsed),
            Parsed::Other(kind) => SealKind::Other(kind),
        });
        let origin = match &what {
            Ok(SealKind::Seal(seal, _)) => seal.origin.clone(),
            _ => digest.to_string(),
        };
        seals.push(InspectedSeal { origin, what });
    }
    let (claims, label) = (claims(image)?, label(image));
    let names = context.host_names().of(&image.digest);
    Ok(Inspected { claims, label, seals, names, image: located.image })
}
