//! Writable layers that this host has seen empty. What else is in one covers verified files, and who has
//! the disk can put it there: so `upper = "empty"` asks that a container begins with nothing, and that
//! what it has since is of this boot.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FlockOperation, Statx, StatxFlags, statx};
use rustix::io::Errno;

use super::written::{Beside, Written};
use crate::mount::{self, How, Place, Upper as Writable};
use crate::policy::{Decision, Mode, Upper};
use crate::prepare::PreparedImage;
use crate::report::{Case, Refusal, Result};
use crate::state::{Notes, StateDir};
use crate::sys::files;

/// How long a call waits for another one for the same container: what is long there is done before it is held.
const WAIT: Duration = Duration::from_secs(10);

/// A path and a time.
const MAX_NOTE: u64 = 8192;

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
    if decision.upper == Upper::Any {
        let Some(written) = written else { return Ok(None) };
        let odd = odd(place, upper, image, Some(written), Some(written.since))?;
        let refusal =
            |path: PathBuf| Refusal::new(Case::O09Tampered, path.display().to_string(), "as podman copied it");
        return odd.map(refusal).map_or(Ok(None), audited);
    }
    let seen = StateDir::Uppers.make().map_err(io)?;
    if is_noted(&seen, upper).map_err(io)? {
        return Ok(None);
    }
    match odd(place, upper, image, written, None)? {
        None => {
            // Before it is mounted: a container that was killed at once is no stranger.
            remember(&seen, upper).map_err(io)?;
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
    since: Option<i128>,
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
    let beside = Beside { upper: &upper.upper, image: &view, maps, written, since };
    beside.odd().map_err(io)
}

/// Device and inode, by which notes are named, and what tells a directory from a later one with the same
/// numbers.
fn numbers(stat: &Statx) -> (String, String) {
    let born = (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then_some(stat.stx_btime);
    let born = born.map_or_else(|| "?".to_owned(), |t| format!("{}.{:09}", t.tv_sec, t.tv_nsec));
    (format!("{}:{}:{}", stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino), born)
}

fn of(dir: &OwnedFd) -> rustix::io::Result<(String, String)> {
    statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::BTIME).map(|s| numbers(&s))
}

fn is_noted(seen: &Notes, upper: &Writable) -> std::io::Result<bool> {
    let (name, born) = of(&upper.upper)?;
    let note = seen.read(&name, MAX_NOTE)?;
    Ok(note.is_some_and(|note| note.starts_with(format!("{born} ").as_bytes())))
}

/// Notes that are looked at whenever one is written: as many go as come, and a start costs the same beside a
/// thousand containers as beside one.
const LOOKED_AT: usize = 8;

/// Writes the note of one directory, and takes away some of those of directories that are gone.
fn remember(seen: &Notes, upper: &Writable) -> std::io::Result<()> {
    let (name, born) = of(&upper.upper)?;
    let others = seen.names()?;
    // From its own place on, which is another each time.
    let at = others.partition_point(|other| *other < name);
    for other in others.iter().cycle().skip(at).take(LOOKED_AT.min(others.len())) {
        if seen.read(other, MAX_NOTE).is_ok_and(|note| note.is_some_and(|note| is_gone(other, &note))) {
            let _ = seen.remove(other);
        }
    }
    let path = std::path::absolute(&upper.path)?;
    let note = [born.as_bytes(), b" ", std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())].concat();
    seen.write(&name, &note)
}

/// Whether the directory of a note is gone, or another one is in its place. Where that cannot be told the note stays.
fn is_gone(name: &str, note: &[u8]) -> bool {
    let Some(at) = note.iter().position(|b| *b == b' ') else { return true };
    let path = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&note[at + 1..]));
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO | StatxFlags::BTIME).map(|s| numbers(&s));
    match found {
        Ok((numbers, born)) => numbers != name || born.as_bytes() != &note[..at],
        Err(e) => matches!(e, Errno::NOENT | Errno::NOTDIR),
    }
}
