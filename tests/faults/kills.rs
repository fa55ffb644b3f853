//! SIGKILL at any moment of every verb that writes. `LAYERSEAL_FAULT_ROUNDS` says how often (6).

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::Bench;
use crate::{PULL, nothing_is_left, sealed, whole};

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

#[test]
fn l01_pull_is_cut_off() {
    let bench = Bench::new();
    sealed(&bench);
    let none = || drop(std::fs::remove_dir_all(bench.vault()));
    cut(
        || bench.command(&PULL),
        none,
        || {
            bench.run(&PULL).ok();
            whole(&bench);
            nothing_is_left(&bench);
        },
    );
}

#[test]
fn l01_gc_is_cut_off() {
    let bench = Bench::new();
    sealed(&bench);
    let two = || {
        bench.run(&PULL).ok();
        bench.run(&["tag", "app", "kept"]).ok();
        crate::common::Layout::new(&bench.path("other"), &crate::common::two_layers());
        bench.run(&["pull", "oci:other"]).ok();
        bench.run(&["untag", "other"]).ok();
    };
    cut(
        || bench.command(&["gc"]),
        two,
        || {
            whole(&bench);
            nothing_is_left(&bench);
            whole(&bench);
            bench.run(&["verify", "other", "--trust", "signer.crt"]).refused(2, "X04");
        },
    );
}

#[test]
fn l01_fsck_repair_is_cut_off() {
    let bench = Bench::new();
    sealed(&bench);
    bench.run(&PULL).ok();
    let damaged = || {
        let objects: Vec<String> = bench.vault_files().into_iter().filter(|f| f.starts_with("objects/")).collect();
        for object in objects.iter().step_by(3) {
            std::fs::remove_file(bench.vault().join(object)).unwrap();
        }
    };
    cut(
        || bench.command(&["fsck", "--repair"]),
        damaged,
        || {
            bench.run(&["fsck", "--repair"]).ok();
            whole(&bench);
            nothing_is_left(&bench);
        },
    );
}

#[test]
fn l01_sign_is_cut_off() {
    let bench = Bench::new();
    bench.signer("signer", crate::common::signer());
    let sign = ["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key"];
    let fresh = || {
        let _ = std::fs::remove_dir_all(bench.path("image"));
        crate::common::Layout::new(&bench.path("image"), &crate::layers());
    };
    cut(
        || bench.command(&sign),
        fresh,
        || {
            bench.run(&sign).ok();
            let verified = bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--json"]).ok();
            assert!(verified.stdout.contains("signer"), "{}", verified.stdout);
        },
    );
}

#[test]
fn l01_prepare_and_start_are_cut_off() {
    use crate::host::{APP, ENFORCE, Host, TOOL, binary, in_dir};
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
