use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::args;
use crate::cli::home::{Extra, Home};
use crate::cli::output;
use crate::identify::{ClaimedImage, StoredImage, stored_images};
use crate::policy::{Directories, Mode, Policy};
use crate::report::{Case, Class, Refusal, Result};
use crate::start::{Prepared, prepare_image, vault_of};

/// `layerseal prepare`
pub(super) fn run(home: &Home, args: &args::Prepare) -> anyhow::Result<ExitCode> {
    graph_root(&home.vault)?;
    let roots = home.stores()?;
    let policy = Policy::load(&Directories::system())?;
    let seals = Extra::open(&args.seal, &home.budget)?;
    let images: Vec<StoredImage> = match args.all {
        true => stored_images(&roots, None)?,
        false => args
            .images
            .iter()
            .map(|name| stored_images(&roots, Some(name)))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect(),
    };
    let mut worst: Option<Refusal> = None;
    let mut rows = Vec::new();
    for stored in &images {
        let result = stored.image.as_ref().map_err(Clone::clone).and_then(|image| {
            if !args.seal.is_empty() {
                keep_seals(image, &seals, home)?;
            }
            if args.seals_only {
                return Ok(Outcome::SealsOnly);
            }
            one(&policy, image, name(stored))
        });
        if args.json {
            rows.push(row(stored, &result));
        } else {
            tell(stored, &result);
        }
        if let Err(refusal) = result {
            worst.get_or_insert(refusal);
        }
    }
    if args.json {
        output::document(&Value::Array(rows));
    }
    // For all images that are there this only gets ready what can be; each start decides for itself.
    let refused = worst.filter(|refusal| !args.all || refusal.case().class() == Class::Internal);
    Ok(refused.map_or(ExitCode::SUCCESS, |refusal| ExitCode::from(refusal.case().class().exit_code())))
}

/// The vault that mount programs use is that of a container store.
fn graph_root(vault: &Path) -> Result<()> {
    match (vault.file_name(), vault.parent()) {
        (Some(name), Some(_)) if name == "layerseal" => Ok(()),
        _ => {
            let why = "the vault of a container store is GRAPHROOT/layerseal";
            Err(Refusal::new(Case::Usage, vault.display().to_string(), why))
        }
    }
}

/// Puts the seals that `--seal` names beside the image.
fn keep_seals(image: &ClaimedImage, seals: &Extra, home: &Home) -> Result<()> {
    let vault = vault_of(&image.root)?;
    let _lock = vault.shared()?;
    for candidate in &image.images {
        for found in seals.about(&candidate.image.digest, &home.budget)? {
            super::pull::copy_seal(&vault, &candidate.image, &found, &home.budget)?;
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
        Err(r) if r.subject().contains(name) => Err(r),
        Err(r) => Err(r.within(format!("image {name}"))),
    }
}

fn name(stored: &StoredImage) -> &str {
    stored.names.first().map_or(&stored.id, |name| name)
}

fn tell(stored: &StoredImage, result: &Result<Outcome>) {
    match result {
        Ok(Outcome::Off) => output::line(format!("{} not looked at (mode off)", name(stored))),
        Ok(Outcome::SealsOnly) => output::line(format!("{} has its seals", name(stored))),
        Ok(Outcome::Ready(p)) => match (&p.would_refuse, &p.signer) {
            (Some(refusal), _) => output::line(format!("{} ready, would be refused: {refusal}", name(stored))),
            (None, Some(signer)) => output::line(format!("{} ready, sealed by {signer}", name(stored))),
            (None, None) => output::line(format!("{} ready, not sealed", name(stored))),
        },
        Err(refusal) => output::error_line(refusal),
    }
}

fn row(stored: &StoredImage, result: &Result<Outcome>) -> Value {
    let mut row = json!({ "id": stored.id, "names": stored.names });
    let more = match result {
        Ok(Outcome::Off) => json!({ "mode": "off", "ready": false }),
        Ok(Outcome::SealsOnly) => json!({ "ready": false }),
        Ok(Outcome::Ready(p)) => json!({
            "mode": match p.mode { Mode::Enforce => "enforce", Mode::Audit => "audit", Mode::Off => "off" },
            "ready": true,
            "manifest": p.manifest.to_string(),
            "seal": p.seal.map(|s| s.to_string()),
            "signer": p.signer,
            "would_refuse": p.would_refuse.as_ref().map(output::refusal),
        }),
        Err(refusal) => json!({ "ready": false, "error": output::refusal(refusal) }),
    };
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
        row.extend(more);
    }
    row
}
