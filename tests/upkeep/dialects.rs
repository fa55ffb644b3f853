//! Every dialect that is written, read again; and seals of several dialects and signers beside each other.

use serde_json::Value;

use crate::anchors::sign_files;
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
        sign_files(&bench, "signer", " -nocerts");
        bench.run(&["attach", "oci:image", "--signatures", "tosign", "--format", format]).ok();
        assert_eq!(verified(&bench, &[])["seals"][0]["dialect"], name);
    }
}

/// What `verify` says of the image with these options: `accepted`, or the case.
fn verdict(bench: &Bench, more: &[&str]) -> String {
    let run = bench.run(&[&["verify", "oci:image", "--trust", "signer.crt"], more].concat());
    if run.code == 0 {
        return "accepted".into();
    }
    run.stderr.rsplit_once("[R-").unwrap().1.trim().trim_end_matches(']').to_owned()
}

/// A row of the table: how it is written, and what is said of it with its statement and without.
fn row(seal: &str, place: &str, written: &str, with: &str, without: [&str; 2]) -> String {
    let [strict, local] = without;
    let without = if strict == local { strict.to_owned() } else { format!("{strict}; `--binding local`: {local}") };
    format!("| {seal} | {place} | {written} | {with} | {without} |\n")
}

/// The part of docs/seal-format.md between its two marks.
fn documented() -> (String, String, String) {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/seal-format.md")).unwrap();
    let (before, rest) = text.split_once("<!-- dialects: made by tests/upkeep/dialects.rs -->\n").unwrap();
    let (table, after) = rest.split_once("<!-- end -->\n").unwrap();
    (before.to_owned(), table.to_owned(), after.to_owned())
}

/// Every cell of the table in docs/seal-format.md is what was just seen. `LAYERSEAL_BLESS=1` writes it anew.
#[test]
fn the_table_of_dialects_is_what_was_seen() {
    let mut table =
        String::from("| seal | where | written by | with a statement | without one |\n|---|---|---|---|---|\n");
    let places = [
        "OCI artifact, `subject` = the image; carries the EROFS images",
        "the same without EROFS images",
        "OCI artifact; one annotation for each role",
    ];
    for ((format, name), place) in FORMATS.into_iter().zip(places) {
        let (bench, layout) = bench();
        sign(&bench, "signer", &["--format", format]);
        let with = verdict(&bench, &[]);
        let mut seal = layout.seals().remove(0);
        for key in ["layerseal.binding.v2", "layerseal.binding.v2.sig"] {
            seal["annotations"].as_object_mut().unwrap().remove(key).unwrap();
        }
        layout.set_seals(&[seal]);
        let without = [verdict(&bench, &[]), verdict(&bench, &["--binding", "local"])];
        let written = if format == "metadata" { "`sign`".into() } else { format!("`sign --format {format}`") };
        let seal = format!("`application/vnd.composefs.{name}`");
        table += &row(&seal, place, &written, &with, [&without[0], &without[1]]);
    }
    let manifest_of = |layout: &Layout| -> Value {
        let digest = layout.index()["manifests"][0]["digest"].as_str().unwrap().to_owned();
        serde_json::from_slice(&layout.read(&digest)).unwrap()
    };
    {
        let (bench, mut layout) = bench();
        sign(&bench, "signer", &["--inline"]);
        let with = verdict(&bench, &[]);
        let mut manifest = manifest_of(&layout);
        for key in ["layerseal.binding.v2", "layerseal.binding.v2.sig"] {
            manifest["annotations"].as_object_mut().unwrap().remove(key).unwrap();
        }
        layout.set_manifest(&manifest);
        let without = [verdict(&bench, &[]), verdict(&bench, &["--binding", "local"])];
        let place = "annotations of the image manifest and its descriptors";
        table += &row("inline `composefs.*.fsverity-*`", place, "`sign --inline`", &with, [&without[0], &without[1]]);
        bench.run(&["seal", "oci:image", "--inline"]).ok();
        let claim = [verdict(&bench, &[]), verdict(&bench, &["--binding", "local"])];
        table += &row("the same without signatures", "the same", "`seal --inline`", "-", [&claim[0], &claim[1]]);
    }
    {
        let (bench, mut layout) = bench();
        bench.run(&["seal", "oci:image"]).ok();
        let claim = [verdict(&bench, &[]), verdict(&bench, &["--binding", "local"])];
        assert!(bench.run(&["inspect", "oci:image", "--json"]).ok().json()["label"].is_string());
        let place = "label of the image config; shown by `inspect`";
        table += &row("`containers.composefs.fsverity`", place, "`seal`", "-", [&claim[0], &claim[1]]);
        let mut manifest = manifest_of(&layout);
        let digests = format!("sha256:{},sha512:{}", "a".repeat(64), "b".repeat(128));
        manifest["layers"][0]["annotations"] = serde_json::json!({"io.containers.composefs.digest": digests});
        layout.set_manifest(&manifest);
        let claim = [verdict(&bench, &[]), verdict(&bench, &["--binding", "local"])];
        let shown = bench.run(&["inspect", "oci:image", "--json"]).ok().json();
        assert_eq!(shown["layers"][0]["claims"].as_array().unwrap().len(), 2);
        let place = "annotation of a layer descriptor; shown by `inspect --json`";
        table += &row("`io.containers.composefs.digest`", place, "no", "-", [&claim[0], &claim[1]]);
    }
    {
        let (bench, layout) = bench();
        sign(&bench, "signer", &[]);
        let mut seal = layout.seals().remove(0);
        seal["artifactType"] = "application/vnd.cncf.notary.signature".into();
        seal["layers"][0]["annotations"] = serde_json::json!({"io.containerd.dm-verity.root-hash": "aa"});
        layout.set_seals(&[seal]);
        let refused = [verdict(&bench, &[]), verdict(&bench, &["--binding", "local"])];
        table +=
            &row("dm-verity layer signatures", "OCI artifact, for containerd", "no", "-", [&refused[0], &refused[1]]);
    }
    let (before, written, after) = documented();
    if std::env::var_os("LAYERSEAL_BLESS").is_some() {
        let marks = ["<!-- dialects: made by tests/upkeep/dialects.rs -->\n", "<!-- end -->\n"];
        let text = [before.as_str(), marks[0], &table, marks[1], &after].concat();
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/seal-format.md"), text).unwrap();
    } else {
        assert_eq!(written, table, "LAYERSEAL_BLESS=1 writes it anew");
    }
}

/// `merged.bootable` is another image of the same layers, for booting: its signature must be good where there is
/// one, and nobody asks for it.
#[test]
fn a_bootable_image_is_verified_where_it_is_sealed_and_never_asked_for() {
    use layerseal::digest::{Algorithm, VerityDigest};
    use layerseal::pki::{Signer, formatted_digest};

    let (bench, layout) = bench();
    sign(&bench, "signer", &["--format", "metadata"]);
    verified(&bench, &[]);
    let seal = layout.seals().remove(0);
    let digest = VerityDigest::from_hex(Algorithm::Sha512, &"ab".repeat(64)).unwrap();
    let der = |who: &crate::common::Signer, over: &VerityDigest| {
        let key = who.key.private_key_to_pem_pkcs8().unwrap();
        let signer = Signer::new(&who.cert.to_pem().unwrap(), &key, None, "test").unwrap();
        signer.sign(&formatted_digest(2, over.as_bytes())).unwrap()
    };
    let merged =
        seal["layers"].as_array().unwrap().iter().position(|l| {
            l["annotations"].as_object().unwrap().keys().any(|k| k.starts_with("composefs.merged.erofs"))
        });
    let with = |der: &[u8], at: usize| {
        let mut seal = seal.clone();
        let mut entry = layout.descriptor("application/vnd.composefs.signature.v1+pkcs7", der);
        layout.blob(der);
        entry["annotations"] =
            serde_json::json!({"composefs.merged.bootable.erofs.v1.fsverity-sha512-12": digest.to_hex()});
        seal["layers"].as_array_mut().unwrap().insert(at, entry);
        layout.set_seals(&[seal]);
        verdict(&bench, &[])
    };
    let after = merged.unwrap() + 1;
    assert_eq!(with(&der(signer(), &digest), after), "accepted");
    let roles = verified(&bench, &[]);
    assert!(roles["seals"][0]["roles"].as_array().unwrap().iter().any(|r| r["role"] == "merged.bootable"), "{roles}");
    assert_eq!(with(&der(stranger(), &digest), after), "E07");
    let other = VerityDigest::from_hex(Algorithm::Sha512, &"cd".repeat(64)).unwrap();
    assert_eq!(with(&der(signer(), &other), after), "E01");
    // Elsewhere it would be read as something else by somebody else.
    assert_eq!(with(&der(signer(), &digest), 0), "D05");
}
