//! Everything by which something can be denied, collected where it is known and checked in one place.

use serde::{Deserialize, Serialize};

use super::Image;
use crate::digest::{Algorithm, BlobDigest, Fingerprint, VerityDigest};
use crate::error::{Case, Refusal, Result};

/// What a host is about to start, by every digest under which it may be denied. Anything that is not a digest is
/// refused when it is read, and never gets here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "DenySubjectsText", into = "DenySubjectsText")]
pub struct DenySubjects {
    blobs: Vec<(String, BlobDigest)>,
    erofs: Vec<(String, VerityDigest)>,
    certificates: Vec<Fingerprint>,
}

impl DenySubjects {
    /// Collects everything an image can be denied by: the digests of its manifest, its config and its layers.
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

    /// Adds a certificate.
    pub fn certificate(&mut self, fingerprint: Fingerprint) {
        self.certificates.push(fingerprint);
    }

    /// Returns the blobs, each with what it is.
    pub fn blobs(&self) -> &[(String, BlobDigest)] {
        &self.blobs
    }

    /// Returns the EROFS images, each with what it is.
    pub fn erofs_images(&self) -> &[(String, VerityDigest)] {
        &self.erofs
    }

    /// Returns the fingerprints of certificates.
    pub fn certificates(&self) -> &[Fingerprint] {
        &self.certificates
    }

    /// Adds what others say about the same thing.
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
pub struct DenySubjectsText {
    /// Blobs: what each is, and its digest.
    pub blobs: Vec<(String, String)>,
    /// EROFS images: what each is, and its digest as `ALGORITHM:HEX`.
    pub erofs: Vec<(String, String)>,
    /// SHA-256 of certificates, in hex.
    pub certificates: Vec<String>,
}

impl From<DenySubjects> for DenySubjectsText {
    fn from(facts: DenySubjects) -> Self {
        Self {
            blobs: facts.blobs.into_iter().map(|(what, digest)| (what, digest.to_string())).collect(),
            erofs: facts.erofs.into_iter().map(|(what, d)| (what, format!("{}:{d}", d.algorithm()))).collect(),
            certificates: facts.certificates.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<DenySubjectsText> for DenySubjects {
    type Error = Refusal;

    fn try_from(written: DenySubjectsText) -> Result<Self> {
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
        for fingerprint in written.certificates {
            facts.certificate(fingerprint.parse()?);
        }
        Ok(facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f06_facts_are_digests_and_what_is_none_is_refused() {
        let mut facts = DenySubjects::default();
        facts.blob("config", BlobDigest::of(b"x"));
        facts.erofs("merged", VerityDigest::from_hex(Algorithm::Sha512, &"0b".repeat(64)).unwrap());
        facts.certificate("0a".repeat(32).parse().unwrap());
        for bad in ["", "0A", &"0A".repeat(32), &"0a".repeat(31), &format!("sha256:{}", "0a".repeat(32))] {
            assert_eq!(bad.parse::<Fingerprint>().unwrap_err().case(), Case::B07Digest, "{bad}");
        }
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<DenySubjects>(&text).unwrap(), facts);
        for (from, to) in [("sha256:", "sha256:x"), ("sha512-12:", "sha512-12:X"), ("0a0a", "0A0A"), ("blobs", "blob")]
        {
            assert!(text.contains(from), "{text}");
            serde_json::from_str::<DenySubjects>(&text.replacen(from, to, 1)).unwrap_err();
        }
    }
}
