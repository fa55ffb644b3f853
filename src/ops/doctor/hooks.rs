//! Whether hooks are installed and called.

use std::path::Path;

use super::{Check, State, check};
use crate::hook::{self, Caller, Found, Since, Stage};
use crate::identify::mount_program;
use crate::sys::process;

/// Whether podman is configured to have layerseal as its runtime.
pub(super) fn podman_has_it() -> bool {
    hook::podman_runtime(Path::new("/")).is_some_and(|path| path.ends_with("layerseal-runtime"))
}

/// What keeps containers from starting on a root that nobody verified.
pub(super) fn of_podman() -> Vec<Check> {
    vec![
        one("podman's hook createRuntime", Caller::Podman, Stage::CreateRuntime),
        one("podman's hook precreate", Caller::Podman, Stage::Precreate),
    ]
}

pub(super) fn one(name: &'static str, caller: Caller, stage: Stage) -> Check {
    const REMEDY: &str =
        "`make install` puts program, hooks and their configuration in their places, see hooks/README.md";
    match (hook::installed(Path::new("/"), caller, stage), stage) {
        (Found::Broken(why), _) => check(name, State::Missing, why, REMEDY),
        (Found::Nowhere, Stage::Precreate) if mount_program().is_some_and(|p| p.ends_with("/layerseal")) => {
            check(name, State::Ok, "none, and not needed with the mount_program", "")
        }
        // What podman keeps of a container says which runtime it was made with.
        (Found::Nowhere, _) if caller == Caller::Podman && podman_has_it() => check(
            name,
            State::Optional,
            "none: a container that was made with another runtime than layerseal starts with that one, unseen",
            REMEDY,
        ),
        (Found::Nowhere, _) => {
            check(name, State::Optional, "none: containers start on roots that nobody verified", REMEDY)
        }
        // Only podman's containers can be told from others from here.
        (Found::Ready(file), _) if caller == Caller::Podman => called(name, stage, &file),
        (Found::Ready(file), _) => {
            let called = hook::last_call(stage, caller).map(|called| process::now() - called.time);
            let ago =
                called.map_or("not called since the host was started".into(), |ago| format!("called {ago} s ago"));
            check(name, State::Ok, format!("{}; {ago}", file.display()), "")
        }
    }
}

fn called(name: &'static str, stage: Stage, file: &Path) -> Check {
    let shown = file.display();
    match hook::since(stage) {
        Since::Called(called) => {
            let ago = process::now() - called.time;
            let container = called.container.get(..12).unwrap_or(&called.container);
            check(name, State::Ok, format!("{shown}; called {ago} s ago for {container}: {}", called.decision), "")
        }
        Since::NotCalled(seconds) => check(
            name,
            State::Missing,
            format!("{shown}, but a container of podman runs for which it was not called, {seconds} s later"),
            "a container that was started before the hook was there is stopped and started again; \
             look for hooks_dir in containers.conf and for --hooks-dir",
        ),
        Since::Unknown => check(
            name,
            State::Ok,
            format!("{shown}; not called since the host was started"),
            "start a container, and look again",
        ),
    }
}
