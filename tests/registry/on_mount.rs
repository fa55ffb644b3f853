//! The program as podman calls it, for an image whose seal is still in a registry; and `layerseal fetch`,
//! which brings it before. The store is a real one, the image's name is that of the repository.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::gateway::{Do, Gateway, Handler, Request};
use crate::host::{Container, OTHER, binary, in_dir};
use crate::scene::{AUDIT, ENFORCE, ON_MOUNT, Scene, pass};
use crate::tools::Site;

/// C13, C15: fetched once; from then on nobody is asked, and nobody could be.
#[test]
fn c13_a_seal_is_fetched_once() {
    for site in Site::all() {
        let Some(scene) = Scene::new(site, "mount/once", &format!("{ENFORCE}{ON_MOUNT}"), pass) else { return };
        let first = scene.container("first");
        let began = scene.gateway.log().len();
        // A proxy that the caller names is not asked: somebody listens there.
        let lure = Gateway::new(site, pass);
        let proxy = format!("http://127.0.0.1:{}", lure.port);
        let hostile = [format!("HTTP_PROXY={proxy}"), format!("HTTPS_PROXY={proxy}"), format!("ALL_PROXY={proxy}")];
        let mut by = vec!["env", "PATH=/nowhere", "REGISTRY_AUTH_FILE=/nowhere", "HOME=/nowhere"];
        by.extend(hostile.iter().map(String::as_str));
        let ran = scene.start_by(&by, &first);
        ran.ok();
        assert_eq!(scene.host.read(&first, "usr/bin/tool").unwrap(), crate::host::TOOL);
        assert!(scene.gateway.log().len() > began && lure.log().is_empty(), "{:?}", lure.log());

        let asked = scene.gateway.log().len();
        scene.host.unmount(&first);
        scene.host.start(&first).ok();
        let second = scene.container("second");
        // Without a network at all.
        let ran = scene.start_by(&["unshare", "--net", "--"], &second);
        assert_eq!(ran.code, 0, "{ran:?}");
        // One process and one thread, and no socket but the journal's: the kernel kills whoever asks for more.
        let third = scene.container("third");
        let trace = "strace -f -qq -e trace=socket,connect,clone,clone3,fork,vfork,execve -o";
        let log = scene.host.bench.path("trace");
        let by: Vec<&str> = trace.split(' ').chain([log.to_str().unwrap()]).collect();
        let ran = scene.start_by(&by, &third);
        assert_eq!(ran.code, 0, "{ran:?}");
        let text = std::fs::read_to_string(&log).unwrap();
        let calls: Vec<&str> = text.lines().filter(|l| !l.contains("AF_UNIX") && !l.contains("+++")).collect();
        assert_eq!(calls.len(), 1, "{text}");
        assert_eq!(scene.gateway.log().len(), asked, "a start with its seal at hand asked somebody");
    }
}

/// Whatever skopeo does for us, it does not come near the container store, whose locks podman holds.
#[test]
fn fetching_does_not_touch_the_container_store() {
    for site in Site::all() {
        let Some(scene) = Scene::new(site, "mount/store", &format!("{ENFORCE}{ON_MOUNT}"), pass) else { return };
        scene.image_policy();
        let container = scene.container("c");
        let log = scene.host.bench.path("trace");
        let by =
            ["strace", "-f", "-qq", "-e", "trace=openat,open,openat2,flock,fcntl,execve", "-o", log.to_str().unwrap()];
        let before = scene.host.files();
        let ran = scene.start_by(&by, &container);
        assert_eq!(ran.code, 0, "{ran:?}");
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains("experimental-image-proxy"), "skopeo was not started");
        let ours = text.split(' ').next().unwrap();
        let store = scene.host.root.display().to_string();
        let touched: Vec<&str> = text.lines().filter(|l| !l.starts_with(ours) && l.contains(&store)).collect();
        let locks: Vec<&str> = text.lines().filter(|l| l.contains(".lock\"") || l.contains("F_SETLK")).collect();
        assert!(locks.iter().all(|l| !l.contains(&store)), "{locks:?}");
        // Threads of ours write what comes; skopeo opens nothing there.
        assert!(touched.iter().all(|l| !l.contains(&format!("\"{store}/overlay"))), "{touched:?}");
        scene.host.unmount(&container);
        let work = |files: std::collections::BTreeMap<std::path::PathBuf, String>| {
            files.into_iter().filter(|(path, _)| !path.display().to_string().contains("/work")).collect::<Vec<_>>()
        };
        assert_eq!(work(scene.host.files()), work(before));
    }
}

#[test]
fn without_leave_nobody_is_asked() {
    let Some(site) = Site::plain() else { return };
    let Some(scene) = Scene::new(site, "mount/never", ENFORCE, pass) else { return };
    let began = scene.gateway.log().len();
    let container = scene.container("c");
    scene.host.start_refused(&container, 3, "C07");
    assert_eq!(scene.gateway.log().len(), began);
}

/// What audit lets pass must not wait for a registry at every start.
#[test]
fn audit_asks_once() {
    let Some(site) = Site::plain() else { return };
    let strip = |r: &Request| if r.is("/manifests/sha256-") { Do::status(404) } else { Do::Pass };
    let Some(scene) = Scene::new(site, "mount/audit", &format!("{AUDIT}{ON_MOUNT}"), strip) else { return };
    let began = scene.gateway.log().len();
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        let container = scene.container(name);
        let ran = scene.host.start(&container);
        assert_eq!(ran.code, 0, "{ran:?}");
        let asked = scene.gateway.log().len() - began;
        assert!(asked > 0, "{number}");
        assert_eq!(scene.gateway.asked("/manifests/sha256-"), 1, "{number}");
    }
}

/// C03, C11: nobody keeps a start waiting, whoever hangs.
#[test]
fn c03_a_start_does_not_wait_for_ever() {
    for site in Site::all() {
        let hang = |r: &Request| if r.is("/v2/mount") { Do::Hang } else { Do::Pass };
        let drip = |r: &Request| if r.method == "GET" && r.is("/blobs/") { Do::Drip(400) } else { Do::Pass };
        let list =
            |r: &Request| if r.is("/referrers/") || r.is("/manifests/sha256-") { Do::Drip(4000) } else { Do::Pass };
        let handlers: [(&str, Box<Handler>); 3] =
            [("hang", Box::new(hang)), ("drip", Box::new(drip)), ("list", Box::new(list))];
        for (what, handler) in handlers {
            let policy = format!("{ENFORCE}{ON_MOUNT}fetch_timeout = 3\n");
            let Some(scene) = Scene::new(site, &format!("mount/{what}"), &policy, handler) else { return };
            let container = scene.container("c");
            if what == "hang" {
                // One deadline for all its names.
                let names =
                    [format!("{}:v1", scene.name), format!("{}/b:v1", scene.name), format!("{}/c:v1", scene.name)];
                scene.host.edit("overlay-images/images.json", |all| {
                    all.iter_mut()
                        .filter(|i| i["id"] == scene.image.id.as_str())
                        .for_each(|i| i["names"] = json!(names));
                });
            }
            let start = Instant::now();
            scene.host.start_refused(&container, 7, "C03");
            assert!(start.elapsed() < Duration::from_millis(5500), "{what}: {:?}", start.elapsed());
            let left = scene.host.sandbox.sh("for p in /proc/[0-9]*; do
                    [ \"$(readlink $p/ns/mnt)\" = \"$(readlink /proc/self/ns/mnt)\" ] || continue
                    grep -qs 'experimental-[i]mage-proxy' $p/cmdline && tr '\\0' ' ' <$p/cmdline
                done; true");
            assert_eq!(left, "", "{what}");
            // It is not waited for again, until the images change or the time is over.
            let start = Instant::now();
            let ran = scene.host.start(&container);
            assert!(
                ran.code == 7 && ran.stderr.contains("asked again in") && ran.stderr.contains("[R-C17]"),
                "{ran:?}"
            );
            // A registry has many images, and whoever reads this asked for one.
            assert!(
                ran.stderr.contains("image 127.0.0.1:") && ran.stderr.contains(": fetching its seals: "),
                "{ran:?}"
            );
            assert!(start.elapsed() < Duration::from_millis(2700), "{what}: {:?}", start.elapsed());
            scene
                .host
                .sandbox
                .sh(&format!("sleep 1.1; touch '{}'", scene.host.root.join("overlay-images/images.json").display()));
            scene.host.start_refused(&container, 7, "C03");
        }
    }
    // A credential helper that hangs.
    let Some(site) = Site::with_api() else { return };
    let login = |r: &Request| match r.header("authorization") {
        None if r.is("/v2/") => Do::Say(401, vec![("WWW-Authenticate", "Basic realm=\"x\"".into())], vec![]),
        _ => Do::Pass,
    };
    let policy = format!("{ENFORCE}{ON_MOUNT}fetch_timeout = 3\n");
    let Some(scene) = Scene::new(site, "mount/helper", &policy, login) else { return };
    let helper = scene.host.bench.write("helper", b"#!/bin/sh\nsleep 30\n");
    scene.host.sandbox.sh(&format!(
        "chmod 755 '{0}'; mount -t tmpfs none /usr/local/sbin; cp '{0}' /usr/local/sbin/docker-credential-slow
         mkdir -p /run/containers/0; echo '{{\"credHelpers\":{{\"127.0.0.1:{1}\":\"slow\"}}}}' >/run/containers/0/auth.json",
        helper.display(),
        scene.gateway.port
    ));
    let container = scene.container("c");
    let start = Instant::now();
    let ran = scene.host.start(&container);
    assert!(ran.code == 7 && (ran.stderr.contains("[R-C03]") || ran.stderr.contains("[R-C11]")), "{ran:?}");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

#[test]
fn c16_a_start_says_what_is_missing() {
    let Some(site) = Site::plain() else { return };
    let Some(scene) = Scene::new(site, "mount/old", &format!("{ENFORCE}{ON_MOUNT}"), pass) else { return };
    let container = scene.container("c");
    scene.skopeo("old");
    scene.image_policy();
    scene.host.start_refused(&container, 9, "C16");
    // It is needed only where policy.json, a mirror or the registry makes it so.
    scene.host.sandbox.sh("rm /etc/containers/policy.json; printf '%s' '{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}' >/etc/containers/policy.json");
    scene.host.start(&container).ok();
}

/// Bad seals from a registry are as bad as any.
#[test]
fn c08_what_comes_is_judged() {
    let Some(site) = Site::with_api() else { return };
    let Some(scene) = Scene::new(site, "mount/judged", &format!("{ENFORCE}{ON_MOUNT}"), pass) else { return };
    std::fs::remove_dir_all(scene.host.bench.path("etc/layerseal/trust.d")).unwrap();
    let stranger = crate::common::stranger().cert.to_pem().unwrap();
    scene.host.config("trust.d/acme/stranger.crt", std::str::from_utf8(&stranger).unwrap());
    let container = scene.container("c");
    scene.host.start_refused(&container, 4, "E07");
    // It is here now, and still nobody's whom this host trusts.
    scene.host.start_refused(&container, 4, "E07");
}

#[test]
fn fetch_brings_seals_before_they_are_needed() {
    for site in Site::all() {
        let Some(scene) = Scene::new(site, "mount/fetch", ENFORCE, pass) else { return };
        let (host, name) = (&scene.host, format!("{}:v1", scene.name));
        let ran = host.layerseal(&["fetch", &name]);
        assert_eq!(ran.stdout, format!("{name} 1 seal\n"));
        let container = scene.container("c");
        let asked = scene.gateway.log().len();
        host.start(&container).ok();
        assert_eq!(scene.gateway.log().len(), asked);
        let json: serde_json::Value = serde_json::from_str(&host.verb(&["fetch", "--all", "--json"]).stdout).unwrap();
        let row = json["images"].as_array().unwrap().iter().find(|r| r["names"][0] == name.as_str()).unwrap();
        assert_eq!((row["seals"].as_array().unwrap().len(), &row["error"]), (1, &serde_json::Value::Null));

        // Not there, not sealed, no such image, from elsewhere.
        let other = host.image(OTHER);
        let rename = |to: &str| {
            host.edit("overlay-images/images.json", |all| {
                all.iter_mut().filter(|i| i["id"] == other.id.as_str()).for_each(|i| i["names"] = json!([to]));
            });
        };
        let nowhere = format!("{}/not/there:v1", scene.name.split('/').next().unwrap());
        rename(&nowhere);
        let ran = host.verb(&["fetch", &nowhere]);
        assert!(ran.code == 8 && ran.stderr.contains("[R-C18]"), "{ran:?}");
        site.run(&host.bench, &["push", "oci:other", &format!("docker://{}:v1", site.repository("mount/unsealed"))])
            .ok();
        let unsealed = format!("{}:v1", scene.gateway.repository("mount/unsealed"));
        rename(&unsealed);
        let ran = host.verb(&["fetch", &unsealed]);
        assert!(ran.code == 3 && ran.stderr.contains("[R-C07]"), "{ran:?}");
        let ran = host.verb(&["fetch", "no.such/image"]);
        assert!(ran.code == 2 && ran.stderr.contains("[R-X09]"), "{ran:?}");
        rename("localhost/other:v1");
        let ran = host.verb(&["fetch", "localhost/other:v1"]);
        assert!(ran.code == 3 && ran.stderr.contains("it was built here"), "{ran:?}");
        // The name of what somebody else built and pushed.
        rename(&format!("{}:v1", scene.name));
        let ran = host.verb(&["fetch", &other.id]);
        assert!(ran.code == 8 && ran.stderr.contains("is another image in the registry"), "{ran:?}");
        rename("localhost/other:v1");
        let from = format!("docker://{}", scene.gateway.repository("mount/unsealed"));
        let sign = [
            "sign",
            &format!("docker://{}:v1", site.repository("mount/unsealed")),
            "--cert",
            "signer.crt",
            "--key",
            "signer.key",
        ];
        site.run(&host.bench, &sign).ok();
        let ran = host.layerseal(&["fetch", "localhost/other:v1", "--from", &from]);
        assert_eq!(ran.stdout, "localhost/other:v1 1 seal\n");
        let ran = host.layerseal(&["prepare", &name, "--seal", &format!("docker://{}", scene.name)]);
        assert!(ran.stdout.contains("ready, sealed by"), "{ran:?}");
    }
}

/// What is here has another manifest than what was pushed, and one of its names is in no registry: a seal of what was
/// pushed counts, and comes.
#[test]
fn a_seal_that_came_counts_whatever_another_manifest_did() {
    let Some(site) = Site::plain() else { return };
    let Some(scene) = Scene::new(site, "mount/several", ENFORCE, pass) else { return };
    let (host, name) = (&scene.host, format!("{}:v1", scene.name));
    let home = host.root.join("overlay-images").join(&scene.image.id);
    // The same with a blank behind it: another digest, which no registry has.
    let old = std::fs::read(home.join("manifest")).unwrap();
    let new = [&old[..], b" "].concat();
    let digest = |bytes: &[u8]| layerseal::digest::BlobDigest::of(bytes).to_string();
    let file = |of: &str| home.join(format!("={}", openssl::base64::encode_block(format!("manifest-{of}").as_bytes())));
    std::fs::write(home.join("manifest"), &new).unwrap();
    std::fs::remove_file(file(&digest(&old))).unwrap();
    std::fs::write(file(&digest(&new)), &new).unwrap();
    host.edit("overlay-images/images.json", |all| {
        for image in all.iter_mut().filter(|i| i["id"] == scene.image.id.as_str()) {
            *image = serde_json::from_str(&image.to_string().replace(&digest(&old), &digest(&new))).unwrap();
            image["big-data-sizes"]["manifest"] = json!(new.len());
            image["big-data-sizes"][format!("manifest-{}", digest(&new))] = json!(new.len());
            image["names"] = json!([format!("{}:v9", scene.name), name]);
        }
    });
    let ran = host.verb(&["fetch", &name]);
    assert!(ran.code == 0 && ran.stdout.ends_with(" 1 seal\n"), "{ran:?}");
    assert!(scene.gateway.asked(&digest(&new)) > 0 && scene.gateway.asked("/manifests/v9") > 0, "both were looked for");
    host.start(&scene.container("c")).ok();
}

/// Ten containers of one image at once, as a pod or a boot starts them: one of them asks.
#[test]
fn many_starts_ask_once() {
    let Some(site) = Site::plain() else { return };
    let Some(scene) = Scene::new(site, "mount/many", &format!("{ENFORCE}{ON_MOUNT}"), pass) else { return };
    let containers: Vec<Container> = (0..10).map(|n| scene.container(&format!("c{n}"))).collect();
    let mut running = Vec::new();
    for container in &containers {
        let mut command = scene.host.sandbox.command(binary());
        command.args(scene.call(container));
        let mut command = in_dir(&scene.host.sandbox, &scene.host.root.join("overlay"), command);
        running.push(command.stderr(std::process::Stdio::piped()).spawn().unwrap());
    }
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for container in &containers {
        assert_eq!(scene.host.read(container, "usr/bin/tool").unwrap(), crate::host::TOOL);
    }
    assert_eq!(scene.gateway.asked("/manifests/sha256-"), 1);
}

/// C17: who may write to one repository of a registry decides what it says about that one, and about no other.
#[test]
fn c17_one_repository_silences_no_registry() {
    let Some(site) = Site::with_api() else { return };
    for what in ["list", "status", "silence"] {
        let handler = move |r: &Request| match what {
            // The whole registry, as long as the other one is asked about.
            "silence" if r.is("/evil/app/") => Do::Hang,
            "list" if r.is("/evil/app/referrers/") => Do::Say(200, vec![], vec![b' '; 5 << 20]),
            "status" if r.is("/evil/app/referrers/") => Do::status(500),
            _ => Do::Pass,
        };
        let policy = format!("{ENFORCE}{ON_MOUNT}fetch_timeout = 3\n");
        let Some(scene) = Scene::new(site, &format!("mount/beside-{what}"), &policy, handler) else { return };
        let host = &scene.host;
        let there = format!("docker://{}:v1", site.repository("evil/app"));
        site.run(&host.bench, &["push", "oci:other", &there]).ok();
        let (other, evil) = (host.image(OTHER), format!("{}:v1", scene.gateway.repository("evil/app")));
        host.edit("overlay-images/images.json", |all| {
            all.iter_mut().filter(|i| i["id"] == other.id.as_str()).for_each(|i| i["names"] = json!([evil]));
        });
        // Notes count that are younger than the images.
        std::thread::sleep(Duration::from_millis(1200));
        let bad = host.container("bad", &other);
        host.start_refused(&bad, 7, if what == "status" { "C17" } else { "C03" });
        // It is not asked about again, so that a container that is started again and again does not ask each time.
        let asked = scene.gateway.log().len();
        let ran = host.start(&bad);
        assert!(ran.code == 7 && ran.stderr.contains("is asked again in"), "{what}: {ran:?}");
        assert_eq!(scene.gateway.log().len(), asked, "{what}");
        let good = scene.container("good");
        if what == "silence" {
            let ran = host.start(&good);
            assert!(ran.code == 7 && ran.stderr.contains("it did not answer"), "{ran:?}");
            assert_eq!(scene.gateway.log().len(), asked);
        } else {
            host.start(&good).ok();
            assert!(ran.stderr.contains("what it answered was of no use"), "{what}: {ran:?}");
            assert!(scene.gateway.log().len() > asked, "{what}");
        }
    }
}

/// Somebody pulled a copy of the image from elsewhere, where a stranger has sealed it.
#[test]
fn c06_seals_of_one_repository_hide_none_of_another() {
    let Some(site) = Site::with_api() else { return };
    for evil_first in [false, true] {
        let number = usize::from(evil_first);
        let policy = format!("{ENFORCE}{ON_MOUNT}");
        let Some(scene) = Scene::new(site, &format!("mount/good{number}"), &policy, pass) else { return };
        let there = format!("docker://{}:v1", site.repository(&format!("evil/copy{number}")));
        site.run(&scene.host.bench, &["push", "oci:app", &there]).ok();
        scene.host.bench.signer("other", crate::common::stranger());
        site.run(&scene.host.bench, &["sign", &there, "--cert", "other.crt", "--key", "other.key"]).ok();
        let (good, evil) =
            (format!("{}:v1", scene.name), format!("{}:v1", scene.gateway.repository(&format!("evil/copy{number}"))));
        let wanted = good.clone();
        let names = if evil_first { [evil, good] } else { [good, evil] };
        scene.host.edit("overlay-images/images.json", |all| {
            all.iter_mut().filter(|i| i["id"] == scene.image.id.as_str()).for_each(|i| i["names"] = json!(names));
        });
        // As podman writes it for `podman run NAME`.
        let asked_for = |id: &str| {
            let container = scene.container(id);
            let metadata = json!({"image-name": wanted, "image-id": scene.image.id, "name": id, "created-at": 1});
            scene.host.edit("overlay-containers/containers.json", |all| {
                all.last_mut().unwrap()["metadata"] = json!(metadata.to_string());
            });
            container
        };
        scene.host.start(&asked_for("c")).ok();
    }
}
