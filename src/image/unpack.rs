//! One layer, unpacked as podman unpacks it into the layer's own directory (containers-storage,
//! `pkg/archive`, `Unpack` with overlay's whiteouts; asked rule by rule, see `tests/same_tree`).
//!
//! Nothing of lower layers is seen here: a parent that the layer does not have is made, a symlink of the layer is
//! followed inside the root, a hard link names a file of the layer. Whiteouts are devices 0:0 and opaque directories,
//! and act when the layer is [stacked](super::stack).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::Stat;
use composefs::tree::LeafContent;

use super::acl::{self, Acl};
use super::file_tree::{Child, DirId, FileTree, ROOT};
use super::tar::{EntryKind, TarEntry};
use super::unpacked_attributes::{FileKind, Time, attributes, content, time};
use crate::error::{Case, Refusal, Result};

/// `MAXSYMLINKS` of the kernel.
const MAX_LINKS: usize = 40;

/// A layer's own files.
#[derive(Debug)]
pub(super) struct Unpacked<H: FsVerityHashValue> {
    pub(super) tree: FileTree<H>,
    /// What else is to be known of each directory, by its number.
    dirs: Vec<UnpackedDirectory>,
    /// The parent that was looked for last, and where it is: entries come directory by directory. As long as nothing is
    /// taken away, what was found stays true.
    last: Option<(Box<[u8]>, DirId)>,
    /// Directories that had an entry, and their times: podman sets these at the end.
    times: Vec<(Box<[u8]>, Time)>,
    /// What each entry made, by the entry's number.
    made: Vec<Option<Child>>,
}

#[derive(Debug)]
struct UnpackedDirectory {
    parent: DirId,
    /// Whether nothing of lower layers shows in it.
    opaque: bool,
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

type Lookup = std::result::Result<Child, LookupError>;

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
        let mut this = Self {
            tree: FileTree::new(root_stat()),
            dirs: vec![UnpackedDirectory { parent: ROOT, opaque: false }],
            last: None,
            times: Vec::new(),
            made: Vec::new(),
        };
        for entry in entries {
            this.made.push(None);
            this.apply(entry)?;
        }
        for (path, time) in std::mem::take(&mut this.times) {
            let child = this.resolve(&path, true).map_err(|astray| refuse(&path, astray.why()))?;
            let mut stat = this.tree.stat(child).clone();
            (stat.st_mtim_sec, stat.st_mtim_nsec) = time;
            this.tree.set_stat(child, stat)?;
        }
        Ok(this)
    }

    /// Returns whether the file hides its name in lower layers: it is a device 0:0, however it came about.
    pub(super) fn is_whiteout(&self, child: Child) -> bool {
        match child {
            Child::Leaf(id) => matches!(self.tree.leaf(id).1, LeafContent::CharacterDevice(0)),
            Child::Directory(_) => false,
        }
    }

    /// Returns whether nothing of lower layers shows in the directory.
    pub(super) fn is_opaque(&self, id: DirId) -> bool {
        self.dirs[id.index()].opaque
    }

    /// Follows a path from the root, with symlinks inside of it, the last one only if asked to.
    fn resolve(&self, path: &[u8], last: bool) -> Lookup {
        let mut links = 0;
        let mut at = Child::Directory(ROOT);
        // The parts that are still to be followed, the next at the end.
        let mut todo: Vec<&[u8]> = path.rsplit(|b| *b == b'/').collect();
        while let Some(part) = todo.pop() {
            if matches!(part, b"" | b".") {
                continue;
            }
            let Child::Directory(dir) = at else { return Err(LookupError::NoDirectory) };
            if part == b".." {
                at = Child::Directory(self.dirs[dir.index()].parent);
                continue;
            }
            let next = self.tree.lookup(dir, part).ok_or(LookupError::Missing)?;
            let more = todo.iter().any(|part| !part.is_empty());
            match self.symlink(next) {
                Some(target) if more || last => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(LookupError::Loop);
                    }
                    if target.starts_with(b"/") {
                        at = Child::Directory(ROOT);
                    }
                    todo.extend(target.rsplit(|b| *b == b'/'));
                }
                _ => at = next,
            }
        }
        Ok(at)
    }

    fn symlink(&self, child: Child) -> Option<&[u8]> {
        let Child::Leaf(id) = child else { return None };
        match self.tree.leaf(id).1 {
            LeafContent::Symlink(target) => Some(target.as_bytes()),
            _ => None,
        }
    }

    /// Finds the directory that is to hold `path`, and the name in it. Where the parent is missing it is made, with all
    /// of its own parents.
    fn parent<'n>(&mut self, path: &'n [u8]) -> Result<(DirId, &'n [u8])> {
        let (parent, name) = split(path);
        if let Some((_, id)) = self.last.as_ref().filter(|(last, _)| **last == *parent) {
            return Ok((*id, name));
        }
        // What is there is left alone, whatever it is: then it must be a directory, or lead to one.
        if self.resolve(parent, false) == Err(LookupError::Missing) {
            self.make_all(parent, path)?;
        }
        let id = self.resolve(parent, true).map_err(|astray| refuse(path, astray.why()))?;
        match id {
            Child::Directory(id) => {
                self.last = Some((parent.into(), id));
                Ok((id, name))
            }
            Child::Leaf(_) => Err(refuse(path, LookupError::NoDirectory.why())),
        }
    }

    /// Makes a directory and its parents, for `whom`, as `os.MkdirAll` does.
    fn make_all(&mut self, path: &[u8], whom: &[u8]) -> Result<()> {
        let refused = |why: LookupError| refuse(whom, why.why());
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends.collect::<Vec<_>>() {
            match self.resolve(&path[..end], true) {
                Ok(Child::Directory(_)) => continue,
                Err(LookupError::Missing) => {}
                Err(astray) => return Err(refused(astray)),
                Ok(Child::Leaf(_)) => return Err(refused(LookupError::NoDirectory)),
            }
            let (parent, name) = split(&path[..end]);
            let Child::Directory(parent) = self.resolve(parent, true).map_err(refused)? else {
                return Err(refused(LookupError::NoDirectory));
            };
            if self.tree.lookup(parent, name).is_some() {
                // A symlink to nothing.
                return Err(refused(LookupError::Missing));
            }
            let mut stat = self.beginning(parent, 0o755, 0o777, true);
            // mkdir(2) gives the bit to directories beneath, and their group changes afterwards.
            stat.st_mode |= self.tree.stat(Child::Directory(parent)).st_mode & 0o2000;
            self.add_directory(parent, name, stat)?;
        }
        Ok(())
    }

    /// Returns the metadata that a new file begins with in the directory `parent`: `mode`, or, where the directory has
    /// a default list, what the list leaves of `asked`.
    fn beginning(&self, parent: DirId, mode: u32, asked: u32, directory: bool) -> Stat {
        let mut stat = Stat { st_mode: mode, ..implied_stat() };
        let default = OsStr::from_bytes(acl::DEFAULT);
        let given = self.tree.stat(Child::Directory(parent));
        let Some(value) = given.xattrs.get(default) else { return stat };
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

    fn add_directory(&mut self, parent: DirId, name: &[u8], stat: Stat) -> Result<Child> {
        self.dirs.push(UnpackedDirectory { parent, opaque: false });
        let child = Child::Directory(self.tree.add_directory(stat)?);
        self.tree.insert(parent, name, child)?;
        Ok(child)
    }

    fn add_leaf(&mut self, parent: DirId, name: &[u8], stat: Stat, content: LeafContent<H>) -> Result<Child> {
        let child = Child::Leaf(self.tree.add_leaf(stat, content)?);
        self.tree.insert(parent, name, child)?;
        Ok(child)
    }

    fn apply(&mut self, entry: &TarEntry) -> Result<()> {
        let path = &*entry.path;
        match &entry.kind {
            EntryKind::Whiteout => return self.whiteout(path),
            EntryKind::Opaque => return self.opaque(path),
            EntryKind::Root => {
                trusted(entry)?;
                return self.set(Child::Directory(ROOT), entry);
            }
            // The root's own metadata never show.
            _ if path.is_empty() => return trusted(entry),
            _ => trusted(entry)?,
        }
        let (parent, name) = self.parent(path)?;
        let there = self.tree.lookup(parent, name);
        let child = match (&entry.kind, there) {
            (EntryKind::Directory, Some(child @ Child::Directory(_))) => child,
            (kind, there) => {
                if there.is_some() {
                    self.last = None;
                    self.tree.remove(parent, name);
                }
                match kind {
                    EntryKind::Hardlink(target) => {
                        let child = self.target(path, target)?;
                        self.tree.insert(parent, name, child)?;
                        child
                    }
                    EntryKind::Directory => {
                        let stat = self.beginning(parent, entry.stat.st_mode, entry.stat.st_mode, true);
                        self.add_directory(parent, name, stat)?
                    }
                    kind => {
                        let content = content(path, kind)?;
                        let mode = entry.stat.st_mode;
                        let stat = match content {
                            // Symlinks have no lists.
                            LeafContent::Symlink(_) => implied_stat(),
                            _ => self.beginning(parent, mode, mode, false),
                        };
                        self.add_leaf(parent, name, stat, content)?
                    }
                }
            }
        };
        if let Some(made) = self.made.last_mut() {
            *made = Some(child);
        }
        self.set(child, entry)
    }

    /// Finds where the file of each entry lies in the end, without a symlink in the path: one of its names. `None` for
    /// what is not a file, or was taken away by a later entry.
    pub(super) fn places(&self) -> Vec<Option<Box<[u8]>>> {
        let mut found: Vec<Option<Box<[u8]>>> = vec![None; self.tree.leaf_count()];
        let mut todo: Vec<(DirId, Box<[u8]>)> = vec![(ROOT, Box::default())];
        while let Some((dir, path)) = todo.pop() {
            for (name, child) in self.tree.list(dir) {
                let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                let place: Box<[u8]> = [&*path, slash, name].concat().into();
                match child {
                    Child::Directory(id) => todo.push((id, place)),
                    Child::Leaf(id) => found[id.index()] = Some(place),
                }
            }
        }
        let place = |made: &Option<Child>| match made {
            Some(Child::Leaf(id)) => found[id.index()].clone(),
            _ => None,
        };
        self.made.iter().map(place).collect()
    }

    fn set(&mut self, child: Child, entry: &TarEntry) -> Result<()> {
        let link = matches!(entry.kind, EntryKind::Hardlink(_));
        let kind = match child {
            Child::Directory(_) => FileKind { directory: true, regular: false, symlink: false },
            Child::Leaf(id) => {
                let content = self.tree.leaf(id).1;
                let regular = matches!(content, LeafContent::Regular(_));
                let symlink = matches!(content, LeafContent::Symlink(_));
                FileKind { directory: false, regular, symlink }
            }
        };
        let mut stat = self.tree.stat(child).clone();
        attributes(&mut stat, &kind, &entry.stat, link)
            .map_err(|(case, why)| Refusal::new(case, String::from_utf8_lossy(&entry.path), why))?;
        self.tree.set_stat(child, stat)?;
        if matches!(entry.kind, EntryKind::Directory) {
            self.times.push((entry.path.clone(), time(&entry.stat)));
        }
        Ok(())
    }

    /// Finds what a hard link names: link(2) follows no last symlink, and takes no directory.
    fn target(&self, path: &[u8], target: &[u8]) -> Result<Child> {
        let shown = String::from_utf8_lossy(target);
        let why = |why: &str| refuse(path, format!("a hard link to {shown}: {why}"));
        match self.resolve(target, false).map_err(|astray| why(astray.why()))? {
            Child::Directory(_) => Err(why("it is a directory")),
            leaf => Ok(leaf),
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
                Ok(Child::Leaf(_)) => return Ok(()),
                _ => {}
            }
        }
        let (parent, name) = self.parent(path)?;
        if self.tree.lookup(parent, name).is_none() {
            self.add_leaf(parent, name, implied_stat(), LeafContent::CharacterDevice(0))?;
        }
        Ok(())
    }

    fn opaque(&mut self, path: &[u8]) -> Result<()> {
        if self.resolve(path, false) == Err(LookupError::Missing) {
            self.make_all(path, path)?;
        }
        match self.resolve(path, true).map_err(|astray| refuse(path, astray.why()))? {
            Child::Directory(id) => self.dirs[id.index()].opaque = true,
            // podman's attribute does nothing there.
            Child::Leaf(_) => {}
        }
        Ok(())
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
