//! `layerseal runtime`: an OCI runtime that verifies the root, and then becomes crun or runc.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use serde_json::json;

use crate::error::{Case, Refusal, Result, one_line};
use crate::hook::{Stopped, before_start, supervise};
use crate::policy::{Directories, REMOVE, SUPERVISE, note_runtime, real_runtime};
use crate::protocol::{Log, RuntimeCall, Start, runtime_call, runtime_log};
use crate::sys::process;

/// The name of the link to this program for engines that name a runtime only by its path.
const NAME: &[u8] = b"layerseal-runtime";

/// What a call of a runtime asks for, with the runtime's own arguments.
pub(super) enum Asked<'a> {
    /// To become the runtime, unless the container is refused.
    Become(&'a [OsString]),
    /// Only whether the container may start: `layerseal-runtime` calls the runtime itself ([`SUPERVISE`]).
    Supervise(&'a [OsString]),
    /// To have the runtime remove the container that the call was to make ([`REMOVE`]).
    Remove(&'a [OsString]),
}

/// Returns what is asked for, if this is a call of the runtime: by the program's name or by the verb.
pub(super) fn asked<'a>(program: &OsStr, argv: &'a [OsString]) -> Option<Asked<'a>> {
    let name = Path::new(program).file_name().unwrap_or_default();
    match argv.split_first() {
        _ if name.as_bytes().ends_with(NAME) => Some(Asked::Become(argv)),
        Some((verb, rest)) if verb == "runtime" => Some(Asked::Become(rest)),
        Some((verb, rest)) if verb.as_bytes() == SUPERVISE.to_bytes() => Some(Asked::Supervise(rest)),
        Some((verb, rest)) if verb.as_bytes() == REMOVE.to_bytes() => Some(Asked::Remove(rest)),
        _ => None,
    }
}

/// Does what is asked for.
pub(super) fn run(asked: &Asked<'_>) -> ExitCode {
    match asked {
        Asked::Become(argv) => run_runtime(argv),
        Asked::Supervise(argv) => {
            let supervised = runtime_call(argv).map_err(|r| Stopped::from(&r)).and_then(|call| match call {
                RuntimeCall::Start(start) => supervise(&start, Parent),
                RuntimeCall::Other => Ok(()),
            });
            supervised.map_or_else(|stopped| failed(argv, &stopped), |()| ExitCode::SUCCESS)
        }
        Asked::Remove(argv) => {
            let removed = runtime_call(argv).and_then(|call| match call {
                RuntimeCall::Start(start) => remove(&start),
                RuntimeCall::Other => Ok(()),
            });
            removed.map_or_else(|refusal| failed(argv, &Stopped::from(&refusal)), |()| ExitCode::SUCCESS)
        }
    }
}

/// `layerseal-runtime`, which called this program with a socket as its standard input.
struct Parent;

impl std::io::Read for Parent {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        Ok(rustix::io::read(std::io::stdin(), into)?)
    }
}

impl std::io::Write for Parent {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        Ok(rustix::io::write(std::io::stdin(), from)?)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Has the runtime remove a container that must not be started, and waits until that is done.
fn remove(start: &Start) -> Result<()> {
    let program = real_runtime(&Directories::system())?;
    let shown = program.display().to_string();
    let ended = Command::new(&program)
        .args(start.deletion())
        .stdin(Stdio::null())
        .status()
        .map_err(|e| Refusal::io(shown.as_str(), e))?;
    match ended.success() {
        true => Ok(()),
        false => Err(Refusal::new(Case::F07Runtime, shown, format!("delete --force {}: {ended}", start.id))),
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
        let words = |verb: &str| -> Vec<OsString> { [verb, "create", "c"].map(OsString::from).into() };
        let (one, other) = (words("runtime-supervise"), words("runtime-remove"));
        assert!(matches!(asked(OsStr::new("layerseal"), &one), Some(Asked::Supervise(rest)) if rest.len() == 2));
        assert!(matches!(asked(OsStr::new("layerseal"), &other), Some(Asked::Remove(rest)) if rest.len() == 2));
    }
}
