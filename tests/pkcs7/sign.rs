//! N01: keys, and the signatures made with them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use layerseal::error::Case;
use layerseal::pki::formatted_digest::formatted_digest;
use layerseal::pki::pkcs7::parse;
use layerseal::pki::sign::{Signer, key_file_mode_warning};
use openssl::symm::Cipher;
use openssl::x509::extension::KeyUsage;

use crate::keys::*;

fn pem(key: &Key) -> Vec<u8> {
    key.private_key_to_pem_pkcs8().unwrap()
}

#[test]
fn n01_every_kind_of_key_signs() {
    for (name, key) in [("rsa", &*RSA), ("p256", &*P256), ("p384", &*P384), ("p521", &*P521)] {
        let x509 = Recipe::new(key, name).build();
        for certificate in [x509.to_pem().unwrap(), x509.to_der().unwrap()] {
            let signer = Signer::new(&certificate, &pem(key), None, name).unwrap();
            for content in [content(1), formatted_digest(2, &[9; 64])] {
                let der = signer.sign(&content).unwrap();
                assert_eq!(verdict(&der, &content, &[trusted(&x509)]), Ok(0), "{name}");
                assert!(parse(&der, name).unwrap().certificates.is_empty());
            }
        }
    }
}

#[test]
fn n01_older_forms_of_keys() {
    let rsa = RSA.rsa().unwrap().private_key_to_pem().unwrap();
    let ec = P256.ec_key().unwrap().private_key_to_pem().unwrap();
    assert!(rsa.starts_with(b"-----BEGIN RSA PRIVATE KEY") && ec.starts_with(b"-----BEGIN EC"));
    for (key, older) in [(&*RSA, rsa), (&*P256, ec)] {
        let certificate = Recipe::new(key, "older").build().to_pem().unwrap();
        assert!(Signer::new(&certificate, &older, None, "older").is_ok());
    }
}

#[test]
fn n01_rsa_signature_is_openssl_smimes() {
    let dir = tempfile::tempdir().unwrap();
    let x509 = Recipe::new(&RSA, "signer").build();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("cert"), x509.to_pem().unwrap()).unwrap();
    fs::write(at("key"), pem(&RSA)).unwrap();
    fs::write(at("content"), content(3)).unwrap();
    let status = Command::new("openssl")
        .current_dir(dir.path())
        .args(["smime", "-sign", "-binary", "-noattr", "-nocerts", "-outform", "der"])
        .args(["-signer", "cert", "-inkey", "key", "-in", "content", "-out", "signature"])
        .status()
        .unwrap();
    assert!(status.success());
    let signer = Signer::new(&x509.to_der().unwrap(), &pem(&RSA), None, "signer").unwrap();
    let ours = signer.sign(&content(3)).unwrap();
    assert_eq!(ours, fs::read(at("signature")).unwrap());
    // And again the same.
    assert_eq!(ours, signer.sign(&content(3)).unwrap());
}

#[test]
fn n01_key_of_another_certificate() {
    let certificate = Recipe::new(&RSA, "signer").build().to_pem().unwrap();
    for key in [&*RSA_OTHER, &*P256, &*ED25519] {
        assert_refused(Signer::new(&certificate, &pem(key), None, "x"), Case::KeyMismatch);
    }
    for garbage in [&b""[..], b"hello", b"pkcs11:token=x", &certificate, &[0x30, 0x82]] {
        assert_refused(Signer::new(&certificate, garbage, None, "x"), Case::KeyMismatch);
    }
    let refusal = Signer::new(&certificate, b"pkcs11:token=x", None, "x").unwrap_err();
    assert!(refusal.detail().contains("PKCS#11"), "{refusal}");
}

/// Of a signer's file the certificate counts that the key belongs to: a chain is in it often, and the key itself.
#[test]
fn n01_the_certificate_of_the_key_signs() {
    let mut recipe = Recipe::new(&RSA_1024, "authority");
    recipe.ca = true;
    let authority = recipe.build();
    let mut recipe = Recipe::new(&RSA, "release");
    recipe.issuer = Some((&RSA_1024, &authority));
    let leaf = recipe.build();
    let (leaf, chain) = (leaf.to_pem().unwrap(), authority.to_pem().unwrap());
    for file in [[&chain[..], &leaf].concat(), [&leaf[..], &chain, &leaf, &pem(&RSA)].concat()] {
        let signer = Signer::new(&file, &pem(&RSA), None, "x").unwrap();
        assert_eq!(signer.certificate().subject(), "CN=release");
        assert_eq!(signer.embedding(true).sign(&content(1)).map(|der| parse(&der, "x").is_ok()), Ok(true));
    }
    let named = |certificate: &[u8], key: &[u8]| {
        use layerseal::pki::Named;
        Signer::from_files(Named { bytes: certificate, name: "c.crt" }, Named { bytes: key, name: "k.key" }, None)
            .unwrap_err()
    };
    let refusal = named(&[&leaf[..], &chain].concat(), &pem(&P256));
    assert_eq!((refusal.case(), refusal.subject().as_str()), (Case::KeyMismatch, "k.key"));
    assert!(refusal.detail().contains("CN=release; CN=authority, in c.crt"), "{refusal}");
    // Which of two is meant nobody knows.
    let mut renewed = Recipe::new(&RSA, "release");
    renewed.serial = 1001;
    let two = [leaf.clone(), renewed.build().to_pem().unwrap()].concat();
    let refusal = named(&two, &pem(&RSA));
    assert_eq!((refusal.case(), refusal.subject().as_str()), (Case::KeyMismatch, "c.crt"));
    for (bytes, case) in [(&b"hello"[..], Case::F02Certificate), (&pem(&RSA), Case::F02Certificate)] {
        let refusal = named(bytes, &pem(&RSA));
        assert_eq!((refusal.case(), refusal.subject().as_str()), (case, "c.crt"));
    }
    let refusal = named(&chain, &pem(&RSA_1024));
    assert_eq!((refusal.case(), refusal.subject().as_str()), (Case::E12Weak, "c.crt"));
}

/// With a terminal on standard input OpenSSL would ask; this must end either way.
#[test]
fn n01_encrypted_keys() {
    let certificate = Recipe::new(&RSA, "signer").build().to_pem().unwrap();
    let cipher = Cipher::aes_256_cbc();
    let pkcs8 = RSA.private_key_to_pem_pkcs8_passphrase(cipher, b"secret").unwrap();
    let older = RSA.rsa().unwrap().private_key_to_pem_passphrase(cipher, b"secret").unwrap();
    for key in [pkcs8, older] {
        let with = |passphrase: Option<&[u8]>| Signer::new(&certificate, &key, passphrase, "x");
        assert!(with(Some(b"secret")).is_ok());
        let long = vec![b'x'; 100_000];
        for (passphrase, says) in [
            (None, "no passphrase is given"),
            (Some(&b"wrong"[..]), "the passphrase is wrong"),
            (Some(b""), "the passphrase is wrong"),
            (Some(b"nul\0inside"), "the passphrase is wrong"),
            (Some(&long), "too long"),
        ] {
            let refusal = with(passphrase).unwrap_err();
            assert_eq!(refusal.case(), Case::KeyMismatch);
            assert!(refusal.detail().contains(says), "{refusal}");
        }
    }
    // A passphrase that is not needed is not an error.
    assert!(Signer::new(&certificate, &pem(&RSA), Some(b"secret"), "x").is_ok());
}

#[test]
fn n01_weak_keys_do_not_sign() {
    let certificate = Recipe::new(&RSA_1024, "weak").build().to_pem().unwrap();
    assert_refused(Signer::new(&certificate, &pem(&RSA_1024), None, "x"), Case::E12Weak);
    let mut recipe = Recipe::new(&RSA, "ca");
    let mut usage = KeyUsage::new();
    usage.key_cert_sign();
    recipe.usage = Some(usage);
    let certificate = recipe.build().to_pem().unwrap();
    assert_refused(Signer::new(&certificate, &pem(&RSA), None, "x"), Case::E10Usage);
}

/// A key for seals is no oracle for other signatures.
#[test]
fn n01_nothing_but_formatted_digests_is_signed() {
    let certificate = Recipe::new(&RSA, "signer").build().to_pem().unwrap();
    let signer = Signer::new(&certificate, &pem(&RSA), None, "x").unwrap();
    for content in [&b""[..], b"hello", b"FSVerity", &content(1)[1..]] {
        assert_refused(signer.sign(content), Case::E06Content);
    }
    assert!(!format!("{signer:?}").contains("PRIVATE"));
}

#[test]
fn n01_loose_key_files_are_warned_about() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (mode, loose) in
        [(0o600, false), (0o400, false), (0o700, false), (0o640, true), (0o604, true), (0o644, true), (0o620, true)]
    {
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        let metadata = file.as_file().metadata().unwrap();
        let warning = key_file_mode_warning(file.path(), &metadata);
        assert_eq!(warning.is_some(), loose, "{mode:o}");
    }
    let metadata = fs::metadata("/dev/null").unwrap();
    assert_eq!(key_file_mode_warning("/dev/null".as_ref(), &metadata), None);
}
