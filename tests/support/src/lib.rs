//! What the tests and benchmarks share, compiled once: the binary under test, images made entry by entry, keys, hosts
//! with a container store, registries.
//!
//! A test target names what it needs at its root, `use support::{common, host};`, and its modules say `crate::common`.

// A new bench is a directory on the disk, which `Default` should not make.
#![allow(clippy::new_without_default)]

pub mod common;
pub mod disk;
pub mod ecdsa;
pub mod forge;
pub mod host;
pub mod measure;
pub mod sandbox;
pub mod skip;
pub mod store;
pub mod tools;
pub mod tree;
pub mod wrong_kernel;

/// Separate hosts in which podman runs.
pub mod podman {
    pub mod host;
    pub mod scratch;
}

/// PKCS#7 of any shape, and the keys for it.
pub mod pkcs7 {
    pub mod forge;
    pub mod keys;
}

use std::path::{Path, PathBuf};

/// Returns the top of the source tree.
pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// Returns the directory that tests write to: on a real filesystem, because EROFS cannot be mounted from files on
/// tmpfs. The VM says where that is; elsewhere it is cargo's own place for it, `target/tmp`.
pub fn scratch_dir() -> PathBuf {
    std::env::var_os("LAYERSEAL_TEST_DIR").map_or_else(
        || {
            let dir = profile_dir().with_file_name("tmp");
            std::fs::create_dir_all(&dir).unwrap();
            dir
        },
        PathBuf::from,
    )
}

/// Returns the binary under test: in the VM it lies beside the test; elsewhere cargo has built it with the test.
pub fn binary() -> &'static Path {
    static BINARY: std::sync::LazyLock<PathBuf> = std::sync::LazyLock::new(|| {
        std::env::var_os("LAYERSEAL_BIN").map_or_else(|| profile_dir().join("layerseal"), PathBuf::from)
    });
    &BINARY
}

/// Returns the program `layerseal-runtime` as it is installed, without a C library: in what cargo builds with the tests
/// panics unwind, for which it needs one. In the VM it is the one beside the binary.
pub fn runtime_program() -> &'static Path {
    static PROGRAM: std::sync::LazyLock<PathBuf> = std::sync::LazyLock::new(|| {
        if std::env::var_os("LAYERSEAL_BIN").is_some() {
            return binary().with_file_name("layerseal-runtime");
        }
        // Where other roots see it too.
        let dir = binary().with_file_name("installed");
        std::fs::create_dir_all(&dir).unwrap();
        let (own, made) = (std::process::id(), dir.join("layerseal-runtime"));
        let new = |name: &str| dir.join(format!("{name}.{own}"));
        let mut rustc = std::process::Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args([
            "--edition",
            "2024",
            "--crate-name",
            "layerseal_runtime",
            "-C",
            "panic=abort",
            "-C",
            "opt-level=3",
        ]);
        // As build.rs says for what is installed.
        rustc.args(["--cfg", "known_kernel", "--cfg", "freestanding"]);
        rustc.args(
            ["-nostartfiles", "-nostdlib", "-static", "-no-pie"].map(|argument| format!("-Clink-arg={argument}")),
        );
        rustc.arg(top().join("src/bin/layerseal-runtime/main.rs")).arg("-o").arg(new("program"));
        assert!(rustc.status().unwrap().success(), "{rustc:?}");
        std::os::unix::fs::symlink(binary(), new("link")).unwrap();
        std::fs::rename(new("link"), dir.join("layerseal")).unwrap();
        std::fs::rename(new("program"), &made).unwrap();
        made
    });
    &PROGRAM
}

/// Waits until `done`, for half a minute at most.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !done() {
        assert!(std::time::Instant::now() < until, "{what}: not in half a minute");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Starts a process in a new mount namespace, which sees what is shared with it, as a container with rslave mounts
/// does. It is there when this returns, and ends after ten minutes.
pub fn peer() -> std::process::Child {
    let mut command = std::process::Command::new("unshare");
    let peer = command.args(["-m", "--propagation", "slave", "sleep", "600"]).spawn().unwrap();
    let comm = format!("/proc/{}/comm", peer.id());
    eventually("unshare", || std::fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n"));
    peer
}

/// Returns `target/debug`, of the test `target/debug/deps/NAME-HASH`.
fn profile_dir() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}
