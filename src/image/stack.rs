//! Layers on top of each other as overlayfs shows them: the container's tree, and for each layer the tree
//! that makes an overlay stack of layer images show exactly that.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::{LeafId, Stat};
use composefs::tree::{Directory, FileSystem, Inode, LeafContent};

use super::tar::TarEntry;
use super::unpack::{Id, Unpacked, UnpackedNode, root_stat};
use crate::error::Result;

/// The attribute of a directory in which nothing of lower layers shows. In the tree of a layer it can only be ours:
/// `trusted.*` of the tar is refused.
const OPAQUE: &str = "trusted.overlay.opaque";

/// The tree of one layer. Where it takes something away from lower layers it holds a device with
/// the number `whiteout`, which no file of the layer has; the writer turns it into 0:0.
#[derive(Debug)]
pub struct LayerTree<H: FsVerityHashValue> {
    /// The tree.
    pub tree: FileSystem<H>,
    /// The device number that stands for a whiteout.
    pub whiteout: u64,
}

/// The container's tree, layer by layer, the lowest first.
#[derive(Debug)]
pub struct Stack<H: FsVerityHashValue> {
    tree: FileSystem<H>,
}

impl<H: FsVerityHashValue> Default for Stack<H> {
    /// Makes the stack without layers: a root only.
    fn default() -> Self {
        Self { tree: FileSystem::new(root_stat()) }
    }
}

impl<H: FsVerityHashValue> Stack<H> {
    /// Puts a layer on top, and returns its own tree.
    ///
    /// # Errors
    /// H03, H05: what podman refuses, and `trusted.*`.
    pub fn add(&mut self, entries: &[TarEntry]) -> Result<LayerTree<H>> {
        let unpacked = Unpacked::new(entries)?;
        let whiteout = unused_device(&unpacked);
        let mut layer = FileSystem::new(root_stat());
        // Roots apart from their trees, so that the trees' leaves can be added to meanwhile.
        let mut root = std::mem::replace(&mut self.tree.root, Directory::new(root_stat()));
        let mut own = std::mem::replace(&mut layer.root, Directory::new(root_stat()));
        let mut merge = Merge {
            unpacked: &unpacked,
            whiteout,
            stack: Side { tree: &mut self.tree, ids: HashMap::new() },
            layer: Side { tree: &mut layer, ids: HashMap::new() },
        };
        merge.directory(0, &mut root, &mut own);
        self.tree.root = root;
        layer.root = own;
        Ok(LayerTree { tree: layer, whiteout })
    }

    /// Returns the tree.
    pub fn into_tree(mut self) -> FileSystem<H> {
        self.tree.compact();
        self.tree
    }
}

/// Finds a device number that no file of the layer has.
fn unused_device<H: FsVerityHashValue>(layer: &Unpacked<H>) -> u64 {
    let used: HashSet<u64> = layer
        .nodes
        .iter()
        .filter_map(|node| match node {
            UnpackedNode::Leaf(_, LeafContent::CharacterDevice(number)) => Some(*number),
            _ => None,
        })
        .collect();
    (1..=u64::from(u32::MAX)).rev().find(|n| !used.contains(n)).unwrap_or(u64::from(u32::MAX))
}

/// A tree that the layer's files are added to, and which of its leaves stands for which of them.
struct Side<'a, H: FsVerityHashValue> {
    tree: &'a mut FileSystem<H>,
    ids: HashMap<Id, LeafId>,
}

impl<H: FsVerityHashValue> Side<'_, H> {
    fn leaf(&mut self, id: Id, stat: &Stat, content: &LeafContent<H>) -> Inode<H> {
        let tree = &mut *self.tree;
        Inode::leaf(*self.ids.entry(id).or_insert_with(|| tree.push_leaf(stat.clone(), content.clone())))
    }
}

struct Merge<'a, H: FsVerityHashValue> {
    unpacked: &'a Unpacked<H>,
    whiteout: u64,
    stack: Side<'a, H>,
    layer: Side<'a, H>,
}

impl<H: FsVerityHashValue> Merge<'_, H> {
    /// Lays the directory `id` of the layer over `below`, which is what shows from then on; `own` becomes its
    /// form in the layer's tree.
    fn directory(&mut self, id: Id, below: &mut Directory<H>, own: &mut Directory<H>) {
        let unpacked = self.unpacked;
        let UnpackedNode::Directory(dir) = &unpacked.nodes[id] else { return };
        let stat = if id == 0 { root_stat() } else { dir.stat.clone() };
        below.stat = stat.clone();
        own.stat = stat;
        // Overlayfs ignores this attribute on the root.
        if dir.opaque && id != 0 && below.entries().next().is_some() {
            below.clear();
            own.stat.xattrs.insert(OsStr::new(OPAQUE).into(), (*b"y").into());
        }
        for (name, child) in &dir.entries {
            let name = OsStr::from_bytes(name);
            let lower = below.pop(name);
            if unpacked.is_whiteout(*child) {
                // Where the device hides nothing, overlayfs would list it.
                if lower.is_some() {
                    own.insert(name, self.marker(&dir.stat));
                }
                continue;
            }
            match (&unpacked.nodes[*child], lower) {
                (UnpackedNode::Leaf(stat, content), _) => {
                    below.insert(name, self.stack.leaf(*child, stat, content));
                    own.insert(name, self.layer.leaf(*child, stat, content));
                }
                (UnpackedNode::Directory(upper), lower) => {
                    let mut shows = match lower {
                        Some(Inode::Directory(lower)) => lower,
                        _ => Box::new(Directory::new(upper.stat.clone())),
                    };
                    let mut mine = Box::new(Directory::new(upper.stat.clone()));
                    self.directory(*child, &mut shows, &mut mine);
                    below.insert(name, Inode::Directory(shows));
                    own.insert(name, Inode::Directory(mine));
                }
            }
        }
    }

    /// Makes a whiteout. With the time of its directory the image's inodes stay compact (one common time per image is
    /// free).
    fn marker(&mut self, dir: &Stat) -> Inode<H> {
        let stat = Stat { st_mtim_sec: dir.st_mtim_sec, st_mtim_nsec: dir.st_mtim_nsec, ..Stat::uninitialized() };
        Inode::leaf(self.layer.tree.push_leaf(stat, LeafContent::CharacterDevice(self.whiteout)))
    }
}
