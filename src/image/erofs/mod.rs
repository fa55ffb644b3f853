//! EROFS images, written and read.

mod inodes;
mod read;
#[cfg(test)]
mod tests;
mod write;
mod xattrs;

use std::thread::{Scope, ScopedJoinHandle};

use composefs::erofs::format::FormatVersion;
use composefs::erofs::writer::{ValidatedFileSystem, mkfs_erofs_versioned};
use composefs::fsverity::{FsVerityHashValue, Sha256HashValue, Sha512HashValue};
use composefs::generic_tree::Stat;
use composefs::tree::FileSystem;

use super::tar::{Entry, Kind};
use super::tree::{Images, LayerTree};
use crate::digest::Algorithm;
use crate::report::{Case, Refusal, Result};

pub(super) use inodes::is_stub_name;
pub use read::objects;
pub(super) use read::read;

/// Writes the EROFS images of one image: V1, byte-identical to C `mkcomposefs --min-version=1`.
#[derive(Debug)]
pub struct Writer;

impl Writer {
    /// The merged image.
    ///
    /// # Errors
    /// H03–H12: what cannot be sealed.
    pub fn merged<L: Into<Vec<Entry>> + Send>(
        algorithm: Algorithm,
        layers: impl IntoIterator<Item = L>,
    ) -> Result<Vec<u8>> {
        Self::merged_version(algorithm, layers, 1)
    }

    /// The image of every layer, then the merged one. Layers may come slowly: what there is is worked on.
    ///
    /// # Errors
    /// H03–H12: what cannot be sealed.
    pub fn all<L: Into<Vec<Entry>> + Send>(
        algorithm: Algorithm,
        layers: impl IntoIterator<Item = L> + Send,
    ) -> Result<(Vec<Vec<u8>>, Vec<u8>)> {
        on_deep_stack(|| match algorithm {
            Algorithm::Sha256 => write_all::<Sha256HashValue, _>(layers),
            Algorithm::Sha512 => write_all::<Sha512HashValue, _>(layers),
        })
    }

    /// The merged image in another format version, for comparison with other tools.
    ///
    /// # Errors
    /// H03–H12: what cannot be sealed.
    pub fn merged_version<L: Into<Vec<Entry>> + Send>(
        algorithm: Algorithm,
        layers: impl IntoIterator<Item = L>,
        version: u8,
    ) -> Result<Vec<u8>> {
        let version = match version {
            0 => FormatVersion::V0,
            1 => FormatVersion::V1,
            _ => FormatVersion::V2,
        };
        let layers: Vec<L> = layers.into_iter().collect();
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
pub(super) fn bare_layer<'a, H: FsVerityHashValue>(
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Result<FileSystem<H>> {
    let kept: Vec<Entry> =
        entries.into_iter().filter(|e| !matches!(e.kind, Kind::Whiteout | Kind::Opaque)).cloned().collect();
    Ok(Images::<H>::build_on(Stat::uninitialized(), [kept], None)?.bare_merged())
}

/// Layers are written while the next one's tree is built, and their trees are gone when they are: of a large
/// image there are never more than a few.
fn write_all<H: FsVerityHashValue, I: IntoIterator<Item: Into<Vec<Entry>>>>(
    layers: I,
) -> Result<(Vec<Vec<u8>>, Vec<u8>)> {
    std::thread::scope(|scope| {
        let (send, trees) = std::sync::mpsc::sync_channel::<LayerTree<H>>(0);
        let writer = deep(scope, move || {
            trees.into_iter().map(|layer| write::write(layer.tree, Some(layer.whiteout))).collect::<Result<Vec<_>>>()
        })?;
        // A writer that has ended tells why when it is joined.
        let images = Images::build(layers, Some(&mut |tree| _ = send.send(tree)));
        drop(send);
        let layers = writer.join().unwrap_or_else(|_| Err(fell()));
        // What is wrong with a layer's entries comes before what is wrong with its image. And one image is
        // written at a time: the writer needs more memory than the tree.
        let images = images?;
        let layers = layers?;
        Ok((layers, write::write(images.into_merged()?, None)?))
    })
}

fn write<H: FsVerityHashValue>(tree: FileSystem<H>, version: FormatVersion) -> Result<Vec<u8>> {
    if version == FormatVersion::V1 {
        return write::write(tree, None);
    }
    let tree = ValidatedFileSystem::new(tree).map_err(|e| Refusal::new(Case::H06Entry, "tree", e))?;
    Ok(mkfs_erofs_versioned(&tree, version).into_vec())
}
