//! A mounted tree as lines, one for each name, and what two of them have that the other has not.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use layerseal::digest::BlobDigest;

/// Type, mode, owner, size, content, link group, device, target, attributes and, at the end, the time of
/// everything beneath `root`. Names that are listed and lead nowhere are none: overlayfs lists whiteouts of
/// nothing.
pub fn list(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    visit(root, Path::new(""), &mut lines, &mut HashMap::new());
    lines
}

fn visit(root: &Path, at: &Path, lines: &mut Vec<String>, groups: &mut HashMap<(u64, u64), String>) {
    let names = std::fs::read_dir(root.join(at)).unwrap_or_else(|e| panic!("{}: {e}", at.display()));
    let mut names: Vec<_> = names.map(|e| e.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = at.join(&name);
        let full = root.join(&path);
        let Ok(meta) = std::fs::symlink_metadata(&full) else { continue };
        let kind = meta.file_type();
        let shown = path.as_os_str().as_bytes().escape_ascii().to_string();
        let mut line = format!("{shown}\t{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
        if kind.is_char_device() || kind.is_block_device() {
            line += &format!(" dev={:x}", meta.rdev());
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(&full).unwrap();
            line += &format!(" -> {}", target.as_os_str().as_bytes().escape_ascii());
        }
        if kind.is_file() {
            let content = std::fs::read(&full).unwrap_or_else(|e| panic!("{}: {e}", full.display()));
            line += &format!(" size={} {}", meta.len(), BlobDigest::of(&content));
        }
        if !kind.is_dir() {
            let group = groups.entry((meta.dev(), meta.ino())).or_insert_with(|| shown.clone());
            line += &format!(" group={group}");
        }
        line += &support::tree::xattrs(&full);
        lines.push(format!("{line}\t{}", meta.mtime()));
        if kind.is_dir() {
            visit(root, &path, lines, groups);
        }
    }
}

/// # Errors
/// The lines that only one of them has.
pub fn compare(podman: &[String], ours: &[String], unpacking: &RangeInclusive<i64>) -> Result<(), String> {
    let strip = |line: &String| {
        let (rest, time) = line.rsplit_once('\t').unwrap();
        // No entry has such a time: what has it came into being.
        if unpacking.contains(&time.parse().unwrap()) { format!("{rest}\t0") } else { line.clone() }
    };
    let (a, b): (BTreeSet<String>, BTreeSet<String>) =
        (podman.iter().map(strip).collect(), ours.iter().map(strip).collect());
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>, who: &str| {
        a.difference(b).map(|line| format!("  {who}: {line}\n")).collect::<String>()
    };
    let differ = only(&a, &b, "podman") + &only(&b, &a, "layerseal");
    if differ.is_empty() { Ok(()) } else { Err(differ) }
}
