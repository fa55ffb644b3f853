//! `layerseal runtime`: an OCI runtime that verifies, and is crun or runc from then on.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use serde_json::json;

use crate::hook::{Stopped, before_start};
use crate::invoke::{Log, RuntimeCall, runtime_call, runtime_log};
use crate::policy::{Directories, real_runtime};
use crate::report::{Case, Refusal, one_line};
use crate::sys::child::OWN;
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

/// The program `layerseal-runtime`, which engines call for everything that they do with a container: all of it is the real
/// runtime's but for what has a container run, which is for the program `layerseal` beside it. So the libraries that
/// verifying needs are loaded for that alone.
pub fn pass() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().skip(1).collect();
    let target = runtime_call(&argv).and_then(|call| match call {
        RuntimeCall::Start(_) => {
            let own = std::fs::read_link(OWN).map_err(|e| Refusal::io(OWN, e))?;
            Ok((own.with_file_name("layerseal"), [&[OsString::from("runtime")], &*argv].concat()))
        }
        RuntimeCall::Other => Ok((real_runtime(&Directories::system())?, argv.clone())),
    });
    let stopped = match target {
        Ok((program, argv)) => become_program(&program, &argv),
        Err(refusal) => Stopped::from(&refusal),
    };
    failed(&argv, &stopped)
}

/// Why it did not.
fn become_program(program: &Path, argv: &[OsString]) -> Stopped {
    let error = Command::new(program).args(argv).exec();
    Stopped::from(&Refusal::new(Case::F07Runtime, program.display().to_string(), error))
}

fn failed(argv: &[OsString], stopped: &Stopped) -> ExitCode {
    tell(&runtime_log(argv), &stopped.message);
    ExitCode::from(stopped.code)
}

/// Says why as runtimes do: on the standard error, and in the file that the caller reads it from.
fn tell(log: &Log, message: &str) {
    let message = format!("layerseal: {}", one_line(message));
    if let Some(file) = &log.file {
        let time = humantime::format_rfc3339_seconds(SystemTime::now());
        let line = match log.json {
            true => json!({"level": "error", "msg": message, "time": time.to_string()}).to_string(),
            // As logrus writes it, which is runc's.
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
