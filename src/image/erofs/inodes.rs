//! The inodes of an image in the order in which composefs numbers them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::erofs::format::FileType;
use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::{LeafId, Stat};
use composefs::tree::{Directory, FileSystem, Inode, Leaf, LeafContent};

use crate::error::{Case, Refusal, Result};

/// One inode.
pub(super) enum NumberedInode<'a, H: FsVerityHashValue> {
    Directory {
        dir: &'a Directory<H>,
        parent: u32,
        /// Where its children begin in [`Inodes::children`].
        first: usize,
        /// Whether it holds a device 0:0 that is escaped.
        holds_escaped: bool,
    },
    Leaf {
        leaf: &'a Leaf<H>,
        links: u32,
        /// Whether it is a device 0:0 that is to be seen: it is written as an empty file with attributes by which
        /// overlayfs shows the device (overlayfs.rst, "Nesting overlayfs mounts").
        escaped: bool,
    },
}

/// All inodes of a tree, breadth first, and what each directory holds. This takes some thirty bytes for each file
/// beside the tree: everything else is computed again when it is needed.
pub(super) struct Inodes<'a, H: FsVerityHashValue> {
    pub(super) nodes: Vec<NumberedInode<'a, H>>,
    /// Numbers of the inodes that a directory holds, sorted by name; one directory after the other.
    children: Vec<u32>,
}

/// A number that is known when all inodes are numbered.
const LATER: u32 = u32::MAX;

impl<'a, H: FsVerityHashValue> Inodes<'a, H> {
    /// Numbers the inodes of `tree`. A file with several names has its number from the directory of the first
    /// of them, depth first: `mkcomposefs` meets them in that order in a dumpfile, and takes the others for
    /// links to it.
    pub(super) fn new(tree: &'a FileSystem<H>) -> Result<Self> {
        let links = tree.nlinks();
        let homes = homes(tree, &links);
        let mut numbers: HashMap<LeafId, u32> = HashMap::new();
        let mut unknown: Vec<(usize, LeafId)> = Vec::new();
        let mut this = Self { nodes: Vec::with_capacity(tree.leaves.len()), children: Vec::new() };
        this.push(NumberedInode::Directory { dir: &tree.root, parent: 0, first: 0, holds_escaped: false })?;
        let mut at = 0;
        while let Some(node) = this.nodes.get(at) {
            let NumberedInode::Directory { dir, parent, .. } = *node else {
                at += 1;
                continue;
            };
            let me = number(at)?;
            let first = this.children.len();
            let mut holds_escaped = false;
            for (name, inode) in dir.sorted_entries() {
                let child = match inode {
                    Inode::Directory(sub) => {
                        this.push(NumberedInode::Directory { dir: sub, parent: me, first: 0, holds_escaped: false })?
                    }
                    Inode::Leaf(id, _) => {
                        let links = links[id.0];
                        let at_home = links < 2 || homes.get(id).is_some_and(|home| std::ptr::eq(*home, dir));
                        match numbers.get(id) {
                            Some(number) => *number,
                            None if !at_home => {
                                unknown.push((this.children.len(), *id));
                                LATER
                            }
                            None => {
                                let leaf = tree.leaf(*id);
                                let escaped = matches!(leaf.content, LeafContent::CharacterDevice(0))
                                    && !(me == 0 && is_stub(name.as_bytes(), &leaf.stat, &tree.root.stat));
                                holds_escaped |= escaped;
                                let number = this.push(NumberedInode::Leaf { leaf, links, escaped })?;
                                if links > 1 {
                                    numbers.insert(*id, number);
                                }
                                number
                            }
                        }
                    }
                };
                this.children.push(child);
            }
            this.nodes[at] = NumberedInode::Directory { dir, parent, first, holds_escaped };
            at += 1;
        }
        for (place, id) in unknown {
            this.children[place] =
                *numbers.get(&id).ok_or_else(|| Refusal::new(Case::Bug, "tree", "a file without a number"))?;
        }
        Ok(this)
    }

    fn push(&mut self, node: NumberedInode<'a, H>) -> Result<u32> {
        let new = number(self.nodes.len())?;
        self.nodes.push(node);
        Ok(new)
    }

    /// Lists what the directory `me` holds, itself and its parent included, sorted by name: names and numbers.
    pub(super) fn names(&self, me: usize) -> Vec<(&'a [u8], u32)> {
        let NumberedInode::Directory { dir, parent, first, .. } = self.nodes[me] else { return Vec::new() };
        let held = dir.sorted_entries().zip(&self.children[first..]);
        let mut names: Vec<(&[u8], u32)> = held.map(|((name, _), child)| (name.as_bytes(), *child)).collect();
        names.extend([(b".".as_slice(), me as u32), (b"..".as_slice(), parent)]);
        names.sort_unstable_by_key(|(name, _)| *name);
        names
    }
}

impl<H: FsVerityHashValue> NumberedInode<'_, H> {
    pub(super) fn stat(&self) -> &Stat {
        match self {
            Self::Directory { dir, .. } => &dir.stat,
            Self::Leaf { leaf, .. } => &leaf.stat,
        }
    }

    pub(super) fn file_type(&self) -> FileType {
        match self {
            Self::Directory { .. } => FileType::Directory,
            Self::Leaf { escaped: true, .. } => FileType::RegularFile,
            Self::Leaf { leaf, .. } => match leaf.content {
                LeafContent::Regular(_) => FileType::RegularFile,
                LeafContent::CharacterDevice(_) => FileType::CharacterDevice,
                LeafContent::BlockDevice(_) => FileType::BlockDevice,
                LeafContent::Fifo => FileType::Fifo,
                LeafContent::Socket => FileType::Socket,
                LeafContent::Symlink(_) => FileType::Symlink,
            },
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
fn homes<'a, H: FsVerityHashValue>(tree: &'a FileSystem<H>, links: &[u32]) -> HashMap<LeafId, &'a Directory<H>> {
    fn walk<'a, H: FsVerityHashValue>(
        dir: &'a Directory<H>,
        links: &[u32],
        homes: &mut HashMap<LeafId, &'a Directory<H>>,
    ) {
        for (_, inode) in dir.sorted_entries() {
            match inode {
                Inode::Directory(sub) => walk(sub, links, homes),
                Inode::Leaf(id, _) if links[id.0] > 1 => _ = homes.entry(*id).or_insert(dir),
                Inode::Leaf(..) => {}
            }
        }
    }
    let mut homes = HashMap::new();
    if links.iter().any(|links| *links > 1) {
        walk(&tree.root, links, &mut homes);
    }
    homes
}

/// Adds the devices 0:0 named 00 to ff that every V1 image has in its root (they hide the directories of an
/// object store, where that is a lower layer), where nothing else has such a name.
pub(super) fn add_stubs<H: FsVerityHashValue>(tree: &mut FileSystem<H>) {
    let stat = stub_stat(&tree.root.stat);
    for name in (0..=255u8).map(|n| format!("{n:02x}")) {
        if tree.root.lookup(OsStr::new(&name)).is_none() {
            let id = tree.push_leaf(stat.clone(), LeafContent::CharacterDevice(0));
            tree.root.insert(OsStr::new(&name), Inode::leaf(id));
        }
    }
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
    let same = |a: &Stat, b: &Stat| {
        (a.st_mode, a.st_uid, a.st_gid, a.st_mtim_sec, a.st_mtim_nsec)
            == (b.st_mode, b.st_uid, b.st_gid, b.st_mtim_sec, b.st_mtim_nsec)
            && a.xattrs == b.xattrs
    };
    is_stub_name(name) && same(stat, &stub_stat(root))
}
