//! What a verifier asks of a seal.

use super::floors::RollbackFloors;
use crate::oci::name::ImageName;
use crate::pki::{Anchor, Certificate, Dates};
use crate::policy::{BindingRule, Denied};
use crate::seal::{Binding, Identity};

/// What is asked of a seal. There is no default: the verifier must say everything.
#[derive(Clone, Debug)]
pub struct Requirements {
    /// The certificates to trust; `None` compares digests only.
    pub certificates: Option<Vec<Certificate>>,
    /// The anchors to trust to vouch for signers whose certificates are in their signatures; only where signatures are
    /// asked for.
    pub anchors: Vec<Anchor>,
    /// Whether certificates are accepted outside their dates.
    pub dates: Dates,
    /// The time to judge dates by, in seconds since 1970.
    pub now: i64,
    /// Whether a binding statement is asked for.
    pub binding: BindingRule,
    /// The names of the image: the statement must allow it to run under one of them. Where there are none, this is not
    /// asked.
    pub identities: Vec<ImageName>,
    /// What this host refuses, whoever vouches for it.
    pub denied: Denied,
    /// The lowest sequence that is accepted for a name; any is for names that are not in it.
    pub floors: RollbackFloors,
}

impl Requirements {
    /// Returns whether a name of a statement is one of those that are asked for: hosts are compared in one form.
    pub(super) fn allows(&self, name: &Identity) -> bool {
        self.identities.iter().any(|asked| name.allows(asked))
    }

    /// Returns whether the statement must be for certain names.
    pub fn asks_for_names(&self) -> bool {
        !self.identities.is_empty()
    }

    /// Lists the names of a statement that apply to this image.
    pub fn names<'a>(&'a self, binding: &'a Binding) -> impl Iterator<Item = &'a Identity> {
        let asked = |name: &&Identity| !self.asks_for_names() || self.allows(name);
        binding.identities.iter().filter(asked)
    }
}
