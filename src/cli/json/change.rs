//! What was changed of what this host asks.

use super::super::schema::objects;
use super::{Check, Expectations};
use crate::policy::Mode;

objects! {
    /// What a host begins with.
    pub struct Setup {
        /// The policy that was written; `null` where there was one.
        pub policy: Option<String>,
        /// The mode of images that no rule is for.
        pub mode: Mode,
        /// The trust stores that the policy names.
        pub stores: Vec<String>,
        /// Everything that was looked at, as `doctor` does.
        pub checks: Vec<Check>,
    }

    /// The mode of images that no rule is for.
    pub struct ModeSet {
        /// The file that says it.
        pub file: String,
        /// What it was before.
        pub before: Mode,
        /// What was asked for.
        pub mode: Mode,
        /// Whether it was changed: nothing is where something would be refused, or it was so before.
        pub changed: bool,
        /// Rules that still say `audit` themselves.
        pub audit_rules: Vec<String>,
        /// What would start then; `null` where the policy asks for less than before.
        pub checks: Option<Expectations>,
    }

    /// What is denied now.
    pub struct DeniedNow {
        /// Each entry.
        pub entries: Vec<DeniedEntry>,
    }

    /// An entry of `deny.d/`.
    pub struct DeniedEntry {
        /// The digest, or SHA-256 of a certificate.
        pub digest: String,
        /// What it is of; empty where nobody said.
        pub what: String,
        /// The file.
        pub file: String,
        /// Whether it was denied before.
        pub before: bool,
    }

    /// The lowest sequences that this host accepts.
    pub struct Floors {
        /// Each.
        pub floors: Vec<Floor>,
    }

    /// The lowest sequence of a name.
    pub struct Floor {
        /// The name, without tag; of a damaged note its file.
        pub name: String,
        /// The sequence; `null` where its note is damaged.
        pub sequence: Option<u64>,
    }

    /// A floor that is no more.
    pub struct FloorReset {
        /// The name.
        pub name: String,
    }

    /// The trust stores.
    pub struct TrustStores {
        /// Each.
        pub stores: Vec<TrustStore>,
    }

    /// A trust store.
    pub struct TrustStore {
        /// Its name.
        pub name: String,
        /// Whether the policy names it: without that it says nothing.
        pub used: bool,
        /// Signers.
        pub certificates: Vec<StoredCertificate>,
        /// SHA-256 of the certificates of authorities (`ca/`).
        pub anchors: Vec<String>,
    }

    /// A certificate in a trust store.
    pub struct StoredCertificate {
        /// Its subject.
        pub subject: String,
        /// SHA-256 of its DER, in hex.
        pub sha256: String,
        /// When it ends, in seconds since 1970.
        pub not_after: i64,
        /// Whether it is denied.
        pub denied: bool,
    }

    /// Certificates that are trusted now.
    pub struct TrustAdded {
        /// The trust store.
        pub store: String,
        /// Whether the policy names it.
        pub used: bool,
        /// The certificates.
        pub certificates: Vec<TrustedNow>,
    }

    /// A certificate that is trusted now.
    pub struct TrustedNow {
        /// Its subject.
        pub subject: String,
        /// SHA-256 of its DER, in hex.
        pub sha256: String,
        /// Its file.
        pub file: String,
        /// Whether it was in the store before.
        pub before: bool,
    }
}
