//! Many at once, and what comes after a reboot and a reset.

use crate::image::{APP, FRESH};
use crate::log::{Log, compare, compare_from};
use crate::podman::{Podman, emulated};

pub fn at_once(podman: &Podman, log: &mut Log<'_>) {
    let command =
        "trap 'sleep 0.3' EXIT; sha256sum /usr/share/big; cat /etc/gone/again; echo $0 >/etc/made; cat /etc/made";
    let started: Vec<_> = (0..if emulated() { 12 } else { 50 })
        .map(|n| {
            let mut run = podman.host.command("podman", &["run", "--rm", FRESH, "sh", "-c", command, &n.to_string()]);
            (n, run.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap())
        })
        .collect();
    for (n, child) in started {
        let output = child.wait_with_output().unwrap();
        let mut lines = vec![format!("exit {}", output.status.code().unwrap_or(-1))];
        lines.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
        if !output.status.success() {
            lines.extend(String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned));
        }
        log.say(&format!("container {n}"), lines);
    }
    log.mounts("mounts at the end");
}

#[test]
fn j04_many_containers_of_a_fresh_image_start_at_once() {
    compare_from("many", Podman::with_both, at_once);
}

pub fn reboot(podman: &Podman, log: &mut Log<'_>) {
    let command = "echo made >>/etc/made; rm -f /etc/passwd; cat /etc/made; sleep 1000";
    log.run("start", &["run", "-d", "--name", "kept", APP, "sh", "-c", command]);
    log.run("start --rm", &["run", "-d", "--rm", "--name", "volatile", APP, "sleep", "1000"]);
    log.run("exec", &["exec", "kept", "sh", "-c", "until [ -e /etc/made ]; do sleep 0.1; done; echo more >>/etc/kept"]);
    log.run("image mount", &["image", "mount", APP]);
    podman.host.reboot();
    log.mounts("mounts after the reboot");
    log.list("ps", &["ps", "-a", "--format", "{{.Names}} {{.State}}"]);
    log.run("start again", &["start", "kept"]);
    let look = "until [ $(cat /etc/made | wc -l) = 2 ]; do sleep 0.1; done; cat /etc/made /etc/kept; ls /etc";
    log.run("exec again", &["exec", "kept", "sh", "-c", look]);
    log.run("rm", &["rm", "-f", "-t", "0", "kept"]);
    log.run("run", &["run", "--rm", APP, "sh", "-c", "cat /etc/kept"]);
    log.mounts("mounts at the end");
}

#[test]
fn containers_start_after_a_reboot_as_with_fuse_overlayfs() {
    compare("reboot", reboot);
}

fn reset(_: &Podman, log: &mut Log<'_>) {
    log.run("start", &["run", "-d", "--name", "c", APP, "sleep", "1000"]);
    log.run("image mount", &["image", "mount", FRESH]);
    log.run("stop", &["stop", "-t", "0", "c"]);
    log.run("system reset", &["system", "reset", "-f"]);
    log.shell("what is left", "ls -A /var/lib/containers/storage /run/containers/storage 2>&1 || true");
    log.mounts("mounts afterwards");
    log.run("images", &["images", "-q"]);
}

#[test]
fn a_reset_leaves_nothing_as_with_fuse_overlayfs() {
    compare_from("reset", Podman::with_both, reset);
}
