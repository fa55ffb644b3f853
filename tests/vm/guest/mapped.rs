//! A13, M03: a container's map of IDs, a volatile upper directory and fs-verity, all in one mount.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use layerseal::digest::{Algorithm, VerityDigest};
use layerseal::error::Case;
use layerseal::mount::{MountOptions, MountSpec, UpperDir, mount};
use layerseal::oci::{Budget, Reference};
use layerseal::policy::Verity;
use layerseal::prepare::{PreparedImage, RootShape, prepare};
use layerseal::protocol::{Extent, IdMapping};
use layerseal::sys::mountinfo;
use layerseal::vault::Vault;

use crate::disk::Disk;
use crate::{Sealed, TOOL, new_enough};

fn prepared(sealed: &Sealed) -> PreparedImage {
    let vault = Vault::open(&sealed.bench.vault()).unwrap();
    let image = vault.image(&Reference::Tag("app".into()), &Budget::STANDARD).unwrap();
    let object = sealed.rootfs();
    let hex = object.strip_prefix(sealed.bench.vault().join("objects")).unwrap().to_str().unwrap().replace('/', "");
    let rootfs = VerityDigest::new(Algorithm::Sha512, &hex::decode(hex).unwrap()).unwrap();
    // The layers' own images are not mounted.
    let digests = layerseal::image::TreeDigests { rootfs, merged: None, layers: vec![rootfs; 2] };
    let verified = layerseal::verify::unsigned(&image, &digests, &layerseal::policy::Denied::nothing()).unwrap();
    prepare(&vault, &verified, RootShape::Root, Verity::Require, &Budget::STANDARD).unwrap()
}

fn place(sealed: &Sealed, volatile: bool) -> MountSpec {
    let dir = |name: &str| {
        let path: PathBuf = sealed.bench.path("c").join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let open = |path: &Path| layerseal::sys::files::open_dir(path).unwrap();
    let (diff, work) = (dir("diff"), dir("work"));
    let map = || IdMapping::Map(vec![Extent { container: 0, host: 100_000, size: 65_536 }]);
    MountSpec {
        upper: Some(UpperDir { upper: open(&diff), work: open(&work), path: diff }),
        how: MountOptions { uids: map(), gids: map(), volatile, ..MountOptions::default() },
        ..MountSpec::read_only(sealed.bench.path("root"))
    }
}

/// Runs a script as the container's root, with no right on the host.
fn as_container(sealed: &Sealed, script: &str) -> Output {
    let user = ["--reuid", "100000", "--regid", "100000", "--clear-groups", "sh", "-c", script];
    Command::new("setpriv").args(user).current_dir(sealed.bench.path("root")).output().unwrap()
}

#[test]
fn a13_m03_mapped_volatile_and_verified() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let disk = Disk::new(64, true);
    let sealed = Sealed::in_bench(disk.bench());
    disk.flip(&sealed.object(&TOOL), 1);
    let image = prepared(&sealed);
    for round in 0..2 {
        // The second time over what the first has left.
        mount(&image, &place(&sealed, true)).unwrap();
        let target = sealed.bench.path("root").canonicalize().unwrap();
        let there = mountinfo::own().unwrap().iter().find(|m| m.target == target).unwrap().clone();
        for option in ["verity=require", "volatile"] {
            assert!(there.super_options.iter().any(|o| o.to_string_lossy().ends_with(option)), "{option}: {there:?}");
        }
        assert_eq!(sealed.root("etc/small").metadata().unwrap().uid(), 100_000);
        // Copied up by the container's user, who owns it on the disk as 0.
        let output = as_container(&sealed, "set -e; printf more >>etc/small; chmod 700 etc/opaque/upper; stat -c %u .");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "100000\n", "{output:?}");
        let small = sealed.bench.path("c/diff/etc/small");
        assert_eq!(small.metadata().unwrap().uid(), 0);
        assert_eq!(std::fs::read(small).unwrap(), [&[b's'; 100][..], &b"more".repeat(round + 1)].concat());
        assert_eq!(std::fs::read(sealed.root("etc/opaque/upper")).unwrap(), vec![b'u'; 200]);
        // What was changed on the disk is neither read nor copied up.
        for script in ["cat usr/bin/tool >/dev/null", "echo x >>usr/bin/tool"] {
            let output = as_container(&sealed, script);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && said.contains("Input/output error"), "{script}: {said}");
        }
        assert!(!sealed.bench.path("c/diff/usr/bin/tool").exists());
        crate::common::unmount(&sealed.bench.path("root"));
    }
    let refusal = mount(&image, &place(&sealed, false)).unwrap_err();
    assert_eq!(refusal.case(), Case::I11Volatile, "{refusal}");
    assert!(mountinfo::own().unwrap().iter().all(|m| m.kind != "erofs" && !m.target.starts_with("/run/layerseal")));
    let kept = |name: std::ffi::OsString| {
        ["mounts", "podman", "log", "proof", "certificates", "signatures"].iter().any(|known| name == *known)
    };
    let left = std::fs::read_dir("/run/layerseal")
        .map_or(0, |dir| dir.filter(|e| !kept(e.as_ref().unwrap().file_name())).count());
    assert_eq!(left, 0);
}

#[test]
fn i08_at_no_moment_does_another_mount_namespace_see_the_erofs() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    let image = prepared(&sealed);
    // /, and with it /run, is shared in the VM; the peer gets what is shared with it.
    let mut peer = support::peer();
    let stop = AtomicBool::new(false);
    let (mut looked, mut targets) = (0, 0);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                seen.push(std::fs::read_to_string(format!("/proc/{}/mountinfo", peer.id())).unwrap());
            }
            seen
        });
        for _ in 0..20 {
            mount(&image, &place(&sealed, true)).unwrap();
            crate::common::unmount(&sealed.bench.path("root"));
        }
        stop.store(true, Ordering::Relaxed);
        for text in watch.join().unwrap() {
            looked += 1;
            assert!(!text.contains(" - erofs "), "{text}");
            targets += usize::from(text.contains("composefs:"));
        }
    });
    peer.kill().unwrap();
    peer.wait().unwrap();
    // The target itself is shared: the peer was looked at while there was something to see.
    assert!(looked > 20 && targets > 0, "{looked} {targets}");
}
