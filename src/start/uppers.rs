//! Writable layers that this host has seen empty. What else is in one covers verified files, and who has
//! the disk can put it there: so `upper = "empty"` asks that a container begins with nothing, and that
//! what it has since is of this boot.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FlockOperation, Statx, StatxFlags, statx};

use crate::mount::{Place, Upper as Writable, runtime_dir};
use crate::policy::{Decision, Mode, Upper};
use crate::report::{Case, Refusal, Result};
use crate::sys::files;

/// Beneath `/run/layerseal`, which does not survive the boot.
const DIRECTORY: &str = "uppers";

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
/// # Errors
/// [`Case::M01Upper`]; [`Case::Io`].
pub(super) fn check(place: &Place, decision: &Decision) -> Result<Option<Refusal>> {
    let Some(upper) = &place.upper else { return Ok(None) };
    if decision.upper == Upper::Any || decision.mode == Mode::Off {
        return Ok(None);
    }
    let io = |e: std::io::Error| Refusal::io(format!("{}, or its note in {DIRECTORY}", upper.path.display()), e);
    let seen = runtime_dir(DIRECTORY).map_err(io)?;
    if is_noted(&seen, upper).map_err(io)? {
        return Ok(None);
    }
    let empty = match place.instead {
        None => files::is_empty(&upper.upper),
        // By then podman has been at it.
        Some(_) => holds_only_mtab(&upper.upper),
    };
    if empty.map_err(io)? {
        // Before it is mounted: a container that was killed at once is no stranger.
        remember(&seen, upper).map_err(io)?;
        return Ok(None);
    }
    let refusal = Refusal::new(Case::M01Upper, upper.path.display().to_string(), "");
    if decision.mode == Mode::Audit { Ok(Some(refusal)) } else { Err(refusal) }
}

/// Whether there is nothing but what podman makes in its own overlay before it calls `precreate`: the link
/// `/etc/mtab` (libpod, `mountStorage`), and its directory, which must show the image's.
fn holds_only_mtab(upper: &OwnedFd) -> std::io::Result<bool> {
    use std::os::fd::AsFd as _;
    match files::list(upper.as_fd())?.as_slice() {
        [] => return Ok(true),
        [only] if only == "etc" => {}
        _ => return Ok(false),
    }
    let Ok(etc) = files::open_dir_at(upper, "etc") else { return Ok(false) };
    let mut names = [0_u8; 4096];
    let length = rustix::fs::flistxattr(&etc, &mut names)?;
    let hides = |name: &[u8]| {
        name.starts_with(b"trusted.overlay.") && !matches!(name, b"trusted.overlay.origin" | b"trusted.overlay.impure")
    };
    if names[..length].split(|b| *b == 0).any(hides) {
        return Ok(false);
    }
    let is_mtab = |name: &String| {
        let to = rustix::fs::readlinkat(&etc, name.as_str(), Vec::new());
        name == "mtab" && to.is_ok_and(|to| to.as_bytes() == b"/proc/mounts")
    };
    Ok(files::list(etc.as_fd())?.iter().all(is_mtab))
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

fn is_noted(seen: &OwnedFd, upper: &Writable) -> std::io::Result<bool> {
    let (name, born) = of(&upper.upper)?;
    match files::open_file_at(seen, &name) {
        Ok(file) => Ok(files::read_all(file, MAX_NOTE)?.starts_with(format!("{born} ").as_bytes())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Notes that are looked at whenever one is written: as many go as come, and a start costs the same beside a
/// thousand containers as beside one.
const LOOKED_AT: usize = 8;

/// Writes the note of one directory, and takes away some of those of directories that are gone.
fn remember(seen: &OwnedFd, upper: &Writable) -> std::io::Result<()> {
    use std::os::fd::AsFd as _;
    let (name, born) = of(&upper.upper)?;
    let others = files::list(seen.as_fd())?;
    // From its own place on, which is another each time.
    let at = others.partition_point(|other| *other < name);
    for other in others.iter().cycle().skip(at).take(LOOKED_AT.min(others.len())) {
        let note = files::open_file_at(seen, other).and_then(|f| files::read_all(f, MAX_NOTE)).unwrap_or_default();
        if !still_there(other, &note) {
            let _ = rustix::fs::unlinkat(seen, other, AtFlags::empty());
        }
    }
    let path = std::path::absolute(&upper.path)?;
    let note = [born.as_bytes(), b" ", std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())].concat();
    files::write_atomic(seen, &name, 0o600, &note)
}

fn still_there(name: &str, note: &[u8]) -> bool {
    let Some(at) = note.iter().position(|b| *b == b' ') else { return false };
    let path = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&note[at + 1..]));
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO | StatxFlags::BTIME).map(|s| numbers(&s));
    found.is_ok_and(|(numbers, born)| numbers == name && born.as_bytes() == &note[..at])
}
