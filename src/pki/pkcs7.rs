//! Signatures over formatted digests, by certificates that are trusted individually.

use clap::ValueEnum;
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::stack::Stack;
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use serde::{Deserialize, Serialize};

pub use super::bundle::certificates_from_bytes;
pub use super::certificate::Certificate;
pub use super::profile::{Family, MAX_SIZE, Profile, SignatureDigest, parse, walk};

use super::formatted_digest::is_formatted_digest;
use super::profile::same_in_openssl;
use super::verified::Verification;
use super::{certificate, der, low_s};
use crate::error::{Case, Refusal, Result};

/// What becomes of a signature by a certificate that has expired or is not yet valid; the stricter is the smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dates {
    /// Refuse it
    #[default]
    Enforce,
    /// Accept it, as the kernel does
    Ignore,
}

impl std::fmt::Display for Dates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        serde::Serialize::serialize(self, f)
    }
}

/// Returns serial number and issuer of the certificate that a signature names: the content octets of both, by which the
/// kernel looks certificates up (crypto/asymmetric_keys/pkcs7_parser.c).
///
/// # Errors
/// Those of [`parse`].
pub fn signer_id(der: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let profile = walk(der, "")?;
    let issuer = der::only(&profile.issuer, der::tag::SEQUENCE).map_err(|e| Refusal::new(Case::E02Der, "", e))?;
    Ok((profile.serial, issuer.content.to_vec()))
}

/// Why one candidate did not verify.
struct CandidateFailure<'a> {
    certificate: &'a Certificate,
    case: Case,
    detail: String,
}

/// Verifies the PKCS#7 signature `der` over `content` with one of the certificates `trusted`, at
/// the time `now` in seconds since 1970, and returns the index of the certificate that signed.
/// `subject` names the signature in refusals.
///
/// `content` is the whole formatted digest. Only certificates that the signature names by issuer
/// and serial number are tried, one at a time: two certificates of the same name may both be trusted.
/// Their order decides at most which of two that verify is returned. A certificate that is embedded
/// in the signature must be the one that signed, byte for byte: anything else is unsigned bytes
/// about which the kernel (pkcs7_verify_sig_chain()) and we could disagree, and OpenSSL would have
/// to read them.
///
/// # Errors
/// The first that applies, and those of [`parse`]:
/// - [`Case::E06Content`]: `content` is not a formatted digest;
/// - [`Case::E07Untrusted`]: no trusted certificate has the issuer and serial that signed;
///
/// and among the reasons of several certificates of that name the first of
/// - [`Case::E11Dates`]: it signed, and `now` is outside its dates;
/// - [`Case::E08SameName`]: another certificate of its name is embedded;
/// - [`Case::E09Chain`]: a certificate of another name is embedded;
/// - [`Case::E01Signature`]: it did not sign this.
pub fn verify(
    der: &[u8],
    content: &[u8],
    trusted: &[Certificate],
    dates: Dates,
    now: i64,
    subject: &str,
) -> Result<usize> {
    if !is_formatted_digest(content) {
        return Err(Refusal::new(Case::E06Content, subject, ""));
    }
    let profile = walk(der, subject)?;
    let mut failures = Vec::new();
    for (index, certificate) in trusted.iter().enumerate() {
        if !certificate.is_named(&profile.issuer, &profile.serial) {
            continue;
        }
        match verify_one(der, content, &profile, certificate, subject)? {
            Ok(()) if dates == Dates::Enforce && !is_valid(certificate, now) => {
                failures.push(CandidateFailure {
                    certificate,
                    case: Case::E11Dates,
                    detail: dates_text(certificate, now),
                });
            }
            Ok(()) => return Ok(index),
            Err(failure) => failures.push(failure),
        }
    }
    Err(most_telling(&failures, &profile, subject))
}

/// Verifies that `certificate` signed; the inner error says why it did not. The outer error is about a signature that
/// no certificate could verify.
fn verify_one<'a>(
    der: &[u8],
    content: &[u8],
    profile: &Profile,
    certificate: &'a Certificate,
    subject: &str,
) -> Result<std::result::Result<(), CandidateFailure<'a>>> {
    let fail = |case, detail: String| Ok(Err(CandidateFailure { certificate, case, detail }));
    for embedded in &profile.certificates {
        // The issuer's signature may have either of its two forms: nothing here depends on it.
        if embedded == certificate.der() || certificate.x509().is_ok_and(|x509| low_s::is_other_form(embedded, x509)) {
            continue;
        }
        let (issuer, serial) = certificate::issuer_and_serial(embedded)
            .map_err(|e| Refusal::new(Case::E02Der, subject, format!("embedded: {e}")))?;
        let case = if certificate.is_named(issuer, serial) { Case::E08SameName } else { Case::E09Chain };
        return fail(case, "an embedded certificate is not the signer's".into());
    }
    // OpenSSL goes by the kind of key, whatever the signature says about itself.
    if profile.family != certificate.family() {
        let (signature, key) = (profile.family.name(), certificate.family().name());
        return fail(Case::E01Signature, format!("{signature} signature, {key} key"));
    }
    let verification = Verification::of(der, content, &certificate.fingerprint());
    if verification.is_noted() {
        return Ok(Ok(()));
    }
    let pkcs7 = same_in_openssl(der, subject)?;
    match openssl_verify(&pkcs7, content, certificate) {
        Ok(()) => {
            verification.note();
            Ok(Ok(()))
        }
        Err(_) => fail(Case::E01Signature, String::new()),
    }
}

/// Verifies the signature itself with OpenSSL.
///
/// NOVERIFY: no chain and no purpose, whose default would be S/MIME's. NOINTERN: never a key from
/// within the signature. NO_DUAL_CONTENT: no content but ours. BINARY: no line ends changed. The
/// stack holds the one certificate, the store none.
fn openssl_verify(pkcs7: &Pkcs7, content: &[u8], certificate: &Certificate) -> std::result::Result<(), ErrorStack> {
    let flags = Pkcs7Flags::BINARY | Pkcs7Flags::NOVERIFY | Pkcs7Flags::NOINTERN | Pkcs7Flags::NO_DUAL_CONTENT;
    let mut signer = Stack::<X509>::new()?;
    signer.push(certificate.x509()?.to_owned())?;
    let nobody = X509StoreBuilder::new()?.build();
    pkcs7.verify(&signer, &nobody, Some(content), None, flags)
}

/// Returns whether `now` is within the dates; both ends are (RFC 5280 section 4.1.2.5).
fn is_valid(certificate: &Certificate, now: i64) -> bool {
    (certificate.not_before()..=certificate.not_after()).contains(&now)
}

/// Shows the date that `now` is beyond. Both clock and certificate may be what is wrong.
fn dates_text(certificate: &Certificate, now: i64) -> String {
    let Ok(x509) = certificate.x509() else { return String::new() };
    let clock = Asn1Time::from_unix(now).map_or_else(|_| now.to_string(), |time| time.to_string());
    if now < certificate.not_before() {
        format!("valid from {}, and the clock says {clock}", x509.not_before())
    } else {
        format!("valid until {}, and the clock says {clock}", x509.not_after())
    }
}

/// Chooses the refusal when no certificate verified: the same whatever the order of the certificates.
fn most_telling(failures: &[CandidateFailure<'_>], profile: &Profile, subject: &str) -> Refusal {
    let rank = |failure: &CandidateFailure<'_>| match failure.case {
        Case::E11Dates => 0,
        Case::E08SameName => 1,
        Case::E09Chain => 2,
        _ => 3,
    };
    let first = failures.iter().min_by_key(|failure| (rank(failure), failure.certificate.fingerprint()));
    match first {
        None => Refusal::new(Case::E07Untrusted, subject, profile.signer()),
        Some(failure) => {
            let who = signer_of(failure.certificate);
            let detail = if failure.detail.is_empty() { who } else { format!("{who}: {}", failure.detail) };
            Refusal::new(failure.case, subject, detail)
        }
    }
}

/// Names a trusted certificate as a refusal does.
fn signer_of(certificate: &Certificate) -> String {
    format!("certificate {}, SHA-256 {}", certificate.subject(), certificate.fingerprint())
}
