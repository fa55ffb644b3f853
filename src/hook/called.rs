//! That a hook was called: a hook whose program is missing is passed over without a word, and only this
//! tells.

use serde::{Deserialize, Serialize};

use super::{About, Caller, Stage};
use crate::report::journal::Decision;
use crate::state::StateDir;
use crate::sys::process;

/// One file for each stage and engine, `STAGE.ENGINE.json`, and the last `refused.json` and `audit.json`.
const DIR: StateDir = StateDir::Hooks;
const MAX_NOTE: u64 = 64 << 10;
/// How CRI-O calls itself in `io.container.manager`.
pub(super) const CRI_O: &str = "cri-o";
/// What all others are taken for.
const PODMAN: &str = "podman";

/// The last call of a hook since the host was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// When, in seconds since 1970.
    pub time: i64,
    /// For which container.
    pub container: String,
    /// Whose container it is, as its annotations say; nothing where they do not.
    #[serde(default)]
    pub manager: String,
    /// `allowed`, `refused`, `audit` or `off`.
    pub decision: String,
    /// The ID of the case, where one was refused.
    pub case: String,
    /// What the journal was told.
    pub message: String,
}

/// Notes the call. That it cannot be noted is no reason to refuse, nor to allow.
pub(super) fn note(stage: Stage, about: &About, decision: Decision, case: &str, message: &str) {
    let called = Called {
        time: process::now(),
        container: about.container.clone(),
        manager: about.manager.clone(),
        decision: decision.word().to_owned(),
        case: case.to_owned(),
        message: message.to_owned(),
    };
    let written = DIR.make().and_then(|dir| {
        let text = serde_json::to_vec(&called)?;
        // One engine's calls say nothing of another's.
        let engine = if called.manager == CRI_O { CRI_O } else { PODMAN };
        dir.write(&format!("{}.{engine}.json", stage.name()), &text)?;
        match decision {
            // What people ask about is kept until the next of its kind.
            Decision::Refused | Decision::Audit => dir.write(&format!("{}.json", decision.word()), &text),
            Decision::Allowed | Decision::Off => Ok(()),
        }
    });
    if let Err(e) = written {
        log::debug!("{DIR}: {e}");
    }
}

/// The last call of the hook by this engine, where there was one.
pub fn last_call(stage: Stage, caller: Caller) -> Option<Called> {
    let engine = if caller == Caller::CriO { CRI_O } else { PODMAN };
    read(&format!("{}.{engine}", stage.name()))
}

/// The last call of any hook that was refused, or that `audit` let pass.
pub fn last_of(decision: Decision) -> Option<Called> {
    read(decision.word())
}

fn read(name: &str) -> Option<Called> {
    let note = DIR.open().ok()??.read(&format!("{name}.json"), MAX_NOTE).ok()??;
    serde_json::from_slice(&note).ok()
}

/// Whether a hook is really called, as far as that can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// It was, and no container of podman runs that was started later.
    Called(Called),
    /// A container of podman runs that was started later, so many seconds; it was never called, or not then.
    NotCalled(i64),
    /// Neither was it called nor does a container of podman run.
    Unknown,
}

/// How long after its monitor was started a container's hooks may be called, and the other way round.
const TOLERANCE: i64 = 15;

/// Compares the last call of a hook with the containers of podman that run.
pub fn since(stage: Stage) -> Since {
    let newest = process::started("conmon", "libpod");
    match (last_call(stage, Caller::Podman), newest) {
        (Some(called), Some(newest)) if newest > called.time + TOLERANCE => Since::NotCalled(newest - called.time),
        (Some(called), _) => Since::Called(called),
        // It may be about to be called.
        (None, Some(newest)) if process::now() > newest + TOLERANCE => Since::NotCalled(process::now() - newest),
        (None, _) => Since::Unknown,
    }
}
