//! Signatures that were verified before.

use std::sync::OnceLock;

use super::facts;
use crate::digest::Fingerprint;
use crate::state::{Notes, StateDir};

/// Notes that are kept: a host has some tens of images with some signatures each. With more all are verified again.
const MAX_NOTES: usize = 4096;

/// A signature, what it is over, and the certificate that it is verified by. OpenSSL says the same about the same bytes, so
/// for what runs for each container anew, it is noted until the next boot that the signature is good. Dates
/// and what is denied are no part of that.
pub(super) struct Verification(String);

impl Verification {
    /// Describes the verification of `der` over `content` by the certificate with this fingerprint, by this version of the
    /// program.
    pub(super) fn of(der: &[u8], content: &[u8], certificate: &Fingerprint) -> Self {
        let fingerprint = certificate.to_string();
        let mut all = Vec::new();
        for part in [env!("CARGO_PKG_VERSION").as_bytes(), fingerprint.as_bytes(), content, der] {
            all.extend((part.len() as u64).to_le_bytes());
            all.extend(part);
        }
        Self(Fingerprint::of(&all).to_string())
    }

    /// Returns whether it is noted that the signature is good.
    pub(super) fn is_noted(&self) -> bool {
        static NOTED: OnceLock<Option<Notes>> = OnceLock::new();
        let notes = NOTED.get_or_init(|| StateDir::Signatures.open().ok().flatten());
        notes.as_ref().is_some_and(|notes| notes.has(&self.0))
    }

    /// Notes that the signature is good. Where that cannot be noted OpenSSL is asked again.
    pub(super) fn note(&self) {
        if !facts::may_note() {
            return;
        }
        let written = StateDir::Signatures.make().and_then(|notes| {
            let names = notes.names()?;
            if names.len() >= MAX_NOTES {
                names.iter().try_for_each(|name| notes.remove(name))?;
            }
            notes.write(&self.0, b"")
        });
        if let Err(e) = written {
            log::debug!("{}: {e}", StateDir::Signatures);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verification_is_of_these_very_bytes() {
        let parts = |parts: [&[u8]; 2]| Verification::of(parts[0], parts[1], &Fingerprint::of(b"one")).0;
        let one = parts([b"ab", b"c"]);
        assert_eq!(one, parts([b"ab", b"c"]));
        for other in [[&b"a"[..], b"bc"], [b"ab", b"d"], [b"abc", b""]] {
            assert_ne!(one, parts(other));
        }
        assert_ne!(one, Verification::of(b"ab", b"c", &Fingerprint::of(b"other")).0);
    }
}
