//! A layer's tar, read ahead: one thread reads the blob, decompresses and hashes it, while the one that
//! asked parses what came before and keeps the files. One large layer has work for two processors.

use std::io::Read;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::stream::{Decompress, Hashing, PIECE, TarBytes, refuse_read, tar_of};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::Budget;

/// The number of buffers of one piece each, besides the parser's. So few stay in the second-level cache.
const BUFFERS: usize = 3;

/// A piece of the tar: the first `size` bytes of the buffer.
struct Chunk {
    buffer: Vec<u8>,
    size: usize,
}

/// What reading a blob to its end tells.
pub(super) struct StreamDigests {
    pub(super) blob: BlobDigest,
    /// The size of the blob.
    pub(super) size: u64,
    pub(super) tar: BlobDigest,
}

/// The tar as it comes from the other thread.
pub(super) struct Ahead {
    /// Ends after the last piece, or after a refusal.
    pieces: Receiver<Result<Chunk>>,
    /// Where buffers go to be filled again.
    used: Sender<Vec<u8>>,
}

impl TarBytes for Ahead {
    fn next(&mut self, buffer: &mut Vec<u8>, at: usize) -> Result<usize> {
        let Ok(piece) = self.pieces.recv() else { return Ok(0) };
        let Chunk { buffer: mut bytes, size } = piece?;
        if at == 0 {
            std::mem::swap(buffer, &mut bytes);
        } else {
            buffer[at..at + size].copy_from_slice(&bytes[..size]);
        }
        // The other thread has ended when there is nothing more to read.
        let _ = self.used.send(bytes);
        Ok(size)
    }

    fn elsewhere(&mut self, _size: u64) -> Result<bool> {
        Ok(false)
    }
}

/// Reads `blob` while `parse` takes its tar, which it must take to the end.
///
/// # Errors
/// Those of `parse`, which include those of reading: they reach it at their place in the tar; [`Case::H11Layer`] or C03
/// for what follows the tar in the blob.
pub(super) fn read_ahead<T>(
    blob: impl Read + Send,
    budget: &Budget,
    parse: impl FnOnce(Ahead) -> Result<T>,
) -> Result<(T, StreamDigests)> {
    std::thread::scope(|scope| {
        let (full, pieces) = channel();
        let (used, empty) = channel();
        for _ in 0..BUFFERS {
            let _ = used.send(vec![0; PIECE]);
        }
        let reader = std::thread::Builder::new()
            .spawn_scoped(scope, move || read(blob, budget, &full, &empty))
            .map_err(|e| Refusal::io("thread", e))?;
        let parsed = parse(Ahead { pieces, used });
        let read = reader.join().unwrap_or(Ok(None));
        let digests =
            |found: Option<StreamDigests>| found.ok_or_else(|| Refusal::new(Case::Bug, "layer", "not read whole"));
        Ok((parsed?, read.and_then(digests)?))
    })
}

/// Reads the blob and hands on its tar piece by piece. `None` when the tar was not read to its end: because it could
/// not be, or because nobody wants the rest.
fn read(
    blob: impl Read,
    budget: &Budget,
    full: &Sender<Result<Chunk>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<Option<StreamDigests>> {
    let mut tar = match tar_of(blob, budget.layer) {
        Ok(tar) => tar,
        Err(e) => {
            let _ = full.send(Err(refuse_read(e)));
            return Ok(None);
        }
    };
    loop {
        let Ok(mut buffer) = empty.recv() else { return Ok(None) };
        let (size, end) = fill(&mut tar, &mut buffer[..PIECE], budget);
        if size > 0 && full.send(Ok(Chunk { buffer, size })).is_err() {
            return Ok(None);
        }
        match end {
            Some(Ok(())) => break,
            Some(Err(refusal)) => {
                let _ = full.send(Err(refusal));
                return Ok(None);
            }
            None => {}
        }
    }
    let (inner, tar) = tar.split();
    let mut source = inner.into_source();
    source.drain().map_err(refuse_read)?;
    let size = source.count();
    let blob = source.split().1.ok_or_else(|| Refusal::new(Case::Bug, "layer", "it was not hashed"))?;
    Ok(Some(StreamDigests { blob, size, tar: tar.unwrap_or(blob) }))
}

/// Fills `buffer`; returns how far, and the error where that is not the whole of it.
fn fill<R: Read>(tar: &mut Hashing<Decompress<R>>, buffer: &mut [u8], budget: &Budget) -> (usize, Option<Result<()>>) {
    let mut size = 0;
    while size < buffer.len() {
        match tar.read(&mut buffer[size..]) {
            Ok(0) => return (size, Some(Ok(()))),
            Ok(n) => size += n,
            Err(e) => return (size, Some(Err(refuse_read(e)))),
        }
        if tar.count() > tar.inner().allowed(budget) {
            let why = "it decompresses to far more than its size";
            return (size, Some(Err(Refusal::new(Case::C03TooBig, "", why))));
        }
    }
    (size, None)
}
