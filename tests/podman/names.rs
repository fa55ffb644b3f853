//! Names, lists and what is denied, with podman itself: what it takes is what must be sealed.

use crate::guard::{REJECTED, RUN, text};
use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program, default_policy};
use crate::ready;

const OURS: [Program; 3] = [Program::Hooked, Program::Guarded, Program::Layerseal];

impl Podman {
    /// A container of `image` starts.
    #[track_caller]
    fn started(&self, image: &str) {
        let output = self.run(&["run", "--rm", "--pull=never", image, "true"]);
        let hooks = self.host.sh("cat /run/layerseal/hooks/* 2>/dev/null || true");
        assert!(output.status.success(), "{image}: {} {hooks}", text(&output));
    }

    /// None does, for one of these cases.
    #[track_caller]
    fn not_started(&self, image: &str, case: &str) {
        let args = ["run", "--rm", "--pull=never", image, "true"];
        match self.program {
            Program::Hooked => self.stopped("precreate", REJECTED, &[case], &args),
            _ => self.refused(image, &[case]),
        }
    }

    fn id_of(&self, image: &str) -> String {
        self.ok(&["image", "inspect", "--format", "{{.Id}}", image]).trim().to_owned()
    }

    fn digest_of(&self, image: &str) -> String {
        self.ok(&["image", "inspect", "--format", "{{.Digest}}", image]).trim().to_owned()
    }

    /// A list of one instance, as podman makes it, in the place of whatever had its name.
    pub fn list(&self, name: &str, image: &str) {
        let inside = self.host.inside("/var/tmp/list");
        let _ = std::fs::remove_dir_all(&inside);
        std::fs::create_dir(&inside).unwrap();
        crate::podman::copy(&crate::image::layout(crate::podman::layouts(), image).join("."), &inside);
        self.ok(&["manifest", "create", name]);
        self.ok(&["manifest", "add", name, &format!("oci:/var/tmp/list:{image}")]);
    }
}

/// Forms of a sealed name start, and no name makes another image of it.
#[test]
fn d18_what_podman_was_asked_for_is_what_is_sealed() {
    if !ready("names through podman") {
        return;
    }
    for program in OURS {
        let podman = Podman::new(program);
        let id = podman.id_of(APP);
        podman.ok(&["tag", APP, "registry.example.com/acme/app:2"]);
        for name in [APP, "registry.example.com/acme/app:2", "acme/app:1", &id, &id[..12], &format!("sha256:{id}")] {
            podman.started(name);
        }
        podman.started(&format!("registry.example.com/acme/app@{}", podman.digest_of(APP)));
        // podman writes the name that it found a short one by.
        podman.ok(&["tag", APP, "localhost/acme/other:1"]);
        podman.ok(&["tag", APP, FRESH.replace("fresh", "old").as_str()]);
        for name in ["localhost/acme/other:1", "acme/other:1", "registry.example.com/acme/old:1"] {
            podman.not_started(name, "D18");
        }
        podman.started(APP);
    }
}

/// podman resolves a list to the image of its instance, and the record of that has no such name.
#[test]
fn d18_lists_that_podman_makes_are_known_by_their_own_names() {
    if !ready("lists through podman") {
        return;
    }
    for program in OURS {
        let podman = Podman::new(program);
        podman.list("registry.example.com/acme/app:list", APP);
        podman.started("registry.example.com/acme/app:list");
        podman.list("registry.example.com/acme/old:1", APP);
        podman.not_started("registry.example.com/acme/old:1", "D18");
        if program == Program::Layerseal {
            // Nobody says by which name it is mounted.
            let output = podman.run(&["image", "mount", "registry.example.com/acme/old:1"]);
            assert!(!output.status.success() && text(&output).contains("[R-D18]"), "{}", text(&output));
        }
        podman.ok(&["manifest", "rm", "registry.example.com/acme/old:1"]);
        podman.started("registry.example.com/acme/app:list");
        // Nothing is asked of images without a name, and this one was asked for by one.
        podman.policy(&(default_policy() + "[[rule]]\nimage = \"registry.example.com/acme/*\"\nmode = \"enforce\"\n"));
        podman.ok(&["untag", FRESH]);
        podman.list(FRESH, FRESH);
        let args = ["run", "--rm", "--pull=never", FRESH, "true"];
        match program {
            Program::Hooked => podman.stopped("precreate", 3, &["C07"], &args),
            _ => podman.refused(FRESH, &["C07"]),
        }
    }
}

/// A layer, a config, a manifest, a list: denied in every mode, before and after it was mounted.
#[test]
fn f06_what_is_denied_does_not_start_in_any_mode_and_by_no_way() {
    if !ready("what is denied through podman") {
        return;
    }
    for program in OURS {
        let podman = Podman::new(program);
        podman.list("registry.example.com/acme/app:list", APP);
        let (id, digest) = (podman.id_of(APP), podman.digest_of(APP));
        let layers = podman.ok(&["image", "inspect", "--format", "{{range .RootFS.Layers}}{{.}} {{end}}", APP]);
        let manifest = podman.host.sh(&format!("cat /var/lib/containers/storage/overlay-images/{id}/manifest"));
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        let list = podman.host.sh(
            "for f in /var/lib/containers/storage/overlay-images/*/instances.json; do sha256sum ${f%/*}/manifest; done",
        );
        let denied = [
            ("manifest", digest.clone()),
            ("config", format!("sha256:{id}")),
            ("layer", manifest["layers"][0]["digest"].as_str().unwrap().to_owned()),
            ("diff_id", layers.split_whitespace().next().unwrap().to_owned()),
            ("index", format!("sha256:{}", list.split(' ').next().unwrap())),
        ];
        // tests/start asks in every mode; here each way is asked in those that it can be passed by in.
        let modes: &[&str] = match program {
            Program::Hooked => &["enforce", "off"],
            Program::Guarded => &["audit"],
            _ => &["off"],
        };
        for mode in modes {
            podman.policy(&default_policy().replace("\"enforce\"", &format!("{mode:?}")));
            for (what, digest) in &denied {
                podman.host.write("/etc/layerseal/deny.d/x.list", format!("{digest}\n"));
                println!("{program:?} {mode} {what}");
                podman.not_started(APP, "F06");
            }
            // Something else is denied.
            podman.host.write("/etc/layerseal/deny.d/x.list", format!("sha256:{}\n", "0".repeat(64)));
            podman.started(APP);
            podman.host.sh("rm /etc/layerseal/deny.d/x.list");
        }
        // After `podman mount` the container is mounted, and the hook looks at what it was.
        if program != Program::Guarded {
            continue;
        }
        for mode in ["enforce", "off"] {
            podman.policy(&default_policy().replace("\"enforce\"", &format!("{mode:?}")));
            podman.ok(&["create", "--name", "c", APP, "true"]);
            podman.ok(&["mount", "c"]);
            for (what, digest) in &denied {
                podman.host.write("/etc/layerseal/deny.d/x.list", format!("{digest}\n"));
                let output = podman.run(&["start", "-a", "c"]);
                assert!(!output.status.success(), "{program:?} {mode} {what}: it started");
                assert_eq!(podman.last("precreate"), ("refused".into(), "F06".into()), "{program:?} {mode} {what}");
                podman.host.sh("rm /etc/layerseal/deny.d/x.list");
            }
            podman.ok(&["start", "-a", "c"]);
            podman.ok(&["rm", "-f", "c"]);
        }
    }
}

/// The hook that the runtime calls, alone and in mode off: it looks at the documents of the image.
#[test]
fn f06_the_hook_create_runtime_alone_looks_at_what_is_denied() {
    if !ready("what is denied, by createRuntime alone") {
        return;
    }
    let podman = Podman::new(Program::Native);
    podman.hook("createRuntime");
    podman.policy(&default_policy().replace("\"enforce\"", "\"off\""));
    let layers = podman.ok(&["image", "inspect", "--format", "{{range .RootFS.Layers}}{{.}} {{end}}", APP]);
    podman.list("registry.example.com/acme/app:list", APP);
    let list = podman.host.sh(
        "for f in /var/lib/containers/storage/overlay-images/*/instances.json; do sha256sum ${f%/*}/manifest; done",
    );
    let digest = podman.digest_of(APP);
    let index = format!("sha256:{}", list.split(' ').next().unwrap());
    for digest in layers.split_whitespace().chain([digest.as_str(), index.as_str()]) {
        podman.host.write("/etc/layerseal/deny.d/x.list", format!("{digest}\n"));
        podman.stopped("createRuntime", REJECTED, &["F06"], &RUN);
    }
    // One hex that stands for a blob and for an EROFS image does not hide the other.
    let hex = digest.strip_prefix("sha256:").unwrap();
    podman.host.write("/etc/layerseal/deny.d/x.list", format!("sha256:{hex}\nfsverity-sha256-12:{hex}\n"));
    podman.stopped("createRuntime", REJECTED, &["F06"], &RUN);
    podman.host.write("/etc/layerseal/deny.d/x.list", format!("sha256:{}\n", "0".repeat(64)));
    podman.ok(&RUN);
}

/// Content under the record of another layer: where nobody vouches for it, a record is no reason to believe it.
#[test]
fn f06_a_layer_is_what_it_holds_and_not_what_its_record_says() {
    if !ready("layers that lie") {
        return;
    }
    for program in OURS {
        let podman = Podman::new(program);
        podman.policy(&default_policy().replace("\"enforce\"", "\"off\""));
        podman.host.write("/etc/layerseal/deny.d/x.list", format!("sha256:{}\n", "0".repeat(64)));
        podman.started(APP);
        podman.host.sh("rm -rf /run/layerseal/content");
        let path = crate::refusals::in_diff(&podman, "opt/app");
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[0] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        podman.not_started(APP, "F06");
        // Nothing is denied: nothing is asked.
        podman.host.sh("mv /etc/layerseal/deny.d/x.list /var/tmp");
        podman.started(APP);
        podman.host.sh("mv /var/tmp/x.list /etc/layerseal/deny.d");
        std::fs::write(&path, &good).unwrap();
        podman.started(APP);
    }
}

/// In a transient store containers are on record in the run root. Another image of the same layers is not the one
/// that a container is made from.
#[test]
fn b04_containers_of_a_transient_store_are_made_from_the_image_that_they_name() {
    if !ready("a transient store") {
        return;
    }
    if Podman::version() < (4, 4) {
        support::skip!("a transient store: podman 4.3 has none");
    }
    for program in OURS {
        let podman = Podman::new(program);
        let evil = "registry.example.com/acme/evil:1";
        twin(&podman, evil);
        let run = |image: &'static str| ["--transient-store", "run", "--rm", "--pull=never", image, "true"];
        let output = podman.run(&run(APP));
        let hooks = podman.host.sh("cat /run/layerseal/hooks/* 2>/dev/null || true");
        assert!(output.status.success(), "{program:?}: {} {hooks}", text(&output));
        match program {
            Program::Hooked => podman.stopped("precreate", 3, &["C07"], &run(evil)),
            _ => {
                let output = podman.run(&run(evil));
                assert!(!output.status.success() && text(&output).contains("[R-C07]"), "{}", text(&output));
            }
        }
        podman.started(APP);
    }
}

/// Puts an image into the store that has the layers of APP and another config, as whoever has the disk can.
fn twin(podman: &Podman, name: &str) {
    use layerseal::digest::BlobDigest;
    use serde_json::{Value, json};
    let images = podman.graph_root().join("overlay-images");
    let read = |id: &str, key: &str| {
        let name =
            if key == "manifest" { key.into() } else { format!("={}", openssl::base64::encode_block(key.as_bytes())) };
        std::fs::read(images.join(id).join(name)).unwrap()
    };
    let id = podman.id_of(APP);
    let mut manifest: Value = serde_json::from_slice(&read(&id, "manifest")).unwrap();
    let mut config: Value = serde_json::from_slice(&read(&id, &format!("sha256:{id}"))).unwrap();
    config["config"]["Env"] = json!(["EVIL=1"]);
    let config = config.to_string();
    let digest = BlobDigest::of(config.as_bytes());
    manifest["config"]["digest"] = json!(digest.to_string());
    manifest["config"]["size"] = json!(config.len());
    let manifest = manifest.to_string();
    let keys = ["manifest".to_owned(), format!("manifest-{}", BlobDigest::of(manifest.as_bytes())), digest.to_string()];
    std::fs::create_dir(images.join(digest.hex())).unwrap();
    for (key, bytes) in keys.iter().zip([&manifest, &manifest, &config]) {
        let name =
            if key == "manifest" { key.clone() } else { format!("={}", openssl::base64::encode_block(key.as_bytes())) };
        std::fs::write(images.join(digest.hex()).join(name), bytes).unwrap();
    }
    let records = images.join("images.json");
    let mut all: Vec<Value> = serde_json::from_slice(&std::fs::read(&records).unwrap()).unwrap();
    let mut record = all.iter().find(|i| i["id"] == id.as_str()).unwrap().clone();
    let sizes: serde_json::Map<String, Value> =
        keys.iter().zip([&manifest, &manifest, &config]).map(|(k, b)| (k.clone(), json!(b.len()))).collect();
    let digests: serde_json::Map<String, Value> = keys
        .iter()
        .zip([&manifest, &manifest, &config])
        .map(|(k, b)| (k.clone(), json!(BlobDigest::of(b.as_bytes()).to_string())))
        .collect();
    record["id"] = json!(digest.hex());
    record["names"] = json!([name]);
    record["digest"] = json!(BlobDigest::of(manifest.as_bytes()).to_string());
    record["big-data-names"] = json!(keys);
    record["big-data-sizes"] = json!(sizes);
    record["big-data-digests"] = json!(digests);
    all.push(record);
    std::fs::write(records, serde_json::to_vec(&all).unwrap()).unwrap();
}

/// What podman takes the command from is what counts: the sealed image is kept, and another one is under its ID and
/// name by documents that podman reads otherwise than we did.
#[test]
fn c07_podman_runs_no_command_that_is_not_sealed() {
    if !ready("commands that are not sealed") {
        return;
    }
    for program in OURS {
        let podman = Podman::new(program);
        twin(&podman, "registry.example.com/acme/app:2");
        // podman finds the name on the record that is not sealed.
        let env = podman.ok(&["image", "inspect", "--format", "{{.Config.Env}}", "registry.example.com/acme/app:2"]);
        assert_eq!(env.trim(), "[EVIL=1]");
        let args = ["run", "--rm", "--pull=never", "registry.example.com/acme/app:2", "true"];
        match program {
            Program::Hooked => podman.stopped("precreate", 3, &["C07"], &args),
            _ => podman.refused("registry.example.com/acme/app:2", &["C07"]),
        }
        // The sealed manifest lies beside it, under its own digest.
        let images = podman.graph_root().join("overlay-images");
        let (id, evil) = (podman.id_of(APP), podman.id_of("registry.example.com/acme/app:2"));
        let encoded = |key: &str| format!("={}", openssl::base64::encode_block(key.as_bytes()));
        let sealed = format!("manifest-{}", podman.digest_of(APP));
        for key in [&sealed, &format!("sha256:{id}")] {
            std::fs::copy(images.join(&id).join(encoded(key)), images.join(&evil).join(encoded(key))).unwrap();
        }
        crate::refusals::edit_json(&podman, "overlay-images/images.json", |all| {
            let record = all.iter_mut().find(|i| i["id"] == evil.as_str()).unwrap();
            let keys = record["big-data-names"].as_array_mut().unwrap();
            keys.extend([serde_json::json!(sealed), serde_json::json!(format!("sha256:{id}"))]);
        })
        .keep();
        match program {
            Program::Hooked => podman.stopped("precreate", 3, &["C07"], &args),
            _ => podman.refused("registry.example.com/acme/app:2", &["C07"]),
        }
        podman.started(APP);
    }
}

/// docs/ways-in.md: ways to a container that go through a start, and what is inside of one.
#[test]
fn o01_other_ways_in_are_starts_too() {
    if !ready("other ways in") {
        return;
    }
    for program in [Program::Hooked, Program::Guarded] {
        let podman = Podman::new(program);
        podman.ok(&["create", "--name", "c", APP, "sleep", "1000"]);
        podman.ok(&["init", "c"]);
        assert_eq!(podman.last("createRuntime").0, "allowed", "{program:?}: init is the start");
        podman.host.sh("rm -rf /run/layerseal/hooks");
        podman.ok(&["start", "c"]);
        assert_eq!(podman.last("createRuntime").0, "", "{program:?}: start asks nobody then");
        let root = podman.ok(&["exec", "c", "sh", "-c", "grep ' / / ' /proc/self/mountinfo"]);
        assert!(root.contains(" overlay composefs:"), "{root}");
        assert_eq!(podman.last("createRuntime").0, "", "exec asks nobody");
        podman.ok(&["rm", "-f", "-t", "0", "c"]);
        // An image that nobody sealed by the same ways.
        podman.ok(&["create", "--name", "d", FRESH, "sleep", "1000"]);
        for args in [&["init", "d"][..], &["start", "d"], &["restart", "d"]] {
            let output = podman.run(args);
            assert!(!output.status.success(), "{program:?} {args:?}: it started");
        }
        podman.ok(&["rm", "-f", "d"]);
        // Newer ones give a clone another network, which this host has no tools for.
        if ((4, 4)..(5, 5)).contains(&Podman::version()) {
            podman.ok(&["create", "--name", "e", APP, "true"]);
            podman.ok(&["container", "clone", "e", "f"]);
            podman.ok(&["start", "-a", "f"]);
            assert_eq!(podman.last("createRuntime").0, "allowed", "{program:?}: a clone");
            podman.ok(&["rm", "-f", "e", "f"]);
        }
    }
}

/// What an attacker takes out of records, or writes into them, gets a container of podman neither the rule for builds nor that
/// of a namespace. (The mount program cannot tell whose a container is: docs/threat-model.md.)
#[test]
fn f04_a_container_of_podman_is_no_build_and_in_no_namespace() {
    if !ready("podman's containers, and rules for builds and namespaces") {
        return;
    }
    for program in [Program::Hooked, Program::Guarded, Program::Runtime] {
        let podman = Podman::new(program);
        let made = |image: &str| podman.ok(&["create", image, "cat", "/etc/kept"]).trim().to_owned();
        let starts = |id: &str| podman.run(&["start", "-a", id]).status.success();
        let refused = |id: &str, what: &str| assert!(!starts(id), "{program:?}: it started {what}");
        let namespace = "[[rule]]\nimage = \"*\"\nnamespace = \"dev\"\nmode = \"off\"\n";
        podman.policy(&(default_policy() + namespace));
        let (control, in_pod, sandbox) = (made(FRESH), made(FRESH), made(FRESH));
        refused(&control, "as it is");
        crate::crio::in_pod(&podman, &in_pod, &sandbox, "dev");
        refused(&in_pod, "in a pod by its record");
        let (sealed, without) = (made(APP), made(FRESH));
        assert!(starts(&sealed), "{program:?}");
        let lost = |id: &str| {
            crate::crio::record(&podman, id, |metadata| drop(metadata.as_object_mut().unwrap().remove("image-name")));
        };
        lost(&sealed);
        assert!(starts(&sealed), "{program:?}: a sealed image is sealed for its names");
        lost(&without);
        crate::refusals::edit_json(&podman, "overlay-images/images.json", |all| {
            let fresh = all.iter_mut().find(|image| image["names"][0] == FRESH).unwrap();
            fresh["names"] = serde_json::json!([]);
        })
        .keep();
        refused(&without, "without a name and without a record of one");
    }
}

/// A rule says what podman may be told: `docker.io/fresh` is `docker.io/library/fresh` there.
#[test]
fn f04_a_rule_for_a_name_of_docker_hub_applies_to_what_podman_makes_of_it() {
    if !ready("names of docker.io through podman") {
        return;
    }
    for program in [Program::Hooked, Program::Layerseal] {
        let podman = Podman::new(program);
        podman.ok(&["tag", FRESH, "docker.io/library/fresh:1"]);
        podman.ok(&["untag", FRESH, FRESH]);
        let rule = |image: &str| {
            let lenient = default_policy().replacen("\"enforce\"", "\"audit\"", 1);
            podman.policy(&format!("{lenient}[[rule]]\nimage = \"{image}\"\nmode = \"enforce\"\n"));
        };
        let mut started = Vec::new();
        for image in ["docker.io/library/fresh", "docker.io/fresh", "index.docker.io/library/fresh", "docker.io/fresh*"]
        {
            rule(image);
            for name in ["docker.io/fresh:1", "docker.io/library/fresh:1"] {
                let output = podman.run(&["run", "--rm", "--pull=never", name, "true"]);
                println!("{program:?} rule {image}: podman run {name}: {}", output.status);
                if output.status.success() {
                    started.push(format!("{program:?}: rule {image}, podman run {name}"));
                }
            }
        }
        assert_eq!(started, [""; 0]);
        // By the rule, and not by a policy that nobody can read: others start.
        podman.starts(APP);
        rule("docker.io/other");
        podman.starts("docker.io/fresh:1");
    }
}
