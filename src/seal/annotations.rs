//! What a seal has in annotations: digests and signatures by role, and the statement.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::keys::{BINDING, BINDING_SIG, role_key};
use super::{Bytes, Role, Signature};
use crate::digest::VerityDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::Budget;

/// Collects the digests and signatures in annotations, of the roles that are allowed there; a layer's key stands for
/// layer number `layer`.
pub(super) fn collect(
    annotations: &BTreeMap<String, String>,
    layer: usize,
    allowed: &[Role],
    name: &str,
    out: &mut Vec<Signature>,
) -> Result<()> {
    let before = out.len();
    for (key, hex) in annotations.iter().filter(|(k, _)| is_inline(k)) {
        let (digest_key, is_signature) = key.strip_suffix(".sig").map_or((key.as_str(), false), |k| (k, true));
        let (role, algorithm) = role_key(digest_key, layer, name)?;
        if !allowed.contains(&role) {
            return Err(Refusal::new(Case::D06Role, name, format!("{key} does not belong there")));
        }
        if is_signature {
            if !annotations.contains_key(digest_key) {
                return Err(Refusal::new(Case::D08Annotation, name, format!("{key} without {digest_key}")));
            }
            continue;
        }
        if out[before..].iter().any(|s| s.role == role) {
            return Err(Refusal::new(Case::D08Annotation, name, format!("two digests for {role}")));
        }
        let digest = VerityDigest::from_hex(algorithm, hex)
            .ok_or_else(|| Refusal::new(Case::D09Algorithm, name, format!("{key} does not fit its algorithm")))?;
        let der = annotations.get(&format!("{key}.sig")).map(|text| base64(text, name)).transpose()?;
        out.push(Signature { role, digest, der: der.map(Bytes::Here) });
    }
    Ok(())
}

/// Reads the statement and its signature from annotations: both or neither.
pub(super) fn binding(
    annotations: &BTreeMap<String, String>,
    name: &str,
    budget: &Budget,
) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    match (annotations.get(BINDING), annotations.get(BINDING_SIG)) {
        (None, None) => Ok(None),
        (Some(text), Some(sig)) => {
            if text.len() > budget.statement || sig.len() as u64 > budget.signature * 2 {
                return Err(Refusal::new(Case::C03TooBig, name, "binding"));
            }
            Ok(Some((text.clone().into_bytes(), base64(sig, name)?)))
        }
        _ => Err(Refusal::new(Case::D16Binding, name, "statement without signature, or signature without statement")),
    }
}

/// Decodes base64 with padding, and nothing but base64.
pub(super) fn base64(text: &str, name: &str) -> Result<Vec<u8>> {
    let refuse = || Refusal::new(Case::D08Annotation, name, "not base64");
    let bytes = STANDARD.decode(text).map_err(|_| refuse())?;
    // OpenSSL's decoder trims white space, but one meaning must have only one text.
    if STANDARD.encode(&bytes) != text {
        return Err(refuse());
    }
    Ok(bytes)
}

pub(super) fn is_inline(key: &str) -> bool {
    key.starts_with("composefs.") && key.contains(".fsverity-")
}
