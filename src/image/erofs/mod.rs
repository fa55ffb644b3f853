//! EROFS images, written and read.

mod content;
mod inodes;
mod objects;
mod read;
#[cfg(test)]
mod tests;
mod write;
mod xattrs;

use std::thread::{Scope, ScopedJoinHandle};

use composefs::erofs::format::FormatVersion;
use composefs::erofs::writer::{ValidatedFileSystem, mkfs_erofs_versioned};
use composefs::fsverity::{FsVerityHashValue, Sha256HashValue, Sha512HashValue};

use super::file_tree::FileTree;
use super::stack::{LayerTree, Stack};
use super::tar::TarEntry;
use super::tree::Images;
use crate::digest::Algorithm;
use crate::error::{Case, Class, Refusal, Result};
use crate::sys::scratch::Scratch;

pub use objects::objects;
pub(super) use read::read;

/// Writes the EROFS images of one image: V1, byte-identical to C `mkcomposefs --min-version=1`.
#[derive(Debug)]
pub struct Writer;

impl Writer {
    /// Writes the merged image.
    ///
    /// # Errors
    /// H03–H12: what cannot be sealed.
    pub fn merged<L: Into<Vec<TarEntry>> + Send>(
        algorithm: Algorithm,
        layers: impl IntoIterator<Item = L>,
    ) -> Result<Vec<u8>> {
        Self::merged_version(algorithm, layers, 1)
    }

    /// Writes all images of these layers, in one pass over them. They may come slowly: what is there is worked on.
    ///
    /// # Errors
    /// H03–H07: what cannot be sealed.
    pub fn all<L: Into<Vec<TarEntry>> + Send>(
        algorithm: Algorithm,
        layers: impl IntoIterator<Item = L> + Send,
    ) -> Result<WrittenImages> {
        on_deep_stack(|| match algorithm {
            Algorithm::Sha256 => write_all::<Sha256HashValue, _>(layers),
            Algorithm::Sha512 => write_all::<Sha512HashValue, _>(layers),
        })
    }

    /// Writes the merged image in another format version, for comparison with other tools.
    ///
    /// # Errors
    /// H03–H12: what cannot be sealed.
    pub fn merged_version<L: Into<Vec<TarEntry>> + Send>(
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
            Algorithm::Sha256 => write(Images::<Sha256HashValue>::build(layers)?.into_merged()?, version),
            Algorithm::Sha512 => write(Images::<Sha512HashValue>::build(layers)?.into_merged()?, version),
        })
    }
}

impl Writer {
    /// Writes the image of one layer as other tools make it, for comparison: it lacks what marks something as taken
    /// away, and so cannot be stacked.
    ///
    /// # Errors
    /// H03–H12: what cannot be sealed.
    pub fn layer_without_whiteouts(algorithm: Algorithm, entries: &[TarEntry]) -> Result<Vec<u8>> {
        on_deep_stack(|| match algorithm {
            Algorithm::Sha256 => write(Images::<Sha256HashValue>::bare_layer(entries)?, FormatVersion::V1),
            Algorithm::Sha512 => write(Images::<Sha512HashValue>::bare_layer(entries)?, FormatVersion::V1),
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

/// The EROFS images of one image, for at least one of its two trees.
#[derive(Debug)]
pub struct WrittenImages {
    /// The image of each layer, lowest first, of which a stack shows the container's tree; and the image of that tree.
    /// Or why there is no such tree.
    pub container: Result<(Vec<Scratch>, Scratch)>,
    /// composefs' canonical tree, or why there is none.
    pub merged: Result<Scratch>,
}

/// Writes the images of all layers and of both trees. Layers are written while the next one's tree is built, and their
/// trees are dropped afterwards: of a large image there are never more than a few.
fn write_all<H: FsVerityHashValue, I: IntoIterator<Item: Into<Vec<TarEntry>>>>(layers: I) -> Result<WrittenImages> {
    std::thread::scope(|scope| {
        let (send, trees) = std::sync::mpsc::sync_channel::<LayerTree<H>>(0);
        let writer = deep(scope, move || {
            trees.into_iter().map(|layer| write::write(layer.tree, Some(layer.whiteout))).collect::<Result<Vec<_>>>()
        })?;
        // A writer that has ended says why when it is joined.
        let (stack, images) = build(layers, |tree| _ = send.send(tree));
        drop(send);
        let layers = writer.join().unwrap_or_else(|_| Err(fell()));
        // A fault of a layer's entries comes before one of its image. And one image is written at a time: the writer
        // needs more memory than the tree.
        let container = stack.and_then(|stack| Ok((layers?, write::write(stack.into_tree(), None)?)));
        let merged = images.and_then(Images::into_merged).and_then(|tree| write::write(tree, None));
        match (container, merged) {
            // Only what is wrong with the image itself.
            (Err(refusal), _) | (_, Err(refusal)) if refusal.case().class() != Class::Rejected => Err(refusal),
            (Err(refusal), Err(_)) => Err(refusal),
            (container, merged) => Ok(WrittenImages { container, merged }),
        }
    })
}

type Trees<H> = (Result<Stack<H>>, Result<Images<H>>);

/// Builds both trees, layer by layer; `each` gets the tree of a layer as soon as there is one.
fn build<H: FsVerityHashValue>(
    layers: impl IntoIterator<Item: Into<Vec<TarEntry>>>,
    mut each: impl FnMut(LayerTree<H>),
) -> Trees<H> {
    let (mut stack, mut images) = (Ok(Stack::default()), Ok(Images::new()));
    for (number, entries) in layers.into_iter().enumerate() {
        let within = |r: Refusal| r.within(format!("layer {number}"));
        let entries = entries.into();
        stack = stack.and_then(|mut stack| stack.add(&entries).map_err(within).map(&mut each).map(|()| stack));
        images = images.and_then(|mut images| images.add(entries).map_err(within).map(|()| images));
    }
    (stack, images)
}

fn write<H: FsVerityHashValue>(tree: FileTree<H>, version: FormatVersion) -> Result<Vec<u8>> {
    if version == FormatVersion::V1 {
        return Ok(write::write(tree, None)?.to_vec());
    }
    let tree = ValidatedFileSystem::new(tree.to_composefs()).map_err(|e| Refusal::new(Case::H06Entry, "tree", e))?;
    Ok(mkfs_erofs_versioned(&tree, version).into_vec())
}
