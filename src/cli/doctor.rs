use std::process::ExitCode;

use crate::cli::{args, json, output};
use crate::container_store::Configured;
use crate::error::{Class, Result};
use crate::ops::Context;
use crate::ops::doctor::{CheckState, Diagnosis, HostCheck, examine};

/// Runs `layerseal doctor`.
pub(super) fn run(context: &Context, args: &args::Doctor) -> ExitCode {
    let found = examine(context);
    let enforces = found.enforces();
    if args.json {
        let checks = found.checks.into_iter().map(Into::into).collect();
        output::document(json::Diagnosis { enforces, checks, store: store(&found.store) });
    } else {
        print(&found);
    }
    if enforces { ExitCode::SUCCESS } else { ExitCode::from(Class::CannotEnforce.exit_code()) }
}

fn print(found: &Diagnosis) {
    let checks = &found.checks;
    let row = |c: &HostCheck| vec![c.state.name().to_owned(), c.name.to_owned(), c.found.clone()];
    output::table(&checks.iter().map(row).collect::<Vec<_>>());
    for check in checks.iter().filter(|c| c.state != CheckState::Ok && !c.remedy.is_empty()) {
        output::line(format!("{}: {}", check.name, check.remedy));
    }
    output::line(if found.has(CheckState::Missing) {
        "this host cannot enforce sealed images"
    } else if found.has(CheckState::Unknown) {
        "only root can tell whether this host can enforce sealed images"
    } else if found.has(CheckState::Weak) {
        "this host verifies sealed images when they start; what is read while they run is not checked"
    } else {
        "this host can enforce sealed images"
    });
}

impl From<HostCheck> for json::Check {
    fn from(check: HostCheck) -> Self {
        let state = match check.state {
            CheckState::Ok => json::CheckState::Ok,
            CheckState::Optional => json::CheckState::Optional,
            CheckState::Weak => json::CheckState::Weak,
            CheckState::Unknown => json::CheckState::Unknown,
            CheckState::Missing => json::CheckState::Missing,
        };
        Self { check: check.name.to_owned(), state, found: check.found, remedy: check.remedy }
    }
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
