//! The table of a layer's tar that containers-storage keeps (`ID.tar-split.gz`,
//! github.com/vbatts/tar-split, `tar/storage`): every byte of the tar but the content of its files,
//! which lie in the layer's directory.

use std::io::{self, BufRead, BufReader, Read};

use composefs::fsverity::Sha256HashValue;
use serde::Deserialize;

use super::layer::{HashOnly, TarBytes, TarStream};
use super::stream::PIECE;
use super::tar::{Entry, Kind};
use super::unpack::Unpacked;
use crate::digest::{Algorithm, BlobDigest, BlobHasher, VerityDigest};
use crate::oci::Budget;
use crate::report::{Case, Refusal, Result};

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

enum Piece {
    Segment(Vec<u8>),
    File(u64),
    /// A header with a size that has no content.
    Passed,
}

/// The pieces of a table, one after the other.
struct Pieces<R: Read> {
    lines: BufReader<flate2::read::MultiGzDecoder<R>>,
    line: Vec<u8>,
}

impl<R: Read> Pieces<R> {
    fn new(table: R) -> Self {
        Self { lines: BufReader::with_capacity(256 << 10, flate2::read::MultiGzDecoder::new(table)), line: Vec::new() }
    }

    fn next(&mut self) -> io::Result<Option<Piece>> {
        let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        self.line.clear();
        let n = (&mut self.lines).take(MAX_LINE).read_until(b'\n', &mut self.line)?;
        if n == 0 {
            return Ok(None);
        }
        if n as u64 == MAX_LINE {
            return Err(bad(format!("a line of more than {MAX_LINE} bytes")));
        }
        let line: Line<'_> = serde_json::from_slice(&self.line).map_err(|e| bad(e.to_string()))?;
        match line.kind {
            // A header that has a size and no content: a hard link of old tars. The checksum is that of nothing.
            FILE if line.size > 0 && line.payload.as_deref() == Some(NOTHING) => Ok(Some(Piece::Passed)),
            FILE => Ok(Some(Piece::File(line.size))),
            SEGMENT => {
                let text = line.payload.unwrap_or_default();
                let bytes =
                    openssl::base64::decode_block(&text).map_err(|_| bad("a segment that is no base64".into()))?;
                Ok(Some(Piece::Segment(bytes)))
            }
            other => Err(bad(format!("an entry of type {other}"))),
        }
    }
}

/// The table as a stream, without the files. A read stops where a file's content would be.
struct Stream<R: Read> {
    pieces: Pieces<R>,
    segment: Vec<u8>,
    at: usize,
    /// The size of the file that the stream has come to.
    file: Option<u64>,
    count: u64,
    /// Of `count`.
    limit: u64,
}

impl<R: Read> Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.segment.len() {
            if self.file.is_some() {
                return Ok(0);
            }
            match self.pieces.next()? {
                None => return Ok(0),
                // Directories and links have an entry too.
                Some(Piece::File(0) | Piece::Passed) => {}
                Some(Piece::File(size)) => self.file = Some(size),
                Some(Piece::Segment(bytes)) => (self.segment, self.at) = (bytes, 0),
            }
        }
        let ready = &self.segment[self.at..];
        let n = ready.len().min(buffer.len());
        buffer[..n].copy_from_slice(&ready[..n]);
        self.at += n;
        self.count += n as u64;
        Ok(n)
    }
}

impl<R: Read> TarBytes for Stream<R> {
    fn next(&mut self, buffer: &mut Vec<u8>, at: usize) -> Result<usize> {
        let n = self.read(&mut buffer[at..at + PIECE]).map_err(unreadable)?;
        // Headers only: more than what is kept of them cannot be honest.
        match self.count <= self.limit {
            true => Ok(n),
            false => Err(Refusal::new(Case::C03TooBig, "", "it decompresses to far more than its size")),
        }
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
            // The entry of the file follows its header at once.
            match self.pieces.next().map_err(unreadable)? {
                Some(Piece::File(found)) => self.file = Some(found),
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
    entries: Vec<Entry>,
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
    /// Reads a table. It may be an attacker's.
    ///
    /// # Errors
    /// H03–H07 for its entries, [`Case::H11Layer`] for what is no table.
    pub fn read(table: impl Read, budget: &Budget) -> Result<Self> {
        let stream =
            Stream { pieces: Pieces::new(table), segment: Vec::new(), at: 0, file: None, count: 0, limit: budget.kept };
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

    /// The files to be filled in: path and size, in the order of the tar.
    pub fn files(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.files.iter().map(|(number, size)| (&*self.entries[*number].path, *size))
    }

    /// Where the files lie, in the order of [`Self::files`]: an entry's path may lead through a symlink of the
    /// layer, and a later entry may have taken away what it made; then it is `None`, and nothing needs its content.
    /// For a layer that podman cannot have unpacked, where the entries say.
    pub fn places(&self) -> Vec<Option<Box<[u8]>>> {
        let mut places = match Unpacked::<Sha256HashValue>::new(&self.entries) {
            Ok(unpacked) => unpacked.places(),
            Err(_) => self.entries.iter().map(|entry| Some(entry.path.clone())).collect(),
        };
        self.files.iter().map(|(number, _)| places.get_mut(*number).and_then(Option::take)).collect()
    }

    /// How many files there are.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Whether the layer takes something away from the layers below it.
    pub fn takes_away(&self) -> bool {
        self.entries.iter().any(|e| matches!(e.kind, Kind::Whiteout | Kind::Opaque))
    }

    /// The entries, with the content of every file, in the order of [`Self::files`].
    ///
    /// # Errors
    /// [`Case::Bug`] when it is not one for each.
    pub fn fill(mut self, contents: Vec<FileContent>) -> Result<Vec<Entry>> {
        if contents.len() != self.files.len() {
            return Err(Refusal::new(Case::Bug, "layer", "not one content for each file"));
        }
        for ((number, size), content) in self.files.iter().zip(contents) {
            self.entries[*number].kind = match content {
                FileContent::Inline(bytes) => Kind::Inline(bytes),
                FileContent::Object(digest) => Kind::External(digest, *size),
            };
        }
        Ok(self.entries)
    }
}

/// The diff_id of a layer: the digest of its tar, put together from the table and its files, which
/// `open` is asked for in their order.
///
/// # Errors
/// [`Case::H11Layer`]; those of `open`.
pub fn diff_id(table: impl Read, open: &mut dyn FnMut(u64) -> Result<Box<dyn Read>>) -> Result<BlobDigest> {
    let mut pieces = Pieces::new(table);
    let mut hasher = BlobHasher::default();
    let mut buffer = vec![0; 1 << 20];
    while let Some(piece) = pieces.next().map_err(unreadable)? {
        match piece {
            Piece::Segment(bytes) => hasher.update(&bytes),
            Piece::File(0) | Piece::Passed => {}
            Piece::File(size) => {
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
