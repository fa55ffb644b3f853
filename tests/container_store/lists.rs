//! What lists of images say about others, and what other images must not say.

use layerseal::container_store::{CallTarget, ClaimedImage, stored_container};
use layerseal::digest::BlobDigest;
use layerseal::error::Result;
use serde_json::json;

use crate::go::Scene;
use crate::store::{image, random_id};

const LIST: &str = "registry.example.com/acme/list:1";

impl Scene {
    /// Adds a record without layers, or changes its manifest.
    fn other(&mut self, name: &str, manifest: &[u8]) {
        let id = random_id(name);
        self.s.big_data(&id, "manifest", manifest);
        if self.s.images.iter().all(|i| i["id"] != id.as_str()) {
            self.s.images.push(json!({"id": id, "names": [name], "big-data-names": ["manifest"]}));
        }
        self.s.save();
    }

    /// What the image can be denied by.
    fn facts(&self) -> Result<String> {
        let stored = stored_container(&self.s.root, "overlay", &random_id("container web"), &[]);
        stored.and_then(|stored| stored.unwrap().facts()).map(|facts| serde_json::to_string(&facts).unwrap())
    }

    /// The image, as a container's whose maker says which name was asked for, as one whose maker does not, and by itself.
    fn claimed(&mut self) -> [ClaimedImage; 3] {
        let of = |target: Result<CallTarget>| image(target);
        let nobody_says = of(self.rw());
        self.s.containers[0]["metadata"] = json!(json!({"image-name": "localhost/app:v1"}).to_string());
        self.s.save();
        let asked = of(self.rw());
        self.s.containers[0]["metadata"] = json!("");
        self.s.save();
        [asked, nobody_says, of(self.ro())]
    }
}

/// Every one was taken for a list of every image, and added its name and its rule to all.
#[test]
fn d18_f06_c03_what_somebody_pulled_says_nothing_about_other_images() {
    let mut scene = Scene::new();
    let own = scene.app.digest();
    let hostile = [
        r#"{"schemaVersion":2,"layers":[],"SUBJECT":null,"x":"\u0061"}"#.to_owned(),
        format!(r#"{{"SUBJECT":null,"x":"{own}"}}"#),
        format!(r#"{{"x":1,"x":"{own}","annotations":{{"manifests":[{{"digest":"{own}"}}]}}}}"#),
        format!(r#"{{"x":"\ud800{own}"}}"#),
        format!("{{\"x\":{}\"{own}\"{}}}", "[".repeat(500), "]".repeat(500)),
        // podman pulls this as an image: for Go there is no list in it.
        format!(r#"{{"manifests":[{{"digest":"{own}"}}],"Manifests":null}}"#),
        format!(r#"{{"man\u0130fests":[{{"digest":"{own}"}}],"layers":[{{"digest":"{own}"}}]}}"#),
    ];
    for (number, manifest) in hostile.iter().enumerate() {
        scene.other(&format!("evil.example.com/x/{number}:1"), manifest.as_bytes());
    }
    for claimed in scene.claimed() {
        assert_eq!(claimed.images[0].names, ["localhost/app:v1"]);
        assert!(claimed.images[0].indexes.is_empty());
    }
    let facts = scene.facts().unwrap();
    for manifest in &hostile {
        assert!(!facts.contains(&BlobDigest::of(manifest.as_bytes()).to_string()), "{manifest}");
    }
    // More than was once read of all of them together.
    for number in 0..9 {
        let manifest = format!("{{\"x\":\"{own}\\u0061\"}}{}", " ".repeat((4 << 20) - 128));
        scene.other(&format!("evil.example.com/x/padded{number}:1"), manifest.as_bytes());
    }
    assert_eq!(image(scene.ro()).images[0].names, ["localhost/app:v1"]);
    assert_eq!(scene.facts().unwrap(), facts);
}

/// One document can be that of any number of records, and of one image by any number of digests.
#[test]
fn c03_large_lists_keep_no_image_from_starting() {
    let mut scene = Scene::new();
    let entry = |n: usize| json!({"digest": BlobDigest::of(&n.to_le_bytes()).to_string(), "size": 1});
    let index = json!({"schemaVersion": 2, "manifests": (0..20_000).map(entry).collect::<Vec<_>>()}).to_string();
    let digests: serde_json::Map<String, serde_json::Value> = (0..20_000)
        .map(|n: usize| (format!("manifest-x{n}"), json!(BlobDigest::of(&(n + 30_000).to_le_bytes()).to_string())))
        .collect();
    scene.s.images[0]["big-data-digests"] = digests.into();
    scene.other("registry.example.com/acme/long:1", index.as_bytes());
    let large = vec![b' '; 4 << 20];
    for number in 0..12 {
        scene.other(&format!("evil.example.com/x/{number}:1"), &large);
    }
    // Larger than a registry's.
    let list = format!("{{\"manifests\":[{{\"digest\":\"{}\"}}]}}{}", scene.app.digest(), " ".repeat(6 << 20));
    scene.other(LIST, list.as_bytes());
    let claimed = image(scene.ro());
    assert_eq!(claimed.images[0].names, ["localhost/app:v1", LIST]);
    assert_eq!(claimed.images[0].indexes, [BlobDigest::of(list.as_bytes())]);
}

/// The index by which somebody pulled a copy is added to the record of the image.
#[test]
fn b13_c03_an_index_of_somebody_else_keeps_the_image_that_it_lists_from_nothing() {
    let mut scene = Scene::new();
    let (id, own) = (scene.app.id.clone(), scene.app.digest());
    let indexes = [
        format!(r#"{{"manifests":[{{"digest":"{own}"}}],"SUBJECT":null,"x":1,"x":2}}"#),
        format!(r#"{{"Manifests":[{{"dige\u017ft":"{own}"}}]}}{}"#, " ".repeat((4 << 20) - 256)),
        format!(r#"{{"manifests":[{{"size":1,"digest":"{own}"}}]}}{}"#, " ".repeat((4 << 20) - 256)),
    ];
    let mut keys = vec!["manifest".to_owned(), format!("manifest-{own}")];
    scene.s.big_data(&id, &keys[1], &scene.app.manifest);
    for index in &indexes {
        keys.push(format!("manifest-{}", BlobDigest::of(index.as_bytes())));
        scene.s.big_data(&id, keys.last().unwrap(), index.as_bytes());
    }
    keys.push(scene.s.images[0]["big-data-names"][1].as_str().unwrap().to_owned());
    scene.s.images[0]["big-data-names"] = json!(keys);
    scene.s.save();
    let facts = scene.facts().unwrap();
    for claimed in scene.claimed() {
        for index in &indexes {
            let digest = BlobDigest::of(index.as_bytes());
            assert!(claimed.images[0].indexes.contains(&digest), "{index}");
            assert!(facts.contains(&digest.to_string()), "{index}");
        }
    }
}

/// A list takes a name, and podman resolves it to the image of its instance.
#[test]
fn d18_names_of_lists_are_names_of_their_instances() {
    for honest in [true, false] {
        let mut scene = Scene::new();
        let digest = if honest { scene.app.digest() } else { BlobDigest::of(b"another manifest") };
        let index = json!({"schemaVersion": 2, "manifests": [{"digest": digest.to_string(), "size": 1,
            "mediaType": "application/vnd.oci.image.manifest.v1+json"}]})
        .to_string();
        let list = random_id("list");
        scene.s.big_data(&list, "manifest", index.as_bytes());
        scene.s.big_data(&list, "instances.json", b"{}");
        scene.s.images.push(json!({"id": list, "names": [LIST],
            "big-data-names": ["manifest", "instances.json"]}));
        // podman believes what the record says of its digests.
        if !honest {
            scene.s.images[0]["digest"] = json!(digest.to_string());
        }
        scene.s.save();
        let claimed = image(scene.ro());
        assert!(claimed.images[0].names.contains(&LIST.to_owned()));
        let indexes: &[BlobDigest] = if honest { &[BlobDigest::of(index.as_bytes())] } else { &[] };
        assert_eq!(claimed.images[0].indexes, indexes);
        // In a disguise: a record with a layer.
        scene.s.images[1] = json!({"id": list, "names": [LIST], "layer": random_id("x")});
        scene.s.save();
        assert!(image(scene.ro()).images[0].names.contains(&LIST.to_owned()));
        // Of others it is not.
        scene.s.images[0]["digest"] = json!(null);
        let other = index.replace(&digest.to_string(), &BlobDigest::of(b"x").to_string());
        scene.s.big_data(&list, "manifest", other.as_bytes());
        scene.s.save();
        assert_eq!(image(scene.ro()).images[0].names, ["localhost/app:v1"]);
        // What is no list for podman is none; what it reads otherwise is read like that.
        scene.s.big_data(&list, "manifest", b"not JSON");
        image(scene.ro());
        let folded = |listed: &BlobDigest| format!(r#"{{"manifests":[],"Manifests":[{{"digest":"{listed}"}}]}}"#);
        scene.s.big_data(&list, "manifest", folded(&BlobDigest::of(b"x")).as_bytes());
        image(scene.ro());
        scene.s.big_data(&list, "manifest", folded(&scene.app.digest()).as_bytes());
        let claimed = image(scene.ro());
        assert_eq!(claimed.images[0].names, ["localhost/app:v1", LIST]);
        assert_eq!(claimed.images[0].indexes.len(), 1);
    }
}
