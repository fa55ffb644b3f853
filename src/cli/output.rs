//! Results and errors, for people and for scripts.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::json;
use super::schema::VERSION;
use crate::error::Refusal;

/// Whether a line of a result could not be written; see [`written`].
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints a line of a result. A reader that has gone away (`| head`) is no error, and a failing output never replaces
/// the exit code of a verdict.
pub(super) fn line(text: impl std::fmt::Display) {
    let mut text = text.to_string();
    if has_colours(&std::io::stdout()) {
        text = toned(&text);
    }
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => LOST.store(true, Ordering::Relaxed),
        _ => {}
    }
}

/// What a line begins with that says how something is, with the colour that it has on a terminal (ECMA-48, SGR).
const TONES: [(&str, &[&str]); 3] = [
    ("32", &["accepted", "ok", "starts", "verified"]),
    ("33", &["audit", "ignored", "optional", "unknown", "weak"]),
    ("31", &["damaged", "missing", "refused", "rejected"]),
];

/// Returns whether a terminal gets colours: if it has them, unless NO_COLOR is set (no-color.org).
pub(super) fn may_have_colours() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_some_and(|terminal| terminal != "dumb")
}

fn has_colours(stream: &impl std::io::IsTerminal) -> bool {
    may_have_colours() && stream.is_terminal()
}

fn toned(text: &str) -> String {
    let (indent, rest) = text.split_at(text.len() - text.trim_start().len());
    let (word, rest) = rest.split_at(rest.find([' ', ':']).unwrap_or(rest.len()));
    match TONES.iter().find(|(_, words)| words.contains(&word)) {
        Some((colour, _)) => format!("{indent}\x1b[{colour}m{word}\x1b[0m{rest}"),
        None => text.to_owned(),
    }
}

/// Returns the exit code of a run that went well so far: success only if its result could be written.
pub(super) fn written(code: ExitCode) -> ExitCode {
    let flushed = match std::io::stdout().flush() {
        Err(e) => e.kind() == std::io::ErrorKind::BrokenPipe,
        Ok(()) => true,
    };
    if code == ExitCode::SUCCESS && (LOST.load(Ordering::Relaxed) || !flushed) {
        let _ = writeln!(std::io::stderr(), "Error: the result could not be written [R-X01]");
        return ExitCode::from(crate::error::Class::Internal.exit_code());
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

/// Prints an error, and returns its exit code.
pub(super) fn failed(refusal: &Refusal, json: bool) -> ExitCode {
    if json {
        document(json::Failure { error: refusal.into() });
    }
    // Perhaps nobody is reading; the exit code is what matters.
    error_line(refusal);
    ExitCode::from(refusal.case().class().exit_code())
}

/// Prints a refusal that does not end the run.
pub(super) fn error_line(refusal: &Refusal) {
    let error = if has_colours(&std::io::stderr()) { "\x1b[1;31mError:\x1b[0m" } else { "Error:" };
    let _ = writeln!(std::io::stderr(), "{error} {refusal}");
}

/// Prints a note for a person, but only if one is watching.
pub(super) fn note(text: impl std::fmt::Display) {
    if std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Prints a table with columns as wide as they need to be.
pub(super) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(text, w)| format!("{text:<w$}")).collect();
        line(cells.join("  ").trim_end());
    }
}

/// Formats a number of bytes for people.
pub(super) fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}

#[cfg(test)]
mod tests {
    use super::toned;

    #[test]
    fn the_word_that_says_how_something_is_has_a_colour() {
        assert_eq!(toned("refused: a (rule b)"), "\x1b[31mrefused\x1b[0m: a (rule b)");
        assert_eq!(toned("  accepted"), "  \x1b[32maccepted\x1b[0m");
        for plain in ["", "refusal: x", "{", "  \"ok\": true", "app  ok"] {
            assert_eq!(toned(plain), plain);
        }
    }
}
