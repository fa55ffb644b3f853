//! What podman is configured to do, and which policy its containers start by.

use std::path::Path;

use super::{CheckState, HostCheck, check, hooks};
use crate::container_store::mount_program;
use crate::error::Case;
use crate::hook::{self, Caller, Installation, Stage};
use crate::policy::{Directories, Policy};

/// Checks the policy, by which containers are started; `layerseal mount` does without.
pub(super) fn policy() -> HostCheck {
    const NAME: &str = "policy";
    match Policy::load(&Directories::system()) {
        Ok(policy) => {
            let found = format!("by default {}", policy.default_mode());
            match policy.weaker_defaults() {
                rules if rules.is_empty() => check(NAME, CheckState::Ok, found, ""),
                rules => check(
                    NAME,
                    CheckState::Optional,
                    format!("{found}, and less than for some names: {}", rules.join(", ")),
                    "names are bound by nothing: who can write to the disk gives an image one that no rule is for; \
                     let [default] ask for as much as any rule",
                ),
            }
        }
        Err(refusal) => {
            // If a hook or the mount program needs it, no container starts.
            let asked = mount_program().is_some_and(|p| p.ends_with("/layerseal"))
                || matches!(
                    hook::installed(Path::new("/"), Caller::Podman, Stage::CreateRuntime),
                    Installation::Ready(_)
                );
            let (state, so) =
                if asked { (CheckState::Missing, "; no container starts") } else { (CheckState::Optional, "") };
            let found = format!("{}: {}{so}", refusal.subject(), refusal.detail());
            check(NAME, state, found, Case::F03Policy.remedy())
        }
    }
}

pub(super) fn podman() -> HostCheck {
    const NAME: &str = "podman's mount_program";
    let own = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/layerseal".into());
    let remedy = format!(
        "for podman take the hooks (`make install`); or, in /etc/containers/storage.conf, driver = \"overlay\" in \
         [storage] and mount_program = \"{}\" in [storage.options.overlay]",
        own.display()
    );
    match mount_program() {
        Some(program) if program.ends_with("/layerseal") && Path::new(&program).exists() => {
            check(NAME, CheckState::Ok, program, "")
        }
        Some(program) => check(NAME, CheckState::Optional, program, remedy),
        None if hook::had_mount_program() => check(
            NAME,
            CheckState::Missing,
            "none now, but there was one once: podman goes on with fuse-overlayfs",
            "remove overlay/.has-mount-program from the graph root; if it comes back, remove the images that were pulled \
             meanwhile, and pull them again",
        ),
        None => match hook::installed(Path::new("/"), Caller::Podman, Stage::Precreate) {
            Installation::Ready(_) => {
                check(NAME, CheckState::Ok, "none: the hook precreate replaces podman's own mounts", "")
            }
            _ if hooks::podman_has_it() => {
                check(NAME, CheckState::Ok, "none: the runtime replaces podman's own mounts", "")
            }
            _ => check(NAME, CheckState::Optional, "none: podman mounts without us", remedy),
        },
    }
}

/// Checks `podman container restore`: podman calls no precreate for it, and crun no hook at all, so that a checkpoint
/// is restored on podman's own overlay, with whatever its layers hold by then.
pub(super) fn restore() -> HostCheck {
    const NAME: &str = "podman container restore";
    // Where podman looks for it (containers-common, containers.conf.5, "runtimes").
    const PLACES: [&str; 6] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/sbin", "/bin"];
    if mount_program().is_some_and(|p| p.ends_with("/layerseal")) {
        return check(NAME, CheckState::Ok, "the mount_program sees what is restored", "");
    }
    if hooks::podman_has_it() {
        return check(NAME, CheckState::Ok, "layerseal is the runtime, and sees what is restored", "");
    }
    let crun = PLACES.iter().map(|place| Path::new(place).join("crun")).find(|path| path.exists());
    let version = crun.and_then(|crun| std::process::Command::new(crun).arg("--version").output().ok());
    let criu = version.is_some_and(|v| String::from_utf8_lossy(&v.stdout).split_whitespace().any(|w| w == "+CRIU"));
    match criu {
        true => check(
            NAME,
            CheckState::Optional,
            "crun says +CRIU: it restores checkpoints, and calls no hook then",
            "what comes back from a checkpoint is not looked at; have layerseal as mount_program, or no checkpoints",
        ),
        false => check(NAME, CheckState::Ok, "crun restores nothing", ""),
    }
}
