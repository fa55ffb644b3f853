use serde_json::json;

use crate::cli::args;
use crate::cli::output;
use crate::pki::{Ownership, TrustStore};
use crate::report::{Case, Refusal, Result};
use crate::sys::keyring::VerityKeyring;
use crate::sys::verity;

fn keyring() -> Result<VerityKeyring> {
    if !verity::kernel_verifies() {
        return Err(Refusal::new(Case::G08Unchecked, "kernel", "it has no fs.verity.require_signatures"));
    }
    VerityKeyring::find()
}

/// `layerseal keyring add-cert`
pub(super) fn add(args: &args::AddCert) -> Result<()> {
    // All are read before the first goes in: nothing happens by halves.
    let store = TrustStore::load(&args.certificates, Ownership::Any)?;
    let keyring = keyring()?;
    for certificate in store.certificates() {
        let serial = keyring.add(certificate.der()).map_err(|r| r.within(certificate.subject()))?;
        output::line(format!("{serial:x} {} {}", certificate.fingerprint(), certificate.subject()));
    }
    Ok(())
}

/// `layerseal keyring list`
pub(super) fn list(args: &args::KeyringList) -> Result<()> {
    let keys = keyring()?.list()?;
    if args.json {
        let keys: Vec<_> = keys.iter().map(|k| json!({"serial": k.serial, "description": k.description})).collect();
        output::document(&json!(keys));
        return Ok(());
    }
    keys.iter().for_each(|key| output::line(format!("{:x} {}", key.serial, key.description)));
    Ok(())
}

/// `layerseal keyring restrict`
pub(super) fn restrict() -> Result<()> {
    keyring()?.restrict()
}
