//! Disks without room for another byte, or for another file, and read-only ones.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::common::{Bench, Run};
use crate::disk::Disk;
use crate::host::{APP, Container, ENFORCE, Host, TOOL};
use crate::sandbox::Ran;
use crate::verbs::{self, Verb};
use crate::{PULL, can_mount_disks, sealed, whole};

/// How many points of a verb's way the disk is full at.
const POINTS: u64 = 10;

fn small_disk() -> Disk {
    // Of inodes that were deleted within a minute ext4 without a journal gives each group's last one only, and of two
    // that ask for it at once one gets none of that group: so there are several.
    let command =
        ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-g", "2048", "-m", "0", "-N", "2000", "-O", "^has_journal"];
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
    let as_typed =
        ["image/", "copy", "seals", "written"].iter().any(|place| error.starts_with(&format!("Error: {place}")));
    as_typed || error.contains(&disk.mount_point().display().to_string())
}

/// What a program said, and how it ended.
#[derive(Debug)]
struct Said(i32, String);

impl From<Run> for Said {
    fn from(run: Run) -> Self {
        Self(run.code, run.stderr)
    }
}

impl From<Ran> for Said {
    fn from(ran: Ran) -> Self {
        Self(ran.code, ran.stderr)
    }
}

/// It went well, or said in one line that there is no room, naming a place on the disk and what is left there.
#[track_caller]
fn done_or_no_room(Said(code, stderr): &Said, disk: &Disk, what: &str) -> bool {
    if *code == 0 {
        return true;
    }
    let errors: Vec<&str> =
        stderr.lines().filter(|l| l.starts_with("Error: ") || l.starts_with("layerseal: ")).collect();
    assert_eq!((*code, errors.len()), (6, 1), "{what}: {stderr}");
    assert!(errors[0].ends_with("[R-X10]"), "{what}: {}", errors[0]);
    assert!(names_a_place(errors[0], disk), "{what}: no path: {}", errors[0]);
    let free = errors[0].split(" KiB are free").next().unwrap().rsplit([' ', '(']).next().unwrap();
    let told = free.parse().is_ok_and(|free: u64| free < 40 << 10) || errors[0].contains("inode");
    assert!(told, "{what}: {}", errors[0]);
    false
}

/// Runs something again and again on a disk of its own, each time with more room, on what `fresh` makes there; `check`
/// looks at what is there after it went well, which in the end it must, with all the room there is.
fn at_every_point<T>(what: &str, least: u64, fresh: impl Fn(&Disk) -> T, run: impl Fn(&T) -> Said, check: impl Fn(&T)) {
    let disk = small_disk();
    let dir = disk.mount_point();
    let (bytes, files) = {
        let made = fresh(&disk);
        let before = (free(&dir), free_files(&dir));
        let Said(code, stderr) = run(&made);
        assert_eq!(code, 0, "{what}: {stderr}");
        (before.0.saturating_sub(free(&dir)) + (64 << 10), before.1.saturating_sub(free_files(&dir)) + 4)
    };
    let mut refused = 0;
    for (fill, needed) in [(leave_bytes as fn(&Path, u64) -> PathBuf, bytes), (leave_files, files)] {
        for point in 0..POINTS {
            let made = fresh(&disk);
            let filler = fill(&dir, needed * point / POINTS);
            let what = format!("{what} at {point}");
            let done = done_or_no_room(&run(&made), &disk, &what);
            take_away(&filler);
            if !done {
                refused += 1;
                let Said(code, stderr) = run(&made);
                assert_eq!(code, 0, "{what}, and again with room: {stderr}");
            }
            check(&made);
        }
    }
    assert!(refused >= least, "{what}: the disk was full {refused} times only");
}

/// What was made once, on the disk.
fn copy(made: &Bench, disk: &Disk) -> Bench {
    let bench = disk.bench();
    let copied = Command::new("cp").arg("-a").arg(made.dir.path().join(".")).arg(bench.dir.path()).status();
    assert!(copied.unwrap().success());
    bench
}

/// The same for a verb; `least` times at least there must have been no room.
fn fills(verb: &Verb, least: u64) {
    if !can_mount_disks("a full disk") {
        return;
    }
    let made = Bench::new();
    (verb.fresh)(&made);
    let fresh = |disk: &Disk| copy(&made, disk);
    at_every_point(
        &verb.args.join(" "),
        least,
        fresh,
        |bench| bench.run(verb.args).into(),
        |bench| (verb.check)(bench),
    );
}

#[test]
fn x10_l02_pull_on_a_full_disk() {
    fills(&verbs::PULLING, POINTS);
}

#[test]
fn x10_l02_sign_on_a_full_disk() {
    fills(&verbs::SIGNING, POINTS);
    fills(&verbs::SIGNING_IN_VAULT, POINTS);
}

#[test]
fn x10_l02_attach_seal_and_digest_on_a_full_disk() {
    fills(&verbs::ATTACHING, POINTS);
    fills(&verbs::SEALING, 2);
    fills(&verbs::DIGESTING, POINTS);
}

#[test]
fn x10_l02_push_and_export_on_a_full_disk() {
    fills(&verbs::PUSHING, POINTS);
    fills(&verbs::EXPORTING, POINTS);
}

#[test]
fn x10_l02_tag_on_a_full_disk() {
    fills(&verbs::TAGGING, 2);
}

/// What makes room needs none.
#[test]
fn l02_gc_and_untag_on_a_full_disk() {
    fills(&verbs::UNTAGGING, 0);
    if !can_mount_disks("a full disk") {
        return;
    }
    let disk = small_disk();
    for fill in [leave_bytes as fn(&Path, u64) -> PathBuf, leave_files] {
        let bench = disk.bench();
        (verbs::COLLECTING.fresh)(&bench);
        let filler = fill(&disk.mount_point(), 0);
        let before = free_files(&disk.mount_point());
        bench.run(&["gc"]).ok();
        assert!(free_files(&disk.mount_point()) > before + 10);
        take_away(&filler);
        (verbs::COLLECTING.check)(&bench);
    }
}

#[test]
fn l02_fsck_repair_on_a_full_disk() {
    if !can_mount_disks("a full disk") {
        return;
    }
    let disk = small_disk();
    let dir = disk.mount_point();
    let made = Bench::new();
    (verbs::REPAIRING.fresh)(&made);
    let needed = {
        let bench = copy(&made, &disk);
        let before = (free(&dir), free_files(&dir));
        bench.run(verbs::REPAIRING.args).ok();
        (before.0 - free(&dir) + (64 << 10), before.1 - free_files(&dir) + 4)
    };
    // What cannot be made again for want of room is told as that, with what is left, and can be the next time.
    for (fill, needed) in [(leave_bytes as fn(&Path, u64) -> PathBuf, needed.0), (leave_files, needed.1)] {
        let mut refused = 0;
        for point in 0..POINTS {
            let bench = copy(&made, &disk);
            let filler = fill(&dir, needed * point / POINTS);
            let run = bench.run(verbs::REPAIRING.args);
            take_away(&filler);
            let said = format!("at {point}: {}{}", run.stdout, run.stderr);
            assert!(matches!(run.code, 0 | 4 | 6), "{said}");
            if run.code != 0 {
                refused += 1;
                assert!(run.stderr.contains("[R-X10]") && names_a_place(&run.stderr, &disk), "{said}");
                assert!(run.stderr.contains("KiB are free") || run.stderr.contains("inode"), "{said}");
            }
            let again = bench.run(verbs::REPAIRING.args);
            assert_eq!(again.code, 0, "{}{}\nbefore: {said}", again.stdout, again.stderr);
            (verbs::REPAIRING.check)(&bench);
        }
        assert!(refused > 0, "the disk was never full");
    }
}

/// A host on the disk, and one of its containers.
struct Stored {
    host: Host,
    container: Container,
}

impl Stored {
    fn new(disk: &Disk) -> Option<Self> {
        let host = Host::bare_in(disk.bench(), ENFORCE)?;
        let container = host.container("c", &host.image(APP));
        Some(Self { host, container })
    }

    /// It starts, and its vault is whole.
    fn check(&self) {
        self.host.start(&self.container).ok();
        assert_eq!(self.host.read(&self.container, "usr/bin/tool").unwrap(), TOOL);
        assert_eq!(self.host.mounts_of(&self.container).len(), 1);
        self.host.unmount(&self.container);
        self.host.layerseal(&["fsck"]);
    }
}

/// Preparing an image of podman: files are linked, images are written.
#[test]
fn x10_l02_prepare_on_a_full_disk() {
    if !can_mount_disks("a full disk") || Stored::new(&small_disk()).is_none() {
        return;
    }
    let prepare = ["prepare", &format!("{APP}:v1"), "--seal", "oci:app"];
    let fresh = |disk: &Disk| Stored::new(disk).unwrap();
    at_every_point("prepare", POINTS, fresh, |stored| stored.host.verb(&prepare).into(), Stored::check);
}

/// The first start of an image, which has its seals and nothing else.
#[test]
fn x10_l02_a_start_on_a_full_disk() {
    if !can_mount_disks("a full disk") || Stored::new(&small_disk()).is_none() {
        return;
    }
    let fresh = |disk: &Disk| {
        let stored = Stored::new(disk).unwrap();
        stored.host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app", "--seals-only"]);
        stored
    };
    let start = |stored: &Stored| {
        let ran = stored.host.start(&stored.container);
        assert_eq!(stored.host.mounts_of(&stored.container).len(), usize::from(ran.code == 0), "{ran:?}");
        if ran.code == 0 {
            stored.host.unmount(&stored.container);
        }
        ran.into()
    };
    at_every_point("a start", POINTS / 2, fresh, start, Stored::check);
}

/// Seals that come from a registry.
#[test]
fn x10_l02_fetch_on_a_full_disk() {
    if !can_mount_disks("a full disk") || Stored::new(&small_disk()).is_none() {
        return;
    }
    let Some(from) = crate::registry("faults/full") else { return };
    let fetch = crate::fetch(&from);
    let fresh = |disk: &Disk| {
        let stored = Stored::new(disk).unwrap();
        crate::with_skopeo(&stored.host);
        stored
    };
    at_every_point("fetch", POINTS / 2, fresh, |stored| stored.host.verb(&fetch).into(), Stored::check);
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
