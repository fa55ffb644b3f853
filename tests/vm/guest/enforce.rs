//! The main job, with the kernel checking.

use crate::{Sealed, errno, new_enough, tree};

#[test]
fn a_sealed_image_mounts_verified() {
    if !new_enough() {
        // What a kernel that cannot do it must say.
        let sealed = crate::common::Bench::new();
        sealed.sealed(&crate::common::two_layers());
        std::fs::create_dir(sealed.path("root")).unwrap();
        sealed.run(&["mount", "oci:image", "root", "--require-signature", "--trust", "signer.crt"]).refused(6, "I09");
        assert_eq!(sealed.run(&["doctor"]).code, 6);
        // The EROFS was mounted through a loop device before the overlay was refused.
        let loops = std::process::Command::new("losetup").args(["-n", "-O", "BACK-FILE"]).output().unwrap();
        assert!(!String::from_utf8_lossy(&loops.stdout).contains("objects"), "{loops:?}");
        return;
    }
    let sealed = Sealed::new();
    let run = sealed.mount().ok();
    assert_eq!(run.stderr, "");
    let mounts = layerseal::sys::mountinfo::own().unwrap();
    let one = mounts.iter().find(|m| m.target.ends_with("root") && m.kind == "overlay").unwrap();
    assert!(one.super_options.iter().any(|o| o == "verity=require"), "{one:?}");
    assert_eq!(std::fs::read(sealed.root("usr/bin/tool")).unwrap(), crate::TOOL);
    assert_eq!(std::fs::read(sealed.root("etc/small")).unwrap(), vec![b's'; 100]);
    // 6.12 cannot take a detached EROFS and needs a place for it: nothing of that is left.
    assert!(mounts.iter().all(|m| m.kind != "erofs"), "{mounts:?}");
    let left: Vec<_> = std::fs::read_dir("/run/layerseal")
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .filter(|n| !["mounts", "podman", "log", "proof", "certificates", "signatures"].iter().any(|known| n == known))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let status = sealed.bench.run(&["status", "--json"]).ok().json();
    let mount = &status["mounts"][0];
    assert_eq!((&mount["kind"], &mount["verity"]), (&"sealed".into(), &true.into()), "{status}");
    assert_eq!(sealed.bench.run(&["doctor"]).ok().stderr, "");
}

#[test]
fn i04_what_a_killed_mount_left_is_swept_up() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    // As a process that was killed between attaching the EROFS and making the overlay leaves it.
    let stale = std::path::Path::new("/run/layerseal/private.4194303.x");
    std::fs::create_dir_all(stale).unwrap();
    let status = std::process::Command::new("mount").args(["-t", "tmpfs", "stale"]).arg(stale).status().unwrap();
    assert!(status.success());
    let sealed = Sealed::new();
    sealed.mount().ok();
    // Later kernels need no such place, and so do not look there.
    if layerseal::sys::mounts::kernel_version() < (6, 13) {
        assert!(!stale.exists());
    } else {
        layerseal::sys::mounts::detach(stale).unwrap();
        std::fs::remove_dir(stale).unwrap();
    }
}

#[test]
fn i09_stack_and_rootfs_are_the_same_under_verity() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    sealed.mount().ok();
    // A layer counts the names that it gave, whatever upper ones hide.
    let uncounted = |lines: Vec<String>| -> Vec<String> {
        let strip = |line: &String| line.split(' ').filter(|w| !w.starts_with("links=")).collect::<Vec<_>>().join(" ");
        lines.iter().map(strip).collect()
    };
    let rootfs = uncounted(tree::dump(&sealed.root("")));
    sealed.bench.run(&["umount", "root"]).ok();
    sealed.mount_with(&["--stack"]).ok();
    assert_eq!(rootfs, uncounted(tree::dump(&sealed.root(""))));
}

#[test]
fn the_second_mount_reads_no_layer() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    // Without the layers' blobs the image still mounts: what was checked once is measured, not read.
    let blobs = sealed.bench.vault().join("blobs/sha256");
    let image = sealed.bench.run(&["inspect", "app", "--json"]).ok().json();
    for layer in image["layers"].as_array().unwrap() {
        std::fs::remove_file(blobs.join(&layer["digest"].as_str().unwrap()[7..])).unwrap();
    }
    sealed.mount().ok();
}

#[test]
fn a_container_writes_to_its_upper_directory() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    for dir in ["upper", "work"] {
        std::fs::create_dir(sealed.bench.path(dir)).unwrap();
    }
    sealed.mount_with(&["--upper", "upper", "--work", "work"]).ok();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(sealed.root("usr/bin/tool"), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(std::fs::read(sealed.root("usr/bin/tool")).unwrap(), crate::TOOL);
    std::fs::write(sealed.root("etc/new"), "n").unwrap();
    std::fs::remove_file(sealed.root("etc/small")).unwrap();
    assert_eq!(errno(std::fs::metadata(sealed.root("etc/small"))), libc::ENOENT);
}

#[test]
fn unsigned_images_mount_only_without_a_demand() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let bench = crate::common::Bench::new();
    crate::common::Layout::new(&bench.path("image"), &crate::common::two_layers());
    bench.signer("signer", crate::common::signer());
    std::fs::create_dir(bench.path("root")).unwrap();
    bench.run(&["mount", "oci:image", "root", "--require-signature", "--trust", "signer.crt"]).refused(3, "C07");
    assert_eq!(bench.vault_files(), Vec::<String>::new());
    bench.run(&["mount", "oci:image", "root"]).ok();
    assert_eq!(std::fs::read(bench.path("root/usr/bin/tool")).unwrap(), crate::TOOL);
    bench.run(&["umount", "root"]).ok();
}
