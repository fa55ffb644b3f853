//! `layerseal runtime`: an OCI runtime that verifies the root, and then becomes crun or runc.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use serde_json::json;

use crate::error::{Case, Refusal, one_line};
use crate::hook::{Stopped, before_start, verify_start};
use crate::policy::{Directories, VERIFY, note_runtime, real_runtime};
use crate::protocol::{Log, RuntimeCall, runtime_call, runtime_log};
use crate::sys::process;

/// The name of the link to this program for engines that name a runtime only by its path.
const NAME: &[u8] = b"layerseal-runtime";

/// What a call of a runtime asks for, with the runtime's own arguments.
pub(super) enum Asked<'a> {
    /// To become the runtime, unless the container is refused.
    Become(&'a [OsString]),
    /// Only whether the container may start: `layerseal-runtime` becomes the runtime itself.
    Verify(&'a [OsString]),
}

/// Returns what is asked for, if this is a call of the runtime: by the program's name or by the verb.
pub(super) fn asked<'a>(program: &OsStr, argv: &'a [OsString]) -> Option<Asked<'a>> {
    let name = Path::new(program).file_name().unwrap_or_default();
    match argv.split_first() {
        _ if name.as_bytes().ends_with(NAME) => Some(Asked::Become(argv)),
        Some((verb, rest)) if verb == "runtime" => Some(Asked::Become(rest)),
        Some((verb, rest)) if verb.as_bytes() == VERIFY.to_bytes() => Some(Asked::Verify(rest)),
        _ => None,
    }
}

/// Does what is asked for.
pub(super) fn run(asked: &Asked<'_>) -> ExitCode {
    match asked {
        Asked::Become(argv) => run_runtime(argv),
        Asked::Verify(argv) => {
            let verified = runtime_call(argv).map_err(|r| Stopped::from(&r)).and_then(|call| match call {
                RuntimeCall::Start(start) => verify_start(&start),
                RuntimeCall::Other => Ok(()),
            });
            verified.map_or_else(|stopped| failed(argv, &stopped), |()| ExitCode::SUCCESS)
        }
    }
}

/// Becomes the real runtime, unless the container is refused.
pub(super) fn run_runtime(argv: &[OsString]) -> ExitCode {
    let ready = runtime_call(argv).map_err(|r| Stopped::from(&r)).and_then(|call| {
        let program = real_runtime(&Directories::system()).map_err(|r| Stopped::from(&r))?;
        note_runtime(&program);
        if let RuntimeCall::Start(start) = call {
            before_start(&start)?;
        }
        Ok(program)
    });
    let stopped = match ready {
        Ok(program) => become_program(&program, argv),
        Err(stopped) => stopped,
    };
    failed(argv, &stopped)
}

/// Becomes the program, and returns only if that fails, with the reason.
fn become_program(program: &Path, argv: &[OsString]) -> Stopped {
    let error = Command::new(program).args(argv).exec();
    Stopped::from(&Refusal::new(Case::F07Runtime, program.display().to_string(), error))
}

fn failed(argv: &[OsString], stopped: &Stopped) -> ExitCode {
    tell(&runtime_log(argv), &stopped.message);
    ExitCode::from(stopped.code)
}

/// Reports the reason as runtimes do: on the standard error, and in the file from which the caller reads it.
fn tell(log: &Log, message: &str) {
    let message = format!("layerseal: {}", one_line(message));
    if let Some(file) = &log.file {
        let time = humantime::format_rfc3339_seconds(SystemTime::now());
        let line = match log.json {
            true => json!({"level": "error", "msg": message, "time": time.to_string()}).to_string(),
            // As runc's logger, logrus, writes it.
            false => format!("time=\"{time}\" level=error msg={message:?}"),
        };
        let opened = std::fs::OpenOptions::new().append(true).create(true).mode(0o644).open(file);
        let _ = opened.and_then(|mut file| writeln!(file, "{line}"));
    }
    process::tell(&message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_by_name_or_verb() {
        let argv: Vec<OsString> = ["runtime", "state", "c"].map(OsString::from).into();
        let becomes = |program: &str, argv: &[OsString]| match asked(OsStr::new(program), argv) {
            Some(Asked::Become(rest)) => Some(rest.len()),
            _ => None,
        };
        assert_eq!(becomes("layerseal", &argv), Some(2));
        assert_eq!(becomes("/usr/bin/layerseal-runtime", &argv), Some(3));
        assert_eq!(becomes("/usr/libexec/my-layerseal-runtime", &[]), Some(0));
        assert_eq!(becomes("layerseal", &argv[1..]), None);
        assert_eq!(becomes("/usr/bin/layerseal-runtime/x", &argv[1..]), None);
        let verify: Vec<OsString> = ["runtime-verify", "create", "c"].map(OsString::from).into();
        assert!(matches!(asked(OsStr::new("layerseal"), &verify), Some(Asked::Verify(rest)) if rest.len() == 2));
    }
}
