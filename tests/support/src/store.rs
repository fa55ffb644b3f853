//! Container stores written by hand, file for file as podman writes them, so that they can be wrong
//! on purpose.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use layerseal::container_store::{CallTarget, ClaimedImage, ClaimedLayers, identify};
use layerseal::digest::BlobDigest;
use layerseal::error::{Case, Result};
use layerseal::protocol::{Invocation, parse};
use serde_json::{Value, json};

/// Makes an ID that is not the digest of anything in the store.
pub fn random_id(seed: &str) -> String {
    BlobDigest::of(format!("random {seed}").as_bytes()).hex()
}

/// Returns the ID that containers-storage computes for a layer.
pub fn layer_id(parent: &str, component: &str) -> String {
    match (parent, component.starts_with('@')) {
        ("", false) => component.to_owned(),
        _ => BlobDigest::of(format!("{parent}+{component}").as_bytes()).hex(),
    }
}

/// Returns the short name of a layer's directory.
pub fn link_name(id: &str) -> String {
    let letter = |b: u8| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(b) % 32]);
    BlobDigest::of(id.as_bytes()).as_bytes()[..26].iter().map(|b| letter(*b)).collect()
}

/// An image in a store.
#[derive(Clone)]
pub struct Stored {
    pub id: String,
    /// The layers, lowest first.
    pub layers: Vec<String>,
    pub diff_ids: Vec<BlobDigest>,
    pub manifest: Vec<u8>,
}

impl Stored {
    pub fn top(&self) -> &str {
        self.layers.last().unwrap()
    }

    pub fn digest(&self) -> BlobDigest {
        BlobDigest::of(&self.manifest)
    }
}

/// Records and directories of a store.
pub struct Store {
    pub root: PathBuf,
    pub layers: Vec<Value>,
    pub volatile_layers: Vec<Value>,
    pub images: Vec<Value>,
    pub containers: Vec<Value>,
    pub volatile_containers: Vec<Value>,
}

impl Store {
    pub fn new(root: &Path) -> Self {
        for dir in ["overlay/l", "overlay-layers", "overlay-images", "overlay-containers"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        Self {
            root: root.to_owned(),
            layers: vec![],
            volatile_layers: vec![],
            images: vec![],
            containers: vec![],
            volatile_containers: vec![],
        }
    }

    /// Writes the records, as compactly as containers-storage does.
    pub fn save(&self) -> &Self {
        for (name, records) in [
            ("overlay-layers/layers.json", &self.layers),
            ("overlay-layers/volatile-layers.json", &self.volatile_layers),
            ("overlay-images/images.json", &self.images),
            ("overlay-containers/containers.json", &self.containers),
            ("overlay-containers/volatile-containers.json", &self.volatile_containers),
        ] {
            std::fs::write(self.root.join(name), serde_json::to_vec(records).unwrap()).unwrap();
        }
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Returns the path `ROOT/overlay/ID/NAME`.
    pub fn of(&self, id: &str, name: &str) -> String {
        self.root.join("overlay").join(id).join(name).display().to_string()
    }

    /// Returns the path `ROOT/overlay/l/LINK`.
    pub fn short(&self, id: &str) -> String {
        self.root.join("overlay/l").join(link_name(id)).display().to_string()
    }

    /// Makes a layer's directory with its short name.
    pub fn directory(&self, id: &str) {
        for name in ["diff", "work", "merged", "empty"] {
            std::fs::create_dir_all(self.of(id, name)).unwrap();
        }
        let link = self.short(id);
        if !Path::new(&link).is_symlink() {
            symlink(format!("../{id}/diff"), link).unwrap();
        }
    }

    /// Adds a layer with a record, unless it is there.
    pub fn layer(&mut self, id: &str, parent: &str, digests: Value) {
        self.directory(id);
        if self.layers.iter().any(|l| l["id"] == id) {
            return;
        }
        let mut record = json!({"id": id, "created": "2026-01-02T03:04:05.145784901Z", "uidset": [0], "gidset": [0]});
        let fields = record.as_object_mut().unwrap();
        if !parent.is_empty() {
            fields.insert("parent".into(), parent.into());
        }
        fields.extend(digests.as_object().unwrap().clone());
        self.layers.push(record);
    }

    /// Adds the layers of an image with these tars.
    pub fn chain(&mut self, tars: &[&str]) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        for tar in tars {
            let diff_id = BlobDigest::of(tar.as_bytes());
            let parent = ids.last().cloned().unwrap_or_default();
            let id = layer_id(&parent, &diff_id.hex());
            self.layer(&id, &parent, json!({"diff-digest": diff_id.to_string(), "diff-size": tar.len()}));
            ids.push(id);
        }
        ids
    }

    /// Adds a whole image. Another `seed` makes another config.
    pub fn image(&mut self, seed: &str, tars: &[&str]) -> Stored {
        let layers = self.chain(tars);
        let (manifest, config) = documents(seed, tars, |_| json!({}));
        let id = BlobDigest::of(&config).hex();
        self.record(&id, seed, layers.last().unwrap(), &manifest, &config);
        Stored { id, layers, diff_ids: tars.iter().map(|t| BlobDigest::of(t.as_bytes())).collect(), manifest }
    }

    /// Adds the record and big data of an image.
    pub fn record(&mut self, id: &str, name: &str, top: &str, manifest: &[u8], config: &[u8]) {
        let keys = [
            "manifest".to_owned(),
            format!("manifest-{}", BlobDigest::of(manifest)),
            BlobDigest::of(config).to_string(),
        ];
        for (key, bytes) in keys.iter().zip([manifest, manifest, config]) {
            self.big_data(id, key, bytes);
        }
        self.images.push(json!({
            "id": id, "digest": keys[1].strip_prefix("manifest-"), "names": [format!("localhost/{name}:v1")],
            "names-history": [format!("localhost/{name}:v1")], "layer": top, "big-data-names": keys,
            "metadata": "{}", "created": "2026-01-02T03:04:05Z",
        }));
    }

    pub fn big_data_path(&self, id: &str, key: &str) -> PathBuf {
        let plain = key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.');
        let name = if plain { key.to_owned() } else { format!("={}", openssl::base64::encode_block(key.as_bytes())) };
        self.root.join("overlay-images").join(id).join(name)
    }

    pub fn big_data(&self, id: &str, key: &str, bytes: &[u8]) {
        let path = self.big_data_path(id, key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Adds a container of an image; returns its own layer.
    pub fn container(&mut self, name: &str, image: &str, parent: &str) -> String {
        let layer = random_id(name);
        self.layer(&layer, parent, json!({"names": [format!("{name}-layer")]}));
        self.containers.push(json!({
            "id": random_id(&format!("container {name}")), "names": [name], "image": image, "layer": layer,
            "created": "2026-01-02T03:04:05Z", "flags": {"MountLabel": "", "ProcessLabel": ""},
        }));
        layer
    }

    /// Returns the lower directories of an image, uppermost first.
    pub fn lowers(&self, layers: &[String]) -> Vec<String> {
        layers.iter().rev().map(|id| self.of(id, "diff")).collect()
    }

    /// Makes a read-write call for a layer.
    pub fn rw(&self, own: &str, lowers: &[String]) -> Result<CallTarget> {
        let (upper, work) = (self.of(own, "diff"), self.of(own, "work"));
        call(&format!("lowerdir={},upperdir={upper},workdir={work},", lowers.join(":")), &self.of(own, "merged"))
    }

    /// Makes a read-only call for a layer.
    pub fn ro(&self, own: &str, lowers: &[String]) -> Result<CallTarget> {
        call(&format!("lowerdir={}", lowers.join(":")), &self.of(own, "merged"))
    }
}

/// Makes manifest and config.
pub fn documents(seed: &str, tars: &[&str], annotations: impl Fn(usize) -> Value) -> (Vec<u8>, Vec<u8>) {
    let diff_ids: Vec<String> = tars.iter().map(|t| BlobDigest::of(t.as_bytes()).to_string()).collect();
    let config = json!({"os": "linux", "architecture": "amd64", "config": {"Cmd": [seed]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string();
    let layers: Vec<Value> = tars
        .iter()
        .enumerate()
        .map(|(at, tar)| {
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": tar.len(),
                "digest": BlobDigest::of(tar.as_bytes()).to_string(), "annotations": annotations(at)})
        })
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(),
            "digest": BlobDigest::of(config.as_bytes()).to_string()},
        "layers": layers})
    .to_string();
    (manifest.into_bytes(), config.into_bytes())
}

/// Parses and identifies a call with these options.
pub fn call(options: &str, target: &str) -> Result<CallTarget> {
    match parse(&["-o", options, target].map(OsString::from))? {
        Invocation::Mount(call) => identify(&call),
        Invocation::Version => panic!("a version"),
    }
}

#[track_caller]
pub fn image(target: Result<CallTarget>) -> ClaimedImage {
    match target {
        Ok(CallTarget::Image(image)) => *image,
        other => panic!("not an image: {other:?}"),
    }
}

#[track_caller]
pub fn layers(target: Result<CallTarget>) -> ClaimedLayers {
    match target {
        Ok(CallTarget::Layers(layers)) => *layers,
        other => panic!("not layers: {other:?}"),
    }
}

#[track_caller]
pub fn refused(target: Result<CallTarget>, case: Case) {
    match target {
        Err(refusal) => assert_eq!(refusal.case(), case, "{refusal}"),
        Ok(target) => panic!("accepted, wanted {case:?}: {target:?}"),
    }
}
