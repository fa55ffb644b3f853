//! The mount program where the policy asks for fs-verity and the kernel has it: a store that somebody had
//! in his hands while the host was off.

use std::path::{Path, PathBuf};

use layerseal::digest::{Algorithm, BlobDigest, verity_digest};
use support::wrong_kernel::{Opened, run_on};

use crate::host::{APP, AUDIT, Container, ENFORCE, EVIL, Host, OTHER};
use crate::{TOOL, new_enough};

fn require(policy: &str) -> String {
    policy.replace("verity = \"off\"", "verity = \"require\"")
}

/// A host in enforce mode that has started the sealed image once.
fn ready() -> Option<(Host, Container)> {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let host = Host::new(&require(ENFORCE))?;
    let container = host.container("c", &host.image(APP));
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    let mounts = host.mounts_of(&container);
    assert!(mounts[0].contains("verity=require") && mounts[0].contains("metacopy=on"), "{mounts:?}");
    host.unmount(&container);
    Some((host, container))
}

fn object(host: &Host, content: &[u8]) -> PathBuf {
    host.root.join("layerseal/objects").join(verity_digest(Algorithm::Sha512, content).object_path())
}

fn drop_caches() {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
}

/// Whatever happened to the disk: refused, an error of input or output, or what was sealed.
#[track_caller]
fn sealed_or_nothing(host: &Host, container: &Container, what: &str) {
    drop_caches();
    let ran = host.start(container);
    if ran.code != 0 {
        assert!(ran.stderr.lines().count() == 1 && ran.records.len() == 1, "{what}: {ran:?}");
        assert!(host.mounts_of(container).is_empty(), "{what}");
        println!("{what}: {}", ran.stderr.trim());
        return;
    }
    match host.read(container, "usr/bin/tool") {
        Ok(content) => assert_eq!(content, TOOL, "{what}: altered content was shown"),
        Err(e) => println!("{what}: {e}"),
    }
    host.unmount(container);
}

#[test]
fn a06_the_caller_cannot_turn_verity_off() {
    let Some((host, container)) = ready() else { return };
    let target = host.of(&container.layer, "merged");
    host.call(&format!("{},verity=off,metacopy=off", host.options(&container)), &target).ok();
    assert!(host.mounts_of(&container)[0].contains("verity=require"));
    // And can turn it on.
    host.unmount(&container);
    host.config("policy.toml", ENFORCE);
    host.call(&format!("{},verity=require", host.options(&container)), &target).ok();
    assert!(host.mounts_of(&container)[0].contains("verity=require"));
}

#[test]
fn k01_nothing_that_was_put_on_the_disk_is_shown() {
    let Some((host, container)) = ready() else { return };
    let (tool, app) = (object(&host, &TOOL), host.image(APP));
    let kept = host.bench.path("kept");
    std::fs::rename(&tool, &kept).unwrap();
    let layers = [host.of(&app.layers[1], "diff/usr/bin/tool"), host.of(&app.layers[1], "diff/usr/bin/same-tool")];
    for layer in &layers {
        // A file of the layer is the object itself, and protected: another can take its place.
        assert!(std::fs::write(layer, EVIL).is_err());
        std::fs::remove_file(layer).unwrap();
        std::fs::write(layer, EVIL).unwrap();
    }
    std::fs::write(&tool, EVIL).unwrap();
    sealed_or_nothing(&host, &container, "an object without fs-verity, with the note that all is there");
    let prepared = host.root.join("layerseal/prepared");
    assert!(std::fs::read_dir(&prepared).unwrap().count() > 0);
    std::fs::remove_dir_all(&prepared).unwrap();
    sealed_or_nothing(&host, &container, "the same without the note");
    std::fs::remove_file(&tool).unwrap();
    sealed_or_nothing(&host, &container, "no object, and another file in the layer");
    for marker in std::fs::read_dir(host.root.join("layerseal/images")).unwrap().flatten() {
        for note in std::fs::read_dir(marker.path()).unwrap().flatten() {
            if note.file_name().to_string_lossy().starts_with("checked.") {
                std::fs::remove_file(note.path()).unwrap();
            }
        }
    }
    sealed_or_nothing(&host, &container, "the layers are read anew, and are others");
    // The object again: nothing else is needed.
    std::fs::rename(&kept, &tool).unwrap();
    for layer in &layers {
        std::fs::remove_file(layer).unwrap();
        std::fs::hard_link(&tool, layer).unwrap();
    }
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
}

#[test]
fn g03_another_erofs_image_with_fs_verity_is_refused() {
    let Some((host, container)) = ready() else { return };
    host.config("policy.toml", &require(AUDIT));
    host.layerseal(&["prepare", &format!("{OTHER}:v1")]);
    host.config("policy.toml", &require(ENFORCE));
    let vault = layerseal::vault::Vault::open(&host.root.join("layerseal")).unwrap();
    let rootfs = |name: &str| {
        let image = host.image(name);
        let manifest = std::fs::read(host.root.join("overlay-images").join(image.id).join("manifest")).unwrap();
        let made = vault.contents(&BlobDigest::of(&manifest), Algorithm::Sha512).unwrap();
        host.root.join("layerseal/objects").join(made.rootfs.object_path())
    };
    let (good, evil) = (rootfs(APP), rootfs(OTHER));
    std::fs::remove_file(&good).unwrap();
    std::fs::hard_link(&evil, &good).unwrap();
    host.start_refused(&container, 4, "G03");
    std::fs::remove_file(&good).unwrap();
    std::fs::copy(&evil, &good).unwrap();
    host.start_refused(&container, 4, "G03");
}

/// Notes of the host name an EROFS image that no composefs made, in audit mode: a host that has no
/// fs-verity reads it in any case; here a note says that it is not needed.
#[test]
fn h09_a_note_does_not_hand_the_kernel_any_bytes() {
    let Some((host, _)) = ready() else { return };
    host.config("policy.toml", &require(AUDIT));
    host.layerseal(&["prepare", &format!("{OTHER}:v1")]);
    let container = host.container("d", &host.image(OTHER));
    let image = host.image(OTHER);
    let manifest = std::fs::read(host.root.join("overlay-images").join(image.id).join("manifest")).unwrap();
    let digest = BlobDigest::of(&manifest);
    let vault = layerseal::vault::Vault::open(&host.root.join("layerseal")).unwrap();
    let rootfs = vault.contents(&digest, Algorithm::Sha512).unwrap().rootfs;
    let mut crafted = std::fs::read(host.root.join("layerseal/objects").join(rootfs.object_path())).unwrap();
    crafted[1024 + 12] = 0xff;
    let forged = verity_digest(Algorithm::Sha512, &crafted);
    vault.put_object(&forged, &crafted, None).unwrap();
    vault.mark_prepared(&forged, true).unwrap();
    let place = host.root.join("layerseal/images").join(digest.hex());
    let note = std::fs::read_dir(&place).unwrap().flatten().map(|e| e.path());
    let note = note.into_iter().find(|p| p.to_string_lossy().contains("digests.")).unwrap();
    let text = std::fs::read_to_string(&note).unwrap();
    std::fs::write(&note, text.replace(&rootfs.to_hex(), &forged.to_hex())).unwrap();
    let ran = host.start(&container);
    // Audit always starts: from the layers as they are, and not from that. It tells what enforce would stop at.
    assert!(ran.code == 0 && ran.records.iter().any(|r| r.contains("LAYERSEAL_CASE=C07")), "{ran:?}");
    assert!(host.mounts_of(&container).iter().all(|m| !m.contains("composefs:")), "{ran:?}");
    assert!(Path::new(&host.of(&container.layer, "merged")).exists());
}

/// A graph root that was copied or restored: its files are there, and no fs-verity. It is prepared again.
#[test]
fn g01_a_restored_graph_root_is_prepared_again() {
    let Some((host, container)) = ready() else { return };
    let vault = host.root.join("layerseal");
    let marks = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(vault.join("prepared")).unwrap();
        entries.map(|e| e.unwrap().path()).filter(|p| !p.to_string_lossy().ends_with(".unprotected")).collect()
    };
    let has_verity = |path: &Path| {
        let file = std::fs::File::open(path).unwrap();
        layerseal::sys::verity::measure(&file, Algorithm::Sha512, "file").is_ok()
    };
    let measured = |marks: &[PathBuf]| marks.iter().filter(|m| has_verity(m)).count();
    let (before, protected) = (marks().len(), measured(&marks()));
    let copy = host.root.join("copy");
    let cp = std::process::Command::new("cp").arg("-a").arg(&vault).arg(&copy).status().unwrap();
    assert!(cp.success());
    std::fs::rename(&vault, host.root.join("gone")).unwrap();
    std::fs::rename(&copy, &vault).unwrap();
    assert_eq!(measured(&marks()), 0);
    assert!(!has_verity(&object(&host, &TOOL)));
    drop_caches();
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    assert!(has_verity(&object(&host, &TOOL)));
    // The notes have it themselves, before and after.
    assert!(before > 0 && protected == before && measured(&marks()) > 0, "{protected} of {before}: {:?}", marks());
    host.unmount(&container);
    // One object of another disk among those that are here is found, whatever the note says.
    let path = object(&host, &TOOL);
    let lost = path.with_extension("lost");
    std::fs::copy(&path, &lost).unwrap();
    std::fs::rename(&lost, &path).unwrap();
    sealed_or_nothing(&host, &container, "an object without fs-verity");
}

/// What doctor tries is what a start mounts: on this kernel it holds.
#[test]
fn g10_the_kernel_does_what_it_accepts() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let bench = crate::common::Bench::new();
    let vault = bench.path("vault");
    std::fs::create_dir(&vault).unwrap();
    let tried = layerseal::start::probe_kernel(&vault).unwrap();
    for (way, result) in &tried {
        assert_eq!(result, &Ok(()), "{way:?}");
    }
    assert!(tried.len() >= 3);
    // Nothing of it stays, nor does the mount.
    assert_eq!(std::fs::read_dir(&vault).unwrap().count(), 0);
    let vault = vault.to_str().unwrap();
    let doctor = std::process::Command::new(crate::common::binary()).args(["--vault", vault, "doctor"]).output();
    let text = String::from_utf8(doctor.unwrap().stdout).unwrap();
    let line = text.lines().find(|line| line.contains("sealed files, tried")).unwrap();
    assert!(line.starts_with("ok") && line.contains("with an upper directory, for other user IDs"), "{text}");
    assert_eq!(line.contains("with an SELinux label"), layerseal::sys::selinux::is_enabled(), "{text}");
}

/// The first start in a boot tries the kernel, and what came of it counts until the next. That it failed is written here by
/// hand: no kernel at hand fails.
#[test]
fn g10_a_start_remembers_what_the_kernel_did() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let Some(host) = Host::new(&require(ENFORCE)) else { return };
    let proof = host.sandbox.path(Path::new("/run/layerseal/proof"));
    let container = host.container("c", &host.image(APP));
    let _ = std::fs::remove_dir_all(&proof);
    let began = std::time::Instant::now();
    host.start(&container).ok();
    let first = began.elapsed();
    host.unmount(&container);
    let notes: Vec<PathBuf> = std::fs::read_dir(&proof).unwrap().map(|e| e.unwrap().path()).collect();
    let [note] = &notes[..] else { panic!("{notes:?}") };
    assert_eq!(std::fs::read(note).unwrap(), b"held");
    let began = std::time::Instant::now();
    host.start(&container).ok();
    println!("with the trial {first:?}, without {:?}", began.elapsed());
    host.unmount(&container);
    let left = std::fs::read_dir(host.root.join("layerseal")).unwrap().flatten();
    assert!(left.into_iter().all(|e| !e.file_name().to_string_lossy().starts_with("layerseal-proof")));
    std::fs::write(note, "an object that is as it was sealed cannot be read: Input/output error").unwrap();
    let refused = host.start_refused(&container, 6, "G10");
    assert!(refused.stderr.contains("cannot be read") && refused.stderr.contains("in this boot"), "{refused:?}");
    assert!(host.mounts_of(&container).is_empty());
    // Of what the kernel is not asked it need not be known.
    host.config("policy.toml", ENFORCE);
    host.start(&container).ok();
    host.unmount(&container);
    host.config("policy.toml", &require(AUDIT));
    let ran = host.start(&container);
    assert!(ran.code == 0 && ran.records.iter().any(|r| r.contains("LAYERSEAL_CASE=G10")), "{ran:?}");
}

/// Kernels that take `verity=require` and do something else. What it comes to when a file of a new overlay is opened is answered
/// by the test in the kernel's place: 7.0.0 to 7.0.6 do not open what nobody has opened before, and a kernel that checks
/// nothing shows whatever lies there.
#[test]
fn g10_a_kernel_that_answers_wrongly_starts_nothing() {
    const GOOD: [u8; 9000] = [b'g'; 9000];
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    for (opened, why) in [
        (Opened::Eio, "an object that is as it was sealed cannot be read: Input/output error"),
        (Opened::As(&GOOD), "an object with another digest was shown"),
    ] {
        let Some(host) = Host::new(&require(ENFORCE)) else { return };
        let container = host.container("c", &host.image(APP));
        let vault = host.root.join("layerseal").display().to_string();
        let on_it = |args: &[&str]| {
            let mut answered = None;
            let ran = host.program(args, |command| answered = Some(run_on(command, opened)));
            (ran, answered.unwrap().join().unwrap())
        };
        let (options, target) = (host.options(&container), host.of(&container.layer, "merged"));
        let (ran, answered) = on_it(&["-o", &options, &target]);
        let refused = ran.refused(6, "G10");
        assert!(answered > 0 && refused.stderr.contains(why), "{answered}: {refused:?}");
        assert!(host.mounts_of(&container).is_empty());
        let (doctor, answered) = on_it(&["--vault", &vault, "doctor"]);
        let line = doctor.stdout.lines().find(|line| line.contains("sealed files, tried")).unwrap();
        assert!(answered > 0 && line.starts_with("missing") && line.contains(why), "{answered}: {doctor:?}");
        // As long as it runs it is not believed, and the next one is tried anew.
        let again = host.start_refused(&container, 6, "G10");
        assert!(again.stderr.contains(why) && again.stderr.contains("in this boot"), "{again:?}");
        host.sandbox.sh("rm -rf /run/layerseal/proof");
        host.start(&container).ok();
        assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
        host.unmount(&container);
    }
}
