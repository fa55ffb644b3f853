use std::process::ExitCode;

use crate::cli::{args, check, json, output};
use crate::error::{Class, Result};
use crate::ops::doctor::CheckState;
use crate::ops::{Context, ModeRequest, set_mode};
use crate::policy::Mode;

/// Runs `layerseal setup`.
pub(super) fn run(context: &Context, args: &args::Setup) -> Result<ExitCode> {
    let done = crate::ops::setup(context)?;
    let missing = done.checks.iter().any(|check| check.state == CheckState::Missing);
    let code = if missing { ExitCode::from(Class::CannotEnforce.exit_code()) } else { ExitCode::SUCCESS };
    if args.json {
        output::document(json::Setup {
            policy: done.written.map(|path| path.display().to_string()),
            mode: done.mode,
            stores: done.stores,
            checks: done.checks.into_iter().map(Into::into).collect(),
        });
        return Ok(code);
    }
    match &done.written {
        Some(path) => output::line(format!("written: {}, with mode = \"audit\": everything starts", path.display())),
        None => output::line(format!("there is a policy already, with mode = \"{}\" in [default]", done.mode)),
    }
    if done.stores.is_empty() {
        output::line(
            "nobody is trusted yet: `layerseal trust add CERT --store NAME`, and trust = [\"NAME\"] in the policy",
        );
    } else {
        output::line(format!("trusted: {}", done.stores.join(", ")));
    }
    for check in done.checks.iter().filter(|check| check.state != CheckState::Ok) {
        output::line(format!("{}: {}: {}", check.state.name(), check.name, check.found));
        if !check.remedy.is_empty() {
            output::line(format!("  {}", check.remedy));
        }
    }
    output::line("next: `layerseal check`, `layerseal report` after some days, and then `layerseal enforce`");
    Ok(code)
}

/// Runs `layerseal enforce`.
pub(super) fn enforce(context: &Context, args: &args::Enforce) -> Result<ExitCode> {
    set(context, ModeRequest { mode: Mode::Enforce, force: args.force }, args.json)
}

/// Runs `layerseal audit`.
pub(super) fn audit(context: &Context, args: &args::Audit) -> Result<ExitCode> {
    set(context, ModeRequest { mode: Mode::Audit, force: true }, args.json)
}

fn set(context: &Context, request: ModeRequest, json: bool) -> Result<ExitCode> {
    let done = set_mode(context, request)?;
    let worst = done.checks.as_ref().and_then(|checks| checks.worst());
    let stays = !done.changed && done.before != request.mode;
    let code = worst.filter(|_| stays).map_or(ExitCode::SUCCESS, |r| ExitCode::from(r.case().class().exit_code()));
    if json {
        output::document(json::ModeSet {
            file: done.file.display().to_string(),
            before: done.before,
            mode: request.mode,
            changed: done.changed,
            audit_rules: done.audit_rules,
            checks: done.checks.as_ref().map(check::document),
        });
        return Ok(code);
    }
    if let Some(checks) = done.checks.as_ref().filter(|checks| checks.worst().is_some()) {
        check::tell_red(checks);
    }
    let (file, mode) = (done.file.display(), request.mode);
    match (done.changed, stays) {
        (true, _) => output::line(format!("{file}: mode = \"{mode}\" in [default], it was \"{}\"", done.before)),
        (false, true) => output::line(format!(
            "nothing was changed: see above what would be refused; `layerseal enforce --force` changes {file} all the same"
        )),
        (false, false) => output::line(format!("{file}: mode = \"{mode}\" in [default], as before")),
    }
    if mode == Mode::Enforce && !done.audit_rules.is_empty() {
        output::line(format!("rules that say audit themselves: {}", done.audit_rules.join("; ")));
    }
    Ok(code)
}
