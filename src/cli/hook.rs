use std::ffi::OsString;

use crate::cli::args;
use crate::cli::output;
use crate::hook::{self, Stage};
use crate::report::{Case, Refusal, Result};
use crate::sys::process;

/// The stage that an OCI runtime calls us for: by these words and no others, before anything else is read.
pub(super) fn stage(argv: &[OsString]) -> Option<Stage> {
    match argv {
        [verb, stage] if verb == "hook" => Stage::of(stage.to_str()?),
        _ => None,
    }
}

/// `layerseal hook explain`
pub(super) fn explain(args: &args::Explain) -> Result<()> {
    let explained = hook::explain(&args.code).ok_or_else(|| {
        Refusal::new(Case::Usage, args.code.as_str(), "it is neither an exit code of a hook nor the ID of a case")
    })?;
    if args.json {
        let value = serde_json::to_value(&explained).map_err(|e| Refusal::io("explain", e))?;
        output::document(&value);
        return Ok(());
    }
    output::line(format!("exit code {}: {}", explained.code, explained.what));
    for called in &explained.last {
        let ago = process::now() - called.time;
        output::line(format!(
            "\nThe last time here, {ago} s ago, container {}:\n  {}",
            called.container, called.message
        ));
    }
    for case in &explained.cases {
        output::line(format!("\n{}: {}", case.id, case.what));
        if !case.remedy.is_empty() {
            output::line(format!("  {}", case.remedy));
        }
    }
    if explained.code != 0 {
        output::line(format!("\nWhich one it was, and of what: {}", explained.journal));
    }
    Ok(())
}
