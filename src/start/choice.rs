//! Which of the possible images counts, what the policy asks of it, and whether a seal passes.

use super::common::{vault_of, verity_mode};
use super::content::{self, Table, any_aufs};
use super::fetch;
use super::kernel_probe::prepare_proven;
use super::prepared::JudgedImage;
use super::required_names::{RequiredNames, asking};
use super::verify_and_prepare::{Judging, PreparationRequest};
use crate::container_store::{Candidate, ClaimedImage, RequestedBy, or_unknown};
use crate::error::{Case, Class, Refusal, Result};
use crate::image::ReadProgress;
use crate::oci::name::{ImageName, UNKNOWN};
use crate::oci::{Budget, DenySubjects};
use crate::policy::{Decision, Mode, Policy, Rollback, Verity};
use crate::prepare::{PreparedImage, RootShape};
use crate::protocol::MountCall;
use crate::sys::process;
use crate::vault::{Lock, Vault, bring_kept, floors, raise};
use crate::verify::{Requirements, RollbackFloors, VerifiedImage};

/// Prepares an image of a store, as its first start would; `None` if nothing is asked of it and it is mounted as it is.
///
/// # Errors
/// Whatever that start would be refused for.
pub fn prepare_image(
    policy: &Policy,
    claimed: &ClaimedImage,
    progress: ReadProgress<'_>,
) -> Result<Option<JudgedImage>> {
    // Nobody has asked for a name yet; the first start will.
    let choice = ChosenCandidates { any_name: true, ..ChosenCandidates::of(policy, claimed)? };
    if choice.mounts_unverified(claimed)? {
        return Ok(None);
    }
    let vault = vault_of(policy.vault(), &claimed.root)?;
    let _lock = vault.shared()?;
    choice.prepare(&vault, claimed, choice.decision.verity, progress).map(Some)
}

/// Prepares the lowest layers of an image whose seal passes; `None` where none does, or where none is required.
///
/// # Errors
/// [`Case::F06Denied`] for an image that is denied, and errors of preparing it.
pub(super) fn prepare_lowest(
    call: &MountCall,
    policy: &Policy,
    vault: &Vault,
    claimed: &ClaimedImage,
    count: usize,
) -> Result<Option<JudgedImage>> {
    let choice = ChosenCandidates { any_name: true, ..ChosenCandidates::of(policy, claimed)? };
    if choice.decision.mode == Mode::Off {
        return Ok(None);
    }
    let mode = verity_mode(&choice.decision, call);
    let (shape, budget, denied) = (RootShape::Lowest(count), &Budget::STANDARD, policy.denied());
    let work = PreparationRequest { vault, claimed, mode, shape, budget, progress: &|_| (), denied };
    match choice.sealed(&work) {
        Ok((candidate, verified)) if verified.stackable() => {
            let image = prepare_proven(vault, &verified, shape, mode, work.budget)?;
            choice.prepared(candidate, &verified, image, None).map(Some)
        }
        Ok(_) => Ok(None),
        Err(refusal) if refusal.case() == Case::F06Denied => Err(refusal),
        Err(refusal) => {
            log::debug!("not by this image: {refusal}");
            Ok(None)
        }
    }
}

/// Returns what the policy asks of an image; fails if anything in the image is denied.
pub(super) fn asked_of(policy: &Policy, claimed: &ClaimedImage) -> Result<Decision> {
    let mut decision = ChosenCandidates::of(policy, claimed)?.decision;
    if decision.names.is_empty() {
        // Removing an image's name must not get anybody the rule for builds.
        decision = policy.decide(&[UNKNOWN.to_owned()]);
    }
    Ok(decision)
}

/// The candidates that count, and what is asked of them.
pub(super) struct ChosenCandidates<'a> {
    policy: &'a Policy,
    pub(super) candidates: Vec<&'a Candidate>,
    pub(super) decision: Decision,
    /// How the image was asked for: by a name or by its ID.
    pub(super) asked: Option<&'a RequestedBy>,
    /// Whether a seal for any one name is enough, because nobody says which name was asked for.
    any_name: bool,
    /// Which of them must pass.
    pass: Pass,
}

/// Which candidates a seal must pass for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Any: it is known which one is meant, or they are all the same.
    Any,
    /// Those with a name that requires a seal: one of them is shown, and nobody says by which name.
    Named,
    /// All: a container is made from one of them, and nobody says which.
    All,
}

/// An image that can be mounted as long as this lives.
pub(super) struct ReadyImage {
    /// Its directories are on a mount that ends with it.
    _vault: Vault,
    _lock: Lock,
    pub(super) judged: JudgedImage,
}

impl<'a> ChosenCandidates<'a> {
    /// Chooses the candidates that count. If a container says which image it is made from, that one counts: the
    /// container got its config from it. All candidates have the same layers, so if an image is only shown, the tree is
    /// the same whichever is meant; then all their names decide together, and there must be a seal for each name that
    /// requires one.
    ///
    /// # Errors
    /// [`Case::F06Denied`] in every mode.
    pub(super) fn of(policy: &'a Policy, claimed: &'a ClaimedImage) -> Result<Self> {
        let choice = Self::before_reading(policy, claimed)?;
        if choice.reads_content() {
            content::content(policy, &claimed.root, &claimed.layers, Table::Needed)?;
        }
        Ok(choice)
    }

    /// Returns whether the layers must be read: nobody vouches for them, and their digests are only what the disk says.
    pub(super) fn reads_content(&self) -> bool {
        self.policy.denied().names_blobs() && self.decision.mode != Mode::Enforce
    }

    /// Chooses the candidates in the same way, but before the layers are looked at.
    pub(super) fn before_reading(policy: &'a Policy, claimed: &'a ClaimedImage) -> Result<Self> {
        let by_container = claimed.images.iter().any(|c| c.claimed_by_container);
        let candidates: Vec<&Candidate> =
            claimed.images.iter().filter(|c| !by_container || c.claimed_by_container).collect();
        let names: Vec<String> = candidates.iter().flat_map(|c| c.names.iter().cloned()).collect();
        let asked = claimed.own.as_ref().and_then(|own| own.container.as_ref()?.asked.as_ref());
        let decision = policy.decide(&or_unknown(names, asked));
        let pass = match claimed.own {
            _ if by_container => Pass::Any,
            Some(_) => Pass::All,
            None => Pass::Named,
        };
        let choice = Self { policy, candidates, decision, asked, any_name: false, pass };
        policy.denied().anything(&choice.facts())?;
        Ok(choice)
    }

    /// Collects everything that the candidates can be denied by.
    pub(super) fn facts(&self) -> DenySubjects {
        let of = |candidate: &&Candidate| {
            let mut facts = DenySubjects::of(&candidate.image);
            candidate.indexes.iter().for_each(|index| facts.blob("index", *index));
            facts
        };
        self.candidates.iter().map(of).fold(DenySubjects::default(), DenySubjects::and)
    }

    /// Collects the names that a seal of this candidate must be for.
    fn required(&self, candidate: &'a Candidate) -> RequiredNames<'_> {
        let (policy, names, asked) = (self.policy, &candidate.names, self.asked);
        RequiredNames { policy, identity: self.decision.identity, names, asked, any_name: self.any_name }
    }

    /// Returns whether this candidate must pass, even if another one does.
    fn must_pass(&self, candidate: &Candidate) -> bool {
        match self.pass {
            Pass::Any => false,
            Pass::Named => {
                !self.any_name && self.decision.identity && !asking(self.policy, &candidate.names).is_empty()
            }
            Pass::All => true,
        }
    }

    /// Prepares the image for mounting, and returns it together with its vault: the image's directories are on a mount
    /// that ends with the vault.
    pub(super) fn ready(&self, claimed: &ClaimedImage, call: &MountCall) -> Result<ReadyImage> {
        let vault = vault_of(self.policy.vault(), &claimed.root)?;
        let lock = vault.shared()?;
        let prepared = self.prepare(&vault, claimed, verity_mode(&self.decision, call), &|_| ())?;
        Ok(ReadyImage { _vault: vault, _lock: lock, judged: prepared })
    }

    /// Returns whether the start goes on despite a refusal. What is denied is denied in every mode.
    pub(super) fn is_not_fatal(&self, refusal: &Refusal) -> bool {
        self.decision.mode != Mode::Enforce && refusal.case() != Case::F06Denied
    }

    /// Returns whether it matters what the image contains.
    pub(super) fn needs_verification(&self) -> bool {
        self.decision.mode != Mode::Off || self.policy.denied().names_erofs()
    }

    /// Returns whether the image is shown as it lies on the disk: nothing is asked of it, and no rule denies anything
    /// that only its EROFS images could reveal.
    pub(super) fn mounts_unverified(&self, claimed: &ClaimedImage) -> Result<bool> {
        Ok(!self.needs_verification() && !any_aufs(self.policy, &claimed.root, &claimed.layers)?)
    }

    /// Builds the requirements for a seal, which must be for one of these names if there are any.
    fn requirements(&self, identities: Vec<ImageName>) -> Result<Requirements> {
        Ok(Requirements {
            certificates: Some(self.decision.certificates.clone()),
            anchors: self.decision.anchors.clone(),
            dates: self.decision.dates,
            now: process::now(),
            binding: self.decision.binding,
            identities,
            denied: self.policy.denied().clone(),
            floors: match self.decision.rollback {
                Rollback::Refuse => floors()?,
                Rollback::Allow => RollbackFloors::none(),
            },
        })
    }

    /// Raises the floor: no older seal is accepted from now on. For a name that nobody asked for, only a signer who is
    /// trusted with that name can do it.
    fn raise(&self, verified: &VerifiedImage, rules: &Requirements) -> Result<()> {
        let binding = verified.binding().filter(|_| self.decision.rollback == Rollback::Refuse);
        let Some((binding, sequence)) = binding.and_then(|b| Some((b, b.sequence?))) else { return Ok(()) };
        let trusted = |name| verified.signer().is_some_and(|s| self.policy.trusts(name, s.fingerprint, s.anchor));
        let names = rules.names(binding).filter(|n| rules.asks_for_names() || trusted(n.as_str()));
        raise(names, sequence, &rules.floors)
    }

    fn prepare(
        &self,
        vault: &Vault,
        claimed: &ClaimedImage,
        mode: Verity,
        progress: ReadProgress<'_>,
    ) -> Result<JudgedImage> {
        let (shape, budget, denied) = (RootShape::Root, &Budget::STANDARD, self.policy.denied());
        let work = PreparationRequest { vault, claimed, mode, shape, budget, progress, denied };
        let sealed = match self.decision.mode {
            Mode::Off => None,
            Mode::Audit | Mode::Enforce => Some(self.sealed_or_fetched(&work)),
        };
        let (candidate, verified, would_refuse) = match sealed {
            Some(Ok((candidate, verified))) => (candidate, verified, None),
            Some(Err(refusal)) if self.decision.mode == Mode::Enforce => return Err(refusal),
            // What is denied is denied in every mode.
            Some(Err(refusal)) if refusal.case() == Case::F06Denied => return Err(refusal),
            other => {
                let (candidate, first) = (self.candidates[0], other.and_then(Result::err));
                let unsigned = work.unsigned(candidate).map_err(|refusal| earlier(refusal, first.as_ref()))?;
                (candidate, unsigned, first)
            }
        };
        let image = prepare_proven(vault, &verified, shape, mode, work.budget);
        let image = image.map_err(|refusal| earlier(refusal, would_refuse.as_ref()))?;
        self.prepared(candidate, &verified, image, would_refuse)
    }

    /// Puts together what is mounted and everything it can be denied by, now and when it is looked at again.
    fn prepared(
        &self,
        candidate: &Candidate,
        verified: &VerifiedImage,
        image: PreparedImage,
        would_refuse: Option<Refusal>,
    ) -> Result<JudgedImage> {
        let mut facts = verified.facts().and(DenySubjects::of(&candidate.image));
        candidate.indexes.iter().for_each(|index| facts.blob("index", *index));
        Ok(JudgedImage {
            image,
            decision: self.decision.clone(),
            manifest: candidate.image.digest,
            names: candidate.names.clone(),
            seal: verified.seal().copied(),
            signed_manifest: verified.signed_manifest(),
            signer: verified.signer().cloned(),
            id: candidate.id.clone(),
            identities: verified.identities(),
            facts,
            would_refuse,
        })
    }

    /// Finds a candidate with a seal that passes, and asks the registry if none of the seals here does.
    fn sealed_or_fetched(&self, work: &PreparationRequest<'_>) -> Result<(&'a Candidate, VerifiedImage)> {
        let refusal = match self.sealed(work) {
            Err(refusal) if refusal.case() != Case::F06Denied => refusal,
            other => return other,
        };
        // After the graph root was removed, for example.
        let mut brought = false;
        for candidate in &self.candidates {
            brought |= bring_kept(work.vault, &candidate.image.digest)?;
        }
        let refusal = match brought.then(|| self.sealed(work)) {
            None => refusal,
            Some(Err(again)) if again.case() != Case::F06Denied => again,
            Some(other) => return other,
        };
        match fetch::on_mount(work.vault, &work.claimed.root.path, &self.candidates, &self.decision) {
            Ok(true) => self.sealed(work),
            // "Wrong" says more than that a registry was silent.
            Err(silent) if refusal.case().class() == Class::NotSealed => {
                Err(silent.within("fetching its seals").within_that_of(&refusal))
            }
            Err(silent) => {
                log::info!("{silent}");
                Err(refusal)
            }
            Ok(false) => Err(refusal),
        }
    }

    /// Finds the first candidate that a seal passes for, provided that all pass that must.
    pub(super) fn sealed(&self, work: &impl Judging) -> Result<(&'a Candidate, VerifiedImage)> {
        let mut passed: Option<(&Candidate, VerifiedImage)> = None;
        let mut first: Option<Refusal> = None;
        for candidate in &self.candidates {
            let named = |r: Refusal| {
                // The name that was asked for, if the image has it.
                let asked = self.asked.and_then(RequestedBy::name).filter(|name| candidate.names.contains(name));
                let name = asked.or(candidate.names.first()).map_or(candidate.id.as_str(), String::as_str);
                r.within(format!("image {name}"))
            };
            match self.sealed_one(work, candidate) {
                Ok(verified) if self.pass == Pass::Any => return Ok((candidate, verified)),
                Ok(verified) => passed = passed.or(Some((candidate, verified))),
                Err(r) if self.must_pass(candidate) && self.candidates.len() > 1 => {
                    return Err(Refusal::new(Case::B04Several, "", named(r)));
                }
                // "Wrong" is more informative than "not signed".
                Err(r) if first.as_ref().is_none_or(|f| f.case().class() == Class::NotSealed) => first = Some(named(r)),
                Err(_) => {}
            }
        }
        let bug = || Refusal::new(Case::Bug, "image", "no candidate");
        passed.ok_or_else(|| first.unwrap_or_else(bug))
    }

    /// Checks that seals pass for all names that the image must be sealed for.
    fn sealed_one(&self, work: &impl Judging, candidate: &Candidate) -> Result<VerifiedImage> {
        let required = self.required(candidate);
        required.check_digests(candidate)?;
        let mut last: Option<VerifiedImage> = None;
        for names in required.identities() {
            let rules = self.requirements(names)?;
            let verified = work.sealed(candidate, &rules).map_err(|refusal| required.explained(refusal))?;
            if work.remembers() {
                self.raise(&verified, &rules)?;
            }
            last = Some(match last {
                Some(last) => last.sealed_again(&verified),
                None => verified,
            });
        }
        last.ok_or_else(|| Refusal::new(Case::Bug, "image", "no name"))
    }
}

/// Returns the first reason of what audit lets pass, which is where enforce would have stopped.
fn earlier(refusal: Refusal, first: Option<&Refusal>) -> Refusal {
    first.filter(|_| refusal.case() != Case::F06Denied).cloned().unwrap_or(refusal)
}
