//! The installer, run for real: what a node has after it, whatever happened to it.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use crate::node::{AUDIT, Node, scratch};

const ACME: &str = "version = 1\n[default]\nmode = \"enforce\"\ntrust = [\"acme\"]\n";
const BETA: &str = "version = 1\n[default]\nmode = \"enforce\"\ntrust = [\"beta\"]\n";
const DROPIN: &str = "etc/crio/crio.conf.d/10-layerseal-runtime.conf";

fn certificate(name: &str) -> Vec<u8> {
    support::common::Signer::new(name, 2048, -1, 30).cert.to_pem().unwrap()
}

/// Nothing of a run is left but what it was to write.
#[track_caller]
fn nothing_left(node: &Node) {
    let left: Vec<_> = node.names().into_iter().filter(|n| n.contains("layerseal-")).collect();
    let known = |n: &String| n.contains("/10-layerseal-runtime.conf ") || n.starts_with("usr/bin/layerseal-runtime ");
    assert!(left.iter().all(known), "{left:?}");
}

#[test]
fn a_node_gets_everything_once() {
    let Some(node) = Node::new() else { return };
    node.key("trust.d__acme__release.crt", certificate("acme"));
    node.key("trust.d__acme__ca__root.crt", support::common::signer().cert.to_pem().unwrap());
    node.key("policy.toml", AUDIT);
    let ran = node.run("install");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(node.text("etc/layerseal/policy.toml"), AUDIT);
    assert!(node.text("etc/layerseal/trust.d/acme/release.crt").contains("BEGIN CERTIFICATE"));
    assert!(node.text("etc/layerseal/trust.d/acme/ca/root.crt").contains("BEGIN CERTIFICATE"));
    assert!(node.text(DROPIN).contains("runtime_path = \"/usr/bin/layerseal-runtime\""));
    assert_eq!(node.restarts(), 1);
    for name in ["layerseal", "layerseal-runtime"] {
        let is = std::fs::read(node.host().join("usr/bin").join(name)).unwrap();
        assert!(is == std::fs::read(node.programs().join(name)).unwrap(), "{name}");
        assert!(node.names().contains(&format!("usr/bin/{name} f 755")), "{:?}", node.names());
    }
    assert!(node.names().contains(&"etc/layerseal/policy.toml f 644".to_owned()), "{:?}", node.names());
    nothing_left(&node);

    // The same again: no file is touched, CRI-O goes on.
    let before = node.state();
    let ran = node.run("install");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(node.state(), before);
    assert_eq!(ran.text, "layerseal: the node has what it should have\n");
    assert_eq!(node.restarts(), 1);

    // A mode that the policy's reader would refuse is not the same.
    let policy = node.host().join("etc/layerseal/policy.toml");
    std::fs::set_permissions(policy, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(node.run("install").code, Some(0));
    assert!(node.names().contains(&"etc/layerseal/policy.toml f 644".to_owned()), "{:?}", node.names());
}

/// Policies that nothing could start with: the old one stays, and the message says why.
#[test]
fn a_policy_that_cannot_be_used_replaces_nothing() {
    let Some(node) = Node::new() else { return };
    // On a new node as well.
    node.key("policy.toml", BETA);
    let ran = node.run("install");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(!node.host().join(DROPIN).exists() && !node.host().join("usr/bin/layerseal").exists());
    node.key("policy.toml", AUDIT);
    assert_eq!(node.run("install").code, Some(0));
    let before = node.state();
    let changes: [(&str, &[u8], &str); 7] = [
        ("policy.toml", b"version = 1\n[default]\nmode = \"enforced\"\n", "[R-F03]"),
        ("policy.toml", b"version = 1\n[default]\nmode = \"audit", "[R-F03]"),
        ("policy.toml", BETA.as_bytes(), "beta"),
        ("runtime.toml", b"path = \"/usr/bin/there-is-none\"\n", "[R-F07]"),
        ("trust.d__acme__note.txt", b"hello\n", "note.txt"),
        ("deny.d__note.txt", b"hello\n", "note.txt"),
        ("policy.d__10-more.toml", b"version = 1\n", "policy.d__10-more.toml"),
    ];
    for (key, text, why) in changes {
        let policy = if key.starts_with("trust.d") { ACME } else { AUDIT };
        node.key("policy.toml", policy);
        node.key("trust.d__acme__release.crt", certificate("acme"));
        let old = std::fs::read(node.dir.path().join("config").join(key)).ok();
        node.key(key, text);
        // New programs do not come either without it.
        let program = node.programs().join("layerseal-runtime");
        let bytes = std::fs::read(&program).unwrap();
        std::fs::write(&program, [&bytes[..], b"new"].concat()).unwrap();
        let ran = node.run("install");
        assert_eq!(ran.code, Some(1), "{key}: {ran:?}");
        assert!(ran.text.contains(why), "{key}: {ran:?}");
        assert_eq!(node.state(), before, "{key}");
        std::fs::write(&program, bytes).unwrap();
        match old {
            Some(old) => node.key(key, old),
            None => node.no_key(key),
        }
    }
    // Keys that would be files elsewhere.
    for key in ["policy.d__a.toml", "trust.d__..__..__x.crt", "trust.d__a__b__c.crt", "trust.d__a____x.crt", "x"] {
        node.key(key, "x");
        let ran = node.run("install");
        assert!(ran.code == Some(1) && ran.text.contains(key), "{key}: {ran:?}");
        assert_eq!(node.state(), before, "{key}");
        node.no_key(key);
    }
    node.key("policy.toml", AUDIT);
    node.no_key("trust.d__acme__release.crt");
    assert_eq!(node.run("install").code, Some(0));
    assert_eq!(node.state(), before);
    nothing_left(&node);
    assert_eq!(node.restarts(), 1);
}

/// Programs that do not run on the node do not get there.
#[test]
fn programs_that_do_not_run_there_replace_nothing() {
    let Some(node) = Node::new() else { return };
    assert_eq!(node.run("install").code, Some(0));
    let before = node.state();
    for name in ["layerseal", "layerseal-runtime"] {
        let program = node.programs().join(name);
        let bytes = std::fs::read(&program).unwrap();
        std::fs::write(&program, &bytes[..bytes.len() / 2]).unwrap();
        let ran = node.run("install");
        assert!(ran.code == Some(1) && ran.text.contains("stays as it is"), "{name}: {ran:?}");
        assert_eq!(node.state(), before, "{name}");
        std::fs::write(&program, bytes).unwrap();
    }
}

#[test]
fn certificates_come_and_go_and_the_nodes_own_stay() {
    let Some(node) = Node::new() else { return };
    node.key("policy.toml", ACME);
    node.key("trust.d__acme__release.crt", certificate("release"));
    let ran = node.run("install");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let own = node.host().join("etc/layerseal/trust.d/acme/own.crt");
    std::fs::write(&own, certificate("of the node")).unwrap();
    std::fs::create_dir(node.host().join("etc/layerseal/policy.d")).unwrap();
    let more = "version = 1\n[[rule]]\nimage = \"localhost/*\"\nmode = \"off\"\n";
    std::fs::write(node.host().join("etc/layerseal/policy.d/50-own.toml"), more).unwrap();

    node.key("trust.d__acme__next.crt", certificate("next"));
    let ran = node.run("install");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let shown = node.policy("localhost/a");
    for name in ["release", "next", "of the node", "off"] {
        assert!(shown.text.contains(name), "{name}: {shown:?}");
    }
    node.no_key("trust.d__acme__release.crt");
    assert_eq!(node.run("install").code, Some(0));
    let shown = node.policy("registry.example.com/a");
    assert!(!shown.text.contains("release") && shown.text.contains("next"), "{shown:?}");
    assert!(shown.text.contains("of the node"), "{shown:?}");
    // What the node has itself counts when a new policy is looked at: the same rule twice.
    node.key("policy.toml", format!("{ACME}{}", more.replace("version = 1\n", "")));
    let ran = node.run("install");
    assert!(ran.code == Some(1) && ran.text.contains("50-own.toml"), "{ran:?}");
    assert_eq!(node.restarts(), 1);
    nothing_left(&node);
}

/// The drop-in of another version, one that CRI-O does not start with, programs in another place.
#[test]
fn crio_is_restarted_for_its_drop_in_only_and_gets_the_old_one_back() {
    let Some(node) = Node::new() else { return };
    let shipped = node.programs().join("10-layerseal-runtime.conf");
    let good = std::fs::read_to_string(&shipped).unwrap();
    // At first there is none to go back to.
    std::fs::write(&shipped, format!("{good}# broken\n")).unwrap();
    let ran = node.run("install");
    assert!(ran.code == Some(1) && ran.text.contains("the old state is back"), "{ran:?}");
    assert!(!node.host().join(DROPIN).exists());
    assert_eq!(node.restarts(), 2);
    std::fs::write(&shipped, &good).unwrap();
    assert_eq!(node.run("install").code, Some(0));
    assert_eq!(node.restarts(), 3);
    std::fs::write(&shipped, format!("{good}# broken\n")).unwrap();
    let ran = node.run("install");
    assert!(ran.code == Some(1) && ran.text.contains("the old state is back"), "{ran:?}");
    assert_eq!(node.text(DROPIN), good);
    assert_eq!(node.restarts(), 5);
    std::fs::write(&shipped, &good).unwrap();
    assert_eq!(node.run("install").code, Some(0));
    assert_eq!(node.restarts(), 5);
    nothing_left(&node);

    // /usr/local is a link there, as hosts with a read-only /usr have it: the node's /var, not the container's.
    std::fs::create_dir_all(node.host().join("var/usrlocal")).unwrap();
    symlink("/var/usrlocal", node.host().join("usr/local")).unwrap();
    let ran = node.run_with("install", "LAYERSEAL_BIN", "/usr/local/bin");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(node.host().join("var/usrlocal/bin/layerseal-runtime").exists());
    assert_eq!(node.text(DROPIN), good.replace("/usr/bin/layerseal-runtime", "/usr/local/bin/layerseal-runtime"));
    assert_eq!(node.restarts(), 6);
}

#[test]
fn removing_leaves_what_is_the_nodes() {
    let Some(node) = Node::new() else { return };
    let before = node.names();
    node.key("policy.toml", ACME);
    node.key("trust.d__acme__release.crt", certificate("release"));
    assert_eq!(node.run("install").code, Some(0));
    let ran = node.run("remove");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(node.names(), before);
    assert!(!node.host().join("etc/layerseal").exists());
    assert_eq!(node.restarts(), 2);
    // Again: there is nothing to do.
    let ran = node.run("remove");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(node.restarts(), 2);

    assert_eq!(node.run("install").code, Some(0));
    std::fs::write(node.host().join("etc/layerseal/trust.d/acme/own.crt"), "own").unwrap();
    assert_eq!(node.run("remove").code, Some(0));
    let left: Vec<_> = node.names().into_iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(left, ["etc/layerseal/trust.d/acme/own.crt f 644"]);
}

#[test]
fn what_is_no_node_is_left_alone() {
    let Some(node) = Node::new() else { return };
    std::fs::remove_dir(node.host().join("etc/crio")).unwrap();
    let before = node.names();
    let ran = node.run("install");
    assert!(ran.code == Some(1) && ran.text.contains("has no CRI-O"), "{ran:?}");
    assert_eq!(node.names(), before);
    for verb in ["", "uninstall"] {
        let ran = node.run(verb);
        assert!(ran.code == Some(1) && ran.text.contains("usage"), "{ran:?}");
    }
    let ran = node.run_with("install", "LAYERSEAL_HOST", "/there-is-none");
    assert!(ran.code != Some(0), "{ran:?}");
    assert_eq!(node.names(), before);
}

/// Counts what the installer calls, and kills it at one of the calls; a copy is half made then.
const KILLER: &str = r##"#!/bin/sh
read -r calls <"${0%/*}/count"
read -r at <"${0%/*}/kill"
echo $((calls + 1)) >"${0%/*}/count"
if [ "$calls" = "$at" ]; then
    if [ "${0##*/}" = cp ]; then
        for to; do from=${last-}; last=$to; done
        [ ! -f "$from" ] || head -c 20 "$from" >"$to"
    fi
    kill -9 "$MAIN" "$PPID"
    exit 1
fi
PATH=${PATH#*:} exec "${0##*/}" "$@"
"##;

/// An update of everything, killed before each program that it calls, copies in their middle: whatever is there is the old
/// or the new file, the policy can be used, and the next run does the rest.
#[test]
fn killed_anywhere_nothing_is_half() {
    let Some(node) = Node::new() else { return };
    let killer = scratch();
    for name in ["cp", "mv", "rm", "chmod", "mkdir", "sync"] {
        let path = killer.path().join(name);
        std::fs::write(&path, KILLER).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    // Other programs, for what follows an ELF file is not looked at.
    let files = ["layerseal", "layerseal-runtime", "10-layerseal-runtime.conf"];
    let end = |text: &str| {
        for name in files {
            let path = node.programs().join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.extend_from_slice(text.as_bytes());
            std::fs::write(path, bytes).unwrap();
        }
    };
    node.key("policy.toml", ACME);
    node.key("trust.d__acme__release.crt", certificate("acme"));
    node.key("deny.d__old.list", "# old\n");
    assert_eq!(node.run("install").code, Some(0));
    let saved = scratch();
    // By links: a file that is written to in its place, and not replaced, shows at the next kill.
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").arg("-al").arg(from).arg(to).status().unwrap();
        assert!(copied.success());
    };
    for place in ["etc", "usr"] {
        copy(&node.host().join(place), saved.path());
    }
    let programs = |name: &str, old: bool| {
        let mut bytes = std::fs::read(node.programs().join(name)).unwrap();
        bytes.truncate(if old { bytes.len() - "# new\n".len() } else { bytes.len() });
        bytes
    };
    let (acme, beta) = (node.text("etc/layerseal/trust.d/acme/release.crt"), certificate("beta"));
    end("# new\n");
    node.key("policy.toml", BETA);
    node.no_key("trust.d__acme__release.crt");
    node.no_key("deny.d__old.list");
    node.key("trust.d__beta__release.crt", &beta);

    let mut wanted = None;
    let mut killed = 0;
    for at in (0..).map(|n| if n == 0 { usize::MAX } else { n - 1 }) {
        for place in ["etc", "usr"] {
            std::fs::remove_dir_all(node.host().join(place)).unwrap();
            copy(&saved.path().join(place), &node.host());
        }
        let _ = std::fs::remove_file(node.host().join("run/systemctl.log"));
        std::fs::write(killer.path().join("count"), "0\n").unwrap();
        std::fs::write(killer.path().join("kill"), format!("{at}\n")).unwrap();
        let ran = node.run_by(killer.path());
        if at == usize::MAX {
            // Undisturbed.
            assert_eq!(ran.code, Some(0), "{ran:?}");
            wanted = Some((node.names(), node.restarts()));
            assert_eq!(node.restarts(), 1);
            continue;
        }
        if ran.code == Some(0) {
            break;
        }
        killed += 1;
        for name in files {
            let is = std::fs::read(node.host().join(if name.ends_with("conf") {
                DROPIN.into()
            } else {
                format!("usr/bin/{name}")
            }));
            let is = is.unwrap();
            assert!(is == programs(name, true) || is == programs(name, false), "{at}: {name} is half");
        }
        let policy = node.text("etc/layerseal/policy.toml");
        assert!(policy == ACME || policy == BETA, "{at}: {policy}");
        for (store, whole) in [("acme", acme.as_bytes()), ("beta", &beta)] {
            if let Ok(is) = std::fs::read(node.host().join(format!("etc/layerseal/trust.d/{store}/release.crt"))) {
                assert!(is == whole, "{at}: {store} is half");
            }
        }
        let used = node.policy("registry.example.com/a");
        let store = if policy == ACME { "acme" } else { "beta" };
        assert!(used.code == Some(0) && used.text.contains(store), "{at}: {used:?}");
        let others: Vec<_> = std::fs::read_dir(node.host().join("etc/crio/crio.conf.d")).unwrap().collect();
        assert_eq!(others.len(), 1, "{at}: CRI-O reads whatever is there: {others:?}");

        let ran = node.run("install");
        assert_eq!(ran.code, Some(0), "{at}: {ran:?}");
        let (names, _) = wanted.as_ref().unwrap();
        assert_eq!(node.names(), *names, "{at}");
        assert_eq!(node.text("etc/layerseal/policy.toml"), BETA, "{at}");
        assert_eq!(node.text(DROPIN).as_bytes(), programs("10-layerseal-runtime.conf", false), "{at}");
        assert!(node.restarts() >= 1, "{at}: CRI-O has never seen its new drop-in");
        nothing_left(&node);
    }
    println!("killed at {killed} places");
    assert!(killed > 40, "{killed}");
}
