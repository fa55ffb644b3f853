//! The documents of an image that a store keeps (storage/images.go, "big data"), each in a file that its key names.

use std::fs::File;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::storage::{ImageRecord, Store};
use crate::digest::BlobDigest;
use crate::error::Result;
use crate::oci::{Budget, is_id, is_image_id};

/// A document, open.
pub(super) struct Document<'a> {
    store: &'a Store,
    name: String,
    file: File,
    length: u64,
}

impl Document<'_> {
    /// Returns how many bytes it has, of which none has been read.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads it, at most `max` bytes.
    ///
    /// # Errors
    /// [`Case::B01Records`](crate::error::Case::B01Records).
    pub fn read(self, max: u64) -> Result<Vec<u8>> {
        self.store.content(&self.name, self.file, self.length, max)
    }
}

impl Store {
    /// Opens a document of an image, if there is one.
    ///
    /// # Errors
    /// [`Case::B01Records`](crate::error::Case::B01Records), [`Case::B09Replaced`](crate::error::Case::B09Replaced).
    pub fn document(&self, image: &ImageRecord, key: &str) -> Result<Option<Document<'_>>> {
        if !is_image_id(image.id.as_bytes()) {
            return Err(self.bad("overlay-images/images.json", format!("{:?} is no image ID", image.id)));
        }
        let name = format!("{}-images/{}/{}", self.driver(), image.id, file_name(key));
        let opened = self.open_file(&name)?;
        Ok(opened.map(|(file, found)| Document { store: self, name, file, length: found.len() }))
    }

    /// Reads a document of an image, at most `max` bytes.
    ///
    /// # Errors
    /// As for [`Self::document`].
    pub fn big_data(&self, image: &ImageRecord, key: &str, max: u64) -> Result<Option<Vec<u8>>> {
        self.document(image, key)?.map(|document| document.read(max)).transpose()
    }

    /// Returns the digest of an image's manifest as it is stored; nothing is concluded from it.
    pub fn manifest(&self, driver: &str, image: &ImageRecord) -> Option<BlobDigest> {
        let id = Some(&image.id).filter(|id| is_id(id.as_bytes()))?;
        let bytes = self.read(&format!("{driver}-images/{id}/manifest"), Budget::STANDARD.manifest).ok()??;
        Some(BlobDigest::of(&bytes))
    }
}

/// Returns the file name of a big data key (storage/store.go, `makeBigDataBaseName`).
pub(super) fn file_name(key: &str) -> String {
    if key.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b'.') {
        return key.to_owned();
    }
    format!("={}", STANDARD.encode(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_data_keys_as_file_names() {
        assert_eq!(file_name("manifest"), "manifest");
        // As podman 4.3.1 wrote them.
        let hex = "721aec3e054eb0da590116d62f92ed2f62b7da293c6f98683acc1adcebc6f035";
        assert_eq!(
            file_name(&format!("sha256:{hex}")),
            "=c2hhMjU2OjcyMWFlYzNlMDU0ZWIwZGE1OTAxMTZkNjJmOTJlZDJmNjJiN2RhMjkzYzZmOTg2ODNhY2MxYWRjZWJjNmYwMzU="
        );
        assert!(file_name(&format!("manifest-sha256:{hex}")).starts_with("=bWFuaWZlc3Qtc2hhMjU2Oj"));
    }
}
