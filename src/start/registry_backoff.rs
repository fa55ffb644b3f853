//! Registries that did not answer, and repositories about which they said nothing of use: for a while no start asks them
//! again, even though each of these starts may fail for it. What a registry says about one repository is held against no
//! other: whoever may write to one decides much of it. A pull shows that a registry answers again, and any other change
//! of the store's images is taken for one.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::BlobDigest;
use crate::error::{Case, Refusal};
use crate::fetch::Contact;
use crate::oci::Repository;
use crate::state::{Notes, StateDir};
use crate::sys::process;

/// Room for a few words.
const MAX_NOTE: u64 = 16 << 10;

#[derive(Serialize, Deserialize)]
struct BackoffNote {
    /// The registry's host, or the repository.
    place: String,
    /// In seconds since 1970.
    at: i64,
    /// What went wrong.
    why: String,
}

/// What is known of silent registries, for the images of one store.
pub(super) struct SilentRegistries {
    dir: Option<Notes>,
    retry: Duration,
    /// When the store's images were changed last.
    changed: i64,
}

impl SilentRegistries {
    pub(super) fn of(store: &Path, retry: Duration) -> Self {
        Self { dir: StateDir::Silent.make().ok(), ..Self::looked_at(store, retry) }
    }

    /// Opens the notes for callers that write none.
    pub(super) fn looked_at(store: &Path, retry: Duration) -> Self {
        let changed = rustix::fs::stat(store.join("overlay-images/images.json")).map_or(0, |stat| stat.st_mtime);
        Self { dir: StateDir::Silent.open().ok().flatten(), retry, changed }
    }

    /// Returns why `repository` is not to be asked about now.
    pub(super) fn check(&self, repository: &Repository) -> Option<Refusal> {
        self.checked(repository.host(), "it did not answer").or_else(|| {
            let name = repository.to_string();
            self.checked(&name, "what it answered was of no use")
        })
    }

    fn checked(&self, place: &str, what: &str) -> Option<Refusal> {
        let text = self.dir.as_ref()?.read(&name(place), MAX_NOTE).ok()??;
        let note: BackoffNote = serde_json::from_slice(&text).ok()?;
        let ago = process::now() - note.at;
        let retry = i64::try_from(self.retry.as_secs()).unwrap_or(i64::MAX);
        // If the images were changed in the same second, nobody knows which came first.
        let counts = (0..retry).contains(&ago) && self.changed < note.at && note.place == place;
        counts.then(|| {
            let why = format!("{what} {ago} s ago, and is asked again in {} s: {}", retry - ago, note.why);
            Refusal::new(Case::C17Network, place, why)
        })
    }

    /// Remembers why asking about `repository` brought nothing, if that can take as long again: for the whole registry if
    /// it answered nothing at all.
    pub(super) fn note(&self, repository: &Repository, contact: Contact, refusal: &Refusal) {
        let Some(dir) = self.dir.as_ref().filter(|_| matches!(refusal.case(), Case::C03Slow | Case::C17Network)) else {
            return;
        };
        let place = match contact {
            Contact::NotAsked => return,
            Contact::Silent => repository.host().to_owned(),
            Contact::Answered => repository.to_string(),
        };
        let file = name(&place);
        let note = BackoffNote { place, at: process::now(), why: refusal.detail().to_owned() };
        let written = serde_json::to_vec(&note).map_err(std::io::Error::from);
        if let Err(e) = written.and_then(|text| dir.write(&file, &text)) {
            log::debug!("{}: {e}", StateDir::Silent);
        }
    }

    /// Forgets what was noted: the registry has answered about `repository`.
    pub(super) fn forget(&self, repository: &Repository) {
        for place in [repository.host(), &repository.to_string()] {
            let _ = self.dir.as_ref().map(|dir| dir.remove(&name(place)));
        }
    }
}

fn name(place: &str) -> String {
    BlobDigest::of(place.as_bytes()).hex()[..32].to_owned()
}
