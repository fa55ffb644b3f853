//! Writable layers that this host has seen empty. Anything else in one covers verified files, and whoever has the disk
//! can put it there: so `upper = "empty"` demands that a container begins with nothing, and that what it has since is
//! from this boot.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::overlay_notes::OverlayNotes;
use super::upper_check::{PodmanWrites, UpperOverImage, Writer};
use super::{LastStart, refused};
use crate::error::{Case, Refusal, Result};
use crate::mount::{self, MountOptions, MountSpec, UpperDir as Writable};
use crate::policy::{Checkpoint, Decision, Mode, UpperRule};
use crate::prepare::PreparedImage;
use crate::protocol::{IdMapping, MountCall};
use crate::state::{NotedDirectories, StateDir};
use crate::sys::files;

/// How long a call waits for another one for the same container: everything slow is done before the lock is taken.
const WAIT: Duration = Duration::from_secs(10);

/// Keeps other calls for the same upper directory waiting: two overlays over one directory damage it, and the kernel
/// does not refuse that. The lock ends with the value. (It is not a lock of containers-storage: those lie in files of
/// their own.)
pub(super) fn lock_upper(upper: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let shown = || path.display().to_string();
    let lock = files::lock(upper, FlockOperation::NonBlockingLockExclusive, WAIT);
    lock.map_err(|e| Refusal::io(shown(), e))?
        .ok_or_else(|| Refusal::new(Case::I07Busy, shown(), "another start of this container does not end"))
}

/// How podman came to the upper directory.
#[derive(Clone, Copy)]
pub(super) struct UpperUse<'a> {
    /// What podman asked for.
    pub(super) call: &'a MountCall,
    /// What podman wrote for this start, by an overlay of its own; `None` if it writes through the verified mount.
    pub(super) written: Option<&'a PodmanWrites>,
}

/// Checks that the upper directory of `place` may hold what it holds, and remembers one that is empty. Returns what
/// `audit` lets pass.
///
/// podman has written into it if `by.written` says so: what it copied up there for this start is compared with `image`,
/// whatever the policy says about upper directories. Otherwise podman writes through the verified mount, and what is
/// compared is what it wrote before that existed. Without an image the layers are shown as they are.
///
/// # Errors
/// [`Case::M01Upper`]; [`Case::O09Tampered`] for what podman copied; [`Case::O13Refused`]; [`Case::Io`].
pub(super) fn check(
    place: &MountSpec,
    decision: &Decision,
    image: Option<&PreparedImage>,
    by: UpperUse<'_>,
) -> Result<Option<Refusal>> {
    let Some(upper) = place.upper.as_ref().filter(|_| decision.mode != Mode::Off) else { return Ok(None) };
    let audited = |refusal| if decision.mode == Mode::Audit { Ok(Some(refusal)) } else { Err(refusal) };
    let ran = LastStart::of_content(&upper.upper);
    if by.written.is_none() {
        // The hooks look themselves.
        let notes = refused::notes()?;
        let note = refused::of_container(&notes, std::slice::from_ref(&upper.upper), &[&upper.path]);
        let note = note.map(|(_, note)| note);
        if let Err(refusal) = refused::check(note, ran, None) {
            return audited(refusal);
        }
    }
    let since = match (by.written, image) {
        // Whoever restores it is told of the checkpoint as a whole, unless that is allowed.
        (Some(written), _) if written.by == Writer::Checkpoint && passes_checkpoints(decision) => None,
        (Some(written), _) => Some(written.since),
        // Podman writes nothing for the start except through this mount.
        (None, Some(_)) => Some(i128::MAX),
        (None, None) => None,
    };
    let refused = compare(upper, decision, since.map(|since| (since, ran)), |age| odd(place, upper, image, by, age))?;
    if refused.is_none() && since.is_some() && by.written.is_none() && ran == LastStart::Never {
        LastStart::remember_mounted(&upper.upper, &upper.path);
    }
    refused.map_or(Ok(None), audited)
}

/// An image as a user's container will see it.
#[derive(Clone, Copy)]
pub(super) struct UserView<'a> {
    /// The image alone, under those IDs of the user's namespace that the container has.
    pub(super) image: &'a OwnedFd,
    /// Which those are.
    pub(super) ids: (&'a IdMapping, &'a IdMapping),
}

/// Checks the same for a container of a user other than root, whose podman writes through an overlay of its own and
/// notes it as users do. Nothing is let pass here.
///
/// # Errors
/// As for [`check`].
pub(super) fn check_of_user(
    upper: &Writable,
    decision: &Decision,
    view: UserView<'_>,
    written: &PodmanWrites,
) -> Result<()> {
    let odd = |age| {
        let beside = UpperOverImage {
            upper: &upper.upper,
            image: view.image,
            maps: Some(view.ids),
            unknown_ids: false,
            written: Some(written),
            age,
            dry: false,
            notes: OverlayNotes::OfUser,
        };
        beside.first_unexpected().map_err(|e| Refusal::io(upper.path.display().to_string(), e))
    };
    let age = (written.since, LastStart::of_content(&upper.upper));
    compare(upper, decision, Some(age), odd)?.map_or(Ok(()), Err)
}

/// Finds what is wrong with an upper directory: `odd` is the first entry that should not be there, given when this start
/// began and what was before it; nothing is asked of entries of the past without an `age`.
fn compare(
    upper: &Writable,
    decision: &Decision,
    age: Option<(i128, LastStart)>,
    odd: impl Fn(Option<(i128, LastStart)>) -> Result<Option<PathBuf>>,
) -> Result<Option<Refusal>> {
    let io =
        |e: std::io::Error| Refusal::io(format!("{}, or its note in {}", upper.path.display(), StateDir::Uppers), e);
    if decision.upper == UpperRule::Empty {
        let seen = NotedDirectories::of(StateDir::Uppers).map_err(io)?;
        if !seen.holds(&upper.upper).map_err(io)? {
            return match odd(None)? {
                None => {
                    // Before it is mounted: a container that is killed at once must be known next time.
                    seen.insert(&upper.upper, &upper.path).map_err(io)?;
                    Ok(None)
                }
                Some(path) => Ok(Some(Refusal::new(Case::M01Upper, upper.path.display().to_string(), path.display()))),
            };
        }
    }
    if age.is_none() {
        return Ok(None);
    }
    let tampered = |path: PathBuf| Refusal::new(Case::O09Tampered, path.display().to_string(), "as podman copied it");
    Ok(odd(age)?.map(tampered))
}

fn passes_checkpoints(decision: &Decision) -> bool {
    decision.checkpoint == Checkpoint::Allow || decision.mode == Mode::Audit
}

/// Finds the first entry of the upper directory that is neither the image's nor podman's own.
fn odd(
    place: &MountSpec,
    upper: &Writable,
    image: Option<&PreparedImage>,
    by: UpperUse<'_>,
    age: Option<(i128, LastStart)>,
) -> Result<Option<PathBuf>> {
    let io = |e: std::io::Error| Refusal::io(upper.path.display().to_string(), e);
    let Some(image) = image else {
        // Directories as they are, which nobody vouches for.
        return Ok((!files::is_empty(&upper.upper).map_err(io)?).then(|| "/".into()));
    };
    // In podman's own overlay the IDs are the host's, and beneath a mount program the container's.
    let mapped = place.instead.is_some();
    let (how, plain) = (&place.how, MountOptions::default());
    let view = mount::view(image, if mapped { how } else { &plain })?;
    let maps = mapped.then_some((&how.uids, &how.gids));
    // podman itself makes the directory for the host's IDs of the container's root, and what is in it is the
    // container's. If the lower directories are mapped already, the call does not say how.
    let maps_of_call = how.uids != IdMapping::None || how.gids != IdMapping::None;
    let unknown_ids = !mapped && (maps_of_call || by.call.has_mapped_lowers());
    let beside = UpperOverImage {
        upper: &upper.upper,
        image: &view,
        maps,
        unknown_ids,
        written: by.written,
        age,
        dry: false,
        notes: OverlayNotes::OfRoot,
    };
    beside.first_unexpected().map_err(io)
}
