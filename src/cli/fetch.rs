use std::process::ExitCode;

use crate::cli::{args, json, output};
use crate::digest::BlobDigest;
use crate::error::{Refusal, Result};
use crate::ops::{
    Context, FetchRequest, ImageSelection, PrepareRequest, Readiness, StoredOutcome, fetch_seals, prepare,
};
use crate::policy::Mode;
use crate::start::UserReadiness;

/// Runs `layerseal fetch`.
pub(super) fn run(context: &Context, args: args::Fetch) -> Result<ExitCode> {
    let request = FetchRequest { images: choice(args.images, args.all), from: args.from };
    let mut images = Vec::new();
    let mut sum = Sum::default();
    let refused = fetch_seals(context, &request, &mut |outcome| match &outcome.result {
        _ if args.json => images.push(fetched(&outcome)),
        Err(_) if outcome.excused => {
            sum.unasked += 1;
            output::line(format!("{} has no seals, and none is asked for", outcome.name()));
        }
        Ok(seals) => {
            let s = if seals.len() == 1 { "" } else { "s" };
            sum.done += 1;
            output::line(format!("{} {} seal{s}", outcome.name(), seals.len()));
        }
        Err(refusal) => {
            sum.refused += 1;
            output::error_line(refusal);
        }
    })?;
    if args.json {
        output::document(json::Fetched { images });
    } else if args.all {
        output::line(sum.line("with seals", "without"));
    }
    Ok(code(refused))
}

/// Runs `layerseal prepare`.
pub(super) fn prepared(context: &Context, args: args::Prepare) -> Result<ExitCode> {
    let request =
        PrepareRequest { images: choice(args.images, args.all), seals: args.seal, seals_only: args.seals_only };
    let mut images = Vec::new();
    let mut sum = Sum::default();
    let refused = prepare(context, &request, &mut |outcome| match &outcome.result {
        _ if args.json => images.push(readiness(&outcome)),
        Ok(ready) => {
            match ready {
                Readiness::Off | Readiness::OfUser(UserReadiness::Unasked) => sum.unasked += 1,
                Readiness::OfUser(UserReadiness::Audit(_)) => sum.audit += 1,
                Readiness::Ready(prepared) if prepared.would_refuse.is_some() => sum.audit += 1,
                Readiness::Ready(_) | Readiness::SealsOnly | Readiness::OfUser(UserReadiness::Sealed(_)) => {
                    sum.done += 1;
                }
            }
            output::line(tell(outcome.name(), ready));
        }
        Err(refusal) => {
            sum.refused += 1;
            output::error_line(refusal);
        }
    })?;
    if args.json {
        output::document(json::Prepared { images });
    } else if args.all {
        output::line(sum.line("ready", "refused"));
    }
    Ok(code(refused))
}

/// The outcome for all images.
#[derive(Default)]
struct Sum {
    done: usize,
    unasked: usize,
    audit: usize,
    refused: usize,
}

impl Sum {
    fn line(&self, done: &str, refused: &str) -> String {
        let words = [
            (self.done, done),
            (self.audit, "ready and only let pass by audit"),
            (self.unasked, "of which nothing is asked"),
            (self.refused, refused),
        ];
        let all: usize = words.iter().map(|(n, _)| n).sum();
        let words: Vec<String> = words.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
        let s = if all == 1 { "" } else { "s" };
        if words.is_empty() { "no images".into() } else { format!("{all} image{s}: {}", words.join(", ")) }
    }
}

fn choice(names: Vec<String>, all: bool) -> ImageSelection {
    if all { ImageSelection::All } else { ImageSelection::Named(names) }
}

fn code(refused: Option<Refusal>) -> ExitCode {
    refused.map_or(ExitCode::SUCCESS, |refusal| ExitCode::from(refusal.case().class().exit_code()))
}

fn fetched(outcome: &StoredOutcome<'_, Vec<BlobDigest>>) -> json::FetchedImage {
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
        Readiness::OfUser(UserReadiness::Unasked) => format!("{name} not looked at: nothing is asked of it"),
        Readiness::OfUser(UserReadiness::Audit(refusal)) => {
            format!("{name} is started by fuse-overlayfs, enforce would refuse it: {refusal}")
        }
        Readiness::OfUser(UserReadiness::Sealed(vouched)) => match &vouched.signer {
            Some(signer) => format!("{name} ready, sealed by {signer}"),
            None => format!("{name} ready"),
        },
        Readiness::Ready(p) => match (&p.would_refuse, &p.signer) {
            (Some(refusal), _) => format!("{name} ready, would be refused: {refusal}"),
            (None, Some(signer)) => format!("{name} ready, sealed by {}", signer.subject),
            (None, None) => format!("{name} ready, not sealed"),
        },
    }
}

fn readiness(outcome: &StoredOutcome<'_, Readiness>) -> json::PreparedImage {
    let error = outcome.result.as_ref().err().map(Into::into);
    let (id, names) = (outcome.stored.id.clone(), outcome.stored.names.clone());
    let nothing = json::PreparedImage {
        id,
        names,
        mode: None,
        ready: false,
        manifest: None,
        seal: None,
        signed_manifest: None,
        signer: None,
        would_refuse: None,
        error,
    };
    match &outcome.result {
        Ok(Readiness::Ready(prepared)) => json::PreparedImage {
            mode: Some(prepared.decision.mode),
            ready: true,
            manifest: Some(prepared.manifest.to_string()),
            seal: prepared.seal.map(|seal| seal.to_string()),
            signed_manifest: prepared.signed_manifest.map(|digest| digest.to_string()),
            signer: prepared.signer.as_ref().map(|signer| signer.subject.clone()),
            would_refuse: prepared.would_refuse.as_ref().map(Into::into),
            ..nothing
        },
        Ok(Readiness::OfUser(UserReadiness::Sealed(vouched))) => json::PreparedImage {
            mode: Some(vouched.mode),
            ready: true,
            manifest: Some(vouched.image.to_string()),
            seal: vouched.seal.map(|seal| seal.to_string()),
            signer: vouched.signer.clone(),
            ..nothing
        },
        Ok(Readiness::OfUser(UserReadiness::Audit(refusal))) => {
            json::PreparedImage { mode: Some(Mode::Audit), would_refuse: Some(refusal.into()), ..nothing }
        }
        Ok(Readiness::Off | Readiness::OfUser(UserReadiness::Unasked)) => {
            json::PreparedImage { mode: Some(Mode::Off), ..nothing }
        }
        Ok(Readiness::SealsOnly) | Err(_) => nothing,
    }
}
