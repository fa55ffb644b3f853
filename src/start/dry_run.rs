//! The outcome of a start, found out without one: by the same choice and the same judgement, but nothing is written. No
//! file gets fs-verity, nothing is put into the vault, and no note is made.

use std::cell::OnceCell;

use super::choice::ChosenCandidates;
use super::common::{ALGORITHMS, UNSIGNED, vault_if_any};
use super::content::{self, Table};
use super::dry_upper;
use super::fetch;
use super::layers;
use super::verify_and_prepare::Judging;
use crate::container_store::{Candidate, ClaimedImage, ClaimedLayers, RequestedBy};
use crate::digest::BlobDigest;
use crate::error::{Case, Class, Refusal, Result};
use crate::fetch::Staging;
use crate::image::Keep;
use crate::oci::{BlobStore, Budget, DenySubjects};
use crate::policy::{Decision, FetchRule, Mode, Policy};
use crate::prepare::{ImportRules, PreparedImage, RootShape, is_lost, is_ready, read};
use crate::seal::ArtifactSubject;
use crate::vault::{Vault, kept_seals};
use crate::verify::{
    JudgeRequest, LayerReader, ReadOptions, Requirements, SealCandidate, SignedBy, VerifiedImage, judge, nothing_noted,
    unsigned,
};

/// What a start would come to.
#[derive(Debug)]
pub struct Expected {
    /// What the policy asks.
    pub decision: Decision,
    /// The digest of the manifest that counts, if it is an image.
    pub manifest: Option<BlobDigest>,
    /// Whether it starts.
    pub verdict: StartVerdict,
    /// The image as it would be mounted, if it is ready.
    pub image: Option<PreparedImage>,
    /// Whether it is ready, so that a start need not read its layers.
    pub ready: bool,
}

/// Whether something would start.
#[derive(Debug)]
pub enum StartVerdict {
    /// A seal passes.
    Sealed(Box<Vouched>),
    /// Nothing is asked of it.
    Unasked,
    /// `audit` lets it pass, and `enforce` would refuse it.
    Audit(Refusal),
    /// It does not start.
    Refused(Refusal),
}

/// Who vouches for an image.
#[derive(Debug)]
pub struct Vouched {
    /// The seal's manifest; `None` for one in the image itself.
    pub seal: Option<BlobDigest>,
    /// Who signed it.
    pub signer: Option<SignedBy>,
}

impl StartVerdict {
    /// Returns why it does not start, or would not.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Audit(refusal) | Self::Refused(refusal) => Some(refusal),
            Self::Sealed(_) | Self::Unasked => None,
        }
    }

    /// Returns what the policy makes of a refusal.
    pub fn of(refusal: Refusal, mode: Mode) -> Self {
        match mode {
            // What is denied is denied in every mode.
            _ if refusal.case() == Case::F06Denied => Self::Refused(refusal),
            Mode::Enforce => Self::Refused(refusal),
            Mode::Audit => Self::Audit(refusal),
            Mode::Off => Self::Unasked,
        }
    }
}

impl Expected {
    /// Returns what becomes of something that nobody can identify.
    pub fn unknown(policy: &Policy, names: &[String], refusal: Refusal) -> Self {
        let decision = policy.for_unknown();
        let verdict = match &decision {
            Some(decision) => StartVerdict::of(refusal, decision.mode),
            None => StartVerdict::Refused(refusal),
        };
        let decision = decision.unwrap_or_else(|| policy.decide(names));
        Self { decision, manifest: None, verdict, image: None, ready: false }
    }

    /// Adds what else would be refused: the first refusal counts.
    #[must_use]
    pub fn and(mut self, checked: Result<()>) -> Self {
        if let (Err(refusal), StartVerdict::Sealed(_)) = (checked, &self.verdict) {
            self.verdict = StartVerdict::of(refusal, self.decision.mode);
        }
        self
    }
}

impl Expected {
    /// Adds something else that `audit` lets pass.
    #[must_use]
    pub fn and_audited(mut self, refusal: Option<Refusal>) -> Self {
        if let (Some(refusal), StartVerdict::Sealed(_)) = (refusal, &self.verdict) {
            self.verdict = StartVerdict::Audit(refusal);
        }
        self
    }
}

/// Finds out what starting `claimed` would come to, if it is asked for as `asked` says; a container's record says that
/// itself.
pub fn expect_image(policy: &Policy, claimed: &ClaimedImage, asked: Option<&RequestedBy>) -> Expected {
    let names: Vec<String> = claimed.images.iter().flat_map(|c| c.names.iter().cloned()).collect();
    let manifest = claimed.images.first().map(|c| c.image.digest);
    let mut choice = match ChosenCandidates::before_reading(policy, claimed) {
        Ok(choice) => choice,
        Err(refusal) => {
            let decision = policy.decide(&names);
            return Expected {
                verdict: StartVerdict::of(refusal, decision.mode),
                decision,
                manifest,
                image: None,
                ready: false,
            };
        }
    };
    choice.asked = asked.or(choice.asked);
    let decision = choice.decision.clone();
    match expected(policy, &choice, claimed) {
        Ok((verdict, manifest, image)) => {
            let ready = image.is_some();
            let seen = Expected { decision, manifest: Some(manifest), verdict, image, ready };
            let upper = claimed
                .own
                .as_ref()
                .map_or(Ok(()), |own| dry_upper::emptiness(own, seen.decision.upper, seen.image.as_ref()));
            seen.and(upper)
        }
        Err(refusal) => Expected {
            verdict: StartVerdict::of(refusal, decision.mode),
            decision,
            manifest,
            image: None,
            ready: false,
        },
    }
}

/// Finds out what starting a container would come to whose layers belong to no image.
pub fn expect_layers(policy: &Policy, claimed: &ClaimedLayers) -> Expected {
    let decision = policy.decide(&claimed.names);
    let refusal = Refusal::new(Case::B12Layers, "", claimed.why);
    let refusal = layers::denied_by_records(policy, claimed).err().unwrap_or(refusal);
    Expected { verdict: StartVerdict::of(refusal, decision.mode), decision, manifest: None, image: None, ready: false }
}

type DryResult = (StartVerdict, BlobDigest, Option<PreparedImage>);

fn expected(policy: &Policy, choice: &ChosenCandidates<'_>, claimed: &ClaimedImage) -> Result<DryResult> {
    let (decision, first) = (&choice.decision, choice.candidates[0]);
    if choice.reads_content() {
        content::content_if_looked_at(policy, &claimed.root, &claimed.layers, Table::Needed)?;
    }
    if !choice.needs_verification() {
        return Ok((StartVerdict::Unasked, first.image.digest, None));
    }
    let vault = vault_if_any(policy.vault(), &claimed.root)?;
    let _lock = vault.as_ref().map(Vault::shared).transpose()?;
    let staging = OnceCell::new();
    let look = DryRun { vault: vault.as_ref(), staging: &staging, claimed, decision };
    let sealed = match decision.mode {
        Mode::Off => Err(None),
        Mode::Audit | Mode::Enforce => look.sealed(choice).map_err(Some),
    };
    match sealed {
        Ok((candidate, verified)) => {
            let mut facts = verified.facts().and(DenySubjects::of(&candidate.image));
            candidate.indexes.iter().for_each(|index| facts.blob("index", *index));
            policy.denied().anything(&facts)?;
            let budget = &Budget::STANDARD;
            let image = match &vault {
                Some(vault) => is_ready(vault, &verified, decision.verity, budget)?,
                None => None,
            };
            let vouched = Vouched { seal: verified.seal().copied(), signer: verified.signer().cloned() };
            Ok((StartVerdict::Sealed(Box::new(vouched)), candidate.image.digest, image))
        }
        Err(refusal) => {
            if !policy.denied().is_empty() && decision.mode != Mode::Enforce {
                look.not_denied(first, policy)?;
            }
            let verdict = refusal.map_or(StartVerdict::Unasked, |refusal| StartVerdict::of(refusal, decision.mode));
            Ok((verdict, first.image.digest, None))
        }
    }
}

/// What a dry run looks at.
struct DryRun<'a> {
    vault: Option<&'a Vault>,
    /// Made when something has to be stored; removed with the answer.
    staging: &'a OnceCell<Staging>,
    claimed: &'a ClaimedImage,
    decision: &'a Decision,
}

impl DryRun<'_> {
    /// Looks for a seal as a start does: in the vault, among what was kept, and, if the policy says so, in the
    /// registry.
    fn sealed<'c>(&self, choice: &ChosenCandidates<'c>) -> Result<(&'c Candidate, VerifiedImage)> {
        let store = match self.vault {
            Some(vault) => vault.store(),
            None => self.staging()?,
        };
        let mut judge = DryJudge { look: self, home: store, more: Vec::new() };
        let refusal = match choice.sealed(&judge) {
            Err(refusal) if refusal.case() != Case::F06Denied => refusal,
            other => return other,
        };
        let kept: Vec<(BlobDigest, (BlobStore, Vec<BlobDigest>))> = choice
            .candidates
            .iter()
            .filter_map(|candidate| Some((candidate.image.digest, kept_seals(&candidate.image.digest)?)))
            .collect();
        for (image, (store, seals)) in &kept {
            judge.more.extend(seals.iter().map(|seal| (*image, *seal, store)));
        }
        let refusal = match (!judge.more.is_empty()).then(|| choice.sealed(&judge)) {
            None => refusal,
            Some(Err(again)) if again.case() != Case::F06Denied => again,
            Some(other) => return other,
        };
        if self.decision.fetch != FetchRule::OnMount {
            return Err(refusal);
        }
        let staging = self.staging()?;
        match fetch::would_bring(staging, &self.claimed.root.path, &choice.candidates, self.decision) {
            Ok(found) if !found.is_empty() => {
                judge.more.extend(found.into_iter().map(|(image, seal)| (image, seal, staging)));
                choice.sealed(&judge)
            }
            // "Wrong" says more than that a registry was silent.
            Err(silent) if refusal.case().class() == Class::NotSealed => {
                Err(silent.within("fetching its seals").within_that_of(&refusal))
            }
            _ => Err(refusal),
        }
    }

    fn staging(&self) -> Result<&BlobStore> {
        match self.staging.get() {
            Some(staging) => Ok(staging.store()),
            None => {
                let made = Staging::new()?;
                Ok(self.staging.get_or_init(|| made).store())
            }
        }
    }

    /// Checks that an image which is shown without a seal is not denied by what only its EROFS images reveal.
    fn not_denied(&self, candidate: &Candidate, policy: &Policy) -> Result<()> {
        let image = &candidate.image;
        let known = self.vault.and_then(|vault| {
            let made = ALGORITHMS.into_iter().filter_map(|algorithm| vault.contents(&image.digest, algorithm));
            made.into_iter().find(|known| known.layers.len() == image.layers.len())
        });
        let digests = match known {
            Some(known) => known,
            None => {
                self.read(ReadOptions { algorithm: UNSIGNED, bound: true, keep: Keep::Images })?.images.digests()?
            }
        };
        unsigned(image, &digests, policy.denied()).map(drop)
    }

    fn read(&self, ReadOptions { algorithm, bound, keep }: ReadOptions) -> Result<crate::image::Contents> {
        let budget = &Budget::STANDARD;
        let rules = ImportRules { algorithm, mode: self.decision.verity, diff_ids: !bound, keep, budget };
        read(&self.claimed.layers, &rules, &|_| ())
    }
}

/// Judges by what is there already.
struct DryJudge<'a> {
    look: &'a DryRun<'a>,
    home: &'a BlobStore,
    /// Seals that are not in the vault: the image, the seal, and where that is.
    more: Vec<(BlobDigest, BlobDigest, &'a BlobStore)>,
}

impl Judging for DryJudge<'_> {
    fn sealed(&self, candidate: &Candidate, requirements: &Requirements) -> Result<VerifiedImage> {
        let (image, budget, vault) = (&candidate.image, &Budget::STANDARD, self.look.vault);
        let own = vault.map_or(Ok(Vec::new()), |vault| vault.seals(&image.digest, budget))?;
        let more = self.more.iter().filter(|(of, seal, _)| *of == image.digest && !own.contains(seal));
        let more = more.map(|(_, digest, store)| SealCandidate { digest: *digest, store });
        let found: Vec<SealCandidate<'_>> =
            own.iter().map(|digest| SealCandidate { digest: *digest, store: self.home }).chain(more).collect();
        let request =
            JudgeRequest { image, found: &found, home: self.home, requirements, budget, about: ArtifactSubject::Image };
        let noted = |seal: &BlobDigest| vault.is_some_and(|vault| vault.was_checked(&image.digest, seal));
        let mut layers = LayerReader::new(|wanted| self.look.read(wanted));
        let verified = judge(&request, &noted, &mut layers).into_result()?;
        match vault.is_none_or(|vault| is_lost(vault, &verified, RootShape::Root)) && verified.root().bytes().is_none()
        {
            // It was compared before and got lost: the layers would make it again.
            true => judge(&request, &nothing_noted, &mut layers).into_result(),
            false => Ok(verified),
        }
    }

    fn remembers(&self) -> bool {
        false
    }
}
