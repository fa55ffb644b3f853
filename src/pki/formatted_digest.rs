//! The bytes that a seal's signatures are over.

/// The first bytes of every formatted digest.
pub const MAGIC: &[u8; 8] = b"FSVerity";

/// Makes the formatted digest: `"FSVerity"`, the kernel's number of the hash algorithm and the digest's size in bytes,
/// both as 16 bits little-endian, then the fs-verity file digest.
///
/// `kernel_id` is 1 for SHA-256 and 2 for SHA-512. This is `struct fsverity_formatted_digest` of
/// the kernel's Documentation/filesystems/fsverity.rst, "Built-in signature verification". A digest
/// of another length than its algorithm's gives bytes that [`is_formatted_digest`] denies and that
/// therefore nothing here signs or accepts.
pub fn formatted_digest(kernel_id: u8, digest: &[u8]) -> Vec<u8> {
    let size = u16::try_from(digest.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(MAGIC.len() + 4 + digest.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&u16::from(kernel_id).to_le_bytes());
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(digest);
    bytes
}

/// Returns whether `bytes` are a formatted digest of an algorithm that fs-verity knows.
///
/// More than the magic is compared, so that nothing but a formatted digest can be signed or
/// verified: another magic that begins alike, swapped byte order, a digest of another size.
pub fn is_formatted_digest(bytes: &[u8]) -> bool {
    let Some([algorithm, 0, size, 0, digest @ ..]) = bytes.strip_prefix(MAGIC) else {
        return false;
    };
    matches!((algorithm, size), (1, 32) | (2, 64)) && digest.len() == usize::from(*size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_kernels() {
        let bytes = formatted_digest(2, &[0xab; 64]);
        assert_eq!(&bytes[..12], b"FSVerity\x02\x00\x40\x00");
        assert_eq!(&bytes[12..], &[0xab; 64]);
        assert!(is_formatted_digest(&bytes));
    }

    #[test]
    fn nothing_else_is_a_formatted_digest() {
        for bytes in [
            &b""[..],
            b"FSVerity",
            &formatted_digest(1, &[0; 31]),
            &formatted_digest(1, &[0; 64]),
            &formatted_digest(2, &[0; 32]),
            &formatted_digest(3, &[0; 32]),
            &formatted_digest(1, &[0; 70_000]),
            &[b"FSVerity\0\x01\0\x20\0".as_slice(), &[0; 32]].concat(),
            &[b"FSVerity\0\x01\0\x20".as_slice(), &[0; 32]].concat(),
        ] {
            assert!(!is_formatted_digest(bytes));
        }
    }
}
