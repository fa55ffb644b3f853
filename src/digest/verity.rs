//! fs-verity digests, computed in user space.
//!
//! A file is cut into blocks of 4096 bytes, the last one filled up with zeros. The hashes of the
//! blocks, in order, are again cut into blocks, level by level, until one hash is left: the Merkle
//! tree's root. The digest is the hash of a 256-byte descriptor that holds the root, the file's
//! size and the parameters; here these are always: descriptor version 1, 4096-byte blocks, no salt.
//! Defined by the kernel's `Documentation/filesystems/fsverity.rst`; `fsverity digest` prints the
//! same.

use std::fmt;
use std::mem;
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512};

use crate::sys::sha_lanes::{BLOCK_SIZE, sha256_blocks, sha512_blocks};

/// Blocks that are hashed together: what the widest of the multi-lane kernels takes.
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
    /// The kernel's number (`FS_VERITY_HASH_ALG_*` in `linux/fsverity.h`): 1 or 2.
    pub const fn kernel_id(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    /// Bytes in a digest: 32 or 64.
    pub const fn digest_size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The composefs name; its last part is the binary logarithm of the block size.
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
    /// Zero after the digest's end, so that the derived comparisons hold.
    bytes: [u8; MAX_DIGEST_SIZE],
}

impl VerityDigest {
    /// The digest that consists of `bytes`, if these are as many as the algorithm makes.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == algorithm.digest_size()).then(|| Self::padded(algorithm, bytes))
    }

    fn padded(algorithm: Algorithm, digest: &[u8]) -> Self {
        let mut bytes = [0; MAX_DIGEST_SIZE];
        bytes[..digest.len()].copy_from_slice(digest);
        Self { algorithm, bytes }
    }

    /// The algorithm that made it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw digest, [`Algorithm::digest_size`] bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_size()]
    }

    /// The digest in lowercase hexadecimal, without the algorithm.
    pub fn to_hex(&self) -> String {
        let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
        let mut text = String::with_capacity(2 * self.as_bytes().len() + 1);
        for byte in self.as_bytes() {
            text.push(digit(byte >> 4));
            text.push(digit(byte & 0xf));
        }
        text
    }

    /// Parses what [`VerityDigest::to_hex`] writes: lowercase, exact length.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Option<Self> {
        let (pairs, rest) = hex.as_bytes().as_chunks();
        if pairs.len() != algorithm.digest_size() || !rest.is_empty() {
            return None;
        }
        let value = |digit| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; MAX_DIGEST_SIZE];
        for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = value(high)? << 4 | value(low)?;
        }
        Some(Self { algorithm, bytes })
    }

    /// Where a composefs object store keeps the file, relative to its `objects` directory: the
    /// first byte in hexadecimal, a slash, the other bytes.
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
/// Whole batches of 64 KiB are hashed where they are; what is less waits in a buffer of that size.
/// Memory is at most one such buffer for each level of the Merkle tree, whatever the file's size (a
/// level has 1/128 or 1/64 of the blocks of the level below).
#[derive(Clone)]
pub struct VerityHasher {
    algorithm: Algorithm,
    /// Bytes of the file so far.
    size: u64,
    /// What is not yet hashed of the file (level 0) and of the levels of the tree above it, always
    /// less than a batch.
    levels: Vec<Vec<u8>>,
}

impl VerityHasher {
    /// A hasher for a file of which it has seen nothing yet.
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

    /// The digest of the file that consists of all bytes so far.
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

    /// Adds to the bytes of a level, and hashes its blocks if these are a batch now.
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

    /// Hashes whole blocks of a level, which gives bytes of the level above.
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

    /// The hash of `struct fsverity_descriptor`, as `fsverity.rst` lays it out.
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

/// The fs-verity digest of a file with these contents.
///
/// Nothing but the last, partial block is copied.
pub fn verity_digest(algorithm: Algorithm, data: &[u8]) -> VerityDigest {
    let mut hasher = VerityHasher::new(algorithm);
    let (blocks, tail) = data.as_chunks::<BLOCK_SIZE>();
    hasher.size = data.len() as u64;
    hasher.hash_blocks(0, blocks.as_flattened());
    hasher.append(0, tail);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    /// Size of a file of [`contents`] and its two digests, from fsverity-utils 1.5
    /// (`fsverity digest --compact --hash-alg=…`).
    const KNOWN_ANSWERS: [(usize, &str, &str); 13] = [
        (
            0,
            "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95",
            "ccf9e5aea1c2a64efa2f2354a6024b90dffde6bbc017825045dce374474e13d1\
             0adb9dadcc6ca8e17a3c075fbd31336e8f266ae6fa93a6c3bed66f9e784e5abf",
        ),
        (
            1,
            "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551",
            "9fcf5172b085b1c8f9365eecb37a1869e193a4705654a5829f11939cd01d5c0f\
             d97276be8cd9d49f76cfc8dcfeb80f8128e3548a1de50b56912b9e3fc7bde27b",
        ),
        (
            64,
            "bd5b94be3ac2d07abe2b7a025b155d10064547c3c50d1a2e184d213b8fd30646",
            "2bced09be4b4e1e3ae8b33fca03ca9a84fe3a50f372231289ec6a357df32ab2c\
             aaa1bba267818b26a7e616b732dc1515d8d143d0322daad25c850afd3b7e7f0c",
        ),
        (
            65,
            "08aa4b8fc1772a75a1414967335ab19febb622f66855385178a3010296790580",
            "00729b811fe5a54123849d80c058df1bc81c85310b7d0f105f717e6bb2712fc7\
             6b0e8b781e502c665de85be0b34e1e587b833bf05b52e87afc0f5d5018e50fd4",
        ),
        (
            4095,
            "841acbc4d3c22ad5f67a748aab2d3e5a4d21de6879a73cb6ec235049dd94dc40",
            "40b4d6dd12b2c76217a4d7189cec023b6b467245c230fdec36fe34988b7ccb98\
             192954f0126e34c7250c687899f72cd9e8cdb4b96c7bbc66d5ddb5f9cee0f08f",
        ),
        (
            4096,
            "2b41866549a2f4f4a80ebbb30aa8d8436ce675229143bf493d8dc6fce99081a0",
            "eb50a9410866050d8660abf6fa6087b3714945dfd467cba3a4476ea8a84ed9bf\
             cb75f5df71068d0f646027f1b839df553bff9482ebe9da154499182cd93889dc",
        ),
        (
            4097,
            "2492558cab5973a8b471d3a517cf3fc8ae04bffa6083e7d443e7839b65d94651",
            "ddc0a138af5af46ec8ccbabedfec469b5e51f987e33cf90c103f3d8b6c0aab83\
             49ba966c53b01111444756d7da116e3a09cd7a5c79b2ec9915dc1fc5df78aac4",
        ),
        (
            64 * 4096 - 1,
            "e691a6603e196f3ea74b284814918066cb038b04a5b98209f890b75a0c209834",
            "8d74fe85d49a6b8f6832182b282ce57fc4d97ea7a3741fa386a608d97a477c97\
             c7c3bee4c5fad8c9012608b107c375f02a7a0c661e74aa7cc33a496c004ba5e0",
        ),
        (
            64 * 4096,
            "f7656e09d2368042058b8f2c17aad27f2b84adb7d7f654251a4e3067a0325cca",
            "00ca2d0fef99b8afff05691b01eb6fd10f0ac50259ba3d683d417c2d4065a0d5\
             e368a657e5b725451325171ca6fcb08c56c6676758c5b0f698f8148b46e207e4",
        ),
        (
            64 * 4096 + 1,
            "bd9a3bebc6f7b39faed3360fb9e03a0911c1c6626a1fb7aeb54a834b43e0d280",
            "fd76b27cfb55405204be708c62b7c7078fa60a4626b8647fba6f96166806757a\
             15ee9dda8ae52c132b547685e78218e3c777c5bb4bbc8d6521fc87f2f2b27964",
        ),
        (
            128 * 4096,
            "6feaceaea1f345a5da49693b409602e6b1878a9484241670db45aef27aaec575",
            "b7bc181110a102ff475e4090b3463bf40267d89317e2b5e7192cf6a42a44cd33\
             72daaad9d305718742daa7b59f7ced8d6ccfdd39a5f644da47e0b5d6f43f5546",
        ),
        (
            128 * 4096 + 1,
            "64272326908c4b8fdd9de8dd28615fcb25d5bb0fca2a9949d29305f6ce54ac6c",
            "18c7a8a8411fd9e5677f24496649a8e58683e23433c73d9e429c7352df56fc82\
             94b6a8fda0a6845b0cf751f7ebffbc829b89020279d97584003bc595eb106437",
        ),
        (
            (5 << 20) + 3,
            "a5619d1ae64f9849d5279700617ad04dbb36da971ea12d5816080b72d86a5ef0",
            "846db09a3dd18cebbad4d4d3586d7967596921788533ce4148bb95fb52de6053\
             508f18c8c2fe38a49ff574edcad871efe1156eed860f79976054a7c47b7b575a",
        ),
    ];

    fn contents(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    fn random(state: &mut u64, bound: usize) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state % bound as u64) as usize
    }

    /// The definition once more, with whole levels in memory and one hash at a time.
    fn by_definition(algorithm: Algorithm, data: &[u8]) -> VerityDigest {
        let hash = |bytes: &[u8]| match algorithm {
            Algorithm::Sha256 => Sha256::digest(bytes).to_vec(),
            Algorithm::Sha512 => Sha512::digest(bytes).to_vec(),
        };
        let mut level = data.to_vec();
        loop {
            level.resize(level.len().next_multiple_of(BLOCK_SIZE), 0);
            level = level.chunks(BLOCK_SIZE).flat_map(hash).collect();
            if level.len() <= algorithm.digest_size() {
                break;
            }
        }
        level.resize(64, 0);
        let size = (data.len() as u64).to_le_bytes();
        let parameters = [1, algorithm.kernel_id(), 12, 0, 0, 0, 0, 0];
        let descriptor = [&parameters[..], &size, &level, &[0; 176]].concat();
        VerityDigest::new(algorithm, &hash(&descriptor)).unwrap()
    }

    #[test]
    fn known_answers() {
        for (size, sha256, sha512) in KNOWN_ANSWERS {
            let data = contents(size);
            for (algorithm, hex) in ALGORITHMS.into_iter().zip([sha256, sha512]) {
                let expected = VerityDigest::from_hex(algorithm, hex).unwrap();
                assert_eq!(verity_digest(algorithm, &data), expected, "{size} bytes, one shot");
                let mut hasher = VerityHasher::new(algorithm);
                hasher.update(&data);
                assert_eq!(hasher.finish(), expected, "{size} bytes, streamed");
            }
        }
    }

    /// Around the counts of blocks that fill the lanes, a batch, several batches.
    #[test]
    fn sizes_around_the_edges() {
        for algorithm in ALGORITHMS {
            for blocks in [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33] {
                for size in [blocks * BLOCK_SIZE - 1, blocks * BLOCK_SIZE, blocks * BLOCK_SIZE + 1] {
                    let data = contents(size);
                    let expected = by_definition(algorithm, &data);
                    assert_eq!(verity_digest(algorithm, &data), expected, "{size} bytes");
                }
            }
        }
    }

    #[test]
    fn chunking_does_not_matter() {
        let mut state = 0x2545_f491_4f6c_dd1d;
        for round in 0..16 {
            let data = contents(random(&mut state, 200_000));
            // Mostly small pieces, mostly large ones, and everything between.
            let bound = [3000, 4097, 40_000, 120_000][round % 4];
            for algorithm in ALGORITHMS {
                let mut hasher = VerityHasher::new(algorithm);
                let mut rest = &data[..];
                while !rest.is_empty() {
                    let piece = random(&mut state, bound).min(rest.len());
                    hasher.update(&rest[..piece]);
                    rest = &rest[piece..];
                }
                assert_eq!(hasher.finish(), verity_digest(algorithm, &data), "{} bytes", data.len());
            }
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_file() {
        let mut hasher = VerityHasher::new(Algorithm::Sha512);
        let piece = contents(100_003);
        for _ in 0..24 {
            hasher.update(&piece);
            assert!(hasher.levels.iter().all(|level| level.len() < BATCH_SIZE));
        }
        assert!(hasher.levels.len() <= 4);
    }

    #[test]
    fn algorithm_names() {
        for algorithm in ALGORITHMS {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        }
        assert_eq!("sha256".parse(), Ok(Algorithm::Sha256));
        assert_eq!("sha512".parse(), Ok(Algorithm::Sha512));
        for name in ["", "SHA256", "sha384", "sha256 ", "fsverity-sha256", "fsverity-sha512-16"] {
            let error = name.parse::<Algorithm>().unwrap_err();
            assert_eq!(error.to_string(), format!("unknown fs-verity algorithm {name:?}"));
        }
    }

    #[test]
    fn digests_as_text() {
        let bytes: Vec<u8> = (0xe8..0xff).chain(0..9).collect();
        let digest = VerityDigest::new(Algorithm::Sha256, &bytes).unwrap();
        let hex = "e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfe000102030405060708";
        assert_eq!(digest.to_hex(), hex);
        assert_eq!(format!("{digest} {digest:?}"), format!("{hex} {hex}"));
        assert_eq!(digest.object_path(), format!("e8/{}", &hex[2..]));
        assert_eq!(digest.as_bytes(), bytes);
        assert_eq!(VerityDigest::from_hex(Algorithm::Sha256, hex), Some(digest));

        assert_eq!(VerityDigest::new(Algorithm::Sha512, &bytes), None);
        assert_eq!(VerityDigest::new(Algorithm::Sha256, &bytes[1..]), None);
        assert_eq!(VerityDigest::from_hex(Algorithm::Sha512, hex), None);
        for bad in [
            String::new(),
            hex.to_uppercase(),
            hex[1..].to_owned(),
            format!("{hex}0"),
            format!("{hex}00"),
            format!("+{}", &hex[1..]),
            format!("{}\u{e9}", &hex[2..]),
        ] {
            assert_eq!(VerityDigest::from_hex(Algorithm::Sha256, &bad), None, "{bad:?}");
        }
    }
}
