//! PKCS#7 and X.509: the strict profile of signatures that we accept, certificates that may be trusted, and the one
//! call that verifies. OpenSSL does the cryptography, this module decides what is accepted.

pub mod anchor;
mod bundle;
pub mod certificate;
mod der;
mod facts;
pub mod formatted_digest;
mod low_s;
mod name;
mod pem;
pub mod pkcs7;
pub mod profile;
pub mod sign;
pub mod trust;
mod verified;

pub use anchor::{Anchor, leaf};
pub use bundle::{certificates_from_bytes, marks_from_bytes};
pub use certificate::Certificate;
pub use facts::keep_facts;
pub use formatted_digest::formatted_digest;
pub use pkcs7::{Dates, signer_id, verify as verify_signature};
pub use profile::{Profile, parse as parse_signature};
pub use sign::{Named, Signer, key_file_mode_warning};
pub use trust::{Ownership, TrustStore, anchors};
