//! Files of podman's store with a second name, in a volume: a container could write them after podman has read them, and
//! before anybody looks.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::guard::text;
use crate::hostile::{GRAPH_ROOT, IMAGES, json_of};
use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program};
use crate::ready;

#[test]
fn b09_b15_files_of_the_store_have_one_name() {
    if !ready("files of the store with a second name") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime, Program::Guarded, Program::Layerseal] {
        let podman = Podman::new(program);
        podman.ok(&["volume", "create", "shared"]);
        let run = ["run", "--rm", "--pull=never", APP, "ls", "/bin"];
        podman.ok(&run);
        let root = podman.graph_root();
        let documents = documents_of(&podman, APP);
        // The names of others than the manifest are in base64; what podman 4.3 keeps of signatures nobody reads.
        let is_read = |path: &PathBuf| !path.file_name().unwrap().to_str().unwrap().starts_with("=c2lnbmF0dXJl");
        let entries = std::fs::read_dir(&documents).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<(PathBuf, &str)> = entries.filter(is_read).map(|path| (path, "B09")).collect();
        assert!(files.len() >= 2, "{files:?}");
        files.push((root.join(IMAGES), "B09"));
        let databases = ["db.sql", "libpod/bolt_state.db"].map(|name| root.join(name));
        files.push((databases.into_iter().find(|path| path.exists()).unwrap(), "B15"));
        let second = root.join("volumes/shared/_data/file");
        for (file, case) in files {
            std::fs::hard_link(&file, &second).unwrap();
            let said = text(&podman.run(&run));
            match program {
                Program::Hooked => {
                    assert_eq!(podman.last("precreate"), ("refused".into(), case.into()), "{file:?}: {said}")
                }
                Program::Runtime => {
                    assert_eq!(podman.last("runtime"), ("refused".into(), case.into()), "{file:?}: {said}")
                }
                _ => {
                    assert!(said.contains(&format!("[R-{case}]")) && said.contains("another name"), "{file:?}: {said}")
                }
            }
            // Control: that name is gone.
            std::fs::remove_file(&second).unwrap();
            podman.ok(&run);
        }
    }
}

/// The name may be gone again by the time that anybody looks; what was changed in its place tells of it.
#[test]
fn b09_documents_are_what_the_container_was_made_from() {
    if !ready("documents that are changed after a container was made") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime, Program::Guarded] {
        let podman = Podman::new(program);
        for name in ["ran", "changed", "replaced"] {
            podman.ok(&["create", "--name", name, APP, "ls", "/bin"]);
        }
        podman.ok(&["start", "-a", "ran"]);
        let manifest = documents_of(&podman, APP).join("manifest");
        // As a pull of the same image does it.
        let again = manifest.with_file_name("again");
        std::fs::copy(&manifest, &again).unwrap();
        std::fs::rename(&again, &manifest).unwrap();
        podman.ok(&["start", "-a", "replaced"]);
        podman.ok(&["create", "--name", "later", APP, "ls", "/bin"]);
        let bytes = std::fs::read(&manifest).unwrap();
        std::fs::write(&manifest, bytes).unwrap();
        let stage = if program == Program::Runtime { "runtime" } else { "precreate" };
        let said = text(&podman.run(&["start", "-a", "later"]));
        assert_eq!(podman.last(stage), ("refused".into(), "B09".into()), "{program:?}: {said}");
        // Control: what has run before was compared then, and what is made from now on is compared with this.
        podman.ok(&["start", "-a", "ran"]);
        podman.ok(&["run", "--rm", "--pull=never", APP, "ls", "/bin"]);
        // It was made before the manifest was, as of which nothing is known then.
        podman.ok(&["start", "-a", "changed"]);
    }
}

/// Whoever has a second name of a document keeps the document open and takes the name away, whatever is asked of the container
/// itself.
#[test]
fn b09_b15_no_container_is_given_a_second_name() {
    if !ready("documents of other images with a second name") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime, Program::Guarded] {
        let podman = Podman::with_both(program);
        podman.ok(&["volume", "create", "shared"]);
        podman.host.sh("mkdir -p /var/tmp/elsewhere && mount -t tmpfs none /var/tmp/elsewhere");
        podman.ok(&["tag", FRESH, "localhost/free:1"]);
        let stage = if program == Program::Runtime { "runtime" } else { "precreate" };
        let root = podman.graph_root();
        let databases = ["db.sql", "libpod/bolt_state.db"].map(|name| root.join(name));
        let database = databases.into_iter().find(|path| path.exists()).unwrap();
        let second = root.join("volumes/shared/_data/file");
        let run = |with: &[&str], image: &str, command: &[&str]| {
            podman.run(&[&["run", "--rm", "--pull=never"], with, &[image], command].concat())
        };
        let shared = ["-v", "shared:/shared"];
        // The mount program reads the records before.
        let is_refused = |said: &str, case: &str| {
            said.contains(&format!("[R-{case}]")) || podman.last(stage) == ("refused".into(), case.into())
        };
        for (file, case) in
            [(documents_of(&podman, APP).join("manifest"), "B09"), (root.join(IMAGES), "B09"), (database, "B15")]
        {
            std::fs::hard_link(&file, &second).unwrap();
            let said = run(&shared, FRESH, &["rm", "/shared/file"]);
            assert!(is_refused(&text(&said), case), "{program:?} {file:?}: {}", text(&said));
            assert!(!said.status.success() && second.exists(), "{program:?} {file:?}: {}", text(&said));
            let _ = std::fs::remove_file(&second);
            let said = run(&shared, FRESH, &["touch", "/shared/own"]);
            assert!(said.status.success(), "{program:?} {file:?}: {}", text(&said));
        }
        let manifest = documents_of(&podman, APP).join("manifest");
        std::fs::hard_link(&manifest, &second).unwrap();
        podman.ok(&["untag", FRESH, FRESH]);
        for with in [&shared[..], &["-v", "/var:/shared"], &["-v", "/var:/shared:ro", "-v", "shared:/other"]] {
            let said = run(with, "localhost/free:1", &["rm", "/shared/file"]);
            assert!(is_refused(&text(&said), "B09"), "{program:?} {with:?}: {}", text(&said));
            assert!(second.exists());
        }
        // Controls: what cannot be written, and what is no part of the filesystem.
        for with in [&[][..], &["-v", "shared:/shared:ro"], &["-v", "/var/tmp/elsewhere:/shared"]] {
            let said = run(with, "localhost/free:1", &["true"]);
            assert!(said.status.success(), "{program:?} {with:?}: {}", text(&said));
        }
        std::fs::remove_file(&second).unwrap();
        let said = run(&shared, "localhost/free:1", &["touch", "/shared/own"]);
        assert!(said.status.success(), "{program:?}: {}", text(&said));
    }
}

/// Returns the record of an image.
fn record_of(podman: &Podman, name: &str) -> Value {
    let images = json_of(&podman.graph_root().join(IMAGES));
    let is_named = |image: &&Value| image["names"].as_array().unwrap().contains(&json!(name));
    images.as_array().unwrap().iter().find(is_named).unwrap().clone()
}

/// Returns the directory of an image's documents.
fn documents_of(podman: &Podman, name: &str) -> PathBuf {
    podman.graph_root().join("overlay-images").join(record_of(podman, name)["id"].as_str().unwrap())
}

/// The image's topmost file of that name has another one in its place, of the same size and times; and what it held.
fn exchanged(podman: &Podman, image: &str, name: &str, change: impl Fn(&mut Vec<u8>)) -> (PathBuf, Vec<u8>) {
    let layers = json_of(&podman.graph_root().join("overlay-layers/layers.json"));
    let mut layer = record_of(podman, image)["layer"].clone();
    let of_layer = |id: &Value| podman.graph_root().join("overlay").join(id.as_str().unwrap()).join("diff").join(name);
    while !of_layer(&layer).exists() {
        layer = layers.as_array().unwrap().iter().find(|one| one["id"] == layer).unwrap()["parent"].clone();
    }
    let file = of_layer(&layer);
    let (before, was) = (std::fs::read(&file).unwrap(), std::fs::metadata(&file).unwrap());
    let mut other = before.clone();
    change(&mut other);
    assert_eq!(other.len(), before.len());
    assert_ne!(other, before);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, other).unwrap();
    std::os::unix::fs::chown(&file, Some(was.uid()), Some(was.gid())).unwrap();
    std::fs::set_permissions(&file, was.permissions()).unwrap();
    let written = std::fs::File::options().write(true).open(&file).unwrap();
    written.set_modified(was.modified().unwrap()).unwrap();
    (file, before)
}

/// What a container writes by another name is there when podman reads it, and gone when anybody looks: here by a hook before
/// ours, which comes between the two on every start.
#[test]
fn o09_files_that_are_changed_while_podman_reads_them() {
    if !ready("files that are changed while podman reads them") {
        return;
    }
    if !crate::podman::has_verity() {
        support::skip!("files that are changed meanwhile: without fs-verity they can be changed at any time");
    }
    for program in [Program::Hooked, Program::Runtime] {
        for (name, args) in [
            ("etc/passwd", &["--user", "app", APP, "id", "-u"][..]),
            ("opt/app", &["-v", "/opt", APP, "head", "-c", "5", "/opt/app"]),
            ("opt/app", &["-v", "data:/opt", APP, "head", "-c", "5", "/opt/app"]),
        ] {
            let podman = Podman::new(program);
            let (file, before) = exchanged(&podman, APP, name, |bytes| match name {
                "etc/passwd" => {
                    *bytes =
                        String::from_utf8_lossy(bytes).replace("app:x:1000:1000:", "app:x:0000:0000:").into_bytes();
                }
                _ => bytes[..5].copy_from_slice(b"evil!"),
            });
            podman.host.write("/var/tmp/before", before);
            let inside = format!("{GRAPH_ROOT}/{}", file.strip_prefix(podman.graph_root()).unwrap().display());
            let time = podman.host.sh(&format!("stat -c %y {inside}"));
            let script = format!(
                "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\ncat >/var/tmp/config\n\
                 dd if=/var/tmp/before of={inside} conv=notrunc 2>/dev/null; touch -d '{}' {inside}\n\
                 cat /var/tmp/config\n",
                time.trim()
            );
            podman.host.write("/var/tmp/early", script);
            podman.host.sh("chmod +x /var/tmp/early");
            podman.host.write(
                "/etc/containers/hooks/00-early.json",
                r#"{"version":"1.0.0","hook":{"path":"/var/tmp/early","args":["early"]},"when":{"always":true},"stages":["precreate"]}"#,
            );
            let run = [&["run", "--rm", "--pull=never"], args].concat();
            let output = podman.run(&run);
            let said = text(&output);
            let stage = if program == Program::Runtime { "runtime" } else { "precreate" };
            assert_eq!(podman.last(stage), ("refused".into(), "O09".into()), "{program:?} {args:?}: {said}");
            assert!(!said.contains("evil"), "{program:?} {args:?}: {said}");
            // Control: nothing is changed any more. What was filled is refused, and new volumes are not.
            podman.host.sh("rm /etc/containers/hooks/00-early.json");
            podman.run(&["volume", "rm", "-fa"]);
            let said = podman.ok(&run);
            assert!(!said.contains("evil") && said.trim() != "0", "{program:?} {args:?}: {said}");
        }
    }
}
