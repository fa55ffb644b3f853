//! What a person meets on the first day: messages that lead on, and the ways that they name.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::builders::{layout, program};
use crate::common::{self, Entry};
use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program, default_policy, has_verity};
use crate::{ready, scratch};

impl Podman {
    /// Runs layerseal; what it printed, and how it ended.
    fn layerseal(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.host.command(&common::binary().display().to_string(), args).output().unwrap();
        let text = [&output.stdout[..], &output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs a container that must not start; what podman said.
    #[track_caller]
    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "podman {args:?} started");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// podman says which words it called a hook by, and an exit code; the words say where to look.
#[test]
fn podmans_message_says_where_to_look_and_the_container_is_found_there() {
    if !ready("where to look after a refusal") {
        return;
    }
    let podman = Podman::pulled(Program::Hooked);
    let (code, said) = podman.layerseal(&["hook", "explain", "--last", "5"]);
    assert_eq!((code, said.contains("no hook has refused")), (Some(0), true), "{said}");
    podman.ok(&["tag", APP, "registry.example.com/other/name:2"]);
    let said = podman.fails(&["run", "--name", "web", "registry.example.com/other/name:2", "true"]);
    assert!(said.contains("see: layerseal hook explain"), "{said}");
    podman.fails(&["run", "--rm", "--name", "gone", APP, "true"]);
    let id = podman.ok(&["ps", "-aq", "--no-trunc", "--filter", "name=web"]).trim().to_owned();
    for who in ["web", &id, &id[..12]] {
        let (code, said) = podman.layerseal(&["hook", "explain", who]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.starts_with("refused, ") && said.contains("web (") && said.contains("[R-C07]"), "{said}");
        assert!(said.contains("image registry.example.com/other/name:2: "), "the name that was asked for: {said}");
    }
    // podman removed it, and whoever asks has its name alone.
    let (_, said) = podman.layerseal(&["hook", "explain", "gone"]);
    assert!(said.contains("gone (") && said.contains(&format!("image {APP}: ")), "{said}");
    let (_, said) = podman.layerseal(&["hook", "explain", "--last", "2"]);
    let at = |what: &str| said.find(what).unwrap_or_else(|| panic!("no {what}: {said}"));
    assert!(at("gone (") < at("web ("), "the newest is the first: {said}");
    let (_, said) = podman.layerseal(&["hook", "explain", "--last", "1", "--json"]);
    let last: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((last["calls"].as_array().unwrap().len(), &last["calls"][0]["name"]), (1, &json!("gone")), "{last}");
    let (code, said) = podman.layerseal(&["hook", "explain", "nobody"]);
    assert_eq!((code, said.contains("no container with this name or ID")), (Some(2), true), "{said}");
    podman.ok(&["rm", "web"]);
}

/// Time zones are data: containers get the host's in every way that podman has.
#[test]
fn o04_time_zones_may_come_from_the_host() {
    if !ready("time zones of the host") {
        return;
    }
    let podman = Podman::at(scratch::fresh("host"), Program::Hooked);
    let image = "registry.example.com/acme/zones:1";
    let layers = [vec![
        program("bin/sh"),
        program("bin/cat"),
        Entry::file("usr/share/zoneinfo/Etc/UTC", "sealed\n"),
        Entry::symlink("etc/localtime", "/usr/share/zoneinfo/Etc/UTC"),
        Entry::file("usr/share/nginx/html/index.html", "sealed\n"),
    ]];
    let dir = layout(image, &layers, &json!({"Cmd": ["/bin/cat", "/etc/localtime"]}));
    podman.pull_layout(image, &dir);
    assert!(podman.try_prepare(image, &dir).status.success());
    podman.host.write("/var/tmp/zone", "the host's\n");
    let ran = podman.ok(&["run", "--rm", "-v", "/var/tmp/zone:/etc/localtime:ro", image]);
    assert_eq!(ran, "the host's\n");
    podman.ok(&["run", "--rm", "--tz=local", image, "cat", "/etc/hosts"]);
    // What is refused says what to write, for the path at hand.
    podman.fails(&["run", "--rm", "-v", "/var/tmp/zone:/usr/share/nginx/html/index.html", image]);
    let (_, said) = podman.layerseal(&["hook", "explain", "--last", "1"]);
    assert!(said.contains("[R-O04]") && said.contains("cover = [\"/usr/share/nginx/html/index.html\"]"), "{said}");
}

/// The way that C16 names, with no skopeo anywhere: an image that was built here is pushed into a layout, signed there,
/// and starts. It is what Debian 12's own tools can do.
#[test]
fn c16_an_image_is_sealed_and_started_without_skopeo() {
    if !ready("sealing without skopeo") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let image = "registry.example.com/acme/built:1";
    podman.ok(&["create", "--name", "base", APP, "true"]);
    podman.ok(&["commit", "-q", "base", image]);
    podman.ok(&["rm", "base"]);
    let start = ["run", "--rm", image, "true"];
    podman.fails(&start);
    let (_, said) = podman.layerseal(&["hook", "explain", "--last", "1"]);
    assert!(said.contains("[R-C07]") && said.contains("was built or loaded here"), "{said}");

    let who = common::signer();
    podman.host.write("/var/tmp/release.crt", who.cert.to_pem().unwrap());
    podman.host.write("/var/tmp/release.key", who.key.private_key_to_pem_pkcs8().unwrap());
    let key = podman.host.inside("/var/tmp/release.key");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
    // podman's own programs only.
    let binary = common::binary().display().to_string();
    let alone = |args: &[&str]| {
        let args = [&["PATH=/nowhere", binary.as_str()], args].concat();
        let output = podman.host.command("env", &args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = alone(&["verify", "docker://127.0.0.1:1/acme/built:1"]);
    assert_eq!(code, Some(9), "{said}");
    assert!(said.contains("[R-C16]") && said.contains("podman push IMAGE oci:DIR"), "{said}");
    podman.ok(&["push", "-q", image, "oci:/var/tmp/built"]);
    let sign = ["--cert", "/var/tmp/release.crt", "--key", "/var/tmp/release.key"];
    let name = ["--identity", "registry.example.com/acme/built"];
    let (code, said) = alone(&[&["sign", "oci:/var/tmp/built"][..], &sign, &name].concat());
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = alone(&["prepare", image, "--seal", "oci:/var/tmp/built"]);
    assert_eq!(code, Some(0), "{said}");
    podman.ok(&start);
}

/// What was refused is read back from a journal that journald wrote, and from nobody else's words in it.
#[test]
fn report_reads_what_journald_has() {
    if !ready("report from a journal") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let host = &podman.host;
    let journald = "/lib/systemd/systemd-journald";
    if !host.shell(&format!("test -x {journald} && command -v journalctl")).status.success() {
        support::skip!("report from a journal: there is no systemd-journald here");
    }
    host.sh("mkdir -p /run/systemd/journal /run/log/journal; test -s /etc/machine-id || echo 0123456789abcdef0123456789abcdef >/etc/machine-id");
    let mut running = host.command(journald, &[]).spawn().unwrap();
    support::eventually("journald", || host.shell("test -S /run/systemd/journal/socket").status.success());
    for _ in 0..2 {
        assert!(!podman.run(&["run", "--rm", "--name", "c", FRESH, "true"]).status.success());
    }
    // Somebody else says so too.
    let fields = ["MESSAGE=m", "SYSLOG_IDENTIFIER=layerseal", "LAYERSEAL_DECISION=refused", "LAYERSEAL_CASE=X99"];
    let other = ["--reuid", "1234", "--regid", "1234", "--clear-groups", "logger", "--journald=/var/tmp/fields"];
    host.write("/var/tmp/fields", fields.join("\n") + "\n");
    host.sh("chmod 644 /var/tmp/fields");
    assert!(host.command("setpriv", &other).status().unwrap().success());
    support::eventually("the other's word", || host.sh("journalctl -t layerseal -o cat _UID=1234").contains('m'));
    // Without our own log it is the journal that tells.
    host.sh("rm -rf /run/layerseal/log; journalctl --sync || true");
    let report = || podman.verb(&["report"]);
    support::eventually("the journal", || report().0["calls"]["refused"] == 2);
    let ran = podman.ok(&["run", "--rm", APP, "true"]);
    let (found, code) = report();
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!((&found["source"], code, ran.as_str()), (&"journal".into(), 0, ""), "{found}");
    let groups = found["groups"].as_array().unwrap();
    let group = &groups[0];
    // Each container once, by its case; what another user says is left out.
    assert_eq!((groups.len(), &group["case"], &group["image"]), (1, &"C07".into(), &FRESH.into()), "{found}");
    assert_eq!((&group["calls"], &group["containers"]), (&2.into(), &2.into()), "{found}");
    assert!(group["remedy"].as_str().unwrap().contains("layerseal fetch"), "{found}");
}

/// Under audit on a host without fs-verity, where podman's own overlay stays: every hook says what `check` says and enforce
/// does, and not that the root is podman's.
#[test]
fn audit_says_what_enforce_refuses_without_fs_verity() {
    if has_verity() || !ready("a host without fs-verity") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let policy = default_policy().replace("verity = \"off\"", "verity = \"require\"");
    for (image, case) in [(APP, "G06"), (FRESH, "C07")] {
        for mode in ["audit", "enforce"] {
            podman.policy(&policy.replace("mode = \"enforce\"", &format!("mode = \"{mode}\"")));
            let (found, _) = podman.verb(&["check", image]);
            let expected = &found["images"][0]["expected"];
            let verdict = if mode == "audit" { "audit" } else { "refused" };
            assert_eq!((&expected["verdict"], &expected["error"]["case"]), (&json!(verdict), &json!(case)), "{found}");
            let output = podman.run(&["run", "--name", "one", image, "true"]);
            assert_eq!(output.status.success(), mode == "audit", "{image} {mode}");
            let stages = if mode == "audit" { &["precreate", "createRuntime"][..] } else { &["precreate"] };
            for stage in stages {
                assert_eq!(podman.last(stage), (verdict.to_owned(), case.to_owned()), "{image} {mode} {stage}");
            }
            let (_, said) = podman.layerseal(&["hook", "explain", "one"]);
            assert!(said.contains(&format!("[R-{case}]")) && !said.contains("would refuse: audit:"), "{said}");
            podman.ok(&["rm", "one"]);
        }
    }
    podman.policy(&policy.replace("mode = \"enforce\"", "mode = \"audit\""));
    let (found, _) = podman.verb(&["report"]);
    let cases: Vec<_> = found["starts"].as_array().into_iter().flatten().map(|s| s["case"].clone()).collect();
    assert!(!found.to_string().contains("O01"), "{cases:?} {found}");
}

/// Of all images there is a sum, and the exit code is that of what did not go.
#[test]
fn prepare_and_fetch_of_all_images_have_a_sum_and_an_exit_code() {
    if !ready("prepare --all") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let sum = |args: &[&str]| {
        let (code, said) = podman.layerseal(args);
        (code, said.lines().rfind(|line| line.contains(" images: ")).unwrap_or(&said).to_owned())
    };
    assert_eq!(sum(&["prepare", "--all"]), (Some(3), "2 images: 1 ready, 1 refused".to_owned()));
    let (code, said) = sum(&["fetch", "--all"]);
    // Nobody answers for their registry, or skopeo is too old to ask.
    assert!([Some(7), Some(9)].contains(&code) && said == "2 images: 2 without", "{code:?} {said}");
    podman.prepare(FRESH);
    assert_eq!(sum(&["prepare", "--all"]), (Some(0), "2 images: 2 ready".to_owned()));
}

/// As where one image is pulled while another one is prepared: nothing calls a second time.
#[test]
fn prepare_of_all_images_has_those_that_get_a_name_meanwhile() {
    use std::io::{Read as _, Write as _};
    if !ready("prepare --all") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.prepare(FRESH);
    let id = podman.ok(&["images", "-q", "--no-trunc", FRESH]);
    podman.ok(&["untag", FRESH]);
    crate::podman::forget_use(&podman);
    // What it says of the first image stays with it until somebody reads.
    let (mut reads, mut full) = std::io::pipe().unwrap();
    let size = rustix::pipe::fcntl_setpipe_size(&full, 4096).unwrap();
    full.write_all(&vec![b'\n'; size]).unwrap();
    let program = common::binary().to_str().unwrap();
    let mut prepare = podman.host.command(program, &["prepare", "--all"]).stdout(full).spawn().unwrap();
    let objects = podman.graph_root().join("layerseal/objects");
    while !objects.exists() {
        assert!(prepare.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    podman.ok(&["tag", id.trim(), FRESH]);
    let mut said = String::new();
    reads.read_to_string(&mut said).unwrap();
    assert_eq!(prepare.wait().unwrap().code(), Some(0), "{said}");
    assert!(said.contains(&format!("{FRESH} ready")) && said.contains(&format!("{APP} ready")), "{said}");
}
