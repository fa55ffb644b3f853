//! What was found out about certificates before.

use std::sync::atomic::{AtomicBool, Ordering};

use super::profile::Family;
use crate::digest::Fingerprint;
use crate::state::StateDir;

/// What OpenSSL says about a certificate that may sign. It says the same about the same bytes, so for certificates of
/// the host's trust stores it is noted until the next boot, and what only compares fingerprints does not load OpenSSL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) family: Family,
}

/// Whether this process may write notes.
static NOTES: AtomicBool = AtomicBool::new(false);

/// Lets this process note what it finds out about certificates and signatures: for what runs for each container anew, and
/// what makes images ready for that. Others load OpenSSL in any case, or write nothing.
pub fn keep_facts() {
    NOTES.store(true, Ordering::Relaxed);
}

/// Returns whether this process may write notes.
pub(super) fn may_note() -> bool {
    NOTES.load(Ordering::Relaxed)
}

/// Bytes of a note: a version, a word and two times.
const MAX_NOTE: u64 = 256;

impl Facts {
    /// Writes the facts as a note, which begins with the program's version: another one may ask more of a certificate.
    fn text(&self) -> String {
        format!("{} {} {} {}\n", env!("CARGO_PKG_VERSION"), self.family.name(), self.not_before, self.not_after)
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let &[_, family, not_before, not_after] = words.as_slice() else { return None };
        let family = [Family::Rsa, Family::Ecdsa].into_iter().find(|f| f.name() == family)?;
        let facts = Self { not_before: not_before.parse().ok()?, not_after: not_after.parse().ok()?, family };
        (facts.text() == text).then_some(facts)
    }

    /// Reads what was noted about the certificate with this fingerprint.
    pub(super) fn noted(of: &Fingerprint) -> Option<Self> {
        let note = StateDir::Certificates.open().ok()??.read(&of.to_string(), MAX_NOTE).ok()??;
        Self::parse(std::str::from_utf8(&note).ok()?)
    }

    /// Notes the facts. Where they cannot be noted OpenSSL is asked again.
    pub(super) fn note(&self, of: &Fingerprint) {
        if !may_note() {
            return;
        }
        let written = StateDir::Certificates.make().and_then(|dir| dir.write(&of.to_string(), self.text().as_bytes()));
        if let Err(e) = written {
            log::debug!("{}: {e}", StateDir::Certificates);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_of_another_version_or_form_says_nothing() {
        let facts = Facts { not_before: -1, not_after: 2, family: Family::Ecdsa };
        let text = facts.text();
        assert_eq!(Facts::parse(&text), Some(facts));
        let other_version = format!("0.0.0 {}", text.split_once(' ').unwrap().1);
        let other_family = text.replace(Family::Ecdsa.name(), "DSA");
        for bad in ["", "\n", text.trim_end(), &text[1..], &format!("{text} "), &other_version, &other_family] {
            assert_eq!(Facts::parse(bad), None, "{bad:?}");
        }
    }
}
