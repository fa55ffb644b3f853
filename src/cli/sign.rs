use std::path::Path;

use crate::cli::args;
use crate::cli::home::Home;
use crate::cli::inline;
use crate::cli::output;
use crate::cli::seal::Plan;
use crate::pki::{Dates, Ownership, Signer, TrustStore, key_file_mode_warning, parse_signature, verify_signature};
use crate::report::{Case, Refusal, Result};
use crate::sys::files;
use crate::sys::process::now;

/// Bytes of a key, certificate or signature file: far more than any is.
const SMALL_FILE: u64 = 1 << 20;

/// `layerseal sign`
pub(super) fn run(home: &Home, args: &args::Sign) -> anyhow::Result<()> {
    // The key first: a wrong one should not cost the reading of the layers.
    let signer = signer(args)?;
    let images = match args.platform {
        Some(_) => vec![args.image.clone()],
        None => home.instances(&args.image)?,
    };
    for image in &images {
        let located = home.locate(image, args.platform.as_ref())?;
        let plan = Plan::new(located, home, &args.statement, true)?;
        if args.inline {
            inline::sign(plan, image, |item| signer.sign(&item.to_sign()).map_err(|r| r.within(item.role)))?;
            continue;
        }
        let artifact =
            plan.artifact(args.format, |item| signer.sign(&item.to_sign()).map_err(|r| r.within(item.role)))?;
        output::line(plan.store(home, &artifact, args.output.as_ref())?);
    }
    Ok(())
}

fn signer(args: &args::Sign) -> Result<Signer> {
    let certificate = read(&args.cert)?;
    let key = read(&args.key)?;
    let metadata = std::fs::metadata(&args.key).map_err(|e| Refusal::io(args.key.display().to_string(), e))?;
    if let Some(warning) = key_file_mode_warning(&args.key, &metadata) {
        log::warn!("{warning}");
    }
    let passphrase = args.passphrase_file.as_deref().map(read).transpose()?;
    let passphrase = passphrase.as_deref().map(|bytes| bytes.strip_suffix(b"\n").unwrap_or(bytes));
    let signer =
        Signer::new(&certificate, &key, passphrase, &args.key.display().to_string())?.embedding(args.embed_cert);
    if signer.certificate().not_after() < now() || signer.certificate().not_before() > now() {
        log::warn!(
            "{}: the certificate is outside its dates; hosts that enforce them will refuse the seal",
            args.cert.display()
        );
    }
    Ok(signer)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let refuse = |e: std::io::Error| Refusal::new(Case::KeyMismatch, path.display().to_string(), e);
    files::read_all(std::fs::File::open(path).map_err(refuse)?, SMALL_FILE).map_err(refuse)
}

/// `layerseal attach`
pub(super) fn attach(home: &Home, args: &args::Attach) -> anyhow::Result<()> {
    let trusted = match args.trust.as_slice() {
        [] => None,
        paths => Some(TrustStore::load(paths, Ownership::Any)?),
    };
    let file = |name: &str| {
        let path = args.signatures.join(name);
        let open = std::fs::File::open(&path).and_then(|f| files::read_all(f, SMALL_FILE));
        open.map_err(|e| Refusal::new(Case::D03Coverage, path.display().to_string(), e))
    };
    let statement = file("binding").map_err(|r| {
        Refusal::new(Case::D16Binding, r.subject().to_owned(), "make it with `layerseal digest --write DIR`")
    })?;
    let located = home.locate(&args.image, args.platform.as_ref())?;
    let plan = Plan::with_statement(home, located, &statement)?;
    let artifact = plan.artifact(args.format, |item| {
        let name = format!("{}.sig", item.role);
        let der = file(&name)?;
        let subject = args.signatures.join(&name).display().to_string();
        parse_signature(&der, &subject)?;
        if let Some(store) = &trusted {
            verify_signature(&der, &item.to_sign(), store.certificates(), Dates::Enforce, now(), &subject)?;
        }
        Ok(der)
    })?;
    output::line(plan.store(home, &artifact, args.output.as_ref())?);
    Ok(())
}
