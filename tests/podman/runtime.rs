//! layerseal as the OCI runtime, in front of crun and runc: with podman's own overlays, and without hooks.

use std::process::Output;

use crate::guard::{RUN, text};
use crate::image::{APP, FRESH};
use crate::log::{Log, compare_with};
use crate::podman::{Podman, Program, default_policy, emulated};
use crate::{life, many, ready, users};

const WRAPPED: [Program; 2] = [Program::Native, Program::Runtime];

/// Where everything takes ten times as long the hooks, which decide the same, are compared and this is not.
fn slow(what: &str) -> bool {
    if emulated() {
        support::skip!(part: "{what}: not compared on an emulated machine");
    }
    emulated()
}

#[test]
fn containers_of_the_runtime_run_as_with_native_overlay() {
    if slow("runtime: run") {
        return;
    }
    compare_with("runtime: run", WRAPPED, Podman::with_both, life::run);
}

#[test]
fn containers_of_the_runtime_live_as_with_native_overlay() {
    if slow("runtime: life") {
        return;
    }
    compare_with("runtime: life", WRAPPED, Podman::new, life::stay);
}

#[test]
fn containers_of_the_runtime_of_mapped_users_are_as_with_native_overlay() {
    if slow("runtime: users") {
        return;
    }
    // Not `users::mapped`: podman 4 and the podman that conmon starts in its own mount namespace are at the same mounts
    // at the end, and now and then the first one's `rm` fails, with its own runtime as well.
    let mapped = |_: &Podman, log: &mut Log<'_>| {
        let map = ["--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"];
        for more in [&map[..], &["--userns=auto"]] {
            log.run(&more.join(" "), &[&["run", "--rm"], more, &[APP, "sh", "-c", users::LOOK]].concat());
        }
    };
    compare_with("runtime: users", WRAPPED, Podman::new, mapped);
}

#[test]
fn containers_of_the_runtime_start_at_once_and_after_a_reboot_as_with_native_overlay() {
    if slow("runtime: many") {
        return;
    }
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

/// podman runs the runtime in a mount namespace apart then, with a copy of its own overlay: that must be gone
/// everywhere.
#[test]
fn mapped_users_of_the_runtime_are_on_the_verified_mount_and_podman_too() {
    if !ready("runtime: mapped users") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    // Another overlay than ours, in whatever namespace.
    let native = || {
        podman.host.sh("cat /proc/[0-9]*/mountinfo 2>/dev/null | grep -c ' overlay overlay .*upperdir=[^,]*/storage/overlay/' || true")
    };
    for more in [&[][..], &["--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"]] {
        podman.ok(&[&["run", "-d", "--name", "c"], more, &[APP, "sleep", "1000"]].concat());
        assert_eq!(podman.last("runtime").0, "allowed");
        assert_eq!(podman.last("createRuntime").0, "allowed");
        let root = podman.ok(&["exec", "c", "sh", "-c", "grep ' / / ' /proc/self/mountinfo"]);
        assert!(root.contains(" overlay composefs:"), "{root}");
        let there: Vec<String> =
            podman.host.mounts().into_iter().filter(|m| m.target.ends_with("/merged")).map(|m| m.source).collect();
        assert!(there.len() == 1 && there[0].starts_with("composefs:"), "{more:?}: {there:?}");
        assert_eq!(native().trim(), "0", "{more:?}: two overlays over one upper directory");
        podman.ok(&["exec", "c", "sh", "-c", "echo x >/opt/made"]);
        podman.ok(&["restart", "-t", "0", "c"]);
        assert_eq!(podman.ok(&["exec", "c", "cat", "/opt/made"]), "x\n");
        podman.ok(&["rm", "-f", "-t", "0", "c"]);
        assert_eq!(podman.container_mounts(), [""; 0]);
        refused(&podman, "C07", &[&["run", "--rm"], more, &[FRESH, "true"]].concat());
    }
}

/// An engine with a mount namespace of its own, as in a service or a container: others that start at the same time have
/// namespaces with copies of its mounts, and none of them is where the engine is.
#[test]
fn many_at_once_in_a_mount_namespace_of_the_engines_own() {
    if !ready("runtime: many at once in a mount namespace") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    let count = if emulated() { 8 } else { 24 };
    for mapped in ["", "--uidmap 0:300000:65536"] {
        let script = format!(
            "for n in $(seq {count}); do (podman run --rm {mapped} {APP} true >/var/tmp/out.$n 2>&1 || cat /var/tmp/out.$n) & done; wait"
        );
        let said = podman.host.sh(&format!("unshare -m --propagation private sh -c '{script}'"));
        assert_eq!(said, "", "{mapped}");
    }
    assert_eq!(podman.container_mounts(), [""; 0]);
}

/// A runtime that says how it was called.
const RECORDER: &str = "#!/bin/sh\n{ echo ARGS \"$@\"; pwd; umask; env | sort; ls -l /proc/self/fd | grep pipe | wc -l; } >/var/tmp/called\nexit 42\n";

impl Podman {
    /// Has the runtime behind layerseal be a script.
    fn recorder(&self) {
        self.host.write("/etc/layerseal/recorder", RECORDER);
        self.host.sh("chmod 755 /etc/layerseal/recorder");
        self.host.write("/etc/layerseal/runtime.toml", "path = \"/etc/layerseal/recorder\"\n");
    }

    /// Calls the runtime, and gives the exit code, what it said, and how the one behind it was called.
    fn call(&self, script: &str) -> (Option<i32>, String, String) {
        self.host.sh("rm -f /var/tmp/called");
        let output = self.host.shell(script);
        (output.status.code(), text(&output), self.host.sh("cat /var/tmp/called 2>/dev/null || true"))
    }
}

#[test]
fn the_runtime_behind_is_called_as_it_would_be_alone() {
    if !ready("runtime: calls") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    podman.recorder();
    let id = podman.ok(&["create", "--name", "c", APP, "sleep", "1000"]).trim().to_owned();
    let merged = podman.ok(&["mount", &id]).trim().to_owned();
    let bundle = format!("/var/lib/containers/storage/overlay-containers/{id}/userdata");
    podman.host.write(
        &format!("{bundle}/config.json"),
        serde_json::json!({"ociVersion": "1.0.2", "root": {"path": merged},
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["true"]}})
        .to_string(),
    );
    let called = "ODD='a b' OPENSSL_CONF=/nowhere LD_LIBRARY_PATH=/x exec";
    let in_place = "cd /opt; umask 027; { sleep 0 | exec 5<&0; } 2>/dev/null; ";
    for arguments in [
        "--root /r --systemd-cgroup state c".to_owned(),
        "--version".to_owned(),
        "--root=/r kill c 9".to_owned(),
        "features".to_owned(),
        format!("--root=/r create --bundle {bundle} --pid-file /p {id}"),
        format!("run -b {bundle} {id}"),
    ] {
        let alone = podman.call(&format!("{in_place}{called} /etc/layerseal/recorder {arguments}"));
        for ours in ["/var/tmp/layerseal-runtime".to_owned(), format!("{} runtime", crate::common::binary().display())]
        {
            let wrapped = podman.call(&format!("{in_place}{called} {ours} {arguments}"));
            assert_eq!(wrapped, alone, "{ours} {arguments}");
        }
        assert_eq!(alone.0, Some(42));
    }
    // A broken policy keeps nobody from having containers stopped, and lets none start.
    podman.policy("nonsense");
    let (code, _, record) = podman.call(&format!("/var/tmp/layerseal-runtime kill {id} 9"));
    assert!(code == Some(42) && record.starts_with("ARGS kill"), "{record}");
    let start = format!("/var/tmp/layerseal-runtime create --bundle {bundle} {id}");
    let (code, said, record) = podman.call(&start);
    assert!(code == Some(5) && said.contains("[R-F03]") && record.is_empty(), "{said} {record}");
    podman.policy(&default_policy());
    // What cannot be read for sure.
    for bad in ["--unknown create c", "create --bund /b c", "create", "create -b /nowhere c"] {
        let (code, said, record) = podman.call(&format!("/var/tmp/layerseal-runtime {bad}"));
        assert!(code == Some(2) && said.contains("[R-O05]") && record.is_empty(), "{bad}: {said}");
    }
    // No runtime behind it that can be trusted: for whatever is asked.
    for (change, undo) in [
        ("chmod 777 /etc/layerseal/recorder", "chmod 755 /etc/layerseal/recorder"),
        ("chown 1 /etc/layerseal/recorder", "chown 0 /etc/layerseal/recorder"),
        ("chmod 666 /etc/layerseal/runtime.toml", "chmod 644 /etc/layerseal/runtime.toml"),
        ("mv /etc/layerseal/runtime.toml /etc/layerseal/away", "mv /etc/layerseal/away /etc/layerseal/runtime.toml"),
    ] {
        podman.host.sh(change);
        for arguments in ["state c", &format!("create --bundle {bundle} {id}")] {
            let (code, said, record) =
                podman.call(&format!("PATH=/usr/bin:/bin /var/tmp/layerseal-runtime {arguments}"));
            assert!(code == Some(5) && said.contains("[R-F07]") && record.is_empty(), "{change}: {said}");
        }
        podman.host.sh(undo);
    }
    podman.host.sh(&format!("umount '{merged}'"));
}

#[test]
fn o12_a_checkpoint_is_refused_unless_a_rule_lets_it_pass() {
    if !ready("runtime: restore") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    podman.recorder();
    let rule = |more: &str| {
        default_policy()
            + &format!("[[rule]]\nimage = \"registry.example.com/*\"\nmode = \"enforce\"\ntrust = [\"acme\"]\n{more}\n")
    };
    for (image, more, code, case) in [
        (APP, "", Some(3), "O12"),
        (APP, "checkpoint = \"allow\"", Some(42), ""),
        (FRESH, "checkpoint = \"allow\"", Some(3), "C07"),
    ] {
        let id = podman.ok(&["create", image, "sleep", "1000"]).trim().to_owned();
        let merged = podman.ok(&["mount", &id]).trim().to_owned();
        // What an engine does of a checkpoint before it calls the runtime.
        let unpack = || podman.host.sh(&format!("echo changed >'{merged}/etc/kept'; chmod 700 '{merged}/etc'"));
        unpack();
        let bundle = format!("/var/lib/containers/storage/overlay-containers/{id}/userdata");
        let config = serde_json::json!({"ociVersion": "1.0.2", "root": {"path": merged}});
        podman.host.write(&format!("{bundle}/config.json"), config.to_string());
        podman.policy(&rule(more));
        let script = format!("/var/tmp/layerseal-runtime restore --image-path /i -d --bundle {bundle} {id}");
        let (found, said, record) = podman.call(&script);
        assert_eq!(found, code, "{image} {more}: {said}");
        assert_eq!(podman.last("runtime").1, case, "{said}");
        assert_eq!(record.starts_with("ARGS restore"), code == Some(42), "{record}");
        podman.policy(&rule(more).replace("\"enforce\"", "\"audit\""));
        podman.ok(&["umount", "-f", &id]);
        podman.ok(&["mount", &id]);
        unpack();
        let (found, said, _) = podman.call(&script);
        assert_eq!(found, Some(42), "audit: {said}");
        podman.run(&["umount", "-f", &id]);
        podman.run(&["rm", "-f", &id]);
    }
}

/// Where engines read what went wrong.
#[test]
fn a_refusal_of_the_runtime_is_in_the_log_that_the_engine_reads() {
    if !ready("runtime: logs") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    for (format, wanted) in [("--log-format=json", "{\"level\":\"error\",\"msg\":\"layerseal: "), ("", "time=\"20")] {
        podman.host.sh("rm -f /var/tmp/log; echo before >/var/tmp/log");
        let (code, said, _) =
            podman.call(&format!("/var/tmp/layerseal-runtime {format} --log /var/tmp/log create --bundle /nowhere c"));
        let log = podman.host.sh("cat /var/tmp/log");
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!((code, lines.len(), lines[0]), (Some(2), 2, "before"), "{log}");
        assert!(lines[1].starts_with(wanted) && lines[1].contains("[R-O05]"), "{log}");
        assert!(said.starts_with("layerseal: /nowhere: "), "{said}");
    }
}

#[test]
fn pods_and_what_else_is_no_usual_container() {
    if !ready("runtime: pods") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    // The infra container is one too, of whatever image.
    let pod = |image| {
        ["pod", "create", "--name", "p", "--share", "uts", "--infra-command", "sleep 1000", "--infra-image", image]
    };
    podman.ok(&pod(APP));
    podman.ok(&["run", "-d", "--pod", "p", "--name", "c", APP, "sleep", "1000"]);
    assert_eq!(podman.last("runtime").0, "allowed");
    podman.ok(&["exec", "c", "cat", "/etc/kept"]);
    podman.ok(&["pod", "rm", "-f", "-t", "0", "p"]);
    podman.ok(&pod(FRESH));
    let output = podman.run(&["run", "-d", "--pod", "p", "--name", "c", APP, "sleep", "1000"]);
    assert!(!output.status.success());
    assert_eq!(podman.last("runtime"), ("refused".into(), "C07".into()), "{}", text(&output));
    podman.ok(&["pod", "rm", "-f", "-t", "0", "p"]);
    let image = format!("type=image,src={FRESH},dst=/other");
    refused(&podman, "O11", &["run", "--rm", "--mount", &image, APP, "true"]);
    refused(&podman, "O01", &["run", "--rm", "--rootfs", "/usr", "true"]);
    refused(&podman, "O04", &["run", "--rm", "-v", "/var/tmp:/usr/share", APP, "true"]);
    let output = podman.run(&["run", "--rm", "--tmpfs", "/usr/share", APP, "true"]);
    assert!(!output.status.success());
    assert_eq!(podman.last("createRuntime"), ("refused".into(), "O04".into()), "{}", text(&output));
}

/// What the policy says of device files and set-user-ID bits holds where it matters: in the container.
#[test]
fn nodev_and_nosuid_are_seen_in_the_container() {
    if !ready("nodev in containers") {
        return;
    }
    for program in [Program::Hooked, Program::Guarded, Program::Runtime] {
        let podman = Podman::new(program);
        if program == Program::Runtime {
            podman.noted();
        }
        for (settings, nodev, nosuid) in
            [("", true, false), ("nosuid = true", true, true), ("nodev = false", false, false)]
        {
            // Who mounts is no matter for the rest.
            if !settings.is_empty() && (program == Program::Guarded || emulated()) {
                if emulated() {
                    support::skip!(part: "other settings: not on an emulated machine");
                }
                continue;
            }
            podman.policy(&(default_policy() + "[mount]\n" + settings + "\n"));
            let map = ["--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"];
            for more in [&[][..], &["--read-only"], &["--privileged"], &map] {
                let look = "grep ' / / ' /proc/self/mountinfo | cut -d ' ' -f 6; sleep 0.2";
                let flags = podman.ok(&[&["run", "--rm"], more, &[APP, "sh", "-c", look]].concat());
                let has = |flag: &str| flags.trim().split(',').any(|f| f == flag);
                // The kernel allows no device files on what another user namespace mounts.
                let mapped = more.contains(&"--uidmap");
                assert!(mapped || has("nodev") == nodev, "{program:?} {settings} {more:?}: {flags}");
                assert!(has("nosuid") == nosuid, "{program:?} {settings} {more:?}: {flags}");
                assert_eq!(has("ro"), more.contains(&"--read-only"), "{flags}");
            }
        }
    }
}

/// CRI-O removes its graph root after a power cut, and images come back by a pull.
#[test]
fn seals_outlive_the_graph_root() {
    if !ready("seals outlive") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    podman.starts(APP);
    for _ in 0..2 {
        podman.ok(&["rmi", "-fa"]);
        podman.host.sh("rm -rf /var/lib/containers/storage/layerseal");
        podman.pull(APP);
        podman.starts(APP);
        assert_eq!(podman.last("runtime").0, "allowed");
    }
    // They are believed nothing: not where somebody is trusted no more, nor for another image.
    let seal = podman.host.sh("ls /var/lib/layerseal/seals/images/*/*").trim().to_owned();
    podman.pull(FRESH);
    podman.host.sh(&format!(
        "rm -rf /var/lib/containers/storage/layerseal; mkdir /var/lib/layerseal/seals/images/$(sha256sum </var/lib/containers/storage/overlay-images/$(podman images -q --no-trunc {FRESH} | sed s/sha256://)/manifest | cut -c 1-64); \
         for d in /var/lib/layerseal/seals/images/*; do cp -n {seal} $d/ 2>/dev/null || true; done"
    ));
    refused(&podman, "D01", &["run", "--rm", FRESH, "true"]);
    podman.host.sh("rm -rf /var/lib/containers/storage/layerseal; for b in /var/lib/layerseal/seals/blobs/sha256/*; do echo x >>$b; done");
    refused(&podman, "C07", &RUN);
}

/// What CRI-O does at a start after an unclean end, and podman when it is asked: every layer is mounted and unmounted, those
/// of running containers too, and what fails is taken for damage. Nothing fails here: the mounts are the store's own, and what
/// was put in their place is an overlay like those.
#[test]
fn a_check_of_the_store_finds_nothing_while_containers_run() {
    if !ready("runtime: store check") {
        return;
    }
    if Podman::version() < (5, 0) {
        support::skip!("runtime: store check: podman {:?} has none", Podman::version());
    }
    let podman = Podman::new(Program::Runtime);
    // The other image was only pulled, and nobody sealed it.
    let audit = "[[rule]]\nimage = \"registry.example.com/acme/fresh\"\nmode = \"audit\"\n";
    podman.policy(&(default_policy() + audit));
    let mapped = ["--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"];
    let containers =
        [("c", &[][..], APP), ("mapped", &mapped, APP), ("read-only", &["--read-only"], APP), ("audit", &[], FRESH)];
    for (name, more, image) in containers {
        podman.ok(&[&["run", "-d", "--name", name], more, &["-v", "/var/tmp:/data", image, "sleep", "1000"]].concat());
        if name != "read-only" {
            podman.ok(&["exec", name, "sh", "-c", "echo x >/opt/made"]);
        }
    }
    let mounts = podman.container_mounts();
    for policy in [default_policy(), "nonsense".into()] {
        podman.policy(&policy);
        podman.ok(&["system", "check", "--quick"]);
        for (name, ..) in containers {
            let made = podman.ok(&["exec", name, "sh", "-c", "cat /etc/kept /opt/made 2>/dev/null || true"]);
            assert_eq!(made.lines().last(), Some(if name == "read-only" { "replaced" } else { "x" }), "{name}: {made}");
        }
        assert_eq!(podman.container_mounts(), mounts);
    }
    podman.policy(&default_policy());
    assert_eq!(podman.ok(&["images", "-q"]).lines().count(), 2);
    for (name, ..) in &containers[..3] {
        podman.ok(&["restart", "-t", "0", name]);
        podman.ok(&["exec", name, "cat", "/etc/kept"]);
    }
    assert_eq!(podman.ok(&["exec", "c", "cat", "/opt/made"]), "x\n");
    podman.ok(&["rm", "-f", "-a", "-t", "0"]);
    assert_eq!(podman.container_mounts(), [""; 0]);
}

/// The runtime with something happening to what it mounts: podman's overlay is gone by then, and ours is not there yet.
const FAULTY: &str = "#!/bin/sh\nread -r fault </run/fault\n\
    exec /usr/bin/strace -f -qqq -A -o /run/trace -e trace=move_mount,fork,clone -e \"inject=$fault\" LAYERSEAL runtime \"$@\"\n";

#[test]
fn l01_a_runtime_that_dies_in_the_middle_leaves_nothing_and_no_container() {
    if !ready("a runtime that dies") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    if !podman.host.command("strace", &["--version"]).output().is_ok_and(|o| o.status.success()) {
        support::skip!("a runtime that dies: needs strace");
    }
    podman.starts(APP);
    let binary = crate::common::binary().display().to_string();
    podman.host.write("/var/tmp/faulty", FAULTY.replace("LAYERSEAL", &binary));
    podman.host.sh("chmod +x /var/tmp/faulty");
    let map = ["--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"];
    for more in [&[][..], &map] {
        podman
            .ok(&[&["create", "--name", "c"], more, &[APP, "sh", "-c", "echo x >>/etc/made; cat /etc/made"]].concat());
        let upper = podman.ok(&["container", "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", "c"]);
        let mut lines = 0;
        for fault in ["move_mount:signal=KILL:when=1", "move_mount:error=EPERM:when=1", "clone:error=EAGAIN:when=1"] {
            podman.host.write("/run/fault", format!("{fault}\n"));
            podman.host.sh("rm -f /run/trace; ln -sfn /var/tmp/faulty /var/tmp/layerseal-runtime");
            let output = podman.run(&["start", "-a", "c"]);
            let error = text(&output);
            assert!(!output.status.success() && !output.stdout.starts_with(b"x"), "{fault} {more:?}: it started");
            assert!(error.contains("layerseal: ") && error.contains("[R-"), "{fault} {more:?}: {error}");
            let traced = podman.host.sh("cat /run/trace");
            assert!(traced.contains("INJECTED") || traced.contains("killed by"), "{fault}: {traced}");
            podman.host.sh(&format!("ln -sfn {binary} /var/tmp/layerseal-runtime"));
            podman.run(&["container", "cleanup", "c"]);
            let left: Vec<String> = podman.container_mounts().into_iter().filter(|m| !m.ends_with("/shm")).collect();
            assert_eq!(left, [""; 0], "{fault} {more:?}");
            lines += 1;
            podman.ok(&["start", "-a", "c"]);
            podman.ok(&["container", "cleanup", "c"]);
            // Not what was attached: podman loses it now and then.
            let made = podman.host.sh(&format!("cat {}/etc/made", upper.trim()));
            assert_eq!(made.lines().count(), lines, "{fault} {more:?}");
        }
        // podman 4 and the podman that conmon started in its own mount namespace may be at the same mounts.
        podman.run(&["rm", "-f", "c"]);
        podman.run(&["rm", "-f", "c"]);
    }
}
