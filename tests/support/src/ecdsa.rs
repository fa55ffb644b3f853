//! The two forms that an ECDSA signature has: with s, n - s is as good, and anybody can write it.

use openssl::bn::{BigNum, BigNumContext};
use openssl::ecdsa::EcdsaSig;
use openssl::pkey::{PKeyRef, Private};
use openssl::x509::{X509, X509Ref};

/// Makes the certificate with the other form of its issuer's signature.
pub fn other_form(x509: &X509Ref, issuer: &PKeyRef<Private>) -> X509 {
    let (mut order, mut other) = (BigNum::new().unwrap(), BigNum::new().unwrap());
    issuer.ec_key().unwrap().group().order(&mut order, &mut BigNumContext::new().unwrap()).unwrap();
    let signature = EcdsaSig::from_der(x509.signature().as_slice()).unwrap();
    other.checked_sub(&order, signature.s()).unwrap();
    let other = EcdsaSig::from_private_components(signature.r().to_owned().unwrap(), other).unwrap().to_der().unwrap();
    // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, BIT STRING }.
    let der = x509.to_der().unwrap();
    let (_, content) = split(&der);
    let (signed, rest) = element(content);
    let (algorithm, _) = element(rest);
    let bits = wrap(0x03, &[&[0], other.as_slice()].concat());
    X509::from_der(&wrap(0x30, &[signed, algorithm, bits.as_slice()].concat())).unwrap()
}

/// Returns whether s is the larger of its two values.
pub fn is_high(x509: &X509Ref, issuer: &PKeyRef<Private>) -> bool {
    let s = |x509: &X509Ref| EcdsaSig::from_der(x509.signature().as_slice()).unwrap().s().to_owned().unwrap();
    s(x509) > s(&other_form(x509, issuer))
}

/// Returns header and content of the first element.
fn split(der: &[u8]) -> (&[u8], &[u8]) {
    let (header, length) = match der[1] {
        0x81 => (3, usize::from(der[2])),
        0x82 => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
        short => (2, usize::from(short)),
    };
    (&der[..header], &der[header..header + length])
}

/// Splits the bytes into the first element and what follows.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (header, content) = split(der);
    der.split_at(header.len() + content.len())
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        n @ 0..0x80 => vec![n as u8],
        n @ 0x80..0x100 => vec![0x81, n as u8],
        n => vec![0x82, (n >> 8) as u8, n as u8],
    };
    [&[tag], length.as_slice(), content].concat()
}
