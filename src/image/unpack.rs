//! One layer, unpacked as podman unpacks it into the layer's own directory (containers-storage,
//! `pkg/archive`, `Unpack` with overlay's whiteouts; asked rule by rule, see `tests/same_tree`).
//!
//! Nothing of lower layers is seen here: a parent that the layer does not have is made, a symlink of the layer is
//! followed inside the root, a hard link names a file of the layer. Whiteouts are devices 0:0 and opaque directories,
//! and act when the layer is [stacked](super::stack).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::Stat;
use composefs::tree::LeafContent;

use super::acl::{self, Acl};
use super::tar::{EntryKind, TarEntry};
use super::unpacked_attributes::{self, FileKind, Time, content, time};
use crate::error::{Case, Refusal, Result};

/// Number of a node; the root is 0.
pub(super) type Id = usize;

/// `MAXSYMLINKS` of the kernel.
const MAX_LINKS: usize = 40;

/// A file or directory of the layer.
#[derive(Debug)]
pub(super) enum UnpackedNode<H: FsVerityHashValue> {
    Directory(Directory),
    Leaf(Stat, LeafContent<H>),
}

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) stat: Stat,
    pub(super) entries: BTreeMap<Box<[u8]>, Id>,
    /// Whether nothing of lower layers shows in it.
    pub(super) opaque: bool,
    parent: Id,
}

/// A layer's own files.
#[derive(Debug)]
pub(super) struct Unpacked<H: FsVerityHashValue> {
    pub(super) nodes: Vec<UnpackedNode<H>>,
    /// The parent that was looked for last, and where it is: entries come directory by directory. As long as nothing is
    /// taken away, what was found stays true.
    last: Option<(Box<[u8]>, Id)>,
    /// Directories that had an entry, and their times: podman sets these at the end.
    times: Vec<(Box<[u8]>, Time)>,
    /// The node that each entry made, by the entry's number.
    made: Vec<Option<Id>>,
}

/// Why a path leads nowhere, as the kernel would say it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LookupError {
    Missing,
    NoDirectory,
    Loop,
}

impl LookupError {
    fn why(self) -> &'static str {
        match self {
            Self::Missing => "there is no such file or directory in its layer",
            Self::NoDirectory => "a parent is no directory",
            Self::Loop => "too many symbolic links",
        }
    }
}

type Lookup = std::result::Result<Id, LookupError>;

/// Returns the metadata of the root of every container's tree: a container sees those of the writable layer instead.
pub(super) fn root_stat() -> Stat {
    Stat { st_mode: 0o555, ..Stat::uninitialized() }
}

fn implied_stat() -> Stat {
    Stat { st_mode: 0o755, ..Stat::uninitialized() }
}

fn refuse(path: &[u8], why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Case::H03Path, String::from_utf8_lossy(path), why)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.iter().rposition(|b| *b == b'/').map_or((&path[..0], path), |at| (&path[..at], &path[at + 1..]))
}

impl<H: FsVerityHashValue> Unpacked<H> {
    /// Unpacks the entries of a layer, in their order.
    ///
    /// # Errors
    /// What podman refuses too: [`Case::H03Path`] for parents that are not directories and hard links to nothing,
    /// [`Case::H05Xattr`] for attributes that cannot be set; and `trusted.*`, which would act on the mount.
    pub(super) fn new(entries: &[TarEntry]) -> Result<Self> {
        let root = Directory { stat: root_stat(), entries: BTreeMap::new(), opaque: false, parent: 0 };
        let mut this =
            Self { nodes: vec![UnpackedNode::Directory(root)], last: None, times: Vec::new(), made: Vec::new() };
        for entry in entries {
            this.made.push(None);
            this.apply(entry)?;
        }
        for (path, time) in std::mem::take(&mut this.times) {
            let id = this.resolve(&path, true).map_err(|astray| refuse(&path, astray.why()))?;
            let (UnpackedNode::Directory(Directory { stat, .. }) | UnpackedNode::Leaf(stat, _)) = &mut this.nodes[id];
            (stat.st_mtim_sec, stat.st_mtim_nsec) = time;
        }
        Ok(this)
    }

    /// Returns whether the node hides its name in lower layers: it is a device 0:0, however it came about.
    pub(super) fn is_whiteout(&self, id: Id) -> bool {
        matches!(self.nodes[id], UnpackedNode::Leaf(_, LeafContent::CharacterDevice(0)))
    }

    fn dir(&mut self, id: Id) -> Result<&mut Directory> {
        match &mut self.nodes[id] {
            UnpackedNode::Directory(dir) => Ok(dir),
            UnpackedNode::Leaf(..) => Err(Refusal::new(Case::Bug, "layer", "not a directory")),
        }
    }

    /// Follows a path from the root, with symlinks inside of it, the last one only if asked to.
    fn resolve(&self, path: &[u8], last: bool) -> Lookup {
        let mut links = 0;
        let mut at = 0;
        // The parts that are still to be followed, the next at the end.
        let mut todo: Vec<&[u8]> = path.rsplit(|b| *b == b'/').collect();
        while let Some(part) = todo.pop() {
            if matches!(part, b"" | b".") {
                continue;
            }
            let UnpackedNode::Directory(dir) = &self.nodes[at] else { return Err(LookupError::NoDirectory) };
            if part == b".." {
                at = dir.parent;
                continue;
            }
            let next = *dir.entries.get(part).ok_or(LookupError::Missing)?;
            let more = todo.iter().any(|part| !part.is_empty());
            match &self.nodes[next] {
                UnpackedNode::Leaf(_, LeafContent::Symlink(target)) if more || last => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(LookupError::Loop);
                    }
                    let target = target.as_bytes();
                    if target.starts_with(b"/") {
                        at = 0;
                    }
                    todo.extend(target.rsplit(|b| *b == b'/'));
                }
                _ => at = next,
            }
        }
        Ok(at)
    }

    /// Finds the directory that is to hold `path`, and the name in it. Where the parent is missing it is made, with all
    /// of its own parents.
    fn parent<'n>(&mut self, path: &'n [u8]) -> Result<(Id, &'n [u8])> {
        let (parent, name) = split(path);
        if let Some((_, id)) = self.last.as_ref().filter(|(last, _)| **last == *parent) {
            return Ok((*id, name));
        }
        // What is there is left alone, whatever it is: then it must be a directory, or lead to one.
        if self.resolve(parent, false) == Err(LookupError::Missing) {
            self.make_all(parent).map_err(|why| refuse(path, why))?;
        }
        let id = self.resolve(parent, true).map_err(|astray| refuse(path, astray.why()))?;
        match self.nodes[id] {
            UnpackedNode::Directory(_) => {
                self.last = Some((parent.into(), id));
                Ok((id, name))
            }
            UnpackedNode::Leaf(..) => Err(refuse(path, LookupError::NoDirectory.why())),
        }
    }

    /// Makes a directory and its parents as `os.MkdirAll` does.
    fn make_all(&mut self, path: &[u8]) -> std::result::Result<(), &'static str> {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends.collect::<Vec<_>>() {
            match self.resolve(&path[..end], true) {
                Ok(id) if matches!(self.nodes[id], UnpackedNode::Directory(_)) => continue,
                Err(LookupError::Missing) => {}
                Err(astray) => return Err(astray.why()),
                Ok(_) => return Err(LookupError::NoDirectory.why()),
            }
            let (parent, name) = split(&path[..end]);
            let parent = self.resolve(parent, true).map_err(LookupError::why)?;
            let UnpackedNode::Directory(dir) = &self.nodes[parent] else { return Err(LookupError::NoDirectory.why()) };
            if dir.entries.contains_key(name) {
                // A symlink to nothing.
                return Err(LookupError::Missing.why());
            }
            let mut stat = self.beginning(parent, 0o755, 0o777, true);
            // mkdir(2) gives the bit to directories beneath, and their group changes afterwards.
            stat.st_mode |= dir_mode(&self.nodes[parent]) & 0o2000;
            self.add_directory(parent, name, stat);
        }
        Ok(())
    }

    /// Returns the metadata that a new file begins with in the directory `parent`: `mode`, or, where the directory has
    /// a default list, what the list leaves of `asked`.
    fn beginning(&self, parent: Id, mode: u32, asked: u32, directory: bool) -> Stat {
        let mut stat = Stat { st_mode: mode, ..implied_stat() };
        let UnpackedNode::Directory(dir) = &self.nodes[parent] else { return stat };
        let default = OsStr::from_bytes(acl::DEFAULT);
        let Some(value) = dir.stat.xattrs.get(default) else { return stat };
        let Ok(Some(list)) = Acl::parse(value) else { return stat };
        let (mode, begins) = list.create(asked);
        stat.st_mode = mode;
        if let Some(list) = begins {
            stat.xattrs.insert(OsStr::from_bytes(acl::ACCESS).into(), list.value());
        }
        if directory {
            stat.xattrs.insert(default.into(), value.clone());
        }
        stat
    }

    fn add_directory(&mut self, parent: Id, name: &[u8], stat: Stat) -> Id {
        let dir = Directory { stat, entries: BTreeMap::new(), opaque: false, parent };
        self.add(parent, name, UnpackedNode::Directory(dir))
    }

    fn add(&mut self, parent: Id, name: &[u8], node: UnpackedNode<H>) -> Id {
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        if let UnpackedNode::Directory(dir) = &mut self.nodes[parent] {
            dir.entries.insert(name.into(), id);
        }
        id
    }

    fn apply(&mut self, entry: &TarEntry) -> Result<()> {
        let path = &*entry.path;
        match &entry.kind {
            EntryKind::Whiteout => return self.whiteout(path),
            EntryKind::Opaque => return self.opaque(path),
            EntryKind::Root => {
                trusted(entry)?;
                return self.set(0, entry);
            }
            // The root's own metadata never show.
            _ if path.is_empty() => return trusted(entry),
            _ => trusted(entry)?,
        }
        let (parent, name) = self.parent(path)?;
        let there = self.dir(parent)?.entries.get(name).copied();
        let id = match (&entry.kind, there) {
            (EntryKind::Directory, Some(id)) if matches!(self.nodes[id], UnpackedNode::Directory(_)) => id,
            (kind, there) => {
                if there.is_some() {
                    self.last = None;
                    self.dir(parent)?.entries.remove(name);
                }
                match kind {
                    EntryKind::Hardlink(target) => {
                        let id = self.target(path, target)?;
                        self.dir(parent)?.entries.insert(name.into(), id);
                        id
                    }
                    EntryKind::Directory => {
                        let stat = self.beginning(parent, entry.stat.st_mode, entry.stat.st_mode, true);
                        self.add_directory(parent, name, stat)
                    }
                    kind => {
                        let content = content(path, kind)?;
                        let mode = entry.stat.st_mode;
                        let stat = match content {
                            // Symlinks have no lists.
                            LeafContent::Symlink(_) => implied_stat(),
                            _ => self.beginning(parent, mode, mode, false),
                        };
                        self.add(parent, name, UnpackedNode::Leaf(stat, content))
                    }
                }
            }
        };
        if let Some(made) = self.made.last_mut() {
            *made = Some(id);
        }
        self.set(id, entry)
    }

    /// Finds where the file of each entry lies in the end, without a symlink in the path: one of its names. `None` for
    /// what is not a file, or was taken away by a later entry.
    pub(super) fn places(&self) -> Vec<Option<Box<[u8]>>> {
        let mut found: Vec<Option<Box<[u8]>>> = vec![None; self.nodes.len()];
        let mut todo: Vec<(Id, Box<[u8]>)> = vec![(0, Box::default())];
        while let Some((id, path)) = todo.pop() {
            let UnpackedNode::Directory(dir) = &self.nodes[id] else { continue };
            for (name, child) in &dir.entries {
                let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                let place: Box<[u8]> = [&*path, slash, name].concat().into();
                match self.nodes[*child] {
                    UnpackedNode::Directory(_) => todo.push((*child, place)),
                    UnpackedNode::Leaf(..) => found[*child] = Some(place),
                }
            }
        }
        self.made.iter().map(|made| made.and_then(|id| found[id].clone())).collect()
    }

    fn set(&mut self, id: Id, entry: &TarEntry) -> Result<()> {
        let link = matches!(entry.kind, EntryKind::Hardlink(_));
        attributes(&mut self.nodes[id], &entry.stat, link)
            .map_err(|(case, why)| Refusal::new(case, String::from_utf8_lossy(&entry.path), why))?;
        if matches!(entry.kind, EntryKind::Directory) {
            self.times.push((entry.path.clone(), time(&entry.stat)));
        }
        Ok(())
    }

    /// Finds what a hard link names: link(2) follows no last symlink, and takes no directory.
    fn target(&self, path: &[u8], target: &[u8]) -> Result<Id> {
        let shown = String::from_utf8_lossy(target);
        let why = |why: &str| refuse(path, format!("a hard link to {shown}: {why}"));
        let id = self.resolve(target, false).map_err(|astray| why(astray.why()))?;
        match self.nodes[id] {
            UnpackedNode::Leaf(..) => Ok(id),
            UnpackedNode::Directory(_) => Err(why("it is a directory")),
        }
    }

    /// Puts a device 0:0 under the name. What the layer itself has under that name stays: the marker is about lower
    /// layers (image-spec, layer.md).
    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let (parent, _) = split(path);
        // Where the parent is itself gone, or a file by now, there is nothing beneath.
        if self.resolve(parent, false) != Err(LookupError::Missing) {
            match self.resolve(parent, true) {
                Err(LookupError::NoDirectory) => return Ok(()),
                Ok(id) if matches!(self.nodes[id], UnpackedNode::Leaf(..)) => return Ok(()),
                _ => {}
            }
        }
        let (parent, name) = self.parent(path)?;
        if !self.dir(parent)?.entries.contains_key(name) {
            self.add(parent, name, UnpackedNode::Leaf(implied_stat(), LeafContent::CharacterDevice(0)));
        }
        Ok(())
    }

    fn opaque(&mut self, path: &[u8]) -> Result<()> {
        if self.resolve(path, false) == Err(LookupError::Missing) {
            self.make_all(path).map_err(|why| refuse(path, why))?;
        }
        let id = self.resolve(path, true).map_err(|astray| refuse(path, astray.why()))?;
        match &mut self.nodes[id] {
            UnpackedNode::Directory(dir) => dir.opaque = true,
            // podman's attribute does nothing there.
            UnpackedNode::Leaf(..) => {}
        }
        Ok(())
    }
}

fn dir_mode<H: FsVerityHashValue>(node: &UnpackedNode<H>) -> u32 {
    match node {
        UnpackedNode::Directory(dir) => dir.stat.st_mode,
        UnpackedNode::Leaf(..) => 0,
    }
}

/// Refuses attributes that only overlayfs and its like may write.
fn trusted(entry: &TarEntry) -> Result<()> {
    match entry.stat.xattrs.keys().find(|name| name.as_bytes().starts_with(b"trusted.")) {
        None => Ok(()),
        Some(name) => {
            let why = format!("{}: attributes of that kind are not for images", name.to_string_lossy());
            Err(Refusal::new(Case::H05Xattr, String::from_utf8_lossy(&entry.path), why))
        }
    }
}

/// Gives a file owner, mode, time and attributes of an entry; `link` says that the entry is another name of it.
fn attributes<H: FsVerityHashValue>(
    node: &mut UnpackedNode<H>,
    given: &Stat,
    link: bool,
) -> std::result::Result<(), (Case, String)> {
    let (stat, kind) = match node {
        UnpackedNode::Directory(dir) => (&mut dir.stat, FileKind { directory: true, regular: false, symlink: false }),
        UnpackedNode::Leaf(stat, content) => {
            let regular = matches!(content, LeafContent::Regular(_));
            let symlink = matches!(content, LeafContent::Symlink(_));
            (stat, FileKind { directory: false, regular, symlink })
        }
    };
    unpacked_attributes::attributes(stat, &kind, given, link)
}
