//! E12, E15, F02: which certificates are taken, and from which files.

use layerseal::error::Case;
use layerseal::pki::pkcs7::{Certificate, Family, certificates_from_bytes};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{Asn1Flag, EcGroup, EcKey, PointConversionForm};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;

use crate::forge::{RSASSA_PSS, algorithm, bare_algorithm, int, oid, seq, set, tlv};
use crate::keys::*;

/// A certificate around any key, with a signature of zeros, which nobody looks at.
fn around(key_info: &[u8]) -> Vec<u8> {
    let name = seq(&[set(&[seq(&[oid("2.5.4.3"), tlv(0x0c, b"made")])])]);
    let sha256_with_rsa = algorithm("1.2.840.113549.1.1.11");
    let dates = seq(&[tlv(0x17, b"260101000000Z"), tlv(0x17, b"360101000000Z")]);
    let tbs = seq(&[int(&[1]), sha256_with_rsa.clone(), name.clone(), dates, name, key_info.to_vec()]);
    seq(&[tbs, sha256_with_rsa, tlv(3, &[0; 129])])
}

/// SubjectPublicKeyInfo.
fn key_info(algorithm: Vec<u8>, key: &[u8]) -> Vec<u8> {
    seq(&[algorithm, tlv(3, &[&[0], key].concat())])
}

/// An RSA key of any modulus and exponent.
fn rsa_info(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let positive = |n: &[u8]| int(&[&[0][..usize::from(n[0] >> 7)], n].concat());
    let key = seq(&[positive(modulus), positive(exponent)]);
    key_info(algorithm("1.2.840.113549.1.1.1"), &key)
}

fn load(der: &[u8]) -> layerseal::error::Result<Certificate> {
    Certificate::from_der(der, "test")
}

#[test]
fn e12_rsa_keys() {
    let modulus = RSA.rsa().unwrap().n().to_vec();
    let small = RSA_1024.rsa().unwrap().n().to_vec();
    let good = around(&rsa_info(&modulus, &[1, 0, 1]));
    assert_eq!(load(&good).unwrap().family(), Family::Rsa);
    assert!(load(&around(&rsa_info(&modulus, &[3]))).is_ok());
    let too_wide = [&[1_u8][..], &[0; 7], &[1]].concat();
    for (modulus, exponent) in [
        (&small[..], &[1, 0, 1][..]),
        (&modulus[1..], &[1, 0, 1]),
        (&[&modulus[..], &[1]].concat(), &[1, 0, 1]),
        (&[0xff; 8192], &[1, 0, 1]),
        (&modulus, &[1]),
        (&modulus, &[2]),
        (&modulus, &[1, 0, 0]),
        (&modulus, &too_wide),
    ] {
        let result = load(&around(&rsa_info(modulus, exponent)));
        assert_refused(result, Case::E12Weak);
    }
}

#[test]
fn e12_rsa_1024_signer() {
    let x509 = Recipe::new(&RSA_1024, "weak").build();
    assert_refused(load(&x509.to_der().unwrap()), Case::E12Weak);
}

#[test]
fn e12_elliptic_curves() {
    for key in [&*P256, &*P384, &*P521] {
        let certificate = Recipe::new(key, "ec").trusted();
        assert_eq!(certificate.family(), Family::Ecdsa);
    }
    for curve in [Nid::SECP256K1, Nid::SECP224R1, Nid::BRAINPOOL_P256R1] {
        let x509 = Recipe::new(&ec(curve), "ec").build();
        assert_refused(load(&x509.to_der().unwrap()), Case::E12Weak);
    }
}

/// The curve must be named, the point must not be compressed, and it must be on the curve.
#[test]
fn e12_elliptic_encodings() {
    let mut group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    group.set_asn1_flag(Asn1Flag::EXPLICIT_CURVE);
    let explicit = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let der = Recipe::new(&explicit, "explicit").build().to_der().unwrap();
    assert_refused(load(&der), Case::E12Weak);

    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let mut context = BigNumContext::new().unwrap();
    let key = P256.ec_key().unwrap();
    let curve = seq(&[oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")]);
    for (form, good) in [
        (PointConversionForm::UNCOMPRESSED, true),
        (PointConversionForm::COMPRESSED, false),
        (PointConversionForm::HYBRID, false),
    ] {
        let point = key.public_key().to_bytes(&group, form, &mut context).unwrap();
        let result = load(&around(&key_info(curve.clone(), &point)));
        assert_eq!(result.is_ok(), good, "form {}", point[0]);
    }
    let mut off = key.public_key().to_bytes(&group, PointConversionForm::UNCOMPRESSED, &mut context).unwrap();
    off[64] ^= 1;
    assert!(load(&around(&key_info(curve.clone(), &off))).is_err());
    assert!(load(&around(&key_info(curve.clone(), &[4]))).is_err());
    assert!(load(&around(&key_info(curve, &[0]))).is_err());
    let no_curve = bare_algorithm("1.2.840.10045.2.1");
    assert!(load(&around(&key_info(no_curve, &off))).is_err());
}

#[test]
fn e12_other_keys() {
    let edwards = Recipe::new(&ED25519, "ed25519").build();
    assert_refused(load(&edwards.to_der().unwrap()), Case::E12Weak);
    // The same RSA key, restricted to PSS.
    let key = RSA.rsa().unwrap();
    let rsa = seq(&[int(&[&[0], &key.n().to_vec()[..]].concat()), int(&key.e().to_vec())]);
    let pss = around(&key_info(bare_algorithm(RSASSA_PSS), &rsa));
    assert_refused(load(&pss), Case::E12Weak);
    let unknown = around(&key_info(bare_algorithm("1.2.3.4"), &[0; 32]));
    assert_refused(load(&unknown), Case::E12Weak);
}

/// An exponent of 1 makes every padded digest its own signature.
#[test]
fn e12_exponent_one_would_forge() {
    let n = BigNum::from_slice(&RSA.rsa().unwrap().n().to_vec()).unwrap();
    let key = Rsa::from_public_components(n, BigNum::from_u32(1).unwrap()).unwrap();
    let info = PKey::from_rsa(key).unwrap().public_key_to_der().unwrap();
    assert_refused(load(&around(&info)), Case::E12Weak);
}

#[test]
fn e15_huge_keys_cost_no_time() {
    let start = std::time::Instant::now();
    let modulus = [0xff; 64 * 1024];
    assert_refused(load(&around(&rsa_info(&modulus, &[1, 0, 1]))), Case::E12Weak);
    assert_refused(load(&vec![0x30; 2 << 20]), Case::F02Certificate);
    assert!(start.elapsed() < std::time::Duration::from_secs(1));
}

fn pem(names: &[&str]) -> Vec<u8> {
    names.iter().flat_map(|name| Recipe::new(&P256, name).build().to_pem().unwrap()).collect()
}

#[test]
fn f02_all_certificates_of_a_bundle() {
    let bundle = pem(&["one", "two", "three"]);
    let loaded = certificates_from_bytes(&bundle, "test").unwrap();
    let subjects: Vec<_> = loaded.iter().map(Certificate::subject).collect();
    assert_eq!(subjects, ["CN=one", "CN=two", "CN=three"]);
    // Blank lines and line ends of other systems are not garbage.
    let text = String::from_utf8(bundle).unwrap();
    for spaced in
        [text.replace('\n', "\r\n"), text.replace("-----BEGIN", "\n \n-----BEGIN"), text.trim_end().to_owned()]
    {
        let loaded = certificates_from_bytes(spaced.as_bytes(), "test").unwrap();
        assert_eq!(loaded.len(), 3);
    }
}

#[test]
fn f02_der_file() {
    let x509 = Recipe::new(&P256, "one").build();
    let der = x509.to_der().unwrap();
    let loaded = certificates_from_bytes(&der, "test").unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].der(), der);
    let digest = x509.digest(openssl::hash::MessageDigest::sha256()).unwrap();
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(loaded[0].fingerprint().to_string(), hex);
    assert_eq!(loaded[0].issuer_and_serial(), "issuer CN=one, serial 0x03e8");
    for end in 0..der.len() {
        let result = certificates_from_bytes(&der[..end], "test");
        assert_refused(result, Case::F02Certificate);
    }
    let twice = [&der[..], &der].concat();
    assert_refused(certificates_from_bytes(&twice, "test"), Case::F02Certificate);
}

/// What `openssl` makes of `input`, called with `args`.
fn openssl(args: &str, input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = std::process::Command::new("openssl")
        .args(args.split(' '))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {args}");
    output.stdout
}

/// RFC 7468, sections 2 and 5.2: what tools write around certificates, and what systems do to text.
#[test]
fn f02_certificates_as_people_have_them() {
    let good = String::from_utf8(pem(&["one"])).unwrap();
    let der = certificates_from_bytes(good.as_bytes(), "test").unwrap()[0].der().to_vec();
    let key = P256.private_key_to_pem_pkcs8().unwrap();
    let archive = openssl("pkcs12 -export -name release -passout pass:", &[&key, good.as_bytes()].concat());
    let bag = String::from_utf8(openssl("pkcs12 -nokeys -passin pass:", &archive)).unwrap();
    assert!(bag.contains("Bag Attributes") && bag.contains("friendlyName: release"), "{bag}");
    let text = String::from_utf8(openssl("x509 -text", good.as_bytes())).unwrap();
    assert!(text.starts_with("Certificate:"), "{text}");
    let indented = good.replace('\n', "\n    ");
    for (how, bytes) in [
        ("pkcs12", bag.clone().into_bytes()),
        ("pkcs12 on Windows", format!("\u{feff}{}", bag.replace('\n', "\r\n")).into_bytes()),
        ("x509 -text", text.into_bytes()),
        ("s_client", format!("Certificate chain\n 0 s:CN=one\n{good}---\nServer certificate\n").into_bytes()),
        ("a list that begins with a number", format!("0 s:CN=one\n{good}").into_bytes()),
        ("CR alone", good.replace('\n', "\r").into_bytes()),
        ("a comment", format!("# whose it is\n{good}hello\n").into_bytes()),
        ("no UTF-8", [b"friendlyName: M\xfcller\n", good.as_bytes(), b"\0"].concat()),
        ("indented", format!("    {indented}").into_bytes()),
        ("an older label", good.replace("CERTIFICATE", "X509 CERTIFICATE").into_bytes()),
        ("white space inside", good.replacen("MI", " M\tI", 1).into_bytes()),
    ] {
        let loaded = certificates_from_bytes(&bytes, "test").unwrap_or_else(|e| panic!("{how}: {e}"));
        assert_eq!(loaded.iter().map(Certificate::der).collect::<Vec<_>>(), [&der[..]], "{how}");
    }
}

/// What would be passed over in silence makes a store smaller than it looks.
#[test]
fn f02_garbage_beside_good() {
    let good = String::from_utf8(pem(&["one"])).unwrap();
    let key = String::from_utf8(P256.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let end = "-----END CERTIFICATE-----";
    let utf16: Vec<u8> = format!("\u{feff}{good}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let refused = |bytes: &[u8], says: &str| {
        let refusal = certificates_from_bytes(bytes, "test").unwrap_err();
        assert_eq!(refusal.case(), Case::F02Certificate);
        assert!(refusal.detail().contains(says), "{says}: {refusal}");
    };
    refused(&utf16, "UTF-16");
    for (bad, says) in [
        (String::new(), "neither PEM nor DER"),
        ("\n\n".into(), "neither PEM nor DER"),
        ("hello".into(), "neither PEM nor DER"),
        (key.clone(), "line 1: a PRIVATE KEY, which does not belong here"),
        (format!("{good}{key}"), "a PRIVATE KEY, which does not belong here"),
        (good.replace("CERTIFICATE", "PKCS7"), "line 1: a PKCS7, and not a CERTIFICATE"),
        (format!("{good}-----BEGIN CERTIFICATE-----\n"), "has no end"),
        (format!("{good}-----BEGIN CERTIFICATE-----\n{end}\n"), ""),
        (format!("{good}-----BEGIN CERTIFICATE-----\nAAAA\n{end}\n"), ""),
        (format!("{good}{end}\n"), "neither text nor the begin"),
        (format!("{good}# {good}"), "neither text nor the begin"),
        (format!("{good}{}", good.replace("-----BEGIN", "----BEGIN")), "neither text nor the begin"),
        (format!("{good}{}", good.replace(" CERTIFICATE-----\n", " CERTIFICATE----\n")), "neither text nor the begin"),
        (good.replace(end, ""), "has no end"),
        (good.replace(end, "-----END X509 CERTIFICATE-----"), "not the end of the CERTIFICATE"),
        (good.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), "openssl x509"),
        (good.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n\n", 1), "damaged"),
        (good.replacen("MI", "M-", 1), "damaged"),
        (good.replacen("MI", "MI=", 1), "damaged"),
        (good.replacen(end, &format!("====\n{end}"), 1), "damaged"),
        (good.replacen('\n', "\n-----BEGIN CERTIFICATE-----\n", 1), "not the end of the CERTIFICATE"),
    ] {
        refused(bad.as_bytes(), says);
    }
    refused(&[0xff, 0xfe], "UTF-16");
    refused(&[0x80, 0x81], "neither PEM nor DER");
    refused(&vec![b'\n'; (1 << 20) + 1], "larger");
}

/// A root, what it certified, and what that certified: CA, CA, signer.
fn chain() -> [openssl::x509::X509; 3] {
    let authority = |name| {
        let mut usage = openssl::x509::extension::KeyUsage::new();
        usage.key_cert_sign().digital_signature();
        let mut recipe = Recipe::new(&P384, name);
        (recipe.ca, recipe.usage) = (true, Some(usage));
        recipe
    };
    let root = authority("root").build();
    let mut recipe = authority("intermediate");
    recipe.issuer = Some((&P384, &root));
    let intermediate = recipe.build();
    let mut recipe = Recipe::new(&P256, "leaf");
    recipe.issuer = Some((&P384, &intermediate));
    let leaf = recipe.build();
    [root, intermediate, leaf]
}

/// A signer's file often holds what certified it. That is not trusted for standing there.
#[test]
fn f02_of_a_chain_in_one_file_the_leaf_counts() {
    let [root, intermediate, leaf] = chain().map(|x509| x509.to_pem().unwrap());
    let subjects = |parts: &[&Vec<u8>]| {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| (*part).clone()).collect();
        let loaded = certificates_from_bytes(&bytes, "test").unwrap();
        loaded.iter().map(|c| c.subject().to_owned()).collect::<Vec<_>>()
    };
    for order in [vec![&leaf, &intermediate, &root], vec![&root, &leaf, &intermediate], vec![&leaf, &intermediate]] {
        assert_eq!(subjects(&order), ["CN=leaf"]);
    }
    // One that stands for itself does: nothing in the file says that it is there for another's sake.
    assert_eq!(subjects(&[&root]), ["CN=root"]);
    assert_eq!(subjects(&[&leaf, &root]), ["CN=leaf", "CN=root"]);
    // An issuer that is no authority certified nobody: both are signers.
    let plain = Recipe::new(&P384, "plain").build();
    let mut recipe = Recipe::new(&P256, "by plain");
    recipe.issuer = Some((&P384, &plain));
    let both = [recipe.build().to_pem().unwrap(), plain.to_pem().unwrap()];
    assert_eq!(subjects(&[&both[0], &both[1]]), ["CN=by plain", "CN=plain"]);
    // The same certificate twice is no chain.
    let mut recipe = Recipe::new(&P256, "own");
    recipe.ca = true;
    let own = recipe.build().to_pem().unwrap();
    assert_eq!(subjects(&[&own, &own]), ["CN=own", "CN=own"]);
}

/// What is in the wrong one of the two directories is told about the other.
#[test]
fn e10_an_authority_says_where_it_belongs() {
    let mut usage = openssl::x509::extension::KeyUsage::new();
    usage.key_cert_sign();
    let mut recipe = Recipe::new(&P256, "ca");
    (recipe.ca, recipe.usage) = (true, Some(usage));
    let refusal = certificates_from_bytes(&recipe.build().to_pem().unwrap(), "test").unwrap_err();
    assert_eq!(refusal.case(), Case::E10Usage);
    assert!(refusal.detail().contains("into ca/ of the trust store"), "{refusal}");
    let [_, _, leaf] = chain();
    let refusal = layerseal::pki::Anchor::from_bytes(&leaf.to_pem().unwrap(), "test").unwrap_err();
    assert_eq!(refusal.case(), Case::E10Usage);
    assert!(refusal.detail().contains("beside ca/"), "{refusal}");
}

/// Names appear in messages: they must not be able to write on other lines or in disguise.
#[test]
fn f02_hostile_names_are_shown_safely() {
    let certificate = Recipe::new(&P256, "a\n, O=b\u{202e}").trusted();
    assert_eq!(certificate.subject(), "CN=a\u{fffd}\\, O\\=b\u{fffd}");
}
