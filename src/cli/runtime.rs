//! `layerseal runtime`: an OCI runtime that verifies, and is crun or runc from then on.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use serde_json::json;

use crate::hook::{Stopped, before_start};
use crate::invoke::{Log, RuntimeCall, runtime_call, runtime_log};
use crate::policy::{Directories, real_runtime};
use crate::report::{Case, Refusal, one_line};
use crate::sys::process;

/// The name by which engines call it, which name a runtime by its path alone: a link to this program.
const NAME: &[u8] = b"layerseal-runtime";

/// The runtime's own arguments, where this is a call of it: by the program's name or by the verb.
pub(super) fn arguments<'a>(program: &OsStr, argv: &'a [OsString]) -> Option<&'a [OsString]> {
    let name = Path::new(program).file_name().unwrap_or_default();
    match argv.split_first() {
        _ if name.as_bytes().ends_with(NAME) => Some(argv),
        Some((verb, rest)) if verb == "runtime" => Some(rest),
        _ => None,
    }
}

/// Becomes the real runtime, where nothing is against it.
pub(super) fn run(argv: &[OsString]) -> ExitCode {
    let failed = |stopped: &Stopped| {
        tell(&runtime_log(argv), &stopped.message);
        ExitCode::from(stopped.code)
    };
    let refused = |refusal: &Refusal| failed(&Stopped::from(refusal));
    let call = match runtime_call(argv) {
        Ok(call) => call,
        Err(refusal) => return refused(&refusal),
    };
    let program = match real_runtime(&Directories::system()) {
        Ok(program) => program,
        Err(refusal) => return refused(&refusal),
    };
    if let RuntimeCall::Start(start) = call
        && let Err(stopped) = before_start(&start)
    {
        return failed(&stopped);
    }
    let error = Command::new(&program).args(argv).exec();
    refused(&Refusal::new(Case::F07Runtime, program.display().to_string(), error))
}

/// Says why as runtimes do: on the standard error, and in the file that the caller reads it from.
fn tell(log: &Log, message: &str) {
    let message = format!("layerseal: {}", one_line(message));
    if let Some(file) = &log.file {
        let time = rfc3339(process::now());
        let line = match log.json {
            true => json!({"level": "error", "msg": message, "time": time}).to_string(),
            // As logrus writes it, which is runc's.
            false => format!("time=\"{time}\" level=error msg={message:?}"),
        };
        let opened = std::fs::OpenOptions::new().append(true).create(true).mode(0o644).open(file);
        let _ = opened.and_then(|mut file| writeln!(file, "{line}"));
    }
    process::tell(&message);
}

/// Seconds since 1970 as a date (RFC 3339), by the calendar of the 400 years that repeat.
fn rfc3339(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    // Years begin in March here, so that the day that comes every four years is the last.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_by_name_or_verb() {
        let argv: Vec<OsString> = ["runtime", "state", "c"].map(OsString::from).into();
        assert_eq!(arguments(OsStr::new("layerseal"), &argv), Some(&argv[1..]));
        assert_eq!(arguments(OsStr::new("/usr/bin/layerseal-runtime"), &argv), Some(&argv[..]));
        assert_eq!(arguments(OsStr::new("/usr/libexec/my-layerseal-runtime"), &[]), Some(&[][..]));
        assert_eq!(arguments(OsStr::new("layerseal"), &argv[1..]), None);
        assert_eq!(arguments(OsStr::new("/usr/bin/layerseal-runtime/x"), &argv[1..]), None);
    }

    #[test]
    fn dates() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), date);
        }
    }
}
