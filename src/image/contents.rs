use std::fs::File;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::in_order::InOrder;
use super::layer::{ContentSink, HashOnly, read_layer};
use super::tar::Entry;
use super::{Writer, Written};
use crate::digest::{Algorithm, BlobDigest, VerityDigest, verity_digest};
use crate::oci::{BlobStore, Budget, Image, Layer};
use crate::report::{Case, Refusal, Result};

/// What the layers of an image really hold, read from their blobs: the EROFS images that we make of them,
/// and where they are wanted the entries.
#[derive(Debug)]
pub struct Contents {
    count: usize,
    entries: Option<Vec<Vec<Entry>>>,
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

/// The EROFS images of one image, and their fs-verity digests. One of the two trees there is.
#[derive(Debug)]
pub struct ErofsImages {
    /// The algorithm of all digests.
    pub algorithm: Algorithm,
    /// Of the container's tree, or why the image has none that podman shows: then it cannot be sealed by us.
    /// Others may have sealed the other tree.
    pub container: Result<ContainerImages>,
    /// composefs' canonical tree with its digest, or why there is none.
    pub merged: Result<(Vec<u8>, VerityDigest)>,
}

/// The images of the container's tree.
#[derive(Debug)]
pub struct ContainerImages {
    /// That of each layer, lowest first: a stack of them shows the tree.
    pub layers: Vec<Vec<u8>>,
    /// Their digests.
    pub layer_digests: Vec<VerityDigest>,
    /// The tree.
    pub rootfs: Vec<u8>,
    /// Its digest.
    pub rootfs_digest: VerityDigest,
}

impl ErofsImages {
    fn new(algorithm: Algorithm, Written { container, merged }: Written) -> Self {
        let digest = |image: &Vec<u8>| verity_digest(algorithm, image);
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

    /// Those of the container's tree.
    ///
    /// # Errors
    /// H03–H07: why the image has none.
    pub fn container(&self) -> Result<&ContainerImages> {
        self.container.as_ref().map_err(Clone::clone)
    }

    /// The digest of the merged image, where there is one.
    pub fn merged_digest(&self) -> Option<VerityDigest> {
        self.merged.as_ref().ok().map(|(_, digest)| *digest)
    }

    /// What they are, without the images.
    ///
    /// # Errors
    /// As [`Self::container`].
    pub fn digests(&self) -> Result<TreeDigests> {
        let made = self.container()?;
        Ok(TreeDigests { rootfs: made.rootfs_digest, merged: self.merged_digest(), layers: made.layer_digests.clone() })
    }

    /// Digests and images, the layers' first.
    pub fn all(&self) -> impl Iterator<Item = (&VerityDigest, &Vec<u8>)> {
        let container = self.container.iter().flat_map(|made| {
            made.layer_digests.iter().zip(&made.layers).chain(Some((&made.rootfs_digest, &made.rootfs)))
        });
        container.chain(self.merged.iter().map(|(image, digest)| (digest, image)))
    }
}

/// The digests of one image's EROFS images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeDigests {
    /// Of the container's tree.
    pub rootfs: VerityDigest,
    /// Of composefs' canonical tree, where it makes one.
    pub merged: Option<VerityDigest>,
    /// Of each layer, lowest first.
    pub layers: Vec<VerityDigest>,
}

impl TreeDigests {
    /// All of them, the layers' first.
    pub fn all(&self) -> impl Iterator<Item = &VerityDigest> {
        self.layers.iter().chain(Some(&self.rootfs)).chain(&self.merged)
    }
}

/// Told about progress from several threads: the number of bytes of tar read since the last call.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// Takes the entries of a layer, by its number, from several threads.
pub type Take<'a> = &'a (dyn Fn(usize, Vec<Entry>) + Sync);

/// Takes part in reading a layer, one for each.
pub trait LayerVisitor: Sync {
    /// Where the files' content goes.
    fn sink(&self) -> Box<dyn ContentSink + '_>;

    /// Opens the layer's blob; what is read through it is what is judged.
    ///
    /// # Errors
    /// Whatever the store has to say.
    fn open(&self, layer: &Layer) -> Result<Box<dyn LayerBlob + '_>>;
}

/// A layer blob that is being read.
pub trait LayerBlob: std::io::Read + Send {
    /// It was read to its end, and is the one that manifest and config name.
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
    /// Entries of each layer, lowest first.
    ///
    /// # Errors
    /// [`Case::Bug`] when they were not kept.
    pub fn entries(&self) -> Result<&[Vec<Entry>]> {
        self.entries.as_deref().ok_or_else(|| Refusal::new(Case::Bug, "layers", "their entries were not kept"))
    }

    /// How many layers there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether this is what somebody wants to be kept, or more.
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
        (algorithm, keep): (Algorithm, Keep),
        visitor: &dyn LayerVisitor,
        budget: &Budget,
        progress: Progress<'_>,
    ) -> Result<Self> {
        let read = |take: Take<'_>| read_layers(&image.layers, visitor, budget, progress, take);
        Self::from_layers((algorithm, keep), image.layers.len(), read)
    }

    /// Reads some layers of an image, by their numbers, for what the visitor makes of them.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn visit(
        image: &Image,
        numbers: &[usize],
        visitor: &dyn LayerVisitor,
        budget: &Budget,
        progress: Progress<'_>,
    ) -> Result<()> {
        let layers: Vec<Layer> = numbers.iter().filter_map(|n| image.layers.get(*n)).cloned().collect();
        read_layers(&layers, visitor, budget, progress, &|_, _| ())
    }

    /// From the entries of each of `count` layers, which `read` hands on in any order. Trees and EROFS images
    /// are made meanwhile, as far as there is something to make them of.
    ///
    /// # Errors
    /// Those of `read`; H03–H12: what cannot be sealed.
    pub fn from_layers(
        (algorithm, keep): (Algorithm, Keep),
        count: usize,
        read: impl FnOnce(Take<'_>) -> Result<()>,
    ) -> Result<Self> {
        let layers = InOrder::new(count);
        let mut kept = (keep == Keep::Entries).then(Vec::new);
        let made = std::thread::scope(|scope| {
            let entries = layers.iter().inspect(|entries: &Vec<Entry>| {
                if let Some(kept) = &mut kept {
                    kept.push(entries.clone());
                }
            });
            let writer = std::thread::Builder::new()
                .spawn_scoped(scope, || Writer::all(algorithm, entries))
                .map_err(|e| Refusal::io("thread", e))?;
            let read = layers.during(|| read(&|number, entries| layers.put(number, entries)));
            let made = writer.join().unwrap_or_else(|_| Err(Refusal::new(Case::Bug, "tree", "it cannot be handled")));
            // What was not read is why something could not be made.
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
    progress: Progress<'_>,
    take: Take<'_>,
) -> Result<()> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(layers.len()).max(1);
    let next = AtomicUsize::new(0);
    let kept = AtomicU64::new(0);
    let refused: Mutex<Option<(usize, Refusal)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let number = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < layers.len());
                while let Some(number) = number() {
                    let entries = read_one(&layers[number], visitor, budget, progress)
                        .and_then(|entries| within_memory(entries, &kept, budget));
                    match entries {
                        Ok(entries) => take(number, entries),
                        Err(refusal) => {
                            // The others need not go on: one refusal is enough.
                            next.store(layers.len(), Ordering::Relaxed);
                            let mut first = refused.lock().unwrap_or_else(PoisonError::into_inner);
                            if first.as_ref().is_none_or(|(n, _)| *n > number) {
                                *first = Some((number, refusal));
                            }
                        }
                    }
                }
            });
        }
    });
    // The first refusal in layer order, so that the same image gives the same message.
    match refused.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((number, refusal)) => Err(refusal.within(format!("layer {number}"))),
        None => Ok(()),
    }
}

/// The budget is the image's: one blob can be listed five hundred times.
fn within_memory(entries: Vec<Entry>, kept: &AtomicU64, budget: &Budget) -> Result<Vec<Entry>> {
    let weight: u64 = entries.iter().map(Entry::weight).sum();
    if kept.fetch_add(weight, Ordering::Relaxed) + weight > budget.kept {
        let why = format!("names and attributes need more than {} bytes", budget.kept);
        return Err(Refusal::new(Case::H07Budget, "", why));
    }
    Ok(entries)
}

fn read_one(layer: &Layer, visitor: &dyn LayerVisitor, budget: &Budget, progress: Progress<'_>) -> Result<Vec<Entry>> {
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
    // They may wait long for the layers beneath.
    entries.shrink_to_fit();
    Ok(entries)
}
