//! composefs' canonical tree, for hosts that boot from an image: the role `merged`.
//!
//! Whiteouts act at their place in the stream, as the composefs importers do: an entry that comes
//! before its own layer's marker is removed by it. The OCI specification would keep it. This is
//! deliberate: the merged digest of an image is then the one that other composefs tools compute. What
//! containers see is another tree, see [`Stack`](super::Stack).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::dumpfile::write_dumpfile;
use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::{ImageError, LeafId, OciTransformOptions, Stat};
use composefs::tree::{Directory, FileSystem, Inode, LeafContent, RegularFile};

use super::tar::{EntryKind, TarEntry};
use crate::error::{Case, Refusal, Result};

/// The tree of one image: all layers on top of each other, before root's metadata and xattrs are made
/// canonical.
#[derive(Debug)]
pub struct Images<H: FsVerityHashValue> {
    merged: FileSystem<H>,
}

impl<H: FsVerityHashValue> Images<H> {
    /// Makes the tree without layers.
    pub fn new() -> Self {
        Self::on(Stat { st_mode: 0o755, ..Stat::uninitialized() })
    }

    /// Makes the tree that has this metadata at its root before the first layer.
    fn on(root: Stat) -> Self {
        Self { merged: FileSystem::new(root) }
    }

    /// Applies a layer to those beneath.
    ///
    /// # Errors
    /// [`Case::H03Path`] for missing parents and hard links to nothing, [`Case::H06Entry`] for what
    /// composefs does not take.
    pub fn add(&mut self, entries: Vec<TarEntry>) -> Result<()> {
        entries.into_iter().try_for_each(|entry| self.apply(entry))
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
    pub(super) fn bare_layer(entries: &[TarEntry]) -> Result<FileSystem<H>> {
        let mut this = Self::on(Stat::uninitialized());
        let kept = entries.iter().filter(|e| !matches!(e.kind, EntryKind::Whiteout | EntryKind::Opaque));
        this.add(kept.cloned().collect())?;
        this.merged.compact();
        Ok(this.merged)
    }

    /// Returns the merged tree with every extended attribute that the layers gave it, root's metadata canonical: what
    /// other tools' images are compared with.
    ///
    /// # Errors
    /// [`Case::H12NoUsr`].
    pub fn merged_with_xattrs(mut self) -> Result<FileSystem<H>> {
        self.merged.compact();
        self.merged.copy_root_metadata_from_usr().map_err(no_usr)?;
        self.merged.canonicalize_run().map_err(no_usr)?;
        Ok(self.merged)
    }

    /// Returns the merged tree as it is sealed.
    ///
    /// # Errors
    /// [`Case::H12NoUsr`].
    pub fn into_merged(mut self) -> Result<FileSystem<H>> {
        self.merged.transform_for_oci(&OciTransformOptions::default()).map_err(no_usr)?;
        Ok(self.merged)
    }

    fn apply(&mut self, entry: TarEntry) -> Result<()> {
        let TarEntry { path, kind, stat, beyond } = entry;
        if let Some(why) = beyond {
            return Err(Refusal::new(Case::H06Entry, shown(&path), why));
        }
        let content = match kind {
            EntryKind::Directory | EntryKind::Root => return self.directory(&path, stat),
            EntryKind::Whiteout => return self.parent(&path).map(|(parent, name)| parent.remove(name)),
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
        let id = self.merged.push_leaf(stat, content);
        self.put(&path, id)
    }

    fn directory(&mut self, path: &[u8], stat: Stat) -> Result<()> {
        if path.is_empty() {
            self.merged.set_root_stat(stat);
            return Ok(());
        }
        let (parent, name) = self.parent(path)?;
        parent.merge(name, Inode::Directory(Box::new(Directory::new(stat))));
        Ok(())
    }

    fn put(&mut self, path: &[u8], id: LeafId) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        parent.insert(name, Inode::leaf(id));
        Ok(())
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        if *path == *target {
            return Err(Refusal::new(Case::H03Path, shown(path), "a hard link to itself"));
        }
        let id =
            self.merged.root.split(OsStr::from_bytes(target)).and_then(|(dir, name)| dir.leaf_id(name)).map_err(
                |e| Refusal::new(Case::H03Path, shown(path), format!("a hard link to {}: {e}", shown(target))),
            )?;
        self.put(path, id)
    }

    fn clear(&mut self, path: &[u8]) -> Result<()> {
        let dir = self.merged.root.get_directory_mut(OsStr::from_bytes(path));
        dir.map(Directory::clear).map_err(|e| Refusal::new(Case::H03Path, shown(path), e))
    }

    fn parent<'n>(&mut self, path: &'n [u8]) -> Result<(&mut Directory<H>, &'n OsStr)> {
        let split = self.merged.root.split_mut(OsStr::from_bytes(path));
        split.map_err(|e| Refusal::new(Case::H03Path, shown(path), e))
    }
}

impl<H: FsVerityHashValue> Default for Images<H> {
    fn default() -> Self {
        Self::new()
    }
}

fn no_usr(e: ImageError) -> Refusal {
    Refusal::new(Case::H12NoUsr, "merged tree", e)
}

/// Writes a composefs dumpfile of the tree, for people and tests.
///
/// # Errors
/// [`Case::Bug`] when the crate cannot write one.
pub fn dumpfile<H: FsVerityHashValue>(tree: &FileSystem<H>) -> Result<String> {
    let mut out = Vec::new();
    write_dumpfile(&mut out, tree).map_err(|e| Refusal::new(Case::Bug, "dumpfile", e))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Collects the external files of a tree: object digest and size, each digest once.
pub(super) fn external_files<H: FsVerityHashValue>(tree: &FileSystem<H>) -> BTreeMap<Vec<u8>, u64> {
    tree.leaves
        .iter()
        .filter_map(|leaf| match &leaf.content {
            LeafContent::Regular(RegularFile::External(id, size)) => Some((id.as_bytes().to_vec(), *size)),
            _ => None,
        })
        .collect()
}
