//! E02–E05, E12, E13, E15, E16: shapes that are refused although their signatures are right.

use std::time::{Duration, Instant};

use layerseal::error::{Case, Result};
use layerseal::pki::pkcs7::{Certificate, Family, SignatureDigest, parse, walk};
use openssl::hash::MessageDigest;
use openssl::rsa::Padding;
use openssl::x509::X509;

use crate::forge::*;
use crate::keys::*;

fn signer() -> X509 {
    Recipe::new(&RSA, "signer").build()
}

fn info() -> SignerInfo {
    SignerInfo::new(&signer(), &RSA, &content(1))
}

/// What becomes of a signature that is right in itself.
fn judge(blob: &Blob) -> Result<usize> {
    judge_der(&blob.encode())
}

/// The same; what is refused for its shape is refused before OpenSSL sees it.
fn judge_der(der: &[u8]) -> Result<usize> {
    let verdict = verdict(der, &content(1), &[trusted(&signer())]);
    if let Err(refusal) = &verdict
        && refusal.case() != Case::E01Signature
    {
        assert_eq!(walk(der, "test").unwrap_err(), *refusal);
    }
    verdict
}

#[test]
fn the_forge_makes_good_signatures() {
    assert_eq!(judge(&Blob::new(&info())), Ok(0));
    for (key, family) in [(&*RSA, Family::Rsa), (&*P256, Family::Ecdsa), (&*P521, Family::Ecdsa)] {
        for (md, name, digest) in [
            (MessageDigest::sha256(), SHA256, SignatureDigest::Sha256),
            (MessageDigest::sha384(), SHA384, SignatureDigest::Sha384),
            (MessageDigest::sha512(), SHA512, SignatureDigest::Sha512),
        ] {
            let x509 = Recipe::new(key, "any").build();
            let info = SignerInfo::with(&x509, key, &content(1), md, name);
            let der = Blob::new(&info).encode();
            assert_eq!(verdict(&der, &content(1), &[trusted(&x509)]), Ok(0));
            let profile = parse(&der, "test").unwrap();
            assert_eq!((profile.digest, profile.family), (digest, family));
            assert_eq!(profile.signer(), "issuer CN=any, serial 0x03e8");
            assert_eq!(profile.issuer, x509.issuer_name().to_der().unwrap());
            assert!(profile.certificates.is_empty());
        }
    }
}

#[test]
fn null_parameters_may_be_absent() {
    let mut info = info();
    info.digest = bare_algorithm(SHA256);
    info.signature_algorithm = bare_algorithm(RSA_ENCRYPTION);
    assert_eq!(judge(&Blob::new(&info)), Ok(0));
}

#[test]
fn e02_ber_is_refused() {
    let good = Blob::new(&info());
    let der = good.encode();
    let refused = |der: &[u8]| assert_refused(judge_der(der), Case::E02Der);
    // The outermost length: indefinite, in three octets, in five.
    refused(&[&[0x30, 0x80], &der[4..], &[0, 0]].concat());
    refused(&[&[0x30, 0x83, 0], &der[2..]].concat());
    refused(&[&[0x30, 0x85, 0, 0, 0], &der[2..]].concat());
    // A short length in two octets.
    let mut blob = good.clone();
    blob.version = vec![0x02, 0x81, 0x01, 0x01];
    refused(&blob.encode());
    // Integers with superfluous octets.
    blob.version = int(&[0, 1]);
    refused(&blob.encode());
    let mut info = info();
    info.version = int(&[0, 1]);
    refused(&Blob::new(&info).encode());
    let x509 = signer();
    let name = x509.issuer_name().to_der().unwrap();
    for serial in [&[0, 0x03, 0xe8][..], &[]] {
        let mut info = SignerInfo::new(&x509, &RSA, &content(1));
        info.id = seq(&[name.clone(), int(serial)]);
        refused(&Blob::new(&info).encode());
    }
    // An indefinite length around the issuer, a constructed string in it, an arc with padding.
    let mut info = self::info();
    let relative = seq(&[oid("2.5.4.3"), tlv(0x0c, b"signer")]);
    info.id = seq(&[[vec![0x30, 0x80], set(&[relative]), vec![0, 0]].concat(), int(&[3, 0xe8])]);
    refused(&Blob::new(&info).encode());
    let relative = seq(&[oid("2.5.4.3"), tlv(0x2c, &tlv(0x0c, b"signer"))]);
    info.id = seq(&[seq(&[set(&[relative])]), int(&[3, 0xe8])]);
    refused(&Blob::new(&info).encode());
    let relative = seq(&[vec![6, 4, 0x55, 0x80, 4, 3], tlv(0x0c, b"signer")]);
    info.id = seq(&[seq(&[set(&[relative])]), int(&[3, 0xe8])]);
    refused(&Blob::new(&info).encode());
    // The signature as a constructed string.
    let mut info = self::info();
    info.signature = tlv(0x24, &info.signature);
    refused(&Blob::new(&info).encode());
}

#[test]
fn e02_nothing_follows_at_any_level() {
    let extra = int(&[0]);
    let mut blob = Blob::new(&info());
    blob.more = extra.clone();
    assert_refused(judge(&blob), Case::E02Der);
    let mut blob = Blob::new(&info());
    blob.content = seq(&[oid(DATA), extra.clone()]);
    assert_refused(judge(&blob), Case::E02Der);
    let mut blob = Blob::new(&info());
    blob.kind = [oid(SIGNED_DATA), extra.clone()].concat();
    assert_refused(judge(&blob), Case::E02Der);
    let mut forged = info();
    forged.more = extra.clone();
    assert_refused(judge(&Blob::new(&forged)), Case::E02Der);
    let mut forged = info();
    forged.id = seq(&[issuer_and_serial(&signer())[2..].to_vec(), extra.clone()]);
    assert_refused(judge(&Blob::new(&forged)), Case::E02Der);
    let mut forged = info();
    forged.digest = seq(&[oid(SHA256), tlv(5, &[]), extra.clone()]);
    assert_refused(judge(&Blob::new(&forged)), Case::E02Der);
    // After [0], and inside it beside SignedData.
    let der = Blob::new(&info()).encode();
    let inner = &der[4 + 11 + 4..];
    let after = seq(&[oid(SIGNED_DATA), tlv(0xa0, inner), extra.clone()]);
    assert_refused(judge_der(&after), Case::E02Der);
    let beside = seq(&[oid(SIGNED_DATA), tlv(0xa0, &[inner, &extra].concat())]);
    assert_refused(judge_der(&beside), Case::E02Der);
}

#[test]
fn e02_other_elements_in_their_places() {
    for element in [tlv(0x31, &[]), tlv(0xa0, &signer().to_der().unwrap()), int(&[1])] {
        let mut blob = Blob::new(&info());
        blob.certificates = tlv(0xa0, &element);
        assert_refused(judge(&blob), Case::E02Der);
        let mut blob = Blob::new(&info());
        blob.digests = vec![element.clone()];
        assert_refused(judge(&blob), Case::E02Der);
        let mut blob = Blob::new(&info());
        blob.signers = vec![element];
        assert_refused(judge(&blob), Case::E02Der);
    }
    let mut forged = info();
    forged.signature = tlv(4, &[]);
    assert_refused(judge(&Blob::new(&forged)), Case::E02Der);
}

/// The walk leaves embedded certificates to OpenSSL, which must write back what it reads. Verifying
/// does not get so far: the certificate is none that is trusted.
#[test]
fn e02_embedded_certificates_that_openssl_rewrites() {
    let mut certificate = Recipe::new(&P256, "embedded").build().to_der().unwrap();
    let mut blob = Blob::new(&info());
    blob.certificates = tlv(0xa0, &certificate);
    assert!(parse(&blob.encode(), "test").is_ok());
    // The signature as a BIT STRING with one unused bit, which is not zero.
    let length = certificate.len();
    let signature = certificate.windows(4).rposition(|w| w[0] == 3 && w[2] == 0 && w[3] == 0x30);
    certificate[signature.unwrap() + 2] = 1;
    certificate[length - 1] |= 1;
    blob.certificates = tlv(0xa0, &certificate);
    assert!(walk(&blob.encode(), "test").is_ok());
    let refusal = parse(&blob.encode(), "test").unwrap_err();
    assert_eq!(refusal.case(), Case::E02Der);
    assert_eq!(refusal.detail(), "OpenSSL writes it differently");
    let result = verdict(&blob.encode(), &content(1), &[trusted(&signer())]);
    assert_refused(result, Case::E09Chain);
    let result = Certificate::from_der(&certificate, "test");
    assert_refused(result, Case::F02Certificate);
    // And one that is no certificate at all.
    blob.certificates = tlv(0xa0, &seq(&[]));
    assert_refused(parse(&blob.encode(), "test"), Case::E02Der);
    let result = verdict(&blob.encode(), &content(1), &[trusted(&signer())]);
    assert_refused(result, Case::E02Der);
}

#[test]
fn e02_ecdsa_values_are_strict() {
    let x509 = Recipe::new(&P256, "ec").build();
    let trusted = [trusted(&x509)];
    let good = SignerInfo::new(&x509, &P256, &content(1));
    let value = &good.signature[2..];
    assert_eq!(verdict(&Blob::new(&good).encode(), &content(1), &trusted), Ok(0));
    let r_len = usize::from(value[3]);
    let (r, s) = (value[4..4 + r_len].to_vec(), value[6 + r_len..].to_vec());
    let padded = |n: &[u8]| [&[0], n].concat();
    for forged in [
        [value, &[0]].concat(),
        seq(&[int(&padded(&r)), int(&s)]),
        seq(&[int(&r), int(&padded(&s))]),
        seq(&[int(&[0]), int(&s)]),
        seq(&[int(&r), int(&[0])]),
        seq(&[int(&[0xff]), int(&s)]),
        seq(&[int(&r)]),
        seq(&[int(&r), int(&s), int(&s)]),
        value[..value.len() - 1].to_vec(),
        Vec::new(),
    ] {
        let mut info = good.clone();
        info.signature = tlv(4, &forged);
        let der = Blob::new(&info).encode();
        assert_refused(verdict(&der, &content(1), &trusted), Case::E02Der);
    }
}

#[test]
fn e03_attached_content_is_refused() {
    for attached in [content(1), content(2), Vec::new()] {
        let mut blob = Blob::new(&info());
        blob.content = seq(&[oid(DATA), tlv(0xa0, &tlv(4, &attached))]);
        assert_refused(judge(&blob), Case::E03Attached);
    }
    let mut blob = Blob::new(&info());
    blob.content = seq(&[oid(DATA), tlv(0xa0, &[])]);
    assert_refused(judge(&blob), Case::E03Attached);
}

#[test]
fn e04_exactly_one_signer() {
    let good = info();
    let stranger = Recipe::new(&RSA_OTHER, "stranger").build();
    let other = SignerInfo::new(&stranger, &RSA_OTHER, &content(1));
    let mut bad = info();
    bad.signature = tlv(4, &[7; 256]);
    for signers in [
        vec![],
        vec![good.encode(), bad.encode()],
        vec![bad.encode(), good.encode()],
        vec![good.encode(), good.encode()],
        vec![good.encode(), other.encode()],
    ] {
        let mut blob = Blob::new(&good);
        blob.signers = signers;
        assert_refused(judge(&blob), Case::E04Signers);
    }
    // Two signers of two digests are still two signers.
    let mut blob = Blob::new(&good);
    blob.digests.push(algorithm(SHA512));
    blob.signers.push(other.encode());
    assert_refused(judge(&blob), Case::E04Signers);
}

/// One attribute.
fn attribute(kind: &str, value: Vec<u8>) -> Vec<u8> {
    seq(&[oid(kind), set(&[value])])
}

#[test]
fn e05_attributes_are_refused() {
    const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
    const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
    const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";
    let digest = openssl::sha::sha256(&content(1));
    let time = |text: &str| attribute(SIGNING_TIME, tlv(0x17, text.as_bytes()));
    for attributes in [
        vec![attribute(CONTENT_TYPE, oid(DATA)), attribute(MESSAGE_DIGEST, tlv(4, &digest))],
        // CVE-2026-22796: a messageDigest that is no OCTET STRING.
        vec![attribute(CONTENT_TYPE, oid(DATA)), attribute(MESSAGE_DIGEST, int(&digest))],
        vec![time("000101000000Z")],
        vec![time("491231235959Z")],
        vec![],
    ] {
        let encoded = set(&attributes);
        for (signed, unsigned) in [(0xa0, None), (0xa2, None), (0, Some(0xa1)), (0, Some(0xa3))] {
            let mut info = SignerInfo::new(&signer(), &RSA, &encoded);
            match unsigned {
                None => info.signed_attributes = tlv(signed, &encoded[2..]),
                Some(tag) => {
                    info = self::info();
                    info.unsigned_attributes = tlv(tag, &encoded[2..]);
                }
            }
            assert_refused(judge(&Blob::new(&info)), Case::E05Attributes);
        }
    }
}

#[test]
fn e12_weak_and_foreign_digests() {
    for (md, name) in [
        (MessageDigest::md5(), MD5),
        (MessageDigest::sha1(), SHA1),
        (MessageDigest::sha224(), SHA224),
        (MessageDigest::sha3_256(), SHA3_256),
    ] {
        let info = SignerInfo::with(&signer(), &RSA, &content(1), md, name);
        assert_refused(judge(&Blob::new(&info)), Case::E12Weak);
    }
}

#[test]
fn e12_foreign_signature_algorithms() {
    let pss = |parameters: Vec<u8>| {
        let mut info = info();
        let md = MessageDigest::sha256();
        info.signature = tlv(4, &sign(&RSA, md, &content(1), Some(Padding::PKCS1_PSS)));
        info.signature_algorithm = seq(&[oid(RSASSA_PSS), parameters]);
        info
    };
    let md = MessageDigest::sha256();
    let edwards = tlv(4, &sign(&ED25519, md, &content(1), None));
    let with = |algorithm: Vec<u8>, signature: Option<Vec<u8>>| {
        let mut info = info();
        info.signature_algorithm = algorithm;
        info.signature = signature.unwrap_or(info.signature);
        info
    };
    for info in [
        pss(seq(&[tlv(0xa0, &algorithm(SHA256))])),
        pss(seq(&[])),
        pss(Vec::new()),
        with(bare_algorithm(ED25519_OID), Some(edwards)),
        // Right signatures under names that OpenSSL takes and the kernel does not.
        with(algorithm(SHA256_WITH_RSA), None),
        with(algorithm("1.2.840.113549.1.1.5"), None),
        with(bare_algorithm(EC_PUBLIC_KEY), None),
        with(bare_algorithm("1.2.840.10045.4.1"), None),
        with(bare_algorithm("1.2.840.10040.4.1"), None),
        with(seq(&[oid(RSA_ENCRYPTION), int(&[0])]), None),
        with(seq(&[oid(RSA_ENCRYPTION), tlv(5, &[0])]), None),
    ] {
        assert_refused(judge(&Blob::new(&info)), Case::E12Weak);
    }
}

#[test]
fn e13_digests_disagree() {
    let mut blob = Blob::new(&info());
    blob.digests = vec![algorithm(SHA512)];
    assert_refused(judge(&blob), Case::E13DigestMismatch);
    blob.digests = vec![algorithm(SHA256), algorithm(SHA512)];
    assert_refused(judge(&blob), Case::E13DigestMismatch);
    blob.digests = vec![];
    assert_refused(judge(&blob), Case::E13DigestMismatch);
    // ECDSA names the digest once more.
    let x509 = Recipe::new(&P256, "ec").build();
    let mut info = SignerInfo::new(&x509, &P256, &content(1));
    info.signature_algorithm = bare_algorithm(ECDSA_SHA384);
    let der = Blob::new(&info).encode();
    assert_refused(verdict(&der, &content(1), &[trusted(&x509)]), Case::E13DigestMismatch);
    // All three agree, and the signature is of another digest.
    let mut info = SignerInfo::new(&signer(), &RSA, &content(1));
    info.digest = algorithm(SHA512);
    assert_refused(judge(&Blob::new(&info)), Case::E01Signature);
}

#[test]
fn e15_large_signatures_are_refused_at_once() {
    let x509 = Recipe::new(&P256, "ec").build();
    let small = x509.to_der().unwrap();
    let start = Instant::now();
    // 10 000 certificates; a serial of 1 MiB; a signature of 64 Kibit.
    let mut many = Blob::new(&info());
    many.certificates = tlv(0xa0, &small.repeat(10_000));
    assert_refused(judge(&many), Case::E15TooBig);
    let mut long = info();
    long.id = seq(&[signer().issuer_name().to_der().unwrap(), int(&vec![1; 1 << 20])]);
    assert_refused(judge(&Blob::new(&long)), Case::E15TooBig);
    let mut wide = info();
    wide.signature = tlv(4, &[1; 64 * 1024 / 8]);
    assert_refused(judge(&Blob::new(&wide)), Case::E01Signature);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn e15_limits_are_exact() {
    let certificate = seq(&[vec![5, 0]]);
    for (count, case) in [(16, Case::E09Chain), (17, Case::E15TooBig)] {
        let mut blob = Blob::new(&info());
        blob.certificates = tlv(0xa0, &certificate.repeat(count));
        let result = walk(&blob.encode(), "test");
        match case {
            Case::E15TooBig => assert_refused(result, case),
            _ => assert_eq!(result.unwrap().certificates.len(), count),
        }
    }
    let blob = Blob::new(&info());
    let base = embed_filler(&blob, 0).encode().len();
    let exact = 16_128 - base;
    assert_eq!(embed_filler(&blob, exact).encode().len(), 16_128);
    assert!(walk(&embed_filler(&blob, exact).encode(), "test").is_ok());
    assert_refused(walk(&embed_filler(&blob, exact + 1).encode(), "test"), Case::E15TooBig);
}

/// The same with one embedded element of about 1000 bytes and `more`.
fn embed_filler(blob: &Blob, more: usize) -> Blob {
    let mut blob = blob.clone();
    blob.certificates = tlv(0xa0, &seq(&[tlv(4, &vec![0; 1000 + more])]));
    blob
}

#[test]
fn e16_cms_and_other_pkcs7() {
    const ENVELOPED: &str = "1.2.840.113549.1.7.3";
    const DIGESTED: &str = "1.2.840.113549.1.7.5";
    for kind in [ENVELOPED, DIGESTED, DATA, "1.2.840.113549.1.9.16.1.2"] {
        let mut blob = Blob::new(&info());
        blob.kind = oid(kind);
        assert_refused(judge(&blob), Case::E16Cms);
    }
    for encapsulated in [SIGNED_DATA, ENVELOPED, "1.3.6.1.4.1.311.2.1.4"] {
        let mut blob = Blob::new(&info());
        blob.content = seq(&[oid(encapsulated)]);
        assert_refused(judge(&blob), Case::E16Cms);
    }
    for version in [0, 2, 3, 4, 5] {
        let mut blob = Blob::new(&info());
        blob.version = int(&[version]);
        assert_refused(judge(&blob), Case::E16Cms);
        let mut info = info();
        info.version = int(&[version]);
        assert_refused(judge(&Blob::new(&info)), Case::E16Cms);
    }
    for id in [tlv(0x80, &[7; 20]), tlv(0xa0, &tlv(4, &[7; 20]))] {
        let mut info = info();
        info.id = id;
        assert_refused(judge(&Blob::new(&info)), Case::E16Cms);
    }
    for (tag, content) in [(0xa1, seq(&[])), (0xa1, vec![]), (0xa2, seq(&[])), (0xa3, seq(&[]))] {
        let mut blob = Blob::new(&info());
        blob.crls = tlv(tag, &content);
        assert_refused(judge(&blob), Case::E16Cms);
    }
    let mut blob = Blob::new(&info());
    blob.certificates = tlv(0xa0, &[]);
    assert_refused(judge(&blob), Case::E16Cms);
}
