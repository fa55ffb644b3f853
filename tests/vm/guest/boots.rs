//! What a reboot does to the vault: filesystems that are really unmounted and mounted again. A failed attempt to
//! enable fs-verity must leave nothing behind that the next mount acts on (docs/assurance.md).

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use composefs_ioctls::fsverity::fs_ioc_enable_verity_with_sig;
use layerseal::digest::{Algorithm, verity_digest};
use layerseal::error::Case;
use layerseal::pki::formatted_digest;
use layerseal::sys::draft::{Draft, NewDraft};
use layerseal::sys::verity;

use crate::common::{Bench, Signer, signer, stranger};
use crate::disk::Disk;
use crate::host::{APP, ENFORCE, Host};
use crate::{TOOL, new_enough};

/// Filesystems as hosts have them. `errors=remount-ro` is Debian's default for /.
pub fn disks() -> Vec<(&'static str, Disk)> {
    let ext4 = |features: &'static str| {
        let command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", features];
        Disk::formatted(64, &command, "loop,errors=remount-ro")
    };
    vec![
        ("ext4 with orphan_file", ext4("verity,has_journal,orphan_file")),
        ("ext4 without", ext4("verity,has_journal,^orphan_file")),
        ("btrfs", Disk::formatted(112, &["mkfs.btrfs", "-q"], "loop")),
    ]
}

/// What the kernel has said of errors so far.
fn complaints() -> usize {
    let log = Command::new("dmesg").output().unwrap();
    assert!(log.status.success());
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    let bad = |l: &&str| {
        l.contains("EXT4-fs error")
            || l.contains("verity file corrupted")
            || l.contains("BTRFS error")
            || l.contains("FILE CORRUPTED")
            || l.contains("Remounting filesystem read-only")
    };
    log.lines().filter(bad).count()
}

/// As a host is switched off and on, nothing of it staying in memory.
pub fn reboot(disk: &Disk) {
    disk.umount();
    disk.mount();
}

/// Reads every file of a directory.
#[track_caller]
fn read_all(dir: &Path, what: &str) -> usize {
    let mut count = 0;
    crate::common::walk(dir, &mut |path| {
        if fs::symlink_metadata(path).unwrap().is_file() {
            fs::read(path).unwrap_or_else(|e| panic!("{what}: {}: {e}", path.display()));
            count += 1;
        }
    });
    count
}

/// fs-verity on files of somebody else, who gets the inode numbers that are free by now.
fn somebody_elses(dir: &Path, round: &str) {
    for number in 0..60 {
        let path = dir.join(format!("{round}-{number}"));
        fs::write(&path, vec![b's'; 20_000]).unwrap();
        fs_ioc_enable_verity_with_sig(File::open(&path).unwrap(), 1, 4096, None).unwrap();
    }
}

pub fn signature(with: &Signer, content: &[u8]) -> Vec<u8> {
    let bytes = formatted_digest(2, verity_digest(Algorithm::Sha512, content).as_bytes());
    let (cert, key) = (with.cert.to_pem().unwrap(), with.key.private_key_to_pem_pkcs8().unwrap());
    layerseal::pki::Signer::new(&cert, &key, None, "test").unwrap().sign(&bytes).unwrap()
}

/// Pull, sign, mount, prepare and start, with a certificate that the kernel has (`known`) or lacks.
fn whole_life(disk: &Disk, what: &str, known: bool) {
    let with = if known { signer() } else { stranger() };
    let bench = disk.bench();
    crate::common::Layout::new(&bench.path("image"), &crate::common::two_layers());
    bench.signer("own", with);
    if known {
        bench.run(&["keyring", "add-cert", "own.crt"]).ok();
    }
    bench.run(&["pull", "oci:image", "--name", "before"]).ok();
    bench.run(&["sign", "before", "--cert", "own.crt", "--key", "own.key", "--output", "oci:seal"]).ok();
    let pull =
        ["pull", "oci:image", "--name", "app", "--require-signature", "--trust", "own.crt", "--seal", "oci:seal"];
    bench.run(&pull).ok();
    reboot(disk);
    assert!(read_all(&bench.vault(), what) > 10);
    bench.run(&["fsck"]).ok();
    fs::create_dir(bench.path("root")).unwrap();
    for _ in 0..2 {
        bench.run(&["mount", "app", "root", "--require-signature", "--trust", "own.crt"]).ok();
        assert_eq!(fs::read(bench.path("root/usr/bin/tool")).unwrap(), TOOL);
        bench.run(&["umount", "root"]).ok();
        reboot(disk);
    }
}

fn starts(disk: &Disk, what: &str) {
    let policy = ENFORCE.replace("verity = \"off\"", "verity = \"require\"");
    let Some(host) = Host::bare_in(disk.bench(), &policy) else { return };
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
    let container = host.container("c", &host.image(APP));
    for boot in 0..2 {
        if boot == 1 {
            // The namespace holds the filesystem: it goes first.
            let Host { bench, sandbox, .. } = host;
            drop(sandbox);
            for ours in ["journal", "etc", "etc-upper", "etc-work"] {
                fs::remove_dir_all(bench.path(ours)).unwrap();
            }
            reboot(disk);
            read_all(&bench.path("graph/layerseal"), what);
            let host = Host::in_bench(bench, &policy).unwrap();
            host.start(&container).ok();
            assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
            host.unmount(&container);
            return;
        }
        host.start(&container).ok();
        host.unmount(&container);
    }
}

#[test]
fn l04_what_is_in_the_vault_survives_every_reboot() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    for (what, disk) in disks() {
        let before = complaints();
        // The keyring is never without certificates again: the unknown one comes first.
        for known in [false, true] {
            whole_life(&disk, what, known);
        }
        starts(&disk, what);
        assert_eq!(complaints(), before, "{what}");
    }
}

#[test]
fn g02_an_attempt_that_fails_leaves_nothing_for_the_next_mount() {
    for (what, disk) in disks() {
        let before = complaints();
        let dir = disk.mount_point();
        let bench = disk.bench();
        bench.signer("own", signer());
        bench.run(&["keyring", "add-cert", "own.crt"]).ok();
        let draft = |content: &[u8]| -> Draft {
            let mut new = NewDraft::create(File::open(&dir).unwrap().as_fd(), 0o444).unwrap();
            new.write_all(content).unwrap();
            new.finish().unwrap()
        };
        let enable = |content: &[u8], signature: Option<&[u8]>| {
            verity::enable(&draft(content), Algorithm::Sha512, signature, "file").map_err(|r| r.case())
        };
        // ENOKEY, EKEYREJECTED, EBADMSG; and what is in one's own keyring.
        assert_eq!(enable(&TOOL, Some(&signature(stranger(), &TOOL))), Err(Case::G02Key), "{what}");
        assert_eq!(enable(&TOOL, Some(&signature(signer(), b"other"))), Err(Case::G02Rejected), "{what}");
        assert_eq!(enable(&TOOL, Some(b"garbage")), Err(Case::G02Rejected), "{what}");
        enable(&TOOL, Some(&signature(signer(), &TOOL))).unwrap();
        let probe = |required: &str| {
            fs::write("/proc/sys/fs/verity/require_signatures", required).unwrap();
            let probed = layerseal::prepare::probe(File::open(&dir).unwrap(), "dir");
            fs::write("/proc/sys/fs/verity/require_signatures", "0").unwrap();
            probed.unwrap();
        };
        probe("1");
        probe("0");
        somebody_elses(&dir, "refused");
        // ENOSPC: a full filesystem, with room for the file and none for its Merkle tree.
        let big = draft(&vec![b'b'; 4 << 20]);
        fill(&dir);
        let full = verity::enable(&big, Algorithm::Sha512, None, "file").map_err(|r| r.case());
        drop(big);
        fs::remove_file(dir.join("filler")).unwrap();
        if what != "btrfs" {
            // btrfs had room for it among its metadata, or not.
            assert_eq!(full, Err(Case::NoRoom), "{what}");
        }
        somebody_elses(&dir, "full");
        // EINTR is for those who are killed.
        killed(&bench);
        somebody_elses(&dir, "killed");
        reboot(&disk);
        let read = read_all(&dir, what);
        assert!(read >= 180, "{what}: {read}");
        assert_eq!(complaints(), before, "{what}");
    }
}

/// Takes all the room there is.
fn fill(dir: &Path) {
    let mut file = File::create(dir.join("filler")).unwrap();
    for size in [1 << 20, 4096] {
        while file.write_all(&vec![b'f'; size]).is_ok() {}
        let _ = file.sync_data();
    }
}

/// Pulls that are killed while they enable fs-verity.
fn killed(bench: &Bench) {
    let layers = [crate::common::Layer::new(&[
        crate::common::Entry::dir("usr"),
        crate::common::Entry::file("usr/large", vec![b'k'; 2 << 20]),
    ])];
    crate::common::Layout::new(&bench.path("large"), &layers);
    let pull = || bench.command(&["pull", "oci:large"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    assert!(pull().wait().unwrap().success());
    let whole = begin.elapsed();
    // The file is the last thing that it writes, and fs-verity takes most of the time after that.
    for quarter in 1..4 {
        fs::remove_dir_all(bench.vault()).unwrap();
        let mut child = pull();
        std::thread::sleep(whole * quarter / 4);
        let _ = child.kill();
        child.wait().unwrap();
    }
}

/// What 0.1.0 did, by the bare system calls: the script of docs/assurance.md.
pub fn as_older_versions_did(bench: &Bench, object: &Path, signature: &[u8]) {
    let script = bench.write("ext4-orphan.pl", include_bytes!("../../../docs/ext4-orphan.pl"));
    let content = bench.write("content", &fs::read(object).unwrap());
    let signature = bench.write("signature", signature);
    fs::remove_file(object).unwrap();
    let run =
        Command::new("perl").arg(script).args([&content, &signature, &object.to_owned()]).arg("2").output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(String::from_utf8_lossy(&run.stdout), "as expected: Required key not available\n");
}

#[test]
fn l04_what_an_older_version_lost_is_told_and_made_again() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let (what, disk) = disks().remove(0);
    let sealed = crate::Sealed::in_bench(disk.bench());
    let merged = sealed.rootfs();
    let content = fs::read(&merged).unwrap();
    as_older_versions_did(&sealed.bench, &merged, &signature(stranger(), &content));
    reboot(&disk);
    let before = complaints();
    let path = layerseal::sys::files::open_file_path_at(
        File::open(merged.parent().unwrap()).unwrap(),
        merged.file_name().unwrap(),
    );
    if !verity::is_lost(&path.unwrap()).unwrap() {
        support::skip!("what an older version lost: this kernel has lost nothing");
    }
    // All that looks at it does so without opening it, and the filesystem goes on.
    let doctor = sealed.bench.run(&["doctor"]);
    assert!(
        doctor.stdout.contains("1 of the vault's objects") && doctor.stdout.contains("fsck --repair"),
        "{}",
        doctor.stdout
    );
    let fsck = sealed.bench.run(&["fsck"]);
    assert_eq!(fsck.code, 4);
    assert!(fsck.stdout.contains("without its fs-verity data"), "{}", fsck.stdout);
    sealed.bench.run(&["gc"]).refused(4, "I02");
    sealed.bench.run(&["fsck", "--repair"]).ok();
    sealed.bench.run(&["fsck"]).ok();
    assert_eq!(fs::read(&merged).unwrap(), content);
    // And once more: a mount makes it again too, of the layers.
    as_older_versions_did(&sealed.bench, &merged, &signature(stranger(), &content));
    reboot(&disk);
    sealed.mount().ok();
    assert_eq!(fs::read(sealed.root("usr/bin/tool")).unwrap(), TOOL);
    sealed.bench.run(&["fsck"]).ok();
    drop(sealed);
    assert_eq!(complaints(), before, "{what}");
}

/// Sets the clock of the guest, and back.
struct Clock(i64);

impl Clock {
    fn shift(days: i64) -> Self {
        Self::add(days * 86_400);
        Self(days * 86_400)
    }

    fn add(seconds: i64) {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        let set = Command::new("date").args(["-s", &format!("@{}", now + seconds)]).stdout(Stdio::null()).status();
        assert!(set.unwrap().success());
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        Self::add(-self.0);
    }
}

/// Only what is about dates changes.
#[test]
fn l05_the_clock_is_a_year_back_or_ten_years_ahead() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = crate::Sealed::new();
    let bench = &sealed.bench;
    for days in [-365, 3650] {
        let clock = Clock::shift(days);
        sealed.mount().refused(4, "E11");
        sealed.mount_with(&["--dates", "ignore"]).ok();
        assert_eq!(fs::read(sealed.root("usr/bin/tool")).unwrap(), TOOL);
        bench.run(&["umount", "root"]).ok();
        bench.run(&["pull", "oci:image", "--name", "again"]).ok();
        bench.run(&["untag", "again"]).ok();
        bench.run(&["gc"]).ok();
        bench.run(&["fsck"]).ok();
        drop(clock);
        sealed.mount().ok();
        bench.run(&["umount", "root"]).ok();
    }
}

/// What the kernel keeps with every file is known before the first gets it: nothing is begun that has no room.
#[test]
fn x10_room_for_trees_is_looked_for_before_the_first_is_made() {
    const NAME: &str = "registry.example.com/acme/large";
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let disk =
        Disk::formatted(96, &["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-O", "verity"], "loop");
    // What ext4 keeps back for itself counts as free (ext4(5), "reserved_clusters").
    for kept in
        fs::read_dir("/sys/fs/ext4").unwrap().flatten().filter(|e| e.file_name().to_string_lossy().contains("loop"))
    {
        fs::write(kept.path().join("reserved_clusters"), "0").unwrap();
    }
    let bench = disk.bench();
    let small = (0..8).map(|n| crate::common::Entry::file(&format!("a{n}"), vec![n; 20_000]));
    let entries: Vec<_> = small.chain(Some(crate::common::Entry::file("large", vec![b'l'; 8 << 20]))).collect();
    crate::common::Layout::new(&bench.path("large"), &[crate::common::Layer::new(&entries)]);
    bench.signer("signer", signer());
    bench.run(&["sign", "oci:large", "--cert", "signer.crt", "--key", "signer.key", "--identity", NAME]).ok();
    assert!(crate::host::copy_into_store(&bench, "large", NAME));
    let policy = ENFORCE.replace("verity = \"off\"", "verity = \"require\"");
    let Some(host) = Host::in_bench(bench, &policy) else { return };
    let name = format!("{NAME}:v1");
    let seals_only = ["prepare", &name, "--seal", "oci:large", "--seals-only"];
    let file = host.of(&host.image(NAME).layers[0], "diff/a0");
    let fill = || {
        let filler = disk.mount_point().join("filler");
        let file = File::create(&filler).unwrap();
        let found = rustix::fs::statvfs(&filler).unwrap();
        // The large one's tree takes 33 blocks (64 digests of SHA-512 in each).
        let mut size = found.f_bfree * found.f_frsize - (96 << 10);
        while rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).is_err() {
            size -= 4096;
        }
        filler
    };
    host.layerseal(&seals_only);
    let filler = fill();
    let refused = host.verb(&["prepare", &name]);
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(refused.stderr.contains("164 KiB are needed, ") && refused.stderr.contains("[R-X10]"), "{refused:?}");
    let untouched = verity::measure(File::open(&file).unwrap(), Algorithm::Sha512, "a0").unwrap_err();
    assert_eq!(untouched.case(), Case::G01Missing);
    fs::remove_file(&filler).unwrap();
    host.layerseal(&["prepare", &name]);
    verity::measure(File::open(&file).unwrap(), Algorithm::Sha512, "a0").unwrap();
}
