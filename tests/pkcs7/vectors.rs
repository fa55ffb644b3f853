//! Signatures that other tools made: the small ones of this repository, or all, where `LAYERSEAL_VECTORS` says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use layerseal::error::Case;
use layerseal::pki::formatted_digest::formatted_digest;
use layerseal::pki::pkcs7::{Certificate, Dates, certificates_from_bytes, parse, verify, walk};
use layerseal::pki::trust::{Ownership, TrustStore};
use support::common::{large_vectors, vectors};

/// All files under `dir`.
fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push(path);
        }
    }
}

/// Every blob that begins like a PKCS#7 signature, with the verdict of the profile.
fn verdicts(dir: &Path) -> BTreeMap<Option<Case>, usize> {
    let mut paths = Vec::new();
    files(dir, &mut paths);
    let mut counts = BTreeMap::new();
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        let signed_data = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
        let head = bytes.get(..20).unwrap_or_default();
        if bytes.first() != Some(&0x30) || !head.windows(11).any(|w| w == signed_data) {
            continue;
        }
        let case = walk(&bytes, "blob").err().map(|r| r.case());
        assert_eq!(case, parse(&bytes, "blob").err().map(|r| r.case()));
        *counts.entry(case).or_insert(0) += 1;
    }
    counts
}

#[test]
fn vectors_upstream_signatures_are_in_the_profile() {
    let Some(dir) = large_vectors() else { return };
    let counts = verdicts(&dir.join("upstream"));
    assert!(counts.keys().all(Option::is_none) && !counts.is_empty(), "{counts:?}");
}

#[test]
fn vectors_of_single_faults() {
    let dir = vectors();
    for (name, case) in [
        ("j-good-256", None),
        ("j-good-ec", None),
        ("j-expired", None),
        ("j-leafcs-withcert", None),
        ("a-good", None),
        ("j-attached", Some(Case::E03Attached)),
        ("j-trailing", Some(Case::E02Der)),
    ] {
        let counts = verdicts(&dir.join("cases").join(name));
        assert!(counts.contains_key(&case), "{name}: {counts:?}");
        assert!(case.is_some() || counts.len() == 1, "{name}: {counts:?}");
    }
}

#[test]
fn vectors_certificates() {
    let dir = vectors();
    for entry in fs::read_dir(dir.join("keys")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "crt") {
            continue;
        }
        let name = path.display().to_string();
        let result = certificates_from_bytes(&fs::read(&path).unwrap(), &name);
        // The one that signs certificates only.
        if name.ends_with("/ca.crt") {
            assert_eq!(result.map_err(|r| r.case()).unwrap_err(), Case::E10Usage);
        } else {
            let subjects: Vec<_> = result.unwrap().iter().map(|c| c.subject().to_owned()).collect();
            assert_eq!(subjects.len(), 1, "{name}");
        }
    }
    // One certificate that may not sign makes the directory unusable, and says which.
    let refusal = TrustStore::load(&[dir.join("keys")], Ownership::Any).unwrap_err();
    assert!(refusal.subject().ends_with("/ca.crt"), "{refusal}");
}

#[test]
fn vectors_expired_and_future_dates() {
    let dir = vectors();
    let load = |name: &str| -> Certificate {
        let bytes = fs::read(dir.join("keys").join(name)).unwrap();
        certificates_from_bytes(&bytes, name).unwrap().remove(0)
    };
    assert_eq!(load("expired.crt").not_after(), 1_609_459_200);
    assert_eq!(load("future.crt").not_before(), 2_208_988_800);
}

/// Signatures of the first manifest in `layout`, each with the formatted digest it claims.
fn claims(layout: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let json = |path: PathBuf| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob = |digest: &serde_json::Value| layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
    let manifest = json(blob(&json(layout.join("index.json"))["manifests"][0]["digest"]));
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers
        .filter(|layer| layer["mediaType"] == "application/vnd.composefs.signature.v1+pkcs7")
        .map(|layer| {
            let annotations = layer["annotations"].as_object().unwrap();
            let claim = |key: &String| key == "composefs.digest" || key.contains("fsverity-");
            let (_, digest) = annotations.iter().find(|(key, _)| claim(key)).unwrap();
            let digest = hex::decode(digest.as_str().unwrap()).unwrap();
            let id = if digest.len() == 32 { 1 } else { 2 };
            (fs::read(blob(&layer["digest"])).unwrap(), formatted_digest(id, &digest))
        })
        .collect()
}

#[test]
fn vectors_verify_as_the_table_says() {
    const NOW: i64 = 1_800_000_000;
    let dir = vectors();
    for (case, key, dates, expected) in [
        ("j-good-256", "signer", Dates::Enforce, None),
        ("j-good-256", "other", Dates::Enforce, Some(Case::E07Untrusted)),
        ("j-good-ec", "ec", Dates::Enforce, None),
        ("j-expired", "expired", Dates::Enforce, Some(Case::E11Dates)),
        ("j-expired", "expired", Dates::Ignore, None),
        ("j-leafcs-withcert", "leafcs", Dates::Enforce, None),
        ("j-leafcs-withcert", "leafemail", Dates::Enforce, Some(Case::E07Untrusted)),
        ("j-attached", "signer", Dates::Enforce, Some(Case::E03Attached)),
        ("j-trailing", "signer", Dates::Enforce, Some(Case::E02Der)),
        ("a-good", "signer", Dates::Enforce, None),
    ] {
        let path = dir.join("keys").join(format!("{key}.crt"));
        let trusted = certificates_from_bytes(&fs::read(path).unwrap(), key).unwrap();
        let claims = claims(&dir.join("cases").join(case));
        assert!(!claims.is_empty(), "{case}");
        for (der, content) in claims {
            let result = verify(&der, &content, &trusted, dates, NOW, case);
            assert_eq!(result.map_err(|r| r.case()).err(), expected, "{case} by {key}");
        }
    }
}
