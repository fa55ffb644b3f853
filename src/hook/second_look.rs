//! The second look at a container that goes through the runtime: when the runtime has made it, and its first process
//! waits to be started. What the hooks `createRuntime` and `createContainer` do otherwise is done here.

use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::other_namespace::within;
use super::{JournalSubject, Outcome, Stage, create_runtime, inject, root, settle, unknown};
use crate::error::{Case, Refusal, Result};
use crate::protocol::{ContainerConfig, ContainerState, Start, Verb};
use crate::sys::mounts::{self, Restrict};
use crate::sys::{files, mount_namespaces, mountinfo};

/// The longest file with a number that is read, in bytes.
const MAX_NUMBER: u64 = 32;

/// What is known of a container before it is made.
pub(super) struct SecondLook {
    /// Without the number of its first process.
    state: ContainerState,
    /// Where the runtime writes that number.
    pid_file: PathBuf,
    /// Whether nothing was mounted in the root before.
    before: Result<()>,
    /// The flags that its root must have.
    flags: Restrict,
}

impl SecondLook {
    /// Returns what is left to do; `None` if that is for hooks: there is no time between making and starting the
    /// container, nobody says in a file which process is its first, it shares its mounts with others, or the engine has
    /// configured the hook.
    pub(super) fn of(
        start: &Start,
        bundle: &Path,
        config: &ContainerConfig,
        input: &[u8],
        outcome: &Outcome,
    ) -> Option<Self> {
        let pid_file = start.pid_file.clone().filter(|file| file.is_absolute() && start.verb == Verb::Create)?;
        // What a pipe holds is for its reader, who is somebody else.
        let is_file = match std::fs::metadata(&pid_file) {
            Ok(found) => found.is_file(),
            Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        };
        if !is_file || !config.has_own_mounts || inject::has(input, Stage::CreateRuntime) {
            return None;
        }
        let (flags, root) = inject::flags(config, outcome)?;
        let state = ContainerState {
            id: start.id.clone(),
            pid: 0,
            bundle: bundle.to_owned(),
            root: Some(root.clone()),
            redirection: None,
            manager: config.manager.clone(),
            namespace: config.namespace.clone(),
        };
        let before = mountinfo::own().and_then(|mounts| root::nothing_in(&mounts, &root));
        Some(Self { state, pid_file, before, flags })
    }

    /// Looks at the container, restores the flags of its root, and tells the journal.
    ///
    /// # Errors
    /// Why it must not be started.
    pub(super) fn look(self) -> Result<()> {
        let ContainerState { id, manager, .. } = &self.state;
        let mut about = JournalSubject { container: id.clone(), manager: manager.clone(), ..JournalSubject::default() };
        let ended = self.decide(&mut about).or_else(unknown);
        settle(Stage::CreateRuntime, &about, ended)
    }

    fn decide(self, about: &mut JournalSubject) -> Result<Outcome> {
        let Self { mut state, pid_file, before, flags } = self;
        let shown = pid_file.display().to_string();
        let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::O05Call, shown.as_str(), why);
        let text = std::fs::File::open(&pid_file).and_then(|file| files::read_all(file, MAX_NUMBER));
        let text = text.map_err(|e| refuse(&e))?;
        let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        let process = number.and_then(Pid::from_raw).ok_or_else(|| refuse(&"it holds no number of a process"))?;
        let open = pidfd_open(process, PidfdFlags::empty()).map_err(|e| refuse(&e))?;
        state.pid = process.as_raw_nonzero().get().cast_unsigned();
        let namespace =
            mount_namespaces::of(&state.pid.to_string()).ok_or_else(|| refuse(&"the process in it has ended"))?;
        let own = mount_namespaces::of("self").ok_or_else(|| refuse(&"this process has no mount namespace"))?;
        if namespace.0 == own.0 {
            return Err(refuse(&"its first process has no mount namespace of its own"));
        }
        let id = state.id.clone();
        let outcome = create_runtime::look_at_created(state, before, about)?;
        // What was looked at was this process's, and not a later one's with its number; and so is the namespace.
        let mut ended = [PollFd::new(&open, PollFlags::IN)];
        if poll(&mut ended, Some(&Timespec::default())) != Ok(0) {
            return Err(refuse(&"the process in it has ended"));
        }
        if flags != Restrict::default() {
            let restrict = || mounts::restrict(mounts::open_target(Path::new("/"))?, flags);
            within(&namespace.1, &own.1, restrict).map_err(|e| Refusal::new(Case::I05Attach, id, e))?;
        }
        Ok(outcome)
    }
}
