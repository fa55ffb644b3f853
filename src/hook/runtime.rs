//! layerseal as the OCI runtime, in front of crun or runc: `create`, `run` and `restore` are decided as `precreate`
//! decides, for every engine and for every kind of container, and the configuration gets the hooks `createRuntime` and
//! `createContainer` if it has none. By now the caller holds no lock of the store.

use std::path::{Path, PathBuf};

use super::inject::Hook;
use super::{JournalSubject, MAX_INPUT, Outcome, Stage, inject, precreate, settle, unknown, users};
use crate::error::{Case, Refusal, Result};
use crate::pki;
use crate::protocol::{self, ContainerConfig, Start};
use crate::sys::child::in_child;
use crate::sys::openssl::{self, Openssl};
use crate::sys::process;
use crate::sys::{files, new_files};

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

/// Decides about the container in this process, which has nothing else to do.
///
/// # Errors
/// Why there must be no container.
pub fn verify_start(start: &Start) -> std::result::Result<(), Stopped> {
    process::clear_environment();
    process::keep_descriptors();
    openssl::start(Openssl::Verify);
    pki::keep_facts();
    let mut about = JournalSubject { container: start.id.clone(), ..JournalSubject::default() };
    let ended = bundle(start).and_then(|(bundle, file)| {
        let read = || std::fs::read(&file).map_err(|e| Refusal::io(file.display().to_string(), e));
        if let Some(decided) = users::rootless(Stage::Runtime, &bundle, read) {
            return decided;
        }
        // Nothing may be found by way of the caller's working directory.
        std::env::set_current_dir("/").map_err(|e| Refusal::io("/", e))?;
        run(start, &bundle, &file, &mut about)
    });
    settle(Stage::Runtime, &about, ended).map_err(|refusal| Stopped::from(&refusal))
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

fn run(start: &Start, bundle: &Path, file: &Path, about: &mut JournalSubject) -> Result<Outcome> {
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::O05Call, file.display().to_string(), e);
    let name = file.file_name().ok_or_else(|| refuse(&"no file"))?;
    let dir = files::open_dir(file.parent().unwrap_or(Path::new("/"))).map_err(|e| refuse(&e))?;
    let config = files::open_file_at(&dir, name).map_err(|e| refuse(&e))?;
    let stat = rustix::fs::fstat(&config).map_err(|e| refuse(&e))?;
    let input = files::read_all(config, MAX_INPUT).map_err(|e| refuse(&e))?;
    let read = protocol::config(&input)?;
    let read = ContainerConfig { root: bundle.join(&read.root), ..read };
    let outcome = precreate::look(&read, bundle, None, Some(start), about).or_else(unknown)?;
    // If nothing is asked, nothing is changed.
    if !matches!(outcome, Outcome::Off)
        && let hooks =
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
    Ok(outcome)
}
