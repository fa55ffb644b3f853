//! Results and errors, for people and for scripts.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::json;
use super::schema::VERSION;
use crate::report::Refusal;

/// Whether a line of a result could not be written; see [`written`].
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints a line of a result. A reader that went away (`| head`) is no error, and nothing that is
/// wrong with the output ever decides the exit code in place of the verdict.
pub(super) fn line(text: impl std::fmt::Display) {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => LOST.store(true, Ordering::Relaxed),
        _ => {}
    }
}

/// The exit code of a run that went well so far: success only if its result could be written.
pub(super) fn written(code: ExitCode) -> ExitCode {
    let flushed = match std::io::stdout().flush() {
        Err(e) => e.kind() == std::io::ErrorKind::BrokenPipe,
        Ok(()) => true,
    };
    if code == ExitCode::SUCCESS && (LOST.load(Ordering::Relaxed) || !flushed) {
        let _ = writeln!(std::io::stderr(), "Error: the result could not be written [R-X01]");
        return ExitCode::from(crate::report::Class::Internal.exit_code());
    }
    code
}

/// A document with its version.
#[derive(serde::Serialize)]
struct Document<T> {
    version: u32,
    #[serde(flatten)]
    body: T,
}

/// Prints a JSON document.
pub(super) fn document(body: impl Serialize) {
    line(serde_json::to_string_pretty(&Document { version: VERSION, body }).unwrap_or_default());
}

impl From<&Refusal> for json::Error {
    fn from(r: &Refusal) -> Self {
        Self {
            case: r.case().id().to_owned(),
            exit_code: r.case().class().exit_code(),
            subject: r.subject().to_owned(),
            detail: r.detail().to_owned(),
            message: r.to_string(),
        }
    }
}

/// Prints an error, and gives its exit code.
pub(super) fn failed(refusal: &Refusal, json: bool) -> ExitCode {
    if json {
        document(json::Failure { error: refusal.into() });
    }
    // Nobody may be reading; the exit code is what counts.
    error_line(refusal);
    ExitCode::from(refusal.case().class().exit_code())
}

/// Prints a refusal that does not end the run.
pub(super) fn error_line(refusal: &Refusal) {
    let _ = writeln!(std::io::stderr(), "Error: {refusal}");
}

/// A note for a person, only where one is watching.
pub(super) fn note(text: impl std::fmt::Display) {
    if std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// A table with columns as wide as they need to be.
pub(super) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(text, w)| format!("{text:<w$}")).collect();
        line(cells.join("  ").trim_end());
    }
}

/// Bytes for people.
pub(super) fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..1_048_576 => format!("{:.1} KiB", n as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", n as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", n as f64 / 1_073_741_824.0),
    }
}
