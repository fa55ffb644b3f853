//! Seals as attackers change them, with the trusted key where only one property is to be wrong.

use std::sync::OnceLock;

use layerseal::digest::{Algorithm, BlobDigest, VerityDigest, verity_digest};
use layerseal::oci::{self, Budget, Image, Platform};
use layerseal::pki::{Signer, formatted_digest};
use layerseal::seal::Binding;
use serde_json::{Value, json};

use crate::common::{self, Bench, Layer, Layout};

pub const TRUST: [&str; 2] = ["--trust", "signer.crt"];
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const PKCS7: &str = "application/vnd.composefs.signature.v1+pkcs7";
pub const EROFS: &str = "application/vnd.composefs.v1.erofs";
pub const METADATA: &str = "application/vnd.composefs.metadata.v1";
pub const CANONICAL: &str = "application/vnd.composefs.canonical.v1";
pub const BINDING: &str = "layerseal.binding.v2";
pub const DIGEST: &str = "composefs.digest";

/// Returns the signer that tests trust.
pub fn key() -> &'static Signer {
    static KEY: OnceLock<Signer> = OnceLock::new();
    KEY.get_or_init(|| signer(common::signer()))
}

pub fn signer(of: &common::Signer) -> Signer {
    Signer::new(&of.cert.to_pem().unwrap(), &of.key.private_key_to_pem_pkcs8().unwrap(), None, "test").unwrap()
}

/// Signs with the trusted key.
pub fn der(digest: &VerityDigest) -> Vec<u8> {
    der_by(key(), digest)
}

pub fn der_by(signer: &Signer, digest: &VerityDigest) -> Vec<u8> {
    signer.sign(&formatted_digest(digest.algorithm().kernel_id(), digest.as_bytes())).unwrap()
}

/// Reads the image of a layout.
pub fn image(layout: &Layout) -> Image {
    let opened = oci::Layout::open(&layout.path).unwrap();
    Image::read(opened.store(), &layout.digest, &Platform::host(), &Budget::STANDARD).unwrap()
}

/// A seal that is being changed. Roles are `manifest`, `config`, `layer-N`, `merged`, `rootfs`, and for the EROFS
/// images `erofs-layer-N`, `erofs-merged`.
pub struct Forge {
    pub layout: Layout,
    pub artifact: Value,
}

impl Forge {
    pub fn of(layout: Layout) -> Self {
        let artifact = layout.seals().remove(0);
        Self { layout, artifact }
    }

    pub fn algorithm(&self) -> Algorithm {
        self.artifact["annotations"]["composefs.algorithm"].as_str().unwrap().parse().unwrap()
    }

    pub fn entries(&mut self) -> &mut Vec<Value> {
        self.artifact["layers"].as_array_mut().unwrap()
    }

    /// Returns the position of a role's entry.
    pub fn at(&self, role: &str) -> usize {
        let (key, name) = match role.strip_prefix("erofs-") {
            Some(name) => ("composefs.erofs.type", name),
            None => ("composefs.signature.type", role),
        };
        let (kind, number) = name.split_once('-').map_or((name, 0), |(kind, n)| (kind, n.parse().unwrap()));
        let all = self.artifact["layers"].as_array().unwrap().iter().enumerate();
        all.filter(|(_, e)| e["annotations"][key] == kind).nth(number).unwrap_or_else(|| panic!("no {role}")).0
    }

    pub fn entry(&mut self, role: &str) -> &mut Value {
        let at = self.at(role);
        &mut self.entries()[at]
    }

    pub fn digest(&self, role: &str) -> VerityDigest {
        let hex = self.artifact["layers"][self.at(role)]["annotations"][DIGEST].as_str().unwrap();
        VerityDigest::from_hex(self.algorithm(), hex).unwrap()
    }

    /// Replaces the blob of an entry by `bytes`; its annotations stay.
    pub fn set_blob(&mut self, role: &str, bytes: &[u8]) {
        let digest = self.layout.blob(bytes);
        let entry = self.entry(role);
        entry["digest"] = digest.to_string().into();
        entry["size"] = bytes.len().into();
    }

    /// Replaces the role's signature by one of the trusted key over `digest`, which the entry then names.
    pub fn sign(&mut self, role: &str, digest: &VerityDigest) {
        self.set_blob(role, &der(digest));
        self.entry(role)["annotations"][DIGEST] = digest.to_hex().into();
    }

    /// Lets the seal carry `erofs` for a role; entry, signature and statement are all in order.
    pub fn set_erofs(&mut self, role: &str, erofs: &[u8]) {
        let digest = verity_digest(self.algorithm(), erofs);
        let carried = format!("erofs-{role}");
        self.set_blob(&carried, erofs);
        self.entry(&carried)["annotations"][DIGEST] = digest.to_hex().into();
        self.sign(role, &digest);
        self.rebind(|b| match role.strip_prefix("layer-") {
            Some(n) => b.layers[n.parse::<usize>().unwrap()].2 = digest,
            None if role == "merged" => b.merged = Some(digest),
            None => b.rootfs = digest,
        });
    }

    pub fn erofs(&self, role: &str) -> Vec<u8> {
        self.layout.read(self.artifact["layers"][self.at(&format!("erofs-{role}"))]["digest"].as_str().unwrap())
    }

    pub fn binding(&self) -> Binding {
        Binding::parse(self.artifact["annotations"][BINDING].as_str().unwrap().as_bytes(), &Budget::STANDARD).unwrap()
    }

    /// Replaces the statement by `text`, signed by the trusted key.
    pub fn bind(&mut self, text: &str) {
        let signature = der(&verity_digest(self.algorithm(), text.as_bytes()));
        self.artifact["annotations"][BINDING] = text.into();
        self.artifact["annotations"]["layerseal.binding.v2.sig"] = openssl::base64::encode_block(&signature).into();
    }

    pub fn rebind(&mut self, change: impl FnOnce(&mut Binding)) {
        let mut binding = self.binding();
        change(&mut binding);
        self.bind(&binding.text());
    }

    pub fn unbind(&mut self) {
        let annotations = self.artifact["annotations"].as_object_mut().unwrap();
        annotations.retain(|key, _| !key.starts_with(BINDING));
    }

    /// Adapts subject, statement, manifest and config signatures to the layout's manifest; digests of the images stay.
    pub fn follow_image(&mut self) {
        let raw = self.layout.read(&self.layout.digest.to_string());
        let manifest: Value = serde_json::from_slice(&raw).unwrap();
        let config = self.layout.read(manifest["config"]["digest"].as_str().unwrap());
        let diff_ids: Value = serde_json::from_slice(&config).unwrap();
        self.artifact["subject"]["digest"] = self.layout.digest.to_string().into();
        self.sign("manifest", &verity_digest(self.algorithm(), &raw));
        self.sign("config", &verity_digest(self.algorithm(), &config));
        let subject = self.layout.digest;
        // serde_json keeps keys sorted.
        let annotations = manifest.get("annotations").cloned().unwrap_or_else(|| json!({}));
        let annotations = BlobDigest::of(annotations.to_string().as_bytes());
        self.rebind(|b| {
            b.subject = Some(subject);
            b.config = BlobDigest::of(&config);
            b.annotations = annotations;
            for (number, layer) in b.layers.iter_mut().enumerate() {
                layer.0 = manifest["layers"][number]["digest"].as_str().unwrap().parse().unwrap();
                layer.1 = diff_ids["rootfs"]["diff_ids"][number].as_str().unwrap().parse().unwrap();
            }
        });
    }

    /// Puts the changed seal in place of the good one.
    pub fn put(&self) {
        self.layout.set_seals(std::slice::from_ref(&self.artifact));
    }

    /// Stores artifacts of any bytes, listed in the index of the fallback tag and nowhere else.
    pub fn put_raw(&self, artifacts: &[Vec<u8>]) {
        let listed: Vec<Value> = artifacts.iter().map(|raw| self.layout.descriptor(MANIFEST, raw)).collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).to_string();
        let mut fallback = self.layout.descriptor(INDEX, index.as_bytes());
        fallback["annotations"] =
            json!({"org.opencontainers.image.ref.name": format!("sha256-{}", self.layout.digest.hex())});
        let entries = self.layout.index()["manifests"].as_array().unwrap().clone();
        let image = entries.into_iter().find(|e| e["digest"] == self.layout.digest.to_string()).unwrap();
        self.layout.set_index(json!([image, fallback]));
    }
}

/// Makes a sealed image, and checks that it verifies.
pub fn sealed(layers: &[Layer]) -> (Bench, Forge) {
    let bench = Bench::new();
    let layout = bench.sealed(layers);
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).ok();
    (bench, Forge::of(layout))
}

/// Makes one layer of a few files.
pub fn small() -> Vec<Layer> {
    use crate::common::Entry;
    vec![Layer::new(&[Entry::dir("usr"), Entry::file("usr/tool", vec![b't'; 3000]), Entry::file("usr/note", "short")])]
}

/// Checks that every verb that verifies refuses `oci:image`, and leaves nothing that counts: no name, no image, no
/// mount. Objects and blobs may be left for the collector when the content is what was refused.
#[track_caller]
pub fn refused_with(bench: &Bench, code: i32, case: &str, more: &[&str]) {
    every_verb_refuses(bench, code, case, more);
    nothing_counts(bench);
    // The next refusal is to be judged by itself.
    let _ = std::fs::remove_dir_all(bench.vault());
}

#[track_caller]
fn every_verb_refuses(bench: &Bench, code: i32, case: &str, more: &[&str]) {
    std::fs::create_dir_all(bench.path("mnt")).unwrap();
    let verbs: [&[&str]; 3] = [
        &["verify", "oci:image"],
        &["pull", "--require-signature", "oci:image"],
        &["mount", "--require-signature", "--verity", "off", "oci:image", "mnt"],
    ];
    for verb in verbs {
        bench.run(&[verb, &TRUST, more].concat()).refused(code, case);
    }
}

/// Checks that there is no name and no image, and that nothing is mounted.
#[track_caller]
pub fn nothing_counts(bench: &Bench) {
    let counts: Vec<String> =
        bench.vault_files().into_iter().filter(|f| !f.starts_with("objects/") && !f.starts_with("blobs/")).collect();
    assert!(counts.is_empty(), "left in the vault: {counts:?}");
    assert_eq!(std::fs::read_dir(bench.path("vault/images")).map_or(0, Iterator::count), 0, "left in the vault");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&bench.path("mnt").display().to_string()), "something is mounted");
}

/// Checks a refusal like [`refused_with`], and that the content was never looked at: nothing at all is in the vault.
#[track_caller]
pub fn refused_outright(bench: &Bench, code: i32, case: &str, more: &[&str]) {
    every_verb_refuses(bench, code, case, more);
    nothing_counts(bench);
    assert_eq!(bench.vault_files(), [""; 0], "left in the vault");
}

#[track_caller]
pub fn refused(bench: &Bench, case: &str) {
    refused_outright(bench, 4, case, &[]);
}

#[track_caller]
pub fn accepted(bench: &Bench) {
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).ok();
}
