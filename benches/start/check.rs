//! What `layerseal check --all` costs on a host with many images, each sealed under its own name.

use std::process::{Command, Stdio};

use measure::{Line, Usage, done, usage};
use support::common::{Entry, Layer, Layout};
use support::measure;

use super::{HOOKS, Place};

/// What is run again on what is known.
const RUNS: usize = 10;

pub fn check(place: &Place, images: usize) {
    let store = place.store(HOOKS);
    let vault = place.root(HOOKS).join("g/layerseal");
    let policy = place.path("policy.json").display().to_string();
    let environment = |command: &mut Command| {
        store.environment(command.stdout(Stdio::null()));
    };
    for number in 0..images {
        let name = format!("registry.example.com/acme/app-{number}");
        let path = place.path("image");
        // Each has a layer of its own, and one that all have.
        let common: Vec<Entry> = ["bin", "etc", "usr", "usr/share"].map(Entry::dir).into();
        let own = (0..20).map(|n| Entry::file(&format!("usr/share/file-{n}"), format!("{number} {n}").repeat(64)));
        let own: Vec<Entry> = [Entry::dir("usr"), Entry::dir("usr/share")].into_iter().chain(own).collect();
        Layout::new(&path, &[Layer::new(&common), Layer::new(&own)]);
        place.sign(&path, &name, "bench");
        let oci = format!("oci:{}", path.display());
        let pull = ["pull", "-q", "--signature-policy", &policy, &format!("{oci}:latest")];
        let pulled = store.podman(&pull).stdout(Stdio::piped()).output().unwrap();
        assert!(pulled.status.success());
        let id = String::from_utf8(pulled.stdout).unwrap().trim().to_owned();
        done(&mut store.podman(&["tag", &id, &name]));
        // The name of the layout, which no seal is for.
        done(&mut store.podman(&["untag", &id, &format!("localhost{}:latest", path.display())]));
        let mut prepare = Command::new(Place::layerseal());
        prepare.arg("--vault").arg(&vault).args(["prepare", &name, "--seal", &oci]);
        environment(&mut prepare);
        done(&mut prepare);
        std::fs::remove_dir_all(&path).unwrap();
    }
    let run = || -> Usage {
        let mut check = Command::new(Place::layerseal());
        check.args(["check", "--all"]);
        environment(&mut check);
        usage(&mut check)
    };
    run();
    let runs: Vec<Usage> = (0..RUNS).map(|_| run()).collect();
    let case = format!("check --all, {images} images");
    Line { table: "check", case: &case, tool: "layerseal, warm" }.record(&runs);
}
