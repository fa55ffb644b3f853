use composefs::erofs::reader::erofs_to_filesystem;
use composefs::fsverity::FsVerityHashValue;
use composefs::tree::FileSystem;

use super::objects::check;
use crate::error::{Case, Refusal, Result};

/// Reads an EROFS image of any composefs format version as a tree. The bytes may be an attacker's;
/// the reader bounds what it follows, and the kernel is not involved.
///
/// # Errors
/// [`Case::H09Erofs`].
pub(in crate::image) fn read<H: FsVerityHashValue>(image: &[u8]) -> Result<FileSystem<H>> {
    check::<H>(image, &|| (), &mut |_, _| Ok(()))?;
    erofs_to_filesystem(image).map_err(|e| Refusal::new(Case::H09Erofs, "image", format!("{e:#}")))
}
