//! Symlinks where podman makes files in its store, as locks are: where they lead, it makes empty ones, which may hide others.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::database::doctor;
use crate::guard::text;
use crate::image::APP;
use crate::own_files::WAYS;
use crate::podman::{Podman, Program};
use crate::ready;

const RUN: [&str; 6] = ["run", "--rm", "--pull=never", APP, "ls", "/opt"];

/// Has a link lead there, from a place of the store at which nothing else is.
fn lead(place: &Path, target: &str) {
    let _ = std::fs::remove_file(place);
    let _ = std::fs::remove_dir_all(place);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    symlink(target, place).unwrap();
}

#[test]
fn o15_what_podman_makes_is_where_its_name_says() {
    if !ready("locks that lead elsewhere") {
        return;
    }
    let files = [
        "storage.lock",
        "userns.lock",
        "overlay-images/images.lock",
        "overlay-layers/layers.lock",
        "overlay-containers/containers.lock",
        "overlay/.has-mount-program",
        "secrets/secrets.lock",
    ];
    for program in WAYS {
        let podman = Podman::new(program);
        podman.ok(&RUN);
        podman.host.sh("mkdir -p /var/tmp/target");
        let files = files.map(|name| (name, "/var/tmp/target/made"));
        for (name, target) in
            files.into_iter().chain(["overlay/tempdirs", "overlay-layers/tmp"].map(|n| (n, "/var/tmp/target")))
        {
            let place = podman.graph_root().join(name);
            lead(&place, target);
            podman.refused_for("O15", &RUN);
            let said = doctor(&podman, "links in podman's store");
            assert!(said.starts_with("\"missing\"") && said.contains(name), "{program:?} {name}: {said}");
            // Control: without the link it is as it was.
            std::fs::remove_file(&place).unwrap();
            podman.ok(&RUN);
            assert_eq!(doctor(&podman, "links in podman's store"), "none", "{program:?} {name}");
        }
    }
}

/// The root itself is where the administrator has it, by whatever links.
#[test]
fn o15_a_graph_root_may_be_a_link() {
    if !ready("a graph root that is a link") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime, Program::Guarded] {
        let podman = Podman::new(program);
        let root = crate::hostile::GRAPH_ROOT;
        podman.host.sh(&format!("mv {root} /var/tmp/elsewhere; ln -s /var/tmp/elsewhere {root}"));
        let output = podman.run(&RUN);
        assert!(output.status.success(), "{program:?}: {}", text(&output));
    }
}

/// What podman has made stays, whoever is refused: an empty file in the configuration hides another of its name.
#[test]
fn o15_f10_a_lock_hides_no_list() {
    if !ready("a lock that leads to the configuration") {
        return;
    }
    for program in WAYS {
        for off in [false, true] {
            let podman = Podman::new(program);
            podman.ok(&RUN);
            if off {
                podman.policy("version = 1\n[default]\nmode = \"off\"\n");
            }
            podman.host.write("/run/layerseal/deny.d/vendor.list", format!("sha256:{}\n", "0".repeat(64)));
            podman.host.sh("chmod 755 /run/layerseal /run/layerseal/deny.d; mkdir -p -m 755 /etc/layerseal/deny.d");
            let lock = podman.graph_root().join("overlay-images/images.lock");
            lead(&lock, "/etc/layerseal/deny.d/vendor.list");
            // The mount program reads the policy first, which cannot be read any more.
            let mounts = matches!(program, Program::Guarded | Program::Layerseal);
            podman.refused_for(if mounts { "F03" } else { "O15" }, &RUN);
            std::fs::remove_file(&lock).unwrap();
            podman.refused_for("F03", &RUN);
            // Control: a person has removed it.
            podman.host.sh("rm /etc/layerseal/deny.d/vendor.list");
            podman.ok(&RUN);
            // podman's own configuration counts too.
            lead(&lock, "/etc/containers/made.conf");
            podman.refused_for("O15", &RUN);
            std::fs::remove_file(&lock).unwrap();
            podman.refused_for("F10", &RUN);
            podman.host.sh("rm /etc/containers/made.conf");
            podman.ok(&RUN);
        }
    }
}
