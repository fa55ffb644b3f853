//! Upkeep where the kernel protects the objects.

use std::fs;

use std::path::PathBuf;

use crate::boots::{as_older_versions_did, disks, reboot, signature};
use crate::common::{self, Layout, Run, stranger, two_layers};
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
        common::unmount(&bench.path("root"));
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

/// What only the kernel has: fs-verity that was never enabled, or whose data the filesystem has lost. Afterwards nothing is
/// wrong, or what is left says what to type, and that helps.
#[test]
fn k04_lost_and_unprotected_end_well_or_with_a_command() {
    if !crate::new_enough() {
        support::skip!("needs Linux 6.12");
    }
    type Place = fn(&Sealed) -> PathBuf;
    let places: [(&str, Place); 2] =
        [("a file", |sealed| sealed.object(&TOOL)), ("the merged tree", |sealed| sealed.rootfs())];
    let mut asked = 0;
    for (what, place) in places {
        for (fault, words) in [("unprotected", "without fs-verity"), ("lost", "without its fs-verity data")] {
            for has_layers in [true, false] {
                let what = format!("{what}, {fault}, {}", if has_layers { "with its layers" } else { "without" });
                let (_, disk) = disks().remove(0);
                let sealed = Sealed::in_bench(disk.bench());
                let bench = &sealed.bench;
                let object = place(&sealed);
                let content = fs::read(&object).unwrap();
                if !has_layers {
                    let same = Layout::new(&bench.path("same"), &two_layers());
                    for layer in same.manifest["layers"].as_array().unwrap() {
                        let hex = layer["digest"].as_str().unwrap().trim_start_matches("sha256:");
                        fs::remove_file(bench.vault().join("blobs/sha256").join(hex)).unwrap();
                    }
                    fs::remove_dir_all(same.path).unwrap();
                }
                if fault == "lost" {
                    as_older_versions_did(bench, &object, &signature(stranger(), &content));
                    reboot(&disk);
                } else {
                    fs::remove_file(&object).unwrap();
                    fs::write(&object, &content).unwrap();
                }
                let found = bench.run(&["fsck"]);
                if fault == "lost" && !found.stdout.contains(words) {
                    support::skip!(part: "what an older version lost: this kernel has lost nothing");
                    continue;
                }
                damaged(&found, words);
                bench.run(&["fsck", "--repair"]);
                let after = bench.run(&["fsck", "--json"]);
                let to_do = after.json()["images"][0]["to_do"].clone();
                assert_eq!(after.code == 0, has_layers, "{what}: {}", after.stdout);
                if let Some(to_do) = to_do.as_str() {
                    assert!(bench.run(&["fsck"]).stdout.contains(&format!("to do: {to_do}")), "{what}");
                    let typed = to_do.split('`').nth(1).unwrap().replace("IMAGE", "oci:image");
                    let words: Vec<&str> = typed.split(' ').skip(1).collect();
                    bench.run(&[&words[..], &["--require-signature", "--trust", "signer.crt"]].concat()).ok();
                    bench.run(&["fsck"]).ok();
                    asked += 1;
                }
                assert_eq!(fs::read(&object).unwrap(), content, "{what}");
                assert!(fs::File::options().write(true).open(&object).is_err(), "{what}: not protected");
                bench.run(&["verify", "app", "--trust", "signer.crt"]).ok();
                bench.run(&["gc"]).ok();
            }
        }
    }
    assert!(asked > 0, "nothing ended with a command");
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
    common::unmount(&bench.path("root"));
    bench.run(&["gc"]).ok();
    assert_eq!(bench.vault_files(), Vec::<String>::new());
}
