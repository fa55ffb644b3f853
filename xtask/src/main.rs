//! `cargo xtask docs [DIR]`: man pages and completions, into `contrib/` or another directory; without one, docs/json.md too.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let out = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["docs"] => xtask::top().join("contrib"),
        ["docs", dir] => PathBuf::from(dir),
        _ => {
            eprintln!("usage: cargo xtask docs [DIR]");
            return ExitCode::from(2);
        }
    };
    let done = xtask::docs(&out).and_then(|()| if words.len() == 1 { xtask::json() } else { Ok(()) });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{}: {e}", out.display());
            ExitCode::FAILURE
        }
    }
}
