//! Disks without room for another byte, or for another file, and read-only ones.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::common::{Bench, Run};
use crate::disk::Disk;
use crate::host::{APP, ENFORCE, Host};
use crate::{PULL, can_mount_disks, nothing_is_left, sealed, whole};

/// How many points of a verb's way the disk is full at.
const POINTS: u64 = 10;

fn small_disk() -> Disk {
    let command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-N", "2000", "-O", "^has_journal"];
    Disk::formatted(48, &command, "loop")
}

fn free(dir: &Path) -> u64 {
    let found = statvfs(dir).unwrap();
    found.f_bfree * found.f_frsize
}

fn free_files(dir: &Path) -> u64 {
    statvfs(dir).unwrap().f_ffree
}

/// Takes all but so many bytes.
fn leave_bytes(dir: &Path, bytes: u64) -> PathBuf {
    let filler = dir.join("filler");
    let file = File::create(&filler).unwrap();
    let mut size = free(dir).saturating_sub(bytes);
    // Some of it goes into the list of the blocks.
    while size > 0 && fallocate(&file, FallocateFlags::empty(), 0, size).is_err() {
        size = size.saturating_sub(4096);
    }
    filler
}

/// Takes all but so many inodes.
fn leave_files(dir: &Path, files: u64) -> PathBuf {
    let filler = dir.join("filler");
    std::fs::create_dir(&filler).unwrap();
    for number in 0..free_files(dir).saturating_sub(files) {
        File::create(filler.join(number.to_string())).unwrap();
    }
    filler
}

fn take_away(filler: &Path) {
    if filler.is_dir() { std::fs::remove_dir_all(filler).unwrap() } else { std::fs::remove_file(filler).unwrap() }
}

/// A path as it was typed, or a whole one.
fn names_a_place(error: &str, disk: &Disk) -> bool {
    error.contains(&disk.mount_point().display().to_string()) || error.starts_with("Error: image/")
}

/// It went well, or said in one line that there is no room, naming a place on the disk.
#[track_caller]
fn done_or_no_room(run: &Run, disk: &Disk, what: &str) -> bool {
    if run.code == 0 {
        return true;
    }
    let errors: Vec<&str> = run.stderr.lines().filter(|l| l.starts_with("Error: ")).collect();
    assert_eq!((run.code, errors.len()), (6, 1), "{what}: {}", run.stderr);
    assert!(errors[0].ends_with("[R-X10]"), "{what}: {}", errors[0]);
    assert!(names_a_place(errors[0], disk), "{what}: no path: {}", errors[0]);
    let free = errors[0].split(" KiB are free").next().unwrap().rsplit([' ', '(']).next().unwrap();
    let told = free.parse().is_ok_and(|free: u64| free < 40 << 10) || errors[0].contains("no inode is free");
    assert!(told, "{what}: {}", errors[0]);
    false
}

/// Runs `verb` again and again, each time with more room, on what `fresh` makes; `check` looks at what is there after
/// it went well, which in the end it must, with all the room there is.
fn at_every_point(verb: &[&str], fresh: impl Fn(&Bench), check: impl Fn(&Bench)) {
    let disk = small_disk();
    let dir = disk.mount_point();
    let (bytes, files) = {
        let bench = disk.bench();
        fresh(&bench);
        let before = (free(&dir), free_files(&dir));
        bench.run(verb).ok();
        (before.0 - free(&dir) + (64 << 10), before.1 - free_files(&dir) + 4)
    };
    let mut refused = 0;
    for (fill, needed) in [(leave_bytes as fn(&Path, u64) -> PathBuf, bytes), (leave_files, files)] {
        for point in 0..POINTS {
            let bench = disk.bench();
            fresh(&bench);
            let filler = fill(&dir, needed * point / POINTS);
            let what = format!("{verb:?} at {point}");
            let done = done_or_no_room(&bench.run(verb), &disk, &what);
            take_away(&filler);
            if !done {
                refused += 1;
                bench.run(verb).ok();
            }
            check(&bench);
        }
    }
    assert!(refused >= POINTS, "{verb:?}: the disk was full {refused} times only");
}

#[test]
fn x10_l02_pull_on_a_full_disk() {
    if !can_mount_disks("a full disk") {
        return;
    }
    at_every_point(&PULL, sealed, |bench| {
        whole(bench);
        nothing_is_left(bench);
    });
}

#[test]
fn x10_l02_sign_on_a_full_disk() {
    if !can_mount_disks("a full disk") {
        return;
    }
    let fresh = |bench: &Bench| {
        crate::common::Layout::new(&bench.path("image"), &crate::layers());
        bench.signer("signer", crate::common::signer());
    };
    let sign = ["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key", "--identity", APP];
    at_every_point(&sign, fresh, |bench| {
        bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).ok();
    });
}

#[test]
fn l02_fsck_repair_on_a_full_disk() {
    if !can_mount_disks("a full disk") {
        return;
    }
    let fresh = |bench: &Bench| {
        sealed(bench);
        bench.run(&PULL).ok();
        let objects: Vec<String> = bench.vault_files().into_iter().filter(|f| f.starts_with("objects/")).collect();
        for object in objects.iter().step_by(2) {
            std::fs::remove_file(bench.vault().join(object)).unwrap();
        }
    };
    // What cannot be made again for want of room is told as what it is, and can be the next time.
    let disk = small_disk();
    for point in 0..POINTS {
        let bench = disk.bench();
        fresh(&bench);
        let filler = leave_bytes(&disk.mount_point(), (point * 64) << 10);
        let run = bench.run(&["fsck", "--repair"]);
        assert!(matches!(run.code, 0 | 4 | 6), "{}{}", run.stdout, run.stderr);
        take_away(&filler);
        let again = bench.run(&["fsck", "--repair"]);
        assert_eq!(again.code, 0, "at {point}: {}{}\nbefore: {}{}", again.stdout, again.stderr, run.stdout, run.stderr);
        whole(&bench);
        nothing_is_left(&bench);
    }
}

/// Preparing an image of podman and starting it: files are linked, images are written.
#[test]
fn l02_prepare_and_start_on_a_full_disk() {
    if !can_mount_disks("a full disk") {
        return;
    }
    let disk = small_disk();
    let Some(host) = Host::bare_in(disk.bench(), ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let mut refused = 0;
    for room in [0, 1, 2, 3, 4, 6, 8, 12, 16, 24] {
        let filler = leave_bytes(&disk.mount_point(), room * 4096);
        let prepare = host.verb(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
        let start = host.start(&container);
        take_away(&filler);
        if prepare.code != 0 {
            refused += 1;
            assert!(prepare.code == 6 && prepare.stderr.contains("[R-X10]"), "{room}: {prepare:?}");
            // It needs what the other did not have, or has no seal.
            assert!(matches!(start.code, 3 | 6), "{room}: {start:?}");
        }
        if start.code == 0 {
            host.unmount(&container);
        }
        assert!(host.mounts_of(&container).is_empty());
        let _ = std::fs::remove_dir_all(host.root.join("layerseal"));
    }
    assert!(refused >= 3, "{refused}");
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), crate::host::TOOL);
}

#[test]
fn x11_a_read_only_disk_is_named() {
    if !can_mount_disks("a read-only disk") {
        return;
    }
    let disk = small_disk();
    let bench = disk.bench();
    sealed(&bench);
    let read_only = |on: bool| {
        let options = if on { "remount,ro" } else { "remount,rw" };
        let mounted = std::process::Command::new("mount").args(["-o", options]).arg(disk.mount_point()).status();
        assert!(mounted.unwrap().success());
    };
    let verbs: [&[&str]; 4] = [
        &PULL,
        &["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key"],
        &["tag", "app", "other"],
        &["fsck", "--repair"],
    ];
    for (number, verb) in verbs.iter().enumerate() {
        read_only(true);
        let run = bench.run(verb);
        read_only(false);
        if run.code != 0 {
            assert!(run.code == 6 && run.stderr.contains("[R-X11]"), "{verb:?}: {}", run.stderr);
            assert!(names_a_place(&run.stderr, &disk) && !run.stderr.contains("/proc/"), "{verb:?}: {}", run.stderr);
        } else {
            assert_eq!(verb[0], "fsck", "{verb:?} went well");
        }
        if number == 0 {
            bench.run(&PULL).ok();
        }
    }
    whole(&bench);
    // A store: what is ready starts, what is not is refused by name.
    let Some(host) = Host::bare_in(disk.bench(), ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    read_only(true);
    let start = host.start(&container);
    read_only(false);
    assert!(start.code == 6 && start.stderr.contains("[R-X11]") && !start.stderr.contains("/proc/"), "{start:?}");
}
