//! The containers tools' own configuration: whom skopeo does not ask, our own client does not ask either.

use std::process::Command;

use crate::common::{Bench, two_layers};
use crate::gateway::{Do, Gateway};
use crate::scene::{ENFORCE, ON_MOUNT, Scene, pass};
use crate::tools::{Site, path};

/// Writes an entry of registries.conf.
fn entry(prefix: &str, location: &str, more: &str) -> String {
    let line = |key: &str, value: &str| if value.is_empty() { String::new() } else { format!("{key} = \"{value}\"\n") };
    format!("[[registry]]\n{}{}{more}\n", line("prefix", prefix), line("location", location))
}

/// C12, C17: the same configurations for skopeo and for us, and both ask or neither does.
#[test]
fn c17_nobody_is_asked_whom_skopeo_would_not_ask() {
    const BLOCKED: &str = "blocked = true";
    const INSECURE: &str = "insecure = true";
    let Some(site) = Site::with_api() else { return };
    let bench = Bench::new();
    bench.sealed(&two_layers());
    let to = format!("docker://{}:v1", site.repository("who/asks"));
    site.run(&bench, &["push", "oci:image", &to, "--signatures"]).ok();
    std::fs::create_dir_all(bench.path(".config/containers/registries.conf.d")).unwrap();
    let gateway = Gateway::new(site, |_| Do::Pass);
    let own = gateway.repository("who/asks");
    let here = format!("127.0.0.1:{}", gateway.port);
    let (slash, who) = (format!("{here}/"), format!("{here}/who"));
    let elsewhere = "qq.example.com/who/asks";
    let wild = entry("*.example.com", &here, INSECURE);
    // What it is, what is asked for, registries.conf, a drop-in, and whether anybody is asked.
    let table: Vec<(&str, &str, String, String, bool)> = vec![
        ("nothing", &own, String::new(), String::new(), true),
        ("the registry", &own, entry("", &here, BLOCKED), String::new(), false),
        ("a slash", &own, entry("", &slash, BLOCKED), String::new(), false),
        ("a slash of a place", elsewhere, entry("qq.example.com/", &slash, INSECURE), String::new(), true),
        ("no port", &own, entry("", "127.0.0.1", BLOCKED), String::new(), false),
        ("another port", &own, entry("", "127.0.0.1:1", BLOCKED), String::new(), true),
        ("a wildcard", &own, entry("*.0.0.1", "", BLOCKED), String::new(), false),
        (
            "the place of another name",
            "qq.example.com/asks",
            entry("qq.example.com", &who, INSECURE) + &entry("", &here, BLOCKED),
            String::new(),
            false,
        ),
        ("the place, not blocked", "qq.example.com/asks", entry("qq.example.com", &who, INSECURE), String::new(), true),
        (
            "the longest as it is written",
            elsewhere,
            entry("qq.example.com", "x.example.com:1", "") + &wild,
            String::new(),
            false,
        ),
        ("the longest, a wildcard", elsewhere, entry("qq", "x.example.com:1", "") + &wild, String::new(), true),
        (
            "the first of a file",
            elsewhere,
            entry("qq.example.com", "127.0.0.1:1", BLOCKED) + &entry("qq.example.com", &here, INSECURE),
            String::new(),
            false,
        ),
        (
            "the first of a file, not blocked",
            elsewhere,
            entry("qq.example.com", &here, INSECURE) + &entry("qq.example.com", "127.0.0.1:1", BLOCKED),
            String::new(),
            true,
        ),
        ("the last file", &own, entry("", &here, INSECURE), entry("", &here, BLOCKED), false),
        ("the last file, not blocked", &own, entry("", &here, BLOCKED), entry("", &slash, INSECURE), true),
        ("version 1", &own, format!("[registries.block]\nregistries = [\"{here}\"]\n"), String::new(), false),
        ("capitals", &own, entry("", &here, "Blocked = true"), String::new(), false),
        ("a scheme", &own, entry("", &format!("https://{here}"), BLOCKED), String::new(), false),
        ("two opinions", &own, entry("", &here, INSECURE) + &entry("", &slash, BLOCKED), String::new(), false),
    ];
    let mut others: Vec<String> = Vec::new();
    for (what, name, text, drop_in, asks) in table {
        bench.write(".config/containers/registries.conf", text.as_bytes());
        bench.write(".config/containers/registries.conf.d/z.conf", drop_in.as_bytes());
        let name = format!("docker://{name}:v1");
        for skopeo in ["trixie", "forky"] {
            let began = gateway.log().len();
            let mut command = Command::new("skopeo");
            command.env("PATH", path(skopeo)).env("HOME", bench.dir.path());
            let output = command.args(["inspect", "--raw", "--tls-verify=false", &name]).output().unwrap();
            let asked = gateway.log().len() - began;
            assert_eq!((output.status.success(), asked > 0), (asks, asks), "{what}: skopeo-{skopeo}: {output:?}");
        }
        let began = gateway.log().len();
        let run = site.run(&bench, &["verify", &name, "--trust", "signer.crt"]);
        let asked = gateway.log().len() - began;
        if (run.code == 0, asked > 0) != (asks, asks) {
            others.push(format!("{what}: exit {}, asks {asked} times: {}", run.code, run.stderr));
        }
        // A file that only skopeo understands is named.
        let understood = !["version 1", "capitals", "a scheme", "two opinions"].contains(&what);
        if !understood && !run.stderr.contains("/registries.conf: ") {
            others.push(format!("{what}: names no file: {}", run.stderr));
        }
    }
    assert!(others.is_empty(), "{others:#?}");
    // Where a push leads its own client asks too.
    bench.write(".config/containers/registries.conf", entry("", &slash, BLOCKED).as_bytes());
    bench.write(".config/containers/registries.conf.d/z.conf", b"");
    let began = gateway.log().len();
    let run = site.run(&bench, &["push", "oci:image", &format!("docker://{own}:v2"), "--signatures"]);
    assert!(run.code != 0 && gateway.log().len() == began, "{}", run.stderr);
}

/// C17: a start has no environment; what root's own files say of a registry counts all the same, as for skopeo.
#[test]
fn c17_roots_own_registries_conf_counts_at_a_start() {
    let Some(site) = Site::with_api() else { return };
    for blocked in [false, true] {
        let Some(scene) = Scene::new(site, "mount/home", &format!("{ENFORCE}{ON_MOUNT}"), pass) else { return };
        scene.host.sandbox.sh(&format!(
            "mount -t tmpfs none /root; mkdir -p /root/.config/containers/registries.conf.d; \
             printf '[[registry]]\\nlocation = \"127.0.0.1:{}\"\\ninsecure = true\\nblocked = {blocked}\\n' \
             >/root/.config/containers/registries.conf.d/z.conf",
            scene.gateway.port
        ));
        let began = scene.gateway.log().len();
        let skopeo = format!(
            "env -i PATH=/usr/bin:/bin skopeo inspect --raw docker://{}:v1 >/dev/null 2>&1 || true",
            scene.name
        );
        scene.host.sandbox.sh(&skopeo);
        assert_eq!(scene.gateway.log().len() > began, !blocked, "skopeo");
        let began = scene.gateway.log().len();
        let container = scene.container("c");
        if blocked {
            scene.host.start_refused(&container, 7, "C17");
        } else {
            scene.host.start(&container).ok();
        }
        assert_eq!(scene.gateway.log().len() > began, !blocked);
    }
}

/// C12: so do its mirrors.
#[test]
fn c12_roots_own_mirrors_count_at_a_start() {
    let Some(site) = Site::with_api() else { return };
    let Some(scene) = Scene::new(site, "mount/mirror", &format!("{ENFORCE}{ON_MOUNT}"), pass) else { return };
    let mirror = Gateway::new(site, pass);
    scene.host.sandbox.sh(&format!(
        "mount -t tmpfs none /root; mkdir -p /root/.config/containers/registries.conf.d; \
         printf '[[registry]]\\nlocation = \"127.0.0.1:{}\"\\ninsecure = true\\n\
         [[registry.mirror]]\\nlocation = \"127.0.0.1:{}\"\\ninsecure = true\\n' \
         >/root/.config/containers/registries.conf.d/z.conf",
        scene.gateway.port, mirror.port
    ));
    scene.host.start(&scene.container("c")).ok();
    assert!(mirror.asked("/referrers/") > 0);
}
