use std::process::ExitCode;

use crate::cli::{args, json, output};
use crate::digest::BlobDigest;
use crate::ops::{Choice, Context, FetchRequest, Outcome, PrepareRequest, Readiness, fetch_seals, prepare};
use crate::policy::Mode;
use crate::report::{Refusal, Result};

/// `layerseal fetch`
pub(super) fn run(context: &Context, args: args::Fetch) -> Result<ExitCode> {
    let request = FetchRequest { images: choice(args.images, args.all), from: args.from };
    let mut images = Vec::new();
    let refused = fetch_seals(context, &request, &mut |outcome| match &outcome.result {
        _ if args.json => images.push(fetched(&outcome)),
        Ok(seals) => {
            let s = if seals.len() == 1 { "" } else { "s" };
            output::line(format!("{} {} seal{s}", outcome.name(), seals.len()));
        }
        Err(refusal) => output::error_line(refusal),
    })?;
    if args.json {
        output::document(json::Fetched { images });
    }
    Ok(code(refused))
}

/// `layerseal prepare`
pub(super) fn prepared(context: &Context, args: args::Prepare) -> Result<ExitCode> {
    let request =
        PrepareRequest { images: choice(args.images, args.all), seals: args.seal, seals_only: args.seals_only };
    let mut images = Vec::new();
    let refused = prepare(context, &request, &mut |outcome| match &outcome.result {
        _ if args.json => images.push(readiness(&outcome)),
        Ok(ready) => output::line(tell(outcome.name(), ready)),
        Err(refusal) => output::error_line(refusal),
    })?;
    if args.json {
        output::document(json::Prepared { images });
    }
    Ok(code(refused))
}

fn choice(names: Vec<String>, all: bool) -> Choice {
    if all { Choice::All } else { Choice::Named(names) }
}

fn code(refused: Option<Refusal>) -> ExitCode {
    refused.map_or(ExitCode::SUCCESS, |refusal| ExitCode::from(refusal.case().class().exit_code()))
}

fn fetched(outcome: &Outcome<'_, Vec<BlobDigest>>) -> json::FetchedImage {
    json::FetchedImage {
        id: outcome.stored.id.clone(),
        names: outcome.stored.names.clone(),
        seals: outcome.result.iter().flatten().map(ToString::to_string).collect(),
        error: outcome.result.as_ref().err().map(Into::into),
    }
}

fn tell(name: &str, outcome: &Readiness) -> String {
    match outcome {
        Readiness::Off => format!("{name} not looked at (mode off)"),
        Readiness::SealsOnly => format!("{name} has its seals"),
        Readiness::Ready(p) => match (&p.would_refuse, &p.signer) {
            (Some(refusal), _) => format!("{name} ready, would be refused: {refusal}"),
            (None, Some(signer)) => format!("{name} ready, sealed by {}", signer.subject),
            (None, None) => format!("{name} ready, not sealed"),
        },
    }
}

fn readiness(outcome: &Outcome<'_, Readiness>) -> json::PreparedImage {
    let ready = if let Ok(Readiness::Ready(prepared)) = &outcome.result { Some(prepared) } else { None };
    json::PreparedImage {
        id: outcome.stored.id.clone(),
        names: outcome.stored.names.clone(),
        mode: match &outcome.result {
            Ok(Readiness::Off) => Some(Mode::Off),
            _ => ready.map(|p| p.decision.mode),
        },
        ready: ready.is_some(),
        manifest: ready.map(|p| p.manifest.to_string()),
        seal: ready.and_then(|p| p.seal).map(|seal| seal.to_string()),
        signed_manifest: ready.and_then(|p| p.signed_manifest).map(|digest| digest.to_string()),
        signer: ready.and_then(|p| p.signer.as_ref()).map(|signer| signer.subject.clone()),
        would_refuse: ready.and_then(|p| p.would_refuse.as_ref()).map(Into::into),
        error: outcome.result.as_ref().err().map(Into::into),
    }
}
