use std::ffi::OsString;

use crate::cli::{args, json, output};
use crate::error::journal::JournalDecision;
use crate::error::{Case, Refusal, Result};
use crate::hook::{self, Stage};
use crate::sys::process;

/// Returns the stage for which an OCI runtime calls us: by these words and no others, before anything else is read.
pub(super) fn stage(argv: &[OsString]) -> Option<Stage> {
    match argv {
        [verb, stage] if verb == "hook" => Stage::of(stage.to_str()?),
        // What `layerseal-runtime` could not do by what it was told.
        [verb, stage, ..] if verb == "hook" && Stage::of(stage.to_str()?) == Some(Stage::CreateContainer) => {
            Some(Stage::CreateContainer)
        }
        // The third word is for whoever reads podman's message.
        [verb, stage, see] if verb == "hook" && see == Stage::SEE => Stage::of(stage.to_str()?),
        _ => None,
    }
}

/// Runs `layerseal hook explain`.
pub(super) fn explain(args: &args::Explain) -> Result<()> {
    let is_root = rustix::process::geteuid().is_root() || hook::has_own_notes();
    let needs_root =
        || Refusal::new(Case::NeedsRoot, "hook explain", "what was refused on this host is for root to see");
    let Some(code) = &args.code else {
        if !is_root {
            return Err(needs_root());
        }
        return match args.last {
            Some(count) => calls(&hook::latest(count.into()), args.json),
            None => last(args.json),
        };
    };
    // podman's own codes: they say that the runtime failed, but not why.
    if matches!(code.as_str(), "125" | "126" | "127") {
        let why = "podman's own exit code; the hook's is in its message, after \"exit status\" or \"exit code:\"; \
                   without an argument the last refusal is shown";
        return Err(Refusal::new(Case::Usage, code.as_str(), why));
    }
    let Some(explained) = hook::explain(code) else {
        if !is_root {
            return Err(needs_root());
        }
        let found = hook::about(code, args.last.map_or(1, usize::from));
        if found.is_empty() {
            let why = "neither an exit code of a hook nor the ID of a case, and since the host was started no container \
                       with this name or ID was refused or let pass by audit";
            return Err(Refusal::new(Case::Usage, code.as_str(), why));
        }
        return calls(&found, args.json);
    };
    if args.last.is_some() {
        return Err(Refusal::new(Case::Usage, code.as_str(), "--last N is for containers"));
    }
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

/// Prints what was last refused, and what was last let pass.
fn last(json: bool) -> Result<()> {
    let [refused, audit] = [JournalDecision::Refused, JournalDecision::Audit].map(hook::last_of);
    if json {
        let calls = refused.iter().chain(&audit).cloned().map(Into::into).collect();
        output::document(json::LastCalls { refused: refused.map(Into::into), audit: audit.map(Into::into), calls });
        return Ok(());
    }
    if refused.is_none() && audit.is_none() {
        output::line("no hook has refused a container since the host was started, and audit let none pass");
    }
    refused.iter().chain(&audit).for_each(show);
    for decision in [JournalDecision::Refused, JournalDecision::Audit] {
        output::line(format!(
            "\nAll {}: journalctl -t layerseal _UID={} MESSAGE_ID={}",
            decision.word(),
            rustix::process::geteuid().as_raw(),
            decision.message_id()
        ));
    }
    Ok(())
}

/// Prints the calls that were asked for, newest first.
fn calls(found: &[hook::LastCall], json: bool) -> Result<()> {
    if json {
        let of =
            |decision: JournalDecision| found.iter().find(|c| c.decision == decision.word()).cloned().map(Into::into);
        let calls = found.iter().cloned().map(Into::into).collect();
        let (refused, audit) = (of(JournalDecision::Refused), of(JournalDecision::Audit));
        output::document(json::LastCalls { refused, audit, calls });
        return Ok(());
    }
    if found.is_empty() {
        output::line("no hook has refused a container since the host was started, and audit let none pass");
    }
    for called in found {
        let ago = process::now() - called.time;
        output::line(format!("{}, {ago} s ago, {}:\n  {}", past(&called.decision), container(called), called.message));
    }
    Ok(())
}

fn show(called: &hook::LastCall) {
    let ago = process::now() - called.time;
    output::line(format!(
        "\nThe last that was {}, {ago} s ago, {}:\n  {}",
        past(&called.decision),
        container(called),
        called.message
    ));
}

/// Returns what to call the container of a call.
fn container(called: &hook::LastCall) -> String {
    match (called.container.as_str(), called.name.as_str()) {
        ("", _) => "a container without a record".to_owned(),
        (id, "") => id.to_owned(),
        (id, name) => format!("{name} ({})", id.get(..12).unwrap_or(id)),
    }
}

fn past(decision: &str) -> &str {
    if decision == "audit" { "let pass by audit" } else { decision }
}

impl From<hook::LastCall> for json::HookCall {
    fn from(called: hook::LastCall) -> Self {
        Self {
            time: called.time,
            container: called.container,
            name: called.name,
            manager: called.manager,
            decision: called.decision,
            case: called.case,
            message: called.message,
        }
    }
}
