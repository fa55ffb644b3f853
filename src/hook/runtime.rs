//! layerseal as the OCI runtime, in front of crun or runc: `create`, `run` and `restore` are decided as `precreate`
//! decides, for every engine and for every kind of container. By now the caller holds no lock of the store.
//!
//! What the runtime makes of it is looked at too. A container that is made by one call and started by another
//! (`create`, by which engines start) is looked at between them by the process that has verified it: no hook, no further
//! process, and everything that hooks of others did is there. Otherwise the configuration gets the hooks
//! `createRuntime` and `createContainer`, if it has none.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::inject::Hook;
use super::second_look::SecondLook;
use super::{JournalSubject, Outcome, Stage, inject, own_files, precreate, settle, unknown, users};
use crate::error::{Case, Refusal, Result};
use crate::pki;
use crate::policy::GO_ON;
use crate::protocol::{self, ContainerConfig, Start};
use crate::sys::child::in_child;
use crate::sys::openssl::{self, Openssl};
use crate::sys::process;
use crate::sys::{files, mounts, new_files};

/// Why there is no container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The exit code.
    pub code: u8,
    /// One line.
    pub message: String,
}

impl From<&Refusal> for Stopped {
    fn from(refusal: &Refusal) -> Self {
        Self { code: refusal.case().class().exit_code(), message: refusal.to_string() }
    }
}

/// Decides about a container that the runtime is asked to start. All of it happens in a child: this process is about to
/// become the runtime, with its environment, its descriptors and its working directory.
///
/// # Errors
/// Why there must be no container.
pub fn before_start(start: &Start) -> std::result::Result<(), Stopped> {
    let broken = |why: &str| Stopped::from(&Refusal::new(Case::Bug, "verifying the container's root", why));
    let work = || match verify_start(start) {
        Ok(()) => vec![0],
        Err(Stopped { code, message }) => [vec![code], message.into_bytes()].concat(),
    };
    let answer = in_child(work).map_err(|e| Stopped::from(&Refusal::io("fork", e)))?;
    match answer.split_first() {
        Some((0, _)) => Ok(()),
        Some((code, message)) => Err(Stopped { code: *code, message: String::from_utf8_lossy(message).into_owned() }),
        None => Err(broken("it ended before it said anything")),
    }
}

/// Decides about the container in this process, which has nothing else to do; the configuration gets hooks.
fn verify_start(start: &Start) -> std::result::Result<(), Stopped> {
    let (about, ended) = verify(start, false);
    settle(Stage::Runtime, &about, ended.map(|(outcome, _)| outcome)).map_err(|refusal| Stopped::from(&refusal))
}

/// Decides about the container in this process, whose parent has the runtime make it: `parent` is told when that may be
/// done, and says when it is done (see [`SUPERVISE`](crate::policy::SUPERVISE)). What the runtime has made is looked at
/// then, without a hook. Whatever needs no answer is done while the runtime is at work.
///
/// # Errors
/// Why there must be no container.
pub fn supervise(start: &Start, mut parent: impl Read + Write) -> std::result::Result<(), Stopped> {
    mounts::leave_to_exit();
    let (about, ended) = verify(start, true);
    let (ended, second) = match ended {
        Ok((outcome, second)) => (Ok(outcome), second),
        Err(refusal) => (Err(refusal), None),
    };
    let is_second = second.is_some();
    let told = if is_second { parent.write_all(&[GO_ON]) } else { Ok(()) };
    let settled = settle(Stage::Runtime, &about, ended).and_then(|()| told.map_err(|e| Refusal::io("socket", e)));
    let looked = settled.and_then(|()| match second {
        // Where there is no container, the runtime has said why.
        Some(second) if parent.read_exact(&mut [0]).is_ok() => {
            second.look()?;
            // Nobody waits for the end of this process.
            parent.write_all(&[GO_ON]).map_err(|e| Refusal::io("socket", e))
        }
        _ => Ok(()),
    });
    looked.map_err(|refusal| Stopped::from(&refusal))
}

/// Decides about the container. `is_attended` says whether somebody can look at what the runtime has made.
fn verify(start: &Start, is_attended: bool) -> (JournalSubject, Result<(Outcome, Option<SecondLook>)>) {
    process::clear_environment();
    process::keep_descriptors();
    openssl::start(Openssl::Verify);
    pki::keep_facts();
    let mut about = JournalSubject { container: start.id.clone(), ..JournalSubject::default() };
    let ended = bundle(start).and_then(|(bundle, file)| {
        let read = || std::fs::read(&file).map_err(|e| Refusal::io(file.display().to_string(), e));
        if let Some(decided) = users::rootless(Stage::Runtime, &bundle, read) {
            return decided.map(|outcome| (outcome, None));
        }
        // Nothing may be found by way of the caller's working directory.
        std::env::set_current_dir("/").map_err(|e| Refusal::io("/", e))?;
        run(start, &bundle, &file, is_attended, &mut about)
    });
    (about, ended)
}

/// Finds the bundle and the file of its configuration, without symlinks.
fn bundle(start: &Start) -> Result<(PathBuf, PathBuf)> {
    let real = |path: &Path| {
        std::fs::canonicalize(path).map_err(|e| Refusal::new(Case::O05Call, path.display().to_string(), e))
    };
    let bundle = real(start.bundle.as_deref().unwrap_or(Path::new(".")))?;
    let file = match &start.config {
        Some(file) => real(file)?,
        None => bundle.join("config.json"),
    };
    Ok((bundle, file))
}

fn run(
    start: &Start,
    bundle: &Path,
    file: &Path,
    is_attended: bool,
    about: &mut JournalSubject,
) -> Result<(Outcome, Option<SecondLook>)> {
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::O05Call, file.display().to_string(), e);
    own_files::check_config(file, &start.id)?;
    let name = file.file_name().ok_or_else(|| refuse(&"no file"))?;
    let dir = files::open_dir(file.parent().unwrap_or(Path::new("/"))).map_err(|e| refuse(&e))?;
    let config = files::open_file_at(&dir, name).map_err(|e| refuse(&e))?;
    let stat = rustix::fs::fstat(&config).map_err(|e| refuse(&e))?;
    let input = files::read_all(config, protocol::MAX_INPUT).map_err(|e| refuse(&e))?;
    let read = protocol::config(&input)?;
    let read = ContainerConfig { root: bundle.join(&read.root), ..read };
    let outcome = precreate::look(&read, bundle, None, Some(start), about).or_else(unknown)?;
    // If nothing is asked, nothing is changed.
    if matches!(outcome, Outcome::Off) {
        return Ok((outcome, None));
    }
    if is_attended && let Some(second) = SecondLook::of(start, bundle, &read, &input, &outcome) {
        return Ok((outcome, Some(second)));
    }
    if let hooks =
        [Hook::of(Stage::CreateRuntime)].into_iter().chain(Hook::for_flags(&read, &outcome)).collect::<Vec<_>>()
        && let Some(text) = inject::with_hooks(&input, &hooks).map_err(|e| refuse(&e))?
    {
        let name = name.to_str().ok_or_else(|| refuse(&"its name is no UTF-8"))?;
        // The engine writes it anew for each start.
        let written = match new_files::rewrite(&dir, name, &stat, &text) {
            Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => {
                new_files::write_atomic(&dir, name, stat.st_mode & 0o777, &text)
            }
            done => done,
        };
        written.map_err(|e| Refusal::io(file.display().to_string(), e))?;
    }
    Ok((outcome, None))
}
