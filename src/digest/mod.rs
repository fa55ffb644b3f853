//! Digests: of blobs (SHA-256 of all bytes) and of files (fs-verity).

mod blob;
mod fingerprint;
mod verity;

pub use blob::{BlobDigest, BlobHasher};
pub use fingerprint::Fingerprint;
pub use verity::{Algorithm, UnknownAlgorithm, VerityDigest, VerityHasher, verity_digest};
