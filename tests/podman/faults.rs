//! The mount program dies in the middle of the first use of an image; and what a vault has lost is made again.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{self, walk};
use crate::image::APP;
use crate::podman::{Podman, Program, emulated, forget_use};
use crate::{ready, scratch};

/// System calls of a first use, and how many of them are let pass before the process is killed.
const POINTS: [(&str, u32); 12] = [
    ("openat2", 10),
    ("linkat", 1),
    ("linkat", 7),
    ("renameat2,renameat", 1),
    ("write", 3),
    ("getdents64", 4),
    ("ioctl", 5),
    ("mkdirat", 1),
    ("fsopen", 1),
    ("fsmount", 1),
    ("fsconfig", 8),
    ("move_mount", 1),
];

/// The mount program, killed at the call that `/run/point` says.
const KILLED: &str = r#"#!/bin/sh
[ "$1" = -o ] || exec LAYERSEAL "$@"
read -r calls number </run/point
# strace ends as its child did, and tells nobody else.
exec strace -f -qqq -o /run/trace -e "trace=$calls" -e "inject=$calls:signal=KILL:when=$number+" LAYERSEAL "$@"
"#;

/// Everything in the vault by name.
fn vault(podman: &Podman) -> Vec<String> {
    let root = podman.graph_root().join("layerseal");
    let mut names = Vec::new();
    walk(&root, &mut |path| names.push(path.strip_prefix(&root).unwrap().display().to_string()));
    names.sort();
    names
}

/// Loop devices on files of this test.
fn loop_devices() -> usize {
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
    let files = devices.filter_map(|d| std::fs::read_to_string(d.path().join("loop/backing_file")).ok());
    files.filter(|f| f.starts_with(&scratch::base().display().to_string())).count()
}

#[test]
fn l01_a_mount_program_killed_at_any_point_leaves_nothing() {
    if !ready("a killed mount program") {
        return;
    }
    if Command::new("strace").arg("--version").output().is_err() {
        support::skip!("a killed mount program: needs strace");
    }
    let podman = Podman::pulled(Program::Layerseal);
    podman.prepare(APP);
    forget_use(&podman);
    let loops = loop_devices();
    podman.starts(APP);
    let usual = vault(&podman);
    let program = common::binary().display().to_string();
    podman.host.write("/run/killed", KILLED.replace("LAYERSEAL", &program));
    podman.host.sh("chmod 755 /run/killed");
    let mut killed = 0;
    let points = if emulated() { &POINTS[POINTS.len() - 4..] } else { &POINTS[..] };
    for (calls, number) in points {
        forget_use(&podman);
        podman.host.write("/run/point", format!("{calls} {number}\n"));
        podman.storage_conf(Some("/run/killed"), "");
        let output = podman.run(&["run", "--rm", APP, "true"]);
        podman.storage_conf(Some(&program), "");
        let error = String::from_utf8_lossy(&output.stderr);
        match error.contains("signal: killed") {
            true => killed += 1,
            false => println!("{calls} {number}: not reached, {:?}: {error}", output.status),
        }
        podman.run(&["rm", "-fa", "-t", "0"]);
        // What it mounted may still be there; the next start finds its way, and takes that away.
        podman.starts(APP);
        // A file that is to get fs-verity has a name from the beginning, and keeps it where its writer was killed.
        let (rests, left): (Vec<_>, Vec<_>) = vault(&podman).into_iter().partition(|name| name.contains("/.new-"));
        assert_eq!(left, usual, "after {calls} {number}: left in the vault");
        assert!(rests.len() <= 1, "after {calls} {number}: {rests:?}");
        // What is mounted, which upper directories were used and which podman there is is kept until the next boot.
        let run = podman
            .host
            .sh("find /run/layerseal -mindepth 1 ! -path '*/mounts*' ! -path '*/uppers*' ! -path '*/podman' ! -path '*/log*' ! -path '*/proof*' ! -path '*/signatures*' ! -path '*/certificates*'");
        assert!(run.trim().is_empty(), "after {calls} {number}: left in /run: {run}");
    }
    assert!(killed + 2 >= points.len(), "only {killed} of {} points were reached", points.len());
    assert_eq!(loop_devices(), loops, "loop devices");
    let gc = podman.host.command(&program, &["gc"]).output().unwrap();
    assert!(gc.status.success(), "{}", String::from_utf8_lossy(&gc.stderr));
    assert!(vault(&podman).iter().all(|name| !name.contains("/.new-")), "a collection leaves what was cut off");
}

/// Of podman's images the vault has no layers: what it has lost it makes again from podman's files, and seals come from
/// those that this host keeps.
#[test]
fn what_fsck_repairs_of_podmans_images_starts_again() {
    if !ready("fsck of podman's images") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.ok(&["run", "--rm", APP, "true"]);
    let vault = podman.graph_root().join("layerseal");
    let one = |dir: &Path| std::fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    let image = one(&vault.join("images"));
    let blob = |digest: &str| vault.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let seal = blob(one(&image.join("seals")).file_name().unwrap().to_str().unwrap());
    let read = |path: &Path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    let manifest = blob(image.file_name().unwrap().to_str().unwrap());
    let config = blob(read(&manifest)["config"]["digest"].as_str().unwrap());
    let signature = blob(read(&seal)["layers"][0]["digest"].as_str().unwrap());
    let notes = image.join("digests.fsverity-sha512-12");
    let text = std::fs::read_to_string(&notes).unwrap();
    let noted = |line: usize| {
        let hex = text.lines().nth(line).unwrap().split(' ').nth(1).unwrap();
        vault.join("objects").join(&hex[..2]).join(&hex[2..])
    };
    let mut file = None;
    walk(&vault.join("objects"), &mut |path| {
        if std::fs::metadata(path).unwrap().len() == crate::image::BIG as u64 {
            file = Some(path.to_owned());
        }
    });
    let places = [
        ("a file", file.unwrap()),
        ("the container's tree", noted(0)),
        ("the merged tree", noted(1)),
        ("the tree of a layer", noted(2)),
        // Missing, they are those of an image that nothing was made of yet.
        ("the notes", notes),
        ("the manifest", manifest),
        ("the config", config),
        ("the seal", seal),
        ("a signature", signature),
    ];
    // In turn damaged and missing; what a start makes of it `check` says.
    for (number, (what, path)) in places.iter().enumerate() {
        std::fs::remove_file(path).unwrap();
        if number % 2 == 0 {
            std::fs::write(path, "damaged").unwrap();
        }
        assert_eq!(podman.verb(&["fsck"]).1, 4, "{what}");
        let (repaired, code) = podman.verb(&["fsck", "--repair"]);
        assert_eq!((&repaired["images"][0]["to_do"], code), (&Value::Null, 0), "{what}: {repaired}");
        let (after, code) = podman.verb(&["fsck"]);
        assert_eq!(code, 0, "{what}: {after}");
        let (checked, _) = podman.verb(&["check", APP]);
        assert_eq!(checked["images"][0]["expected"]["verdict"], "sealed", "{what}: {checked}");
    }
    podman.ok(&["run", "--rm", APP, "true"]);
    assert_eq!(podman.last("precreate"), ("allowed".into(), String::new()));
}
