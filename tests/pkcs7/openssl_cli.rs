//! E17, the part without a kernel: what we accept, `openssl smime -verify` accepts.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use openssl::hash::MessageDigest;
use openssl::x509::X509;

use crate::forge::*;
use crate::keys::*;

/// Whether the command line verifies `der` over `content` with this one certificate.
pub fn openssl_accepts(dir: &Path, der: &[u8], content: &[u8], x509: &X509) -> bool {
    fs::write(dir.join("signature"), der).unwrap();
    fs::write(dir.join("content"), content).unwrap();
    fs::write(dir.join("certificate"), x509.to_pem().unwrap()).unwrap();
    Command::new("openssl")
        .current_dir(dir)
        .args(["smime", "-verify", "-binary", "-inform", "der", "-in", "signature"])
        .args(["-content", "content", "-noverify", "-nointern", "-certfile", "certificate"])
        .args(["-out", "/dev/null"])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

#[test]
fn e17_openssl_accepts_what_we_accept() {
    let dir = tempfile::tempdir().unwrap();
    let x509 = Recipe::new(&RSA, "signer").build();
    let other = Recipe::new(&RSA_OTHER, "signer").build();
    let info = SignerInfo::new(&x509, &RSA, &content(1));
    let good = Blob::new(&info);
    let with = |change: &dyn Fn(&mut SignerInfo)| {
        let mut changed = info.clone();
        change(&mut changed);
        Blob::new(&changed).encode()
    };
    let digest = |md, name| Blob::new(&SignerInfo::with(&x509, &RSA, &content(1), md, name)).encode();
    let mut attached = good.clone();
    attached.content = seq(&[oid(DATA), tlv(0xa0, &tlv(4, &content(1)))]);
    let mut listed = good.clone();
    listed.digests = vec![algorithm(SHA512)];

    // Signature, our verdict, OpenSSL's.
    let corpus = [
        ("good", good.encode(), true, true),
        ("embedded", good.clone().embed(&[&x509]).encode(), true, true),
        ("no NULL", with(&|i| i.digest = bare_algorithm(SHA256)), true, true),
        ("SHA-384", digest(MessageDigest::sha384(), SHA384), true, true),
        ("SHA-512", digest(MessageDigest::sha512(), SHA512), true, true),
        ("other key", Blob::good(&other, &RSA_OTHER, &content(1)).encode(), false, false),
        ("other content", Blob::good(&x509, &RSA, &content(2)).encode(), false, false),
        // Where we are stricter.
        ("SHA-1", digest(MessageDigest::sha1(), SHA1), false, true),
        ("SHA-224", digest(MessageDigest::sha224(), SHA224), false, true),
        ("trailing", [&good.encode()[..], b"\0"].concat(), false, true),
        ("attached", attached.encode(), false, true),
        ("digestAlgorithms", listed.encode(), false, false),
        ("embedded stranger", good.clone().embed(&[&x509, &other]).encode(), false, true),
        ("sha256WithRSA", with(&|i| i.signature_algorithm = algorithm(SHA256_WITH_RSA)), false, true),
        ("PSS by name only", with(&|i| i.signature_algorithm = bare_algorithm(RSASSA_PSS)), false, true),
    ];
    for (name, der, ours, theirs) in corpus {
        let verdict = verdict(&der, &content(1), &[trusted(&x509)]);
        assert_eq!(verdict.is_ok(), ours, "{name}: {verdict:?}");
        let accepted = openssl_accepts(dir.path(), &der, &content(1), &x509);
        assert_eq!(accepted, theirs, "openssl on {name}");
    }
}

/// What other tools sign, we verify.
#[test]
fn e17_we_accept_what_openssl_signs() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, key) in [("rsa", &*RSA), ("p256", &*P256), ("p384", &*P384), ("p521", &*P521)] {
        let x509 = Recipe::new(key, kind).build();
        fs::write(dir.path().join("certificate"), x509.to_pem().unwrap()).unwrap();
        fs::write(dir.path().join("key"), key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        fs::write(dir.path().join("content"), content(1)).unwrap();
        for command in ["smime", "cms"] {
            for (md, options) in [("sha256", &["-nocerts"][..]), ("sha512", &["-nocerts"]), ("sha256", &[])] {
                let status = Command::new("openssl")
                    .current_dir(dir.path())
                    .args([command, "-sign", "-binary", "-noattr", "-outform", "der", "-md", md])
                    .args(["-signer", "certificate", "-inkey", "key", "-in", "content"])
                    .args(["-out", "signature"])
                    .args(options)
                    .status()
                    .unwrap();
                assert!(status.success());
                let der = fs::read(dir.path().join("signature")).unwrap();
                let result = verdict(&der, &content(1), &[trusted(&x509)]);
                assert_eq!(result, Ok(0), "{command} {kind} {md} {options:?}");
            }
        }
    }
}
