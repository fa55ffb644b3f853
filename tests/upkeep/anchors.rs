//! Signers that an anchor of the host's vouches for, from the signature to the verdict.

use std::process::Command;

use layerseal::error::{Case, Result};
use layerseal::image::{Contents, ContentsRequest, ReadOnly};
use layerseal::oci::{Budget, Image, Layout, Platform};
use layerseal::pki::{Anchor, Dates};
use layerseal::policy::BindingRule;
use layerseal::policy::{Denied, Directories};
use layerseal::verify::{JudgeRequest, LayerReader, Requirements, SealCandidate, VerifiedImage, judge};

use crate::common::{Bench, Layout as Made, two_layers};
use crate::ecdsa;

fn openssl(bench: &Bench, args: &str) {
    let output = Command::new("openssl").args(args.split(' ')).current_dir(bench.dir.path()).output().unwrap();
    assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Signs with OpenSSL what `digest --write` wrote into `tosign`.
pub fn sign_files(bench: &Bench, who: &str, more: &str) {
    for entry in std::fs::read_dir(bench.path("tosign")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "tosign") {
            let role = path.file_stem().unwrap().to_str().unwrap();
            let smime =
                format!("smime -sign -binary -noattr{more} -md sha256 -outform der -signer {who}.crt -inkey {who}.key");
            openssl(bench, &format!("{smime} -in tosign/{role}.tosign -out tosign/{role}.sig"));
        }
    }
}

/// An image without a seal, an authority, and a signer that it vouches for.
fn certified(purpose: &str) -> (Bench, Image) {
    let bench = Bench::new();
    let digest = Made::new(&bench.path("image"), &two_layers()).digest;
    openssl(
        &bench,
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt -addext keyUsage=critical,keyCertSign",
    );
    openssl(&bench, "req -newkey rsa:2048 -nodes -subj /CN=release -keyout leaf.key -out leaf.csr");
    bench.write("leaf.cnf", format!("keyUsage=critical,digitalSignature\nextendedKeyUsage={purpose}\n").as_bytes());
    openssl(
        &bench,
        "x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 1 -sha256 -extfile leaf.cnf -out leaf.crt",
    );
    let layout = Layout::open(&bench.path("image")).unwrap();
    let image = Image::read(layout.store(), &digest, &Platform::host(), &Budget::STANDARD).unwrap();
    (bench, image)
}

/// An image whose seal was made with OpenSSL, the signer's certificate in every signature.
fn sealed(purpose: &str) -> (Bench, Image) {
    let (bench, image) = certified(purpose);
    bench.run(&["digest", "oci:image", "--write", "tosign"]).ok();
    sign_files(&bench, "leaf", "");
    bench.run(&["attach", "oci:image", "--signatures", "tosign"]).ok();
    (bench, image)
}

fn judged(bench: &Bench, image: &Image, anchor: &str, denied: Denied) -> Result<VerifiedImage> {
    judged_in(bench, image, "image", anchor, denied)
}

fn judged_in(bench: &Bench, image: &Image, layout: &str, anchor: &str, denied: Denied) -> Result<VerifiedImage> {
    let layout = Layout::open(&bench.path(layout)).unwrap();
    let store = layout.store();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let rules = Requirements {
        certificates: Some(vec![]),
        anchors: Anchor::from_bytes(&std::fs::read(bench.path(anchor)).unwrap(), anchor).unwrap(),
        dates: Dates::Enforce,
        now,
        binding: BindingRule::Required,
        identities: vec![],
        denied,
        floors: Default::default(),
    };
    let seals = layout.referrers(&image.digest, &Budget::STANDARD).unwrap();
    let found: Vec<SealCandidate<'_>> = seals.into_iter().map(|digest| SealCandidate { digest, store }).collect();
    let budget = &Budget::STANDARD;
    let question = JudgeRequest {
        image,
        found: &found,
        home: store,
        requirements: &rules,
        budget,
        about: layerseal::seal::ArtifactSubject::Manifest,
    };
    let mut layers = LayerReader::new(|wanted| {
        let reader = ReadOnly { store, algorithm: wanted.algorithm };
        Contents::read(
            image,
            ContentsRequest { algorithm: wanted.algorithm, keep: wanted.keep },
            &reader,
            budget,
            &|_| {},
        )
    });
    judge(&question, &|_| false, &mut layers).into_result()
}

#[test]
fn e09_a_seal_by_a_leaf_of_an_anchor_counts() {
    let (bench, image) = sealed("codeSigning");
    let verified = judged(&bench, &image, "ca.crt", Denied::nothing()).unwrap();
    assert_eq!(verified.signer().unwrap().subject, "CN=release");
    // Another authority of the same name did not issue it.
    openssl(
        &bench,
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout other.key -out other.crt -addext keyUsage=critical,keyCertSign",
    );
    assert_eq!(judged(&bench, &image, "other.crt", Denied::nothing()).unwrap_err().case(), Case::E09Chain);
    // Who names nobody but the leaf needs no anchor; who trusts by command line builds no chain.
    bench.run(&["verify", "oci:image", "--trust", "leaf.crt"]).ok();
}

#[test]
fn e09_signatures_of_our_own_can_carry_the_certificate() {
    let sign = ["sign", "oci:image", "--cert", "leaf.crt", "--key", "leaf.key"];
    let (bench, image) = certified("codeSigning");
    bench.run(&[&sign[..], &["--embed-cert"]].concat()).ok();
    let verified = judged(&bench, &image, "ca.crt", Denied::nothing()).unwrap();
    assert!(verified.signer().unwrap().anchor.is_some());
    // Without it nobody can tell that the authority issued it.
    let (bench, image) = certified("codeSigning");
    bench.run(&sign).ok();
    assert_eq!(judged(&bench, &image, "ca.crt", Denied::nothing()).unwrap_err().case(), Case::E07Untrusted);
}

#[test]
fn e09_a_leaf_for_another_purpose_does_not() {
    let (bench, image) = sealed("serverAuth");
    assert_eq!(judged(&bench, &image, "ca.crt", Denied::nothing()).unwrap_err().case(), Case::E09Chain);
}

#[test]
fn f06_a_denied_leaf_and_a_denied_anchor() {
    if !rustix::process::geteuid().is_root() {
        support::skip!("F06: configuration belongs to root");
    }
    let (bench, image) = sealed("codeSigning");
    for (file, case) in [("leaf.crt", Case::F06Denied), ("ca.crt", Case::E07Untrusted)] {
        let _ = std::fs::remove_dir_all(bench.path("etc"));
        std::fs::create_dir_all(bench.path("etc/deny.d")).unwrap();
        std::fs::copy(bench.path(file), bench.path("etc/deny.d/denied.crt")).unwrap();
        let denied = Denied::load(&Directories::new(vec![bench.path("etc")])).unwrap();
        assert_eq!(judged(&bench, &image, "ca.crt", denied).unwrap_err().case(), case, "{file}");
    }
}

/// A leaf of an ECDSA authority has a second form that anybody can write; and what is denied of it is denied.
#[test]
fn f06_a_denied_leaf_in_other_bytes() {
    if !rustix::process::geteuid().is_root() {
        support::skip!("F06: configuration belongs to root");
    }
    let (bench, image) = certified("codeSigning");
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(
        &bench,
        &format!(
            "req -x509 {new} -days 2 -subj /CN=authority -keyout ca.key -out ca.crt -addext keyUsage=critical,keyCertSign"
        ),
    );
    openssl(
        &bench,
        "x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 1 -sha256 -extfile leaf.cnf -out leaf.crt",
    );
    let one = openssl::x509::X509::from_pem(&std::fs::read(bench.path("leaf.crt")).unwrap()).unwrap();
    let issuer = openssl::pkey::PKey::private_key_from_pem(&std::fs::read(bench.path("ca.key")).unwrap()).unwrap();
    let other = ecdsa::other_form(&one, &issuer);
    let (low, high) = if ecdsa::is_high(&one, &issuer) { (other, one) } else { (one, other) };
    let deny = |x509: Option<&openssl::x509::X509>| {
        let _ = std::fs::remove_dir_all(bench.path("etc"));
        std::fs::create_dir_all(bench.path("etc/deny.d")).unwrap();
        if let Some(x509) = x509 {
            std::fs::write(bench.path("etc/deny.d/denied.crt"), x509.to_pem().unwrap()).unwrap();
        }
        Denied::load(&Directories::new(vec![bench.path("etc")])).unwrap()
    };
    std::fs::copy(bench.path("leaf.key"), bench.path("low.key")).unwrap();
    std::fs::copy(bench.path("leaf.key"), bench.path("high.key")).unwrap();
    std::fs::write(bench.path("low.crt"), low.to_pem().unwrap()).unwrap();
    std::fs::write(bench.path("high.crt"), high.to_pem().unwrap()).unwrap();
    bench.run(&["digest", "oci:image", "--write", "tosign"]).ok();
    // The certificate is in no byte that is signed: an attacker puts the other one there.
    for (who, case) in [("high", Some(Case::E09Chain)), ("low", None)] {
        sign_files(&bench, who, "");
        let copied = Command::new("cp").arg("-a").args([bench.path("image"), bench.path(who)]).status().unwrap();
        assert!(copied.success());
        bench.run(&["attach", &format!("oci:{who}"), "--signatures", "tosign"]).ok();
        let judged = |denied| judged_in(&bench, &image, who, "ca.crt", denied).map(|_| ()).map_err(|r| r.case());
        assert_eq!(judged(deny(None)).err(), case, "{who}");
        for denied in [&low, &high] {
            assert_eq!(judged(deny(Some(denied))).err(), case.or(Some(Case::F06Denied)), "{who}");
        }
    }
}
