//! The binding statement, and inline annotations beside it.

use serde_json::json;

use crate::common::two_layers;
use crate::forge::*;

const NAME: &str = "registry.example.com/acme/app";

/// The sequence is part of what is signed. The floor that refuses older seals comes with the policy of
/// the host; until then D10 refuses nothing.
#[test]
fn d10_the_sequence_cannot_be_changed() {
    let (bench, mut forge) = sealed(&small());
    forge.rebind(|b| b.sequence = Some(7));
    forge.put();
    accepted(&bench);
    let text = forge.binding().text();
    for other in [text.replace("sequence: 7", "sequence: 8"), text.replace("sequence: 7\n", "")] {
        forge.artifact["annotations"][BINDING] = other.into();
        forge.put();
        refused(&bench, "E01");
    }
    // The artifact's other annotations are not signed; what they say is not believed.
    forge.artifact["annotations"][BINDING] = text.into();
    forge.artifact["annotations"]["sequence"] = "9".into();
    forge.put();
    accepted(&bench);
}

#[test]
fn d12_inline_annotations_that_contradict_the_seal_are_refused() {
    let (bench, mut forge) = sealed(&two_layers());
    let key = "composefs.merged.erofs.v1.fsverity-sha512-12";
    let right = forge.digest("merged").to_hex();
    let config = forge.digest("config").to_hex();
    let original = forge.layout.manifest.clone();
    type Change<'a> = &'a dyn Fn(&mut serde_json::Value);
    let changes: [(bool, Change<'_>); 4] = [
        (true, &|m| m["annotations"] = json!({key: right})),
        (false, &|m| m["annotations"] = json!({key: config})),
        (false, &|m| m["config"]["annotations"] = json!({"composefs.config.fsverity-sha512-12": right})),
        // Another algorithm can agree with nothing here, and is judged by itself.
        (true, &|m| m["annotations"] = json!({"composefs.merged.erofs.v1.fsverity-sha256-12": "a".repeat(64)})),
    ];
    for (agrees, change) in changes {
        let mut manifest = original.clone();
        change(&mut manifest);
        forge.layout.set_manifest(&manifest);
        // The publisher seals this very manifest: only the contradiction is wrong.
        forge.follow_image();
        forge.put();
        if agrees {
            accepted(&bench);
        } else {
            refused_with(&bench, 4, "D12", &[]);
        }
    }
}

#[test]
fn d06_inline_annotations_stand_where_they_belong() {
    let (bench, mut forge) = sealed(&small());
    let merged = forge.digest("merged").to_hex();
    let original = forge.layout.manifest.clone();
    let key = |role: &str| format!("composefs.{role}.fsverity-sha512-12");
    for (case, at, annotations) in [
        ("D06", "/layers/0", json!({key("merged.erofs.v1"): merged})),
        ("D06", "/config", json!({key("layer.erofs.v1"): merged})),
        ("D06", "", json!({key("config"): merged})),
        ("D06", "", json!({key("manifest"): merged})),
        ("D08", "", json!({format!("{}.sig", key("merged.erofs.v1")): "AAAA"})),
        ("D08", "", json!({key("merged.erofs.v1"): merged, format!("{}.sig", key("merged.erofs.v1")): "not base64"})),
        ("D08", "", json!({key("merged.erofs.v1"): merged, format!("{}.sig", key("merged.erofs.v1")): " AAAA"})),
        (
            "D08",
            "",
            json!({key("merged.erofs.v1"): merged, "composefs.merged.erofs.v1.fsverity-sha256-12": "a".repeat(64)}),
        ),
        ("D08", "", json!({key("other"): merged})),
        ("D09", "", json!({key("merged.erofs.v1"): "aa"})),
    ] {
        let mut manifest = original.clone();
        manifest.pointer_mut(at).unwrap()["annotations"] = annotations;
        forge.layout.set_manifest(&manifest);
        refused(&bench, case);
    }
}

/// An image that carries its seal in itself, made by the publisher; and its statement for other images.
#[test]
fn d04_inline_statements_belong_to_their_config_and_layers() {
    let (bench, mut forge) = sealed(&two_layers());
    let original = forge.layout.manifest.clone();
    let mut manifest = original.clone();
    let sig = |der: Vec<u8>| openssl::base64::encode_block(&der);
    let mut inline = |at: &str, role: &str, key: &str| {
        let digest = forge.digest(role);
        let target = manifest.pointer_mut(at).unwrap();
        let key = format!("composefs.{key}.fsverity-sha512-12");
        if !target["annotations"].is_object() {
            target["annotations"] = json!({});
        }
        target["annotations"][format!("{key}.sig")] = sig(der(&digest)).into();
        target["annotations"][key] = digest.to_hex().into();
    };
    inline("", "merged", "merged.erofs.v1");
    inline("", "rootfs", "rootfs.erofs.v1");
    inline("/config", "config", "config");
    inline("/layers/0", "layer-0", "layer.erofs.v1");
    inline("/layers/1", "layer-1", "layer.erofs.v1");
    // Of no annotations but its own.
    forge.rebind(|b| {
        b.subject = None;
        b.annotations = layerseal::digest::BlobDigest::of(b"{}");
    });
    for key in [BINDING, "layerseal.binding.v2.sig"] {
        manifest["annotations"][key] = forge.artifact["annotations"][key].clone();
    }
    forge.layout.set_manifest(&manifest);
    accepted(&bench);

    // In an artifact a statement without subject is about no image.
    let with_seal = forge.layout.manifest.clone();
    forge.layout.set_manifest(&original);
    forge.put();
    refused(&bench, "D04");

    // Each part that is missing or moved.
    type Change<'a> = &'a dyn Fn(&mut serde_json::Value);
    let changes: [(&str, Change<'_>); 6] = [
        ("D03", &|m| drop(m["config"].as_object_mut().unwrap().remove("annotations"))),
        ("D03", &|m| drop(m["layers"][1].as_object_mut().unwrap().remove("annotations"))),
        ("D06", &|m| {
            let lent = m["layers"][0]["annotations"].clone();
            m["layers"][1]["annotations"] = lent;
        }),
        ("D05", &|m| {
            let lent = m["layers"][0]["digest"].clone();
            m["layers"][1]["digest"] = lent;
        }),
        ("D16", &|m| m["annotations"].as_object_mut().unwrap().retain(|k, _| !k.starts_with(BINDING))),
        ("D16", &|m| drop(m["annotations"].as_object_mut().unwrap().remove(BINDING))),
    ];
    for (case, change) in changes {
        let mut manifest = with_seal.clone();
        change(&mut manifest);
        forge.layout.set_manifest(&manifest);
        refused(&bench, case);
    }
    // Another config, with a signature of its own by the same publisher.
    let mut manifest = with_seal.clone();
    let config = String::from_utf8(image(&forge.layout).config)
        .unwrap()
        .replace("\"config\":{}", "\"config\":{\"User\":\"root\"}");
    let notes = manifest["config"]["annotations"].clone();
    manifest["config"] = forge.layout.descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes());
    manifest["config"]["annotations"] = notes;
    forge.layout.set_manifest(&manifest);
    refused(&bench, "D04");
}

#[test]
fn d16_a_seal_without_statement_is_refused() {
    let (bench, good) = sealed(&small());
    let artifact = good.artifact;
    let mut forge = Forge { layout: good.layout, artifact: artifact.clone() };
    forge.unbind();
    forge.put();
    refused(&bench, "D16");
    // Whoever accepts seals of other tools gets them compared with the layers.
    bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--binding", "local"]).ok();
    refused_outright(&bench, 4, "D18", &["--binding", "local", "--identity", NAME]);
    for key in [BINDING, "layerseal.binding.v2.sig"] {
        forge.artifact = artifact.clone();
        forge.artifact["annotations"].as_object_mut().unwrap().remove(key);
        forge.put();
        refused(&bench, "D16");
        refused_outright(&bench, 4, "D16", &["--binding", "local"]);
    }
    // A signature that is none.
    for (case, sig) in [("D08", " AAAA"), ("D08", "AAAA\n"), ("D08", "?"), ("E02", "AAAA"), ("E02", "")] {
        forge.artifact = artifact.clone();
        forge.artifact["annotations"]["layerseal.binding.v2.sig"] = sig.into();
        forge.put();
        refused(&bench, case);
    }
    forge.artifact["annotations"]["layerseal.binding.v2.sig"] = "A".repeat(100_000).into();
    forge.put();
    refused(&bench, "C03");
    // The statement signed by the trusted key, but another of its statements.
    forge.artifact = artifact.clone();
    let wrong = der(&forge.digest("merged"));
    forge.artifact["annotations"]["layerseal.binding.v2.sig"] = openssl::base64::encode_block(&wrong).into();
    forge.put();
    refused(&bench, "E01");
}

#[test]
fn d17_signed_statements_in_another_form_are_refused() {
    let (bench, good) = sealed(&small());
    let artifact = good.artifact;
    let mut forge = Forge { layout: good.layout, artifact };
    let text = forge.binding().text();
    let identity = format!("identity: {NAME}\n");
    let merged = text.lines().find(|l| l.starts_with("merged")).unwrap().to_owned();
    let subject = forge.layout.digest.to_string();
    for bad in [
        text.trim_end().to_owned(),
        format!("{text}\n"),
        format!("\u{feff}{text}"),
        text.replace('\n', "\r\n"),
        text.replace(&identity, &identity.repeat(2)),
        text.replace(&identity, &format!("{identity}identity: a.example/x\n")),
        text.replace(&identity, "identity: x\u{1b}[2J\n"),
        text.replace(&identity, "identity: a/b:tag\n"),
        text.replace("layerseal binding v2", "layerseal binding v1"),
        format!("{text}{merged}\n"),
        format!("{text}sequence: 007\n"),
        format!("{text}sequence: 18446744073709551616\n"),
        format!("{text}unknown: x\n"),
        text.replace("rootfs: ", "root: "),
        text.replace("annotations: ", "annotation: "),
        text.replace("merged: ", "merged: 0"),
        text.replace(&subject, &subject.to_uppercase().replace("SHA256", "sha256")),
        text.replace(&subject, "sha256:../../x"),
        text.replace("config: ", "config:  "),
        String::new(),
    ] {
        forge.bind(&bad);
        forge.put();
        refused(&bench, "D17");
    }
    for (case, bad) in [
        ("D09", text.replace("fsverity-sha512-12", "fsverity-sha512-16")),
        ("C03", format!("{text}{}", "identity: a\n".repeat(30_000))),
    ] {
        forge.bind(&bad);
        forge.put();
        refused(&bench, case);
    }
    forge.bind(&text);
    forge.put();
    accepted(&bench);
}

#[test]
fn d18_the_image_runs_under_its_names_only() {
    let (bench, mut forge) = sealed(&small());
    bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--identity", NAME]).ok();
    // For a registry these are the same.
    for host in ["Registry.Example.COM", "registry.example.com.", "registry.example.com:443"] {
        let name = NAME.replace("registry.example.com", host);
        bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--identity", &name]).ok();
    }
    for other in [
        "registry.example.com:5000/acme/app",
        "registry.example.com/acme/other",
        "registry.example.com/acme",
        "registry.example.com/acme/app/",
        "registry.example.com/acme/app:latest",
        "app",
        "",
    ] {
        refused_outright(&bench, 4, "D18", &["--identity", other]);
    }
    forge.rebind(|b| b.identities.clear());
    forge.put();
    accepted(&bench);
    refused_outright(&bench, 4, "D18", &["--identity", NAME]);
}

#[test]
fn d12_a_contradiction_that_nobody_trusted_signed_hides_nothing() {
    let (bench, mut forge) = sealed(&small());
    let merged = forge.digest("merged").to_hex();
    let mut manifest = forge.layout.manifest.clone();
    manifest["annotations"] = json!({"composefs.merged.erofs.v1.fsverity-sha512-12": merged});
    forge.layout.set_manifest(&manifest);
    forge.follow_image();
    let good = forge.artifact.to_string().into_bytes();
    // Anybody can attach an artifact; this one says something else about the same role.
    let mut evil = forge.artifact.clone();
    evil["annotations"].as_object_mut().unwrap().retain(|key, _| !key.starts_with("layerseal."));
    for entry in evil["layers"].as_array_mut().unwrap() {
        if entry["annotations"]["composefs.signature.type"] == "merged" {
            entry["annotations"]["composefs.digest"] = "0".repeat(128).into();
        }
    }
    let evil = evil.to_string().into_bytes();
    for order in [[good.clone(), evil.clone()], [evil, good]] {
        forge.put_raw(&order);
        accepted(&bench);
    }
}
