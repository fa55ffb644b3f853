use std::path::PathBuf;
use std::process::Command;

use layerseal::container_store::{ClaimedImage, Tie, stored_images};
use layerseal::digest::Algorithm;
use layerseal::error::Case;
use layerseal::image::{Contents, ContentsRequest, Keep, ReadOnly};
use layerseal::oci::{Budget, Image, Layout as OpenLayout, Platform};
use layerseal::policy::Verity;
use layerseal::prepare::{ImportRules, import};
use layerseal::vault::Vault;

use crate::common::{Bench, Entry, Layer, Layout, base, two_layers};

/// A store that skopeo wrote, taken off its mounts at the end.
struct Store<'a> {
    bench: &'a Bench,
    root: PathBuf,
}

impl<'a> Store<'a> {
    /// Copies `oci:image` into a store, in the form for native overlay or for a mount program; `None`
    /// where there is no skopeo.
    fn new(bench: &'a Bench, mount_program: bool) -> Option<Self> {
        let root = bench.path("root");
        let options = if mount_program { ":overlay.mount_program=/usr/bin/fuse-overlayfs" } else { "" };
        let to = format!(
            "containers-storage:[overlay@{}+{}{options}]localhost/app:v1",
            root.display(),
            bench.path("run").display()
        );
        let copied = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet"])
            .arg(format!("oci:{}", bench.path("image").display()))
            .arg(to)
            .output();
        let store = Self { bench, root };
        match copied {
            Ok(output) if output.status.success() => Some(store),
            other => {
                support::skip!("layers of a store: {other:?}")
            }
        }
    }

    fn image(&self) -> ClaimedImage {
        stored_images(std::slice::from_ref(&self.root), Some("app:v1")).unwrap().remove(0).image.unwrap()
    }

    fn import(&self, algorithm: Algorithm, diff_ids: bool) -> layerseal::error::Result<Contents> {
        self.import_within(algorithm, diff_ids, &Budget::STANDARD)
    }

    fn import_within(
        &self,
        algorithm: Algorithm,
        diff_ids: bool,
        budget: &Budget,
    ) -> layerseal::error::Result<Contents> {
        self.import_of(&self.image(), algorithm, diff_ids, budget)
    }

    fn import_of(
        &self,
        image: &ClaimedImage,
        algorithm: Algorithm,
        diff_ids: bool,
        budget: &Budget,
    ) -> layerseal::error::Result<Contents> {
        let vault = layerseal::start::vault_of(None, &image.root).unwrap();
        let rules = ImportRules { algorithm, mode: Verity::Off, diff_ids, keep: Keep::Entries, budget };
        import(&vault, &image.layers, &rules, &|_| ())
    }

    /// The same, from the blobs of the layout.
    fn of_blobs(&self, algorithm: Algorithm) -> Contents {
        let layout = OpenLayout::open(&self.bench.path("image")).unwrap();
        let digest = layout.resolve(None, &Budget::STANDARD).unwrap();
        let image = Image::read(layout.store(), &digest, &Platform::host(), &Budget::STANDARD).unwrap();
        let reader = ReadOnly { store: layout.store(), algorithm };
        Contents::read(&image, ContentsRequest { algorithm, keep: Keep::Entries }, &reader, &Budget::STANDARD, &|_| ())
            .unwrap()
    }
}

impl Drop for Store<'_> {
    fn drop(&mut self) {
        // The driver mounts its directory on itself, and leaves it so.
        let _ = Command::new("umount").arg(self.root.join("overlay")).output();
    }
}

fn layers() -> Vec<Layer> {
    let more = Layer::new(&[
        Entry::dir("opt/new"),
        Entry::file("opt/new/tiny", "tiny"),
        Entry::file("opt/new/empty", ""),
        Entry::file("opt/new/large", vec![7; 3_000_000]).mode(0o4755),
        Entry::file("opt/new/exact", vec![8; 512]),
        Entry::hardlink("opt/new/again", "opt/new/large"),
        Entry::file("opt/new/64", vec![b'6'; 64]),
        Entry::file("opt/new/65", vec![b'6'; 65]),
    ]);
    let gone = Layer::new(&[Entry::file("opt/new/.wh.tiny", ""), Entry::file("etc/.wh..wh..opq", "")]);
    let dirs = Layer::new(&[Entry::dir("opt")]);
    [two_layers(), vec![dirs.gzip(), more.gzip(), gone.zstd()]].concat()
}

#[test]
fn a_stores_layers_make_the_images_that_their_blobs_make() {
    for mount_program in [false, true] {
        let bench = Bench::new();
        Layout::new(&bench.path("image"), &layers());
        let Some(store) = Store::new(&bench, mount_program) else { return };
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let (stored, blobs) = (store.import(algorithm, true).unwrap(), store.of_blobs(algorithm));
            assert_eq!(stored.images.digests().unwrap(), blobs.images.digests().unwrap());
        }
    }
}

#[test]
fn objects_are_the_stores_files_under_another_name() {
    use std::os::unix::fs::MetadataExt as _;
    let bench = Bench::new();
    Layout::new(&bench.path("image"), &layers());
    let Some(store) = Store::new(&bench, true) else { return };
    store.import(Algorithm::Sha512, false).unwrap();
    let image = store.image();
    let vault = Vault::open(&store.root.join("layerseal")).unwrap();
    let large = image.layers.iter().map(|l| l.path.join("opt/new/large")).find(|p| p.exists()).unwrap();
    let digest = layerseal::digest::verity_digest(Algorithm::Sha512, &vec![7; 3_000_000]);
    let object = vault.open_object(&digest).unwrap().metadata().unwrap();
    assert_eq!((object.dev(), object.ino()), {
        let file = std::fs::metadata(large).unwrap();
        (file.dev(), file.ino())
    });
}

/// Without a statement only the diff_ids say which layers an image has.
#[test]
fn d04_layers_of_another_image_are_told_by_their_diff_ids() {
    let bench = Bench::new();
    Layout::new(&bench.path("image"), &layers());
    let Some(store) = Store::new(&bench, true) else { return };
    let path = store.image().layers.iter().map(|l| l.path.join("opt/new/exact")).find(|p| p.exists()).unwrap();
    std::fs::write(&path, vec![9; 512]).unwrap();
    let changed = store.import(Algorithm::Sha512, false).unwrap();
    assert_ne!(
        changed.images.container().unwrap().rootfs_digest,
        store.of_blobs(Algorithm::Sha512).images.container().unwrap().rootfs_digest
    );
    assert_eq!(store.import(Algorithm::Sha512, true).unwrap_err().case(), Case::C04Bytes);
}

#[test]
fn b09_files_that_are_not_what_the_store_wrote() {
    type Damage = fn(&std::path::Path);
    let damages: [(&str, Damage); 4] = [
        ("shorter", |p| std::fs::write(p, "x").unwrap()),
        ("gone", |p| std::fs::remove_file(p).unwrap()),
        ("a link", |p| {
            std::fs::remove_file(p).unwrap();
            std::os::unix::fs::symlink("/etc/hostname", p).unwrap();
        }),
        ("a directory", |p| {
            std::fs::remove_file(p).unwrap();
            std::fs::create_dir(p).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let bench = Bench::new();
        Layout::new(&bench.path("image"), &layers());
        let Some(store) = Store::new(&bench, true) else { return };
        let path = store.image().layers.iter().map(|l| l.path.join("opt/new/exact")).find(|p| p.exists()).unwrap();
        damage(&path);
        let refusal = store.import(Algorithm::Sha512, false).unwrap_err();
        assert_eq!(refusal.case(), Case::B09Replaced, "{what}: {refusal}");
        assert!(refusal.subject().contains("opt/new/exact"), "{refusal}");
    }
}

/// A hole costs whoever makes it nothing, and whoever reads it as much as any other bytes.
#[test]
fn b09_a_file_that_became_a_hole_is_not_read() {
    const LENGTH: usize = 4 << 20;
    let budget = Budget { expansion_floor: 1 << 20, ..Budget::STANDARD };
    let zeros = || Entry::file("opt/zeros", vec![0; LENGTH]);
    let layers = |more: &[Layer]| [vec![Layer::new(&base())], more.to_vec()].concat();
    for (what, top, case) in [
        ("compressed", Layer::new(&[Entry::dir("opt"), zeros()]).gzip(), Some(Case::B09Replaced)),
        ("as large as it says", Layer::new(&[Entry::dir("opt"), zeros()]), None),
    ] {
        let bench = Bench::new();
        Layout::new(&bench.path("image"), &layers(&[top]));
        let Some(store) = Store::new(&bench, true) else { return };
        if case.is_some() {
            store.import_within(Algorithm::Sha256, false, &budget).unwrap();
        }
        let path = store.image().layers[1].path.join("opt/zeros");
        std::fs::remove_file(&path).unwrap();
        std::fs::File::create(&path).unwrap().set_len(LENGTH as u64).unwrap();
        let refused = store.import_within(Algorithm::Sha256, false, &budget).err();
        assert_eq!(refused.as_ref().map(|r| r.case()), case, "{what}: {refused:?}");
        assert!(refused.is_none_or(|r| r.to_string().contains("its blob")), "{what}");
        // podman itself makes holes in layers that it pulls in parts.
        let mut image = store.image();
        image.layers[1].tie = Tie::Toc;
        store.import_of(&image, Algorithm::Sha256, false, &budget).unwrap();
    }
    // More than any blob of this size can become, whatever is on the disk.
    let bench = Bench::new();
    Layout::new(&bench.path("image"), &layers(&[Layer::new(&[Entry::dir("opt"), zeros()]).zstd()]));
    let Some(store) = Store::new(&bench, true) else { return };
    assert_eq!(store.import_within(Algorithm::Sha256, false, &budget).unwrap_err().case(), Case::B09Replaced);
}

/// A parent that is a symlink leads out of the layer.
#[test]
fn b09_a_directory_that_became_a_symlink() {
    let bench = Bench::new();
    Layout::new(&bench.path("image"), &[vec![Layer::new(&base())], layers()[2..4].to_vec()].concat());
    let Some(store) = Store::new(&bench, true) else { return };
    let dir = store.image().layers[2].path.join("opt/new");
    // Not beyond the mount that the store makes of its own directory.
    let outside = store.root.join("overlay/outside");
    std::fs::rename(&dir, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &dir).unwrap();
    assert_eq!(store.import(Algorithm::Sha512, false).unwrap_err().case(), Case::B09Replaced);
}

#[test]
fn b01_a_damaged_table_is_refused() {
    use std::io::Write as _;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let bench = Bench::new();
    Layout::new(&bench.path("image"), &layers());
    let Some(store) = Store::new(&bench, true) else { return };
    let top = store.image().layers.pop().unwrap().id;
    let table = store.root.join(format!("overlay-layers/{top}.tar-split.gz"));
    let good = std::fs::read(&table).unwrap();
    for (what, bytes) in [
        ("empty", gzip(b"")),
        ("no gzip", b"{}".to_vec()),
        ("cut off", good[..good.len() / 2].to_vec()),
        ("another type", gzip(br#"{"type":3,"payload":"","position":0}"#)),
        ("no base64", gzip(br#"{"type":2,"payload":"*","position":0}"#)),
        ("no JSON", gzip(b"{")),
        ("a file without header", gzip(br#"{"type":1,"name":"x","size":10,"position":0}"#)),
    ] {
        std::fs::write(&table, bytes).unwrap();
        match store.import(Algorithm::Sha512, false) {
            Err(refusal) => assert_eq!(refusal.case(), Case::H11Layer, "{what}: {refusal}"),
            // An empty tar is a tar: nothing is refused, and the digest is another.
            Ok(contents) => {
                assert_eq!(what, "empty");
                assert_ne!(
                    contents.images.container().unwrap().rootfs_digest,
                    store.of_blobs(Algorithm::Sha512).images.container().unwrap().rootfs_digest
                );
            }
        }
    }
    // The layer's own table behind words that say nothing: each costs time, and a million of them a few kilobytes.
    for (what, line, case) in [
        ("files without headers", r#"{"type":1,"size":0}"#, Case::H11Layer),
        ("empty segments", r#"{"type":2,"payload":""}"#, Case::C03TooBig),
        ("white space", &" ".repeat(100_000), Case::C03TooBig),
    ] {
        let lines = if line.starts_with(' ') { line.to_owned() } else { format!("{line}\n").repeat(1000) };
        std::fs::write(&table, [gzip(lines.as_bytes()), good.clone()].concat()).unwrap();
        assert_eq!(store.import(Algorithm::Sha512, false).unwrap_err().case(), case, "{what}");
    }
    std::fs::remove_file(&table).unwrap();
    assert_eq!(store.import(Algorithm::Sha512, false).unwrap_err().case(), Case::B11Gone);
}
