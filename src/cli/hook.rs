use std::ffi::OsString;

use crate::cli::{args, json, output};
use crate::hook::{self, Stage};
use crate::report::journal::Decision;
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
    let Some(code) = &args.code else { return last(args.json) };
    // podman's own: they say that the runtime failed, and not why.
    if matches!(code.as_str(), "125" | "126" | "127") {
        let why = "podman's own exit code; the hook's is in its message, after \"exit status\" or \"exit code:\"; \
                   without an argument the last refusal is shown";
        return Err(Refusal::new(Case::Usage, code.as_str(), why));
    }
    let explained = hook::explain(code).ok_or_else(|| {
        Refusal::new(Case::Usage, code.as_str(), "it is neither an exit code of a hook nor the ID of a case")
    })?;
    if args.json {
        let case = |case: &hook::CaseExplanation| json::ExplainedCase {
            id: case.id.to_owned(),
            what: case.what.to_owned(),
            remedy: case.remedy.to_owned(),
        };
        output::document(json::Explanation {
            code: explained.code,
            what: explained.what.to_owned(),
            cases: explained.cases.iter().map(case).collect(),
            last: explained.last.into_iter().map(Into::into).collect(),
            journal: explained.journal,
        });
        return Ok(());
    }
    output::line(format!("exit code {}: {}", explained.code, explained.what));
    explained.last.iter().for_each(show);
    let one = code.parse::<u8>().is_err();
    for case in explained.cases.iter().filter(|_| one || args.all) {
        output::line(format!("\n{}: {}", case.id, case.what));
        if !case.remedy.is_empty() {
            output::line(format!("  {}", case.remedy));
        }
    }
    if explained.code != 0 {
        output::line(format!("\nAll refusals: {}", explained.journal));
        output::line("  (where there is no journal: syslog, facility authpriv)");
    }
    if !one && !args.all && !explained.cases.is_empty() {
        output::line(format!(
            "All {} cases with this code: layerseal hook explain --all {code}",
            explained.cases.len()
        ));
    }
    Ok(())
}

/// What was refused last, and what was let pass.
fn last(json: bool) -> Result<()> {
    let [refused, audit] = [Decision::Refused, Decision::Audit].map(hook::last_of);
    if json {
        output::document(json::LastCalls { refused: refused.map(Into::into), audit: audit.map(Into::into) });
        return Ok(());
    }
    if refused.is_none() && audit.is_none() {
        output::line("no hook has refused a container since the host was started, and audit let none pass");
    }
    refused.iter().chain(&audit).for_each(show);
    for decision in [Decision::Refused, Decision::Audit] {
        output::line(format!(
            "\nAll {}: journalctl -t layerseal _UID=0 MESSAGE_ID={}",
            decision.word(),
            decision.message_id()
        ));
    }
    Ok(())
}

fn show(called: &hook::Called) {
    let ago = process::now() - called.time;
    let container = if called.container.is_empty() { "a container without a record" } else { &called.container };
    output::line(format!(
        "\nThe last that was {}, {ago} s ago, {container}:\n  {}",
        past(&called.decision),
        called.message
    ));
}

fn past(decision: &str) -> &str {
    if decision == "audit" { "let pass by audit" } else { decision }
}

impl From<hook::Called> for json::HookCall {
    fn from(called: hook::Called) -> Self {
        Self {
            time: called.time,
            container: called.container,
            manager: called.manager,
            decision: called.decision,
            case: called.case,
            message: called.message,
        }
    }
}
