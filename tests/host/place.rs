//! Prepared images and places, for tests that call `mount` itself.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use layerseal::digest::Algorithm;
use layerseal::mount::{MountOptions, MountSpec, UpperDir};
use layerseal::oci::{Budget, Reference};
use layerseal::policy::Verity;
use layerseal::prepare::{PreparedImage, RootShape, prepare};
use layerseal::protocol::{Extent, IdMapping};
use layerseal::sys::files::open_dir;
use layerseal::vault::Vault;

use crate::common::{Bench, Entry, Layer, Layout, base};

/// An image that the kernel does not check: the files of [`base`], and two of other users.
pub fn prepared(bench: &Bench) -> PreparedImage {
    let mut entries = base();
    for (name, uid) in [("usr/user", 1000), ("usr/far", 70_000)] {
        entries.push(Entry { uid, ..Entry::file(name, vec![b'u'; 300]) });
    }
    let layout = Layout::new(&bench.path("image"), &[Layer::new(&entries)]);
    bench.run(&["pull", "oci:image", "--name", "app"]).ok();
    let vault = Vault::open(&bench.vault()).unwrap();
    let image = vault.image(&Reference::Digest(layout.digest), &Budget::STANDARD).unwrap();
    let digests = vault.contents(&layout.digest, Algorithm::Sha512).unwrap();
    let verified = layerseal::verify::unsigned(&image, &digests, &layerseal::policy::Denied::nothing()).unwrap();
    prepare(&vault, &verified, RootShape::Merged, Verity::Off, &Budget::STANDARD).unwrap()
}

/// `diff` and `work` in a directory `name` of the bench.
pub fn upper(bench: &Bench, name: &str) -> UpperDir {
    let dir = |part: &str| {
        let path = bench.path(name).join(part);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let (diff, work) = (dir("diff"), dir("work"));
    UpperDir { upper: open(&diff), work: open(&work), path: diff }
}

pub fn open(path: &Path) -> OwnedFd {
    open_dir(path).unwrap()
}

pub fn place(target: PathBuf, upper: Option<UpperDir>, how: MountOptions) -> MountSpec {
    MountSpec { upper, how, ..MountSpec::read_only(target) }
}

/// A map of users and groups.
pub fn mapped(extents: &[(u32, u32, u32)]) -> MountOptions {
    let extents: Vec<_> = extents.iter().map(|&(container, host, size)| Extent { container, host, size }).collect();
    MountOptions { uids: IdMapping::Map(extents.clone()), gids: IdMapping::Map(extents), ..MountOptions::default() }
}

/// Runs a script in `dir` as a user of the host without rights, as a process of a container is one.
pub fn as_user(id: u32, dir: &Path, script: &str) -> Output {
    let id = id.to_string();
    Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "sh", "-c", script])
        .current_dir(dir)
        .output()
        .unwrap()
}

#[track_caller]
pub fn done(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Tests that make places in /run, and those that look for what was left there, run one by one.
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What a failed mount must not have left: anything on the target, or a place in /run.
#[track_caller]
pub fn nothing_left(target: &Path) {
    assert!(crate::mounts_beneath(target).is_empty());
    let own = format!("private.{}.", std::process::id());
    let left: Vec<_> = std::fs::read_dir("/run/layerseal")
        .into_iter()
        .flatten()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with(&own))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}
