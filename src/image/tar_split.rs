//! The table of a layer's tar that containers-storage keeps (`ID.tar-split.gz`, github.com/vbatts/tar-split,
//! `tar/storage`): every byte of the tar except the content of its files, which lie in the layer's directory.

use std::io::{self, BufRead, BufReader, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use composefs::fsverity::Sha256HashValue;
use serde::Deserialize;

use super::layer::{HashOnly, TarStream};
use super::stream::{PIECE, TarBytes};
use super::tar::{EntryKind, TarEntry};
use super::unpack::Unpacked;
use crate::digest::{Algorithm, BlobDigest, BlobHasher, VerityDigest};
use crate::error::{Case, Refusal, Result};
use crate::oci::Budget;

/// What an honest table has beyond [`TablePieces::is_fair`]: the blocks at the end of an archive, and what follows
/// them.
const SPARE_LINES: u64 = 64;
const SPARE_BYTES: u64 = 64 << 10;
/// Bytes of a tar header.
const HEADER: u64 = 512;
/// Lines for one header: itself, the file, and the padding behind that.
const LINES: u64 = 3;

/// Bytes of one line: a segment is the headers of one file or a piece of padding, in base64.
const MAX_LINE: u64 = 16 << 20;

/// `FileType` and `SegmentType`.
const FILE: u8 = 1;
const SEGMENT: u8 = 2;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default)]
    size: u64,
    #[serde(default, borrow)]
    payload: Option<std::borrow::Cow<'a, str>>,
}

/// CRC-64 of no bytes, in base64.
const NOTHING: &str = "AAAAAAAAAAA=";

enum TablePiece {
    Segment(Vec<u8>),
    File(u64),
    /// A header with a size that is not followed by content.
    Passed,
}

/// The pieces of a table, one after the other.
struct TablePieces<R: Read> {
    lines: BufReader<flate2::read::MultiGzDecoder<R>>,
    line: Vec<u8>,
    /// Lines so far, their bytes, and those of the segments in them.
    count: u64,
    read: u64,
    bytes: u64,
    /// The limit of `bytes`.
    limit: u64,
    /// Whether the last one was a file: a header must come before the next.
    after_file: bool,
}

impl<R: Read> TablePieces<R> {
    fn new(table: R, budget: &Budget) -> Self {
        Self {
            lines: BufReader::with_capacity(256 << 10, flate2::read::MultiGzDecoder::new(table)),
            line: Vec::new(),
            count: 0,
            read: 0,
            bytes: 0,
            limit: budget.kept,
            after_file: false,
        }
    }

    /// Returns whether there are no more lines, and no longer ones, than the headers in them account for. Words without
    /// content compress to nothing, and each of them costs time: a limit on their number alone would not tell them from
    /// honest ones.
    fn is_fair(&self) -> bool {
        let lines = LINES * self.bytes / HEADER + SPARE_LINES;
        // A name stands in its header too, and here at most as six characters for each byte.
        self.count <= lines && self.read <= 8 * self.bytes + HEADER * self.count + SPARE_BYTES
    }

    fn next(&mut self) -> Result<Option<TablePiece>> {
        let piece = self.read_one().map_err(unreadable)?;
        let refuse = |case, why: &str| Err(Refusal::new(case, "tar-split", why));
        match &piece {
            Some(TablePiece::File(_) | TablePiece::Passed) if self.after_file => {
                return refuse(Case::H11Layer, "a file without a header");
            }
            Some(TablePiece::File(_) | TablePiece::Passed) => self.after_file = true,
            Some(TablePiece::Segment(bytes)) => {
                self.bytes += bytes.len() as u64;
                self.after_file &= bytes.is_empty();
            }
            None => {}
        }
        if !self.is_fair() {
            return refuse(Case::C03TooBig, "it has more lines, or longer ones, than its headers account for");
        }
        if self.bytes > self.limit {
            // Headers only: more than what is kept of them cannot be honest.
            return refuse(Case::C03TooBig, "it decompresses to far more than its size");
        }
        Ok(piece)
    }

    fn read_one(&mut self) -> io::Result<Option<TablePiece>> {
        let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        self.line.clear();
        let n = (&mut self.lines).take(MAX_LINE).read_until(b'\n', &mut self.line)?;
        if n == 0 {
            return Ok(None);
        }
        if n as u64 == MAX_LINE {
            return Err(bad(format!("a line of more than {MAX_LINE} bytes")));
        }
        self.count += 1;
        self.read += n as u64;
        let line: Line<'_> = serde_json::from_slice(&self.line).map_err(|e| bad(e.to_string()))?;
        match line.kind {
            // A header that has a size and no content: a hard link of old tars. The checksum is that of nothing.
            FILE if line.size > 0 && line.payload.as_deref() == Some(NOTHING) => Ok(Some(TablePiece::Passed)),
            FILE => Ok(Some(TablePiece::File(line.size))),
            SEGMENT => {
                let text = line.payload.unwrap_or_default();
                let bytes = STANDARD.decode(&*text).map_err(|_| bad("a segment that is no base64".into()))?;
                Ok(Some(TablePiece::Segment(bytes)))
            }
            other => Err(bad(format!("an entry of type {other}"))),
        }
    }
}

/// The table as a stream, without the files. A read stops where a file's content would be.
struct Stream<R: Read> {
    pieces: TablePieces<R>,
    segment: Vec<u8>,
    at: usize,
    /// The size of the file that the stream has come to.
    file: Option<u64>,
}

impl<R: Read> Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.at == self.segment.len() {
            if self.file.is_some() {
                return Ok(0);
            }
            match self.pieces.next()? {
                None => return Ok(0),
                // Directories and links have an entry too.
                Some(TablePiece::File(0) | TablePiece::Passed) => {}
                Some(TablePiece::File(size)) => self.file = Some(size),
                Some(TablePiece::Segment(bytes)) => (self.segment, self.at) = (bytes, 0),
            }
        }
        let ready = &self.segment[self.at..];
        let n = ready.len().min(buffer.len());
        buffer[..n].copy_from_slice(&ready[..n]);
        self.at += n;
        Ok(n)
    }
}

impl<R: Read> TarBytes for Stream<R> {
    fn next(&mut self, buffer: &mut Vec<u8>, at: usize) -> Result<usize> {
        self.read(&mut buffer[at..at + PIECE])
    }

    fn at_file(&self) -> bool {
        self.at == self.segment.len() && self.file.is_some()
    }

    fn elsewhere(&mut self, size: u64) -> Result<bool> {
        if size == 0 {
            return Ok(true);
        }
        let refuse = |why: String| Err(Refusal::new(Case::H11Layer, "tar-split", why));
        if self.at == self.segment.len() && self.file.is_none() {
            // A file's own line follows its header at once.
            match self.pieces.next()? {
                Some(TablePiece::File(found)) => self.file = Some(found),
                _ => return refuse("a file has no entry".into()),
            }
        }
        match self.file.take() {
            Some(found) if found == size => Ok(true),
            Some(found) => refuse(format!("a file of {found} bytes, its header says {size}")),
            None => refuse("bytes between a header and its file".into()),
        }
    }
}

fn unreadable(e: io::Error) -> Refusal {
    Refusal::new(Case::H11Layer, "tar-split", e)
}

/// A layer as its table describes it; the content of its files is still to be filled in.
#[derive(Debug)]
pub struct Skeleton {
    entries: Vec<TarEntry>,
    /// Entries whose content is in the layer's directory, and its size.
    files: Vec<(usize, u64)>,
}

/// What a file of the layer's directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileContent {
    /// The bytes of a small file.
    Inline(Box<[u8]>),
    /// The digest of a larger one, which is an object now.
    Object(VerityDigest),
}

impl Skeleton {
    /// Reads a table, which may be an attacker's.
    ///
    /// # Errors
    /// H03–H07 for its entries, [`Case::H11Layer`] for what is not a table, [`Case::C03TooBig`] for one that costs more
    /// to read than it is worth.
    pub fn read(table: impl Read, budget: &Budget) -> Result<Self> {
        let stream = Stream { pieces: TablePieces::new(table, budget), segment: Vec::new(), at: 0, file: None };
        let mut ignored = |_| ();
        let mut tar = TarStream::new(stream, budget, &mut ignored);
        // Nothing is handed to the sink: no content is in the stream.
        let entries = tar.entries(&mut HashOnly::new(Algorithm::Sha256))?;
        tar.rest()?;
        if tar.tar.file.is_some() {
            return Err(Refusal::new(Case::H11Layer, "tar-split", "a file without a header"));
        }
        Ok(Self { entries, files: tar.elsewhere })
    }

    /// Lists the files that are still to be filled in: path and size, in the order of the tar.
    pub fn files(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.files.iter().map(|(number, size)| (&*self.entries[*number].path, *size))
    }

    /// Finds where the files lie, in the order of [`Self::files`]: an entry's path may lead through a symlink of the
    /// layer, and a later entry may have taken away what it made; then it is `None`, and nothing needs its content. For
    /// a layer that podman cannot have unpacked, the paths are those of the entries.
    pub fn places(&self) -> Vec<Option<Box<[u8]>>> {
        let mut places = match Unpacked::<Sha256HashValue>::new(&self.entries) {
            Ok(unpacked) => unpacked.places(),
            Err(_) => self.entries.iter().map(|entry| Some(entry.path.clone())).collect(),
        };
        self.files.iter().map(|(number, _)| places.get_mut(*number).and_then(Option::take)).collect()
    }

    /// Returns how many files there are.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Returns whether the layer takes something away from the layers below it.
    pub fn takes_away(&self) -> bool {
        self.entries.iter().any(|e| matches!(e.kind, EntryKind::Whiteout | EntryKind::Opaque))
    }

    /// Fills in the content of every file, in the order of [`Self::files`], and returns the entries.
    ///
    /// # Errors
    /// [`Case::Bug`] when it is not one for each.
    pub fn fill(mut self, contents: Vec<FileContent>) -> Result<Vec<TarEntry>> {
        if contents.len() != self.files.len() {
            return Err(Refusal::new(Case::Bug, "layer", "not one content for each file"));
        }
        for ((number, size), content) in self.files.iter().zip(contents) {
            self.entries[*number].kind = match content {
                FileContent::Inline(bytes) => EntryKind::Inline(bytes),
                FileContent::Object(digest) => EntryKind::External(digest, *size),
            };
        }
        Ok(self.entries)
    }
}

/// Computes the diff_id of a layer: the digest of its tar, put together from the table and its files, which `open` is
/// asked for in their order.
///
/// # Errors
/// [`Case::H11Layer`], [`Case::C03TooBig`]; those of `open`.
pub fn diff_id(
    table: impl Read,
    budget: &Budget,
    open: &mut dyn FnMut(u64) -> Result<Box<dyn Read>>,
) -> Result<BlobDigest> {
    let mut pieces = TablePieces::new(table, budget);
    let mut hasher = BlobHasher::default();
    let mut buffer = vec![0; 1 << 20];
    while let Some(piece) = pieces.next()? {
        match piece {
            TablePiece::Segment(bytes) => hasher.update(&bytes),
            TablePiece::File(0) | TablePiece::Passed => {}
            TablePiece::File(size) => {
                let mut file = open(size)?.take(size);
                loop {
                    match file.read(&mut buffer).map_err(unreadable)? {
                        0 => break,
                        n => hasher.update(&buffer[..n]),
                    }
                }
            }
        }
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests;
