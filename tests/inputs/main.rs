//! Images as real builders make them, and what is right for each (`tests/vectors/inputs`).
#![allow(missing_docs)]

use std::path::Path;
use std::process::Command;
use support::common;

use common::{Bench, Run, signer};
use composefs::fsverity::Sha256HashValue;
use layerseal::digest::Algorithm;
use layerseal::image::{Contents, ContentsRequest, Keep, ReadOnly, Stack, dumpfile};
use layerseal::oci::{Budget, Image, Layout, Platform};

/// The input as `oci:image` of a bench.
fn input(name: &str) -> Bench {
    let bench = Bench::new();
    bench.signer("signer", signer());
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/inputs/{name}.oci.tar.gz"));
    std::fs::create_dir(bench.path("image")).unwrap();
    let tar = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(bench.path("image")).status().unwrap();
    assert!(tar.success(), "{name}");
    bench
}

fn sign(bench: &Bench) -> Run {
    bench.run(&["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key"])
}

/// Signs and verifies it, and gives the container's tree as a dumpfile.
#[track_caller]
fn sealed(name: &str) -> String {
    let bench = input(name);
    sign(&bench).ok();
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).ok();
    let (budget, algorithm) = (Budget::STANDARD, Algorithm::Sha256);
    let layout = Layout::open(&bench.path("image")).unwrap();
    let digest = layout.resolve(None, &budget).unwrap();
    let image = Image::read(layout.store(), &digest, &Platform::host(), &budget).unwrap();
    let visitor = ReadOnly { store: layout.store(), algorithm };
    let contents =
        Contents::read(&image, ContentsRequest { algorithm, keep: Keep::Entries }, &visitor, &budget, &|_| ()).unwrap();
    let mut stack = Stack::<Sha256HashValue>::default();
    contents.entries().unwrap().iter().for_each(|entries| drop(stack.add(entries).unwrap()));
    dumpfile(&stack.into_tree()).unwrap()
}

/// The fields of a path: size, mode, links, owner, ...
#[track_caller]
fn line<'a>(tree: &'a str, path: &str) -> Vec<&'a str> {
    let found = tree.lines().find(|l| l.split(' ').next() == Some(path));
    found.unwrap_or_else(|| panic!("{path} in {tree}")).split(' ').collect()
}

/// A directory that came into being: 0755 0:0, 1970.
#[track_caller]
fn implied(tree: &str, path: &str) {
    let fields = line(tree, path);
    assert_eq!([fields[2], fields[4], fields[5], fields[7]], ["40755", "0", "0", "0.0"], "{path}");
}

#[test]
fn a_scratch_image_with_one_binary_has_a_root() {
    let tree = sealed("image-scratch-one-binary");
    let root = line(&tree, "/");
    assert_eq!([root[2], root[4], root[5], root[7]], ["40555", "0", "0", "0.0"]);
    assert_eq!(line(&tree, "/app")[1], "400");
}

#[test]
fn marks_of_aufs_are_what_podman_shows() {
    let tree = sealed("layer-aufs-metadata");
    implied(&tree, "/.wh..wh.plnk");
    line(&tree, "/.wh..wh.plnk/1284.1234");
    assert!(!tree.contains("aufs") && !tree.contains("orph"), "{tree}");
}

#[test]
fn h14_bzip2_is_named() {
    let run = sign(&input("layer-bzip2")).refused(4, "H14");
    assert!(run.stderr.contains("bzip2"), "{}", run.stderr);
}

#[test]
fn a_hard_link_with_a_size_is_a_link() {
    let tree = sealed("layer-hardlink-with-size");
    assert_eq!(line(&tree, "/usr/bin/a")[1], "600");
    assert_eq!(line(&tree, "/usr/bin/b")[2..], line(&tree, "/usr/bin/b")[2..]);
    let one = tree.lines().any(|l| l.starts_with("/usr/bin/b ") && l.contains(" @") && l.contains("/usr/bin/a"));
    assert!(one, "{tree}");
}

#[test]
fn a_time_before_1970_is_1970() {
    assert_eq!(line(&sealed("layer-mtime-pax-negative"), "/usr/bin/a")[7], "0.0");
}

#[test]
fn an_opaque_marker_after_a_file_hides_lower_layers_only() {
    let tree = sealed("layer-opaque-after-a-file");
    assert!(line(&tree, "/app/routes/+page.js").join(" ").contains("new"), "{tree}");
    line(&tree, "/app/routes/index.js");
    assert!(!tree.contains("/app/routes/z "), "{tree}");
}

#[test]
fn a_parent_that_is_a_symlink_below_becomes_a_directory() {
    let tree = sealed("layer-parent-is-lower-symlink");
    implied(&tree, "/lib");
    implied(&tree, "/lib/x86_64-linux-gnu");
    assert_eq!(line(&tree, "/lib/x86_64-linux-gnu/libnv.so")[1], "100");
}

#[test]
fn parents_that_are_missing_come_into_being() {
    let tree = sealed("layer-parents-missing");
    for path in ["/bin", "/bin/app.runfiles", "/bin/app.runfiles/_main", "/bin/app.runfiles/_main/app_"] {
        implied(&tree, path);
    }
    line(&tree, "/bin/app.runfiles/_main/app_/app");
}

#[test]
fn a_sparse_file_is_expanded() {
    assert_eq!(line(&sealed("layer-sparse-pax"), "/usr/bin/sp")[1], "100000");
}

#[test]
fn a_whiteout_in_a_missing_directory_removes_nothing() {
    let tree = sealed("layer-whiteout-in-missing-directory");
    implied(&tree, "/opt/none");
    line(&tree, "/usr/bin/x");
    assert!(!tree.contains("gone"), "{tree}");
}

#[test]
fn d13_an_empty_architecture_contradicts_nothing() {
    sealed("config-empty-architecture");
}

#[test]
fn b06_an_index_in_an_index_is_refused() {
    let bench = input("index-in-an-index");
    for run in
        [sign(&bench), bench.run(&["verify", "oci:image", "--trust", "signer.crt"]), bench.run(&["pull", "oci:image"])]
    {
        let run = run.refused(4, "B06");
        assert!(run.stderr.contains("an index lies in an index"), "{}", run.stderr);
    }
}

#[test]
fn d13_images_of_windows_are_passed_over_by_name() {
    let bench = input("index-windows-first");
    let run = sign(&bench).ok();
    assert!(run.stdout.contains(" linux/amd64 sha256:"), "{}", run.stdout);
    assert!(run.stderr.contains("windows/amd64") && run.stderr.contains("skipped"), "{}", run.stderr);
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).ok();
}

#[test]
fn an_untagged_layout_can_still_be_copied() {
    let bench = input("layout-untagged");
    let run = sign(&bench).ok();
    assert!(run.stderr.contains("oci:DIR:latest"), "{}", run.stderr);
    bench.run(&["verify", "oci:image:latest", "--trust", "signer.crt"]).ok();
    if !Command::new("skopeo").arg("--version").output().is_ok_and(|o| o.status.success()) {
        support::skip!("copying a layout that was untagged: needs skopeo");
    }
    let (from, to) = (bench.path("image"), bench.path("copy"));
    let copy = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "-q"])
        .arg(format!("oci:{}:latest", from.display()))
        .arg(format!("dir:{}", to.display()))
        .output()
        .unwrap();
    assert!(copy.status.success(), "{}", String::from_utf8_lossy(&copy.stderr));
}

/// Of a multi-platform image everything is sealed that can be; the rest is named.
#[test]
fn one_instance_that_cannot_be_sealed_keeps_no_other_from_it() {
    use common::{Entry, Layer, Layout};
    use serde_json::json;
    let bench = Bench::new();
    bench.signer("signer", signer());
    let good = Layer::new(&[Entry::file("app", "a")]);
    let bad = Layer::new(&[Entry::file("app", "a"), Entry::file("app/below", "b")]);
    let mut layout = Layout::new(&bench.path("image"), std::slice::from_ref(&good));
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let mut entries = Vec::new();
    for (architecture, layer) in [("arm64", &bad), ("amd64", &good)] {
        let config = json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers",
            "diff_ids": [layerseal::digest::BlobDigest::of(&layer.tar).to_string()]}});
        let config = layout.descriptor("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let blob = layout.descriptor("application/vnd.oci.image.layer.v1.tar", &layer.tar);
        let raw = json!({"schemaVersion": 2, "mediaType": manifest, "config": config, "layers": [blob]});
        let mut entry = layout.descriptor(manifest, raw.to_string().as_bytes());
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
    }
    let mut attestation = entries[0].clone();
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    entries.push(attestation);
    let media = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media, "manifests": entries}).to_string();
    let mut entry = layout.descriptor(media, index.as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    layout.digest = layerseal::digest::BlobDigest::of(index.as_bytes());
    layout.set_index(json!([entry]));
    let run = sign(&bench);
    assert_eq!(run.code, 4, "{}", run.stderr);
    assert!(run.stdout.contains(" linux/amd64 sha256:") && run.stdout.lines().count() == 1, "{}", run.stdout);
    assert!(run.stderr.contains("linux/arm64") && run.stderr.contains("[R-H03]"), "{}", run.stderr);
    assert!(run.stderr.contains("an attestation"), "{}", run.stderr);
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).ok();
}

/// Go writes null for a list that was never made: an image without layers is a root.
#[test]
fn layers_may_be_null() {
    use serde_json::json;
    let bench = Bench::new();
    bench.signer("signer", signer());
    let mut layout = common::Layout::new(&bench.path("image"), &[]);
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": null}});
    let mut manifest = layout.manifest.clone();
    manifest["config"] = layout.descriptor("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    manifest["layers"] = serde_json::Value::Null;
    layout.set_manifest(&manifest);
    sign(&bench).ok();
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).ok();
    let roles = bench.run(&["digest", "oci:image"]).ok().stdout;
    assert!(roles.contains("rootfs"), "{roles}");
}
