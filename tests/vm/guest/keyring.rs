//! The kernel's own signature checks. The tests of this file share one keyring: what they add stays,
//! and the last one closes it (`z_`).

use std::fs::File;

use layerseal::digest::{Algorithm, verity_digest};
use layerseal::error::Case;
use layerseal::pki::formatted_digest;
use layerseal::sys::verity;

use crate::common::{Bench, signer, stranger};
use crate::{Sealed, TOOL, draft, new_enough};

fn sign(with: &crate::common::Signer, content: &[u8]) -> Vec<u8> {
    let digest = verity_digest(Algorithm::Sha512, content);
    let bytes = formatted_digest(2, digest.as_bytes());
    let signer = layerseal::pki::Signer::new(
        &with.cert.to_pem().unwrap(),
        &with.key.private_key_to_pem_pkcs8().unwrap(),
        None,
        "test",
    )
    .unwrap();
    signer.sign(&bytes).unwrap()
}

#[test]
fn g09_certificates_go_into_the_kernels_keyring_and_no_other() {
    let bench = Bench::new();
    bench.signer("newcomer", &crate::common::Signer::new("newcomer", 2048, -1, 30));
    bench.write("garbage.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let before = bench.run(&["keyring", "list", "--json"]).ok().json()["keys"].as_array().unwrap().len();
    bench.run(&["keyring", "add-cert", "garbage.pem"]).refused(5, "F02");
    bench.run(&["keyring", "add-cert", "newcomer.crt"]).ok();
    let listed = bench.run(&["keyring", "list"]).ok();
    assert!(listed.stdout.contains("newcomer"), "{}", listed.stdout);
    assert_eq!(bench.run(&["keyring", "list", "--json"]).ok().json()["keys"].as_array().unwrap().len(), before + 1);
    let user = std::process::Command::new("keyctl").args(["show", "@u"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&user.stdout).contains("newcomer"));
}

#[test]
fn g02_the_kernel_tells_good_signatures_from_bad_ones() {
    let bench = Bench::new();
    bench.signer("signer", signer());
    bench.run(&["keyring", "add-cert", "signer.crt"]).ok();
    let enable = |name: &str, signature: &[u8]| {
        let path = bench.write(name, &TOOL);
        verity::enable(&draft(path), Algorithm::Sha512, Some(signature), name)
    };
    enable("good", &sign(signer(), &TOOL)).unwrap();
    assert!(verity::has_signature(&File::open(bench.path("good")).unwrap()));
    assert_eq!(enable("other file", &sign(signer(), b"other")).unwrap_err().case(), Case::G02Rejected);
    assert_eq!(enable("stranger", &sign(stranger(), &TOOL)).unwrap_err().case(), Case::G02Key);
    assert_eq!(enable("garbage", b"garbage").unwrap_err().case(), Case::G02Rejected);
}

#[test]
fn signatures_are_enrolled_where_the_keyring_has_the_key() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let bench = Bench::new();
    bench.signer("signer", signer());
    bench.run(&["keyring", "add-cert", "signer.crt"]).ok();
    let sealed = Sealed::in_bench(bench);
    sealed.mount().ok();
    let merged = sealed.rootfs();
    assert!(verity::has_signature(&File::open(&merged).unwrap()));
    sealed.bench.run(&["umount", "root"]).ok();
    // IPE and require_signatures ask for it; the seal's EROFS opens even then.
    std::fs::write("/proc/sys/fs/verity/require_signatures", "1").unwrap();
    let opened = File::open(&merged);
    let doctor = sealed.bench.run(&["doctor"]);
    std::fs::write("/proc/sys/fs/verity/require_signatures", "0").unwrap();
    opened.unwrap();
    assert_eq!(doctor.code, 6, "{}", doctor.stdout);
}

#[test]
fn a_signer_unknown_to_the_kernel_is_checked_by_us_alone() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let bench = Bench::new();
    crate::common::Layout::new(&bench.path("image"), &crate::common::two_layers());
    bench.signer("signer", stranger());
    bench.run(&["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key"]).ok();
    bench.run(&["pull", "oci:image", "--name", "app", "--require-signature", "--trust", "signer.crt"]).ok();
    std::fs::create_dir(bench.path("root")).unwrap();
    let sealed = Sealed { bench };
    sealed.mount().ok();
    assert!(!verity::has_signature(&File::open(sealed.rootfs()).unwrap()));
}

#[test]
fn g02_required_signatures_are_named() {
    let bench = Bench::new();
    let path = bench.write("unsigned", &TOOL);
    std::fs::write("/proc/sys/fs/verity/require_signatures", "1").unwrap();
    let refused = verity::enable(&draft(path), Algorithm::Sha512, None, "unsigned");
    std::fs::write("/proc/sys/fs/verity/require_signatures", "0").unwrap();
    assert_eq!(refused.unwrap_err().case(), Case::G02Required);
}

#[test]
fn z_g09_a_restricted_keyring_takes_no_more() {
    let bench = Bench::new();
    bench.signer("stranger", stranger());
    bench.run(&["keyring", "restrict"]).ok();
    let run = bench.run(&["keyring", "add-cert", "stranger.crt"]).refused(6, "G09");
    assert!(run.stderr.contains("restricted"), "{}", run.stderr);
}
