use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use super::layer::{ContentSink, HashOnly, read_layer};
use super::ordered::InOrder;
use super::tar::TarEntry;
use super::{Writer, WrittenImages};
use crate::digest::{Algorithm, BlobDigest, VerityDigest, VerityHasher};
use crate::error::{Case, Refusal, Result};
use crate::oci::{BlobStore, Budget, Image, Layer};
use crate::sys::scratch::Scratch;
use crate::sys::workers;

/// What the layers of an image really hold, read from their blobs: the EROFS images that we make of them, and the
/// entries where they are wanted.
#[derive(Debug)]
pub struct Contents {
    count: usize,
    entries: Option<Vec<Vec<TarEntry>>>,
    /// The EROFS images.
    pub images: ErofsImages,
}

/// What is left of the layers when their EROFS images are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The EROFS images: enough for seals of what we make.
    Images,
    /// The entries too, for comparison with images that others have made. They are a third of the memory.
    Entries,
}

/// What the layers are read for.
#[derive(Clone, Copy, Debug)]
pub struct ContentsRequest {
    /// The algorithm of all digests.
    pub algorithm: Algorithm,
    /// What is left in the end.
    pub keep: Keep,
}

/// The EROFS images of one image, and their fs-verity digests. At least one of the two trees exists.
#[derive(Debug)]
pub struct ErofsImages {
    /// The algorithm of all digests.
    pub algorithm: Algorithm,
    /// The images of the container's tree, or why the image has none that podman shows: then we cannot seal it. Others
    /// may have sealed the other tree.
    pub container: Result<ContainerImages>,
    /// composefs' canonical tree with its digest, or why there is none.
    pub merged: Result<(Scratch, VerityDigest)>,
}

/// The images of the container's tree.
#[derive(Debug)]
pub struct ContainerImages {
    /// The image of each layer, lowest first: a stack of them shows the tree.
    pub layers: Vec<Scratch>,
    /// The layers' digests.
    pub layer_digests: Vec<VerityDigest>,
    /// The image of the whole tree.
    pub rootfs: Scratch,
    /// Its digest.
    pub rootfs_digest: VerityDigest,
}

impl ErofsImages {
    fn new(algorithm: Algorithm, WrittenImages { container, merged }: WrittenImages) -> Self {
        let digest = |image: &Scratch| {
            let mut hasher = VerityHasher::new(algorithm);
            image.pieces().for_each(|piece| hasher.update(piece));
            image.forget();
            hasher.finish()
        };
        Self {
            algorithm,
            container: container.map(|(layers, rootfs)| ContainerImages {
                layer_digests: layers.iter().map(digest).collect(),
                layers,
                rootfs_digest: digest(&rootfs),
                rootfs,
            }),
            merged: merged.map(|image| {
                let digest = digest(&image);
                (image, digest)
            }),
        }
    }

    /// Returns the images of the container's tree.
    ///
    /// # Errors
    /// H03–H07: why the image has none.
    pub fn container(&self) -> Result<&ContainerImages> {
        self.container.as_ref().map_err(Clone::clone)
    }

    /// Returns the digest of the merged image, where there is one.
    pub fn merged_digest(&self) -> Option<VerityDigest> {
        self.merged.as_ref().ok().map(|(_, digest)| *digest)
    }

    /// Returns the digests without the images.
    ///
    /// # Errors
    /// As [`Self::container`].
    pub fn digests(&self) -> Result<TreeDigests> {
        let made = self.container()?;
        Ok(TreeDigests { rootfs: made.rootfs_digest, merged: self.merged_digest(), layers: made.layer_digests.clone() })
    }

    /// Lists digests and images, the layers' first.
    pub fn all(&self) -> impl Iterator<Item = (&VerityDigest, &Scratch)> {
        let container = self.container.iter().flat_map(|made| {
            made.layer_digests.iter().zip(&made.layers).chain(Some((&made.rootfs_digest, &made.rootfs)))
        });
        container.chain(self.merged.iter().map(|(image, digest)| (digest, image)))
    }
}

/// The digests of one image's EROFS images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeDigests {
    /// The digest of the container's tree.
    pub rootfs: VerityDigest,
    /// The digest of composefs' canonical tree, where it makes one.
    pub merged: Option<VerityDigest>,
    /// The digest of each layer, lowest first.
    pub layers: Vec<VerityDigest>,
}

impl TreeDigests {
    /// Lists all digests, the layers' first.
    pub fn all(&self) -> impl Iterator<Item = &VerityDigest> {
        self.layers.iter().chain(Some(&self.rootfs)).chain(&self.merged)
    }
}

/// Is told of the progress by several threads: the number of bytes of tar read since the last call.
pub type ReadProgress<'a> = &'a (dyn Fn(u64) + Sync);

/// Takes the entries of a layer, by its number, from several threads.
pub type TakeEntries<'a> = &'a (dyn Fn(usize, Vec<TarEntry>) + Sync);

/// Takes part in reading layers, with one blob for each.
pub trait LayerVisitor: Sync {
    /// Makes the sink for the files' content.
    fn sink(&self) -> Box<dyn ContentSink + '_>;

    /// Opens the layer's blob; what is read through it is what is judged.
    ///
    /// # Errors
    /// The store's own.
    fn open(&self, layer: &Layer) -> Result<Box<dyn LayerBlob + '_>>;
}

/// A layer blob that is being read.
pub trait LayerBlob: std::io::Read + Send {
    /// Keeps the layer: it was read to its end, and is the one that manifest and config name.
    ///
    /// # Errors
    /// Whatever keeps the visitor from keeping it.
    fn keep(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl LayerBlob for File {}

/// Reads from a blob store and keeps nothing.
#[derive(Debug)]
pub struct ReadOnly<'a> {
    /// Where the blobs are.
    pub store: &'a BlobStore,
    /// What to hash with.
    pub algorithm: Algorithm,
}

impl LayerVisitor for ReadOnly<'_> {
    fn sink(&self) -> Box<dyn ContentSink + '_> {
        Box::new(HashOnly::new(self.algorithm))
    }

    fn open(&self, layer: &Layer) -> Result<Box<dyn LayerBlob + '_>> {
        Ok(Box::new(self.store.open_blob(&layer.digest)?))
    }
}

impl Contents {
    /// Returns the entries of each layer, lowest first.
    ///
    /// # Errors
    /// [`Case::Bug`] when they were not kept.
    pub fn entries(&self) -> Result<&[Vec<TarEntry>]> {
        self.entries.as_deref().ok_or_else(|| Refusal::new(Case::Bug, "layers", "their entries were not kept"))
    }

    /// Returns how many layers there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns whether what was kept is enough for `keep`.
    pub fn has(&self, keep: Keep) -> bool {
        keep == Keep::Images || self.entries.is_some()
    }

    /// Reads every layer of `image` once and makes the EROFS images. Layers are read side by side, on
    /// as many threads as there are processors.
    ///
    /// # Errors
    /// [`Case::C04Bytes`] when a blob or its tar is not what manifest and config say; H03–H12 for
    /// content that cannot be sealed; C03 over budget.
    pub fn read(
        image: &Image,
        wanted: ContentsRequest,
        visitor: &dyn LayerVisitor,
        budget: &Budget,
        progress: ReadProgress<'_>,
    ) -> Result<Self> {
        let read = |take: TakeEntries<'_>| read_layers(&image.layers, visitor, budget, progress, take);
        Self::from_layers(wanted, image.layers.len(), read)
    }

    /// Reads some layers of an image, by their numbers, for the visitor's sake.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn visit(
        image: &Image,
        numbers: &[usize],
        visitor: &dyn LayerVisitor,
        budget: &Budget,
        progress: ReadProgress<'_>,
    ) -> Result<()> {
        let layers: Vec<Layer> = numbers.iter().filter_map(|n| image.layers.get(*n)).cloned().collect();
        read_layers(&layers, visitor, budget, progress, &|_, _| ())
    }

    /// Makes the contents from the entries of each of `count` layers, which `read` hands on in any order. Trees and
    /// EROFS images are made meanwhile, as soon as there is something to make them of.
    ///
    /// # Errors
    /// Those of `read`; H03–H12: what cannot be sealed.
    pub fn from_layers(
        wanted: ContentsRequest,
        count: usize,
        read: impl FnOnce(TakeEntries<'_>) -> Result<()>,
    ) -> Result<Self> {
        let ContentsRequest { algorithm, keep } = wanted;
        let layers = InOrder::new(count);
        let mut kept = (keep == Keep::Entries).then(Vec::new);
        let made = std::thread::scope(|scope| {
            let entries = layers.iter().inspect(|entries: &Vec<TarEntry>| {
                if let Some(kept) = &mut kept {
                    kept.push(entries.clone());
                }
            });
            let writer = std::thread::Builder::new()
                .spawn_scoped(scope, || Writer::all(algorithm, entries))
                .map_err(|e| Refusal::io("thread", e))?;
            let read = layers.during(|| read(&|number, entries| layers.put(number, entries)));
            let made = writer.join().unwrap_or_else(|_| Err(Refusal::new(Case::Bug, "tree", "it cannot be handled")));
            // What could not be read is the reason where something could not be made.
            read.and(made)
        });
        let made = made?;
        if let Some((layers, _)) = made.container.as_ref().ok().filter(|(layers, _)| layers.len() != count) {
            return Err(Refusal::new(Case::Bug, "layers", format!("{} of {count} were read", layers.len())));
        }
        Ok(Self { count, entries: kept, images: ErofsImages::new(algorithm, made) })
    }
}

fn read_layers(
    layers: &[Layer],
    visitor: &dyn LayerVisitor,
    budget: &Budget,
    progress: ReadProgress<'_>,
    take: TakeEntries<'_>,
) -> Result<()> {
    let kept = AtomicU64::new(0);
    let read = |(): &mut (), number: usize| {
        let entries = read_one(&layers[number], visitor, budget, progress)
            .and_then(|entries| within_memory(entries, &kept, budget))
            .map_err(|refusal| refusal.within(format!("layer {number}")))?;
        take(number, entries);
        Ok(())
    };
    workers::each(workers::processors(), layers.len(), || (), read).map(drop)
}

/// Counts the memory of a layer's entries, and refuses too much of it. The budget is the image's: one blob can be
/// listed five hundred times.
fn within_memory(entries: Vec<TarEntry>, kept: &AtomicU64, budget: &Budget) -> Result<Vec<TarEntry>> {
    let weight: u64 = entries.iter().map(TarEntry::weight).sum();
    if kept.fetch_add(weight, Ordering::Relaxed) + weight > budget.kept {
        let why = format!("names and attributes need more than {} bytes", budget.kept);
        return Err(Refusal::new(Case::H07Budget, "", why));
    }
    Ok(entries)
}

fn read_one(
    layer: &Layer,
    visitor: &dyn LayerVisitor,
    budget: &Budget,
    progress: ReadProgress<'_>,
) -> Result<Vec<TarEntry>> {
    let mut reader = visitor.open(layer)?;
    let mut sink = visitor.sink();
    let content = read_layer(&mut reader, budget, sink.as_mut(), &mut |n| progress(n))?;
    let check = |found: BlobDigest, wanted: BlobDigest, what: &str| {
        if found == wanted {
            Ok(())
        } else {
            Err(Refusal::new(Case::C04Bytes, wanted.to_string(), format!("{what} is {found}")))
        }
    };
    check(content.digest, layer.digest, "the blob's digest")?;
    if content.size != layer.size {
        return Err(Refusal::new(
            Case::C04Bytes,
            layer.digest.to_string(),
            format!("{} bytes, the manifest says {}", content.size, layer.size),
        ));
    }
    check(content.diff_id, layer.diff_id, "the uncompressed layer's digest (diff_id)")?;
    drop(sink);
    reader.keep()?;
    let mut entries = content.entries;
    // The entries may wait long for the layers beneath.
    entries.shrink_to_fit();
    Ok(entries)
}
