use crate::oci::Facts;
use crate::policy::{Decision, Denied, Mode};
use crate::report::{Case, Refusal, Result};

/// Leave to mount what nobody vouches for. Only this room gives it, so that a mount without a
/// [`super::VerifiedImage`] cannot come about by accident.
#[derive(Debug)]
pub struct Waiver {
    why: String,
}

impl Waiver {
    /// Where the policy does not ask for a seal, and nothing about what is to be mounted is denied.
    ///
    /// # Errors
    /// [`Case::C07NoSeal`] where it does, [`Case::F06Denied`].
    pub fn by_policy(decision: &Decision, denied: &Denied, facts: &Facts) -> Result<Self> {
        denied.anything(facts)?;
        match decision.mode {
            Mode::Enforce => Err(Refusal::new(Case::C07NoSeal, "", "")),
            Mode::Audit => Ok(Self { why: format!("audit by {}", decision.source) }),
            Mode::Off => Ok(Self { why: format!("off by {}", decision.source) }),
        }
    }

    /// For an overlay volume of buildah: somebody's own directories, which are never taken for the
    /// root of a container (callers are told apart by their target, see [`crate::identify`]).
    pub fn for_volume() -> Self {
        Self { why: "a volume".into() }
    }

    /// Why nothing is asked, for the record.
    pub fn why(&self) -> &str {
        &self.why
    }
}
