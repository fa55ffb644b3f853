//! The two forms of an ECDSA signature: beside (r, s) there is (r, n - s), n being the order of the group, and anybody
//! can turn the one into the other. So a certificate whose issuer signed with ECDSA has two encodings, and only the one
//! with the lower s is read where certificates come from outside ([`super::leaf`]).

use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::ec::{EcGroup, EcGroupRef};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::x509::{X509, X509Ref};

use super::der::{self, Reader, tag};

/// The groups that are known, with the bits of their orders.
const GROUPS: [(i32, Nid); 3] = [(256, Nid::X9_62_PRIME256V1), (384, Nid::SECP384R1), (521, Nid::SECP521R1)];

/// Returns whether the issuer's signature has the higher s; `false` where it is not an ECDSA signature.
pub(super) fn is_high(x509: &X509Ref, group: &EcGroupRef) -> Result<bool, ErrorStack> {
    let signature = EcdsaSig::from_der(x509.signature().as_slice())?;
    let order = order(group)?;
    let half = half(&order)?;
    Ok(*signature.s() > *half)
}

/// Returns the same certificate with the lower s; `None` where it has that, or is not signed with ECDSA.
pub(super) fn lowered(x509: &X509Ref) -> Result<Option<X509>, ErrorStack> {
    match other_form(x509)? {
        Some((der, true)) => X509::from_der(&der).map(Some),
        _ => Ok(None),
    }
}

/// Returns whether `der` is this certificate with the other form of its issuer's signature, byte for byte.
pub(super) fn is_other_form(der: &[u8], x509: &X509Ref) -> bool {
    other_form(x509).is_ok_and(|other| other.is_some_and(|(other, _)| other == der))
}

/// Makes the certificate with n - s in place of s, and returns whether that is the lower one.
fn other_form(x509: &X509Ref) -> Result<Option<(Vec<u8>, bool)>, ErrorStack> {
    let Ok(signature) = EcdsaSig::from_der(x509.signature().as_slice()) else { return Ok(None) };
    // The issuer's key is not here, so its group is told by the size of the numbers: those of a larger group are
    // practically never all below the order of a smaller one.
    let bits = signature.r().num_bits().max(signature.s().num_bits());
    let Some((_, group)) = GROUPS.iter().find(|(max, _)| bits <= *max) else { return Ok(None) };
    let order = order(&*EcGroup::from_curve_name(*group)?)?;
    let half = half(&order)?;
    let lower = *signature.s() > *half;
    let mut other = BigNum::new()?;
    other.checked_sub(&order, signature.s())?;
    let other = EcdsaSig::from_private_components(signature.r().to_owned()?, other)?.to_der()?;
    Ok(with_signature(&x509.to_der()?, &other).map(|der| (der, lower)))
}

fn order(group: &EcGroupRef) -> Result<BigNum, ErrorStack> {
    let mut order = BigNum::new()?;
    group.order(&mut order, &mut *BigNumContext::new()?)?;
    Ok(order)
}

fn half(order: &BigNumRef) -> Result<BigNum, ErrorStack> {
    let mut half = BigNum::new()?;
    half.rshift1(order)?;
    Ok(half)
}

/// Puts another signature into a certificate, `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm,
/// signatureValue BIT STRING }` (RFC 5280, 4.1).
fn with_signature(der: &[u8], signature: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Reader<'_> = der::only(der, tag::SEQUENCE).ok()?.reader();
    let (signed, algorithm) = (parts.any().ok()?, parts.any().ok()?);
    let bits = element(tag::BIT_STRING, &[&[0], signature].concat());
    Some(element(tag::SEQUENCE, &[signed.encoded, algorithm.encoded, &bits].concat()))
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut out = vec![tag];
    match length {
        [short] if *short < 0x80 => out.push(*short),
        [] => out.push(0),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(0));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}
