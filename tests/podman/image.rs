//! The images of the tests: small, with everything that makes a layered tree hard.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::{Bench, Entry, Layer, Layout, Signer};

/// Where Debian's busybox-static puts its program.
pub const BUSYBOX: [&str; 2] = ["/usr/bin/busybox", "/bin/busybox"];

/// The sealed image of all scenarios.
pub const APP: &str = "registry.example.com/acme/app:1";
/// The same tree but for one file; nobody has started it yet.
pub const FRESH: &str = "registry.example.com/acme/fresh:1";

/// Bytes in the large file: many blocks, the last one not full.
pub const BIG: usize = 1_500_001;

const APPLETS: [&str; 24] = [
    "cat",
    "chmod",
    "cmp",
    "cp",
    "dd",
    "echo",
    "false",
    "find",
    "grep",
    "head",
    "id",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mv",
    "rm",
    "sha256sum",
    "sleep",
    "stat",
    "touch",
    "true",
    "tail",
    "wc",
];

/// Content that is different in every block.
pub fn big() -> Vec<u8> {
    (0..BIG).map(|n| (n / 7 + n / 4096) as u8).collect()
}

fn owned(entry: Entry, uid: u64) -> Entry {
    Entry { uid, ..entry }
}

fn base(busybox: &[u8]) -> Vec<Entry> {
    let mut entries = vec![
        Entry::dir("./"),
        Entry::dir("usr/"),
        Entry::dir("usr/bin"),
        Entry::file("usr/bin/busybox", busybox).mode(0o755),
        // A hard link and symlinks to the same program.
        Entry::hardlink("usr/bin/sh", "usr/bin/busybox").mode(0o755),
        Entry::symlink("bin", "usr/bin"),
        Entry::file("usr/bin/suid", vec![b's'; 4097]).mode(0o4755),
        // cap_net_raw=ep, as vfs_cap_data of revision 2.
        Entry::file("usr/bin/cap", vec![b'c'; 300])
            .mode(0o755)
            .pax("SCHILY.xattr.security.capability", [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        Entry::dir("etc"),
        Entry::file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"),
        Entry::file("etc/group", "root:x:0:\napp:x:1000:\n"),
        Entry::file("etc/gone", vec![b'g'; 300]),
        Entry::file("etc/kept", "kept\n"),
        Entry::dir("etc/opaque"),
        Entry::file("etc/opaque/lower", vec![b'l'; 300]),
        Entry::dir("etc/removed"),
        Entry::file("etc/removed/file", vec![b'r'; 300]),
        Entry::dir("usr/share"),
        Entry::file("usr/share/big", big()),
        Entry::file("usr/share/empty", ""),
        Entry::file("usr/share/noted", vec![b'n'; 300]).pax("SCHILY.xattr.user.note", "a note"),
        Entry::dir("tmp").mode(0o1777),
        Entry::dir("root").mode(0o700),
        Entry::dir("home"),
        owned(Entry::dir("home/app"), 1000),
        owned(Entry::file("home/app/own", "own\n").mode(0o600), 1000),
        Entry::symlink("home/app/dangling", "/nowhere"),
    ];
    entries.extend(["dev", "proc", "sys", "run"].map(Entry::dir));
    entries.extend(APPLETS.map(|name| Entry::symlink(&format!("usr/bin/{name}"), "busybox")));
    entries
}

/// Removes, covers and replaces.
fn second() -> Vec<Entry> {
    vec![
        Entry::dir("etc"),
        Entry::file("etc/.wh.gone", ""),
        Entry::file("etc/.wh.removed", ""),
        Entry::dir("etc/opaque"),
        // `podman system check` takes this mode for that of the directory.
        Entry::file("etc/opaque/.wh..wh..opq", "").mode(0o755),
        Entry::file("etc/opaque/upper", vec![b'u'; 200]),
        Entry::dir("usr"),
        Entry::dir("usr/share"),
        Entry::file("usr/share/one", vec![b'1'; 5000]),
        Entry::hardlink("usr/share/two", "usr/share/one"),
        Entry::file("usr/share/late", vec![b'x'; 300]),
    ]
}

/// Removes what the second made; a file where there was a directory, and the other way round.
fn third(note: &str) -> Vec<Entry> {
    vec![
        Entry::dir("usr"),
        Entry::dir("usr/share"),
        Entry::file("usr/share/.wh.late", ""),
        Entry::dir("etc"),
        Entry::file("etc/kept", "replaced\n").mode(0o640),
        Entry::dir("etc/gone"),
        Entry::file("etc/gone/again", note),
        Entry::dir("opt"),
        owned(Entry::file("opt/app", vec![b'a'; 9000]).mode(0o755), 1000),
    ]
}

/// Writes both images as layouts into `dir`; see [`layout`].
pub fn write(dir: &Path) {
    let busybox = BUSYBOX.iter().find_map(|p| std::fs::read(p).ok()).unwrap();
    for (image, note) in [(APP, "app\n"), (FRESH, "fresh\n")] {
        let layers = [Layer::new(&base(&busybox)), Layer::new(&second()).gzip(), Layer::new(&third(note)).zstd()];
        let mut made = Layout::new(&layout(dir, image), &layers);
        finish(&mut made, layers.len());
        let mut index = made.index();
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = image.into();
        made.set_index(index["manifests"].clone());
    }
}

/// Gives the configuration what builds count on: one entry of history for each layer.
fn finish(layout: &mut Layout, layers: usize) {
    let mut manifest = layout.manifest.clone();
    let config = layout.read(manifest["config"]["digest"].as_str().unwrap());
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["history"] = vec![json!({"created": "2024-01-01T00:00:00Z", "created_by": "test"}); layers].into();
    config["config"] = json!({"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]});
    let config = config.to_string();
    manifest["config"] = layout.descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes());
    layout.set_manifest(&manifest);
}

/// The layout of `image` in `dir`.
pub fn layout(dir: &Path, image: &str) -> PathBuf {
    dir.join(if image == APP { "app" } else { "fresh" })
}

/// The repository of an image: what a seal is bound to.
pub fn repository(image: &str) -> &str {
    image.rsplit_once(':').unwrap().0
}

/// Seals `image` in its layout.
pub fn sign(layout: &Path, image: &str, signer: &Signer) {
    let bench = Bench::new();
    bench.signer("signer", signer);
    let reference = format!("oci:{}:{image}", layout.display());
    let identity = repository(image);
    bench.run(&["sign", &reference, "--cert", "signer.crt", "--key", "signer.key", "--identity", identity]).ok();
}
