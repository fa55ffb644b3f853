use crate::cli::{args, json, output};
use crate::error::Result;
use crate::ops::{self, Context, ListedImage};

/// Runs `layerseal images`.
pub(super) fn list(context: &Context, args: &args::Images) -> Result<()> {
    let images = ops::images(context)?;
    if args.json {
        let image = |image: ListedImage| json::ListedImage {
            names: image.names.names,
            store_names: image.names.store_names,
            digest: image.digest.to_string(),
            layers: image.layers,
            size: image.size,
            seals: image.seals,
        };
        output::document(json::Images { images: images.into_iter().map(image).collect() });
        return Ok(());
    }
    // Before the first pull there is no vault.
    if !context.has_vault()? {
        output::note("there is no vault yet: `layerseal pull` and `layerseal prepare` make one");
        return Ok(());
    }
    let mut table = vec![["NAME", "DIGEST", "LAYERS", "SIZE", "SEALS"].map(str::to_owned).to_vec()];
    for ListedImage { names, digest, layers, size, seals } in images {
        let mut names = names.all();
        if names.is_empty() {
            names.push("<none>");
        }
        for name in names {
            let (layers, size, seals) = (layers.to_string(), output::bytes(size), seals.to_string());
            table.push(vec![name.to_owned(), digest.to_string(), layers, size, seals]);
        }
    }
    output::table(&table);
    Ok(())
}

/// Runs `layerseal tag`.
pub(super) fn tag(context: &Context, args: args::Tag) -> Result<()> {
    let digest = ops::tag(context, &args.image, &args.name)?;
    if args.json {
        output::document(json::Tagged { name: args.name, image: digest.to_string() });
    }
    Ok(())
}

/// Runs `layerseal untag`.
pub(super) fn untag(context: &Context, args: args::Untag) -> Result<()> {
    ops::untag(context, &args.name)?;
    if args.json {
        output::document(json::Untagged { name: args.name });
    }
    Ok(())
}
