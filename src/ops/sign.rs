use std::path::PathBuf;

use super::inline::sign_inline;
use super::key::SMALL_FILE;
use super::{Context, Plan, PlanItem, Statement};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::{Platform, Reference};
use crate::pki::{Dates, Ownership, Signer, TrustStore, parse_signature, verify_signature};
use crate::seal::Format;
use crate::sys::files;
use crate::sys::process::now;

/// An image that is to be sealed.
#[derive(Clone, Debug)]
pub struct SignRequest {
    /// The image.
    pub image: Reference,
    /// What the statement says.
    pub statement: Statement,
    /// How the seal is written down.
    pub format: Format,
    /// Whether it goes into the image's own manifest.
    pub inline: bool,
    /// Which instance; otherwise every one.
    pub platform: Option<Platform>,
    /// Where the seal goes; otherwise beside the image.
    pub output: Option<Reference>,
}

/// What has become of an image that was to be sealed, or of one instance of it.
#[derive(Debug)]
pub struct SignedInstance {
    /// The digest of its manifest.
    pub image: BlobDigest,
    /// Whether it is an instance of a multi-platform image.
    pub is_instance: bool,
    /// The platform of an instance that names one.
    pub platform: Option<String>,
    /// The digest of the seal, or, for a seal in the image itself, of the resulting image.
    pub result: Result<BlobDigest>,
}

/// Seals an image, or every instance of a multi-platform one, and signs the seal. If one instance cannot be sealed, the
/// others still are; `each` is told about every one that was tried.
///
/// # Errors
/// Errors of finding the image; for a single image also errors of reading, signing and storing.
pub fn sign(
    context: &Context,
    request: &SignRequest,
    signer: &Signer,
    each: &mut dyn FnMut(SignedInstance),
) -> Result<()> {
    let instances = match request.platform {
        Some(_) => None,
        None => context.instances(&request.image)?,
    };
    let Some(instances) = instances else {
        let (image, digest) = one(context, request, signer, &request.image)?;
        each(SignedInstance { image, is_instance: false, platform: None, result: Ok(digest) });
        return Ok(());
    };
    for (image, instance) in instances {
        let platform = instance.platform.as_deref().unwrap_or("no platform");
        if let Some(what) = instance.passed_over {
            log::warn!("{platform} {} is skipped: {what}", instance.digest);
            continue;
        }
        let result = one(context, request, signer, &image).map(|(_, digest)| digest);
        let result = result.map_err(|refusal| refusal.within(format!("{platform} {}", instance.digest)));
        let image = instance.digest;
        each(SignedInstance { image, is_instance: true, platform: instance.platform, result });
    }
    Ok(())
}

/// Seals one image, and returns its digest and the digest for [`SignedInstance::result`].
fn one(
    context: &Context,
    request: &SignRequest,
    signer: &Signer,
    image: &Reference,
) -> Result<(BlobDigest, BlobDigest)> {
    let located = context.locate(image, request.platform.as_ref())?;
    let digest = located.image.digest;
    let plan = Plan::new(context, located, &request.statement, true)?;
    let der = |item: &PlanItem<'_>| signer.sign(&item.to_sign()).map_err(|r| r.within(item.role));
    if request.inline {
        return Ok((digest, sign_inline(plan, image, der)?));
    }
    let artifact = plan.artifact(request.format, der)?;
    Ok((digest, plan.store(context, &artifact, request.output.as_ref())?))
}

/// Signatures from which a seal is to be made.
#[derive(Clone, Debug)]
pub struct AttachRequest {
    /// The image.
    pub image: Reference,
    /// Their directory.
    pub signatures: PathBuf,
    /// How the seal is written down.
    pub format: Format,
    /// Certificates, one of which must have made each signature; if there are none, anybody may have.
    pub trust: Vec<PathBuf>,
    /// Where the seal goes; otherwise beside the image.
    pub output: Option<Reference>,
    /// Which instance; otherwise this host's.
    pub platform: Option<Platform>,
}

/// A seal that was made.
#[derive(Clone, Copy, Debug)]
pub struct Attached {
    /// The digest of the image's manifest.
    pub image: BlobDigest,
    /// The digest of the seal's manifest.
    pub seal: BlobDigest,
}

/// Makes a seal from signatures that were made elsewhere.
///
/// # Errors
/// [`Case::D03Coverage`] and [`Case::D16Binding`] for missing files, group E for signatures that are not valid ones,
/// and errors of finding the image and of storing the seal.
pub fn attach(context: &Context, request: &AttachRequest) -> Result<Attached> {
    let trusted = match request.trust.as_slice() {
        [] => None,
        paths => Some(TrustStore::load(paths, Ownership::Any)?),
    };
    let file = |name: &str| {
        let path = request.signatures.join(name);
        let open = std::fs::File::open(&path).and_then(|f| files::read_all(f, SMALL_FILE));
        open.map_err(|e| Refusal::new(Case::D03Coverage, path.display().to_string(), e))
    };
    let statement = file("binding")
        .map_err(|r| Refusal::new(Case::D16Binding, r.subject(), "make it with `layerseal digest --write DIR`"))?;
    let located = context.locate(&request.image, request.platform.as_ref())?;
    let plan = Plan::with_statement(context, located, &statement)?;
    let artifact = plan.artifact(request.format, |item| {
        let name = format!("{}.sig", item.role);
        let der = file(&name)?;
        let subject = request.signatures.join(&name).display().to_string();
        parse_signature(&der, &subject)?;
        if let Some(store) = &trusted {
            verify_signature(&der, &item.to_sign(), store.certificates(), Dates::Enforce, now(), &subject)?;
        }
        Ok(der)
    })?;
    let seal = plan.store(context, &artifact, request.output.as_ref())?;
    Ok(Attached { image: *plan.image(), seal })
}
