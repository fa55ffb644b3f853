//! What was found by attacking the hooks: each once open, and closed since.

use crate::guard::{NOT_SEALED, REJECTED, RUN, text};
use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program, default_policy};
use crate::ready;
use crate::refusals::{edit_json, in_diff};

/// Rules that an administrator may have: lenient with what is no image, or has no name.
fn lenient() -> String {
    default_policy() + "[[rule]]\nimage = \"<rootfs>\"\nmode = \"off\"\n"
}

/// podman resolves users, and fills new volumes, from its own overlay before anybody verified it.
#[test]
fn o09_what_podman_read_before_the_swap_is_compared() {
    if !ready("o09") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    // With a volume whose place is in the image.
    let volume = ["run", "--rm", "-v", "fresh:/opt", APP, "true"];
    podman.ok(&volume);
    podman.ok(&["volume", "rm", "fresh"]);
    let tampered = |file: &str, from: &[u8], to: &[u8]| {
        let path = in_diff(&podman, file);
        let content = std::fs::read(&path).unwrap();
        let at = content.windows(from.len()).position(|w| w == from).unwrap();
        let mut changed = content.clone();
        changed.splice(at..at + from.len(), to.iter().copied());
        // As somebody with the disk does it: another file, whatever protects this one.
        let away = path.with_extension("kept");
        std::fs::rename(&path, &away).unwrap();
        std::fs::write(&path, changed).unwrap();
        (path, away)
    };
    let (path, away) = tampered("etc/passwd", b"app:x:1000:1000", b"app:x:0:0");
    podman.stopped("precreate", REJECTED, &["O09"], &["run", "--rm", "--user", "app", APP, "id"]);
    podman.stopped("precreate", REJECTED, &["O09"], &RUN);
    // audit lets it pass, and says so.
    podman.policy(&default_policy().replace("mode = \"enforce\"", "mode = \"audit\""));
    podman.ok(&RUN);
    assert_eq!(podman.last("precreate"), ("audit".into(), "O09".into()));
    podman.policy(&default_policy());
    std::fs::rename(away, path).unwrap();
    let extra = in_diff(&podman, "opt").join("injected");
    std::fs::write(&extra, "evil").unwrap();
    // Not where nobody looked.
    podman.ok(&RUN);
    podman.stopped("precreate", REJECTED, &["O09"], &volume);
    std::fs::remove_file(extra).unwrap();
    podman.run(&["volume", "rm", "-f", "fresh"]);
    podman.ok(&volume);
    // What the container itself wrote is the same in both.
    let change = "echo new:x:5:5::/:/bin/sh >>/etc/passwd; echo x >/opt/mine";
    podman.ok(&["create", "--name", "c", APP, "sh", "-c", change]);
    podman.ok(&["start", "-a", "c"]);
    podman.ok(&["start", "-a", "c"]);
    podman.ok(&["rm", "c"]);
}

/// A record that cannot be read again would be in the way of whoever's mount gets its number next.
#[test]
fn x01_a_record_that_could_not_be_read_is_not_kept() {
    if !ready("a record of many names") {
        return;
    }
    for (program, stage) in [(Program::Hooked, "precreate"), (Program::Runtime, "runtime")] {
        let podman = Podman::new(program);
        let name = |n: usize| format!("registry.example.com/acme/app:n{n}-{}", "x".repeat(100));
        let kept = edit_json(&podman, "overlay-images/images.json", |images| {
            let app = images.iter_mut().find(|image| image["names"][0] == APP).unwrap();
            app["names"].as_array_mut().unwrap().extend((0..8000).map(|n| name(n).into()));
        });
        let output = podman.run(&RUN);
        assert!(
            !output.status.success() && podman.last(stage) == ("refused".into(), "X01".into()),
            "{}",
            text(&output)
        );
        drop(kept);
        podman.host.sh("! ls /run/layerseal/mounts/*.json 2>/dev/null");
        podman.run(&["rm", "-fa"]);
        podman.ok(&RUN);
    }
}

/// crun makes a file of the host, as root, of what a hook prints; whoever makes a pod can say which.
#[test]
fn o08_the_output_of_hooks_goes_into_no_file() {
    if !ready("o08") {
        return;
    }
    for program in [Program::Hooked, Program::Guarded] {
        let podman = Podman::new(program);
        for what in ["stdout", "stderr"] {
            let annotation = format!("run.oci.hooks.{what}=/var/tmp/made");
            podman.stopped("precreate", REJECTED, &["O08"], &["run", "--rm", "--annotation", &annotation, APP, "true"]);
            assert!(!podman.host.inside("/var/tmp/made").exists());
        }
        // Without precreate crun has made it by then, and there is nothing in it.
        podman.host.sh("rm /etc/containers/hooks/precreate.json");
        let volume = "/var/tmp:/usr/share/$(touch x)";
        let args = ["run", "--rm", "--annotation", "run.oci.hooks.stderr=/var/tmp/made", "-v", volume, APP, "true"];
        podman.stopped("createRuntime", REJECTED, &["O08"], &args);
        assert_eq!(podman.host.sh("cat /var/tmp/made"), "");
    }
}

/// A record that somebody damaged makes a container no `<rootfs>`, and no name of an image is a word of the policy.
#[test]
fn o01_damaged_records_are_no_way_to_a_lenient_rule() {
    if !ready("damaged records") {
        return;
    }
    let podman = Podman::pulled(Program::Hooked);
    podman.policy(&lenient());
    podman.ok(&["create", "--name", "victim", FRESH, "cat", "/etc/gone/again"]);
    let start = ["start", "-a", "victim"];
    let refused = |cases: &[&str]| {
        let output = podman.run(&start);
        let decided = podman.last("precreate");
        assert!(!output.status.success(), "{}", text(&output));
        assert!(decided.0 == "refused" && cases.contains(&decided.1.as_str()), "{decided:?}");
    };
    refused(&["C07"]);
    for image in ["", &"f".repeat(64)] {
        let _kept = edit_json(&podman, "overlay-containers/containers.json", |all| {
            all.iter_mut().find(|c| c["names"][0] == "victim").unwrap()["image"] = image.into();
        });
        refused(&["C07", "B12"]);
    }
    for name in ["<rootfs>", "localhost/../registry.example.com/acme/fresh:1"] {
        let _kept = edit_json(&podman, "overlay-images/images.json", |all| {
            let image = all.iter_mut().find(|i| i["names"][0] == FRESH).unwrap();
            image["names"] = serde_json::json!([name]);
        });
        // It is an image of no name that a rule is for.
        podman.policy(&lenient().replace(
            "image = \"<none>\"\nmode = \"off\"",
            "image = \"<none>\"\nmode = \"enforce\"\ntrust = [\"acme\"]",
        ));
        refused(&["C07"]);
        podman.policy(&lenient());
    }
    podman.ok(&["rm", "-f", "victim"]);
}

/// Another container's root for `--rootfs`: it is not touched.
#[test]
fn o03_the_root_of_another_container_is_left_alone() {
    if !ready("another's root") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.ok(&["create", "--name", "src", APP, "true"]);
    let mounted = podman.ok(&["mount", "src"]);
    podman.stopped_in(
        "precreate",
        NOT_SEALED,
        &["O01"],
        &["run", "--rm", "--rootfs", mounted.trim(), "true"],
        |podman| {
            let mounts = podman.host.mounts();
            let still: Vec<_> = mounts.iter().filter(|m| m.target == mounted.trim()).collect();
            assert!(still.len() == 1 && still[0].source == "overlay", "{still:?}");
        },
    );
}

/// `upper = "empty"` and the link that podman makes before the hook.
#[test]
fn m01_what_podman_itself_writes_before_the_hook_is_nothing() {
    if !ready("m01 with hooks") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.policy(&default_policy().replace("[default]\n", "[default]\nupper = \"empty\"\n"));
    podman.ok(&RUN);
    podman.ok(&["create", "--name", "c", APP, "true"]);
    let upper = podman.ok(&["inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", "c"]);
    for script in ["mkdir etc; ln -s /evil etc/mtab", "mkdir etc; : opaque", "mkdir etc; echo x >etc/passwd"] {
        podman.host.sh(&format!("cd {}; rm -rf etc; {script}", upper.trim()));
        if script.ends_with("opaque") {
            let etc = podman.host.inside(&format!("{}/etc", upper.trim()));
            rustix::fs::setxattr(etc, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();
        }
        assert!(!podman.run(&["start", "-a", "c"]).status.success(), "{script}");
        assert_eq!(podman.last("precreate"), ("refused".into(), "M01".into()), "{script}");
    }
    podman.host.sh(&format!("rm -rf {}/etc", upper.trim()));
    podman.ok(&["start", "-a", "c"]);
    podman.ok(&["rm", "c"]);
}
