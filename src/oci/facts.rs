//! All by which something can be denied, put together where it is known and asked about in one place.

use serde::{Deserialize, Serialize};

use super::Image;
use crate::digest::{Algorithm, BlobDigest, VerityDigest};
use crate::report::{Case, Refusal, Result};

/// What a host is about to start, by every digest under which it may be denied. What is no digest never becomes
/// one of these: it is refused where it comes in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenFacts", into = "WrittenFacts")]
pub struct Facts {
    blobs: Vec<(String, BlobDigest)>,
    erofs: Vec<(String, VerityDigest)>,
    certificates: Vec<String>,
}

impl Facts {
    /// Those of an image: manifest, config, layers.
    pub fn of(image: &Image) -> Self {
        let mut facts = Self::default();
        facts.blob("manifest", image.digest);
        facts.blob("config", image.config_digest);
        for (number, layer) in image.layers.iter().enumerate() {
            facts.blob(format!("layer {number}"), layer.digest);
            facts.blob(format!("diff_id of layer {number}"), layer.diff_id);
        }
        facts
    }

    /// Adds a blob; `what` names it in a refusal.
    pub fn blob(&mut self, what: impl Into<String>, digest: BlobDigest) {
        self.blobs.push((what.into(), digest));
    }

    /// Adds an EROFS image.
    pub fn erofs(&mut self, what: impl Into<String>, digest: VerityDigest) {
        self.erofs.push((what.into(), digest));
    }

    /// Adds a certificate by its SHA-256, lower-case hex.
    ///
    /// # Errors
    /// [`Case::B07Digest`].
    pub fn certificate(&mut self, fingerprint: &str) -> Result<()> {
        // A SHA-256 as any other, in hex.
        let digest = BlobDigest::from_hex(fingerprint)?;
        self.certificates.push(digest.hex());
        Ok(())
    }

    /// The blobs, each with what it is.
    pub fn blobs(&self) -> &[(String, BlobDigest)] {
        &self.blobs
    }

    /// The EROFS images, each with what it is.
    pub fn erofs_images(&self) -> &[(String, VerityDigest)] {
        &self.erofs
    }

    /// Fingerprints of certificates.
    pub fn certificates(&self) -> &[String] {
        &self.certificates
    }

    /// Adds what others say of the same thing.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.blobs.extend(others.blobs);
        self.erofs.extend(others.erofs);
        self.certificates.extend(others.certificates);
        self
    }
}

/// The same as text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenFacts {
    /// Blobs: what each is, and its digest.
    pub blobs: Vec<(String, String)>,
    /// The same of EROFS images, `ALGORITHM:HEX`.
    pub erofs: Vec<(String, String)>,
    /// SHA-256 of certificates, in hex.
    pub certificates: Vec<String>,
}

impl From<Facts> for WrittenFacts {
    fn from(facts: Facts) -> Self {
        Self {
            blobs: facts.blobs.into_iter().map(|(what, digest)| (what, digest.to_string())).collect(),
            erofs: facts.erofs.into_iter().map(|(what, d)| (what, format!("{}:{d}", d.algorithm()))).collect(),
            certificates: facts.certificates,
        }
    }
}

impl TryFrom<WrittenFacts> for Facts {
    type Error = Refusal;

    fn try_from(written: WrittenFacts) -> Result<Self> {
        let mut facts = Self::default();
        for (what, digest) in written.blobs {
            facts.blob(what, digest.parse()?);
        }
        for (what, digest) in written.erofs {
            let parsed = digest
                .split_once(':')
                .and_then(|(algorithm, hex)| VerityDigest::from_hex(algorithm.parse::<Algorithm>().ok()?, hex));
            facts.erofs(what, parsed.ok_or_else(|| Refusal::new(Case::B07Digest, digest, ""))?);
        }
        written.certificates.iter().try_for_each(|fingerprint| facts.certificate(fingerprint))?;
        Ok(facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f06_facts_are_digests_and_what_is_none_is_refused() {
        let mut facts = Facts::default();
        facts.blob("config", BlobDigest::of(b"x"));
        facts.erofs("merged", VerityDigest::from_hex(Algorithm::Sha512, &"0b".repeat(64)).unwrap());
        facts.certificate(&"0a".repeat(32)).unwrap();
        for bad in ["", "0A", &"0A".repeat(32), &"0a".repeat(31), &format!("sha256:{}", "0a".repeat(32))] {
            assert_eq!(facts.certificate(bad).unwrap_err().case(), Case::B07Digest, "{bad}");
        }
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
        for (from, to) in [("sha256:", "sha256:x"), ("sha512-12:", "sha512-12:X"), ("0a0a", "0A0A"), ("blobs", "blob")]
        {
            assert!(text.contains(from), "{text}");
            serde_json::from_str::<Facts>(&text.replacen(from, to, 1)).unwrap_err();
        }
    }
}
