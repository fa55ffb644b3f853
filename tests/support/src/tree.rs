//! A mounted tree as lines of text, to compare two of them.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use layerseal::digest::BlobDigest;

/// Lists everything that can be seen of the tree beneath `root`, one line an inode name: type, mode, owner, size,
/// device, time, link target, content, link group, extended attributes. The root's own metadata are left out; so are
/// the link counts of directories, which overlayfs makes up.
pub fn dump(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut groups = HashMap::new();
    visit(root, Path::new(""), &mut lines, &mut groups);
    lines
}

fn visit(root: &Path, at: &Path, lines: &mut Vec<String>, groups: &mut HashMap<(u64, u64), String>) {
    let mut names: Vec<_> = std::fs::read_dir(root.join(at))
        .unwrap_or_else(|e| panic!("{}: {e}", at.display()))
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    for name in names {
        let path = at.join(&name);
        let full = root.join(&path);
        let meta = std::fs::symlink_metadata(&full).unwrap_or_else(|e| panic!("{}: {e}", full.display()));
        let kind = meta.file_type();
        let mut line = format!(
            "{:?} {:o} {}:{} {}.{:09}",
            path,
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        if kind.is_char_device() || kind.is_block_device() {
            line += &format!(" dev={:x}", meta.rdev());
        }
        if kind.is_symlink() {
            line += &format!(" -> {:?}", std::fs::read_link(&full).unwrap());
        }
        if kind.is_file() {
            let content = std::fs::read(&full).unwrap_or_else(|e| panic!("{}: {e}", full.display()));
            line += &format!(" size={} {}", meta.len(), BlobDigest::of(&content));
        }
        if !kind.is_dir() {
            // Layers are separate filesystems: inode numbers alone may coincide.
            let first = groups.entry((meta.dev(), meta.ino())).or_insert_with(|| path.display().to_string());
            line += &format!(" links={} group={first}", meta.nlink());
        }
        lines.push(line + &xattrs(&full));
        if kind.is_dir() {
            visit(root, &path, lines, groups);
        }
    }
}

/// Returns the extended attributes of a file, in order, as a line shows them.
pub fn xattrs(path: &Path) -> String {
    let mut names = vec![0_u8; 65_536];
    let n = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut all: Vec<String> = names[..n]
        .split_inclusive(|b| *b == 0)
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
        .map(|name| {
            let mut value = vec![0_u8; 65_536];
            let n = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or(0);
            format!(" {}={}", name.to_string_lossy(), hex::encode(&value[..n]))
        })
        .collect();
    all.sort();
    all.concat()
}

/// Returns whether the tree has something at this path, for a quick look.
pub fn has(root: &Path, path: &str) -> bool {
    root.join(std::ffi::OsStr::from_bytes(path.as_bytes())).symlink_metadata().is_ok()
}
