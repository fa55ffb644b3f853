//! SHA-256 with the instructions made for it, two blocks at a time.

use std::arch::x86_64::*;
use std::array::from_fn;

use super::constants::{H512, K512};
use super::{BLOCK_SIZE, Block, sha256_serial};

/// SHA-256's constants are the upper halves of SHA-512's (FIPS 180-4 sections 4.2.2 and 5.3.3);
/// here four to a vector.
static K256: [[i32; 4]; 16] = {
    let mut table = [[0; 4]; 16];
    let mut i = 0;
    while i < 64 {
        table[i / 4][i % 4] = (K512[i / 16][i % 16] >> 32) as i32;
        i += 1;
    }
    table
};

pub(super) fn available() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1")
}

/// Returns what follows the message: a one bit, zeros, the message's length in bits (big-endian).
const fn padding() -> [u8; 64] {
    let mut chunk = [0; 64];
    chunk[0] = 0x80;
    [chunk[62], chunk[63]] = (BLOCK_SIZE as u16 * 8).to_be_bytes();
    chunk
}

/// Streams to interleave. A SHA-256 round instruction takes four cycles and one can start every
/// two, so two streams fill the unit; more of them run out of registers (measured).
const STREAMS: usize = 2;

#[target_feature(enable = "sha,ssse3,sse4.1")]
pub(super) fn sha256(blocks: &[Block], out: &mut [[u8; 32]]) {
    let (groups, rest) = blocks.as_chunks();
    let (group_digests, rest_digests) = out.as_chunks_mut();
    for (group, digests) in groups.iter().zip(group_digests) {
        hash(group, digests);
    }
    sha256_serial(rest, rest_digests);
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
#[inline]
fn hash(blocks: &[Block; STREAMS], digests: &mut [[u8; 32]; STREAMS]) {
    const PADDING: [u8; 64] = padding();
    let [a, b, c, d, e, f, g, h] = H512.map(|word| (word >> 32) as i32);
    // The order that the instructions want.
    let mut state = [[_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h)]; STREAMS];
    for i in 0..BLOCK_SIZE / 64 {
        let chunks = from_fn(|n| &blocks[n].as_chunks().0[i]);
        compress(&mut state, chunks);
    }
    compress(&mut state, [&PADDING; STREAMS]);

    let reverse = _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f);
    for ([abef, cdgh], digest) in state.into_iter().zip(digests) {
        let (dcba, hgfe) = (_mm_unpackhi_epi64(cdgh, abef), _mm_unpacklo_epi64(cdgh, abef));
        let halves = digest.as_chunks_mut().0;
        store128(&mut halves[0], _mm_shuffle_epi8(dcba, reverse));
        store128(&mut halves[1], _mm_shuffle_epi8(hgfe, reverse));
    }
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
#[inline]
fn compress(state: &mut [[__m128i; 2]; STREAMS], chunks: [&[u8; 64]; STREAMS]) {
    let swap32 = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    // The last sixteen words of the message schedule, four to a vector.
    let mut w = [[_mm_setzero_si128(); 4]; STREAMS];
    let mut v = *state;
    for quarter in 0..4 {
        for i in 0..4 {
            let [k0, k1, k2, k3] = K256[quarter * 4 + i];
            let k = _mm_set_epi32(k3, k2, k1, k0);
            for n in 0..STREAMS {
                let words = if quarter == 0 {
                    _mm_shuffle_epi8(load128(&chunks[n].as_chunks().0[i]), swap32)
                } else {
                    let [w16, w12, w8, w4] = from_fn(|back| w[n][(i + back) % 4]);
                    let w7 = _mm_alignr_epi8(w4, w8, 4);
                    _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w16, w12), w7), w4)
                };
                w[n][i] = words;
                let wk = _mm_add_epi32(words, k);
                let [abef, cdgh] = &mut v[n];
                *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, wk);
                *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(wk, 0x0e));
            }
        }
    }
    for (old, new) in state.as_flattened_mut().iter_mut().zip(v.as_flattened()) {
        *old = _mm_add_epi32(*old, *new);
    }
}

#[inline]
fn load128(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 readable bytes, at any alignment; SSE2 is part of x86_64.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
fn store128(bytes: &mut [u8; 16], value: __m128i) {
    // SAFETY: 16 writable bytes, at any alignment; SSE2 is part of x86_64.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), value) }
}
