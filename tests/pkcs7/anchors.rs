//! E09: leaves that an anchor vouches for, and everything that only looks like one.

use openssl::x509::X509;
use openssl::x509::extension::{ExtendedKeyUsage, KeyUsage};

use layerseal::error::{Case, Result};
use layerseal::pki::pkcs7::{Dates, verify};
use layerseal::pki::{Anchor, Certificate, Signer, leaf};

use crate::ecdsa::{is_high, other_form};
use crate::forge::Blob;
use crate::keys::{DAY, Key, NOW, P256, P384, P521, RSA, RSA_OTHER, Recipe, assert_refused, content};

fn authority() -> X509 {
    let mut recipe = Recipe::new(&RSA_OTHER, "authority");
    recipe.ca = true;
    recipe.usage = Some(usage(|u| u.critical().key_cert_sign()));
    recipe.build()
}

fn usage(choose: fn(&mut KeyUsage) -> &mut KeyUsage) -> KeyUsage {
    let mut usage = KeyUsage::new();
    choose(&mut usage);
    usage
}

fn purpose(choose: fn(&mut ExtendedKeyUsage) -> &mut ExtendedKeyUsage) -> ExtendedKeyUsage {
    let mut purpose = ExtendedKeyUsage::new();
    choose(&mut purpose);
    purpose
}

/// A leaf as it should be, for tests to change.
fn recipe(ca: &X509) -> Recipe<'_> {
    let mut recipe = Recipe::new(&RSA, "leaf");
    recipe.serial = 7;
    recipe.issuer = Some((&RSA_OTHER, ca));
    recipe.usage = Some(usage(|u| u.critical().digital_signature()));
    recipe.extended = Some(purpose(|p| p.code_signing()));
    recipe
}

fn anchor(x509: &X509) -> Vec<Anchor> {
    Anchor::from_bytes(&x509.to_der().unwrap(), "anchor").unwrap()
}

fn signed(leaf: &X509) -> Vec<u8> {
    Blob::good(leaf, &RSA, &content(1)).embed(&[leaf]).encode()
}

fn asked(der: &[u8], anchors: &[Anchor]) -> Result<Option<Certificate>> {
    Ok(leaf(der, anchors, Dates::Enforce, NOW, "test")?.map(|(leaf, _)| leaf))
}

#[test]
fn e09_a_leaf_of_an_anchor_signs() {
    let ca = authority();
    let leaf = recipe(&ca).build();
    let der = signed(&leaf);
    let found = asked(&der, &anchor(&ca)).unwrap().unwrap();
    assert_eq!(found.der(), leaf.to_der().unwrap());
    assert_eq!(verify(&der, &content(1), std::slice::from_ref(&found), Dates::Enforce, NOW, "test"), Ok(0));
    // Vouched for is not signed.
    assert_refused(verify(&der, &content(2), &[found], Dates::Enforce, NOW, "test"), Case::E01Signature);
}

#[test]
fn e07_what_does_not_come_from_an_anchor_is_nobodys() {
    let ca = authority();
    let leaf = recipe(&ca).build();
    let mut other = Recipe::new(&RSA_OTHER, "another authority");
    other.ca = true;
    let other = other.build();
    assert!(asked(&signed(&leaf), &anchor(&other)).unwrap().is_none());
    assert!(asked(&signed(&leaf), &[]).unwrap().is_none());
    // Without its certificate, with two, and with that of somebody else.
    let blob = Blob::good(&leaf, &RSA, &content(1));
    let mut sibling = recipe(&ca);
    sibling.serial = 8;
    let sibling = sibling.build();
    for der in [blob.encode(), blob.clone().embed(&[&leaf, &ca]).encode(), blob.clone().embed(&[&sibling]).encode()] {
        assert!(asked(&der, &anchor(&ca)).unwrap().is_none());
    }
    // The attacker's own, under the anchor's name.
    let mut own = Recipe::new(&RSA, "authority");
    own.serial = 9;
    assert_refused(asked(&signed(&own.build()), &anchor(&ca)), Case::E09Chain);
}

#[test]
fn e09_leaves_that_may_not_sign() {
    let ca = authority();
    type Change = fn(&mut Recipe<'_>);
    let changes: [(&str, Change, Case); 7] = [
        ("an authority", |r| r.ca = true, Case::E09Chain),
        ("for any purpose", |r| r.extended = None, Case::E09Chain),
        ("for servers", |r| r.extended = Some(purpose(|p| p.server_auth())), Case::E09Chain),
        ("for mail", |r| r.extended = Some(purpose(|p| p.email_protection())), Case::E09Chain),
        ("to encipher", |r| r.usage = Some(usage(|u| u.key_encipherment())), Case::E10Usage),
        ("to issue", |r| r.usage = Some(usage(|u| u.key_cert_sign())), Case::E10Usage),
        // Whether its dates hold is asked when it is tried.
        ("weak", |r| r.key = &crate::keys::RSA_1024, Case::E12Weak),
    ];
    for (what, change, case) in changes {
        let mut recipe = recipe(&ca);
        change(&mut recipe);
        let leaf = recipe.build();
        let der = Blob::good(&leaf, &RSA, &content(1)).embed(&[&leaf]).encode();
        assert_eq!(asked(&der, &anchor(&ca)).unwrap_err().case(), case, "{what}");
    }
}

#[test]
fn e09_issued_by_another_key_of_that_name() {
    let ca = authority();
    let mut forged = Recipe::new(&P256, "authority");
    forged.ca = true;
    let forged = forged.build();
    let mut leaf = recipe(&ca);
    leaf.issuer = Some((&P256, &forged));
    let leaf = leaf.build();
    assert_refused(asked(&signed(&leaf), &anchor(&ca)), Case::E09Chain);
    // Two authorities of one name: either may have issued it.
    let both = [anchor(&ca), anchor(&forged)].concat();
    let low = if is_high(&leaf, &P256) { other_form(&leaf, &P256) } else { leaf };
    assert!(asked(&signed(&low), &both).unwrap().is_some());
}

#[test]
fn e11_dates_of_anchor_and_leaf() {
    let mut old = Recipe::new(&RSA_OTHER, "authority");
    old.ca = true;
    old.dates = (NOW - 10 * DAY, NOW - DAY);
    let ca = old.build();
    let leaf_of_old = recipe(&ca).build();
    assert_refused(asked(&signed(&leaf_of_old), &anchor(&ca)), Case::E11Dates);
    assert!(leaf(&signed(&leaf_of_old), &anchor(&ca), Dates::Ignore, NOW, "test").unwrap().is_some());
    let ca = authority();
    let mut recipe = recipe(&ca);
    recipe.dates = (NOW - 10 * DAY, NOW - DAY);
    let der = signed(&recipe.build());
    let found = asked(&der, &anchor(&ca)).unwrap().unwrap();
    assert_refused(verify(&der, &content(1), &[found], Dates::Enforce, NOW, "test"), Case::E11Dates);
}

#[test]
fn e10_anchors_are_authorities() {
    let of = |recipe: Recipe<'_>| Anchor::from_bytes(&recipe.build().to_der().unwrap(), "anchor");
    assert_refused(of(Recipe::new(&RSA, "plain")), Case::E10Usage);
    let mut wrong = Recipe::new(&RSA, "wrong usage");
    wrong.ca = true;
    wrong.usage = Some(usage(|u| u.digital_signature()));
    assert_refused(of(wrong), Case::E10Usage);
    let mut limited = Recipe::new(&RSA, "limited");
    limited.ca = true;
    limited.extended = Some(purpose(|p| p.critical().code_signing()));
    assert_refused(of(limited), Case::E10Usage);
    let mut weak = Recipe::new(&crate::keys::RSA_1024, "weak");
    weak.ca = true;
    assert_refused(of(weak), Case::E12Weak);
    assert_refused(Anchor::from_bytes(b"nothing", "anchor"), Case::F02Certificate);
}

/// Of the two forms that anybody can write of an issuer's ECDSA signature one counts.
#[test]
fn e09_one_form_of_an_issuers_signature_counts() {
    let keys: [&Key; 3] = [&P256, &P384, &P521];
    for key in keys {
        let mut authority = Recipe::new(key, "authority");
        authority.ca = true;
        let ca = authority.build();
        let leaf_of = |serial| {
            let mut recipe = recipe(&ca);
            recipe.issuer = Some((key, &ca));
            recipe.serial = serial;
            recipe.build()
        };
        for serial in 1..4 {
            let one = leaf_of(serial);
            let other = other_form(&one, key);
            assert!(other.verify(key).unwrap() && one.to_der().unwrap() != other.to_der().unwrap());
            let (high, low) = if is_high(&one, key) { (one, other) } else { (other, one) };
            assert!(asked(&signed(&low), &anchor(&ca)).unwrap().is_some());
            assert_refused(asked(&signed(&high), &anchor(&ca)), Case::E09Chain);
            // Whoever signs with either writes the one that is read.
            for own in [&high, &low] {
                let signer =
                    Signer::new(&own.to_der().unwrap(), &RSA.private_key_to_pem_pkcs8().unwrap(), None, "signer")
                        .unwrap()
                        .embedding(true);
                let found = asked(&signer.sign(&content(1)).unwrap(), &anchor(&ca)).unwrap().unwrap();
                assert_eq!(found.der(), low.to_der().unwrap());
            }
        }
    }
}

/// Whoever denies a certificate means it, whatever bytes it comes in.
#[test]
fn f06_a_certificate_is_denied_by_more_than_its_bytes() {
    let mut authority = Recipe::new(&P256, "authority");
    authority.ca = true;
    let ca = authority.build();
    let leaf = |key: &'static Key, serial, until| {
        let mut recipe = Recipe::new(key, "leaf");
        recipe.serial = serial;
        recipe.dates.1 = NOW + until * DAY;
        recipe.issuer = Some((&P256, &ca));
        recipe.build()
    };
    let marks = |x509: &X509| layerseal::pki::marks_from_bytes(&x509.to_pem().unwrap(), "test").unwrap().remove(0);
    let one = leaf(&RSA, 7, 10);
    let denied = marks(&one);
    assert_eq!(denied[0], Certificate::from_der(&one.to_der().unwrap(), "test").unwrap().fingerprint());
    let is_denied = |x509: &X509| {
        let certificate = Certificate::from_der(&x509.to_der().unwrap(), "test").unwrap();
        assert_eq!(certificate.marks(), marks(x509));
        certificate.marks().iter().any(|mark| denied.contains(mark))
    };
    let other = other_form(&one, &P256);
    assert!(marks(&other)[0] != denied[0] && is_denied(&other), "the other form");
    assert!(is_denied(&leaf(&RSA, 7, 20)), "issued again under its number");
    assert!(is_denied(&leaf(&RSA_OTHER, 7, 10)), "of its issuer and number");
    assert!(is_denied(&leaf(&RSA, 8, 10)), "of its key");
    assert!(!is_denied(&leaf(&RSA_OTHER, 8, 10)), "another key and number");
}

#[test]
fn e10_anchors_have_no_limits_that_are_not_kept() {
    let of = |oid: &'static str, critical, value: &[u8]| {
        let mut recipe = Recipe::new(&RSA, "limited");
        recipe.ca = true;
        recipe.more.push((oid, critical, value.to_vec()));
        Anchor::from_bytes(&recipe.build().to_der().unwrap(), "anchor").map(|found| found.len())
    };
    // permittedSubtrees: dNSName "a"; requireExplicitPolicy 0; 0; two policies; notBefore; object signing CA.
    let limits: [(&str, &[u8]); 6] = [
        ("2.5.29.30", &[0x30, 7, 0xa0, 5, 0x30, 3, 0x82, 1, b'a']),
        ("2.5.29.36", &[0x30, 3, 0x80, 1, 0]),
        ("2.5.29.54", &[2, 1, 0]),
        ("2.5.29.33", &[0x30, 8, 0x30, 6, 6, 1, 0x2a, 6, 1, 0x2b]),
        (
            "2.5.29.16",
            &[
                0x30, 17, 0x80, 15, b'2', b'0', b'3', b'0', b'0', b'1', b'0', b'1', b'0', b'0', b'0', b'0', b'0', b'0',
                b'Z',
            ],
        ),
        ("2.16.840.1.113730.1.1", &[3, 2, 0, 1]),
    ];
    for (oid, value) in limits {
        for critical in [false, true] {
            assert_refused(of(oid, critical, value), Case::E10Usage);
        }
    }
    for (purpose, case) in [
        (purpose(|p| p.server_auth()), Some(Case::E10Usage)),
        (purpose(|p| p.critical().email_protection()), Some(Case::E10Usage)),
        (purpose(|p| p.time_stamping().client_auth()), Some(Case::E10Usage)),
        (purpose(|p| p.server_auth().code_signing()), None),
        (purpose(|p| p.other("2.5.29.37.0")), None),
    ] {
        let mut recipe = Recipe::new(&RSA, "limited");
        recipe.ca = true;
        recipe.extended = Some(purpose);
        let found = Anchor::from_bytes(&recipe.build().to_der().unwrap(), "anchor");
        assert_eq!(found.err().map(|r| r.case()), case);
    }
    // What limits nothing.
    assert_eq!(of("2.5.29.32", false, &[0x30, 6, 0x30, 4, 6, 2, 0x2a, 3]), Ok(1));
}
