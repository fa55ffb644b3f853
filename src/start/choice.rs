//! Which of the images that may be meant counts, what is asked of it, and whether a seal passes.

use super::common::{vault_of, verity_mode};
use super::content::{self, Table, any_aufs};
use super::fetch;
use super::prepared::Prepared;
use super::verify_and_prepare::Work;
use crate::digest::BlobDigest;
use crate::identify::{Asked, Candidate, ClaimedImage};
use crate::image::Progress;
use crate::invoke::Call;
use crate::oci::Budget;
use crate::oci::Facts;
use crate::oci::name::{UNKNOWN, canonical};
use crate::policy::{Decision, Mode, Policy, Rollback, Verity};
use crate::prepare::{PreparedImage, Shape, prepare};
use crate::report::{Case, Class, Refusal, Result};
use crate::sys::process;
use crate::vault::{Lock, Vault, bring_kept, floors, raise};
use crate::verify::{Floors, Requirements, VerifiedImage};

/// Prepares an image of a store, as its first start would; `None` for one of which nothing is asked, and
/// that is mounted as it is.
///
/// # Errors
/// Whatever that start would be refused for.
pub fn prepare_image(policy: &Policy, claimed: &ClaimedImage, progress: Progress<'_>) -> Result<Option<Prepared>> {
    // Nobody has asked for a name yet: its start will.
    let choice = Choice { any_name: true, ..Choice::of(policy, claimed)? };
    if choice.as_it_is(claimed)? {
        return Ok(None);
    }
    let vault = vault_of(&claimed.root)?;
    let _lock = vault.shared()?;
    choice.prepare(&vault, claimed, choice.decision.verity, progress).map(Some)
}

/// The lowest layers of an image whose seal passes; `None` where none does, or none is asked for.
///
/// # Errors
/// [`Case::F06Denied`] for an image that is denied, and those of preparing it.
pub(super) fn prepare_lowest(
    call: &Call,
    policy: &Policy,
    vault: &Vault,
    claimed: &ClaimedImage,
    count: usize,
) -> Result<Option<Prepared>> {
    let choice = Choice { any_name: true, ..Choice::of(policy, claimed)? };
    if choice.decision.mode == Mode::Off {
        return Ok(None);
    }
    let mode = verity_mode(&choice.decision, call);
    let (shape, budget, denied) = (Shape::Lowest(count), &Budget::STANDARD, policy.denied());
    let work = Work { vault, claimed, mode, shape, budget, progress: &|_| (), denied };
    match choice.sealed(&work) {
        Ok((candidate, verified)) if verified.stackable() => {
            let image = prepare(vault, &verified, shape, mode, work.budget)?;
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

/// What is asked of an image; nothing of it is denied then.
pub(super) fn asked_of(policy: &Policy, claimed: &ClaimedImage) -> Result<Decision> {
    let mut decision = Choice::of(policy, claimed)?.decision;
    if decision.names.is_empty() {
        // Whoever can take an image's name away gets no rule for builds by that.
        decision = policy.decide(&[UNKNOWN.to_owned()]);
    }
    Ok(decision)
}

/// The candidates that count, and what is asked of them.
pub(super) struct Choice<'a> {
    policy: &'a Policy,
    pub(super) candidates: Vec<&'a Candidate>,
    pub(super) decision: Decision,
    /// What the image was asked for by.
    asked: Option<&'a Asked>,
    /// A seal for one name will do where nobody says which name was asked for.
    any_name: bool,
    /// Which of them must pass.
    pass: Pass,
}

/// Which candidates a seal must pass for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Any: it is known which one is meant, or all the same.
    Any,
    /// Those with a name that asks for a seal: one of them is shown, and nobody says by which name.
    Named,
    /// All: a container is made from one of them, and nobody says from which.
    All,
}

impl<'a> Choice<'a> {
    /// Where a container says which image it is made from, that one counts: it gave the container its
    /// config. All candidates have the same layers, so where an image is only shown the tree is the same
    /// whichever is meant; then all their names decide together, and a seal must be there for each that asks.
    ///
    /// # Errors
    /// [`Case::F06Denied`] in every mode.
    pub(super) fn of(policy: &'a Policy, claimed: &'a ClaimedImage) -> Result<Self> {
        let by_container = claimed.images.iter().any(|c| c.claimed_by_container);
        let candidates: Vec<&Candidate> =
            claimed.images.iter().filter(|c| !by_container || c.claimed_by_container).collect();
        let names: Vec<String> = candidates.iter().flat_map(|c| c.names.iter().cloned()).collect();
        let decision = policy.decide(&names);
        let asked = claimed.own.as_ref().and_then(|own| own.container.as_ref()?.asked.as_ref());
        let pass = match claimed.own {
            _ if by_container => Pass::Any,
            Some(_) => Pass::All,
            None => Pass::Named,
        };
        let choice = Self { policy, candidates, decision, asked, any_name: false, pass };
        policy.denied().anything(&choice.facts())?;
        if policy.denied().names_blobs() && choice.decision.mode != Mode::Enforce {
            // Nobody vouches for the layers, and a digest of one is only what the disk says of it.
            content::content(&claimed.root, &claimed.layers, Table::Needed)?;
        }
        Ok(choice)
    }

    /// All by which the candidates can be denied.
    pub(super) fn facts(&self) -> Facts {
        let of = |candidate: &&Candidate| {
            let mut facts = Facts::of(&candidate.image);
            candidate.indexes.iter().for_each(|index| facts.blob("index", *index));
            facts
        };
        self.candidates.iter().map(of).fold(Facts::default(), Facts::and)
    }

    /// The names that a seal must be for: one of each of these, or none where nothing is asked. The name that was
    /// asked for is the one; where nobody says which that was, it may be any, and whoever asked means it.
    fn identities(&self, candidate: &Candidate) -> Vec<Vec<String>> {
        let mut names: Vec<String> = candidate.names.iter().map(|name| canonical(name)).collect();
        names.sort();
        names.dedup();
        match self.asked {
            _ if !self.decision.identity => vec![Vec::new()],
            Some(Asked::Name(name)) => vec![vec![canonical(name)]],
            // Who names the ID names the config. A name that the image has tells old seals from new ones still.
            Some(Asked::Id) => vec![names],
            // An image that lost its name to a newer one has none to compare.
            None if self.any_name || names.is_empty() => vec![names],
            None => {
                let asking: Vec<Vec<String>> =
                    names.iter().filter(|n| self.asks(n)).map(|name| vec![name.clone()]).collect();
                if asking.is_empty() { vec![names] } else { asking }
            }
        }
    }

    /// Whether a name asks for a seal that is for it. One that asks for nothing by itself, such as one of a build, is
    /// nobody's to be kept from.
    fn asks(&self, name: &String) -> bool {
        let alone = self.policy.decide(std::slice::from_ref(name));
        alone.identity && alone.mode != Mode::Off
    }

    /// Whether it is not enough that another candidate passes.
    fn must_pass(&self, candidate: &Candidate) -> bool {
        match self.pass {
            Pass::Any => false,
            Pass::Named => !self.any_name && self.decision.identity && candidate.names.iter().any(|n| self.asks(n)),
            Pass::All => true,
        }
    }

    /// A name with a digest is for the manifest that has it, or for the one that the index of that digest lists.
    fn references(&self, candidate: &Candidate) -> Result<()> {
        let names: &[String] = match self.asked {
            Some(Asked::Name(name)) => std::slice::from_ref(name),
            Some(Asked::Id) => &[],
            None if self.any_name => &[],
            None => &candidate.names,
        };
        for name in names {
            let Some((_, digest)) = name.split_once('@') else { continue };
            let digest: BlobDigest = digest.parse()?;
            if digest != candidate.image.digest && !candidate.indexes.contains(&digest) {
                let why = format!("its manifest is {}", candidate.image.digest);
                return Err(Refusal::new(Case::B14Reference, name.as_str(), why));
            }
        }
        Ok(())
    }

    /// The image, ready to be mounted, with the vault that it is in: its directories are on a mount that ends with
    /// that.
    pub(super) fn ready(&self, claimed: &ClaimedImage, call: &Call) -> Result<(Vault, Lock, Prepared)> {
        let vault = vault_of(&claimed.root)?;
        let lock = vault.shared()?;
        let prepared = self.prepare(&vault, claimed, verity_mode(&self.decision, call), &|_| ())?;
        Ok((vault, lock, prepared))
    }

    /// Whether a refusal stops nothing: what is denied is denied in every mode.
    pub(super) fn lets_pass(&self, refusal: &Refusal) -> bool {
        self.decision.mode != Mode::Enforce && refusal.case() != Case::F06Denied
    }

    /// Whether it matters what the image is.
    pub(super) fn asked(&self) -> bool {
        self.decision.mode != Mode::Off || self.policy.denied().names_erofs()
    }

    /// Whether the image is shown as it lies on the disk: nothing is asked of it, and nothing that is
    /// denied can only be told by its EROFS images.
    pub(super) fn as_it_is(&self, claimed: &ClaimedImage) -> Result<bool> {
        Ok(!self.asked() && !any_aufs(&claimed.root, &claimed.layers)?)
    }

    /// What is asked of a seal, which must be for one of these names where there are any.
    fn rules(&self, identities: Vec<String>) -> Result<Requirements> {
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
                Rollback::Allow => Floors::none(),
            },
        })
    }

    /// What is accepted now is the oldest that is accepted from now on.
    fn raise(&self, verified: &VerifiedImage, rules: &Requirements) -> Result<()> {
        let binding = verified.binding().filter(|_| self.decision.rollback == Rollback::Refuse);
        let Some((binding, sequence)) = binding.and_then(|b| Some((b, b.sequence?))) else { return Ok(()) };
        raise(rules.names(binding), sequence, &rules.floors)
    }

    fn prepare(&self, vault: &Vault, claimed: &ClaimedImage, mode: Verity, progress: Progress<'_>) -> Result<Prepared> {
        let (shape, budget, denied) = (Shape::Root, &Budget::STANDARD, self.policy.denied());
        let work = Work { vault, claimed, mode, shape, budget, progress, denied };
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
                let candidate = self.candidates[0];
                (candidate, work.unsigned(candidate)?, other.and_then(Result::err))
            }
        };
        let image = prepare(vault, &verified, shape, mode, work.budget)?;
        self.prepared(candidate, &verified, image, would_refuse)
    }

    /// What is mounted, and all by which it can be denied, now and when it is looked at again.
    fn prepared(
        &self,
        candidate: &Candidate,
        verified: &VerifiedImage,
        image: PreparedImage,
        would_refuse: Option<Refusal>,
    ) -> Result<Prepared> {
        let mut facts = verified.facts()?.and(Facts::of(&candidate.image));
        candidate.indexes.iter().for_each(|index| facts.blob("index", *index));
        Ok(Prepared {
            image,
            decision: self.decision.clone(),
            manifest: candidate.image.digest,
            names: candidate.names.clone(),
            seal: verified.seal().copied(),
            signed_manifest: verified.signed_manifest(),
            signer: verified.signer().cloned(),
            id: candidate.id.clone(),
            identities: verified.binding().map(|b| b.identities.clone()).unwrap_or_default(),
            facts,
            would_refuse,
        })
    }

    /// The same, with a look at the registry where no seal that is here passes.
    fn sealed_or_fetched(&self, work: &Work<'_>) -> Result<(&'a Candidate, VerifiedImage)> {
        let refusal = match self.sealed(work) {
            Err(refusal) if refusal.case() != Case::F06Denied => refusal,
            other => return other,
        };
        // After the graph root was removed, say.
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
            Err(silent) if refusal.case().class() == Class::NotSealed => Err(silent.within("fetching its seals")),
            Err(silent) => {
                log::info!("{silent}");
                Err(refusal)
            }
            Ok(false) => Err(refusal),
        }
    }

    /// The first candidate that a seal passes for, where all pass that must.
    fn sealed(&self, work: &Work<'_>) -> Result<(&'a Candidate, VerifiedImage)> {
        let mut passed: Option<(&Candidate, VerifiedImage)> = None;
        let mut first: Option<Refusal> = None;
        for candidate in &self.candidates {
            let named = |r: Refusal| {
                let name = candidate.names.first().map_or(candidate.id.as_str(), String::as_str);
                r.within(format!("image {name}"))
            };
            match self.sealed_one(work, candidate) {
                Ok(verified) if self.pass == Pass::Any => return Ok((candidate, verified)),
                Ok(verified) => passed = passed.or(Some((candidate, verified))),
                Err(r) if self.must_pass(candidate) && self.candidates.len() > 1 => {
                    return Err(Refusal::new(Case::B04Several, "", named(r)));
                }
                // "Wrong" says more than "not signed".
                Err(r) if first.as_ref().is_none_or(|f| f.case().class() == Class::NotSealed) => first = Some(named(r)),
                Err(_) => {}
            }
        }
        let bug = || Refusal::new(Case::Bug, "image", "no candidate");
        passed.ok_or_else(|| first.unwrap_or_else(bug))
    }

    /// Whether seals pass for all names that the image must be sealed for.
    fn sealed_one(&self, work: &Work<'_>, candidate: &Candidate) -> Result<VerifiedImage> {
        self.references(candidate)?;
        let mut last = None;
        for names in self.identities(candidate) {
            let rules = self.rules(names)?;
            let verified = work.sealed(candidate, &rules)?;
            self.raise(&verified, &rules)?;
            last = Some(verified);
        }
        last.ok_or_else(|| Refusal::new(Case::Bug, "image", "no name"))
    }
}
