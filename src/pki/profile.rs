//! The one shape of PKCS#7 signature that is read: RFC 2315 SignedData, detached, one signer, no
//! attributes.
//!
//! ```text
//! SEQUENCE {                                   ContentInfo
//!   OID signedData
//!   [0] { SEQUENCE {                           SignedData
//!     INTEGER 1
//!     SET { algorithm }                        the one digest algorithm
//!     SEQUENCE { OID data }                    the content, which is elsewhere
//!     [0] { certificate* }                     may be absent; trusted for nothing
//!     SET { SEQUENCE {                         the one SignerInfo
//!       INTEGER 1
//!       SEQUENCE { issuer, INTEGER serial }
//!       algorithm                              the same digest algorithm
//!       algorithm                              rsaEncryption or ecdsa-with-SHA2 of that digest
//!       OCTET STRING signature
//!     } }
//!   } }
//! }
//! algorithm = SEQUENCE { OID, NULL? }
//! ```
//!
//! This is what the kernel's crypto/asymmetric_keys/pkcs7.asn1 and pkcs7_parser.c accept without
//! attributes, minus every choice that seals do not need: all that the kernel, OpenSSL and this
//! reader could understand differently is outside. The signature covers only the content, so each
//! byte around it has exactly one permitted value, or selects something that is checked: issuer
//! and serial the certificate, the algorithms the digest. Three freedoms remain, so one signer and
//! one content do not mean one signature: whether an algorithm has a NULL, which certificates are
//! embedded (verifying allows the signer's only), and the two values s and n - s of ECDSA.

use openssl::pkcs7::Pkcs7;

use super::der::{self, DerError, Element, Reader, tag};
use super::name;
use crate::error::{Case, Refusal, Result};

/// Bytes that a signature may have: `FS_VERITY_MAX_SIGNATURE_SIZE` of the kernel's
/// fs/verity/fsverity_private.h.
pub const MAX_SIZE: usize = 16128;

/// Certificates that a signature may carry. A chain has three or four.
pub const MAX_CERTIFICATES: usize = 16;

const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];

/// A digest algorithm that a signature may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureDigest {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// What kind of key signs, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// RSA with PKCS#1 v1.5 padding.
    Rsa,
    /// ECDSA on a NIST curve.
    Ecdsa,
}

impl Family {
    /// Returns the family's name, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::Ecdsa => "ECDSA",
        }
    }
}

const DIGESTS: [(&[u8], SignatureDigest); 3] = [
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1], SignatureDigest::Sha256),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2], SignatureDigest::Sha384),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3], SignatureDigest::Sha512),
];

/// Signature algorithms; ECDSA names the digest a second time. sha256WithRSAEncryption and its like,
/// and ecPublicKey, are missing although OpenSSL takes them (it reads nothing from this field): the
/// kernel's pkcs7_sig_note_pkey_algo() answers ENOPKG, and we accept nothing that it rejects.
const SIGNATURES: [(&[u8], Family, Option<SignatureDigest>); 4] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1], Family::Rsa, None),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], Family::Ecdsa, Some(SignatureDigest::Sha256)),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], Family::Ecdsa, Some(SignatureDigest::Sha384)),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4], Family::Ecdsa, Some(SignatureDigest::Sha512)),
];

/// The facts of one acceptable signature. They say nothing about who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// The issuer of the signer's certificate: the whole Name, DER.
    pub issuer: Vec<u8>,
    /// The issuer as text, for messages.
    pub issuer_text: String,
    /// The serial number of the signer's certificate: the content octets of its INTEGER.
    pub serial: Vec<u8>,
    /// The digest algorithm.
    pub digest: SignatureDigest,
    /// The kind of key that signed.
    pub family: Family,
    /// The signature: an RSA block, or the DER of an ECDSA-Sig-Value.
    pub signature: Vec<u8>,
    /// The embedded certificates as they stand there: each a SEQUENCE, its content unread.
    pub certificates: Vec<Vec<u8>>,
}

impl Profile {
    /// Returns the signer as messages name it: `issuer CN=x, serial 0x01ab`.
    pub fn signer(&self) -> String {
        signer_text(&self.issuer_text, &self.serial)
    }
}

/// Names a certificate by issuer and serial, as messages do.
pub(super) fn signer_text(issuer: &str, serial: &[u8]) -> String {
    format!("issuer {issuer}, serial 0x{}", hex::encode(serial))
}

/// Why a signature is outside the profile.
struct ProfileError {
    case: Case,
    detail: String,
}

impl ProfileError {
    fn new(case: Case, detail: impl Into<String>) -> Self {
        Self { case, detail: detail.into() }
    }
}

impl From<DerError> for ProfileError {
    fn from(error: DerError) -> Self {
        Self::new(Case::E02Der, error.to_string())
    }
}

type ProfileResult<T> = std::result::Result<T, ProfileError>;

/// Reads the PKCS#7 signature `der`; `subject` names it in refusals.
///
/// Beyond [`walk`], OpenSSL must read the same bytes and write them back unchanged. Where nothing
/// is embedded this follows from the walk; embedded certificates are read by OpenSSL only.
///
/// # Errors
/// [`Case::E15TooBig`] beyond [`MAX_SIZE`] or [`MAX_CERTIFICATES`]; [`Case::E02Der`] if it is not
/// strict DER of this structure; [`Case::E03Attached`], [`Case::E04Signers`],
/// [`Case::E05Attributes`] and [`Case::E16Cms`] for what the profile excludes; [`Case::E12Weak`]
/// for other algorithms; [`Case::E13DigestMismatch`] for digest algorithms that disagree.
pub fn parse(der: &[u8], subject: &str) -> Result<Profile> {
    let profile = walk(der, subject)?;
    same_in_openssl(der, subject)?;
    Ok(profile)
}

/// Reads a signature like [`parse`], without OpenSSL: no byte of a signature reaches a C parser before this.
///
/// # Errors
/// Those of [`parse`].
pub fn walk(der: &[u8], subject: &str) -> Result<Profile> {
    signature(der).map_err(|outside| Refusal::new(outside.case, subject, outside.detail))
}

/// Reads `der` with OpenSSL, which must write it back as `der`.
pub(super) fn same_in_openssl(der: &[u8], subject: &str) -> Result<Pkcs7> {
    let refuse = |detail: &str| Refusal::new(Case::E02Der, subject, detail);
    let pkcs7 = Pkcs7::from_der(der).map_err(|_| refuse("OpenSSL cannot read it"))?;
    let again = pkcs7.to_der().map_err(|_| refuse("OpenSSL cannot write it"))?;
    if again != der {
        return Err(refuse("OpenSSL writes it differently"));
    }
    Ok(pkcs7)
}

/// Reads the whole signature.
fn signature(der: &[u8]) -> ProfileResult<Profile> {
    if der.len() > MAX_SIZE {
        return Err(ProfileError::new(Case::E15TooBig, format!("{} bytes, of {MAX_SIZE}", der.len())));
    }
    let mut info = der::only(der, tag::SEQUENCE)?.reader();
    let kind = info.oid()?;
    if kind != SIGNED_DATA {
        return Err(unused(format!("content type {}", der::oid_text(kind))));
    }
    let content = info.expect(tag::CONTEXT_0)?;
    info.finish()?;
    let signed_data = der::only(content.content, tag::SEQUENCE)?;

    let mut parts = signed_data.reader();
    version_one(&mut parts, "SignedData")?;
    let digests = elements(parts.enter(tag::SET)?)?;
    no_content(parts.enter(tag::SEQUENCE)?)?;
    let certificates = certificates(&mut parts)?;
    if let Some(found @ (tag::CONTEXT_1 | tag::CONTEXT_2 | tag::CONTEXT_3)) = parts.peek() {
        return Err(unused(format!("certificate list or revocation list [{}]", found & 0x1f)));
    }
    let signers = elements(parts.enter(tag::SET)?)?;
    parts.finish()?;

    let [signer] = signers.as_slice() else {
        let count = signers.len();
        return Err(ProfileError::new(Case::E04Signers, format!("{count} signers")));
    };
    if signer.tag != tag::SEQUENCE {
        return Err(unexpected(signer, tag::SEQUENCE));
    }
    signer_info(signer.reader(), &digests, certificates)
}

/// Reads SignerInfo; `digests` are the elements of SignedData's digestAlgorithms.
fn signer_info(mut info: Reader<'_>, digests: &[Element<'_>], certificates: Vec<Vec<u8>>) -> ProfileResult<Profile> {
    version_one(&mut info, "SignerInfo")?;
    if info.peek().is_some_and(|found| found & 0xdf == 0x80) {
        return Err(unused("the signer is named by key identifier".into()));
    }
    let mut name = info.enter(tag::SEQUENCE)?;
    let issuer = name.expect(tag::SEQUENCE)?.encoded;
    let serial = name.integer()?;
    name.finish()?;
    let issuer_text = name::text(issuer)?;

    let digest_algorithm = info.expect(tag::SEQUENCE)?;
    no_attributes(&info, "signed", [tag::CONTEXT_0, tag::CONTEXT_2])?;
    let signature_algorithm = info.expect(tag::SEQUENCE)?;
    let signature = info.expect(tag::OCTET_STRING)?.content;
    no_attributes(&info, "unsigned", [tag::CONTEXT_1, tag::CONTEXT_3])?;
    info.finish()?;

    let digest = digest(&digest_algorithm, digests)?;
    let family = family(&signature_algorithm, digest)?;
    if family == Family::Ecdsa {
        ecdsa_value(signature)?;
    }
    if signature.is_empty() {
        return Err(ProfileError::new(Case::E02Der, "the signature is empty"));
    }
    Ok(Profile {
        issuer: issuer.to_vec(),
        issuer_text,
        serial: serial.to_vec(),
        digest,
        family,
        signature: signature.to_vec(),
        certificates,
    })
}

/// Checks the version, which is 1 in PKCS#7 and 3 or more where CMS is needed.
fn version_one(reader: &mut Reader<'_>, of: &str) -> ProfileResult<()> {
    match reader.integer()? {
        [1] => Ok(()),
        other => Err(unused(format!("{of} of version 0x{}", hex::encode(other)))),
    }
}

/// Checks the encapsulated ContentInfo: of type data, and without content.
fn no_content(mut content: Reader<'_>) -> ProfileResult<()> {
    let kind = content.oid()?;
    if kind != DATA {
        return Err(unused(format!("encapsulated content type {}", der::oid_text(kind))));
    }
    if content.peek() == Some(tag::CONTEXT_0) {
        return Err(ProfileError::new(Case::E03Attached, ""));
    }
    Ok(content.finish()?)
}

/// Reads the embedded certificates, if any.
fn certificates(parts: &mut Reader<'_>) -> ProfileResult<Vec<Vec<u8>>> {
    let Some(list) = parts.optional(tag::CONTEXT_0)? else {
        return Ok(Vec::new());
    };
    let list = elements(list.reader())?;
    if list.is_empty() {
        // Having none is expressed by leaving the list out.
        return Err(unused("an empty list of certificates".into()));
    }
    if list.len() > MAX_CERTIFICATES {
        return Err(ProfileError::new(Case::E15TooBig, format!("{} certificates, of {MAX_CERTIFICATES}", list.len())));
    }
    list.iter()
        .map(|certificate| {
            if certificate.tag == tag::SEQUENCE {
                Ok(certificate.encoded.to_vec())
            } else {
                Err(unexpected(certificate, tag::SEQUENCE))
            }
        })
        .collect()
}

/// Refuses attributes, which would be what is signed instead of the content.
fn no_attributes(info: &Reader<'_>, which: &str, tags: [u8; 2]) -> ProfileResult<()> {
    match info.peek() {
        Some(found) if tags.contains(&found) => {
            Err(ProfileError::new(Case::E05Attributes, format!("{which} attributes")))
        }
        _ => Ok(()),
    }
}

/// Reads the signer's digest algorithm, which must be the only one that SignedData lists.
fn digest(of_signer: &Element<'_>, listed: &[Element<'_>]) -> ProfileResult<SignatureDigest> {
    let oid = algorithm(of_signer)?;
    let digest = DIGESTS
        .iter()
        .find(|(known, _)| *known == oid)
        .map(|(_, digest)| *digest)
        .ok_or_else(|| ProfileError::new(Case::E12Weak, format!("digest {}", der::oid_text(oid))))?;
    let [listed] = listed else {
        return Err(ProfileError::new(
            Case::E13DigestMismatch,
            format!("{} digest algorithms for one signer", listed.len()),
        ));
    };
    let listed = algorithm(listed)?;
    if listed != oid {
        return Err(ProfileError::new(
            Case::E13DigestMismatch,
            format!("{} and {}", der::oid_text(listed), der::oid_text(oid)),
        ));
    }
    Ok(digest)
}

/// Returns the family of the signature algorithm, which must agree with `digest` where it names one.
fn family(element: &Element<'_>, digest: SignatureDigest) -> ProfileResult<Family> {
    let oid = algorithm(element)?;
    let (_, family, names) = SIGNATURES
        .iter()
        .find(|(known, ..)| *known == oid)
        .ok_or_else(|| ProfileError::new(Case::E12Weak, format!("signature algorithm {}", der::oid_text(oid))))?;
    if names.is_some_and(|named| named != digest) {
        return Err(ProfileError::new(Case::E13DigestMismatch, format!("{} over {digest:?}", der::oid_text(oid))));
    }
    Ok(*family)
}

/// Returns an AlgorithmIdentifier's OID; its parameters must be NULL or absent.
fn algorithm<'a>(element: &Element<'a>) -> ProfileResult<&'a [u8]> {
    if element.tag != tag::SEQUENCE {
        return Err(unexpected(element, tag::SEQUENCE));
    }
    let mut parts = element.reader();
    let oid = parts.oid()?;
    if parts.is_empty() {
        return Ok(oid);
    }
    let parameters = parts.any()?;
    parts.finish()?;
    if parameters.encoded != [tag::NULL, 0] {
        // RSASSA-PSS is the algorithm that has parameters; say so rather than call it malformed.
        return Err(ProfileError::new(Case::E12Weak, format!("{} with parameters", der::oid_text(oid))));
    }
    Ok(oid)
}

/// Checks an ECDSA-Sig-Value of RFC 3279 section 2.2.3: two positive integers. OpenSSL is as strict, the kernel is not.
fn ecdsa_value(signature: &[u8]) -> ProfileResult<()> {
    let mut value = der::only(signature, tag::SEQUENCE)?.reader();
    value.positive_integer()?;
    value.positive_integer()?;
    Ok(value.finish()?)
}

/// Reads all elements of a level. Their number is bounded by the input's size.
fn elements(mut reader: Reader<'_>) -> ProfileResult<Vec<Element<'_>>> {
    let mut all = Vec::new();
    while !reader.is_empty() {
        all.push(reader.any()?);
    }
    Ok(all)
}

/// Makes the error for a construct that the standards know and seals do not use.
fn unused(detail: String) -> ProfileError {
    ProfileError::new(Case::E16Cms, detail)
}

/// Makes the error for an element where another belongs.
fn unexpected(element: &Element<'_>, expected: u8) -> ProfileError {
    DerError::Tag { expected, found: element.tag }.into()
}
