//! What layers may hold: paths, whiteouts, attributes, entries, sizes.

use composefs::fsverity::Sha512HashValue;
use layerseal::digest::Algorithm;
use layerseal::image::{HashOnly, Stack, dumpfile, read_layer};
use layerseal::oci::Budget;

use crate::common::{Bench, Entry, Layer, Layout, Run, base, signer, walk};
use crate::forge::nothing_counts;

/// Everything in the bench but the vault.
fn outside(bench: &Bench) -> Vec<String> {
    let mut files = Vec::new();
    walk(bench.dir.path(), &mut |path| files.push(path.display().to_string()));
    files.retain(|f| !f.starts_with(&bench.vault().display().to_string()));
    files.sort();
    files
}

/// Signs and pulls an image of these layers.
fn both(layers: &[Layer]) -> (Bench, [Run; 2]) {
    let bench = Bench::new();
    bench.signer("signer", signer());
    Layout::new(&bench.path("image"), layers);
    let before = outside(&bench);
    let pull = bench.run(&["pull", "oci:image"]);
    assert_eq!(outside(&bench), before, "pull wrote outside the vault");
    let sign = bench.run(&["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key"]);
    if sign.code != 0 {
        assert_eq!(outside(&bench), before, "a refused sign left something");
    }
    (bench, [sign, pull])
}

/// `usr` and `etc`, and then these entries.
fn layer(entries: &[Entry]) -> Layer {
    Layer::new(&[vec![Entry::dir("usr"), Entry::dir("etc")], entries.to_vec()].concat())
}

#[track_caller]
fn refused(case: &str, layers: &[Layer]) {
    let (bench, runs) = both(layers);
    runs.into_iter().for_each(|run| drop(run.refused(4, case)));
    nothing_counts(&bench);
}

#[track_caller]
fn sealed(layers: &[Layer]) -> Bench {
    let (bench, runs) = both(layers);
    runs.into_iter().for_each(|run| drop(run.ok()));
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).ok();
    bench
}

/// The container's tree as it is sealed, as a dumpfile.
fn tree(layers: &[Layer]) -> String {
    let budget = Budget::STANDARD;
    let mut stack = Stack::<Sha512HashValue>::default();
    for layer in layers {
        let read = read_layer(&layer.tar[..], &budget, &mut HashOnly::new(Algorithm::Sha512), &mut |_| ()).unwrap();
        stack.add(&read.entries).unwrap();
    }
    dumpfile(&stack.into_tree()).unwrap()
}

fn paths(layers: &[Layer]) -> Vec<String> {
    tree(layers).lines().map(|l| l.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn h03_paths_that_lead_nowhere_are_refused() {
    let outside = b"outside".as_slice();
    let cases: Vec<Vec<Entry>> = vec![
        // CVE-2021-29136: the root itself becomes a link.
        vec![Entry::symlink("/.", "/tmp"), Entry::file("escape", outside)],
        vec![Entry::symlink("./", "/tmp")],
        vec![Entry::symlink("", "/tmp")],
        vec![Entry::symlink("etc/..", "/tmp")],
        vec![Entry::file("/", outside)],
        vec![Entry::device(".", b'3', 1, 3)],
        vec![Entry::hardlink("./", "etc")],
        // Through links to nothing, in a circle, and through files.
        vec![Entry::symlink("link", "/nothing"), Entry::file("link/x", outside)],
        vec![Entry::symlink("link", "link"), Entry::file("link/x", outside)],
        vec![Entry::symlink("link", "/etc/f"), Entry::file("etc/f", outside), Entry::file("link/x", outside)],
        vec![Entry::hardlink("etc/hard", "../../etc/passwd")],
        vec![Entry::hardlink("etc/hard", "etc")],
        vec![Entry::hardlink("etc/hard", "/")],
        vec![Entry::hardlink("etc/hard", "etc/later"), Entry::file("etc/later", outside)],
        vec![Entry::hardlink("etc/hard", "etc/hard")],
        vec![Entry::file("etc/f", outside), Entry::hardlink("etc/f", "etc/f")],
        vec![Entry::file("etc/f", outside), Entry::file("etc/f/below", outside)],
        vec![Entry::device("etc/gone", b'3', 0, 0), Entry::file("etc/gone/below", outside)],
    ];
    for entries in cases {
        refused("H03", &[layer(&entries)]);
    }
    // A hard link names a file of its own layer.
    refused("H03", &[layer(&[Entry::file("f", outside)]), layer(&[Entry::hardlink("g", "f")])]);
}

/// `..` and links of the layer lead where they lead for podman: inside the root.
#[test]
fn h03_no_path_leads_out_of_the_root() {
    let outside = b"outside".as_slice();
    for (entries, path) in [
        (vec![Entry::file("../escape", outside)], "/escape"),
        (vec![Entry::file("etc/../../escape", outside)], "/escape"),
        (vec![Entry::file("/../escape", outside)], "/escape"),
        (vec![Entry::file("x", outside).pax("path", "../escape")], "/escape"),
        (vec![Entry::symlink("link", "/etc"), Entry::file("link/in", outside)], "/etc/in"),
        (vec![Entry::symlink("link", "../../etc"), Entry::file("link/in", outside)], "/etc/in"),
        (vec![Entry::symlink("link", "etc"), Entry::dir("link/sub")], "/etc/sub"),
        (vec![Entry::symlink("link", ".."), Entry::file("link/.wh.x", ""), Entry::file("link/y", "")], "/y"),
        (vec![Entry::symlink("link", "etc"), Entry::file("etc/x", "x"), Entry::hardlink("y", "link/x")], "/y"),
        (vec![Entry::file("missing/parent", outside)], "/missing/parent"),
        (vec![Entry::file("missing/.wh.x", "")], "/missing"),
        (vec![Entry::dir(".."), Entry::file("x", "")], "/x"),
    ] {
        let layers = [layer(&entries)];
        sealed(&layers);
        assert!(paths(&layers).contains(&path.to_owned()), "{path}: {:?}", paths(&layers));
    }
    // A parent that a lower layer has as a link or a file becomes a directory.
    for lower in [Entry::symlink("x", "/etc"), Entry::file("x", outside)] {
        let layers = [layer(&[lower]), layer(&[Entry::file("x/below", outside)])];
        sealed(&layers);
        let found = paths(&layers);
        assert!(found.contains(&"/x/below".to_owned()) && !found.contains(&"/etc/below".to_owned()), "{found:?}");
    }
}

#[test]
fn h03_absolute_and_repeated_paths_are_canonical() {
    let file = |path: &str, text: &str| Entry::file(path, text);
    let one = [layer(&[file("/etc//./passwd", "absolute"), file("etc/again", "first"), file("./etc/again", "last")])];
    sealed(&one);
    let dump = tree(&one);
    assert!(
        dump.contains("/etc/passwd ") && dump.contains("absolute") && dump.contains("last") && !dump.contains("first"),
        "{dump}"
    );

    // Directory and file change places, within a layer and across layers; links keep what they named.
    let swaps = [
        Entry::dir("etc/x"),
        file("etc/x/below", "b"),
        file("etc/x", "file"),
        file("etc/y", "old"),
        Entry::hardlink("etc/z", "etc/y"),
        Entry::dir("etc/y"),
        file("etc/y/new", "new"),
    ];
    for layers in [vec![layer(&swaps)], vec![layer(&swaps[..2]), layer(&swaps[2..5]), layer(&swaps[5..])]] {
        sealed(&layers);
        let found = paths(&layers);
        for (path, there) in [("/etc/x", true), ("/etc/x/below", false), ("/etc/y/new", true), ("/etc/z", true)] {
            assert_eq!(found.contains(&path.to_owned()), there, "{path} in {found:?}");
        }
        assert!(tree(&layers).lines().any(|l| l.starts_with("/etc/z ") && l.contains("old")));
    }
    // A symlink that a directory replaces is followed by nothing.
    let layers =
        [layer(&[Entry::symlink("etc/link", "/tmp")]), layer(&[Entry::dir("etc/link"), file("etc/link/in", "in")])];
    sealed(&layers);
    assert!(paths(&layers).contains(&"/etc/link/in".to_owned()));
}

#[test]
fn h04_whiteouts_take_away_what_they_name() {
    let lower = layer(&[
        Entry::file("etc/gone", "g"),
        Entry::file("etc/kept", "k"),
        Entry::dir("etc/full"),
        Entry::file("etc/full/old", "o"),
    ]);
    let upper = [
        Entry::dir("etc"),
        Entry::file("etc/.wh.gone", ""),
        Entry::file("etc/.wh.never-was", "content that nobody reads"),
        Entry::dir("etc/full"),
        Entry::file("etc/full/.wh..wh..opq", ""),
        Entry::file("etc/full/new", "n"),
        Entry::file("etc/x.wh.", "no marker"),
        Entry::file("etc/.wh", "no marker either"),
        Entry::device("etc/zero", b'3', 0, 0),
    ];
    let layers = [lower, Layer::new(&upper)];
    sealed(&layers);
    let found = paths(&layers);
    for (path, there) in [
        ("gone", false),
        ("never-was", false),
        ("kept", true),
        ("full/old", false),
        ("full/new", true),
        ("x.wh.", true),
        (".wh", true),
        (".wh.gone", false),
        // A device 0:0 is a whiteout.
        ("zero", false),
    ] {
        assert_eq!(found.contains(&format!("/etc/{path}")), there, "{path} in {found:?}");
    }
    // In the root an opaque marker does nothing, and /usr is a directory like any other.
    let opaque = [layer(&[Entry::file("kept", "k")]), Layer::new(&[Entry::file(".wh..wh..opq", "")])];
    sealed(&opaque);
    assert!(paths(&opaque).contains(&"/kept".to_owned()));
    sealed(&[layer(&[]), Layer::new(&[Entry::file(".wh.usr", "")])]);
}

/// Markers are about lower layers, wherever they stand.
#[test]
fn h04_a_layers_own_files_stay() {
    let lower = layer(&[Entry::dir("etc/d"), Entry::file("etc/d/old", "o"), Entry::file("etc/f", "old")]);
    for opaque_first in [true, false] {
        let mut upper = vec![Entry::dir("etc/d"), Entry::file("etc/d/new", "new")];
        upper.insert(if opaque_first { 1 } else { 2 }, Entry::file("etc/d/.wh..wh..opq", ""));
        upper.extend([Entry::file("etc/f", "mine"), Entry::file("etc/.wh.f", "")]);
        let layers = [lower.clone(), layer(&upper)];
        sealed(&layers);
        let found = paths(&layers);
        assert!(found.contains(&"/etc/d/new".to_owned()) && !found.contains(&"/etc/d/old".to_owned()), "{found:?}");
        assert!(tree(&layers).lines().any(|l| l.starts_with("/etc/f ") && l.contains("mine")));
    }
    // A directory in the place of a whiteout shows what is beneath.
    let layers = [lower, layer(&[Entry::file("etc/.wh.d", ""), Entry::dir("etc/d")])];
    sealed(&layers);
    assert!(paths(&layers).contains(&"/etc/d/old".to_owned()));
}

#[test]
fn h04_whiteouts_of_nothing_are_refused() {
    for name in ["etc/.wh.", "etc/.wh..", "etc/.wh...", ".wh.", ".wh..", ".wh..."] {
        for entry in [Entry::file(name, ""), Entry::dir(name), Entry::symlink(name, "x")] {
            refused("H04", &[layer(&[entry])]);
        }
    }
    // What it would hide is a file, and the parent of the marker is a directory then.
    let layers = [layer(&[Entry::file("etc/f", "f")]), layer(&[Entry::file("etc/f/.wh..wh..opq", "")])];
    sealed(&layers);
    assert!(tree(&layers).lines().any(|l| l.starts_with("/etc/f ") && l.contains(" 40755 ")), "{}", tree(&layers));
}

#[test]
fn h05_attributes_that_overlayfs_believes_do_not_get_through() {
    for name in [
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.opaque",
        "trusted.overlay.whiteout",
        "trusted.overlay.overlay.redirect",
        "trusted.anything",
    ] {
        for entry in [Entry::file("etc/f", vec![b'f'; 500]), Entry::dir("etc/d"), Entry::symlink("etc/s", "f")] {
            let (_bench, runs) = both(&[layer(&[entry.pax(&format!("SCHILY.xattr.{name}"), "/etc/shadow")])]);
            for run in runs {
                assert!(run.refused(4, "H05").stderr.contains(name), "{name}");
            }
        }
    }
    let hostile = ["user.overlay.redirect", "user.overlay.opaque", "user.fuseoverlayfs.opaque", "security.selinux"];
    let spread =
        |entry: Entry| hostile.iter().fold(entry, |e, name| e.pax(&format!("SCHILY.xattr.{name}"), "/etc/shadow"));
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layers = [layer(&[
        spread(Entry::file("etc/f", vec![b'f'; 500])),
        spread(Entry::dir("etc/d")),
        Entry::file("etc/ping", vec![b'p'; 500]).pax("SCHILY.xattr.security.capability", capability),
        Entry::file("etc/odd", "o").pax("SCHILY.xattr.lustre.lov", "x"),
    ])];
    let bench = sealed(&layers);
    let dump = tree(&layers);
    // Those of users are as podman shows them, and overlayfs does not look at them here.
    assert!(dump.contains("user.overlay.redirect=/etc/shadow"), "{dump}");
    assert!(!dump.contains("trusted.") && !dump.contains("selinux") && !dump.contains("lustre"), "{dump}");
    assert!(dump.lines().any(|l| l.starts_with("/etc/ping ") && l.contains("security.capability")), "{dump}");
    bench.run(&["digest", "oci:image", "--write", "roles"]).ok();
    // composefs' tree keeps capabilities alone.
    let merged = std::fs::read(bench.path("roles/merged")).unwrap();
    assert!(!merged.windows(11).any(|w| w == b"/etc/shadow"));
}

/// An access list that is lost leaves its mask as the bits of the group: others read what podman denies them.
#[test]
fn h05_access_lists_are_kept_or_refused() {
    let list = |entries: &[(u16, u16, u32)]| {
        let mut out = vec![2, 0, 0, 0];
        for (tag, permissions, id) in entries {
            out.extend(tag.to_le_bytes());
            out.extend(permissions.to_le_bytes());
            out.extend(id.to_le_bytes());
        }
        out
    };
    const ACCESS: &str = "SCHILY.xattr.system.posix_acl_access";
    const DEFAULT: &str = "SCHILY.xattr.system.posix_acl_default";
    let full = list(&[(1, 6, 0), (2, 6, 33), (4, 0, 0), (0x10, 6, 0), (0x20, 0, 0)]);
    let layers = [layer(&[
        Entry::file("etc/secret", "s").mode(0o660).pax(ACCESS, &full),
        Entry::dir("etc/d").pax(DEFAULT, &full),
        Entry::file("etc/d/heir", "h").mode(0o640),
        Entry::symlink("etc/s", "secret").pax(ACCESS, &full),
    ])];
    sealed(&layers);
    let dump = tree(&layers);
    let line = |path: &str| dump.lines().find(|l| l.starts_with(&format!("{path} "))).unwrap().to_owned();
    assert!(line("/etc/secret").contains(" 100660 ") && line("/etc/secret").contains("posix_acl_access"), "{dump}");
    assert!(line("/etc/d").contains("posix_acl_default"), "{dump}");
    assert!(line("/etc/d/heir").contains(" 100640 ") && line("/etc/d/heir").contains("posix_acl_access"), "{dump}");
    assert!(!line("/etc/s").contains("posix_acl"), "{dump}");
    // The list says what the mode is.
    let other =
        [layer(&[Entry::file("etc/x", "x").mode(0o777).pax(ACCESS, list(&[(1, 6, 0), (4, 4, 0), (0x20, 0, 0)]))])];
    assert!(tree(&other).lines().any(|l| l.starts_with("/etc/x ") && l.contains(" 100640 ") && !l.contains("acl")));
    for (entry, key) in [(Entry::file("etc/f", "f"), DEFAULT), (Entry::device("etc/n", b'3', 1, 3), DEFAULT)] {
        refused("H05", &[layer(&[entry.pax(key, &full)])]);
    }
    for bad in [list(&[(1, 6, 0)]), full[..10].to_vec(), vec![1, 0, 0, 0]] {
        refused("H05", &[layer(&[Entry::file("etc/f", "f").pax(ACCESS, bad)])]);
    }
    for entry in [Entry::symlink("etc/s", "x"), Entry::new(b'6', "etc/fifo"), Entry::device("etc/n", b'3', 1, 3)] {
        refused("H05", &[layer(&[entry.pax("SCHILY.xattr.user.a", "b")])]);
    }
}

#[test]
fn h05_attributes_without_name_or_too_large_are_refused() {
    let with =
        |name: &str, value: Vec<u8>| layer(&[Entry::file("etc/f", "f").pax(&format!("SCHILY.xattr.{name}"), value)]);
    refused("H05", &[with("", vec![b'v'])]);
    refused("H05", &[with(&"n".repeat(256), vec![b'v'])]);
    refused("H05", &[with("user.big", vec![b'v'; 65_536])]);
    refused("H05", &[with("user.n\0ul", vec![b'v'])]);
    sealed(&[with("security.capability", vec![b'v'; 65_535])]);
    sealed(&[with("user.bytes", vec![0, 255, b'\n', b'='])]);
}

#[test]
fn h06_unusual_entries_are_kept() {
    let latin = Entry::file("x", "l");
    let latin = Entry { path: [b"etc/".as_slice(), &[0xe9, 0xff, b'\n', b' ', 0x1b]].concat(), ..latin };
    let layers = [layer(&[
        Entry::file("etc/setuid", vec![b's'; 200]).mode(0o4755),
        Entry::file("etc/sticky", vec![b's'; 200]).mode(0o1777),
        // Some tars put the type into the mode.
        Entry::file("etc/typed", "t").mode(0o100_640),
        Entry::new(b'6', "etc/fifo"),
        Entry::device("etc/char", b'3', 4095, 1_048_575),
        Entry::device("etc/block", b'4', 8, 1),
        latin,
        Entry::file(&format!("etc/{}", "n".repeat(255)), "long name"),
        Entry::symlink("etc/long", &"t".repeat(4095)),
        Entry::symlink("etc/away", "../../../../etc/shadow"),
        Entry::file("etc/owner", "o").pax("uid", "4294967295").pax("gid", "4294967294"),
        Entry::file("etc/fraction", "f").pax("mtime", "1700000000.123456789999"),
        Entry::file("etc/future", "f").pax("mtime", "4611686018427387904"),
        Entry::file("etc/early", "f").pax("mtime", "-1.5"),
        Entry { size: Some(600), ..Entry::hardlink("etc/typed-again", "etc/typed").mode(0o640) },
        Entry { size: Some(600), ..Entry::dir("etc/dir") },
        Entry { size: Some(600), ..Entry::symlink("etc/s", "x") },
        name_with_slash(b'0'),
        name_with_slash(0),
        Entry { mtime: 0, ..Entry::file("etc/epoch", "e") },
    ])];
    sealed(&layers);
    let dump = tree(&layers);
    let line = |path: &str| {
        dump.lines().find(|l| l.starts_with(&format!("{path} "))).unwrap_or_else(|| panic!("{path}: {dump}")).to_owned()
    };
    assert!(
        line("/etc/setuid").contains(" 104755 ")
            && line("/etc/sticky").contains(" 101777 ")
            && line("/etc/typed").contains(" 100640 "),
        "{dump}"
    );
    assert!(
        line("/etc/owner").contains(" 4294967295 4294967294 ")
            && line("/etc/fraction").contains("1700000000.123456789"),
        "{dump}"
    );
    assert!(dump.contains("\\xe9\\xff\\n"), "{dump}");
    // As podman shows them: times from 1970 on that Go can count, a slash at the end by the type's byte.
    assert!(line("/etc/early").contains(" 0.0 ") && line("/etc/future").contains(" 0.0 "), "{dump}");
    assert!(line("/etc/slash0").contains(" 100644 ") && line("/etc/slash").contains(" 40644 "), "{dump}");
    assert!(line("/etc/typed-again").contains("/etc/typed "), "{dump}");
}

fn name_with_slash(kind: u8) -> Entry {
    Entry::new(kind, if kind == 0 { "etc/slash/" } else { "etc/slash0/" })
}

#[test]
fn h06_entries_that_no_filesystem_holds_are_refused() {
    let name = |path: &str| Entry::file(path, "x");
    let huge = "1".repeat(30);
    let cases: Vec<(&str, Entry)> = vec![
        ("H06", name(&format!("etc/{}", "n".repeat(256)))),
        ("H06", Entry::symlink("etc/long", &"t".repeat(4096))),
        ("H06", Entry::symlink("etc/empty", "")),
        ("H06", Entry::hardlink("etc/empty", "")),
        ("H06", Entry::symlink("etc/nul", "x").pax("linkpath", "a\0b")),
        ("H03", name("etc/x").pax("path", "etc/a\0b")),
        ("H06", Entry::device("etc/major", b'3', 4096, 0)),
        ("H06", Entry::device("etc/minor", b'4', 0, 1_048_576)),
        ("H06", Entry::new(b'S', "etc/sparse")),
        ("H06", Entry::new(b'Z', "etc/unknown")),
        ("H06", Entry::new(b'7', "etc/contiguous")),
        // What follows is a header, whatever the size says.
        ("H11", Entry { content: vec![b'c'; 10], ..Entry::hardlink("etc/hard", "etc/note") }),
        ("H11", Entry { content: vec![b'c'; 10], ..Entry::dir("etc/dir") }),
        ("H11", Entry { content: vec![b'c'; 10], ..Entry::symlink("etc/s", "x") }),
        ("H06", name("etc/x").pax("uid", "4294967296")),
        ("H06", name("etc/x").pax("gid", "18446744073709551615")),
        ("H06", name("etc/x").pax("mtime", "18446744073709551615")),
        ("H06", name("etc/x").pax("mtime", "1.5x")),
        ("H11", name("etc/x").pax("mtime", "now")),
        ("H11", name("etc/x").pax("uid", "-1")),
        ("H11", name("etc/x").pax("size", huge)),
    ];
    for (case, entry) in cases {
        let sparse = entry.kind == b'S';
        let (_bench, [sign, pull]) = both(&[layer(&[Entry::file("etc/note", "n"), entry.clone()])]);
        for run in [sign, pull] {
            // GNU's sparse header is damaged too, unless somebody wrote a real one.
            let case = if sparse && run.stderr.contains("[R-H11]") { "H11" } else { case };
            assert!(
                run.code == 4 && run.stderr.contains(&format!("[R-{case}]")),
                "{case}: {:?} {}",
                String::from_utf8_lossy(&entry.path),
                run.stderr
            );
            run.refused(4, case);
        }
    }
    let sparse = |map: &str, size: &str| {
        let count = map.split(',').count() / 2;
        let entry = name("etc/x").pax("GNU.sparse.map", map).pax("GNU.sparse.size", size);
        entry.pax("GNU.sparse.numblocks", count.to_string())
    };
    refused("H11", &[layer(&[name("etc/x").pax("GNU.sparse.map", "0,1").pax("GNU.sparse.size", "9")])]);
    refused("C03", &[layer(&[sparse("0,1", "17592186044416")])]);
    // Out of order, beyond the file, with more or less than there is.
    for (map, size) in [("5,1,0,0", "9"), ("9,1", "9"), ("0,2", "9"), ("0,0", "9"), ("18446744073709551615,1", "9")] {
        refused("H11", &[layer(&[sparse(map, size)])]);
    }
    // Messages are one line whatever a name holds.
    let (_bench, [sign, _]) = both(&[layer(&[Entry::file("etc/f", ""), Entry::file("etc/f/\n\x1b[2Jx", "x")])]);
    assert_eq!(sign.refused(4, "H03").stderr.lines().count(), 1);
}

/// PAX sparse files (0.1, and 1.0 with the map before the content) are what they are unpacked to.
#[test]
fn h06_sparse_files_are_expanded() {
    let content = |size: usize| {
        let mut whole = vec![0; size];
        whole[5..8].copy_from_slice(b"abc");
        whole[size - 2..].copy_from_slice(b"yz");
        whole
    };
    for size in [20, 64, 65, 100_000] {
        let first = Entry::file("etc/x", "abcyz")
            .pax("GNU.sparse.map", format!("5,3,{},2", size - 2))
            .pax("GNU.sparse.numblocks", "2")
            .pax("GNU.sparse.size", size.to_string());
        let mut map = format!("2\n5\n3\n{}\n2\n", size - 2).into_bytes();
        map.resize(512, 0);
        map.extend(b"abcyz");
        let second = Entry::file("etc/GNUSparseFile.1/x", map)
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0")
            .pax("GNU.sparse.name", "etc/x")
            .pax("GNU.sparse.realsize", size.to_string());
        let plain = tree(&[layer(&[Entry::file("etc/x", content(size))])]);
        for entry in [first, second] {
            let layers = [layer(&[entry])];
            sealed(&layers);
            assert_eq!(tree(&layers), plain, "{size}");
        }
    }
}

#[test]
fn h07_many_entries_are_sealed_and_depth_is_bounded() {
    let many: Vec<Entry> = (0..5000).map(|n| Entry::file(&format!("etc/{n}"), n.to_string())).collect();
    sealed(&[layer(&many).gzip()]);
    let deep = |depth: usize| -> Vec<Entry> { (1..=depth).map(|n| Entry::dir(&"d/".repeat(n))).collect() };
    sealed(&[layer(&deep(300)).gzip()]);
    // Only the last one is too deep; it needs no parents to be refused.
    refused("H06", &[layer(&[Entry::dir(&"d/".repeat(2001))])]);
    refused("H06", &[layer(&[Entry::file(&format!("{}d", "dd/".repeat(1365)), "x")])]);
    refused("H11", &[layer(&[Entry::dir(&"dd/".repeat(1400))])]);
}

#[test]
fn h07_layers_beyond_the_budget_are_refused() {
    let bench = Bench::new();
    let mut layout = Layout::new(&bench.path("image"), &[layer(&[])]);
    let mut manifest = layout.manifest.clone();
    let one = manifest["layers"][0].clone();
    manifest["layers"] = serde_json::json!(vec![one; 501]);
    layout.set_manifest(&manifest);
    bench.run(&["pull", "oci:image"]).refused(4, "H07");
    assert_eq!(bench.vault_files(), [""; 0]);
}

/// composefs' tree is there for what composefs takes, and asked for by name.
#[test]
fn h12_h15_images_without_a_merged_tree_are_sealed() {
    let without: Vec<Entry> = base().into_iter().filter(|e| !e.path.starts_with(b"usr") && e.path != b"bin").collect();
    for layers in [
        vec![Layer::new(&without)],
        vec![Layer::new(&[Entry::file("usr", "a file")])],
        vec![Layer::new(&[Entry::symlink("usr", "opt"), Entry::dir("opt")])],
        vec![layer(&[Entry::file("missing/parent", "x")])],
        vec![Layer::new(&[])],
        vec![],
    ] {
        let bench = sealed(&layers);
        let roles = bench.run(&["digest", "oci:image"]).ok().stdout;
        assert!(roles.contains("rootfs") && !roles.contains("merged"), "{roles}");
        bench.run(&["seal", "oci:image"]).refused(4, merged_case(&layers));
        std::fs::create_dir(bench.path("mnt")).unwrap();
        bench.run(&["mount", "oci:image", "mnt", "--verity", "off", "--merged"]).refused(4, "H15");
    }
    let bench = sealed(&[layer(&[])]);
    assert!(bench.run(&["digest", "oci:image"]).ok().stdout.contains("merged"));
}

fn merged_case(layers: &[Layer]) -> &'static str {
    match layers {
        [one] if one.tar.windows(7).any(|w| w == b"missing") => "H03",
        _ => "H12",
    }
}

/// A sparse map without an end: the parser asks for what it has already.
#[test]
fn h06_a_sparse_map_that_does_not_end_is_refused() {
    for size in [100, 5000, 4 << 20] {
        let endless = Entry::file("etc/x", vec![b'1'; size])
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0")
            .pax("GNU.sparse.name", "etc/x")
            .pax("GNU.sparse.realsize", "10");
        refused("H11", &[Layer::new(&[Entry::dir("usr"), Entry::dir("etc"), endless])]);
    }
}

/// Names and attributes are kept in memory: one small blob, listed often, must not fill it.
#[test]
fn h07_what_is_kept_of_an_image_is_bounded() {
    let budget = layerseal::oci::Budget { kept: 1 << 20, ..layerseal::oci::Budget::STANDARD };
    let bench = Bench::new();
    let layer = Layer::new(&(0..1000).map(|n| Entry::file(&format!("{n}"), "")).collect::<Vec<_>>());
    let layout = Layout::new(&bench.path("image"), &vec![layer; 8]);
    let image = crate::forge::image(&layout);
    let store = layerseal::oci::Layout::open(&layout.path).unwrap();
    let algorithm = layerseal::digest::Algorithm::Sha256;
    let visitor = layerseal::image::ReadOnly { store: store.store(), algorithm };
    let read = |budget| {
        layerseal::image::Contents::read(
            &image,
            layerseal::image::ContentsRequest { algorithm, keep: layerseal::image::Keep::Images },
            &visitor,
            budget,
            &|_| (),
        )
    };
    assert_eq!(read(&budget).unwrap_err().case(), layerseal::error::Case::H07Budget);
    read(&layerseal::oci::Budget::STANDARD).unwrap();
}
