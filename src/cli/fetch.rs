use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::args;
use crate::cli::home::Home;
use crate::cli::stored::Chosen;
use crate::cli::{output, progress};
use crate::digest::BlobDigest;
use crate::fetch::Session;
use crate::identify::ClaimedImage;
use crate::oci::{Reference, Repository};
use crate::report::{Case, Refusal, Result};
use crate::start::{fetch_seals, repositories, vault_of};

/// `layerseal fetch`
pub(super) fn run(home: &Home, args: &args::Fetch) -> anyhow::Result<ExitCode> {
    let from = args.from.iter().map(repository).collect::<Result<Vec<_>>>()?;
    let images = Chosen::new(home, &args.images, args.all, args.json)?;
    let session = home.session()?;
    let work = |image: &ClaimedImage, name: &str| {
        let spinner = progress::spinner(format!("looking for seals of {name}"));
        let seals = one(image, &from, &session);
        spinner.finish_and_clear();
        seals
    };
    let tell =
        |name: &str, seals: &Seals| format!("{name} {} seal{}", seals.len(), if seals.len() == 1 { "" } else { "s" });
    Ok(images.each(work, tell, more))
}

type Seals = Vec<BlobDigest>;

fn repository(reference: &Reference) -> Result<Repository> {
    match reference {
        Reference::Registry { repository, .. } => Ok(repository.clone()),
        other => Err(Refusal::new(Case::Usage, other.to_string(), "--from takes docker://HOST/NAME")),
    }
}

/// The seals of all images that the layers may be.
fn one(image: &ClaimedImage, from: &[Repository], session: &Session) -> Result<Seals> {
    let vault = vault_of(&image.root)?;
    let _lock = vault.shared()?;
    let mut seals = Vec::new();
    for candidate in &image.images {
        let named = repositories(&candidate.names);
        let places = if from.is_empty() { &named } else { from };
        seals.extend(fetch_seals(&vault, candidate, places, session)?);
    }
    let name = image.images.first().and_then(|c| c.names.first());
    match seals.is_empty() {
        true => Err(Refusal::new(Case::C07NoSeal, name.map_or_else(String::new, |n| format!("image {n}")), "")),
        false => Ok(seals),
    }
}

fn more(result: &Result<Seals>) -> Value {
    let seals: Vec<String> = result.iter().flatten().map(ToString::to_string).collect();
    json!({ "seals": seals, "error": result.as_ref().err().map(output::refusal) })
}
