//! A file tree in a few large pieces of memory, and not in an object for each file: some hundred bytes for a file and its
//! name, half of what the composefs crate's tree takes. That one is made where the crate is asked for something.

use std::ffi::OsStr;
use std::hash::{BuildHasher as _, Hash, Hasher as _, RandomState};
use std::os::unix::ffi::OsStrExt;

use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::Stat;
use composefs::tree::{Directory, FileSystem, Inode, LeafContent};
use hashbrown::HashTable;

use crate::error::{Case, Refusal, Result};

#[cfg(test)]
mod tests;

/// A directory of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirId(u32);

/// A file of a tree that is not a directory; it may have several names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LeafId(u32);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child {
    Directory(DirId),
    Leaf(LeafId),
}

/// The root of every tree.
pub(super) const ROOT: DirId = DirId(0);

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameId(u32);

/// No further name.
const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Name {
    /// Where its bytes are in [`FileTree::bytes`].
    at: u32,
    len: u16,
    directory: DirId,
    /// `None` once it was removed. It can come back.
    child: Option<Child>,
    /// The name that this directory got before.
    next: u32,
}

#[derive(Clone, Debug)]
struct Dir {
    stat: u32,
    /// The last of its names.
    names: u32,
    /// How many of them stand for something.
    held: u32,
}

#[derive(Clone, Debug)]
struct Leaf<H: FsVerityHashValue> {
    stat: u32,
    content: LeafContent<H>,
}

/// A tree of directories and files. Numbers are given once: what was removed keeps its own.
#[derive(Clone, Debug)]
pub struct FileTree<H: FsVerityHashValue> {
    /// The bytes of all names.
    bytes: Vec<u8>,
    names: Vec<Name>,
    /// Finds a name by its directory and its bytes.
    by_name: HashTable<u32>,
    dirs: Vec<Dir>,
    leaves: Vec<Leaf<H>>,
    /// All metadata, each once.
    stats: Vec<Stat>,
    by_stat: HashTable<u32>,
    keys: RandomState,
}

impl LeafId {
    /// Returns the number, which is less than [`FileTree::leaf_count`].
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

impl DirId {
    /// Returns the number, which is less than [`FileTree::dir_count`].
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Returns the number of the next of `these`.
fn next<T>(these: &[T]) -> Result<u32> {
    let number = u32::try_from(these.len()).ok().filter(|n| *n != NONE);
    number.ok_or_else(|| Refusal::new(Case::H06Entry, "tree", "more files than 32 bits can count"))
}

fn hash_stat(keys: &RandomState, stat: &Stat) -> u64 {
    let mut hasher = keys.build_hasher();
    (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtim_sec, stat.st_mtim_nsec).hash(&mut hasher);
    stat.xattrs.hash(&mut hasher);
    hasher.finish()
}

/// Returns whether these are the same metadata.
pub(super) fn same_stat(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid, a.st_mtim_sec, a.st_mtim_nsec)
        == (b.st_mode, b.st_uid, b.st_gid, b.st_mtim_sec, b.st_mtim_nsec)
        && a.xattrs == b.xattrs
}

fn hash_name(keys: &RandomState, directory: DirId, name: &[u8]) -> u64 {
    let mut hasher = keys.build_hasher();
    hasher.write_u32(directory.0);
    hasher.write(name);
    hasher.finish()
}

fn bytes_of<'b>(bytes: &'b [u8], name: &Name) -> &'b [u8] {
    &bytes[name.at as usize..][..usize::from(name.len)]
}

impl<H: FsVerityHashValue> FileTree<H> {
    /// Makes the tree that consists of an empty root.
    pub(super) fn new(root: Stat) -> Self {
        Self {
            bytes: Vec::new(),
            names: Vec::new(),
            by_name: HashTable::new(),
            dirs: vec![Dir { stat: 0, names: NONE, held: 0 }],
            leaves: Vec::new(),
            stats: vec![root],
            by_stat: HashTable::new(),
            keys: RandomState::new(),
        }
    }

    fn intern(&mut self, stat: Stat) -> Result<u32> {
        let Self { stats, by_stat, keys, .. } = self;
        let hash = hash_stat(keys, &stat);
        if let Some(number) = by_stat.find(hash, |n| same_stat(&stats[*n as usize], &stat)) {
            return Ok(*number);
        }
        let number = next(stats)?;
        stats.push(stat);
        by_stat.insert_unique(hash, number, |n| hash_stat(keys, &stats[*n as usize]));
        Ok(number)
    }

    fn find(&self, directory: DirId, name: &[u8]) -> Option<u32> {
        let same = |n: &u32| {
            let found = &self.names[*n as usize];
            found.directory == directory && bytes_of(&self.bytes, found) == name
        };
        self.by_name.find(hash_name(&self.keys, directory, name), same).copied()
    }

    /// Returns what has this name in the directory.
    pub(super) fn lookup(&self, directory: DirId, name: &[u8]) -> Option<Child> {
        self.find(directory, name).and_then(|found| self.names[found as usize].child)
    }

    /// Gives a name to a file or directory, in place of what has it.
    ///
    /// # Errors
    /// [`Case::H06Entry`] for more than 32 bits can count.
    pub(super) fn insert(&mut self, directory: DirId, name: &[u8], child: Child) -> Result<()> {
        let number = match self.find(directory, name) {
            Some(found) => found,
            None => self.add_name(directory, name)?,
        };
        if self.names[number as usize].child.replace(child).is_none() {
            self.dirs[directory.index()].held += 1;
        }
        Ok(())
    }

    fn add_name(&mut self, directory: DirId, name: &[u8]) -> Result<u32> {
        let number = next(&self.names)?;
        let too_long = || Refusal::new(Case::H06Entry, "tree", "its names are too long");
        let at = u32::try_from(self.bytes.len()).map_err(|_| too_long())?;
        let len = u16::try_from(name.len()).map_err(|_| too_long())?;
        self.bytes.extend_from_slice(name);
        let next = std::mem::replace(&mut self.dirs[directory.index()].names, number);
        self.names.push(Name { at, len, directory, child: None, next });
        let Self { bytes, names, by_name, keys, .. } = self;
        by_name.insert_unique(hash_name(keys, directory, name), number, |n| {
            let name = &names[*n as usize];
            hash_name(keys, name.directory, bytes_of(bytes, name))
        });
        Ok(number)
    }

    /// Removes a name, and returns what it stood for.
    pub(super) fn remove(&mut self, directory: DirId, name: &[u8]) -> Option<Child> {
        self.find(directory, name).and_then(|found| self.take(NameId(found)))
    }

    /// Removes a name, and returns what it stood for.
    pub(super) fn take(&mut self, NameId(name): NameId) -> Option<Child> {
        let name = &mut self.names[name as usize];
        let child = name.child.take();
        self.dirs[name.directory.index()].held -= u32::from(child.is_some());
        child
    }

    /// Has a name, which stands for something, stand for something else.
    pub(super) fn set(&mut self, NameId(name): NameId, child: Child) {
        self.names[name as usize].child = Some(child);
    }

    /// Removes all names of a directory.
    pub(super) fn clear(&mut self, directory: DirId) {
        let Dir { names, held, .. } = &mut self.dirs[directory.index()];
        *held = 0;
        let mut at = *names;
        while let Some(name) = self.names.get_mut(at as usize) {
            name.child = None;
            at = name.next;
        }
    }

    /// Returns how many names of the directory stand for something.
    pub(super) fn held(&self, directory: DirId) -> usize {
        self.dirs[directory.index()].held as usize
    }

    /// Begins to go through the names of a directory, in no order that means anything.
    pub(super) fn first(&self, directory: DirId) -> NameId {
        NameId(self.dirs[directory.index()].names)
    }

    /// Returns the name at `place` or the next one that stands for something, and moves `place` behind it.
    pub(super) fn step(&self, place: &mut NameId) -> Option<(NameId, &[u8], Child)> {
        while let Some(name) = self.names.get(place.0 as usize) {
            let at = std::mem::replace(place, NameId(name.next));
            if let Some(child) = name.child {
                return Some((at, bytes_of(&self.bytes, name), child));
            }
        }
        None
    }

    /// Lists the names of a directory, and what they stand for, in no order that means anything.
    pub(super) fn list(&self, directory: DirId) -> impl Iterator<Item = (&[u8], Child)> {
        let mut place = self.first(directory);
        std::iter::from_fn(move || self.step(&mut place).map(|(_, name, child)| (name, child)))
    }

    /// Lists the same, sorted by name.
    pub(super) fn sorted(&self, directory: DirId) -> Vec<NameId> {
        let mut place = self.first(directory);
        let mut names: Vec<NameId> = std::iter::from_fn(|| self.step(&mut place).map(|(id, ..)| id)).collect();
        names.sort_unstable_by_key(|id| bytes_of(&self.bytes, &self.names[id.0 as usize]));
        names
    }

    /// Returns a name's bytes, and what it stands for.
    pub(super) fn name(&self, NameId(name): NameId) -> (&[u8], Option<Child>) {
        let name = &self.names[name as usize];
        (bytes_of(&self.bytes, name), name.child)
    }

    /// Makes a directory without a name.
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub(super) fn add_directory(&mut self, stat: Stat) -> Result<DirId> {
        let (id, stat) = (DirId(next(&self.dirs)?), self.intern(stat)?);
        self.dirs.push(Dir { stat, names: NONE, held: 0 });
        Ok(id)
    }

    /// Makes a file without a name.
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub(super) fn add_leaf(&mut self, stat: Stat, content: LeafContent<H>) -> Result<LeafId> {
        let (id, stat) = (LeafId(next(&self.leaves)?), self.intern(stat)?);
        self.leaves.push(Leaf { stat, content });
        Ok(id)
    }

    /// Returns a file's metadata and content.
    pub(super) fn leaf(&self, id: LeafId) -> (&Stat, &LeafContent<H>) {
        let Leaf { stat, content } = &self.leaves[id.index()];
        (&self.stats[*stat as usize], content)
    }

    /// Lists the content of all files, those that have lost their names too.
    pub(super) fn contents(&self) -> impl Iterator<Item = &LeafContent<H>> {
        self.leaves.iter().map(|leaf| &leaf.content)
    }

    /// Returns how many numbers of files there are.
    pub(super) fn leaf_count(&self) -> usize {
        self.leaves.len()
    }

    /// Returns how many numbers of directories there are.
    pub(super) fn dir_count(&self) -> usize {
        self.dirs.len()
    }

    /// Returns the metadata of a file or directory.
    pub(super) fn stat(&self, child: Child) -> &Stat {
        let number = match child {
            Child::Directory(id) => self.dirs[id.index()].stat,
            Child::Leaf(id) => self.leaves[id.index()].stat,
        };
        &self.stats[number as usize]
    }

    /// Changes the metadata of a file or directory.
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub(super) fn set_stat(&mut self, child: Child, stat: Stat) -> Result<()> {
        let stat = self.intern(stat)?;
        match child {
            Child::Directory(id) => self.dirs[id.index()].stat = stat,
            Child::Leaf(id) => self.leaves[id.index()].stat = stat,
        }
        Ok(())
    }

    /// Keeps of all extended attributes those that `keep` says.
    pub(super) fn filter_xattrs(&mut self, keep: impl Fn(&OsStr) -> bool) {
        self.stats.iter_mut().for_each(|stat| stat.xattrs.retain(|name, _| keep(name)));
        // What differed by them may be there twice now.
        self.by_stat.clear();
    }

    /// Counts the names of each file, by its number: those that can be reached from the root.
    pub(super) fn links(&self) -> Vec<u32> {
        let mut links = vec![0; self.leaves.len()];
        let mut todo = vec![ROOT];
        while let Some(directory) = todo.pop() {
            for (_, child) in self.list(directory) {
                match child {
                    Child::Directory(id) => todo.push(id),
                    Child::Leaf(id) => links[id.index()] += 1,
                }
            }
        }
        links
    }

    /// Makes the tree of the composefs crate that is the same.
    pub(super) fn to_composefs(&self) -> FileSystem<H> {
        let mut tree = FileSystem::new(Stat::uninitialized());
        for leaf in &self.leaves {
            tree.push_leaf(self.stats[leaf.stat as usize].clone(), leaf.content.clone());
        }
        tree.root = self.directory_of_composefs(ROOT);
        tree.compact();
        tree
    }

    fn directory_of_composefs(&self, id: DirId) -> Directory<H> {
        let mut made = Directory::new(self.stat(Child::Directory(id)).clone());
        for (name, child) in self.list(id) {
            let inode = match child {
                Child::Directory(id) => Inode::Directory(Box::new(self.directory_of_composefs(id))),
                Child::Leaf(id) => Inode::leaf(composefs::generic_tree::LeafId(id.index())),
            };
            made.insert(OsStr::from_bytes(name), inode);
        }
        made
    }
}
