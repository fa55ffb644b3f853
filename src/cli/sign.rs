use std::io::IsTerminal as _;
use std::process::ExitCode;

use crate::cli::args::{self, FormatArg};
use crate::cli::{json, output};
use crate::error::{Class, Result};
use crate::ops::{
    self, AttachRequest, Context, KeyFiles, SealRequest, SignPushRequest, SignRequest, SignedInstance, Statement,
};
use crate::seal::Format;

/// Runs `layerseal sign`.
pub(super) fn run(context: &Context, args: args::Sign) -> Result<ExitCode> {
    let key = KeyFiles {
        certificate: args.cert,
        key: args.key,
        passphrase_file: args.passphrase_file,
        embed_certificate: args.embed_cert,
    };
    // The key comes first: a wrong one should not cost the time of reading the layers.
    let signer = ops::signer(&key, &ask)?;
    let pushed = args.push.is_some().then(|| args.image.to_string());
    let options = podman_options(&args.registry);
    let request = SignRequest {
        image: args.push.unwrap_or(args.image),
        statement: args.statement.into(),
        format: args.format.into(),
        inline: args.inline,
        platform: args.platform,
        output: args.output,
    };
    let mut images = Vec::new();
    let mut failed: Option<Class> = None;
    let inline = request.inline;
    let mut each = |signed: SignedInstance| {
        if let Err(refusal) = &signed.result {
            failed = failed.or(Some(refusal.case().class()));
        }
        match &signed.result {
            _ if args.json => images.push(document(&signed, inline)),
            Ok(digest) if signed.is_instance && !inline => {
                let platform = signed.platform.as_deref().unwrap_or("no platform");
                output::line(format!("{digest} {platform} {}", signed.image));
            }
            Ok(digest) => output::line(digest),
            Err(refusal) => output::error_line(refusal),
        }
    };
    let names = !request.statement.identities.is_empty() || pushed.is_some();
    match pushed {
        Some(image) => {
            let request = SignPushRequest { image, sign: request, options };
            ops::sign_and_push(context, request, &signer, &mut each)?;
        }
        None => ops::sign(context, &request, &signer, &mut each)?,
    }
    if args.json {
        output::document(json::Signed { images });
    }
    if !names && failed.is_none() {
        log::warn!(
            "the seal names nobody: it is good for this image under any name, and hosts ask for one; see --identity"
        );
    }
    Ok(failed.map_or(ExitCode::SUCCESS, |class| ExitCode::from(class.exit_code())))
}

fn document(signed: &SignedInstance, inline: bool) -> json::SignedImage {
    let digest = signed.result.as_ref().ok().map(ToString::to_string);
    let (sealed_image, seal) = if inline { (digest, None) } else { (None, digest) };
    json::SignedImage {
        image: signed.image.to_string(),
        platform: signed.platform.clone(),
        seal,
        sealed_image,
        error: signed.result.as_ref().err().map(Into::into),
    }
}

/// Returns how registries are reached, as podman's options.
fn podman_options(registry: &args::RegistryArgs) -> Vec<String> {
    let mut options = Vec::new();
    options.extend(registry.tls_verify.map(|verify| format!("--tls-verify={verify}")));
    options.extend(registry.authfile.as_ref().map(|file| format!("--authfile={}", file.display())));
    options.extend(registry.cert_dir.as_ref().map(|dir| format!("--cert-dir={}", dir.display())));
    options
}

/// Asks for a passphrase, if somebody is there.
fn ask(key: &str) -> Option<std::io::Result<String>> {
    std::io::stdin().is_terminal().then(|| rpassword::prompt_password(format!("Passphrase for {key}: ")))
}

/// Runs `layerseal seal`.
pub(super) fn seal(context: &Context, args: args::Seal) -> Result<()> {
    let request =
        SealRequest { image: args.image, algorithm: args.algorithm, inline: args.inline, platform: args.platform };
    let image = ops::seal(context, &request)?;
    match args.json {
        true => output::document(json::Sealed { image: image.to_string() }),
        false => output::line(image),
    }
    Ok(())
}

/// Runs `layerseal attach`.
pub(super) fn attach(context: &Context, args: args::Attach) -> Result<()> {
    let request = AttachRequest {
        image: args.image,
        signatures: args.signatures,
        format: args.format.into(),
        trust: args.trust,
        output: args.output,
        platform: args.platform,
    };
    let attached = ops::attach(context, &request)?;
    match args.json {
        true => output::document(json::Attached { image: attached.image.to_string(), seal: attached.seal.to_string() }),
        false => output::line(attached.seal),
    }
    Ok(())
}

impl From<args::StatementArgs> for Statement {
    fn from(args: args::StatementArgs) -> Self {
        Self { algorithm: args.algorithm, identities: args.identity, sequence: args.sequence }
    }
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::ErofsAlongside => Self::ErofsAlongside,
            FormatArg::Canonical => Self::Canonical,
            FormatArg::Metadata => Self::Metadata,
        }
    }
}
