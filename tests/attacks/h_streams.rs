//! Layer blobs as streams: compression, truncation, bombs, digests; and that nothing about the machine
//! gets into a digest.

use std::io::Write as _;

use layerseal::digest::BlobDigest;
use serde_json::{Value, json};

use crate::common::{Bench, Entry, Layer, Layout, signer, two_layers};
use crate::forge::small;

/// An image of one layer whose blob is `blob`, and whose diff_id is that of `tar`.
fn with_blob(bench: &Bench, blob: &[u8], tar: &[u8]) -> Layout {
    let mut layout = Layout::new(&bench.path("image"), &[Layer::raw(tar.to_vec())]);
    let mut manifest = layout.manifest.clone();
    manifest["layers"][0] = layout.descriptor("application/vnd.oci.image.layer.v1.tar+gzip", blob);
    layout.set_manifest(&manifest);
    layout
}

#[track_caller]
fn refused(case: &str, blob: &[u8], tar: &[u8]) {
    let bench = Bench::new();
    bench.signer("signer", signer());
    let layout = with_blob(&bench, blob, tar);
    bench.run(&["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key"]).refused(4, case);
    assert!(layout.seals().is_empty());
    bench.run(&["pull", "oci:image"]).refused(4, case);
    let left: Vec<String> = bench.vault_files().into_iter().filter(|f| !f.starts_with("objects/")).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn accepted(blob: &[u8], tar: &[u8]) {
    let bench = Bench::new();
    with_blob(&bench, blob, tar);
    bench.run(&["pull", "oci:image"]).ok();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    Layer::raw(bytes.to_vec()).gzip().blob()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    Layer::raw(bytes.to_vec()).zstd().blob()
}

#[test]
fn h11_streams_that_end_early_or_late_are_refused() {
    let tar = small().remove(0).tar;
    for whole in [gzip(&tar), zstd(&tar)] {
        accepted(&whole, &tar);
        for cut in [1, 4, 12, whole.len() / 2, whole.len() - 6] {
            refused("H11", &whole[..whole.len() - cut], &tar);
        }
        refused("H11", &[&whole[..], b"garbage after the end"].concat(), &tar);
        refused("H11", &[&whole[..], &[0; 512]].concat(), &tar);
        let mut changed = whole.clone();
        let at = changed.len() - 6;
        changed[at] ^= 0x55;
        let bench = Bench::new();
        with_blob(&bench, &changed, &tar);
        assert_eq!(bench.run(&["pull", "oci:image"]).code, 4);
    }
    // Members and frames one after the other are one stream.
    let (first, second) = tar.split_at(1000);
    accepted(&[gzip(first), gzip(second)].concat(), &tar);
    accepted(&[zstd(first), zstd(second)].concat(), &tar);
    // Other compressions are not tars.
    for (case, other) in [("H11", b"PK\x03\x04".as_slice()), ("H11", b"#!/bin/sh\n")] {
        refused(case, &[other, &[b'x'; 600]].concat(), &tar);
    }
}

#[test]
fn h14_other_compressions_are_named() {
    let tar = small().remove(0).tar;
    for (name, head) in [("bzip2", b"BZh91AY&SY".as_slice()), ("xz", b"\xfd7zXZ\0")] {
        let bench = Bench::new();
        with_blob(&bench, &[head, &[b'x'; 600]].concat(), &tar);
        let run = bench.run(&["pull", "oci:image"]).refused(4, "H14");
        assert!(run.stderr.contains(name), "{}", run.stderr);
    }
    accepted(&gzip(&tar), &tar);
}

#[test]
fn h11_tars_that_end_early_are_refused() {
    let entries = [Entry::dir("usr"), Entry::file("usr/tool", vec![b't'; 3000])];
    let whole: Vec<u8> = entries.iter().flat_map(Entry::bytes).collect();
    // Within the file, its padding, its header.
    for end in [whole.len() - 1, whole.len() - 72, whole.len() - 512, 1024 + 5, 1023, 600, 100] {
        refused("H11", &whole[..end], &whole[..end]);
    }
    // Between entries a tar may end without its zero blocks, as Go's reader says too.
    accepted(&whole, &whole);
    // Headers whose checksum, size or number does not hold.
    for (at, byte) in [(148, b'9'), (124, b'z'), (108, b'z'), (257, b'X')] {
        let mut changed = whole.clone();
        changed[512 + at] = byte;
        let bench = Bench::new();
        with_blob(&bench, &changed, &changed);
        bench.run(&["pull", "oci:image"]).refused(4, "H11");
    }
    // A size beyond the end of the stream, and of all streams.
    for size in [1 << 20, (1 << 33) - 1] {
        let lying = Entry { size: Some(size), ..Entry::file("usr/tool", "short") };
        let tar = [Entry::dir("usr").bytes(), lying.bytes()].concat();
        refused("H11", &tar, &tar);
    }
    let tar = [Entry::dir("usr").bytes(), Entry::file("usr/tool", "short").pax("size", u64::MAX.to_string()).bytes()]
        .concat();
    refused("H11", &tar, &tar);
}

#[test]
fn c03_bombs_are_refused_before_they_are_large() {
    // 256 MiB of zeros in the content of a file, and behind the end of the archive, where nobody looks.
    let zeros = |head: &[u8]| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.write_all(head).unwrap();
        let piece = vec![0_u8; 1 << 20];
        for _ in 0..256 {
            encoder.write_all(&piece).unwrap();
        }
        encoder.finish().unwrap()
    };
    let file = Entry { size: Some(256 << 20), ..Entry::file("usr/zeros", "") };
    let mut header = [Entry::dir("usr").bytes(), file.bytes()].concat();
    header.truncate(1024);
    for bomb in [zeros(&header), zeros(&Layer::new(&[Entry::dir("usr")]).tar)] {
        assert!(bomb.len() < 1 << 20);
        // Not H11: nobody read to the end and hashed it.
        refused("C03", &bomb, b"");
    }
    // PAX headers are kept in memory.
    let tar =
        [Entry::dir("usr").bytes(), Entry::file("usr/x", "x").pax("comment", vec![b'c'; 2 << 20]).bytes()].concat();
    refused("H11", &tar, &tar);
}

#[test]
fn c04_diff_ids_are_compared() {
    let tar = small().remove(0).tar;
    let other = Layer::new(&[Entry::dir("usr")]).tar;
    for blob in [gzip(&tar), zstd(&tar), tar.clone()] {
        refused("C04", &blob, &other);
    }
    // What follows the end of the archive is part of it.
    let longer = [&tar[..], &[0; 512]].concat();
    refused("C04", &gzip(&longer), &tar);
    refused("C04", &gzip(&tar), &longer);
}

#[test]
fn d05_diff_ids_are_as_many_as_layers() {
    let bench = Bench::new();
    let mut layout = Layout::new(&bench.path("image"), &two_layers());
    let original = layout.manifest.clone();
    for count in [0, 1, 3] {
        let diff_ids = vec![BlobDigest::of(b"x").to_string(); count];
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
                .to_string();
        let mut manifest = original.clone();
        manifest["config"] = layout.descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes());
        layout.set_manifest(&manifest);
        bench.run(&["pull", "oci:image"]).refused(4, "D05");
    }
}

#[test]
fn h11_layers_that_are_no_tars_by_their_type_are_refused() {
    let bench = Bench::new();
    let mut layout = Layout::new(&bench.path("image"), &small());
    for media in [
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "application/vnd.example.wasm",
        "application/octet-stream",
    ] {
        let mut manifest = layout.manifest.clone();
        manifest["layers"][0]["mediaType"] = media.into();
        layout.set_manifest(&manifest);
        bench.run(&["pull", "oci:image"]).refused(4, "H11");
    }
}

/// Digests of the roles that only the layers decide.
fn digests(bench: &Bench, env: &[(&str, &str)], umask: &str) -> Value {
    let inner = bench.command(&["digest", "--json", "oci:image"]);
    let mut shell = std::process::Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("umask {umask}; exec \"$@\""))
        .arg("sh")
        .arg(inner.get_program())
        .args(inner.get_args());
    let output = shell.current_dir(bench.dir.path()).envs(env.iter().copied()).output().unwrap();
    let all: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    all["roles"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["role"] == "merged" || r["role"].as_str().unwrap().starts_with("layer"))
        .cloned()
        .collect()
}

#[test]
fn h01_the_same_tars_have_the_same_digests() {
    let xattrs = |names: [&str; 2]| {
        names.iter().fold(Entry::file("usr/x", vec![b'x'; 100]), |e, n| e.pax(&format!("SCHILY.xattr.{n}"), *n))
    };
    let ordered = Layer::new(&[Entry::dir("usr"), xattrs(["security.capability", "user.a"])]);
    let compressions: [fn(Layer) -> Layer; 3] = [|l| Layer { compression: "", ..l }, Layer::gzip, Layer::zstd];
    let mut seen = Vec::new();
    for compress in compressions {
        let bench = Bench::new();
        let layers: Vec<Layer> = two_layers().into_iter().chain([ordered.clone()]).map(compress).collect();
        let layout = Layout::new(&bench.path("image"), &layers);
        for blob in std::fs::read_dir(layout.path.join("blobs/sha256")).unwrap().flatten() {
            let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(86_400 * seen.len() as u64);
            std::fs::File::open(blob.path()).unwrap().set_modified(long_ago).unwrap();
        }
        seen.push(digests(&bench, &[], "022"));
        seen.push(digests(
            &bench,
            &[("TZ", "Pacific/Kiritimati"), ("LANG", "tr_TR.UTF-8"), ("LC_ALL", "tr_TR.UTF-8")],
            "077",
        ));
        seen.push(digests(&bench, &[("TZ", "America/Los_Angeles"), ("SOURCE_DATE_EPOCH", "1")], "000"));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");
    // The order of attributes in the tar is not in the digest.
    let reordered = Layer::new(&[Entry::dir("usr"), xattrs(["user.a", "security.capability"])]);
    let roles = [ordered, reordered].map(|layer| {
        let bench = Bench::new();
        Layout::new(&bench.path("image"), &[layer]);
        digests(&bench, &[], "022")
    });
    assert_eq!(roles[0], roles[1]);
}
