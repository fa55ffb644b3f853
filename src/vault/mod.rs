//! What this host holds: objects, blobs, images, tags. Nothing in it is believed where somebody is to vouch for an
//! image: signatures are checked and files measured at every use. Where nobody is, the kernel checks against the
//! digests that this host kept when it pulled the image.
//!
//! ```text
//! objects/xx/…          file contents and EROFS images, named by fs-verity digest, fs-verity enabled;
//!                       `mount.composefs -o basedir=objects` works on it
//! blobs/sha256/…        manifests, configs, layers, signatures: as in an OCI layout
//! images/<manifest>/    seals/<artifact>: the seals found for it, raw
//!                       checked.<artifact>: its images were compared with the layers
//!                       digests.<algorithm>: of the EROFS images that this host made
//! layers/<layer ID>/     the same digests of layers that are no image; whiteouts: their form on the disk
//! prepared/<digest>     all objects of this EROFS image are here, with fs-verity, which the note has itself
//! tags/<name>           digest of a manifest
//! stores/<name>         a container store that uses this vault, which is in no graph root
//! locks/<manifest>      somebody is reading the layers of this image
//! ```
//!
//! Every user of the vault holds [`Vault::shared`] from before the first look until the mount stands: [`collect`]
//! removes what is not needed, and waits until nobody is at work.

mod adopt;
mod damage;
mod floors;
mod fsck;
mod gc;
mod images;
mod import;
mod kept;
mod layers;
mod lock;
mod mark;
mod objects;
mod place;
mod references;
mod repair;
mod seals;
mod sweep;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::digest::{BlobDigest, VerityDigest};
use crate::error::{self, Case, Refusal, Result};
use crate::oci::BlobStore;
use crate::sys::files;

pub use damage::{Blob, BlobDamage, Damage, Fault, ImageFsckReport, ImagePart, Remedy};
pub use floors::{ListedFloor, floors, list_floors, raise, reset_floor, sweep_floors};
pub use fsck::{FsckProgress, VaultCheck};
pub use gc::collect;
pub use images::Tag;
pub use import::Import;
pub use kept::{bring_kept, keep_seal, kept_seals, restore_kept};
pub use lock::{Lock, Turn};
pub use mark::GcRoots;
pub(crate) use objects::{hash, kernel_knows};
pub use place::{NAME, check_place};
pub use repair::{Elsewhere, FetchedLayers};
pub use sweep::GcReport;

/// The vault.
#[derive(Debug)]
pub struct Vault {
    root: OwnedFd,
    path: PathBuf,
    store: BlobStore,
    objects: OwnedFd,
    /// The same directory in the tree of mounts, where the rest was opened through a private mount.
    attached: Option<OwnedFd>,
    tree: Option<OwnedFd>,
}

impl Vault {
    /// Opens the vault at `path`.
    ///
    /// # Errors
    /// [`Case::NotFound`] when there is none yet, [`Case::VaultBroken`] when it lacks a directory, [`Case::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let name = || format!("vault {}", path.display());
        let root = files::open_dir(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Refusal::new(Case::NotFound, name(), e),
            _ => Refusal::io(name(), e),
        })?;
        // Where a vault lacks one of them nothing can be concluded, least of all that nothing in it is needed.
        for part in ["objects", "blobs/sha256"] {
            files::open_dir_at(&root, part).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => Refusal::new(Case::VaultBroken, name(), format!("{part} is missing")),
                _ => Refusal::io(format!("{}/{part}", name()), e),
            })?;
        }
        let store = BlobStore::open(&root, path)?;
        let objects = files::open_dir_at(&root, "objects").map_err(|e| Refusal::io(name(), e))?;
        Ok(Self { root, path: path.to_owned(), store, objects, attached: None, tree: None })
    }

    /// Returns the root of the container store, in the mount that the vault was opened through.
    pub fn tree(&self) -> Option<&OwnedFd> {
        self.tree.as_ref()
    }

    /// Opens the vault at `path`, and makes it where it is missing: directories of mode 0700.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn create(path: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let io = |e: std::io::Error| Refusal::io(format!("vault {}", path.display()), e);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        let root = files::open_dir(path).map_err(io)?;
        let store = BlobStore::create(&root, path)?;
        let objects = files::make_dir_at(&root, "objects").map_err(io)?;
        Ok(Self { root, path: path.to_owned(), store, objects, attached: None, tree: None })
    }

    /// Checks that so many bytes can be written to the vault, in so many new files.
    ///
    /// # Errors
    /// [`Case::NoRoom`], with what is needed.
    pub fn check_room(&self, bytes: u64, files: u64) -> Result<()> {
        error::check_room(&self.objects, &self.path, bytes, files)
    }

    /// Returns the store of manifests, configs, layers and signatures.
    pub fn store(&self) -> &BlobStore {
        &self.store
    }

    /// Returns the vault's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn io(&self, e: std::io::Error) -> Refusal {
        Refusal::io(format!("vault {}", self.path.display()), e)
    }
}

/// Names a stack of EROFS images for the source of its mount, so that it is told from others: by a digest over those of
/// all, uppermost first, so that two with the same uppermost image are never taken for each other.
pub(crate) fn stack_name<'a>(uppermost_first: impl Iterator<Item = &'a VerityDigest>) -> String {
    let list: String = uppermost_first.map(|digest| format!("{digest}\n")).collect();
    BlobDigest::of(list.as_bytes()).hex()
}
