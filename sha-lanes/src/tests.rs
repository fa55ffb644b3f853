use super::*;

/// Makes `count` blocks that all differ.
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

/// Compares `hash` with the crate's own one-shot, for every number of blocks around the lane counts.
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

/// Checks SHA-256 and SHA-512 of 4096 zero bytes, as coreutils computes them: `head -c4096 /dev/zero | sha256sum`.
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
