//! Speed of hashing on one thread: fs-verity digests beside plain SHA-256 and SHA-512.
//!
//! `cargo bench --bench verity`. All in turn, and each line is the best of its runs, as other load only ever
//! slows them down; on a busy machine trust the ratios.

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use layerseal::digest::{Algorithm, VerityDigest, VerityHasher, verity_digest};
use sha2::Digest as _;
use support::measure;

/// Bytes hashed in a run, and in memory.
const SIZE: usize = 64 << 20;
/// What a reader hands over at a time; such a buffer is in the cache when its turn comes.
const PIECE: usize = 1 << 20;
const BLOCK: usize = 4096;
const ROUNDS: usize = 30;

/// What is measured: its name, the bytes that a run hashes, and a run.
type Part<'a> = (String, usize, Box<dyn FnMut() + 'a>);

fn main() {
    // `cargo test` runs benches as well, without this argument: then just show that it starts.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let data: Vec<u8> = (0..SIZE).map(|i| (i * 7 + i / 251) as u8).collect();
    let mut parts: Vec<Part<'_>> = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        parts.extend(digests(algorithm, &data));
    }
    parts.extend(plain(&data));
    let mut best = vec![Duration::MAX; parts.len()];
    for _ in 0..ROUNDS {
        for ((_, _, run), best) in parts.iter_mut().zip(&mut best) {
            let start = Instant::now();
            run();
            *best = start.elapsed().min(*best);
        }
    }
    for ((name, bytes, _), best) in parts.iter().zip(best) {
        record(name, *bytes as f64 / best.as_secs_f64() / 1e9);
    }
    ["sha256", "sha512"].into_iter().for_each(openssl_speed);
}

fn cached(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::repeat_n(&data[..PIECE], SIZE / PIECE)
}

/// Makes the parts that compute fs-verity digests of one long file, and of many small ones.
fn digests(algorithm: Algorithm, data: &[u8]) -> Vec<Part<'_>> {
    fn long<'a>(name: String, run: impl Fn() -> VerityDigest + 'a) -> Part<'a> {
        (name, SIZE, Box::new(move || _ = black_box(run())))
    }
    let small = move || cached(data).flat_map(|piece| piece.chunks(10_000));
    let mut parts = vec![
        long(format!("{algorithm}, 1 MiB pieces"), move || stream(algorithm, cached(data))),
        long(format!("{algorithm}, same from memory"), move || stream(algorithm, data.chunks(PIECE))),
        long(format!("{algorithm}, 10000-byte pieces"), move || stream(algorithm, small())),
    ];
    for blocks in [1, 3, 20] {
        let files = data[..PIECE].chunks_exact(blocks * BLOCK);
        let bytes = files.len() * blocks * BLOCK;
        let run = move || files.clone().for_each(|file| _ = black_box(verity_digest(algorithm, file)));
        parts.push((format!("{algorithm}, {blocks}-block files"), bytes, Box::new(run)));
    }
    parts
}

/// Makes the parts in which others hash each block.
fn plain(data: &[u8]) -> Vec<Part<'_>> {
    fn each<'a, D>(name: &str, data: &'a [u8], hash: impl Fn(&[u8]) -> D + 'a) -> Part<'a> {
        let run = move || cached(data).flat_map(|p| p.chunks(BLOCK)).for_each(|block| _ = black_box(hash(block)));
        (format!("{name} of each block"), SIZE, Box::new(run))
    }
    vec![
        each("sha2 SHA-256", data, |block| sha2::Sha256::digest(block)),
        each("sha2 SHA-512", data, |block| sha2::Sha512::digest(block)),
        each("OpenSSL SHA-256", data, openssl::sha::sha256),
        each("OpenSSL SHA-512", data, openssl::sha::sha512),
    ]
}

/// Records what OpenSSL says about its own speed on long messages.
fn openssl_speed(hash: &str) {
    let speed = Command::new("openssl").args(["speed", "-seconds", "1", "-bytes", "16384", hash]).output();
    let said = speed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let thousands =
        said.lines().last().and_then(|line| line.split_whitespace().last()?.strip_suffix('k')?.parse::<f64>().ok());
    if let Some(thousands) = thousands {
        record(&format!("openssl speed {hash}, 16 KiB messages"), thousands / 1e6);
    }
}

fn stream<'a>(algorithm: Algorithm, pieces: impl Iterator<Item = &'a [u8]>) -> VerityDigest {
    let mut hasher = VerityHasher::new(algorithm);
    pieces.for_each(|piece| hasher.update(piece));
    hasher.finish()
}

fn record(tool: &str, gigabytes_per_second: f64) {
    measure::Line { table: "hashing", case: "one thread", tool }.value("GB/s", gigabytes_per_second);
}
