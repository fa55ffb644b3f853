//! `fsck --repair`: what the vault has lost comes from where the image came from, and no more than that.

use std::path::PathBuf;

use layerseal::digest::{Algorithm, verity_digest};

use crate::common::{Bench, Entry, Layer, Layout};
use crate::gateway::{Do, Gateway};
use crate::tools::Site;

fn layers() -> Vec<Layer> {
    let base = [Entry::dir("./"), Entry::dir("usr"), Entry::file("usr/one", vec![b'1'; 9000])];
    vec![
        Layer::new(&base),
        Layer::new(&[Entry::file("usr/two", vec![b'2'; 9000])]).gzip(),
        Layer::new(&[Entry::file("usr/three", vec![b'3'; 9000])]),
    ]
}

fn object(bench: &Bench, content: &[u8]) -> PathBuf {
    bench.vault().join("objects").join(verity_digest(Algorithm::Sha512, content).object_path())
}

fn blob(bench: &Bench, layout: &Layout, layer: usize) -> PathBuf {
    let digest = layout.manifest["layers"][layer]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    bench.vault().join("blobs/sha256").join(digest)
}

/// In the place of a file with the same name: what fs-verity protects cannot be written to.
fn replace(path: &PathBuf, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn fsck_fetches_the_one_layer_that_it_needs() {
    for site in Site::all() {
        let bench = Bench::new();
        let layout = bench.sealed(&layers());
        site.run(
            &bench,
            &["push", "oci:image", &format!("docker://{}:v1", site.repository("fsck/one")), "--signatures"],
        )
        .ok();
        let gateway = Gateway::new(site, |_| Do::Pass);
        let at = format!("docker://{}:v1", gateway.repository("fsck/one"));
        site.run(&bench, &["pull", &at, "--name", "app", "--trust", "signer.crt", "--require-signature"]).ok();
        let two = object(&bench, &[b'2'; 9000]);
        let fetched = |from: usize| {
            let log = gateway.log();
            let layers: Vec<String> = layout.manifest["layers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|l| l["digest"].as_str().unwrap().to_owned())
                .collect();
            let asked = log[from..].iter().filter(|r| r.method == "GET" && layers.iter().any(|l| r.is(l)));
            asked.map(|r| r.path.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
        };

        // The layer is here: nobody is asked.
        replace(&two, b"damaged");
        let before = gateway.log().len();
        site.run(&bench, &["fsck", "--repair", "app"]).ok();
        assert_eq!(std::fs::read(&two).unwrap(), [b'2'; 9000]);
        assert_eq!(gateway.log().len(), before);

        // It is damaged: it comes again, alone, and stays.
        let kept = std::fs::read(blob(&bench, &layout, 1)).unwrap();
        for bytes in [&b"damaged"[..], b""] {
            replace(&two, b"damaged");
            replace(&blob(&bench, &layout, 1), bytes);
            let before = gateway.log().len();
            let report = site.run(&bench, &["fsck", "--repair", "--json", "app"]).ok().json();
            assert_eq!(report["images"][0]["damage"][0]["remedy"], "repaired", "{report}");
            assert_eq!(std::fs::read(&two).unwrap(), [b'2'; 9000]);
            assert_eq!(fetched(before), [layout.manifest["layers"][1]["digest"].as_str().unwrap()]);
            assert_eq!(std::fs::read(blob(&bench, &layout, 1)).unwrap(), kept);
        }
        site.run(&bench, &["fsck", "app"]).ok();

        // Documents and layers that are gone without any file being damaged.
        let image = layout.digest.to_string();
        let config = layout.manifest["config"]["digest"].as_str().unwrap().to_owned();
        let first = layout.manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
        for lost in [&[&image][..], &[&config], &[&first], &[&image, &config, &first]] {
            for digest in lost {
                let path = bench.vault().join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
                std::fs::remove_file(path).unwrap();
            }
            let found = site.run(&bench, &["fsck", "--json", "app"]);
            let blobs = found.json()["images"][0]["blobs"].as_array().unwrap().len();
            assert!(found.code == 4 && blobs >= 1, "{lost:?}: {}", found.stdout);
            // What is needed cannot be told: nothing is thrown away.
            if lost.contains(&&image) {
                let files = bench.vault_files();
                site.command(&bench, &["gc"]).output().unwrap();
                assert_eq!(bench.vault_files(), files);
            }
            let report = site.run(&bench, &["fsck", "--repair", "--json", "app"]).ok().json();
            // The config comes with its manifest.
            let blobs = report["images"][0]["blobs"].as_array().unwrap();
            assert!(report["whole"] == true && blobs.iter().all(|b| b["remedy"] == "repaired"), "{report}");
            site.run(&bench, &["fsck", "app"]).ok();
        }

        // The merged EROFS image and every layer are gone; the seal carries it.
        let plan = bench.run(&["digest", "app", "--json"]).ok().json();
        let merged = plan["roles"].as_array().unwrap().iter().find(|r| r["role"] == "merged").unwrap().clone();
        let (front, back) = merged["digest"].as_str().unwrap().split_at(2);
        let merged = bench.vault().join("objects").join(front).join(back);
        replace(&merged, b"damaged");
        site.run(&bench, &["fsck", "--repair", "app"]).ok();
        assert_ne!(std::fs::read(&merged).unwrap(), b"damaged");

        // The registry is gone: what is damaged goes, and is not taken for good.
        drop(gateway);
        replace(&two, b"damaged");
        replace(&blob(&bench, &layout, 1), b"");
        let run = site.run(&bench, &["fsck", "--repair", "app"]);
        assert!(run.code == 4 && run.stderr.contains("not made again"), "{}{}", run.stdout, run.stderr);
        assert!(!two.exists());
    }
}
