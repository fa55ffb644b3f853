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
use crate::hook::{Stopped, before_start, create_container};
use crate::policy::{Directories, real_runtime};
use crate::protocol::{Log, RuntimeCall, runtime_call, runtime_log};
use crate::sys::child::OWN;
use crate::sys::process;

/// The name of the link to this program for engines that name a runtime only by its path.
const NAME: &[u8] = b"layerseal-runtime";

/// Returns the runtime's own arguments, if this is a call of the runtime: by the program's name or by the verb.
pub(super) fn arguments<'a>(program: &OsStr, argv: &'a [OsString]) -> Option<&'a [OsString]> {
    let name = Path::new(program).file_name().unwrap_or_default();
    match argv.split_first() {
        _ if name.as_bytes().ends_with(NAME) => Some(argv),
        Some((verb, rest)) if verb == "runtime" => Some(rest),
        _ => None,
    }
}

/// Becomes the real runtime, unless the container is refused.
pub(super) fn run(argv: &[OsString]) -> ExitCode {
    let ready = runtime_call(argv).map_err(|r| Stopped::from(&r)).and_then(|call| {
        let program = real_runtime(&Directories::system()).map_err(|r| Stopped::from(&r))?;
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

/// Runs the program `layerseal-runtime`, which engines call for everything that they do with a container: all of it is
/// passed to the real runtime, except what starts a container, which is passed to the program `layerseal` beside it. So
/// the libraries needed for verifying are loaded only for that. It is also the hook that only restores flags.
pub fn pass() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().skip(1).collect();
    if argv == ["hook", "createContainer"] {
        return create_container();
    }
    let target = runtime_call(&argv).and_then(|call| match call {
        RuntimeCall::Start(_) => {
            let own = std::fs::read_link(OWN).map_err(|e| Refusal::io(OWN, e))?;
            let program = own.with_file_name("layerseal");
            let error = Command::new(&program).arg("runtime").args(&argv).exec();
            Err(Refusal::io(program.display().to_string(), error)
                .and("it verifies, and belongs beside layerseal-runtime"))
        }
        RuntimeCall::Other => real_runtime(&Directories::system()),
    });
    let stopped = match target {
        Ok(program) => become_program(&program, &argv),
        Err(refusal) => Stopped::from(&refusal),
    };
    failed(&argv, &stopped)
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
        assert_eq!(arguments(OsStr::new("layerseal"), &argv), Some(&argv[1..]));
        assert_eq!(arguments(OsStr::new("/usr/bin/layerseal-runtime"), &argv), Some(&argv[..]));
        assert_eq!(arguments(OsStr::new("/usr/libexec/my-layerseal-runtime"), &[]), Some(&[][..]));
        assert_eq!(arguments(OsStr::new("layerseal"), &argv[1..]), None);
        assert_eq!(arguments(OsStr::new("/usr/bin/layerseal-runtime/x"), &argv[1..]), None);
    }
}
