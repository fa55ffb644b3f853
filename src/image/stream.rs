use std::io::{self, BufRead, BufReader, Read};

use crate::digest::{BlobDigest, BlobHasher};
use crate::error::{Case, Refusal, Result, is_of_write};
use crate::oci::{Budget, Compression};

/// Reads in pieces that stay in the second-level cache between decompressor, hashes and parser.
pub(super) const PIECE: usize = 256 << 10;

/// Turns an error of reading a layer into a refusal.
pub(super) fn refuse_read(e: std::io::Error) -> Refusal {
    match e.kind() {
        // The copy that is made while reading.
        _ if is_of_write(&e) => Refusal::io("", e),
        std::io::ErrorKind::FileTooLarge => Refusal::new(Case::C03TooBig, "", e),
        std::io::ErrorKind::Unsupported => Refusal::new(Case::H14Compression, "", e),
        _ => Refusal::new(Case::H11Layer, "", e),
    }
}

/// Where the bytes of a tar come from.
pub(super) trait TarBytes {
    /// Puts the next bytes, at most [`PIECE`], at their place in `buffer`, which has room for that many, and returns
    /// how many they were: 0 at the end. With `at` zero the buffer may come back as another one, initialised and at
    /// least as long as what is in it.
    ///
    /// # Errors
    /// [`Case::H11Layer`] when they cannot be read, [`Case::C03TooBig`] when more came out than may.
    fn next(&mut self, buffer: &mut Vec<u8>, at: usize) -> Result<usize>;

    /// Returns whether the content of a file of `size` bytes, which begins here, is not in the stream but somewhere
    /// else. What follows is its padding.
    ///
    /// # Errors
    /// [`Case::H11Layer`] when the stream has something else in this place.
    fn elsewhere(&mut self, size: u64) -> Result<bool>;

    /// Returns whether the stream has come to a file whose content is somewhere else.
    fn at_file(&self) -> bool {
        false
    }
}

/// Passes bytes on and hashes them on the way.
pub(super) struct Hashing<R> {
    inner: R,
    /// `None` where a reader beneath hashes the same bytes.
    hasher: Option<BlobHasher>,
    count: u64,
    limit: u64,
}

impl<R: Read> Hashing<R> {
    /// Makes a reader that counts and hashes at most `limit` bytes, then fails with `FileTooLarge`.
    pub(super) fn new(inner: R, limit: u64) -> Self {
        Self { inner, hasher: Some(BlobHasher::default()), count: 0, limit }
    }

    /// Makes a reader that counts and does not hash.
    fn counting(inner: R, limit: u64) -> Self {
        Self { inner, hasher: None, count: 0, limit }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Reads what is left, so that the digest is over everything.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }

    pub(super) fn inner(&self) -> &R {
        &self.inner
    }

    /// Returns the reader beneath, and the digest of what was read from it, unless that reader has it.
    pub(super) fn split(self) -> (R, Option<BlobDigest>) {
        (self.inner, self.hasher.map(BlobHasher::finish))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count += n as u64;
        if self.count > self.limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {} bytes", self.limit)));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..n]);
        }
        Ok(n)
    }
}

/// Decompresses a layer's blob to its tar, which is hashed; where the blob is the tar, it is hashed once.
pub(super) fn tar_of<R: Read>(blob: R, limit: u64) -> io::Result<Hashing<Decompress<R>>> {
    let source = Decompress::new(Hashing::new(blob, limit))?;
    Ok(match source {
        Decompress::None(_) => Hashing::counting(source, limit),
        _ => Hashing::new(source, limit),
    })
}

/// The decompressed form of a layer blob, whatever its media type said.
pub(super) enum Decompress<R: Read> {
    None(BufReader<Hashing<R>>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Hashing<R>>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Hashing<R>>>>),
}

impl<R: Read> Decompress<R> {
    fn new(source: Hashing<R>) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(PIECE, source);
        let head = reader.fill_buf()?;
        if let Some(other) = other_compression(head) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, other));
        }
        Ok(match compression(head) {
            Compression::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(reader))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
                // 128 MiB windows: what `zstd --ultra` can make; more only with --long.
                decoder.window_log_max(27)?;
                Self::Zstd(Box::new(decoder))
            }
            Compression::None => Self::None(reader),
        })
    }

    /// Returns the compressed source, to be drained and finished.
    pub(super) fn into_source(self) -> Hashing<R> {
        match self {
            Self::None(r) => r.into_inner(),
            Self::Gzip(r) => r.into_inner().into_inner(),
            Self::Zstd(r) => r.finish().into_inner(),
        }
    }

    fn source(&self) -> &Hashing<R> {
        match self {
            Self::None(r) => r.get_ref(),
            Self::Gzip(r) => r.get_ref().get_ref(),
            Self::Zstd(r) => r.get_ref().get_ref(),
        }
    }

    /// Returns how many bytes may have come out, given how many went in.
    pub(super) fn allowed(&self, budget: &Budget) -> u64 {
        let by_ratio = self.source().count().saturating_mul(budget.expansion);
        by_ratio.max(budget.expansion_floor).min(budget.layer)
    }
}

impl<R: Read> Read for Decompress<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(r) => r.read(buffer),
            Self::Gzip(r) => r.read(buffer),
            Self::Zstd(r) => r.read(buffer),
        }
    }
}

/// Names a compression that podman reads and the image specification does not know.
fn other_compression(head: &[u8]) -> Option<&'static str> {
    match head {
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Some("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        _ => None,
    }
}

fn compression(head: &[u8]) -> Compression {
    // RFC 1952 section 2.3.1; RFC 8878 sections 3.1.1 and 3.1.2 (a zstd stream may begin with a
    // skippable frame, magic 0x184D2A5?).
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}
