//! podman is the oracle: what it takes for a record, a manifest, a config and a name is what counts here, and what
//! its reader and ours could take in two ways is refused.

use layerseal::container_store::{CallTarget, ClaimedContainer, RequestedBy, identify_with, transient_container};
use layerseal::digest::BlobDigest;
use layerseal::error::{Case, Result};
use layerseal::oci::LayerId;
use layerseal::protocol::{Invocation, parse};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::store::{Store, Stored, documents, image, layers, random_id, refused};

const TARS: [&str; 3] = ["base", "middle", "top"];

pub struct Scene {
    _dir: TempDir,
    pub s: Store,
    pub app: Stored,
    pub own: String,
}

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut s = Store::new(dir.path());
        let app = s.image("app", &TARS);
        let own = s.container("web", &app.id, app.top());
        s.save();
        Self { _dir: dir, s, app, own }
    }

    pub fn rw(&self) -> Result<CallTarget> {
        self.s.rw(&self.own, &self.s.lowers(&self.app.layers))
    }

    pub fn ro(&self) -> Result<CallTarget> {
        self.s.ro(self.app.top(), &self.s.lowers(&self.app.layers))
    }

    /// Changes the text of a file of records.
    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.s.path(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// The same image with these documents in the place of its own.
    fn with_documents(manifest: &[u8], config: &[u8]) -> Self {
        let mut scene = Self::new();
        let (id, top) = (BlobDigest::of(config).hex(), scene.app.top().to_owned());
        scene.s.images.clear();
        scene.s.record(&id, "app", &top, manifest, config);
        scene.s.containers[0]["image"] = json!(id);
        scene.s.save();
        scene
    }
}

const IMAGES: &str = "overlay-images/images.json";
const LAYERS: &str = "overlay-layers/layers.json";
const CONTAINERS: &str = "overlay-containers/containers.json";

#[test]
fn b13_records_that_go_reads_otherwise() {
    for (file, from, to) in [
        (IMAGES, "\"names\":", "\"Names\":[\"localhost/evil:1\"],\"names\":"),
        (IMAGES, "\"names\":", "\"NAMES\":"),
        (IMAGES, "\"names\":", "\"\\u004eames\":[],\"names\":"),
        (IMAGES, "\"id\":", "\"İd\":\"x\",\"id\":"),
        (IMAGES, "\"layer\":", "\"Layer\":\"x\",\"layer\":"),
        (IMAGES, "\"big-data-names\":", "\"Big-Data-Names\":[],\"big-data-names\":"),
        (LAYERS, "\"id\":", "\"diff-digeſt\":\"x\",\"id\":"),
        (LAYERS, "\"id\":", "\"Parent\":\"x\",\"id\":"),
        (LAYERS, "\"id\":", "\"TOC-digest\":\"x\",\"id\":"),
        (CONTAINERS, "\"image\":", "\"Image\":\"x\",\"image\":"),
        (CONTAINERS, "\"image\":", "\"Metadata\":\"{}\",\"image\":"),
        (CONTAINERS, "\"layer\":", "\"layeR\":\"x\",\"layer\":"),
    ] {
        let scene = Scene::new();
        scene.edit(file, from, to);
        refused(scene.rw(), Case::B13Folded);
        refused(scene.ro(), Case::B13Folded);
    }
    // For serde a list is a struct too.
    let scene = Scene::new();
    std::fs::write(scene.s.path(IMAGES), format!("[[{:?},[\"localhost/app:v1\"]]]", scene.app.id)).unwrap();
    refused(scene.ro(), Case::B01Records);
    // Go replaces what is no UTF-8, even where we do not look.
    let scene = Scene::new();
    let text = std::fs::read(scene.s.path(IMAGES)).unwrap();
    let at = text.windows(4).position(|w| w == b"\"{}\"").unwrap();
    std::fs::write(scene.s.path(IMAGES), [&text[..at + 1], b"\xff", &text[at + 1..]].concat()).unwrap();
    refused(scene.ro(), Case::B01Records);
    // What no field of podman's is, and keys of maps; Go writes null for nothing.
    for (file, from, to) in [
        (IMAGES, "\"names\":", "\"named\":1,\"names\":"),
        (IMAGES, "\"names\":", "\"big-data-digests\":{\"Names\":\"x\",\"names\":\"y\"},\"names\":"),
        (IMAGES, "\"names\":", "\"mapped-layers\":null,\"names\":"),
        (IMAGES, "[\"localhost/app:v1\"]", "null"),
        (CONTAINERS, "\"image\":", "\"metadata\":null,\"image\":"),
    ] {
        let scene = Scene::new();
        scene.edit(file, from, to);
        image(scene.rw());
        image(scene.ro());
    }
}

#[test]
fn b13_documents_that_go_reads_otherwise() {
    let (manifest, config) = documents("app", &TARS, |_| json!({}));
    let (manifest, config) = (String::from_utf8(manifest).unwrap(), String::from_utf8(config).unwrap());
    let (_, other) = documents("evil", &TARS, |_| json!({}));
    let other = json!({"digest": BlobDigest::of(&other).to_string(), "size": other.len(), "mediaType":
        "application/vnd.oci.image.config.v1+json"});
    image(Scene::with_documents(manifest.as_bytes(), config.as_bytes()).rw());
    for (from, to) in [
        ("\"config\":", format!("\"Config\":{other},\"config\":")),
        ("\"config\":", format!("\"confi\\u0047\":{other},\"config\":")),
        ("\"digest\":", "\"digeſt\":\"sha256:00\",\"digest\":".to_owned()),
        ("\"layers\":", "\"LAYERS\":[],\"layers\":".to_owned()),
        ("\"layers\":", "\"Subject\":{},\"layers\":".to_owned()),
    ] {
        let edited = manifest.replacen(from, &to, 1);
        assert_ne!(edited, manifest);
        let scene = Scene::with_documents(edited.as_bytes(), config.as_bytes());
        refused(scene.rw(), Case::B13Folded);
        refused(scene.ro(), Case::B13Folded);
    }
    // The same in the config, where the manifest names it.
    for (from, to) in [("\"rootfs\":", "\"Rootfs\":{},\"rootfs\":"), ("\"diff_ids\":", "\"diff_idſ\":[],\"diff_ids\":")]
    {
        let edited = config.replacen(from, to, 1);
        assert_ne!(edited, config);
        let sized = format!("\"size\":{}", config.len());
        let manifest = manifest
            .replacen(&BlobDigest::of(config.as_bytes()).to_string(), &BlobDigest::of(edited.as_bytes()).to_string(), 1)
            .replacen(&sized, &format!("\"size\":{}", edited.len()), 1);
        refused(Scene::with_documents(manifest.as_bytes(), edited.as_bytes()).rw(), Case::B13Folded);
    }
    // An index that the image was pulled by can be anybody's: it is read as Go reads it.
    let indexes = |listed: &str| {
        let mut scene = Scene::new();
        let index = format!(r#"{{"schemaVersion":2,"manifests":[],"Manifests":[{{"digest":"{listed}"}}]}}"#);
        let key = format!("manifest-{}", BlobDigest::of(index.as_bytes()));
        scene.s.big_data(&scene.app.id, &key, index.as_bytes());
        scene.s.images[0]["big-data-names"].as_array_mut().unwrap().push(json!(key));
        scene.s.save();
        image(scene.rw()).images[0].indexes.len()
    };
    let own = Scene::new().app.digest().to_string();
    assert_eq!(indexes(&own), 1);
    assert_eq!(indexes(&own.replacen('a', "\\u0061", 1)), 1);
    assert_eq!(indexes(&BlobDigest::of(b"another").to_string()), 0);
}

/// What podman takes config, command and annotations from.
#[test]
fn b05_only_the_manifest_under_its_key_counts() {
    let mut scene = Scene::new();
    let id = scene.app.id.clone();
    // The sealed one is kept, and another one with the same config lies in its place.
    let (text, _) = documents("app", &TARS, |_| json!({}));
    let mut other: Value = serde_json::from_slice(&text).unwrap();
    other["annotations"] = json!({"evil": "1"});
    let other = other.to_string();
    scene.s.big_data(&id, "manifest", other.as_bytes());
    let key = format!("manifest-{}", BlobDigest::of(other.as_bytes()));
    scene.s.big_data(&id, &key, other.as_bytes());
    scene.s.images[0]["big-data-names"].as_array_mut().unwrap().push(json!(key));
    scene.s.save();
    for claimed in [image(scene.rw()), image(scene.ro())] {
        let digests: Vec<_> = claimed.images.iter().map(|c| c.image.digest).collect();
        assert_eq!(digests, [BlobDigest::of(other.as_bytes())]);
    }
    // Where there is none podman finds none.
    std::fs::remove_file(scene.s.big_data_path(&id, "manifest")).unwrap();
    refused(scene.rw(), Case::B05Documents);
    // An index is nothing to take a config from.
    scene.s.big_data(&id, "manifest", br#"{"schemaVersion":2,"manifests":[]}"#);
    scene.s.images[0]["big-data-names"] = json!(["manifest"]);
    scene.s.save();
    refused(scene.rw(), Case::B05Documents);
}

/// An ID that is made of tables of contents says nothing of the config: any record can have it.
#[test]
fn b05_an_id_of_tables_of_contents_does_not_bring_back_the_sealed_config() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let toc = BlobDigest::of(b"table");
    let base = crate::store::layer_id("", &format!("@TOC={}", toc.hex()));
    s.layer(&base, "", json!({"toc-digest": toc.to_string()}));
    let annotate = |_| json!({"io.github.containers.zstd-chunked.manifest-checksum": toc.to_string()});
    let id = BlobDigest::of(format!("@With TOC:{toc}|").as_bytes()).hex();
    let (sealed, _) = documents("app", &["base"], annotate);
    let (evil, config) = documents("evil", &["base"], annotate);
    s.record(&id, "app", &base, &evil, &config);
    let key = format!("manifest-{}", BlobDigest::of(&sealed));
    let (_, config) = documents("app", &["base"], annotate);
    s.big_data(&id, &key, &sealed);
    s.big_data(&id, &BlobDigest::of(&config).to_string(), &config);
    s.images[0]["big-data-names"].as_array_mut().unwrap().push(json!(key));
    let own = s.container("web", &id, &base);
    s.save();
    let claimed = image(s.rw(&own, &[s.of(&base, "diff")]));
    let digests: Vec<_> = claimed.images.iter().map(|c| c.image.digest).collect();
    assert_eq!(digests, [BlobDigest::of(&evil)]);
}

#[test]
fn b04_a_container_is_made_from_the_image_that_it_names() {
    let mut scene = Scene::new();
    let twin = scene.s.image("twin", &TARS);
    scene.s.save();
    let ids = |claimed: layerseal::container_store::ClaimedImage| -> Vec<String> {
        claimed.images.into_iter().map(|c| c.id.into()).collect()
    };
    assert_eq!(ids(image(scene.rw())), [scene.app.id.clone()]);
    assert_eq!(ids(image(scene.ro())).len(), 2);
    // A transient store has its record elsewhere: whoever knows it is asked.
    let transient = random_id("transient");
    scene.s.directory(&transient);
    let call = |known: &dyn Fn(&LayerId) -> Result<Option<ClaimedContainer>>| {
        let lowers = scene.s.lowers(&scene.app.layers).join(":");
        let (upper, work) = (scene.s.of(&transient, "diff"), scene.s.of(&transient, "work"));
        let options = format!("lowerdir={lowers},upperdir={upper},workdir={work}");
        let argv = ["-o", &options, &scene.s.of(&transient, "merged")].map(std::ffi::OsString::from);
        let Invocation::Mount(call) = parse(&argv).unwrap() else { panic!("a version") };
        identify_with(&call, known)
    };
    assert_eq!(ids(image(call(&|_| Ok(None)))).len(), 2);
    let known = ClaimedContainer {
        id: random_id("c").parse().unwrap(),
        names: vec![],
        image: Some(twin.id.parse().unwrap()),
        asked: None,
        place: Default::default(),
    };
    assert_eq!(ids(image(call(&|_| Ok(Some(known.clone()))))), std::slice::from_ref(&twin.id));
    // The run root is one that knows.
    let run = tempfile::tempdir().unwrap();
    let mut records = Store::new(run.path());
    records.volatile_containers.push(json!({"id": random_id("c"), "image": twin.id, "layer": transient,
        "metadata": "{\"image-name\":\"registry.example.com/acme/twin:1\"}"}));
    records.save();
    let claimed = image(call(&|layer| transient_container(run.path(), layer)));
    assert_eq!(claimed.images[0].names.last().unwrap(), "registry.example.com/acme/twin:1");
    assert_eq!(ids(claimed), [twin.id]);
    assert_eq!(transient_container(&run.path().join("nowhere"), &transient.parse().unwrap()).unwrap(), None);
}

#[test]
fn d18_the_name_that_was_asked_for_is_the_container_s() {
    let mut scene = Scene::new();
    let id = scene.app.id.clone();
    let mut asked = |metadata: Value| {
        scene.s.containers[0]["metadata"] = metadata;
        scene.s.save();
        scene.rw().map(|target| match target {
            CallTarget::Image(claimed) => claimed.own.unwrap().container.unwrap().asked,
            other => panic!("{other:?}"),
        })
    };
    let name = |name: &str| Some(RequestedBy::Name(name.to_owned()));
    // As podman 4.3, 5.4 and 5.8 write them.
    let written =
        |name: &str| json!(json!({"image-name": name, "image-id": id, "name": "c", "created-at": 1}).to_string());
    assert_eq!(asked(written("registry.example.com/acme/app:1")).unwrap(), name("registry.example.com/acme/app:1"));
    for id in [&id, &id[..12], &format!("sha256:{id}")] {
        assert_eq!(asked(written(id)).unwrap(), Some(RequestedBy::Id), "{id}");
    }
    // Hex, and not of this image; a name that no image can have.
    assert_eq!(asked(written(&"0".repeat(64))).unwrap(), name(&"0".repeat(64)));
    assert_eq!(asked(written("<rootfs>")).unwrap(), name("<unknown>"));
    for nobody in [json!(null), json!(""), json!("{}"), json!("{\"image-name\":null}"), written("")] {
        assert_eq!(asked(nobody).unwrap(), None);
    }
    for (bad, case) in [
        ("{", Case::B01Records),
        ("[]", Case::B01Records),
        (r#"["registry.example.com/acme/app:1"]"#, Case::B01Records),
        (r#"{"image-name":7}"#, Case::B01Records),
        (r#"{"image-name":"a","image-name":"b"}"#, Case::B01Records),
        (r#"{"image-name":"a","Image-Name":"b"}"#, Case::B13Folded),
        (r#"{"image-name":"a","image-\u004eame":"b"}"#, Case::B13Folded),
    ] {
        assert_eq!(asked(json!(bad)).unwrap_err().case(), case, "{bad}");
    }
}

/// Layers that are no image, and a container that was made from one all the same.
#[test]
fn b12_a_container_whose_layers_are_no_image_has_its_names() {
    let names = |scene: &Scene| layers(scene.rw()).names;
    let mut scene = Scene::new();
    scene.s.containers[0]["metadata"] = json!(json!({"image-name": "registry.example.com/acme/app:1"}).to_string());
    scene.s.images.clear();
    scene.s.save();
    assert_eq!(names(&scene), ["registry.example.com/acme/app:1", "<unknown>"]);
    scene.s.containers[0]["metadata"] = json!("");
    scene.s.save();
    assert_eq!(names(&scene), ["<unknown>"]);
    // Made from nothing, and a layer that is being made: nobody's.
    scene.s.containers[0]["image"] = json!("");
    scene.s.save();
    assert_eq!(names(&scene), [""; 0]);
    scene.s.containers.clear();
    scene.s.save();
    assert_eq!(names(&scene), [""; 0]);
    // No record at all: a container's in a transient store.
    scene.s.layers.retain(|l| l["id"] != scene.own.as_str());
    scene.s.save();
    assert_eq!(names(&scene), ["<unknown>"]);
}

#[test]
fn b07_a_digest_on_record_that_is_none_is_a_refusal() {
    let mut scene = Scene::new();
    scene.s.images.clear();
    scene.s.layers[0]["diff-digest"] = json!("sha256:nothing");
    scene.s.save();
    refused(scene.rw(), Case::B07Digest);
    refused(scene.ro(), Case::B07Digest);
}

/// What is denied is told by documents: the ID of an image need not be its config's digest.
#[test]
fn f06_what_an_image_is_is_told_by_its_documents() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let toc = BlobDigest::of(b"table");
    let base = crate::store::layer_id("", &format!("@TOC={}", toc.hex()));
    s.layer(&base, "", json!({"toc-digest": toc.to_string()}));
    let annotate = |_| json!({"io.github.containers.zstd-chunked.manifest-checksum": toc.to_string()});
    let id = BlobDigest::of(format!("@With TOC:{toc}|").as_bytes()).hex();
    let (manifest, config) = documents("app", &["base"], annotate);
    s.record(&id, "app", &base, &manifest, &config);
    let index =
        json!({"schemaVersion": 2, "manifests": [{"digest": BlobDigest::of(&manifest).to_string()}]}).to_string();
    let list = random_id("list");
    s.big_data(&list, "manifest", index.as_bytes());
    s.images.push(json!({"id": list, "names": ["registry.example.com/acme/list:1"], "big-data-names": ["manifest"]}));
    s.container("web", &id, &base);
    s.save();
    let of = |s: &Store| {
        let container = random_id("container web");
        let stored = layerseal::container_store::stored_container(&s.root, "overlay", &container, &[]);
        stored.and_then(|stored| stored.unwrap().facts()).map(|facts| serde_json::to_string(&facts).unwrap())
    };
    let facts = of(&s).unwrap();
    for digest in
        [BlobDigest::of(&config), BlobDigest::of(&manifest), BlobDigest::of(b"base"), BlobDigest::of(index.as_bytes())]
    {
        assert!(facts.contains(&digest.to_string()), "{digest}: {facts}");
    }
    // What cannot be read may be denied.
    std::fs::remove_file(s.big_data_path(&id, "manifest")).unwrap();
    assert_eq!(of(&s).unwrap_err().case(), Case::B05Documents);
    s.images.clear();
    s.save();
    assert!(of(&s).unwrap().contains(&format!("sha256:{id}")));
    s.containers[0]["image"] = json!("no-digest");
    s.save();
    assert_eq!(of(&s).unwrap_err().case(), Case::B07Digest);
}
