//! A graph root on a filesystem without fs-verity, and the vault on one that has it.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use layerseal::digest::{Algorithm, verity_digest};

use crate::common::Bench;
use crate::disk::{self, Disk};
use crate::host::{APP, ENFORCE, EVIL, Host};
use crate::{TOOL, errno, new_enough};

/// A tmpfs, which knows fs-verity as little as XFS does.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn on(dir: PathBuf) -> Self {
        std::fs::create_dir(&dir).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&dir).status().unwrap();
        assert!(mounted.success());
        Self(dir)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn g06_a_graph_root_without_fs_verity_and_a_vault_that_has_it() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let policy = ENFORCE.replace("verity = \"off\"", "verity = \"require\"");
    let disk = Bench::new();
    let tmpfs = Tmpfs::on(disk.path("tmpfs"));
    let bench = Bench { dir: tempfile::Builder::new().prefix("b").tempdir_in(&tmpfs.0).unwrap() };
    let Some(host) = Host::bare_in(bench, &policy) else { return };
    let container = host.container("c", &host.image(APP));
    let seal = |vault: &Path| {
        std::fs::create_dir(vault).unwrap();
        host.config("policy.toml", &elsewhere(&policy, vault));
        host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app", "--seals-only"]);
    };
    // In the graph root, and elsewhere on a filesystem like it.
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app", "--seals-only"]);
    let refused = host.start_refused(&container, 6, "G06");
    assert!(refused.stderr.contains("layerseal vault create"), "{refused:?}");
    seal(&host.bench.path("beside"));
    host.start_refused(&container, 6, "G06");

    let vault = disk.path("vault");
    seal(&vault);
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    let mounts = host.mounts_of(&container);
    assert!(mounts[0].contains("verity=require"), "{mounts:?}");
    host.unmount(&container);
    // The kernel has the digest of the copy, and shows no other.
    let object = vault.join("objects").join(verity_digest(Algorithm::Sha512, &TOOL).object_path());
    let file = std::fs::File::open(&object).unwrap();
    layerseal::sys::verity::check(&file, &verity_digest(Algorithm::Sha512, &TOOL), "object").unwrap();
    std::fs::remove_file(&object).unwrap();
    std::fs::write(&object, EVIL).unwrap();
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    host.start(&container).ok();
    assert!(host.read(&container, "usr/bin/tool").is_err());
    host.unmount(&container);
    // Prepared anew, it is copied from the layer again.
    std::fs::remove_dir_all(vault.join("prepared")).unwrap();
    std::fs::remove_file(&object).unwrap();
    for note in std::fs::read_dir(vault.join("images")).unwrap().flatten() {
        for name in std::fs::read_dir(note.path()).unwrap().flatten() {
            if name.file_name().to_string_lossy().starts_with("checked.") {
                std::fs::remove_file(name.path()).unwrap();
            }
        }
    }
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    host.unmount(&container);
}

/// In another subvolume, where no hard link leads, a copy of a file is its blocks once more.
#[test]
fn a_vault_in_another_subvolume_of_the_store_s_btrfs_shares_blocks_with_it() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let disk = Disk::formatted(192, &["mkfs.btrfs", "-q"], "loop");
    let volume = disk.mount_point().join("vault");
    let made = Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&volume).status().unwrap();
    assert!(made.success());
    let policy = ENFORCE.replace("verity = \"off\"", "verity = \"require\"");
    let Some(host) = Host::bare_in(disk.bench(), &elsewhere(&policy, &volume)) else { return };
    let container = host.container("c", &host.image(APP));
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    host.unmount(&container);
    rustix::fs::sync();
    let object = volume.join("objects").join(verity_digest(Algorithm::Sha512, &TOOL).object_path());
    let usage = Command::new("btrfs").args(["filesystem", "du", "--raw"]).arg(&object).output().unwrap();
    let usage = String::from_utf8(usage.stdout).unwrap();
    // Total, of that nobody else's, and shared.
    let numbers: Vec<&str> = usage.lines().last().unwrap().split_whitespace().take(2).collect();
    assert_eq!(numbers, ["8192", "0"], "{usage}");
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&std::fs::metadata(&object).unwrap()), 1);
}

/// The most common filesystem without fs-verity. Its users are told of the two ways out, and both lead to sealed containers.
#[test]
fn g06_a_graph_root_on_xfs() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let xfs = Disk::formatted(400, &["mkfs.xfs", "-q", "-f"], "loop");
    // Before the host's namespace is made.
    let ext4 = Disk::new(64, true);
    let kind = Command::new("stat").args(["-f", "-c", "%T"]).arg(xfs.mount_point()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kind.stdout).trim(), "xfs");
    let policy = ENFORCE.replace("verity = \"off\"", "verity = \"require\"");
    let Some(host) = Host::bare_in(xfs.bench(), &policy) else { return };
    let container = host.container("c", &host.image(APP));
    let app = format!("{APP}:v1");
    host.layerseal(&["prepare", &app, "--seal", "oci:app", "--seals-only"]);
    let remedies = ["vault = \"DIR\"", "layerseal vault create"];
    let refused = host.start_refused(&container, 6, "G06");
    assert!(remedies.iter().all(|remedy| refused.stderr.contains(remedy)), "{refused:?}");
    let doctor: serde_json::Value = serde_json::from_str(&host.verb(&["doctor", "--json"]).stdout).unwrap();
    let checks = doctor["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["check"] == "fs-verity").unwrap();
    let remedy = found["remedy"].as_str().unwrap();
    assert!(found["state"] == "missing" && remedies.iter().all(|word| remedy.contains(word)), "{found}");
    std::fs::remove_dir_all(host.root.join("layerseal")).unwrap();

    // An ext4 that the host has anyway.
    let vault = ext4.mount_point().join("vault");
    std::fs::create_dir(&vault).unwrap();
    starts_sealed(&host, &vault, &ext4.image(), Path::new("vault"));

    // One in a file of the XFS, made, mounted and named as we say.
    let vault = host.bench.path("srv/vault");
    let made = host.layerseal(&["vault", "create", vault.to_str().unwrap(), "--size", "48M", "--json"]);
    let _guard = Immutable(vault.clone());
    let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    host.config("policy.toml", &elsewhere(&policy, &vault));
    host.start_refused(&container, 6, "X13");
    let unit = made["unit"].as_str().unwrap();
    let word = |key: &str| unit.lines().find_map(|line| line.strip_prefix(&format!("{key}="))).unwrap();
    host.sandbox.sh(&format!(
        "mount -t {} -o {} '{}' '{}'",
        word("Type"),
        word("Options"),
        word("What"),
        word("Where")
    ));
    starts_sealed(&host, &vault, Path::new(made["file"].as_str().unwrap()), Path::new(""));
    assert!(!host.root.join("layerseal").exists());
}

/// A policy that names this vault.
fn elsewhere(policy: &str, vault: &Path) -> String {
    format!("{policy}[store]\nvault = \"{}\"\n", vault.display())
}

/// What keeps a directory from being removed with the rest goes with this value.
struct Immutable(PathBuf);

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

/// A container with its vault at `vault`, which is `inside` of the ext4 in the file `image`: it starts sealed, and what somebody
/// changes of that file is an error in it.
fn starts_sealed(host: &Host, vault: &Path, image: &Path, inside: &Path) {
    let policy = ENFORCE.replace("verity = \"off\"", "verity = \"require\"");
    host.config("policy.toml", &elsewhere(&policy, vault));
    let container = host.container(&vault.display().to_string(), &host.image(APP));
    let prepare = ["prepare", &format!("{APP}:v1"), "--seal", "oci:app"];
    host.verb_without_vault(&prepare).ok();
    host.start(&container).ok();
    let mounts = host.mounts_of(&container);
    assert!(mounts.len() == 1 && mounts[0].contains("verity=require"), "{mounts:?}");
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    // Everything of it is there: nothing that the container reads lies on the filesystem without fs-verity.
    let object = Path::new("objects").join(verity_digest(Algorithm::Sha512, &TOOL).object_path());
    let copy = std::fs::File::open(host.sandbox.path(&vault.join(&object))).unwrap();
    layerseal::sys::verity::check(&copy, &verity_digest(Algorithm::Sha512, &TOOL), "object").unwrap();
    drop(copy);
    rustix::fs::sync();
    disk::change(image, &inside.join(&object), 0);
    std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let file = std::fs::File::open(host.merged(&container).join("usr/bin/tool")).unwrap();
    let mut block = [0; 904];
    assert_eq!(errno(file.read_exact_at(&mut block, 0)), libc::EIO, "{}", vault.display());
    // The other block is as it was.
    file.read_exact_at(&mut block, 4096).unwrap();
    assert_eq!(block, TOOL[4096..]);
    drop(file);
    host.unmount(&container);
}
