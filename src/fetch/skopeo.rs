//! skopeo as a program: raw manifests, and everything that goes into a registry.

use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Options;
use super::clock::Clock;
use super::error;
use crate::error::{Case, Refusal, Result};
use crate::sys::{authorities, process};

/// Where programs are looked for when `PATH` is not set: a container runtime's call has an empty environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of what skopeo prints is read.
const MAX_WORDS: u64 = 64 << 10;

/// Makes a command of skopeo, ready for arguments. It ends with us, and gets our environment: at the command line the
/// caller's proxies and credentials are to be used, and in a runtime's call it is empty.
pub(super) fn command() -> std::process::Command {
    ready(std::process::Command::new("skopeo"))
}

/// Prepares another program like [`command`].
pub(super) fn ready(mut command: std::process::Command) -> std::process::Command {
    if std::env::var_os("PATH").is_none() {
        command.env("PATH", PATH);
    }
    authorities::as_before(&mut command);
    process::die_with_us(&mut command);
    command
}

/// Lists the options that say how to reach a registry, for a verb that names them with `prefix` (`dest-`).
pub(super) fn access(options: &Options, prefix: &str) -> Vec<std::ffi::OsString> {
    let mut arguments = Vec::new();
    if !options.tls_verify {
        arguments.push(format!("--{prefix}tls-verify=false").into());
    }
    for (name, value) in [("authfile", &options.authfile), ("cert-dir", &options.cert_dir)] {
        if let Some(value) = value {
            let mut argument = std::ffi::OsString::from(format!("--{prefix}{name}="));
            argument.push(value);
            arguments.push(argument);
        }
    }
    arguments
}

/// Runs skopeo and returns what it prints, at most `max` bytes.
///
/// # Errors
/// C03 when it takes or prints too much, C16, and the cases of skopeo's own errors.
pub(super) async fn run<A: AsRef<OsStr>>(
    subject: &str,
    arguments: impl IntoIterator<Item = A>,
    max: u64,
    clock: &Clock,
    at_most: Option<Duration>,
) -> Result<Vec<u8>> {
    let mut command = command();
    command.args(arguments);
    let spawn = |e| Refusal::new(Case::C16Skopeo, "skopeo", e);
    let work = async {
        let output = program(command, &[], max).await.map_err(spawn)?;
        if output.printed.len() as u64 > max {
            return Err(Refusal::new(Case::C03Slow, subject, format!("more than {max} bytes")));
        }
        match output.status {
            Some(status) if status.success() => Ok(output.printed),
            Some(status) if output.said.is_empty() => {
                Err(Refusal::new(Case::C17Network, subject, format!("skopeo: {status}")))
            }
            _ => Err(error::said(subject, &String::from_utf8_lossy(&output.said))),
        }
    };
    clock.limit(subject, at_most, work).await
}

/// The result of a program.
pub(super) struct Output {
    /// `None` where it was ended for printing too much.
    pub(super) status: Option<ExitStatus>,
    /// Its standard output, at most one byte more than was allowed.
    pub(super) printed: Vec<u8>,
    /// Its standard error, or the beginning of it.
    pub(super) said: Vec<u8>,
}

/// Runs a program; it ends when the future is dropped.
pub(super) async fn program(command: std::process::Command, input: &[u8], max: u64) -> std::io::Result<Output> {
    let mut command = tokio::process::Command::from(command);
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read shows that by its answer.
        let _ = pipe.write_all(input).await;
    }
    let (Some(out), Some(words)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(std::io::Error::other("no pipes"));
    };
    let (mut printed, mut said) = (Vec::new(), Vec::new());
    let (mut out, mut words) = (out.take(max + 1), words.take(MAX_WORDS));
    let read = tokio::join!(out.read_to_end(&mut printed), words.read_to_end(&mut said));
    read.0.and(read.1)?;
    if printed.len() as u64 > max {
        return Ok(Output { status: None, printed, said });
    }
    // Warnings without end would keep it waiting for a reader.
    drop((out, words));
    Ok(Output { status: Some(child.wait().await?), printed, said })
}
