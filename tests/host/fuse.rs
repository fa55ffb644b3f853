//! fuse-overlayfs on top (I11, I12).

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use layerseal::error::Case;
use layerseal::mount::{MountOptions, MountSpec, RootDriver, mount, plain};
use layerseal::verify::Waiver;

use crate::common::Bench;
use crate::place::{alone, as_user, done, mapped, nothing_left, open, place, prepared, upper};
use crate::{Mount, can_mount, mounts_beneath};

fn can_fuse(what: &str) -> bool {
    let there =
        std::path::Path::new("/dev/fuse").exists() && Command::new("fuse-overlayfs").arg("--version").output().is_ok();
    if !there {
        support::skip!("{what}: needs fuse-overlayfs and /dev/fuse");
    }
    can_mount(what)
}

fn fuse(how: MountOptions) -> MountOptions {
    MountOptions { top: RootDriver::FuseOverlayfs, ..how }
}

#[test]
fn i11_fuse_overlayfs_lies_over_a_mount_without_a_name() {
    if !can_fuse("I11 fuse") {
        return;
    }
    let _alone = alone();
    let bench = Bench::new();
    let root = Mount::at(&bench, "root");
    let image = prepared(&bench);
    let mounted = mount(&image, &place(root.path(), Some(upper(&bench, "c")), fuse(MountOptions::default()))).unwrap();
    let mounts = mounts_beneath(&root.path());
    let [one] = &mounts[..] else { panic!("{mounts:?}") };
    assert_eq!((one.kind.to_str(), one.device), (Some("fuse.fuse-overlayfs"), mounted.device));
    let has = |flag: &str| one.options.iter().any(|o| o == flag);
    // sudo in a container needs its bit.
    assert_eq!((has("nodev"), has("nosuid"), has("noexec"), has("ro")), (true, false, false, false), "{one:?}");
    let statfs = rustix::fs::statfs(root.path()).unwrap();
    assert_eq!(statfs.f_type, 0x6573_5546, "the magic number that containers-storage looks for");
    assert_eq!(std::fs::read(root.path().join("usr/bin/tool")).unwrap(), vec![b'x'; 5000]);
    std::fs::write(root.path().join("etc/new"), "mine").unwrap();
    std::fs::remove_file(root.path().join("etc/small")).unwrap();
    assert_eq!(std::fs::read(bench.path("c/diff/etc/new")).unwrap(), b"mine");
    let own = format!("/private.{}.", std::process::id());
    assert!(layerseal::sys::mountinfo::own().unwrap().iter().all(|m| !m.target.to_string_lossy().contains(&own)));
    // As containers-storage does it, first of all.
    let status = Command::new("fusermount3").arg("-u").arg(root.path()).status().unwrap();
    assert!(status.success());
    nothing_left(&root.path());
}

#[test]
fn a13_fuse_overlayfs_maps_ids_itself_and_once() {
    if !can_fuse("A13 fuse") {
        return;
    }
    let _alone = alone();
    let bench = Bench::new();
    let root = Mount::at(&bench, "root");
    let image = prepared(&bench);
    let how = fuse(mapped(&[(0, 100_000, 65_536)]));
    mount(&image, &place(root.path(), Some(upper(&bench, "c")), how)).unwrap();
    assert_eq!(root.path().join("usr/user").metadata().unwrap().uid(), 101_000);
    done(as_user(100_000, &root.path(), "echo new >etc/new"));
    assert_eq!(bench.path("c/diff/etc/new").metadata().unwrap().uid(), 0);
}

#[test]
fn a12_fuse_overlayfs_without_an_upper_directory_is_read_only() {
    if !can_fuse("A12 fuse") {
        return;
    }
    let _alone = alone();
    let bench = Bench::new();
    let root = Mount::at(&bench, "root");
    std::fs::create_dir(bench.path("lower")).unwrap();
    bench.write("lower/file", b"content");
    let how = fuse(MountOptions { nosuid: true, noexec: true, ..MountOptions::default() });
    plain(&Waiver::for_volume(), vec![open(&bench.path("lower"))], &place(root.path(), None, how)).unwrap();
    assert_eq!(std::fs::read(root.path().join("file")).unwrap(), b"content");
    let mounts = mounts_beneath(&root.path());
    for option in ["ro", "nodev", "nosuid", "noexec"] {
        assert!(mounts[0].options.iter().any(|o| o == option), "{option}: {mounts:?}");
    }
    std::fs::write(root.path().join("x"), "").unwrap_err();
}

#[test]
fn i05_fuse_overlayfs_that_fails_leaves_nothing() {
    if !can_fuse("I05 fuse") {
        return;
    }
    let _alone = alone();
    let bench = Bench::new();
    let root = Mount::at(&bench, "root");
    let image = prepared(&bench);
    let mut broken = upper(&bench, "c");
    // A directory that is gone.
    std::fs::remove_dir_all(bench.path("c")).unwrap();
    broken.path = bench.path("c/diff");
    let refusal = mount(&image, &place(root.path(), Some(broken), fuse(MountOptions::default()))).unwrap_err();
    assert_eq!(refusal.case(), Case::I11Fuse, "{refusal}");
    assert!(refusal.detail().len() > 20, "its own words are shown: {refusal}");
    nothing_left(&root.path());
    mount(&image, &MountSpec::read_only(root.path())).unwrap();
}
