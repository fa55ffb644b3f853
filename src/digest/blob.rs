use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Case, Refusal};

/// The digest that OCI descriptors use: `sha256:` and 64 lower-case hex digits.
///
/// Parsed at the edge and nowhere else, so that no digest string from a registry or a disk is ever
/// part of a path (image-spec, descriptor.md; CVE-2024-3727).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobDigest([u8; 32]);

impl BlobDigest {
    /// Computes the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns lower-case hex without the algorithm, which is also the blob's file name.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Returns the 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses 64 lower-case hex digits.
    ///
    /// # Errors
    /// [`Case::B07Digest`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self, Refusal> {
        let bad = || Refusal::new(Case::B07Digest, text.chars().take(100).collect::<String>(), "");
        let mut bytes = [0; 32];
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad());
        }
        hex::decode_to_slice(text, &mut bytes).map_err(|_| bad())?;
        Ok(Self(bytes))
    }
}

impl FromStr for BlobDigest {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        match text.strip_prefix("sha256:") {
            Some(hex) => Self::from_hex(hex),
            None => Err(Refusal::new(
                Case::B07Digest,
                text.chars().take(100).collect::<String>(),
                "does not begin with sha256:",
            )),
        }
    }
}

impl TryFrom<String> for BlobDigest {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        text.parse()
    }
}

impl From<BlobDigest> for String {
    fn from(digest: BlobDigest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-256 over a stream.
#[derive(Clone, Debug, Default)]
pub struct BlobHasher(Sha256);

impl BlobHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes taken.
    pub fn finish(self) -> BlobDigest {
        BlobDigest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b07_digest_strings_are_parsed_strictly() {
        let good = format!("sha256:{}", "a".repeat(64));
        assert_eq!(good.parse::<BlobDigest>().unwrap().to_string(), good);
        for bad in [
            "sha256:../../x".to_owned(),
            format!("sha256:{}", "a".repeat(63)),
            format!("sha256:{}", "a".repeat(65)),
            format!("sha256:{}", "A".repeat(64)),
            format!("md5:{}", "a".repeat(32)),
            format!("SHA256:{}", "a".repeat(64)),
            "a".repeat(64),
            String::new(),
            format!("sha256:{}/", "a".repeat(63)),
        ] {
            let refusal = bad.parse::<BlobDigest>().unwrap_err();
            assert_eq!(refusal.case(), Case::B07Digest, "{bad}");
        }
    }
}
