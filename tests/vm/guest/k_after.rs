//! Group K: what is done to the vault while a sealed image is mounted.

use std::fs::{File, read, remove_file, rename};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use crate::common::walk;
use crate::{Sealed, TOOL, errno, new_enough, tree};

/// Forgets what was read, so that the next read is of the disk.
fn drop_caches() {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
}

#[test]
fn k01_k02_files_of_the_vault_cannot_be_changed() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    sealed.mount().ok();
    for file in [sealed.object(&TOOL), sealed.rootfs()] {
        assert_eq!(errno(File::options().write(true).open(&file)), libc::EPERM);
        assert_eq!(errno(File::options().append(true).open(&file)), libc::EPERM);
        assert_eq!(errno(File::options().write(true).truncate(true).open(&file)), libc::EPERM);
        let reader = File::open(&file).unwrap();
        assert_eq!(errno(reader.set_len(1)), libc::EINVAL, "no descriptor that writes");
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(fallocate(&reader, hole, 0, 4096), Err(rustix::io::Errno::BADF));
        assert_eq!(errno(std::os::unix::fs::chown(&file, Some(1000), Some(1000))), 0, "metadata is nobody's");
        // No attribute of the file makes it writable.
        let chattr = std::process::Command::new("chattr").args(["-i", "-a"]).arg(&file).output().unwrap();
        assert!(chattr.status.success());
        assert_eq!(errno(File::options().write(true).open(&file)), libc::EPERM);
    }
    drop_caches();
    assert_eq!(read(sealed.root("usr/bin/tool")).unwrap(), TOOL);
}

#[test]
fn k01_objects_that_are_replaced_are_never_shown() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    sealed.mount().ok();
    let (object, kept) = (sealed.object(&TOOL), sealed.bench.path("kept"));
    rename(&object, &kept).unwrap();
    drop_caches();
    type Replace = fn(&Path, &Sealed);
    let replacements: [(&str, Replace); 5] = [
        ("a file without fs-verity", |o, _| std::fs::write(o, [b'e'; 5000]).unwrap()),
        ("the same content without fs-verity", |o, _| std::fs::write(o, TOOL).unwrap()),
        ("another protected file", |o, s| std::fs::hard_link(s.object(&[b'g'; 300]), o).unwrap()),
        ("a symlink", |o, s| symlink(s.object(&[b'g'; 300]), o).unwrap()),
        ("a directory", |o, _| std::fs::create_dir(o).unwrap()),
    ];
    for (what, replace) in replacements {
        replace(&object, &sealed);
        drop_caches();
        let found = read(sealed.root("usr/bin/tool"));
        assert!(found.is_err(), "{what}: {} bytes were served", found.unwrap().len());
        remove_file(&object).or_else(|_| std::fs::remove_dir(&object)).unwrap();
    }
    rename(&kept, &object).unwrap();
    drop_caches();
    // Held open, as a program that runs has it, it stays what it was.
    let running = File::open(sealed.root("usr/bin/tool")).unwrap();
    rename(&object, &kept).unwrap();
    std::fs::write(&object, [b'e'; 5000]).unwrap();
    drop_caches();
    assert_eq!(read(sealed.root("usr/bin/tool")).unwrap(), TOOL);
    drop(running);
}

#[test]
fn k04_objects_that_vanish_leave_open_files_and_no_others() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    sealed.mount().ok();
    let running = File::open(sealed.root("usr/bin/tool")).unwrap();
    remove_file(sealed.object(&TOOL)).unwrap();
    drop_caches();
    let mut all = [0; 5000];
    std::os::unix::fs::FileExt::read_exact_at(&running, &mut all, 0).unwrap();
    assert_eq!(all, TOOL);
    drop(running);
    drop_caches();
    assert!(read(sealed.root("usr/bin/tool")).is_err());
    let fsck = sealed.bench.run(&["fsck"]);
    assert!(fsck.code == 4 && fsck.stdout.contains("usr/bin/tool"), "{}{}", fsck.stdout, fsck.stderr);
    sealed.bench.run(&["umount", "root"]).ok();
}

#[test]
fn k05_the_tree_is_the_same_when_it_is_read_from_the_disk_again() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    sealed.mount().ok();
    let golden = tree::dump(&sealed.root(""));
    for _ in 0..3 {
        drop_caches();
        assert_eq!(tree::dump(&sealed.root("")), golden);
    }
    let mut count = 0;
    walk(&sealed.root(""), &mut |_| count += 1);
    assert!(count > 5);
}
