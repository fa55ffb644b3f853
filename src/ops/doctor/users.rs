//! Whether a user's containers are started from sealed images.

use super::{CheckState, HostCheck, check};
use crate::error::Case;
use crate::policy::{Directories, Mode, Policy};
use crate::start::mounts_of_user;
use crate::sys::process;

/// Checks the service, for a user who asks: it mounts what users may not. Root needs none.
pub(super) fn service() -> Option<HostCheck> {
    const NAME: &str = "service for users";
    if process::is_real_root() {
        return None;
    }
    let mode = match Policy::rootless(&Directories::system()) {
        Ok(Mode::Off) => {
            let found = "not asked: [rootless] is off, and containers of users run as if layerseal were not installed";
            return Some(check(NAME, CheckState::Optional, found, ""));
        }
        Ok(mode) => mode,
        Err(refusal) => return Some(check(NAME, CheckState::Missing, refusal.to_string(), "")),
    };
    let (state, without) = match mode {
        Mode::Enforce => (CheckState::Missing, "no container of a user starts"),
        Mode::Audit | Mode::Off => {
            (CheckState::Optional, "containers of users are mounted by podman or fuse-overlayfs")
        }
    };
    Some(match mounts_of_user() {
        Ok(_) => check(NAME, CheckState::Ok, "it answers", ""),
        Err(refusal) => {
            let found = format!("{}: {}; {without}", refusal.subject(), refusal.detail());
            check(NAME, state, found, Case::Rootless.remedy())
        }
    })
}
