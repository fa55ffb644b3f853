//! A vault that is elsewhere than in the graph root: where the policy says, or on a mount there.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use layerseal::digest::{Algorithm, verity_digest};

use crate::disk::Disk;
use crate::host::{APP, AUDIT, ENFORCE, Host, TOOL};

/// The same policy, with the vault at `dir`.
fn elsewhere(policy: &str, dir: &Path) -> String {
    format!("{policy}[store]\nvault = \"{}\"\n", dir.display())
}

/// Mounts a new ext4 on `dir`, in the namespace alone.
fn mount_ext4(host: &Host, dir: &Path) {
    let file = host.bench.path("vault.ext4");
    let (file, dir) = (file.display(), dir.display());
    host.sandbox.sh(&format!(
        "truncate -s 32M '{file}'; mkfs.ext4 -q -O verity '{file}'; mkdir -p '{dir}'; mount -o loop '{file}' '{dir}'"
    ));
}

fn tool() -> PathBuf {
    Path::new("objects").join(verity_digest(Algorithm::Sha512, &TOOL).object_path())
}

/// One life of an image: started, listed, swept, looked through; and nothing of it is in the graph root.
fn lives(host: &Host, vault: &Path) {
    let container = host.container(vault.file_name().unwrap().to_str().unwrap(), &host.image(APP));
    let app = format!("{APP}:v1");
    let prepared = host.verb_without_vault(&["prepare", &app, "--seal", "oci:app"]);
    assert_eq!(prepared.code, 0, "{prepared:?}");
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    let object = host.sandbox.path(&vault.join(tool()));
    let file = std::fs::metadata(&object).unwrap();
    // A copy: the layer's own file is on another filesystem.
    assert_eq!((file.nlink(), std::fs::read(&object).unwrap()), (1, TOOL.to_vec()));
    // What is mounted, and what a store needs, stays; what nobody needs goes.
    let collected = host.verb_without_vault(&["gc"]);
    assert!(collected.code == 0 && object.exists(), "{collected:?}");
    host.unmount(&container);
    let collected = host.verb_without_vault(&["gc"]);
    assert!(collected.code == 0 && object.exists(), "{collected:?}");
    let checked = host.verb_without_vault(&["fsck"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let doctor = host.verb_without_vault(&["doctor", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&doctor.stdout).unwrap();
    let checks = found["checks"].as_array().unwrap();
    let place = checks.iter().find(|check| check["check"] == "vault").unwrap();
    let text = place["found"].as_str().unwrap();
    assert!(place["state"] == "ok" && text.starts_with(vault.to_str().unwrap()) && text.contains("copied"), "{place}");
    // The second start has everything.
    host.start(&container).ok();
    host.unmount(&container);
}

#[test]
fn x13_the_policy_says_where_the_vault_is() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    let vault = host.bench.path("vault");
    host.config("policy.toml", &elsewhere(ENFORCE, &vault));
    let container = host.container("none", &host.image(APP));
    // It is not there: nothing is made in its place.
    host.start_refused(&container, 6, "X13");
    assert!(!vault.exists());
    mount_ext4(&host, &vault);
    lives(&host, &vault);
    assert!(!host.root.join("layerseal").exists());
    // What other stores used it for is needed too, and where one is not there it is not known.
    let other = host.bench.path("other");
    let moved = host.sandbox.path(&vault).join("stores");
    std::fs::write(moved.join("0".repeat(64)), other.to_str().unwrap()).unwrap();
    let refused = host.verb_without_vault(&["gc"]);
    assert!(refused.code == 6 && refused.stderr.contains("X13") && refused.stderr.contains("mount it"), "{refused:?}");
    std::fs::create_dir_all(other.join("overlay-layers")).unwrap();
    std::fs::create_dir_all(other.join("overlay-images")).unwrap();
    let collected = host.verb_without_vault(&["gc"]);
    assert_eq!(collected.code, 0, "{collected:?}");
    // The image is gone from the store: so are its files from the vault.
    host.edit("overlay-images/images.json", |images| images.clear());
    host.edit("overlay-layers/layers.json", |layers| layers.clear());
    let collected = host.verb_without_vault(&["gc"]);
    assert!(collected.code == 0 && !host.sandbox.path(&vault).join(tool()).exists(), "{collected:?}");
}

/// As long as nothing was mounted there, the vault lay beneath: it is in one place all the same.
#[test]
fn x13_a_filesystem_mounted_on_the_vault_of_the_graph_root() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    let vault = host.root.join("layerseal");
    std::fs::create_dir(&vault).unwrap();
    mount_ext4(&host, &vault);
    lives(&host, &vault);
    assert!(std::fs::read_dir(&vault).unwrap().next().is_none(), "a part of the vault is beneath the mount");
    // The same for a part of it: what was there before is not seen any more by anybody.
    let Some(host) = Host::bare(ENFORCE) else { return };
    let objects = host.root.join("layerseal/objects");
    std::fs::create_dir_all(&objects).unwrap();
    mount_ext4(&host, &objects);
    let container = host.container("c", &host.image(APP));
    let prepared = host.verb_without_vault(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
    assert_eq!(prepared.code, 0, "{prepared:?}");
    host.start(&container).ok();
    assert!(std::fs::read_dir(&objects).unwrap().next().is_none());
    assert!(host.sandbox.path(&vault_object(&host)).exists());
}

fn vault_object(host: &Host) -> PathBuf {
    host.root.join("layerseal").join(tool())
}

#[test]
fn x13_places_that_can_be_no_vault() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let real = host.bench.path("real");
    std::fs::create_dir_all(real.join("vault")).unwrap();
    symlink(&real, host.bench.path("link")).unwrap();
    symlink(real.join("vault"), host.bench.path("last")).unwrap();
    host.bench.write("file", b"");
    let open = host.bench.path("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    for (place, why) in [
        ("link/vault", "symlink"),
        ("last", "symlink"),
        ("file", "not a directory"),
        ("open", "others than root"),
        ("nowhere", "no such directory"),
    ] {
        host.config("policy.toml", &elsewhere(ENFORCE, &host.bench.path(place)));
        let ran = host.start_refused(&container, 6, "X13");
        assert!(ran.stderr.contains(why), "{place}: {ran:?}");
        for args in [&["gc"][..], &["images"], &["fsck"], &["prepare", "--all"]] {
            let ran = host.verb_without_vault(args);
            assert!(
                ran.code == 6 && ran.stderr.contains("X13") && ran.stderr.contains(why),
                "{place} {args:?}: {ran:?}"
            );
        }
        let doctor = host.verb_without_vault(&["doctor"]);
        assert!(doctor.code == 6 && doctor.stdout.contains(why), "{place}: {doctor:?}");
        // A verb that needs no vault does not ask for it.
        assert_eq!(host.verb_without_vault(&["status"]).code, 0);
        // It stops nothing where nothing must be sealed.
        host.config("policy.toml", &elsewhere(AUDIT, &host.bench.path(place)));
        host.start(&container);
        assert!(!host.mounts_of(&container).is_empty(), "{place}");
        host.unmount(&container);
    }
    assert!(std::fs::read_dir(real.join("vault")).unwrap().next().is_none());
    // In the graph root.
    host.config("policy.toml", ENFORCE);
    symlink(real.join("vault"), host.root.join("layerseal")).unwrap();
    host.start_refused(&container, 6, "X13");
    for args in [&["gc"][..], &["images"], &["prepare", "--all"]] {
        let ran = host.verb_without_vault(args);
        assert!(ran.code == 6 && ran.stderr.contains("X13"), "{args:?}: {ran:?}");
    }
    assert!(host.verb_without_vault(&["doctor"]).stdout.contains("X13"));
    assert!(std::fs::read_dir(real.join("vault")).unwrap().next().is_none());
}

/// XFS has no fs-verity, and can share blocks of files.
#[test]
fn x13_a_graph_root_on_xfs() {
    let Ok(_) = std::process::Command::new("mkfs.xfs").arg("-V").output() else { crate::skip!("needs mkfs.xfs") };
    let disk = Disk::formatted(320, &["mkfs.xfs", "-q", "-f"], "loop");
    let Some(host) = Host::bare_in(disk.bench(), ENFORCE) else { return };
    let vault = host.bench.path("vault");
    host.config("policy.toml", &elsewhere(ENFORCE, &vault));
    mount_ext4(&host, &vault);
    lives(&host, &vault);
    // Elsewhere on the same filesystem a copy takes no space; it is none the less a file of its own.
    let beside = host.bench.path("beside");
    std::fs::create_dir(&beside).unwrap();
    host.config("policy.toml", &elsewhere(ENFORCE, &beside));
    lives(&host, &beside);
}

/// What keeps a directory from being removed with the rest goes with this value.
struct Immutable(PathBuf);

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = std::process::Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

/// A vault in a file: made once, mounted as its unit says, and nothing is put in its place while it is not.
#[test]
fn x13_a_vault_in_a_file() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    let vault = host.bench.path("srv/the.vault");
    let _guard = Immutable(vault.clone());
    let create =
        |args: &[&str]| host.verb_without_vault(&[&["vault", "create", vault.to_str().unwrap()][..], args].concat());
    for (args, code, why) in [
        (&["--size", "1G", "--file", "srv/the.vault/file"][..], 2, "beneath"),
        (&["--size", "1M"], 2, "less than 16M"),
        (&["--size", "100T"], 6, "X10"),
    ] {
        let refused = create(args);
        assert!(refused.code == code && refused.stderr.contains(why), "{args:?}: {refused:?}");
    }
    let made = create(&["--size", "40M", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap_or_else(|e| panic!("{e}: {made:?}"));
    let file = host.bench.path("srv/the.vault.img");
    assert_eq!((made["file"].as_str(), made["directory"].as_str()), (file.to_str(), vault.to_str()));
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.len(), metadata.mode() & 0o7777), (40 << 20, 0o600));
    assert!(metadata.blocks() * 512 >= 40 << 20, "a full disk would damage it");
    let again = create(&["--size", "40M"]);
    assert!(again.code == 6 && again.stderr.contains("already"), "{again:?}");

    host.config("policy.toml", &elsewhere(ENFORCE, &vault));
    let container = host.container("c", &host.image(APP));
    let refused = host.start_refused(&container, 6, "X13");
    assert!(refused.stderr.contains("may not be mounted"), "{refused:?}");
    assert!(std::fs::read_dir(&vault).unwrap().next().is_none());
    let unit = made["unit"].as_str().unwrap();
    let word = |key: &str| unit.lines().find_map(|line| line.strip_prefix(&format!("{key}="))).unwrap().to_owned();
    let (what, at, kind, options) = (word("What"), word("Where"), word("Type"), word("Options"));
    host.sandbox.sh(&format!("mount -t {kind} -o {options} '{what}' '{at}'"));
    lives(&host, &vault);
    let features = host.sandbox.sh(&format!("dumpe2fs -h '{what}' 2>/dev/null"));
    assert!(features.lines().any(|line| line.starts_with("Filesystem features:") && line.contains("verity")));
    let mounted = create(&["--size", "40M", "--file", "srv/other.img"]);
    assert!(mounted.code == 6 && mounted.stderr.contains("mounted there"), "{mounted:?}");
}
