//! What is found out of an image or of layers once on a host, and where that is kept.

use crate::digest::Algorithm;
use crate::identify::Root;
use crate::invoke::Call;
use crate::policy::{Decision, Verity};
use crate::report::{Refusal, Result, journal};
use crate::vault::Vault;

/// The algorithm for images that no seal names one for: the one that `layerseal sign` takes.
pub(super) const UNSIGNED: Algorithm = Algorithm::Sha512;

/// Those of which EROFS images may have been made before.
pub(super) const ALGORITHMS: [Algorithm; 2] = [UNSIGNED, Algorithm::Sha256];

pub(super) fn audit(refusal: &Refusal, call: &Call) {
    let message = format!("audit: would refuse: {refusal}");
    let target = call.target.display().to_string();
    let fields = [
        ("CASE", refusal.case().id()),
        ("SUBJECT", &refusal.subject()),
        ("REMEDY", refusal.case().remedy()),
        ("TARGET", &target),
    ];
    journal::record(journal::Decision::Audit, &message, &fields);
}

/// What is asked of the kernel: what policy says, or more where the caller asks for it.
pub(super) fn verity_mode(decision: &Decision, call: &Call) -> Verity {
    if call.requests.verity { Verity::Require } else { decision.verity }
}

/// The vault of a store, through a private mount: see [`Vault::of_store`].
///
/// # Errors
/// [`crate::report::Case::Io`].
pub fn vault_of(root: &Root) -> Result<Vault> {
    Vault::of_store(&*root.dir, &root.path)
}
