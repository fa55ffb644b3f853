//! What `/run/layerseal/mounts` says, and when it counts.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use layerseal::mount::{MountKind, MountOptions, MountSpec, Mounted, Record, live, mount, unmount, write};
use layerseal::sys::mounts::{attach, clone_mount, open_target};

use crate::common::{self, Bench, two_layers, when_unused};
use crate::place::{open, place, prepared, upper};
use crate::{Mount, can_mount};

fn record(target: &std::path::Path, mounted: Mounted) -> Record {
    Record {
        device: mounted.device,
        mount_id: mounted.id,
        target: target.to_owned(),
        source: "composefs:x".into(),
        kind: MountKind::Audit,
        image: Some(format!("sha256:{}", "ab".repeat(32)).parse().unwrap()),
        container: Some("c0ffee00".repeat(8).parse().unwrap()),
        image_id: None,
        identities: vec![],
        facts: None,
        names: vec![],
        seal: None,
        signer: None,
        certificate: None,
        anchor: None,
        upper: Some("/c/diff".into()),
        verity: false,
        whole: true,
        would_refuse: None,
        signed_manifest: None,
        shows: mounted.shows,
        since: 1_700_000_000,
    }
}

fn path(record: &Record) -> String {
    format!("/run/layerseal/mounts/{}:{}.json", record.device.0, record.device.1)
}

#[test]
fn a_record_counts_while_its_mount_exists() {
    if !can_mount("records") {
        return;
    }
    let bench = Bench::new();
    let image = prepared(&bench);
    let root = Mount::at(&bench, "root");
    let mounted = mount(&image, &place(root.path(), Some(upper(&bench, "c")), MountOptions::default())).unwrap();
    assert!(mounted.id >= 1 << 31, "Linux 6.8 and later have numbers that are never given twice: {}", mounted.id);
    let mut record = record(&root.path(), mounted);
    write(&record).unwrap();
    let found = || live().unwrap().into_iter().find(|r| r.target == root.path());
    assert_eq!(found().unwrap(), record);
    for (file, mode) in [("/run/layerseal/mounts", 0o700), (path(&record).as_str(), 0o600)] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, mode, "{file}");
    }
    // Another mount of the same filesystem is not the mount.
    let elsewhere = Mount::at(&bench, "elsewhere");
    attach(clone_mount(open(&root.path())).unwrap(), open_target(&elsewhere.path()).unwrap()).unwrap();
    let kept = std::fs::read(path(&record)).unwrap();
    when_unused(|| unmount(&root.path())).unwrap();
    assert!(!std::path::Path::new(&path(&record)).exists());
    // Whoever else unmounts leaves it.
    std::fs::write(path(&record), kept).unwrap();
    assert_eq!(found(), None);
    common::unmount(&elsewhere.path());
    // The numbers of the filesystem are given again; the mount's is not.
    let mounted = mount(&image, &MountSpec::read_only(root.path())).unwrap();
    assert_ne!(mounted.id, record.mount_id);
    record.device = mounted.device;
    write(&record).unwrap();
    assert_eq!(found(), None);
    // Nor does the number alone count.
    record.mount_id = mounted.id;
    record.device.1 += 100_000;
    write(&record).unwrap();
    assert_eq!(found(), None);
    std::fs::remove_file(path(&record)).unwrap();
}

/// Says that something is over, also when an assertion fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_record_is_not_swept_with_that_of_an_earlier_mount_of_its_number() {
    if !can_mount("records beside a sweep") {
        return;
    }
    let bench = Bench::new();
    let image = prepared(&bench);
    let root = Mount::at(&bench, "root");
    let done = AtomicBool::new(false);
    let sweeps = std::thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                layerseal::mount::sweep_records().unwrap();
                count += 1;
            }
            count
        });
        let ends = Ends(&done);
        for round in 0..200 {
            let mounted = mount(&image, &MountSpec::read_only(root.path())).unwrap();
            let record = record(&root.path(), mounted);
            write(&record).unwrap();
            assert!(live().unwrap().contains(&record), "round {round}");
            // What is left behind is as old as what is swept is.
            let file = std::fs::File::options().write(true).open(path(&record)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
            common::unmount(&root.path());
        }
        drop(ends);
        sweeper.join().unwrap()
    });
    assert!(sweeps > 20, "{sweeps}");
    layerseal::mount::sweep_records().unwrap();
}

#[test]
fn a_record_that_others_could_have_written_counts_for_nothing() {
    if !can_mount("records of others") {
        return;
    }
    let bench = Bench::new();
    let root = Mount::at(&bench, "root");
    let mounted = mount(&prepared(&bench), &MountSpec::read_only(root.path())).unwrap();
    let record = record(&root.path(), mounted);
    let found = || live().unwrap().iter().any(|r| r.target == root.path());
    let file = path(&record);
    write(&record).unwrap();
    assert!(found());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o622)).unwrap();
    assert!(!found());
    write(&record).unwrap();
    std::os::unix::fs::chown(&file, Some(1000), None).unwrap();
    assert!(!found());
    // A link is not followed, and another mount's record does not count under this name.
    let aside = bench.write("aside.json", &serde_json::to_vec(&record).unwrap());
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(aside, &file).unwrap();
    assert!(!found());
    write(&record).unwrap();
    assert!(found() && !std::fs::symlink_metadata(&file).unwrap().is_symlink());
    for text in ["", "{}", "[]"] {
        std::fs::write(&file, text).unwrap();
        assert!(!found(), "{text}");
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn status_lists_what_is_mounted_and_by_whose_word() {
    if !can_mount("status") {
        return;
    }
    let bench = Bench::new();
    bench.sealed(&two_layers());
    let trust = ["--require-signature", "--trust", "signer.crt"];
    bench.run(&[&["pull", "oci:image", "--name", "app"][..], &trust].concat()).ok();
    let root = Mount::at(&bench, "root");
    for dir in ["diff", "work"] {
        std::fs::create_dir(bench.path(dir)).unwrap();
    }
    let more = ["--verity", "off", "--upper", "diff", "--work", "work"];
    bench.run(&[&["mount", "app", "root"][..], &trust, &more].concat()).ok();
    let target = root.path().display().to_string();
    let list = bench.run(&["status", "--json"]).ok().json();
    let one = list["mounts"].as_array().unwrap().iter().find(|r| r["target"] == target).unwrap().clone();
    let upper = bench.path("diff").display().to_string();
    for (key, value) in [("kind", "sealed"), ("signer", "CN=test signer"), ("upper", &upper)] {
        assert_eq!(one[key], value, "{one}");
    }
    assert_eq!((&one["names"][0], &one["verity"]), (&"app".into(), &false.into()), "{one}");
    assert!(one["source"].as_str().unwrap().starts_with("composefs:"), "{one}");
    assert!(one["image"].as_str().unwrap().starts_with("sha256:"), "{one}");
    assert!(one["seal"].as_str().unwrap().starts_with("sha256:"), "{one}");
    let table = bench.run(&["status"]).ok().stdout;
    // Long paths are shown by their ends.
    let line = table
        .lines()
        .find(|l| target.ends_with(l.split_whitespace().next().unwrap().rsplit('…').next().unwrap()))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[1..], ["app", "sealed", "off", "test", "signer"]);
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    assert!(table.starts_with("TARGET"), "{table}");
    bench.run(&["umount", "root"]).ok();
    assert!(!bench.run(&["status", "--json"]).ok().stdout.contains(&target));
}

#[test]
fn j03_a_proc_that_is_not_the_kernels_is_refused() {
    if !can_mount("J03") {
        return;
    }
    let bench = Bench::new();
    bench.run(&["status"]).ok();
    let binary = env!("CARGO_BIN_EXE_layerseal");
    for hide in ["mount -t tmpfs none /proc", "mount --bind /etc/hostname /proc/$$/mountinfo"] {
        let script = format!("{hide} && exec \"$0\" \"$@\"");
        let output = std::process::Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", &script, binary, "umount", "/"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(6), "{hide}: {said}");
        assert!(said.trim_end().ends_with("[R-J03]"), "{hide}: {said}");
    }
}
