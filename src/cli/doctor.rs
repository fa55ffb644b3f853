use std::process::ExitCode;

use crate::cli::{args, json, output};
use crate::identify::Configured;
use crate::ops::Context;
use crate::ops::doctor::{Check, State, examine};
use crate::report::{Class, Result};

/// `layerseal doctor`
pub(super) fn run(context: &Context, args: &args::Doctor) -> ExitCode {
    let found = examine(context);
    let enforces = found.enforces();
    if args.json {
        let checks = found.checks.into_iter().map(check).collect();
        output::document(json::Diagnosis { enforces, checks, store: store(&found.store) });
    } else {
        print(&found.checks, enforces);
    }
    if enforces { ExitCode::SUCCESS } else { ExitCode::from(Class::CannotEnforce.exit_code()) }
}

fn print(checks: &[Check], enforces: bool) {
    let row = |c: &Check| vec![c.state.name().to_owned(), c.name.to_owned(), c.found.clone()];
    output::table(&checks.iter().map(row).collect::<Vec<_>>());
    for check in checks.iter().filter(|c| c.state != State::Ok && !c.remedy.is_empty()) {
        output::line(format!("{}: {}", check.name, check.remedy));
    }
    output::line(if enforces {
        "this host can enforce sealed images"
    } else {
        "this host cannot enforce sealed images"
    });
}

fn check(check: Check) -> json::Check {
    let state = match check.state {
        State::Ok => json::CheckState::Ok,
        State::Optional => json::CheckState::Optional,
        State::Missing => json::CheckState::Missing,
    };
    json::Check { check: check.name.to_owned(), state, found: check.found, remedy: check.remedy }
}

fn store(found: &Result<Configured>) -> json::Store {
    let version = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    let text = |path: &std::path::PathBuf| path.display().to_string();
    let (found, error) = match found {
        Ok(found) => (Some(found), None),
        Err(refusal) => (None, Some(refusal.into())),
    };
    json::Store {
        podman: found.and_then(|f| f.podman).map(version),
        read_as_since: found.map(|f| version(f.generation.since)),
        files: found.iter().flat_map(|f| f.files.iter().map(text)).collect(),
        driver: found.and_then(Configured::driver),
        graphroot: found.map(|f| text(&f.graph_root)),
        runroot: found.map(|f| text(&f.run_root)),
        imagestore: found.and_then(|f| f.image_store.as_ref()).map(text),
        additionalimagestores: found.iter().flat_map(|f| f.additional.iter().map(text)).collect(),
        mount_program: found.and_then(|f| f.mount_program.clone()),
        transient_store: found.is_some_and(|f| f.transient),
        use_composefs: found.is_some_and(|f| f.composefs),
        error,
    }
}
