use std::path::Path;

use serde_json::json;

use crate::cli::args;
use crate::cli::home::Home;
use crate::cli::seal::Plan;
use crate::cli::{output, progress};
use crate::prepare::digest_of_directory;
use crate::report::{Case, Refusal};
use crate::sys::files;

/// `layerseal digest`
pub(super) fn run(home: &Home, args: &args::Digest) -> anyhow::Result<()> {
    let image = match (&args.directory, &args.image) {
        (Some(path), _) => return directory(home, args, path),
        (None, Some(image)) => image,
        (None, None) => return Err(Refusal::new(Case::Usage, "digest", "name an image, or --directory").into()),
    };
    let located = home.locate(image, args.platform.as_ref())?;
    let plan = Plan::new(located, home, &args.statement, false)?;
    let items = plan.items();
    if let Some(dir) = &args.write {
        let io = |e: std::io::Error| Refusal::io(dir.display().to_string(), e);
        std::fs::create_dir_all(dir).map_err(io)?;
        let dir = files::open_dir(dir).map_err(io)?;
        for item in &items {
            files::write_atomic(&dir, &item.role.to_string(), 0o644, &item.bytes).map_err(io)?;
            files::write_atomic(&dir, &format!("{}.tosign", item.role), 0o644, &item.to_sign()).map_err(io)?;
        }
    }
    if args.json {
        let roles: Vec<_> = items
            .iter()
            .map(|i| json!({"role": i.role.to_string(), "digest": i.digest.to_hex(), "size": i.bytes.len(), "to_sign": hex::encode(i.to_sign())}))
            .collect();
        output::document(&json!({
            "image": plan.located.image.digest.to_string(),
            "algorithm": plan.algorithm().name(),
            "roles": roles,
            "binding": plan.binding.text(),
        }));
        return Ok(());
    }
    let rows: Vec<_> = items.iter().map(|i| vec![i.role.to_string(), i.digest.to_hex()]).collect();
    output::line(format!("{} {}", plan.algorithm(), plan.located.image.digest));
    output::table(&rows);
    Ok(())
}

fn directory(home: &Home, args: &args::Digest, path: &Path) -> anyhow::Result<()> {
    let algorithm = args.statement.algorithm;
    let bar = progress::spinner(format!("reading {}", path.display()));
    let digest = digest_of_directory(path, algorithm, &home.budget);
    bar.finish_and_clear();
    let digest = digest?;
    match args.json {
        true => output::document(&json!({"directory": path, "algorithm": algorithm.name(), "merged": digest.to_hex()})),
        false => output::line(format!("{algorithm} {}", digest.to_hex())),
    }
    Ok(())
}
