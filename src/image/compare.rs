//! Others' EROFS images, compared with the layers by meaning (docs/seal-format.md, "Accepting a seal").

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::fsverity::{FsVerityHashValue, Sha256HashValue, Sha512HashValue};
use composefs::generic_tree::{LeafId, Stat};
use composefs::tree::{Directory, FileSystem, Inode, LeafContent, RegularFile};

use super::erofs::{on_deep_stack, read};
use super::tar::TarEntry;
use super::tree::Images;
use crate::digest::Algorithm;
use crate::error::{Case, Refusal, Result};

/// Checks that the EROFS image `image` holds the tree of `layers`: all of them for a merged image, one for a layer
/// image. Same paths, types, modes, owners, link groups, sizes, contents, devices, link targets and whole seconds;
/// every xattr of the image is in the layers with the same value.
///
/// # Errors
/// [`Case::H08View`] naming the first path that differs; H09 when the image cannot be read.
pub fn same_meaning<'a>(
    algorithm: Algorithm,
    image: &[u8],
    layers: impl IntoIterator<Item = &'a [TarEntry]>,
    merged: bool,
) -> Result<()> {
    let layers: Vec<&[TarEntry]> = layers.into_iter().collect();
    on_deep_stack(|| match algorithm {
        Algorithm::Sha256 => compare::<Sha256HashValue>(image, layers, merged),
        Algorithm::Sha512 => compare::<Sha512HashValue>(image, layers, merged),
    })
}

fn compare<H: FsVerityHashValue>(image: &[u8], layers: Vec<&[TarEntry]>, merged: bool) -> Result<()> {
    let found = read::<H>(image)?;
    let expected = if merged {
        Images::<H>::build(layers)?.merged_with_xattrs()?
    } else {
        // The drafts drop whiteouts from layer images; they are for showing what a layer brings, not
        // for stacking, and are never stacked by us.
        Images::<H>::bare_layer(&layers.concat())?.to_composefs()
    };
    let mut walk = TreeComparison { expected: &expected, found: &found, links: HashMap::new(), back: HashMap::new() };
    // A layer image's root has whatever metadata its maker chose; the layer need not give any.
    if merged {
        stat(&expected.root.stat, &found.root.stat).map_err(|why| differs(b"/", why))?;
    }
    walk.directory(b"", &expected.root, &found.root)
}

fn differs(path: &[u8], why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Case::H08View, format!("/{}", String::from_utf8_lossy(path)), why)
}

struct TreeComparison<'a, H: FsVerityHashValue> {
    expected: &'a FileSystem<H>,
    found: &'a FileSystem<H>,
    /// Leaves that were met, from either side to the other: link groups must agree.
    links: HashMap<usize, usize>,
    back: HashMap<usize, usize>,
}

impl<H: FsVerityHashValue> TreeComparison<'_, H> {
    fn directory(&mut self, path: &[u8], expected: &Directory<H>, found: &Directory<H>) -> Result<()> {
        let child = |name: &OsStr| {
            if path.is_empty() { name.as_bytes().to_vec() } else { [path, b"/", name.as_bytes()].concat() }
        };
        for (name, _) in found.entries() {
            if expected.lookup(name).is_none() {
                return Err(differs(&child(name), "it is not in the layers"));
            }
        }
        for (name, wanted) in expected.entries() {
            let path = child(name);
            match (wanted, found.lookup(name)) {
                (_, None) => return Err(differs(&path, "it is missing")),
                (Inode::Directory(a), Some(Inode::Directory(b))) => {
                    stat(&a.stat, &b.stat).map_err(|why| differs(&path, why))?;
                    self.directory(&path, a, b)?;
                }
                (Inode::Leaf(a, _), Some(Inode::Leaf(b, _))) => self.leaf(*a, *b).map_err(|why| differs(&path, why))?,
                _ => return Err(differs(&path, "it has another type")),
            }
        }
        Ok(())
    }

    fn leaf(&mut self, a: LeafId, b: LeafId) -> std::result::Result<(), &'static str> {
        if *self.links.entry(a.0).or_insert(b.0) != b.0 || *self.back.entry(b.0).or_insert(a.0) != a.0 {
            return Err("its hard links differ");
        }
        let (a, b) = (self.expected.leaf(a), self.found.leaf(b));
        if shown_whiteout(&a.content, b) {
            return Ok(());
        }
        stat(&a.stat, &b.stat)?;
        let same = match (&a.content, &b.content) {
            (LeafContent::Regular(a), LeafContent::Regular(b)) => return regular(a, b),
            (LeafContent::Symlink(a), LeafContent::Symlink(b)) => a == b,
            (LeafContent::CharacterDevice(a), LeafContent::CharacterDevice(b)) => a == b,
            (LeafContent::BlockDevice(a), LeafContent::BlockDevice(b)) => a == b,
            (LeafContent::Fifo, LeafContent::Fifo) => true,
            _ => return Err("it has another type"),
        };
        if same { Ok(()) } else { Err("its target or device differs") }
    }
}

/// Returns whether `found` is a device 0:0 of the tar, in the form in which V0 and V1 images show it.
fn shown_whiteout<H: FsVerityHashValue>(expected: &LeafContent<H>, found: &composefs::tree::Leaf<H>) -> bool {
    matches!(expected, LeafContent::CharacterDevice(0))
        && matches!(&found.content, LeafContent::Regular(RegularFile::Inline(data)) if data.is_empty())
        && found.stat.xattrs.keys().any(|name| name.as_bytes().ends_with(b"overlay.whiteout"))
}

fn regular<H: FsVerityHashValue>(a: &RegularFile<H>, b: &RegularFile<H>) -> std::result::Result<(), &'static str> {
    match (a, b) {
        (RegularFile::Inline(a), RegularFile::Inline(b)) if a == b => Ok(()),
        (RegularFile::External(a, n), RegularFile::External(b, m)) if a == b && n == m => Ok(()),
        _ => Err("its content differs"),
    }
}

fn stat(a: &Stat, b: &Stat) -> std::result::Result<(), &'static str> {
    if a.st_mode != b.st_mode & 0o7777 {
        return Err("its mode differs");
    }
    if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid) {
        return Err("its owner differs");
    }
    if a.st_mtim_sec != b.st_mtim_sec {
        return Err("its time differs");
    }
    for (name, value) in &b.xattrs {
        if a.xattrs.get(name) != Some(value) && !written_by_format(name.as_bytes()) {
            return Err("it has an extended attribute that the layers do not give it");
        }
    }
    Ok(())
}

/// Returns whether V0 and V1 writers add this attribute to directories that hold a device 0:0.
fn written_by_format(name: &[u8]) -> bool {
    matches!(
        name,
        b"trusted.overlay.opaque" | b"trusted.overlay.whiteouts" | b"user.overlay.opaque" | b"user.overlay.whiteouts"
    )
}
