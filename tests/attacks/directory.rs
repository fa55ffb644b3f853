//! Directories against the images that they came from, and what a vault is signed by.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use crate::common::{Bench, Entry, Layer, Layout, signer};
use crate::forge::small;

/// The digest of a role, as `layerseal digest` says it.
fn role(bench: &Bench, image: &str, role: &str) -> String {
    let said = bench.run(&["digest", image, "--json"]).ok().json();
    let roles = said["roles"].as_array().unwrap();
    roles.iter().find(|r| r["role"] == role).unwrap()["digest"].as_str().unwrap().to_owned()
}

fn of_directory(bench: &Bench, dir: &str) -> String {
    bench.run(&["digest", "--directory", dir, "--json"]).ok().json()["merged"].as_str().unwrap().to_owned()
}

#[test]
fn a_directory_has_the_digest_of_the_image_that_was_unpacked_to_it() {
    let bench = Bench::new();
    let mut entries = vec![
        Entry::dir("usr").mode(0o751),
        Entry::dir("usr/lib"),
        Entry::file("usr/lib/large", vec![7; 3 << 20]),
        Entry::file("usr/lib/exact", vec![9; 1 << 20]),
        Entry::file("usr/lib/small", b"a"),
        Entry::file("usr/lib/empty", b""),
        Entry::file("usr/lib/setuid", vec![1; 5000]).mode(0o4755),
        Entry::hardlink("usr/lib/again", "usr/lib/large"),
        Entry::symlink("usr/lib/link", "../nowhere"),
        Entry::dir("run"),
        Entry::file("run/left-out", b"not in the sealed tree"),
    ];
    if rustix::process::geteuid().is_root() {
        entries.push(Entry::device("usr/lib/null", b'3', 1, 3));
        // cap_net_raw=ep, revision 2.
        let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        entries.push(Entry::file("usr/lib/ping", vec![2; 100]).pax("SCHILY.xattr.security.capability", capability));
    }
    let layer = Layer::new(&entries);
    bench.write("layer.tar", &layer.blob());
    Layout::new(&bench.path("image"), &[layer]);
    std::fs::create_dir(bench.path("tree")).unwrap();
    let tar = ["--xattrs", "--xattrs-include=*", "-xpf", "layer.tar", "-C", "tree"];
    assert!(Command::new("tar").args(tar).current_dir(bench.dir.path()).status().unwrap().success());
    let wanted = role(&bench, "oci:image", "merged");
    assert_eq!(of_directory(&bench, "tree"), wanted);

    // Every kind of difference is one.
    let differs = |change: &dyn Fn(&Path), back: &dyn Fn(&Path)| {
        let tree = bench.path("tree/usr/lib");
        change(&tree);
        assert_ne!(of_directory(&bench, "tree"), wanted);
        back(&tree);
    };
    differs(&|d| std::fs::write(d.join("new"), b"").unwrap(), &|d| std::fs::remove_file(d.join("new")).unwrap());
    let mode = |d: &Path, mode| {
        std::fs::set_permissions(d.join("small"), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    differs(&|d| mode(d, 0o600), &|d| mode(d, 0o644));
    let link = |d: &Path, to: &str| {
        let _ = std::fs::remove_file(d.join("link"));
        std::os::unix::fs::symlink(to, d.join("link")).unwrap();
    };
    differs(&|d| link(d, "elsewhere"), &|_| {});
}

#[test]
fn a_directory_that_cannot_be_sealed_is_refused_by_name() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("tree/usr")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(bench.path("tree/usr/socket")).unwrap();
    let said = bench.run(&["digest", "--directory", "tree"]).refused(4, "H06");
    assert!(said.stderr.contains("usr/socket"), "{}", said.stderr);
    bench.run(&["digest", "--directory", "missing"]).refused(1, "X01");
    bench.write("file", b"");
    bench.run(&["digest", "--directory", "file"]).refused(1, "X01");
    for wrong in [&["digest"][..], &["digest", "oci:image", "--directory", "tree"]] {
        assert_eq!(bench.run(wrong).code, 2, "{wrong:?}");
    }
    assert!(!bench.vault().exists());
}

const SIGN: [&str; 6] = ["sign", "app", "--cert", "signer.crt", "--key", "signer.key"];

#[test]
fn an_image_in_the_vault_is_signed_as_it_was_pulled() {
    let bench = Bench::new();
    bench.signer("signer", signer());
    Layout::new(&bench.path("image"), &small());
    let wanted = role(&bench, "oci:image", "merged");
    bench.run(&["pull", "oci:image", "--name", "app"]).ok();
    assert_eq!(role(&bench, "app", "merged"), wanted);

    // An EROFS image that is not what its name says is not signed: the layers say what is.
    let object = bench.vault().join("objects").join(&wanted[..2]).join(&wanted[2..]);
    let good = std::fs::read(&object).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    replace(&object, &bad);
    assert_eq!(role(&bench, "app", "merged"), wanted);
    bench.run(&SIGN).ok();
    assert_eq!(std::fs::read(&object).unwrap(), good, "signing has made it again");
    bench.run(&["verify", "app", "--trust", "signer.crt"]).ok();

    // A note that names the images of another tree gets it signed, and nobody accepts that.
    let other = Layout::new(&bench.path("other"), &[Layer::new(&[Entry::dir("usr"), Entry::file("usr/evil", b"x")])]);
    bench.run(&["pull", "oci:other", "--name", "other"]).ok();
    drop(other);
    let note = |name: &str| {
        let tag = std::fs::read_to_string(bench.vault().join("tags").join(name)).unwrap();
        bench.vault().join("images").join(tag.trim().trim_start_matches("sha256:")).join("digests.fsverity-sha512-12")
    };
    // The seal made before is good, and would do: of a fresh vault only the new one would be asked.
    std::fs::remove_dir_all(note("app").parent().unwrap().join("seals")).unwrap();
    std::fs::copy(note("other"), note("app")).unwrap();
    bench.run(&SIGN).ok();
    bench.run(&["verify", "app", "--trust", "signer.crt"]).refused(4, "D07");
}

fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn blobs_of_a_layout_are_linked_unless_others_can_write_to_them() {
    let bench = Bench::new();
    let layout = Layout::new(&bench.path("image"), &small());
    let blobs = layout.path.join("blobs/sha256");
    let largest = || {
        let size = |e: &std::fs::DirEntry| e.metadata().unwrap().len();
        let entries = std::fs::read_dir(&blobs).unwrap().map(|e| e.unwrap());
        entries.max_by_key(size).unwrap().file_name()
    };
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    let (theirs, ours) = (blobs.join(largest()), bench.vault().join("blobs/sha256").join(largest()));
    std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(0o664)).unwrap();
    bench.run(&["pull", "oci:image", "--name", "app"]).ok();
    assert_ne!(inode(&theirs), inode(&ours), "a copy");
    std::fs::remove_dir_all(bench.vault()).unwrap();
    std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(0o644)).unwrap();
    bench.run(&["pull", "oci:image", "--name", "app"]).ok();
    assert_eq!(inode(&theirs), inode(&ours), "the same file");
    bench.run(&["pull", "oci:image", "--name", "again"]).ok();
    assert_eq!(inode(&theirs), inode(&ours));
}
