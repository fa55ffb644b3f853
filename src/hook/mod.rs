//! OCI hooks: what a container is started on, looked at by whoever starts it.
//!
//! ```text
//! createRuntime: the runtime's state ─► the mount that becomes the root ─┬─► its record ─► the policy
//!                                      the mounts over system paths ─────┘
//! precreate:     podman's configuration ─► its native overlay ─► start::swap ─► the same configuration
//! runtime:       a call of crun or runc ─► the same as precreate ─► createRuntime into the configuration ─► crun, runc
//! ```
//!
//! crun shows nothing of a hook but its exit code, podman nothing of `precreate` but that: the class of the
//! refusal is the exit code, and the journal has all of it.

mod apart;
mod called;
mod cover;
mod create_container;
mod create_runtime;
mod crio;
mod explain;
mod filled;
mod images;
mod inject;
mod installed;
mod place;
mod precreate;
mod refused;
mod root;
mod runtime;
mod seen;

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

pub use called::{Called, Since, last_call, last_of, since};
pub use crio::{CriO, crio};
pub use explain::{CaseExplanation, Explanation, explain};
pub use installed::{Caller, Found, installed, podman_runtime};
pub use runtime::{Stopped, before_start};

use crate::identify::{MadeFrom, Stored};
use crate::mount::Record;
use crate::oci::name::{ROOTFS, UNKNOWN};
use crate::policy::{self, Directories, Mode, Policy};
use crate::report::journal::{self, Decision};
use crate::report::{Case, Refusal, Result};
use crate::sys::process::{self, Openssl, User};

/// Bytes of a state or a configuration: several times what the largest of them have.
const MAX_INPUT: u64 = 16 << 20;

/// When we are called (runtime-spec, config.md "POSIX-platform Hooks"; oci-hooks(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// By the OCI runtime, when all mounts of the container are made.
    CreateRuntime,
    /// By the OCI runtime in the container's namespaces, when it is done with the mounts.
    CreateContainer,
    /// By podman, before it hands the configuration to the runtime.
    Precreate,
    /// As the runtime, before the real one: no hook, and not called by this name.
    Runtime,
}

impl Stage {
    /// Its name in the specifications, and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::Precreate => "precreate",
            Self::Runtime => "runtime",
        }
    }

    /// The stage that a hook of this name is for.
    pub fn of(name: &str) -> Option<Self> {
        [Self::CreateRuntime, Self::CreateContainer, Self::Precreate].into_iter().find(|s| s.name() == name)
    }
}

/// What is known of the container, for the journal; filled in as it is found out.
#[derive(Debug, Default)]
struct About {
    container: String,
    /// Whose it is, as its annotations say: `libpod`, `cri-o`.
    manager: String,
    names: Vec<String>,
    manifest: String,
    certificate: String,
}

impl About {
    fn stored(&mut self, stored: &Stored) {
        self.container.clone_from(&stored.id);
        if let MadeFrom::Image { id, names, manifest, .. } = &stored.made_from {
            self.names = if names.is_empty() { vec![id.clone()] } else { names.clone() };
            self.manifest = manifest.map(|m| m.to_string()).unwrap_or_default();
        }
    }

    fn record(&mut self, record: &Record) {
        if self.names.is_empty() {
            self.names.clone_from(&record.names);
        }
        self.manifest = record.image.clone().unwrap_or_default();
        self.certificate = record.certificate.clone().unwrap_or_default();
    }
}

/// How it ended, where it did not end with a refusal.
enum Outcome {
    /// All that was asked is there.
    Allowed,
    /// Let pass.
    Audit(Refusal),
    /// Let pass by [`crate::start`], which said why; the case.
    AuditBefore(String),
    /// Nothing is asked.
    Off,
    /// Another user's, of which nothing is asked: as if nobody had been called.
    NotCalled,
}

impl Outcome {
    /// What the policy makes of a check.
    fn of(checked: Result<()>, decision: &policy::Decision) -> Result<Self> {
        match (checked, decision.mode) {
            // What is denied is denied in every mode.
            (Err(refusal), _) if refusal.case() == Case::F06Denied => Err(refusal),
            (_, Mode::Off) => Ok(Self::Off),
            (Ok(()), _) => Ok(Self::Allowed),
            (Err(refusal), Mode::Audit) => Ok(Self::Audit(refusal)),
            (Err(refusal), Mode::Enforce) => Err(refusal),
        }
    }
}

/// Runs as a hook: reads what the runtime says, decides, and says so to the journal.
pub fn run(stage: Stage) -> ExitCode {
    process::clear_environment();
    process::keep_descriptors();
    if stage == Stage::CreateContainer {
        // Nothing is decided, and nothing of it is to be seen where it was done.
        return match input().and_then(|input| create_container::run(&input)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(refusal) => end(stage, &About::default(), Err(refusal)),
        };
    }
    process::start_openssl(match stage {
        Stage::CreateRuntime | Stage::CreateContainer => Openssl::Read,
        Stage::Precreate | Stage::Runtime => Openssl::Verify,
    });
    let bundle = std::env::current_dir().unwrap_or_default();
    // Nothing is to be found by the caller's working directory.
    let moved = std::env::set_current_dir("/");
    let mut about = About::default();
    let ended = moved.map_err(|e| Refusal::io("/", e)).and_then(|()| {
        let input = input()?;
        let (outcome, edited) = match (rootless(), stage) {
            (Some(decided), _) => (decided?, None),
            (None, Stage::CreateRuntime) => (create_runtime::run(&input, &mut about).or_else(unknown)?, None),
            (None, _) => precreate::run(&input, &bundle, &mut about).or_else(|r| Ok((unknown(r)?, None)))?,
        };
        if stage == Stage::Precreate {
            // podman takes it for what is to be run.
            let input = edited.unwrap_or(input);
            let stdout = std::io::stdout();
            let mut stdout = stdout.lock();
            let written = stdout.write_all(&input).and_then(|()| stdout.flush());
            written.map_err(|e| Refusal::io("standard output", e))?;
        }
        Ok(outcome)
    });
    end(stage, &about, ended)
}

/// What becomes of a container of another user than root, in whose user namespace nothing can be mounted that the kernel
/// checks; `None` for one of root's, which is looked at.
fn rootless() -> Option<Result<Outcome>> {
    let refusal = Refusal::new(Case::Rootless, "", "");
    match process::user() {
        User::Root => None,
        User::Unknown => Some(Err(refusal)),
        User::Rootless => Some(Policy::rootless(&Directories::system()).and_then(|mode| match mode {
            Mode::Off => Ok(Outcome::NotCalled),
            Mode::Audit => Ok(Outcome::Audit(refusal)),
            Mode::Enforce => Err(refusal),
        })),
    }
}

/// What cannot be found out of a container stops it only where it could be one that must be sealed.
fn unknown(refusal: Refusal) -> Result<Outcome> {
    if matches!(refusal.case(), Case::F06Denied | Case::O08Annotation) {
        return Err(refusal);
    }
    match Policy::load(&Directories::system())?.for_unknown() {
        Some(decision) => Outcome::of(Err(refusal), &decision),
        None => Err(refusal),
    }
}

fn input() -> Result<Vec<u8>> {
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::O05Call, "standard input", why);
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(refuse(&"a terminal: an OCI runtime writes JSON to it"));
    }
    let mut bytes = Vec::new();
    stdin.lock().take(MAX_INPUT + 1).read_to_end(&mut bytes).map_err(|e| refuse(&e))?;
    if bytes.len() as u64 > MAX_INPUT {
        return Err(refuse(&format!("more than {MAX_INPUT} bytes")));
    }
    Ok(bytes)
}

fn end(stage: Stage, about: &About, ended: Result<Outcome>) -> ExitCode {
    match settle(stage, about, ended) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            // runc shows it, and whoever tries by hand sees it. Not into a file: there are names in it that
            // others chose, and crun lets them choose the file too.
            if !process::tells_a_file() {
                process::tell(&format!("layerseal: {refusal}"));
            }
            ExitCode::from(refusal.case().class().exit_code())
        }
    }
}

/// Says to the journal how it ended, and whether it goes on.
fn settle(stage: Stage, about: &About, ended: Result<Outcome>) -> Result<()> {
    let (decision, case, message) = match &ended {
        Ok(Outcome::NotCalled) => return Ok(()),
        Ok(Outcome::Allowed) => (Decision::Allowed, "", "the container's root is what was sealed".to_owned()),
        Ok(Outcome::Off) => (Decision::Off, "", "nothing is asked of the container's root".to_owned()),
        Ok(Outcome::AuditBefore(case)) => {
            (Decision::Audit, case.as_str(), "mounted, and not as the policy asks".to_owned())
        }
        Ok(Outcome::Audit(refusal)) => {
            (Decision::Audit, refusal.case().id(), format!("audit: would refuse: {refusal}"))
        }
        Err(refusal) => (Decision::Refused, refusal.case().id(), refusal.to_string()),
    };
    let (subject, remedy) = match &ended {
        Ok(Outcome::Audit(refusal)) | Err(refusal) => (refusal.subject(), refusal.case().remedy()),
        _ => (String::new(), ""),
    };
    let image = about.names.first().map_or("", String::as_str);
    let named = image.is_empty() || message.contains(image);
    let message = if named { message } else { format!("{image}: {message}") };
    let fields = [
        ("CASE", case),
        ("SUBJECT", &subject),
        ("REMEDY", remedy),
        ("IMAGE", image),
        ("DIGEST", &about.manifest),
        ("CERT_SHA256", &about.certificate),
        ("CONTAINER", &about.container),
        ("STAGE", stage.name()),
    ];
    journal::record(decision, &message, &fields);
    called::note(stage, about, decision, case, &message);
    ended.map(|_| ())
}

/// The names by which the policy decides: those of the image at the mount, those that the container's image has
/// now, and the one that it was asked for by. What is no image's goes by `<rootfs>`; a container of a store whose image is not on record
/// goes by `<unknown>`, for a record that somebody damaged must not make it one of those.
fn names(record: Option<&Record>, stored: Option<&Stored>, in_store: bool) -> Vec<String> {
    let mut names = Vec::new();
    let its_own = record.is_some_and(|r| r.container.is_some() && r.container.as_ref() == stored.map(|s| &s.id));
    match (record, stored.map(|s| &s.made_from)) {
        (_, Some(MadeFrom::Image { names: now, .. })) => names.extend(now.iter().cloned()),
        (_, Some(MadeFrom::Nothing)) if its_own => {}
        (None, _) | (_, Some(MadeFrom::Nothing)) => names.push(if in_store { UNKNOWN } else { ROOTFS }.to_owned()),
        _ => {}
    }
    names.extend(record.into_iter().flat_map(|r| r.names.iter().cloned()));
    // What podman was asked for, which no record of the image need say.
    names.extend(stored.and_then(|s| s.asked.as_ref()?.name()).cloned());
    names
}

/// Whatever the policy says of the image: a file of the host is at stake, and not the container.
fn no_redirection(redirection: Option<&String>) -> Result<()> {
    match redirection {
        Some(annotation) => Err(Refusal::new(Case::O08Annotation, annotation.as_str(), "")),
        None => Ok(()),
    }
}
