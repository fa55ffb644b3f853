//! Layers of a container store that are not those of an image, by their IDs.

use super::Vault;
use crate::digest::{Algorithm, BlobDigest};
use crate::error::Result;
use crate::image::{ErofsImages, TreeDigests};
use crate::sys::{files, new_files};

impl Vault {
    /// Keeps the digests of the EROFS images that this host made of the layers beneath `top` and of
    /// itself, and the images.
    ///
    /// # Errors
    /// [`crate::error::Case::Io`], G02.
    pub fn keep_layers(&self, top: &BlobDigest, images: &ErofsImages) -> Result<()> {
        self.keep_digests(&format!("layers/{}", top.hex()), images)
    }

    /// Returns the digests that were kept of the layers.
    pub fn layers(&self, top: &BlobDigest, algorithm: Algorithm) -> Option<TreeDigests> {
        self.digests(&format!("layers/{}", top.hex()), algorithm).ok().flatten()
    }

    /// Returns whether the layer holds whiteouts that overlayfs does not know, as far as this host has looked.
    pub fn aufs_whiteouts(&self, layer: &BlobDigest) -> Option<bool> {
        let dir = files::open_dir_at(&self.root, format!("layers/{}", layer.hex())).ok()?;
        let bytes = files::open_file_at(dir, "whiteouts").and_then(|f| files::read_all(f, 16)).ok()?;
        match bytes.as_slice() {
            b"aufs\n" => Some(true),
            b"none\n" => Some(false),
            _ => None,
        }
    }

    /// Remembers whether the layer holds such whiteouts: a layer does not change.
    ///
    /// # Errors
    /// [`crate::error::Case::Io`].
    pub fn mark_whiteouts(&self, layer: &BlobDigest, aufs: bool) -> Result<()> {
        let dir = files::make_dir_at(&self.root, &format!("layers/{}", layer.hex())).map_err(|e| self.io(e))?;
        let text: &[u8] = if aufs { b"aufs\n" } else { b"none\n" };
        new_files::write_atomic(dir, "whiteouts", 0o644, text).map_err(|e| self.io(e))
    }
}
