//! Files of certificates: which of the certificates in one are used.

use std::collections::HashSet;

use openssl::pkey::{HasPublic, PKeyRef};
use openssl::x509::X509;

use super::certificate::{Certificate, MAX_FILE, Outline, outline};
use super::der::{self, tag};
use super::name;
use super::pem::{self, Beside};
use crate::digest::Fingerprint;
use crate::error::{Case, Refusal, Result};

/// Reads the certificates in `bytes` that are there to sign: one in DER, or any number in PEM. `name` is what refusals
/// call it.
///
/// PEM is read as RFC 7468 says: text around the blocks is ignored, another kind of block is refused, and every
/// certificate must be usable, except those that are there for another's sake: an authority whose name is the issuer of
/// another certificate in the file is the rest of that one's chain. It is not looked at further, and not trusted to
/// sign.
///
/// # Errors
/// [`Case::F02Certificate`] if there is none, or something else; otherwise as [`Certificate::from_der`].
pub fn certificates_from_bytes(bytes: &[u8], name: &str) -> Result<Vec<Certificate>> {
    signers(bytes, name, Certificate::from_der)
}

/// Reads certificates like [`certificates_from_bytes`], of a file in a trust store of the host.
///
/// # Errors
/// As [`certificates_from_bytes`].
pub(super) fn certificates_of_host(bytes: &[u8], name: &str) -> Result<Vec<Certificate>> {
    signers(bytes, name, Certificate::of_host)
}

fn signers(bytes: &[u8], name: &str, read: impl Fn(&[u8], &str) -> Result<Certificate>) -> Result<Vec<Certificate>> {
    let ders = ders(bytes, name, Beside::Text)?;
    let outlines: Vec<_> = ders.iter().map(|der| outline(der).ok()).collect();
    let is_issuer = |index: usize, one: &Outline<'_>| {
        let others = outlines.iter().enumerate().filter(|(other, _)| *other != index).filter_map(|(_, o)| o.as_ref());
        // One certificate twice is not a chain, and neither are two of one name that signed themselves.
        let issued = others.filter(|other| other.subject != one.subject).any(|other| other.issuer == one.subject);
        issued && one.is_authority().unwrap_or(false)
    };
    let of_chain = |index: usize| outlines.get(index).and_then(Option::as_ref).is_some_and(|one| is_issuer(index, one));
    let signers = ders.iter().enumerate().filter(|(index, _)| !of_chain(*index));
    signers.map(|(_, der)| read(der, name)).collect()
}

/// Finds the certificate in `bytes` whose key `key` is; the others there are its chain, or other people's, and are not
/// looked at. The inner error names the certificates that are there, where none is of this key.
///
/// # Errors
/// [`Case::F02Certificate`] if there is no certificate, [`Case::KeyMismatch`] if several are of this key, and as
/// [`Certificate::from_der`] of the one.
pub(super) fn certificate_of<K: HasPublic>(
    key: &PKeyRef<K>,
    bytes: &[u8],
    name: &str,
) -> Result<std::result::Result<Certificate, Vec<String>>> {
    let mut ders = ders(bytes, name, Beside::Blocks)?;
    let mut seen = HashSet::new();
    ders.retain(|der| seen.insert(der.clone()));
    let of_key = |der: &&Vec<u8>| X509::from_der(der).and_then(|c| c.public_key()).is_ok_and(|k| key.public_eq(&k));
    match ders.iter().filter(of_key).collect::<Vec<_>>().as_slice() {
        [one] => Certificate::from_der(one, name).map(Ok),
        // Certificates that cannot be used say so themselves: it may be the one that was meant.
        [] => {
            let subjects = ders.iter().map(|der| {
                let outline = outline(der).map_err(|e| Refusal::new(Case::F02Certificate, name, e))?;
                name::text(outline.subject).map_err(|e| Refusal::new(Case::F02Certificate, name, e))
            });
            Ok(Err(subjects.collect::<Result<_>>()?))
        }
        several => {
            let detail = format!("{} certificates of this key are in it: keep the one that is to sign", several.len());
            Err(Refusal::new(Case::KeyMismatch, name, detail))
        }
    }
}

/// Computes what tells each certificate in `bytes` from others, for those that are to be denied: SHA-256 of its bytes,
/// of what its issuer signed (TBSCertificate), of its key (SubjectPublicKeyInfo), and of issuer and serial number. The
/// bytes alone would not do: nobody signed the issuer's signature, and one of ECDSA has two forms. A certificate whose
/// key is too weak to be trusted can be denied too.
///
/// # Errors
/// [`Case::F02Certificate`] as [`certificates_from_bytes`].
pub fn marks_from_bytes(bytes: &[u8], name: &str) -> Result<Vec<Vec<Fingerprint>>> {
    let marks = |der: &Vec<u8>| match outline(der) {
        Ok(outline) => Ok(outline.marks(der)),
        Err(e) => Err(Refusal::new(Case::F02Certificate, name, e)),
    };
    ders(bytes, name, Beside::Text)?.iter().map(marks).collect()
}

/// Returns the DER of every certificate in `bytes`; at least one.
pub(super) fn ders(bytes: &[u8], name: &str, beside: Beside) -> Result<Vec<Vec<u8>>> {
    let refuse = |detail: String| Refusal::new(Case::F02Certificate, name, detail);
    if bytes.len() > MAX_FILE {
        return Err(refuse("larger than 1 MiB".into()));
    }
    // Text can begin with a `0` too.
    if bytes.first() == Some(&tag::SEQUENCE) && (der::only(bytes, tag::SEQUENCE).is_ok() || !pem::is_text(bytes)) {
        return Ok(vec![bytes.to_vec()]);
    }
    let found = pem::certificates(bytes, beside).map_err(refuse)?;
    match found.is_empty() {
        true if pem::is_text(bytes) => Err(refuse("there is no CERTIFICATE in it".into())),
        true => Err(refuse("neither PEM nor DER".into())),
        false => Ok(found),
    }
}
