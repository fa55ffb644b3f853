//! EROFS images that are gone from the vault: what is to be mounted is made again of the layers, for whoever mounts and
//! with or without a seal; without the layers nothing is.

use std::path::{Path, PathBuf};

use layerseal::digest::{Algorithm, VerityDigest};
use layerseal::vault::Vault;

use crate::common::{Bench, Entry, Layer, Run, two_layers, walk};
use crate::{Mount, can_mount, mounts_beneath};

fn pulled() -> Bench {
    let bench = Bench::new();
    // composefs' tree wants what every image but the smallest has.
    let mut layers = two_layers();
    layers.push(Layer::new(&[Entry::dir("usr"), Entry::file("usr/mark", [b'm'; 300])]));
    bench.sealed(&layers);
    bench.run(&["pull", "oci:image", "--name", "app", "--trust", "signer.crt"]).ok();
    bench
}

/// The files of the EROFS images that a mount with `form` shows.
fn shown(bench: &Bench, form: &str) -> Vec<PathBuf> {
    let vault = Vault::open(&bench.vault()).unwrap();
    let image = *vault.images().unwrap().first().unwrap();
    let made = vault.contents(&image, Algorithm::Sha512).unwrap();
    let digests: Vec<VerityDigest> = match form {
        "--stack" => made.layers,
        "--merged" => vec![made.merged.unwrap()],
        _ => vec![made.rootfs],
    };
    digests.iter().map(|digest| bench.vault().join("objects").join(digest.object_path())).collect()
}

fn mount(bench: &Bench, form: &str, trust: &[&str]) -> Run {
    let form: &[&str] = if form.is_empty() { &[] } else { &[form] };
    bench.run(&[&["mount", "app", "root", "--verity", "off"], form, trust].concat())
}

fn each(mut look: impl FnMut(&Bench, &Path, &str, &[&str])) {
    let bench = pulled();
    let root = Mount::at(&bench, "root");
    for form in ["", "--stack", "--merged"] {
        for trust in [&["--trust", "signer.crt"][..], &[]] {
            look(&bench, &root.path(), form, trust);
        }
    }
}

#[test]
fn what_is_mounted_is_made_again() {
    if !can_mount("lost EROFS images") {
        return;
    }
    each(|bench, root, form, trust| {
        let files = shown(bench, form);
        for file in &files {
            std::fs::remove_file(file).unwrap();
        }
        mount(bench, form, trust).ok();
        assert!(root.join("usr/mark").is_file(), "{form} {trust:?}");
        assert!(files.iter().all(|file| file.is_file()), "{form} {trust:?}");
        bench.run(&["umount", "root"]).ok();
    });
}

#[test]
fn what_is_not_mounted_is_not() {
    if !can_mount("lost EROFS images that nobody mounts") {
        return;
    }
    // Nothing but what is shown must be there: a start does not read gigabytes for the sake of another form.
    each(|bench, _, form, trust| {
        let others: Vec<PathBuf> =
            ["", "--stack", "--merged"].iter().filter(|f| **f != form).flat_map(|f| shown(bench, f)).collect();
        let kept: Vec<Vec<u8>> = others.iter().map(|file| std::fs::read(file).unwrap()).collect();
        for file in &others {
            std::fs::remove_file(file).unwrap();
        }
        mount(bench, form, trust).ok();
        bench.run(&["umount", "root"]).ok();
        assert!(others.iter().all(|file| !file.exists()), "{form} {trust:?}");
        for (file, bytes) in others.iter().zip(kept) {
            std::fs::write(file, bytes).unwrap();
        }
    });
}

#[test]
fn without_the_layers_nothing_is() {
    if !can_mount("lost EROFS images without layers") {
        return;
    }
    let bench = pulled();
    let root = Mount::at(&bench, "root");
    std::fs::remove_file(&shown(&bench, "")[0]).unwrap();
    let manifest = bench.run(&["inspect", "app", "--json"]).ok().json();
    let layers: Vec<String> =
        manifest["layers"].as_array().unwrap().iter().map(|l| l["digest"].as_str().unwrap()[7..].to_owned()).collect();
    walk(&bench.vault().join("blobs"), &mut |blob| {
        if layers.iter().any(|layer| blob.ends_with(layer)) {
            std::fs::remove_file(blob).unwrap();
        }
    });
    for trust in [&["--trust", "signer.crt"][..], &[]] {
        mount(&bench, "", trust).refused(4, "C04");
        assert!(mounts_beneath(&root.path()).is_empty());
    }
}
