//! btrfs and f2fs, as hosts have them: compressed, in subvolumes, with snapshots, and without the checksums by which btrfs
//! itself would find what somebody changed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use crate::common::{Entry, Layer, Layout, Run, base};
use crate::disk::Disk;
use crate::{Sealed, errno, new_enough};

const BTRFS: &[&str] = &["mkfs.btrfs", "-q"];
const F2FS: &[&str] = &["mkfs.f2fs", "-q", "-O", "extra_attr,verity"];

/// Twelve blocks of which no two are alike, and no other file has one.
fn content() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut words = Vec::new();
    for _ in 0..12 * 512 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        words.extend(state.to_le_bytes());
    }
    words
}

/// A sealed image with [`content`] in a file.
fn sealed(disk: &Disk, dir: &Path) -> Sealed {
    let bench = disk.bench_in(dir);
    let mut entries = base();
    entries.extend([Entry::dir("usr/lib"), Entry::file("usr/lib/data", content())]);
    entries.push(Entry::file("usr/lib/text", vec![b't'; 200_000]));
    Layout::new(&bench.path("image"), &[Layer::new(&entries)]);
    bench.signer("signer", crate::common::signer());
    bench.run(&["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key"]).ok();
    bench.run(&["pull", "oci:image", "--name", "app", "--require-signature", "--trust", "signer.crt"]).ok();
    fs::create_dir(bench.path("root")).unwrap();
    Sealed { bench }
}

fn reads_all(sealed: &Sealed) {
    sealed.mount().ok();
    assert_eq!(fs::read(sealed.root("usr/lib/data")).unwrap(), content());
    assert_eq!(fs::read(sealed.root("usr/lib/text")).unwrap(), vec![b't'; 200_000]);
    sealed.bench.run(&["umount", "root"]).ok();
}

fn run(command: &[&str], path: &Path) {
    let output = Command::new(command[0]).args(&command[1..]).arg(path).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn g05_what_is_changed_on_btrfs_and_f2fs_gives_eio() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let mut disks = vec![
        ("btrfs without checksums", Disk::formatted(128, BTRFS, "loop,nodatasum")),
        ("btrfs", Disk::formatted(128, BTRFS, "loop")),
    ];
    // Debian's kernels for clouds are built without it.
    match Command::new("modprobe").arg("f2fs").status().unwrap().success() {
        true => disks.push(("f2fs", Disk::formatted(128, F2FS, "loop"))),
        false => support::skip!(part: "f2fs: this kernel has none"),
    }
    for (what, disk) in disks {
        let sealed = sealed(&disk, &disk.mount_point());
        reads_all(&sealed);
        disk.flip_content(&content()[4096..8192]);
        sealed.mount().ok();
        let file = File::open(sealed.root("usr/lib/data")).unwrap();
        let mut block = [0; 4096];
        assert_eq!(errno(file.read_exact_at(&mut block, 4096)), libc::EIO, "{what}");
        file.read_exact_at(&mut block, 8 * 4096).unwrap();
        assert_eq!(block, content()[8 * 4096..9 * 4096], "{what}");
        drop(file);
        sealed.bench.run(&["umount", "root"]).ok();
        assert_eq!(sealed.bench.run(&["fsck"]).code, 4, "{what}");
    }
}

#[test]
fn images_on_compressed_btrfs_with_subvolumes_and_snapshots() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let disk = Disk::formatted(128, BTRFS, "loop,compress-force=zstd");
    let (volume, snapshot) = (disk.mount_point().join("volume"), disk.mount_point().join("snapshot"));
    run(&["btrfs", "-q", "subvolume", "create"], &volume);
    let sealed = sealed(&disk, &volume);
    reads_all(&sealed);
    disk.umount();
    disk.mount();
    reads_all(&sealed);
    sealed.bench.run(&["fsck"]).ok();
    // The files of a snapshot have fs-verity, and what was prepared is prepared there.
    run(&["btrfs", "-q", "subvolume", "snapshot", volume.to_str().unwrap()], &snapshot);
    let inside = sealed.bench.path("").strip_prefix(&volume).unwrap().to_owned();
    let there = snapshot.join(inside);
    let mount = |root: &str| {
        let trust = sealed.bench.path("signer.crt").display().to_string();
        let mut command = Command::new(crate::common::binary());
        command.arg("--vault").arg(there.join("vault")).args(["mount", "app", root, "--require-signature", "--trust"]);
        Run::of(command.arg(trust).output().unwrap())
    };
    let root = there.join("root").display().to_string();
    mount(&root).ok();
    assert_eq!(fs::read(Path::new(&root).join("usr/lib/data")).unwrap(), content());
    sealed.bench.run(&["umount", &root]).ok();
    // What is replaced in the snapshot is refused there, and is as it was here.
    let object = there.join("vault").join(sealed.object(&content()).strip_prefix(sealed.bench.vault()).unwrap());
    fs::remove_file(&object).unwrap();
    fs::write(&object, content()).unwrap();
    let run = mount(&root);
    if run.code == 0 {
        assert_eq!(errno(fs::read(Path::new(&root).join("usr/lib/data"))), libc::EIO);
        sealed.bench.run(&["umount", &root]).ok();
    }
    reads_all(&sealed);
}
