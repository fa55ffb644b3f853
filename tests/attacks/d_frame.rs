//! The shape of artifacts and documents: subject, types, algorithms, JSON, platforms, other dialects.

use layerseal::digest::{Algorithm, verity_digest};
use serde_json::{Value, json};

use crate::common::{self, Bench, Layout, stranger};
use crate::forge::*;

#[test]
fn d01_an_artifact_about_no_image_or_another_is_refused() {
    let (bench, good) = sealed(&small());
    let artifact = good.artifact;
    let mut forge = Forge { layout: good.layout, artifact: artifact.clone() };
    let other =
        json!({"mediaType": MANIFEST, "digest": layerseal::digest::BlobDigest::of(b"other").to_string(), "size": 5});
    for subject in [None, Some(Value::Null), Some(other)] {
        forge.artifact = artifact.clone();
        let object = forge.artifact.as_object_mut().unwrap();
        object.remove("subject");
        object.extend(subject.map(|s| ("subject".to_owned(), s)));
        // An index that lists it for this image may lie; an honest one does not list it at all.
        forge.put_raw(&[forge.artifact.to_string().into_bytes()]);
        refused(&bench, "D01");
        forge.put();
        refused_outright(&bench, 3, "C07", &[]);
        // A person who names the layout says "this is the seal".
        let seal = Layout::new(&bench.path("seal"), &small());
        let mut entry = seal.descriptor(MANIFEST, forge.artifact.to_string().as_bytes());
        entry["artifactType"] = artifact["artifactType"].clone();
        seal.set_index(json!([entry]));
        refused_outright(&bench, 4, "D01", &["--seal", "oci:seal"]);
    }
    // The drafts' artifacts give a wrong size here.
    forge.artifact = artifact;
    forge.artifact["subject"]["size"] = 1.into();
    forge.put();
    accepted(&bench);
}

#[test]
fn d02_artifacts_of_another_shape_are_refused_or_not_ours() {
    let (bench, good) = sealed(&small());
    let artifact = good.artifact;
    let mut forge = Forge { layout: good.layout, artifact: artifact.clone() };
    let at = forge.at("merged");
    let carried = forge.at("erofs-merged");
    type Change<'a> = &'a dyn Fn(&mut Value);
    let refusals: [Change<'_>; 9] = [
        &|a| a["schemaVersion"] = 1.into(),
        &|a| a["mediaType"] = INDEX.into(),
        &|a| drop(a.as_object_mut().unwrap().remove("mediaType")),
        &|a| a["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json".into(),
        &|a| a["config"]["digest"] = a["subject"]["digest"].clone(),
        &|a| a["layers"][at]["mediaType"] = EROFS.into(),
        &|a| a["layers"][carried]["mediaType"] = PKCS7.into(),
        &|a| drop(a["annotations"].as_object_mut().unwrap().remove("composefs.algorithm")),
        &|a| a["artifactType"] = CANONICAL.into(),
    ];
    for change in refusals {
        forge.artifact = artifact.clone();
        change(&mut forge.artifact);
        forge.put();
        refused(&bench, "D02");
    }
    // Roles that have no image stand before those that have one: out of order, whatever else is wrong.
    forge.artifact = artifact.clone();
    forge.artifact["layers"][carried]["annotations"]["composefs.erofs.type"] = "manifest".into();
    forge.put();
    refused(&bench, "D05");
    let foreign: [Change<'_>; 3] = [
        &|a| a["artifactType"] = "application/vnd.example".into(),
        &|a| a["artifactType"] = "application/vnd.composefs.erofs-alongside.v2".into(),
        &|a| drop(a.as_object_mut().unwrap().remove("artifactType")),
    ];
    for change in foreign {
        forge.artifact = artifact.clone();
        change(&mut forge.artifact);
        forge.put();
        refused_outright(&bench, 3, "C07", &[]);
    }
}

/// The seal as `metadata.v1`, without images and with one key for role and algorithm.
fn as_metadata(forge: &Forge) -> Value {
    let mut artifact = forge.artifact.clone();
    artifact["artifactType"] = METADATA.into();
    artifact["annotations"].as_object_mut().unwrap().remove("composefs.algorithm");
    let keys = [
        ("manifest", "manifest"),
        ("config", "config"),
        ("merged", "merged.erofs.v1"),
        ("layer-0", "layer.erofs.v1"),
        ("rootfs", "rootfs.erofs.v1"),
    ];
    let entries = keys.map(|(role, key)| {
        let mut entry = forge.artifact["layers"][forge.at(role)].clone();
        entry["annotations"] =
            json!({format!("composefs.{key}.{}", forge.algorithm().name()): forge.digest(role).to_hex()});
        entry
    });
    artifact["layers"] = json!(entries);
    artifact
}

/// The container's tree is no role of upstream's, whose reader takes no entry that it does not know: it is in the
/// annotations of the artifact, and what we write has no other entries than upstream's.
#[test]
fn d08_what_upstream_does_not_know_is_where_it_does_not_look() {
    let (bench, mut forge) = sealed(&small());
    let mut good = as_metadata(&forge);
    let rootfs = good["layers"].as_array_mut().unwrap().pop().unwrap();
    let key = format!("composefs.rootfs.erofs.v1.{}", forge.algorithm().name());
    let (sig, hex) = (format!("{key}.sig"), rootfs["annotations"][&key].clone());
    let der = openssl::base64::encode_block(&der(&forge.digest("rootfs")));
    good["annotations"][&key] = hex.clone();
    good["annotations"][&sig] = der.into();
    forge.artifact = good.clone();
    forge.put();
    accepted(&bench);
    let mut bad = |case: &str, change: &dyn Fn(&mut Value)| {
        forge.artifact = good.clone();
        change(&mut forge.artifact);
        forge.put();
        refused(&bench, case);
    };
    bad("D05", &|artifact| artifact["layers"].as_array_mut().unwrap().push(rootfs.clone()));
    bad("D08", &|artifact| drop(artifact["annotations"].as_object_mut().unwrap().remove(&key)));
    bad("D06", &|artifact| artifact["annotations"]["composefs.merged.erofs.v1.fsverity-sha512-12"] = hex.clone());
    bad("D09", &|artifact| artifact["annotations"]["composefs.rootfs.erofs.v1.fsverity-sha256-12"] = hex.clone());
    // As we write it.
    let dir = tempfile::tempdir().unwrap();
    let (cert, secret) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    std::fs::write(&cert, common::signer().cert.to_pem().unwrap()).unwrap();
    std::fs::write(&secret, common::signer().key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let layout = Layout::new(&dir.path().join("image"), &small());
    let image = format!("oci:{}", dir.path().join("image").display());
    let words =
        ["sign", &image, "--cert", cert.to_str().unwrap(), "--key", secret.to_str().unwrap(), "--identity", "a/b"];
    let output = std::process::Command::new(common::binary()).args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let index = layout.index();
    let ours = index["manifests"].as_array().unwrap().iter().find(|e| e["artifactType"] == METADATA).unwrap().clone();
    let artifact: Value = serde_json::from_slice(&layout.read(ours["digest"].as_str().unwrap())).unwrap();
    let known = ["manifest.fsverity", "config.fsverity", "merged.erofs.v1.fsverity", "layer.erofs.v1.fsverity"];
    for entry in artifact["layers"].as_array().unwrap() {
        let keys: Vec<&String> = entry["annotations"].as_object().unwrap().keys().collect();
        let [key] = keys[..] else { panic!("{keys:?}") };
        assert!(known.iter().any(|known| key.starts_with(&format!("composefs.{known}-"))), "{key}");
    }
    assert!(artifact["annotations"].as_object().unwrap().keys().any(|k| k.starts_with("composefs.rootfs.erofs.v1.")));
}

#[test]
fn d08_metadata_entries_say_one_thing_each() {
    let (bench, mut forge) = sealed(&small());
    let good = as_metadata(&forge);
    forge.artifact = good.clone();
    forge.put();
    accepted(&bench);
    let merged = good["layers"][2]["annotations"]["composefs.merged.erofs.v1.fsverity-sha512-12"].clone();
    let sha256 = "a".repeat(64);
    for (case, annotations) in [
        (
            "D08",
            json!({"composefs.merged.erofs.v1.fsverity-sha512-12": merged, "composefs.merged.erofs.v1.fsverity-sha256-12": sha256}),
        ),
        (
            "D08",
            json!({"composefs.merged.erofs.v1.fsverity-sha512-12": merged, "composefs.config.fsverity-sha512-12": merged}),
        ),
        ("D09", json!({"composefs.merged.erofs.v1.fsverity-sha512-12.sig": merged})),
        ("D08", json!({"composefs.merged.erofs.v2.fsverity-sha512-12": merged})),
        ("D08", json!({"composefs.unknown.fsverity-sha512-12": merged})),
        ("D08", json!({"composefs.merged": merged})),
        ("D08", json!({})),
        ("D09", json!({"composefs.merged.erofs.v1.fsverity-sha256-12": sha256})),
        ("D09", json!({"composefs.merged.erofs.v1.fsverity-sha512-16": merged})),
        ("D09", json!({"composefs.merged.erofs.v1.fsverity-sha256-12": merged})),
        ("D09", json!({"composefs.merged.erofs.v1.fsverity-sha1-12": merged})),
        ("D05", json!({"composefs.config.fsverity-sha512-12": merged})),
    ] {
        forge.artifact = good.clone();
        forge.artifact["layers"][2]["annotations"] = annotations;
        forge.put();
        refused(&bench, case);
    }
    forge.artifact = good.clone();
    forge.artifact["layers"].as_array_mut().unwrap().swap(0, 1);
    forge.put();
    refused(&bench, "D05");
    forge.artifact["layers"] = json!([]);
    forge.put();
    refused(&bench, "D02");
}

#[test]
fn d09_algorithms_are_one_and_known() {
    let (bench, good) = sealed(&small());
    let artifact = good.artifact;
    let mut forge = Forge { layout: good.layout, artifact: artifact.clone() };
    for name in [
        "fsverity-sha256-12",
        "fsverity-sha512-16",
        "fsverity-sha256-16",
        "fsverity-md5-12",
        "sha512",
        "FSVERITY-SHA512-12",
        "",
        "fsverity-sha512-12 ",
    ] {
        forge.artifact = artifact.clone();
        forge.artifact["annotations"]["composefs.algorithm"] = name.into();
        forge.put();
        refused(&bench, "D09");
    }
    forge.artifact = artifact.clone();
    let hex = forge.digest("merged").to_hex();
    let mixed = verity_digest(Algorithm::Sha256, b"x").to_hex();
    for bad in [
        mixed,
        hex.to_uppercase(),
        hex[1..].to_owned(),
        format!("{hex}0"),
        format!("{hex} "),
        format!("sha512:{hex}"),
        String::new(),
        hex.replace('0', "g"),
    ] {
        forge.artifact = artifact.clone();
        forge.entry("merged")["annotations"][DIGEST] = bad.into();
        forge.put();
        refused(&bench, "D09");
    }
    // A statement of the other algorithm, signed, in this seal.
    forge.artifact = artifact;
    let sha256 = verity_digest(Algorithm::Sha256, b"x");
    forge.rebind(|b| {
        b.algorithm = Algorithm::Sha256;
        b.merged = Some(sha256);
        b.rootfs = sha256;
        b.layers.iter_mut().for_each(|l| l.2 = sha256);
    });
    forge.put();
    refused(&bench, "D09");
}

#[test]
fn d11_either_of_two_signers_is_enough() {
    let (bench, forge) = sealed(&small());
    bench.signer("stranger", stranger());
    bench.run(&["sign", "oci:image", "--cert", "stranger.crt", "--key", "stranger.key"]).ok();
    assert_eq!(forge.layout.seals().len(), 2);
    for trust in ["signer.crt", "stranger.crt"] {
        bench.run(&["verify", "oci:image", "--trust", trust]).ok();
    }
    forge.layout.set_seals(&forge.layout.seals()[1..]);
    refused(&bench, "E07");
}

/// An index of two platforms whose second entry is the sealed image.
fn index(bench: &Bench, forge: &Forge, ours: &str, theirs: &str) {
    let layout = Layout::new(&bench.path("arm"), &small());
    let mut other = layout.manifest.clone();
    other["annotations"] = json!({"for": "another platform"});
    let other = other.to_string();
    let mut entries = [
        forge.layout.descriptor(MANIFEST, other.as_bytes()),
        forge.layout.descriptor(MANIFEST, forge.layout.manifest.to_string().as_bytes()),
    ];
    for (entry, architecture) in entries.iter_mut().zip([theirs, ours]) {
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    let mut entry = forge.layout.descriptor(INDEX, index.as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let artifact = forge.layout.descriptor(MANIFEST, forge.artifact.to_string().as_bytes());
    forge.layout.set_index(json!([entry, artifact]));
}

#[test]
fn d13_the_image_of_the_platform_is_taken_or_none() {
    let (bench, forge) = sealed(&small());
    index(&bench, &forge, "amd64", "arm64");
    let run = bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--platform", "linux/amd64"]).ok();
    assert!(run.stdout.contains(&forge.layout.digest.to_string()), "{}", run.stdout);
    // The seal of one platform says nothing about the other.
    bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--platform", "linux/s390x"]).refused(4, "D13");
    bench
        .run(&["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key", "--platform", "linux/s390x"])
        .refused(4, "D13");
    index(&bench, &forge, "s390x", "riscv64");
    if ["x86_64", "aarch64"].contains(&std::env::consts::ARCH) {
        refused(&bench, "D13");
    }
}

#[test]
fn d13_an_index_that_calls_an_image_another_platforms_is_refused() {
    // The index is not signed: whoever serves it could have a host run the image of another platform,
    // sealed as it is.
    let (bench, forge) = sealed(&small());
    index(&bench, &forge, "arm64", "amd64");
    bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--platform", "linux/arm64"]).refused(4, "D13");
    bench
        .run(&["pull", "--require-signature", "oci:image", "--trust", "signer.crt", "--platform", "linux/arm64"])
        .refused(4, "D13");
    assert_eq!(bench.vault_files(), [""; 0]);
}

/// Ways to make a JSON object, which holds `member`, into what two readers could
/// understand in two ways, or into no JSON.
fn spoiled(json: &str, member: &str) -> Vec<Vec<u8>> {
    let body = json.strip_prefix('{').unwrap();
    assert!(json.contains(member));
    vec![
        format!("{{{member},{body}").into_bytes(),
        format!("{{{},{body}", member.replacen('s', "\\u0073", 1)).into_bytes(),
        format!("\u{feff}{json}").into_bytes(),
        format!("{json} x").into_bytes(),
        format!("{json}{json}").into_bytes(),
        format!("{json}\0").into_bytes(),
        [b"{\"x\":\"\xff\",", body.as_bytes()].concat(),
        format!("{{\"x\":NaN,{body}").into_bytes(),
        format!("{{\"x\":1e999,{body}").into_bytes(),
        format!("{{\"x\":{}1{},{body}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes(),
        json.as_bytes()[..json.len() - 1].to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"".to_vec(),
    ]
}

const VERSION: &str = "\"schemaVersion\":2";

/// [`spoiled`], and numbers that are none.
fn spoiled_document(json: &str) -> Vec<Vec<u8>> {
    let numbers = ["1e400", "-2", "\"2\"", "2.5", "99999999999999999999999"];
    let numbers = numbers.map(|n| json.replace(VERSION, &format!("\"schemaVersion\":{n}")).into_bytes());
    spoiled(json, VERSION).into_iter().chain(numbers).collect()
}

#[test]
fn d14_manifest_artifact_and_index_are_strict_json() {
    let (bench, mut forge) = sealed(&small());
    for bad in spoiled_document(&forge.artifact.to_string()) {
        forge.put_raw(&[bad]);
        refused(&bench, "D14");
    }
    let manifest = forge.layout.manifest.to_string();
    for bad in spoiled_document(&manifest) {
        forge.layout.set_raw_manifest(&bad);
        refused(&bench, "D14");
    }
    forge.layout.set_raw_manifest(manifest.as_bytes());
    for bad in spoiled_document(&forge.layout.index().to_string()) {
        std::fs::write(bench.path("image/index.json"), &bad).unwrap();
        refused(&bench, "D14");
    }
}

#[test]
fn d14_config_is_strict_json() {
    let (bench, mut forge) = sealed(&small());
    let config = String::from_utf8(image(&forge.layout).config).unwrap();
    for bad in spoiled(&config, "\"os\":\"linux\"") {
        let mut manifest = forge.layout.manifest.clone();
        manifest["config"] = forge.layout.descriptor("application/vnd.oci.image.config.v1+json", &bad);
        forge.layout.set_manifest(&manifest);
        refused(&bench, "D14");
    }
}

#[test]
fn d15_lists_of_digests_are_bounded() {
    let (bench, mut forge) = sealed(&small());
    let digest = format!("sha256:{}", "a".repeat(64));
    let mut manifest = forge.layout.manifest.clone();
    let mut set = |value: String| {
        manifest["layers"][0]["annotations"] = json!({"io.containers.composefs.digest": value});
        forge.layout.set_manifest(&manifest);
    };
    set(format!("{digest},{}", digest.replace("aa", "bb")));
    assert_eq!(
        bench.run(&["inspect", "--json", "oci:image"]).ok().json()["layers"][0]["claims"].as_array().unwrap().len(),
        2
    );
    for bad in [
        vec![digest.as_str(); 10_000].join(","),
        String::new(),
        format!("{digest},"),
        format!("x{digest}"),
        "sha256:".to_owned(),
        digest.replace("sha256", "sha512"),
    ] {
        set(bad);
        bench.run(&["inspect", "oci:image"]).refused(4, "D15");
        bench.run(&["inspect", "--json", "oci:image"]).refused(4, "D15");
    }
}

#[test]
fn d19_seals_of_containerd_are_refused_by_name() {
    let (bench, mut forge) = sealed(&small());
    forge.artifact["artifactType"] = "application/vnd.cncf.notary.signature".into();
    forge.entries().truncate(1);
    forge.entries()[0]["mediaType"] = "application/vnd.oci.mt.dm-verity.signature.v1+pkcs7".into();
    forge.put();
    refused(&bench, "D19");
}
