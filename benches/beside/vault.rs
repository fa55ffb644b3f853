//! The vault beside cfsctl's repository, and the floors beneath both.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::floors;
use super::measure::{done, flush, forget, in_turn, remember, remove, usage};
use super::tools::{Place, unmount};

/// Measures the way from an OCI layout to what can be mounted, on the disk. The floor: unpacking the same tars, which
/// neither hashes nor waits for the disk.
pub fn pull(place: &Place) {
    for name in ["small-1", "small-5", "big-1", "big-5", "big-5-gzip"].into_iter().filter(|name| place.wants(name)) {
        let dir = place.path("pull");
        let image = place.image(name);
        let fresh = |tool: &str, round: usize| -> PathBuf {
            let dir = dir.join(format!("{tool}.{round}"));
            std::fs::create_dir_all(&dir).unwrap();
            forget();
            remember(&place.inputs.join(name).join("blobs/sha256"));
            dir
        };
        in_turn(
            "pull",
            name,
            if name.starts_with("big") { 3 } else { 5 },
            vec![
                (
                    "layerseal pull",
                    Box::new(|round| {
                        let dir = fresh("layerseal", round);
                        usage(place.layerseal(&dir).args(["pull", "--algorithm", "sha256", &image, "--name", "bench"]))
                    }),
                ),
                (
                    "cfsctl oci pull",
                    Box::new(|round| {
                        let dir = fresh("cfsctl", round);
                        place.init_cfsctl(&dir, "sha256");
                        usage(place.cfsctl(&dir).args(["oci", "pull", &image, "bench"]))
                    }),
                ),
                (
                    "tar -x (floor)",
                    Box::new(|round| {
                        let dir = fresh("tar", round);
                        let script = "dir=$1; shift; for layer; do tar -xf \"$layer\" -C \"$dir\"; done";
                        usage(Command::new("sh").args(["-c", script, "sh"]).arg(dir).args(place.layers(name)))
                    }),
                ),
                (
                    "SHA-256 of the layers (floor)",
                    Box::new(|round| {
                        fresh("sha256", round);
                        usage(&mut floors::sha256(&place.layers(name)))
                    }),
                ),
                // Of the files that tar has unpacked. A pull has them in memory, as the second time has.
                (
                    "fs-verity digests of the files (floor)",
                    Box::new(|round| {
                        let digests = || usage(&mut floors::digests_of(&dir.join(format!("tar.{round}"))));
                        digests();
                        digests()
                    }),
                ),
            ],
        );
        remove(&dir);
    }
}

/// Measures signing what is in the vault, then verifying and mounting it.
pub fn sign_and_mount(place: &Place) {
    for name in ["small-5", "big-5"].into_iter().filter(|name| place.wants(name)) {
        let dir = place.path("vault");
        place.sealed(&dir, &place.image(name));
        place.init_cfsctl(&dir, "sha256");
        done(place.cfsctl(&dir).args(["oci", "pull", &place.image(name), "bench"]));
        in_turn(
            "sign",
            name,
            5,
            vec![
                ("layerseal sign", Box::new(|_| usage(&mut place.sign(&dir)))),
                (
                    "cfsctl oci compute-id (no signature)",
                    Box::new(|_| usage(place.cfsctl(&dir).args(["oci", "compute-id", "bench"]))),
                ),
            ],
        );
        let target = place.path("target");
        std::fs::create_dir_all(&target).unwrap();
        // The first mount after a seal was made compares it with the layers; that is not what is measured.
        done(&mut place.mount(&dir, &target));
        unmount(&target);
        let erofs = merged(&dir.join("vault"));
        let mounted = |command: &mut Command| {
            let usage = usage(command);
            unmount(&target);
            usage
        };
        let options =
            format!("basedir={}{}", dir.join("vault/objects").display(), if place.verity { ",verity" } else { "" });
        in_turn(
            "mount",
            name,
            20,
            vec![
                ("layerseal mount (9 signatures)", Box::new(|_| mounted(&mut place.mount(&dir, &target)))),
                (
                    "cfsctl oci mount (no signature)",
                    Box::new(|_| {
                        mounted(place.cfsctl(&dir).args(["oci", "mount", "--fuse", "no", "bench"]).arg(&target))
                    }),
                ),
                (
                    "mount.composefs (no signature)",
                    Box::new(|_| {
                        mounted(place.composefs("sbin/mount.composefs").args(["-o", &options]).arg(&erofs).arg(&target))
                    }),
                ),
            ],
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// Finds the EROFS image that is mounted of the only image in a vault.
pub fn merged(vault: &std::path::Path) -> PathBuf {
    let image = std::fs::read_dir(vault.join("images")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(image.join("digests.fsverity-sha256-12")).unwrap();
    let digest = text.lines().next().and_then(|line| line.strip_prefix("rootfs ")).unwrap();
    vault.join("objects").join(&digest[..2]).join(&digest[2..])
}

/// Measures the way from a directory to the digest of its EROFS image. layerseal and cfsctl compute the same one.
pub fn directory(place: &Place) {
    for name in ["small-1", "big-1"].into_iter().filter(|name| place.wants(name)) {
        let tree = place.path("tree");
        std::fs::create_dir_all(&tree).unwrap();
        for layer in place.layers(name) {
            done(Command::new("tar").arg("-xf").arg(layer).arg("-C").arg(&tree));
        }
        let ours = || {
            let mut command = place.layerseal(&place.dir);
            command.args(["digest", "--algorithm", "sha256", "--directory"]).arg(&tree);
            command
        };
        let theirs = || {
            let mut command = Command::new(place.tools.join("cfsctl"));
            command.args(["--no-repo", "--hash", "sha256", "compute-id"]).arg(&tree).stdout(Stdio::null());
            command
        };
        let said = |command: &mut Command| {
            let text = String::from_utf8(command.stdout(Stdio::piped()).output().unwrap().stdout).unwrap();
            text.trim().rsplit([' ', ':']).next().unwrap_or_default().to_owned()
        };
        assert_eq!(said(&mut ours()), said(&mut theirs()), "the digest of {name}");
        in_turn(
            "directory",
            name,
            5,
            vec![
                ("layerseal digest --directory", Box::new(|_| usage(&mut ours()))),
                ("cfsctl compute-id", Box::new(|_| usage(&mut theirs()))),
                (
                    "cfsctl create-image (stores it too)",
                    Box::new(|round| {
                        let dir = place.path("images").join(round.to_string());
                        std::fs::create_dir_all(&dir).unwrap();
                        place.init_cfsctl(&dir, "sha256");
                        flush();
                        let usage = usage(place.cfsctl(&dir).arg("create-image").arg(&tree));
                        flush();
                        usage
                    }),
                ),
                (
                    "mkcomposefs --print-digest-only",
                    Box::new(|_| usage(place.composefs("bin/mkcomposefs").arg("--print-digest-only").arg(&tree))),
                ),
            ],
        );
        std::fs::remove_dir_all(&tree).unwrap();
        remove(&place.path("images"));
    }
}
