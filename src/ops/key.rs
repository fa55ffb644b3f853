use std::path::{Path, PathBuf};

use crate::pki::{Signer, key_file_mode_warning};
use crate::report::{Case, Refusal, Result};
use crate::sys::files;
use crate::sys::process::now;

/// Bytes of a key, certificate or signature file: far more than any is.
pub(super) const SMALL_FILE: u64 = 1 << 20;

/// Where a signer's key and certificate are.
#[derive(Clone, Debug)]
pub struct Key {
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The file of the key, or a URI that OpenSSL has a provider for.
    pub key: PathBuf,
    /// The file of its passphrase, or of the PIN of its token.
    pub passphrase_file: Option<PathBuf>,
    /// Whether signatures are to hold the certificate.
    pub embed_certificate: bool,
}

/// The signer whom a key and a certificate make. `ask` gives the passphrase of an encrypted key, where nothing else
/// does and somebody is there who knows it.
///
/// # Errors
/// [`Case::KeyMismatch`] and others of [`Signer::new`].
pub fn signer(key: &Key, ask: &dyn Fn(&str) -> Option<std::io::Result<String>>) -> Result<Signer> {
    let certificate = read(&key.certificate)?;
    let signer = match uri(&key.key) {
        Some(uri) => Signer::by_uri(&certificate, &with_pin(uri, key.passphrase_file.as_deref())?)?,
        None => from_file(&certificate, key, ask)?,
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

/// A key that is no file, and begins with a scheme (RFC 3986, section 3.1).
fn uri(key: &Path) -> Option<&str> {
    let text = key.to_str().filter(|_| !key.exists())?;
    let (scheme, _) = text.split_once(':')?;
    let valid = scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-".contains(&b));
    valid.then_some(text)
}

/// The URI, with the file of the PIN where it names none itself (RFC 7512, "pin-source").
fn with_pin(uri: &str, file: Option<&Path>) -> Result<String> {
    let Some(file) = file.filter(|_| !uri.contains("pin-")) else { return Ok(uri.to_owned()) };
    let path = std::path::absolute(file).map_err(|e| Refusal::new(Case::KeyMismatch, file.display().to_string(), e))?;
    Ok(format!("{uri}{}pin-source=file:{}", if uri.contains('?') { '&' } else { '?' }, path.display()))
}

fn from_file(certificate: &[u8], key: &Key, ask: &dyn Fn(&str) -> Option<std::io::Result<String>>) -> Result<Signer> {
    let pem = read(&key.key)?;
    let name = key.key.display().to_string();
    let metadata = std::fs::metadata(&key.key).map_err(|e| Refusal::io(&name, e))?;
    if let Some(warning) = key_file_mode_warning(&key.key, &metadata) {
        log::warn!("{warning}");
    }
    let passphrase = match &key.passphrase_file {
        Some(file) => Some(read(file)?),
        None if is_encrypted(&pem) => ask(&name)
            .transpose()
            .map_err(|e| Refusal::new(Case::KeyMismatch, name.as_str(), e))?
            .map(String::into_bytes),
        None => None,
    };
    let passphrase = passphrase.as_deref().map(|bytes| bytes.strip_suffix(b"\n").unwrap_or(bytes));
    Signer::new(certificate, &pem, passphrase, &name)
}

/// By what PEM says of it (RFC 7468, section 11; RFC 1421, "Proc-Type").
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |word: &[u8]| pem.windows(word.len()).any(|w| w == word);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let refuse = |e: std::io::Error| Refusal::new(Case::KeyMismatch, path.display().to_string(), e);
    files::read_all(std::fs::File::open(path).map_err(refuse)?, SMALL_FILE).map_err(refuse)
}
