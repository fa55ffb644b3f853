//! What the hooks refuse is a container that does not start: roots that nobody verified, and roots that
//! somebody changed between the mount and the start.

use std::process::Output;

use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program, default_policy};
use crate::ready;

/// The exit codes of the classes, as docs/commands.md has them.
pub const NOT_SEALED: i32 = 3;
pub const REJECTED: i32 = 4;
const CANNOT_ENFORCE: i32 = 6;

/// A hook that runs after ours, with the root's path as `$1` and another container's as `$2`.
const AFTER: &str = r#"{"version":"1.0.0","hook":{"path":"/var/tmp/after","args":["after"]},
"when":{"always":true},"stages":["precreate"]}"#;

impl Podman {
    /// Has something done on this host between the mount of a container and its creation.
    fn between(&self, script: &str) {
        let text = format!(
            "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\ncat >/var/tmp/config\ncat /var/tmp/config\n\
             merged=$(sed 's/.*\"root\":{{\"path\":\"\\([^\"]*\\)\".*/\\1/' /var/tmp/config)\n{{ set -eu\n{script}\n}} >/var/tmp/said 2>&1\n"
        );
        self.host.write("/var/tmp/after", text);
        self.host.sh("chmod +x /var/tmp/after");
        self.host.write("/etc/containers/hooks/zz-after.json", AFTER);
    }

    /// Nothing more is done there.
    fn no_more(&self) {
        self.host.sh("rm -f /etc/containers/hooks/zz-after.json");
    }

    /// The container does not start: the hook of `stage` says so, with this exit code and for one of these
    /// cases, and nothing stays mounted.
    #[track_caller]
    pub fn stopped(&self, stage: &str, code: i32, cases: &[&str], args: &[&str]) {
        self.stopped_in(stage, code, cases, args, |_| ());
    }

    /// The same, with a look at the host before everything is removed.
    #[track_caller]
    pub fn stopped_in(&self, stage: &str, code: i32, cases: &[&str], args: &[&str], look: impl Fn(&Self)) {
        let output = self.run(args);
        let error = text(&output);
        let said = self.host.sh("cat /var/tmp/said 2>/dev/null || true");
        assert!(matches!(output.status.code(), Some(125..=127)), "{:?}: {error} {said}", output.status);
        let shown = [format!("exit code: {code}"), format!("exit status {code}")];
        assert!(
            shown.iter().any(|s| error.contains(s)),
            "wanted exit code {code}: {error} {said} {:?}",
            self.last(stage)
        );
        let (decision, case) = self.last(stage);
        assert_eq!(decision, "refused", "{error}");
        assert!(cases.contains(&case.as_str()), "wanted one of {cases:?}, not {case}: {error} {said}");
        println!("refused as it must be: {case} by {stage}: podman {args:?}");
        look(self);
        self.run(&["rm", "-fa", "-t", "0"]);
        let left: Vec<String> = self.container_mounts().into_iter().filter(|m| m.ends_with("/merged")).collect();
        assert_eq!(left, [""; 0], "left behind by a refusal");
    }

    /// What the hook decided last, and the case.
    pub fn last(&self, stage: &str) -> (String, String) {
        let note = self.last_note(stage);
        let word = |key: &str| note[key].as_str().unwrap_or_default().to_owned();
        (word("decision"), word("case"))
    }

    /// All that the note of the last call says.
    pub fn last_note(&self, stage: &str) -> serde_json::Value {
        let notes = ["podman", "cri-o"].map(|of| self.host.inside(&format!("/run/layerseal/hooks/{stage}.{of}.json")));
        let newest = notes.iter().max_by_key(|note| std::fs::metadata(note).and_then(|found| found.modified()).ok());
        let note = std::fs::read(newest.unwrap()).unwrap_or_default();
        serde_json::from_slice(&note).unwrap_or_default()
    }

    fn forget_calls(&self) {
        self.host.sh("rm -rf /run/layerseal/hooks");
    }
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

pub const RUN: [&str; 4] = ["run", "--rm", APP, "true"];

fn both() -> [Podman; 2] {
    [Podman::new(Program::Hooked), Podman::new(Program::Guarded)]
}

/// podman in a mount namespace that the first process does not share: for mapped users the runtime is in yet another one, with
/// a copy of the mount that the record is about.
#[test]
fn mapped_users_of_a_podman_in_a_mount_namespace_of_its_own() {
    if !ready("mapped users in a mount namespace") {
        return;
    }
    for podman in both() {
        for map in ["", "--uidmap 0:300000:65536 --gidmap 0:300000:65536"] {
            let script = format!("podman run --rm {map} {APP} cat /etc/kept");
            let said = podman.host.sh(&format!("unshare -m --propagation private sh -c '{script}'"));
            assert_eq!(said, "replaced\n", "{:?} {map}", podman.program);
            assert_eq!(podman.last("createRuntime").0, "allowed", "{:?} {map}", podman.program);
        }
        assert_eq!(podman.container_mounts(), [""; 0]);
    }
}

#[test]
fn a_verified_root_starts_and_the_hooks_say_so() {
    if !ready("verified roots") {
        return;
    }
    for podman in both() {
        podman.starts(APP);
        for stage in ["precreate", "createRuntime"] {
            assert_eq!(podman.last(stage), ("allowed".into(), String::new()), "{stage} {:?}", podman.program);
        }
        for more in [
            &["--read-only"][..],
            &["--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"],
            &["--privileged"],
            &["--user", "app"],
            &["-v", "/var/tmp:/data"],
            &["--tmpfs", "/var/data", "--security-opt", "label=disable"],
        ] {
            // Native containers of podman 4 for other users cannot always be started at all.
            let args = [&["run", "--rm"], more, &[APP, "true"]].concat();
            podman.forget_calls();
            let output = podman.run(&args);
            assert!(output.status.success(), "{args:?}: {} {:?}", text(&output), podman.last("createRuntime"));
            assert_eq!(podman.last("createRuntime").0, "allowed");
        }
        podman.ok(&["run", "-d", "--name", "c", APP, "sleep", "1000"]);
        let root = podman.ok(&["exec", "c", "sh", "-c", "grep ' / / ' /proc/self/mountinfo"]);
        assert!(root.contains(" overlay composefs:"), "{root}");
        podman.forget_calls();
        podman.ok(&["restart", "-t", "0", "c"]);
        assert_eq!(podman.last("createRuntime").0, "allowed", "after a restart");
        podman.ok(&["rm", "-f", "-t", "0", "c"]);
    }
}

#[test]
fn a_verified_root_beneath_fuse_overlayfs_starts() {
    if !ready("roots beneath fuse-overlayfs") {
        return;
    }
    let podman = Podman::new(Program::Guarded);
    podman.policy(&(default_policy() + "[mount]\ntop = \"fuse-overlayfs\"\n"));
    podman.starts(APP);
    assert_eq!(podman.last("createRuntime").0, "allowed");
    // Another fuse-overlayfs in its place.
    let again = "layer=${merged%/merged}; lower=$(for l in $(cat $layer/lower | tr ':' ' '); do printf '%s' \":${layer%/*}/$l\"; done)\n\
        umount \"$merged\"; fuse-overlayfs -o \"lowerdir=${lower#:},upperdir=$layer/diff,workdir=$layer/work\" \"$merged\" </dev/null >/dev/null 2>&1";
    podman.between(again);
    podman.stopped("createRuntime", NOT_SEALED, &["O01"], &RUN);
}

#[test]
fn o01_roots_that_nobody_verified_do_not_start() {
    if !ready("o01") {
        return;
    }
    let stage = "createRuntime";
    // podman's own overlay.
    let podman = Podman::new(Program::Native);
    podman.hook(stage);
    podman.stopped(stage, NOT_SEALED, &["O01"], &RUN);
    let policy = |mode: &str| {
        default_policy()
            + &format!("[[rule]]\nimage = \"registry.example.com/*\"\nmode = \"{mode}\"\ntrust = [\"acme\"]\n")
    };
    for (mode, decision) in [("audit", "audit"), ("off", "off")] {
        podman.policy(&policy(mode));
        podman.ok(&RUN);
        assert_eq!(podman.last(stage).0, decision);
    }
    podman.policy(&default_policy());
    podman.ok(&["tag", APP, "localhost/mine"]);
    // The strictest of an image's names counts.
    podman.stopped(stage, NOT_SEALED, &["O01"], &["run", "--rm", "localhost/mine", "true"]);
    podman.ok(&["untag", APP, APP]);
    podman.ok(&["run", "--rm", "localhost/mine", "true"]);
    assert_eq!(podman.last(stage).0, "off");
    podman.ok(&["tag", "localhost/mine", APP]);
    podman.ok(&["untag", APP, "localhost/mine"]);
    for podman in [podman, Podman::new(Program::Hooked), Podman::new(Program::Guarded)] {
        rootfs(&podman);
        other_mounts(&podman);
    }
}

/// `--rootfs`: a directory, and an overlay of buildah over it.
fn rootfs(podman: &Podman) {
    podman.host.sh(
        "mkdir -p /var/tmp/root/usr/bin /var/tmp/root/etc; cd /var/tmp/root; cp $(command -v busybox) usr/bin/busybox; \
         ln -sfn usr/bin bin; ln -sf busybox usr/bin/sh; ln -sf busybox usr/bin/true",
    );
    let stage = if podman.program == Program::Native { "createRuntime" } else { "precreate" };
    for root in ["/var/tmp/root", "/var/tmp/root:O"] {
        podman.stopped(stage, NOT_SEALED, &["O01"], &["run", "--rm", "--rootfs", root, "true"]);
    }
    podman.policy(&(default_policy() + "[[rule]]\nimage = \"<rootfs>\"\nmode = \"audit\"\n"));
    podman.ok(&["run", "--rm", "--rootfs", "/var/tmp/root", "true"]);
    assert_eq!(podman.last("createRuntime"), ("audit".into(), "O01".into()));
    podman.policy(&default_policy());
}

/// Another driver, and another mount program than the host is configured for.
fn other_mounts(podman: &Podman) {
    let vfs = ["--root", "/var/tmp/vfs", "--runroot", "/run/vfs", "--storage-driver", "vfs"];
    let with = |args: &[&'static str]| [&vfs[..], args].concat();
    podman.ok(&["save", "-q", "--format", "oci-archive", "-o", "/var/tmp/app.tar", APP]);
    podman.ok(&with(&["load", "-q", "-i", "/var/tmp/app.tar"]));
    let refused_first = if podman.program == Program::Native { "createRuntime" } else { "precreate" };
    podman.stopped(refused_first, NOT_SEALED, &["O01"], &with(&RUN));
    podman.ok(&with(&["rm", "-fa"]));
    podman.ok(&with(&["rmi", "-fa"]));
    // The hooks remain those of the host.
    let fuse = ["--storage-opt", "overlay.mount_program=/usr/bin/fuse-overlayfs"];
    let (stage, code, case) = match podman.program {
        Program::Native => ("createRuntime", NOT_SEALED, "O01"),
        _ => ("precreate", CANNOT_ENFORCE, "O14"),
    };
    podman.stopped(stage, code, &[case], &[&fuse[..], &RUN].concat());
    podman.host.sh("rm -rf /var/tmp/vfs /var/tmp/app.tar");
}

#[test]
fn o03_a_root_that_was_changed_before_the_start_does_not_start() {
    if !ready("o03") {
        return;
    }
    for podman in both() {
        let refused = |code: i32, cases: &[&str], script: &str| {
            podman.between(script);
            podman.stopped("createRuntime", code, cases, &RUN);
            podman.no_more();
        };
        // Mounted over.
        let tmpfs = "mkdir /var/tmp/all; cp -a \"$merged/.\" /var/tmp/all; mount -t tmpfs -o mode=755 tmpfs \"$merged\"\n\
                     cp -a /var/tmp/all/. \"$merged\"; rm -r /var/tmp/all";
        refused(NOT_SEALED, &["O01"], tmpfs);
        // Another overlay of the same directories in its place: what podman would have mounted.
        let again = "layer=${merged%/merged}; lower=$(for l in $(cat $layer/lower | tr ':' ' '); do printf '%s' \":${layer%/*}/$l\"; done)\n\
             umount \"$merged\"; mount -t overlay -o \"lowerdir=${lower#:},upperdir=$layer/diff,workdir=$layer/work\" overlay \"$merged\"";
        refused(NOT_SEALED, &["O01"], again);
        // The same with a source that looks like ours.
        refused(
            NOT_SEALED,
            &["O01"],
            &again.replace(" overlay \"$merged\"", " composefs:fsverity-sha512-12:00 \"$merged\""),
        );
        // Only a part of it.
        refused(REJECTED, &["O03"], "mount --bind \"$merged/usr\" \"$merged\"");
        // A mount inside it, which no mount of the container is.
        refused(REJECTED, &["O03"], "mount -t tmpfs tmpfs \"$merged/opt\"");
        refused(REJECTED, &["O03"], "mount --bind /var/tmp/config \"$merged/opt/app\"");
        podman.starts(APP);
    }
}

#[test]
fn o03_a_root_that_was_swapped_with_another_does_not_start() {
    if !ready("o03 swapped") {
        return;
    }
    for program in [Program::Hooked, Program::Guarded] {
        let podman = Podman::with_both(program);
        // Sealed as well, and mounted; but not what was asked for.
        podman.ok(&["run", "-d", "--name", "other", FRESH, "sleep", "1000"]);
        let other = podman.ok(&["inspect", "--format", "{{.GraphDriver.Data.MergedDir}}", "other"]);
        podman.between(&format!("mount --bind {} \"$merged\"", other.trim()));
        let output = podman.run(&RUN);
        assert!(!output.status.success());
        assert_eq!(podman.last("createRuntime"), ("refused".into(), "O03".into()), "{}", text(&output));
        podman.no_more();
        podman.ok(&["exec", "other", "true"]);
        podman.run(&["rm", "-fa", "-t", "0"]);
        podman.starts(APP);
    }
}

/// What the kernel shows of the mount is not what was recorded when it was made.
#[test]
fn o07_a_root_of_other_layers_than_recorded_does_not_start() {
    if !ready("o07") {
        return;
    }
    for podman in both() {
        for change in [
            "s/\"lowers\": *[0-9]*/\"lowers\":7/",
            "s/\"data\": *[0-9]*/\"data\":2/",
            "s/\"fuse\": *false/\"fuse\":true/",
        ] {
            podman.between(&format!("sed -i '{change}' /run/layerseal/mounts/*.json"));
            podman.stopped("createRuntime", REJECTED, &["O07"], &RUN);
            podman.no_more();
        }
        podman.starts(APP);
    }
}

#[test]
fn o04_a_mount_over_a_system_path_does_not_start() {
    if !ready("o04") {
        return;
    }
    for podman in both() {
        podman.host.sh("mkdir -p /var/tmp/v; echo '#!/bin/sh' >/var/tmp/v/sh");
        for mount in [
            &["-v", "/var/tmp/v:/usr/share/v"][..],
            &["-v", "/var/tmp/v:/usr"],
            &["-v", "/var/tmp/v/sh:/usr/bin/true"],
            &["-v", "/var/tmp/v/sh:/bin/true"],
            &["-v", "/var/tmp/v/sh:/etc/ld.so.preload"],
            &["--tmpfs", "/lib"],
            &["--mount", "type=tmpfs,destination=/etc"],
            &["-v", "named:/usr/share/v"],
            &["-v", "/var/tmp/v:/usr/share/v:O"],
        ] {
            let args = [&["run", "--rm"], mount, &[APP, "true"]].concat();
            podman.stopped("createRuntime", REJECTED, &["O04"], &args);
        }
        podman.policy(&default_policy().replace("[default]\n", "[default]\ncover = [\"/usr/share/v\"]\n"));
        podman.ok(&["run", "--rm", "-v", "/var/tmp/v:/usr/share/v", APP, "cat", "/usr/share/v/sh"]);
        podman.stopped(
            "createRuntime",
            REJECTED,
            &["O04"],
            &["run", "--rm", "-v", "/var/tmp/v:/usr/share/w", APP, "true"],
        );
        podman.policy(&default_policy());
        // What containers are made for.
        let data =
            ["run", "--rm", "-v", "/var/tmp/v:/data", "-v", "/var/tmp/v/sh:/etc/app.conf", "--tmpfs", "/opt/data"];
        podman.ok(&[&data[..], &[APP, "cat", "/data/sh"]].concat());
    }
}
