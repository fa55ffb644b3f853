//! A stack of the layers' images shows the container's tree.

use crate::common::{Bench, Entry, Layer, Layout, base, two_layers, vectors};
use crate::{Mount, can_mount, tree};

/// Mounts `oci:image` in both forms, and compares: nothing but link counts may differ.
#[track_caller]
fn same(bench: &Bench, image: &str) {
    let (rootfs, stack) = (Mount::at(bench, "rootfs"), Mount::at(bench, "stack"));
    for algorithm in ["sha256", "sha512"] {
        bench.run(&["mount", image, "rootfs", "--verity", "off", "--algorithm", algorithm]).ok();
        bench.run(&["mount", image, "stack", "--stack", "--verity", "off", "--algorithm", algorithm]).ok();
        // A layer counts the names that it gave, whatever upper ones hide.
        let uncounted = |path| -> Vec<String> {
            let strip = |line: &String| {
                line.split(' ').filter(|word| !word.starts_with("links=")).collect::<Vec<_>>().join(" ")
            };
            tree::dump(path).iter().map(strip).collect()
        };
        let (a, b) = (uncounted(&rootfs.path()), uncounted(&stack.path()));
        assert!(!a.is_empty());
        let differ: Vec<_> = a.iter().filter(|l| !b.contains(l)).chain(b.iter().filter(|l| !a.contains(l))).collect();
        assert_eq!(differ, Vec::<&String>::new(), "{image}");
        bench.run(&["umount", "rootfs"]).ok();
        bench.run(&["umount", "stack"]).ok();
    }
}

#[test]
fn stack_equals_rootfs_for_every_vector() {
    let dir = vectors();
    if !can_mount("stack against rootfs") {
        return;
    }
    let mut count = 0;
    for image in std::fs::read_dir(dir.join("oci")).unwrap() {
        let image = image.unwrap();
        let name = image.file_name().into_string().unwrap();
        // podman refuses these two, and `trusted.*` is for nobody.
        let refused = [
            ("edge-hardlink-fwd", "H03"),
            ("edge-xlayer-hardlink", "H03"),
            ("basic1", "H05"),
            ("basic3", "H05"),
            ("basic3-go", "H05"),
        ];
        let bench = Bench::new();
        if let Some((_, case)) = refused.iter().find(|(refused, _)| *refused == name) {
            std::fs::create_dir(bench.path("rootfs")).unwrap();
            let image = format!("oci:{}", image.path().display());
            bench.run(&["mount", &image, "rootfs", "--verity", "off"]).refused(4, case);
            continue;
        }
        same(&bench, &format!("oci:{}", image.path().display()));
        count += 1;
    }
    assert!(count >= 8, "{count} images");
}

/// Layers on top of [`base`] that take away, replace and come back, each a trap of its own.
#[test]
fn stack_equals_rootfs_for_every_trap() {
    if !can_mount("stack traps") {
        return;
    }
    let big = |c: u8| vec![c; 400];
    let traps: Vec<(&str, Vec<Vec<Entry>>)> = vec![
        (
            "made and removed in one layer",
            vec![vec![
                Entry::dir("opt"),
                Entry::dir("opt/tmp"),
                Entry::file("opt/tmp/in", big(b'i')),
                Entry::file("opt/.wh.tmp", ""),
                Entry::file("etc/.wh.opaque", ""),
                Entry::dir("etc/opaque"),
                Entry::dir("etc/opaque/own"),
                Entry::file("etc/opaque/.wh.own", ""),
                Entry::dir("etc/made"),
                Entry::file("etc/made/tool", big(b't')),
                Entry::hardlink("etc/made/link", "etc/made/tool"),
                Entry::file("etc/made/.wh.link", ""),
            ]],
        ),
        (
            "lower directory, removed, made, removed with what holds it, made again",
            vec![
                vec![Entry::dir("etc/opaque/sub"), Entry::file("etc/opaque/sub/old", big(b'o'))],
                vec![
                    Entry::file("etc/opaque/.wh.sub", ""),
                    Entry::dir("etc/opaque/sub"),
                    Entry::file(".wh.etc", ""),
                    Entry::dir("etc"),
                    Entry::dir("etc/opaque"),
                    Entry::dir("etc/opaque/sub"),
                ],
            ],
        ),
        (
            "a hard link with a name of the format's own whiteouts",
            vec![
                vec![Entry::file("usr/t", big(b't')), Entry::hardlink("ab", "usr/t")],
                vec![Entry::file("etc/other", big(b'o'))],
            ],
        ),
        ("nothing", vec![vec![]]),
        (
            "directory removed and made again",
            vec![vec![Entry::file(".wh.etc", ""), Entry::dir("etc"), Entry::file("etc/new", big(b'n'))]],
        ),
        (
            "opaque, with a subdirectory that comes back",
            vec![
                vec![Entry::dir("etc/opaque/sub"), Entry::file("etc/opaque/sub/old", big(b'o'))],
                vec![
                    Entry::dir("etc/opaque"),
                    Entry::file("etc/opaque/.wh..wh..opq", ""),
                    Entry::dir("etc/opaque/sub"),
                    Entry::file("etc/opaque/sub/new", big(b'n')),
                ],
            ],
        ),
        (
            "opaque marker last",
            vec![vec![Entry::dir("etc"), Entry::file("etc/early", big(b'e')), Entry::file("etc/.wh..wh..opq", "")]],
        ),
        (
            "opaque root",
            vec![vec![Entry::file(".wh..wh..opq", ""), Entry::dir("usr"), Entry::file("usr/only", big(b'1'))]],
        ),
        (
            "file becomes directory becomes file",
            vec![
                vec![Entry::dir("etc/small"), Entry::file("etc/small/in", big(b'i'))],
                vec![Entry::file("etc/small", big(b'f'))],
            ],
        ),
        (
            "directory becomes file and directory in one layer",
            vec![vec![
                Entry::file("etc/opaque", big(b'f')),
                Entry::dir("etc/opaque"),
                Entry::file("etc/opaque/x", big(b'x')),
            ]],
        ),
        ("one of two hard links removed", vec![vec![Entry::file("usr/bin/.wh.tool", "")]]),
        ("one of two hard links replaced", vec![vec![Entry::file("usr/bin/tool", big(b't'))]]),
        (
            "hard links removed with their directory",
            vec![
                vec![
                    Entry::file("usr/bin/linked", big(b'l')),
                    Entry::hardlink("usr/bin/again", "usr/bin/linked"),
                    Entry::hardlink("etc/keep", "usr/bin/linked"),
                ],
                vec![Entry::file("usr/.wh.bin", "")],
            ],
        ),
        (
            "names of the format's own whiteouts",
            vec![
                vec![
                    Entry::file("ab", big(b'a')),
                    Entry::dir("cd"),
                    Entry::file("cd/in", big(b'i')),
                    Entry::symlink("ef", "ab"),
                ],
                vec![Entry::file("etc/other", big(b'o'))],
                vec![Entry::file(".wh.ab", ""), Entry::file("cd/more", big(b'm'))],
            ],
        ),
        ("whiteout of what is not there", vec![vec![Entry::file("etc/.wh.never", "")]]),
        (
            "removed, and back two layers later",
            vec![vec![Entry::file("etc/.wh.gone", "")], vec![], vec![Entry::file("etc/gone", big(b'b'))]],
        ),
        ("missing parents in an upper layer", vec![vec![Entry::file("usr/bin/new", big(b'n'))]]),
        ("metadata of a directory alone", vec![vec![Entry::dir("etc").mode(0o700)]]),
        ("a device 0:0 in the tar", vec![vec![Entry::device("etc/zero", b'3', 0, 0)]]),
        (
            "xattrs",
            vec![vec![
                Entry::file("etc/cap", big(b'c'))
                    .pax(
                        "SCHILY.xattr.security.capability",
                        [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                    )
                    .pax("SCHILY.xattr.user.x", "y"),
            ]],
        ),
    ];
    for (name, layers) in traps {
        println!("{name}");
        let bench = Bench::new();
        let layers: Vec<Layer> = std::iter::once(base()).chain(layers).map(|entries| Layer::new(&entries)).collect();
        Layout::new(&bench.path("image"), &layers);
        same(&bench, "oci:image");
    }
}

#[test]
fn what_a_layer_takes_away_is_gone() {
    if !can_mount("whiteouts") {
        return;
    }
    let bench = Bench::new();
    Layout::new(&bench.path("image"), &two_layers());
    let mount = Mount::at(&bench, "stack");
    bench.run(&["mount", "oci:image", "stack", "--stack", "--verity", "off"]).ok();
    for gone in ["etc/gone", "etc/opaque/lower", "etc/.wh.gone", "00", "ff"] {
        assert!(!tree::has(&mount.path(), gone), "{gone}");
    }
    for there in ["etc/opaque/upper", "etc/small", "usr/bin/same-tool", "dev/null"] {
        assert!(tree::has(&mount.path(), there), "{there}");
    }
}
