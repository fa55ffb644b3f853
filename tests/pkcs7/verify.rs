//! E06–E11, E14: whose signature it is, over what, and when.

use layerseal::error::Case;
use layerseal::pki::formatted_digest::formatted_digest;
use layerseal::pki::pkcs7::{Certificate, Dates, verify};
use openssl::asn1::{Asn1Object, Asn1OctetString};
use openssl::hash::MessageDigest;
use openssl::x509::extension::{ExtendedKeyUsage, KeyUsage};
use openssl::x509::{X509, X509Extension};

use crate::forge::*;
use crate::keys::*;

fn good(x509: &X509) -> Vec<u8> {
    Blob::good(x509, &RSA, &content(1)).encode()
}

/// The verdict for every order of the certificates, which must be the same.
#[track_caller]
fn assert_in_any_order(der: &[u8], trusted: &[Certificate], case: Option<Case>) {
    let reversed: Vec<_> = trusted.iter().rev().cloned().collect();
    let (one, two) = (verdict(der, &content(1), trusted), verdict(der, &content(1), &reversed));
    match case {
        Some(case) => {
            assert_refused(one.clone(), case);
            assert_eq!(one, two);
        }
        None => assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}"),
    }
}

#[test]
fn e06_signed_attributes_as_content() {
    // The bytes of a SET of attributes, signed as content, and offered as content.
    let attributes = set(&[seq(&[oid("1.2.840.113549.1.9.3"), set(&[oid(DATA)])])]);
    let x509 = Recipe::new(&RSA, "signer").build();
    let der = Blob::good(&x509, &RSA, &attributes).encode();
    assert_refused(verdict(&der, &attributes, &[trusted(&x509)]), Case::E06Content);
}

#[test]
fn e06_content_must_be_a_formatted_digest() {
    let x509 = Recipe::new(&RSA, "signer").build();
    let trusted = [trusted(&x509)];
    for content in [
        b"".to_vec(),
        b"FSVerity".to_vec(),
        b"hello".to_vec(),
        [&content(1)[..], b"\0"].concat(),
        content(1)[..43].to_vec(),
    ] {
        let der = Blob::good(&x509, &RSA, &content).encode();
        assert_refused(verdict(&der, &content, &trusted), Case::E06Content);
    }
}

#[test]
fn e07_strangers_are_not_trusted() {
    let x509 = Recipe::new(&RSA, "attacker").build();
    let other = Recipe::new(&RSA_OTHER, "signer").trusted();
    for der in [good(&x509), Blob::good(&x509, &RSA, &content(1)).embed(&[&x509]).encode()] {
        let refusal = verdict(&der, &content(1), std::slice::from_ref(&other)).unwrap_err();
        assert_eq!(refusal.case(), Case::E07Untrusted);
        assert_eq!(refusal.detail(), "issuer CN=attacker, serial 0x03e8");
        assert_refused(verdict(&der, &content(1), &[]), Case::E07Untrusted);
    }
    // The same name with another serial, and the same serial with another name.
    let mut recipe = Recipe::new(&RSA, "attacker");
    recipe.serial = 1001;
    assert_in_any_order(&good(&x509), &[recipe.trusted(), other], Some(Case::E07Untrusted));
}

/// OpenSSL compares names without case and with spaces folded; the kernel and we do not.
#[test]
fn e07_names_are_compared_by_their_bytes() {
    let x509 = Recipe::new(&RSA, "Some  Signer").build();
    let folded = Recipe::new(&RSA, "some signer").trusted();
    assert_refused(verdict(&good(&x509), &content(1), &[folded]), Case::E07Untrusted);
}

#[test]
fn e08_same_name_and_serial() {
    let ours = Recipe::new(&RSA, "signer").trusted();
    let attackers = Recipe::new(&RSA_OTHER, "signer").build();
    let blob = Blob::good(&attackers, &RSA_OTHER, &content(1));
    // Without its certificate it cannot be told from a signature over something else.
    let plain = verdict(&blob.encode(), &content(1), std::slice::from_ref(&ours));
    assert_refused(plain, Case::E01Signature);
    let embedded = blob.embed(&[&attackers]).encode();
    assert_refused(verdict(&embedded, &content(1), &[ours]), Case::E08SameName);
}

/// The kernel takes the embedded certificate's key, and fails: so must we, though ours would do.
#[test]
fn e08_embedded_certificate_must_be_the_signers() {
    let x509 = Recipe::new(&RSA, "signer").build();
    let wrong = Recipe::new(&RSA_OTHER, "signer").build();
    let trusted = [trusted(&x509)];
    let blob = Blob::good(&x509, &RSA, &content(1));
    for (embedded, case) in [
        (vec![&*x509], None),
        (vec![&*x509, &*x509], None),
        (vec![&*wrong], Some(Case::E08SameName)),
        (vec![&*x509, &*wrong], Some(Case::E08SameName)),
        (vec![&*wrong, &*x509], Some(Case::E08SameName)),
    ] {
        let result = verdict(&blob.clone().embed(&embedded).encode(), &content(1), &trusted);
        match case {
            None => assert_eq!(result, Ok(0)),
            Some(case) => assert_refused(result, case),
        }
    }
}

#[test]
fn e08_two_trusted_certificates_of_one_name() {
    let old = Recipe::new(&RSA, "signer").build();
    let new = Recipe::new(&RSA_OTHER, "signer").build();
    let both = [trusted(&old), trusted(&new)];
    assert_eq!(verdict(&good(&old), &content(1), &both), Ok(0));
    let by_new = Blob::good(&new, &RSA_OTHER, &content(1));
    assert_eq!(verdict(&by_new.encode(), &content(1), &both), Ok(1));
    assert_in_any_order(&good(&old), &both, None);
    assert_in_any_order(&by_new.clone().embed(&[&new]).encode(), &both, None);
    // Each verifies only with its own certificate embedded.
    assert_in_any_order(&by_new.embed(&[&old]).encode(), &both, Some(Case::E08SameName));
    // Neither signed.
    let nobody = Blob::good(&old, &RSA, &content(9)).encode();
    assert_in_any_order(&nobody, &both, Some(Case::E01Signature));
    // The key kind differs.
    let mixed = [Recipe::new(&P256, "signer").trusted(), trusted(&old)];
    assert_in_any_order(&good(&old), &mixed, None);
    assert_in_any_order(&nobody, &mixed, Some(Case::E01Signature));
}

/// OpenSSL does not look at the signature algorithm: with a key of the other kind it would verify.
#[test]
fn e08_signature_algorithm_is_that_of_the_key() {
    let x509 = Recipe::new(&P256, "ec").build();
    let mut info = SignerInfo::new(&x509, &P256, &content(1));
    info.signature_algorithm = algorithm(RSA_ENCRYPTION);
    let der = Blob::new(&info).encode();
    assert_refused(verdict(&der, &content(1), &[trusted(&x509)]), Case::E01Signature);
}

#[test]
fn e09_leaf_only_when_it_is_pinned() {
    let mut recipe = Recipe::new(&RSA_OTHER, "ca");
    recipe.ca = true;
    let ca = recipe.build();
    let mut recipe = Recipe::new(&RSA, "leaf");
    recipe.serial = 7;
    recipe.issuer = Some((&RSA_OTHER, &ca));
    let leaf = recipe.build();
    let mut recipe = Recipe::new(&P256, "sibling");
    recipe.serial = 8;
    recipe.issuer = Some((&RSA_OTHER, &ca));
    let sibling = recipe.build();

    let blob = Blob::good(&leaf, &RSA, &content(1));
    let with_leaf = blob.clone().embed(&[&leaf]).encode();
    let with_chain = blob.clone().embed(&[&leaf, &ca]).encode();
    // The leaf is pinned: it signed.
    assert_eq!(verdict(&blob.encode(), &content(1), &[trusted(&leaf)]), Ok(0));
    assert_eq!(verdict(&with_leaf, &content(1), &[trusted(&leaf)]), Ok(0));
    // The CA is pinned: it vouches for nobody.
    for der in [&blob.encode(), &with_leaf, &with_chain] {
        assert_refused(verdict(der, &content(1), &[trusted(&ca)]), Case::E07Untrusted);
        assert_refused(verdict(der, &content(1), &[trusted(&sibling)]), Case::E07Untrusted);
    }
    // Other certificates travel with the leaf: bytes that nobody signed.
    assert_refused(verdict(&with_chain, &content(1), &[trusted(&leaf)]), Case::E09Chain);
    let with_stranger = blob.embed(&[&leaf, &sibling]).encode();
    assert_refused(verdict(&with_stranger, &content(1), &[trusted(&leaf)]), Case::E09Chain);
}

#[test]
fn e10_key_usage() {
    type Choose = fn(&mut KeyUsage) -> &mut KeyUsage;
    let usages: [(Choose, bool); 6] = [
        (|u| u.digital_signature(), true),
        (|u| u.digital_signature().key_cert_sign(), true),
        (|u| u.non_repudiation(), false),
        (|u| u.key_encipherment(), false),
        (|u| u.key_cert_sign().crl_sign(), false),
        (|u| u.key_agreement().critical(), false),
    ];
    for (choose, may_sign) in usages {
        let mut usage = KeyUsage::new();
        choose(&mut usage);
        let mut recipe = Recipe::new(&RSA, "signer");
        recipe.usage = Some(usage);
        let x509 = recipe.build();
        let result = Certificate::from_der(&x509.to_der().unwrap(), "test");
        if may_sign {
            assert_eq!(verdict(&good(&x509), &content(1), &[result.unwrap()]), Ok(0));
        } else {
            assert_refused(result, Case::E10Usage);
        }
    }
}

/// Neither OpenSSL's default purpose nor anything else looks at it.
#[test]
fn e10_extended_key_usage_does_not_count() {
    let usages: [fn(&mut ExtendedKeyUsage) -> &mut ExtendedKeyUsage; 4] =
        [|u| u.email_protection(), |u| u.code_signing(), |u| u.server_auth().critical(), |u| u.other("1.2.3.4")];
    for choose in usages {
        let mut usage = ExtendedKeyUsage::new();
        choose(&mut usage);
        let mut recipe = Recipe::new(&RSA, "signer");
        recipe.extended = Some(usage);
        let x509 = recipe.build();
        assert_eq!(verdict(&good(&x509), &content(1), &[trusted(&x509)]), Ok(0));
    }
}

/// A key usage that is there twice, or malformed, allows nothing.
#[test]
fn e10_broken_key_usage() {
    let extension = |value: &[u8]| {
        let oid = Asn1Object::from_str("2.5.29.15").unwrap();
        let value = Asn1OctetString::new_from_bytes(value).unwrap();
        X509Extension::new_from_der(&oid, false, &value).unwrap()
    };
    let signs: &[u8] = &[3, 2, 7, 0x80];
    for values in [vec![signs, signs], vec![&[4, 0][..]], vec![&[][..]]] {
        let x509 = Recipe::new(&RSA, "signer").build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(x509.serial_number()).unwrap();
        builder.set_subject_name(x509.subject_name()).unwrap();
        builder.set_issuer_name(x509.issuer_name()).unwrap();
        builder.set_not_before(x509.not_before()).unwrap();
        builder.set_not_after(x509.not_after()).unwrap();
        builder.set_pubkey(&RSA).unwrap();
        for value in &values {
            builder.append_extension2(&extension(value)).unwrap();
        }
        builder.sign(&RSA, MessageDigest::sha256()).unwrap();
        let der = builder.build().to_der().unwrap();
        assert_refused(Certificate::from_der(&der, "test"), Case::E10Usage);
    }
}

#[test]
fn e11_dates() {
    let (from, until) = (NOW - DAY, NOW + DAY);
    let mut recipe = Recipe::new(&RSA, "signer");
    recipe.dates = (from, until);
    let x509 = recipe.build();
    let trusted = [trusted(&x509)];
    assert_eq!((trusted[0].not_before(), trusted[0].not_after()), (from, until));
    let der = good(&x509);
    let at = |dates, now| verify(&der, &content(1), &trusted, dates, now, "test");
    for now in [from, NOW, until] {
        assert_eq!(at(Dates::Enforce, now), Ok(0), "{now}");
    }
    // A clock at its epoch, or before, accepts nothing.
    for now in [from - 1, until + 1, 0, -1, i64::MIN, i64::MAX] {
        assert_refused(at(Dates::Enforce, now), Case::E11Dates);
        assert_eq!(at(Dates::Ignore, now), Ok(0), "{now}");
    }
    let refusal = at(Dates::Enforce, 0).unwrap_err();
    assert!(refusal.detail().ends_with("the clock says Jan  1 00:00:00 1970 GMT"), "{refusal}");
    // A false signature is false whatever the date.
    let result = verify(&der, &content(2), &trusted, Dates::Enforce, 0, "test");
    assert_refused(result, Case::E01Signature);
}

/// A renewed certificate with the same name, serial and key.
#[test]
fn e11_one_of_two_is_valid() {
    let mut recipe = Recipe::new(&RSA, "signer");
    recipe.dates = (NOW - 2 * DAY, NOW - DAY);
    let expired = recipe.build();
    let renewed = Recipe::new(&RSA, "signer").build();
    let der = good(&renewed);
    assert_in_any_order(&der, &[trusted(&expired), trusted(&renewed)], None);
    let unrelated = Recipe::new(&RSA_OTHER, "signer").trusted();
    // It signed and has expired: that says more than that the other did not sign.
    assert_in_any_order(&der, &[trusted(&expired), unrelated], Some(Case::E11Dates));
}

#[test]
fn e11_dates_beyond_2050() {
    let mut recipe = Recipe::new(&RSA, "signer");
    // 1 January 1960 and 31 December 9999.
    recipe.dates = (-315_619_200, 253_402_214_400);
    let certificate = recipe.trusted();
    assert_eq!(certificate.not_before(), -315_619_200);
    assert_eq!(certificate.not_after(), 253_402_214_400);
}

#[test]
fn e14_digest_offered_as_another() {
    let x509 = Recipe::new(&RSA, "signer").build();
    let trusted = [trusted(&x509)];
    let sha512 = formatted_digest(2, &[1; 64]);
    let signed = Blob::good(&x509, &RSA, &sha512).encode();
    assert_eq!(verdict(&signed, &sha512, &trusted), Ok(0));
    // Its first half, as a SHA-256 digest.
    let result = verdict(&signed, &formatted_digest(1, &[1; 32]), &trusted);
    assert_refused(result, Case::E01Signature);
    // The same bytes under the other number, with the wrong size, with swapped numbers, with
    // another magic: each correctly signed as it is.
    for confused in [
        formatted_digest(1, &[1; 64]),
        formatted_digest(2, &[1; 32]),
        formatted_digest(0, &[1; 32]),
        [&b"FSVerity\x00\x01\x00\x20"[..], &[1; 32]].concat(),
        [&b"FSVerity\0\x01\x00\x20\x00"[..], &[1; 32]].concat(),
        [&b"fsverity\x01\x00\x20\x00"[..], &[1; 32]].concat(),
    ] {
        let der = Blob::good(&x509, &RSA, &confused).encode();
        assert_refused(verdict(&der, &confused, &trusted), Case::E06Content);
    }
}
