//! `layerseal fsck`: damage is found, named by file and layer, and mended where that can be done.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::{self, Bench, Layout, two_layers};
use crate::{can_mount, object, other_layers};

const TOOL: [u8; 5000] = [b'x'; 5000];
const UPPER: [u8; 200] = [b'u'; 200];

fn sealed() -> (Bench, Layout) {
    let bench = Bench::new();
    let layout = bench.sealed(&two_layers());
    bench.run(&["pull", "oci:image", "--name", "app", "--require-signature", "--trust", "signer.crt"]).ok();
    (bench, layout)
}

fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o444)).unwrap();
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    replace(path, &bytes);
}

/// Layer, path and fault of everything that is found.
fn damage(report: &Value) -> Vec<(Value, String, String)> {
    let all = report["images"].as_array().unwrap().iter().flat_map(|i| i["damage"].as_array().unwrap());
    let text = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    all.map(|d| (d["layer"].clone(), text(&d["path"]), text(&d["fault"]))).collect()
}

#[track_caller]
fn found(bench: &Bench, code: i32) -> Vec<(Value, String, String)> {
    let run = bench.run(&["fsck", "--json"]);
    assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
    damage(&run.json())
}

fn entry(layer: impl Into<Value>, path: &str, fault: &str) -> (Value, String, String) {
    (layer.into(), path.into(), fault.into())
}

#[test]
fn i02_damage_is_named_by_file_and_layer() {
    let (bench, _) = sealed();
    let run = bench.run(&["fsck"]).ok();
    assert!(run.stdout.contains("app: ") && run.stdout.contains("all good"), "{}", run.stdout);
    flip(&object(&bench, &TOOL));
    std::fs::remove_file(object(&bench, &UPPER)).unwrap();
    // A file has its hard links' names as well.
    let all = [
        entry(0, "usr/bin/same-tool", "damaged"),
        entry(0, "usr/bin/tool", "damaged"),
        entry(1, "etc/opaque/upper", "missing"),
    ];
    assert_eq!(found(&bench, 4), all);
    let text = bench.run(&["fsck", "app"]).stdout;
    let line = text.lines().find(|l| l.contains("etc/opaque/upper")).unwrap();
    assert!(line.starts_with("app: layer 1: etc/opaque/upper: object fsverity-sha512-12:"), "{line}");
    assert!(line.ends_with("missing [I02]"), "{line}");
    // Whatever is in its place.
    for harm in [
        |path: &Path| replace(path, b""),
        |path: &Path| replace(path, &[TOOL.as_slice(), b"more"].concat()),
        |path: &Path| {
            std::fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/hostname", path).unwrap();
        },
        |path: &Path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        },
    ] {
        let path = object(&bench, &TOOL);
        harm(&path);
        assert_eq!(found(&bench, 4), all);
        let _ = std::fs::remove_dir(&path);
        std::fs::write(&path, "").unwrap();
    }
}

#[test]
fn i02_damaged_images_and_documents_are_named() {
    let (bench, layout) = sealed();
    let notes = bench.vault().join("images").join(layout.digest.hex()).join("digests.fsverity-sha512-12");
    let text = std::fs::read_to_string(&notes).unwrap();
    let path = |line: usize| {
        let hex = text.lines().nth(line).unwrap().split(' ').nth(1).unwrap();
        bench.vault().join("objects").join(&hex[..2]).join(&hex[2..])
    };
    // The trees come first, then the layers.
    flip(&path(3));
    assert_eq!(found(&bench, 4), [entry(1, "-", "damaged")]);
    // The trees still tells what the layer's does not.
    std::fs::remove_file(object(&bench, &UPPER)).unwrap();
    let all = [entry(1, "-", "damaged"), entry(Value::Null, "etc/opaque/upper", "missing")];
    assert_eq!(found(&bench, 4), all);
    let run = bench.run(&["fsck", "--repair", "--json"]).ok().json();
    assert_eq!(run["images"][0]["damage"][0]["remedy"], "repaired");
    assert_eq!(found(&bench, 0), []);
    flip(&path(0));
    assert_eq!(found(&bench, 4), [entry(Value::Null, "-", "damaged")]);
    bench.run(&["fsck", "--repair"]).ok();
    std::fs::write(&notes, "rootfs\n").unwrap();
    let run = bench.run(&["fsck", "--json"]);
    assert_eq!((run.code, &run.json()["images"][0]["documents"][0]["case"]), (4, &json!("X01")));
    std::fs::write(&notes, text).unwrap();
    flip(&bench.vault().join("blobs/sha256").join(layout.digest.hex()));
    let run = bench.run(&["fsck", "--json"]);
    assert_eq!((run.code, &run.json()["images"][0]["documents"][0]["case"]), (4, &json!("C04")));
}

#[test]
fn i02_only_the_images_that_are_named_are_looked_at() {
    let (bench, layout) = sealed();
    Layout::new(&bench.path("other-image"), &other_layers());
    bench.run(&["pull", "oci:other-image", "--name", "other"]).ok();
    flip(&object(&bench, &UPPER));
    bench.run(&["fsck", "other"]).ok();
    assert_eq!(bench.run(&["fsck", "other", "app"]).code, 4);
    assert_eq!(bench.run(&["fsck", &format!("@{}", layout.digest)]).code, 4);
    bench.run(&["fsck", "oci:image"]).refused(2, "A01");
    bench.run(&["fsck", "nobody"]).refused(2, "X04");
    // What both have is damaged in both.
    flip(&object(&bench, &TOOL));
    let tools = found(&bench, 4).into_iter().filter(|(_, path, _)| path == "usr/bin/tool").count();
    assert_eq!(tools, 2);
    bench.run(&["fsck", "--repair", "other"]).ok();
    assert_eq!(found(&bench, 4), [entry(1, "etc/opaque/upper", "damaged")]);
}

#[test]
fn i02_objects_are_made_again_from_the_layers() {
    let (bench, _) = sealed();
    let before = bench.vault_files();
    flip(&object(&bench, &TOOL));
    std::fs::remove_file(object(&bench, &UPPER)).unwrap();
    let run = bench.run(&["fsck", "--repair"]).ok();
    assert_eq!(run.stdout.matches(", repaired [I02]").count(), 3, "{}", run.stdout);
    assert_eq!(std::fs::read(object(&bench, &TOOL)).unwrap(), TOOL);
    assert_eq!(bench.vault_files(), before);
    bench.run(&["fsck"]).ok();
    if can_mount("a repaired image") {
        let root = bench.path("root");
        std::fs::create_dir(&root).unwrap();
        bench.run(&["mount", "app", "root", "--verity", "off", "--trust", "signer.crt"]).ok();
        let read = std::fs::read(root.join("usr/bin/tool"));
        common::unmount(&root);
        assert_eq!(read.unwrap(), TOOL);
    }
}

#[test]
fn i02_without_good_layers_what_is_damaged_is_removed() {
    let (bench, layout) = sealed();
    let blob = |n: usize| {
        let hex = layout.manifest["layers"][n]["digest"].as_str().unwrap().replace("sha256:", "");
        bench.vault().join("blobs/sha256").join(hex)
    };
    let image = bench.vault().join("images").join(layout.digest.hex());
    let checked =
        || std::fs::read_dir(&image).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().starts_with("checked."));
    // A layer that is damaged itself makes nothing.
    flip(&blob(0));
    flip(&object(&bench, &TOOL));
    assert!(checked());
    let run = bench.run(&["fsck", "--repair"]);
    assert_eq!(run.code, 4, "{}", run.stderr);
    assert!(run.stdout.contains("removed [I02]") && run.stdout.contains("to do: "), "{}", run.stdout);
    assert!(!object(&bench, &TOOL).exists() && !checked());
    assert_eq!(found(&bench, 4).len(), 2);
    // As the message says: it comes again with the image.
    bench.run(&["pull", "oci:image", "--name", "app", "--require-signature", "--trust", "signer.crt"]).ok();
    bench.run(&["fsck"]).ok();
    assert!(checked());
    std::fs::remove_file(blob(1)).unwrap();
    flip(&object(&bench, &UPPER));
    assert_eq!(bench.run(&["fsck", "--repair"]).code, 4);
    assert!(!object(&bench, &UPPER).exists());
}

/// Blobs are read too; of a layout nobody knows where they could come from again.
#[test]
fn c04_blobs_are_checked_too() {
    let (bench, layout) = sealed();
    let manifest = layout.digest.to_string();
    let config = layout.manifest["config"]["digest"].as_str().unwrap().to_owned();
    let layer = layout.manifest["layers"][1]["digest"].as_str().unwrap().to_owned();
    for (digest, what) in [(manifest, "manifest"), (config, "config"), (layer, "layer 1")] {
        let path = bench.vault().join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
        let good = std::fs::read(&path).unwrap();
        flip(&path);
        for fault in ["damaged", "missing"] {
            for args in [&["fsck"][..], &["fsck", "--repair"]] {
                let run = bench.run(args);
                let line = format!("app: {what}: blob {digest} {fault} [C04]");
                assert!(run.code == 4 && run.stdout.contains(&line), "{line}: {}{}", run.stdout, run.stderr);
            }
            let _ = std::fs::remove_file(&path);
        }
        std::fs::write(&path, good).unwrap();
        bench.run(&["fsck"]).ok();
    }
}

/// An object that two images share is told of once, and what nothing here can make again is left to a person, with the
/// command for it.
#[test]
fn i02_a_shared_object_is_told_once_and_a_person_is_told_what_to_do() {
    let (bench, _) = sealed();
    Layout::new(&bench.path("more"), &[two_layers(), other_layers()].concat());
    bench.run(&["pull", "oci:more", "--name", "more"]).ok();
    let objects = object(&bench, &TOOL);
    std::fs::remove_file(&objects).unwrap();
    let text = bench.run(&["fsck"]).stdout;
    let tellers = text.lines().filter(|line| line.contains("usr/bin/tool: object")).map(|line| line.split(':').next());
    let tellers: std::collections::BTreeSet<_> = tellers.collect();
    assert_eq!(tellers.len(), 1, "{text}");
    assert!(text.contains("of the objects above are its own too"), "{text}");
    // Without layers nothing can be made again.
    std::fs::remove_dir_all(bench.vault().join("blobs/sha256")).unwrap();
    std::fs::create_dir(bench.vault().join("blobs/sha256")).unwrap();
    let ran = bench.run(&["fsck", "--repair"]);
    assert_eq!(ran.code, 4);
    for name in ["app", "more"] {
        assert!(ran.stdout.contains(&format!("to do: `layerseal pull IMAGE --name {name}`")), "{}", ran.stdout);
    }
}

/// The object of a line of the host's notes on an image: the container's tree, the merged one, and the layers.
fn noted(bench: &Bench, layout: &Layout, line: usize) -> PathBuf {
    let notes = bench.vault().join("images").join(layout.digest.hex()).join("digests.fsverity-sha512-12");
    let text = std::fs::read_to_string(notes).unwrap();
    let hex = text.lines().nth(line).unwrap().split(' ').nth(1).unwrap();
    bench.vault().join("objects").join(&hex[..2]).join(&hex[2..])
}

/// Manifest of the seal of an image, and the blobs that it names.
fn seal_blobs(bench: &Bench, layout: &Layout) -> Vec<PathBuf> {
    let seals = bench.vault().join("images").join(layout.digest.hex()).join("seals");
    let seal = std::fs::read_dir(seals).unwrap().next().unwrap().unwrap().file_name();
    let blobs = bench.vault().join("blobs/sha256");
    let manifest: Value = serde_json::from_slice(&std::fs::read(blobs.join(&seal)).unwrap()).unwrap();
    let parts = manifest["layers"].as_array().unwrap().iter();
    let parts = parts.map(|part| blobs.join(part["digest"].as_str().unwrap().trim_start_matches("sha256:")));
    [blobs.join(seal)].into_iter().chain(parts).filter(|path| path.exists()).collect()
}

/// Of every kind of damage: it is found; afterwards nothing is wrong, or what is left says what to type, and that helps.
#[test]
fn every_kind_of_damage_ends_well_or_with_a_command() {
    type Place = fn(&Bench, &Layout) -> PathBuf;
    let kinds: [(&str, Place, bool); 11] = [
        ("a file", |bench, _| object(bench, &TOOL), true),
        ("the container's tree", |bench, layout| noted(bench, layout, 0), true),
        ("the merged tree", |bench, layout| noted(bench, layout, 1), true),
        ("the tree of a layer", |bench, layout| noted(bench, layout, 3), true),
        (
            "the notes",
            |bench, layout| bench.vault().join("images").join(layout.digest.hex()).join("digests.fsverity-sha512-12"),
            true,
        ),
        ("the manifest", |bench, layout| bench.vault().join("blobs/sha256").join(layout.digest.hex()), false),
        ("the config", |bench, layout| of_blob(bench, &layout.manifest["config"]["digest"]), false),
        ("a layer", |bench, layout| of_blob(bench, &layout.manifest["layers"][0]["digest"]), false),
        ("the seal", |bench, layout| seal_blobs(bench, layout)[0].clone(), false),
        ("a signature", |bench, layout| seal_blobs(bench, layout)[1].clone(), false),
        ("a statement", |bench, layout| seal_blobs(bench, layout).pop().unwrap(), false),
    ];
    let (fresh, layout) = sealed();
    for (what, place, is_made_again) in kinds {
        for is_missing in [false, true] {
            let bench = Bench::new();
            let mut copy = std::process::Command::new("cp");
            copy.arg("-a").arg(fresh.dir.path().join(".")).arg(bench.dir.path());
            assert!(copy.status().unwrap().success());
            let path = place(&bench, &layout);
            if is_missing && ["the notes", "a signature", "a statement"].contains(&what) {
                continue;
            }
            match is_missing {
                false if what == "the notes" => std::fs::write(&path, "rootfs\n").unwrap(),
                false => flip(&path),
                true => std::fs::remove_file(&path).unwrap(),
            }
            let found = bench.run(&["fsck"]);
            assert_eq!(found.code, 4, "{what} {is_missing}: {}{}", found.stdout, found.stderr);
            bench.run(&["fsck", "--repair"]);
            let after = bench.run(&["fsck", "--json"]);
            let to_do = after.json()["images"][0]["to_do"].clone();
            if is_made_again {
                assert_eq!((after.code, &to_do), (0, &Value::Null), "{what} {is_missing}: {}", after.stdout);
            }
            if after.code != 0 {
                let to_do = to_do.as_str().unwrap_or_else(|| panic!("{what} {is_missing}: {}", after.stdout));
                assert!(bench.run(&["fsck"]).stdout.contains(&format!("to do: {to_do}")), "{what} {is_missing}");
                let typed = to_do.split('`').nth(1).unwrap().replace("IMAGE", "oci:image");
                let words: Vec<&str> = typed.split(' ').skip(1).collect();
                bench.run(&[&words[..], &["--require-signature", "--trust", "signer.crt"]].concat()).ok();
                bench.run(&["fsck"]).ok();
            }
            bench.run(&["verify", "app", "--trust", "signer.crt"]).ok();
            bench.run(&["gc"]).ok();
        }
    }
}

fn of_blob(bench: &Bench, digest: &Value) -> PathBuf {
    bench.vault().join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:"))
}
