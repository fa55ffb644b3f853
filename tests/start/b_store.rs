//! Group B, as far as a store alone can lie: records, documents, directories.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::host::{APP, Container, ENFORCE, EVIL, Host, OTHER, TOOL, TWIN, random_id};

const LAYERS: &str = "overlay-layers/layers.json";
const IMAGES: &str = "overlay-images/images.json";
const CONTAINERS: &str = "overlay-containers/containers.json";

/// A host and a container that would start.
fn ready() -> Option<(Host, Container)> {
    let host = Host::new(ENFORCE)?;
    let container = host.container("c", &host.image(APP));
    Some((host, container))
}

/// The container starts, and shows the sealed image.
#[track_caller]
fn starts(host: &Host, container: &Container) {
    host.start(container).ok();
    assert_eq!(host.read(container, "usr/bin/tool").unwrap(), TOOL);
    assert!(!host.merged(container).join("etc/gone").exists());
    host.unmount(container);
}

#[test]
fn b01_records_that_cannot_be_read() {
    let Some((host, container)) = ready() else { return };
    for name in [LAYERS, IMAGES, CONTAINERS] {
        let path = host.root.join(name);
        let good = std::fs::read(&path).unwrap();
        let deep = [vec![b'['; 1 << 20], vec![b']'; 1 << 20]].concat();
        let deep_value = format!("[{{\"id\":{}0{}}}]", "[".repeat(100_000), "]".repeat(100_000));
        let bad: [&[u8]; 8] = [
            &good[..good.len() / 2],
            b"not JSON",
            b"{}",
            b"[1]",
            b"[{\"id\": 7}]",
            b"\xff\xfe",
            &deep,
            deep_value.as_bytes(),
        ];
        for bytes in bad {
            std::fs::write(&path, bytes).unwrap();
            let started = Instant::now();
            host.start_refused(&container, 4, "B01");
            assert!(started.elapsed() < Duration::from_secs(5));
        }
        // More than memory: sparse.
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        host.start_refused(&container, 4, "B01");
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        host.start_refused(&container, 4, "B01");
        std::fs::remove_file(&path).unwrap();
        symlink("/etc/passwd", &path).unwrap();
        host.start_refused(&container, 4, "B09");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, good).unwrap();
    }
    starts(&host, &container);
}

#[test]
fn b02_b03_records_that_name_other_layers() {
    let Some((host, container)) = ready() else { return };
    let (app, other) = (host.image(APP), host.image(OTHER));
    let (layers, images, containers) = (host.json(LAYERS), host.json(IMAGES), host.json(CONTAINERS));
    let digest_of = |id: &str| layers.iter().find(|l| l["id"] == id).unwrap()["diff-digest"].clone();
    let evil = digest_of(&other.layers[0]);
    host.edit(LAYERS, |all| {
        all.iter_mut().filter(|l| l["id"] == app.layers[0].as_str()).for_each(|l| l["diff-digest"] = evil.clone());
    });
    host.start_refused(&container, 4, "B02");
    host.set_json(LAYERS, &layers);
    // The image's uppermost layer is another image's; the container was made from the first.
    let wrong = Container { lowers: other.layers.clone(), ..container.clone() };
    host.edit(LAYERS, |all| {
        let own = all.iter_mut().find(|l| l["id"] == container.layer.as_str()).unwrap();
        own["parent"] = json!(other.layers[0]);
    });
    host.start_refused(&wrong, 4, "B03");
    host.edit(IMAGES, |all| {
        all.iter_mut().filter(|i| i["id"] == app.id.as_str()).for_each(|i| i["layer"] = json!(other.layers[0]));
    });
    host.start_refused(&wrong, 4, "B03");
    // And the container's record says so too: then it is the other image, which nobody sealed.
    host.set_json(IMAGES, &images);
    host.edit(CONTAINERS, |all| all[0]["image"] = json!(other.id));
    host.start_refused(&wrong, 3, "C07");
    host.set_json(LAYERS, &layers);
    host.set_json(CONTAINERS, &containers);
    starts(&host, &container);
}

/// Both are sealed, each for its own name; which one counts is what the container's record says.
#[test]
fn b04_images_that_share_their_layers() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, twin) = (host.image(APP), host.image(TWIN));
    assert_eq!(app.layers, twin.layers);
    let (one, two) = (host.container("c", &app), host.container("d", &twin));
    starts(&host, &one);
    starts(&host, &two);
    let manifest = |c: &Container| {
        host.start(c).ok();
        let status: serde_json::Value = serde_json::from_str(&host.layerseal(&["status", "--json"]).stdout).unwrap();
        host.unmount(c);
        (status["mounts"][0]["image"].clone(), status["mounts"][0]["names"].clone())
    };
    let (first, second) = (manifest(&one), manifest(&two));
    assert_ne!(first.0, second.0);
    assert_eq!((first.1, second.1), (json!([format!("{APP}:v1")]), json!([format!("{TWIN}:v1")])));
    // Without its seal one of them is unsealed, and the other is no help.
    let hex = second.0.as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    std::fs::remove_dir_all(host.root.join("layerseal/images").join(&hex).join("seals")).unwrap();
    host.sandbox.sh("rm -rf /var/lib/layerseal/seals");
    host.start_refused(&two, 3, "C07");
    starts(&host, &one);
    // The seal of the one is not one for the other.
    let images = host.root.join("layerseal/images");
    let first = first.0.as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    std::fs::create_dir_all(images.join(&hex).join("seals")).unwrap();
    for file in std::fs::read_dir(images.join(&first).join("seals")).unwrap().flatten() {
        std::fs::copy(file.path(), images.join(&hex).join("seals").join(file.file_name())).unwrap();
        let marker = format!("checked.{}", file.file_name().to_str().unwrap());
        std::fs::write(images.join(&hex).join(marker), "").unwrap();
    }
    host.start_refused(&two, 4, "D01");
}

/// The directory of an image's documents, and the file of one.
fn document(host: &Host, image: &str, key: &str) -> std::path::PathBuf {
    let dir = host.root.join("overlay-images").join(image);
    match key {
        "manifest" => dir.join("manifest"),
        key => dir.join(format!("={}", openssl::base64::encode_block(key.as_bytes()))),
    }
}

#[test]
fn b05_b06_b07_documents_that_were_edited() {
    let Some((host, container)) = ready() else { return };
    let image = host.image(APP);
    let manifest = document(&host, &image.id, "manifest");
    let config = document(&host, &image.id, &format!("sha256:{}", image.id));
    let (good_manifest, good_config) = (std::fs::read(&manifest).unwrap(), std::fs::read(&config).unwrap());
    let text = String::from_utf8(good_manifest.clone()).unwrap();
    std::fs::write(&config, String::from_utf8(good_config.clone()).unwrap().replace("amd64", "arm64")).unwrap();
    host.start_refused(&container, 4, "B05");
    std::fs::remove_file(&config).unwrap();
    host.start_refused(&container, 4, "B05");
    std::fs::write(&config, &good_config).unwrap();
    std::fs::write(&manifest, format!("{text} ")).unwrap();
    host.start_refused(&container, 4, "B05");
    // With no record of its digest a changed manifest is another image, which nobody sealed.
    let images = host.json(IMAGES);
    host.edit(IMAGES, |all| {
        for image in all.iter_mut().filter(|i| i["id"] == image.id.as_str()) {
            let keys = image["big-data-names"].as_array().unwrap().clone();
            let keys: Vec<_> = keys.into_iter().filter(|k| !k.as_str().unwrap().starts_with("manifest-")).collect();
            image["big-data-names"] = json!(keys);
        }
    });
    host.start_refused(&container, 3, "C07");
    let both = format!("{}, \"manifests\": []}}", text.strip_suffix('}').unwrap());
    std::fs::write(&manifest, both).unwrap();
    host.start_refused(&container, 4, "B06");
    for digest in ["sha256:../../../../etc/passwd", "md5:00", &format!("sha256:{}", image.id.to_uppercase()), "sha256:"]
    {
        std::fs::write(&manifest, text.replace(&format!("sha256:{}", image.id), digest)).unwrap();
        host.start_refused(&container, 4, "B07");
    }
    std::fs::write(&manifest, &good_manifest).unwrap();
    host.set_json(IMAGES, &images);
    starts(&host, &container);
}

#[test]
fn b08_lower_directories_missing_added_swapped() {
    let Some((host, container)) = ready() else { return };
    let (app, other) = (host.image(APP), host.image(OTHER));
    let with = |lowers: Vec<String>| Container { lowers, ..container.clone() };
    let evil = other.layers[0].clone();
    for lowers in [
        vec![app.layers[0].clone()],
        vec![app.layers[1].clone()],
        vec![app.layers[1].clone(), app.layers[0].clone()],
        [vec![evil.clone()], app.layers.clone()].concat(),
        [app.layers.clone(), vec![evil.clone()]].concat(),
        vec![app.layers[0].clone(), evil.clone()],
        [app.layers.clone(), app.layers.clone()].concat(),
        [vec![container.layer.clone()], app.layers.clone()].concat(),
    ] {
        host.start_refused(&with(lowers), 4, "B08");
    }
    let (options, target) = (host.options(&container), host.of(&container.layer, "merged"));
    let good: Vec<String> = app.layers.iter().map(|id| host.of(id, "diff")).collect();
    let (upper, work) = (host.of(&container.layer, "diff"), host.of(&container.layer, "work"));
    for options in [
        format!("{options},").replace("lowerdir=", "lowerdir=/etc:"),
        options.replace(",upperdir", "::/etc,upperdir"),
        // The upper directory of somebody else, or an image's.
        options.replace(&format!("upperdir={upper}"), &format!("upperdir={}", good[0])),
        options.replace(&format!("workdir={work}"), "workdir=/tmp"),
        options.replace(&good[0], &format!("{}/../diff", good[0])),
    ] {
        host.refused(&options, &target, 4, "B08");
    }
    starts(&host, &container);
}

#[test]
fn b09_directories_that_are_something_else() {
    let Some((host, container)) = ready() else { return };
    let (app, other) = (host.image(APP), host.image(OTHER));
    let evil = host.root.join("overlay").join(&other.layers[0]).join("diff");
    let overlay = host.root.join("overlay");
    for (name, target) in [
        (format!("{}/diff", app.layers[0]), evil.clone()),
        (format!("{}/diff", app.layers[1]), Path::new("../").join(&app.layers[0]).join("diff")),
        (app.layers[1].clone(), Path::new(&other.layers[0]).to_owned()),
        (format!("{}/diff", container.layer), Path::new("/etc").to_owned()),
        (format!("{}/work", container.layer), Path::new("/tmp").to_owned()),
        (container.layer.clone(), Path::new(&other.layers[0]).to_owned()),
    ] {
        let (path, kept) = (overlay.join(&name), overlay.join("kept"));
        std::fs::rename(&path, &kept).unwrap();
        symlink(&target, &path).unwrap();
        host.start_refused(&container, 4, "B09");
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&kept, &path).unwrap();
    }
    // The store itself.
    for name in ["overlay-images", "overlay-layers", "overlay-containers"] {
        std::fs::rename(host.root.join(name), host.root.join("kept")).unwrap();
        symlink(host.root.join("kept"), host.root.join(name)).unwrap();
        host.start_refused(&container, 4, "B09");
        std::fs::remove_file(host.root.join(name)).unwrap();
        std::fs::rename(host.root.join("kept"), host.root.join(name)).unwrap();
    }
    starts(&host, &container);
}

/// Not prepared yet: the layers are read, and are not what was sealed.
#[test]
fn b09_content_that_was_changed_before_it_was_ever_read() {
    let Some(host) = Host::bare(ENFORCE) else { return };
    let app = host.image(APP);
    let container = host.container("c", &app);
    let file = host.root.join("overlay").join(&app.layers[1]).join("diff/usr/bin/tool");
    std::fs::write(&file, EVIL).unwrap();
    let prepared = host.verb(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app"]);
    assert_eq!(prepared.code, 4, "{prepared:?}");
    host.start_refused(&container, 4, "D07");
    // A note that somebody compared it before changes nothing: the digest is in the statement.
    let images = host.root.join("layerseal/images");
    for image in std::fs::read_dir(&images).unwrap().flatten() {
        for seal in std::fs::read_dir(image.path().join("seals")).unwrap().flatten() {
            std::fs::write(image.path().join(format!("checked.{}", seal.file_name().to_str().unwrap())), "").unwrap();
        }
    }
    host.start_refused(&container, 4, "D07");
    std::fs::write(&file, TOOL).unwrap();
    starts(&host, &container);
}

/// An image of an additional store, under a container of the first.
#[test]
fn b10_an_additional_store() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let app = host.image(APP);
    let more = host.bench.path("more");
    host.sandbox.sh(&format!("umount '{}/overlay'", host.root.display()));
    std::fs::rename(&host.root, &more).unwrap();
    std::fs::create_dir_all(host.root.join("overlay")).unwrap();
    let copied = std::process::Command::new("cp").arg("-a").arg(more.join("layerseal")).arg(&host.root).status();
    assert!(copied.unwrap().success());
    let container = host.container("c", &app);
    let options = |host: &Host| {
        let own = host.options(&container);
        app.layers.iter().fold(own, |o, id| {
            o.replace(&host.of(id, "diff"), &more.join("overlay").join(id).join("diff").display().to_string())
        })
    };
    let target = host.of(&container.layer, "merged");
    // Read-only, as such a store may be.
    host.sandbox.sh(&format!("mount --bind '{0}' '{0}' && mount -o remount,ro,bind '{0}'", more.display()));
    host.call(&options(&host), &target).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    host.unmount(&container);
    // What was never prepared is copied from there.
    std::fs::remove_dir_all(host.root.join("layerseal/objects")).unwrap();
    host.call(&options(&host), &target).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    host.unmount(&container);
    std::fs::write(more.join("overlay").join(&app.layers[1]).join("diff/usr/bin/tool"), EVIL).unwrap();
    std::fs::remove_dir_all(host.root.join("layerseal/objects")).unwrap();
    host.refused(&options(&host), &target, 4, "D07");
}

/// The caller holds the store's locks for writing and waits for us.
#[test]
fn b11_locks_that_are_held_and_layers_that_are_gone() {
    let Some((host, container)) = ready() else { return };
    let app = host.image(APP);
    let held: Vec<_> = ["storage.lock", "overlay-layers/layers.lock", "overlay-images/images.lock"]
        .iter()
        .map(|name| {
            let file =
                std::fs::File::options().create(true).truncate(false).write(true).open(host.root.join(name)).unwrap();
            rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
            file
        })
        .collect();
    starts(&host, &container);
    drop(held);
    let (overlay, layers) = (host.root.join("overlay"), host.json(LAYERS));
    let diff = overlay.join(&app.layers[1]).join("diff");
    std::fs::rename(&diff, overlay.join("kept")).unwrap();
    host.start_refused(&container, 7, "B11");
    std::fs::rename(overlay.join("kept"), &diff).unwrap();
    host.edit(LAYERS, |all| {
        let layer = all.iter_mut().find(|l| l["id"] == app.layers[0].as_str()).unwrap();
        layer["flags"] = json!({"incomplete": true});
    });
    host.start_refused(&container, 7, "B11");
    host.set_json(LAYERS, &layers);
    host.edit(LAYERS, |all| all.retain(|l| l["id"] != app.layers[1].as_str()));
    host.start_refused(&container, 4, "B08");
    host.set_json(LAYERS, &layers);
    starts(&host, &container);
}

/// `podman image diff` asks for each layer; a build, for layers that are no image yet.
#[test]
fn b12_layers_that_are_no_image() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let app = host.image(APP);
    let lowest = app.layers[1].clone();
    std::fs::create_dir_all(host.of(&lowest, "merged")).unwrap();
    let target = host.of(&lowest, "merged");
    host.call(&format!("lowerdir={}", host.of(&lowest, "diff")), &target).ok();
    let seen = host.sandbox.path(Path::new(&target));
    assert_eq!(std::fs::read(seen.join("usr/bin/tool")).unwrap(), TOOL);
    assert!(seen.join("etc/gone").exists() && std::fs::write(seen.join("x"), "").is_err());
    host.sandbox.sh(&format!("umount '{target}'"));
    // One that is being made on top of a sealed image.
    let new = random_id("new");
    host.layer(&new, Some(&app.layers[0]));
    let making = Container { layer: new.clone(), lowers: app.layers.clone() };
    host.start_refused(&making, 3, "B12");
    host.config("policy.toml", &format!("{ENFORCE}[[rule]]\nimage = \"<none>\"\nmode = \"audit\"\n"));
    host.start(&making).ok();
    assert_eq!(host.read(&making, "usr/bin/tool").unwrap(), TOOL);
    assert!(!host.merged(&making).join("etc/gone").exists());
    let status = host.layerseal(&["status", "--json"]).stdout;
    assert!(status.contains("\"audit\""), "{status}");
    host.unmount(&making);
    // A container whose image is gone from the records is no image's.
    let container = host.container("c", &app);
    host.config("policy.toml", ENFORCE);
    host.edit(IMAGES, |all| all.retain(|i| i["layer"] != app.layers[0].as_str()));
    host.start_refused(&container, 3, "B12");
}

/// A container's own layer that is an image's, or has a record that says so.
#[test]
fn b03_an_images_layer_passed_off_as_a_containers() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, other) = (host.image(APP), host.image(OTHER));
    host.edit(CONTAINERS, |all| {
        all.push(json!({"id": random_id("x"), "names": ["x"], "image": app.id, "layer": other.layers[0]}));
    });
    for dir in ["work", "merged"] {
        std::fs::create_dir_all(host.of(&other.layers[0], dir)).unwrap();
    }
    let evil = Container { layer: other.layers[0].clone(), lowers: app.layers.clone() };
    let options = host.options(&evil);
    // Its parent is none: the chain is wrong before anything else is.
    host.refused(&options, &host.of(&evil.layer, "merged"), 4, "B08");
    host.edit(LAYERS, |all| {
        let layer = all.iter_mut().find(|l| l["id"] == other.layers[0].as_str()).unwrap();
        layer["parent"] = json!(app.layers[0]);
    });
    host.refused(&options, &host.of(&evil.layer, "merged"), 4, "B03");
}
