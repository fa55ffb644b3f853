use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::pull::Incoming;
use super::trust::denied;
use super::{Context, ImageLocation, Located, SealSources, Trust};
use crate::digest::Algorithm;
use crate::error::{Case, Class, Refusal, Result};
use crate::image::{ContentsRequest, Keep};
use crate::mount::{AboutImage, MountKind, MountOptions, Record, UpperDir, keep};
use crate::oci::Reference;
use crate::policy::Verity;
use crate::prepare::{Acceptance, RootShape, accept, can_enforce, made_once};
use crate::seal::ArtifactSubject;
use crate::start::prepare_proven;
use crate::sys::mounts::open_target;
use crate::vault::Vault;
use crate::verify::{JudgeRequest, LayerReader, ReadOptions, Requirements, VerifiedImage, unsigned};

/// An image that is to be mounted.
#[derive(Clone, Debug)]
pub struct MountRequest {
    /// The image.
    pub image: Reference,
    /// Where: an existing directory.
    pub target: PathBuf,
    /// A directory for changes, and overlayfs's own beside it; without these the mount is read-only.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// The SELinux label of all files.
    pub context: Option<OsString>,
    /// Which part of it.
    pub shape: RootShape,
    /// Whether the kernel is to check files.
    pub mode: Verity,
    /// The algorithm, if no seal names one.
    pub algorithm: Algorithm,
    /// Whose seal it must have; no seal is needed if no certificate is named.
    pub trust: Trust,
}

/// What has become of a mount.
#[derive(Clone, Debug)]
pub enum Mounting {
    /// It is mounted, and this is its record.
    Fresh(Box<Record>),
    /// The same image was mounted there already.
    Standing,
}

/// Verifies an image and mounts it.
///
/// # Errors
/// Errors of finding, judging and preparing it, and group I.
pub fn mount(context: &Context, request: &MountRequest) -> Result<Mounting> {
    let place = place(request)?;
    let requirements = request.trust.demands()?;
    if request.mode == Verity::Off {
        // A warning, so that it is seen later too.
        log::warn!(
            "--verity off: the kernel checks nothing of {} while it is mounted; whoever can write to {} changes it unseen",
            request.image,
            context.vault()?.display()
        );
    }
    if requirements.is_none() {
        log::warn!("nobody vouches for {}: without --trust no seal is looked at", request.image);
    }
    let verified = verified(context, request, requirements.as_ref())?;
    let vault = context.open_vault()?;
    let prepared = prepare_proven(&vault, &verified, request.shape, request.mode, &context.budget)?;
    let facts = verified.facts();
    let mounted = crate::mount::mount(&prepared, &place)?;
    if !mounted.fresh {
        return Ok(Mounting::Standing);
    }
    let names = match &request.image {
        Reference::Digest(_) => vec![],
        named => vec![named.to_string()],
    };
    let about = AboutImage {
        manifest: verified.image().map(|image| &image.digest),
        id: None,
        names: &names,
        identities: verified.binding().map(|b| b.identities.as_slice()).unwrap_or_default(),
        facts,
        seal: verified.seal(),
        signed_manifest: verified.signed_manifest(),
        signer: verified.signer(),
    };
    let kind = if requirements.is_some() { MountKind::Sealed } else { MountKind::Off };
    let record = Record::new(&mounted, &place, prepared.description(), kind);
    let record = Record { whole: true, ..record.describing(&prepared, &about) };
    keep(&record)?;
    Ok(Mounting::Fresh(Box::new(record)))
}

/// Opens the place where it is to go, before anything is read or imported.
fn place(request: &MountRequest) -> Result<crate::mount::MountSpec> {
    let open = |path: &Path| {
        open_target(path).map_err(|e| {
            let case = if matches!(e, Errno::LOOP | Errno::NOTDIR) { Case::A08Target } else { Case::Usage };
            Refusal::new(case, path.display().to_string(), "it must be an existing directory, and no symlink")
        })
    };
    drop(open(&request.target)?);
    let upper = match &request.upper {
        Some((upper, work)) => Some(UpperDir { upper: open(upper)?, work: open(work)?, path: absolute(upper)? }),
        None => None,
    };
    let label = || request.context.clone();
    let how = MountOptions { context: label(), store_label: label(), ..MountOptions::default() };
    Ok(crate::mount::MountSpec { upper, how, ..crate::mount::MountSpec::read_only(absolute(&request.target)?) })
}

/// Makes a path absolute: the record of a mount is read elsewhere.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Refusal::io(path.display().to_string(), e))
}

/// Returns the image by its seals, or, if no signature is required, as the vault knows it.
fn verified(context: &Context, request: &MountRequest, requirements: Option<&Requirements>) -> Result<VerifiedImage> {
    let located = match &request.image {
        Reference::Layout { .. } | Reference::Registry { .. } => into_vault(context, request, requirements)?,
        _ => context.locate(&request.image, None)?,
    };
    let ImageLocation::Vault(vault) = &located.place else {
        return Err(Refusal::new(Case::Bug, request.image.to_string(), "not in the vault"));
    };
    match requirements {
        Some(requirements) => by_seals(context, request, vault, &located, requirements),
        None => by_layers(context, request, vault, &located),
    }
}

/// Brings an image of a layout or a registry into the vault first, without a name.
fn into_vault(context: &Context, request: &MountRequest, requirements: Option<&Requirements>) -> Result<Located> {
    let source = context.locate(&request.image, None)?;
    let vault = context.create_vault()?;
    if request.mode == Verity::Require {
        // Asked before gigabytes are imported; an image that is already there is measured anyway.
        can_enforce(&vault)?;
    }
    let reference = Reference::Digest(source.image.digest);
    let here = match vault.image(&reference, &context.budget) {
        Err(refusal) if refusal.case().class() == Class::Internal => return Err(refusal),
        image => image.is_ok(),
    };
    if requirements.is_some() || !here {
        let sources = SealSources::open(context, &request.trust.seals)?;
        let found = sources.found(context, &source)?;
        let algorithm = requirements.is_none().then_some(request.algorithm);
        Incoming { context, vault: &vault, located: &source, found: &found }.import(requirements, algorithm)?;
    }
    context.locate(&reference, None)
}

fn by_seals(
    context: &Context,
    request: &MountRequest,
    vault: &Vault,
    located: &Located,
    requirements: &Requirements,
) -> Result<VerifiedImage> {
    let sources = SealSources::open(context, &request.trust.seals)?;
    let found = sources.found(context, located)?;
    let judge = JudgeRequest {
        image: &located.image,
        found: &found,
        home: located.store(),
        requirements,
        budget: &context.budget,
        about: ArtifactSubject::Manifest,
    };
    // Left open, so that the state of the objects is found out: on this filesystem they may have no fs-verity.
    let acceptance = Acceptance { vault, request: judge, shape: Some(request.shape), measured: &|| None };
    let read = |ReadOptions { algorithm, keep, .. }| located.import(context, ContentsRequest { algorithm, keep });
    accept(&acceptance, &mut LayerReader::new(read))
}

fn by_layers(context: &Context, request: &MountRequest, vault: &Vault, located: &Located) -> Result<VerifiedImage> {
    let image = &located.image;
    let noted = |algorithm| vault.contents(&image.digest, algorithm);
    let algorithms = [request.algorithm, Algorithm::Sha512, Algorithm::Sha256];
    let digests = made_once(vault, &image.digest, &algorithms, request.shape, noted, || {
        let contents = located.import(context, ContentsRequest { algorithm: request.algorithm, keep: Keep::Images })?;
        vault.keep_images(&image.digest, &contents.images)?;
        Ok(contents.images)
    })?;
    unsigned(image, &digests, &denied()?)
}
