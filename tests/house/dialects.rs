//! Every dialect that is written, read again; and seals of several dialects and signers beside each other.

use serde_json::Value;

use crate::anchors::openssl;
use crate::common::{Bench, Layout, signer, stranger, two_layers};

const FORMATS: [(&str, &str); 3] =
    [("erofs-alongside", "erofs-alongside.v1"), ("canonical", "canonical.v1"), ("metadata", "metadata.v1")];

fn bench() -> (Bench, Layout) {
    let bench = Bench::new();
    bench.signer("signer", signer());
    bench.signer("stranger", stranger());
    let layout = Layout::new(&bench.path("image"), &two_layers());
    (bench, layout)
}

fn sign(bench: &Bench, who: &str, more: &[&str]) {
    let (cert, key) = (format!("{who}.crt"), format!("{who}.key"));
    let args = [&["sign", "oci:image", "--cert", &cert, "--key", &key, "--identity", "registry.example.com/app"], more];
    bench.run(&args.concat()).ok();
}

fn verified(bench: &Bench, more: &[&str]) -> Value {
    bench.run(&[&["verify", "oci:image", "--trust", "signer.crt", "--json"], more].concat()).ok().json()
}

#[test]
fn what_is_written_in_any_format_is_read_and_kept() {
    for algorithm in ["sha512", "sha256"] {
        for (format, name) in FORMATS {
            let (bench, layout) = bench();
            sign(&bench, "signer", &["--format", format, "--algorithm", algorithm]);
            let seals = layout.seals();
            let [seal] = &seals[..] else { panic!("{seals:?}") };
            let carries =
                seal["layers"].as_array().unwrap().iter().any(|l| l["mediaType"].as_str().unwrap().ends_with("erofs"));
            assert_eq!(carries, format == "erofs-alongside", "{format}");
            let report = verified(&bench, &["--identity", "registry.example.com/app"]);
            assert_eq!(report["seals"][0]["dialect"], name, "{report}");
            // Once more gives the same bytes.
            sign(&bench, "signer", &["--format", format, "--algorithm", algorithm]);
            assert_eq!(layout.seals().len(), 1, "N04: {format}");
            // On a host: imported, verified and known the second time.
            let trust = ["--require-signature", "--trust", "signer.crt"];
            bench.run(&[&["pull", "oci:image", "--name", "app"][..], &trust].concat()).ok();
            bench.run(&["verify", "app", "--trust", "signer.crt"]).ok();
            bench.run(&["verify", "oci:image", "--trust", "stranger.crt"]).refused(4, "E07");
        }
    }
}

#[test]
fn c06_one_good_seal_among_dialects_and_signers_is_enough() {
    let (bench, layout) = bench();
    for (format, _) in FORMATS {
        sign(&bench, "stranger", &["--format", format]);
    }
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).refused(4, "E07");
    sign(&bench, "signer", &["--format", "metadata"]);
    assert_eq!(layout.seals().len(), 4);
    let report = verified(&bench, &[]);
    let accepted: Vec<_> = report["seals"].as_array().unwrap().iter().filter(|s| s["verdict"] == "accepted").collect();
    assert_eq!(accepted.len(), 1, "{report}");
}

#[test]
fn signatures_made_elsewhere_go_into_any_format() {
    for (format, name) in FORMATS {
        let (bench, _) = bench();
        bench.run(&["digest", "oci:image", "--write", "tosign"]).ok();
        for entry in std::fs::read_dir(bench.path("tosign")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "tosign") {
                let role = path.file_stem().unwrap().to_str().unwrap();
                openssl(
                    &bench,
                    &format!(
                        "smime -sign -binary -noattr -nocerts -md sha256 -outform der -signer signer.crt -inkey signer.key -in tosign/{role}.tosign -out tosign/{role}.sig"
                    ),
                );
            }
        }
        bench.run(&["attach", "oci:image", "--signatures", "tosign", "--format", format]).ok();
        assert_eq!(verified(&bench, &[])["seals"][0]["dialect"], name);
    }
}
