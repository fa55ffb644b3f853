//! SIGKILL at any moment of every verb that writes. `LAYERSEAL_FAULT_ROUNDS` says how often (6).

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::Bench;
use crate::host::{APP, ENFORCE, Host, TOOL, binary, in_dir};
use crate::tools::Site;
use crate::verbs::{self, Verb};

fn rounds() -> u32 {
    std::env::var("LAYERSEAL_FAULT_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

/// Runs it to its end once, and then cuts it off at `rounds` places of that time.
fn cut(mut command: impl FnMut() -> Command, mut between: impl FnMut(), mut after: impl FnMut()) {
    let silent = |mut command: Command| command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    between();
    let begin = std::time::Instant::now();
    silent(command()).wait().unwrap();
    let whole = begin.elapsed();
    after();
    for round in 0..rounds() {
        between();
        let mut child = silent(command());
        // Not at the same places each time that the suite runs.
        let odd = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos() % 1000;
        std::thread::sleep((whole * round + whole * odd / 1000) / rounds() + Duration::from_micros(1));
        let _ = child.kill();
        child.wait().unwrap();
        after();
    }
}

/// Cuts a verb off, and does it again.
fn cuts(verb: &Verb) {
    let bench = Bench::new();
    (verb.fresh)(&bench);
    cut(
        || bench.command(verb.args),
        || (verb.again)(&bench),
        || {
            // One that had come to its end has nothing left to take away.
            let again = bench.run(verb.args);
            if verb.args[0] != "untag" {
                again.ok();
            }
            (verb.check)(&bench);
        },
    );
}

#[test]
fn l01_pull_is_cut_off() {
    cuts(&verbs::PULLING);
}

#[test]
fn l01_gc_is_cut_off() {
    cuts(&verbs::COLLECTING);
}

#[test]
fn l01_fsck_repair_is_cut_off() {
    cuts(&verbs::REPAIRING);
}

#[test]
fn l01_sign_is_cut_off() {
    cuts(&verbs::SIGNING);
    cuts(&verbs::SIGNING_IN_VAULT);
}

#[test]
fn l01_attach_seal_and_digest_are_cut_off() {
    cuts(&verbs::ATTACHING);
    cuts(&verbs::SEALING);
    cuts(&verbs::DIGESTING);
}

#[test]
fn l01_push_and_export_are_cut_off() {
    cuts(&verbs::PUSHING);
    cuts(&verbs::EXPORTING);
}

#[test]
fn l01_tag_and_untag_are_cut_off() {
    cuts(&verbs::TAGGING);
    cuts(&verbs::UNTAGGING);
}

/// A layout of which the marker, written last, is not there yet.
#[test]
fn l01_a_layout_that_was_not_finished_is_finished() {
    let bench = Bench::new();
    (verbs::PUSHING.fresh)(&bench);
    for left in [&["oci-layout"][..], &["oci-layout", "index.json"], &["oci-layout", "index.json", "blobs"]] {
        bench.run(verbs::PUSHING.args).ok();
        for name in left {
            let path = bench.path("copy").join(name);
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        bench.write("copy/.new-1-1", b"half");
        bench.run(verbs::PUSHING.args).ok();
        (verbs::PUSHING.check)(&bench);
        (verbs::PUSHING.again)(&bench);
    }
    // A directory that holds anything else is nobody's layout.
    std::fs::create_dir(bench.path("copy")).unwrap();
    bench.write("copy/letter", b"");
    bench.run(verbs::PUSHING.args).refused(4, "X05");
    assert!(!bench.path("copy/blobs").exists());
}

/// Into a registry, which has what came whole, and under its name only what is sealed.
#[test]
fn l01_push_into_a_registry_is_cut_off() {
    let Some(site) = Site::plain() else { return };
    let bench = Bench::new();
    (verbs::PUSHING.fresh)(&bench);
    let number = std::cell::Cell::new(0);
    let to = || format!("docker://{}:v1", site.repository(&format!("faults/push{}", number.get())));
    let push = || site.command(&bench, &["push", "app", &to(), "--signatures", "--tls-verify=false"]);
    let verify = || site.run(&bench, &["verify", &to(), "--trust", "signer.crt"]);
    cut(
        push,
        || number.set(number.get() + 1),
        || {
            let found = verify();
            // Nothing under this name yet, or the name itself unknown.
            let none = found.stderr.contains("[R-C18]");
            assert!(found.code == 0 || none, "half of an image: {}{}", found.stdout, found.stderr);
            assert!(push().stdout(Stdio::null()).status().unwrap().success());
            verify().ok();
        },
    );
}

#[test]
fn l01_fetch_is_cut_off() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    let Some(from) = crate::registry("faults/kills") else { return };
    crate::with_skopeo(&host);
    let container = host.container("c", &host.image(APP));
    let vault = host.root.join("layerseal");
    let fetch = crate::fetch(&from);
    cut(
        || {
            let mut command = host.sandbox.command(binary());
            command.arg("--vault").arg(&vault).args(fetch);
            in_dir(&host.sandbox, host.bench.dir.path(), command)
        },
        || drop(std::fs::remove_dir_all(&vault)),
        || {
            host.layerseal(&fetch);
            host.start(&container).ok();
            host.unmount(&container);
            host.layerseal(&["fsck"]);
            host.layerseal(&["gc"]);
        },
    );
}

#[test]
fn l01_prepare_and_start_are_cut_off() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let vault = host.root.join("layerseal");
    let none = || drop(std::fs::remove_dir_all(&vault));
    let prepare = || {
        let mut command = host.sandbox.command(binary());
        command.arg("--vault").arg(&vault).args(["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
        in_dir(&host.sandbox, host.bench.dir.path(), command)
    };
    let starts = || {
        host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
        host.start(&container).ok();
        assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
        host.unmount(&container);
        host.layerseal(&["fsck"]);
        host.layerseal(&["gc"]);
    };
    cut(prepare, none, starts);
    let seals_only = || {
        none();
        host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app", "--seals-only"]);
    };
    let start = || {
        let mut command = host.sandbox.command(binary());
        command.args(["-o", &host.options(&container), &host.of(&container.layer, "merged")]);
        in_dir(&host.sandbox, &host.root.join("overlay"), command)
    };
    cut(start, seals_only, || {
        host.sandbox.sh(&format!("umount -l '{}' 2>/dev/null || true", host.of(&container.layer, "merged")));
        assert!(host.sandbox.mounts().iter().all(|(_, m)| !m.contains(&vault.display().to_string())));
        starts();
    });
}
