//! Housekeeping where the kernel protects the objects.

use std::fs;

use crate::common::Run;
use crate::disk::Disk;
use crate::{Sealed, TOOL};

#[track_caller]
fn damaged(run: &Run, line: &str) {
    assert_eq!(run.code, 4, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.lines().any(|l| l.starts_with("app: ") && l.contains(line)), "{line}: {}", run.stdout);
}

#[test]
fn g05_fsck_finds_a_changed_block_and_names_the_file() {
    let disk = Disk::new(64, true);
    let sealed = Sealed::in_bench(disk.bench());
    let bench = &sealed.bench;
    bench.run(&["fsck"]).ok();
    disk.flip(&sealed.object(&TOOL), 1);
    let run = bench.run(&["fsck"]);
    damaged(&run, "layer 0: usr/bin/tool: object fsverity-sha512-12:");
    damaged(&run, "damaged (fs-verity refuses to read it) [I02]");
    // A digest that measures right is no reason to think that the content is.
    bench.run(&["fsck", "--repair"]).ok();
    bench.run(&["fsck"]).ok();
    assert_eq!(fs::read(sealed.object(&TOOL)).unwrap(), TOOL);
    // The EROFS image that is mounted, which is then made of the layers, with its signature if there was one.
    disk.flip(&sealed.rootfs(), 1);
    damaged(&bench.run(&["fsck"]), "rootfs: EROFS image: object ");
    bench.run(&["gc"]).refused(4, "G05");
    bench.run(&["fsck", "--repair"]).ok();
    bench.run(&["fsck"]).ok();
    bench.run(&["gc"]).ok();
    if crate::new_enough() {
        sealed.mount().ok();
        assert_eq!(fs::read(sealed.root("usr/bin/tool")).unwrap(), TOOL);
        layerseal::sys::mounts::unmount_now(&bench.path("root")).unwrap();
    } else {
        support::skip!(part: "mounting: needs Linux 6.12");
    }
    drop(sealed);
}

#[test]
fn g01_fsck_finds_what_the_kernel_does_not_protect() {
    let sealed = Sealed::new();
    let bench = &sealed.bench;
    let object = sealed.object(&TOOL);
    fs::remove_file(&object).unwrap();
    fs::write(&object, TOOL).unwrap();
    damaged(&bench.run(&["fsck"]), "without fs-verity [G01]");
    bench.run(&["fsck", "--repair"]).ok();
    bench.run(&["fsck"]).ok();
    assert!(fs::File::options().write(true).open(&object).is_err(), "not protected");
    // Protected, and another file.
    fs::copy(sealed.object(&[b'g'; 300]), object.with_extension("new")).unwrap();
    fs::rename(object.with_extension("new"), &object).unwrap();
    damaged(&bench.run(&["fsck"]), "layer 0: usr/bin/same-tool: object ");
    bench.run(&["fsck", "--repair"]).ok();
    if crate::new_enough() {
        sealed.mount().ok();
        assert_eq!(fs::read(sealed.root("usr/bin/tool")).unwrap(), TOOL);
    } else {
        support::skip!(part: "mounting: needs Linux 6.12");
    }
}

#[test]
fn gc_leaves_what_is_mounted_and_takes_the_rest() {
    if !crate::new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    let bench = &sealed.bench;
    sealed.mount().ok();
    bench.run(&["untag", "app"]).ok();
    bench.run(&["gc"]).ok();
    assert_eq!(fs::read(sealed.root("usr/bin/tool")).unwrap(), TOOL);
    layerseal::sys::mounts::unmount_now(&bench.path("root")).unwrap();
    bench.run(&["gc"]).ok();
    assert_eq!(bench.vault_files(), Vec::<String>::new());
}
