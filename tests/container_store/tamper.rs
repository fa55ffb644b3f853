//! Stores that somebody wrote to. What is refused here never reaches a signature; what is not is
//! caught there.

use std::os::unix::fs::symlink;
use std::path::Path;

use layerseal::digest::BlobDigest;
use layerseal::error::Case;
use serde_json::json;
use tempfile::TempDir;

use crate::store::{Store, Stored, documents, image, layers, random_id, refused};

const TARS: [&str; 3] = ["base", "middle", "top"];

/// A store with an image, another one, and a container of the first.
pub struct Scene {
    _dir: TempDir,
    pub s: Store,
    pub app: Stored,
    pub other: Stored,
    pub own: String,
}

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut s = Store::new(dir.path());
        let app = s.image("app", &TARS);
        let other = s.image("other", &["base", "else"]);
        let own = s.container("web", &app.id, app.top());
        s.save();
        let scene = Self { _dir: dir, s, app, other, own };
        image(scene.rw());
        image(scene.ro());
        scene
    }

    pub fn rw(&self) -> layerseal::error::Result<layerseal::container_store::CallTarget> {
        self.s.rw(&self.own, &self.s.lowers(&self.app.layers))
    }

    pub fn ro(&self) -> layerseal::error::Result<layerseal::container_store::CallTarget> {
        self.s.ro(self.app.top(), &self.s.lowers(&self.app.layers))
    }

    /// Both the container and the image are refused.
    #[track_caller]
    pub fn refused(&self, case: Case) {
        refused(self.rw(), case);
        refused(self.ro(), case);
    }

    pub fn replace(&self, path: &str, with: &Path) {
        let path = self.s.path(path);
        std::fs::rename(&path, path.with_extension("old")).unwrap();
        symlink(with, path).unwrap();
    }
}

#[test]
fn b01_records_that_cannot_be_read() {
    for file in ["overlay-layers/layers.json", "overlay-images/images.json", "overlay-containers/containers.json"] {
        let scene = Scene::new();
        let path = scene.s.path(file);
        let whole = std::fs::read(&path).unwrap();
        let deep = [br#"[{"id":"x","metadata":"#.as_slice(), &b"[".repeat(1 << 20)].concat();
        for bad in [
            &whole[..whole.len() / 2],
            &whole[..whole.len() - 1],
            b"{}",
            b"[1]",
            b"\xef\xbb\xbf[]",
            b"[] []",
            b"[{\"id\":1}]",
            br#"[{"id":"a","id":"b"}]"#,
            br#"[{"id":"a"},{"id":"a"}]"#,
            &b"[".repeat(1 << 20),
            &deep,
        ] {
            std::fs::write(&path, bad).unwrap();
            scene.refused(Case::B01Records);
        }
        // Larger than the budget, and not read at all.
        let sparse = std::fs::File::create(&path).unwrap();
        sparse.set_len(1 << 40).unwrap();
        scene.refused(Case::B01Records);
        // Nothing to wait for.
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        scene.refused(Case::B01Records);
    }
}

#[test]
fn b01_a_layer_or_container_twice() {
    let mut scene = Scene::new();
    scene.s.volatile_layers = vec![scene.s.layers[0].clone()];
    scene.s.save();
    scene.refused(Case::B01Records);

    let mut scene = Scene::new();
    let mut twin = scene.s.containers[0].clone();
    twin["id"] = json!(random_id("twin"));
    scene.s.containers.push(twin);
    scene.s.save();
    refused(scene.rw(), Case::B01Records);
}

#[test]
fn b02_diff_digest_of_another_layer() {
    for at in 0..3 {
        let mut scene = Scene::new();
        scene.s.layers[at]["diff-digest"] = json!(BlobDigest::of(b"else").to_string());
        scene.s.save();
        scene.refused(Case::B02DiffDigest);
    }
    let mut scene = Scene::new();
    scene.s.layers[0]["diff-digest"] = json!("sha256:../../x");
    scene.s.save();
    scene.refused(Case::B07Digest);
}

#[test]
fn b03_top_layer_repointed() {
    // Another image claims our layers: nobody knows which one is meant, unless a container says so.
    let mut scene = Scene::new();
    scene.s.images[1]["layer"] = json!(scene.app.top());
    scene.s.save();
    refused(scene.ro(), Case::B03Layers);
    image(scene.rw());

    // The container's image claims another's: shown would be what nobody asked for.
    let mut scene = Scene::new();
    scene.s.images[0]["layer"] = json!(scene.other.top());
    scene.s.save();
    refused(scene.rw(), Case::B03Layers);
    let lowers = scene.s.lowers(&scene.other.layers);
    refused(scene.s.ro(scene.other.top(), &lowers), Case::B03Layers);

    // The container's layer was moved onto another image, and so the caller calls.
    let mut scene = Scene::new();
    scene.s.layers.iter_mut().find(|l| l["id"] == scene.own).unwrap()["parent"] = json!(scene.other.top());
    scene.s.save();
    let lowers = scene.s.lowers(&scene.other.layers);
    refused(scene.s.rw(&scene.own, &lowers), Case::B03Layers);
    refused(scene.rw(), Case::B08Lowers);
}

#[test]
fn b03_layers_of_the_same_number() {
    // With as many layers as the image, so that only the IDs tell.
    let mut scene = Scene::new();
    let third = scene.s.image("third", &["base", "x", "y"]);
    scene.s.images[0]["layer"] = json!(third.top());
    scene.s.save();
    let lowers = scene.s.lowers(&third.layers);
    refused(scene.s.ro(third.top(), &lowers), Case::B03Layers);
    // And with the record edited to fit: the ID is then a random one, and the content will tell.
    for (at, diff_id) in scene.app.diff_ids.iter().enumerate().skip(1) {
        let id = &third.layers[at];
        scene.s.layers.iter_mut().find(|l| l["id"] == *id).unwrap()["diff-digest"] = json!(diff_id.to_string());
    }
    scene.s.images.pop();
    scene.s.save();
    let claimed = image(scene.s.ro(third.top(), &lowers));
    assert!(claimed.layers[1..].iter().all(|l| l.tie == layerseal::container_store::Tie::Record));
}

/// A record of a container would let an image's layer pass for the container's own.
#[test]
fn b03_an_image_layer_passed_off_as_a_containers() {
    let mut scene = Scene::new();
    let base = scene.s.image("base", &["base", "middle"]);
    scene.s.containers[0]["layer"] = json!(scene.app.top());
    scene.s.containers[0]["image"] = json!(base.id);
    scene.s.save();
    refused(scene.ro(), Case::B03Layers);
}

#[test]
fn b03_layer_without_any_digest() {
    let mut scene = Scene::new();
    let id = random_id("nothing");
    scene.s.layer(&id, &scene.app.layers[1], json!({}));
    scene.s.images[0]["layer"] = json!(id);
    scene.s.containers.clear();
    scene.s.save();
    let mut lowers = scene.s.lowers(&scene.app.layers[..2]);
    lowers.insert(0, scene.s.of(&id, "diff"));
    refused(scene.s.ro(&id, &lowers), Case::B03Layers);
}

#[test]
fn b05_documents_edited() {
    let (manifest, config) = documents("app", &TARS, |_| json!({}));
    let edit = |bytes: &[u8], from: &str, to: &str| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains(from));
        text.replace(from, to).into_bytes()
    };
    let config_key = BlobDigest::of(&config).to_string();
    let scene = Scene::new();
    scene.s.big_data(&scene.app.id, &config_key, &edit(&config, "app", "sh!"));
    scene.refused(Case::B05Documents);

    let scene = Scene::new();
    scene.s.big_data(&scene.app.id, "manifest", &edit(&manifest, "oci.image.layer", "oci.image.layeR"));
    scene.refused(Case::B05Documents);

    let scene = Scene::new();
    let key = format!("manifest-{}", scene.app.digest());
    scene.s.big_data(&scene.app.id, &key, b"{}");
    scene.refused(Case::B05Documents);

    // Both whole, but another image's: nothing fits the ID.
    let mut scene = Scene::new();
    let id = scene.app.id.clone();
    scene.s.images.remove(0);
    let (manifest, config) = documents("evil", &TARS, |_| json!({}));
    scene.s.record(&id, "app", scene.app.top(), &manifest, &config);
    scene.s.save();
    scene.refused(Case::B05Documents);

    let scene = Scene::new();
    std::fs::remove_file(scene.s.big_data_path(&scene.app.id, &config_key)).unwrap();
    scene.refused(Case::B05Documents);
}

#[test]
fn b05_big_data_beyond_the_budget() {
    let scene = Scene::new();
    let file = std::fs::File::create(scene.s.big_data_path(&scene.app.id, "manifest")).unwrap();
    file.set_len(1 << 40).unwrap();
    scene.refused(Case::B01Records);

    let mut scene = Scene::new();
    let names: Vec<_> = (0..65).map(|i| format!("manifest-{}", BlobDigest::of(&[i]))).collect();
    scene.s.images[0]["big-data-names"] = json!(names);
    scene.s.save();
    scene.refused(Case::B05Documents);
}

#[test]
fn b06_manifest_that_is_an_index_too() {
    let mut scene = Scene::new();
    let (manifest, config) = documents("app", &TARS, |_| json!({}));
    let both = String::from_utf8(manifest).unwrap().replacen('{', r#"{"manifests":[],"#, 1);
    let id = scene.app.id.clone();
    scene.s.images.remove(0);
    scene.s.record(&id, "app", scene.app.top(), both.as_bytes(), &config);
    scene.s.save();
    scene.refused(Case::B06Ambiguous);
}

#[test]
fn b07_ids_and_digests_that_lead_elsewhere() {
    let mut scene = Scene::new();
    scene.s.images[0]["id"] = json!("../overlay-containers");
    scene.s.save();
    refused(scene.ro(), Case::B01Records);

    let mut scene = Scene::new();
    scene.s.images[0]["big-data-names"] = json!(["manifest", "manifest-sha256:../../x"]);
    scene.s.save();
    scene.refused(Case::B07Digest);
}

/// The caller holds the locks: whoever opens one waits for ever. Here nothing can open them.
#[test]
fn b11_locks_are_left_alone() {
    let scene = Scene::new();
    for name in ["storage.lock", "overlay-layers/layers.lock", "overlay-images/images.lock"] {
        std::fs::create_dir(scene.s.path(name)).unwrap();
    }
    image(scene.rw());
    image(scene.ro());
}

#[test]
fn b11_layers_that_are_gone_or_incomplete() {
    let scene = Scene::new();
    std::fs::remove_dir_all(scene.s.path(&format!("overlay/{}", scene.app.layers[1]))).unwrap();
    scene.refused(Case::B11Gone);

    let mut scene = Scene::new();
    scene.s.layers[1]["flags"] = json!({"incomplete": true});
    scene.s.save();
    scene.refused(Case::B11Gone);

    // Without its record a layer is nobody's.
    let mut scene = Scene::new();
    scene.s.layers.remove(1);
    scene.s.save();
    scene.refused(Case::B08Lowers);
}

/// Without the image's record nobody can say what this is; a seal cannot be found, and that is all.
#[test]
fn b12_image_record_removed() {
    let mut scene = Scene::new();
    scene.s.images.remove(0);
    scene.s.save();
    layers(scene.rw());
    layers(scene.ro());
    // Another image of the same layers is not taken for it.
    scene.s.image("twin", &TARS);
    scene.s.save();
    layers(scene.rw());
}

#[test]
fn a03_five_hundred_layers() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let tars: Vec<String> = (0..500).map(|i| format!("layer {i}")).collect();
    let app = s.image("deep", &tars.iter().map(String::as_str).collect::<Vec<_>>());
    let own = s.container("web", &app.id, app.top());
    s.save();
    assert_eq!(image(s.rw(&own, &s.lowers(&app.layers))).layers.len(), 500);
}
