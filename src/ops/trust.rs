use std::path::PathBuf;

use crate::oci::Reference;
use crate::pki::{Dates, Ownership, TrustStore};
use crate::policy::BindingRule;
use crate::policy::{Denied, Directories};
use crate::report::{Case, Refusal, Result};
use crate::sys::process::now;
use crate::verify::{Floors, Requirements};

/// Whom a person trusts, and what they ask of a seal.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Files of certificates, or directories of them; none, and only digests are compared.
    pub certificates: Vec<PathBuf>,
    /// Whether a statement is asked for.
    pub binding: BindingRule,
    /// The name that the seal must be for.
    pub identity: Option<String>,
    /// Whether certificates outside their dates count.
    pub dates: Dates,
    /// Where seals are looked for besides the image's own place.
    pub seals: Vec<Reference>,
}

impl Trust {
    /// What is asked where something is to be mounted or imported: `None` when nobody is named. A companion of
    /// `--trust` alone would be a demand that nobody checks.
    ///
    /// # Errors
    /// [`Case::Usage`] for a companion without `--trust`; those of [`Self::requirements`].
    pub fn demands(&self) -> Result<Option<Requirements>> {
        let companions = [
            ("--identity", self.identity.is_some()),
            ("--seal", !self.seals.is_empty()),
            ("--binding", self.binding == BindingRule::Local),
            ("--dates", self.dates == Dates::Ignore),
        ];
        match (self.certificates.is_empty(), companions.iter().find(|(_, given)| *given)) {
            (true, Some((name, _))) => Err(Refusal::new(Case::Usage, *name, "it says nothing without --trust")),
            (true, None) => Ok(None),
            (false, _) => self.requirements().map(Some),
        }
    }

    /// What is asked of a seal.
    ///
    /// # Errors
    /// F01 and F02 for what is to be trusted, and for what this host denies.
    pub fn requirements(&self) -> Result<Requirements> {
        let certificates = match self.certificates.as_slice() {
            [] => None,
            paths => Some(TrustStore::load(paths, Ownership::Any)?.certificates().to_vec()),
        };
        Ok(Requirements {
            certificates,
            anchors: Vec::new(),
            dates: self.dates,
            now: now(),
            binding: self.binding,
            identities: self.identity.iter().cloned().collect(),
            denied: denied()?,
            floors: Floors::none(),
        })
    }
}

/// What this host denies, which holds for a person at the command line too.
pub(super) fn denied() -> Result<Denied> {
    Denied::load(&Directories::system())
}
