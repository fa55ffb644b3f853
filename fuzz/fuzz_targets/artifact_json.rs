//! Seals in JSON, on any bytes: read as an artifact's manifest, and as an image manifest with inline
//! annotations.
//!
//! Invariants:
//! 1. Nothing panics or hangs, and a refusal is one line.
//! 2. The strict reader is narrower than `serde_json` and never different: what it accepts has the
//!    same value there, and it refuses nothing that `serde_json` accepts but keys that occur twice.
//! 3. An accepted artifact is about this image, and reads the same again, also after its JSON was
//!    written anew: white space and the order of keys mean nothing.
//! 4. The parts of an accepted seal fit together: no role twice, no layer beyond the image's, one
//!    algorithm for all digests, EROFS images for all layers or none, sizes within the budget.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use layerseal::digest::BlobDigest;
use layerseal::oci::{BlobStore, Budget, Image, Platform, strict_json};
use layerseal::error::Refusal;
use layerseal::seal::{Bytes, Dialect, Parsed, Role, Seal, claims, parse, parse_inline};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const MANIFEST: &[u8] = include_bytes!("image/manifest.json");
const CONFIG: &[u8] = include_bytes!("image/config.json");
const BUDGET: Budget = Budget::STANDARD;

/// The image that the seeds are about.
static IMAGE: LazyLock<Image> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("layerseal-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let store = BlobStore::create(std::fs::File::open(&dir).unwrap(), &dir).unwrap();
    store.write(CONFIG).unwrap();
    let digest = store.write(MANIFEST).unwrap();
    let platform = "linux/amd64".parse::<Platform>().unwrap();
    let image = Image::read(&store, &digest, &platform, &BUDGET).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    image
});

/// Makes the image with the annotations that `manifest` has in the places where an image manifest has them.
fn annotated(manifest: &Value) -> Image {
    let annotations = |value: &Value| -> BTreeMap<String, String> {
        let all = value["annotations"].as_object().into_iter().flatten();
        all.filter_map(|(key, text)| Some((key.clone(), text.as_str()?.to_owned()))).collect()
    };
    let mut image = IMAGE.clone();
    image.annotations = annotations(manifest);
    image.config_annotations = annotations(&manifest["config"]);
    for (number, layer) in image.layers.iter_mut().enumerate() {
        layer.annotations = annotations(&manifest["layers"][number]);
    }
    image
}

fn one_line(refusal: &Refusal) {
    let text = refusal.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.ends_with(&format!(" [R-{}]", refusal.case().id())), "{text:?}");
}

fn consistent(seal: &Seal) {
    let layers = IMAGE.layers.len();
    let check = |roles: Vec<Role>| {
        let unique: BTreeSet<Role> = roles.iter().copied().collect();
        assert_eq!(unique.len(), roles.len(), "a role twice: {roles:?}");
        assert!(!roles.iter().any(|r| matches!(r, Role::Layer(n) if *n >= layers)), "{roles:?}");
        assert!(!unique.contains(&Role::Binding), "{roles:?}");
        roles.iter().filter(|r| matches!(r, Role::Layer(_))).count()
    };
    check(seal.signatures.iter().map(|s| s.role).collect());
    let images = check(seal.erofs.iter().map(|e| e.role).collect());
    assert!(images == 0 || images == layers, "{images} EROFS images");
    assert!(seal.erofs.iter().all(|e| matches!(e.role, Role::Layer(_) | Role::Merged)));
    assert!(seal.erofs.is_empty() || seal.dialect == Dialect::ErofsAlongside);
    let digests = seal.signatures.iter().map(|s| s.digest).chain(seal.erofs.iter().map(|e| e.digest));
    for digest in digests {
        assert_eq!(digest.algorithm(), seal.algorithm);
        assert_eq!(digest.to_hex().len(), 2 * seal.algorithm.digest_size());
    }
    for signature in &seal.signatures {
        match &signature.der {
            Some(Bytes::Here(_)) => assert_eq!(seal.dialect, Dialect::Inline),
            Some(Bytes::Blob { size, .. }) => assert!(*size > 0 && seal.dialect != Dialect::Inline),
            None => {}
        }
    }
    if let Some((text, der)) = &seal.binding {
        assert!(text.len() <= BUDGET.statement && der.len() as u64 <= 2 * BUDGET.signature);
    }
}

fn inline(manifest: &Value) {
    let image = annotated(manifest);
    match parse_inline(&image, &BUDGET) {
        Err(refusal) => one_line(&refusal),
        Ok(None) => {}
        Ok(Some(seal)) => {
            assert_eq!((seal.dialect, seal.signatures.is_empty()), (Dialect::Inline, false));
            consistent(&seal);
        }
    }
    match claims(&image) {
        Err(refusal) => one_line(&refusal),
        Ok(claims) => assert!(claims.len() == image.layers.len() && claims.iter().all(|c| c.len() <= 34)),
    }
}

fuzz_target!(|raw: &[u8]| {
    let digest = BlobDigest::of(raw);
    let parsed = parse(raw, &digest, &IMAGE, &BUDGET);
    let plain = serde_json::from_slice::<Value>(raw);
    let value = match strict_json::value(raw, "fuzz") {
        Ok(value) => value,
        Err(refusal) => {
            one_line(&refusal);
            assert!(plain.is_err() || refusal.detail().contains("occurs twice"), "{refusal}");
            assert!(parsed.is_err());
            return;
        }
    };
    assert_eq!(plain.expect("serde_json reads it"), value);
    inline(&value);

    let again = value.to_string();
    let again = parse(again.as_bytes(), &digest, &IMAGE, &BUDGET);
    match parsed {
        Err(refusal) => {
            one_line(&refusal);
            assert!(again.is_err());
        }
        Ok(parsed) => {
            let wanted = format!("{parsed:?}");
            assert_eq!(format!("{:?}", parse(raw, &digest, &IMAGE, &BUDGET).expect("read before")), wanted);
            assert_eq!(format!("{:?}", again.expect("the same JSON")), wanted);
            if let Parsed::Seal(seal) = parsed {
                assert_eq!(value["subject"]["digest"], IMAGE.digest.to_string());
                assert_eq!(seal.origin, digest.to_string());
                consistent(&seal);
            }
        }
    }
});
