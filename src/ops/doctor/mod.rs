//! What this host can enforce, and what it lacks.

mod hooks;
mod kernel;
mod podman;
mod runtime;
mod storage;

use super::Context;
use crate::identify::Configured;
use crate::report::{Case, Result};

pub use storage::vault;

/// What was found of a host.
#[derive(Debug)]
pub struct Diagnosis {
    /// Everything that was looked at.
    pub checks: Vec<Check>,
    /// The container store, as it is configured.
    pub store: Result<Configured>,
}

impl Diagnosis {
    /// Whether sealed images can be enforced.
    pub fn enforces(&self) -> bool {
        self.checks.iter().all(|c| c.state != State::Missing)
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it is there.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What can be done; empty where there is nothing to do, or nothing general to say.
    pub remedy: String,
}

/// Whether something is there, and whether it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There.
    Ok,
    /// Missing, and sealed mounts work without it.
    Optional,
    /// Missing, and no sealed mount is possible.
    Missing,
}

impl State {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Optional => "optional",
            Self::Missing => "missing",
        }
    }
}

/// Looks at this host.
pub fn examine(context: &Context) -> Diagnosis {
    let own = [
        kernel::root(),
        kernel::kernel(),
        kernel::erofs(),
        kernel::overlay(),
        kernel::filesystem(context),
        kernel::signatures(),
        kernel::keys(),
        kernel::required(),
    ];
    let (store, configured) = storage::look();
    let vault = kernel::proof(context).into_iter().chain(kernel::objects(context));
    let podman = [podman::policy(), podman::podman(), podman::restore()].into_iter().chain(hooks::of_podman());
    let callers = podman.chain(runtime::checks()).chain([skopeo(context)]);
    Diagnosis { checks: own.into_iter().chain(vault).chain([store]).chain(callers).collect(), store: configured }
}

fn check(name: &'static str, state: State, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name, state, found: found.into(), remedy: remedy.into() }
}

/// What registries are asked by.
fn skopeo(context: &Context) -> Check {
    const NAME: &str = "skopeo, for registries";
    match context.session().and_then(|session| session.protocol()) {
        Ok(version) => check(NAME, State::Ok, format!("proxy protocol {version}"), ""),
        Err(refusal) => check(NAME, State::Optional, refusal.detail(), Case::C16Skopeo.remedy()),
    }
}
