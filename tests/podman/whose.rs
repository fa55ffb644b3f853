//! Containers of images that a store makes look as if they were of none: by a driver that only podman's database
//! names, and by symlinks within the store. Only what podman has on record without an image is a `<rootfs>`.

use std::os::unix::fs::symlink;

use crate::guard::text;
use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program, default_policy};
use crate::ready;
use crate::refusals::edit_json;

const MAPPED: [&str; 4] = ["--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"];

/// The rule that pods and builds need.
fn lenient() -> String {
    default_policy() + "[[rule]]\nimage = \"<rootfs>\"\nmode = \"off\"\n"
}

/// Asks for seals of the image's names alone.
fn by_one_rule() -> String {
    let by_default = default_policy().replace("mode = \"enforce\"\ntrust", "mode = \"off\"\ntrust");
    by_default + "[[rule]]\nimage = \"registry.example.com/acme/*\"\nmode = \"enforce\"\n"
}

fn off() -> String {
    default_policy().replace("mode = \"enforce\"", "mode = \"off\"")
}

/// podman with an unsealed image in a store of the driver vfs, of which only podman's database knows.
fn with_vfs(program: Program) -> Podman {
    let podman = Podman::at(crate::scratch::fresh("host"), program);
    let conf = podman.host.sh("cat /etc/containers/storage.conf");
    podman.host.write("/etc/containers/storage.conf", conf.replace("\"overlay\"", "\"vfs\""));
    podman.pull(FRESH);
    podman.host.write("/etc/containers/storage.conf", conf);
    podman
}

/// Moves the records of containers to another name in the store, and leaves a link to it.
fn linked(podman: &Podman, records: &str, to: &str) {
    let root = podman.graph_root();
    let place = root.join(to);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    let from = root.join(records);
    match from.is_dir() {
        true => std::fs::rename(&from, &place).unwrap(),
        false => std::fs::create_dir(&place).unwrap(),
    }
    symlink(to, from).unwrap();
}

#[track_caller]
fn refused(podman: &Podman, policy: &str, cases: &[&str], more: &[&str]) {
    podman.policy(policy);
    podman.host.sh("rm -rf /run/layerseal/hooks");
    let output = podman.run(&[&["run", "--rm", "--pull=never"], more, &[FRESH, "echo", "started"]].concat());
    let stages = ["runtime", "precreate", "createRuntime"];
    let last = stages.map(|stage| podman.last(stage));
    let by = |(decision, case): &(String, String)| decision == "refused" && cases.contains(&case.as_str());
    let about = format!("{:?} {more:?} {policy}: {last:?} {}", podman.program, text(&output));
    assert!(!output.status.success() && !text(&output).contains("started"), "{about}");
    assert!(last.iter().any(by), "{about}");
}

/// Refuses the config of FRESH.
fn denied(podman: &Podman) {
    let id = podman.ok(&["image", "inspect", "--format", "{{.Id}}", FRESH]);
    podman.host.write("/etc/layerseal/deny.d/x.list", format!("sha256:{}\n", id.trim()));
}

#[test]
fn o01_a_driver_that_only_podmans_database_names_makes_no_rootfs() {
    if !ready("vfs by the database") {
        return;
    }
    for program in [Program::Runtime, Program::Hooked] {
        let podman = with_vfs(program);
        for policy in [lenient(), by_one_rule()] {
            refused(&podman, &policy, &["O01"], &[]);
        }
        denied(&podman);
        for policy in [off(), lenient()] {
            refused(&podman, &policy, &["F06"], &[]);
        }
        podman.host.sh("rm /etc/layerseal/deny.d/x.list");
        // And with a link.
        linked(&podman, "vfs-containers", "q");
        for policy in [lenient(), by_one_rule()] {
            refused(&podman, &policy, &["O01", "B09", "O15"], &[]);
        }
        denied(&podman);
        refused(&podman, &off(), &["O01", "B09", "O15"], &[]);
    }
}

#[test]
fn b09_links_within_a_store_make_no_rootfs() {
    if !ready("links in the store") {
        return;
    }
    for program in [Program::Runtime, Program::Hooked] {
        for to in ["q", "other/overlay-containers"] {
            let podman = Podman::new(program);
            podman.ok(&[&["run", "--rm", "--pull=never"], &MAPPED[..], &[APP, "true"]].concat());
            linked(&podman, "overlay-containers", to);
            for policy in [lenient(), by_one_rule()] {
                for more in [&MAPPED[..], &["--userns=auto"], &[]] {
                    // Without a mapping the layer is named.
                    refused(&podman, &policy, &["O01", "B09", "C07"], more);
                }
            }
            denied(&podman);
            refused(&podman, &off(), &["O01", "B09", "F06"], &MAPPED);
        }
    }
}

/// What has no image starts under its rule, and where podman's own record says so.
#[test]
fn o01_what_podman_has_on_record_without_an_image_is_a_rootfs() {
    if !ready("roots of no image") {
        return;
    }
    for program in [Program::Runtime, Program::Hooked] {
        let podman = Podman::new(program);
        podman.policy(&lenient());
        let kept = podman.ok(&["create", "--name", "kept", APP, "true"]);
        assert!(!kept.is_empty());
        podman.host.sh("mkdir -p /var/tmp/root/bin; cp \"$(command -v busybox)\" /var/tmp/root/bin/busybox");
        for root in ["/var/tmp/root", "/var/tmp/root:O"] {
            for more in [&[][..], &MAPPED] {
                let args = [&["run", "--rm"], more, &["--rootfs", root, "/bin/busybox", "true"]].concat();
                podman.ok(&args);
            }
        }
        // Without it podman makes no infra container of its own.
        if Podman::version() >= (5, 0) && podman.has_program("catatonit") {
            podman.ok(&["pod", "create", "--name", "p", "--share", "uts"]);
            podman.ok(&["run", "--rm", "--pod", "p", APP, "true"]);
            podman.ok(&["pod", "rm", "-f", "-t", "0", "p"]);
        }
        podman.host.write("/var/tmp/c/Containerfile", format!("FROM {APP}\nRUN true\n"));
        podman.ok(&[&["build", "-q", "-t", "localhost/built:1"], Podman::build_flags(), &["/var/tmp/c"]].concat());
        podman.ok(&["run", "--rm", "localhost/built:1", "true"]);
        podman.policy(&default_policy());
        let output = podman.run(&["run", "--rm", "--rootfs", "/var/tmp/root", "/bin/busybox", "true"]);
        assert!(!output.status.success(), "{}", text(&output));
        // A store elsewhere has records too.
        podman.policy(&lenient());
        let elsewhere = ["--root", "/var/tmp/store", "--runroot", "/run/store"];
        podman.ok(&[&elsewhere[..], &["run", "--rm", "--rootfs", "/var/tmp/root", "/bin/busybox", "true"]].concat());
    }
}

/// Whoever takes the name off an image does not get it the rule for builds.
#[test]
fn c07_an_image_without_a_name_that_is_started_by_its_id_is_unknown() {
    if !ready("an image without a name") {
        return;
    }
    for program in [Program::Runtime, Program::Hooked, Program::Layerseal] {
        let podman = Podman::new(program);
        let id = |image: &str| podman.ok(&["image", "inspect", "--format", "{{.Id}}", image]).trim().to_owned();
        let [app, fresh] = [APP, FRESH].map(id);
        podman.host.write("/var/tmp/c/Containerfile", format!("FROM {fresh}\nRUN true\n"));
        let _kept = edit_json(&podman, "overlay-images/images.json", |images| {
            images.iter_mut().for_each(|image| image["names"] = serde_json::json!([]));
        });
        // What is sealed starts, whatever it is called.
        for name in [app.clone(), format!("sha256:{app}")] {
            podman.ok(&["run", "--rm", "--pull=never", &name, "true"]);
        }
        for name in [fresh.clone(), format!("sha256:{fresh}")] {
            for more in [&[][..], &MAPPED] {
                let args = [&["run", "--rm", "--pull=never"], more, &[name.as_str(), "echo", "started"]].concat();
                let output = podman.run(&args);
                let said = text(&output);
                assert!(!output.status.success() && !said.contains("started"), "{program:?} {more:?}: {said}");
            }
        }
        // Builds go by the rule for `<none>`.
        if program == Program::Layerseal {
            let build = ["build", "-q", "--pull=never", "-t", "localhost/built:1"];
            podman.ok(&[&build[..], Podman::build_flags(), &["/var/tmp/c"]].concat());
        }
    }
}

/// A directory of the host that a refused container was given, and that podman copied nothing into.
#[test]
fn o10_what_was_not_copied_from_a_refused_root_is_not_filled() {
    if !ready("a refused root") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    podman.host.sh("mkdir -p /var/tmp/root/data/sub /var/tmp/data/sub; echo root >/var/tmp/root/data/log");
    podman.host.sh("echo live, and longer >/var/tmp/data/log; echo x >/var/tmp/data/sub/x");
    let run = ["run", "--rm", "-v", "/var/tmp/data:/data", APP, "cat", "/data/log"];
    podman.ok(&run);
    let refused = ["run", "--rm", "-v", "/var/tmp/data:/data", "--rootfs", "/var/tmp/root", "true"];
    assert!(!podman.run(&refused).status.success());
    assert_eq!(podman.last("runtime"), ("refused".into(), "O01".into()));
    podman.ok(&run);
    // A copy of it is.
    podman.host.sh("rm -r /var/tmp/data/*; cp -a /var/tmp/root/data/log /var/tmp/data/");
    assert!(!podman.run(&refused).status.success());
    let output = podman.run(&run);
    assert!(!output.status.success(), "{}", text(&output));
    assert_eq!(podman.last("runtime"), ("refused".into(), "O10".into()));
}
