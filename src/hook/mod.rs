//! OCI hooks: whoever starts a container has its root checked here.
//!
//! ```text
//! createRuntime: the runtime's state ─► the mount that becomes the root ─┬─► its record ─► the policy
//!                                      the mounts over system paths ─────┘
//! precreate:     podman's configuration ─► its native overlay ─► start::swap ─► the same configuration
//! runtime:       a call of crun or runc ─► the same as precreate ─► crun, runc ─► the same as createRuntime
//! ```
//!
//! crun shows nothing of a hook but its exit code, and neither does podman of `precreate`: the class of the refusal is
//! the exit code, and the journal has everything.

mod anonymous_volumes;
mod call_log;
mod changed;
mod copied_users;
mod copies;
mod cover;
mod create_container;
mod create_runtime;
mod crio;
mod document_names;
mod dry_run;
mod explain;
mod filled;
mod foretold;
mod given;
mod images;
mod inject;
mod installed;
mod last_call;
mod lookup;
mod namespace;
mod other_namespace;
mod own_files;
mod precreate;
mod root;
mod runtime;
mod second_look;
mod snapshot;
mod users;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

pub use call_log::{about, latest};
pub use crio::{CriO, crio};
pub use dry_run::expect_container;
pub use explain::{CaseExplanation, Explanation, explain};
pub use foretold::{expect_new_container, had_mount_program, not_by_fuse_overlayfs};
pub use given::{GivenContainer, GivenImage, GivenMount};
pub use installed::{Caller, Installation, installed, podman_runtime};
pub use last_call::{CallStatus, LastCall, last_call, last_of, since};
pub use runtime::{Stopped, before_start, supervise};
pub use users::has_own_notes;

use crate::container_store::{MadeFrom, RequestedBy, StoredContainer, or_unknown};
use crate::error::journal::{self, JournalDecision};
use crate::error::{Case, Refusal, Result};
use crate::mount::{Record, WouldRefuse};
use crate::oci::name::{ROOTFS, UNKNOWN};
use crate::pki;
use crate::policy::{self, Directories, Mode, Policy};
use crate::protocol::MAX_INPUT;
use crate::state::{Event, append_event};
use crate::sys::openssl::{self, Openssl};
use crate::sys::{files, process};

/// The stages at which we are called (runtime-spec, config.md "POSIX-platform Hooks"; oci-hooks(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// By the OCI runtime, when all mounts of the container are made; or in front of it, when it has made the container.
    CreateRuntime,
    /// By the OCI runtime in the container's namespaces, when it is done with the mounts.
    CreateContainer,
    /// By podman, before it hands the configuration to the runtime.
    Precreate,
    /// In the place of the runtime, before the real one: this is no hook, and not called by this name.
    Runtime,
}

impl Stage {
    /// Returns its name in the specifications, and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::Precreate => "precreate",
            Self::Runtime => "runtime",
        }
    }

    /// What follows the stage in the configuration of a hook whose message is shown to people: podman's message about a
    /// failed hook contains only these words and an exit code.
    pub const SEE: &'static str = "see: layerseal hook explain";

    /// Finds the stage that a hook of this name is for.
    pub fn of(name: &str) -> Option<Self> {
        [Self::CreateRuntime, Self::CreateContainer, Self::Precreate].into_iter().find(|s| s.name() == name)
    }
}

/// What is known about the container, for the journal; filled in as it is found out.
#[derive(Debug, Default)]
struct JournalSubject {
    container: String,
    /// What people call it.
    name: String,
    /// Whose it is, as its annotations say: `libpod`, `cri-o`.
    manager: String,
    names: Vec<String>,
    manifest: String,
    certificate: String,
}

impl JournalSubject {
    fn stored(&mut self, stored: &StoredContainer) {
        self.container = stored.id.to_string();
        self.name = stored.names.first().cloned().unwrap_or_default();
        if let MadeFrom::Image { id, names, manifest, .. } = &stored.made_from {
            self.names = if names.is_empty() { vec![id.to_string()] } else { names.clone() };
            // Whoever asked for it looks for the name that they gave.
            if let Some(asked) = stored.asked.as_ref().and_then(RequestedBy::name)
                && let Some(at) = self.names.iter().position(|name| name == asked)
            {
                self.names.swap(0, at);
            }
            self.manifest = manifest.map(|m| m.to_string()).unwrap_or_default();
        }
    }

    fn record(&mut self, record: &Record) {
        if self.names.is_empty() {
            self.names.clone_from(&record.names);
        }
        self.manifest = record.image.map(|image| image.to_string()).unwrap_or_default();
        self.certificate = record.certificate.map(|c| c.to_string()).unwrap_or_default();
    }
}

/// What comes before a refusal that stopped nothing.
const WOULD_REFUSE: &str = "audit: would refuse: ";

/// How it ended, where it did not end with a refusal.
enum Outcome {
    /// Everything that was asked is there.
    Allowed,
    /// Let pass despite this refusal.
    Audit(Refusal),
    /// Let pass by [`crate::start`] despite this.
    AuditBefore(WouldRefuse),
    /// Nothing is asked.
    Off,
    /// Another user's container, of which nothing is asked: as if the hook had not been called.
    NotCalled,
}

impl Outcome {
    /// Returns what the policy makes of a check.
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

/// Runs as a hook: reads what the runtime says, decides, and tells the journal.
pub fn run(stage: Stage) -> ExitCode {
    if stage == Stage::CreateContainer {
        return create_container();
    }
    process::clear_environment();
    process::keep_descriptors();
    openssl::start(match stage {
        Stage::CreateRuntime | Stage::CreateContainer => Openssl::Read,
        Stage::Precreate | Stage::Runtime => Openssl::Verify,
    });
    pki::keep_facts();
    let bundle = std::env::current_dir().unwrap_or_default();
    // Nothing may be found by way of the caller's working directory.
    let moved = std::env::set_current_dir("/");
    let mut about = JournalSubject::default();
    let ended = moved.map_err(|e| Refusal::io("/", e)).and_then(|()| {
        let input = input()?;
        let (outcome, edited) = match (users::rootless(stage, &bundle, || Ok(input.clone())), stage) {
            (Some(decided), _) => (decided?, None),
            (None, Stage::CreateRuntime) => (create_runtime::run(&input, &mut about).or_else(unknown)?, None),
            (None, _) => precreate::run(&input, &bundle, &mut about).or_else(|r| Ok((unknown(r)?, None)))?,
        };
        if stage == Stage::Precreate {
            // podman takes it for the configuration that is to be run.
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

/// Runs the hook `createContainer`. Nothing is decided in it, and nothing is reported once it is done.
fn create_container() -> ExitCode {
    process::clear_environment();
    process::keep_descriptors();
    match input().and_then(|input| create_container::run(&input)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => end(Stage::CreateContainer, &JournalSubject::default(), Err(refusal)),
    }
}

/// Refuses a container that cannot be identified only if it could be one that must be sealed.
fn unknown(refusal: Refusal) -> Result<Outcome> {
    if matches!(refusal.case(), Case::F06Denied | Case::O08Annotation | Case::O15OwnFiles) {
        return Err(refusal);
    }
    if users::is_in_namespace() {
        return users::unknown(refusal);
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
    files::read_all(stdin.lock(), MAX_INPUT).map_err(|e| refuse(&e))
}

fn end(stage: Stage, about: &JournalSubject, ended: Result<Outcome>) -> ExitCode {
    match settle(stage, about, ended) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            // runc shows it, and whoever tries by hand sees it. It does not go into a file: it contains names that
            // others chose, and crun lets them choose the file too.
            if !process::tells_a_file() {
                process::tell(&format!("layerseal: {refusal}"));
            }
            ExitCode::from(refusal.case().class().exit_code())
        }
    }
}

/// Tells the journal how it ended, and returns whether the start goes on.
fn settle(stage: Stage, about: &JournalSubject, ended: Result<Outcome>) -> Result<()> {
    let (decision, case, message) = match &ended {
        Ok(Outcome::NotCalled) => return Ok(()),
        Ok(Outcome::Allowed) => (JournalDecision::Allowed, "", "the container's root is what was sealed".to_owned()),
        Ok(Outcome::Off) => (JournalDecision::Off, "", "nothing is asked of the container's root".to_owned()),
        Ok(Outcome::AuditBefore(would)) => {
            (JournalDecision::Audit, would.case.as_str(), format!("{WOULD_REFUSE}{}", would.message))
        }
        Ok(Outcome::Audit(refusal)) => {
            (JournalDecision::Audit, refusal.case().id(), format!("{WOULD_REFUSE}{refusal}"))
        }
        Err(refusal) => (JournalDecision::Refused, refusal.case().id(), refusal.to_string()),
    };
    let (subject, remedy) = match &ended {
        Ok(Outcome::Audit(refusal)) | Err(refusal) => (refusal.subject(), refusal.case().remedy()),
        Ok(Outcome::AuditBefore(would)) => (would.subject.clone(), would.remedy.as_str()),
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
    last_call::note(stage, about, decision, case, &message);
    append_event(Event {
        decision: decision.word().to_owned(),
        stage: stage.name().to_owned(),
        case: case.to_owned(),
        remedy: remedy.to_owned(),
        image: image.to_owned(),
        container: about.container.clone(),
        name: about.name.clone(),
        manager: about.manager.clone(),
        subject,
        message,
        ..Event::default()
    });
    ended.map(|_| ())
}

/// Collects the names by which the policy decides: those of the image when it was mounted, those that the container's
/// image has now, and the one that was asked for. A root that is known to be no image's (`is_rootfs`) goes by `<rootfs>`.
/// Any other goes by `<unknown>` if its image is not on record: nothing that is missing may turn it into a `<rootfs>`.
fn names(record: Option<&Record>, stored: Option<&StoredContainer>, is_rootfs: bool) -> Vec<String> {
    let mut names = Vec::new();
    let its_own = record.is_some_and(|r| r.container.is_some() && r.container.as_ref() == stored.map(|s| &s.id));
    match (record, stored.map(|s| &s.made_from)) {
        (_, Some(MadeFrom::Image { names: now, .. })) => names.extend(now.iter().cloned()),
        (_, Some(MadeFrom::Nothing)) if its_own => {}
        (None, Some(MadeFrom::Unknown { .. })) => names.push(UNKNOWN.to_owned()),
        (None, _) | (_, Some(MadeFrom::Nothing)) => names.push(if is_rootfs { ROOTFS } else { UNKNOWN }.to_owned()),
        _ => {}
    }
    names.extend(record.into_iter().flat_map(|r| r.names.iter().cloned()));
    // The name that podman was asked for, which need not be in any record of the image.
    let asked = stored.and_then(|s| s.asked.as_ref());
    names.extend(asked.and_then(RequestedBy::name).cloned());
    or_unknown(names, asked)
}

/// Refuses the annotation that redirects a hook's output, whatever the policy says about the image: a file of the host
/// is at stake, and not the container.
fn no_redirection(redirection: Option<&String>) -> Result<()> {
    match redirection {
        Some(annotation) => Err(Refusal::new(Case::O08Annotation, annotation.as_str(), "")),
        None => Ok(()),
    }
}
