//! Mounts on this machine, which need root and a kernel that mounts EROFS from files. What needs
//! fs-verity is in the VM's suite; here mounts are made with `--verity off`.
#![allow(missing_docs)]

mod again;
mod fuse;
mod i_mount;
mod idmap;
mod lost;
mod options;
mod place;
mod record;
mod stack;

use std::path::Path;
use support::{common, tree};

use common::Bench;

/// Whether this machine can run these tests; says so when it cannot.
fn can_mount(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    let erofs = layerseal::sys::mounts::Configure::open("erofs").is_ok();
    let (major, minor) = layerseal::sys::mounts::kernel_version();
    if root && erofs && (major, minor) >= (6, 12) {
        return true;
    }
    support::skip!("{what}: needs root, EROFS and Linux 6.12 (root {root}, EROFS {erofs}, Linux {major}.{minor})")
}

/// A mount that is taken away at the end of the test, whatever happens.
struct Mount<'a>(&'a Bench, &'a str);

impl<'a> Mount<'a> {
    fn at(bench: &'a Bench, name: &'a str) -> Self {
        std::fs::create_dir_all(bench.path(name)).unwrap();
        Self(bench, name)
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path(self.1)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        // Lazily: between fork and exec the processes of other tests have our files open.
        while layerseal::sys::mounts::detach(&self.path()).is_ok() {}
    }
}

/// Mounts on or beneath `dir`, as mountinfo shows them.
fn mounts_beneath(dir: &Path) -> Vec<layerseal::sys::mountinfo::MountInfo> {
    let dir = dir.canonicalize().unwrap();
    layerseal::sys::mountinfo::own().unwrap().iter().filter(|m| m.target.starts_with(&dir)).cloned().collect()
}
