//! Whether a container ever ran verified on this host: from then on what is in its upper directory is its own, and
//! before that it is podman's.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::state::{NotedDirectories, StateDir};

/// What this host remembers of a container, by its upper directory. No times: clocks get set, and notes get restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStart {
    /// It was never started on a verified image.
    Never,
    /// It existed before this host began to remember: it has most likely run, and is no worse than it was then.
    Before,
    /// It was started on a verified image.
    Verified,
}

impl LastStart {
    /// Looks up what this host remembers of a container. If its notes cannot be read, it never ran.
    pub fn of(upper: &OwnedFd) -> Self {
        let known = NotedDirectories::of(StateDir::Started).and_then(|started| match started.holds(upper)? {
            true => Ok(Self::Verified),
            false if started.predate(upper)? => Ok(Self::Before),
            false => Ok(Self::Never),
        });
        known.unwrap_or_else(|e| {
            log::debug!("{}: {e}", StateDir::Started);
            Self::Never
        })
    }

    /// Looks up the same for callers that write nothing: if there are no notes, as if they were made now.
    pub fn if_noted(upper: &OwnedFd) -> Self {
        match NotedDirectories::open(StateDir::Started) {
            Ok(Some(_)) => Self::of(upper),
            Ok(None) if NotedDirectories::would_predate(upper).unwrap_or(false) => Self::Before,
            _ => Self::Never,
        }
    }

    /// Looks up the same as [`Self::of_content`], for callers that write nothing.
    pub fn of_content_if_noted(upper: &OwnedFd) -> Self {
        let mounted = || NotedDirectories::open(StateDir::Mounted)?.map_or(Ok(false), |mounted| mounted.holds(upper));
        match Self::if_noted(upper) {
            Self::Never if mounted().unwrap_or(false) => Self::Verified,
            ran => ran,
        }
    }

    /// Looks up the same for the content of the upper directory, whoever wrote it: the mount program shows nothing but
    /// verified mounts.
    pub fn of_content(upper: &OwnedFd) -> Self {
        let mounted = || NotedDirectories::of(StateDir::Mounted).and_then(|mounted| mounted.holds(upper));
        match Self::of(upper) {
            Self::Never if mounted().unwrap_or(false) => Self::Verified,
            ran => ran,
        }
    }

    /// Remembers that the container, whose upper directory is at `path`, was started now.
    pub fn remember(upper: &OwnedFd, path: &Path) {
        note(StateDir::Started, upper, path);
    }

    /// Remembers that the mount program is mounting it over a verified image now.
    pub fn remember_mounted(upper: &OwnedFd, path: &Path) {
        note(StateDir::Mounted, upper, path);
    }
}

fn note(state: StateDir, upper: &OwnedFd, path: &Path) {
    if let Err(e) = NotedDirectories::of(state).and_then(|notes| notes.insert(upper, path)) {
        log::warn!("{state}: {e}");
    }
}
