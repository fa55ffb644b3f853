//! Writable layers that this host has seen empty. What else is in one covers verified files, and who has
//! the disk can put it there: so `upper = "empty"` asks that a container begins with nothing, and that
//! what it has since is of this boot.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::Ran;
use super::upper_check::{Beside, Written};
use crate::mount::{self, How, Place, Upper as Writable};
use crate::policy::{Decision, Mode, Upper};
use crate::prepare::PreparedImage;
use crate::report::{Case, Refusal, Result};
use crate::state::{NotedDirectories, StateDir};
use crate::sys::files;

/// How long a call waits for another one for the same container: what is long there is done before it is held.
const WAIT: Duration = Duration::from_secs(10);

/// Keeps other calls for the same upper directory waiting: two overlays over one damage it, and the
/// kernel does not refuse that. It ends with the value. (Not a lock of containers-storage: those lie in
/// files of their own.)
pub(super) fn alone(upper: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let shown = || path.display().to_string();
    let lock = files::lock(upper, FlockOperation::NonBlockingLockExclusive, WAIT);
    lock.map_err(|e| Refusal::io(shown(), e))?
        .ok_or_else(|| Refusal::new(Case::I07Busy, shown(), "another start of this container does not end"))
}

/// Whether the upper directory of `place` may hold what it holds; remembers one that is empty. What
/// `audit` lets pass is given back.
///
/// podman has been at it where `written` says so: what it copied up there for this start is compared with `image`
/// whatever the policy says of upper directories. Without an image the layers are shown as they are.
///
/// # Errors
/// [`Case::M01Upper`]; [`Case::O09Tampered`] for what podman copied; [`Case::Io`].
pub(super) fn check(
    place: &Place,
    decision: &Decision,
    image: Option<&PreparedImage>,
    written: Option<&Written>,
) -> Result<Option<Refusal>> {
    let Some(upper) = place.upper.as_ref().filter(|_| decision.mode != Mode::Off) else { return Ok(None) };
    let io =
        |e: std::io::Error| Refusal::io(format!("{}, or its note in {}", upper.path.display(), StateDir::Uppers), e);
    let audited = |refusal| if decision.mode == Mode::Audit { Ok(Some(refusal)) } else { Err(refusal) };
    let mut strange = None;
    if decision.upper == Upper::Empty {
        let seen = NotedDirectories::of(StateDir::Uppers).map_err(io)?;
        strange = (!seen.holds(&upper.upper).map_err(io)?).then_some(seen);
    }
    let Some(seen) = strange else {
        let Some(written) = written else { return Ok(None) };
        let age = Some((written.since, Ran::of(&upper.upper)));
        let odd = odd(place, upper, image, Some(written), age)?;
        let refusal =
            |path: PathBuf| Refusal::new(Case::O09Tampered, path.display().to_string(), "as podman copied it");
        return odd.map(refusal).map_or(Ok(None), audited);
    };
    match odd(place, upper, image, written, None)? {
        None => {
            // Before it is mounted: a container that was killed at once is no stranger.
            seen.insert(&upper.upper, &upper.path).map_err(io)?;
            Ok(None)
        }
        Some(path) => audited(Refusal::new(Case::M01Upper, upper.path.display().to_string(), path.display())),
    }
}

/// The first entry of the upper directory that is not the image's, nor podman's own.
fn odd(
    place: &Place,
    upper: &Writable,
    image: Option<&PreparedImage>,
    written: Option<&Written>,
    age: Option<(i128, Ran)>,
) -> Result<Option<PathBuf>> {
    let io = |e: std::io::Error| Refusal::io(upper.path.display().to_string(), e);
    let Some(image) = image else {
        // Directories as they are, which nobody vouches for.
        return Ok((!files::is_empty(&upper.upper).map_err(io)?).then(|| "/".into()));
    };
    // In its own overlay the IDs are those of the host, and beneath a mount program the container's.
    let mapped = place.instead.is_some();
    let (how, plain) = (&place.how, How::default());
    let view = mount::view(image, if mapped { how } else { &plain })?;
    let maps = mapped.then_some((&how.uids, &how.gids));
    let beside = Beside { upper: &upper.upper, image: &view, maps, written, age };
    beside.odd().map_err(io)
}
