//! Shape, statement and signatures of one seal; the content of the images is not looked at here.

use std::collections::BTreeMap;

use super::requirements::Requirements;
use crate::digest::{Fingerprint, VerityDigest, verity_digest};
use crate::error::{Case, Refusal, Result};
use crate::oci::name::ImageName;
use crate::oci::{BlobStore, Budget, Image};
use crate::pki::{Anchor, Certificate, formatted_digest, leaf, verify_signature};
use crate::policy::BindingRule;
use crate::seal::{Binding, Bytes, Dialect, Identity, Role, Seal, annotations, other_annotations};

/// Who made a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBy {
    /// The certificate's subject.
    pub subject: String,
    /// SHA-256 of the certificate's DER.
    pub fingerprint: Fingerprint,
    /// The digests by which the certificate can be denied, and the anchor's.
    pub marks: Vec<Fingerprint>,
    /// The fingerprint of the anchor that vouches for it, where it is not trusted itself.
    pub anchor: Option<Fingerprint>,
}

impl SignedBy {
    fn of(certificate: &Certificate) -> Self {
        Self {
            subject: certificate.subject().to_owned(),
            fingerprint: certificate.fingerprint(),
            marks: certificate.marks().to_vec(),
            anchor: None,
        }
    }
}

/// The digests that a seal vouches for, with the signatures that were verified.
#[derive(Debug)]
pub(super) struct SignedDigests {
    /// The digest of each role, by the statement where there is one, else as the seal claims.
    pub(super) digests: BTreeMap<Role, VerityDigest>,
    /// The signature of each role, and who made it.
    pub(super) signatures: BTreeMap<Role, (Vec<u8>, Option<SignedBy>)>,
    /// The statement.
    pub(super) binding: Option<Binding>,
}

/// Takes steps 1 to 3 of "Accepting a seal" in docs/seal-format.md.
pub(super) fn check(
    image: &Image,
    seal: &Seal,
    store: &BlobStore,
    requirements: &Requirements,
    budget: &Budget,
) -> Result<SignedDigests> {
    let binding = statement(image, seal, requirements, budget)?;
    let digests = expected(image, seal, binding.as_ref());
    for (role, claimed) in claims(seal) {
        compare(role, claimed, &digests)?;
    }
    let mut ders = BTreeMap::new();
    for signature in &seal.signatures {
        if let Some(bytes) = &signature.der {
            ders.insert(signature.role, load(bytes, store, budget)?);
        }
    }
    let mut signatures = BTreeMap::new();
    if requirements.certificates.is_some() {
        coverage(image, seal, binding.as_ref(), &ders)?;
    }
    for (role, der) in ders {
        let signer = match (&requirements.certificates, digests.get(&role)) {
            (Some(trusted), Some(digest)) => Some(verify(role, digest, &der, trusted, requirements)?),
            _ => None,
        };
        signatures.insert(role, (der, signer));
    }
    if let Some((text, der)) = &seal.binding {
        let digest = verity_digest(seal.algorithm, text);
        let signer = requirements
            .certificates
            .as_ref()
            .map(|trusted| verify(Role::Binding, &digest, der, trusted, requirements))
            .transpose()?;
        signatures.insert(Role::Binding, (der.clone(), signer));
    }
    Ok(SignedDigests { digests, signatures, binding })
}

fn verify(
    role: Role,
    digest: &VerityDigest,
    der: &[u8],
    trusted: &[Certificate],
    requirements: &Requirements,
) -> Result<SignedBy> {
    let content = formatted_digest(digest.algorithm().kernel_id(), digest.as_bytes());
    let shown = role.to_string();
    let signer = match verify_signature(der, &content, trusted, requirements.dates, requirements.now, &shown) {
        Ok(index) => {
            let bug = || Refusal::new(Case::Bug, &shown, "no such certificate");
            trusted.get(index).map(SignedBy::of).ok_or_else(bug)?
        }
        Err(refusal) if refusal.case() == Case::E07Untrusted => {
            by_anchor(der, &content, requirements, &shown)?.ok_or(refusal)?
        }
        Err(refusal) => return Err(refusal),
    };
    requirements.denied.signer(&signer.marks).map_err(|r| r.within(role))?;
    Ok(signer)
}

/// Finds the signer that an anchor vouches for, if it signed; `None` where no anchor says so.
fn by_anchor(der: &[u8], content: &[u8], requirements: &Requirements, subject: &str) -> Result<Option<SignedBy>> {
    let counts = |anchor: &&Anchor| requirements.denied.signer(anchor.marks()).is_ok();
    let anchors: Vec<Anchor> = requirements.anchors.iter().filter(counts).cloned().collect();
    let Some((leaf, anchor)) = leaf(der, &anchors, requirements.dates, requirements.now, subject)? else {
        return Ok(None);
    };
    verify_signature(der, content, std::slice::from_ref(&leaf), requirements.dates, requirements.now, subject)?;
    let marks = [leaf.marks(), anchor.marks()].concat();
    Ok(Some(SignedBy { anchor: Some(anchor.fingerprint()), marks, ..SignedBy::of(&leaf) }))
}

fn load(bytes: &Bytes, store: &BlobStore, budget: &Budget) -> Result<Vec<u8>> {
    match bytes {
        Bytes::Here(der) => Ok(der.clone()),
        Bytes::Blob { size, digest } if *size > budget.signature => Err(Refusal::new(
            Case::E15TooBig,
            digest.to_string(),
            format!("{size} bytes, the kernel takes {}", budget.signature),
        )),
        Bytes::Blob { digest, size } => store.read(digest, Some(*size), budget.signature),
    }
}

/// Returns the statement, if it is about this image.
fn statement(image: &Image, seal: &Seal, requirements: &Requirements, budget: &Budget) -> Result<Option<Binding>> {
    let Some((text, _)) = &seal.binding else {
        if requirements.certificates.is_some() && seal.signatures.iter().all(|s| s.der.is_none()) {
            return Err(Refusal::new(Case::C07NoSeal, "", "the seal holds digests and no signature"));
        }
        if requirements.certificates.is_some() && requirements.binding == BindingRule::Required {
            return Err(Refusal::new(Case::D16Binding, "", ""));
        }
        if requirements.certificates.is_some() && requirements.floors.count() {
            // Anybody can take the statement out of an older seal.
            return Err(Refusal::new(Case::D16Binding, "", "and only a statement tells how old a seal is (rollback)"));
        }
        if !requirements.identities.is_empty() && requirements.certificates.is_some() {
            return Err(Refusal::new(Case::D18Identity, "", "it has no binding statement, and so no name"));
        }
        return Ok(None);
    };
    let binding = Binding::parse(text, budget)?;
    requirements.denied.statement(text, seal.algorithm)?;
    let refuse = |case, why: String| Err(Refusal::new(case, "binding", why));
    if binding.algorithm != seal.algorithm {
        return refuse(
            Case::D09Algorithm,
            format!("the statement says {}, the seal {}", binding.algorithm, seal.algorithm),
        );
    }
    match (binding.subject, seal.subject) {
        (None, None) => {}
        // The reader has checked which manifests may be meant.
        (Some(subject), Some(artifact)) if subject == artifact => {}
        (Some(subject), _) => return refuse(Case::D04Replay, format!("it names {subject}")),
        (None, _) => return refuse(Case::D04Replay, "it names no image".into()),
    }
    if binding.config != image.config_digest {
        return refuse(Case::D04Replay, format!("it names the config {}", binding.config));
    }
    let noted = if seal.subject.is_some() { annotations(image) } else { other_annotations(image) };
    if binding.annotations != noted {
        // podman gives them to the container.
        return refuse(Case::D04Replay, "it was made for other annotations of the manifest".into());
    }
    // The statement does not say which kind of manifest it was made for.
    let by_kind = match seal.subject {
        Some(_) if signed_elsewhere(image, seal) => image.differs_by_kind(),
        None if image.is_docker() => Some("annotations"),
        _ => None,
    };
    if let Some(what) = by_kind {
        return refuse(
            Case::D04Replay,
            format!("it was made for another manifest, of which podman may read {what} otherwise"),
        );
    }
    if binding.layers.len() != image.layers.len() {
        return refuse(
            Case::D05Layers,
            format!("it names {} layers, the image has {}", binding.layers.len(), image.layers.len()),
        );
    }
    for (number, (layer, (blob, diff_id, _))) in image.layers.iter().zip(&binding.layers).enumerate() {
        // Another manifest has other blobs, with the same content.
        let same_blob = layer.digest == *blob || signed_elsewhere(image, seal);
        if !same_blob || layer.diff_id != *diff_id {
            return refuse(Case::D05Layers, format!("it names another layer {number}"));
        }
    }
    if !requirements.identities.is_empty() && !binding.identities.iter().any(|name| requirements.allows(name)) {
        let names =
            if binding.identities.is_empty() { "no name".to_owned() } else { Identity::list(&binding.identities) };
        return refuse(
            Case::D18Identity,
            format!("it is for {names}, not for {}", ImageName::list(&requirements.identities)),
        );
    }
    if requirements.floors.count() && binding.identities.is_empty() {
        return refuse(
            Case::D18Identity,
            "it is for no name, and older builds are told by their names (rollback)".into(),
        );
    }
    let floors =
        requirements.names(&binding).map(|name| Ok(requirements.floors.of(name.as_str())?.map(|floor| (floor, name))));
    let floor = floors.collect::<Result<Vec<_>>>()?.into_iter().flatten().max();
    if let Some((floor, name)) = floor.filter(|(floor, _)| binding.sequence.is_none_or(|s| s < *floor)) {
        let has = binding.sequence.map_or_else(|| "it has no sequence".to_owned(), |s| format!("its sequence is {s}"));
        return refuse(Case::D10Rollback, format!("{has}, for {name} {floor} was accepted"));
    }
    Ok(Some(binding))
}

fn expected(image: &Image, seal: &Seal, binding: Option<&Binding>) -> BTreeMap<Role, VerityDigest> {
    let mut digests: BTreeMap<Role, VerityDigest> = BTreeMap::new();
    match binding {
        Some(binding) => {
            digests.extend(binding.layers.iter().enumerate().map(|(n, (_, _, digest))| (Role::Layer(n), *digest)));
            digests.insert(Role::Rootfs, binding.rootfs);
            digests.extend(binding.merged.map(|merged| (Role::Merged, merged)));
            digests
                .extend(claims(seal).filter(|(role, _)| *role == Role::Bootable).map(|(role, digest)| (role, *digest)));
        }
        None => digests.extend(
            seal.erofs.iter().map(|e| (e.role, e.digest)).chain(seal.signatures.iter().map(|s| (s.role, s.digest))),
        ),
    }
    match claims(seal).find(|(role, _)| *role == Role::Manifest && signed_elsewhere(image, seal)) {
        // The manifest that was signed is not here; its digest is in the statement, which tells which it is.
        Some((_, claimed)) => digests.insert(Role::Manifest, *claimed),
        None => digests.insert(Role::Manifest, verity_digest(seal.algorithm, &image.manifest)),
    };
    digests.insert(Role::Config, verity_digest(seal.algorithm, &image.config));
    digests
}

/// Returns whether the seal is about the same image under another manifest.
fn signed_elsewhere(image: &Image, seal: &Seal) -> bool {
    seal.subject.is_some_and(|subject| subject != image.digest)
}

fn claims(seal: &Seal) -> impl Iterator<Item = (Role, &VerityDigest)> {
    seal.erofs.iter().map(|e| (e.role, &e.digest)).chain(seal.signatures.iter().map(|s| (s.role, &s.digest)))
}

fn compare(role: Role, claimed: &VerityDigest, digests: &BTreeMap<Role, VerityDigest>) -> Result<()> {
    match digests.get(&role) {
        Some(wanted) if wanted == claimed => Ok(()),
        Some(wanted) => match digests.iter().find(|(_, digest)| *digest == claimed) {
            Some((other, _)) => {
                Err(Refusal::new(Case::D06Role, role.to_string(), format!("it holds the digest of {other}")))
            }
            None => Err(Refusal::new(
                Case::D07Digest,
                role.to_string(),
                format!("the seal has {claimed}, it should be {wanted}"),
            )),
        },
        None => Err(Refusal::new(Case::D03Coverage, role.to_string(), "the binding statement does not name it")),
    }
}

/// Checks that enough is signed, before any signature is looked at.
fn coverage(image: &Image, seal: &Seal, binding: Option<&Binding>, ders: &BTreeMap<Role, Vec<u8>>) -> Result<()> {
    if ders.is_empty() {
        return Err(Refusal::new(Case::C07NoSeal, "", "the seal holds digests and no signature"));
    }
    let layers: Vec<Role> = (0..image.layers.len()).map(Role::Layer).collect();
    let missing = |roles: &[Role]| -> Vec<String> {
        roles.iter().filter(|r| !ders.contains_key(r)).map(ToString::to_string).collect()
    };
    let wanted: Vec<Role> = match binding {
        Some(binding) => {
            let documents = match seal.dialect {
                Dialect::Inline => vec![Role::Config],
                _ => vec![Role::Manifest, Role::Config],
            };
            let merged = binding.merged.map(|_| Role::Merged);
            documents.into_iter().chain([Role::Rootfs]).chain(merged).chain(layers).collect()
        }
        // Without a statement a tree itself must be signed, or what it is made of.
        None => match [Role::Rootfs, Role::Merged].into_iter().find(|role| ders.contains_key(role)) {
            Some(tree) => vec![tree],
            None => layers,
        },
    };
    let missing = missing(&wanted);
    if missing.is_empty() && !wanted.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(Case::D03Coverage, "", format!("not signed: {}", missing.join(", "))))
}
