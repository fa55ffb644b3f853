use crate::error::{Case, Refusal, Result};
use crate::oci::DenySubjects;
use crate::policy::{Decision, Denied, Mode};

/// Leave to mount what nobody vouches for. Only this module grants it, so that a mount without a
/// [`super::VerifiedImage`] cannot happen by accident.
#[derive(Debug)]
pub struct Waiver {
    why: String,
}

impl Waiver {
    /// Waives the seal where the policy does not ask for one, and nothing about what is to be mounted is denied.
    ///
    /// # Errors
    /// [`Case::C07NoSeal`] where it does, [`Case::F06Denied`].
    pub fn by_policy(decision: &Decision, denied: &Denied, facts: &DenySubjects) -> Result<Self> {
        denied.anything(facts)?;
        match decision.mode {
            Mode::Enforce => Err(Refusal::new(Case::C07NoSeal, "", "")),
            Mode::Audit => Ok(Self { why: format!("audit by {}", decision.source) }),
            Mode::Off => Ok(Self { why: format!("off by {}", decision.source) }),
        }
    }

    /// Waives the seal for an overlay volume of buildah: somebody's own directories, which are never taken for the root
    /// of a container (callers are told apart by their target, see [`crate::container_store`]).
    pub fn for_volume() -> Self {
        Self { why: "a volume".into() }
    }

    /// Returns why no seal is asked for, for the record.
    pub fn why(&self) -> &str {
        &self.why
    }
}
