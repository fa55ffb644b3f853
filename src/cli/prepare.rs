use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::args;
use crate::cli::home::{Extra, Home};
use crate::cli::output;
use crate::cli::stored::Chosen;
use crate::identify::ClaimedImage;
use crate::policy::{Directories, Mode, Policy};
use crate::report::Result;
use crate::seal::About;
use crate::start::{Prepared, prepare_image, vault_of};

/// `layerseal prepare`
pub(super) fn run(home: &Home, args: &args::Prepare) -> anyhow::Result<ExitCode> {
    let policy = Policy::load(&Directories::system())?;
    let seals = Extra::open(home, &args.seal)?;
    let images = Chosen::new(home, &args.images, args.all, args.json)?;
    let work = |image: &ClaimedImage, name: &str| {
        if !args.seal.is_empty() {
            keep_seals(image, &seals, home)?;
        }
        if args.seals_only {
            return Ok(Outcome::SealsOnly);
        }
        one(&policy, image, name)
    };
    Ok(images.each(work, tell, more))
}

/// Puts the seals that `--seal` names beside the image.
fn keep_seals(image: &ClaimedImage, seals: &Extra, home: &Home) -> Result<()> {
    let vault = vault_of(&image.root)?;
    let _lock = vault.shared()?;
    for candidate in &image.images {
        for found in seals.about(&candidate.image, &home.budget)? {
            super::pull::copy_seal(&vault, &candidate.image, &found, About::Image, &home.budget)?;
        }
    }
    Ok(())
}

/// What became of an image.
enum Outcome {
    Ready(Box<Prepared>),
    /// Nothing is asked of it.
    Off,
    /// It was not looked at.
    SealsOnly,
}

fn one(policy: &Policy, image: &ClaimedImage, name: &str) -> Result<Outcome> {
    let Some(first) = image.images.first() else { return Ok(Outcome::Off) };
    let bar = super::progress::layers(&first.image, "preparing");
    let prepared = prepare_image(policy, image, &|n| bar.inc(n));
    bar.finish_and_clear();
    match prepared {
        Ok(Some(prepared)) => Ok(Outcome::Ready(Box::new(prepared))),
        Ok(None) => Ok(Outcome::Off),
        Err(r) => Err(r.within_once("image", name)),
    }
}

fn tell(name: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Off => format!("{name} not looked at (mode off)"),
        Outcome::SealsOnly => format!("{name} has its seals"),
        Outcome::Ready(p) => match (&p.would_refuse, &p.signer) {
            (Some(refusal), _) => format!("{name} ready, would be refused: {refusal}"),
            (None, Some(signer)) => format!("{name} ready, sealed by {}", signer.subject),
            (None, None) => format!("{name} ready, not sealed"),
        },
    }
}

fn more(result: &Result<Outcome>) -> Value {
    match result {
        Ok(Outcome::Off) => json!({ "mode": "off", "ready": false }),
        Ok(Outcome::SealsOnly) => json!({ "ready": false }),
        Ok(Outcome::Ready(p)) => json!({
            "mode": match p.decision.mode { Mode::Enforce => "enforce", Mode::Audit => "audit", Mode::Off => "off" },
            "ready": true,
            "manifest": p.manifest.to_string(),
            "seal": p.seal.map(|s| s.to_string()),
            "signed_manifest": p.signed_manifest.map(|d| d.to_string()),
            "signer": p.signer.as_ref().map(|s| &s.subject),
            "would_refuse": p.would_refuse.as_ref().map(output::refusal),
        }),
        Err(refusal) => json!({ "ready": false, "error": output::refusal(refusal) }),
    }
}
