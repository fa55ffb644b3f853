//! What podman is configured to do, and what its containers go by.

use std::path::Path;

use super::{Check, State, check, hooks};
use crate::hook::{self, Caller, Found, Stage};
use crate::identify::{graph_root, mount_program};
use crate::policy::{Directories, Policy};
use crate::report::Case;

/// What starts of containers go by; `layerseal mount` does without.
pub(super) fn policy() -> Check {
    const NAME: &str = "policy";
    match Policy::load(&Directories::system()) {
        Ok(policy) => {
            let found = format!("by default {}", policy.default_mode());
            match policy.lenient() {
                rules if rules.is_empty() => check(NAME, State::Ok, found, ""),
                rules => check(
                    NAME,
                    State::Optional,
                    format!("{found}, and less than for some names: {}", rules.join(", ")),
                    "names are bound by nothing: who can write to the disk gives an image one that no rule is for; \
                     let [default] ask for as much as any rule",
                ),
            }
        }
        Err(refusal) => {
            // Where a hook or the mount program goes by it, no container starts.
            let asked = mount_program().is_some_and(|p| p.ends_with("/layerseal"))
                || matches!(hook::installed(Path::new("/"), Caller::Podman, Stage::CreateRuntime), Found::Ready(_));
            let (state, so) = if asked { (State::Missing, "; no container starts") } else { (State::Optional, "") };
            let found = format!("{}: {}{so}", refusal.subject(), refusal.detail());
            check(NAME, state, found, Case::F03Policy.remedy())
        }
    }
}

pub(super) fn podman() -> Check {
    const NAME: &str = "podman's mount_program";
    let own = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/layerseal".into());
    let remedy = format!(
        "for podman take the hooks (`make install`); or, in /etc/containers/storage.conf, driver = \"overlay\" in \
         [storage] and mount_program = \"{}\" in [storage.options.overlay]",
        own.display()
    );
    match mount_program() {
        Some(program) if program.ends_with("/layerseal") && Path::new(&program).exists() => {
            check(NAME, State::Ok, program, "")
        }
        Some(program) => check(NAME, State::Optional, program, remedy),
        None if had_mount_program() => check(
            NAME,
            State::Missing,
            "none now, but there was one once: podman goes on with fuse-overlayfs",
            "remove overlay/.has-mount-program from the graph root",
        ),
        None => match hook::installed(Path::new("/"), Caller::Podman, Stage::Precreate) {
            Found::Ready(_) => check(NAME, State::Ok, "none: the hook precreate replaces podman's own mounts", ""),
            _ if hooks::podman_has_it() => check(NAME, State::Ok, "none: the runtime replaces podman's own mounts", ""),
            _ => check(NAME, State::Optional, "none: podman mounts without us", remedy),
        },
    }
}

/// `podman container restore`: podman calls no precreate for it, and crun no hook at all, so that a checkpoint
/// comes back on podman's own overlay, with whatever its layers hold by then.
pub(super) fn restore() -> Check {
    const NAME: &str = "podman container restore";
    // Where podman looks for it (containers-common, containers.conf.5, "runtimes").
    const PLACES: [&str; 6] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/sbin", "/bin"];
    if mount_program().is_some_and(|p| p.ends_with("/layerseal")) {
        return check(NAME, State::Ok, "the mount_program sees what is restored", "");
    }
    if hooks::podman_has_it() {
        return check(NAME, State::Ok, "layerseal is the runtime, and sees what is restored", "");
    }
    let crun = PLACES.iter().map(|place| Path::new(place).join("crun")).find(|path| path.exists());
    let version = crun.and_then(|crun| std::process::Command::new(crun).arg("--version").output().ok());
    let criu = version.is_some_and(|v| String::from_utf8_lossy(&v.stdout).split_whitespace().any(|w| w == "+CRIU"));
    match criu {
        true => check(
            NAME,
            State::Optional,
            "crun says +CRIU: it restores checkpoints, and calls no hook then",
            "what comes back from a checkpoint is not looked at; have layerseal as mount_program, or no checkpoints",
        ),
        false => check(NAME, State::Ok, "crun restores nothing", ""),
    }
}

/// Whether containers-storage has noted a mount program, which it does not forget (overlay.go,
/// `SupportsNativeOverlay`): without one it takes fuse-overlayfs where that is installed.
fn had_mount_program() -> bool {
    let note = graph_root().map(|root| std::fs::read_to_string(root.join("overlay/.has-mount-program")));
    note.is_ok_and(|text| text.is_ok_and(|text| text.trim() == "true"))
}
