//! A graph root on a filesystem without fs-verity, and the vault on one that has it.

use std::path::{Path, PathBuf};
use std::process::Command;

use layerseal::digest::{Algorithm, verity_digest};

use crate::common::Bench;
use crate::disk::Disk;
use crate::host::{APP, ENFORCE, EVIL, Host};
use crate::{TOOL, new_enough};

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
    let elsewhere = |dir: &Path| format!("{policy}[store]\nvault = \"{}\"\n", dir.display());
    let disk = Bench::new();
    let tmpfs = Tmpfs::on(disk.path("tmpfs"));
    let bench = Bench { dir: tempfile::Builder::new().prefix("b").tempdir_in(&tmpfs.0).unwrap() };
    let Some(host) = Host::bare_in(bench, &policy) else { return };
    let container = host.container("c", &host.image(APP));
    let seal = |vault: &Path| {
        std::fs::create_dir(vault).unwrap();
        host.config("policy.toml", &elsewhere(vault));
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
    let policy = format!("{policy}[store]\nvault = \"{}\"\n", volume.display());
    let Some(host) = Host::bare_in(disk.bench(), &policy) else { return };
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
