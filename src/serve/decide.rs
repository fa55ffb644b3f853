//! Applies root's policy and trust stores to what a caller sent: nothing of the caller's is asked.

use std::path::Path;

use rustix::mount::MountAttrFlags;

use super::protocol::ServiceCall;
use super::record::UserMount;
use crate::digest::{BlobDigest, Fingerprint};
use crate::error::{Case, Refusal, Result};
use crate::oci::name::ImageName;
use crate::oci::{BlobStore, Budget, Image};
use crate::policy::{Decision, Policy, Rollback, Verity};
use crate::seal::ArtifactSubject;
use crate::sys::mounts::Configure;
use crate::sys::process;
use crate::vault::floors;
use crate::verify::{JudgeRequest, LayerReader, Requirements, RollbackFloors, SealCandidate, VerifiedImage, judge};

/// Verifies the image of a call by its documents: manifest, config, and the parts of its seals.
///
/// A signed statement is needed, whatever the policy says: it is what makes the mount safe. The layers are not read,
/// because the caller can change them; what counts is that somebody trusted signed the digest of the tree that is
/// mounted.
///
/// # Errors
/// [`Case::B14Reference`], [`Case::F06Denied`], and the errors of [`judge`]; [`Case::D16Binding`] for seals without a
/// statement.
pub(super) fn decide(
    policy: &Policy,
    decision: &Decision,
    call: &ServiceCall,
    mut documents: Vec<Vec<u8>>,
) -> Result<VerifiedImage> {
    let budget = &Budget::STANDARD;
    let rest = documents.split_off(2.min(documents.len()));
    let [manifest, config] =
        <[Vec<u8>; 2]>::try_from(documents).map_err(|_| Refusal::new(Case::R01Call, "", "no manifest and config"))?;
    let image = Image::from_bytes(manifest, config, budget)?;
    references(call, &image)?;
    let store = store(&rest)?;
    let seals = call.digests()?;
    if seals.len() > budget.seals {
        return Err(Refusal::new(Case::C02TooMany, "", seals.len()));
    }
    let found: Vec<SealCandidate<'_>> =
        seals.into_iter().map(|digest| SealCandidate { digest, store: &store }).collect();
    let requirements = requirements(policy, decision, call)?;
    let request = JudgeRequest {
        image: &image,
        found: &found,
        home: &store,
        requirements: &requirements,
        budget,
        about: ArtifactSubject::Image,
    };
    let no_layers = |_| Err(Refusal::new(Case::D16Binding, "", "for users only sealed trees with one are mounted"));
    let verified = judge(&request, &|_| true, &mut LayerReader::new(no_layers)).into_result()?;
    policy.denied().anything(&verified.facts())?;
    Ok(verified)
}

/// Checks that a mount, made earlier, is still one that the policy would let pass: by the names that it was asked for by.
///
/// # Errors
/// [`Case::F06Denied`], [`Case::O02Unsealed`], [`Case::E07Untrusted`].
pub(super) fn stands(policy: &Policy, record: &UserMount) -> Result<()> {
    let denied = policy.denied();
    match &record.facts {
        _ if denied.is_empty() => {}
        Some(facts) => denied.anything(facts)?,
        None => return Err(Refusal::new(Case::F06Denied, &record.source, "there is no record of what can be denied")),
    }
    let (decision, vouched) = (policy.decide(&record.names), &record.vouched);
    if decision.verity == Verity::Require && !record.verity {
        return Err(Refusal::new(Case::O02Unsealed, &record.source, "without fs-verity"));
    }
    let is_trusted = |signer: &Fingerprint| decision.certificates.iter().any(|c| c.fingerprint() == *signer);
    let is_anchored = |anchor: &Fingerprint| decision.anchors.iter().any(|a| a.fingerprint() == *anchor);
    if !vouched.certificate.as_ref().is_some_and(is_trusted) && !vouched.anchor.as_ref().is_some_and(is_anchored) {
        let signer = vouched.signer.as_deref().unwrap_or("nobody");
        return Err(Refusal::new(Case::E07Untrusted, &record.source, format!("by {signer} when it was mounted")));
    }
    Ok(())
}

fn requirements(policy: &Policy, decision: &Decision, call: &ServiceCall) -> Result<Requirements> {
    let identities = ImageName::all(&call.names);
    Ok(Requirements {
        certificates: Some(decision.certificates.clone()),
        anchors: decision.anchors.clone(),
        dates: decision.dates,
        now: process::now(),
        binding: decision.binding,
        identities: if decision.identity { identities } else { Vec::new() },
        denied: policy.denied().clone(),
        // Floors are root's: nothing that a user starts raises one, otherwise users could keep root from its images.
        floors: match decision.rollback {
            Rollback::Refuse => floors()?,
            Rollback::Allow => RollbackFloors::none(),
        },
    })
}

/// Checks the names with a digest: such a name is for the manifest with that digest.
fn references(call: &ServiceCall, image: &Image) -> Result<()> {
    for name in &call.names {
        let Some((_, digest)) = name.split_once('@') else { continue };
        let digest: BlobDigest = digest.parse()?;
        if digest != image.digest {
            let why = format!("its manifest is {}", image.digest);
            return Err(Refusal::new(Case::B14Reference, name.as_str(), why));
        }
    }
    Ok(())
}

/// Stores the documents by their digests, in memory of this process.
fn store(documents: &[Vec<u8>]) -> Result<BlobStore> {
    let make = || {
        let tmpfs = Configure::open("tmpfs")?;
        tmpfs.string("source", "layerseal:call")?;
        tmpfs.string("size", "64m")?;
        tmpfs.string("mode", "0700")?;
        tmpfs.create()?;
        tmpfs.mount(MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID)
    };
    let dir = make().map_err(|e| Refusal::io("the call's documents", e))?;
    let store = BlobStore::create(&dir, Path::new("the call"))?;
    documents.iter().try_for_each(|document| store.write(document).map(drop))?;
    Ok(store)
}
