//! Seals in the annotations of the image manifest itself, and older digest-only claims.

use std::collections::BTreeMap;

use super::artifact::{base64, binding};
use super::keys::role_key;
use super::{Bytes, Dialect, Role, Seal, Signature};
use crate::digest::{Algorithm, VerityDigest};
use crate::oci::{Budget, Image};
use crate::report::{Case, Refusal, Result};

/// The inline seal of `image`, where it has one.
///
/// # Errors
/// [`Case::D08Annotation`], [`Case::D09Algorithm`].
pub fn parse_inline(image: &Image, budget: &Budget) -> Result<Option<Seal>> {
    const NAME: &str = "inline seal";
    let mut signatures = Vec::new();
    collect(&image.config_annotations, 0, &[Role::Config], &mut signatures)?;
    for (number, layer) in image.layers.iter().enumerate() {
        collect(&layer.annotations, number, &[Role::Layer(number)], &mut signatures)?;
    }
    collect(&image.annotations, 0, &[Role::Merged, Role::Bootable], &mut signatures)?;
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
        algorithm,
        erofs: Vec::new(),
        signatures,
        binding,
    }))
}

fn collect(
    annotations: &BTreeMap<String, String>,
    layer: usize,
    allowed: &[Role],
    out: &mut Vec<Signature>,
) -> Result<()> {
    const NAME: &str = "inline seal";
    let before = out.len();
    for (key, hex) in annotations.iter().filter(|(k, _)| k.starts_with("composefs.") && k.contains(".fsverity-")) {
        let (digest_key, is_signature) = key.strip_suffix(".sig").map_or((key.as_str(), false), |k| (k, true));
        let (role, algorithm) = role_key(digest_key, layer, NAME)?;
        if !allowed.contains(&role) {
            return Err(Refusal::new(Case::D06Role, NAME, format!("{key} does not belong there")));
        }
        if is_signature {
            if !annotations.contains_key(digest_key) {
                return Err(Refusal::new(Case::D08Annotation, NAME, format!("{key} without {digest_key}")));
            }
            continue;
        }
        if out[before..].iter().any(|s| s.role == role) {
            return Err(Refusal::new(Case::D08Annotation, NAME, format!("two digests for {role}")));
        }
        let digest = VerityDigest::from_hex(algorithm, hex)
            .ok_or_else(|| Refusal::new(Case::D09Algorithm, NAME, format!("{key} does not fit its algorithm")))?;
        let der = annotations.get(&format!("{key}.sig")).map(|text| base64(text, NAME)).transpose()?;
        out.push(Signature { role, digest, der: der.map(Bytes::Here) });
    }
    Ok(())
}

/// Digest-only claims in `io.containers.composefs.digest`, for each layer: a comma list of
/// `sha256:`/`sha512:` fs-verity digests. Shown, compared, never trusted.
///
/// # Errors
/// [`Case::D15List`] beyond sixteen, or for what is no digest.
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
