//! Entries of layers applied in order: the merged tree, and for each layer the tree that makes an
//! overlay stack of layers show the same.
//!
//! Whiteouts act at their place in the stream, as the composefs importers do: an entry that comes
//! before its own layer's marker is removed by it. The OCI specification would keep it. This is
//! deliberate: the merged digest of an image is then the one that other composefs tools compute.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::dumpfile::write_dumpfile;
use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::{ImageError, LeafId, OciTransformOptions, Stat};
use composefs::tree::{Directory, FileSystem, Inode, LeafContent, RegularFile};

use super::erofs::is_stub_name;
use super::tar::{Entry, Kind};
use crate::report::{Case, Refusal, Result};

/// The tree of one image: all layers on top of each other, before root's metadata and xattrs are made
/// canonical.
#[derive(Debug)]
pub struct Images<H: FsVerityHashValue> {
    merged: FileSystem<H>,
}

/// Takes the tree of each layer, for stacking, as soon as there is one.
pub type Stack<'a, H> = &'a mut dyn FnMut(LayerTree<H>);

/// The tree of one layer. Where it takes something away from lower layers it holds a device with
/// the number `whiteout`, which no file of the layer has; the writer turns it into 0:0.
#[derive(Debug)]
pub struct LayerTree<H: FsVerityHashValue> {
    /// The tree.
    pub tree: FileSystem<H>,
    /// The device number that stands for a whiteout.
    pub whiteout: u64,
}

impl<H: FsVerityHashValue> Images<H> {
    /// Applies the layers, lowest first; `stack` gets the layers' own trees, if they are wanted too.
    ///
    /// # Errors
    /// [`Case::H03Path`] for missing parents and hard links to nothing, [`Case::H06Entry`] for what
    /// EROFS cannot hold; the layer's number is part of the message.
    pub fn build<L: Into<Vec<Entry>>>(
        layers: impl IntoIterator<Item = L>,
        stack: Option<Stack<'_, H>>,
    ) -> Result<Self> {
        // Seen only in a stack of layers of which none has an entry for the root: then users other
        // than root are to get in all the same.
        Self::build_on(Stat { st_mode: 0o755, ..Stat::uninitialized() }, layers, stack)
    }

    /// Like [`Self::build`], with the root's metadata before the first layer.
    pub(super) fn build_on<L: Into<Vec<Entry>>>(
        root: Stat,
        layers: impl IntoIterator<Item = L>,
        mut stack: Option<Stack<'_, H>>,
    ) -> Result<Self> {
        let mut builder = Builder::new(root);
        for (number, entries) in layers.into_iter().enumerate() {
            let within = |r: Refusal| r.within(format!("layer {number}"));
            builder.begin_layer();
            for entry in entries.into() {
                builder.apply(entry).map_err(within)?;
            }
            if let Some(take) = &mut stack {
                take(builder.layer_tree(number > 0).map_err(within)?);
            }
        }
        builder.fs.compact();
        Ok(Self { merged: builder.fs })
    }

    /// The merged tree with every extended attribute that the layers gave it, root's metadata
    /// canonical: what other tools' images are compared with.
    ///
    /// # Errors
    /// [`Case::H12NoUsr`].
    pub fn merged_with_xattrs(&self) -> Result<FileSystem<H>> {
        let mut fs = self.merged.clone();
        fs.copy_root_metadata_from_usr().map_err(no_usr)?;
        fs.canonicalize_run().map_err(no_usr)?;
        Ok(fs)
    }

    /// The tree as the layers gave it, root included.
    pub(super) fn bare_merged(self) -> FileSystem<H> {
        self.merged
    }

    /// The merged tree as it is sealed.
    ///
    /// # Errors
    /// [`Case::H12NoUsr`].
    pub fn into_merged(mut self) -> Result<FileSystem<H>> {
        self.merged.transform_for_oci(&OciTransformOptions::default()).map_err(no_usr)?;
        Ok(self.merged)
    }
}

fn no_usr(e: ImageError) -> Refusal {
    Refusal::new(Case::H12NoUsr, "merged tree", e)
}

/// A composefs dumpfile of the tree, for people and tests.
///
/// # Errors
/// [`Case::Bug`] when the crate cannot write one.
pub fn dumpfile<H: FsVerityHashValue>(tree: &FileSystem<H>) -> Result<String> {
    let mut out = Vec::new();
    write_dumpfile(&mut out, tree).map_err(|e| Refusal::new(Case::Bug, "dumpfile", e))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

type Path = Box<[u8]>;

struct Builder<H: FsVerityHashValue> {
    fs: FileSystem<H>,
    /// Names that each leaf has, by its number.
    names: Vec<usize>,
    /// Leaves from here on were made by the current layer.
    first_own: usize,
    log: Log<H>,
}

/// What the current layer did, to derive its own tree.
struct Log<H: FsVerityHashValue> {
    /// Paths that the layer gave something to.
    touched: BTreeSet<Path>,
    /// What it removed or replaced, in order.
    displaced: Vec<Displaced<H>>,
    /// Directories that it made where there was none: nothing lower is in them.
    own: BTreeSet<Path>,
    /// Leaves of lower layers that got or lost a name: their other names move to this layer too, so
    /// that link groups and counts are the same in the stack.
    regrouped: HashSet<usize>,
}

/// Something that was at `path` before the layer took it away.
struct Displaced<H: FsVerityHashValue> {
    path: Path,
    inode: Inode<H>,
    /// Directories at and beneath `path` that the layer itself had made.
    own: BTreeSet<Path>,
}

impl<H: FsVerityHashValue> Default for Log<H> {
    fn default() -> Self {
        Self { touched: BTreeSet::new(), displaced: Vec::new(), own: BTreeSet::new(), regrouped: HashSet::new() }
    }
}

impl<H: FsVerityHashValue> Builder<H> {
    fn new(root: Stat) -> Self {
        Self { fs: FileSystem::new(root), names: Vec::new(), first_own: 0, log: Log::default() }
    }

    fn begin_layer(&mut self) {
        self.first_own = self.fs.leaves.len();
        self.log = Log::default();
    }

    fn apply(&mut self, entry: Entry) -> Result<()> {
        let Entry { path, kind, stat } = entry;
        let content = match kind {
            Kind::Directory => return self.directory(path, stat),
            Kind::Whiteout => return self.remove(&path),
            Kind::Opaque => return self.clear(&path),
            Kind::Hardlink(target) => return self.link(path, &target),
            Kind::Inline(data) => LeafContent::Regular(RegularFile::Inline(data)),
            Kind::External(digest, size) => {
                let id = H::read_from_bytes(digest.as_bytes()).map_err(|_| {
                    Refusal::new(Case::D09Algorithm, shown(&path), "digests of two algorithms in one tree")
                })?;
                LeafContent::Regular(RegularFile::External(id, size))
            }
            Kind::Symlink(target) => LeafContent::Symlink(OsStr::from_bytes(&target).into()),
            Kind::CharacterDevice(number) => LeafContent::CharacterDevice(number),
            Kind::BlockDevice(number) => LeafContent::BlockDevice(number),
            Kind::Fifo => LeafContent::Fifo,
        };
        let id = self.fs.push_leaf(stat, content);
        self.names.push(0);
        self.put(path, id)
    }

    fn directory(&mut self, path: Path, stat: Stat) -> Result<()> {
        if path.is_empty() {
            self.fs.set_root_stat(stat);
            self.log.touched.insert(path);
            return Ok(());
        }
        let (parent, name) = self.parent(&path)?;
        let (new, displaced) = match parent.lookup(name) {
            Some(Inode::Leaf(..)) => (true, parent.pop(name)),
            Some(Inode::Directory(_)) => (false, None),
            None => (true, None),
        };
        parent.merge(name, Inode::Directory(Box::new(Directory::new(stat))));
        self.displace(&path, displaced);
        if new {
            self.log.own.insert(path.clone());
        }
        self.log.touched.insert(path);
        Ok(())
    }

    fn put(&mut self, path: Path, id: LeafId) -> Result<()> {
        let (parent, name) = self.parent(&path)?;
        let displaced = parent.pop(name);
        parent.insert(name, Inode::leaf(id));
        self.names[id.0] += 1;
        self.displace(&path, displaced);
        self.log.touched.insert(path);
        Ok(())
    }

    fn link(&mut self, path: Path, target: &[u8]) -> Result<()> {
        if *path == *target {
            return Err(Refusal::new(Case::H03Path, shown(&path), "a hard link to itself"));
        }
        let id =
            self.fs.root.split(OsStr::from_bytes(target)).and_then(|(dir, name)| dir.leaf_id(name)).map_err(|e| {
                Refusal::new(Case::H03Path, shown(&path), format!("a hard link to {}: {e}", shown(target)))
            })?;
        if id.0 < self.first_own {
            self.log.regrouped.insert(id.0);
        }
        self.put(path, id)
    }

    fn remove(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let displaced = parent.pop(name);
        self.displace(path, displaced);
        Ok(())
    }

    fn clear(&mut self, path: &[u8]) -> Result<()> {
        let dir = self
            .fs
            .root
            .get_directory_mut(OsStr::from_bytes(path))
            .map_err(|e| Refusal::new(Case::H03Path, shown(path), e))?;
        let names: Vec<Box<OsStr>> = dir.entries().map(|(name, _)| name.into()).collect();
        let gone: Vec<_> = names.into_iter().filter_map(|name| dir.pop(&name).map(|inode| (name, inode))).collect();
        for (name, inode) in gone {
            self.displace(&join(path, name.as_bytes()), Some(inode));
        }
        Ok(())
    }

    fn parent<'n>(&mut self, path: &'n [u8]) -> Result<(&mut Directory<H>, &'n OsStr)> {
        self.fs.root.split_mut(OsStr::from_bytes(path)).map_err(|e| Refusal::new(Case::H03Path, shown(path), e))
    }

    fn displace(&mut self, path: &[u8], inode: Option<Inode<H>>) {
        if let Some(inode) = inode {
            self.unname(&inode);
            // In a directory that the layer made, nothing lower can come to light; what was there before
            // the directory has a record of its own.
            if path.iter().rposition(|b| *b == b'/').is_some_and(|at| self.log.own.contains(&path[..at])) {
                return;
            }
            let beneath =
                |own: &Path| **own == *path || own.strip_prefix(path).is_some_and(|rest| rest.starts_with(b"/"));
            let own: BTreeSet<Path> = self
                .log
                .own
                .range(Path::from(path)..)
                .take_while(|p| p.starts_with(path))
                .filter(|p| beneath(p))
                .cloned()
                .collect();
            for path in &own {
                self.log.own.remove(path);
            }
            self.log.displaced.push(Displaced { path: path.into(), inode, own });
        }
    }

    /// Every leaf beneath `inode` has lost the name it had there.
    fn unname(&mut self, inode: &Inode<H>) {
        match inode {
            Inode::Leaf(id, _) => {
                self.names[id.0] -= 1;
                if self.names[id.0] > 0 && id.0 < self.first_own {
                    self.log.regrouped.insert(id.0);
                }
            }
            Inode::Directory(dir) => dir.inodes().for_each(|child| self.unname(child)),
        }
    }

    /// The tree that, on top of the lower layers' trees, shows what this layer left.
    fn layer_tree(&mut self, has_lower: bool) -> Result<LayerTree<H>> {
        let mut log = std::mem::take(&mut self.log);
        let mut touched = log.touched;
        if has_lower {
            // The V1 writer puts whiteouts 00 to ff into the root of every image; without an entry of
            // its own, a lower layer's file of such a name would vanish from the stack.
            let leaves =
                self.fs.root.entries().filter(|(n, _)| is_stub_name(n.as_bytes())).filter_map(
                    |(_, inode)| match inode {
                        Inode::Leaf(id, _) if self.names[id.0] > 1 => Some(id.0),
                        _ => None,
                    },
                );
            log.regrouped.extend(leaves);
            touched.extend(
                self.fs.root.entries().filter(|(n, _)| is_stub_name(n.as_bytes())).map(|(n, _)| n.as_bytes().into()),
            );
        }
        self.add_link_groups(&log.regrouped, &mut touched);
        let mut layer = LayerBuilder {
            source: &self.fs,
            tree: FileSystem::new(self.fs.root.stat.clone()),
            ids: HashMap::new(),
            whiteout: 0,
        };
        layer.whiteout = layer.unused_device();
        for path in &touched {
            layer.copy(path)?;
        }
        for gone in &log.displaced {
            layer.mask(&gone.path, &gone.inode, &gone.own, self.first_own)?;
        }
        layer.tree.filter_xattrs(composefs::generic_tree::is_allowed_container_xattr);
        Ok(LayerTree { tree: layer.tree, whiteout: layer.whiteout })
    }

    /// Adds all names of the leaves in `groups`.
    fn add_link_groups(&self, groups: &HashSet<usize>, touched: &mut BTreeSet<Path>) {
        fn walk<H: FsVerityHashValue>(
            dir: &Directory<H>,
            at: &[u8],
            groups: &HashSet<usize>,
            touched: &mut BTreeSet<Path>,
        ) {
            for (name, inode) in dir.entries() {
                let path = join(at, name.as_bytes());
                match inode {
                    Inode::Directory(sub) => walk(sub, &path, groups, touched),
                    Inode::Leaf(id, _) if groups.contains(&id.0) => {
                        touched.insert(path);
                    }
                    Inode::Leaf(..) => {}
                }
            }
        }
        if !groups.is_empty() {
            walk(&self.fs.root, b"", groups, touched);
        }
    }
}

struct LayerBuilder<'a, H: FsVerityHashValue> {
    /// The merged tree so far.
    source: &'a FileSystem<H>,
    tree: FileSystem<H>,
    ids: HashMap<usize, LeafId>,
    whiteout: u64,
}

impl<H: FsVerityHashValue> LayerBuilder<'_, H> {
    fn unused_device(&self) -> u64 {
        let used: HashSet<u64> = self
            .source
            .leaves
            .iter()
            .filter_map(|leaf| match leaf.content {
                LeafContent::CharacterDevice(number) => Some(number),
                _ => None,
            })
            .collect();
        (1..=u64::from(u32::MAX)).rev().find(|n| !used.contains(n)).unwrap_or(u64::from(u32::MAX))
    }

    /// Copies what is at `path` now, a directory without its entries.
    fn copy(&mut self, path: &[u8]) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        // Touched and removed again by a later entry of the layer.
        let Some(inode) = lookup(&self.source.root, path) else { return Ok(()) };
        let copy = match inode {
            Inode::Directory(dir) => Inode::Directory(Box::new(Directory::new(dir.stat.clone()))),
            Inode::Leaf(id, _) => {
                let (source, tree) = (self.source, &mut self.tree);
                let id = *self.ids.entry(id.0).or_insert_with(|| {
                    let leaf = source.leaf(*id);
                    tree.push_leaf(leaf.stat.clone(), leaf.content.clone())
                });
                Inode::leaf(id)
            }
        };
        let (parent, name) = self.parent(path)?;
        parent.merge(name, copy);
        Ok(())
    }

    /// The directory that holds `path`, made with the metadata that it has in the merged tree.
    fn parent<'n>(&mut self, path: &'n [u8]) -> Result<(&mut Directory<H>, &'n OsStr)> {
        let (parents, name) =
            path.iter().rposition(|b| *b == b'/').map_or((&path[..0], path), |at| (&path[..at], &path[at + 1..]));
        let (mut from, mut to) = (&self.source.root, &mut self.tree.root);
        for part in parents.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
            let part = OsStr::from_bytes(part);
            let bug = |e: ImageError| Refusal::new(Case::Bug, shown(path), e);
            from = from.get_directory(part).map_err(bug)?;
            if to.lookup(part).is_none() {
                to.insert(part, Inode::Directory(Box::new(Directory::new(from.stat.clone()))));
            }
            to = to.get_directory_mut(part).map_err(bug)?;
        }
        Ok((to, OsStr::from_bytes(name)))
    }

    /// Hides what lower layers have at `path`, where `gone` was, as far as nothing replaces it. What the
    /// layer had made itself hides nothing: a whiteout for it would be seen in a directory of its own.
    fn mask(&mut self, path: &[u8], gone: &Inode<H>, own: &BTreeSet<Path>, first_own: usize) -> Result<()> {
        match (lookup(&self.source.root, path), gone) {
            (_, Inode::Leaf(id, _)) if id.0 >= first_own => Ok(()),
            (_, Inode::Directory(_)) if own.contains(path) => Ok(()),
            (None, _) => self.whiteout(path),
            (Some(Inode::Directory(_)), Inode::Directory(gone)) => gone
                .entries()
                .try_for_each(|(name, child)| self.mask(&join(path, name.as_bytes()), child, own, first_own)),
            (Some(_), _) => Ok(()),
        }
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let holder = path.iter().rposition(|b| *b == b'/').map_or(&path[..0], |at| &path[..at]);
        // The directory itself is gone: its own whiteout hides everything beneath.
        let Some(Inode::Directory(dir)) = (if holder.is_empty() { None } else { lookup(&self.source.root, holder) })
        else {
            if !holder.is_empty() {
                return Ok(());
            }
            let time = (self.source.root.stat.st_mtim_sec, self.source.root.stat.st_mtim_nsec);
            return self.put_whiteout(path, time);
        };
        let time = (dir.stat.st_mtim_sec, dir.stat.st_mtim_nsec);
        self.put_whiteout(path, time)
    }

    /// Its directory's time keeps the image's inodes compact (one common time per image is free).
    fn put_whiteout(&mut self, path: &[u8], (seconds, nanoseconds): (i64, u32)) -> Result<()> {
        let stat = Stat { st_mtim_sec: seconds, st_mtim_nsec: nanoseconds, ..Stat::uninitialized() };
        let number = self.whiteout;
        let (parent, name) = self.parent(path)?;
        if parent.lookup(name).is_some() {
            return Ok(());
        }
        let id = self.tree.push_leaf(stat, LeafContent::CharacterDevice(number));
        let (parent, name) = self.parent(path)?;
        parent.insert(name, Inode::leaf(id));
        Ok(())
    }
}

fn lookup<'a, H: FsVerityHashValue>(root: &'a Directory<H>, path: &[u8]) -> Option<&'a Inode<H>> {
    let (dir, name) = root.split(OsStr::from_bytes(path)).ok()?;
    dir.lookup(name)
}

fn join(parent: &[u8], name: &[u8]) -> Path {
    if parent.is_empty() { name.into() } else { [parent, b"/", name].concat().into() }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// External files of a tree: object digest and size, each digest once.
pub(super) fn external_files<H: FsVerityHashValue>(tree: &FileSystem<H>) -> BTreeMap<Vec<u8>, u64> {
    tree.leaves
        .iter()
        .filter_map(|leaf| match &leaf.content {
            LeafContent::Regular(RegularFile::External(id, size)) => Some((id.as_bytes().to_vec(), *size)),
            _ => None,
        })
        .collect()
}
