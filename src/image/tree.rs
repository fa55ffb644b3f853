//! composefs' canonical tree, for hosts that boot from an image: the role `merged`.
//!
//! Whiteouts act at their place in the stream, as the composefs importers do: an entry that comes
//! before its own layer's marker is removed by it. The OCI specification would keep it. This is
//! deliberate: the merged digest of an image is then the one that other composefs tools compute. What
//! containers see is another tree, see [`Stack`](super::Stack).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::dumpfile::write_dumpfile;
use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::{ImageError, Stat, is_allowed_container_xattr};
use composefs::tree::{FileSystem, LeafContent, RegularFile};

use super::file_tree::{Child, DirId, FileTree, ROOT};
use super::tar::{EntryKind, TarEntry};
use crate::error::{Case, Refusal, Result};

/// After how many entries of a layer their memory is given back.
const GIVEN_BACK: usize = 10_000;

/// The tree of one image: all layers on top of each other, before root's metadata and xattrs are made
/// canonical.
#[derive(Debug)]
pub struct Images<H: FsVerityHashValue> {
    merged: FileTree<H>,
}

impl<H: FsVerityHashValue> Images<H> {
    /// Makes the tree without layers.
    pub fn new() -> Self {
        Self::on(Stat { st_mode: 0o755, ..Stat::uninitialized() })
    }

    /// Makes the tree that has this metadata at its root before the first layer.
    fn on(root: Stat) -> Self {
        Self { merged: FileTree::new(root) }
    }

    /// Applies a layer to those beneath.
    ///
    /// # Errors
    /// [`Case::H03Path`] for missing parents and hard links to nothing, [`Case::H06Entry`] for what
    /// composefs does not take.
    pub fn add(&mut self, mut entries: Vec<TarEntry>) -> Result<()> {
        // From the end, where memory can be given back: of a large layer the tree takes its place meanwhile.
        entries.reverse();
        while let Some(entry) = entries.pop() {
            self.apply(entry)?;
            if entries.len().is_multiple_of(GIVEN_BACK) {
                entries.shrink_to_fit();
            }
        }
        Ok(())
    }

    /// Applies the layers, lowest first.
    ///
    /// # Errors
    /// As [`Self::add`]; the layer's number is part of the message.
    pub fn build<L: Into<Vec<TarEntry>>>(layers: impl IntoIterator<Item = L>) -> Result<Self> {
        let mut this = Self::new();
        for (number, entries) in layers.into_iter().enumerate() {
            this.add(entries.into()).map_err(|r| r.within(format!("layer {number}")))?;
        }
        Ok(this)
    }

    /// Makes the tree of one layer by itself, its whiteouts left out, every extended attribute kept, and root's
    /// metadata unset where the layer does not give it: the form that others sign.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(super) fn bare_layer(entries: &[TarEntry]) -> Result<FileTree<H>> {
        let mut this = Self::on(Stat::uninitialized());
        let kept = entries.iter().filter(|e| !matches!(e.kind, EntryKind::Whiteout | EntryKind::Opaque));
        this.add(kept.cloned().collect())?;
        Ok(this.merged)
    }

    /// Returns the merged tree with every extended attribute that the layers gave it, root's metadata canonical: what
    /// other tools' images are compared with.
    ///
    /// # Errors
    /// [`Case::H12NoUsr`].
    pub fn merged_with_xattrs(mut self) -> Result<FileSystem<H>> {
        self.canonical()?;
        Ok(self.merged.to_composefs())
    }

    /// Returns the merged tree as it is sealed.
    ///
    /// # Errors
    /// [`Case::H12NoUsr`].
    pub fn into_merged(mut self) -> Result<FileTree<H>> {
        self.canonical()?;
        self.merged.filter_xattrs(is_allowed_container_xattr);
        Ok(self.merged)
    }

    /// Gives the root the metadata of `/usr`, and empties `/run`.
    fn canonical(&mut self) -> Result<()> {
        let tree = &mut self.merged;
        let no_directory = |name: &str| no_usr(ImageError::NotADirectory(OsStr::new(name).into()));
        let usr = match tree.lookup(ROOT, b"usr") {
            Some(usr @ Child::Directory(_)) => tree.stat(usr).clone(),
            Some(Child::Leaf(_)) => return Err(no_directory("usr")),
            None => return Err(no_usr(ImageError::NotFound(OsStr::new("usr").into()))),
        };
        match tree.lookup(ROOT, b"run") {
            None => {}
            Some(Child::Leaf(_)) => return Err(no_directory("run")),
            Some(run @ Child::Directory(id)) => {
                let (st_mtim_sec, st_mtim_nsec) = (usr.st_mtim_sec, usr.st_mtim_nsec);
                let stat = Stat { st_mtim_sec, st_mtim_nsec, ..tree.stat(run).clone() };
                tree.set_stat(run, stat)?;
                tree.clear(id);
            }
        }
        tree.set_stat(Child::Directory(ROOT), usr)
    }

    fn apply(&mut self, entry: TarEntry) -> Result<()> {
        let TarEntry { path, kind, stat, beyond } = entry;
        if let Some(why) = beyond {
            return Err(Refusal::new(Case::H06Entry, shown(&path), why));
        }
        let content = match kind {
            EntryKind::Directory | EntryKind::Root => return self.directory(&path, stat),
            EntryKind::Whiteout => {
                let (parent, name) = self.parent(&path)?;
                self.merged.remove(parent, name);
                return Ok(());
            }
            EntryKind::Opaque => return self.clear(&path),
            EntryKind::Hardlink(target) => return self.link(&path, &target),
            EntryKind::Inline(data) => LeafContent::Regular(RegularFile::Inline(data)),
            EntryKind::External(digest, size) => {
                let id = H::read_from_bytes(digest.as_bytes()).map_err(|_| {
                    Refusal::new(Case::D09Algorithm, shown(&path), "digests of two algorithms in one tree")
                })?;
                LeafContent::Regular(RegularFile::External(id, size))
            }
            EntryKind::Symlink(target) => LeafContent::Symlink(OsStr::from_bytes(&target).into()),
            EntryKind::CharacterDevice(number) => LeafContent::CharacterDevice(number),
            EntryKind::BlockDevice(number) => LeafContent::BlockDevice(number),
            EntryKind::Fifo => LeafContent::Fifo,
        };
        let (parent, name) = self.parent(&path)?;
        let leaf = self.merged.add_leaf(stat, content)?;
        self.merged.insert(parent, name, Child::Leaf(leaf))
    }

    fn directory(&mut self, path: &[u8], stat: Stat) -> Result<()> {
        if path.is_empty() {
            return self.merged.set_stat(Child::Directory(ROOT), stat);
        }
        let (parent, name) = self.parent(path)?;
        match self.merged.lookup(parent, name) {
            Some(there @ Child::Directory(_)) => self.merged.set_stat(there, stat),
            _ => {
                let new = self.merged.add_directory(stat)?;
                self.merged.insert(parent, name, Child::Directory(new))
            }
        }
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        if *path == *target {
            return Err(Refusal::new(Case::H03Path, shown(path), "a hard link to itself"));
        }
        let refuse = |e| Refusal::new(Case::H03Path, shown(path), format!("a hard link to {}: {e}", shown(target)));
        let missing = |e| match e {
            ImageError::NotFound(_) => ImageError::NotFound(OsStr::from_bytes(parent_of(target)).into()),
            other => other,
        };
        let (parent, name) = self.split(target).map_err(missing).map_err(refuse)?;
        let file = OsStr::from_bytes(name).into();
        let leaf = match self.merged.lookup(parent, name) {
            Some(leaf @ Child::Leaf(_)) => leaf,
            Some(Child::Directory(_)) => return Err(refuse(ImageError::IsADirectory(file))),
            None => return Err(refuse(ImageError::NotFound(file))),
        };
        let (parent, name) = self.parent(path)?;
        self.merged.insert(parent, name, leaf)
    }

    fn clear(&mut self, path: &[u8]) -> Result<()> {
        let dir = self.find(path).map_err(|e| Refusal::new(Case::H03Path, shown(path), e))?;
        self.merged.clear(dir);
        Ok(())
    }

    /// Finds the directory that is to hold `path`, and the name in it.
    fn parent<'n>(&self, path: &'n [u8]) -> Result<(DirId, &'n [u8])> {
        self.split(path).map_err(|e| Refusal::new(Case::H03Path, shown(path), e))
    }

    fn split<'n>(&self, path: &'n [u8]) -> std::result::Result<(DirId, &'n [u8]), ImageError> {
        if path.is_empty() {
            return Err(ImageError::InvalidFilename(OsStr::new("").into()));
        }
        let parent = parent_of(path);
        let name = path.strip_prefix(parent).unwrap_or(path);
        Ok((self.find(parent)?, name.strip_prefix(b"/").unwrap_or(name)))
    }

    fn find(&self, path: &[u8]) -> std::result::Result<DirId, ImageError> {
        let mut at = ROOT;
        for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            at = match self.merged.lookup(at, part) {
                Some(Child::Directory(id)) => id,
                Some(Child::Leaf(_)) => return Err(ImageError::NotADirectory(OsStr::from_bytes(part).into())),
                None => return Err(ImageError::NotFound(OsStr::from_bytes(path).into())),
            };
        }
        Ok(at)
    }
}

impl<H: FsVerityHashValue> Default for Images<H> {
    fn default() -> Self {
        Self::new()
    }
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').map_or(&[], |at| &path[..at])
}

fn no_usr(e: ImageError) -> Refusal {
    Refusal::new(Case::H12NoUsr, "merged tree", e)
}

/// Writes a composefs dumpfile of the tree, for people and tests.
///
/// # Errors
/// [`Case::Bug`] when the crate cannot write one.
pub fn dumpfile<H: FsVerityHashValue>(tree: &FileTree<H>) -> Result<String> {
    let mut out = Vec::new();
    write_dumpfile(&mut out, &tree.to_composefs()).map_err(|e| Refusal::new(Case::Bug, "dumpfile", e))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
