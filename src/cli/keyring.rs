use crate::cli::{args, json, output};
use crate::error::{Case, Refusal, Result};
use crate::pki::{Ownership, TrustStore};
use crate::sys::keyring::VerityKeyring;
use crate::sys::verity;

fn keyring() -> Result<VerityKeyring> {
    if !verity::kernel_verifies() {
        return Err(Refusal::new(Case::G08Unchecked, "kernel", "it has no fs.verity.require_signatures"));
    }
    VerityKeyring::find()
}

/// Runs `layerseal keyring add-cert`.
pub(super) fn add(args: &args::AddCert) -> Result<()> {
    // All are read before the first one is added, so that nothing is half done.
    let store = TrustStore::load(&args.certificates, Ownership::Any)?;
    let keyring = keyring()?;
    let mut certificates = Vec::new();
    for certificate in store.certificates() {
        let serial = keyring.add(certificate.der()).map_err(|r| r.within(certificate.subject()))?;
        let (subject, sha256) = (certificate.subject().to_owned(), certificate.fingerprint().to_string());
        match args.json {
            true => certificates.push(json::AddedCertificate { serial, subject, sha256 }),
            false => output::line(format!("{serial:x} {sha256} {subject}")),
        }
    }
    if args.json {
        output::document(json::AddedCertificates { certificates });
    }
    Ok(())
}

/// Runs `layerseal keyring list`.
pub(super) fn list(args: &args::KeyringList) -> Result<()> {
    let keys = keyring()?.list()?;
    if args.json {
        let keys = keys.into_iter().map(|k| json::KernelKey { serial: k.serial, description: k.description });
        output::document(json::Keyring { keys: keys.collect() });
        return Ok(());
    }
    keys.iter().for_each(|key| output::line(format!("{:x} {}", key.serial, key.description)));
    Ok(())
}

/// Runs `layerseal keyring restrict`.
pub(super) fn restrict(args: &args::KeyringRestrict) -> Result<()> {
    keyring()?.restrict()?;
    if args.json {
        output::document(json::RestrictedKeyring { restricted: true });
    }
    Ok(())
}
