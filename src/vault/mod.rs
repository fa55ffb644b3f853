//! What this host holds: objects, blobs, images, tags. Nothing in it is believed where somebody is to
//! vouch for an image: signatures are checked and files measured at every use. Where nobody is, the
//! digests that this host kept when it pulled the image are what the kernel checks against.
//!
//! ```text
//! objects/xx/…          file contents and EROFS images, named by fs-verity digest, fs-verity enabled;
//!                       `mount.composefs -o basedir=objects` works on it
//! blobs/sha256/…        manifests, configs, layers, signatures: as in an OCI layout
//! images/<manifest>/    seals/<artifact>: the seals found for it, raw
//!                       checked.<artifact>: its images were compared with the layers
//!                       digests.<algorithm>: of the EROFS images that this host made
//! prepared/<digest>     all objects of this EROFS image are here, with fs-verity
//! tags/<name>           digest of a manifest
//! ```
//!
//! Whoever uses the vault holds [`Vault::shared`] from before the first look until the mount stands:
//! [`collect`] removes what nobody needs, and waits until nobody is at work.

mod fsck;
mod gc;
mod images;
mod lock;
mod named;
mod objects;
mod repair;
mod sweep;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::oci::BlobStore;
use crate::report::{Case, Refusal, Result};
use crate::sys::files;

pub use fsck::{Checked, Damage, Fault, Fsck, Part, Progress, Remedy};
pub use gc::{Collected, Others, collect};
pub use images::Tag;
pub use lock::Lock;
pub use objects::Import;
pub(crate) use objects::hash;

/// The vault.
#[derive(Debug)]
pub struct Vault {
    root: OwnedFd,
    path: PathBuf,
    store: BlobStore,
    objects: OwnedFd,
}

impl Vault {
    /// Opens the vault at `path`.
    ///
    /// # Errors
    /// [`Case::NotFound`] when there is none yet.
    pub fn open(path: &Path) -> Result<Self> {
        let missing = |e: std::io::Error| Refusal::new(Case::NotFound, format!("vault {}", path.display()), e);
        let root = files::open_dir(path).map_err(missing)?;
        let store = BlobStore::open(&root, path)?;
        let objects = files::open_dir_at(&root, "objects").map_err(missing)?;
        Ok(Self { root, path: path.to_owned(), store, objects })
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
        Ok(Self { root, path: path.to_owned(), store, objects })
    }

    /// Manifests, configs, layers, signatures.
    pub fn store(&self) -> &BlobStore {
        &self.store
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn io(&self, e: std::io::Error) -> Refusal {
        Refusal::io(format!("vault {}", self.path.display()), e)
    }
}
