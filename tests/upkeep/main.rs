//! Upkeep: what the host denies, what the vault gives up, and what it finds damaged.
#![allow(missing_docs)]

mod anchors;
mod deny;
mod dialects;
mod fsck;
mod gc;
mod terminal;

use std::path::PathBuf;
use support::{common, ecdsa, store};

use common::{Bench, Entry, Layer, base};
use layerseal::digest::{Algorithm, verity_digest};

/// A second image that shares its base with [`common::two_layers`].
fn other_layers() -> Vec<Layer> {
    vec![Layer::new(&base()), Layer::new(&[Entry::dir("opt"), Entry::file("opt/other", vec![b'o'; 70_000])])]
}

/// The object of `content`, in the algorithm that images without a seal have.
fn object(bench: &Bench, content: &[u8]) -> PathBuf {
    bench.vault().join("objects").join(verity_digest(Algorithm::Sha512, content).object_path())
}

/// Whether this machine mounts EROFS images from files; says so when it does not.
fn can_mount(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    let erofs = layerseal::sys::mounts::Configure::open("erofs").is_ok();
    let new = layerseal::sys::mounts::kernel_version() >= (6, 12);
    if !(root && erofs && new) {
        support::skip!("{what}: needs root, EROFS and Linux 6.12");
    }
    true
}
