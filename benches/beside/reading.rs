//! Names and content, as what runs in the container gets them.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::measure::{Line, Usage, done, forget};
use super::tools::{Place, unmount};
use super::vault::merged;

/// In turn; one in the VM, where it takes two or three minutes.
const ROUNDS: [usize; 2] = [6, 1];

pub fn all(place: &Place) {
    for layers in [1, 10, 50] {
        let dir = place.path("reading");
        let image = format!("small-{layers}");
        place.sealed(&dir, &place.image(&image));
        for (number, layer) in place.layers(&image).iter().enumerate() {
            let lower = dir.join(number.to_string());
            std::fs::create_dir_all(&lower).unwrap();
            done(Command::new("tar").arg("-xf").arg(layer).arg("-C").arg(&lower));
        }
        let case = format!("{layers} layer{}", if layers == 1 { "" } else { "s" });
        let mut runs: Vec<Vec<[f64; 5]>> = WAYS.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS[usize::from(place.verity)] {
            for (way, runs) in WAYS.iter().zip(&mut runs) {
                runs.push(one(place, &dir, way, layers));
            }
        }
        for (number, what) in WHAT.iter().enumerate() {
            let table = format!("reading, {what}");
            for (tool, runs) in WAYS.iter().zip(&runs) {
                let runs: Vec<Usage> = runs.iter().map(|r| Usage { wall: r[number], ..Usage::default() }).collect();
                Line { table: &table, case: &case, tool }.record(&runs);
            }
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

const WAYS: [&str; 6] =
    ["native overlay", "fuse-overlayfs", "fuse-overlayfs 2", "layerseal", "layerseal --stack", "mount.composefs"];
const WHAT: [&str; 5] = ["find, cold", "find, warm", "stat of every file", "every file, cold", "every file, warm"];

/// Mounts and measures, in the order of [`WHAT`].
fn one(place: &Place, dir: &Path, way: &str, layers: usize) -> [f64; 5] {
    let target = dir.join("target");
    std::fs::create_dir_all(&target).unwrap();
    mount(place, dir, way, layers, &target);
    forget();
    let time = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    let mut found = Vec::new();
    let find_cold = time(&mut || found = find(&target));
    let find_warm = time(&mut || drop(find(&target)));
    let stat = time(&mut || found.iter().for_each(|(path, _)| _ = std::fs::symlink_metadata(path).unwrap()));
    forget();
    let read_cold = time(&mut || read(&found));
    let read_warm = time(&mut || read(&found));
    unmount(&target);
    [find_cold, find_warm, stat, read_cold, read_warm]
}

fn mount(place: &Place, dir: &Path, way: &str, layers: usize, target: &Path) {
    // Relative, as mount(2) takes one page of options.
    let lower: Vec<String> = (0..layers).rev().map(|n| n.to_string()).collect();
    // A single lower layer is not an overlay.
    std::fs::create_dir_all(dir.join("empty")).unwrap();
    let options = format!("lowerdir=empty:{}", lower.join(":"));
    let mut command = match way {
        "native overlay" => Command::new("mount"),
        "fuse-overlayfs" => Command::new("fuse-overlayfs"),
        "fuse-overlayfs 2" => Command::new(place.tools.join("fuse-overlayfs-2/bin/fuse-overlayfs")),
        "layerseal" => place.mount(dir, target),
        "layerseal --stack" => place.mount(dir, target),
        _ => place.composefs("sbin/mount.composefs"),
    };
    match way {
        "native overlay" => command.args(["-t", "overlay", "overlay", "-o", &options]).arg(target),
        "fuse-overlayfs" | "fuse-overlayfs 2" => command.args(["-o", &options]).arg(target),
        "layerseal" => &mut command,
        "layerseal --stack" => command.arg("--stack"),
        _ => {
            let verity = if place.verity { ",verity" } else { "" };
            let options = format!("basedir={}{verity}", dir.join("vault/objects").display());
            command.args(["-o", &options]).arg(merged(&dir.join("vault"))).arg(target)
        }
    };
    done(command.current_dir(dir).stdout(Stdio::null()));
}

/// Lists every path, and whether it is a regular file.
fn find(top: &Path) -> Vec<(PathBuf, bool)> {
    let (mut found, mut todo) = (Vec::new(), vec![top.to_owned()]);
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                todo.push(entry.path());
            }
            found.push((entry.path(), kind.is_file()));
        }
    }
    // Not in the order of one filesystem's directories.
    found.sort_by(|a, b| a.0.as_os_str().as_bytes().cmp(b.0.as_os_str().as_bytes()));
    found
}

fn read(found: &[(PathBuf, bool)]) {
    let mut buffer = vec![0; 128 << 10];
    for (path, _) in found.iter().filter(|(_, file)| *file) {
        let mut file = std::fs::File::open(path).unwrap();
        while file.read(&mut buffer).unwrap() > 0 {}
    }
}
