use std::path::PathBuf;

use crate::error::{Case, Refusal, Result};
use crate::oci::Reference;
use crate::oci::name::ImageName;
use crate::pki::{Dates, Ownership, TrustStore};
use crate::policy::BindingRule;
use crate::policy::{Denied, Directories};
use crate::sys::process::now;
use crate::verify::{Requirements, RollbackFloors};

/// Whom a person trusts, and what they ask of a seal.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Files of certificates, or directories of them; if there are none, only digests are compared.
    pub certificates: Vec<PathBuf>,
    /// Whether a statement is required.
    pub binding: BindingRule,
    /// The name that the seal must be for.
    pub identity: Option<String>,
    /// Whether certificates outside their dates count.
    pub dates: Dates,
    /// Where seals are looked for, in addition to the image's own place.
    pub seals: Vec<Reference>,
}

impl Trust {
    /// Returns what is asked of something to be mounted or imported: `None` if nobody is named. A companion of
    /// `--trust` on its own would be a demand that nobody checks.
    ///
    /// # Errors
    /// [`Case::Usage`] for a companion without `--trust`; the errors of [`Self::requirements`].
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

    /// Returns what is asked of a seal.
    ///
    /// # Errors
    /// F01 and F02 for what is to be trusted, and errors of reading what this host denies.
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
            identities: self.identity.as_deref().map(ImageName::whole).into_iter().collect(),
            denied: denied()?,
            floors: RollbackFloors::none(),
        })
    }
}

/// Reads what this host denies, which applies to a person at the command line too.
pub(super) fn denied() -> Result<Denied> {
    Denied::load(&Directories::system())
}
