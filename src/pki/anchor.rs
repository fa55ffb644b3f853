//! Anchors: authorities for signers that are not named beforehand. A signature may carry its signer's own certificate,
//! and an anchor can vouch for it, directly and for this purpose.
//!
//! This is not general path building. There is one step, from the anchor to the leaf; everything that could make it
//! mean more or less than it says is refused. The kernel goes by its own keyring: a leaf that is accepted here is not a
//! key there.

use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::x509::X509;

use super::bundle;
use super::certificate::{self, BASIC_CONSTRAINTS, Certificate, Extension, Outline};
use super::pem::Beside;
use super::pkcs7::Dates;
use super::profile::walk;
use super::{der, low_s};
use crate::digest::Fingerprint;
use crate::error::{Case, Refusal, Result};

/// `id-ce-keyUsage`, `id-ce-extKeyUsage` (RFC 5280 section 4.2.1).
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// `id-kp-codeSigning` and `anyExtendedKeyUsage` (RFC 5280 section 4.2.1.12).
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 0x25, 0];

/// Extensions that limit what an authority vouches for, in ways that are not kept here; whether they are marked as
/// critical or not.
const LIMITS: [(&[u8], &str); 6] = [
    (&[0x55, 0x1d, 0x1e], "name constraints"),
    (&[0x55, 0x1d, 0x24], "policy constraints"),
    (&[0x55, 0x1d, 0x36], "inhibitAnyPolicy"),
    (&[0x55, 0x1d, 0x21], "policy mappings"),
    (&[0x55, 0x1d, 0x10], "a private key usage period"),
    (&[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 1, 1], "a Netscape certificate type"),
];

/// How a leaf may be signed: as seals are.
const SIGNATURES: [Nid; 6] = [
    Nid::SHA256WITHRSAENCRYPTION,
    Nid::SHA384WITHRSAENCRYPTION,
    Nid::SHA512WITHRSAENCRYPTION,
    Nid::ECDSA_WITH_SHA256,
    Nid::ECDSA_WITH_SHA384,
    Nid::ECDSA_WITH_SHA512,
];

/// An authority whose leaf certificates may sign when they travel in the signature.
#[derive(Clone)]
pub struct Anchor {
    x509: X509,
    /// The subject's DER, which leaves must name as their issuer, byte for byte.
    name: Vec<u8>,
    fingerprint: Fingerprint,
    marks: Vec<Fingerprint>,
    not_before: i64,
    not_after: i64,
}

impl std::fmt::Debug for Anchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Anchor").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl Anchor {
    /// Reads all anchors in `bytes`: one in DER, or any number in PEM. `name` is what refusals call them.
    ///
    /// # Errors
    /// [`Case::F02Certificate`] for what is not a certificate, [`Case::E12Weak`] for a weak key, [`Case::E10Usage`] for
    /// a certificate that is not an authority's, or one with limits that we cannot keep.
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Vec<Self>> {
        bundle::ders(bytes, name, Beside::Text)?.iter().map(|der| Self::from_der(der, name)).collect()
    }

    fn from_der(der: &[u8], name: &str) -> Result<Self> {
        let malformed = |e: &dyn std::fmt::Display| Refusal::new(Case::F02Certificate, name, e);
        let outline = certificate::outline(der).map_err(|e| malformed(&e))?;
        let x509 = certificate::openssl(der).map_err(|e| malformed(&e))?;
        certificate::key_family(&outline, &x509).map_err(|why| Refusal::new(Case::E12Weak, name, why))?;
        let refuse = |why: &str| Refusal::new(Case::E10Usage, name, why);
        if !outline.is_authority().map_err(|e| malformed(&e))? {
            return Err(refuse(
                "it is no certificate authority (basicConstraints CA:TRUE); a signer's own certificate belongs beside ca/",
            ));
        }
        if !certificate::may_sign_certificates(&x509) {
            return Err(refuse("its key usage has no keyCertSign"));
        }
        known_limits(&outline, &[BASIC_CONSTRAINTS, KEY_USAGE]).map_err(|why| refuse(&why))?;
        if let Some((_, what)) = LIMITS.iter().find(|(oid, _)| outline.find(oid).is_some()) {
            return Err(refuse(&format!("it has {what}, which layerseal does not keep")));
        }
        let purposes = purposes(&outline).map_err(|e| malformed(&e))?;
        if purposes.is_some_and(|all| !all.iter().any(|one| [CODE_SIGNING, ANY_PURPOSE].contains(one))) {
            return Err(refuse("its extended key usage has no codeSigning"));
        }
        let (not_before, not_after) = certificate::dates(&x509).map_err(|e| malformed(&e))?;
        Ok(Self {
            name: outline.subject.to_vec(),
            fingerprint: Fingerprint::of(der),
            marks: outline.marks(der),
            x509,
            not_before,
            not_after,
        })
    }

    /// Returns the SHA-256 of the certificate's bytes, in lower-case hexadecimal.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the digests by which the anchor can be denied, as [`Certificate::marks`].
    pub fn marks(&self) -> &[Fingerprint] {
        &self.marks
    }
}

/// Finds the certificate in the signature `der`, where one of `anchors` vouches for it, and that anchor. It is the only
/// certificate in the signature, named as its signer, issued by the anchor itself, no authority, for code signing, and
/// within its dates. `None` where the signature carries no certificate that says it comes from one of them.
///
/// Whether it signed is not checked here: it is one more certificate to try.
///
/// # Errors
/// Those of [`walk`]; [`Case::E09Chain`] for a leaf of an anchor that may not sign, and
/// [`Case::E11Dates`], [`Case::E12Weak`] and [`Case::E10Usage`] as for certificates that are trusted.
pub fn leaf<'a>(
    der: &[u8],
    anchors: &'a [Anchor],
    dates: Dates,
    now: i64,
    subject: &str,
) -> Result<Option<(Certificate, &'a Anchor)>> {
    let profile = walk(der, subject)?;
    let [embedded] = profile.certificates.as_slice() else { return Ok(None) };
    let outline =
        certificate::outline(embedded).map_err(|e| Refusal::new(Case::E02Der, subject, format!("embedded: {e}")))?;
    if outline.issuer != profile.issuer || outline.serial != profile.serial {
        return Ok(None);
    }
    let named: Vec<&'a Anchor> = anchors.iter().filter(|a| a.name == outline.issuer).collect();
    if named.is_empty() {
        return Ok(None);
    }
    let refuse = |why: &str| Refusal::new(Case::E09Chain, subject, why);
    let x509 = certificate::openssl(embedded).map_err(|e| refuse(&e))?;
    // Two authorities can have one name.
    let issued = |a: &&&'a Anchor| a.x509.public_key().and_then(|key| x509.verify(&key)).unwrap_or(false);
    let anchor = named.iter().find(issued).ok_or_else(|| refuse("the anchor of this name did not issue it"))?;
    if !SIGNATURES.contains(&x509.signature_algorithm().object().nid()) {
        return Err(refuse("it is issued with a weak or unknown algorithm"));
    }
    // Anybody can turn the one into the other: a list of denied bytes is no use where bytes can be chosen.
    if has_high_s(&x509, anchor).map_err(|e| refuse(&e.to_string()))? {
        return Err(refuse(
            "its issuer's ECDSA signature is in the higher of its two forms: sign again, which writes the other",
        ));
    }
    if outline.is_authority().map_err(|e| refuse(&e.to_string()))? {
        return Err(refuse("an authority may not sign itself"));
    }
    known_limits(&outline, &[BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE]).map_err(|why| refuse(&why))?;
    // Authorities issue for many purposes; only this one is ours.
    let purposes = purposes(&outline).map_err(|e| refuse(&e.to_string()))?;
    if !purposes.is_some_and(|all| all.contains(&CODE_SIGNING)) {
        return Err(refuse("its extended key usage has no codeSigning"));
    }
    if dates == Dates::Enforce && !(anchor.not_before..=anchor.not_after).contains(&now) {
        return Err(Refusal::new(Case::E11Dates, subject, "the anchor"));
    }
    Certificate::from_der(embedded, subject).map(|leaf| Some((leaf, *anchor)))
}

/// Reads the purposes of a certificate, `ExtKeyUsageSyntax ::= SEQUENCE OF OBJECT IDENTIFIER`; `None` where it has no
/// such extension.
fn purposes<'a>(outline: &Outline<'a>) -> der::Result<Option<Vec<&'a [u8]>>> {
    let Some(value) = outline.find(EXTENDED_KEY_USAGE) else { return Ok(None) };
    let mut usages = der::only(value, der::tag::SEQUENCE)?.reader();
    let mut found = Vec::new();
    while !usages.is_empty() {
        found.push(usages.oid()?);
    }
    Ok(Some(found))
}

/// Returns whether the certificate carries the form of its issuer's ECDSA signature that is not read.
fn has_high_s(x509: &X509, issuer: &Anchor) -> std::result::Result<bool, ErrorStack> {
    match issuer.x509.public_key()?.ec_key() {
        Ok(key) => low_s::is_high(x509, key.group()),
        Err(_) => Ok(false),
    }
}

/// Refuses extensions that we cannot honour: one that is critical and not known limits the certificate in a way that we
/// would ignore; one that occurs twice says two things.
fn known_limits(outline: &Outline<'_>, known: &[&[u8]]) -> std::result::Result<(), String> {
    let Some(extensions) = &outline.extensions else { return Err("its extensions cannot be read".into()) };
    let unknown = |e: &&Extension<'_>| e.critical && !known.contains(&e.oid);
    if let Some(extension) = extensions.iter().find(unknown) {
        return Err(format!("critical extension {}", der::oid_text(extension.oid)));
    }
    let mut seen = std::collections::HashSet::new();
    match extensions.iter().find(|e| !seen.insert(e.oid)) {
        Some(twice) => Err(format!("extension {} twice", der::oid_text(twice.oid))),
        None => Ok(()),
    }
}
