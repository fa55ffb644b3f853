//! The hooks: with podman's own overlays, which precreate replaces, and with the mount program.

use crate::guard::RUN;
use crate::image::{APP, big};
use crate::log::{Log, compare_with};
use crate::podman::{Podman, Program, emulated};
use crate::{common, life, many, ready, users};

const HOOKED: [Program; 2] = [Program::Native, Program::Hooked];

#[test]
fn hooked_containers_run_as_with_native_overlay() {
    compare_with("hooks: run", HOOKED, Podman::with_both, life::run);
}

#[test]
fn hooked_containers_live_as_with_native_overlay() {
    compare_with("hooks: life", HOOKED, Podman::new, with_sizes);
}

#[test]
fn hooked_containers_of_mapped_users_are_as_with_native_overlay() {
    compare_with("hooks: users", HOOKED, Podman::new, users::mapped);
}

#[test]
fn hooked_containers_start_at_once_and_after_a_reboot_as_with_native_overlay() {
    compare_with("hooks: many", HOOKED, Podman::with_both, many::at_once);
    compare_with("hooks: reboot", HOOKED, Podman::new, many::reboot);
}

/// Sizes too, which podman takes from the upper directory, and what it says of the changes while they are made.
fn with_sizes(podman: &Podman, log: &mut Log<'_>) {
    log.run("start a container", &["run", "-d", "--name", "s", APP, "sleep", "1000"]);
    // Metadata alone: an overlay that keeps no more of it in the upper directory loses the content for podman.
    let change = "chmod 700 /usr/share/big; chown 1000 /usr/bin/suid; echo x >/etc/made; mv /usr/share/two /usr/share/2; \
        rm -r /opt; mkdir /opt; ls -A /opt";
    log.run("exec that changes metadata", &["exec", "s", "sh", "-c", change]);
    log.run("ps -s", &["ps", "-s", "--format", "{{.Names}} {{.Size}}"]);
    log.list("diff", &["diff", "s"]);
    log.run("commit of a running one", &["commit", "-q", "--pause=false", "s", "localhost/live"]);
    log.run("export", &["export", "-o", "/var/tmp/export.tar", "s"]);
    log.shell("what was exported", "tar -tvf /var/tmp/export.tar | grep -v -e ' etc/mtab' -e ' etc/hosts' -e ' etc/resolv' -e ' etc/hostname' -e ' run/' | cut -c 1-30,48- | sort; rm /var/tmp/export.tar");
    log.run("rm -f of it", &["rm", "-f", "-t", "0", "s"]);
    let look = "sha256sum /usr/share/big /usr/bin/suid /usr/share/2; ls -ln /usr/share/big /usr/bin/suid; ls -A /opt";
    let seen = log.run("run what was committed", &["run", "--rm", "localhost/live", "sh", "-c", look]);
    let digest = openssl::sha::sha256(&big()).map(|b| format!("{b:02x}")).concat();
    assert!(seen.contains(&digest), "the content of a file of which only the mode was changed: {seen}");
    log.run("rmi of it", &["rmi", "localhost/live"]);
    life::stay(podman, log);
}

/// With `metacopy=on` podman knows of entries that hold metadata only, and reads them as they are meant.
fn metacopy(program: Program) -> Podman {
    let podman = Podman::new(program);
    podman.storage_conf(None, "mountopt = \"nodev,metacopy=on\"");
    podman
}

#[test]
fn hooked_containers_with_metacopy_live_as_with_native_overlay() {
    compare_with("hooks: metacopy", HOOKED, metacopy, with_sizes);
}

/// What a container wrote before the hooks were there stays, and what it wrote with them when they are gone.
#[test]
fn containers_keep_what_they_wrote_when_hooks_come_and_go() {
    if !ready("hooks that come and go") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.host.sh("mkdir /var/tmp/away; mv /etc/containers/hooks/* /var/tmp/away");
    let change = "echo $(cat /usr/share/one | wc -c) >>/etc/made; chmod 750 /opt/app; rm -f /etc/passwd; mv /usr/share/two /usr/share/2 2>/dev/null; cat /etc/made";
    podman.ok(&["create", "--name", "c", APP, "sh", "-c", change]);
    let mut wanted = String::new();
    for (round, script) in [
        "true",
        "mv /var/tmp/away/* /etc/containers/hooks",
        "true",
        "mv /etc/containers/hooks/* /var/tmp/away",
        "mv /var/tmp/away/* /etc/containers/hooks",
    ]
    .into_iter()
    .enumerate()
    {
        podman.host.sh(script);
        wanted += "5000\n";
        assert_eq!(podman.ok(&["start", "-a", "c"]), wanted, "round {round}");
        podman.ok(&["container", "cleanup", "c"]);
        let diff = podman.ok(&["diff", "c"]);
        for line in ["A /etc/made", "C /opt/app", "D /etc/passwd", "D /usr/share/two", "A /usr/share/2"] {
            assert!(diff.lines().any(|l| l == line), "round {round}: {line}: {diff}");
        }
        podman.ok(&["commit", "-q", "c", "localhost/kept"]);
        let sum = podman.ok(&["run", "--rm", "localhost/kept", "sh", "-c", "sha256sum /opt/app; sleep 0.2"]);
        let digest = openssl::sha::sha256(&[b'a'; 9000]).map(|b| format!("{b:02x}")).concat();
        assert!(sum.starts_with(&digest), "round {round}: {sum}");
    }
    podman.ok(&["rm", "c"]);
}

/// Mounts do not pile up, and neither does anything else.
#[test]
fn l06_two_hundred_starts_and_stops_leave_nothing() {
    if !ready("two hundred starts") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.ok(&["create", "--name", "c", APP, "sh", "-c", "echo x >>/etc/made"]);
    let before = podman.container_mounts();
    // podman itself is what takes the time; the newest one here does all of them.
    let starts = if emulated() {
        10
    } else if Podman::version() >= (5, 8) {
        200
    } else {
        30
    };
    for n in 1..=starts {
        podman.ok(&["start", "-a", "c"]);
        podman.ok(&["container", "cleanup", "c"]);
        assert_eq!(podman.container_mounts(), before, "after start {n}");
    }
    // Every start saw what the others wrote.
    let log = podman.host.sh("podman cp c:/etc/made - | tar -xO | wc -l");
    assert_eq!(log.trim(), starts.to_string());
    podman.ok(&["rm", "c"]);
    let records = podman.host.sh("ls /run/layerseal/mounts | wc -l; ls -A /run/layerseal | sort | tr '\\n' ' '");
    println!("records and directories afterwards: {records}");
    assert_eq!(podman.container_mounts(), [""; 0]);
}

/// The hook that replaces podman's overlay, with something happening to its `move_mount`: by then podman's
/// overlay is gone, and ours is not there yet.
const FAULTY: &str = r#"#!/bin/sh
read -r fault </run/fault
exec /usr/bin/strace -f -qqq -o /run/trace -e trace=move_mount -e "inject=move_mount:$fault" LAYERSEAL "$@"
"#;

#[test]
fn l01_a_swap_that_dies_in_the_middle_leaves_nothing_and_no_container() {
    if !ready("a swap that dies") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    if !podman.host.command("strace", &["--version"]).output().is_ok_and(|o| o.status.success()) {
        support::skip!("a swap that dies: needs strace");
    }
    podman.starts(APP);
    let hook = include_str!("../../hooks/podman/layerseal-precreate.json");
    let binary = crate::common::binary().display().to_string();
    podman.ok(&["create", "--name", "c", APP, "sh", "-c", "echo x >>/etc/made; cat /etc/made"]);
    for fault in ["signal=KILL:when=1", "error=EPERM:when=1", "error=EBUSY:when=1"] {
        podman.host.write("/var/tmp/faulty", FAULTY.replace("LAYERSEAL", &binary));
        podman.host.write("/run/fault", format!("{fault}\n"));
        podman.host.sh("chmod +x /var/tmp/faulty");
        podman
            .host
            .write("/etc/containers/hooks/precreate.json", hook.replace("/usr/bin/layerseal", "/var/tmp/faulty"));
        let output = podman.run(&["start", "-a", "c"]);
        assert!(!output.status.success(), "{fault}: it started");
        assert!(!output.stdout.starts_with(b"x"));
        let traced = podman.host.sh("cat /run/trace");
        assert!(traced.contains("INJECTED") || traced.contains("killed by"), "{fault}: {traced}");
        let left: Vec<String> = podman.container_mounts().into_iter().filter(|m| !m.ends_with("/shm")).collect();
        assert_eq!(left, [""; 0], "{fault}");
        podman.hook("precreate");
        podman.ok(&["start", "-a", "c"]);
        podman.ok(&["container", "cleanup", "c"]);
    }
    assert_eq!(podman.ok(&["start", "-a", "c"]).lines().count(), 4, "one line of each start");
    podman.ok(&["rm", "-f", "c"]);
    assert_eq!(podman.container_mounts(), [""; 0]);
}

/// A signature that was verified once in this boot is good: what starts again needs nothing of OpenSSL but that.
#[test]
fn a_second_start_loads_no_openssl() {
    if !ready("loading OpenSSL") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.host.sh(
        "mkdir -p /var/tmp/ld; for hook in /etc/containers/hooks/*.json; do
         sed -i 's|\"path\"|\"env\": [\"LD_DEBUG=files\", \"LD_DEBUG_OUTPUT=/var/tmp/ld/hook\"], \"path\"|' $hook; done",
    );
    let loads = || {
        podman.host.sh("rm -f /var/tmp/ld/*");
        podman.ok(&RUN);
        let hooks: usize = podman.host.sh("ls /var/tmp/ld | wc -l").trim().parse().unwrap();
        assert!(hooks >= 2, "{hooks}");
        podman.host.sh("grep -l 'file=libcrypto' /var/tmp/ld/* || true").lines().count()
    };
    // A signature that was never verified, or not in this boot.
    podman.host.sh("rm /run/layerseal/signatures/*");
    assert_eq!((loads(), loads()), (1, 0));
    // An image that was made ready starts as any later time.
    podman.host.sh("rm -r /run/layerseal/signatures /run/layerseal/certificates");
    let binary = common::binary();
    podman.host.command(binary.to_str().unwrap(), &["prepare", "--all"]).output().unwrap();
    assert_eq!(loads(), 0);
    for program in [Program::Runtime, Program::Layerseal] {
        let podman = Podman::new(program);
        podman.ok(&RUN);
        assert_ne!(podman.host.sh("ls /run/layerseal/signatures"), "");
    }
}
