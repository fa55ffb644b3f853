//! The inodes of an image in the order in which composefs numbers them.

use std::collections::HashMap;
use std::ffi::OsStr;

use composefs::erofs::format::FileType;
use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::Stat;
use composefs::tree::LeafContent;

use crate::error::{Case, Refusal, Result};
use crate::image::file_tree::{Child, DirId, FileTree, LeafId, NameId, ROOT, same_stat};

/// One inode.
#[derive(Clone, Copy)]
pub(super) enum NumberedInode {
    Directory {
        dir: DirId,
        parent: u32,
        /// Where its names begin in [`Inodes::names`].
        first: u32,
        /// Whether it holds a device 0:0 that is escaped.
        holds_escaped: bool,
    },
    Leaf {
        leaf: LeafId,
        links: u32,
        /// Whether it is a device 0:0 that is to be seen: it is written as an empty file with attributes by which
        /// overlayfs shows the device (overlayfs.rst, "Nesting overlayfs mounts").
        escaped: bool,
    },
}

/// All inodes of a tree, breadth first, and what each directory holds. This takes some thirty bytes for each file
/// beside the tree: everything else is computed again when it is needed.
pub(super) struct Inodes<'a, H: FsVerityHashValue> {
    pub(super) tree: &'a FileTree<H>,
    pub(super) nodes: Vec<NumberedInode>,
    /// The names of each directory, sorted; one directory after the other.
    names: Vec<NameId>,
    /// Numbers of the inodes of directories and leaves, by their own numbers.
    dirs: Vec<u32>,
    leaves: Vec<u32>,
}

/// A number that is known when all inodes are numbered.
const LATER: u32 = u32::MAX;

impl<'a, H: FsVerityHashValue> Inodes<'a, H> {
    /// Numbers the inodes of `tree`. A file with several names has its number from the directory of the first
    /// of them, depth first: `mkcomposefs` meets them in that order in a dumpfile, and takes the others for
    /// links to it.
    pub(super) fn new(tree: &'a FileTree<H>) -> Result<Self> {
        let links = tree.links();
        let homes = homes(tree, &links);
        let mut this = Self {
            tree,
            nodes: Vec::with_capacity(tree.leaf_count()),
            names: Vec::with_capacity(tree.leaf_count()),
            dirs: vec![LATER; tree.dir_count()],
            leaves: vec![LATER; tree.leaf_count()],
        };
        this.push_directory(ROOT, 0)?;
        let mut at = 0;
        while let Some(node) = this.nodes.get(at) {
            let NumberedInode::Directory { dir, parent, .. } = *node else {
                at += 1;
                continue;
            };
            let me = number(at)?;
            let first = number(this.names.len())?;
            let mut holds_escaped = false;
            for id in tree.sorted(dir) {
                this.names.push(id);
                match tree.name(id) {
                    (_, None) => {}
                    (_, Some(Child::Directory(sub))) => this.push_directory(sub, me)?,
                    (name, Some(Child::Leaf(leaf))) => {
                        let links = links[leaf.index()];
                        let at_home = links < 2 || homes.get(&leaf).is_some_and(|home| *home == dir);
                        if at_home && this.leaves[leaf.index()] == LATER {
                            let (stat, content) = tree.leaf(leaf);
                            let escaped = matches!(content, LeafContent::CharacterDevice(0))
                                && !(me == 0 && is_stub(name, stat, tree.stat(Child::Directory(ROOT))));
                            holds_escaped |= escaped;
                            this.leaves[leaf.index()] = number(this.nodes.len())?;
                            this.nodes.push(NumberedInode::Leaf { leaf, links, escaped });
                        }
                    }
                }
            }
            this.nodes[at] = NumberedInode::Directory { dir, parent, first, holds_escaped };
            at += 1;
        }
        Ok(this)
    }

    fn push_directory(&mut self, dir: DirId, parent: u32) -> Result<()> {
        self.dirs[dir.index()] = number(self.nodes.len())?;
        self.nodes.push(NumberedInode::Directory { dir, parent, first: 0, holds_escaped: false });
        Ok(())
    }

    /// Lists what the directory `me` holds, itself and its parent included, sorted by name: names and numbers.
    pub(super) fn names(&self, me: usize) -> Vec<(&'a [u8], u32)> {
        let NumberedInode::Directory { dir, parent, first, .. } = self.nodes[me] else { return Vec::new() };
        let held = &self.names[first as usize..][..self.tree.held(dir)];
        let named = |id: &NameId| match self.tree.name(*id) {
            (name, Some(Child::Directory(sub))) => Some((name, self.dirs[sub.index()])),
            (name, Some(Child::Leaf(leaf))) => Some((name, self.leaves[leaf.index()])),
            (_, None) => None,
        };
        let mut names = Vec::with_capacity(held.len() + 2);
        names.extend([(b".".as_slice(), me as u32), (b"..".as_slice(), parent)]);
        names.extend(held.iter().filter_map(named));
        names.sort_unstable_by_key(|(name, _)| *name);
        names
    }

    /// Returns the content of an inode that is no directory.
    pub(super) fn content(&self, node: &NumberedInode) -> Option<&'a LeafContent<H>> {
        match node {
            NumberedInode::Directory { .. } => None,
            NumberedInode::Leaf { leaf, .. } => Some(self.tree.leaf(*leaf).1),
        }
    }

    pub(super) fn stat(&self, node: &NumberedInode) -> &'a Stat {
        match node {
            NumberedInode::Directory { dir, .. } => self.tree.stat(Child::Directory(*dir)),
            NumberedInode::Leaf { leaf, .. } => self.tree.stat(Child::Leaf(*leaf)),
        }
    }

    pub(super) fn file_type(&self, node: &NumberedInode) -> FileType {
        if matches!(node, NumberedInode::Leaf { escaped: true, .. }) {
            return FileType::RegularFile;
        }
        match self.content(node) {
            None => FileType::Directory,
            Some(LeafContent::Regular(_)) => FileType::RegularFile,
            Some(LeafContent::CharacterDevice(_)) => FileType::CharacterDevice,
            Some(LeafContent::BlockDevice(_)) => FileType::BlockDevice,
            Some(LeafContent::Fifo) => FileType::Fifo,
            Some(LeafContent::Socket) => FileType::Socket,
            Some(LeafContent::Symlink(_)) => FileType::Symlink,
        }
    }
}

fn number(n: usize) -> Result<u32> {
    u32::try_from(n).ok().filter(|n| *n != LATER).ok_or_else(|| too_large("more inodes than 32 bits can count"))
}

pub(super) fn too_large(why: &str) -> Refusal {
    Refusal::new(Case::H06Entry, "tree", why)
}

/// Finds, for each file that has several names, the directory of the first of them, depth first.
fn homes<H: FsVerityHashValue>(tree: &FileTree<H>, links: &[u32]) -> HashMap<LeafId, DirId> {
    fn walk<H: FsVerityHashValue>(tree: &FileTree<H>, dir: DirId, links: &[u32], homes: &mut HashMap<LeafId, DirId>) {
        for id in tree.sorted(dir) {
            match tree.name(id).1 {
                Some(Child::Directory(sub)) => walk(tree, sub, links, homes),
                Some(Child::Leaf(leaf)) if links[leaf.index()] > 1 => _ = homes.entry(leaf).or_insert(dir),
                _ => {}
            }
        }
    }
    let mut homes = HashMap::new();
    if links.iter().any(|links| *links > 1) {
        walk(tree, ROOT, links, &mut homes);
    }
    homes
}

/// Adds the devices 0:0 named 00 to ff that every V1 image has in its root (they hide the directories of an
/// object store, where that is a lower layer), where nothing else has such a name.
pub(super) fn add_stubs<H: FsVerityHashValue>(tree: &mut FileTree<H>) -> Result<()> {
    let stat = stub_stat(tree.stat(Child::Directory(ROOT)));
    for name in (0..=255u8).map(|n| format!("{n:02x}")) {
        if tree.lookup(ROOT, name.as_bytes()).is_none() {
            let leaf = tree.add_leaf(stat.clone(), LeafContent::CharacterDevice(0))?;
            tree.insert(ROOT, name.as_bytes(), Child::Leaf(leaf))?;
        }
    }
    Ok(())
}

/// Returns metadata like the root's, with another mode and, of its attributes, the label only.
fn stub_stat(root: &Stat) -> Stat {
    let label = root.xattrs.get_key_value(OsStr::new("security.selinux"));
    Stat { st_mode: 0o644, xattrs: label.map(|(k, v)| (k.clone(), v.clone())).into_iter().collect(), ..root.clone() }
}

fn is_stub_name(name: &[u8]) -> bool {
    name.len() == 2 && name.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
}

/// Returns whether the device 0:0 `name` in the root cannot be told from those that the format puts there.
fn is_stub(name: &[u8], stat: &Stat, root: &Stat) -> bool {
    is_stub_name(name) && same_stat(stat, &stub_stat(root))
}
