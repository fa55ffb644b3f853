//! Signatures of the trusted key in places where they do not belong: replay, permutation, other roles.

use layerseal::digest::{Algorithm, verity_digest};
use serde_json::{Value, json};

use crate::common::{Entry, Layer, Layout, two_layers};
use crate::forge::*;

/// Another image of the same publisher, with its seal, in `oci:other`.
fn other(bench: &crate::common::Bench) -> Forge {
    let layers = [Layer::new(&[Entry::dir("usr"), Entry::file("usr/other", vec![b'o'; 900])])];
    let layout = Layout::new(&bench.path("other"), &layers);
    let format = ["--format", "erofs-alongside"];
    bench.run(&[&["sign", "oci:other", "--cert", "signer.crt", "--key", "signer.key"][..], &format].concat()).ok();
    Forge::of(layout)
}

/// Brings the blobs of one layout into another.
fn copy_blobs(from: &Layout, to: &Layout) {
    for blob in std::fs::read_dir(from.path.join("blobs/sha256")).unwrap().flatten() {
        std::fs::copy(blob.path(), to.path.join("blobs/sha256").join(blob.file_name())).unwrap();
    }
}

#[test]
fn d03_every_missing_signature_is_seen() {
    let single = ["manifest", "config", "layer-0", "merged", "rootfs"];
    let double = ["manifest", "config", "layer-1", "merged", "rootfs"];
    for (layers, roles) in [(small(), single), (two_layers(), double)] {
        let (bench, good) = sealed(&layers);
        let artifact = good.artifact;
        let mut forge = Forge { layout: good.layout, artifact: artifact.clone() };
        for role in roles {
            forge.artifact = artifact.clone();
            let at = forge.at(role);
            forge.entries().remove(at);
            forge.put();
            refused(&bench, "D03");
            // An empty signature is how the drafts write "not signed".
            forge.artifact = artifact.clone();
            forge.set_blob(role, b"");
            forge.put();
            refused(&bench, "D03");
        }
        forge.artifact = artifact;
        forge.put();
        accepted(&bench);
    }
}

#[test]
fn d03_an_artifact_of_digests_alone_is_no_seal() {
    let (bench, mut forge) = sealed(&small());
    forge.entries().retain(|e| e["mediaType"] == EROFS);
    forge.put();
    refused_outright(&bench, 3, "C07", &[]);
    bench.run(&["verify", "oci:image"]).ok();
}

#[test]
fn d04_seal_of_another_image_is_refused() {
    let (bench, forge) = sealed(&small());
    let mut seal = other(&bench);
    copy_blobs(&seal.layout, &forge.layout);
    seal.layout = forge.layout;

    // As it is: about the other image. A registry may say anything in the fallback index.
    seal.put_raw(&[seal.artifact.to_string().into_bytes()]);
    refused(&bench, "D01");
    seal.artifact["subject"]["digest"] = seal.layout.digest.to_string().into();
    seal.put();
    refused(&bench, "D04");

    // The statement is rewritten, and its signature is the old one.
    let mut edited = seal;
    let old = edited.binding();
    let image = image(&edited.layout);
    let text = old
        .text()
        .replace(&old.subject.unwrap().to_string(), &image.digest.to_string())
        .replace(&old.config.to_string(), &image.config_digest.to_string());
    let layer = &image.layers[0];
    let text = text
        .replace(&old.layers[0].0.to_string(), &layer.digest.to_string())
        .replace(&old.layers[0].1.to_string(), &layer.diff_id.to_string());
    edited.artifact["annotations"][BINDING] = text.into();
    edited.put();
    refused(&bench, "D07");
    let algorithm = edited.algorithm();
    edited.entry("manifest")["annotations"][DIGEST] = verity_digest(algorithm, &image.manifest).to_hex().into();
    edited.entry("config")["annotations"][DIGEST] = verity_digest(algorithm, &image.config).to_hex().into();
    edited.put();
    refused(&bench, "E01");
}

#[test]
fn d04_replay_without_a_statement_meets_the_layers() {
    let (bench, forge) = sealed(&small());
    let mut seal = other(&bench);
    copy_blobs(&seal.layout, &forge.layout);
    seal.layout = forge.layout;
    seal.artifact["subject"]["digest"] = seal.layout.digest.to_string().into();
    seal.unbind();
    seal.put();
    refused(&bench, "D16");
    let local = ["--binding", "local"];
    refused_outright(&bench, 4, "D07", &local);
    // Only signatures over trees are left: the ones that a statement would have bound.
    seal.entries()
        .retain(|e| !matches!(e["annotations"]["composefs.signature.type"].as_str(), Some("manifest" | "config")));
    seal.put();
    refused_with(&bench, 4, "H08", &local);
    seal.entries().retain(|e| e["mediaType"] == PKCS7);
    seal.put();
    refused_with(&bench, 4, "D07", &local);
}

#[test]
fn d04_statements_about_another_subject_or_config_are_refused() {
    let (bench, good) = sealed(&small());
    let artifact = good.artifact;
    let mut forge = Forge { layout: good.layout, artifact: artifact.clone() };
    let elsewhere = layerseal::digest::BlobDigest::of(b"elsewhere");
    type Change = fn(&mut layerseal::seal::Binding, layerseal::digest::BlobDigest);
    let changes: [Change; 4] =
        [|b, d| b.subject = Some(d), |b, d| b.config = d, |b, d| b.annotations = d, |b, _| b.subject = None];
    for change in changes {
        forge.artifact = artifact.clone();
        forge.rebind(|b| change(b, elsewhere));
        forge.put();
        refused(&bench, "D04");
    }
}

#[test]
fn d05_statements_about_other_layers_are_refused() {
    let (bench, good) = sealed(&two_layers());
    let artifact = good.artifact;
    let mut forge = Forge { layout: good.layout, artifact: artifact.clone() };
    type Change = fn(&mut layerseal::seal::Binding);
    let changes: [Change; 7] = [
        |b| b.layers.swap(0, 1),
        |b| b.layers[1] = b.layers[0],
        |b| b.layers.truncate(1),
        |b| b.layers.rotate_left(1),
        |b| b.layers.push(b.layers[0]),
        |b| b.layers[1].0 = b.layers[0].0,
        |b| b.layers[0].1 = b.layers[1].1,
    ];
    for change in changes {
        forge.artifact = artifact.clone();
        forge.rebind(change);
        forge.put();
        refused(&bench, "D05");
    }
}

#[test]
fn d05_layer_signatures_in_another_order_or_number_are_refused() {
    let (bench, good) = sealed(&two_layers());
    let artifact = good.artifact;
    let mut forge = Forge { layout: good.layout, artifact: artifact.clone() };
    let (first, second) = (forge.at("layer-0"), forge.at("layer-1"));
    type Change<'a> = &'a dyn Fn(&mut Vec<Value>);
    let changes: [(&str, Change<'_>); 6] = [
        ("D06", &|e| e.swap(first, second)),
        ("D06", &|e| drop(e.remove(first))),
        ("D03", &|e| drop(e.remove(second))),
        ("D05", &|e| e.insert(second, e[first].clone())),
        ("D05", &|e| e.push(e[second].clone())),
        ("D05", &|e| e.extend(vec![e[second].clone(); 100])),
    ];
    for (case, change) in changes {
        forge.artifact = artifact.clone();
        change(forge.entries());
        forge.put();
        refused(&bench, case);
    }
    // The images are counted too.
    forge.artifact = artifact.clone();
    let at = forge.at("erofs-layer-1");
    forge.entries().remove(at);
    forge.put();
    refused(&bench, "D05");
}

#[test]
fn d05_permuted_layers_signed_in_a_permuted_statement_meet_the_layers() {
    let (bench, mut forge) = sealed(&two_layers());
    // Descriptors and diff_ids stay, the digests of the trees change places, everywhere.
    for prefix in ["", "erofs-"] {
        let (a, b) = (forge.at(&format!("{prefix}layer-0")), forge.at(&format!("{prefix}layer-1")));
        forge.entries().swap(a, b);
    }
    forge.rebind(|b| {
        let (first, second) = b.layers.split_at_mut(1);
        std::mem::swap(&mut first[0].2, &mut second[0].2);
    });
    forge.put();
    refused_with(&bench, 4, "H08", &[]);
    // Without the images there is nothing to compare but digests.
    forge.artifact["artifactType"] = CANONICAL.into();
    forge.entries().retain(|e| e["mediaType"] == PKCS7);
    forge.put();
    refused_with(&bench, 4, "D07", &[]);
}

#[test]
fn d06_no_signature_passes_for_another_role() {
    let (bench, good) = sealed(&two_layers());
    let artifact = good.artifact;
    let mut forge = Forge { layout: good.layout, artifact: artifact.clone() };
    let roles = ["manifest", "config", "layer-0", "layer-1", "merged"];
    for role in roles {
        for offered in roles.into_iter().filter(|r| *r != role) {
            forge.artifact = artifact.clone();
            let lent = forge.entry(offered).clone();
            let entry = forge.entry(role);
            entry["digest"] = lent["digest"].clone();
            entry["size"] = lent["size"].clone();
            // The signature alone: it is over another digest.
            forge.put();
            bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).refused(4, "E01");
            // The digest with it: that of another role.
            forge.entry(role)["annotations"][DIGEST] = lent["annotations"][DIGEST].clone();
            forge.put();
            bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).refused(4, "D06");
        }
    }
    refused(&bench, "D06");
}

#[test]
fn d06_a_signed_statement_that_takes_the_manifest_for_the_tree_is_refused() {
    let (bench, mut forge) = sealed(&small());
    let manifest = image(&forge.layout).manifest;
    forge.set_erofs("merged", &manifest);
    forge.put();
    refused_with(&bench, 4, "H09", &[]);
}

#[test]
fn d07_digests_that_were_not_sealed_are_refused() {
    let (bench, good) = sealed(&two_layers());
    let artifact = good.artifact;
    let mut forge = Forge { layout: good.layout, artifact: artifact.clone() };
    let wrong = verity_digest(Algorithm::Sha512, b"wrong");
    for role in ["manifest", "config", "layer-0", "layer-1", "merged", "erofs-layer-0", "erofs-layer-1", "erofs-merged"]
    {
        forge.artifact = artifact.clone();
        forge.entry(role)["annotations"][DIGEST] = wrong.to_hex().into();
        forge.put();
        refused(&bench, "D07");
        // The trusted key may have signed that digest, for something else.
        if !role.starts_with("erofs-") {
            forge.sign(role, &wrong);
            forge.put();
            refused(&bench, "D07");
        }
    }
    // Everything says the same wrong digest: only the layers know better.
    forge.artifact = artifact;
    forge.sign("merged", &wrong);
    forge.entry("erofs-merged")["annotations"][DIGEST] = wrong.to_hex().into();
    forge.rebind(|b| b.merged = Some(wrong));
    forge.put();
    refused_with(&bench, 4, "D07", &[]);
}

#[test]
fn d08_unknown_and_ambiguous_annotations_are_refused() {
    let (bench, good) = sealed(&small());
    let artifact = good.artifact;
    let mut forge = Forge { layout: good.layout, artifact: artifact.clone() };
    let digest = forge.digest("merged").to_hex();
    for annotations in [
        json!({"composefs.signature.type": "merged", DIGEST: digest, "composefs.digest.fsverity-sha512-12": digest}),
        json!({"composefs.signature.type": "merged", "composefs.erofs.type": "merged", DIGEST: digest}),
        json!({"composefs.signature.type": "merged", DIGEST: digest, "composefs.digest.sig": digest}),
        json!({"composefs.signature.type": "merged"}),
        json!({DIGEST: digest}),
        json!({"composefs.signature.type": "Merged", DIGEST: digest}),
        json!({"composefs.signature.type": "merged ", DIGEST: digest}),
        json!({"composefs.signature.type": "binding", DIGEST: digest}),
        json!({"composefs.signature.type": "", DIGEST: digest}),
        json!({}),
    ] {
        forge.artifact = artifact.clone();
        forge.entry("merged")["annotations"] = annotations;
        forge.put();
        refused(&bench, "D08");
    }
    // Annotations of others are theirs.
    forge.artifact = artifact;
    forge.entry("merged")["annotations"]["org.example.note"] = "x".into();
    forge.put();
    accepted(&bench);
}

/// What `--binding local` gives up: signatures over layers alone name neither their order nor their
/// number. A host that must see this asks for a statement.
#[test]
fn d05_layers_signed_without_a_statement_are_taken_as_they_come() {
    let (bench, mut forge) = sealed(&two_layers());
    let mut manifest = forge.layout.manifest.clone();
    let mut config: Value = serde_json::from_slice(&image(&forge.layout).config).unwrap();
    manifest["layers"].as_array_mut().unwrap().truncate(1);
    config["rootfs"]["diff_ids"].as_array_mut().unwrap().truncate(1);
    manifest["config"] =
        forge.layout.descriptor("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    forge.layout.set_manifest(&manifest);
    // One signature of the publisher's is left, and no key is needed.
    let kept = [forge.entry("erofs-layer-0").clone(), forge.entry("layer-0").clone()];
    forge.artifact["layers"] = json!(kept);
    forge.artifact["subject"]["digest"] = forge.layout.digest.to_string().into();
    forge.put();
    refused(&bench, "D04");
    forge.unbind();
    forge.put();
    refused(&bench, "D16");
    bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--binding", "local"]).ok();
}

/// What a layer takes away is in nobody's signature then: anybody could add or drop a whiteout.
#[test]
fn d03_layers_signed_without_their_whiteouts_need_the_config() {
    let (bench, mut forge) = sealed(&two_layers());
    let local = ["verify", "oci:image", "--trust", "signer.crt", "--binding", "local"];
    let entries = |forge: &Forge| {
        let blob = forge.layout.manifest["layers"][1]["digest"].as_str().unwrap().to_owned();
        let bytes = forge.layout.read(&blob);
        let mut sink = layerseal::image::HashOnly::new(forge.algorithm());
        layerseal::image::read_layer(&bytes[..], &layerseal::oci::Budget::STANDARD, &mut sink, &mut |_| ())
            .unwrap()
            .entries
    };
    let bare = layerseal::image::Writer::layer_without_whiteouts(forge.algorithm(), &entries(&forge)).unwrap();
    forge.set_erofs("layer-1", &bare);
    forge.unbind();
    let kept = |forge: &mut Forge, roles: &[&str]| {
        let entries: Vec<Value> = roles.iter().map(|role| forge.entry(role).clone()).collect();
        forge.artifact["layers"] = json!(entries);
        forge.put();
    };
    let all = forge.artifact.clone();
    let layers = ["erofs-layer-0", "erofs-layer-1", "layer-0", "layer-1"];
    kept(&mut forge, &layers);
    bench.run(&local).refused(4, "D03");
    // The config names the diff_ids, and these the whiteouts.
    forge.artifact = all;
    kept(&mut forge, &["erofs-layer-0", "erofs-layer-1", "config", "layer-0", "layer-1"]);
    bench.run(&local).ok();
}
