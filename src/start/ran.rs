//! Whether a container ever ran verified on this host: what is in its upper directory is its own then, and podman's before.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::state::{NotedDirectories, StateDir};

/// What this host remembers of a container, by its upper directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// It was never started on a verified image.
    Never,
    /// It was there before this host began to remember: it has most likely run, and is no worse than it was then.
    Before,
    /// It was, the last time then, in nanoseconds since 1970.
    At(i128),
}

impl Ran {
    /// Where nothing can be read of it, it never ran.
    pub fn of(upper: &OwnedFd) -> Self {
        let known = NotedDirectories::of(StateDir::Started).and_then(|started| match started.noted(upper)? {
            Some(at) => Ok(Self::At(at)),
            None if started.predate(upper)? => Ok(Self::Before),
            None => Ok(Self::Never),
        });
        known.unwrap_or_else(|e| {
            log::debug!("{}: {e}", StateDir::Started);
            Self::Never
        })
    }

    /// Remembers that the container, whose upper directory is at `path`, was started now.
    pub fn remember(upper: &OwnedFd, path: &Path) {
        if let Err(e) = NotedDirectories::of(StateDir::Started).and_then(|started| started.insert(upper, path)) {
            log::warn!("{}: {e}", StateDir::Started);
        }
    }
}
