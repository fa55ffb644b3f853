//! Every form in which podman, CRI-O and buildah call, and what it means.

use layerseal::container_store::{CallTarget, Tie};
use layerseal::digest::BlobDigest;
use layerseal::error::Case;
use serde_json::json;

use crate::store::{self, Store, call, documents, image, layers, random_id, refused};

const TARS: [&str; 3] = ["base", "middle", "top"];

#[test]
fn a_container_to_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let app = s.image("app", &TARS);
    let own = s.container("web", &app.id, app.top());
    s.save();
    let claimed = image(s.rw(&own, &s.lowers(&app.layers)));
    assert_eq!(claimed.images.len(), 1);
    assert_eq!(claimed.images[0].image.digest, app.digest());
    assert_eq!(claimed.images[0].id, app.id);
    assert_eq!(claimed.images[0].names, ["localhost/app:v1"]);
    assert!(claimed.images[0].claimed_by_container);
    let ids: Vec<_> = claimed.layers.iter().map(|l| l.id.clone()).collect();
    assert_eq!(ids, app.layers);
    for (layer, diff_id) in claimed.layers.iter().zip(&app.diff_ids) {
        assert_eq!(layer.diff_id, Some(*diff_id));
        assert_eq!((layer.tie, layer.shifted), (Tie::DiffId, false));
        assert_eq!(layer.path.display().to_string(), s.of(layer.id.as_str(), "diff"));
    }
    let over = claimed.own.unwrap();
    assert_eq!(over.id, own);
    assert!(over.work.is_some());
    assert_eq!(over.container.unwrap().names, ["web"]);
}

#[test]
fn short_names_relative_and_absolute() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let app = s.image("app", &TARS);
    let own = s.container("web", &app.id, app.top());
    s.save();
    let short: Vec<_> = app.layers.iter().rev().map(|id| s.short(id)).collect();
    assert_eq!(image(s.rw(&own, &short)).layers.len(), 3);
    let relative: Vec<_> = app.layers.iter().rev().map(|id| format!("l/{}", store::link_name(id))).collect();
    assert_eq!(image(s.rw(&own, &relative)).layers.len(), 3);
    let mapped: Vec<_> = relative.iter().map(|l| s.of(&own, &format!("mapped/0/{l}"))).collect();
    assert_eq!(image(s.rw(&own, &mapped)).layers.len(), 3);
}

#[test]
fn a_volatile_container() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let app = s.image("app", &TARS);
    let own = s.container("web", &app.id, app.top());
    s.volatile_containers = std::mem::take(&mut s.containers);
    s.volatile_layers = vec![s.layers.pop().unwrap()];
    s.save();
    let claimed = image(s.rw(&own, &s.lowers(&app.layers)));
    assert!(claimed.images[0].claimed_by_container);
}

/// In a transient store the records of containers are in the run root, which nobody names to us.
#[test]
fn a_transient_container_without_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let app = s.image("app", &TARS);
    let own = random_id("transient");
    s.directory(&own);
    s.save();
    let claimed = image(s.rw(&own, &s.lowers(&app.layers)));
    assert!(!claimed.images[0].claimed_by_container);
    assert_eq!(claimed.own.unwrap().container, None);
}

#[test]
fn a_mounted_image() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let app = s.image("app", &TARS);
    let small = s.image("small", &["one"]);
    s.save();
    let claimed = image(s.ro(app.top(), &s.lowers(&app.layers)));
    assert!(claimed.own.is_none());
    assert_eq!(claimed.layers.len(), 3);
    let claimed = image(s.ro(small.top(), &[s.of(small.top(), "diff"), s.of(small.top(), "empty")]));
    assert_eq!(claimed.images[0].id, small.id);
}

#[test]
fn a_container_to_be_compared() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let app = s.image("app", &TARS);
    let own = s.container("web", &app.id, app.top());
    s.save();
    let mut lowers = s.lowers(&app.layers);
    lowers.insert(0, s.of(&own, "diff"));
    let claimed = image(s.ro(&own, &lowers));
    assert_eq!(claimed.layers.len(), 3);
    let over = claimed.own.unwrap();
    assert_eq!(over.id, own);
    assert!(over.work.is_none() && over.container.is_some());
}

#[test]
fn b12_layers_that_are_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let app = s.image("app", &TARS);
    s.save();
    // `podman diff` looks at every layer.
    let claimed = layers(s.ro(&app.layers[1], &s.lowers(&app.layers[..2])));
    assert_eq!(claimed.layers.len(), 2);
    assert_eq!(claimed.layers[1].diff_id, Some(app.diff_ids[1]));
    // podman 4.3 asks for the layers to be writable for that; the uppermost is the image.
    let claimed = layers(s.rw(&app.layers[1], &s.lowers(&app.layers[..1])));
    assert!(claimed.own.unwrap().container.is_none());
    let claimed = image(s.rw(app.top(), &s.lowers(&app.layers[..2])));
    assert!(claimed.own.is_none());
    assert_eq!(claimed.layers.len(), 3);
}

#[test]
fn b12_a_container_from_scratch() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let own = s.container("working-container", "", "");
    s.save();
    let claimed = layers(s.rw(&own, &[s.of(&own, "empty")]));
    assert!(claimed.layers.is_empty());
}

#[test]
fn b12_copies_for_other_user_ids() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let app = s.image("app", &TARS);
    let copy = random_id("copy");
    let (parent, record) = (app.layers[1].clone(), json!({"diff-digest": app.diff_ids[2].to_string()}));
    s.layer(&copy, &parent, record);
    s.images[0]["mapped-layers"] = json!([copy]);
    let own = s.container("web", &app.id, &copy);
    s.save();
    // The chain that its `lower` file has: the copy, its old content, and its template below.
    let below = s.lowers(&app.layers);
    let rw = |first: &[String]| s.rw(&own, &[first, below.as_slice()].concat());
    let old = s.of(&copy, "diff1");
    std::fs::create_dir(&old).unwrap();
    let shifted = layers(rw(&[s.of(&copy, "diff"), s.of(&copy, "diff/../diff1")]));
    assert!(shifted.layers.last().unwrap().shifted);
    assert_eq!(shifted.layers.last().unwrap().tie, Tie::Record);
    assert_eq!(shifted.copies.len(), 2 + below.len());
    layers(rw(&[s.short(&copy), format!("{}/../diff1", s.short(&copy))]));
    // They are opened like any other: beneath the store, through no symlink.
    std::fs::remove_dir(&old).unwrap();
    std::os::unix::fs::symlink("/etc", &old).unwrap();
    refused(rw(&[s.of(&copy, "diff"), s.of(&copy, "diff1")]), Case::B09Replaced);
    layers(rw(&[s.of(&copy, "diff")]));
    // The call that makes the copy, before there is a record of a container.
    layers(s.rw(&copy, &below));
    // A copy without old content beside it is the image, with a random ID.
    let claimed = image(s.rw(&own, &[s.of(&copy, "diff"), below[1].clone(), below[2].clone()]));
    assert_eq!(claimed.layers[2].tie, Tie::Record);
}

#[test]
fn b10_additional_stores() {
    let dir = tempfile::tempdir().unwrap();
    let mut extra = Store::new(&dir.path().join("extra"));
    let mut s = Store::new(&dir.path().join("primary"));
    let app = extra.image("app", &TARS);
    let own = s.container("web", &app.id, app.top());
    // An image of the primary store on layers of the other.
    let diff_id = BlobDigest::of(b"added");
    let added = store::layer_id(app.top(), &diff_id.hex());
    s.layer(&added, app.top(), json!({"diff-digest": diff_id.to_string()}));
    let (manifest, config) = documents("built", &["base", "middle", "top", "added"], |_| json!({}));
    s.record(&BlobDigest::of(&config).hex(), "built", &added, &manifest, &config);
    let built = s.container("built", &BlobDigest::of(&config).hex(), &added);
    extra.save();
    s.save();

    let claimed = image(s.rw(&own, &extra.lowers(&app.layers)));
    assert_eq!(claimed.images[0].store, extra.root);
    assert!(claimed.images[0].claimed_by_container);
    let mut lowers = extra.lowers(&app.layers);
    lowers.insert(0, s.of(&added, "diff"));
    assert_eq!(image(s.rw(&built, &lowers)).images[0].image.layers.len(), 4);
    // Newer versions mount an additional store's image in the run root.
    let target = dir.path().join("run/overlay").join(app.top()).join("merged");
    std::fs::create_dir_all(&target).unwrap();
    let options = format!("lowerdir={}", extra.lowers(&app.layers).join(":"));
    assert_eq!(image(call(&options, &target.display().to_string())).layers.len(), 3);
    // The same verdicts there.
    extra.layers[1]["diff-digest"] = json!(BlobDigest::of(b"other").to_string());
    extra.save();
    refused(s.rw(&own, &extra.lowers(&app.layers)), Case::B02DiffDigest);
}

#[test]
fn a08_volumes_are_no_images() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("overlay-containers/x/userdata/overlay/1730243760/merge");
    let options = "lowerdir=/src\\:x,upperdir=/v/upper,workdir=/v/work,private";
    assert!(matches!(call(options, &target.display().to_string()), Ok(CallTarget::Volume)));
    for target in ["/mnt/merged", "merged"] {
        refused(call(options, target), Case::A08Target);
    }
}

#[test]
fn b04_images_that_share_their_layers() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let one = s.image("one", &TARS);
    let two = s.image("two", &TARS);
    let own = s.container("web", &two.id, two.top());
    s.save();
    let claimed = image(s.rw(&own, &s.lowers(&two.layers)));
    let ids: Vec<_> = claimed.images.iter().map(|c| (c.id.as_str(), c.claimed_by_container)).collect();
    assert_eq!(ids, [(two.id.as_str(), true)]);
    let claimed = image(s.ro(one.top(), &s.lowers(&one.layers)));
    assert_eq!(claimed.images.len(), 2);
}

/// The same config, compressed in another way elsewhere: one image ID, two manifests, of which podman uses one.
#[test]
fn b04_manifests_of_one_image() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let app = s.image("app", &TARS);
    let (other, _) = documents("app", &TARS, |_| json!({"other": "registry"}));
    let key = format!("manifest-{}", BlobDigest::of(&other));
    s.big_data(&app.id, &key, &other);
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": app.manifest.len(),
         "digest": app.digest().to_string()}]})
    .to_string();
    let index_key = format!("manifest-{}", BlobDigest::of(index.as_bytes()));
    s.big_data(&app.id, &index_key, index.as_bytes());
    let names = s.images[0]["big-data-names"].as_array_mut().unwrap();
    names.extend([json!(key), json!(index_key)]);
    s.save();
    let claimed = image(s.ro(app.top(), &s.lowers(&app.layers)));
    let digests: Vec<_> = claimed.images.iter().map(|c| c.image.digest).collect();
    assert_eq!(digests, [app.digest()]);
    assert_eq!(claimed.images[0].indexes, [BlobDigest::of(index.as_bytes())]);
}

#[test]
fn layers_known_by_their_table_of_contents() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Store::new(dir.path());
    let toc = BlobDigest::of(b"table");
    let base = store::layer_id("", &format!("@TOC={}", toc.hex()));
    s.layer(&base, "", json!({"toc-digest": toc.to_string()}));
    let top_id = BlobDigest::of(b"top");
    let top = store::layer_id(&base, &top_id.hex());
    s.layer(&top, &base, json!({"diff-digest": top_id.to_string()}));
    let annotation = "io.github.containers.zstd-chunked.manifest-checksum";
    let annotate = |at| if at == 0 { json!({annotation: toc.to_string()}) } else { json!({}) };
    let (manifest, config) = documents("app", &["base", "top"], annotate);
    let id = BlobDigest::of(format!("@With TOC:{toc}||").as_bytes()).hex();
    s.record(&id, "app", &top, &manifest, &config);
    s.save();
    let lowers = s.lowers(&[base.clone(), top.clone()]);
    let claimed = image(s.ro(&top, &lowers));
    assert_eq!(claimed.layers[0].tie, Tie::Toc);
    assert_eq!(claimed.layers[0].diff_id, Some(BlobDigest::of(b"base")));

    // An image of the same config whose manifest names no such table.
    s.images.clear();
    let (manifest, config) = documents("app", &["base", "top"], |_| json!({}));
    s.record(&id, "app", &top, &manifest, &config);
    s.save();
    refused(s.ro(&top, &lowers), Case::B02DiffDigest);
}
