//! Keys and certificates, made once for each run.

use std::sync::LazyLock;

use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::EcKey;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use openssl::x509::{X509, X509Extension, X509Name, X509NameBuilder, X509Ref};

use layerseal::error::{Case, Result};
use layerseal::pki::formatted_digest::formatted_digest;
use layerseal::pki::pkcs7::{Certificate, Dates, verify};

/// 1 January 2030, within the dates of every certificate that sets no others.
pub const NOW: i64 = 1_893_456_000;
/// One day.
pub const DAY: i64 = 86_400;

pub type Key = PKey<Private>;

macro_rules! key {
    ($name:ident, $make:expr) => {
        pub static $name: LazyLock<Key> = LazyLock::new(|| $make);
    };
}

key!(RSA, rsa(2048));
key!(RSA_OTHER, rsa(2048));
key!(RSA_1024, rsa(1024));
key!(P256, ec(Nid::X9_62_PRIME256V1));
key!(P384, ec(Nid::SECP384R1));
key!(P521, ec(Nid::SECP521R1));
key!(ED25519, PKey::generate_ed25519().unwrap());

pub fn rsa(bits: u32) -> Key {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

pub fn ec(curve: Nid) -> Key {
    let group = openssl::ec::EcGroup::from_curve_name(curve).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// A certificate to be.
pub struct Recipe<'a> {
    pub key: &'a PKeyRef<Private>,
    pub name: &'a str,
    pub serial: u32,
    /// The start and the end of validity.
    pub dates: (i64, i64),
    pub usage: Option<KeyUsage>,
    pub extended: Option<ExtendedKeyUsage>,
    pub ca: bool,
    /// Further extensions: object identifier, whether critical, and the DER in them.
    pub more: Vec<(&'static str, bool, Vec<u8>)>,
    /// Key and certificate of the issuer, where that is not the certificate itself.
    pub issuer: Option<(&'a PKeyRef<Private>, &'a X509Ref)>,
}

impl<'a> Recipe<'a> {
    pub fn new(key: &'a PKeyRef<Private>, name: &'a str) -> Self {
        Self {
            key,
            name,
            serial: 1000,
            dates: (NOW - 100 * DAY, NOW + 100 * DAY),
            usage: None,
            extended: None,
            ca: false,
            more: Vec::new(),
            issuer: None,
        }
    }

    pub fn build(self) -> X509 {
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        let serial = Asn1Integer::from_bn(&BigNum::from_u32(self.serial).unwrap()).unwrap();
        builder.set_serial_number(&serial).unwrap();
        let subject = common_name(self.name);
        builder.set_subject_name(&subject).unwrap();
        let issuer = self.issuer.map_or(&*subject, |(_, x509)| x509.subject_name());
        builder.set_issuer_name(issuer).unwrap();
        let time = |at| Asn1Time::from_unix(at).unwrap();
        builder.set_not_before(&time(self.dates.0)).unwrap();
        builder.set_not_after(&time(self.dates.1)).unwrap();
        builder.set_pubkey(self.key).unwrap();
        if self.ca {
            let extension = BasicConstraints::new().critical().ca().build().unwrap();
            builder.append_extension(extension).unwrap();
        }
        if let Some(usage) = self.usage {
            builder.append_extension(usage.build().unwrap()).unwrap();
        }
        if let Some(extended) = self.extended {
            builder.append_extension(extended.build().unwrap()).unwrap();
        }
        for (oid, critical, value) in &self.more {
            let oid = Asn1Object::from_str(oid).unwrap();
            let value = Asn1OctetString::new_from_bytes(value).unwrap();
            builder.append_extension(X509Extension::new_from_der(&oid, *critical, &value).unwrap()).unwrap();
        }
        let signer = self.issuer.map_or(self.key, |(key, _)| key);
        let digest =
            if signer.id() == openssl::pkey::Id::ED25519 { MessageDigest::null() } else { MessageDigest::sha256() };
        builder.sign(signer, digest).unwrap();
        builder.build()
    }

    pub fn trusted(self) -> Certificate {
        trusted(&self.build())
    }
}

pub fn common_name(name: &str) -> X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    builder.append_entry_by_text("CN", name).unwrap();
    builder.build()
}

pub fn trusted(x509: &X509Ref) -> Certificate {
    Certificate::from_der(&x509.to_der().unwrap(), "test").unwrap()
}

/// Makes a formatted digest that depends on `seed`.
pub fn content(seed: u8) -> Vec<u8> {
    formatted_digest(1, &[seed; 32])
}

/// Returns the verdict within the dates.
pub fn verdict(der: &[u8], content: &[u8], trusted: &[Certificate]) -> Result<usize> {
    verify(der, content, trusted, Dates::Enforce, NOW, "test")
}

#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(result: Result<T>, case: Case) {
    match result {
        Ok(value) => panic!("accepted ({value:?}), expected {case:?}"),
        Err(refusal) => assert_eq!(refusal.case(), case, "{refusal}"),
    }
}
