//! Group G: fs-verity itself.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use layerseal::digest::Algorithm;
use layerseal::error::Case;
use layerseal::sys::verity;

use crate::common::Bench;
use crate::{Sealed, TOOL, draft, errno, new_enough};

/// Puts `content` in the place of a file, as an attacker with the disk would: a new file of the name.
fn replace(path: &Path, content: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(&new, path).unwrap();
}

#[test]
fn g01_files_without_or_with_other_verity_are_told_apart() {
    let bench = Bench::new();
    let wanted = layerseal::digest::verity_digest(Algorithm::Sha512, &TOOL);
    let check = |name: &str, options: &[&str]| {
        let path = bench.write(name, &TOOL);
        if !options.is_empty() {
            let status =
                std::process::Command::new("fsverity").arg("enable").arg(&path).args(&options[1..]).status().unwrap();
            assert!(status.success(), "{options:?}");
        }
        verity::check(File::open(path).unwrap(), &wanted, name)
    };
    assert_eq!(check("none", &[]).unwrap_err().case(), Case::G01Missing);
    assert_eq!(check("sha256", &["", "--hash-alg=sha256"]).unwrap_err().case(), Case::G01Other);
    // Linux 6.3 was the first to take blocks smaller than a page.
    if layerseal::sys::mounts::kernel_version() >= (6, 3) {
        assert_eq!(check("block", &["", "--hash-alg=sha512", "--block-size=1024"]).unwrap_err().case(), Case::G01Other);
    }
    assert_eq!(check("salt", &["", "--hash-alg=sha512", "--salt=0011"]).unwrap_err().case(), Case::G01Other);
    check("good", &["", "--hash-alg=sha512"]).unwrap();
}

#[test]
fn g02_each_answer_of_the_kernel_has_its_case() {
    let bench = Bench::new();
    let path = bench.write("file", &TOOL);
    let writer = File::options().write(true).open(&path).unwrap();
    let enable = |signature: Option<&[u8]>| verity::enable(&draft(&path), Algorithm::Sha256, signature, "file");
    assert_eq!(enable(None).unwrap_err().case(), Case::G02Busy);
    drop(writer);
    assert_eq!(enable(None).unwrap(), verity::Enabled::Now);
    assert_eq!(enable(None).unwrap(), verity::Enabled::Before);
    let shm = Path::new("/dev/shm/layerseal-test");
    std::fs::write(shm, TOOL).unwrap();
    let refused = verity::enable(&draft(shm), Algorithm::Sha256, None, "shm").unwrap_err();
    std::fs::remove_file(shm).unwrap();
    assert_eq!(refused.case(), Case::G06Unsupported);
}

#[test]
fn g02_no_space_for_the_tree() {
    let disk = crate::disk::Disk::new(8, true);
    let bench = disk.bench();
    bench.write("file", &vec![1; 3 << 20]);
    // Until nothing more goes in, not even what the filesystem keeps for root.
    let mut filler = File::create(bench.path("filler")).unwrap();
    let full = loop {
        let written = std::io::Write::write_all(&mut filler, &[2; 4096]).and_then(|()| filler.sync_data());
        if let Err(e) = written {
            break e;
        }
    };
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    let refused = verity::enable(&draft(bench.path("file")), Algorithm::Sha256, None, "file").unwrap_err();
    assert_eq!(refused.case(), Case::NoRoom, "{refused}");
}

#[test]
fn g03_another_file_with_verity_is_no_substitute() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    let object = sealed.object(&TOOL);
    replace(&object, &[b'y'; 5000]);
    let enabled = std::process::Command::new("fsverity").args(["enable", "--hash-alg=sha512"]).arg(&object).status();
    assert!(enabled.unwrap().success());
    // The image was prepared before, so the kernel is the one to say no, at the file itself.
    sealed.mount().ok();
    assert_eq!(errno(std::fs::read(sealed.root("usr/bin/tool"))), libc::EIO);
    assert_eq!(std::fs::read(sealed.root("etc/small")).unwrap().len(), 100);
    // Prepared anew it is refused by name.
    sealed.bench.run(&["umount", "root"]).ok();
    std::fs::remove_dir_all(sealed.bench.vault().join("prepared")).unwrap();
    sealed.mount().refused(4, "G03");
}

#[test]
fn g03_another_signed_erofs_is_no_substitute() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    let merged = sealed.rootfs();
    // The image of layer 0 carries a good signature by the same signer; it is a replay all the same.
    let digests = sealed.bench.run(&["digest", "app", "--json"]).ok().json();
    let layer = digests["roles"].as_array().unwrap().iter().find(|r| r["role"] == "layer-0").unwrap()["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = sealed.bench.vault().join("objects").join(&layer[..2]).join(&layer[2..]);
    std::fs::remove_file(&merged).unwrap();
    std::fs::hard_link(other, &merged).unwrap();
    sealed.mount().refused(4, "G03");
}

#[test]
fn g04_protected_files_cannot_be_written() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    for path in [sealed.object(&TOOL), sealed.rootfs()] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(errno(File::options().write(true).open(&path)), libc::EPERM);
        assert_eq!(errno(File::options().append(true).open(&path)), libc::EPERM);
    }
}

#[test]
fn g06_a_filesystem_without_the_feature_is_named_with_the_remedy() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let disk = crate::disk::Disk::new(64, false);
    let bench = disk.bench();
    bench.sealed(&crate::common::two_layers());
    let run = bench.run(&["pull", "oci:image", "--name", "app"]).ok();
    assert!(run.stderr.contains("has no fs-verity"), "{}", run.stderr);
    std::fs::create_dir(bench.path("root")).unwrap();
    let run = bench.run(&["mount", "app", "root", "--require-signature", "--trust", "signer.crt"]).refused(6, "G06");
    assert!(run.stderr.contains("tune2fs -O verity"), "{}", run.stderr);
    assert_eq!(bench.run(&["doctor"]).code, 6);
}

#[test]
fn g07_an_import_that_was_cut_off_is_completed_or_refused() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    std::fs::remove_dir_all(sealed.bench.vault().join("prepared")).unwrap();
    // Between write and enable: all bytes are there, fs-verity is not.
    replace(&sealed.object(&TOOL), &TOOL);
    sealed.mount().ok();
    assert_eq!(std::fs::read(sealed.root("usr/bin/tool")).unwrap(), TOOL);
    sealed.bench.run(&["umount", "root"]).ok();
    // Before the last write: never trusted.
    std::fs::remove_dir_all(sealed.bench.vault().join("prepared")).unwrap();
    replace(&sealed.object(&TOOL), &TOOL[..4096]);
    sealed.mount().refused(4, "I02");
    // The same length, another content: enabling measures something else.
    replace(&sealed.object(&TOOL), &[b'z'; 5000]);
    sealed.mount().refused(4, "G03");
    // Pulling again mends it.
    sealed.bench.run(&["pull", "oci:image", "--name", "app"]).ok();
    sealed.mount().ok();
    assert_eq!(std::fs::read(sealed.root("usr/bin/tool")).unwrap(), TOOL);
}

#[test]
fn i02_objects_without_verity_or_missing_cannot_be_opened() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    let object = sealed.object(&TOOL);
    replace(&object, &TOOL);
    sealed.mount().ok();
    assert_eq!(errno(std::fs::read(sealed.root("usr/bin/tool"))), libc::EIO);
    sealed.bench.run(&["umount", "root"]).ok();
    std::fs::remove_file(&object).unwrap();
    sealed.mount().ok();
    // Gone altogether, overlayfs says so with the plain error of the lookup.
    assert_eq!(errno(File::open(sealed.root("usr/bin/tool"))), libc::ENOENT);
}

/// A layer's file is podman's too, which shows its time and copies it into volumes.
#[test]
fn a_file_with_other_names_keeps_its_time() {
    let bench = Bench::new();
    let path = bench.write("file", &TOOL);
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 5000);
    File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    verity::enable(&draft(&path), Algorithm::Sha512, None, "file").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), old);
}
