//! Layers on top of each other as overlayfs shows them: the container's tree, and for each layer the tree
//! that makes an overlay stack of layer images show exactly that.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;

use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::Stat;
use composefs::tree::LeafContent;

use super::file_tree::{Child, DirId, FileTree, LeafId, ROOT};
use super::tar::TarEntry;
use super::unpack::{Unpacked, root_stat};
use crate::error::Result;

/// The attribute of a directory in which nothing of lower layers shows. In the tree of a layer it can only be ours:
/// `trusted.*` of the tar is refused.
const OPAQUE: &str = "trusted.overlay.opaque";

/// The tree of one layer. Where it takes something away from lower layers it holds a device with
/// the number `whiteout`, which no file of the layer has; the writer turns it into 0:0.
#[derive(Debug)]
pub struct LayerTree<H: FsVerityHashValue> {
    /// The tree.
    pub tree: FileTree<H>,
    /// The device number that stands for a whiteout.
    pub whiteout: u64,
}

/// The container's tree, layer by layer, the lowest first.
#[derive(Debug)]
pub struct Stack<H: FsVerityHashValue> {
    tree: FileTree<H>,
}

impl<H: FsVerityHashValue> Default for Stack<H> {
    /// Makes the stack without layers: a root only.
    fn default() -> Self {
        Self { tree: FileTree::new(root_stat()) }
    }
}

impl<H: FsVerityHashValue> Stack<H> {
    /// Puts a layer on top, and returns its own tree.
    ///
    /// # Errors
    /// H03, H05: what podman refuses, and `trusted.*`.
    pub fn add(&mut self, entries: &[TarEntry]) -> Result<LayerTree<H>> {
        let mut layer = Unpacked::new(entries)?;
        let whiteout = unused_device(&layer.tree);
        let links = layer.tree.links();
        let mut merge = Merge { layer: &mut layer, whiteout, stack: &mut self.tree, links, several: HashMap::new() };
        merge.directory(ROOT, ROOT)?;
        Ok(LayerTree { tree: layer.tree, whiteout })
    }

    /// Returns the tree.
    pub fn into_tree(self) -> FileTree<H> {
        self.tree
    }
}

/// Finds a device number that no file of the layer has.
fn unused_device<H: FsVerityHashValue>(layer: &FileTree<H>) -> u64 {
    let number = |content: &LeafContent<H>| match content {
        LeafContent::CharacterDevice(number) => Some(*number),
        _ => None,
    };
    let used: HashSet<u64> = layer.contents().filter_map(number).collect();
    (1..=u64::from(u32::MAX)).rev().find(|n| !used.contains(n)).unwrap_or(u64::from(u32::MAX))
}

/// A layer on its way into the stack. Its own tree changes where it takes something away.
struct Merge<'a, H: FsVerityHashValue> {
    layer: &'a mut Unpacked<H>,
    whiteout: u64,
    stack: &'a mut FileTree<H>,
    /// How many names each file of the layer has.
    links: Vec<u32>,
    /// Which file of the stack is which of the layer, for those of several names.
    several: HashMap<LeafId, LeafId>,
}

impl<H: FsVerityHashValue> Merge<'_, H> {
    /// Lays the directory `own` of the layer over `below`, which is what shows from then on.
    fn directory(&mut self, own: DirId, below: DirId) -> Result<()> {
        let given = self.layer.tree.stat(Child::Directory(own));
        let time = (given.st_mtim_sec, given.st_mtim_nsec);
        let mut stat = if own == ROOT { root_stat() } else { given.clone() };
        self.stack.set_stat(Child::Directory(below), stat.clone())?;
        // Overlayfs ignores this attribute on the root.
        if self.layer.is_opaque(own) && own != ROOT && self.stack.held(below) > 0 {
            self.stack.clear(below);
            stat.xattrs.insert(OsStr::new(OPAQUE).into(), (*b"y").into());
        }
        self.layer.tree.set_stat(Child::Directory(own), stat)?;
        let mut place = self.layer.tree.first(own);
        while let Some((id, name, child)) = self.layer.tree.step(&mut place) {
            if self.layer.is_whiteout(child) {
                match self.stack.remove(below, name) {
                    Some(_) => {
                        let marker = self.marker(time)?;
                        self.layer.tree.set(id, marker);
                    }
                    // Where the device hides nothing, overlayfs would list it.
                    None => _ = self.layer.tree.take(id),
                }
                continue;
            }
            match child {
                Child::Leaf(leaf) => {
                    let shows = match self.several.get(&leaf) {
                        Some(known) => *known,
                        None => {
                            let (stat, content) = self.layer.tree.leaf(leaf);
                            self.stack.add_leaf(stat.clone(), content.clone())?
                        }
                    };
                    if self.links[leaf.index()] > 1 {
                        self.several.insert(leaf, shows);
                    }
                    self.stack.insert(below, name, Child::Leaf(shows))?;
                }
                Child::Directory(sub) => {
                    let shows = match self.stack.lookup(below, name) {
                        Some(Child::Directory(lower)) => lower,
                        _ => {
                            let new = self.stack.add_directory(Stat::uninitialized())?;
                            self.stack.insert(below, name, Child::Directory(new))?;
                            new
                        }
                    };
                    self.directory(sub, shows)?;
                }
            }
        }
        Ok(())
    }

    /// Makes a whiteout. With the time of its directory the image's inodes stay compact (one common time per image is
    /// free).
    fn marker(&mut self, (st_mtim_sec, st_mtim_nsec): (i64, u32)) -> Result<Child> {
        let stat = Stat { st_mtim_sec, st_mtim_nsec, ..Stat::uninitialized() };
        Ok(Child::Leaf(self.layer.tree.add_leaf(stat, LeafContent::CharacterDevice(self.whiteout))?))
    }
}
