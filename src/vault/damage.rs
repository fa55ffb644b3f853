//! What is damaged in an image, and what was done about it.

use crate::digest::{BlobDigest, VerityDigest};
use crate::error::{Case, Refusal};

/// A part of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePart {
    /// The layer of this number, the lowest is 0.
    Layer(usize),
    /// The container's tree.
    Rootfs,
    /// composefs' tree of all layers.
    Merged,
}

impl std::fmt::Display for ImagePart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Layer(number) => write!(f, "layer {number}"),
            Self::Rootfs => f.write_str("rootfs"),
            Self::Merged => f.write_str("merged"),
        }
    }
}

/// A fault of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// Its content is right, but the kernel does not protect it.
    Unprotected,
    /// The filesystem has lost its fs-verity data. It was not asked for them: opening the file is an error of the
    /// filesystem. See docs/assurance.md.
    Lost,
    /// It is not what its name says, or cannot be read; in what way.
    Damaged(String),
}

impl Fault {
    /// Returns the case that a refusal for this fault has.
    pub fn case(&self) -> Case {
        match self {
            Self::Unprotected => Case::G01Missing,
            Self::Missing | Self::Lost | Self::Damaged(_) => Case::I02Object,
        }
    }

    /// Names the fault in one word, for people and scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unprotected => "without fs-verity",
            Self::Lost => "without its fs-verity data",
            Self::Damaged(_) => "damaged",
        }
    }
}

/// What was done about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing.
    None,
    /// The object is whole again.
    Repaired,
    /// The object is gone, and so are the notes that it is good.
    Removed,
}

/// One damaged file, by one of its names.
#[derive(Clone, Debug)]
pub struct Damage {
    /// The part that it is in.
    pub part: ImagePart,
    /// The file; `None` for the EROFS image itself.
    pub path: Option<String>,
    /// Its object.
    pub object: VerityDigest,
    /// What is wrong.
    pub fault: Fault,
    /// What was done about it.
    pub remedy: Remedy,
}

/// A blob of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blob {
    /// Its manifest.
    Manifest,
    /// Its config.
    Config,
    /// The layer of this number, as it is transported.
    Layer(usize),
    /// A seal's manifest, or one of its signatures and statements.
    Seal,
}

impl std::fmt::Display for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Manifest => f.write_str("manifest"),
            Self::Config => f.write_str("config"),
            Self::Layer(number) => write!(f, "layer {number}"),
            Self::Seal => f.write_str("seal"),
        }
    }
}

/// A blob that is not what its name says, or not there.
#[derive(Clone, Debug)]
pub struct BlobDamage {
    /// Which blob it is.
    pub blob: Blob,
    /// Its digest.
    pub digest: BlobDigest,
    /// Whether it is missing; else its bytes are wrong.
    pub missing: bool,
    /// What was done about it.
    pub remedy: Remedy,
}

/// What was found in one image.
#[derive(Clone, Debug)]
pub struct ImageFsckReport {
    /// Its manifest.
    pub image: BlobDigest,
    /// Objects that it needs, EROFS images among them.
    pub objects: usize,
    /// Why some of its seals and EROFS images cannot be read.
    pub documents: Vec<Refusal>,
    /// Manifest, config and layers.
    pub blobs: Vec<BlobDamage>,
    /// Files and EROFS images.
    pub damage: Vec<Damage>,
}

impl ImageFsckReport {
    /// Returns whether everything is there and good, or was made so.
    pub fn is_whole(&self) -> bool {
        let blobs = self.blobs.iter().all(|b| b.remedy == Remedy::Repaired);
        self.documents.is_empty() && blobs && self.damage.iter().all(|d| d.remedy == Remedy::Repaired)
    }
}

impl ImageFsckReport {
    /// Returns whether all that is left to be done is to bring seals again.
    pub fn lacks_seals_alone(&self) -> bool {
        let mut left = self.blobs.iter().filter(|b| b.remedy != Remedy::Repaired);
        left.all(|b| b.blob == Blob::Seal)
            && self.documents.is_empty()
            && self.damage.iter().all(|d| d.remedy == Remedy::Repaired)
    }
}
