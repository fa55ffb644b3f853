//! Images that somebody pulled and nobody started, and records of which podman reads another one.

use std::path::{Path, PathBuf};

use layerseal::digest::BlobDigest;
use serde_json::{Value, json};

use crate::guard::text;
use crate::image::{self, APP};
use crate::podman::{Podman, Program, copy, default_policy, layouts};
use crate::ready;
use crate::refusals::edit_json;

pub const IMAGES: &str = "overlay-images/images.json";
pub const GRAPH_ROOT: &str = "/var/lib/containers/storage";
pub const IMAGE_STORE: &str = "/var/tmp/images";

/// As containers-storage names the file of a document.
fn file_name(key: &str) -> String {
    match key {
        "manifest" => key.to_owned(),
        _ => format!("={}", openssl::base64::encode_block(key.as_bytes())),
    }
}

pub fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A layout of one image, without layers or with those of APP, whose manifest and config are changed as text.
fn layout(
    name: &str,
    of_app: bool,
    manifest_of: &dyn Fn(&str) -> String,
    config_of: &dyn Fn(&str) -> String,
) -> PathBuf {
    let dir = crate::scratch::fresh("hostile");
    let mut layout = if of_app {
        copy(&image::layout(layouts(), APP), &dir);
        let digest = json_of(&dir.join("index.json"))["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let mut layout = crate::common::Layout::new(&crate::scratch::fresh("none"), &[]);
        layout.path = dir.clone();
        layout.manifest = serde_json::from_slice(&layout.read(&digest)).unwrap();
        layout
    } else {
        crate::common::Layout::new(&dir, &[])
    };
    let mut manifest = layout.manifest.clone();
    let config = String::from_utf8(layout.read(manifest["config"]["digest"].as_str().unwrap())).unwrap();
    // Another image each time.
    let config = config.replacen("\"architecture\"", &format!("\"author\":{name:?},\"architecture\""), 1);
    manifest["config"] = layout.descriptor("application/vnd.oci.image.config.v1+json", config_of(&config).as_bytes());
    layout.set_raw_manifest(manifest_of(&manifest.to_string()).as_bytes());
    let mut index = layout.index();
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = name.into();
    layout.set_index(index["manifests"].clone());
    dir
}

/// Pulls an image without layers and returns the digest of its manifest; `None` if podman does not take it.
fn pull(podman: &Podman, name: &str, manifest: &dyn Fn(&str) -> String) -> Option<String> {
    let inside = podman.host.inside("/var/tmp/layout");
    let _ = std::fs::remove_dir_all(&inside);
    std::fs::create_dir(&inside).unwrap();
    copy(&layout(name, false, manifest, &str::to_owned).join("."), &inside);
    let output = podman.run(&["pull", "-q", &format!("oci:/var/tmp/layout:{name}")]);
    if !output.status.success() {
        return None;
    }
    let id = String::from_utf8(output.stdout).unwrap();
    podman.ok(&["untag", id.trim()]);
    podman.ok(&["tag", id.trim(), name]);
    Some(json_of(&inside.join("index.json"))["manifests"][0]["digest"].as_str().unwrap().to_owned())
}

/// One was enough: it gave its name, and with that another rule, to all images, and whoever denied it denied them.
#[test]
fn e07_f06_c03_what_a_pulled_image_says_is_about_no_other() {
    if !ready("names of hostile images") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime, Program::Layerseal] {
        let podman = Podman::new(program);
        podman.host.write("/etc/layerseal/trust.d/other/other.crt", crate::common::stranger().cert.to_pem().unwrap());
        let rule = "[[rule]]\nimage = \"registry.example.com/acme/*\"\ntrust = [\"acme\"]\n";
        podman.policy(&(default_policy().replace("[\"acme\"]", "[\"other\"]") + rule));
        let starts = |what: &str| {
            println!("{program:?}: {what}");
            podman.ok(&["run", "--rm", "--pull=never", APP, "true"]);
            // Nobody says by which name it is mounted.
            if program == Program::Layerseal {
                podman.ok(&["image", "mount", APP]);
                podman.ok(&["image", "umount", APP]);
                let mount = format!("type=image,source={APP},destination=/mnt");
                podman.ok(&["run", "--rm", "--pull=never", "--mount", &mount, APP, "true"]);
            }
        };
        starts("nothing pulled");
        let honest = pull(&podman, "evil.example.com/x/honest:1", &str::to_owned).unwrap();
        starts("an honest one");
        let end = |text: &str, more: &str| format!("{},{more}}}", text.strip_suffix('}').unwrap());
        let own = podman.ok(&["image", "inspect", "--format", "{{.Digest}}", APP]).trim().to_owned();
        let escaped = |text: &str| end(text, r#""SUBJECT":null,"x":"\u0061""#);
        let hostile = pull(&podman, "evil.example.com/x/hostile:1", &escaped).unwrap();
        starts("a hostile one");
        // For Go there is no list in it, and podman takes it for an image.
        let nulled = |text: &str| end(text, &format!("\"manifests\":[{{\"digest\":\"{own}\"}}],\"Manifests\":null"));
        let nulled = pull(&podman, "evil.example.com/x/nulled:1", &nulled);
        println!("{program:?}: a list that is none: {nulled:?}");
        starts("a list that is none");
        for digest in [honest, hostile].into_iter().chain(nulled) {
            podman.host.write("/etc/layerseal/deny.d/x.list", format!("{digest}\n"));
            starts("one of them denied");
        }
        if program != Program::Hooked {
            continue;
        }
        // More than was once read of all of them, in mode off too.
        for number in 0..9 {
            let name = format!("evil.example.com/x/padded{number}:1");
            let padded = |text: &str| end(text, &format!("\"x\":\"{own}\"")) + &" ".repeat((4 << 20) - 8192);
            pull(&podman, &name, &padded).unwrap();
        }
        starts("much");
        podman.policy(&default_policy().replace("\"enforce\"", "\"off\""));
        starts("much, in mode off");
    }
}

/// A pulled layer decides how many owners its record lists; the file was larger than what is read of it.
#[test]
fn b01_owners_of_a_pulled_layer_keep_no_other_from_starting() {
    if !ready("many owners") {
        return;
    }
    for program in [Program::Hooked, Program::Layerseal] {
        let podman = Podman::new(program);
        let run = ["run", "--rm", "--pull=never", APP, "true"];
        let numbers = |from: u32| (from..from + 3_500_000).map(|n| format!(",{n}")).collect::<String>();
        let path = podman.graph_root().join("overlay-layers/layers.json");
        let before = std::fs::read_to_string(&path).unwrap();
        let id = BlobDigest::of(b"owners").hex();
        let record = format!(
            "{{\"id\":\"{id}\",\"diff-digest\":\"sha256:{id}\",\"uidset\":[0{0}],\"gidset\":[0{0}]}}",
            numbers(1_000_000_000)
        );
        std::fs::write(&path, format!("{},{record}]", before.strip_suffix(']').unwrap())).unwrap();
        assert!(path.metadata().unwrap().len() > 64 << 20);
        podman.ok(&run);
        assert!(path.metadata().unwrap().len() > 64 << 20, "podman keeps it");
    }
}

#[test]
fn b13_d14_c03_an_image_that_was_pulled_keeps_no_other_from_starting() {
    if !ready("hostile images") {
        return;
    }
    for program in [Program::Hooked, Program::Layerseal] {
        let podman = Podman::new(program);
        let run = ["run", "--rm", "--pull=never", APP, "true"];
        podman.ok(&run);
        let same = |text: &str| text.to_owned();
        let twice = |text: &str| text.replacen('{', "{\"x\":1,\"x\":2,", 1);
        let folded = |text: &str| text.replacen('{', "{\"SUBJECT\":null,", 1);
        let padded = |text: &str| format!("{text}{}", " ".repeat((4 << 20) - 4096));
        let own = podman.ok(&["image", "inspect", "--format", "{{.Digest}}", APP]);
        let own = own.trim();
        let names = |text: &str| twice(text).replacen('{', &format!("{{\"annotations\":{{\"x\":{own:?}}},"), 1);
        let mut pulled = 0;
        let mut pull = |of_app: bool, manifest: &dyn Fn(&str) -> String, config: &dyn Fn(&str) -> String| {
            let name = format!("evil.example.com/x/hostile{pulled}:1");
            let inside = podman.host.inside("/var/tmp/layout");
            let _ = std::fs::remove_dir_all(&inside);
            std::fs::create_dir(&inside).unwrap();
            copy(&layout(&name, of_app, manifest, config).join("."), &inside);
            let output = podman.run(&["pull", "-q", &format!("oci:/var/tmp/layout:{name}")]);
            pulled += u32::from(output.status.success());
        };
        pull(false, &same, &same);
        pull(false, &twice, &same);
        pull(false, &folded, &same);
        pull(false, &names, &same);
        pull(true, &twice, &same);
        pull(true, &same, &twice);
        // More than is read of lists.
        (0..9).for_each(|_| pull(false, &padded, &same));
        assert!(pulled >= 5, "podman itself refuses most of them: {pulled}");
        podman.ok(&run);
    }
}

/// One document, named many times: 92 seconds and 4 GB, before each was read once.
#[test]
fn b05_documents_of_an_image_are_read_once_and_only_if_they_can_list_it() {
    if !ready("documents of an image") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let run = ["run", "--rm", "--pull=never", APP, "true"];
    let id = podman.ok(&["image", "inspect", "--format", "{{.Id}}", APP]);
    let dir = podman.graph_root().join("overlay-images").join(id.trim());
    let own = BlobDigest::of(&std::fs::read(dir.join("manifest")).unwrap());
    let named = |documents: &[String], count: usize| {
        let keys: Vec<String> =
            documents.iter().map(|text| format!("manifest-{}", BlobDigest::of(text.as_bytes()))).collect();
        for (key, text) in keys.iter().zip(documents) {
            std::fs::write(dir.join(file_name(key)), text).unwrap();
        }
        edit_json(&podman, IMAGES, |all| {
            for record in all.iter_mut().filter(|r| r["names"][0] == APP) {
                let names = record["big-data-names"].as_array_mut().unwrap();
                names.push(json!(format!("manifest-{own}")));
                (0..count).for_each(|_| names.extend(keys.iter().map(|key| json!(key))));
            }
        })
    };
    let zeros = ",0".repeat((4 << 19) - 100);
    let changed = named(&[format!("{{\"manifests\":[0{zeros}]}}")], 62);
    podman.ok(&run);
    drop(changed);
    // What lists it is read as Go reads it, which needs no memory.
    let listing = |n: u32| format!("{{\"x\":{n},\"manifests\":[{{\"digest\":\"{own}\"}}{}]}}", &zeros[..2 << 20]);
    let changed = named(&[listing(1), listing(2), listing(3)], 1);
    podman.ok(&run);
    drop(changed);
    // podman keeps each index by which it was pulled, and anybody can push one.
    let short = |n: u32| format!("{{\"x\":{n},\"manifests\":[{{\"digest\":\"{own}\"}}]}}");
    let changed = named(&(0..500).map(short).collect::<Vec<_>>(), 1);
    podman.ok(&run);
    drop(changed);
    podman.ok(&run);
}

/// podman 6 names an image by its config's digest whatever kind that is.
#[test]
fn b01_an_image_with_an_id_of_sha512_keeps_no_other_from_starting() {
    if !ready("an ID of SHA-512") {
        return;
    }
    for program in [Program::Hooked, Program::Layerseal] {
        let podman = Podman::new(program);
        let id = BlobDigest::of(b"x").hex().repeat(2);
        let dir = podman.graph_root().join("overlay-images").join(&id);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("manifest"), "{}").unwrap();
        let name = "evil.example.com/x/y:1";
        let record =
            json!({"id": id, "names": [name], "big-data-names": ["manifest"], "created": "2024-01-01T00:00:00Z"});
        let _changed = edit_json(&podman, IMAGES, |all| all.push(record.clone()));
        podman.host.write("/etc/layerseal/deny.d/x.list", format!("sha256:{}\n", "0".repeat(64)));
        podman.ok(&["run", "--rm", "--pull=never", APP, "true"]);
        if program == Program::Layerseal {
            podman.ok(&["image", "mount", APP]);
        }
    }
}

/// Replaces the config of an image, whose ID says nothing of it.
pub fn other_config(store: &Path, id: &str) {
    let dir = store.join("overlay-images").join(id);
    let mut manifest = json_of(&dir.join("manifest"));
    let old = manifest["config"]["digest"].as_str().unwrap().to_owned();
    let mut config = json_of(&dir.join(file_name(&old)));
    config["config"]["Cmd"] = json!(["echo", "evil"]);
    let config = config.to_string();
    let digest = BlobDigest::of(config.as_bytes()).to_string();
    manifest["config"]["digest"] = json!(digest);
    manifest["config"]["size"] = json!(config.len());
    has_documents(store, id, &[(&digest, &config)], &manifest.to_string());
}

/// Gives the record of an image this manifest, and other documents.
fn has_documents(store: &Path, id: &str, others: &[(&str, &str)], manifest: &str) {
    let dir = store.join("overlay-images").join(id);
    let digest = BlobDigest::of(manifest.as_bytes()).to_string();
    let key = format!("manifest-{digest}");
    let mut all = json_of(&store.join(IMAGES));
    let record = all.as_array_mut().unwrap().iter_mut().find(|r| r["id"] == id).unwrap();
    record["digest"] = json!(digest);
    for (key, text) in others.iter().copied().chain([("manifest", manifest), (key.as_str(), manifest)]) {
        std::fs::write(dir.join(file_name(key)), text).unwrap();
        let names = record["big-data-names"].as_array_mut().unwrap();
        if !names.contains(&json!(key)) {
            names.push(json!(key));
        }
        record["big-data-digests"][key] = json!(BlobDigest::of(text.as_bytes()).to_string());
        record["big-data-sizes"][key] = json!(text.len());
    }
    std::fs::write(store.join(IMAGES), all.to_string()).unwrap();
}

/// Makes the image in the image store one that was pulled in parts: its uppermost layer is known by a table of contents,
/// and its ID says nothing of its config. Returns that ID.
pub fn as_pulled_in_parts(podman: &Podman, graph_root: &str, store: &str) -> String {
    let [graph_root, store] = [graph_root, store].map(|dir| podman.host.inside(dir));
    let images = json_of(&store.join(IMAGES));
    let (id, top) = (images[0]["id"].as_str().unwrap(), images[0]["layer"].as_str().unwrap());
    let toc = BlobDigest::of(b"toc");
    let tables = [&graph_root, &store].map(|place| place.join("overlay-layers"));
    let has_top =
        |dir: &&PathBuf| std::fs::read_to_string(dir.join("layers.json")).is_ok_and(|text| text.contains(top));
    let layers_json = tables.iter().find(has_top).unwrap().join("layers.json");
    let mut layers = json_of(&layers_json);
    let record = layers.as_array_mut().unwrap().iter_mut().find(|layer| layer["id"] == top).unwrap();
    let parent = record["parent"].as_str().unwrap();
    let new_top = BlobDigest::of(format!("{parent}+@TOC={}", toc.hex()).as_bytes()).hex();
    record["id"] = json!(new_top);
    record["toc-digest"] = json!(toc.to_string());
    std::fs::write(layers_json, layers.to_string()).unwrap();
    for dir in &tables {
        let [from, to] = [top, &new_top].map(|layer| dir.join(format!("{layer}.tar-split.gz")));
        let _ = std::fs::rename(from, to);
    }
    let overlay = store.join("overlay");
    let link = std::fs::read_to_string(overlay.join(top).join("link")).unwrap();
    let link = overlay.join("l").join(link.trim());
    std::fs::rename(overlay.join(top), overlay.join(&new_top)).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(format!("../{new_top}/diff"), link).unwrap();
    let new_id = BlobDigest::of(format!("@With TOC:||{toc}|").as_bytes()).hex();
    let dirs = [id, &new_id].map(|id| store.join("overlay-images").join(id));
    std::fs::rename(&dirs[0], &dirs[1]).unwrap();
    let mut record = images[0].clone();
    record["id"] = json!(new_id);
    record["layer"] = json!(new_top);
    std::fs::write(store.join(IMAGES), json!([record]).to_string()).unwrap();
    let mut manifest = json_of(&dirs[1].join("manifest"));
    manifest["layers"][2]["annotations"]["io.github.containers.zstd-chunked.manifest-checksum"] =
        json!(toc.to_string());
    has_documents(&store, &new_id, &[], &manifest.to_string());
    new_id
}

/// podman looks for an image in its image store first, and in the graph root after that.
#[test]
fn c07_of_two_records_of_an_image_that_which_podman_reads_counts() {
    if !ready("records in two stores") {
        return;
    }
    if Podman::version() < (4, 7) {
        support::skip!("records in two stores: podman {:?} knows no imagestore", Podman::version());
    }
    for program in [Program::Hooked, Program::Runtime, Program::Layerseal] {
        let podman = Podman::at(crate::scratch::fresh("host"), program);
        let line = podman.mount_program().map(|p| format!("[storage.options.overlay]\nmount_program = \"{p}\"\n"));
        let configured = |more: &str| {
            let text = format!(
                "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"{GRAPH_ROOT}\"\n{more}{}",
                line.clone().unwrap_or_default()
            );
            podman.host.write("/etc/containers/storage.conf", text);
        };
        configured(&format!("imagestore = \"{IMAGE_STORE}\"\n"));
        podman.pull(APP);
        let id = as_pulled_in_parts(&podman, GRAPH_ROOT, IMAGE_STORE);
        podman.prepare(APP);
        let run = || podman.run(&["run", "--rm", "--pull=never", APP]);
        let output = run();
        assert!(output.status.success(), "by its table of contents: {}", text(&output));
        podman.host.sh(&format!(
            "mkdir -p {GRAPH_ROOT}/overlay-images; cp -a {IMAGE_STORE}/overlay-images/. {GRAPH_ROOT}/overlay-images/"
        ));
        let output = run();
        assert!(output.status.success(), "both alike: {}", text(&output));
        // By an option that nobody but podman sees.
        configured("");
        let by_option = || podman.run(&["--imagestore", IMAGE_STORE, "run", "--rm", "--pull=never", APP]);
        let output = by_option();
        assert!(output.status.success(), "both alike, by an option: {}", text(&output));
        other_config(&podman.host.inside(IMAGE_STORE), &id);
        let by_option = text(&by_option());
        configured(&format!("imagestore = \"{IMAGE_STORE}\"\n"));
        for said in [by_option, text(&run())] {
            assert!(said.contains("layerseal"), "{program:?}: {said}");
            assert!(!said.contains("evil"), "{program:?}: {said}");
        }
    }
}

/// An additional store need not have the layers of an image to be the one in which podman finds it.
#[test]
fn c07_of_two_additional_stores_that_in_which_podman_finds_the_image_counts() {
    if !ready("records in two additional stores") {
        return;
    }
    const STORES: [&str; 2] = ["/var/lib/containers/first", "/var/lib/containers/second"];
    for program in [Program::Hooked, Program::Runtime, Program::Layerseal] {
        let podman = Podman::at(crate::scratch::fresh("host"), program);
        podman.pull(APP);
        let id = as_pulled_in_parts(&podman, GRAPH_ROOT, GRAPH_ROOT);
        let [first, second] = STORES;
        podman.host.sh(&format!(
            "for m in $(awk '$5 ~ \"^{GRAPH_ROOT}/\" {{print $5}}' /proc/self/mountinfo); do umount -l $m; done
            cp -a {GRAPH_ROOT} {second}
            mkdir -p {first}/overlay/l {first}/overlay-layers; cp -a {GRAPH_ROOT}/overlay-images {first}/
            echo '[]' >{first}/overlay-layers/layers.json
            touch {first}/overlay-layers/layers.lock {first}/overlay-images/images.lock
            rm -rf {GRAPH_ROOT}/* /run/containers/storage/* /run/libpod"
        ));
        let configured = |stores: &[&str]| {
            let line = format!("additionalimagestores = {stores:?}");
            podman.storage_conf(podman.mount_program().as_deref(), &line);
        };
        configured(&[second]);
        podman.ok(&["images"]);
        podman.prepare(APP);
        configured(&STORES);
        let run = || podman.run(&["run", "--rm", "--pull=never", APP]);
        let output = run();
        assert!(output.status.success(), "{program:?}: both alike: {}", text(&output));
        // Where nobody says which image it is, all its names count.
        let images = podman.host.inside(&format!("{first}/{IMAGES}"));
        let before = std::fs::read(&images).unwrap();
        let other = "registry.example.com/acme/other:1";
        let renamed = String::from_utf8(before.clone()).unwrap().replace(APP, other);
        std::fs::write(&images, renamed).unwrap();
        if program == Program::Layerseal {
            let output = podman.run(&["image", "mount", other]);
            assert!(!output.status.success(), "{program:?}: another name: {}", text(&output));
        }
        std::fs::write(&images, before).unwrap();
        other_config(&podman.host.inside(first), &id);
        let said = text(&run());
        assert!(!said.contains("evil"), "{program:?}: {said}");
        // The order is what counts.
        configured(&[second, first]);
        let output = run();
        assert!(output.status.success() && !text(&output).contains("evil"), "{program:?}: {}", text(&output));
        // A link by which a mount program finds no store: it runs in another directory than podman.
        configured(&STORES);
        // The cleanup of the container before may still run. If it makes the directory anew, the link must not be made in that.
        podman.host.sh(&format!(
            "mv {first} {first}.other
            until ln -sT /proc/self/cwd/../../..{first}.other {first}; do echo made again; rm -rf {first}; done"
        ));
        let output = run();
        let said = text(&output);
        assert!(!output.status.success() && !said.contains("evil"), "{program:?}: {said}");
        match program {
            Program::Hooked => assert_eq!(podman.last("precreate"), ("refused".into(), "B09".into()), "{said}"),
            _ => assert!(said.contains("[R-B09]"), "{program:?}: {said}"),
        }
    }
}
