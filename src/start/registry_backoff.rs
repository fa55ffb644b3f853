//! Registries that did not answer: for a while no start waits for them again, even though each of these starts may fail
//! for it. A pull shows that a registry answers again, and any other change of the store's images is taken for one.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::BlobDigest;
use crate::error::{Case, Refusal};
use crate::state::{Notes, StateDir};
use crate::sys::process;

/// Room for a few words.
const MAX_NOTE: u64 = 16 << 10;

#[derive(Serialize, Deserialize)]
struct BackoffNote {
    host: String,
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

    /// Returns why `host` is not to be asked now.
    pub(super) fn check(&self, host: &str) -> Option<Refusal> {
        let text = self.dir.as_ref()?.read(&name(host), MAX_NOTE).ok()??;
        let note: BackoffNote = serde_json::from_slice(&text).ok()?;
        let ago = process::now() - note.at;
        let retry = i64::try_from(self.retry.as_secs()).unwrap_or(i64::MAX);
        // If the images were changed in the same second, nobody knows which came first.
        let counts = (0..retry).contains(&ago) && self.changed < note.at && note.host == host;
        counts.then(|| {
            let why = format!("it did not answer {ago} s ago, and is asked again in {} s: {}", retry - ago, note.why);
            Refusal::new(Case::C17Network, host, why)
        })
    }

    /// Remembers that `host` did not answer, if that is what happened.
    pub(super) fn note(&self, host: &str, refusal: &Refusal) {
        let Some(dir) = self.dir.as_ref().filter(|_| matches!(refusal.case(), Case::C03Slow | Case::C17Network)) else {
            return;
        };
        let note = BackoffNote { host: host.to_owned(), at: process::now(), why: refusal.detail().to_owned() };
        let written = serde_json::to_vec(&note).map_err(std::io::Error::from);
        if let Err(e) = written.and_then(|text| dir.write(&name(host), &text)) {
            log::debug!("{}: {e}", StateDir::Silent);
        }
    }

    /// Forgets the note about `host`, which has answered.
    pub(super) fn forget(&self, host: &str) {
        let _ = self.dir.as_ref().map(|dir| dir.remove(&name(host)));
    }
}

fn name(host: &str) -> String {
    BlobDigest::of(host.as_bytes()).hex()[..32].to_owned()
}
