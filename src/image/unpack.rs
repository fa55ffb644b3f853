//! One layer, unpacked as podman unpacks it into the layer's own directory (containers-storage,
//! `pkg/archive`, `Unpack` with overlay's whiteouts; asked rule by rule, see `tests/same_tree`).
//!
//! Nothing of lower layers is seen here: a parent that the layer does not have comes into being, a symlink of
//! the layer is followed inside the root, a hard link names a file of the layer. Whiteouts are devices 0:0 and
//! opaque directories, and act when the layer is [stacked](super::stack).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::Stat;
use composefs::tree::{LeafContent, RegularFile};

use super::acl::{self, Acl};
use super::tar::{Entry, Kind};
use crate::report::{Case, Refusal, Result};

/// Number of a node; the root is 0.
pub(super) type Id = usize;

/// `MAXSYMLINKS` of the kernel.
const MAX_LINKS: usize = 40;

/// Go's last time as nanoseconds of 64 bits; beyond it, and before 1970, times become 1970 (`system.Chtimes`).
const LAST_SECOND: i64 = i64::MAX / 1_000_000_000;

/// A file or directory of the layer.
#[derive(Debug)]
pub(super) enum Node<H: FsVerityHashValue> {
    Directory(Directory),
    Leaf(Stat, LeafContent<H>),
}

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) stat: Stat,
    pub(super) entries: BTreeMap<Box<[u8]>, Id>,
    /// Nothing of lower layers shows in it.
    pub(super) opaque: bool,
    parent: Id,
}

/// A layer's own files.
#[derive(Debug)]
pub(super) struct Unpacked<H: FsVerityHashValue> {
    pub(super) nodes: Vec<Node<H>>,
    /// The parent that was looked for last, and where it is: entries come directory by directory. As long as
    /// nothing is taken away, what was found stays right.
    last: Option<(Box<[u8]>, Id)>,
    /// Directories that had an entry, and their times: podman sets these at the end.
    times: Vec<(Box<[u8]>, Time)>,
    /// What each entry came to, by its number.
    made: Vec<Option<Id>>,
}

/// Why a path leads nowhere, as the kernel would say it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Astray {
    Missing,
    NoDirectory,
    Loop,
}

impl Astray {
    fn why(self) -> &'static str {
        match self {
            Self::Missing => "there is no such file or directory in its layer",
            Self::NoDirectory => "a parent is no directory",
            Self::Loop => "too many symbolic links",
        }
    }
}

/// Seconds and nanoseconds.
type Time = (i64, u32);

type Walk = std::result::Result<Id, Astray>;

/// What the root of every container's tree is: in a container, the writable layer's own metadata show.
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
    /// What podman refuses too: [`Case::H03Path`] for parents that are no directories and hard links to nothing,
    /// [`Case::H05Xattr`] for attributes that cannot be set; and `trusted.*`, which would act on the mount.
    pub(super) fn new(entries: &[Entry]) -> Result<Self> {
        let root = Directory { stat: root_stat(), entries: BTreeMap::new(), opaque: false, parent: 0 };
        let mut this = Self { nodes: vec![Node::Directory(root)], last: None, times: Vec::new(), made: Vec::new() };
        for entry in entries {
            this.made.push(None);
            this.apply(entry)?;
        }
        for (path, time) in std::mem::take(&mut this.times) {
            let id = this.resolve(&path, true).map_err(|astray| refuse(&path, astray.why()))?;
            let (Node::Directory(Directory { stat, .. }) | Node::Leaf(stat, _)) = &mut this.nodes[id];
            (stat.st_mtim_sec, stat.st_mtim_nsec) = time;
        }
        Ok(this)
    }

    /// Whether the node takes the place of its name away from lower layers: a device 0:0, however it came.
    pub(super) fn is_whiteout(&self, id: Id) -> bool {
        matches!(self.nodes[id], Node::Leaf(_, LeafContent::CharacterDevice(0)))
    }

    fn dir(&mut self, id: Id) -> Result<&mut Directory> {
        match &mut self.nodes[id] {
            Node::Directory(dir) => Ok(dir),
            Node::Leaf(..) => Err(Refusal::new(Case::Bug, "layer", "not a directory")),
        }
    }

    /// Follows a path from the root, symlinks inside of it, the last one only if asked to.
    fn resolve(&self, path: &[u8], last: bool) -> Walk {
        let mut links = 0;
        let mut at = 0;
        // What is still to go, the next part at the end.
        let mut todo: Vec<&[u8]> = path.rsplit(|b| *b == b'/').collect();
        while let Some(part) = todo.pop() {
            if matches!(part, b"" | b".") {
                continue;
            }
            let Node::Directory(dir) = &self.nodes[at] else { return Err(Astray::NoDirectory) };
            if part == b".." {
                at = dir.parent;
                continue;
            }
            let next = *dir.entries.get(part).ok_or(Astray::Missing)?;
            let more = todo.iter().any(|part| !part.is_empty());
            match &self.nodes[next] {
                Node::Leaf(_, LeafContent::Symlink(target)) if more || last => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Astray::Loop);
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

    /// The directory that is to hold `path`, and the name in it. Where the parent is missing it is made, with all
    /// of its own parents.
    fn parent<'n>(&mut self, path: &'n [u8]) -> Result<(Id, &'n [u8])> {
        let (parent, name) = split(path);
        if let Some((_, id)) = self.last.as_ref().filter(|(last, _)| **last == *parent) {
            return Ok((*id, name));
        }
        // What is there is left alone, whatever it is: then it must be a directory, or lead to one.
        if self.resolve(parent, false) == Err(Astray::Missing) {
            self.make_all(parent).map_err(|why| refuse(path, why))?;
        }
        let id = self.resolve(parent, true).map_err(|astray| refuse(path, astray.why()))?;
        match self.nodes[id] {
            Node::Directory(_) => {
                self.last = Some((parent.into(), id));
                Ok((id, name))
            }
            Node::Leaf(..) => Err(refuse(path, Astray::NoDirectory.why())),
        }
    }

    /// `os.MkdirAll`.
    fn make_all(&mut self, path: &[u8]) -> std::result::Result<(), &'static str> {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends.collect::<Vec<_>>() {
            match self.resolve(&path[..end], true) {
                Ok(id) if matches!(self.nodes[id], Node::Directory(_)) => continue,
                Err(Astray::Missing) => {}
                Err(astray) => return Err(astray.why()),
                Ok(_) => return Err(Astray::NoDirectory.why()),
            }
            let (parent, name) = split(&path[..end]);
            let parent = self.resolve(parent, true).map_err(Astray::why)?;
            let Node::Directory(dir) = &self.nodes[parent] else { return Err(Astray::NoDirectory.why()) };
            if dir.entries.contains_key(name) {
                // A symlink to nothing.
                return Err(Astray::Missing.why());
            }
            let mut stat = self.beginning(parent, 0o755, 0o777, true);
            // mkdir(2) gives the bit to directories beneath, and their group changes afterwards.
            stat.st_mode |= dir_mode(&self.nodes[parent]) & 0o2000;
            self.add_directory(parent, name, stat);
        }
        Ok(())
    }

    /// What a new file begins with in the directory `parent`: `mode`, or, where that has a default list,
    /// what of `asked` the list leaves.
    fn beginning(&self, parent: Id, mode: u32, asked: u32, directory: bool) -> Stat {
        let mut stat = Stat { st_mode: mode, ..implied_stat() };
        let Node::Directory(dir) = &self.nodes[parent] else { return stat };
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
        self.add(parent, name, Node::Directory(dir))
    }

    fn add(&mut self, parent: Id, name: &[u8], node: Node<H>) -> Id {
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        if let Node::Directory(dir) = &mut self.nodes[parent] {
            dir.entries.insert(name.into(), id);
        }
        id
    }

    fn apply(&mut self, entry: &Entry) -> Result<()> {
        let path = &*entry.path;
        match &entry.kind {
            Kind::Whiteout => return self.whiteout(path),
            Kind::Opaque => return self.opaque(path),
            Kind::Root => {
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
            (Kind::Directory, Some(id)) if matches!(self.nodes[id], Node::Directory(_)) => id,
            (kind, there) => {
                if there.is_some() {
                    self.last = None;
                    self.dir(parent)?.entries.remove(name);
                }
                match kind {
                    Kind::Hardlink(target) => {
                        let id = self.target(path, target)?;
                        self.dir(parent)?.entries.insert(name.into(), id);
                        id
                    }
                    Kind::Directory => {
                        let stat = self.beginning(parent, entry.stat.st_mode, entry.stat.st_mode, true);
                        self.add_directory(parent, name, stat)
                    }
                    kind => {
                        let content = content(path, kind)?;
                        let mode = entry.stat.st_mode;
                        let stat = match content {
                            // Links have no lists.
                            LeafContent::Symlink(_) => implied_stat(),
                            _ => self.beginning(parent, mode, mode, false),
                        };
                        self.add(parent, name, Node::Leaf(stat, content))
                    }
                }
            }
        };
        if let Some(made) = self.made.last_mut() {
            *made = Some(id);
        }
        self.set(id, entry)
    }

    /// Where the file of each entry lies in the end, without a symlink on the way: one of its names. `None` for
    /// what is no file, or was taken away by a later entry.
    pub(super) fn places(&self) -> Vec<Option<Box<[u8]>>> {
        let mut found: Vec<Option<Box<[u8]>>> = vec![None; self.nodes.len()];
        let mut todo: Vec<(Id, Box<[u8]>)> = vec![(0, Box::default())];
        while let Some((id, path)) = todo.pop() {
            let Node::Directory(dir) = &self.nodes[id] else { continue };
            for (name, child) in &dir.entries {
                let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                let place: Box<[u8]> = [&*path, slash, name].concat().into();
                match self.nodes[*child] {
                    Node::Directory(_) => todo.push((*child, place)),
                    Node::Leaf(..) => found[*child] = Some(place),
                }
            }
        }
        self.made.iter().map(|made| made.and_then(|id| found[id].clone())).collect()
    }

    fn set(&mut self, id: Id, entry: &Entry) -> Result<()> {
        let link = matches!(entry.kind, Kind::Hardlink(_));
        attributes(&mut self.nodes[id], &entry.stat, link)
            .map_err(|(case, why)| Refusal::new(case, String::from_utf8_lossy(&entry.path), why))?;
        if matches!(entry.kind, Kind::Directory) {
            self.times.push((entry.path.clone(), time(&entry.stat)));
        }
        Ok(())
    }

    /// What a hard link names: link(2) follows no last symlink, and takes no directory.
    fn target(&self, path: &[u8], target: &[u8]) -> Result<Id> {
        let shown = String::from_utf8_lossy(target);
        let why = |why: &str| refuse(path, format!("a hard link to {shown}: {why}"));
        let id = self.resolve(target, false).map_err(|astray| why(astray.why()))?;
        match self.nodes[id] {
            Node::Leaf(..) => Ok(id),
            Node::Directory(_) => Err(why("it is a directory")),
        }
    }

    /// A device 0:0 takes the name. What the layer itself has under that name stays: the marker is about lower
    /// layers (image-spec, layer.md).
    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let (parent, _) = split(path);
        // The parent is gone itself, or a file now: there is nothing beneath.
        if self.resolve(parent, false) != Err(Astray::Missing) {
            match self.resolve(parent, true) {
                Err(Astray::NoDirectory) => return Ok(()),
                Ok(id) if matches!(self.nodes[id], Node::Leaf(..)) => return Ok(()),
                _ => {}
            }
        }
        let (parent, name) = self.parent(path)?;
        if !self.dir(parent)?.entries.contains_key(name) {
            self.add(parent, name, Node::Leaf(implied_stat(), LeafContent::CharacterDevice(0)));
        }
        Ok(())
    }

    fn opaque(&mut self, path: &[u8]) -> Result<()> {
        if self.resolve(path, false) == Err(Astray::Missing) {
            self.make_all(path).map_err(|why| refuse(path, why))?;
        }
        let id = self.resolve(path, true).map_err(|astray| refuse(path, astray.why()))?;
        match &mut self.nodes[id] {
            Node::Directory(dir) => dir.opaque = true,
            // podman's attribute does nothing there.
            Node::Leaf(..) => {}
        }
        Ok(())
    }
}

fn dir_mode<H: FsVerityHashValue>(node: &Node<H>) -> u32 {
    match node {
        Node::Directory(dir) => dir.stat.st_mode,
        Node::Leaf(..) => 0,
    }
}

/// Attributes that only overlayfs and its like may write.
fn trusted(entry: &Entry) -> Result<()> {
    match entry.stat.xattrs.keys().find(|name| name.as_bytes().starts_with(b"trusted.")) {
        None => Ok(()),
        Some(name) => {
            let why = format!("{}: attributes of that kind are not for images", name.to_string_lossy());
            Err(Refusal::new(Case::H05Xattr, String::from_utf8_lossy(&entry.path), why))
        }
    }
}

fn content<H: FsVerityHashValue>(path: &[u8], kind: &Kind) -> Result<LeafContent<H>> {
    Ok(match kind {
        Kind::Inline(data) => LeafContent::Regular(RegularFile::Inline(data.clone())),
        Kind::External(digest, size) => {
            let id = H::read_from_bytes(digest.as_bytes()).map_err(|_| {
                let shown = String::from_utf8_lossy(path);
                Refusal::new(Case::D09Algorithm, shown, "digests of two algorithms in one tree")
            })?;
            LeafContent::Regular(RegularFile::External(id, *size))
        }
        Kind::Symlink(target) => LeafContent::Symlink(OsStr::from_bytes(target).into()),
        Kind::CharacterDevice(number) => LeafContent::CharacterDevice(*number),
        Kind::BlockDevice(number) => LeafContent::BlockDevice(*number),
        Kind::Fifo => LeafContent::Fifo,
        Kind::Directory | Kind::Root | Kind::Hardlink(_) | Kind::Whiteout | Kind::Opaque => {
            return Err(Refusal::new(Case::Bug, String::from_utf8_lossy(path), "no file"));
        }
    })
}

/// The time that `system.Chtimes` sets.
fn time(given: &Stat) -> Time {
    match given.st_mtim_sec {
        0..=LAST_SECOND => (given.st_mtim_sec, given.st_mtim_nsec),
        _ => (0, 0),
    }
}

/// What a file's type allows.
struct Type {
    directory: bool,
    regular: bool,
    symlink: bool,
}

/// Owner, mode, time and attributes of an entry go to its file, in this order: each may change what the one
/// before has set. `link` says that the entry is another name of it.
fn attributes<H: FsVerityHashValue>(
    node: &mut Node<H>,
    given: &Stat,
    link: bool,
) -> std::result::Result<(), (Case, String)> {
    let (stat, kind) = match node {
        Node::Directory(dir) => (&mut dir.stat, Type { directory: true, regular: false, symlink: false }),
        Node::Leaf(stat, content) => {
            let regular = matches!(content, LeafContent::Regular(_));
            let symlink = matches!(content, LeafContent::Symlink(_));
            (stat, Type { directory: false, regular, symlink })
        }
    };
    if kind.regular && (stat.st_uid, stat.st_gid) != (given.st_uid, given.st_gid) {
        // chown(2) takes it away, and is not called for nothing.
        stat.xattrs.remove(OsStr::new("security.capability"));
    }
    (stat.st_uid, stat.st_gid) = (given.st_uid, given.st_gid);
    let access = OsStr::from_bytes(acl::ACCESS);
    if kind.symlink {
        stat.st_mode = 0o777;
    } else {
        stat.st_mode = given.st_mode;
        if let Some(Ok(Some(mut list))) = stat.xattrs.get(access).map(|value| Acl::parse(value)) {
            list.set_mode(given.st_mode);
            stat.xattrs.insert(access.into(), list.value());
        }
    }
    (stat.st_mtim_sec, stat.st_mtim_nsec) = match kind.symlink {
        // The time of another name of a symlink is passed over.
        true if link => (stat.st_mtim_sec, stat.st_mtim_nsec),
        true => (given.st_mtim_sec, given.st_mtim_nsec),
        false => time(given),
    };
    for (name, value) in &given.xattrs {
        attribute(stat, &kind, name.as_bytes(), value)
            .map_err(|why| (Case::H05Xattr, format!("{}: {why}", name.to_string_lossy())))?;
    }
    Ok(())
}

/// lsetxattr(2) by root. What the kernel does not know podman passes over, and so do we.
fn attribute(stat: &mut Stat, kind: &Type, name: &[u8], value: &[u8]) -> std::result::Result<(), &'static str> {
    let key = OsStr::from_bytes(name);
    match name {
        acl::ACCESS | acl::DEFAULT if kind.symlink => {}
        acl::ACCESS => match Acl::parse(value)? {
            None => _ = stat.xattrs.remove(key),
            Some(list) => {
                let (mode, all) = list.mode();
                stat.st_mode = (stat.st_mode & !0o777) | mode;
                match all {
                    true => _ = stat.xattrs.remove(key),
                    false => _ = stat.xattrs.insert(key.into(), list.value()),
                }
            }
        },
        acl::DEFAULT => match Acl::parse(value)? {
            None => _ = stat.xattrs.remove(key),
            Some(_) if !kind.directory => return Err("only directories have a default list"),
            Some(list) => _ = stat.xattrs.insert(key.into(), list.value()),
        },
        // The mount gives the label.
        b"security.selinux" => {}
        _ if name.starts_with(b"security.") => _ = stat.xattrs.insert(key.into(), value.into()),
        _ if name.starts_with(b"user.") && (kind.regular || kind.directory) => {
            _ = stat.xattrs.insert(key.into(), value.into());
        }
        _ if name.starts_with(b"user.") => return Err("only files and directories have attributes of users"),
        _ => {}
    }
    Ok(())
}
