//! Notes that a hook was called: a hook whose program is missing is silently skipped, and nothing else reveals it.

use serde::{Deserialize, Serialize};

use super::{Caller, JournalSubject, Stage};
use crate::error::journal::JournalDecision;
use crate::state::StateDir;
use crate::sys::process;

/// One file for each stage and engine, `STAGE.ENGINE.json`, and the last `refused.json` and `audit.json`.
const DIR: StateDir = StateDir::Hooks;
const MAX_NOTE: u64 = 64 << 10;
/// How CRI-O calls itself in `io.container.manager`.
pub(super) const CRI_O: &str = "cri-o";
/// What every other manager is taken for.
const PODMAN: &str = "podman";

/// The last call of a hook since the host was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCall {
    /// When, in seconds since 1970.
    pub time: i64,
    /// For which container.
    pub container: String,
    /// What it is called; empty if that is not known.
    #[serde(default)]
    pub name: String,
    /// Whose container it is, as its annotations say; empty if they do not.
    #[serde(default)]
    pub manager: String,
    /// `allowed`, `refused`, `audit` or `off`.
    pub decision: String,
    /// The ID of the case, if it was refused.
    pub case: String,
    /// What the journal was told.
    pub message: String,
}

/// Notes the call. If it cannot be noted, that is no reason to refuse, nor to allow.
pub(super) fn note(stage: Stage, about: &JournalSubject, decision: JournalDecision, case: &str, message: &str) {
    let called = LastCall {
        time: process::now(),
        container: about.container.clone(),
        name: about.name.clone(),
        manager: about.manager.clone(),
        decision: decision.word().to_owned(),
        case: case.to_owned(),
        message: message.to_owned(),
    };
    let written = DIR.make().and_then(|dir| {
        let text = serde_json::to_vec(&called)?;
        // The calls of one engine say nothing about another's.
        let engine = if called.manager == CRI_O { CRI_O } else { PODMAN };
        dir.write(&format!("{}.{engine}.json", stage.name()), &text)?;
        match decision {
            // The calls that people ask about are kept until the next of the same kind.
            JournalDecision::Refused | JournalDecision::Audit => dir.write(&format!("{}.json", decision.word()), &text),
            JournalDecision::Allowed | JournalDecision::Off => Ok(()),
        }
    });
    if let Err(e) = written {
        log::debug!("{DIR}: {e}");
    }
}

/// Returns the last call of the hook by this engine, if there was one.
pub fn last_call(stage: Stage, caller: Caller) -> Option<LastCall> {
    let engine = if caller == Caller::CriO { CRI_O } else { PODMAN };
    read(&format!("{}.{engine}", stage.name()))
}

/// Returns the last call of any hook that was refused, or that `audit` let pass.
pub fn last_of(decision: JournalDecision) -> Option<LastCall> {
    read(decision.word())
}

fn read(name: &str) -> Option<LastCall> {
    let note = DIR.open().ok()??.read(&format!("{name}.json"), MAX_NOTE).ok()??;
    serde_json::from_slice(&note).ok()
}

/// Whether a hook is really called, as far as that can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallStatus {
    /// It was, and no running container of podman was started later.
    Called(LastCall),
    /// A running container of podman was started later, by so many seconds, and the hook was not called for it.
    NotCalled(i64),
    /// It was not called, and no container of podman is running.
    Unknown,
}

/// By how many seconds a container's hooks may be called before or after its monitor was started.
const TOLERANCE: i64 = 15;

/// Compares the last call of a hook with the running containers of podman.
pub fn since(stage: Stage) -> CallStatus {
    let newest = process::started("conmon", "libpod");
    match (last_call(stage, Caller::Podman), newest) {
        (Some(called), Some(newest)) if newest > called.time + TOLERANCE => CallStatus::NotCalled(newest - called.time),
        (Some(called), _) => CallStatus::Called(called),
        // It may be about to be called.
        (None, Some(newest)) if process::now() > newest + TOLERANCE => CallStatus::NotCalled(process::now() - newest),
        (None, _) => CallStatus::Unknown,
    }
}
