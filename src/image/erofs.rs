use std::collections::{BTreeMap, HashSet};
use std::thread::{Scope, ScopedJoinHandle};

use composefs::erofs::format::FormatVersion;
use composefs::erofs::reader::{Image as ErofsImage, InodeHeader as _, InodeOps as _, erofs_to_filesystem};
use composefs::erofs::writer::{ValidatedFileSystem, mkfs_erofs_versioned};
use composefs::fsverity::{FsVerityHashValue, Sha256HashValue, Sha512HashValue};
use composefs::generic_tree::Stat;
use composefs::tree::FileSystem;

use super::tar::{Entry, Kind};
use super::tree::{Images, LayerTree, external_files};
use crate::digest::{Algorithm, VerityDigest};
use crate::oci::Budget;
use crate::report::{Case, Refusal, Result};

/// Writes the EROFS images of one image: V1, byte-identical to C `mkcomposefs --min-version=1`.
#[derive(Debug)]
pub struct Writer;

impl Writer {
    /// The merged image.
    ///
    /// # Errors
    /// H03–H12: what cannot be sealed.
    pub fn merged<'a>(algorithm: Algorithm, layers: impl IntoIterator<Item = &'a [Entry]>) -> Result<Vec<u8>> {
        Self::merged_version(algorithm, layers, 1)
    }

    /// The image of every layer, then the merged one.
    ///
    /// # Errors
    /// H03–H12: what cannot be sealed.
    pub fn all<'a>(
        algorithm: Algorithm,
        layers: impl IntoIterator<Item = &'a [Entry]>,
    ) -> Result<(Vec<Vec<u8>>, Vec<u8>)> {
        let layers: Vec<&[Entry]> = layers.into_iter().collect();
        on_deep_stack(|| match algorithm {
            Algorithm::Sha256 => write_all::<Sha256HashValue>(layers),
            Algorithm::Sha512 => write_all::<Sha512HashValue>(layers),
        })
    }

    /// The merged image in another format version, for comparison with other tools.
    ///
    /// # Errors
    /// H03–H12: what cannot be sealed.
    pub fn merged_version<'a>(
        algorithm: Algorithm,
        layers: impl IntoIterator<Item = &'a [Entry]>,
        version: u8,
    ) -> Result<Vec<u8>> {
        let version = match version {
            0 => FormatVersion::V0,
            1 => FormatVersion::V1,
            _ => FormatVersion::V2,
        };
        let layers: Vec<&[Entry]> = layers.into_iter().collect();
        on_deep_stack(|| match algorithm {
            Algorithm::Sha256 => write(Images::<Sha256HashValue>::build(layers, None)?.into_merged()?, version),
            Algorithm::Sha512 => write(Images::<Sha512HashValue>::build(layers, None)?.into_merged()?, version),
        })
    }
}

impl Writer {
    /// The image of one layer as other tools make it, for comparison: nothing that the layer takes away
    /// is in it, so that it cannot be stacked.
    ///
    /// # Errors
    /// H03–H12: what cannot be sealed.
    pub fn layer_without_whiteouts(algorithm: Algorithm, entries: &[Entry]) -> Result<Vec<u8>> {
        on_deep_stack(|| match algorithm {
            Algorithm::Sha256 => write(bare_layer::<Sha256HashValue>(entries)?, FormatVersion::V1),
            Algorithm::Sha512 => write(bare_layer::<Sha512HashValue>(entries)?, FormatVersion::V1),
        })
    }
}

/// Does `work` with a stack for the deepest tree that the budget allows. Trees are read, written and
/// dropped by recursion, a call for each directory on the way, and a layer of 2000 nested directories
/// is all that it takes to overflow the 8 MiB that a process commonly has.
pub(super) fn on_deep_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| deep(scope, work)?.join().unwrap_or_else(|_| Err(fell())))
}

fn deep<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    const STACK: usize = 64 << 20;
    let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
    thread.map_err(|e| Refusal::io("thread", e))
}

fn fell() -> Refusal {
    Refusal::new(Case::Bug, "tree", "it cannot be handled")
}

/// One layer by itself, its whiteouts left out, every extended attribute kept, and root's metadata
/// unset where the layer does not give it: the form that others sign.
pub(super) fn bare_layer<H: FsVerityHashValue>(entries: &[Entry]) -> Result<FileSystem<H>> {
    let kept: Vec<Entry> =
        entries.iter().filter(|e| !matches!(e.kind, Kind::Whiteout | Kind::Opaque)).cloned().collect();
    Ok(Images::<H>::build_on(Stat::uninitialized(), [kept.as_slice()], None)?.bare_merged())
}

/// Layers are written while the next one's tree is built, and their trees are gone when they are: of a large
/// image there are never more than a few.
fn write_all<H: FsVerityHashValue>(layers: Vec<&[Entry]>) -> Result<(Vec<Vec<u8>>, Vec<u8>)> {
    std::thread::scope(|scope| {
        let (send, trees) = std::sync::mpsc::sync_channel::<LayerTree<H>>(0);
        let writer = deep(scope, move || trees.into_iter().map(write_layer).collect::<Result<Vec<_>>>())?;
        // A writer that has ended tells why when it is joined.
        let images = Images::build(layers, Some(&mut |tree| _ = send.send(tree)));
        drop(send);
        let layers = writer.join().unwrap_or_else(|_| Err(fell()));
        // What is wrong with a layer's entries comes before what is wrong with its image. And one image is
        // written at a time: the writer needs more memory than the tree.
        let images = images?;
        let layers = layers?;
        Ok((layers, write(images.into_merged()?, FormatVersion::V1)?))
    })
}

fn write<H: FsVerityHashValue>(tree: FileSystem<H>, version: FormatVersion) -> Result<Vec<u8>> {
    let tree = ValidatedFileSystem::new(tree).map_err(|e| Refusal::new(Case::H06Entry, "tree", e))?;
    Ok(mkfs_erofs_versioned(&tree, version).into_vec())
}

/// The writer escapes devices 0:0 that a tar holds, so that they are shown and do not act as
/// whiteouts. Our own are to act: they are written with another number, which is then set to zero
/// in the finished image. Nothing else about it changes, the layout included.
fn write_layer<H: FsVerityHashValue>(layer: LayerTree<H>) -> Result<Vec<u8>> {
    let mut bytes = write(layer.tree, FormatVersion::V1)?;
    let bug = |e: &dyn std::fmt::Display| Refusal::new(Case::Bug, "layer image", e);
    let mut patches = Vec::new();
    {
        let image = ErofsImage::open(&bytes).map_err(|e| bug(&e))?;
        let start = usize::try_from(image.sb.meta_blkaddr.get()).unwrap_or(usize::MAX).saturating_mul(4096);
        for nid in leaves(&image).map_err(|e| bug(&e))? {
            let inode = image.inode(nid).map_err(|e| bug(&e))?;
            if inode.mode().0.get() & 0o170_000 == 0o020_000 && u64::from(inode.u()) == layer.whiteout {
                // erofs_fs.h: i_u is at byte 16 of compact and extended inodes alike.
                patches.push(start + usize::try_from(nid).unwrap_or(usize::MAX) * 32 + 16);
            }
        }
    }
    for at in patches {
        bytes.get_mut(at..at + 4).ok_or_else(|| bug(&"inode outside the image"))?.fill(0);
    }
    Ok(bytes)
}

/// All inode numbers of non-directories.
fn leaves(image: &ErofsImage<'_>) -> std::result::Result<HashSet<u64>, composefs::erofs::reader::ErofsReaderError> {
    let mut found = HashSet::new();
    let mut seen = HashSet::new();
    let mut todo = vec![u64::from(image.sb.root_nid.get())];
    while let Some(nid) = todo.pop() {
        if !seen.insert(nid) {
            continue;
        }
        let inode = image.inode(nid)?;
        if !inode.mode().is_dir() {
            found.insert(nid);
            continue;
        }
        todo.extend(children(image, nid)?);
    }
    Ok(found)
}

/// Whether no directory of the image can be reached in two ways. The reader of composefs follows every
/// way: sixty directories that each hold the next one twice would keep it busy for ever.
fn tree_of_directories(image: &[u8]) -> std::result::Result<(), String> {
    let image = ErofsImage::open(image).map_err(|e| e.to_string())?;
    let mut seen = HashSet::new();
    let mut todo = vec![(u64::from(image.sb.root_nid.get()), 0)];
    while let Some((nid, depth)) = todo.pop() {
        if !seen.insert(nid) {
            return Err(format!("directory {nid} has two names"));
        }
        if depth > Budget::STANDARD.depth {
            return Err("its directories are too deep".into());
        }
        for child in children(&image, nid).map_err(|e| e.to_string())? {
            if image.inode(child).map_err(|e| e.to_string())?.mode().is_dir() {
                todo.push((child, depth + 1));
            }
        }
    }
    Ok(())
}

/// Inode numbers of what a directory holds, without itself and its parent.
fn children(
    image: &ErofsImage<'_>,
    nid: u64,
) -> std::result::Result<Vec<u64>, composefs::erofs::reader::ErofsReaderError> {
    use composefs::erofs::reader::{DirectoryBlock, ErofsReaderError};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use zerocopy::FromBytes as _;
    let inode = image.inode(nid)?;
    let mut found = Vec::new();
    let mut last: Option<Vec<u8>> = None;
    let mut take = |block: &DirectoryBlock| {
        for entry in block.entries()? {
            let entry = entry?;
            // The kernel searches by halves: a name out of order is listed and cannot be opened.
            if last.as_deref().is_some_and(|last| last >= entry.name) {
                return Err(ErofsReaderError::DuplicateEntry(OsStr::from_bytes(entry.name).into()));
            }
            last = Some(entry.name.to_vec());
            if entry.name != b"." && entry.name != b".." {
                found.push(entry.nid());
            }
        }
        Ok(())
    };
    for block in image.inode_blocks(&inode)? {
        take(image.directory_block(block)?)?;
    }
    if let Some(block) = inode.inline().and_then(|tail| DirectoryBlock::ref_from_bytes(tail).ok()) {
        take(block)?;
    }
    Ok(found)
}

/// Reads an EROFS image of any composefs format version as a tree. The bytes may be an attacker's;
/// the reader bounds what it follows, and the kernel is not involved.
///
/// # Errors
/// [`Case::H09Erofs`].
pub(super) fn read<H: FsVerityHashValue>(image: &[u8]) -> Result<FileSystem<H>> {
    if image.is_empty() || !image.len().is_multiple_of(4096) {
        return Err(Refusal::new(Case::H09Erofs, "image", format!("{} bytes are no multiple of 4096", image.len())));
    }
    tree_of_directories(image).map_err(|why| Refusal::new(Case::H09Erofs, "image", why))?;
    erofs_to_filesystem(image).map_err(|e| Refusal::new(Case::H09Erofs, "image", format!("{e:#}")))
}

/// The objects that an EROFS image refers to, with their sizes.
///
/// # Errors
/// [`Case::H09Erofs`].
pub fn objects(image: &[u8], algorithm: Algorithm) -> Result<Vec<(VerityDigest, u64)>> {
    let files: BTreeMap<Vec<u8>, u64> = on_deep_stack(|| match algorithm {
        Algorithm::Sha256 => Ok(external_files(&read::<Sha256HashValue>(image)?)),
        Algorithm::Sha512 => Ok(external_files(&read::<Sha512HashValue>(image)?)),
    })?;
    files
        .into_iter()
        .map(|(id, size)| {
            let digest =
                VerityDigest::new(algorithm, &id).ok_or_else(|| Refusal::new(Case::Bug, "object", "digest size"))?;
            Ok((digest, size))
        })
        .collect()
}
