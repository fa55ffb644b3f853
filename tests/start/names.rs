//! Names and configs: whoever has the disk gives images names, documents and lists as he likes, and what podman
//! takes is what must be sealed.

use layerseal::digest::BlobDigest;
use serde_json::{Value, json};

use crate::host::{APP, Container, ENFORCE, EVIL, Host, Image, OTHER, TOOL, TWIN, random_id};

const IMAGES: &str = "overlay-images/images.json";
const CONTAINERS: &str = "overlay-containers/containers.json";

/// A container that podman made of `image`, asked for by `name`.
fn asked(host: &Host, id: &str, image: &Image, name: &str) -> Container {
    let container = host.container(id, image);
    let metadata = json!({"image-name": name, "image-id": image.id, "name": id, "created-at": 1}).to_string();
    host.edit(CONTAINERS, |all| all.last_mut().unwrap()["metadata"] = json!(metadata));
    container
}

/// Gives an image other names.
pub fn rename(host: &Host, image: &Image, names: &[&str]) {
    host.edit(IMAGES, |all| {
        all.iter_mut().find(|i| i["id"] == image.id.as_str()).unwrap()["names"] = json!(names);
    });
}

fn tagged(name: &str) -> String {
    format!("{name}:v1")
}

#[track_caller]
fn starts(host: &Host, container: &Container, tool: &[u8]) {
    host.start(container).ok();
    assert_eq!(host.read(container, "usr/bin/tool").unwrap(), tool);
    host.unmount(container);
}

fn rule(image: &str, mode: &str) -> String {
    format!("[[rule]]\nimage = \"{image}\"\nmode = \"{mode}\"\n")
}

/// The digest of the manifest that podman takes.
fn manifest(host: &Host, image: &Image) -> BlobDigest {
    BlobDigest::of(&std::fs::read(host.root.join("overlay-images").join(&image.id).join("manifest")).unwrap())
}

fn document(host: &Host, image: &str, key: &str) -> std::path::PathBuf {
    let name =
        if key == "manifest" { key.to_owned() } else { format!("={}", openssl::base64::encode_block(key.as_bytes())) };
    host.root.join("overlay-images").join(image).join(name)
}

/// Another name makes no other image of it: the seal must be for the name that podman was asked for.
#[test]
fn d18_a_name_that_was_added_does_not_make_another_image_of_it() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, twin) = (host.image(APP), host.image(TWIN));
    rename(&host, &app, &[]);
    for names in [[tagged(APP), tagged(TWIN)], [tagged(TWIN), tagged(APP)]] {
        rename(&host, &twin, &names.each_ref().map(String::as_str));
        let c = asked(&host, &format!("as app {}", names[0]), &twin, &tagged(APP));
        host.start_refused(&c, 4, "D18");
        starts(&host, &asked(&host, &format!("itself {}", names[0]), &twin, &tagged(TWIN)), &TOOL);
    }
    // Nor where it is only shown: each of its names may be the one that was meant.
    let lowers: Vec<String> = twin.layers.iter().map(|id| host.of(id, "diff")).collect();
    let (shown, target) = (format!("lowerdir={}", lowers.join(":")), host.of(&twin.layers[0], "merged"));
    std::fs::create_dir_all(&target).unwrap();
    host.edit(IMAGES, |all| all.retain(|i| i["id"] != app.id.as_str()));
    host.refused(&shown, &target, 4, "D18");
    // Without any name it is asked for by one all the same.
    rename(&host, &twin, &[]);
    host.start_refused(&asked(&host, "nameless", &twin, &tagged(APP)), 4, "D18");
    host.start_refused(&asked(&host, "no name at all", &twin, "<none>"), 4, "D18");
    // podman resolves short names beneath localhost/.
    let short = "localhost/acme/app:v1";
    rename(&host, &twin, &[short, &tagged(TWIN)]);
    host.start_refused(&asked(&host, "short", &twin, short), 4, "D18");
    host.start_refused(&asked(&host, "nobody says", &twin, ""), 4, "D18");
}

#[test]
fn d18_other_tags_ids_and_forms_of_a_sealed_name_start() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let app = host.image(APP);
    let digest = manifest(&host, &app);
    let more = format!("{APP}:v2");
    rename(&host, &app, &[&tagged(APP), &more, &format!("{APP}@{digest}")]);
    for (at, name) in [
        tagged(APP),
        more,
        format!("{APP}@{digest}"),
        format!("{}:443/acme/app:v1", "Registry.Example.COM."),
        app.id.clone(),
        app.id[..12].to_owned(),
        format!("sha256:{}", app.id),
        String::new(),
    ]
    .iter()
    .enumerate()
    {
        starts(&host, &asked(&host, &format!("c{at}"), &app, name), &TOOL);
    }
    // By its ID an image without a name too.
    rename(&host, &app, &[]);
    starts(&host, &asked(&host, "nameless", &app, &app.id), &TOOL);
}

/// With rules as docs/podman.md recommends them for builds.
#[test]
fn c07_an_image_without_a_seal_takes_no_name_by_the_rules_for_builds() {
    let acme = rule(&format!("{APP}*"), "enforce");
    let builds = format!("{ENFORCE}{acme}{}{}", rule("localhost/*", "off"), rule("<none>", "off"));
    let Some(host) = Host::new(&builds) else { return };
    let other = host.image(OTHER);
    // The short name of a name that there is a rule for.
    rename(&host, &other, &["localhost/acme/app:v1"]);
    host.start_refused(&asked(&host, "short", &other, "localhost/acme/app:v1"), 3, "C07");
    // What is built here is called so too.
    rename(&host, &other, &["localhost/mine:v1"]);
    starts(&host, &asked(&host, "mine", &other, "localhost/mine:v1"), &EVIL);
    // No name on record, or none that we see: podman was asked for one.
    rename(&host, &other, &[]);
    host.start_refused(&asked(&host, "by ID", &other, &other.id), 3, "C07");
    host.start_refused(&asked(&host, "by name", &other, &tagged(APP)), 3, "C07");
    rename(&host, &other, &["localhost/mine:v1"]);
    host.start_refused(&asked(&host, "by another", &other, &tagged(APP)), 3, "C07");
    // A list has the name, and podman resolves it to the image.
    rename(&host, &other, &[]);
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1, "digest": manifest(&host, &other).to_string()}]});
    list(&host, &tagged(APP), &index);
    host.start_refused(&asked(&host, "list", &other, &tagged(APP)), 3, "C07");
    let (shown, target) = (
        format!("lowerdir={}:{}", host.of(&other.layers[0], "diff"), host.of(&other.layers[0], "empty")),
        host.of(&other.layers[0], "merged"),
    );
    std::fs::create_dir_all(&target).unwrap();
    std::fs::create_dir_all(host.of(&other.layers[0], "empty")).unwrap();
    host.refused(&shown, &target, 3, "C07");
    // Nobody says what was asked for.
    host.start_refused(&host.container("unsaid", &other), 3, "C07");
    // The record of its image is gone: it is no layer of a build.
    let gone = asked(&host, "gone", &other, &tagged(APP));
    let unsaid = host.container("gone and unsaid", &other);
    host.edit(IMAGES, |all| all.retain(|i| i["id"] != other.id.as_str()));
    for container in [gone, unsaid] {
        host.start_refused(&container, 3, "B12");
    }
}

/// What is only shown, as for `podman diff`, is not refused for a name that asks for nothing.
#[test]
fn d18_an_alias_of_a_build_is_in_nobody_s_way() {
    let Some(host) = Host::new(&format!("{ENFORCE}{}", rule("localhost/*", "off"))) else { return };
    let twin = host.image(TWIN);
    host.edit(IMAGES, |all| all.retain(|i| i["id"] == twin.id.as_str()));
    rename(&host, &twin, &["localhost/mine:v1", &tagged(TWIN)]);
    let lowers: Vec<String> = twin.layers.iter().map(|id| host.of(id, "diff")).collect();
    let (shown, target) = (format!("lowerdir={}", lowers.join(":")), host.of(&twin.layers[0], "merged"));
    std::fs::create_dir_all(&target).unwrap();
    host.call(&shown, &target).ok();
    starts(&host, &asked(&host, "c", &twin, &tagged(TWIN)), &TOOL);
    // To start it is another matter.
    host.start_refused(&asked(&host, "d", &twin, "localhost/mine:v1"), 4, "D18");
}

/// A list of its own record, as `podman manifest create` makes it.
fn list(host: &Host, name: &str, index: &Value) -> BlobDigest {
    let (id, index) = (random_id(name), index.to_string());
    let dir = host.root.join("overlay-images").join(&id);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("manifest"), &index).unwrap();
    std::fs::write(dir.join("instances.json"), format!("{{\"\":\"{id}\"}}")).unwrap();
    host.edit(IMAGES, |all| {
        all.retain(|i| i["id"] != id.as_str());
        all.push(json!({"id": id, "names": [name], "big-data-names": ["manifest", "instances.json"]}));
    });
    BlobDigest::of(index.as_bytes())
}

#[test]
fn d18_a_list_that_is_called_as_its_instance_is_sealed_starts() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let app = host.image(APP);
    let instance = |digest: BlobDigest| {
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1, "digest": digest.to_string()}]})
    };
    let digest = list(&host, &tagged(APP), &instance(manifest(&host, &app)));
    rename(&host, &app, &[]);
    starts(&host, &asked(&host, "c", &app, &tagged(APP)), &TOOL);
    // By the digest of the list, and of one that does not list it.
    starts(&host, &asked(&host, "d", &app, &format!("{APP}@{digest}")), &TOOL);
    let digest = list(&host, &tagged(APP), &instance(BlobDigest::of(b"another")));
    host.start_refused(&asked(&host, "e", &app, &format!("{APP}@{digest}")), 4, "B14");
}

/// An index that lists it, beside it and of its own, by its content and not by what records say: in every mode.
#[test]
fn f06_an_index_is_denied_in_every_mode() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let app = host.image(APP);
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1, "digest": manifest(&host, &app).to_string()}]});
    let container = asked(&host, "c", &app, &tagged(APP));
    let own = list(&host, "registry.example.com/acme/list:v1", &index);
    let beside = format!("{index} ");
    let key = format!("manifest-{}", BlobDigest::of(beside.as_bytes()));
    std::fs::write(document(&host, &app.id, &key), &beside).unwrap();
    host.edit(IMAGES, |all| {
        let record = all.iter_mut().find(|i| i["id"] == app.id.as_str()).unwrap();
        record["big-data-names"].as_array_mut().unwrap().push(json!(key));
    });
    for policy in [ENFORCE, crate::host::AUDIT, crate::host::OFF] {
        host.config("policy.toml", policy);
        for digest in [own, BlobDigest::of(beside.as_bytes())] {
            host.config("deny.d/x.list", &format!("{digest}\n"));
            host.start_refused(&container, 4, "F06");
        }
        host.config("deny.d/x.list", &format!("{}\n", BlobDigest::of(b"another")));
        starts(&host, &container, &TOOL);
    }
}

/// Records of layers that are no image: a digest that is none, or none at all, where layers are denied.
#[test]
fn f06_a_layer_that_nobody_can_tell_is_no_layer_that_is_not_denied() {
    let Some(host) = Host::new(crate::host::OFF) else { return };
    let app = host.image(APP);
    let container = asked(&host, "c", &app, &tagged(APP));
    host.edit(IMAGES, |all| all.retain(|i| i["layer"] != app.layers[0].as_str()));
    let layers = host.json("overlay-layers/layers.json");
    let with = |digest: Value| {
        host.edit("overlay-layers/layers.json", |all| {
            all.iter_mut().find(|l| l["id"] == app.layers[0].as_str()).unwrap()["diff-digest"] = digest;
        });
    };
    let deny = |digest: BlobDigest| host.config("deny.d/x.list", &format!("{digest}\n"));
    starts(&host, &container, &TOOL);
    deny(BlobDigest::of(b"another"));
    starts(&host, &container, &TOOL);
    with(json!("sha256:x"));
    host.start_refused(&container, 4, "B07");
    with(json!(""));
    host.start_refused(&container, 4, "F06");
    // One hex in both of its forms hides nothing.
    host.set_json("overlay-layers/layers.json", &layers);
    let digest: BlobDigest = layers.iter().find(|l| l["id"] == app.layers[0].as_str()).unwrap()["diff-digest"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    host.config("deny.d/x.list", &format!("{digest}\nfsverity-sha256-12:{}\n", digest.hex()));
    host.start_refused(&container, 4, "F06");
    // Its record names another layer's digest, and the content is what it is.
    deny(digest);
    with(json!(BlobDigest::of(b"another").to_string()));
    host.start_refused(&container, 4, "F06");
}

/// `@sha256:` of one image on another.
#[test]
fn b14_a_digest_in_a_name_is_that_of_the_image() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, twin) = (host.image(APP), host.image(TWIN));
    let (right, wrong) = (manifest(&host, &twin), manifest(&host, &app));
    rename(&host, &app, &[]);
    let name = format!("{TWIN}@{wrong}");
    rename(&host, &twin, &[&tagged(TWIN), &name]);
    host.start_refused(&asked(&host, "c", &twin, &name), 4, "B14");
    host.start_refused(&asked(&host, "d", &twin, &format!("{TWIN}@sha256:00")), 4, "B07");
    host.start_refused(&asked(&host, "e", &twin, ""), 4, "B14");
    // The config's digest is no manifest's, and a manifest that is kept beside it is not the one that is used.
    host.start_refused(&asked(&host, "f", &twin, &format!("{TWIN}@sha256:{}", twin.id)), 4, "B14");
    starts(&host, &asked(&host, "g", &twin, &tagged(TWIN)), &TOOL);
    starts(&host, &asked(&host, "h", &twin, &format!("{TWIN}@{right}")), &TOOL);
}

#[test]
fn b13_names_that_podman_reads_and_we_did_not() {
    let builds = format!("{ENFORCE}{}", rule("<none>", "off"));
    let Some(host) = Host::new(&builds) else { return };
    let other = host.image(OTHER);
    let container = host.container("c", &other);
    let text = serde_json::to_string(&host.json(IMAGES)).unwrap();
    let names = format!("\"names\":[{:?}]", tagged(OTHER));
    assert!(text.contains(&names));
    for instead in [
        format!("\"Names\":[{:?}]", tagged(APP)),
        format!("\"names\":[],\"NAMES\":[{:?}]", tagged(APP)),
        format!("\"\\u004eames\":[{:?}]", tagged(APP)),
    ] {
        std::fs::write(host.root.join(IMAGES), text.replace(&names, &instead)).unwrap();
        host.start_refused(&container, 4, "B13");
    }
    std::fs::write(host.root.join(IMAGES), &text).unwrap();
    host.start_refused(&container, 3, "C07");
}

/// The sealed manifest lies beside the one that podman takes command and annotations from.
#[test]
fn c07_a_sealed_manifest_beside_the_one_that_counts_vouches_for_nothing() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let app = host.image(APP);
    let container = asked(&host, "c", &app, &tagged(APP));
    let path = document(&host, &app.id, "manifest");
    let sealed = std::fs::read(&path).unwrap();
    let key = |bytes: &[u8]| format!("manifest-{}", BlobDigest::of(bytes));
    let put = |bytes: &[u8], keep: bool| {
        std::fs::write(&path, bytes).unwrap();
        std::fs::write(document(&host, &app.id, &key(bytes)), bytes).unwrap();
        host.edit(IMAGES, |all| {
            let record = all.iter_mut().find(|i| i["id"] == app.id.as_str()).unwrap();
            let keys = [key(bytes), key(&sealed)];
            let config = format!("sha256:{}", app.id);
            record["big-data-names"] =
                if keep { json!(["manifest", keys[0], keys[1], config]) } else { json!(["manifest", config]) };
        });
    };
    let mut other: Value = serde_json::from_slice(&sealed).unwrap();
    other["annotations"] = json!({"run.oci.keep_original_groups": "1"});
    // With its key on record, and without any.
    for keep in [true, false] {
        put(other.to_string().as_bytes(), keep);
        host.start_refused(&container, 3, "C07");
    }
    // Both configs by one key for us and by another for podman.
    let text = String::from_utf8(sealed.clone()).unwrap();
    for twice in ["\"Config\":{},\"layers\"", "\"layerſ\":[],\"layers\""] {
        put(text.replacen("\"layers\"", twice, 1).as_bytes(), true);
        host.start_refused(&container, 4, "B13");
    }
    put(text.replacen("\"digest\"", "\"digeſt\":\"sha256:00\",\"digest\"", 1).as_bytes(), true);
    host.start_refused(&container, 4, "B13");
    put(&sealed, true);
    starts(&host, &container, &TOOL);
}

/// In a transient store the record of a container is in the run root; another image over the same layers lends it
/// nothing.
#[test]
fn b04_an_image_of_the_same_layers_lends_no_seal_to_a_container_without_a_record() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, twin) = (host.image(APP), host.image(TWIN));
    let layer = random_id("transient");
    for dir in ["diff", "work", "merged"] {
        std::fs::create_dir_all(host.of(&layer, dir)).unwrap();
    }
    let container = Container { layer: layer.clone(), lowers: app.layers.clone() };
    // Both are sealed: whichever it is.
    starts(&host, &container, &TOOL);
    let seals = host.root.join("layerseal/images").join(manifest(&host, &twin).hex()).join("seals");
    std::fs::rename(&seals, seals.with_extension("away")).unwrap();
    host.sandbox.sh("rm -rf /var/lib/layerseal/seals");
    host.start_refused(&container, 4, "B04");
    // Nor does one lend another its name where it is only shown, unless nothing is asked for that.
    let lowers: Vec<String> = twin.layers.iter().map(|id| host.of(id, "diff")).collect();
    let (shown, target) = (format!("lowerdir={}", lowers.join(":")), host.of(&twin.layers[0], "merged"));
    std::fs::create_dir_all(&target).unwrap();
    host.refused(&shown, &target, 4, "B04");
    for policy in [format!("{ENFORCE}{}", rule("localhost/*", "off")), format!("{ENFORCE}{}", rule("<none>", "off"))] {
        host.config("policy.toml", &policy);
        rename(&host, &twin, if policy.contains("none") { &[] } else { &["localhost/mine:v1"] });
        host.call(&shown, &target).ok();
        host.sandbox.sh(&format!("umount '{target}'"));
    }
    rename(&host, &twin, &[&tagged(TWIN)]);
    host.config("policy.toml", ENFORCE);
    // The run root says which.
    let record = |image: &Image, name: &str| {
        let metadata = json!({"image-name": name}).to_string();
        let records = json!([{"id": random_id("c"), "image": image.id, "layer": layer, "metadata": metadata}]);
        let text = host.bench.write("records", records.to_string().as_bytes()).display().to_string();
        let dir = "/run/containers/storage/overlay-containers";
        host.sandbox.sh(&format!("mkdir -p {dir} && cp '{text}' {dir}/volatile-containers.json"));
    };
    record(&twin, &tagged(TWIN));
    host.start_refused(&container, 3, "C07");
    record(&app, &tagged(TWIN));
    host.start_refused(&container, 4, "D18");
    record(&app, &tagged(APP));
    starts(&host, &container, &TOOL);
    std::fs::rename(seals.with_extension("away"), &seals).unwrap();
}

/// Which stores are trusted is what all names agree on.
#[test]
fn f04_an_alias_does_not_choose_the_trust_store() {
    let Some(host) = Host::new(ENFORCE) else { return };
    host.config(
        "trust.d/others/x.crt",
        std::str::from_utf8(&crate::common::stranger().cert.to_pem().unwrap()).unwrap(),
    );
    let app = host.image(APP);
    let strict = format!("{ENFORCE}[[rule]]\nimage = \"{APP}\"\ntrust = [\"others\"]\nidentity = false\n");
    let loose =
        "[[rule]]\nimage = \"registry.example.com/a/long/name/that/is/exact\"\ntrust = [\"acme\"]\nidentity = false\n";
    host.config("policy.toml", &format!("{strict}{loose}"));
    let alias = "registry.example.com/a/long/name/that/is/exact:v1";
    rename(&host, &app, &[alias, &tagged(APP)]);
    host.start_refused(&asked(&host, "c", &app, &tagged(APP)), 4, "E07");
    rename(&host, &app, &[alias]);
    host.start_refused(&asked(&host, "d", &app, &tagged(APP)), 4, "E07");
    starts(&host, &asked(&host, "e", &app, alias), &TOOL);
}

fn checks(host: &Host) -> Vec<Value> {
    let ran = host.verb(&["doctor", "--json"]);
    let doctor: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    doctor["checks"].as_array().unwrap().clone()
}

fn found(host: &Host, check: &str) -> (String, String) {
    let checks = checks(host);
    let one = checks.iter().find(|c| c["check"] == check).unwrap_or_else(|| panic!("{check}: {checks:?}"));
    (one["state"].as_str().unwrap().to_owned(), one["found"].as_str().unwrap().to_owned())
}

#[test]
fn f04_doctor_tells_of_a_default_that_asks_less_than_a_rule() {
    let Some(host) = Host::new(ENFORCE) else { return };
    assert_eq!(found(&host, "policy").0, "ok");
    host.config("policy.toml", &format!("{}{}", crate::host::AUDIT, rule(APP, "enforce")));
    let (state, text) = found(&host, "policy");
    assert_eq!(state, "optional");
    assert!(text.contains(&format!("mode (stricter for {APP} in /etc/layerseal/policy.toml)")), "{text}");
}

/// A host that is meant to do without fs-verity is weak, and not unable; and it says what runs so.
#[test]
fn g06_doctor_calls_a_host_weak_that_does_without_fs_verity() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (state, text) = found(&host, "fs-verity");
    assert!(
        state == "weak" && text.contains("verity = \"off\" in the policy") && !text.contains("verified so"),
        "{text}"
    );
    let said = host.verb(&["doctor"]).stdout;
    assert!(!said.contains("cannot enforce sealed images\n") || said.contains("missing"), "{said}");
    assert!(!checks(&host).iter().any(|c| c["check"] == "sealed files, tried"), "nobody asks for that");
    let container = asked(&host, "c", &host.image(APP), &tagged(APP));
    host.start(&container).ok();
    let (state, text) = found(&host, "fs-verity");
    assert!(state == "weak" && text.contains("1 verified so is mounted"), "{text}");
    host.unmount(&container);
    // Where it is asked for and not there it is missing, and what to do is said with what it means.
    host.config("policy.toml", &ENFORCE.replace("verity = \"off\"", "verity = \"require\""));
    let checks = checks(&host);
    let one = checks.iter().find(|c| c["check"] == "fs-verity").unwrap();
    let remedy = one["remedy"].as_str().unwrap();
    match one["state"].as_str().unwrap() {
        "ok" => support::skip!(part: "doctor without fs-verity: this filesystem has it"),
        state => assert_eq!(state, "missing"),
    }
    for words in ["may be done while it is mounted, the root as well", "cannot be undone", "verity = \"off\""] {
        assert!(remedy.contains(words), "{words}: {remedy}");
    }
}

/// What a user may not read is no reason to tell anybody to change the host.
#[test]
fn doctor_gives_an_ordinary_user_no_wrong_advice() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let binary = crate::host::binary();
    let script =
        format!("cd /; setpriv --reuid 65534 --regid 65534 --clear-groups '{binary}' doctor || echo \"exit $?\"");
    let said = host.sandbox.sh(&script);
    assert!(said.contains("only root can tell whether this host can enforce sealed images\nexit 6"), "{said}");
    assert!(said.contains("run `layerseal doctor` as root"), "{said}");
    for advice in ["tune2fs", "modprobe", "make install", "storage.conf, driver", "missing"] {
        assert!(!said.contains(advice), "{advice}: {said}");
    }
}

/// crun says whether it can restore, and only the mount program sees what it restores.
#[test]
fn o01_doctor_tells_of_a_crun_that_restores_checkpoints() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let crun = |features: &str| {
        let text = format!("#!/bin/sh\necho 'crun version 1.8.1'\necho '{features}'\n");
        let path = host.bench.write("crun", text.as_bytes());
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let path = crun("+SYSTEMD +CRIU +YAJL");
    host.sandbox.sh(&format!("touch /run/none; mount --bind '{path}' \"$(command -v crun)\""));
    let (state, text) = found(&host, "podman container restore");
    assert!(state == "optional" && text.contains("+CRIU"), "{state} {text}");
    let conf = "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/containers/storage\"\n\
                graphroot = \"/var/lib/containers/storage\"\n\
                [storage.options.overlay]\nmount_program = \"/usr/bin/layerseal\"\n";
    host.sandbox.sh(&format!("mkdir -p /etc/containers; printf '%s' '{conf}' >/etc/containers/storage.conf"));
    assert_eq!(found(&host, "podman container restore").0, "ok");
    host.sandbox.sh("rm /etc/containers/storage.conf");
    crun("+SYSTEMD +YAJL");
    assert_eq!(found(&host, "podman container restore").0, "ok");
}

/// What counts, and which rule says so, for each setting.
#[test]
fn f04_policy_check_shows_the_rule_of_each_setting() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let one = format!("[[rule]]\nimage = \"{APP}\"\nrollback = \"refuse\"\n");
    let two = "[[rule]]\nimage = \"localhost/*\"\nmode = \"off\"\nupper = \"empty\"\n";
    host.config("policy.toml", &format!("{ENFORCE}{one}{two}"));
    let names = [tagged(APP), "localhost/x".to_owned()];
    let ran = host.layerseal(&["policy", "check", &names[0], &names[1], "--json"]);
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&shown["mode"], &shown["rollback"], &shown["upper"]),
        (&json!("enforce"), &json!("refuse"), &json!("empty"))
    );
    let file = "/etc/layerseal/policy.toml";
    for (setting, pattern) in [("mode", APP), ("rollback", APP), ("upper", "localhost/*"), ("trust", APP)] {
        assert_eq!(shown["rules"][setting], json!([format!("{pattern} in {file}")]), "{setting}");
    }
    assert_eq!(shown["namespace"], Value::Null);
    let place = format!("[[rule]]\nimage = \"{APP}\"\nnamespace = \"prod\"\nmode = \"audit\"\nrollback = \"refuse\"\n");
    host.config("policy.toml", &format!("{ENFORCE}{place}{two}"));
    for (namespace, mode, by) in
        [("prod", "audit", format!("{APP} (namespace prod)")), ("dev", "enforce", "[default]".to_owned())]
    {
        let args = ["policy", "check", &names[0], "--namespace", namespace];
        let shown: Value = serde_json::from_str(&host.layerseal(&[&args[..], &["--json"]].concat()).stdout).unwrap();
        assert_eq!((&shown["namespace"], &shown["mode"]), (&json!(namespace), &json!(mode)));
        assert_eq!(shown["rules"]["mode"], json!([format!("{by} in {file}")]));
        let text = host.layerseal(&args).stdout;
        assert!(text.lines().any(|l| l.starts_with("mode") && l.ends_with(&format!("{by} in {file}"))), "{text}");
    }
    host.config("policy.toml", &format!("{ENFORCE}{one}{two}"));
    let text = host.layerseal(&["policy", "check", &names[0], &names[1]]).stdout;
    for (setting, pattern) in [("mode", APP), ("upper", "localhost/*"), ("rollback", APP)] {
        let line = text.lines().find(|l| l.starts_with(setting)).unwrap();
        assert!(line.ends_with(&format!("{pattern} in {file}")), "{line}");
    }
}

/// The kubelet looks a name up and asks for the ID: the record of a pod's container has no name that the pod gives.
/// A container as CRI-O makes it, by the ID of the image.
fn in_pod(host: &Host, id: &str, image: &Image) -> Container {
    let container = asked(host, id, image, &image.id);
    let metadata = json!({"image-name": image.id, "image-id": image.id, "name": id, "created-at": 1, "pod-name": "p",
        "pod-id": "1".repeat(64), "metadata-name": "c"});
    host.edit(CONTAINERS, |all| all.last_mut().unwrap()["metadata"] = json!(metadata.to_string()));
    container
}

/// By a digest that a pod pins, CRI-O finds an image of that name whose record claims it, and hands on the ID alone
/// (storage/images.go, `recomputeDigests`).
#[test]
fn b14_a_pod_is_not_given_another_image_for_the_digest_that_it_pins() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, twin) = (host.image(APP), host.image(TWIN));
    let (own, other) = (manifest(&host, &twin), manifest(&host, &app));
    let read = |image: &Image| std::fs::read_to_string(document(&host, &image.id, "manifest")).unwrap();
    let edit = |change: &dyn Fn(&mut Value)| {
        host.edit(IMAGES, |all| change(all.iter_mut().find(|i| i["id"] == twin.id.as_str()).unwrap()));
    };
    let beside = |raw: &str| {
        let key = format!("manifest-{}", BlobDigest::of(raw.as_bytes()));
        std::fs::write(document(&host, &twin.id, &key), raw).unwrap();
        edit(&|record| record["big-data-names"].as_array_mut().unwrap().push(json!(key)));
    };
    let index = |digest: BlobDigest| {
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1, "digest": digest.to_string()}]})
        .to_string()
    };
    let before = host.json(IMAGES);
    let restore = || host.edit(IMAGES, |all| *all = before.clone());
    // What podman and CRI-O write: the image was pulled by an index, and by others when its layers were compressed anew.
    let mut again: Value = serde_json::from_str(&read(&twin)).unwrap();
    again["annotations"] = json!({"compressed": "again"});
    let again = again.to_string();
    for (number, raw) in [index(own), again.clone(), index(BlobDigest::of(again.as_bytes()))].into_iter().enumerate() {
        beside(&raw);
        starts(&host, &in_pod(&host, &format!("pod {number}"), &twin), &TOOL);
    }
    restore();
    let refused = |what: &str| {
        let said = host.start_refused(&in_pod(&host, what, &twin), 4, "B14").stderr;
        assert!(said.contains("which is another image"), "{what}: {said}");
        // Whoever gives podman the ID means the config.
        starts(&host, &asked(&host, &format!("podman, {what}"), &twin, &twin.id), &TOOL);
        restore();
    };
    beside(&read(&app));
    refused("a manifest");
    beside(&index(other));
    refused("an index");
    edit(&|record| record["digest"] = json!(other.to_string()));
    refused("the digest of the record");
    edit(&|record| record["big-data-digests"] = json!({"manifest": other.to_string()}));
    refused("the digest of the manifest");
    starts(&host, &in_pod(&host, "as it was", &twin), &TOOL);
}

#[test]
fn d18_b14_an_image_for_a_pod_is_sealed_for_each_of_its_names() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, twin) = (host.image(APP), host.image(TWIN));
    let (right, wrong) = (manifest(&host, &twin), manifest(&host, &app));
    rename(&host, &app, &[]);
    let pod = |id: &str| in_pod(&host, id, &twin);
    // One name, other tags of it, and its digest.
    let (tag, digest) = (format!("{TWIN}:v2"), format!("{TWIN}@{right}"));
    starts(&host, &pod("one name"), &TOOL);
    rename(&host, &twin, &[&tagged(TWIN), &tag, &digest]);
    starts(&host, &pod("other tags"), &TOOL);
    for names in [[tagged(APP), tagged(TWIN)], [tagged(TWIN), tagged(APP)]] {
        rename(&host, &twin, &names.each_ref().map(String::as_str));
        let said = host.start_refused(&pod(&format!("in a pod {}", names[0])), 4, "D18").stderr;
        assert!(said.contains(&format!("not for {APP} ")) || said.contains(&format!("not for {APP};")), "{said}");
        assert!(said.contains("--identity") && said.contains("crictl rmi"), "{said}");
        // Whoever gives podman the ID means the config.
        starts(&host, &asked(&host, &format!("podman {}", names[0]), &twin, &twin.id), &TOOL);
    }
    let checked = |args: &[&str]| host.verb(&[&["check"], args].concat()).stdout;
    let (plain, there) = (checked(&[&tagged(TWIN)]), checked(&["--namespace", "default", &tagged(TWIN)]));
    assert!(!plain.contains("D18") && there.contains("D18"), "{plain}\n{there}");
    // A pod that pins a digest: the name is on another image.
    rename(&host, &twin, &[&format!("{TWIN}@{wrong}"), &tagged(TWIN)]);
    host.start_refused(&pod("pinned"), 4, "B14");
    starts(&host, &asked(&host, "podman pinned", &twin, &twin.id), &TOOL);
    // A list that is resolved to it.
    rename(&host, &twin, &[&tagged(TWIN)]);
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1, "digest": right.to_string()}]});
    list(&host, &tagged(APP), &index);
    host.start_refused(&pod("list"), 4, "D18");
    // Sealed for both, by two seals or by one.
    rename(&host, &twin, &[&tagged(TWIN), &tagged(APP)]);
    host.bench.signer("signer", crate::common::signer());
    for names in [&[APP][..], &[APP, TWIN]] {
        let seals = format!("oci:seals{}", names.len());
        let sign = ["sign", "oci:twin", "--cert", "signer.crt", "--key", "signer.key", "--output", &seals];
        let names: Vec<&str> = names.iter().flat_map(|name| ["--identity", name]).collect();
        host.bench.run(&[&sign[..], &names].concat()).ok();
        host.layerseal(&["prepare", &tagged(TWIN), "--seal", &seals]);
        starts(&host, &pod(&format!("sealed for both by {seals}")), &TOOL);
    }
}
