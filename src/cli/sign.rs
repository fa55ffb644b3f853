use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::args;
use crate::cli::home::Home;
use crate::cli::inline;
use crate::cli::output;
use crate::cli::seal::{Item, Plan};
use crate::digest::BlobDigest;
use crate::oci::{Instance, Reference};
use crate::pki::{Dates, Ownership, Signer, TrustStore, key_file_mode_warning, parse_signature, verify_signature};
use crate::report::{Case, Class, Refusal, Result};
use crate::sys::files;
use crate::sys::process::now;

/// Bytes of a key, certificate or signature file: far more than any is.
const SMALL_FILE: u64 = 1 << 20;

/// `layerseal sign`
pub(super) fn run(home: &Home, args: &args::Sign) -> anyhow::Result<ExitCode> {
    // The key first: a wrong one should not cost the reading of the layers.
    let signer = signer(args)?;
    let instances = match args.platform {
        Some(_) => None,
        None => home.instances(&args.image)?,
    };
    let code = match instances {
        Some(instances) => every(home, args, &signer, &instances),
        None => {
            let digest = one(home, args, &signer, &args.image)?;
            digest.iter().for_each(output::line);
            ExitCode::SUCCESS
        }
    };
    if args.statement.identity.is_empty() && code == ExitCode::SUCCESS {
        log::warn!(
            "the seal names nobody: it is good for this image under any name, and hosts ask for one; see --identity"
        );
    }
    Ok(code)
}

/// Every instance of a multi-platform image that can be sealed. One that cannot does not keep the others from it.
fn every(home: &Home, args: &args::Sign, signer: &Signer, instances: &[(Reference, Instance)]) -> ExitCode {
    let mut failed: Option<Class> = None;
    for (image, instance) in instances {
        let platform = instance.platform.as_deref().unwrap_or("no platform");
        if let Some(what) = instance.passed_over {
            log::warn!("{platform} {} is skipped: {what}", instance.digest);
            continue;
        }
        match one(home, args, signer, image) {
            Ok(digest) => digest.iter().for_each(|digest| output::line(format!("{digest} {platform}"))),
            Err(refusal) => {
                let refusal = refusal.within(format!("{platform} {}", instance.digest));
                failed = failed.or(Some(refusal.case().class()));
                output::error_line(&refusal);
            }
        }
    }
    failed.map_or(ExitCode::SUCCESS, |class| ExitCode::from(class.exit_code()))
}

/// The seal's digest; `None` for one that was written into the image itself.
fn one(home: &Home, args: &args::Sign, signer: &Signer, image: &Reference) -> Result<Option<BlobDigest>> {
    let located = home.locate(image, args.platform.as_ref())?;
    let plan = Plan::new(located, home, &args.statement, true)?;
    let der = |item: &Item<'_>| signer.sign(&item.to_sign()).map_err(|r| r.within(item.role));
    if args.inline {
        inline::sign(plan, image, der)?;
        return Ok(None);
    }
    let artifact = plan.artifact(args.format, der)?;
    plan.store(home, &artifact, args.output.as_ref()).map(Some)
}

fn signer(args: &args::Sign) -> Result<Signer> {
    let certificate = read(&args.cert)?;
    let signer = match uri(&args.key) {
        Some(uri) => Signer::by_uri(&certificate, &with_pin(uri, args.passphrase_file.as_deref())?)?,
        None => from_file(&certificate, args)?,
    };
    let signer = signer.embedding(args.embed_cert);
    if signer.certificate().not_after() < now() || signer.certificate().not_before() > now() {
        log::warn!(
            "{}: the certificate is outside its dates; hosts that enforce them will refuse the seal",
            args.cert.display()
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

fn from_file(certificate: &[u8], args: &args::Sign) -> Result<Signer> {
    let key = read(&args.key)?;
    let name = args.key.display().to_string();
    let metadata = std::fs::metadata(&args.key).map_err(|e| Refusal::io(&name, e))?;
    if let Some(warning) = key_file_mode_warning(&args.key, &metadata) {
        log::warn!("{warning}");
    }
    let passphrase = match &args.passphrase_file {
        Some(file) => Some(read(file)?),
        None if is_encrypted(&key) && std::io::stdin().is_terminal() => Some(ask(&name)?),
        None => None,
    };
    let passphrase = passphrase.as_deref().map(|bytes| bytes.strip_suffix(b"\n").unwrap_or(bytes));
    Signer::new(certificate, &key, passphrase, &name)
}

/// By what PEM says of it (RFC 7468, section 11; RFC 1421, "Proc-Type").
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |word: &[u8]| pem.windows(word.len()).any(|w| w == word);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn ask(key: &str) -> Result<Vec<u8>> {
    let asked = rpassword::prompt_password(format!("Passphrase for {key}: "));
    asked.map(String::into_bytes).map_err(|e| Refusal::new(Case::KeyMismatch, key, e))
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
    let statement = file("binding")
        .map_err(|r| Refusal::new(Case::D16Binding, r.subject(), "make it with `layerseal digest --write DIR`"))?;
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
