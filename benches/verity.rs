//! Speed of hashing on one thread: fs-verity digests beside plain SHA-256 and SHA-512.
//!
//! `cargo bench --bench verity`. Each line is the best of several runs, as other load only ever
//! slows them down; on a busy machine trust the ratios.

#[allow(dead_code)]
#[path = "beside/measure.rs"]
mod measure;

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use layerseal::digest::{Algorithm, VerityDigest, VerityHasher, verity_digest};
use sha2::Digest as _;

/// Bytes hashed in a run, and in memory.
const SIZE: usize = 64 << 20;
/// What a reader hands over at a time; such a buffer is in the cache when its turn comes.
const PIECE: usize = 1 << 20;
const BLOCK: usize = 4096;
const RUNS: usize = 10;

fn main() {
    // `cargo test` runs benches as well, without this argument: then just show that it starts.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let data: Vec<u8> = (0..SIZE).map(|i| (i * 7 + i / 251) as u8).collect();
    let cached = || std::iter::repeat_n(&data[..PIECE], SIZE / PIECE);

    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        measure(&format!("{algorithm}, 1 MiB pieces"), SIZE, || {
            black_box(stream(algorithm, cached()));
        });
        measure(&format!("{algorithm}, same from memory"), SIZE, || {
            black_box(stream(algorithm, data.chunks(PIECE)));
        });
        measure(&format!("{algorithm}, 10000-byte pieces"), SIZE, || {
            let pieces = cached().flat_map(|piece| piece.chunks(10_000));
            black_box(stream(algorithm, pieces));
        });
        for blocks in [1, 3, 20] {
            let files = data[..PIECE].chunks_exact(blocks * BLOCK);
            let name = format!("{algorithm}, {blocks}-block files");
            measure(&name, files.len() * blocks * BLOCK, || {
                for file in files.clone() {
                    black_box(verity_digest(algorithm, file));
                }
            });
        }
    }

    let blocks = || cached().flat_map(|piece| piece.chunks(BLOCK));
    measure("sha2 SHA-256 of each block", SIZE, || {
        blocks().for_each(|block| _ = black_box(sha2::Sha256::digest(block)));
    });
    measure("sha2 SHA-512 of each block", SIZE, || {
        blocks().for_each(|block| _ = black_box(sha2::Sha512::digest(block)));
    });
    measure("OpenSSL SHA-256 of each block", SIZE, || {
        blocks().for_each(|block| _ = black_box(openssl::sha::sha256(block)));
    });
    measure("OpenSSL SHA-512 of each block", SIZE, || {
        blocks().for_each(|block| _ = black_box(openssl::sha::sha512(block)));
    });
    ["sha256", "sha512"].into_iter().for_each(openssl_speed);
}

/// What OpenSSL says of itself, of long messages.
fn openssl_speed(hash: &str) {
    let speed = Command::new("openssl").args(["speed", "-seconds", "1", "-bytes", "16384", hash]).output();
    let said = speed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let thousands =
        said.lines().last().and_then(|line| line.split_whitespace().last()?.strip_suffix('k')?.parse::<f64>().ok());
    if let Some(thousands) = thousands {
        let tool = format!("openssl speed {hash}, 16 KiB messages");
        measure::Line { table: "hashing", case: "one thread", tool: &tool }.value("GB/s", thousands / 1e6);
    }
}

fn stream<'a>(algorithm: Algorithm, pieces: impl Iterator<Item = &'a [u8]>) -> VerityDigest {
    let mut hasher = VerityHasher::new(algorithm);
    pieces.for_each(|piece| hasher.update(piece));
    hasher.finish()
}

fn measure(name: &str, bytes: usize, mut run: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
    }
    let gigabytes_per_second = bytes as f64 / best.as_secs_f64() / 1e9;
    measure::Line { table: "hashing", case: "one thread", tool: name }.value("GB/s", gigabytes_per_second);
}
