use std::io::Read;

use composefs::INLINE_CONTENT_MAX_V0;
use tar_core::parse::{Limits, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, SparseEntry};

use super::read_ahead::{StreamDigests, read_ahead};
use super::stream::{PIECE, TarBytes};
use super::tar::{EntryKind, Head, TarEntry, counts_pieces, head, pieces};
use crate::digest::{Algorithm, BlobDigest, VerityDigest, VerityHasher};
use crate::error::{Case, Refusal, Result};
use crate::oci::Budget;

/// Takes the content of the files that become objects, one after the other.
pub trait ContentSink {
    /// Begins a file of `size` bytes.
    ///
    /// # Errors
    /// Whatever keeps the sink from taking it.
    fn begin(&mut self, size: u64) -> Result<()>;

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// Whatever keeps the sink from taking them.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Ends the file, which is complete, and returns its fs-verity digest.
    ///
    /// # Errors
    /// Whatever keeps the sink from keeping it.
    fn end(&mut self) -> Result<VerityDigest>;
}

/// A sink that keeps nothing.
pub struct HashOnly {
    algorithm: Algorithm,
    hasher: VerityHasher,
}

impl HashOnly {
    /// Hashes with `algorithm`.
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, hasher: VerityHasher::new(algorithm) }
    }
}

impl ContentSink for HashOnly {
    fn begin(&mut self, _size: u64) -> Result<()> {
        self.hasher = VerityHasher::new(self.algorithm);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<VerityDigest> {
        let done = std::mem::replace(&mut self.hasher, VerityHasher::new(self.algorithm));
        Ok(done.finish())
    }
}

/// What one pass over a layer blob found.
#[derive(Debug)]
pub struct LayerContent {
    /// Digest of the blob's bytes.
    pub digest: BlobDigest,
    /// Number of the blob's bytes.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: BlobDigest,
    /// The entries in tar order.
    pub entries: Vec<TarEntry>,
}

/// Reads a layer blob once: on another thread it hashes and decompresses it and hashes the tar; on this one it parses
/// the tar, and hands the content of larger files to `sink` while it is in the cache. `progress` gets the number of tar
/// bytes since the last call.
///
/// The digests are returned, not judged: the caller compares them with the descriptor and config.
///
/// # Errors
/// H03–H07 for content, [`Case::H11Layer`] for streams that cannot be read, `C03` over budget.
pub fn read_layer(
    blob: impl Read + Send,
    budget: &Budget,
    sink: &mut dyn ContentSink,
    progress: &mut dyn FnMut(u64),
) -> Result<LayerContent> {
    let parse = |tar| {
        let mut stream = TarStream::new(tar, budget, progress);
        let entries = stream.entries(sink)?;
        stream.rest()?;
        Ok(entries)
    };
    let (entries, StreamDigests { blob, size, tar }) = read_ahead(blob, budget, parse)?;
    Ok(LayerContent { digest: blob, size, diff_id: tar, entries })
}

/// A file whose content the tar holds in pieces (GNU tar's manual, "Storing Sparse Files", PAX formats).
struct Sparse {
    map: Vec<SparseEntry>,
    /// Bytes of the pieces as the tar holds them.
    stored: u64,
    /// Bytes of the whole file.
    size: u64,
}

impl Sparse {
    /// Checks that podman unpacks it: it does so with regular files, and not with GNU's own type.
    fn checked(self, entry: &ParsedEntry<'_>, budget: &Budget, shown: String) -> Result<Self> {
        if entry.entry_type != EntryType::Regular {
            return Err(Refusal::new(Case::H06Entry, shown, "a sparse file of GNU tar's old format"));
        }
        if !counts_pieces(entry.pax, self.map.len()) {
            return Err(Refusal::new(Case::H11Layer, shown, "a sparse map that is not as long as it says"));
        }
        if self.size > budget.layer {
            let why = format!("a sparse file of {} bytes, a layer may have {}", self.size, budget.layer);
            return Err(Refusal::new(Case::C03TooBig, shown, why));
        }
        Ok(self)
    }
}

fn zeros(mut left: u64, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let zeros = vec![0; left.min(64 << 10) as usize];
    while left > 0 {
        let piece = left.min(zeros.len() as u64);
        take(&zeros[..piece as usize])?;
        left -= piece;
    }
    Ok(())
}

pub(super) struct TarStream<'a, S: TarBytes> {
    pub(super) tar: S,
    /// All of it is initialised; only [`Self::unused`] has bytes of the tar that are still to be parsed.
    buffer: Vec<u8>,
    /// Where the unused bytes begin and end.
    at: usize,
    end: usize,
    budget: &'a Budget,
    progress: &'a mut dyn FnMut(u64),
    /// The entries whose content is elsewhere: number and size.
    pub(super) elsewhere: Vec<(usize, u64)>,
}

impl<'a, S: TarBytes> TarStream<'a, S> {
    pub(super) fn new(tar: S, budget: &'a Budget, progress: &'a mut dyn FnMut(u64)) -> Self {
        Self { tar, buffer: vec![0; PIECE], at: 0, end: 0, budget, progress, elsewhere: Vec::new() }
    }

    fn unused(&self) -> &[u8] {
        &self.buffer[self.at..self.end]
    }

    pub(super) fn entries(&mut self, sink: &mut dyn ContentSink) -> Result<Vec<TarEntry>> {
        let limits =
            Limits { max_metadata_size: self.budget.tar_metadata, max_path_len: Some(4096), ..Limits::default() };
        let mut parser = Parser::new(limits);
        // "./" is the root in many tars, and some write it as "".
        parser.set_allow_empty_path(true);
        // The parser takes no time before 1970; the numbers are looked at in `head`.
        parser.set_ignore_pax_errors(true);
        let mut entries: Vec<TarEntry> = Vec::new();
        let mut kept = 0;
        loop {
            let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::H11Layer, "tar", e);
            let (consumed, head) = match parser.parse(self.unused()).map_err(|e| refuse(&e))? {
                ParseEvent::NeedData { min_bytes } => {
                    // The parser must not ask for more than it has: it would ask for ever.
                    let unused = self.unused().len();
                    if unused > 2 * self.budget.tar_metadata as usize {
                        return Err(refuse(&"a header that does not end"));
                    }
                    if self.fill(min_bytes.max(unused + 1))? {
                        continue;
                    }
                    if !self.unused().is_empty() && self.tar.at_file() {
                        self.put_map();
                        continue;
                    }
                    // A tar may end without its two zero blocks (Go's reader says so too), but only
                    // between entries.
                    return match self.unused().iter().all(|b| *b == 0) {
                        true => Ok(entries),
                        false => Err(refuse(&"it ends within an entry")),
                    };
                }
                ParseEvent::Entry { consumed, entry } => (consumed, Some((head(&entry, self.budget)?, None))),
                ParseEvent::SparseEntry { consumed, entry, sparse_map, real_size } => {
                    let shown = String::from_utf8_lossy(&entry.path).into_owned();
                    let head = head(&entry, self.budget)?;
                    let sparse = Sparse { map: sparse_map, stored: entry.size, size: real_size };
                    (consumed, Some((head, Some(sparse.checked(&entry, self.budget, shown)?))))
                }
                ParseEvent::GlobalExtensions { consumed, .. } => (consumed, None),
                ParseEvent::End { .. } => return Ok(entries),
            };
            self.at += consumed;
            if let Some((head, sparse)) = head {
                let entry = match (head, sparse) {
                    (Head::File(entry, stored), Some(sparse)) => {
                        self.sparse(entry, Sparse { stored, ..sparse }, entries.len(), sink)?
                    }
                    (head, _) => self.body(head, entries.len(), sink)?,
                };
                kept += entry.weight();
                entries.push(entry);
            }
            if kept > self.budget.kept {
                return Err(Refusal::new(
                    Case::H07Budget,
                    "tar",
                    format!("its names and attributes need more than {} bytes", self.budget.kept),
                ));
            }
            if entries.len() > self.budget.entries {
                return Err(Refusal::new(Case::H07Budget, "tar", format!("more than {} entries", self.budget.entries)));
            }
        }
    }

    /// Reads the content that follows the header of entry `number`.
    fn body(&mut self, head: Head, number: usize, sink: &mut dyn ContentSink) -> Result<TarEntry> {
        match head {
            Head::Complete(entry) => Ok(entry),
            Head::Skip { entry, size } => {
                let here = if self.is_elsewhere(size)? { 0 } else { size };
                self.content(here, size, &mut |_| Ok(()))?;
                Ok(entry)
            }
            Head::File(entry, size) if self.is_elsewhere(size)? => {
                self.content(0, size, &mut |_| Ok(()))?;
                Ok(self.filled_elsewhere(entry, number, size))
            }
            Head::File(entry, size) if size <= INLINE_CONTENT_MAX_V0 as u64 => {
                let mut inline = Vec::with_capacity(INLINE_CONTENT_MAX_V0);
                self.content(size, size, &mut |bytes| {
                    inline.extend_from_slice(bytes);
                    Ok(())
                })?;
                Ok(TarEntry { kind: EntryKind::Inline(inline.into()), ..entry })
            }
            Head::File(entry, size) => {
                sink.begin(size)?;
                self.content(size, size, &mut |bytes| sink.write(bytes))?;
                Ok(TarEntry { kind: EntryKind::External(sink.end()?, size), ..entry })
            }
        }
    }

    fn filled_elsewhere(&mut self, entry: TarEntry, number: usize, size: u64) -> TarEntry {
        if size > 0 {
            self.elsewhere.push((number, size));
        }
        entry
    }

    /// Reads the pieces of a sparse file, and puts zeros between them.
    fn sparse(
        &mut self,
        entry: TarEntry,
        sparse: Sparse,
        number: usize,
        sink: &mut dyn ContentSink,
    ) -> Result<TarEntry> {
        let entry = TarEntry { beyond: entry.beyond.or(Some("a sparse file")), ..entry };
        // The table of a layer describes the file as it was unpacked.
        if self.is_elsewhere(sparse.size)? {
            self.content(0, sparse.stored, &mut |_| Ok(()))?;
            return Ok(self.filled_elsewhere(entry, number, sparse.size));
        }
        let refuse = |why| Refusal::new(Case::H11Layer, String::from_utf8_lossy(&entry.path), why);
        pieces(&sparse.map, sparse.size, sparse.stored).map_err(refuse)?;
        let small = sparse.size <= INLINE_CONTENT_MAX_V0 as u64;
        let mut inline = Vec::new();
        if !small {
            sink.begin(sparse.size)?;
        }
        let mut take = |bytes: &[u8]| match small {
            true => {
                inline.extend_from_slice(bytes);
                Ok(())
            }
            false => sink.write(bytes),
        };
        let mut at = 0;
        for piece in &sparse.map {
            zeros(piece.offset - at, &mut take)?;
            self.content(piece.length, 0, &mut take)?;
            at = piece.offset + piece.length;
        }
        zeros(sparse.size - at, &mut take)?;
        self.content(0, sparse.stored, &mut |_| Ok(()))?;
        let kind = if small { EntryKind::Inline(inline.into()) } else { EntryKind::External(sink.end()?, sparse.size) };
        Ok(TarEntry { kind, ..entry })
    }

    /// Puts an empty sparse map into the buffer. The map of a sparse file that begins with its content (PAX, 1.0) is
    /// not in a layer's table: tar-split leaves it out. One without pieces lets the header be read; the content is that
    /// of the unpacked file.
    fn put_map(&mut self) {
        let mut map = [0; 512];
        map[..2].copy_from_slice(b"0\n");
        if self.buffer.len() < self.end + map.len() {
            self.buffer.resize(self.end + map.len(), 0);
        }
        self.buffer[self.end..self.end + map.len()].copy_from_slice(&map);
        self.end += map.len();
    }

    fn is_elsewhere(&mut self, size: u64) -> Result<bool> {
        let found = self.tar.elsewhere(size)?;
        if found && !self.unused().is_empty() {
            return Err(Refusal::new(Case::H11Layer, "tar", "bytes between a header and its file"));
        }
        Ok(found)
    }

    /// Hands `left` bytes to `take` and skips the padding that a file of `size` bytes has.
    fn content(&mut self, mut left: u64, size: u64, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut padding = size.wrapping_neg() % 512;
        // Not their sum: a size close to 2^64 would make it zero, and the content would be read as headers.
        while left > 0 || padding > 0 {
            if self.unused().is_empty() && !self.fill(1)? {
                return Err(Refusal::new(Case::H11Layer, "tar", "it ends within a file"));
            }
            let ready = &self.buffer[self.at..self.end];
            let mine = ready.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            take(&ready[..mine])?;
            left -= mine as u64;
            let skip = (ready.len() - mine).min(padding as usize);
            padding -= skip as u64;
            self.at += mine + skip;
        }
        Ok(())
    }

    /// Reads what follows the end of the archive: part of the digest, and under the same limits, because
    /// a bomb may lie there too.
    pub(super) fn rest(&mut self) -> Result<()> {
        loop {
            self.at = self.end;
            if !self.fill(1)? {
                return Ok(());
            }
        }
    }

    /// Makes at least `want` unused bytes available; false at the end of the stream.
    fn fill(&mut self, want: usize) -> Result<bool> {
        self.buffer.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        while self.end < want {
            let room = self.end + PIECE;
            if self.buffer.len() < room {
                self.buffer.resize(room, 0);
            }
            let n = self.tar.next(&mut self.buffer, self.end)?;
            self.end += n;
            if n == 0 {
                return Ok(false);
            }
            (self.progress)(n as u64);
        }
        Ok(true)
    }
}
