//! E17: one corpus of signatures, for us, for `openssl smime`, and, in the VM, for kernels.
//!
//! `tests/vectors/pkcs7` is what [`write`] made; its keys are gone. `cases.tsv` has the verdicts: ours and
//! OpenSSL's are compared here, the kernels' in `tests/vm/guest/corpus.rs`. To make a new one:
//! `LAYERSEAL_CORPUS=DIR cargo test --test pkcs7 corpus::write -- --ignored`.

use std::path::{Path, PathBuf};

use layerseal::digest::{Algorithm, verity_digest};
use layerseal::pki::formatted_digest::formatted_digest;
use openssl::hash::{MessageDigest, hash};
use openssl::rsa::Padding;
use openssl::x509::X509;
use openssl::x509::extension::KeyUsage;

use crate::forge::*;
use crate::keys::*;
use crate::openssl_cli::openssl_accepts;

/// The file that all signatures are about: its fs-verity digest with SHA-256 and blocks of 4096 bytes.
const FILE: [u8; 5000] = [b'x'; 5000];

fn signed_bytes() -> Vec<u8> {
    formatted_digest(1, verity_digest(Algorithm::Sha256, &FILE).as_bytes())
}

/// A case: its name, the catalogue's ID, the certificate that is trusted, the signature.
type Case = (&'static str, &'static str, &'static str, Vec<u8>);

struct Maker {
    content: Vec<u8>,
    certificates: Vec<(&'static str, Key, X509)>,
    cases: Vec<Case>,
}

impl Maker {
    fn new() -> Self {
        let signer = |key: &Key, name: &str| Recipe::new(key, name).build();
        let expired = Recipe { dates: (NOW - 900 * DAY, NOW - 500 * DAY), ..Recipe::new(&RSA, "expired") }.build();
        let mut usage = KeyUsage::new();
        usage.critical().key_cert_sign();
        let encipher = Recipe { usage: Some(usage), ..Recipe::new(&RSA, "no-signature") }.build();
        Self {
            content: signed_bytes(),
            certificates: vec![
                ("rsa", RSA.clone(), signer(&RSA, "rsa")),
                ("p256", P256.clone(), signer(&P256, "p256")),
                ("p384", P384.clone(), signer(&P384, "p384")),
                ("p521", P521.clone(), signer(&P521, "p521")),
                ("rsa-1024", RSA_1024.clone(), signer(&RSA_1024, "rsa-1024")),
                ("ed25519", ED25519.clone(), signer(&ED25519, "ed25519")),
                ("expired", RSA.clone(), expired),
                ("no-signature", RSA.clone(), encipher),
            ],
            cases: Vec::new(),
        }
    }

    fn of(&self, name: &str) -> (&Key, &X509) {
        let (_, key, x509) = self.certificates.iter().find(|(n, ..)| *n == name).unwrap();
        (key, x509)
    }

    fn info(&self, who: &str, md: MessageDigest, digest: &str) -> SignerInfo {
        let (key, x509) = self.of(who);
        SignerInfo::with(x509, key, &self.content, md, digest)
    }

    fn rsa(&self) -> SignerInfo {
        self.info("rsa", MessageDigest::sha256(), SHA256)
    }

    fn add(&mut self, name: &'static str, id: &'static str, der: Vec<u8>) {
        self.cases.push((name, id, "rsa", der));
    }

    fn by(&mut self, name: &'static str, id: &'static str, who: &'static str, md: MessageDigest, digest: &str) {
        let der = Blob::new(&self.info(who, md, digest)).encode();
        self.cases.push((name, id, who, der));
    }

    fn with(&mut self, name: &'static str, id: &'static str, change: impl FnOnce(&mut SignerInfo)) {
        let mut info = self.rsa();
        change(&mut info);
        self.add(name, id, Blob::new(&info).encode());
    }

    fn blob(&mut self, name: &'static str, id: &'static str, change: impl FnOnce(&mut Blob)) {
        let mut blob = Blob::new(&self.rsa());
        change(&mut blob);
        self.add(name, id, blob.encode());
    }

    fn over(&mut self, name: &'static str, id: &'static str, content: &[u8]) {
        let (key, x509) = self.of("rsa");
        let der = Blob::good(x509, key, content).encode();
        self.add(name, id, der);
    }

    fn good(&mut self) {
        self.by("good-rsa-sha256", "good", "rsa", MessageDigest::sha256(), SHA256);
        self.by("good-rsa-sha384", "good", "rsa", MessageDigest::sha384(), SHA384);
        self.by("good-rsa-sha512", "good", "rsa", MessageDigest::sha512(), SHA512);
        self.by("good-p256-sha256", "good", "p256", MessageDigest::sha256(), SHA256);
        self.by("good-p384-sha384", "good", "p384", MessageDigest::sha384(), SHA384);
        self.by("good-p521-sha512", "good", "p521", MessageDigest::sha512(), SHA512);
        self.with("good-without-null", "good", |i| i.digest = bare_algorithm(SHA256));
        let certificate = self.of("rsa").1.clone();
        let embedded = Blob::new(&self.rsa()).embed(&[&certificate]).encode();
        self.add("good-embedded", "good", embedded);
    }

    fn content_and_signature(&mut self) {
        self.with("signature-bit", "E01", |i| *i.signature.last_mut().unwrap() ^= 1);
        self.with("signature-short", "E01", |i| i.signature = tlv(4, &[1; 255]));
        self.over("another-digest", "E01", &formatted_digest(1, &[7; 32]));
        let mut magic = self.content.clone();
        magic[0] = b'f';
        self.over("another-magic", "E06", &magic);
        let raw = self.content[12..].to_vec();
        self.over("digest-alone", "E06", &raw);
        let mut algorithm = self.content.clone();
        algorithm[8] = 2;
        self.over("another-algorithm", "E14", &algorithm);
        let mut big_endian = self.content.clone();
        big_endian[8..12].copy_from_slice(&[0, 1, 0, 32]);
        self.over("big-endian", "E14", &big_endian);
    }

    fn encoding(&mut self) {
        let good = Blob::new(&self.rsa()).encode();
        self.add("trailing", "E02", [&good[..], b"\0"].concat());
        self.add("truncated", "E02", good[..good.len() - 1].to_vec());
        self.add("indefinite", "E02", [&[0x30, 0x80], &good[4..], &[0, 0]].concat());
        self.blob("padded-version", "E02", |b| b.version = int(&[0, 1]));
        self.with("padded-signer-version", "E02", |i| i.version = int(&[0, 1]));
    }

    fn frame(&mut self) {
        let content = self.content.clone();
        self.blob("attached-same", "E03", |b| b.content = seq(&[oid(DATA), tlv(0xa0, &tlv(4, &content))]));
        self.blob("attached-other", "E03", |b| b.content = seq(&[oid(DATA), tlv(0xa0, &tlv(4, b"other"))]));
        let (good, mut bad) = (self.rsa(), self.rsa());
        *bad.signature.last_mut().unwrap() ^= 1;
        let (good, bad) = (good.encode(), bad.encode());
        self.blob("no-signer", "E04", |b| b.signers.clear());
        self.blob("two-signers", "E04", |b| b.signers.push(good.clone()));
        self.blob("good-and-bad", "E04", |b| b.signers = vec![good.clone(), bad.clone()]);
        self.blob("bad-and-good", "E04", |b| b.signers = vec![bad, good]);
        self.blob("digest-list-other", "E13", |b| b.digests = vec![algorithm(SHA512)]);
        self.blob("digest-list-empty", "E13", |b| b.digests.clear());
        self.blob("version-3", "E16", |b| b.version = int(&[3]));
        self.blob("content-type-signed", "E16", |b| b.content = seq(&[oid(SIGNED_DATA)]));
        self.with("signer-version-3-key-id", "E16", |i| {
            i.version = int(&[3]);
            i.id = tlv(0x80, &[9; 20]);
        });
        self.with("signature-algorithm-with-digest", "E16", |i| i.signature_algorithm = algorithm(SHA256_WITH_RSA));
    }

    /// Signed attributes, right in themselves: what is signed is then not the formatted digest.
    fn attributes(&mut self) {
        let digest = hash(MessageDigest::sha256(), &self.content).unwrap();
        let attribute = |id: &str, value: Vec<u8>| seq(&[oid(id), set(&[value])]);
        let kind = attribute("1.2.840.113549.1.9.3", oid(DATA));
        let message = attribute("1.2.840.113549.1.9.4", tlv(4, &digest));
        let time = attribute("1.2.840.113549.1.9.5", tlv(0x17, b"300101000000Z"));
        for (name, all) in
            [("attributes", vec![kind.clone(), message.clone()]), ("attributes-and-time", vec![kind, time, message])]
        {
            let signature = sign(self.of("rsa").0, MessageDigest::sha256(), &set(&all), None);
            self.with(name, "E05", |i| {
                i.signed_attributes = tlv(0xa0, &all.concat());
                i.signature = tlv(4, &signature);
            });
        }
        self.with("unsigned-attributes", "E05", |i| {
            i.unsigned_attributes = tlv(0xa1, &attribute("1.2.840.113549.1.9.15", seq(&[])));
        });
    }

    fn signers(&mut self) {
        let stranger = Recipe::new(&RSA_OTHER, "stranger").build();
        let namesake = Recipe::new(&RSA_OTHER, "rsa").build();
        let content = self.content.clone();
        self.add("stranger", "E07", Blob::good(&stranger, &RSA_OTHER, &content).encode());
        self.add("stranger-embedded", "E07", Blob::good(&stranger, &RSA_OTHER, &content).embed(&[&stranger]).encode());
        self.add("same-name", "E08", Blob::good(&namesake, &RSA_OTHER, &content).encode());
        self.add("same-name-embedded", "E08", Blob::good(&namesake, &RSA_OTHER, &content).embed(&[&namesake]).encode());
        let others = Blob::new(&self.rsa()).embed(&[self.of("rsa").1, &stranger]).encode();
        self.add("others-embedded", "E09", others);
        self.by("certificate-without-signature", "E10", "no-signature", MessageDigest::sha256(), SHA256);
        self.by("certificate-expired", "E11", "expired", MessageDigest::sha256(), SHA256);
        self.by("sha1", "E12", "rsa", MessageDigest::sha1(), SHA1);
        self.by("sha224", "E12", "rsa", MessageDigest::sha224(), SHA224);
        self.by("rsa-1024", "E12", "rsa-1024", MessageDigest::sha256(), SHA256);
        let pss = sign(self.of("rsa").0, MessageDigest::sha256(), &content, Some(Padding::PKCS1_PSS));
        self.with("pss", "E12", |i| {
            i.signature_algorithm = bare_algorithm(RSASSA_PSS);
            i.signature = tlv(4, &pss);
        });
        let mut info = self.info("ed25519", MessageDigest::null(), SHA512);
        info.signature_algorithm = bare_algorithm(ED25519_OID);
        self.cases.push(("ed25519", "E12", "ed25519", Blob::new(&info).encode()));
    }
}

fn made() -> Maker {
    let mut maker = Maker::new();
    maker.good();
    maker.content_and_signature();
    maker.encoding();
    maker.frame();
    maker.attributes();
    maker.signers();
    maker
}

/// Makes the corpus anew, with the verdicts of this machine, and `?` where a kernel's belongs.
#[test]
#[ignore = "it makes other keys each time: for LAYERSEAL_CORPUS=DIR"]
fn write() {
    let dir = PathBuf::from(std::env::var_os("LAYERSEAL_CORPUS").expect("LAYERSEAL_CORPUS=DIR"));
    let maker = made();
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("file"), FILE).unwrap();
    for (name, _, x509) in &maker.certificates {
        std::fs::write(dir.join(format!("{name}.crt")), x509.to_pem().unwrap()).unwrap();
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut table =
        String::from("# signature\tcase\tcertificate\tlayerseal\topenssl\tlinux-6.1\tlinux-6.12\tlinux-7.3\n");
    for (name, id, who, der) in &maker.cases {
        std::fs::write(dir.join(format!("{name}.der")), der).unwrap();
        let x509 = maker.of(who).1;
        let ours = ours(der, x509);
        let theirs = if openssl_accepts(scratch.path(), der, &maker.content, x509) { "accepted" } else { "refused" };
        table.push_str(&format!("{name}\t{id}\t{who}\t{ours}\t{theirs}\t?\t?\t?\n"));
    }
    std::fs::write(dir.join("cases.tsv"), table).unwrap();
}

/// Our verdict: `accepted`, or the case.
fn ours(der: &[u8], x509: &X509) -> String {
    match layerseal::pki::Certificate::from_der(&x509.to_der().unwrap(), "test") {
        Err(refusal) => refusal.case().id().to_owned(),
        Ok(certificate) => verdict(der, &signed_bytes(), &[certificate])
            .map_or_else(|r| r.case().id().to_owned(), |_| "accepted".into()),
    }
}

#[test]
fn e17_the_corpus_has_the_verdicts_that_are_written_down() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/pkcs7");
    assert_eq!(std::fs::read(dir.join("file")).unwrap(), FILE);
    let table = std::fs::read_to_string(dir.join("cases.tsv")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut count = 0;
    for line in table.lines().filter(|l| !l.starts_with('#')) {
        let [name, id, who, wanted, openssl, kernels @ ..] = &line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let der = std::fs::read(dir.join(format!("{name}.der"))).unwrap();
        let x509 = X509::from_pem(&std::fs::read(dir.join(format!("{who}.crt"))).unwrap()).unwrap();
        assert_eq!(ours(&der, &x509), *wanted, "{name}");
        assert_eq!(*wanted == "accepted", *id == "good", "{name}: {wanted}");
        let accepted = openssl_accepts(scratch.path(), &der, &signed_bytes(), &x509);
        assert_eq!(accepted, *openssl == "accepted", "openssl on {name}");
        // Nobody whom we follow refuses what we accept.
        assert!(*wanted != "accepted" || accepted, "{name}");
        // 6.1 has no ECDSA; a later kernel refuses nothing that we accept.
        let [old, newer @ ..] = kernels else { panic!("{line}") };
        assert!(*wanted != "accepted" || newer.iter().all(|k| *k == "accepted"), "{name}: {newer:?}");
        assert!(*wanted != "accepted" || *old == "accepted" || who.starts_with('p'), "{name}: {old}");
        count += 1;
    }
    assert!(count >= 45, "{count} cases");
}
