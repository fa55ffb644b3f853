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
fn an_inline_seal_makes_a_new_image_that_needs_no_other() {
    for algorithm in ["sha512", "sha256"] {
        let (bench, layout) = bench();
        let before = layout.index();
        sign(&bench, "signer", &["--inline", "--algorithm", algorithm, "--sequence", "3"]);
        assert!(layout.seals().is_empty());
        let after = layout.index();
        assert_eq!(after["manifests"].as_array().unwrap().len(), before["manifests"].as_array().unwrap().len());
        assert_ne!(after["manifests"][0]["digest"], before["manifests"][0]["digest"], "the tag names the new image");
        let report = verified(&bench, &["--identity", "registry.example.com/app"]);
        assert_eq!((&report["seals"][0]["dialect"], report["seals"].as_array().unwrap().len()), (&"inline".into(), 1));
        bench
            .run(&["verify", "oci:image", "--trust", "signer.crt", "--identity", "registry.example.com/other"])
            .refused(4, "D18");
        bench.run(&["verify", "oci:image", "--trust", "stranger.crt"]).refused(4, "E07");
        // Again: the same bytes. By another: in its place.
        sign(&bench, "signer", &["--inline", "--algorithm", algorithm, "--sequence", "3"]);
        assert_eq!(layout.index(), after, "N04");
        bench.run(&["pull", "oci:image", "--name", "app", "--require-signature", "--trust", "signer.crt"]).ok();
        bench.run(&["verify", "app", "--trust", "signer.crt"]).ok();
        sign(&bench, "stranger", &["--inline", "--algorithm", algorithm]);
        bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).refused(4, "E07");
        // Beside it an artifact of somebody trusted; they say the same.
        sign(&bench, "signer", &["--algorithm", algorithm]);
        verified(&bench, &[]);
    }
}

#[test]
fn d12_an_inline_seal_that_disagrees_with_an_artifact_is_a_refusal() {
    let (bench, mut layout) = bench();
    sign(&bench, "signer", &["--inline"]);
    let digest = layout.index()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let mut manifest: Value = serde_json::from_slice(&layout.read(&digest)).unwrap();
    let key = "composefs.merged.erofs.v1.fsverity-sha512-12";
    manifest["annotations"][key] = "0".repeat(128).into();
    layout.set_manifest(&manifest);
    sign(&bench, "signer", &[]);
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).refused(4, "D12");
}

#[test]
fn digests_without_signatures_are_claims() {
    let (bench, layout) = bench();
    bench.run(&["seal", "oci:image"]).ok();
    let inspected = bench.run(&["inspect", "oci:image", "--json"]).ok().json();
    let digests = bench.run(&["digest", "oci:image", "--json"]).ok().json();
    let merged = digests["roles"].as_array().unwrap().iter().find(|r| r["role"] == "merged").unwrap()["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(inspected["label"], format!("fsverity-sha512-12:{merged}"), "{digests}");
    let config = inspected["config"].as_str().unwrap();
    let config: Value = serde_json::from_slice(&layout.read(config)).unwrap();
    assert_eq!(config["config"]["Labels"]["containers.composefs.fsverity"], merged);
    // Again is no change; the label changes no tree.
    bench.run(&["seal", "oci:image"]).ok();
    assert_eq!(bench.run(&["inspect", "oci:image", "--json"]).ok().json()["image"], inspected["image"]);
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).refused(3, "C07");
    bench.run(&["seal", "oci:image", "--inline"]).ok();
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).refused(3, "C07");
    let report = bench.run(&["verify", "oci:image", "--json"]).ok().json();
    assert_eq!(report["seals"][0]["dialect"], "inline");
    // And then it is signed.
    sign(&bench, "signer", &[]);
    verified(&bench, &[]);
    bench.run(&["seal", "app"]).refused(2, "X04");
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
