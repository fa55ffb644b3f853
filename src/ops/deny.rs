//! Denying an image, a signer or a digest: an entry in `deny.d/`, which counts in every mode.

use std::path::{Path, PathBuf};

use super::{Context, ImageSelection};
use crate::error::{Case, Result};
use crate::oci::Reference;
use crate::pki::{Certificate, Ownership, TrustStore};
use crate::policy::{ConfigWriter, Denied, Directories};

const PLACE: &str = "deny.d";
/// The list that this verb writes to; it does not touch others.
const LIST: &str = "denied.list";

/// Something that is now denied.
#[derive(Clone, Debug)]
pub struct DeniedEntry {
    /// A digest as in a list, or the SHA-256 of a certificate.
    pub digest: String,
    /// What it is the digest of.
    pub what: String,
    /// Whether it was denied before.
    pub before: bool,
    /// The file that says so.
    pub file: PathBuf,
}

/// Denies what `wanted` is: a file of certificates, a digest, or an image of the store, of a registry or of a layout.
///
/// # Errors
/// F02 and F03 for what cannot be understood, errors of finding an image, and of writing.
pub fn deny(context: &Context, wanted: &str, reason: Option<&str>) -> Result<Vec<DeniedEntry>> {
    let entries = match Path::new(wanted).is_file() {
        true => return deny_certificates(wanted, reason),
        false if is_digest(wanted) => vec![(wanted.to_owned(), String::new())],
        false => image(context, wanted)?,
    };
    let writer = ConfigWriter::of(PLACE)?;
    let mut text = writer.read(LIST)?;
    let denied = Denied::load(&Directories::system())?;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let mut found = Vec::new();
    for (digest, what) in entries {
        let named = denied.named(&digest, "digest");
        let before = named.as_ref().is_err_and(|r| r.case() == Case::F06Denied);
        if !before {
            let comment = [what.as_str(), reason.unwrap_or_default()]
                .iter()
                .filter(|text| !text.is_empty())
                .map(|text| comment(text))
                .collect::<Vec<_>>()
                .join(": ");
            let comment = if comment.is_empty() { String::new() } else { format!("  # {comment}") };
            text.push_str(&format!("{digest}{comment}\n"));
        }
        let file = Path::new(crate::policy::ETC).join(PLACE).join(LIST);
        found.push(DeniedEntry { digest, what, before, file });
    }
    if found.iter().any(|entry| !entry.before) {
        writer.write(LIST, text.as_bytes())?;
        // If this host could not read the entry, it would refuse everything.
        Denied::load(&Directories::system())?;
    }
    Ok(found)
}

/// Turns text into one line, so that a list takes it for a comment.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn is_digest(text: &str) -> bool {
    ["sha256:", "sha512:", "fsverity-sha256-12:", "fsverity-sha512-12:"].iter().any(|start| {
        text.strip_prefix(start).is_some_and(|hex| {
            matches!(hex.len(), 64 | 128) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    })
}

/// Lists manifest and config of an image: the same image under another manifest has the same config.
fn image(context: &Context, wanted: &str) -> Result<Vec<(String, String)>> {
    let entries = |image: &crate::oci::Image, name: &str| {
        vec![
            (image.digest.to_string(), format!("{name} (manifest)")),
            (image.config_digest.to_string(), format!("{name} (config)")),
        ]
    };
    let remote = wanted.contains("://") || wanted.starts_with("oci:") || wanted.starts_with('@');
    if !remote {
        match ImageSelection::Named(vec![wanted.to_owned()]).by_word(context) {
            Ok(found) => {
                let mut all = Vec::new();
                for (_, stored) in &found {
                    let claimed = stored.image.as_ref().map_err(Clone::clone)?;
                    claimed.images.iter().for_each(|candidate| all.extend(entries(&candidate.image, wanted)));
                }
                return Ok(all);
            }
            // It may only be in the vault.
            Err(refusal) if refusal.case() != Case::NotStored || !context.has_vault()? => return Err(refusal),
            Err(_) => {}
        }
    }
    let reference: Reference = wanted.parse()?;
    Ok(entries(&context.locate(&reference, None)?.image, wanted))
}

fn deny_certificates(path: &str, reason: Option<&str>) -> Result<Vec<DeniedEntry>> {
    let store = TrustStore::load(&[path.into()], Ownership::Any)?;
    let writer = ConfigWriter::of(PLACE)?;
    let denied = Denied::load(&Directories::system())?;
    let mut found = Vec::new();
    for certificate in store.certificates() {
        let before = denied.certificate(certificate.fingerprint()).is_err();
        let name = certificate_file(certificate);
        let mut file = Path::new(crate::policy::ETC).join(PLACE).join(&name);
        if !before {
            file = writer.write(&name, certificate.der())?;
            if let Some(reason) = reason {
                let text = writer.read(LIST)?;
                let line = format!(
                    "# {} {}: {}\n",
                    certificate.fingerprint(),
                    comment(certificate.subject()),
                    comment(reason)
                );
                writer.write(LIST, (text + &line).as_bytes())?;
            }
        }
        let (digest, what) = (certificate.fingerprint().to_string(), certificate.subject().to_owned());
        found.push(DeniedEntry { digest, what, before, file });
    }
    Denied::load(&Directories::system())?;
    Ok(found)
}

/// Returns a file name that is the same for the same certificate, whatever its file was called.
pub(super) fn certificate_file(certificate: &Certificate) -> String {
    format!("{}.der", certificate.fingerprint())
}
