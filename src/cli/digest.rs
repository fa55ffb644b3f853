use std::path::Path;

use crate::cli::{args, json, output};
use crate::error::{Case, Refusal, Result};
use crate::ops::{Context, DigestRequest, digest, directory_digest};

/// Runs `layerseal digest`.
pub(super) fn run(context: &Context, args: args::Digest) -> Result<()> {
    let image = match (&args.directory, args.image) {
        (Some(path), _) => return directory(context, path, &args.statement, args.json),
        (None, Some(image)) => image,
        (None, None) => return Err(Refusal::new(Case::Usage, "digest", "name an image, or --directory")),
    };
    let request = DigestRequest { image, statement: args.statement.into(), platform: args.platform };
    let plan = digest(context, &request)?;
    if let Some(dir) = &args.write {
        plan.write(dir)?;
    }
    let items = plan.items();
    if args.json {
        let role = |item: &crate::ops::PlanItem<'_>| json::DigestOfRole {
            role: item.role.to_string(),
            digest: item.digest.to_hex(),
            size: item.bytes.len(),
            to_sign: hex::encode(item.to_sign()),
        };
        output::document(json::Digests {
            image: plan.image().to_string(),
            algorithm: plan.algorithm().name().to_owned(),
            roles: items.iter().map(role).collect(),
            binding: plan.statement(),
        });
        return Ok(());
    }
    let rows: Vec<_> = items.iter().map(|i| vec![i.role.to_string(), i.digest.to_hex()]).collect();
    output::line(format!("{} {}", plan.algorithm(), plan.image()));
    output::table(&rows);
    Ok(())
}

fn directory(context: &Context, path: &Path, statement: &args::StatementArgs, json: bool) -> Result<()> {
    let algorithm = statement.algorithm;
    let digest = directory_digest(context, path, algorithm)?.to_hex();
    match json {
        true => output::document(json::DirectoryDigest {
            directory: path.display().to_string(),
            algorithm: algorithm.name().to_owned(),
            merged: digest,
        }),
        false => output::line(format!("{algorithm} {digest}")),
    }
    Ok(())
}
