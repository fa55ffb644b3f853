use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use composefs::erofs::reader::{
    DirectoryBlock, ErofsReaderError, Image as ErofsImage, InodeHeader as _, InodeOps as _, erofs_to_filesystem,
};
use composefs::fsverity::{FsVerityHashValue, Sha256HashValue, Sha512HashValue};
use composefs::tree::FileSystem;
use zerocopy::FromBytes as _;

use super::on_deep_stack;
use crate::digest::{Algorithm, VerityDigest};
use crate::error::{Case, Refusal, Result};
use crate::image::tree::external_files;
use crate::oci::Budget;

/// Checks that no directory of the image can be reached in two ways. The reader of composefs follows every way: sixty
/// directories that each hold the next one twice would keep it busy for ever.
fn tree_of_directories(image: &[u8]) -> std::result::Result<(), String> {
    let image = ErofsImage::open(image).map_err(|e| e.to_string())?;
    let mut seen = HashSet::new();
    let mut todo = vec![(u64::from(image.sb.root_nid.get()), 0)];
    while let Some((nid, depth)) = todo.pop() {
        if !seen.insert(nid) {
            return Err(format!("directory {nid} has two names"));
        }
        if depth > Budget::STANDARD.depth {
            return Err("its directories are too deep".into());
        }
        for child in children(&image, nid).map_err(|e| e.to_string())? {
            if image.inode(child).map_err(|e| e.to_string())?.mode().is_dir() {
                todo.push((child, depth + 1));
            }
        }
    }
    Ok(())
}

/// Lists the inode numbers of what a directory holds, without itself and its parent.
fn children(image: &ErofsImage<'_>, nid: u64) -> std::result::Result<Vec<u64>, ErofsReaderError> {
    let inode = image.inode(nid)?;
    let mut found = Vec::new();
    let mut last: Option<Vec<u8>> = None;
    let mut take = |block: &DirectoryBlock| {
        for entry in block.entries()? {
            let entry = entry?;
            // The kernel searches by halves: a name out of order would be listed and could not be opened.
            if last.as_deref().is_some_and(|last| last >= entry.name) {
                return Err(ErofsReaderError::DuplicateEntry(OsStr::from_bytes(entry.name).into()));
            }
            last = Some(entry.name.to_vec());
            if entry.name != b"." && entry.name != b".." {
                found.push(entry.nid());
            }
        }
        Ok(())
    };
    for block in image.inode_blocks(&inode)? {
        take(image.directory_block(block)?)?;
    }
    if let Some(block) = inode.inline().and_then(|tail| DirectoryBlock::ref_from_bytes(tail).ok()) {
        take(block)?;
    }
    Ok(found)
}

/// Reads an EROFS image of any composefs format version as a tree. The bytes may be an attacker's;
/// the reader bounds what it follows, and the kernel is not involved.
///
/// # Errors
/// [`Case::H09Erofs`].
pub(in crate::image) fn read<H: FsVerityHashValue>(image: &[u8]) -> Result<FileSystem<H>> {
    if image.is_empty() || !image.len().is_multiple_of(4096) {
        return Err(Refusal::new(Case::H09Erofs, "image", format!("{} bytes are no multiple of 4096", image.len())));
    }
    tree_of_directories(image).map_err(|why| Refusal::new(Case::H09Erofs, "image", why))?;
    erofs_to_filesystem(image).map_err(|e| Refusal::new(Case::H09Erofs, "image", format!("{e:#}")))
}

/// Lists the objects that an EROFS image refers to, with their sizes.
///
/// # Errors
/// [`Case::H09Erofs`].
pub fn objects(image: &[u8], algorithm: Algorithm) -> Result<Vec<(VerityDigest, u64)>> {
    on_deep_stack(|| match algorithm {
        Algorithm::Sha256 => named::<Sha256HashValue>(image, algorithm),
        Algorithm::Sha512 => named::<Sha512HashValue>(image, algorithm),
    })
}

fn named<H: FsVerityHashValue>(image: &[u8], algorithm: Algorithm) -> Result<Vec<(VerityDigest, u64)>> {
    let of = |(id, size): (H, u64)| {
        let digest = VerityDigest::new(algorithm, id.as_bytes());
        Ok((digest.ok_or_else(|| Refusal::new(Case::Bug, "object", "digest size"))?, size))
    };
    external_files(read::<H>(image)?).into_iter().map(of).collect()
}
