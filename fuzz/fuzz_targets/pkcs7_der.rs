//! The PKCS#7 reader on any bytes.
//!
//! Invariants:
//! 1. Nothing panics, hangs or reads out of bounds.
//! 2. What `parse` accepts, OpenSSL reads, and writes back as the same bytes.
//! 3. What `walk` accepts without embedded certificates, `parse` accepts: our own reading is no
//!    wider than OpenSSL's.
//! 4. What `verify` accepts, `parse` accepts, and an RSA signature in it is one of those that the
//!    key really made: PKCS#1 v1.5 has one for each digest.
#![no_main]

use std::sync::LazyLock;

use layerseal::pki::formatted_digest::formatted_digest;
use layerseal::pki::pkcs7::{Certificate, Dates, Family, parse, verify, walk};
use libfuzzer_sys::fuzz_target;
use openssl::pkcs7::Pkcs7;

/// What the seeds are over.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| formatted_digest(1, &[b'Z'; 32]));

static TRUSTED: LazyLock<Vec<Certificate>> = LazyLock::new(|| {
    [&include_bytes!("signers/rsa2048.der")[..], include_bytes!("signers/p256.der")]
        .iter()
        .map(|der| Certificate::from_der(der, "signer").unwrap())
        .collect()
});

/// All that the RSA key ever signed.
static RSA_SIGNATURES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    [
        &include_bytes!("../seeds/pkcs7_der/rsa2048-sha256")[..],
        include_bytes!("../seeds/pkcs7_der/rsa2048-sha384"),
        include_bytes!("../seeds/pkcs7_der/rsa2048-sha512"),
    ]
    .iter()
    .map(|der| {
        assert!(verify(der, &CONTENT, &TRUSTED, Dates::Ignore, 0, "seed").is_ok());
        walk(der, "seed").unwrap().signature
    })
    .collect()
});

fuzz_target!(|der: &[u8]| {
    let parsed = parse(der, "fuzz");
    if parsed.is_ok() {
        let again = Pkcs7::from_der(der).and_then(|pkcs7| pkcs7.to_der());
        assert_eq!(again.expect("OpenSSL reads it"), der);
    }
    if let Ok(profile) = walk(der, "fuzz")
        && profile.certificates.is_empty()
    {
        assert_eq!(parsed.as_ref(), Ok(&profile));
    }
    let signatures = &*RSA_SIGNATURES;
    if verify(der, &CONTENT, &TRUSTED, Dates::Ignore, 0, "fuzz").is_ok() {
        let profile = parsed.expect("what verifies parses");
        assert!(profile.family != Family::Rsa || signatures.contains(&profile.signature));
    }
});
