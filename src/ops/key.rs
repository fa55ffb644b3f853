use std::path::{Path, PathBuf};

use crate::error::{Case, Refusal, Result};
use crate::pki::{Named, Signer, key_file_mode_warning};
use crate::sys::files;
use crate::sys::process::now;

/// How many bytes a key, certificate or signature file may have: far more than any has.
pub(super) const SMALL_FILE: u64 = 1 << 20;

/// Where a signer's key and certificate are.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The file of the key, or a URI that OpenSSL has a provider for.
    pub key: PathBuf,
    /// The file of its passphrase, or of the PIN of its token.
    pub passphrase_file: Option<PathBuf>,
    /// Whether signatures are to hold the certificate.
    pub embed_certificate: bool,
}

/// Makes a signer from a key and a certificate. `ask` gives the passphrase of an encrypted key, if nothing else does
/// and somebody is there to ask.
///
/// # Errors
/// [`Case::KeyMismatch`] and others of [`Signer::from_files`].
pub fn signer(key: &KeyFiles, ask: &dyn Fn(&str) -> Option<std::io::Result<String>>) -> Result<Signer> {
    let name = key.certificate.display().to_string();
    // Whatever is wrong with the certificate is not blamed on the key.
    let bytes = read(&key.certificate).map_err(|e| Refusal::new(Case::F02Certificate, name.as_str(), e))?;
    let certificate = Named { bytes: &bytes, name: &name };
    let signer = match uri(&key.key) {
        Some(uri) => Signer::by_uri(certificate, &with_pin(uri, key.passphrase_file.as_deref())?)?,
        None => from_file(certificate, key, ask)?,
    };
    let signer = signer.embedding(key.embed_certificate);
    if signer.certificate().not_after() < now() || signer.certificate().not_before() > now() {
        log::warn!(
            "{}: the certificate is outside its dates; hosts that enforce them will refuse the seal",
            key.certificate.display()
        );
    }
    Ok(signer)
}

/// Returns the URI of a key that is not a file, and begins with a scheme (RFC 3986, section 3.1).
fn uri(key: &Path) -> Option<&str> {
    let text = key.to_str().filter(|_| !key.exists())?;
    let (scheme, _) = text.split_once(':')?;
    let valid = scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b));
    valid.then_some(text)
}

/// Adds the file of the PIN to the URI, unless it names one itself (RFC 7512, "pin-source").
fn with_pin(uri: &str, file: Option<&Path>) -> Result<String> {
    let Some(file) = file.filter(|_| !uri.contains("pin-")) else { return Ok(uri.to_owned()) };
    let path = std::path::absolute(file).map_err(|e| Refusal::new(Case::KeyMismatch, file.display().to_string(), e))?;
    Ok(format!("{uri}{}pin-source=file:{}", if uri.contains('?') { '&' } else { '?' }, path.display()))
}

fn from_file(
    certificate: Named<'_>,
    key: &KeyFiles,
    ask: &dyn Fn(&str) -> Option<std::io::Result<String>>,
) -> Result<Signer> {
    let unusable = |path: &Path, e: std::io::Error| Refusal::new(Case::KeyMismatch, path.display().to_string(), e);
    let pem = read(&key.key).map_err(|e| unusable(&key.key, e))?;
    let name = key.key.display().to_string();
    let metadata = std::fs::metadata(&key.key).map_err(|e| Refusal::io(&name, e))?;
    if let Some(warning) = key_file_mode_warning(&key.key, &metadata) {
        log::warn!("{warning}");
    }
    let passphrase = match &key.passphrase_file {
        Some(file) => Some(read(file).map_err(|e| unusable(file, e))?),
        None if is_encrypted(&pem) => ask(&name)
            .transpose()
            .map_err(|e| Refusal::new(Case::KeyMismatch, name.as_str(), e))?
            .map(String::into_bytes),
        None => None,
    };
    let passphrase = passphrase.as_deref().map(|bytes| bytes.strip_suffix(b"\n").unwrap_or(bytes));
    Signer::from_files(certificate, Named { bytes: &pem, name: &name }, passphrase)
}

/// Tells by its PEM header whether a key is encrypted (RFC 7468, section 11; RFC 1421, "Proc-Type").
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |word: &[u8]| pem.windows(word.len()).any(|w| w == word);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    files::read_all(std::fs::File::open(path)?, SMALL_FILE)
}
