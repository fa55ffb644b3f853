//! Whom this host trusts: `trust.d/`.

use std::path::{Path, PathBuf};

use super::deny::certificate_file;
use crate::error::{Case, Refusal, Result};
use crate::pki::{Certificate, Ownership, TrustStore};
use crate::policy::{ConfigWriter, Directories, ETC, Policy};

/// A trust store.
#[derive(Debug)]
pub struct ListedStore {
    /// Its name.
    pub name: String,
    /// Whether the policy names it anywhere: otherwise it has no effect.
    pub is_used: bool,
    /// Signers, and for each whether it is denied.
    pub certificates: Vec<(Certificate, bool)>,
    /// SHA-256 of the certificates of authorities.
    pub anchors: Vec<String>,
}

/// Lists all trust stores of this host.
///
/// # Errors
/// F01, F02 and F03 for a store or a policy that cannot be used.
pub fn list_trust() -> Result<Vec<ListedStore>> {
    let directories = Directories::system();
    let policy = policy(&directories)?;
    let mut found = Vec::new();
    for name in directories.trust_stores()? {
        let (certificates, anchors) = directories.store(&name)?;
        let is_denied = |c: &Certificate| policy.as_ref().is_some_and(|p| p.denied().signer(c.marks()).is_err());
        found.push(ListedStore {
            is_used: policy.as_ref().is_some_and(|policy| policy.stores().contains(name.as_str())),
            certificates: certificates.into_iter().map(|c| (is_denied(&c), c)).map(|(denied, c)| (c, denied)).collect(),
            anchors: anchors.iter().map(|anchor| anchor.fingerprint().to_string()).collect(),
            name,
        });
    }
    Ok(found)
}

/// Loads the policy, if there is one. Stores can be listed without a policy, but not with an unusable one.
fn policy(directories: &Directories) -> Result<Option<Policy>> {
    match directories.has_policy() {
        true => Policy::load(directories).map(Some),
        false => Ok(None),
    }
}

/// A certificate that is now trusted.
#[derive(Debug)]
pub struct TrustedNow {
    /// The certificate.
    pub certificate: Certificate,
    /// Whether it was in the store before.
    pub before: bool,
    /// Its file.
    pub file: PathBuf,
}

/// The outcome of trusting certificates.
#[derive(Debug)]
pub struct TrustAdded {
    /// The store.
    pub store: String,
    /// The certificates.
    pub certificates: Vec<TrustedNow>,
    /// Whether the policy names the store.
    pub is_used: bool,
}

/// Puts the certificates of `files` into a trust store: the named one, or the only one that the policy names.
///
/// # Errors
/// F01 and F02 for files that cannot be used, [`Case::Usage`] if it is not clear which store is meant, errors of
/// writing.
pub fn trust(files: &[PathBuf], store: Option<&str>) -> Result<TrustAdded> {
    let directories = Directories::system();
    // All are read before the first goes in.
    let certificates = TrustStore::load(files, Ownership::Any)?.certificates().to_vec();
    // A policy whose only store is still empty cannot be used yet; that must not prevent filling the store.
    let policy = policy(&directories).ok().flatten();
    let named: Vec<String> = policy.iter().flat_map(Policy::stores).map(str::to_owned).collect();
    let store = match (store, named.as_slice()) {
        (Some(store), _) => store.to_owned(),
        (None, [one]) => one.clone(),
        (None, several) => {
            let of = if several.is_empty() { "none".to_owned() } else { several.join(", ") };
            return Err(Refusal::new(
                Case::Usage,
                "trust add",
                format!("name one with --store: the policy names {of}"),
            ));
        }
    };
    if store.is_empty() || store.starts_with('.') || store.contains('/') {
        return Err(Refusal::new(Case::F01Store, store, "not a name of a trust store"));
    }
    let place = format!("trust.d/{store}");
    let there = match Path::new(ETC).join(&place).is_dir() || directories.trust_stores()?.contains(&store) {
        true => directories.store(&store).map(|(there, _)| there).unwrap_or_default(),
        false => Vec::new(),
    };
    let writer = ConfigWriter::of(&place)?;
    let mut added = Vec::new();
    for certificate in certificates {
        let before = there.iter().any(|other| other.fingerprint() == certificate.fingerprint());
        let name = certificate_file(&certificate);
        let file = match before {
            true => Path::new(ETC).join(&place).join(&name),
            false => writer.write(&name, certificate.der())?,
        };
        added.push(TrustedNow { certificate, before, file });
    }
    drop(writer);
    // Every start reads the store.
    directories.store(&store)?;
    Ok(TrustAdded { is_used: named.contains(&store), store, certificates: added })
}
