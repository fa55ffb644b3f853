//! Making the signatures of a seal.

use std::cell::Cell;
use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::pkey::{PKey, Private};
use openssl::provider::Provider;
use openssl::stack::Stack;

use crate::error::{Case, Refusal, Result};
use crate::pki::bundle;
use crate::pki::formatted_digest::is_formatted_digest;
use crate::pki::low_s;
use crate::pki::pkcs7::{Certificate, Dates, verify};
use crate::sys::key_store;

/// A file that somebody named: what is in it, and its name for messages.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// What is in it.
    pub bytes: &'a [u8],
    /// What refusals call it.
    pub name: &'a str,
}

/// A key and the certificate that belongs to it.
pub struct Signer {
    certificate: Certificate,
    key: PKey<Private>,
    embed: bool,
}

impl Signer {
    /// Makes a signer like [`Self::from_files`], where both files have one name in refusals.
    ///
    /// # Errors
    /// The same.
    pub fn new(certificate: &[u8], key: &[u8], passphrase: Option<&[u8]>, name: &str) -> Result<Self> {
        Self::from_files(Named { bytes: certificate, name }, Named { bytes: key, name }, passphrase)
    }

    /// Makes a signer from the certificate in `certificate` (PEM or DER) that belongs to the private key in `key` (PEM;
    /// PKCS#8, or OpenSSL's older forms). Others there are its chain, and are not looked at. `passphrase` is for an
    /// encrypted key; nobody is ever asked for one.
    ///
    /// The dates of the certificate are not checked: [`Certificate::not_after`] tells them.
    ///
    /// # Errors
    /// [`Case::KeyMismatch`] if the key cannot be read or belongs to no certificate there, or to several;
    /// [`Case::F02Certificate`] and others of [`Certificate::from_der`] about the certificate.
    pub fn from_files(certificate: Named<'_>, key: Named<'_>, passphrase: Option<&[u8]>) -> Result<Self> {
        let private = private_key(key.bytes, passphrase).map_err(|why| unusable(key.name, &why))?;
        Self::with_key(certificate, private, key.name)
    }

    /// Makes a signer whose key OpenSSL finds by a URI, such as `pkcs11:` (RFC 7512): the key stays where it is. The
    /// provider of the URI's scheme is loaded, where there is one.
    ///
    /// # Errors
    /// As for [`Self::from_files`].
    pub fn by_uri(certificate: Named<'_>, uri: &str) -> Result<Self> {
        let scheme = uri.split(':').next().unwrap_or_default();
        // Loading one provider, or trying to, means that the default one must be loaded too. They stay as long as their
        // keys.
        let load = |name: &str| Provider::load(None, name).map(std::mem::forget);
        let loaded = load("default").and_then(|()| load(scheme));
        match loaded {
            Err(e) if scheme == "pkcs11" => {
                let why = format!("OpenSSL has no provider for it ({}); install pkcs11-provider", reason(&e));
                return Err(unusable(uri, &why));
            }
            Err(e) => log::debug!("no provider {scheme}: {}", reason(&e)),
            Ok(()) => {}
        }
        let key = key_store::private_key(uri).map_err(|e| unusable(uri, &format!("no key: {}", reason(&e))))?;
        let key = key.ok_or_else(|| unusable(uri, &"there is no private key"))?;
        Self::with_key(certificate, key, uri)
    }

    fn with_key(certificate: Named<'_>, key: PKey<Private>, name: &str) -> Result<Self> {
        match bundle::certificate_of(&key, certificate.bytes, certificate.name)? {
            Ok(certificate) => Ok(Self { certificate, key, embed: false }),
            Err(subjects) => {
                let others = subjects.join("; ");
                Err(unusable(name, &format!("it is not the key of {others}, in {}", certificate.name)))
            }
        }
    }

    /// Sets whether signatures carry the certificate: for hosts that trust an anchor and not the signer itself
    /// ([`crate::pki::leaf`]).
    #[must_use]
    pub fn embedding(self, embed: bool) -> Self {
        Self { embed, ..self }
    }

    /// Returns the certificate that signatures name.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Signs the formatted digest `content`: the signature is PKCS#7 in DER, detached, with SHA-256, without attributes
    /// and, unless [`Self::embedding`] asks for them, without certificates. With an RSA key the same content gives the
    /// same bytes.
    ///
    /// Nothing leaves that [`verify`] would not accept.
    ///
    /// # Errors
    /// [`Case::E06Content`] if `content` is not a formatted digest: a key for seals signs nothing
    /// else. [`Case::KeyMismatch`] if OpenSSL cannot sign with this key, and [`Case::Bug`] if what
    /// it made does not verify.
    pub fn sign(&self, content: &[u8]) -> Result<Vec<u8>> {
        let subject = self.certificate.subject();
        if !is_formatted_digest(content) {
            return Err(Refusal::new(Case::E06Content, subject, "not signed"));
        }
        let der = self
            .openssl_sign(content)
            .map_err(|e| unusable(subject, &format!("OpenSSL does not sign: {}", reason(&e))))?;
        let trusted = std::slice::from_ref(&self.certificate);
        verify(&der, content, trusted, Dates::Ignore, 0, subject)
            .map_err(|refusal| Refusal::new(Case::Bug, subject, format!("own signature refused: {refusal}")))?;
        Ok(der)
    }

    fn openssl_sign(&self, content: &[u8]) -> std::result::Result<Vec<u8>, ErrorStack> {
        let mut flags = Pkcs7Flags::DETACHED | Pkcs7Flags::BINARY | Pkcs7Flags::NOATTR;
        flags.set(Pkcs7Flags::NOCERTS, !self.embed);
        let no_others = Stack::new()?;
        // The certificate travels in that of its two encodings that is read.
        let certificate = self.certificate.x509()?;
        let lowered = if self.embed { low_s::lowered(certificate)? } else { None };
        let certificate = lowered.as_deref().unwrap_or(certificate);
        Pkcs7::sign(certificate, &self.key, &no_others, content, flags)?.to_der()
    }
}

/// The certificate; never the key.
impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

fn unusable(name: &str, detail: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Case::KeyMismatch, name, detail)
}

/// Reads the private key in `pem`; the error says why there is none.
///
/// OpenSSL asks the terminal for a passphrase unless it is given a callback, so it always is.
fn private_key(pem: &[u8], passphrase: Option<&[u8]>) -> std::result::Result<PKey<Private>, String> {
    let asked = Cell::new(false);
    let too_long = Cell::new(false);
    let key = PKey::private_key_from_pem_callback(pem, |buffer| {
        asked.set(true);
        let secret = passphrase.unwrap_or_default();
        match buffer.get_mut(..secret.len()) {
            Some(room) => {
                room.copy_from_slice(secret);
                Ok(secret.len())
            }
            None => {
                too_long.set(true);
                Err(ErrorStack::get())
            }
        }
    });
    match key {
        Ok(_) if asked.get() && passphrase.is_none() => Err("it is encrypted, with an empty passphrase".into()),
        Ok(key) => Ok(key),
        Err(_) if too_long.get() => Err("the passphrase is too long".into()),
        Err(_) if asked.get() && passphrase.is_none() => Err("it is encrypted, and no passphrase is given".into()),
        Err(_) if asked.get() => Err("it is encrypted, and the passphrase is wrong".into()),
        Err(_) if pem.trim_ascii_start().starts_with(b"pkcs11:") => {
            Err("it holds a PKCS#11 URI: give that itself as the key".into())
        }
        Err(e) => Err(format!("it is not a private key in PEM: {}", reason(&e))),
    }
}

/// Returns the last of OpenSSL's reasons.
fn reason(stack: &ErrorStack) -> &'static str {
    stack.errors().last().and_then(openssl::error::Error::reason).unwrap_or("no reason given")
}

/// Returns a warning when a file of a private key can be read or written by others than its owner; `metadata` is that
/// of the opened file.
pub fn key_file_mode_warning(path: &Path, metadata: &Metadata) -> Option<String> {
    let mode = metadata.permissions().mode() & 0o7777;
    // The secret does not stay in a pipe or a terminal.
    (metadata.is_file() && mode & 0o066 != 0).then(|| {
        format!("{}: the key has mode {mode:04o}, so others than its owner can use it; chmod 600", path.display())
    })
}
