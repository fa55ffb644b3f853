use serde_json::json;

use crate::cli::args;
use crate::cli::home::Home;
use crate::cli::output;
use crate::oci::Reference;
use crate::report::{Case, Refusal, Result};

/// `layerseal images`
pub(super) fn list(home: &Home, args: &args::Images) -> Result<()> {
    // Before the first pull there is no vault, and that is no error here.
    if !home.has_vault()? {
        if args.json {
            output::document(&json!([]));
        }
        return Ok(());
    }
    let vault = home.open_vault()?;
    let tags = vault.tags()?;
    let mut rows = Vec::new();
    for digest in vault.images()? {
        let names: Vec<&str> = tags.iter().filter(|t| t.digest == digest).map(|t| t.name.as_str()).collect();
        let seals = vault.seals(&digest, &home.budget)?.len();
        // A damaged image is listed too, with what is known of it.
        let image = vault.image(&Reference::Digest(digest), &home.budget);
        let (layers, size) = image.as_ref().map_or((0, 0), |i| (i.layers.len(), i.layers.iter().map(|l| l.size).sum()));
        rows.push((names, digest, layers, size, seals));
    }
    if args.json {
        let list: Vec<_> = rows
            .iter()
            .map(|(names, digest, layers, size, seals)| json!({"names": names, "digest": digest.to_string(), "layers": layers, "size": size, "seals": seals}))
            .collect();
        output::document(&json!(list));
        return Ok(());
    }
    let mut table = vec![["NAME", "DIGEST", "LAYERS", "SIZE", "SEALS"].map(str::to_owned).to_vec()];
    for (names, digest, layers, size, seals) in rows {
        let names = if names.is_empty() { vec!["<none>"] } else { names };
        for name in names {
            table.push(vec![
                name.to_owned(),
                digest.to_string(),
                layers.to_string(),
                output::bytes(size),
                seals.to_string(),
            ]);
        }
    }
    output::table(&table);
    Ok(())
}

/// `layerseal tag`
pub(super) fn tag(home: &Home, args: &args::Tag) -> Result<()> {
    if matches!(args.image, Reference::Layout { .. } | Reference::Registry { .. }) {
        return Err(Refusal::new(Case::Usage, args.image.to_string(), "pull it into the vault first"));
    }
    let vault = home.open_vault()?;
    let image = vault.image(&args.image, &home.budget)?;
    vault.set_tag(&args.name, &image.digest)
}

/// `layerseal untag`
pub(super) fn untag(home: &Home, args: &args::Untag) -> Result<()> {
    home.open_vault()?.remove_tag(&args.name)
}
