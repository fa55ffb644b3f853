//! Many hashes side by side, each in a lane of the AVX-512 registers.
//!
//! SHA-256 and SHA-512 are one algorithm over words of 32 and 64 bits, with other constants and
//! distances. Here the number of lanes says which: sixteen lanes hold words of 32 bits, eight of 64.

use std::arch::x86_64::*;
use std::array::from_fn;

use super::constants::{H512, K512};
use super::{BLOCK_SIZE, Block, sha512_serial};

/// Lanes of SHA-256.
const LANES_256: usize = 16;
/// Lanes of SHA-512.
const LANES_512: usize = 8;

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

/// Hashes whole groups of sixteen, and returns how many blocks these were.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn sha256(blocks: &[Block], out: &mut [[u8; 32]]) -> usize {
    let (groups, _) = blocks.as_chunks::<LANES_256>();
    let (group_digests, _) = out.as_chunks_mut::<LANES_256>();
    for (group, digests) in groups.iter().zip(group_digests) {
        for (digest, row) in digests.iter_mut().zip(hash(group.each_ref())) {
            digest.copy_from_slice(&row[..32]);
        }
    }
    groups.len() * LANES_256
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn sha512(blocks: &[Block], out: &mut [[u8; 64]]) {
    for (group, digests) in blocks.chunks(LANES_512).zip(out.chunks_mut(LANES_512)) {
        if group.len() == 1 {
            sha512_serial(group, digests);
        } else {
            // A pass takes the same time however many lanes are used, and less than two serial hashes: fill it up by
            // repeating the last block.
            let lanes: [_; LANES_512] = from_fn(|n| &group[n.min(group.len() - 1)]);
            digests.copy_from_slice(&hash(lanes)[..group.len()]);
        }
    }
}

/// Computes the digest of each block; SHA-256's are followed by zeros.
#[target_feature(enable = "avx512f,avx512bw")]
fn hash<const LANES: usize>(blocks: [&Block; LANES]) -> [[u8; 64]; LANES] {
    let mut state = H512.map(|word| broadcast::<LANES>(word));
    // Sixteen words of every block at a time.
    for i in 0..BLOCK_SIZE * LANES / 1024 {
        compress::<LANES>(&mut state, words(&blocks, i));
    }
    compress::<LANES>(&mut state, padding::<LANES>());

    let mut rows = [_mm512_setzero_si512(); LANES];
    rows[..8].copy_from_slice(&state);
    transpose::<LANES>(&mut rows);
    rows.map(|row| {
        let mut digest = [0; 64];
        store(&mut digest, swap_bytes::<LANES>(row));
        digest
    })
}

/// Loads the sixteen words of each block that come at place `i`.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn words<const LANES: usize>(blocks: &[&Block; LANES], i: usize) -> [__m512i; 16] {
    let mut w = [_mm512_setzero_si512(); 16];
    for (part, words) in w.chunks_mut(LANES).enumerate() {
        for (word, block) in words.iter_mut().zip(blocks) {
            *word = swap_bytes::<LANES>(load(&block.as_chunks().0[i * 16 / LANES + part]));
        }
        transpose::<LANES>(words);
    }
    w
}

/// Returns what follows a block: a one bit, zeros, the block's length in bits.
#[target_feature(enable = "avx512f")]
#[inline]
fn padding<const LANES: usize>() -> [__m512i; 16] {
    let mut w = [_mm512_setzero_si512(); 16];
    w[0] = broadcast::<LANES>(1 << 63);
    let length = BLOCK_SIZE as u64 * 8;
    w[15] = broadcast::<LANES>(if LANES == LANES_256 { length << 32 } else { length });
    w
}

/// The block sixteen times, with the constants 0 to 15: indexing by a loop's variable would keep
/// the message schedule in memory.
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

/// Takes in the next words; `w` is the last sixteen of the message schedule.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn compress<const LANES: usize>(state: &mut [__m512i; 8], mut w: [__m512i; 16]) {
    let mut v = *state;
    let rounds = if LANES == LANES_256 { 64 } else { 80 };
    let (first, last) = K512[..rounds / 16].split_at(rounds / 16 - 1);
    for k in first {
        unroll16!(I => {
            round::<LANES, I>(&mut v, w[I], k[I]);
            schedule::<LANES, I>(&mut w);
        });
    }
    unroll16!(I => { round::<LANES, I>(&mut v, w[I], last[0][I]); });
    for (old, new) in state.iter_mut().zip(v) {
        *old = add::<LANES>(*old, new);
    }
}

/// Computes round `I` (modulo 16). The variables stay in place: each round looks one place earlier.
#[target_feature(enable = "avx512f")]
#[inline]
fn round<const LANES: usize, const I: usize>(v: &mut [__m512i; 8], w: __m512i, k: u64) {
    let [a, b, c, d, e, f, g, h]: [__m512i; 8] = from_fn(|n| v[(16 - I + n) % 8]);
    // What is known before the last round's `e` is summed up first (and written first, as the
    // optimizer follows that): the wait for `e` sets the pace.
    let hwk = add::<LANES>(h, add::<LANES>(w, broadcast::<LANES>(k)));
    let choice = _mm512_ternarylogic_epi64(e, f, g, 0xca);
    let s1 = match LANES {
        LANES_256 => xor3(_mm512_ror_epi32(e, 6), _mm512_ror_epi32(e, 11), _mm512_ror_epi32(e, 25)),
        _ => xor3(_mm512_ror_epi64(e, 14), _mm512_ror_epi64(e, 18), _mm512_ror_epi64(e, 41)),
    };
    let t1 = add::<LANES>(s1, add::<LANES>(choice, hwk));
    let majority = _mm512_ternarylogic_epi64(a, b, c, 0xe8);
    let s0 = match LANES {
        LANES_256 => xor3(_mm512_ror_epi32(a, 2), _mm512_ror_epi32(a, 13), _mm512_ror_epi32(a, 22)),
        _ => xor3(_mm512_ror_epi64(a, 28), _mm512_ror_epi64(a, 34), _mm512_ror_epi64(a, 39)),
    };
    v[(16 - I + 3) % 8] = add::<LANES>(d, t1);
    v[(16 - I + 7) % 8] = add::<LANES>(add::<LANES>(s0, majority), t1);
}

/// Replaces word `I` of the message schedule by the one for sixteen rounds later.
#[target_feature(enable = "avx512f")]
#[inline]
fn schedule<const LANES: usize, const I: usize>(w: &mut [__m512i; 16]) {
    let (w15, w7, w2) = (w[(I + 1) % 16], w[(I + 9) % 16], w[(I + 14) % 16]);
    let (s0, s1) = match LANES {
        LANES_256 => (
            xor3(_mm512_ror_epi32(w15, 7), _mm512_ror_epi32(w15, 18), _mm512_srli_epi32(w15, 3)),
            xor3(_mm512_ror_epi32(w2, 17), _mm512_ror_epi32(w2, 19), _mm512_srli_epi32(w2, 10)),
        ),
        _ => (
            xor3(_mm512_ror_epi64(w15, 1), _mm512_ror_epi64(w15, 8), _mm512_srli_epi64(w15, 7)),
            xor3(_mm512_ror_epi64(w2, 19), _mm512_ror_epi64(w2, 61), _mm512_srli_epi64(w2, 6)),
        ),
    };
    w[I] = add::<LANES>(add::<LANES>(w[I], s0), add::<LANES>(w7, s1));
}

#[target_feature(enable = "avx512f")]
#[inline]
fn add<const LANES: usize>(x: __m512i, y: __m512i) -> __m512i {
    match LANES {
        LANES_256 => _mm512_add_epi32(x, y),
        _ => _mm512_add_epi64(x, y),
    }
}

/// Puts a constant of SHA-512 into every lane, or the one of SHA-256, which is its upper half (FIPS 180-4 sections
/// 4.2.2 and 5.3.3).
#[target_feature(enable = "avx512f")]
#[inline]
fn broadcast<const LANES: usize>(word: u64) -> __m512i {
    match LANES {
        LANES_256 => _mm512_set1_epi32((word >> 32) as i32),
        _ => _mm512_set1_epi64(word as i64),
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn xor3(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64(x, y, z, 0x96)
}

/// Transposes a square matrix of words: swaps its off-diagonal quarters, then those of each
/// quarter, and so on.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose<const LANES: usize>(rows: &mut [__m512i]) {
    if LANES == 16 {
        swap_quarters::<LANES, 8>(rows);
    }
    swap_quarters::<LANES, 4>(rows);
    swap_quarters::<LANES, 2>(rows);
    swap_quarters::<LANES, 1>(rows);
}

#[target_feature(enable = "avx512f")]
#[inline]
fn swap_quarters<const LANES: usize, const SIZE: usize>(rows: &mut [__m512i]) {
    // The words of a pair of rows (the second's numbers begin at `LANES`) that make up each new row.
    let upper = |i: usize| if i & SIZE == 0 { i } else { LANES + i - SIZE };
    let lower = |i: usize| if i & SIZE == 0 { i + SIZE } else { LANES + i };
    let upper = indices::<LANES>(from_fn(upper));
    let lower = indices::<LANES>(from_fn(lower));
    for pair in 0..LANES / 2 {
        let i = pair / SIZE * 2 * SIZE + pair % SIZE;
        let (x, y) = (rows[i], rows[i + SIZE]);
        rows[i] = choose::<LANES>(x, upper, y);
        rows[i + SIZE] = choose::<LANES>(x, lower, y);
    }
}

/// Collects numbers of words for [`choose`].
#[target_feature(enable = "avx512f")]
#[inline]
fn indices<const LANES: usize>(words: [usize; 16]) -> __m512i {
    let mut bytes = [0; 64];
    for (n, word) in words.into_iter().take(LANES).enumerate() {
        // Little-endian, and less than 32.
        bytes[n * 64 / LANES] = word as u8;
    }
    load(&bytes)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn choose<const LANES: usize>(x: __m512i, indices: __m512i, y: __m512i) -> __m512i {
    match LANES {
        LANES_256 => _mm512_permutex2var_epi32(x, indices, y),
        _ => _mm512_permutex2var_epi64(x, indices, y),
    }
}

/// Converts the words between big-endian and native.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn swap_bytes<const LANES: usize>(words: __m512i) -> __m512i {
    let reverse = match LANES {
        LANES_256 => _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203),
        _ => _mm_set_epi64x(0x08090a0b0c0d0e0f, 0x0001020304050607),
    };
    _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(reverse))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 readable bytes, at any alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(bytes: &mut [u8; 64], value: __m512i) {
    // SAFETY: 64 writable bytes, at any alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), value) }
}
