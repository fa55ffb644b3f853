//! SHA-256 and SHA-512 over many independent 4096-byte blocks at once.
//!
//! One hash is a chain of dependent instructions, so a single stream leaves most of the CPU idle.
//! The blocks of a Merkle tree do not depend on each other: `avx512` gives each of sixteen
//! (SHA-256) or eight (SHA-512) a lane of the AVX-512 registers, `sha_ni` interleaves two on the
//! x86 SHA extensions. What these do not cover (other CPUs, a last odd block) goes through the
//! `sha2` crate; the digests are those of FIPS 180-4 either way.

// The vector kernels need unsafe code; the functions that others see are safe.
#![allow(unsafe_code)]
#![deny(missing_docs)]

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod constants;
#[cfg(target_arch = "x86_64")]
mod sha_ni;
#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256, Sha512};

/// Bytes in a block.
pub const BLOCK_SIZE: usize = 4096;

type Block = [u8; BLOCK_SIZE];

/// Writes the SHA-256 digest of each 4096-byte block of `blocks` to the same position of `out`.
///
/// Multiples of sixteen blocks are the most efficient.
///
/// # Panics
///
/// If `blocks.len() != out.len() * 4096`.
pub fn sha256_blocks(blocks: &[u8], out: &mut [[u8; 32]]) {
    let (blocks, out) = (split(blocks, out.len()), out);
    #[cfg(target_arch = "x86_64")]
    let (blocks, out) = if avx512::available() {
        // SAFETY: the CPU has the features that the function is compiled for.
        let done = unsafe { avx512::sha256(blocks, out) };
        (&blocks[done..], &mut out[done..])
    } else {
        (blocks, out)
    };
    #[cfg(target_arch = "x86_64")]
    if blocks.len() > 1 && sha_ni::available() {
        // SAFETY: the CPU has the features that the function is compiled for.
        return unsafe { sha_ni::sha256(blocks, out) };
    }
    sha256_serial(blocks, out);
}

/// Writes the SHA-512 digest of each 4096-byte block of `blocks` to the same position of `out`.
///
/// Multiples of eight blocks are the most efficient.
///
/// # Panics
///
/// If `blocks.len() != out.len() * 4096`.
pub fn sha512_blocks(blocks: &[u8], out: &mut [[u8; 64]]) {
    let blocks = split(blocks, out.len());
    #[cfg(target_arch = "x86_64")]
    if blocks.len() > 1 && avx512::available() {
        // SAFETY: the CPU has the features that the function is compiled for.
        return unsafe { avx512::sha512(blocks, out) };
    }
    sha512_serial(blocks, out);
}

fn split(blocks: &[u8], count: usize) -> &[Block] {
    let (blocks, rest) = blocks.as_chunks();
    assert!(rest.is_empty() && blocks.len() == count, "need one digest slot per whole block");
    blocks
}

fn sha256_serial(blocks: &[Block], out: &mut [[u8; 32]]) {
    for (block, digest) in blocks.iter().zip(out) {
        *digest = Sha256::digest(block).into();
    }
}

fn sha512_serial(blocks: &[Block], out: &mut [[u8; 64]]) {
    for (block, digest) in blocks.iter().zip(out) {
        *digest = Sha512::digest(block).into();
    }
}
