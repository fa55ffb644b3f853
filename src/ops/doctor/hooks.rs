//! Whether hooks are installed and called.

use std::path::Path;

use super::{CheckState, HostCheck, check};
use crate::container_store::mount_program;
use crate::hook::{self, CallStatus, Caller, Installation, Stage};
use crate::sys::process;

/// Returns whether podman is configured to use layerseal as its runtime.
pub(super) fn podman_has_it() -> bool {
    hook::podman_runtime(Path::new("/")).is_some_and(|path| path.ends_with("layerseal-runtime"))
}

/// Checks the hooks that keep containers from starting on a root that nobody verified.
pub(super) fn of_podman() -> Vec<HostCheck> {
    vec![
        one("podman's hook createRuntime", Caller::Podman, Stage::CreateRuntime),
        one("podman's hook precreate", Caller::Podman, Stage::Precreate),
    ]
}

pub(super) fn one(name: &'static str, caller: Caller, stage: Stage) -> HostCheck {
    const REMEDY: &str =
        "`make install` puts program, hooks and their configuration in their places, see hooks/README.md";
    match (hook::installed(Path::new("/"), caller, stage), stage) {
        (Installation::Broken(why), _) => check(name, CheckState::Missing, why, REMEDY),
        (Installation::NotInPod, Stage::Precreate) if mount_program().is_some_and(|p| p.ends_with("/layerseal")) => {
            check(name, CheckState::Ok, "none, and not needed with the mount_program", "")
        }
        // podman's record of a container says which runtime it was made with.
        (Installation::NotInPod, _) if caller == Caller::Podman && podman_has_it() => check(
            name,
            CheckState::Optional,
            "none: a container that was made with another runtime than layerseal starts with that one, unseen",
            REMEDY,
        ),
        (Installation::NotInPod, _) => {
            check(name, CheckState::Optional, "none: containers start on roots that nobody verified", REMEDY)
        }
        // Only root can read when it was called.
        (Installation::Ready(file), _) if !rustix::process::geteuid().is_root() => {
            check(name, CheckState::Ok, file.display().to_string(), "")
        }
        // Only podman's containers can be told apart from here.
        (Installation::Ready(file), _) if caller == Caller::Podman => called(name, stage, &file),
        (Installation::Ready(file), _) => {
            let called = hook::last_call(stage, caller).map(|called| process::now() - called.time);
            let ago =
                called.map_or("not called since the host was started".into(), |ago| format!("called {ago} s ago"));
            check(name, CheckState::Ok, format!("{}; {ago}", file.display()), "")
        }
    }
}

fn called(name: &'static str, stage: Stage, file: &Path) -> HostCheck {
    let shown = file.display();
    match hook::since(stage) {
        CallStatus::Called(called) => {
            let ago = process::now() - called.time;
            let container = called.container.get(..12).unwrap_or(&called.container);
            check(name, CheckState::Ok, format!("{shown}; called {ago} s ago for {container}: {}", called.decision), "")
        }
        CallStatus::NotCalled(seconds) => check(
            name,
            CheckState::Missing,
            format!("{shown}, but a container of podman runs for which it was not called, {seconds} s later"),
            "a container that was started before the hook was there is stopped and started again; \
             look for hooks_dir in containers.conf and for --hooks-dir",
        ),
        CallStatus::Unknown => check(
            name,
            CheckState::Ok,
            format!("{shown}; not called since the host was started"),
            "start a container, and look again",
        ),
    }
}
