//! What a host does to programs: disks that are full or read-only, processes that are killed or stopped, and many
//! at once. Afterwards everything is as if nothing had happened, or as if all had.
#![allow(missing_docs)]

mod clock;
mod full;
mod kills;
mod locks;
mod many;
mod verbs;

use std::path::Path;
use std::process::Command;
use support::{common, disk, host, sandbox, tools};

use common::{Bench, Entry, Layer};
use host::{APP, ENFORCE, Host};
use layerseal::digest::BlobDigest;
use tools::Site;

/// Whether filesystems can be made and mounted here; says so when they cannot.
fn can_mount_disks(what: &str) -> bool {
    let tool = Command::new("mke2fs").arg("-V").output().is_ok();
    let there = rustix::process::geteuid().is_root() && tool && Path::new("/dev/loop-control").exists();
    if !there {
        support::skip!("{what}: needs root, mke2fs and loop devices");
    }
    true
}

/// Layers of some dozen files of every size.
fn layers() -> Vec<Layer> {
    let layer = |name: &str, files: usize| {
        let mut entries = vec![Entry::dir("usr"), Entry::dir(&format!("usr/{name}"))];
        for number in 0..files {
            let content = format!("{name} {number} ").repeat(1 + 5 * number * number);
            entries.push(Entry::file(&format!("usr/{name}/{number}"), content));
        }
        Layer::new(&entries)
    };
    vec![layer("low", 40), layer("high", 25).gzip()]
}

/// The image sealed as `oci:image`, and as the name `registry.example.com/acme/app`.
fn sealed(bench: &Bench) {
    bench.sealed(&layers());
}

/// Pulls it as a host does that asks for a seal.
const PULL: [&str; 7] = ["pull", "oci:image", "--name", "app", "--require-signature", "--trust", "signer.crt"];

/// The vault is whole, and the image in it verifies.
#[track_caller]
fn whole(bench: &Bench) {
    bench.run(&["fsck"]).ok();
    bench.run(&["verify", "app", "--trust", "signer.crt"]).ok();
}

/// Nothing is left of what was cut off, once a collection was there.
#[track_caller]
fn nothing_is_left(bench: &Bench) {
    bench.run(&["gc"]).ok();
    let rests: Vec<String> = bench.vault_files().into_iter().filter(|name| name.contains(".new-")).collect();
    assert_eq!(rests, Vec::<String>::new());
}

/// The digest of nothing in particular.
fn image() -> BlobDigest {
    BlobDigest::of(b"some image")
}

/// A repository with the sealed image of a [`Host`], for [`fetch`].
fn registry(name: &str) -> Option<String> {
    let site = Site::plain()?;
    let from = format!("docker://{}", site.repository(name));
    let host = Host::bare(ENFORCE)?;
    site.run(&host.bench, &["push", "oci:app", &format!("{from}:v1"), "--signatures"]).ok();
    Some(from)
}

/// The verb that brings the seals from there.
fn fetch(from: &str) -> [&str; 5] {
    const NAME: &str = "registry.example.com/acme/app:v1";
    assert!(NAME.starts_with(APP));
    ["fetch", NAME, "--from", from, "--tls-verify=false"]
}

/// Gives the host the skopeo that registries are tested with.
fn with_skopeo(host: &Host) {
    let tool = tools::tools().unwrap().join("skopeo-trixie/bin/skopeo");
    host.sandbox.sh(&format!("mount --bind '{}' /usr/bin/skopeo", tool.display()));
}
