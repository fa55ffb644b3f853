//! What a caller may ask of a mount.

use std::os::unix::fs::PermissionsExt as _;

use layerseal::error::Case;
use layerseal::mount::{MountOptions, MountSpec, mount, plain};
use layerseal::verify::Waiver;

use crate::common::{self, Bench};
use crate::place::{alone, nothing_left, open, place, prepared, upper};
use crate::{Mount, can_mount, mounts_beneath};

#[test]
fn a12_without_an_upper_directory_the_mount_is_read_only() {
    if !can_mount("A12") {
        return;
    }
    let bench = Bench::new();
    let root = Mount::at(&bench, "root");
    let image = prepared(&bench);
    std::fs::create_dir(bench.path("lower")).unwrap();
    let read_only = || MountSpec::read_only(root.path());
    let volume = || plain(&Waiver::for_volume(), vec![open(&bench.path("lower"))], &read_only());
    for make in [&(|| mount(&image, &read_only())) as &dyn Fn() -> _, &volume] {
        make().unwrap();
        let mounts = mounts_beneath(&root.path());
        assert!(mounts[0].options.iter().any(|o| o == "ro"), "{mounts:?}");
        let error = std::fs::write(root.path().join("x"), "").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        common::unmount(&root.path());
    }
}

#[test]
fn mount_flags_are_those_that_were_asked_for() {
    if !can_mount("flags") {
        return;
    }
    let bench = Bench::new();
    let root = Mount::at(&bench, "root");
    let image = prepared(&bench);
    let flags = |how: MountOptions| {
        mount(&image, &place(root.path(), Some(upper(&bench, "c")), how)).unwrap();
        let options = mounts_beneath(&root.path())[0].options.clone();
        common::unmount(&root.path());
        ["nodev", "nosuid", "noexec"].map(|flag| options.iter().any(|o| o == flag))
    };
    assert_eq!(flags(MountOptions::default()), [true, false, false]);
    assert_eq!(flags(MountOptions { dev: true, ..MountOptions::default() }), [false; 3]);
    assert_eq!(flags(MountOptions { nosuid: true, noexec: true, ..MountOptions::default() }), [true; 3]);
    // Without SELinux a label means nothing.
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        assert_eq!(
            flags(MountOptions { context: Some(label.into()), ..MountOptions::default() }),
            [true, false, false]
        );
    }
}

#[test]
fn i06_a_mount_with_other_flags_is_not_the_same() {
    if !can_mount("I06 flags") {
        return;
    }
    let bench = Bench::new();
    let root = Mount::at(&bench, "root");
    let image = prepared(&bench);
    let there = mount(&image, &MountSpec::read_only(root.path())).unwrap();
    let same = mount(&image, &MountSpec::read_only(root.path())).unwrap();
    assert!(there.fresh && !same.fresh);
    assert_eq!((there.device, there.id), (same.device, same.id));
    let refusal =
        mount(&image, &place(root.path(), None, MountOptions { nosuid: true, ..MountOptions::default() })).unwrap_err();
    assert_eq!(refusal.case(), Case::I06Mounted, "{refusal}");
}

#[test]
fn m03_what_a_volatile_mount_leaves_is_taken_away_for_a_volatile_mount_only() {
    if !can_mount("M03") {
        return;
    }
    let _alone = alone();
    let bench = Bench::new();
    let root = Mount::at(&bench, "root");
    let image = prepared(&bench);
    let with = |volatile| {
        mount(
            &image,
            &place(root.path(), Some(upper(&bench, "c")), MountOptions { volatile, ..MountOptions::default() }),
        )
    };
    for _ in 0..2 {
        with(true).unwrap();
        assert!(
            mounts_beneath(&root.path())[0].super_options.iter().any(|o| o.to_string_lossy().ends_with("volatile"))
        );
        std::fs::write(root.path().join("etc/new"), "mine").unwrap();
        common::unmount(&root.path());
        assert!(bench.path("c/work/work/incompat/volatile").exists());
    }
    let refusal = with(false).unwrap_err();
    assert_eq!(refusal.case(), Case::I11Volatile, "{refusal}");
    nothing_left(&root.path());
    assert!(bench.path("c/work/work/incompat/volatile").exists());
    // Somebody's own file in there is no leftover of the kernel's.
    let victim = bench.write("victim", b"");
    std::fs::remove_dir_all(bench.path("c/work/work/incompat/volatile")).unwrap();
    std::os::unix::fs::symlink(bench.path("."), bench.path("c/work/work/incompat/volatile")).unwrap();
    bench.write("dirty", b"");
    let refusal = with(true).unwrap_err();
    assert_eq!(refusal.case(), Case::Io, "{refusal}");
    assert!(victim.exists() && bench.path("dirty").exists());
    nothing_left(&root.path());
}

#[test]
fn m04_overlay_attributes_set_inside_do_nothing_to_what_is_beneath() {
    if !can_mount("M04") {
        return;
    }
    let bench = Bench::new();
    let root = Mount::at(&bench, "root");
    let image = prepared(&bench);
    let make = || mount(&image, &place(root.path(), Some(upper(&bench, "c")), MountOptions::default())).unwrap();
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(root.path().join(path), name, value, rustix::fs::XattrFlags::empty())
    };
    make();
    std::fs::write(root.path().join("etc/mine"), "mine").unwrap();
    // Opaque would hide what is beneath, a redirect would show another file, a whiteout none.
    for (path, name, value) in [
        ("etc", "trusted.overlay.opaque", &b"y"[..]),
        ("etc/mine", "trusted.overlay.redirect", b"/usr/bin/tool"),
        ("etc/mine", "trusted.overlay.metacopy", b""),
        ("etc/mine", "trusted.overlay.whiteout", b"y"),
    ] {
        // Refused or escaped, as the kernel likes.
        let _ = set(path, name, value);
    }
    common::unmount(&root.path());
    make();
    assert_eq!(std::fs::read(root.path().join("etc/mine")).unwrap(), b"mine");
    assert_eq!(std::fs::read(root.path().join("etc/small")).unwrap(), b"short\n");
    assert_eq!(std::fs::read(root.path().join("usr/bin/tool")).unwrap(), vec![b'x'; 5000]);
    // And a new container sees nothing of it.
    common::unmount(&root.path());
    mount(&image, &MountSpec::read_only(root.path())).unwrap();
    assert!(!root.path().join("etc/mine").exists());
}

#[test]
fn m04_attributes_of_a_plain_lower_point_nowhere() {
    if !can_mount("M04 plain") {
        return;
    }
    let bench = Bench::new();
    let root = Mount::at(&bench, "root");
    for dir in ["top", "beneath"] {
        std::fs::create_dir(bench.path(dir)).unwrap();
    }
    bench.write("beneath/secret", b"secret");
    let link = bench.write("top/link", b"");
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(&link, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("trusted.overlay.metacopy", b"");
    set("trusted.overlay.redirect", b"/secret");
    let lowers = vec![open(&bench.path("top")), open(&bench.path("beneath"))];
    plain(&Waiver::for_volume(), lowers, &MountSpec::read_only(root.path())).unwrap();
    let read = std::fs::read(root.path().join("link"));
    assert!(!matches!(&read, Ok(text) if text == b"secret"), "{read:?}");
}

#[test]
fn i11_the_changes_of_a_container_are_shown_above_the_image() {
    if !can_mount("I11 above") {
        return;
    }
    let bench = Bench::new();
    let (root, view) = (Mount::at(&bench, "root"), Mount::at(&bench, "view"));
    let image = prepared(&bench);
    mount(&image, &place(root.path(), Some(upper(&bench, "c")), MountOptions::default())).unwrap();
    std::fs::write(root.path().join("etc/new"), "new").unwrap();
    std::fs::remove_file(root.path().join("etc/small")).unwrap();
    // Metadata alone: the content stays in the objects, two layers down.
    std::fs::set_permissions(root.path().join("usr/bin/tool"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::rename(root.path().join("etc/opaque"), root.path().join("etc/renamed")).unwrap();
    let above = MountSpec { above: Some(open(&bench.path("c/diff"))), ..MountSpec::read_only(view.path()) };
    mount(&image, &above).unwrap();
    for at in [&root, &view] {
        assert_eq!(std::fs::read(at.path().join("etc/new")).unwrap(), b"new");
        assert!(!at.path().join("etc/small").exists());
        assert_eq!(std::fs::read(at.path().join("usr/bin/tool")).unwrap(), vec![b'x'; 5000]);
        assert_eq!(at.path().join("usr/bin/tool").metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read(at.path().join("etc/renamed/lower")).unwrap(), vec![b'l'; 300]);
        assert!(!at.path().join("etc/opaque").exists());
    }
    std::fs::write(view.path().join("etc/x"), "").unwrap_err();
    // Both at once would be a mistake of ours.
    let both = MountSpec {
        above: Some(open(&bench.path("c/diff"))),
        ..place(view.path(), Some(upper(&bench, "d")), MountOptions::default())
    };
    assert_eq!(mount(&image, &both).unwrap_err().case(), Case::Bug);
}
