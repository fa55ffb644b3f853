//! PKCS#7 and X.509: the strict profile of signatures that we accept, certificates that may be
//! trusted, and the one call that verifies. OpenSSL does the cryptography, this room the policy.

pub mod anchor;
pub mod certificate;
mod der;
pub mod formatted_digest;
mod low_s;
mod name;
pub mod pkcs7;
pub mod profile;
pub mod sign;
pub mod trust;

pub use anchor::{Anchor, leaf};
pub use certificate::{Certificate, certificates_from_bytes, marks_from_bytes};
pub use formatted_digest::formatted_digest;
pub use pkcs7::{Dates, signer_id, verify as verify_signature};
pub use profile::{Profile, parse as parse_signature};
pub use sign::{Signer, key_file_mode_warning};
pub use trust::{Ownership, TrustStore, anchors};
