//! layerseal as the OCI runtime, in front of crun and runc: with podman's own overlays, and without hooks.

use std::process::Output;

use crate::guard::{NOT_SEALED, RUN, text};
use crate::image::{APP, FRESH};
use crate::log::compare_with;
use crate::podman::{Podman, Program, default_policy};
use crate::{life, many, ready, users};

const WRAPPED: [Program; 2] = [Program::Native, Program::Runtime];

#[test]
fn containers_of_the_runtime_run_as_with_native_overlay() {
    compare_with("runtime: run", WRAPPED, Podman::with_both, life::run);
}

#[test]
fn containers_of_the_runtime_live_as_with_native_overlay() {
    compare_with("runtime: life", WRAPPED, Podman::new, life::stay);
}

#[test]
fn containers_of_the_runtime_of_mapped_users_are_as_with_native_overlay() {
    compare_with("runtime: users", WRAPPED, Podman::new, users::mapped);
}

#[test]
fn containers_of_the_runtime_start_at_once_and_after_a_reboot_as_with_native_overlay() {
    compare_with("runtime: many", WRAPPED, Podman::with_both, many::at_once);
    compare_with("runtime: reboot", WRAPPED, Podman::new, many::reboot);
}

/// podman says what we said, and nothing of the container stays.
#[track_caller]
fn refused(podman: &Podman, case: &str, args: &[&str]) -> Output {
    let output = podman.run(args);
    let error = text(&output);
    assert!(matches!(output.status.code(), Some(125..=127)), "{:?}: {error}", output.status);
    let ours = error.lines().filter(|line| line.contains("layerseal: ") && line.contains(&format!("[R-{case}]")));
    assert_eq!(ours.count(), 1, "{error}");
    assert_eq!(podman.last("runtime"), ("refused".into(), case.into()), "{error}");
    println!("refused as it must be: {error}");
    podman.run(&["rm", "-fa", "-t", "0"]);
    let left: Vec<String> = podman.container_mounts().into_iter().filter(|m| m.ends_with("/merged")).collect();
    assert_eq!(left, [""; 0], "left behind by a refusal");
    output
}

#[test]
fn c07_the_runtime_refuses_what_nobody_sealed() {
    if !ready("runtime: refusals") {
        return;
    }
    let _ = NOT_SEALED;
    let podman = Podman::new(Program::Runtime);
    podman.starts(APP);
    assert_eq!(podman.last("runtime"), ("allowed".into(), String::new()));
    assert_eq!(podman.last("createRuntime"), ("allowed".into(), String::new()), "it was put into the configuration");
    refused(&podman, "C07", &["run", "--rm", FRESH, "true"]);
    podman.starts(APP);
    podman.policy(&default_policy().replace("enforce", "audit"));
    podman.ok(&["run", "--rm", FRESH, "true"]);
    assert_eq!(podman.last("runtime"), ("audit".into(), "C07".into()));
    podman.policy(&default_policy().replace("enforce", "off"));
    podman.ok(&["run", "--rm", FRESH, "true"]);
    assert_eq!(podman.last("runtime").0, "off");
    podman.policy(&default_policy());
    podman.ok(&["run", "-d", "--name", "c", APP, "sleep", "1000"]);
    podman.policy("nonsense");
    refused(&podman, "F03", &RUN);
    podman.policy(&default_policy());
}
