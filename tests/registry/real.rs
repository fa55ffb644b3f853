//! Real registries, real clients.

use std::process::Command;

use serde_json::{Value, json};

use crate::common::{Bench, Layout, Run, signer, two_layers};
use crate::tools::{Site, oras, oras_discover, skopeo};

const ALONGSIDE: &str = "application/vnd.composefs.erofs-alongside.v1";

/// A bench with a sealed image in `oci:image`.
fn bench() -> (Bench, Layout) {
    let bench = Bench::new();
    let layout = bench.sealed(&two_layers());
    (bench, layout)
}

/// The artifacts that a registry lists for an image by its API, or by the fallback tag.
fn listed(site: &Site, name: &str, image: &str) -> Vec<Value> {
    let repository = site.repository(name);
    let tag = format!("docker://{repository}:{}", image.replace(':', "-"));
    let raw = match site.api {
        true => oras(&["discover", "--plain-http", "--format", "json", &format!("{repository}@{image}")]),
        false => skopeo(&["inspect", "--raw", "--tls-verify=false", &tag]),
    };
    let value: Value = serde_json::from_str(&raw).unwrap();
    let list = value.get("manifests").or_else(|| value.get("referrers"));
    list.and_then(Value::as_array).cloned().unwrap_or_default()
}

fn digests(list: &[Value]) -> Vec<String> {
    list.iter().map(|d| d["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_sealed_image_goes_into_a_registry_and_comes_out_sealed() {
    for site in Site::all() {
        let (bench, layout) = bench();
        let to = format!("docker://{}:v1", site.repository("round/trip"));
        let run = site.run(&bench, &["push", "oci:image", &to, "--signatures"]).ok();
        assert_eq!(run.stdout.trim(), layout.digest.to_string());
        let image = layout.digest.to_string();
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &to]);
        assert_eq!(raw.as_bytes(), layout.read(&image), "{site:?}: the image was changed on the way");

        // Others find it: by what they know of registries, and not of us.
        let list = listed(&site, "round/trip", &image);
        assert_eq!(list.len(), 1, "{site:?}: {list:?}");
        assert_eq!(list[0]["artifactType"], ALONGSIDE);
        let tree = oras_discover(to.strip_prefix("docker://").unwrap());
        assert!(tree.contains(ALONGSIDE) && tree.contains(list[0]["digest"].as_str().unwrap()), "{tree}");

        let trust = ["--trust", "signer.crt", "--identity", "registry.example.com/acme/app"];
        let verify = [&["verify", &to, "--json"][..], &trust].concat();
        let report = site.run(&bench, &verify).ok().json();
        assert!(report["accepted"] == true && report["image"] == image, "{report}");
        assert_eq!(report["seals"][0]["layers_compared"], false, "{report}");
        let whole = site.run(&bench, &[&verify[..], &["--layers"]].concat()).ok().json();
        assert!(whole["accepted"] == true && whole["seals"][0]["layers_compared"] == true, "{whole}");
        // Where nobody has vouched, the layers are all that there is to go by.
        let unsigned = site.run(&bench, &["verify", &to, "--json"]).ok().json();
        assert_eq!(unsigned["seals"][0]["layers_compared"], true, "{unsigned}");
        let seals = site.run(&bench, &["inspect", &to, "--json"]).ok().json()["seals"].clone();
        assert_eq!(seals[0]["origin"], list[0]["digest"], "{seals}");

        let pull = [&["pull", &to, "--require-signature"][..], &trust].concat();
        let run = site.run(&bench, &pull).ok();
        let name = to.strip_prefix("docker://").unwrap();
        assert_eq!(run.stdout.trim(), format!("{name} {image}"));
        let images = site.command(&bench, &["images"]).output().unwrap();
        assert!(String::from_utf8_lossy(&images.stdout).contains(name), "{images:?}");
        // What was pulled is whole, and goes on to another registry with its seal.
        let other = format!("docker://{}:v2", site.repository("round/again"));
        site.run(&bench, &["push", name, &other, "--signatures"]).ok();
        assert_eq!(digests(&listed(&site, "round/again", &image)), digests(&list));
        site.run(&bench, &[&["verify", &other][..], &trust].concat()).ok();
        // And without a network into a layout.
        bench.run(&["push", name, "oci:back", "--signatures"]).ok();
        bench.run(&["verify", "oci:back", "--trust", "signer.crt"]).ok();
    }
}

#[test]
fn an_image_in_a_registry_is_sealed_where_it_is() {
    for site in Site::all() {
        let (bench, layout) = bench();
        let image = layout.digest.to_string();
        let at = format!("docker://{}:v1", site.repository("sealed/there"));
        site.run(&bench, &["push", "oci:image", &at]).ok();
        assert!(site.api || !oras_discover(at.strip_prefix("docker://").unwrap()).contains(ALONGSIDE));
        site.run(&bench, &["verify", &at, "--trust", "signer.crt"]).refused(3, "C07");

        let sign = ["sign", &at, "--cert", "signer.crt", "--key", "signer.key", "--identity", "a.example/x"];
        let first = site.run(&bench, &sign).ok().stdout;
        // The same again is the same seal (N04), listed once (N02).
        assert_eq!(site.run(&bench, &sign).ok().stdout, first);
        let list = listed(&site, "sealed/there", &image);
        assert_eq!(digests(&list), [first.trim()], "{site:?}");
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &at]);
        assert_eq!(raw.as_bytes(), layout.read(&image), "sealing must not change the image");
        let verify = ["verify", &at, "--trust", "signer.crt", "--identity"];
        site.run(&bench, &[&verify[..], &["a.example/x"]].concat()).ok();
        site.run(&bench, &[&verify[..], &["a.example/y"]].concat()).refused(4, "D18");

        // A second signer's seal stands beside the first.
        bench.signer("other", crate::common::stranger());
        let second = ["sign", &at, "--cert", "other.crt", "--key", "other.key"];
        let second = site.run(&bench, &second).ok().stdout;
        let mut both = digests(&listed(&site, "sealed/there", &image));
        both.sort();
        let mut wanted = [first.trim().to_owned(), second.trim().to_owned()];
        wanted.sort();
        assert_eq!(both, wanted);
        for certificate in ["signer.crt", "other.crt"] {
            site.run(&bench, &["verify", &at, "--trust", certificate]).ok();
        }
        // A seal in another repository than its image, and one in a layout.
        let elsewhere = format!("docker://{}", site.repository("sealed/elsewhere"));
        site.run(&bench, &["push", "oci:image", &elsewhere]).ok();
        site.run(&bench, &["export-signatures", &at, &elsewhere]).ok();
        site.run(&bench, &["export-signatures", &at, "oci:seals"]).ok();
        for seal in [&elsewhere, "oci:seals"] {
            site.run(&bench, &["verify", "oci:image", "--trust", "other.crt", "--seal", seal]).ok();
        }
    }
}

/// N02: what others have attached stays, and what they attach later leaves ours.
#[test]
fn n02_the_fallback_tag_is_shared() {
    let Some(site) = Site::plain() else { return };
    let (bench, layout) = bench();
    let image = layout.digest.to_string();
    let repository = site.repository("tag/shared");
    site.run(&bench, &["push", "oci:image", &format!("docker://{repository}:v1")]).ok();
    let file = bench.write("sbom.json", b"{}");
    let attach = |kind: &str| {
        let path = format!("{}:text/plain", file.display());
        let subject = format!("{repository}@{image}");
        let options = ["attach", "--plain-http", "--disable-path-validation", "--artifact-type", kind, &subject, &path];
        oras(&options);
    };
    attach("application/vnd.example.sbom");
    site.run(&bench, &["push", "oci:image", &format!("docker://{repository}:v1"), "--signatures"]).ok();
    attach("application/vnd.example.late");
    site.run(&bench, &["push", "oci:image", &format!("docker://{repository}:v1"), "--signatures"]).ok();
    let mut kinds: Vec<String> = listed(&site, "tag/shared", &image)
        .iter()
        .map(|d| d["artifactType"].as_str().unwrap_or_default().to_owned())
        .collect();
    kinds.sort();
    assert_eq!(kinds, [ALONGSIDE, "application/vnd.example.late", "application/vnd.example.sbom"]);
    site.run(&bench, &["verify", &format!("docker://{repository}:v1"), "--trust", "signer.crt"]).ok();
}

/// Two images under one index; `--platform` picks one, and without it `sign` seals both.
#[test]
fn d13_every_instance_of_an_index_is_sealed() {
    for site in Site::all() {
        let bench = Bench::new();
        bench.signer("signer", signer());
        let mut layout = Layout::new(&bench.path("image"), &two_layers());
        let amd = layout.digest;
        let amd_manifest = layout.manifest.clone();
        let config = amd_manifest["config"]["digest"].as_str().unwrap();
        let text = String::from_utf8(layout.read(config)).unwrap().replace("amd64", "arm64");
        let mut arm_manifest = amd_manifest.clone();
        arm_manifest["config"] = layout.descriptor("application/vnd.oci.image.config.v1+json", text.as_bytes());
        layout.set_manifest(&arm_manifest);
        let arm = layout.digest;
        let entry = |digest: &layerseal::digest::BlobDigest, os: &str, architecture: &str| {
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(),
                   "size": layout.read(&digest.to_string()).len(), "platform": {"os": os, "architecture": architecture}})
        };
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry(&amd, "linux", "amd64"), entry(&arm, "linux", "arm64")]});
        let mut descriptor = layout.descriptor("application/vnd.oci.image.index.v1+json", index.to_string().as_bytes());
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
        layout.set_index(json!([descriptor]));
        let at = format!("docker://{}:v1", site.repository("index/both"));
        let from = format!("oci:{}:latest", bench.path("image").display());
        skopeo(&["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", &from, &at]);

        let sign = ["sign", &at, "--cert", "signer.crt", "--key", "signer.key"];
        site.run(&bench, &[&sign[..], &["--platform", "linux/arm64"]].concat()).ok();
        let verify = |platform: &str| {
            site.run(&bench, &["verify", &at, "--trust", "signer.crt", "--platform", platform, "--json"])
        };
        assert_eq!(verify("linux/arm64").ok().json()["image"], arm.to_string());
        assert_eq!(verify("linux/amd64").code, 3);
        assert_eq!(site.run(&bench, &sign).ok().stdout.lines().count(), 2);
        assert_eq!(verify("linux/amd64").ok().json()["image"], amd.to_string());
        assert_eq!(verify("linux/s390x").code, 4);
        // The same in a layout.
        assert_eq!(
            bench
                .run(&["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key"])
                .ok()
                .stdout
                .lines()
                .count(),
            2
        );
        bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--platform", "linux/arm64"]).ok();
        bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--platform", "linux/amd64"]).ok();
    }
}

/// Docker's own manifests: the proxy converts them, and what is signed is what the registry has.
#[test]
fn docker_manifests_are_sealed_as_they_are() {
    for site in Site::all() {
        let (bench, _) = bench();
        let at = format!("docker://{}:v1", site.repository("docker/format"));
        let from = format!("oci:{}:latest", bench.path("image").display());
        skopeo(&["copy", "--format", "v2s2", "--dest-tls-verify=false", &from, &at]);
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &at]);
        assert!(raw.contains("vnd.docker.distribution.manifest.v2"), "{raw}");
        site.run(&bench, &["sign", &at, "--cert", "signer.crt", "--key", "signer.key"]).ok();
        let pull = ["pull", &at, "--name", "docker", "--trust", "signer.crt", "--require-signature"];
        let run = site.run(&bench, &pull).ok();
        let digest = layerseal::digest::BlobDigest::of(raw.as_bytes());
        assert_eq!(run.stdout.trim(), format!("docker {digest}"));
    }
}

/// A repository that is not there is not one without seals.
#[test]
fn c18_nothing_there_is_not_nothing_sealed() {
    for site in Site::all() {
        let (bench, _) = bench();
        let nowhere = format!("docker://{}:v1", site.repository("no/where"));
        for args in [
            &["verify", &nowhere, "--trust", "signer.crt"][..],
            &["inspect", &nowhere],
            &["pull", &nowhere],
            &["sign", &nowhere, "--cert", "signer.crt", "--key", "signer.key"],
            &["verify", "oci:image", "--trust", "signer.crt", "--seal", &nowhere],
        ] {
            site.run(&bench, args).refused(8, "C18");
        }
        let here = format!("docker://{}:v1", site.repository("some/where"));
        site.run(&bench, &["push", "oci:image", &here]).ok();
        let other = here.replace(":v1", ":v2");
        site.run(&bench, &["verify", &other, "--trust", "signer.crt"]).refused(8, "C18");
        site.run(&bench, &["verify", &here, "--trust", "signer.crt"]).refused(3, "C07");
    }
}

#[test]
fn c16_an_old_skopeo_is_refused_by_name() {
    let Some(site) = Site::plain() else { return };
    let (bench, _) = bench();
    let at = format!("docker://{}:v1", site.repository("old/skopeo"));
    let old = Site { skopeo: "old", ..site };
    for args in [&["verify", &at][..], &["push", "oci:image", &at]] {
        let refused = old.run(&bench, args).refused(9, "C16");
        assert!(refused.stderr.contains("0.2.3") && refused.stderr.contains("0.2.6"), "{}", refused.stderr);
    }
    let mut without = site.command(&bench, &["verify", &at, "--tls-verify=false"]);
    without.env("PATH", bench.dir.path());
    Run::of(without.output().unwrap()).refused(9, "C16");
}

/// Signatures that are made elsewhere, for an image that is in a registry.
#[test]
fn what_was_signed_elsewhere_is_attached_in_a_registry() {
    for site in Site::all() {
        let (bench, _) = bench();
        let at = format!("docker://{}:v1", site.repository("signed/elsewhere"));
        site.run(&bench, &["push", "oci:image", &at]).ok();
        site.run(&bench, &["digest", &at, "--identity", "a.example/x", "--write", "tosign"]).ok();
        let script = "cd tosign && for f in *.tosign; do openssl smime -sign -binary -noattr -nocerts -outform der \
            -signer ../signer.crt -inkey ../signer.key -in $f -out ${f%.tosign}.sig || exit 1; done";
        let signed = Command::new("sh").args(["-c", script]).current_dir(bench.dir.path()).status().unwrap();
        assert!(signed.success());
        site.run(&bench, &["attach", &at, "--signatures", "tosign", "--trust", "signer.crt"]).ok();
        site.run(&bench, &["verify", &at, "--trust", "signer.crt", "--identity", "a.example/x"]).ok();
    }
}

/// Mounted from a registry: into the vault first, and from there without it.
#[test]
fn an_image_is_mounted_from_a_registry() {
    let Some(site) = Site::with_api() else { return };
    if !rustix::process::geteuid().is_root() {
        support::skip!("mounting from a registry: needs root");
    }
    let (bench, _) = bench();
    let at = format!("docker://{}:v1", site.repository("to/mount"));
    site.run(&bench, &["push", "oci:image", &at, "--signatures"]).ok();
    std::fs::create_dir(bench.path("m")).unwrap();
    let mount = |image: &str, certificate: &str| {
        let args = [
            "mount",
            image,
            "m",
            "--trust",
            certificate,
            "--require-signature",
            "--verity",
            "off",
            "--tls-verify=false",
        ];
        let inner = site.command(&bench, &args);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", "\"$@\" && cat m/etc/small", "sh"]);
        command.arg(inner.get_program()).args(inner.get_args()).current_dir(bench.dir.path());
        for (key, value) in inner.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        Run::of(command.output().unwrap())
    };
    bench.signer("other", crate::common::stranger());
    assert_eq!(mount(&at, "other.crt").code, 4);
    let run = mount(&at, "signer.crt").ok();
    assert_eq!(run.stdout, "s".repeat(100));
}
