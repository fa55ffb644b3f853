//! Volumes that lead to the configuration by other ways than a link in the store, or that lead anywhere.

use std::os::unix::fs::symlink;

use crate::guard::text;
use crate::hostile::{GRAPH_ROOT, json_of};
use crate::image::APP;
use crate::podman::{Podman, Program};
use crate::ready;

const WAYS: [Program; 2] = [Program::Hooked, Program::Runtime];
const POLICIES: &str = "/etc/layerseal/policy.d";

/// A host with an empty directory of policies, in whose store every layer has one that checks nothing in /opt.
fn with_policy_in_layers(program: Program) -> Podman {
    let podman = Podman::new(program);
    podman.host.sh(&format!("mkdir -p -m 755 {POLICIES}"));
    let layers = json_of(&podman.graph_root().join("overlay-layers/layers.json"));
    let layers = layers.as_array().unwrap().iter().map(|layer| layer["id"].as_str().unwrap());
    for opt in layers.map(|id| podman.graph_root().join("overlay").join(id).join("diff/opt")).filter(|o| o.is_dir()) {
        std::fs::remove_dir_all(&opt).unwrap();
        std::fs::create_dir_all(opt.join(".sub")).unwrap();
        let off = "version = 1\n[[rule]]\nimage = \"*\"\nmode = \"off\"\n";
        std::fs::write(opt.join("evil.toml"), off).unwrap();
        std::fs::write(opt.join(".sub/file"), "x").unwrap();
    }
    podman
}

/// The start is refused, and so is every other one until a person has removed what was written, and the note.
#[track_caller]
fn refused_and_noted(podman: &Podman, args: &[&str]) {
    let stage = if podman.program == Program::Runtime { "runtime" } else { "precreate" };
    let said = text(&podman.run(args));
    assert_eq!(podman.last(stage), ("refused".into(), "O15".into()), "{:?} {args:?}: {said}", podman.program);
    assert!(!podman.host.sh(&format!("ls -A {POLICIES}")).trim().is_empty(), "nothing was written");
    let run = ["run", "--rm", "--pull=never", APP, "ls", "/bin"];
    let said = text(&podman.run(&run));
    assert_eq!(podman.last(stage), ("refused".into(), "F10".into()), "{:?} {args:?}: {said}", podman.program);
    // Control: a person has looked.
    podman.host.sh(&format!("find {POLICIES} -mindepth 1 -delete; rm -f /var/lib/layerseal/filled/*"));
    podman.ok(&run);
}

#[test]
fn o15_f10_volumes_outside_of_the_store() {
    if !ready("a directory of volumes outside of the store") {
        return;
    }
    for program in WAYS {
        let podman = with_policy_in_layers(program);
        let before = podman.host.sh("cat /etc/containers/containers.conf");
        let elsewhere = before.replace("[engine]", "[engine]\nvolume_path = \"/var/tmp/elsewhere\"");
        assert_ne!(before, elsewhere);
        podman.host.write("/etc/containers/containers.conf", elsewhere);
        podman.host.sh(&format!("rm -rf {GRAPH_ROOT}/libpod {GRAPH_ROOT}/db.sql"));
        let volume = podman.host.inside("/var/tmp/elsewhere/data");
        std::fs::create_dir_all(&volume).unwrap();
        symlink(POLICIES, volume.join("_data")).unwrap();
        refused_and_noted(&podman, &["run", "--rm", "--pull=never", "-v", "data:/opt", APP, "ls", "/bin"]);
    }
}

#[test]
fn o15_f10_a_configuration_that_is_mounted_twice() {
    if !ready("a configuration that is mounted twice") {
        return;
    }
    for program in WAYS {
        let podman = with_policy_in_layers(program);
        podman.host.sh("mkdir /var/tmp/alias; mount --bind /etc/layerseal /var/tmp/alias");
        let volume = podman.graph_root().join("volumes/data");
        std::fs::create_dir_all(&volume).unwrap();
        symlink("/var/tmp/alias/policy.d", volume.join("_data")).unwrap();
        refused_and_noted(&podman, &["run", "--rm", "--pull=never", "-v", "data:/opt", APP, "ls", "/bin"]);
    }
}

/// podman 5.4 finds that such a part is outside of the volume, and asks nobody.
#[test]
fn o15_f10_a_part_of_a_volume() {
    if !ready("a part of a volume") {
        return;
    }
    if Podman::version() < (6, 0) {
        support::skip!("parts of volumes: podman {:?} asks nobody", Podman::version());
    }
    for program in WAYS {
        let podman = with_policy_in_layers(program);
        let volume = podman.graph_root().join("volumes/data");
        std::fs::create_dir_all(&volume).unwrap();
        symlink(POLICIES, volume.join("_data")).unwrap();
        let part = "type=volume,src=data,dst=/opt,subpath=.sub";
        refused_and_noted(&podman, &["run", "--rm", "--pull=never", "--mount", part, APP, "ls", "/bin"]);
    }
}

/// A container could change where it leads before anybody looks.
#[test]
fn o15_a_volume_leads_nowhere_else() {
    if !ready("a volume that is a link") {
        return;
    }
    for program in WAYS {
        let podman = Podman::new(program);
        podman.ok(&["volume", "create", "shared"]);
        let volumes = podman.graph_root().join("volumes");
        let other = volumes.join("shared/_data/d");
        std::fs::create_dir(&other).unwrap();
        let own = volumes.join("data");
        let run = ["run", "--rm", "--pull=never", "-v", "data:/data", APP, "ls", "/bin"];
        podman.ok(&["volume", "create", "data"]);
        podman.ok(&run);
        std::fs::remove_dir(own.join("_data")).unwrap();
        symlink("../shared/_data/d", own.join("_data")).unwrap();
        let stage = if program == Program::Runtime { "runtime" } else { "precreate" };
        let said = text(&podman.run(&run));
        assert_eq!(podman.last(stage), ("refused".into(), "O15".into()), "{program:?}: {said}");
        let said = crate::database::doctor(&podman, "links in podman's store");
        assert!(said.contains("volumes/data"), "{said}");
        // Control: it is a directory again, and what is mounted on it makes no difference.
        std::fs::remove_file(own.join("_data")).unwrap();
        std::fs::create_dir(own.join("_data")).unwrap();
        podman.ok(&run);
        podman.host.sh(&format!("mount -t tmpfs none {GRAPH_ROOT}/volumes/data/_data"));
        podman.ok(&run);
    }
}

/// Volumes of parts of the host, the configuration among them, are what somebody asked podman for.
#[test]
fn volumes_of_the_hosts_directories_are_not_links() {
    if !ready("volumes of the host's directories") {
        return;
    }
    for program in WAYS {
        let podman = Podman::new(program);
        for device in ["/", "/etc"] {
            let device = format!("device={device}");
            podman.ok(&["volume", "create", "-o", "type=none", "-o", "o=rbind", "-o", &device, "host"]);
            podman.ok(&["run", "--rm", "--pull=never", "-v", "host:/host", APP, "ls", "/bin"]);
            podman.ok(&["volume", "rm", "host"]);
        }
        podman.ok(&["run", "--rm", "--pull=never", APP, "ls", "/bin"]);
    }
}
