//! Certificates that are trusted to sign, each by itself: no chain is built, no other certificate vouches for it.

use std::sync::OnceLock;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::bn::BigNumRef;
use openssl::error::ErrorStack;
use openssl::x509::{X509, X509KeyUsage, X509Ref};

use super::der::{self, tag};
use super::facts::Facts;
use super::name;
use super::profile::{Family, signer_text};
use crate::digest::Fingerprint;
use crate::error::{Case, Refusal, Result};

/// Bytes that a file of certificates may have.
pub const MAX_FILE: usize = 1 << 20;

/// RSA modulus sizes in bits. The kernel's rsa_check_key_length() knows these and smaller ones, and
/// fails for every other, so a larger key would be one that we accept and the kernel rejects.
const RSA_BITS: [i32; 3] = [2048, 3072, 4096];

/// Bits that an RSA exponent may have: OpenSSL's own limit for keys above 3072 bits.
const RSA_EXPONENT_BITS: i32 = 64;

const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
/// `id-ce-basicConstraints` (RFC 5280 section 4.2.1.9).
pub(super) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];

const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];

/// P-256, P-384 and P-521, as whole OBJECT IDENTIFIERs.
const CURVES: [&[u8]; 3] =
    [&[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7], &[6, 5, 0x2b, 0x81, 4, 0, 0x22], &[6, 5, 0x2b, 0x81, 4, 0, 0x23]];

/// A certificate that may sign: its key is strong enough and its key usage allows it.
///
/// Its dates are checked when a signature is; its extended key usage, its basic constraints and its own signature are
/// not looked at, because it is trusted for being this very certificate and not for anything in it. The kernel treats
/// the certificates in its keyring in the same way, except that it adds none whose own signature is false where it
/// signed itself (x509_check_for_self_signed()).
#[derive(Clone)]
pub struct Certificate {
    /// OpenSSL's form, made when it is needed.
    x509: OnceLock<X509>,
    der: Vec<u8>,
    issuer: Vec<u8>,
    serial: Vec<u8>,
    issuer_text: String,
    subject: String,
    fingerprint: Fingerprint,
    marks: Vec<Fingerprint>,
    facts: Facts,
}

impl Certificate {
    /// Reads the certificate `der`; `name` is what refusals call it.
    ///
    /// # Errors
    /// [`Case::F02Certificate`] if it is not the DER of a certificate, and nothing else;
    /// [`Case::E12Weak`] if its key is not RSA of 2048, 3072 or 4096 bits with an odd exponent
    /// above 1 of at most 64 bits, nor ECDSA on P-256, P-384 or P-521 with the curve named and the
    /// point uncompressed; [`Case::E10Usage`] if it has a key usage
    /// without digitalSignature. (nonRepudiation alone is not enough: it says that the key makes
    /// commitments, which no one makes about a file system. The kernel looks at neither.)
    pub fn from_der(der: &[u8], name: &str) -> Result<Self> {
        Self::read(der, name, false)
    }

    /// Reads a certificate like [`Self::from_der`], of a trust store of the host, which only root can write to: what
    /// was found out about it is noted.
    ///
    /// # Errors
    /// As [`Self::from_der`].
    pub(super) fn of_host(der: &[u8], name: &str) -> Result<Self> {
        Self::read(der, name, true)
    }

    fn read(der: &[u8], name: &str, of_host: bool) -> Result<Self> {
        let malformed = |detail: &dyn std::fmt::Display| Refusal::new(Case::F02Certificate, name, detail.to_string());
        if der.len() > MAX_FILE {
            return Err(malformed(&"larger than 1 MiB"));
        }
        let outline = outline(der).map_err(|e| malformed(&e))?;
        let issuer_text = name::text(outline.issuer).map_err(|e| malformed(&e))?;
        let subject = name::text(outline.subject).map_err(|e| malformed(&e))?;
        let fingerprint = Fingerprint::of(der);
        let read = OnceLock::new();
        let facts = match Facts::noted(&fingerprint).filter(|_| of_host) {
            Some(facts) => facts,
            None => {
                let x509 = openssl(der).map_err(|e| malformed(&e))?;
                let refuse = |case, detail: String| Refusal::new(case, name, format!("{subject}: {detail}"));
                let family = key_family(&outline, &x509).map_err(|why| refuse(Case::E12Weak, why))?;
                may_sign(&x509).map_err(|why| refuse(Case::E10Usage, why.to_owned()))?;
                let (not_before, not_after) = dates(&x509).map_err(|e| malformed(&e))?;
                read.get_or_init(|| x509);
                Facts { not_before, not_after, family }
            }
        };
        if of_host && read.get().is_some() {
            facts.note(&fingerprint);
        }
        Ok(Self {
            facts,
            der: der.to_vec(),
            issuer: outline.issuer.to_vec(),
            serial: outline.serial.to_vec(),
            fingerprint,
            marks: outline.marks(der),
            x509: read,
            issuer_text,
            subject,
        })
    }

    /// Returns the certificate's bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the subject as text, for messages.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns issuer and serial number as text, for messages.
    pub fn issuer_and_serial(&self) -> String {
        signer_text(&self.issuer_text, &self.serial)
    }

    /// Returns the SHA-256 of the certificate's bytes.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the digests by which the certificate can be denied; see [`super::marks_from_bytes`].
    pub fn marks(&self) -> &[Fingerprint] {
        &self.marks
    }

    /// Returns the start of validity, in seconds since 1970 (UTC).
    pub fn not_before(&self) -> i64 {
        self.facts.not_before
    }

    /// Returns the end of validity, in seconds since 1970 (UTC); that second is still inside.
    pub fn not_after(&self) -> i64 {
        self.facts.not_after
    }

    /// Returns what kind of key the certificate is for.
    pub fn family(&self) -> Family {
        self.facts.family
    }

    /// Returns whether a signature that names `issuer` (DER) and `serial` (content octets) names this certificate. Byte
    /// for byte, as the kernel does; OpenSSL would fold case and spaces.
    pub(crate) fn is_named(&self, issuer: &[u8], serial: &[u8]) -> bool {
        self.issuer == issuer && self.serial == serial
    }

    /// Returns the certificate as OpenSSL holds it.
    pub(crate) fn x509(&self) -> std::result::Result<&X509Ref, ErrorStack> {
        if let Some(x509) = self.x509.get() {
            return Ok(x509);
        }
        let read = X509::from_der(&self.der)?;
        Ok(self.x509.get_or_init(|| read))
    }
}

/// Subject, fingerprint and dates: what tells two certificates apart.
impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject)
            .field("fingerprint", &self.fingerprint)
            .field("not_before", &self.facts.not_before)
            .field("not_after", &self.facts.not_after)
            .finish_non_exhaustive()
    }
}

/// Where in a certificate the parts are that we read; everything else is left to OpenSSL.
pub(super) struct Outline<'a> {
    /// What its issuer signed.
    signed: &'a [u8],
    /// SubjectPublicKeyInfo.
    key_info: &'a [u8],
    pub(super) serial: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    key_algorithm: &'a [u8],
    key_parameters: &'a [u8],
    key: &'a [u8],
    /// `None` where they cannot be read; a certificate that is trusted for itself needs none.
    pub(super) extensions: Option<Vec<Extension<'a>>>,
}

impl<'a> Outline<'a> {
    /// Computes the digests of [`super::marks_from_bytes`]; `der` is the certificate.
    pub(super) fn marks(&self, der: &[u8]) -> Vec<Fingerprint> {
        // The encoding of the issuer has its own end.
        let named = [self.issuer, self.serial].concat();
        [der, self.signed, self.key_info, &named].map(Fingerprint::of).into()
    }

    /// Finds the value of the extension `oid`.
    pub(super) fn find(&self, oid: &[u8]) -> Option<&'a [u8]> {
        self.extensions.iter().flatten().find(|e| e.oid == oid).map(|e| e.value)
    }

    /// Returns whether the certificate is an authority's: `BasicConstraints ::= SEQUENCE { cA BOOLEAN DEFAULT FALSE, …
    /// }`.
    pub(super) fn is_authority(&self) -> der::Result<bool> {
        let Some(value) = self.find(BASIC_CONSTRAINTS) else { return Ok(false) };
        let mut constraints = der::only(value, tag::SEQUENCE)?.reader();
        Ok(constraints.optional(tag::BOOLEAN)?.is_some_and(|element| element.content == [0xff]))
    }
}

/// One extension (RFC 5280 section 4.2).
pub(super) struct Extension<'a> {
    pub(super) oid: &'a [u8],
    pub(super) critical: bool,
    /// The DER in its OCTET STRING.
    pub(super) value: &'a [u8],
}

/// Reads TBSCertificate (RFC 5280 section 4.1).
pub(super) fn outline(der: &[u8]) -> der::Result<Outline<'_>> {
    let mut certificate = der::only(der, tag::SEQUENCE)?.reader();
    let signed = certificate.expect(tag::SEQUENCE)?;
    let mut tbs = signed.reader();
    tbs.optional(tag::CONTEXT_0)?;
    let serial = tbs.integer()?;
    tbs.expect(tag::SEQUENCE)?;
    let issuer = tbs.expect(tag::SEQUENCE)?.encoded;
    tbs.expect(tag::SEQUENCE)?;
    let subject = tbs.expect(tag::SEQUENCE)?.encoded;
    let key_info = tbs.expect(tag::SEQUENCE)?;
    let mut info = key_info.reader();
    let mut algorithm = info.enter(tag::SEQUENCE)?;
    let key_algorithm = algorithm.oid()?;
    let key_parameters = if algorithm.is_empty() { &[] } else { algorithm.any()?.encoded };
    algorithm.finish()?;
    let key = info.octet_aligned_bits()?;
    info.finish()?;
    let extensions = extensions(&mut tbs).ok();
    let (signed, key_info) = (signed.encoded, key_info.encoded);
    Ok(Outline { signed, key_info, serial, issuer, subject, key_algorithm, key_parameters, key, extensions })
}

fn extensions<'a>(tbs: &mut der::Reader<'a>) -> der::Result<Vec<Extension<'a>>> {
    let mut found = Vec::new();
    if tbs.is_empty() {
        return Ok(found);
    }
    // Unique identifiers before them have long been obsolete; where they occur nothing here is known.
    let outer = tbs.expect(tag::CONTEXT_3)?;
    let mut list = outer.reader().enter(tag::SEQUENCE)?;
    while !list.is_empty() {
        let mut extension = list.enter(tag::SEQUENCE)?;
        let oid = extension.oid()?;
        let critical = extension.optional(tag::BOOLEAN)?.is_some_and(|element| element.content == [0xff]);
        let value = extension.expect(tag::OCTET_STRING)?.content;
        extension.finish()?;
        found.push(Extension { oid, critical, value });
    }
    Ok(found)
}

/// Reads the certificate with OpenSSL, and checks that it means the same bytes.
pub(super) fn openssl(der: &[u8]) -> std::result::Result<X509, String> {
    let x509 = X509::from_der(der).map_err(|_| "OpenSSL cannot read it".to_owned())?;
    if x509.to_der().is_ok_and(|again| again == der) { Ok(x509) } else { Err("OpenSSL writes it differently".into()) }
}

/// Returns start and end of validity, in seconds since 1970.
pub(super) fn dates(x509: &X509) -> std::result::Result<(i64, i64), String> {
    let time = |at| unix_time(at).map_err(|_| "a date cannot be read".to_owned());
    Ok((time(x509.not_before())?, time(x509.not_after())?))
}

/// Returns whether the key usage, if the certificate has one, allows issuing certificates.
pub(super) fn may_sign_certificates(x509: &X509) -> bool {
    x509.key_usage().is_none_or(|usage| usage.contains(X509KeyUsage::KEY_CERT_SIGN))
}

/// Reads issuer (DER) and serial number (content octets) of the certificate `der`, which OpenSSL never sees.
pub(super) fn issuer_and_serial(der: &[u8]) -> der::Result<(&[u8], &[u8])> {
    let outline = outline(der)?;
    Ok((outline.issuer, outline.serial))
}

/// Returns the key's family, if the key is one that may sign; otherwise what is wrong with it.
pub(super) fn key_family(outline: &Outline<'_>, x509: &X509) -> std::result::Result<Family, String> {
    let unreadable = |_: ErrorStack| "OpenSSL cannot read its key".to_owned();
    match outline.key_algorithm {
        RSA_ENCRYPTION => {
            // OpenSSL's key, once the algorithm says that it is plain RSA and not RSASSA-PSS.
            let key = x509.public_key().and_then(|key| key.rsa()).map_err(unreadable)?;
            let bits = key.n().num_bits();
            if !RSA_BITS.contains(&bits) {
                return Err(format!("RSA of {bits} bits"));
            }
            if !is_usable_exponent(key.e()) {
                return Err("the RSA exponent is even, 1, or above 64 bits".into());
            }
            Ok(Family::Rsa)
        }
        EC_PUBLIC_KEY => {
            // Parameters written out, instead of a curve's name, are refused with the rest.
            if !CURVES.contains(&outline.key_parameters) {
                return Err("the key is not on P-256, P-384 or P-521, by name".into());
            }
            // The kernel's ecdsa_set_pub_key() takes no other form.
            if outline.key.first() != Some(&4) {
                return Err("the point of the ECDSA key is compressed".into());
            }
            // Reading it checks that the point is on the curve.
            x509.public_key().and_then(|key| key.ec_key()).map_err(unreadable)?;
            Ok(Family::Ecdsa)
        }
        other => Err(format!("a key of algorithm {}", der::oid_text(other))),
    }
}

/// Returns whether an exponent is odd, above 1, and small enough that verifying stays cheap.
fn is_usable_exponent(e: &BigNumRef) -> bool {
    !e.is_negative() && e.is_bit_set(0) && (2..=RSA_EXPONENT_BITS).contains(&e.num_bits())
}

/// Checks that the key usage, if the certificate has one, allows signing.
fn may_sign(x509: &X509) -> std::result::Result<(), &'static str> {
    match x509.key_usage() {
        None => Ok(()),
        Some(usage) if usage.contains(X509KeyUsage::DIGITAL_SIGNATURE) => Ok(()),
        Some(usage) if usage.contains(X509KeyUsage::KEY_CERT_SIGN) => Err(
            "it signs certificates only: use the signer's own; to trust all signers that it certifies, put it into ca/ \
                 of the trust store",
        ),
        Some(_) => Err("its key usage has no digitalSignature"),
    }
}

/// Converts a time to seconds since 1970.
fn unix_time(time: &Asn1TimeRef) -> std::result::Result<i64, ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(i64::from(since.days) * 86_400 + i64::from(since.secs))
}
