//! A layer blob on any bytes: decompressed, parsed, made into trees and EROFS images.
//!
//! Invariants:
//! 1. Nothing panics or hangs, and a refusal is one line.
//! 2. It stays within the budget: bytes of the blob, bytes that the sink gets, entries, depth of
//!    paths, inline files.
//! 3. The sink gets for each file exactly as many bytes as it was told.
//! 4. The same input gives the same digests, entries and images.
//! 5. Entries are canonical: no empty part, `.` or `..` in a path.
//! 6. An image that was written can be read: whole blocks, and no object that no entry has.
//! 7. The merged image is a matter of the entries and not of where one layer ends; what we write, we
//!    take for the same by meaning.
//!
//! A changed header almost never has the right checksum, so the mutator repairs most of them.
#![no_main]

use std::collections::BTreeSet;

use layerseal::digest::{Algorithm, VerityDigest};
use layerseal::image::{ContentSink, TarEntry, HashOnly, EntryKind, LayerContent, Writer, WrittenImages, objects, read_layer, same_meaning};
use layerseal::oci::Budget;
use layerseal::error::{Refusal, Result};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

const BUDGET: Budget = Budget {
    layer: 1 << 20,
    expansion: 20,
    expansion_floor: 256 << 10,
    entries: 200,
    kept: 256 << 10,
    depth: 40,
    tar_metadata: 16 << 10,
    ..Budget::STANDARD
};

const ALGORITHM: Algorithm = Algorithm::Sha256;

/// Counts what it gets on its way to the hash.
struct Counting {
    hash: HashOnly,
    left: u64,
    total: u64,
}

impl ContentSink for Counting {
    fn begin(&mut self, size: u64) -> Result<()> {
        assert_eq!(self.left, 0, "the file before was not complete");
        self.left = size;
        self.hash.begin(size)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(bytes.len() as u64).expect("more bytes than were announced");
        self.total += bytes.len() as u64;
        self.hash.write(bytes)
    }

    fn end(&mut self) -> Result<VerityDigest> {
        assert_eq!(self.left, 0, "fewer bytes than were announced");
        self.hash.end()
    }
}

fn one_line(refusal: Refusal) {
    let text = refusal.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

fn read(blob: &[u8]) -> Result<LayerContent> {
    let mut sink = Counting { hash: HashOnly::new(ALGORITHM), left: 0, total: 0 };
    let mut tar = 0;
    let content = read_layer(blob, &BUDGET, &mut sink, &mut |n| tar += n);
    assert!(sink.total <= tar && tar <= BUDGET.layer, "{} bytes of {tar}", sink.total);
    content
}

fn check(entry: &TarEntry) {
    let parts: Vec<&[u8]> = if entry.path.is_empty() { vec![] } else { entry.path.split(|b| *b == b'/').collect() };
    assert!(parts.len() <= BUDGET.depth && entry.path.len() <= 4095);
    assert!(!parts.iter().any(|part| part.is_empty() || *part == b"." || *part == b".."));
    assert!(!entry.path.contains(&0));
    assert_eq!(entry.stat.st_mode & !0o7777, 0);
    match &entry.kind {
        EntryKind::Inline(data) => assert!(data.len() <= 64),
        EntryKind::External(digest, size) => {
            assert!(*size > 64 && *size <= BUDGET.layer);
            assert_eq!(digest.algorithm(), ALGORITHM);
        }
        _ => {}
    }
}

/// Makes the images of the layers and the trees, where they can be made.
fn images(layers: &[&[TarEntry]]) -> Option<WrittenImages> {
    let all = || layers.iter().copied();
    let written = match Writer::all(ALGORITHM, all()) {
        Ok(images) => images,
        Err(refusal) => {
            one_line(refusal);
            return None;
        }
    };
    if let Ok((made, _)) = &written.container {
        assert_eq!(made.len(), layers.len());
    }

    // What they refer to is what the entries have.
    let known: BTreeSet<(VerityDigest, u64)> = all()
        .flatten()
        .filter_map(|entry| match &entry.kind {
            EntryKind::External(digest, size) => Some((*digest, *size)),
            _ => None,
        })
        .collect();
    let container = written.container.iter().flat_map(|(made, rootfs)| made.iter().chain([rootfs]));
    for image in container.chain(&written.merged) {
        assert!(!image.is_empty() && image.len().is_multiple_of(4096));
        for object in objects(image, ALGORITHM).expect("our own image") {
            assert!(known.contains(&object), "{object:?}");
        }
    }
    Some(written)
}

fuzz_target!(|blob: &[u8]| {
    let content = match read(blob) {
        Ok(content) => content,
        Err(refusal) => {
            assert_eq!(read(blob).err(), Some(refusal.clone()));
            return one_line(refusal);
        }
    };
    assert_eq!(content.size, blob.len() as u64);
    assert!(content.entries.len() <= BUDGET.entries);
    content.entries.iter().for_each(check);
    let again = read(blob).expect("read before");
    assert_eq!((again.digest, again.diff_id), (content.digest, content.diff_id));
    assert_eq!(format!("{:?}", again.entries), format!("{:?}", content.entries));

    let entries = content.entries.as_slice();
    let (lower, upper) = entries.split_at(entries.len() / 2);
    let (whole, cut) = (images(&[entries]), images(&[lower, upper]));
    // composefs' tree depends on the entries only; in the container's a layer is more than what it holds.
    let merged = |written: &Option<WrittenImages>| written.as_ref().and_then(|w| w.merged.as_ref().ok().cloned());
    assert_eq!(merged(&whole), merged(&cut));
    if let Some(merged) = merged(&whole) {
        assert_eq!(Writer::merged(ALGORITHM, [entries]).as_deref(), Ok(&merged[..]));
        assert_eq!(same_meaning(ALGORITHM, &merged, [entries], true), Ok(()));
    }
    if let Ok(bare) = Writer::layer_without_whiteouts(ALGORITHM, entries) {
        assert_eq!(same_meaning(ALGORITHM, &bare, [entries], false), Ok(()));
    }
});

/// Sets the checksum of everything that looks like a tar header (POSIX pax(1), "ustar Header Block").
fn repair(tar: &mut [u8]) {
    for header in tar.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if seed % 16 != 0 {
        repair(&mut data[..size]);
    }
    size
});
