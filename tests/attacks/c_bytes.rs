//! Bytes against their descriptors: every blob of a sealed image, damaged in every way.

use serde_json::{Value, json};

use crate::common::two_layers;
use crate::forge::*;

/// The file with one byte changed, cut short, empty, longer.
fn damage(path: &std::path::Path, each: &mut dyn FnMut(&str)) {
    let good = std::fs::read(path).unwrap();
    let mut changed = good.clone();
    let middle = good.len() / 2;
    changed[middle] ^= 1;
    for (what, bytes) in [
        ("changed", changed),
        ("truncated", good[..good.len() - 1].to_vec()),
        ("empty", vec![]),
        ("longer", [&good[..], b"\n"].concat()),
    ] {
        std::fs::write(path, bytes).unwrap();
        each(what);
    }
    std::fs::remove_file(path).unwrap();
    each("missing");
    std::fs::create_dir(path).unwrap();
    each("a directory");
    std::fs::remove_dir(path).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", path).unwrap();
    each("a symlink");
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, good).unwrap();
}

#[test]
fn c04_every_blob_is_compared_with_its_digest() {
    let (bench, mut forge) = sealed(&two_layers());
    let manifest = forge.layout.manifest.clone();
    let mut blobs: Vec<(String, bool)> = vec![
        (forge.layout.digest.to_string(), true),
        (manifest["config"]["digest"].as_str().unwrap().to_owned(), true),
    ];
    for role in ["manifest", "config", "layer-0", "layer-1", "merged"] {
        blobs.push((forge.entry(role)["digest"].as_str().unwrap().to_owned(), true));
    }
    // These are read when the signatures have passed.
    for role in ["erofs-layer-0", "erofs-layer-1", "erofs-merged"] {
        blobs.push((forge.entry(role)["digest"].as_str().unwrap().to_owned(), false));
    }
    for layer in manifest["layers"].as_array().unwrap() {
        blobs.push((layer["digest"].as_str().unwrap().to_owned(), false));
    }
    for (digest, outright) in blobs {
        let path = forge.layout.blob_path(&digest.parse().unwrap());
        damage(&path, &mut |what| {
            let run = bench.run(&["verify", "oci:image", "--trust", "signer.crt"]);
            assert_eq!(run.code, 4, "{what}: {}", run.stderr);
            // What cannot even be read as a layer is refused before its digest is known.
            let case = ["C04", "C03", "H11"]
                .into_iter()
                .find(|c| run.stderr.contains(&format!("[R-{c}]")))
                .unwrap_or_else(|| panic!("{what}: {}", run.stderr));
            assert!(case == "C04" || !outright, "{what}: {}", run.stderr);
            if what == "changed" || what == "missing" {
                if outright {
                    refused(&bench, case)
                } else {
                    refused_with(&bench, 4, case, &[])
                };
            }
        });
    }
    accepted(&bench);
}

#[test]
fn c04_the_artifact_itself_is_compared_with_its_digest() {
    let (bench, forge) = sealed(&small());
    let digest =
        forge.layout.index()["manifests"].as_array().unwrap().iter().find(|e| e.get("artifactType").is_some()).unwrap()
            ["digest"]
            .clone();
    let path = forge.layout.blob_path(&digest.as_str().unwrap().parse().unwrap());
    damage(&path, &mut |what| {
        let run = bench.run(&["verify", "oci:image", "--trust", "signer.crt"]);
        assert!(run.code == 4 && run.stderr.contains("[R-C04]"), "{what}: {}", run.stderr);
    });
    accepted(&bench);
}

#[test]
fn c04_sizes_in_descriptors_are_compared() {
    let (bench, good) = sealed(&small());
    let artifact = good.artifact;
    let mut forge = Forge { layout: good.layout, artifact: artifact.clone() };
    let wrong = |size: u64| [size - 1, size + 1, 1];
    let size = |entry: &Value| entry["size"].as_u64().unwrap();
    // In the artifact, which is not signed.
    for (role, outright) in
        [("manifest", true), ("merged", true), ("layer-0", true), ("erofs-merged", false), ("erofs-layer-0", false)]
    {
        for other in wrong(size(forge.entry(role))) {
            forge.artifact = artifact.clone();
            forge.entry(role)["size"] = other.into();
            forge.put();
            if outright {
                refused(&bench, "C04")
            } else {
                refused_with(&bench, 4, "C04", &[])
            };
        }
        forge.artifact = artifact.clone();
    }
    // In the manifest, sealed as it is.
    let manifest = forge.layout.manifest.clone();
    for (pointer, outright) in [("/config", true), ("/layers/0", false)] {
        for other in wrong(size(manifest.pointer(pointer).unwrap())) {
            let mut changed = manifest.clone();
            changed.pointer_mut(pointer).unwrap()["size"] = other.into();
            forge.layout.set_manifest(&changed);
            forge.artifact = artifact.clone();
            forge.follow_image();
            forge.put();
            if outright {
                refused(&bench, "C04")
            } else {
                refused_with(&bench, 4, "C04", &[])
            };
        }
    }
    forge.layout.set_manifest(&manifest);
    // In the index.
    let index = forge.layout.index();
    let entry = index["manifests"][0].clone();
    for other in wrong(size(&entry)) {
        let mut changed = entry.clone();
        changed["size"] = other.into();
        forge.layout.set_index(json!([changed]));
        refused(&bench, "C04");
    }
}

#[test]
fn c03_sizes_beyond_the_budget_are_not_read() {
    let (bench, good) = sealed(&small());
    let artifact = good.artifact;
    let mut forge = Forge { layout: good.layout, artifact: artifact.clone() };
    forge.entry("merged")["size"] = 16_129.into();
    forge.put();
    refused(&bench, "E15");
    for huge in [(1_u64 << 30) + 1, i64::MAX as u64, u64::MAX] {
        forge.artifact = artifact.clone();
        forge.entry("erofs-merged")["size"] = huge.into();
        forge.put();
        refused_with(&bench, 4, "C03", &[]);
    }
    // A descriptor may be silent about a file that is too large: sparse here, no matter.
    let manifest = forge.layout.blob_path(&forge.layout.digest);
    std::fs::File::options().write(true).open(manifest).unwrap().set_len(8 << 30).unwrap();
    refused(&bench, "C03");
}

#[test]
fn b06_a_manifest_that_is_also_an_index_is_refused() {
    let (bench, mut forge) = sealed(&small());
    let manifest = forge.layout.manifest.clone();
    let own = json!({"mediaType": MANIFEST, "digest": forge.layout.digest.to_string(), "size": 1, "platform": {"os": "linux", "architecture": "amd64"}});
    for (media, keep) in [
        (MANIFEST, &["config", "layers"][..]),
        (INDEX, &["config", "layers"]),
        (INDEX, &["layers"]),
        (INDEX, &["config"]),
        (MANIFEST, &[]),
    ] {
        let mut changed = manifest.clone();
        changed["mediaType"] = media.into();
        changed["manifests"] = json!([own]);
        changed
            .as_object_mut()
            .unwrap()
            .retain(|key, _| keep.contains(&key.as_str()) || !["config", "layers"].contains(&key.as_str()));
        forge.layout.set_manifest(&changed);
        refused(&bench, "B06");
    }
    let mut changed = manifest.clone();
    changed["mediaType"] = INDEX.into();
    forge.layout.set_manifest(&changed);
    refused(&bench, "B06");
    // And the index of the layout.
    let mut index = forge.layout.index();
    index["layers"] = json!([]);
    std::fs::write(bench.path("image/index.json"), index.to_string()).unwrap();
    refused(&bench, "B06");
}

#[test]
fn b06_an_index_in_an_index_is_refused() {
    let (bench, forge) = sealed(&small());
    let platform = json!({"os": "linux", "architecture": layerseal::oci::Platform::host().architecture()});
    let wrap = |mut entry: Value| {
        entry["platform"] = platform.clone();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
        forge.layout.descriptor(INDEX, index.as_bytes())
    };
    let once = wrap(forge.layout.descriptor(MANIFEST, forge.layout.manifest.to_string().as_bytes()));
    let twice = wrap(once);
    forge.layout.set_index(json!([twice]));
    refused(&bench, "B06");
}

#[test]
fn b07_digest_strings_are_digests() {
    let (bench, mut forge) = sealed(&small());
    let manifest = forge.layout.manifest.clone();
    let index = forge.layout.index();
    let config: Value = serde_json::from_slice(&image(&forge.layout).config).unwrap();
    let a = "a".repeat(64);
    for bad in [
        "sha256:../../../../etc/passwd".to_owned(),
        format!("sha256:{}", "A".repeat(64)),
        format!("sha256:{}", "a".repeat(63)),
        format!("sha256:{a}a"),
        format!("md5:{}", "a".repeat(32)),
        format!("sha512:{a}{a}"),
        format!("SHA256:{a}"),
        format!("sha256:{a}/"),
        format!("sha256:{}\n", "a".repeat(64)),
        a.clone(),
        String::new(),
    ] {
        for pointer in ["/config", "/layers/0"] {
            let mut changed = manifest.clone();
            changed.pointer_mut(pointer).unwrap()["digest"] = bad.as_str().into();
            forge.layout.set_manifest(&changed);
            refused_as_digest(&bench);
        }
        let mut changed = index.clone();
        changed["manifests"][0]["digest"] = bad.as_str().into();
        forge.layout.set_index(changed["manifests"].clone());
        refused_as_digest(&bench);
        // The config's own list.
        let mut config = config.clone();
        config["rootfs"]["diff_ids"][0] = bad.as_str().into();
        let mut changed = manifest.clone();
        changed["config"] =
            forge.layout.descriptor("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        forge.layout.set_manifest(&changed);
        refused(&bench, "B07");
    }
    for reference in ["oci:image@sha256:../x", "oci:image@md5:aa", "@sha256:../x"] {
        assert_eq!(bench.run(&["verify", reference]).code, 2);
    }
}

/// The document's reader or ours says so: no string that is no digest gets further.
#[track_caller]
fn refused_as_digest(bench: &crate::common::Bench) {
    let run = bench.run(&["verify", "oci:image", "--trust", "signer.crt"]);
    let case = if run.stderr.contains("[R-B07]") { "B07" } else { "D14" };
    refused(bench, case);
}
