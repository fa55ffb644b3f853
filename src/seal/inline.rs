//! Seals in the annotations of the image manifest itself, and older digest-only claims.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::annotations::{binding, collect, is_inline};
use super::keys::{BINDING, BINDING_SIG, digest_key};
use super::write::ArtifactRole;
use super::{Dialect, Role, Seal};
use crate::digest::{Algorithm, BlobDigest, VerityDigest};
use crate::error::{Case, Refusal, Result};
use crate::oci::{Budget, Image, strict_json};

/// Reads the inline seal of `image`, if it has one.
///
/// # Errors
/// [`Case::D08Annotation`], [`Case::D09Algorithm`].
pub fn parse_inline(image: &Image, budget: &Budget) -> Result<Option<Seal>> {
    const NAME: &str = "inline seal";
    let mut signatures = Vec::new();
    collect(&image.config_annotations, 0, &[Role::Config], NAME, &mut signatures)?;
    for (number, layer) in image.layers.iter().enumerate() {
        collect(&layer.annotations, number, &[Role::Layer(number)], NAME, &mut signatures)?;
    }
    collect(&image.annotations, 0, &[Role::Merged, Role::Bootable, Role::Rootfs], NAME, &mut signatures)?;
    let Some(first) = signatures.first() else { return Ok(None) };
    let algorithm = first.digest.algorithm();
    if signatures.iter().any(|s| s.digest.algorithm() != algorithm) {
        return Err(Refusal::new(Case::D09Algorithm, NAME, "two algorithms in one seal"));
    }
    signatures.sort_by_key(|s| s.role);
    let binding = binding(&image.annotations, NAME, budget)?;
    Ok(Some(Seal {
        dialect: Dialect::Inline,
        origin: "inline".into(),
        subject: None,
        algorithm,
        erofs: Vec::new(),
        signatures,
        binding,
    }))
}

/// Writes the manifest of `image` with an inline seal of these parts, which replaces any that it had: config, layers
/// and trees, each with a signature only if the part has one. The statement names no subject: the manifest that holds
/// it is the subject. The same parts give the same bytes.
///
/// # Errors
/// [`Case::D14Json`]; [`Case::Bug`] for parts that are not the image's.
pub fn write_inline(image: &Image, parts: &[ArtifactRole], statement: Option<(&str, &[u8])>) -> Result<Vec<u8>> {
    let mut manifest = strict_json::value(&image.manifest, "manifest")?;
    let bug = |role: Role| Refusal::new(Case::Bug, role.to_string(), "no place in the manifest");
    let mut places = vec!["".to_owned(), "/config".to_owned()];
    places.extend((0..image.layers.len()).map(|n| format!("/layers/{n}")));
    for place in &places {
        annotate(&mut manifest, place, |annotations| {
            annotations.retain(|key, _| !is_inline(key) && key != BINDING && key != BINDING_SIG);
        })
        .ok_or_else(|| bug(Role::Manifest))?;
    }
    for part in parts {
        let place = match part.role {
            Role::Config => places[1].clone(),
            Role::Layer(number) => format!("/layers/{number}"),
            Role::Merged | Role::Bootable | Role::Rootfs => places[0].clone(),
            // It cannot hold its own digest; the statement has its own place.
            Role::Manifest | Role::Binding => continue,
        };
        let key = digest_key(part.role, part.digest.algorithm());
        annotate(&mut manifest, &place, |annotations| {
            if !part.der.is_empty() {
                annotations.insert(format!("{key}.sig"), STANDARD.encode(&part.der).into());
            }
            annotations.insert(key, part.digest.to_hex().into());
        })
        .ok_or_else(|| bug(part.role))?;
    }
    if let Some((text, der)) = statement {
        annotate(&mut manifest, &places[0], |annotations| {
            annotations.insert(BINDING.into(), text.into());
            annotations.insert(BINDING_SIG.into(), STANDARD.encode(der).into());
        });
    }
    Ok(manifest.to_string().into_bytes())
}

/// Changes the annotations of the object at `place`, and removes them if they would be empty.
fn annotate(manifest: &mut Value, place: &str, change: impl FnOnce(&mut Map<String, Value>)) -> Option<()> {
    let object = manifest.pointer_mut(place)?.as_object_mut()?;
    let mut annotations = match object.remove("annotations") {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    change(&mut annotations);
    if !annotations.is_empty() {
        object.insert("annotations".into(), Value::Object(annotations));
    }
    Some(())
}

/// The older label of an image's config: the hex digest of the merged EROFS image.
const LABEL: &str = "containers.composefs.fsverity";

/// Writes config and manifest of `image` with the label `containers.composefs.fsverity` in the config, as
/// composefs-rs's `seal` does: a digest that nobody has signed.
///
/// # Errors
/// [`Case::D14Json`].
pub fn write_label(image: &Image, merged: &VerityDigest) -> Result<(Vec<u8>, Vec<u8>)> {
    let refuse = |what: &str| Refusal::new(Case::D14Json, what, "not an object");
    let mut config = strict_json::value(&image.config, "config")?;
    let object = config.as_object_mut().ok_or_else(|| refuse("config"))?;
    let inner = object.entry("config").or_insert_with(|| Value::Object(Map::new()));
    let inner = inner.as_object_mut().ok_or_else(|| refuse("config.config"))?;
    // Go writes null for a map that was never made.
    if inner.get("Labels").is_none_or(Value::is_null) {
        inner.insert("Labels".into(), Value::Object(Map::new()));
    }
    let labels = inner.get_mut("Labels").and_then(Value::as_object_mut).ok_or_else(|| refuse("config.Labels"))?;
    labels.insert(LABEL.into(), merged.to_hex().into());
    let config = config.to_string().into_bytes();
    let mut manifest = strict_json::value(&image.manifest, "manifest")?;
    let descriptor =
        manifest.pointer_mut("/config").and_then(Value::as_object_mut).ok_or_else(|| refuse("manifest"))?;
    descriptor.insert("digest".into(), BlobDigest::of(&config).to_string().into());
    descriptor.insert("size".into(), config.len().into());
    Ok((config, manifest.to_string().into_bytes()))
}

/// Reads that label; a claim, shown and never trusted. `None` if there is none, or if it is not a digest.
pub fn label(image: &Image) -> Option<VerityDigest> {
    let config: Value = serde_json::from_slice(&image.config).ok()?;
    let hex = config.pointer("/config/Labels")?.get(LABEL)?.as_str()?;
    let algorithm = if hex.len() == 64 { Algorithm::Sha256 } else { Algorithm::Sha512 };
    VerityDigest::from_hex(algorithm, hex)
}

/// Reads digest-only claims in `io.containers.composefs.digest`, for each layer: a comma-separated list of
/// `sha256:`/`sha512:` fs-verity digests. Shown, compared, never trusted.
///
/// # Errors
/// [`Case::D15List`] for more than sixteen, or for text that is not a digest.
pub fn claims(image: &Image) -> Result<Vec<Vec<VerityDigest>>> {
    image
        .layers
        .iter()
        .map(|layer| {
            layer.annotations.get("io.containers.composefs.digest").map_or(Ok(Vec::new()), |list| claim_list(list))
        })
        .collect()
}

fn claim_list(list: &str) -> Result<Vec<VerityDigest>> {
    const KEY: &str = "io.containers.composefs.digest";
    // Two algorithms, a few format versions: a longer list is an attack on the reader.
    if list.len() > 16 * 136 {
        return Err(Refusal::new(Case::D15List, KEY, format!("{} bytes", list.len())));
    }
    list.split(',')
        .map(|item| {
            let digest = match item.split_once(':') {
                Some(("sha256", hex)) => VerityDigest::from_hex(Algorithm::Sha256, hex),
                Some(("sha512", hex)) => VerityDigest::from_hex(Algorithm::Sha512, hex),
                _ => None,
            };
            digest.ok_or_else(|| Refusal::new(Case::D15List, KEY, format!("{item:?} is no digest")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d15_claim_lists_are_bounded() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(claim_list(&digest).unwrap().len(), 1);
        assert_eq!(claim_list(&format!("{digest},{digest}")).unwrap().len(), 2);
        let many = vec![digest.as_str(); 10_000].join(",");
        for bad in [
            "",
            ",",
            &format!("{digest},"),
            &format!(" {digest}"),
            "sha256:aa",
            "sha1:aa",
            &digest.replace("sha256", "sha512"),
            &many,
        ] {
            assert_eq!(claim_list(bad).unwrap_err().case(), Case::D15List, "{}", bad.len());
        }
    }
}
