//! Media types and annotation keys.

use super::Role;
use crate::digest::Algorithm;
use crate::error::{Case, Refusal, Result};

pub(super) const ALONGSIDE: &str = "application/vnd.composefs.erofs-alongside.v1";
pub(super) const CANONICAL: &str = "application/vnd.composefs.canonical.v1";
pub(super) const METADATA: &str = "application/vnd.composefs.metadata.v1";
/// All of them; the first is the one that we write.
pub(crate) const ARTIFACT_TYPES: [&str; 3] = [METADATA, ALONGSIDE, CANONICAL];

pub(super) const EROFS: &str = "application/vnd.composefs.v1.erofs";
pub(super) const PKCS7: &str = "application/vnd.composefs.signature.v1+pkcs7";
pub(super) const EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub(super) const ALGORITHM: &str = "composefs.algorithm";
pub(super) const EROFS_TYPE: &str = "composefs.erofs.type";
pub(super) const SIGNATURE_TYPE: &str = "composefs.signature.type";
pub(super) const DIGEST: &str = "composefs.digest";
pub(super) const BINDING: &str = "layerseal.binding.v2";
pub(super) const BINDING_SIG: &str = "layerseal.binding.v2.sig";

/// Parses `fsverity-<hash>-<log2 of the block size>`; 64 KiB blocks are known and refused by name.
pub(super) fn algorithm(name: &str, subject: &str) -> Result<Algorithm> {
    match name {
        "fsverity-sha256-12" => Ok(Algorithm::Sha256),
        "fsverity-sha512-12" => Ok(Algorithm::Sha512),
        "fsverity-sha256-16" | "fsverity-sha512-16" => {
            Err(Refusal::new(Case::D09Algorithm, subject, format!("{name}: 64 KiB blocks are not supported")))
        }
        _ => Err(Refusal::new(Case::D09Algorithm, subject, format!("{name:?} is not known"))),
    }
}

/// Returns the key under which `metadata.v1` and inline annotations name the digest of `role`.
pub(super) fn digest_key(role: Role, algorithm: Algorithm) -> String {
    let role = match role {
        Role::Manifest => "manifest",
        Role::Config => "config",
        Role::Merged => "merged.erofs.v1",
        Role::Bootable => "merged.bootable.erofs.v1",
        Role::Rootfs => "rootfs.erofs.v1",
        Role::Layer(_) => "layer.erofs.v1",
        Role::Binding => "binding",
    };
    format!("composefs.{role}.{algorithm}")
}

/// Parses a role key of `metadata.v1` and of inline annotations: what it is about, and the algorithm. `layer` is the
/// number that a layer key would stand for.
pub(super) fn role_key(key: &str, layer: usize, subject: &str) -> Result<(Role, Algorithm)> {
    let (role, name) = key
        .strip_prefix("composefs.")
        .and_then(|rest| rest.split_once(".fsverity-"))
        .ok_or_else(|| Refusal::new(Case::D08Annotation, subject, key))?;
    let role = match role {
        "manifest" => Role::Manifest,
        "config" => Role::Config,
        "merged.erofs.v1" => Role::Merged,
        "merged.bootable.erofs.v1" => Role::Bootable,
        "rootfs.erofs.v1" => Role::Rootfs,
        "layer.erofs.v1" => Role::Layer(layer),
        _ => return Err(Refusal::new(Case::D08Annotation, subject, format!("{key} is no role"))),
    };
    Ok((role, algorithm(&format!("fsverity-{name}"), subject)?))
}
