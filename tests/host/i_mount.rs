//! Group I: how the mount is made.

use std::os::unix::fs::PermissionsExt as _;

use crate::common::{Bench, Layout, two_layers};
use crate::{Mount, can_mount, mounts_beneath};

fn pulled() -> Bench {
    let bench = Bench::new();
    bench.sealed(&two_layers());
    bench.run(&["pull", "oci:image", "--name", "app", "--require-signature", "--trust", "signer.crt"]).ok();
    bench
}

const SEALED: [&str; 5] = ["--require-signature", "--trust", "signer.crt", "--verity", "off"];

fn mount(bench: &Bench, more: &[&str]) -> crate::common::Run {
    bench.run(&[&["mount", "app", "root"][..], &SEALED, more].concat())
}

#[test]
fn i01_read_only_mounts_have_one_erofs_and_one_data_layer() {
    if !can_mount("I01") {
        return;
    }
    let bench = pulled();
    let root = Mount::at(&bench, "root");
    mount(&bench, &[]).ok();
    let mounts = mounts_beneath(&root.path());
    let [one] = &mounts[..] else { panic!("{mounts:?}") };
    assert_eq!(one.kind, "overlay");
    assert!(one.is_overlay_of("composefs:") && one.source.len() == 10 + 128, "{one:?}");
    for option in ["ro", "nodev"] {
        assert!(one.options.iter().any(|o| o == option), "{option}: {one:?}");
    }
    let count = |prefix: &str| one.super_values(prefix).count();
    assert_eq!((count("lowerdir+="), count("datadir+="), count("upperdir=")), (1, 1, 0), "{one:?}");
    for option in ["metacopy=on", "redirect_dir=on"] {
        assert!(one.super_options.iter().any(|o| o == option), "{option}: {one:?}");
    }
    std::fs::write(root.path().join("etc/x"), "").unwrap_err();
}

#[test]
fn i01_an_upper_directory_takes_the_changes() {
    if !can_mount("I01 upper") {
        return;
    }
    let bench = pulled();
    let root = Mount::at(&bench, "root");
    std::fs::create_dir(bench.path("upper")).unwrap();
    std::fs::create_dir(bench.path("work")).unwrap();
    mount(&bench, &["--upper", "upper", "--work", "work"]).ok();
    std::fs::write(root.path().join("etc/new"), "mine").unwrap();
    std::fs::set_permissions(root.path().join("usr/bin/tool"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::remove_file(root.path().join("etc/small")).unwrap();
    bench.run(&["umount", "root"]).ok();
    assert_eq!(std::fs::read(bench.path("upper/etc/new")).unwrap(), b"mine");
    // Changing metadata copies no content up.
    assert!(std::fs::symlink_metadata(bench.path("upper/usr/bin/tool")).unwrap().len() == 5000);
    mount(&bench, &["--upper", "upper", "--work", "work"]).ok();
    assert_eq!(std::fs::read(root.path().join("usr/bin/tool")).unwrap(), vec![b'x'; 5000]);
    assert!(!root.path().join("etc/small").exists());
}

#[test]
fn a_warm_start_writes_nothing_into_the_vault() {
    if !can_mount("warm start") {
        return;
    }
    use std::os::unix::fs::MetadataExt as _;
    let bench = pulled();
    let root = Mount::at(&bench, "root");
    let state = || {
        let mut files = Vec::new();
        crate::common::walk(&bench.vault(), &mut |path| {
            let meta = path.metadata().unwrap();
            files.push((path.to_owned(), meta.ino(), meta.mtime(), meta.mtime_nsec()));
        });
        files.sort();
        files
    };
    // The first without fs-verity leaves a mark: all objects are there.
    mount(&bench, &[]).ok();
    bench.run(&["umount", "root"]).ok();
    let before = state();
    mount(&bench, &[]).ok();
    assert_eq!(state(), before);
    let _ = root;
}

#[test]
fn i02_a_missing_object_is_named_before_anything_is_mounted() {
    if !can_mount("I02") {
        return;
    }
    let bench = pulled();
    let root = Mount::at(&bench, "root");
    let object = layerseal::digest::verity_digest(layerseal::digest::Algorithm::Sha512, &[b'x'; 5000]).object_path();
    std::fs::remove_file(bench.vault().join("objects").join(&object)).unwrap();
    let run = mount(&bench, &[]).refused(4, "I02");
    assert!(run.stderr.contains(&object), "{}", run.stderr);
    assert!(mounts_beneath(&root.path()).is_empty());
}

#[test]
fn i04_i05_failures_leave_no_mount() {
    if !can_mount("I04") {
        return;
    }
    let bench = pulled();
    let root = Mount::at(&bench, "root");
    std::fs::create_dir(bench.path("upper")).unwrap();
    std::fs::create_dir(bench.path("work")).unwrap();
    // A work directory inside the upper one is refused by the kernel, after the EROFS was mounted.
    std::fs::create_dir(bench.path("upper/work")).unwrap();
    mount(&bench, &["--upper", "upper", "--work", "upper/work"]).refused(6, "I11");
    assert!(mounts_beneath(&root.path()).is_empty());
    // The target vanishes.
    std::fs::remove_dir(root.path()).unwrap();
    mount(&bench, &[]).refused(2, "A01");
    // EROFS is never attached but in a place of its own, and that is gone.
    let left = layerseal::sys::mountinfo::own().unwrap();
    assert!(left.iter().all(|m| m.kind != "erofs"), "{left:?}");
    for place in std::fs::read_dir("/run/layerseal").into_iter().flatten() {
        let name = place.unwrap().file_name().into_string().unwrap();
        // Other tests of this process have theirs.
        let owner = name.strip_prefix("private.").and_then(|rest| rest.split('.').next());
        assert!(owner.is_none_or(|pid| pid == std::process::id().to_string()), "{name}");
    }
}

#[test]
fn i06_the_same_image_twice_is_one_mount_and_another_is_refused() {
    if !can_mount("I06") {
        return;
    }
    let bench = pulled();
    let root = Mount::at(&bench, "root");
    mount(&bench, &[]).ok();
    mount(&bench, &[]).ok();
    assert_eq!(mounts_beneath(&root.path()).len(), 1);
    mount(&bench, &["--stack"]).refused(2, "I06");
    Layout::new(&bench.path("other"), &two_layers()[..1]);
    bench.run(&["mount", "oci:other", "root", "--verity", "off"]).refused(2, "I06");
    assert_eq!(mounts_beneath(&root.path()).len(), 1);
}

#[test]
fn i06_two_stacks_with_the_same_uppermost_layer_are_not_the_same() {
    if !can_mount("I06 stacks") {
        return;
    }
    let bench = Bench::new();
    let top = two_layers()[1].clone();
    let mut other = crate::common::base();
    other.push(crate::common::Entry::file("usr/bin/other", vec![b'o'; 300]));
    Layout::new(&bench.path("one"), &two_layers());
    Layout::new(&bench.path("two"), &[crate::common::Layer::new(&other), top]);
    let root = Mount::at(&bench, "root");
    bench.run(&["mount", "oci:one", "root", "--stack", "--verity", "off"]).ok();
    bench.run(&["mount", "oci:two", "root", "--stack", "--verity", "off"]).refused(2, "I06");
    bench.run(&["mount", "oci:one", "root", "--stack", "--verity", "off"]).ok();
    assert_eq!(mounts_beneath(&root.path()).len(), 1);
}

#[test]
fn i07_an_upper_directory_in_use_is_refused() {
    if !can_mount("I07") {
        return;
    }
    let bench = pulled();
    let (root, second) = (Mount::at(&bench, "root"), Mount::at(&bench, "second"));
    for dir in ["upper", "work", "work2"] {
        std::fs::create_dir(bench.path(dir)).unwrap();
    }
    mount(&bench, &["--upper", "upper", "--work", "work"]).ok();
    // Both with the same work directory and with another; the kernel itself only warns.
    for work in ["work", "work2"] {
        let more = ["--upper", "upper", "--work", work];
        let run = bench.run(&[&["mount", "app", "second"][..], &SEALED, &more].concat()).refused(6, "I07");
        assert!(run.stderr.contains("/root"), "{}", run.stderr);
    }
    assert!(mounts_beneath(&second.path()).is_empty());
    assert_eq!(mounts_beneath(&root.path()).len(), 1);
    // It is free again when the other is gone.
    bench.run(&["umount", "root"]).ok();
    bench.run(&[&["mount", "app", "second"][..], &SEALED, &["--upper", "upper", "--work", "work"]].concat()).ok();
}

#[test]
fn i04_an_image_that_cannot_be_mounted_takes_those_before_it_along() {
    if !can_mount("I04 stack") {
        return;
    }
    let bench = Bench::new();
    let root = Mount::at(&bench, "root");
    let layers: Vec<_> = (0..20)
        .map(|n| {
            let mut entries = if n == 0 { crate::common::base() } else { vec![] };
            entries.push(crate::common::Entry::file(&format!("etc/layer-{n:03}"), format!("{n}")));
            crate::common::Layer::new(&entries)
        })
        .collect();
    Layout::new(&bench.path("image"), &layers);
    bench.run(&["pull", "oci:image", "--name", "app"]).ok();
    let limited = |descriptors: u32| {
        let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        let mount = bench.command(&["mount", "app", "root", "--stack", "--verity", "off"]);
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .arg(mount.get_program())
            .args(mount.get_args())
            .current_dir(bench.path("."))
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // The images are open before the first is mounted; these fail at one or another of twenty.
    let failed = (32..44).map(limited).filter(|(code, said)| *code == 6 && said.contains("[R-I04]")).count();
    assert!(failed >= 5, "{failed}");
    assert!(mounts_beneath(&root.path()).is_empty());
    let left = layerseal::sys::mountinfo::own().unwrap();
    assert!(left.iter().all(|m| m.kind != "erofs"), "{left:?}");
    assert_eq!(limited(100).0, 0);
}

#[test]
fn i08_nothing_reaches_other_mount_namespaces_but_the_target() {
    if !can_mount("I08") {
        return;
    }
    let bench = pulled();
    let root = Mount::at(&bench, "root");
    let mut peer = support::peer();
    mount(&bench, &[]).ok();
    let seen = std::fs::read_to_string(format!("/proc/{}/mountinfo", peer.id())).unwrap();
    peer.kill().unwrap();
    peer.wait().unwrap();
    let _ = root;
    assert!(!seen.contains(" - erofs "), "{seen}");
    assert!(!seen.contains("/run/layerseal"), "{seen}");
}

#[test]
fn i12_umount_takes_only_our_mounts() {
    if !can_mount("I12") {
        return;
    }
    let bench = pulled();
    let root = Mount::at(&bench, "root");
    bench.run(&["umount", "root"]).refused(2, "I06");
    mount(&bench, &[]).ok();
    let held = std::fs::File::open(root.path().join("usr/bin/tool")).unwrap();
    bench.run(&["umount", "root"]).refused(6, "I05");
    drop(held);
    bench.run(&["umount", "root"]).ok();
    assert!(mounts_beneath(&root.path()).is_empty());
}

#[test]
fn g06_without_fs_verity_nothing_is_mounted() {
    if !can_mount("G06") {
        return;
    }
    let bench = pulled();
    let root = Mount::at(&bench, "root");
    if layerseal::prepare::probe(layerseal::sys::files::open_dir(&bench.vault()).unwrap(), "vault").is_ok() {
        support::skip!("g06: this filesystem has fs-verity");
    }
    let run = bench.run(&["mount", "app", "root", "--require-signature", "--trust", "signer.crt"]).refused(6, "G06");
    assert!(run.stderr.contains("tune2fs -O verity"), "{}", run.stderr);
    bench.run(&["mount", "oci:image", "root"]).refused(6, "G06");
    assert!(mounts_beneath(&root.path()).is_empty());
    let doctor = bench.run(&["doctor"]);
    assert_eq!(doctor.code, 6, "{}", doctor.stdout);
    assert!(doctor.stdout.contains("cannot enforce"), "{}", doctor.stdout);
}

#[test]
fn g08_a_kernel_that_takes_any_bytes_is_not_reported_as_verifying() {
    let bench = Bench::new();
    let doctor = bench.run(&["doctor", "--json"]).json();
    let checks = doctor["checks"].as_array().unwrap();
    let state = &checks.iter().find(|c| c["check"] == "kernel signature checks").unwrap()["state"];
    let verifies = std::path::Path::new("/proc/sys/fs/verity/require_signatures").exists();
    assert_eq!(state, if verifies { "ok" } else { "optional" });
    if !verifies {
        bench.signer("signer", crate::common::signer());
        bench.run(&["keyring", "add-cert", "signer.crt"]).refused(6, "G08");
        bench.run(&["keyring", "list"]).refused(6, "G08");
    }
}

#[test]
fn i03_five_hundred_layers_mount_in_both_forms() {
    if !can_mount("I03") {
        return;
    }
    let bench = Bench::new();
    let layers: Vec<_> = (0..500)
        .map(|n| {
            let mut entries = if n == 0 { crate::common::base() } else { vec![] };
            entries.push(crate::common::Entry::file(&format!("etc/layer-{n:03}"), format!("{n}")));
            crate::common::Layer::new(&entries)
        })
        .collect();
    let mut layout = Layout::new(&bench.path("image"), &layers);
    let (merged, stack) = (Mount::at(&bench, "merged"), Mount::at(&bench, "stack"));
    bench.run(&["mount", "oci:image", "merged", "--verity", "off"]).ok();
    // The objects are one of overlayfs's 500 layers.
    bench.run(&["mount", "oci:image", "stack", "--stack", "--verity", "off"]).refused(4, "I13");
    Layout::new(&bench.path("fewer"), &layers[..499]);
    bench.run(&["mount", "oci:fewer", "stack", "--stack", "--verity", "off"]).ok();
    for mount in [&merged, &stack] {
        assert_eq!(std::fs::read(mount.path().join("etc/layer-000")).unwrap(), b"0");
        assert_eq!(std::fs::read(mount.path().join("etc/layer-498")).unwrap(), b"498");
    }
    // One more is refused by name.
    let mut manifest = layout.manifest.clone();
    let one = manifest["layers"][0].clone();
    manifest["layers"].as_array_mut().unwrap().push(one);
    layout.set_manifest(&manifest);
    bench.run(&["verify", "oci:image"]).refused(4, "H07");
}

#[test]
fn verity_off_says_so_loudly() {
    if !can_mount("--verity off") {
        return;
    }
    let bench = pulled();
    let _root = Mount::at(&bench, "root");
    let run = mount(&bench, &[]).ok();
    assert!(run.stderr.contains("--verity off: the kernel checks nothing"), "{}", run.stderr);
}
