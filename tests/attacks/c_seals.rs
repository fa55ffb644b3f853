//! Where seals are found: how many, which ones, good ones among bad ones.

use serde_json::{Value, json};

use crate::common::stranger;
use crate::forge::*;

const SBOM: &str = "application/spdx+json";

fn sbom(forge: &Forge, number: usize) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": SBOM,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": layerseal::digest::BlobDigest::of(b"{}").to_string(), "size": 2},
        "layers": [], "subject": forge.artifact["subject"], "annotations": {"number": number.to_string()},
    })
}

#[test]
fn c02_more_seals_than_the_budget_are_refused() {
    let (bench, forge) = sealed(&small());
    let copy = |number: usize| {
        let mut artifact = forge.artifact.clone();
        artifact["annotations"]["number"] = number.to_string().into();
        artifact
    };
    let with = |others: usize| -> Vec<Value> { (0..others).map(copy).chain([forge.artifact.clone()]).collect() };
    forge.layout.set_seals(&with(63));
    accepted(&bench);
    forge.layout.set_seals(&with(64));
    refused(&bench, "C02");
    let raw: Vec<Vec<u8>> = with(100).iter().map(|a| a.to_string().into_bytes()).collect();
    forge.put_raw(&raw);
    refused(&bench, "C02");
    // What is no seal pushes none out, however much of it there is.
    let sboms: Vec<Value> = (0..200).map(|n| sbom(&forge, n)).chain([forge.artifact.clone()]).collect();
    forge.layout.set_seals(&sboms);
    accepted(&bench);
    // One artifact listed often is one artifact.
    forge.layout.set_seals(&vec![forge.artifact.clone(); 200]);
    accepted(&bench);
}

#[test]
fn c01_the_fallback_tag_alone_is_enough() {
    let (bench, forge) = sealed(&small());
    forge.put_raw(&[forge.artifact.to_string().into_bytes()]);
    accepted(&bench);
    // What is not in the layout is found by --seal, and only by it.
    bench.run(&["export-signatures", "oci:image", "oci:seals"]).ok();
    forge.layout.set_seals(&[]);
    refused_outright(&bench, 3, "C07", &[]);
    bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--seal", "oci:seals"]).ok();
}

#[test]
fn c06_one_bad_artifact_never_hides_a_good_one() {
    let (bench, mut forge) = sealed(&small());
    let good = forge.artifact.clone();
    let mut bad: Vec<Value> = vec![sbom(&forge, 0)];
    forge.unbind();
    bad.push(forge.artifact.clone());
    forge.artifact = good.clone();
    forge.entry("merged")["size"] = 17.into();
    bad.push(forge.artifact.clone());
    forge.artifact = good.clone();
    forge.artifact["annotations"]["composefs.algorithm"] = "fsverity-md5-12".into();
    bad.push(forge.artifact.clone());
    forge.artifact = good.clone();
    forge.set_erofs("merged", &[0; 4096]);
    bad.push(forge.artifact.clone());
    forge.artifact = good.clone();
    let digest = forge.digest("merged");
    let by_stranger = der_by(&signer(stranger()), &digest);
    forge.set_blob("merged", &by_stranger);
    bad.push(forge.artifact.clone());
    for bad in &bad {
        for both in [[bad.clone(), good.clone()], [good.clone(), bad.clone()]] {
            forge.layout.set_seals(&both);
            accepted(&bench);
            bench.run(&["pull", "--require-signature", "--trust", "signer.crt", "oci:image"]).ok();
        }
        forge.layout.set_seals(std::slice::from_ref(bad));
        assert_ne!(bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).code, 0);
    }
    let all: Vec<Value> = bad.iter().cloned().chain([good]).collect();
    forge.layout.set_seals(&all);
    let run = bench.run(&["verify", "--json", "oci:image", "--trust", "signer.crt"]).ok().json();
    let verdicts: Vec<&str> = run["seals"].as_array().unwrap().iter().map(|s| s["verdict"].as_str().unwrap()).collect();
    // Seals first, whatever the index says.
    assert_eq!(verdicts, ["rejected", "rejected", "rejected", "rejected", "rejected", "accepted", "ignored"]);
}

#[test]
fn c06_artifacts_that_cannot_be_read_hide_no_good_one() {
    let (bench, forge) = sealed(&small());
    let good = forge.artifact.to_string().into_bytes();
    for bad in [b"{".to_vec(), b"\xff".to_vec(), vec![], vec![b' '; (4 << 20) + 1], b"[[[[".repeat(10_000)] {
        forge.put_raw(&[bad.clone(), good.clone()]);
        accepted(&bench);
        forge.put_raw(&[good.clone(), bad]);
        accepted(&bench);
    }
}

#[test]
fn c07_no_seal_and_seals_of_other_types_are_not_sealed() {
    let (bench, forge) = sealed(&small());
    for seals in [vec![], vec![sbom(&forge, 0)], vec![sbom(&forge, 0), sbom(&forge, 1)]] {
        forge.layout.set_seals(&seals);
        refused_outright(&bench, 3, "C07", &[]);
        // Nobody asked for a signature: the digests are all there is, and there are none.
        bench.run(&["verify", "oci:image"]).refused(3, "C07");
    }
    // Without --trust the image comes in, and is mounted by what its layers hold.
    bench.run(&["pull", "oci:image"]).ok();
    bench.run(&["verify", "image", "--trust", "signer.crt"]).refused(3, "C07");
    let mount = ["mount", "--require-signature", "--trust", "signer.crt", "--verity", "off", "image", "mnt"];
    bench.run(&mount).refused(3, "C07");
}

/// What the vault keeps is not believed either.
#[test]
fn c14_seals_kept_in_the_vault_are_verified_again() {
    let (bench, mut forge) = sealed(&small());
    std::fs::create_dir(bench.path("mnt")).unwrap();
    bench.run(&["pull", "--require-signature", "--trust", "signer.crt", "oci:image"]).ok();
    let mount = ["mount", "--require-signature", "--trust", "signer.crt", "--verity", "off", "image", "mnt"];
    let signature = forge.entry("merged")["digest"].as_str().unwrap().replace("sha256:", "");
    let path = bench.path("vault/blobs/sha256").join(signature);
    let good = std::fs::read(&path).unwrap();
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    for bad in [changed, good[1..].to_vec()] {
        std::fs::write(&path, bad).unwrap();
        bench.run(&["verify", "image", "--trust", "signer.crt"]).refused(4, "C04");
        bench.run(&mount).refused(4, "C04");
    }
    std::fs::remove_file(&path).unwrap();
    bench.run(&mount).refused(4, "C04");
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    bench.run(&mount).refused(4, "C04");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, good).unwrap();
    bench.run(&["verify", "image", "--trust", "signer.crt"]).ok();
    // The EROFS image was replaced by another: measured before it is mounted.
    let rootfs = forge.digest("rootfs");
    let object = bench.path("vault/objects").join(rootfs.object_path());
    std::fs::remove_file(&object).unwrap();
    std::fs::write(&object, forge.erofs("layer-0")).unwrap();
    bench.run(&mount).refused(4, "G03");
    // A seal that was not accepted, with the mark of one that was.
    forge.unbind();
    let raw = forge.artifact.to_string();
    let digest = layerseal::digest::BlobDigest::of(raw.as_bytes()).hex();
    let image = bench.path("vault/images").join(forge.layout.digest.hex());
    std::fs::remove_dir_all(image.join("seals")).unwrap();
    std::fs::create_dir(image.join("seals")).unwrap();
    std::fs::write(bench.path("vault/blobs/sha256").join(&digest), raw).unwrap();
    std::fs::write(image.join("seals").join(&digest), "").unwrap();
    std::fs::write(image.join(format!("checked.{digest}")), "").unwrap();
    bench.run(&mount).refused(4, "D16");
}
