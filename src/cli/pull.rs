use crate::cli::args;
use crate::cli::{json, output};
use crate::error::Result;
use crate::ops::{Context, PullRequest, pull};

/// Runs `layerseal pull`.
pub(super) fn run(context: &Context, args: args::Pull) -> Result<()> {
    let request = PullRequest {
        image: args.image,
        name: args.name,
        trust: args.trust.into(),
        algorithm: args.algorithm,
        platform: args.platform,
    };
    let pulled = pull(context, &request)?;
    if args.json {
        let image = pulled.image.to_string();
        output::document(json::Pulled { name: pulled.name, image, verity: pulled.verity });
    } else {
        output::line(format!("{} {}", pulled.name, pulled.image));
    }
    Ok(())
}
