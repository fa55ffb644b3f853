use serde_json::json;

use crate::cli::args;
use crate::cli::output;
use crate::mount::{Record, live};
use crate::report::{Refusal, Result};

/// Digits of a digest that tell images of one host apart.
const SHORT: usize = 12;

/// `layerseal status`
pub(super) fn run(args: &args::Status) -> Result<()> {
    let records = live()?;
    if args.json {
        let list = serde_json::to_value(&records).map_err(|e| Refusal::io("status", e))?;
        output::document(&json!(list));
        return Ok(());
    }
    if records.is_empty() {
        return Ok(());
    }
    let mut table = vec![["TARGET", "IMAGE", "MODE", "VERITY", "UPPER", "SIGNER"].map(str::to_owned).to_vec()];
    table.extend(records.iter().map(row));
    output::table(&table);
    Ok(())
}

fn row(record: &Record) -> Vec<String> {
    let none = || "-".to_owned();
    let digest = record.image.as_ref().map(|d| d.trim_start_matches("sha256:").chars().take(SHORT).collect());
    vec![
        record.target.display().to_string(),
        record.names.first().cloned().or(digest).unwrap_or_else(none),
        record.kind.to_string(),
        if record.verity { "require" } else { "off" }.to_owned(),
        record.upper.as_ref().map_or_else(none, |u| u.display().to_string()),
        match (&record.signer, &record.signed_manifest) {
            // The same image, which was signed under another manifest.
            (Some(signer), Some(manifest)) => {
                let short: String = manifest.trim_start_matches("sha256:").chars().take(SHORT).collect();
                format!("{signer} (manifest {short})")
            }
            (signer, _) => signer.clone().unwrap_or_else(none),
        },
    ]
}
