//! fs-verity digests, computed in user space.
//!
//! A file is cut into blocks of 4096 bytes, the last one filled up with zeros. The hashes of the
//! blocks, in order, are again cut into blocks, level by level, until one hash is left: the Merkle
//! tree's root. The digest is the hash of a 256-byte descriptor that holds the root, the file's
//! size and the parameters; here these are always: descriptor version 1, 4096-byte blocks, no salt.
//! Defined by the kernel's `Documentation/filesystems/fsverity.rst`; `fsverity digest` prints the
//! same.

#[cfg(test)]
mod tests;

use std::fmt;
use std::mem;
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512};

use sha_lanes::{BLOCK_SIZE, sha256_blocks, sha512_blocks};

/// How many blocks are hashed together: as many as the widest of the multi-lane kernels takes.
const BATCH: usize = 16;
const BATCH_SIZE: usize = BATCH * BLOCK_SIZE;

/// Binary logarithm of the block size: how descriptors and names give it.
const LOG_BLOCK_SIZE: u8 = BLOCK_SIZE.ilog2() as u8;

/// Bytes of the longest digest, and of the descriptor's field for the root hash.
const MAX_DIGEST_SIZE: usize = 64;

/// fs-verity hash algorithm with 4096-byte blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, `FS_VERITY_HASH_ALG_SHA256`.
    Sha256,
    /// SHA-512, `FS_VERITY_HASH_ALG_SHA512`.
    Sha512,
}

impl Algorithm {
    /// Returns the kernel's number (`FS_VERITY_HASH_ALG_*` in `linux/fsverity.h`): 1 or 2.
    pub const fn kernel_id(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    /// Returns how many bytes a digest has: 32 or 64.
    pub const fn digest_size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Returns how many bytes of hashes the kernel keeps with a file of `size` bytes: whole blocks for each level,
    /// until one block is left (Documentation/filesystems/fsverity.rst, "Merkle tree").
    pub const fn tree_size(self, size: u64) -> u64 {
        const BLOCK: u64 = 4096;
        let (mut blocks, mut bytes) = (size.div_ceil(BLOCK), 0);
        while blocks > 1 {
            blocks = blocks.div_ceil(BLOCK / self.digest_size() as u64);
            bytes += blocks * BLOCK;
        }
        bytes
    }

    /// Returns the composefs name; its last part is the binary logarithm of the block size.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "fsverity-sha256-12",
            Self::Sha512 => "fsverity-sha512-12",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Takes [`Algorithm::name`] or its short form, `sha256` or `sha512`; nothing else.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "fsverity-sha256-12" | "sha256" => Ok(Self::Sha256),
            "fsverity-sha512-12" | "sha512" => Ok(Self::Sha512),
            _ => Err(UnknownAlgorithm(name.to_owned())),
        }
    }
}

/// A name that is not an [`Algorithm`]'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAlgorithm(String);

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quoted with escapes: the name may come from an untrusted manifest.
        write!(f, "unknown fs-verity algorithm {:?}", self.0)
    }
}

impl std::error::Error for UnknownAlgorithm {}

/// An fs-verity digest with its algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VerityDigest {
    algorithm: Algorithm,
    /// Zero beyond the digest, so that the derived comparisons hold.
    bytes: [u8; MAX_DIGEST_SIZE],
}

impl VerityDigest {
    /// Makes the digest that consists of `bytes`, if these are as many as the algorithm produces.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == algorithm.digest_size()).then(|| Self::padded(algorithm, bytes))
    }

    fn padded(algorithm: Algorithm, digest: &[u8]) -> Self {
        let mut bytes = [0; MAX_DIGEST_SIZE];
        bytes[..digest.len()].copy_from_slice(digest);
        Self { algorithm, bytes }
    }

    /// Returns the algorithm that made it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the raw digest, [`Algorithm::digest_size`] bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_size()]
    }

    /// Returns the digest in lowercase hexadecimal, without the algorithm.
    pub fn to_hex(&self) -> String {
        hex::encode(self.as_bytes())
    }

    /// Parses what [`VerityDigest::to_hex`] writes: lowercase, exact length.
    pub fn from_hex(algorithm: Algorithm, text: &str) -> Option<Self> {
        let mut bytes = [0; MAX_DIGEST_SIZE];
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        // Text of any other length is refused.
        hex::decode_to_slice(text, &mut bytes[..algorithm.digest_size()]).ok()?;
        Some(Self { algorithm, bytes })
    }

    /// Returns where a composefs object store keeps the file, relative to its `objects` directory: the first byte in
    /// hexadecimal, a slash, the other bytes.
    pub fn object_path(&self) -> String {
        let mut path = self.to_hex();
        path.insert(2, '/');
        path
    }
}

impl fmt::Display for VerityDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_hex())
    }
}

impl fmt::Debug for VerityDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Computes the fs-verity digest of a file from its contents in order.
///
/// Whole batches of 64 KiB are hashed in place; smaller pieces wait in a buffer of that size. Memory is at most one
/// such buffer for each level of the Merkle tree, whatever the file's size (a level has 1/128 or 1/64 of the blocks of
/// the level below).
#[derive(Clone)]
pub struct VerityHasher {
    algorithm: Algorithm,
    /// How many bytes of the file it has seen.
    size: u64,
    /// What is not yet hashed of the file (level 0) and of the levels of the tree above it, always
    /// less than a batch.
    levels: Vec<Vec<u8>>,
}

impl VerityHasher {
    /// Makes a hasher for a file of which it has seen nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, size: 0, levels: vec![Vec::new()] }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, mut data: &[u8]) {
        self.size += data.len() as u64;
        let buffered = self.levels[0].len();
        if buffered > 0 {
            let (head, tail) = data.split_at(data.len().min(BATCH_SIZE - buffered));
            self.append(0, head);
            data = tail;
        }
        let (batches, tail) = data.split_at(data.len() / BATCH_SIZE * BATCH_SIZE);
        self.hash_blocks(0, batches);
        self.append(0, tail);
    }

    /// Returns the digest of the file that consists of all bytes so far.
    pub fn finish(mut self) -> VerityDigest {
        let digest_size = self.algorithm.digest_size();
        let mut blocks = self.size.div_ceil(BLOCK_SIZE as u64);
        let mut level = 0;
        // By definition an empty file has a root hash of zeros, not the hash of an empty block.
        let mut root = [0; MAX_DIGEST_SIZE];
        while blocks > 0 {
            let mut rest = mem::take(&mut self.levels[level]);
            rest.resize(rest.len().next_multiple_of(BLOCK_SIZE), 0);
            self.hash_blocks(level, &rest);
            level += 1;
            if blocks == 1 {
                root[..digest_size].copy_from_slice(&self.levels[level]);
                break;
            }
            blocks = blocks.div_ceil((BLOCK_SIZE / digest_size) as u64);
        }
        self.hash_descriptor(&root)
    }

    /// Adds bytes to a level, and hashes its blocks if they make a batch now.
    fn append(&mut self, level: usize, bytes: &[u8]) {
        let buffer = &mut self.levels[level];
        buffer.extend_from_slice(bytes);
        if buffer.len() >= BATCH_SIZE {
            let mut full = mem::take(buffer);
            let hashed = full.len() / BLOCK_SIZE * BLOCK_SIZE;
            self.hash_blocks(level, &full[..hashed]);
            full.drain(..hashed);
            self.levels[level] = full;
        }
    }

    /// Hashes whole blocks of a level, which yields bytes of the level above.
    fn hash_blocks(&mut self, level: usize, blocks: &[u8]) {
        if self.levels.len() == level + 1 {
            self.levels.push(Vec::new());
        }
        for batch in blocks.chunks(BATCH_SIZE) {
            let count = batch.len() / BLOCK_SIZE;
            match self.algorithm {
                Algorithm::Sha256 => {
                    let mut digests = [[0; 32]; BATCH];
                    sha256_blocks(batch, &mut digests[..count]);
                    self.append(level + 1, digests[..count].as_flattened());
                }
                Algorithm::Sha512 => {
                    let mut digests = [[0; 64]; BATCH];
                    sha512_blocks(batch, &mut digests[..count]);
                    self.append(level + 1, digests[..count].as_flattened());
                }
            }
        }
    }

    /// Hashes `struct fsverity_descriptor`, as `fsverity.rst` lays it out.
    fn hash_descriptor(&self, root: &[u8; MAX_DIGEST_SIZE]) -> VerityDigest {
        // What stays zero: salt_size, the reserved words, salt.
        let mut descriptor = [0; 256];
        descriptor[0] = 1; // version
        descriptor[1] = self.algorithm.kernel_id();
        descriptor[2] = LOG_BLOCK_SIZE;
        descriptor[8..16].copy_from_slice(&self.size.to_le_bytes());
        descriptor[16..80].copy_from_slice(root);
        match self.algorithm {
            Algorithm::Sha256 => VerityDigest::padded(self.algorithm, &Sha256::digest(descriptor)),
            Algorithm::Sha512 => VerityDigest::padded(self.algorithm, &Sha512::digest(descriptor)),
        }
    }
}

impl fmt::Debug for VerityHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerityHasher")
            .field("algorithm", &self.algorithm)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Computes the fs-verity digest of a file with these contents.
///
/// Only the last, partial block is copied.
pub fn verity_digest(algorithm: Algorithm, data: &[u8]) -> VerityDigest {
    let mut hasher = VerityHasher::new(algorithm);
    let (blocks, tail) = data.as_chunks::<BLOCK_SIZE>();
    hasher.size = data.len() as u64;
    hasher.hash_blocks(0, blocks.as_flattened());
    hasher.append(0, tail);
    hasher.finish()
}
