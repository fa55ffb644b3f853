//! C's mkcomposefs, which Debian's forky has, on the same trees.

use std::process::Command;

use composefs::fsverity::Sha256HashValue;
use layerseal::digest::{Algorithm, verity_digest};
use layerseal::image::{Contents, ContentsRequest, Images, Keep, ReadOnly, Stack, Writer, dumpfile};
use layerseal::oci::{Budget, Image, Layout, Platform};

use crate::common::{Bench, Entry as Made, Layer, Layout as MadeLayout, two_layers};

/// What C makes of a dumpfile in this format version.
fn c_digest(bench: &Bench, dump: &[u8], version: u8) -> String {
    let file = bench.write("dump", dump);
    let bound = |which: &str| format!("--{which}-version={version}");
    let output = Command::new("mkcomposefs")
        .args(["--from-file", "--print-digest-only", &bound("min"), &bound("max")])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// More than the usual two layers: link groups, devices, long names, whiteouts, a type that changes.
fn many() -> Vec<Layer> {
    let mut lower = vec![Made::dir("usr"), Made::dir("usr/bin"), Made::dir("etc"), Made::dir("run")];
    for n in 0..300 {
        lower.push(Made::file(&format!("usr/bin/tool-{n:04}-{}", "x".repeat(n % 90)), vec![b'a'; n * 37]).mode(0o755));
    }
    lower.push(Made::hardlink("usr/bin/again", "usr/bin/tool-0100-xxxxxxxxxx"));
    lower.push(Made::symlink("bin", "usr/bin"));
    lower.push(Made::device("usr/null", b'3', 1, 3));
    lower.push(Made::file("etc/gone", vec![b'g'; 500]));
    lower.push(Made::file("etc/type", vec![b't'; 500]));
    let upper = vec![
        Made::dir("etc"),
        Made::file("etc/.wh.gone", ""),
        Made::dir("etc/type"),
        Made::file("etc/type/in", vec![b'i'; 70]),
    ];
    vec![Layer::new(&lower), Layer::new(&upper).gzip()]
}

#[test]
fn h02_c_makes_the_same_bytes_of_merged_images() {
    for layers in [two_layers(), many()] {
        let bench = Bench::new();
        let digest = MadeLayout::new(&bench.path("image"), &layers).digest;
        let layout = Layout::open(&bench.path("image")).unwrap();
        let image = Image::read(layout.store(), &digest, &Platform::host(), &Budget::STANDARD).unwrap();
        let reader = ReadOnly { store: layout.store(), algorithm: Algorithm::Sha256 };
        let contents = Contents::read(
            &image,
            ContentsRequest { algorithm: Algorithm::Sha256, keep: Keep::Entries },
            &reader,
            &Budget::STANDARD,
            &|_| {},
        )
        .unwrap();
        let entries = || contents.entries().unwrap().iter().map(Vec::as_slice);
        let tree = Images::<Sha256HashValue>::build(entries()).unwrap().into_merged().unwrap();
        let dump = dumpfile(&tree).unwrap();
        let sealed = contents.images.merged_digest().unwrap().to_hex();
        assert_eq!(sealed, c_digest(&bench, dump.as_bytes(), 1), "V1, what is sealed");
        // The container's tree is written in the same way.
        let mut stack = Stack::<Sha256HashValue>::default();
        contents.entries().unwrap().iter().for_each(|entries| drop(stack.add(entries).unwrap()));
        let rootfs = dumpfile(&stack.into_tree()).unwrap();
        let sealed = contents.images.container().unwrap().rootfs_digest.to_hex();
        assert_eq!(sealed, c_digest(&bench, rootfs.as_bytes(), 1), "the container's tree");
        for version in [0, 1] {
            let ours = Writer::merged_version(Algorithm::Sha256, entries(), version).unwrap();
            assert_eq!(
                verity_digest(Algorithm::Sha256, &ours).to_hex(),
                c_digest(&bench, dump.as_bytes(), version),
                "V{version}"
            );
        }
    }
}
