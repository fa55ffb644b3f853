//! Many at once, and what comes after a reboot and a reset.

use crate::image;
use crate::image::{APP, FRESH};
use crate::log::{Log, Scenario, compare, compare_from};
use crate::podman::{Podman, Program, layouts};

/// Containers that start at the same time; emulated machines get fewer.
fn how_many() -> usize {
    std::env::var("LAYERSEAL_TEST_MANY").map_or(50, |n| n.parse().unwrap())
}

fn at_once(podman: &Podman, log: &mut Log<'_>) {
    let command = "sha256sum /usr/share/big; cat /etc/gone/again; echo $0 >/etc/made; cat /etc/made";
    let started: Vec<_> = (0..how_many())
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
    compare("many", at_once);
}
