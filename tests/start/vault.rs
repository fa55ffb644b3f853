//! Who has the disk has the vault and the store too: notes, seals and objects that lie, and links that
//! lead out of it. Where the kernel cannot enforce, what is asked here is that a lie in the vault's
//! documents is found, and that nothing outside is written to.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use layerseal::digest::{Algorithm, BlobDigest};
use serde_json::json;

use crate::common::{Bench, Entry, Layer, Layout, signer, stranger};
use crate::forge::Forge;
use crate::host::{APP, AUDIT, Container, ENFORCE, EVIL, Host, OFF, OTHER, TOOL, copy_into_store, random_id};

/// `images/HEX` of an image in the vault.
fn place(host: &Host, name: &str) -> PathBuf {
    host.root.join("layerseal/images").join(manifest(host, name).hex())
}

fn manifest(host: &Host, name: &str) -> BlobDigest {
    let image = host.image(name);
    BlobDigest::of(&std::fs::read(host.root.join("overlay-images").join(image.id).join("manifest")).unwrap())
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The object of the EROFS image that a start mounts.
fn rootfs(host: &Host, name: &str) -> PathBuf {
    let vault = layerseal::vault::Vault::open(&host.root.join("layerseal")).unwrap();
    let rootfs = vault.contents(&manifest(host, name), Algorithm::Sha512).unwrap().rootfs;
    host.root.join("layerseal/objects").join(rootfs.object_path())
}

/// Prepares the image that nobody sealed, as a host in audit mode has done it.
fn prepare_other(host: &Host) {
    host.config("policy.toml", AUDIT);
    host.layerseal(&["prepare", &format!("{OTHER}:v1")]);
    host.config("policy.toml", ENFORCE);
}

/// A seal of the right image, signed by somebody else, with every note that it was checked.
#[test]
fn e07_notes_of_the_vault_vouch_for_nobody() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let bench = &host.bench;
    bench.signer("stranger", stranger());
    // The seal that the template has is not copied into this vault; a stranger's is.
    Layout::new(&bench.path("forged"), &crate::common::two_layers());
    bench.run(&["sign", "oci:forged", "--cert", "stranger.crt", "--key", "stranger.key", "--identity", APP]).ok();
    host.config("policy.toml", AUDIT);
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:forged"]);
    host.config("policy.toml", ENFORCE);
    let place = place(&host, APP);
    for seal in names(&place.join("seals")) {
        std::fs::write(place.join(format!("checked.{seal}")), "").unwrap();
    }
    host.start_refused(&container, 4, "E07");
    // The good one beside it: one bad seal never hides a good one.
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    host.unmount(&container);
    // More than anybody needs, as an attacker who wants it to take for ever would have it.
    for n in 0..100 {
        std::fs::write(place.join("seals").join(BlobDigest::of(format!("{n}").as_bytes()).hex()), "").unwrap();
    }
    host.start_refused(&container, 4, "C02");
    // What comes next takes their place, and not that of what this host accepted.
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
    host.start(&container).ok();
    host.unmount(&container);
}

/// A registry that was asked once may list what it likes: seals that nobody here accepts are not in the way of one that is
/// accepted, whichever came first.
#[test]
fn c02_seals_that_were_never_accepted_make_room() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
    let container = host.container("c", &host.image(APP));
    host.start(&container).ok();
    host.unmount(&container);
    let (image, root) = (manifest(&host, APP), host.root.join("layerseal"));
    let vault = layerseal::vault::Vault::open(&root).unwrap();
    let accepted = names(&place(&host, APP).join("seals"));
    for n in 0..130 {
        vault.add_seal(&image, format!("{{\"junk\":{n}}}").as_bytes()).unwrap();
    }
    let left = names(&place(&host, APP).join("seals"));
    assert_eq!(left.len(), 64);
    assert!(accepted.iter().all(|seal| left.contains(seal)), "{accepted:?}");
    drop(vault);
    host.start(&container).ok();
    host.unmount(&container);
}

/// Without a statement nothing but a comparison says what a seal is about: no note replaces it.
#[test]
fn d16_a_seal_without_a_statement_is_compared_every_time() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    let app = host.image(APP);
    let container = host.container("c", &app);
    let layout = Layout { path: host.bench.path("app"), manifest: json!(null), digest: manifest(&host, APP) };
    let mut forge = Forge::of(layout);
    forge.unbind();
    forge.put();
    let local = format!("{ENFORCE}binding = \"local\"\nidentity = false\n");
    host.config("policy.toml", &local);
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
    host.start(&container).ok();
    host.unmount(&container);
    let place = place(&host, APP);
    for seal in names(&place.join("seals")) {
        std::fs::write(place.join(format!("checked.{seal}")), "").unwrap();
    }
    let file = PathBuf::from(host.of(&app.layers[1], "diff")).join("etc/small");
    let kept = std::fs::read(&file).unwrap();
    std::fs::write(&file, vec![b'z'; kept.len()]).unwrap();
    host.start_refused(&container, 4, "C04");
    std::fs::write(&file, kept).unwrap();
    // Another image's layers, with its table: the config's diff_ids say so.
    host.config("policy.toml", ENFORCE);
    host.start_refused(&container, 4, "D16");
    host.config("policy.toml", &local);
    host.start(&container).ok();
}

/// Two publishers sign one image, in two algorithms: each of their seals is compared with the layers once.
#[test]
fn seals_of_several_trusted_signers_are_compared_once() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    let app = host.image(APP);
    let container = host.container("c", &app);
    let bench = &host.bench;
    bench.signer("stranger", stranger());
    for algorithm in ["fsverity-sha512-12", "fsverity-sha256-12"] {
        let by = ["--cert", "stranger.crt", "--key", "stranger.key", "--identity", APP, "--algorithm", algorithm];
        bench.run(&[&["sign", "oci:app", "--sequence", "9"][..], &by].concat()).ok();
    }
    host.config("trust.d/acme/stranger.crt", &String::from_utf8(stranger().cert.to_pem().unwrap()).unwrap());
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
    let place = place(&host, APP);
    let checked = || names(&place).iter().filter(|name| name.starts_with("checked.")).count();
    assert_eq!(checked(), names(&place.join("seals")).len());
    assert!(checked() >= 3);
    let file = PathBuf::from(host.of(&app.layers[1], "diff")).join("etc/small");
    let kept = std::fs::read(&file).unwrap();
    std::fs::write(&file, vec![b'z'; kept.len()]).unwrap();
    host.start(&container).ok();
    host.unmount(&container);
    // One that is not is compared, and noted when it passes; the others are none the worse for it.
    let seals = names(&place.join("seals"));
    std::fs::remove_file(place.join(format!("checked.{}", seals[0]))).unwrap();
    host.start(&container).ok();
    host.unmount(&container);
    assert_eq!(checked(), seals.len() - 1);
    std::fs::write(&file, kept).unwrap();
    host.start(&container).ok();
    assert_eq!(checked(), seals.len());
}

/// Notes about EROFS images: `digests.*` and `prepared/` of another image, and an object in its place.
#[test]
fn g03_another_image_in_the_vault_under_the_right_name() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    prepare_other(&host);
    let (app, other) = (place(&host, APP), place(&host, OTHER));
    let (good, evil) = (rootfs(&host, APP), rootfs(&host, OTHER));
    std::fs::copy(other.join("digests.fsverity-sha512-12"), app.join("digests.fsverity-sha512-12")).unwrap_or_else(
        |_| {
            let name = names(&other).into_iter().find(|n| n.starts_with("digests.")).unwrap();
            std::fs::copy(other.join(&name), app.join(&name)).unwrap()
        },
    );
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    host.unmount(&container);
    let kept = good.with_extension("kept");
    std::fs::rename(&good, &kept).unwrap();
    std::fs::hard_link(&evil, &good).unwrap();
    host.start_refused(&container, 4, "G03");
    // Neither a symlink to it nor something else that is no file.
    std::fs::remove_file(&good).unwrap();
    symlink(&evil, &good).unwrap();
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    host.unmount(&container);
    assert!(good.symlink_metadata().unwrap().is_file(), "what was lost is made again");
    // Larger than the disk: nobody hashes that.
    std::fs::remove_file(&good).unwrap();
    std::fs::File::create(&good).unwrap().set_len(1 << 43).unwrap();
    let started = Instant::now();
    host.start_refused(&container, 4, "G03");
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// A file content that is sparse and huge, under the name of an object that is to be made.
#[test]
fn h07_a_huge_object_keeps_nobody() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let object = layerseal::digest::verity_digest(Algorithm::Sha512, &TOOL).object_path();
    let object = host.root.join("layerseal/objects").join(object);
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    std::fs::File::create(&object).unwrap().set_len(1 << 43).unwrap();
    let started = Instant::now();
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
    assert!(started.elapsed() < Duration::from_secs(10));
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
}

/// Bytes that no composefs made, in audit mode, where only the host's own notes name them.
#[test]
fn h09_the_kernel_is_given_no_filesystem_that_composefs_does_not_make() {
    let Some(host) = Host::new(AUDIT) else { return };
    let container = host.container("d", &host.image(OTHER));
    host.layerseal(&["prepare", &format!("{OTHER}:v1")]);
    let mut crafted = std::fs::read(rootfs(&host, OTHER)).unwrap();
    crafted[1024 + 12] = 0xff;
    let digest = layerseal::digest::verity_digest(Algorithm::Sha512, &crafted);
    let object = host.root.join("layerseal/objects").join(digest.object_path());
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    std::fs::write(&object, &crafted).unwrap();
    let note = names(&place(&host, OTHER)).into_iter().find(|n| n.starts_with("digests.")).unwrap();
    let note = place(&host, OTHER).join(note);
    let text = std::fs::read_to_string(&note).unwrap();
    let line = text.lines().next().unwrap();
    std::fs::write(&note, text.replace(line, &format!("rootfs {}", digest.to_hex()))).unwrap();
    std::fs::create_dir_all(host.root.join("layerseal/prepared")).unwrap();
    std::fs::write(host.root.join("layerseal/prepared").join(digest.to_hex()), "").unwrap();
    // Audit always starts: from the layers as they are, and not from that. It tells what enforce would stop at.
    let ran = host.start(&container).ok();
    assert!(ran.records.iter().any(|r| r.contains("LAYERSEAL_CASE=C07") && r.contains("LAYERSEAL_REMEDY=")), "{ran:?}");
    assert!(host.mounts_of(&container).iter().all(|m| !m.contains("composefs:")), "{:?}", host.mounts_of(&container));
}

/// The vault or a part of it is somewhere else: nothing is written there, and nothing is mounted.
#[test]
fn b09_a_vault_that_leads_elsewhere() {
    let outside_files = |dir: &Path| {
        let mut found = Vec::new();
        crate::common::walk(dir, &mut |p| found.push((p.to_owned(), p.metadata().unwrap().ino())));
        found.sort();
        found
    };
    for part in ["", "objects", "blobs", "blobs/sha256", "images"] {
        let Some(host) = Host::new(ENFORCE) else { return };
        let container = host.container("c", &host.image(APP));
        let path = PathBuf::from(host.root.join("layerseal").join(part).to_str().unwrap().trim_end_matches('/'));
        let outside = host.bench.path("outside");
        match path.exists() {
            true => std::fs::rename(&path, &outside).unwrap(),
            false => std::fs::create_dir(&outside).unwrap(),
        }
        symlink(&outside, &path).unwrap();
        let before = outside_files(&outside);
        let ran = host.start(&container);
        assert!(ran.code != 0 && ran.stderr.lines().count() == 1 && ran.records.len() == 1, "{part}: {ran:?}");
        assert!(host.mounts_of(&container).is_empty(), "{part}");
        assert_eq!(outside_files(&outside), before, "{part}");
    }
}

/// Names of the vault for files outside of it: they are replaced, and never written to.
#[test]
fn b09_objects_that_are_links_to_files_outside() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let victim = host.bench.write("victim", &EVIL);
    let object = layerseal::digest::verity_digest(Algorithm::Sha512, &TOOL).object_path();
    let object = host.root.join("layerseal/objects").join(object);
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    std::fs::hard_link(&victim, &object).unwrap();
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    assert_eq!((std::fs::read(&victim).unwrap(), victim.metadata().unwrap().nlink()), (EVIL.to_vec(), 1));
}

/// Directories under which podman 4.3 names lower ones: only their names count.
#[test]
fn b08_mapped_directories_are_names_and_nothing_else() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, other) = (host.image(APP), host.image(OTHER));
    let container = host.container("c", &app);
    let mapped = PathBuf::from(host.of(&container.layer, "mapped/0"));
    for id in &app.layers {
        std::fs::create_dir_all(mapped.join(id)).unwrap();
        symlink(host.of(&other.layers[0], "diff"), mapped.join(id).join("diff")).unwrap();
    }
    let options = app.layers.iter().fold(host.options(&container), |o, id| {
        o.replace(&host.of(id, "diff"), &mapped.join(id).join("diff").display().to_string())
    });
    let target = host.of(&container.layer, "merged");
    host.call(&options, &target).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    host.unmount(&container);
    host.config("policy.toml", OFF);
    host.call(&options, &target).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    host.unmount(&container);
    // Of another container's, and deeper.
    for bad in [random_id("x"), format!("{}/x", container.layer)] {
        host.refused(
            &options.replace(&format!("{}/mapped", container.layer), &format!("{bad}/mapped")),
            &target,
            4,
            "B08",
        );
    }
}

/// The old content of a copy for other user IDs, which is mounted as it is: not through a symlink.
#[test]
fn b09_copies_for_other_user_ids_are_not_followed_out_of_the_store() {
    let policy = format!("{ENFORCE}[[rule]]\nimage = \"<none>\"\nmode = \"audit\"\n");
    let Some(host) = Host::new(&policy) else { return };
    let app = host.image(APP);
    let copy = random_id("copy");
    host.layer(&copy, Some(&app.layers[1]));
    let digest = host.json("overlay-layers/layers.json").iter().find(|l| l["id"] == app.layers[0].as_str()).unwrap()
        ["diff-digest"]
        .clone();
    host.edit("overlay-layers/layers.json", |all| {
        all.iter_mut().find(|l| l["id"] == copy.as_str()).unwrap()["diff-digest"] = digest;
    });
    host.edit("overlay-images/images.json", |all| {
        all.iter_mut().for_each(|i| i["mapped-layers"] = json!([copy]));
    });
    let secret = host.bench.path("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("shadow"), "root").unwrap();
    let old = PathBuf::from(host.of(&copy, "diff1"));
    symlink(&secret, &old).unwrap();
    let own = random_id("own");
    host.layer(&own, Some(&copy));
    let making = Container { layer: own, lowers: vec![] };
    let lowers = [
        vec![host.of(&copy, "diff"), host.of(&copy, "diff1")],
        app.layers.iter().map(|l| host.of(l, "diff")).collect(),
    ];
    let (upper, work) = (host.of(&making.layer, "diff"), host.of(&making.layer, "work"));
    let options = format!("lowerdir={},upperdir={upper},workdir={work}", lowers.concat().join(":"));
    let target = host.of(&making.layer, "merged");
    host.refused(&options, &target, 4, "B09");
    std::fs::remove_file(&old).unwrap();
    std::fs::create_dir(&old).unwrap();
    std::fs::write(old.join("old"), "old").unwrap();
    host.call(&options, &target).ok();
    assert_eq!(host.read(&making, "old").unwrap(), b"old");
    assert_eq!(host.read(&making, "usr/bin/tool").unwrap(), TOOL);
}

/// Names are claims: without any an image is what the rule for nameless ones says, and no seal is more
/// than the default trusts; with somebody else's it needs a seal for that name.
#[test]
fn d18_an_image_under_another_name_or_none() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, other) = (host.image(APP), host.image(OTHER));
    let (sealed, unsealed) = (host.container("c", &app), host.container("d", &other));
    let rename = |image: &str, names: serde_json::Value| {
        host.edit("overlay-images/images.json", |all| {
            all.iter_mut().find(|i| i["id"] == image).unwrap()["names"] = names;
        });
    };
    rename(&app.id, json!(["registry.example.com/acme/payments:v1"]));
    host.start_refused(&sealed, 4, "D18");
    rename(&app.id, json!(["evil\n[R-OK]\u{1b}[2K/x:v1"]));
    host.start_refused(&sealed, 4, "D18");
    rename(&app.id, json!([]));
    host.start(&sealed).ok();
    host.unmount(&sealed);
    rename(&other.id, json!([]));
    host.start_refused(&unsealed, 3, "C07");
    rename(&other.id, json!([format!("{APP}:v2")]));
    host.start_refused(&unsealed, 3, "C07");
    // A rule of its own for this name, with other signers.
    host.config("trust.d/bank/stranger.crt", std::str::from_utf8(&stranger().cert.to_pem().unwrap()).unwrap());
    host.config("policy.toml", &format!("{ENFORCE}[[rule]]\nimage = \"{APP}\"\ntrust = [\"bank\"]\n"));
    rename(&app.id, json!([format!("{APP}:v1")]));
    host.start_refused(&sealed, 4, "E07");
}

/// A tar that tries what tars try: what starts is what the sealer saw, or nothing.
#[test]
fn h03_a_hostile_image_is_refused_or_harmless() {
    if !rustix::process::geteuid().is_root() {
        support::skip!("a hostile image: needs root");
    }
    let bench = Bench::new();
    let victim = bench.write("victim", b"victim");
    let entries = [
        Entry::dir("./"),
        Entry::dir("usr"),
        Entry::dir("usr/bin"),
        Entry::file("usr/bin/tool", EVIL),
        Entry::file("usr/bin/\u{1b}[2J\n[R-OK]", vec![b'n'; 100]),
        Entry::symlink("usr/out", victim.to_str().unwrap()),
        Entry::file("usr/redirect", vec![b'r'; 100]).pax("SCHILY.xattr.trusted.overlay.redirect", "/etc/shadow"),
        Entry::file("usr/meta", vec![b'm'; 100]).pax("SCHILY.xattr.trusted.overlay.metacopy", ""),
        Entry::dir("usr/opaque").pax("SCHILY.xattr.trusted.overlay.opaque", "y"),
        Entry::file("usr/.wh.tool", ""),
        Entry::device("usr/mem", b'3', 1, 1),
    ];
    Layout::new(&bench.path("hostile"), &[Layer::new(&entries)]);
    if !copy_into_store(&bench, "hostile", "registry.example.com/evil") {
        return;
    }
    bench.signer("signer", signer());
    let Some(host) = Host::in_bench(bench, ENFORCE) else { return };
    let container = host.container("c", &host.image("registry.example.com/evil"));
    host.start_refused(&container, 3, "C07");
    host.config("policy.toml", AUDIT);
    let ran = host.start(&container);
    assert!(ran.stderr.lines().count() <= 1, "{ran:?}");
    assert!(ran.records.iter().all(|r| r.lines().all(|l| l.contains('=') && !l.contains('\u{1b}'))), "{ran:?}");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(host.read(&container, "usr/redirect").unwrap(), vec![b'r'; 100]);
    assert_eq!(host.read(&container, "usr/meta").unwrap(), vec![b'm'; 100]);
    let memory = std::fs::File::open(host.merged(&container).join("usr/mem"));
    assert!(memory.is_err(), "a device of the image can be opened");
    assert_eq!(std::fs::read(&victim).unwrap(), b"victim");
}

#[test]
fn l01_records_of_mounts_that_are_gone_are_swept() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (gone, lives) = (host.container("gone", &host.image(APP)), host.container("lives", &host.image(APP)));
    for container in [&gone, &lives] {
        host.start(container).ok();
    }
    let records = host.sandbox.path("/run/layerseal/mounts".as_ref());
    let names = || names(&records);
    let both = names();
    assert_eq!(both.len(), 2);
    host.unmount(&gone);
    // What a killed process was writing, and what one that lives is.
    let mine = format!(".new-{}-7", std::process::id());
    for rest in [".new-999999999-0", &mine] {
        std::fs::write(records.join(rest), "").unwrap();
    }
    host.layerseal(&["gc", "--dry-run"]);
    assert_eq!(names().len(), 4);
    host.layerseal(&["gc"]);
    // A record stays while any mount of this machine has its number: one of a test beside this one may have been given it.
    let until = Instant::now() + Duration::from_secs(120);
    while names().len() > 2 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
        host.layerseal(&["gc"]);
    }
    let left = names();
    assert!(left.len() == 2 && left.contains(&mine) && left.iter().any(|name| both.contains(name)), "{left:?}");
    let record = left.iter().find(|name| **name != mine).unwrap();
    assert!(std::fs::read_to_string(records.join(record)).unwrap().contains(&lives.layer));
    // Its container can still be judged by it, and a collection is no reason to start it again.
    assert_eq!(host.read(&lives, "usr/bin/tool").unwrap(), TOOL);
}
