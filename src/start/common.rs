//! What is found out about an image or layers once per host, and where that is kept.

use std::path::Path;

use crate::container_store::Root;
use crate::digest::Algorithm;
use crate::error::journal::{self, JournalDecision};
use crate::error::{Refusal, Result};
use crate::mount::{MountKind, Record, WouldRefuse};
use crate::policy::{self, Verity};
use crate::protocol::MountCall;
use crate::state::{Event, append_event};
use crate::vault::Vault;

/// The algorithm for images without a seal that would name one: the same as `layerseal sign` uses.
pub(super) const UNSIGNED: Algorithm = Algorithm::Sha512;

/// The algorithms with which EROFS images may have been made before.
pub(super) const ALGORITHMS: [Algorithm; 2] = [UNSIGNED, Algorithm::Sha256];

/// The name of the mount program in the journal, in which the hooks go by their stages.
pub(super) const STAGE: &str = "mount";

/// Reports what was mounted, and what `audit` let pass, when no hook does.
pub(super) fn tell(record: &Record) {
    let image =
        record.names.first().cloned().or_else(|| record.image.map(|digest| digest.to_string())).unwrap_or_default();
    let container = record.container.as_ref().map(ToString::to_string).unwrap_or_default();
    let event = Event { stage: STAGE.to_owned(), image, container, ..Event::default() };
    let decision = match (&record.would_refuse, record.kind) {
        (Some(_), _) | (None, MountKind::Audit) => JournalDecision::Audit,
        (None, MountKind::Sealed) => JournalDecision::Allowed,
        (None, MountKind::Off | MountKind::Volume) => JournalDecision::Off,
    };
    let event = Event { decision: decision.word().to_owned(), ..event };
    let Some(WouldRefuse { case, subject, message, remedy }) = record.would_refuse.clone() else {
        return append_event(event);
    };
    let message = format!("audit: would refuse: {message}");
    let target = record.target.display().to_string();
    let fields = [
        ("CASE", case.as_str()),
        ("SUBJECT", &subject),
        ("REMEDY", &remedy),
        ("IMAGE", &event.image),
        ("CONTAINER", &event.container),
        ("STAGE", STAGE),
        ("TARGET", &target),
    ];
    journal::record(decision, &message, &fields);
    append_event(Event { case, subject, message, remedy, ..event });
}

/// Tells the journal what `audit` let pass for a user's container; users can write nothing else.
pub(super) fn audit(refusal: &Refusal, call: &MountCall) {
    let target = call.target.display().to_string();
    let fields = [
        ("CASE", refusal.case().id()),
        ("SUBJECT", &refusal.subject()),
        ("REMEDY", refusal.case().remedy()),
        ("STAGE", STAGE),
        ("TARGET", &target),
    ];
    journal::record(JournalDecision::Audit, &format!("audit: would refuse: {refusal}"), &fields);
}

/// Returns what is asked of the kernel: what the policy says, or more if the caller asks for it.
pub(super) fn verity_mode(decision: &policy::Decision, call: &MountCall) -> Verity {
    if call.requests.verity { Verity::Require } else { decision.verity }
}

/// Opens the vault for a store, if there is one: for callers that write nothing.
///
/// # Errors
/// [`crate::error::Case::Io`].
pub(super) fn vault_if_any(elsewhere: Option<&Path>, root: &Root) -> Result<Option<Vault>> {
    match elsewhere {
        Some(dir) if dir.join("objects").is_dir() => Vault::open(dir).map(Some),
        Some(_) => Ok(None),
        None => Vault::of_store_if_any(&*root.dir, &root.path),
    }
}

/// Opens or makes the vault for a store: at `elsewhere`, if the policy names a place
/// ([`crate::policy::Policy::vault`]), or the store's own, through a private mount.
///
/// # Errors
/// The errors of [`Vault::elsewhere`] and [`Vault::of_store`].
pub fn vault_of(elsewhere: Option<&Path>, root: &Root) -> Result<Vault> {
    match elsewhere {
        Some(dir) => Vault::elsewhere(dir, &root.path),
        None => Vault::of_store(&*root.dir, &root.path),
    }
}
