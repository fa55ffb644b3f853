//! What this host can enforce, and what it lacks.

mod database;
mod hooks;
mod kernel;
mod links;
mod podman;
mod removals;
mod runtime;
mod storage;
mod users;

use super::Context;
use crate::container_store::Configured;
use crate::error::{Case, Result};
use crate::policy::{Directories, Policy, Verity};
use crate::sys::process;

pub use storage::vault;

/// What was found out about a host.
#[derive(Debug)]
pub struct Diagnosis {
    /// Everything that was checked.
    pub checks: Vec<HostCheck>,
    /// The container store, as it is configured.
    pub store: Result<Configured>,
}

impl Diagnosis {
    /// Returns whether sealed images can be enforced: for the caller, who must be root.
    pub fn enforces(&self) -> bool {
        !self.has(CheckState::Missing) && !self.has(CheckState::Unknown)
    }

    /// Returns whether anything was found to be in this state.
    pub fn has(&self, state: CheckState) -> bool {
        self.checks.iter().any(|c| c.state == state)
    }
}

/// One thing that was checked.
#[derive(Clone, Debug)]
pub struct HostCheck {
    /// What was checked.
    pub name: &'static str,
    /// Whether it is there.
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// What can be done; empty if there is nothing to do, or nothing general to say.
    pub remedy: String,
}

/// Whether something is there, and whether it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// It is there.
    Ok,
    /// Missing, and sealed mounts work without it.
    Optional,
    /// Missing, and the policy does without it: what runs was verified, but the kernel does not check what is read.
    Weak,
    /// Only root can tell.
    Unknown,
    /// Missing, and no sealed mount is possible.
    Missing,
}

impl CheckState {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Optional => "optional",
            Self::Weak => "weak",
            Self::Unknown => "unknown",
            Self::Missing => "missing",
        }
    }
}

/// Examines this host.
pub fn examine(context: &Context) -> Diagnosis {
    let root = process::is_real_root();
    // If the policy does without fs-verity, a host without it is as it should be.
    let verity = Policy::load(&Directories::system()).map_or(Verity::Require, |policy| policy.default_verity());
    let (erofs, overlay) = (kernel::erofs(), kernel::overlay());
    let filesystem = kernel::filesystem(context, verity);
    let needs_root = [erofs, overlay, storage::place(context), filesystem, kernel::keys()];
    let (store, configured) = storage::look();
    let vault = kernel::proof(context, verity).into_iter().chain(kernel::objects(context));
    let podman = [podman::policy(), podman::podman(), podman::restore()].into_iter().chain(hooks::of_podman());
    let known = configured.as_ref().ok().filter(|_| root);
    let (links, removals) = (known.and_then(links::look), known.and_then(removals::look));
    // podman is not asked where that would have it do what these are about.
    let ask = links.is_none() && removals.is_none();
    let (run_root, database) = (known.and_then(storage::run_root), known.and_then(|found| database::look(found, ask)));
    let of_store = [store].into_iter().chain(run_root).chain(database).chain(links).chain(removals);
    let needs_root = needs_root.into_iter().chain(vault).chain(of_store).chain(podman).chain(runtime::checks());
    // What a user reads who may not read everything is no advice: it would be about the wrong store, or about nothing.
    let as_root = |check: HostCheck| match check.state {
        CheckState::Ok => check,
        _ if root => check,
        _ => {
            HostCheck { state: CheckState::Unknown, found: "only root can tell".into(), remedy: String::new(), ..check }
        }
    };
    let for_all = [kernel::root(), kernel::kernel(), kernel::signatures(), kernel::required()];
    let checks =
        for_all.into_iter().chain(needs_root.map(as_root)).chain(users::service()).chain([skopeo(context)]).collect();
    Diagnosis { checks, store: configured }
}

fn check(name: &'static str, state: CheckState, found: impl Into<String>, remedy: impl Into<String>) -> HostCheck {
    HostCheck { name, state, found: found.into(), remedy: remedy.into() }
}

/// Checks the program through which registries are asked.
fn skopeo(context: &Context) -> HostCheck {
    const NAME: &str = "skopeo, for registries";
    match context.session().and_then(|session| session.protocol()) {
        Ok(version) => check(NAME, CheckState::Ok, format!("proxy protocol {version}"), ""),
        Err(refusal) => check(NAME, CheckState::Optional, refusal.detail(), Case::C16Skopeo.remedy()),
    }
}
