//! Group J: somebody who changes things while we look. What is mounted is always the sealed image, and
//! nothing outside is touched, however often it is tried.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use layerseal::digest::Algorithm;

use crate::host::{APP, Container, ENFORCE, Host, OTHER, TOOL};
use crate::sandbox::Ran;

/// Rounds of each race: a few seconds.
const ROUNDS: usize = 25;

/// Runs `swap` all the time while the container is started again and again; gives how often it was
/// mounted and how often not. After each success the content must be the sealed one.
fn race(host: &Host, container: &Container, swap: impl Fn() + Sync, before: impl Fn()) -> (usize, usize) {
    let stop = AtomicBool::new(false);
    // Held while we look ourselves.
    let quiet = Mutex::new(());
    let counts = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let guard = quiet.lock();
                swap();
                drop(guard);
                pause();
            }
        });
        let (mut mounted, mut refused) = (0, 0);
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..ROUNDS {
                before();
                match host.start(container) {
                    Ran { code: 0, .. } => {
                        mounted += 1;
                        let _quiet = quiet.lock();
                        sealed(host, container);
                        host.sandbox.sh(&format!("umount -l '{}' || true", host.of(&container.layer, "merged")));
                    }
                    ran => {
                        refused += 1;
                        host.forget_refused();
                        assert!(ran.stderr.lines().count() == 1 && ran.records.len() == 1, "{ran:?}");
                        assert!(matches!(ran.code, 1 | 2 | 3 | 4 | 6 | 7), "{ran:?}");
                    }
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        rounds.map(|()| (mounted, refused))
    });
    let none: Vec<_> = host.sandbox.mounts().into_iter().filter(|(_, m)| m.contains("composefs:")).collect();
    assert_eq!(none, vec![]);
    counts.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What is mounted is the sealed image, whichever directory it landed on.
#[track_caller]
fn sealed(host: &Host, container: &Container) {
    let mounted = host.sandbox.mounts().into_iter().filter(|(_, m)| m.contains("composefs:"));
    for (at, _) in mounted {
        assert_eq!(at, host.of(&container.layer, "merged"), "mounted elsewhere");
    }
    assert_eq!(host.read(container, "usr/bin/tool").unwrap(), TOOL);
    assert!(!host.merged(container).join("etc/gone").exists());
    assert_eq!(host.read(container, "etc/small").unwrap(), vec![b's'; 100]);
}

/// Puts `new` in the place of `path`, and back.
fn exchange(path: &Path, other: &Path) {
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    let swap = || rustix::fs::renameat_with(rustix::fs::CWD, path, rustix::fs::CWD, other, flags);
    swap().unwrap();
    pause();
    swap().unwrap();
}

/// As long in one state as in the other.
fn pause() {
    std::thread::sleep(std::time::Duration::from_micros(300));
}

fn object(host: &Host, name: &str) -> PathBuf {
    let image = host.image(name);
    let manifest = std::fs::read(host.root.join("overlay-images").join(image.id).join("manifest")).unwrap();
    let vault = layerseal::vault::Vault::open(&host.root.join("layerseal")).unwrap();
    let digest = layerseal::digest::BlobDigest::of(&manifest);
    let rootfs = vault.contents(&digest, Algorithm::Sha512).unwrap().rootfs;
    host.root.join("layerseal/objects").join(rootfs.object_path())
}

fn tree(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    crate::common::walk(dir, &mut |path| names.push(path.display().to_string()));
    names
}

#[test]
fn j01_the_erofs_image_is_swapped() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    host.config("policy.d/other.toml", &format!("version = 1\n[[rule]]\nimage = \"{OTHER}\"\nmode = \"audit\"\n"));
    host.layerseal(&["prepare", &format!("{OTHER}:v1")]);
    let (good, evil) = (object(&host, APP), object(&host, OTHER));
    let copy = host.root.join("evil");
    std::fs::copy(&evil, &copy).unwrap();
    let (mounted, refused) = race(&host, &container, || exchange(&good, &copy), || ());
    assert!(mounted + refused == ROUNDS && mounted > 0, "{mounted} {refused}");
}

#[test]
fn j02_directories_of_the_store_are_swapped() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, other) = (host.image(APP), host.image(OTHER));
    let container = host.container("c", &app);
    let outside = host.bench.path("outside");
    for dir in ["a", "diff", "work", "merged"] {
        std::fs::create_dir_all(outside.join(dir)).unwrap();
    }
    let before = tree(&outside);
    let link = host.bench.path("link");
    let evil = PathBuf::from(host.of(&other.layers[0], "diff"));
    let lower = PathBuf::from(host.of(&app.layers[1], "diff"));
    // Layers, with nothing known of them: each time they are read anew.
    let forget = || {
        for image in std::fs::read_dir(host.root.join("layerseal/images")).unwrap().flatten() {
            for note in std::fs::read_dir(image.path()).unwrap().flatten() {
                if note.file_name().to_str().unwrap().starts_with("checked.") {
                    std::fs::remove_file(note.path()).unwrap();
                }
            }
        }
    };
    let (mounted, refused) = race(&host, &container, || exchange(&lower, &evil), forget);
    assert_eq!(mounted + refused, ROUNDS);
    for name in ["diff", "work", "merged", ""] {
        let path: PathBuf = host.of(&container.layer, name).trim_end_matches('/').into();
        symlink(outside.join(name), &link).unwrap();
        let (mounted, refused) = race(&host, &container, || exchange(&path, &link), || ());
        assert_eq!(mounted + refused, ROUNDS);
        std::fs::remove_file(&link).unwrap();
        assert_eq!(tree(&outside), before, "{name}");
        for dir in ["diff", "work", "merged"] {
            assert_eq!(std::fs::read_dir(outside.join(dir)).unwrap().count(), 0, "{name}: {dir}");
        }
    }
}

/// The decision is made on the bytes that were read.
#[test]
fn j05_records_are_swapped() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, other) = (host.image(APP), host.image(OTHER));
    let container = host.container("c", &app);
    let images = host.root.join("overlay-images/images.json");
    let text = std::fs::read_to_string(&images).unwrap();
    // The two images change their layers and their names.
    let swapped = text
        .replace(&app.layers[0], "LAYER")
        .replace(&other.layers[0], &app.layers[0])
        .replace("LAYER", &other.layers[0])
        .replace(APP, "NAME")
        .replace(OTHER, APP)
        .replace("NAME", OTHER);
    assert_ne!(text, swapped);
    let new = host.bench.write("images.json", swapped.as_bytes());
    let (mounted, refused) = race(&host, &container, || exchange(&images, &new), || ());
    assert!(mounted > 0 && refused > 0, "{mounted} {refused}");
}

/// One wins, and the other finds it and leaves it alone: never two overlays over one upper directory.
#[test]
fn j04_two_starts_at_once() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let (options, target) = (host.options(&container), host.of(&container.layer, "merged"));
    for _ in 0..15 {
        let children: Vec<_> = (0..4)
            .map(|_| {
                let mut command = host.sandbox.command(crate::host::binary());
                command.args(["-o", &options, &target]).stderr(std::process::Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let mounts = host.mounts_of(&container);
        assert_eq!((mounts.len(), mounts.iter().filter(|m| m.starts_with("rw,")).count()), (4, 1), "{mounts:?}");
        sealed(&host, &container);
        host.sandbox.sh(&format!("for i in 1 2 3 4; do umount -l '{target}'; done"));
    }
}

/// A container is removed, and images are collected, while it starts.
#[test]
fn j04_a_start_against_rm_and_prune() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let containers = host.root.join("overlay-containers/containers.json");
    let new = host.bench.write("containers.json", b"[]");
    let collect = || {
        let ran = host.verb(&["gc"]);
        assert!(matches!(ran.code, 0 | 7), "{ran:?}");
    };
    let (mounted, _) = race(&host, &container, || exchange(&containers, &new), collect);
    assert!(mounted > 0);
}

/// Another filesystem in the place of `/proc` could say anything.
#[test]
fn j03_a_proc_that_is_not_the_kernels() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let fake = host.bench.path("proc");
    std::fs::create_dir_all(fake.join("self/fd")).unwrap();
    std::fs::write(fake.join("self/uid_map"), "0 0 4294967295\n").unwrap();
    std::fs::write(fake.join("self/mountinfo"), "").unwrap();
    host.sandbox.sh(&format!("mount --bind '{}' /proc", fake.display()));
    host.start_refused(&container, 6, "J03");
    std::fs::remove_file(fake.join("self/uid_map")).unwrap();
    host.start_refused(&container, 6, "X06");
    host.sandbox.sh("umount /proc");
    host.start(&container).ok();
}
