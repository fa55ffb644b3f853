use crate::cli::{args, json, output};
use crate::error::Result;
use crate::ops::{VaultRequest, create_vault};

/// Runs `layerseal vault create`.
pub(super) fn create(args: args::VaultCreate) -> Result<()> {
    let made = create_vault(&VaultRequest { directory: args.directory, file: args.file, size: args.size.0 })?;
    if args.json {
        output::document(json::MadeVault {
            directory: made.directory.display().to_string(),
            file: made.file.display().to_string(),
            unit_name: made.unit_name,
            unit: made.unit,
        });
        return Ok(());
    }
    output::line(made.unit.trim_end());
    Ok(())
}
