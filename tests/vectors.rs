//! Images and seals made elsewhere: the digests that other composefs tools compute, and the verdicts
//! that must come out.
#![allow(missing_docs)]

use std::path::Path;
use support::common;

use common::{Bench, large_vectors, vectors};
use layerseal::digest::{Algorithm, verity_digest};
use layerseal::error::{Case, Result};
use layerseal::image::{Contents, ContentsRequest, Keep, ReadOnly, Writer};
use layerseal::oci::{Budget, Image, Layout, Platform};

/// Images that have no merged tree, and why.
const REFUSED: [(&str, Case); 3] =
    [("edge-nousr", Case::H12NoUsr), ("edge-through-symlink", Case::H03Path), ("edge-hardlink-fwd", Case::H03Path)];

fn contents(dir: &Path, image: &str, algorithm: Algorithm) -> Result<Contents> {
    let budget = Budget::STANDARD;
    let layout = Layout::open(&dir.join("oci").join(image))?;
    let digest = layout.resolve(Some("latest"), &budget)?;
    let image = Image::read(layout.store(), &digest, &Platform::host(), &budget)?;
    Contents::read(
        &image,
        ContentsRequest { algorithm, keep: Keep::Entries },
        &ReadOnly { store: layout.store(), algorithm },
        &budget,
        &|_| (),
    )
}

fn algorithm(name: &str) -> Algorithm {
    match name {
        "sha256-12" => Algorithm::Sha256,
        "sha512-12" => Algorithm::Sha512,
        other => panic!("{other}"),
    }
}

#[test]
fn h02_merged_digests_in_all_versions() {
    let dir = vectors();
    let table = std::fs::read_to_string(dir.join("merged-digests.tsv")).unwrap();
    let mut rows = 0;
    for line in table.lines() {
        let [image, "merged", name, version, wanted] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        rows += 1;
        // The large ones.
        if image.starts_with("basic") && !dir.join("oci").join(image).exists() {
            support::skip!(part: "{image} is not in {}; set LAYERSEAL_VECTORS", dir.display());
            continue;
        }
        let made = contents(&dir, image, algorithm(name)).and_then(|c| {
            let layers = c.entries()?.iter().map(Vec::as_slice);
            let bytes = Writer::merged_version(c.images.algorithm, layers, version[1..].parse().unwrap())?;
            if version == "v1" {
                assert!(*bytes == *c.images.merged.as_ref().unwrap().0);
            }
            Ok(verity_digest(c.images.algorithm, &bytes).to_hex())
        });
        match made {
            Ok(digest) => assert_eq!(digest, wanted, "{line}"),
            Err(refusal) => assert_eq!(wanted, "ERROR", "{line}: {refusal}"),
        }
    }
    assert!(rows >= 60, "{rows} rows");
}

#[test]
fn h03_h12_images_without_a_merged_tree() {
    let dir = vectors();
    for (image, case) in REFUSED {
        let made = contents(&dir, image, Algorithm::Sha256);
        let why = match made {
            // The container's tree is another matter.
            Ok(contents) => contents.images.merged.unwrap_err(),
            Err(refusal) => refusal,
        };
        assert_eq!(why.case(), case, "{image}");
    }
}

#[test]
fn h02_the_merged_tree_as_a_dumpfile() {
    let Some(dir) = large_vectors() else { return };
    use composefs::fsverity::Sha256HashValue;
    let made = contents(&dir, "basic3", Algorithm::Sha256).unwrap();
    let layers = made.entries().unwrap().iter().map(Vec::as_slice);
    let tree = layerseal::image::Images::<Sha256HashValue>::build(layers).unwrap().into_merged().unwrap();
    let wanted = std::fs::read_to_string(dir.join("basic3.merged.sha256.dump")).unwrap();
    let (ours, theirs) = (layerseal::image::dumpfile(&tree).unwrap(), wanted);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&ours), lines(&theirs));
}

#[test]
fn cases_have_their_verdicts() {
    let Some(dir) = large_vectors() else { return };
    let bench = Bench::new();
    let table = std::fs::read_to_string(dir.join("cases/cases.tsv")).unwrap();
    let mut rows = 0;
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [case, image, key, expected, note, ..] = fields[..] else { panic!("{line}") };
        let (image, seal) = (
            format!("oci:{}:latest", dir.join(image).display()),
            format!("oci:{}", dir.join("cases").join(case).display()),
        );
        let key = dir.join("keys").join(key).display().to_string();
        let args = ["verify", &image, "--seal", &seal, "--trust", &key, "--binding", "local", "--json"];
        let run = bench.run(&args);
        assert_eq!(run.code == 0, expected == "accept", "{line}\n{}\n{}", run.stdout, run.stderr);
        if note.contains("dates = \"ignore\"") {
            bench.run(&[&args[..], &["--dates", "ignore"]].concat()).ok();
        }
        // None of them has a binding statement: the default refuses them all.
        assert_ne!(bench.run(&["verify", &image, "--seal", &seal, "--trust", &key]).code, 0, "{line}");
        rows += 1;
    }
    assert!(rows >= 16, "{rows} rows");
}

#[test]
fn upstream_seals_verify_under_a_local_binding() {
    let Some(dir) = large_vectors() else { return };
    let bench = Bench::new();
    let key = dir.join("keys/signer.crt").display().to_string();
    for (name, dialect) in [
        ("july-basic3-sha256", "metadata.v1"),
        ("july-basic3-sha512", "metadata.v1"),
        ("april-basic3-sha256", "erofs-alongside.v1"),
    ] {
        let image = format!("oci:{}", dir.join("upstream").join(name).display());
        let run = bench.run(&["verify", &image, "--trust", &key, "--binding", "local", "--json"]).ok();
        assert_eq!(run.json()["seals"][0]["dialect"], dialect, "{name}");
        bench.run(&["verify", &image, "--trust", &key]).refused(4, "D16");
        bench
            .run(&[
                "verify",
                &image,
                "--trust",
                &dir.join("keys/other.crt").display().to_string(),
                "--binding",
                "local",
            ])
            .refused(4, "E07");
    }
}

/// The July draft signs layer images without whiteouts and with every extended attribute: we make
/// the same ones to compare.
#[test]
fn h02_layer_images_of_the_inline_sample() {
    let Some(dir) = large_vectors() else { return };
    let raw = std::fs::read(dir.join("upstream/basic3.sha256.inline.manifest-in-repo.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&raw).unwrap();
    let made = contents(&dir, "basic3", Algorithm::Sha256).unwrap();
    for (number, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
        let wanted = layer["annotations"]["composefs.layer.erofs.v1.fsverity-sha256-12"].as_str().unwrap();
        let image = Writer::layer_without_whiteouts(Algorithm::Sha256, &made.entries().unwrap()[number]).unwrap();
        assert_eq!(verity_digest(Algorithm::Sha256, &image).to_hex(), wanted, "layer {number}");
    }
    let wanted = manifest["annotations"]["composefs.merged.erofs.v1.fsverity-sha256-12"].as_str().unwrap();
    assert_eq!(made.images.merged_digest().unwrap().to_hex(), wanted);
}

/// The vectors of this repository are the small ones of all.
#[test]
fn small_vectors_are_those_of_the_large_directory() {
    let Some(dir) = large_vectors() else { return };
    let (ours, mut files) = (support::top().join("tests/vectors"), 0);
    for part in ["oci", "cases", "keys", "merged-digests.tsv"] {
        let mut same = |path: &Path| {
            let name = path.strip_prefix(&ours).unwrap();
            assert!(std::fs::read(path).unwrap() == std::fs::read(dir.join(name)).unwrap(), "{}", name.display());
            files += 1;
        };
        if ours.join(part).is_dir() { common::walk(&ours.join(part), &mut same) } else { same(&ours.join(part)) }
    }
    assert!(files > 150, "{files}");
}
