//! A13: what a container's map of IDs does to files, on the disk and in the mount.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use layerseal::error::{Case, Class};
use layerseal::mount::{MountOptions, mount, plain};
use layerseal::protocol::{Extent, IdMapping};
use layerseal::sys::mountinfo;
use layerseal::sys::mounts::{attach, clone_mount, map_ids, open_target};
use layerseal::sys::userns;
use layerseal::verify::Waiver;

use crate::common::{self, Bench};
use crate::place::{alone, as_user, done, mapped, nothing_left, open, place, prepared, upper};
use crate::{Mount, can_mount};

const CONTAINER: (u32, u32, u32) = (0, 100_000, 65_536);

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let meta = std::fs::symlink_metadata(path.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()));
    (meta.uid(), meta.gid())
}

#[test]
fn a13_on_the_disk_are_the_containers_ids_and_in_the_mount_the_hosts() {
    if !can_mount("A13") {
        return;
    }
    let bench = Bench::new();
    let image = prepared(&bench);
    let root = Mount::at(&bench, "root");
    let script = "
        set -e
        echo new >etc/new
        mkdir -p etc/dir/sub
        echo more >>usr/bin/tool
        chmod 600 etc/opaque/lower
        rm etc/small
        mv etc/dir etc/moved
        mknod etc/fifo p
        stat -c %u:%g . etc/new usr/bin/tool";
    mount(&image, &place(root.path(), Some(upper(&bench, "c")), mapped(&[CONTAINER]))).unwrap();
    assert_eq!(owner(root.path().join("usr/bin/tool")), (100_000, 100_000));
    assert_eq!(owner(root.path().join("usr/user")).0, 101_000);
    // Beyond the map is nobody.
    assert_eq!(owner(root.path().join("usr/far")).0, 65_534);
    assert_eq!(done(as_user(100_000, &root.path(), script)), "100000:100000\n100000:100000\n100000:100000\n");
    // The host's root is no user of this container, but podman writes as such into its root.
    std::fs::write(root.path().join("etc/host"), "x").unwrap();
    assert_eq!(owner(root.path().join("etc/host")), (0, 0));
    common::unmount(&root.path());
    let diff = bench.path("c/diff");
    for path in ["etc", "etc/new", "usr/bin/tool", "etc/moved/sub", "etc/fifo", "etc/opaque/lower"] {
        assert_eq!(owner(diff.join(path)), (0, 0), "{path}");
    }
    assert_eq!(owner(diff.join("etc/host")), (u32::MAX - 1, u32::MAX - 1));
    assert!(std::fs::symlink_metadata(diff.join("etc/small")).unwrap().file_type().is_char_device());
    // The same container once more, and the same without a map.
    mount(&image, &place(root.path(), Some(upper(&bench, "c")), mapped(&[CONTAINER]))).unwrap();
    assert_eq!(owner(root.path().join("etc/new")), (100_000, 100_000));
    assert!(!root.path().join("etc/small").exists());
    common::unmount(&root.path());
    mount(&image, &place(root.path(), Some(upper(&bench, "c")), MountOptions::default())).unwrap();
    assert_eq!(owner(root.path().join("etc/new")), (0, 0));
    assert_eq!(std::fs::read(root.path().join("usr/bin/tool")).unwrap()[5000..], *b"more\n");
}

#[test]
fn a13_ranges_apart_read_only_and_squashed() {
    if !can_mount("A13 ranges") {
        return;
    }
    let bench = Bench::new();
    let image = prepared(&bench);
    let root = Mount::at(&bench, "root");
    let user = |how: MountOptions| {
        let there = mount(&image, &place(root.path(), None, how)).unwrap();
        assert!(there.fresh);
        let seen = (owner(root.path().join("usr/bin/tool")), owner(root.path().join("usr/user")));
        common::unmount(&root.path());
        seen
    };
    assert_eq!(user(mapped(&[(1000, 300_000, 10), (0, 200_000, 5)])), ((200_000, 200_000), (300_000, 200_000)));
    // An empty map is none.
    assert_eq!(user(mapped(&[])), ((0, 0), (1000, 0)));
    // Users alone: groups stay.
    let uids = IdMapping::Map(vec![Extent { container: 0, host: 5000, size: 2000 }]);
    assert_eq!(user(MountOptions { uids, ..MountOptions::default() }), ((5000, 0), (6000, 0)));
    let squashed = MountOptions { uids: IdMapping::Squash(7), gids: IdMapping::Squash(8), ..MountOptions::default() };
    assert_eq!(user(squashed), ((7, 8), (65_534, 8)));
}

#[test]
fn a13_the_same_image_with_another_map_is_another_mount() {
    if !can_mount("A13 twice") {
        return;
    }
    let bench = Bench::new();
    let image = prepared(&bench);
    let root = Mount::at(&bench, "root");
    mount(&image, &place(root.path(), None, MountOptions::default())).unwrap();
    let refusal = mount(&image, &place(root.path(), None, mapped(&[CONTAINER]))).unwrap_err();
    assert_eq!(refusal.case(), Case::I06Mounted, "{refusal}");
}

#[test]
fn a13_upper_and_work_apart_are_refused() {
    if !can_mount("A13 apart") {
        return;
    }
    let _alone = alone();
    let bench = Bench::new();
    let image = prepared(&bench);
    let root = Mount::at(&bench, "root");
    let mut apart = upper(&bench, "one");
    apart.work = upper(&bench, "other").work;
    let refusal = mount(&image, &place(root.path(), Some(apart), mapped(&[CONTAINER]))).unwrap_err();
    assert_eq!((refusal.case(), refusal.case().class()), (Case::A13Cannot, Class::CannotEnforce), "{refusal}");
    assert!(refusal.to_string().contains("must lie in one directory"), "{refusal}");
    nothing_left(&root.path());
}

#[test]
fn a13_a_filesystem_without_idmapped_mounts_is_refused() {
    if !can_mount("A13 filesystem") {
        return;
    }
    let _alone = alone();
    let bench = Bench::new();
    let (root, lower) = (Mount::at(&bench, "root"), Mount::at(&bench, "lower"));
    // Overlayfs itself has none.
    mount(&prepared(&bench), &place(lower.path(), None, MountOptions::default())).unwrap();
    let plain = |how| plain(&Waiver::for_volume(), vec![open(&lower.path())], &place(root.path(), None, how));
    let refusal = plain(mapped(&[CONTAINER])).unwrap_err();
    assert_eq!(refusal.case(), Case::A13Cannot, "{refusal}");
    nothing_left(&root.path());
    plain(MountOptions::default()).unwrap();
}

#[test]
fn a13_a_plain_lower_is_mapped_once() {
    if !can_mount("A13 plain") {
        return;
    }
    let bench = Bench::new();
    let (root, shifted) = (Mount::at(&bench, "root"), Mount::at(&bench, "shifted"));
    for lower in ["one", "two"] {
        std::fs::create_dir(bench.path(lower)).unwrap();
        bench.write(&format!("{lower}/{lower}"), b"content");
        std::os::unix::fs::chown(bench.path(&format!("{lower}/{lower}")), Some(5), Some(5)).unwrap();
    }
    // containers-storage hands in directories that it has mapped, and the map as well.
    let table = userns::with_maps("0 100000 65536\n", "0 100000 65536\n").unwrap().unwrap();
    let clone = clone_mount(open(&bench.path("two"))).unwrap();
    map_ids(&clone, &table).unwrap();
    attach(&clone, open_target(&shifted.path()).unwrap()).unwrap();
    let lowers = vec![open(&bench.path("one")), open(&shifted.path())];
    let place = place(root.path(), Some(upper(&bench, "c")), mapped(&[CONTAINER]));
    plain(&Waiver::for_volume(), lowers, &place).unwrap();
    assert_eq!(owner(root.path().join("one")), (100_005, 100_005));
    assert_eq!(owner(root.path().join("two")), (100_005, 100_005));
    done(as_user(100_005, &root.path(), "echo changed >one && echo changed >two"));
    assert_eq!(owner(bench.path("c/diff/one")), (5, 5));
    assert_eq!(owner(bench.path("c/diff/two")), (5, 5));
}

#[test]
fn a13_no_process_and_no_mount_is_left() {
    if !can_mount("A13 left") {
        return;
    }
    let _alone = alone();
    // A map that the kernel does not take, and one that it does.
    for map in ["0 0 0\n", "0 1 1\n"] {
        let made = userns::with_maps(map, "0 1 1\n").unwrap();
        assert_eq!(made.is_ok(), map == "0 1 1\n");
        let failed = made.err().map(|f| (f.step, f.error.raw_os_error()));
        assert!(failed.is_none() || failed == Some(("user IDs", Some(libc::EINVAL))), "{failed:?}");
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
        assert_eq!(children, "");
    }
    let mut fsuid = String::new();
    for line in std::fs::read_to_string("/proc/thread-self/status").unwrap().lines() {
        if line.starts_with("Uid:") || line.starts_with("Gid:") {
            fsuid.push_str(line);
        }
    }
    assert_eq!(fsuid, "Uid:\t0\t0\t0\t0Gid:\t0\t0\t0\t0");
    assert!(mountinfo::own().unwrap().iter().all(|m| !m.target.to_string_lossy().contains("/private.")));
}

#[test]
fn files_are_made_under_the_ids_that_were_asked_for() {
    if !can_mount("file owner") {
        return;
    }
    let bench = Bench::new();
    let rights = || {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find(|l| l.starts_with("CapEff:")).unwrap().to_owned()
    };
    let before = rights();
    let within = userns::with_file_owner(1234, 2345, || {
        bench.write("file", b"");
        rights()
    });
    // With all rights: overlayfs keeps them.
    assert_eq!(within.unwrap(), before);
    assert_eq!(owner(bench.path("file")), (1234, 2345));
    bench.write("after", b"");
    assert_eq!((owner(bench.path("after")), rights()), ((0, 0), before));
}
