//! Applies root's policy and trust stores to what a caller sent: nothing of the caller's is asked.

use std::path::Path;

use rustix::mount::MountAttrFlags;

use super::protocol::ServiceCall;
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::name::ImageName;
use crate::oci::{BlobStore, Budget, Image};
use crate::policy::{Decision, Policy, Rollback};
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
