//! From an image in the container store to its first mount, beside cfsctl's import of the same, and the time that
//! the kernel takes to enable fs-verity on the same files.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use composefs_ioctls::fsverity::fs_ioc_enable_verity_with_sig;

use super::measure::{Part, Usage, done, flush, in_turn, usage};
use super::{Call, IMAGE, Place, common};

const ROUNDS: usize = 3;

/// Measures the image `name` of the layout `input`.
pub fn first_use(place: &Place, input: &Path, name: &str) {
    let image = place.path("first");
    done(Command::new("cp").arg("-a").arg(input).arg(&image));
    place.sign(&image, IMAGE, "bench");
    let [ours, theirs] = [super::MOUNT_PROGRAM, super::NATIVE].map(|way| place.store(way));
    for store in [&ours, &theirs] {
        done(&mut store.podman(&["rmi", "-a", "-f"]));
        store.load(&image);
    }
    let call = ours.call();
    let [ours, theirs] = [ours, theirs].map(|store| Fresh::new(&place.root(store.way)));
    let mut parts: Vec<Part<'_>> = Vec::new();
    if place.verity {
        parts.push(("FS_IOC_ENABLE_VERITY alone, 2 threads", Box::new(|_| kernel(ours.again()))));
    }
    if let Some(tools) = std::env::var_os("LAYERSEAL_BENCH_TOOLS").map(PathBuf::from) {
        let cfsctl = tools.join("cfsctl");
        let (theirs, verity) = (&theirs, place.verity);
        let part = move |_| imported(&cfsctl, theirs.again(), verity);
        parts.push(("cfsctl oci pull --local-fetch auto", Box::new(part)));
    }
    parts.push((
        "layerseal, first mount",
        Box::new(|_| {
            ours.again();
            mounted(&call)
        }),
    ));
    parts.push(("layerseal, second mount", Box::new(|_| mounted(&call))));
    // Only the names, of the files and of the store's own.
    let floor = |round: usize| {
        let mut names = Command::new("cp");
        usage(names.arg("-al").arg(ours.kept.join("overlay")).arg(place.path(&format!("names.{round}"))))
    };
    parts.push(("cp -al of the store (floor)", Box::new(floor)));
    in_turn("first use", name, ROUNDS, parts);
}

/// A store that was not used yet, as often as it is asked for: fs-verity is enabled once for every file.
struct Fresh {
    root: PathBuf,
    kept: PathBuf,
    /// The number of used ones: removing them would slow down whoever writes next.
    spent: AtomicUsize,
}

impl Fresh {
    /// Copies the graph root of the store in `dir`, as it is now.
    fn new(dir: &Path) -> Self {
        let (root, kept) = (dir.join("g"), dir.join("kept"));
        done(Command::new("cp").arg("-a").arg(&root).arg(&kept));
        Self { root, kept, spent: AtomicUsize::new(0) }
    }

    /// Puts the graph root in its place, with files as podman has just unpacked them: on the disk, and in memory.
    fn again(&self) -> &Path {
        let number = self.spent.fetch_add(1, Ordering::Relaxed);
        std::fs::rename(&self.root, self.root.with_extension(format!("spent{number}"))).unwrap();
        done(Command::new("cp").arg("-a").arg(&self.kept).arg(&self.root));
        flush();
        &self.root
    }
}

fn mounted(call: &Call) -> Usage {
    let usage = usage(Command::new(Place::layerseal()).args(["-o", &call.options, &call.target]));
    done(Command::new("umount").arg(&call.target));
    usage
}

/// Measures cfsctl's import, into a repository beside the files.
fn imported(cfsctl: &Path, root: &Path, verity: bool) -> Usage {
    let cfsctl = |args: &[&str]| {
        let mut command = Command::new(cfsctl);
        command.arg("--repo").arg(root.join("cfs")).args(args).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("CONTAINERS_STORAGE_ROOT", root);
        command
    };
    let init = ["init", "--algorithm", "fsverity-sha256-12", "--insecure"];
    done(&mut cfsctl(&init[..if verity { 3 } else { 4 }]));
    let from = format!("containers-storage:{IMAGE}");
    usage(&mut cfsctl(&["oci", "pull", "--local-fetch", "auto", &from, "x"]))
}

/// Enables fs-verity on every file that layerseal makes an object of, on two threads, by the bare ioctl.
fn kernel(root: &Path) -> Usage {
    let (mut files, mut seen) = (Vec::new(), HashSet::new());
    common::walk(&root.join("overlay"), &mut |path| {
        // A file with two names gets it once.
        if std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.len() > 64 && seen.insert(m.ino())) {
            files.push(path.to_owned());
        }
    });
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    fs_ioc_enable_verity_with_sig(std::fs::File::open(path).unwrap(), 1, 4096, None).unwrap();
                }
            });
        }
    });
    Usage { wall: start.elapsed().as_secs_f64(), ..Usage::default() }
}
