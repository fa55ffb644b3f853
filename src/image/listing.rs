//! Which file of an EROFS image is which object.

use std::os::unix::ffi::OsStrExt as _;

use composefs::fsverity::{FsVerityHashValue, Sha256HashValue, Sha512HashValue};
use composefs::tree::{Directory, FileSystem, Inode, LeafContent, RegularFile};

use super::erofs::{on_deep_stack, read};
use crate::digest::{Algorithm, VerityDigest};
use crate::error::{Case, Refusal, Result};

/// A file whose content is an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// Its path, without a leading slash.
    pub path: Vec<u8>,
    /// The object.
    pub object: VerityDigest,
    /// Bytes of its content.
    pub size: u64,
}

/// Lists all names of all files of the EROFS image `image` whose content is an object, in the order of the tree.
///
/// # Errors
/// [`Case::H09Erofs`].
pub fn external_files(image: &[u8], algorithm: Algorithm) -> Result<Vec<External>> {
    on_deep_stack(|| match algorithm {
        Algorithm::Sha256 => list(&read::<Sha256HashValue>(image)?, algorithm),
        Algorithm::Sha512 => list(&read::<Sha512HashValue>(image)?, algorithm),
    })
}

fn list<H: FsVerityHashValue>(tree: &FileSystem<H>, algorithm: Algorithm) -> Result<Vec<External>> {
    let mut found = Vec::new();
    walk(tree, &tree.root, b"", &mut found);
    let file = |(path, id, size): (Vec<u8>, Vec<u8>, u64)| {
        let object = VerityDigest::new(algorithm, &id);
        let object = object.ok_or_else(|| Refusal::new(Case::Bug, "object", "digest size"))?;
        Ok(External { path, object, size })
    };
    found.into_iter().map(file).collect()
}

fn walk<H: FsVerityHashValue>(
    tree: &FileSystem<H>,
    dir: &Directory<H>,
    at: &[u8],
    found: &mut Vec<(Vec<u8>, Vec<u8>, u64)>,
) {
    for (name, inode) in dir.entries() {
        let slash: &[u8] = if at.is_empty() { b"" } else { b"/" };
        let path = [at, slash, name.as_bytes()].concat();
        match inode {
            Inode::Directory(sub) => walk(tree, sub, &path, found),
            Inode::Leaf(id, _) => {
                if let LeafContent::Regular(RegularFile::External(object, size)) = &tree.leaf(*id).content {
                    found.push((path, object.as_bytes().to_vec(), *size));
                }
            }
        }
    }
}
