//! SHA-256 and SHA-512 over many independent 4096-byte blocks at once.
//!
//! One hash is a chain of dependent instructions, so a single stream leaves most of the CPU idle.
//! The blocks of a Merkle tree do not depend on each other: [`sha256_blocks`] interleaves two of
//! them on the x86 SHA extensions, [`sha512_blocks`] gives each of eight a lane of the AVX-512
//! registers. What these do not cover (other CPUs, a last odd block) goes through the `sha2` crate;
//! the digests are those of FIPS 180-4 either way.

// The vector kernels need it; the functions that other modules see are safe.
#![allow(unsafe_code)]

use sha2::{Digest, Sha256, Sha512};

/// Bytes in a block.
pub const BLOCK_SIZE: usize = 4096;

type Block = [u8; BLOCK_SIZE];

/// Writes the SHA-256 digest of each 4096-byte block of `blocks` to the same position of `out`.
///
/// # Panics
///
/// If `blocks.len() != out.len() * 4096`.
pub fn sha256_blocks(blocks: &[u8], out: &mut [[u8; 32]]) {
    let blocks = split(blocks, out.len());
    #[cfg(target_arch = "x86_64")]
    if blocks.len() > 1 && x86::has_sha_ni() {
        // SAFETY: the CPU has the features that the function is compiled for.
        return unsafe { x86::sha256(blocks, out) };
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
    if blocks.len() > 1 && x86::has_avx512() {
        // SAFETY: the CPU has the features that the function is compiled for.
        return unsafe { x86::sha512(blocks, out) };
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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK_SIZE, Block, sha256_serial, sha512_serial};
    use std::arch::x86_64::*;
    use std::array::from_fn;

    /// FIPS 180-4 section 5.3.5: the first 64 bits of the fractional parts of the square roots of
    /// the first 8 primes.
    #[rustfmt::skip]
    const H512: [u64; 8] = [
        0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
        0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
    ];

    /// FIPS 180-4 section 4.2.3: the first 64 bits of the fractional parts of the cube roots of the
    /// first 80 primes.
    #[rustfmt::skip]
    static K512: [[u64; 16]; 5] = [
        [
            0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc,
            0x3956c25bf348b538, 0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118,
            0xd807aa98a3030242, 0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
            0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235, 0xc19bf174cf692694,
        ],
        [
            0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
            0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
            0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4,
            0xc6e00bf33da88fc2, 0xd5a79147930aa725, 0x06ca6351e003826f, 0x142929670a0e6e70,
        ],
        [
            0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
            0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
            0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30,
            0xd192e819d6ef5218, 0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
        ],
        [
            0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8,
            0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3,
            0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
            0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b,
        ],
        [
            0xca273eceea26619c, 0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178,
            0x06f067aa72176fba, 0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
            0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc, 0x431d67c49c100d4c,
            0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
        ],
    ];

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

    /// What follows the message: a one bit, zeros, the message's length in bits (big-endian).
    const fn padding<const CHUNK: usize>() -> [u8; CHUNK] {
        let mut chunk = [0; CHUNK];
        chunk[0] = 0x80;
        [chunk[CHUNK - 2], chunk[CHUNK - 1]] = (BLOCK_SIZE as u16 * 8).to_be_bytes();
        chunk
    }

    pub(super) fn has_sha_ni() -> bool {
        is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1")
    }

    pub(super) fn has_avx512() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
    }

    /// Streams to interleave. A SHA-256 round instruction takes four cycles and one can start every
    /// two, so two streams fill the unit; more of them run out of registers (measured).
    const STREAMS: usize = 2;

    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub(super) fn sha256(blocks: &[Block], out: &mut [[u8; 32]]) {
        let (groups, rest) = blocks.as_chunks();
        let (group_digests, rest_digests) = out.as_chunks_mut();
        for (group, digests) in groups.iter().zip(group_digests) {
            sha256_streams(group, digests);
        }
        sha256_serial(rest, rest_digests);
    }

    #[target_feature(enable = "sha,ssse3,sse4.1")]
    #[inline]
    fn sha256_streams(blocks: &[Block; STREAMS], digests: &mut [[u8; 32]; STREAMS]) {
        const PADDING: [u8; 64] = padding();
        let [a, b, c, d, e, f, g, h] = H512.map(|word| (word >> 32) as i32);
        // The order that the instructions want.
        let mut state = [[_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h)]; STREAMS];
        for i in 0..BLOCK_SIZE / 64 {
            let chunks = from_fn(|n| &blocks[n].as_chunks().0[i]);
            sha256_compress(&mut state, chunks);
        }
        sha256_compress(&mut state, [&PADDING; STREAMS]);

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
    fn sha256_compress(state: &mut [[__m128i; 2]; STREAMS], chunks: [&[u8; 64]; STREAMS]) {
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

    /// Blocks hashed at a time, one in each 64-bit lane.
    const LANES: usize = 8;

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn sha512(blocks: &[Block], out: &mut [[u8; 64]]) {
        for (group, digests) in blocks.chunks(LANES).zip(out.chunks_mut(LANES)) {
            if group.len() == 1 {
                sha512_serial(group, digests);
            } else {
                // A pass costs the same however many lanes count, and less than two serial hashes:
                // fill it up by repeating the last block.
                let lanes = from_fn(|n| &group[n.min(group.len() - 1)]);
                digests.copy_from_slice(&sha512_lanes(lanes)[..group.len()]);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    fn sha512_lanes(blocks: [&Block; LANES]) -> [[u8; 64]; LANES] {
        const PADDING: [u8; 128] = padding();
        let mut state = H512.map(|word| _mm512_set1_epi64(word as i64));
        for i in 0..BLOCK_SIZE / 128 {
            sha512_compress(&mut state, blocks.map(|block| &block.as_chunks().0[i]));
        }
        sha512_compress(&mut state, [&PADDING; LANES]);

        transpose(&mut state);
        let mut digests = [[0; 64]; LANES];
        for (digest, lane) in digests.iter_mut().zip(state) {
            store512(digest, swap64(lane));
        }
        digests
    }

    /// The block sixteen times, with the constants 0 to 15: indexing by a loop's variable would
    /// keep the message schedule in memory.
    macro_rules! unroll16 {
        ($i:ident => $block:block) => {
            unroll16!($i $block 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
        };
        ($i:ident $block:block $($value:literal)*) => {
            $({
                const $i: usize = $value;
                $block
            })*
        };
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn sha512_compress(state: &mut [__m512i; 8], chunks: [&[u8; 128]; LANES]) {
        // The last sixteen words of the message schedule.
        let mut w = [_mm512_setzero_si512(); 16];
        for (half, words) in w.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            for n in 0..LANES {
                words[n] = swap64(load512(&chunks[n].as_chunks().0[half]));
            }
            transpose(words);
        }
        let mut v = *state;
        let [first @ .., last] = &K512;
        for k in first {
            unroll16!(I => {
                sha512_round::<I>(&mut v, w[I], k[I]);
                sha512_schedule::<I>(&mut w);
            });
        }
        unroll16!(I => { sha512_round::<I>(&mut v, w[I], last[I]); });
        for (old, new) in state.iter_mut().zip(v) {
            *old = add(*old, new);
        }
    }

    /// Round `I` (modulo 16). The variables stay in place: each round looks one place earlier.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn sha512_round<const I: usize>(v: &mut [__m512i; 8], w: __m512i, k: u64) {
        let [a, b, c, d, e, f, g, h]: [__m512i; 8] = from_fn(|n| v[(16 - I + n) % 8]);
        // What is known before the last round's `e` is summed up first (and written first, as the
        // optimizer follows that): the wait for `e` sets the pace.
        let hwk = add(h, add(w, _mm512_set1_epi64(k as i64)));
        let choice = _mm512_ternarylogic_epi64(e, f, g, 0xca);
        let s1 = xor3(_mm512_ror_epi64(e, 14), _mm512_ror_epi64(e, 18), _mm512_ror_epi64(e, 41));
        let t1 = add(s1, add(choice, hwk));
        let majority = _mm512_ternarylogic_epi64(a, b, c, 0xe8);
        let s0 = xor3(_mm512_ror_epi64(a, 28), _mm512_ror_epi64(a, 34), _mm512_ror_epi64(a, 39));
        v[(16 - I + 3) % 8] = add(d, t1);
        v[(16 - I + 7) % 8] = add(add(s0, majority), t1);
    }

    /// Replaces word `I` of the message schedule by the one for sixteen rounds later.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn sha512_schedule<const I: usize>(w: &mut [__m512i; 16]) {
        let (w15, w7, w2) = (w[(I + 1) % 16], w[(I + 9) % 16], w[(I + 14) % 16]);
        let s0 = xor3(_mm512_ror_epi64(w15, 1), _mm512_ror_epi64(w15, 8), _mm512_srli_epi64(w15, 7));
        let s1 = xor3(_mm512_ror_epi64(w2, 19), _mm512_ror_epi64(w2, 61), _mm512_srli_epi64(w2, 6));
        w[I] = add(add(w[I], s0), add(w7, s1));
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn add(x: __m512i, y: __m512i) -> __m512i {
        _mm512_add_epi64(x, y)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn xor3(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
        _mm512_ternarylogic_epi64(x, y, z, 0x96)
    }

    /// Transposes an 8 by 8 matrix of words: swaps its off-diagonal quarters, then those of each
    /// quarter, then those of each of these.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn transpose(rows: &mut [__m512i; 8]) {
        swap_quarters::<4>(rows);
        swap_quarters::<2>(rows);
        swap_quarters::<1>(rows);
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn swap_quarters<const SIZE: usize>(rows: &mut [__m512i; 8]) {
        let vector = |words: [usize; 8]| {
            let [a, b, c, d, e, f, g, h] = words.map(|word| word as i64);
            _mm512_setr_epi64(a, b, c, d, e, f, g, h)
        };
        // The words of a pair of rows (numbered 0..8 and 8..16) that make up each new row.
        let upper = vector(from_fn(|i| if i & SIZE == 0 { i } else { 8 + i - SIZE }));
        let lower = vector(from_fn(|i| if i & SIZE == 0 { i + SIZE } else { 8 + i }));
        for pair in 0..4 {
            let i = pair / SIZE * 2 * SIZE + pair % SIZE;
            let (x, y) = (rows[i], rows[i + SIZE]);
            rows[i] = _mm512_permutex2var_epi64(x, upper, y);
            rows[i + SIZE] = _mm512_permutex2var_epi64(x, lower, y);
        }
    }

    /// Converts eight words between big-endian and native.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn swap64(words: __m512i) -> __m512i {
        let reverse = _mm_set_epi64x(0x08090a0b0c0d0e0f, 0x0001020304050607);
        _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(reverse))
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

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn load512(bytes: &[u8; 64]) -> __m512i {
        // SAFETY: 64 readable bytes, at any alignment.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn store512(bytes: &mut [u8; 64], value: __m512i) {
        // SAFETY: 64 writable bytes, at any alignment.
        unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` blocks that all differ.
    fn random_blocks(count: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15 ^ count as u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        std::iter::repeat_with(next).take(count * BLOCK_SIZE).collect()
    }

    /// For every number of blocks around the lane counts: `hash` against the crate's own one-shot.
    fn check<H: Digest, const SIZE: usize>(hash: impl Fn(&[u8], &mut [[u8; SIZE]])) {
        for count in 0..=40 {
            let blocks = random_blocks(count);
            let mut digests = vec![[0; SIZE]; count];
            hash(&blocks, &mut digests);
            for (block, digest) in blocks.chunks(BLOCK_SIZE).zip(&digests) {
                assert_eq!(digest[..], H::digest(block)[..], "{count} blocks");
            }
        }
    }

    #[test]
    fn sha256_agrees_with_sha2() {
        check::<Sha256, 32>(sha256_blocks);
        check::<Sha256, 32>(|blocks, out| sha256_serial(split(blocks, out.len()), out));
    }

    #[test]
    fn sha512_agrees_with_sha2() {
        check::<Sha512, 64>(sha512_blocks);
        check::<Sha512, 64>(|blocks, out| sha512_serial(split(blocks, out.len()), out));
    }

    /// SHA-256 and SHA-512 of 4096 zero bytes, from coreutils: `head -c4096 /dev/zero | sha256sum`.
    #[test]
    fn zero_blocks_have_the_known_digests() {
        let mut sha256 = [[0; 32]; 3];
        sha256_blocks(&[0; 3 * BLOCK_SIZE], &mut sha256);
        let mut sha512 = [[0; 64]; 9];
        sha512_blocks(&[0; 9 * BLOCK_SIZE], &mut sha512);
        for digest in sha256 {
            assert_eq!(digest[..8], 0xad7facb2586fc6e9_u64.to_be_bytes());
        }
        for digest in sha512 {
            assert_eq!(digest[..8], 0x2d23913d3759ef01_u64.to_be_bytes());
        }
    }

    #[test]
    #[should_panic(expected = "one digest slot per whole block")]
    fn a_partial_block_is_refused() {
        sha256_blocks(&[0; BLOCK_SIZE + 1], &mut [[0; 32]]);
    }

    #[test]
    #[should_panic(expected = "one digest slot per whole block")]
    fn a_missing_slot_is_refused() {
        sha512_blocks(&[0; 2 * BLOCK_SIZE], &mut [[0; 64]]);
    }
}
