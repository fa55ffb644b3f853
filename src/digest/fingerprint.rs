use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BlobDigest;
use crate::error::Refusal;

/// What identifies a certificate: the SHA-256 of its DER, or of a part of that. As text, 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(BlobDigest);

impl Fingerprint {
    /// Computes the fingerprint of these bytes.
    pub fn of(der: &[u8]) -> Self {
        Self(BlobDigest::of(der))
    }
}

impl FromStr for Fingerprint {
    type Err = Refusal;

    /// Parses a fingerprint.
    ///
    /// # Errors
    /// [`crate::error::Case::B07Digest`] for anything but 64 lower-case hex digits.
    fn from_str(text: &str) -> Result<Self, Refusal> {
        BlobDigest::from_hex(text).map(Self)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
