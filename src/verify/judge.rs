//! All seals of an image, tried one by one: one bad artifact never hides a good one.

use std::collections::BTreeMap;

use super::content::{self, CheckedContent};
use super::layers::{LayerReader, ReadOptions};
use super::requirements::Requirements;
use super::signatures::{self, SignedBy, SignedDigests};
use super::{VerifiedErofs, VerifiedImage, Waiver};
use crate::digest::{Algorithm, BlobDigest, VerityDigest, verity_digest};
use crate::error::{Case, Class, Refusal, Result};
use crate::image::{Keep, TreeDigests};
use crate::oci::{BlobStore, Budget, Image};
use crate::policy::Denied;
use crate::seal::{ArtifactSubject, Binding, Dialect, Parsed, Role, Seal, parse_about, parse_inline};

/// An artifact that claims to be about the image, and where its bytes are.
#[derive(Clone, Copy, Debug)]
pub struct SealCandidate<'a> {
    /// The artifact manifest's digest.
    pub digest: BlobDigest,
    /// Where manifest and blobs are.
    pub store: &'a BlobStore,
}

/// One line of the table that `verify` prints.
#[derive(Clone, Debug)]
pub struct CheckedRole {
    /// What was checked.
    pub role: Role,
    /// Its digest.
    pub digest: VerityDigest,
    /// Who signed it; `None` where no signature was asked for or there is none.
    pub signer: Option<SignedBy>,
    /// Whether there is a signature.
    pub signed: bool,
}

/// The result for one seal.
#[derive(Debug)]
pub struct SealReport {
    /// `sha256:…` of the artifact, or `inline`.
    pub origin: String,
    /// The format it is written in, as far as it could be read.
    pub dialect: Option<Dialect>,
    /// Its algorithm.
    pub algorithm: Option<Algorithm>,
    /// Roles, digests, signers.
    pub rows: Vec<CheckedRole>,
    /// Whether its EROFS images were compared with the layers now, and are what these make.
    pub compared: bool,
    /// Accepted, or why not.
    pub verdict: Verdict,
}

/// Accepted, rejected, or not a seal.
#[derive(Debug)]
pub enum Verdict {
    /// It passes everything that was asked.
    Accepted,
    /// It does not pass.
    Rejected(Refusal),
    /// An artifact of a type that is not a seal.
    Ignored(String),
}

/// The result of all seals together.
#[derive(Debug)]
pub struct Judgement {
    /// The image, if one seal passed. If several did, one with a statement is chosen, of these the one with the highest
    /// sequence, and then the one with the lowest digest, an inline seal before others. Seals have no signed date.
    pub accepted: Option<VerifiedImage>,
    /// The seals that passed and were compared with the layers, as a host notes them: see [`VerifiedImage::seal_name`].
    /// One whose layer images cannot be stacked is not among them: the note would not say so.
    pub compared: Vec<BlobDigest>,
    /// Every seal that was looked at.
    pub reports: Vec<SealReport>,
}

impl Judgement {
    /// Returns the image, or the reason why there is none.
    ///
    /// # Errors
    /// The refusal of the best seal; [`Case::C07NoSeal`] when there was none.
    pub fn into_result(mut self) -> Result<VerifiedImage> {
        let image = self.accepted.take().ok_or_else(|| self.refusal())?;
        self.rejected().for_each(|r| log::info!("rejected: {r}"));
        Ok(image)
    }

    fn rejected(&self) -> impl Iterator<Item = &Refusal> {
        self.reports.iter().filter_map(|r| match &r.verdict {
            Verdict::Rejected(refusal) => Some(refusal),
            _ => None,
        })
    }

    /// Returns why there is no image, where there is none: the refusal of the best seal, or [`Case::C07NoSeal`].
    pub fn refusal(&self) -> Refusal {
        let rejected: Vec<&Refusal> = self.rejected().collect();
        // Denied is denied, in every mode: nothing else may be taken for the reason.
        let denied = rejected.iter().find(|r| r.case() == Case::F06Denied);
        // A contradiction explains why no seal is accepted, whatever else is wrong with either side. A seal about
        // another image says least about this one.
        let conflict = rejected.iter().find(|r| r.case() == Case::D12Conflict);
        let about = |r: &&&Refusal| r.case() != Case::D01Subject;
        // "Wrong" says more than "not signed".
        let wrong = rejected.iter().filter(about).find(|r| r.case().class() == Class::Rejected);
        let best = denied.or(conflict).or(wrong).or_else(|| rejected.iter().find(about)).or(rejected.first());
        best.map_or_else(|| Refusal::new(Case::C07NoSeal, "", ""), |r| (*r).clone())
    }
}

/// What is to be judged, and what it is judged by.
#[derive(Clone, Copy)]
pub struct JudgeRequest<'a> {
    /// The image.
    pub image: &'a Image,
    /// The artifacts that say they are about it.
    pub found: &'a [SealCandidate<'a>],
    /// Where the image's own blobs are.
    pub home: &'a BlobStore,
    /// What is asked of a seal.
    pub requirements: &'a Requirements,
    /// What may be spent.
    pub budget: &'a Budget,
    /// What the artifacts are to be about.
    pub about: ArtifactSubject,
}

/// Whether this host has compared the images of an artifact with the layers before.
pub type Noted<'a> = &'a dyn Fn(&BlobDigest) -> bool;

/// Returns false for every artifact: nothing was compared before.
pub fn nothing_noted(_: &BlobDigest) -> bool {
    false
}

/// Returns true for every artifact: a statement that somebody trusted has signed is taken at its word. What it says is
/// compared with the layers before anything is mounted; this is for an answer about an image that is elsewhere.
pub fn as_stated(_: &BlobDigest) -> bool {
    true
}

/// Judges every seal of the image, the inline one first. The layers are read only when
/// a seal's signatures have passed, and not for a seal whose images were compared before and whose
/// signed statement names them; a seal without a statement is compared every time.
pub fn judge(request: &JudgeRequest<'_>, noted: Noted<'_>, layers: &mut LayerReader<'_>) -> Judgement {
    let JudgeRequest { image, found, home, budget, about, .. } = *request;
    let mut judge = Judge {
        request,
        noted,
        layers,
        inline: None,
        denied: false,
        accepted: Vec::new(),
        compared: Vec::new(),
        reports: Vec::new(),
    };
    // Before anything is read: no seal makes a denied image a good one.
    if let Err(refusal) = request.requirements.denied.image(image) {
        let (origin, verdict) = (image.digest.to_string(), Verdict::Rejected(refusal));
        let (dialect, algorithm, rows) = (None, None, Vec::new());
        judge.reports.push(SealReport { origin, dialect, algorithm, rows, compared: false, verdict });
        return judge.finish();
    }
    match parse_inline(image, budget) {
        Ok(None) => {}
        Ok(Some(seal)) => {
            judge.seal(&seal, None, home);
            judge.inline = Some(seal);
        }
        Err(refusal) => judge.report("inline", None, Verdict::Rejected(refusal)),
    }
    for artifact in found {
        let raw = artifact.store.read(&artifact.digest, None, budget.manifest);
        let origin = artifact.digest.to_string();
        match raw.and_then(|raw| parse_about(about, &raw, &artifact.digest, image, budget)) {
            Ok(Parsed::Other(kind)) => judge.report(&origin, None, Verdict::Ignored(kind)),
            Err(refusal) => judge.report(&origin, None, Verdict::Rejected(refusal)),
            Ok(Parsed::Seal(seal)) => judge.seal(&seal, Some(artifact.digest), artifact.store),
        }
    }
    judge.finish()
}

/// Refuses two seals of one image that contradict each other: the less strict one must never be chosen.
fn conflict(inline: Option<&Seal>, artifact: &Seal) -> Result<()> {
    let Some(inline) = inline else { return Ok(()) };
    let inline: BTreeMap<Role, VerityDigest> = inline.signatures.iter().map(|s| (s.role, s.digest)).collect();
    let clash = artifact.signatures.iter().find(|s| {
        // Layer images have two forms, with and without whiteouts; both are compared with the layers.
        !matches!(s.role, Role::Layer(_))
            && inline.get(&s.role).is_some_and(|d| d.algorithm() == s.digest.algorithm() && *d != s.digest)
    });
    clash.map_or(Ok(()), |s| Err(Refusal::new(Case::D12Conflict, artifact.origin.clone(), s.role)))
}

struct Judge<'a, 'l> {
    request: &'a JudgeRequest<'a>,
    noted: Noted<'a>,
    layers: &'a mut LayerReader<'l>,
    inline: Option<Seal>,
    /// Whether something that a seal rightly says about the image is denied: then no other seal can make up for it.
    denied: bool,
    /// The image by every seal that passed.
    accepted: Vec<VerifiedImage>,
    compared: Vec<BlobDigest>,
    reports: Vec<SealReport>,
}

impl Judge<'_, '_> {
    fn report(&mut self, origin: &str, seal: Option<&Seal>, verdict: Verdict) {
        let (dialect, algorithm) = (seal.map(|s| s.dialect), seal.map(|s| s.algorithm));
        let verdict = match verdict {
            Verdict::Rejected(refusal) => Verdict::Rejected(refusal.within_once("seal", origin)),
            other => other,
        };
        let (origin, rows) = (origin.to_owned(), Vec::new());
        self.reports.push(SealReport { origin, dialect, algorithm, rows, compared: false, verdict });
    }

    fn seal(&mut self, seal: &Seal, artifact: Option<BlobDigest>, store: &BlobStore) {
        match self.try_seal(seal, artifact, store) {
            Err(refusal) => self.report(&seal.origin, Some(seal), Verdict::Rejected(refusal)),
            Ok((signed, checked)) => {
                let rows = rows(&signed);
                self.report(&seal.origin, Some(seal), Verdict::Accepted);
                let before = checked.before;
                if let Some(report) = self.reports.last_mut() {
                    (report.rows, report.compared) = (rows, !before);
                }
                let image = self.verified(seal, artifact, signed, checked);
                if !before && image.stackable() {
                    self.compared.extend(image.seal_name());
                }
                self.accepted.push(image);
            }
        }
    }

    fn try_seal(
        &mut self,
        seal: &Seal,
        artifact: Option<BlobDigest>,
        store: &BlobStore,
    ) -> Result<(SignedDigests, CheckedContent)> {
        let JudgeRequest { image, requirements, budget, .. } = *self.request;
        artifact.map_or(Ok(()), |artifact| requirements.denied.blob(&artifact, "seal"))?;
        // It may be another manifest than the one that this image has here.
        seal.subject.map_or(Ok(()), |subject| requirements.denied.blob(&subject, "manifest"))?;
        let signed = signatures::check(image, seal, store, requirements, budget)?;
        // Only now: an artifact that nobody trusted has signed contradicts nothing.
        conflict(self.inline.as_ref(), seal)?;
        // An inline seal is named by the manifest that it is in.
        let before = (self.noted)(&artifact.unwrap_or(image.digest)) && requirements.certificates.is_some();
        if let (true, Some(binding)) = (before, &signed.binding) {
            let images = known(&signed, binding);
            self.deny(&signed, &images)?;
            return Ok((signed, images));
        }
        let bound = signed.binding.is_some() && requirements.certificates.is_some();
        let keep = if bound { Keep::Images } else { Keep::Entries };
        let mut contents = self.layers.get(ReadOptions { algorithm: seal.algorithm, bound, keep })?;
        if content::compares(&signed, &contents) && !contents.has(Keep::Entries) {
            contents = self.layers.get(ReadOptions { algorithm: seal.algorithm, bound, keep: Keep::Entries })?;
        }
        let images = content::check(seal, &signed, &contents, store, budget)?;
        self.deny(&signed, &images)?;
        Ok((signed, images))
    }

    /// Refuses an image of which an EROFS image is denied, in the form that was sealed or in ours, or something that
    /// the statement names.
    fn deny(&mut self, signed: &SignedDigests, checked: &CheckedContent) -> Result<()> {
        let images = checked.layers.iter().chain(Some(&checked.root)).chain(&checked.merged);
        let made = images.map(|e| (&e.role, &e.digest));
        let denied = &self.request.requirements.denied;
        let result = signed.digests.iter().chain(made).try_for_each(|(role, d)| denied.erofs(d, &role.to_string()));
        // What was signed under another manifest is denied by its digests too.
        let named = signed.binding.iter().flat_map(Binding::blobs);
        let result = result.and(named.into_iter().try_for_each(|(what, digest)| denied.blob(&digest, &what)));
        self.denied |= result.is_err();
        result
    }

    fn verified(
        &self,
        seal: &Seal,
        artifact: Option<BlobDigest>,
        signed: SignedDigests,
        checked: CheckedContent,
    ) -> VerifiedImage {
        VerifiedImage {
            image: Some(self.request.image.clone()),
            seal: artifact,
            dialect: Some(seal.dialect),
            signer: signed.signatures.values().find_map(|(_, signer)| signer.clone()),
            binding: signed.binding,
            root: checked.root,
            merged: checked.merged,
            layers: checked.layers,
            stackable: checked.stackable,
            further: Vec::new(),
        }
    }

    fn finish(self) -> Judgement {
        let disagree =
            self.reports.iter().any(|r| matches!(&r.verdict, Verdict::Rejected(x) if x.case() == Case::D12Conflict));
        // Wherever they were found, and in whatever order.
        let rank = |image: &VerifiedImage| {
            (image.binding.is_none(), std::cmp::Reverse(image.binding.as_ref().and_then(|b| b.sequence)), image.seal)
        };
        let accepted = self.accepted.into_iter().min_by_key(rank).filter(|_| !disagree && !self.denied);
        Judgement { accepted, compared: self.compared, reports: self.reports }
    }
}

/// Returns the images that this host has compared with the layers before, by the digests of a signed statement.
fn known(signed: &SignedDigests, binding: &Binding) -> CheckedContent {
    let erofs = |role: Role, digest: VerityDigest| VerifiedErofs {
        role,
        digest,
        signature: signed.signatures.get(&role).map(|(der, _)| der.clone()),
        bytes: None,
    };
    let layers = signed
        .digests
        .iter()
        .filter(|(role, _)| matches!(role, Role::Layer(_)))
        .map(|(role, digest)| erofs(*role, *digest))
        .collect();
    // Only our own seals have a statement, and their layer images hold whiteouts.
    let merged = binding.merged.map(|digest| erofs(Role::Merged, digest));
    CheckedContent { root: erofs(Role::Rootfs, binding.rootfs), merged, layers, stackable: true, before: true }
}

fn rows(signed: &SignedDigests) -> Vec<CheckedRole> {
    let binding = signed.binding.as_ref().map(|b| (Role::Binding, verity_digest(b.algorithm, b.text().as_bytes())));
    let all = signed.digests.iter().map(|(r, d)| (*r, *d)).chain(binding);
    all.map(|(role, digest)| {
        let signature = signed.signatures.get(&role);
        CheckedRole { role, digest, signer: signature.and_then(|(_, s)| s.clone()), signed: signature.is_some() }
    })
    .collect()
}

/// Makes an image that nobody was asked to vouch for: its digests are what this host made of its layers when it was
/// pulled. The kernel still checks every byte against them.
///
/// # Errors
/// [`Case::F06Denied`]; [`Case::D05Layers`] when there is not one digest for each layer.
pub fn unsigned(image: &Image, digests: &TreeDigests, denied: &Denied) -> Result<VerifiedImage> {
    denied.image(image)?;
    deny(digests, denied)?;
    if digests.layers.len() != image.layers.len() {
        return Err(Refusal::new(
            Case::D05Layers,
            image.digest.to_string(),
            format!("{} digests for {} layers", digests.layers.len(), image.layers.len()),
        ));
    }
    Ok(nobody(Some(image.clone()), digests))
}

/// Takes layers that are not an image, and that nobody vouches for: part of one, or one that is being made.
///
/// # Errors
/// [`Case::F06Denied`].
pub fn unsigned_layers(_leave: &Waiver, digests: &TreeDigests, denied: &Denied) -> Result<VerifiedImage> {
    deny(digests, denied)?;
    Ok(nobody(None, digests))
}

/// Refuses where one of the EROFS images is denied.
fn deny(digests: &TreeDigests, denied: &Denied) -> Result<()> {
    denied.erofs(&digests.rootfs, "rootfs")?;
    digests.merged.iter().try_for_each(|merged| denied.erofs(merged, "merged"))?;
    digests.layers.iter().enumerate().try_for_each(|(n, d)| denied.erofs(d, &Role::Layer(n).to_string()))
}

/// Makes a verified image that nobody vouches for.
fn nobody(image: Option<Image>, digests: &TreeDigests) -> VerifiedImage {
    let erofs = |role, digest: VerityDigest| VerifiedErofs { role, digest, signature: None, bytes: None };
    VerifiedImage {
        image,
        seal: None,
        dialect: None,
        signer: None,
        binding: None,
        root: erofs(Role::Rootfs, digests.rootfs),
        merged: digests.merged.map(|digest| erofs(Role::Merged, digest)),
        layers: digests.layers.iter().enumerate().map(|(n, digest)| erofs(Role::Layer(n), *digest)).collect(),
        stackable: true,
        further: Vec::new(),
    }
}
