//! PKCS#7 of any shape, with signatures that are valid nevertheless.

use openssl::hash::MessageDigest;
use openssl::pkey::{PKeyRef, Private};
use openssl::rsa::Padding;
use openssl::sign::Signer;
use openssl::x509::X509Ref;

pub const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
pub const DATA: &str = "1.2.840.113549.1.7.1";
pub const MD5: &str = "1.2.840.113549.2.5";
pub const SHA1: &str = "1.3.14.3.2.26";
pub const SHA224: &str = "2.16.840.1.101.3.4.2.4";
pub const SHA256: &str = "2.16.840.1.101.3.4.2.1";
pub const SHA384: &str = "2.16.840.1.101.3.4.2.2";
pub const SHA512: &str = "2.16.840.1.101.3.4.2.3";
pub const SHA3_256: &str = "2.16.840.1.101.3.4.2.8";
pub const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
pub const SHA256_WITH_RSA: &str = "1.2.840.113549.1.1.11";
pub const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";
pub const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
pub const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
pub const ECDSA_SHA384: &str = "1.2.840.10045.4.3.3";
pub const ECDSA_SHA512: &str = "1.2.840.10045.4.3.4";
pub const ED25519_OID: &str = "1.3.101.112";

/// Encodes one element.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let mut out = vec![tag];
    if len < 0x80 {
        out.push(len as u8);
    } else {
        let digits = (len as u64).to_be_bytes();
        let skip = digits.iter().take_while(|d| **d == 0).count();
        out.push(0x80 | (8 - skip) as u8);
        out.extend_from_slice(&digits[skip..]);
    }
    out.extend_from_slice(content);
    out
}

pub fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x31, &parts.concat())
}

pub fn int(content: &[u8]) -> Vec<u8> {
    tlv(0x02, content)
}

pub fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted.split('.').map(|a| a.parse().unwrap()).collect();
    let mut content = Vec::new();
    let first = arcs[0] * 40 + arcs[1];
    for arc in std::iter::once(&first).chain(&arcs[2..]) {
        let mut groups = vec![(arc & 0x7f) as u8];
        let mut rest = arc >> 7;
        while rest > 0 {
            groups.push(0x80 | (rest & 0x7f) as u8);
            rest >>= 7;
        }
        content.extend(groups.iter().rev());
    }
    tlv(0x06, &content)
}

/// Encodes an AlgorithmIdentifier with NULL.
pub fn algorithm(dotted: &str) -> Vec<u8> {
    seq(&[oid(dotted), tlv(0x05, &[])])
}

/// Encodes an AlgorithmIdentifier without parameters.
pub fn bare_algorithm(dotted: &str) -> Vec<u8> {
    seq(&[oid(dotted)])
}

/// A SignerInfo to be; every field is the encoding of its element, so that it can be anything.
#[derive(Clone)]
pub struct SignerInfo {
    pub version: Vec<u8>,
    pub id: Vec<u8>,
    pub digest: Vec<u8>,
    pub signed_attributes: Vec<u8>,
    pub signature_algorithm: Vec<u8>,
    pub signature: Vec<u8>,
    pub unsigned_attributes: Vec<u8>,
    pub more: Vec<u8>,
}

impl SignerInfo {
    /// Makes what OpenSSL would make, with SHA-256.
    pub fn new(x509: &X509Ref, key: &PKeyRef<Private>, content: &[u8]) -> Self {
        Self::with(x509, key, content, MessageDigest::sha256(), SHA256)
    }

    /// Makes it with the digest `md`, which is named `digest`.
    pub fn with(x509: &X509Ref, key: &PKeyRef<Private>, content: &[u8], md: MessageDigest, digest: &str) -> Self {
        let signature_algorithm = if key.rsa().is_ok() {
            algorithm(RSA_ENCRYPTION)
        } else {
            bare_algorithm(match digest {
                SHA384 => ECDSA_SHA384,
                SHA512 => ECDSA_SHA512,
                _ => ECDSA_SHA256,
            })
        };
        Self {
            version: int(&[1]),
            id: issuer_and_serial(x509),
            digest: algorithm(digest),
            signed_attributes: Vec::new(),
            signature_algorithm,
            signature: tlv(0x04, &sign(key, md, content, None)),
            unsigned_attributes: Vec::new(),
            more: Vec::new(),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        seq(&[
            self.version.clone(),
            self.id.clone(),
            self.digest.clone(),
            self.signed_attributes.clone(),
            self.signature_algorithm.clone(),
            self.signature.clone(),
            self.unsigned_attributes.clone(),
            self.more.clone(),
        ])
    }
}

/// Makes a signature by hand.
pub fn sign(key: &PKeyRef<Private>, md: MessageDigest, content: &[u8], padding: Option<Padding>) -> Vec<u8> {
    let mut signer = if key.id() == openssl::pkey::Id::ED25519 {
        Signer::new_without_digest(key).unwrap()
    } else {
        Signer::new(md, key).unwrap()
    };
    if let Some(padding) = padding {
        signer.set_rsa_padding(padding).unwrap();
    }
    signer.sign_oneshot_to_vec(content).unwrap()
}

pub fn issuer_and_serial(x509: &X509Ref) -> Vec<u8> {
    let serial = x509.serial_number().to_bn().unwrap().to_vec();
    let serial = match serial.first() {
        Some(first) if first & 0x80 != 0 => [&[0], &serial[..]].concat(),
        None => vec![0],
        _ => serial,
    };
    seq(&[x509.issuer_name().to_der().unwrap(), int(&serial)])
}

/// A whole signature to be.
#[derive(Clone)]
pub struct Blob {
    pub kind: Vec<u8>,
    pub version: Vec<u8>,
    pub digests: Vec<Vec<u8>>,
    pub content: Vec<u8>,
    pub certificates: Vec<u8>,
    pub crls: Vec<u8>,
    pub signers: Vec<Vec<u8>>,
    pub more: Vec<u8>,
}

impl Blob {
    /// Makes a detached signature by one signer, whose digest algorithm it names.
    pub fn new(signer: &SignerInfo) -> Self {
        Self {
            kind: oid(SIGNED_DATA),
            version: int(&[1]),
            digests: vec![signer.digest.clone()],
            content: seq(&[oid(DATA)]),
            certificates: Vec::new(),
            crls: Vec::new(),
            signers: vec![signer.encode()],
            more: Vec::new(),
        }
    }

    /// Makes a right signature with SHA-256.
    pub fn good(x509: &X509Ref, key: &PKeyRef<Private>, content: &[u8]) -> Self {
        Self::new(&SignerInfo::new(x509, key, content))
    }

    /// Embeds certificates.
    pub fn embed(mut self, certificates: &[&X509Ref]) -> Self {
        let ders: Vec<_> = certificates.iter().map(|c| c.to_der().unwrap()).collect();
        self.certificates = tlv(0xa0, &ders.concat());
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        let signed_data = seq(&[
            self.version.clone(),
            set(&self.digests),
            self.content.clone(),
            self.certificates.clone(),
            self.crls.clone(),
            set(&self.signers),
            self.more.clone(),
        ]);
        seq(&[self.kind.clone(), tlv(0xa0, &signed_data)])
    }
}
