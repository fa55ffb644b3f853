use crate::cli::{args, json, output};
use crate::error::Result;
use crate::ops::{self, Context};

/// Runs `layerseal deny`.
pub(super) fn run(context: &Context, args: &args::Deny) -> Result<()> {
    let entries = ops::deny(context, &args.what, args.reason.as_deref())?;
    if args.json {
        let entry = |entry: ops::DeniedEntry| json::DeniedEntry {
            digest: entry.digest,
            what: entry.what,
            file: entry.file.display().to_string(),
            before: entry.before,
        };
        output::document(json::DeniedNow { entries: entries.into_iter().map(entry).collect() });
        return Ok(());
    }
    for entry in &entries {
        let what = if entry.what.is_empty() { String::new() } else { format!(" {}", entry.what) };
        match entry.before {
            true => output::line(format!("denied before: {}{what}", entry.digest)),
            false => output::line(format!("denied: {}{what} ({})", entry.digest, entry.file.display())),
        }
    }
    if entries.iter().any(|entry| !entry.before) {
        output::line("no container starts from it any more; those that run are not stopped");
    }
    Ok(())
}
