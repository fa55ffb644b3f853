//! Waiting for callers: one process that does nothing itself, and ends when nobody calls.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::limits::Limits;
use super::protocol::ServiceAnswer;
use super::worker;
use crate::error::{Case, Refusal, Result};
use crate::prepare::forget_copies;
use crate::sys::child::ChildProcess;
use crate::sys::peer::Peer;
use crate::sys::process;
use crate::sys::socket::{self, Conversation};

/// By then the whole call must have arrived.
const DEADLINE: Duration = Duration::from_secs(10);
/// And it must be answered within this time after that. A process that takes longer waits for something that wants to
/// hold it up.
const WORK: Duration = Duration::from_secs(10);
/// How long the answer to a call that is one too many may take.
const REFUSAL: Duration = Duration::from_millis(100);
/// How many calls are worked on at a time; later ones wait in the socket's own queue.
const AT_WORK: usize = 64;
/// How many of these may be one user's: an eighth, so that it takes eight users to make others wait.
const OF_ONE_USER: usize = 8;

/// Where to listen, and for how long.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// A socket to make, if systemd passes none.
    pub socket: Option<PathBuf>,
    /// After how long without a call the service ends.
    pub idle: Duration,
}

struct Working {
    child: ChildProcess,
    user: u32,
    until: Instant,
}

/// Answers calls until no more come.
///
/// # Errors
/// [`Case::Rootless`] for users other than root, [`Case::Usage`] if there is no socket to listen on, [`Case::Io`].
pub fn serve(options: &ServeOptions) -> Result<()> {
    // The environment tells it only to the first process.
    let inherited = socket::inherited().map_err(|e| Refusal::new(Case::Usage, "socket", e))?;
    process::clear_environment();
    if !process::is_real_root() {
        return Err(Refusal::new(Case::Rootless, "", "the service is root's"));
    }
    let listener = match (inherited, &options.socket) {
        (Some(listener), None) => listener,
        (None, Some(path)) => bind(path)?,
        _ => return Err(Refusal::new(Case::Usage, "socket", "start layerseal.socket, or pass --socket")),
    };
    let io = |e: std::io::Error| Refusal::io("socket", e);
    listener.set_nonblocking(true).map_err(io)?;
    let (mut limits, mut working) = (Limits::default(), Vec::<Working>::new());
    let mut idle_from = Instant::now();
    // Of one that was killed.
    forget_copies();
    loop {
        wait(&listener, &working, idle_from + options.idle).map_err(io)?;
        let now = Instant::now();
        working.retain(|one| !one.child.is_over());
        working.iter().filter(|one| one.until <= now).for_each(|one| one.child.kill());
        if !working.is_empty() {
            idle_from = now;
        }
        if working.len() < AT_WORK {
            match listener.accept() {
                Ok((stream, _)) => {
                    idle_from = now;
                    working.extend(begin(&stream, &mut limits, &working, now));
                }
                Err(e) if is_passing(&e) => {}
                Err(e) => return Err(io(e)),
            }
        }
        if working.is_empty() && now >= idle_from + options.idle {
            forget_copies();
            return Ok(());
        }
    }
}

fn bind(path: &PathBuf) -> Result<UnixListener> {
    let io = |e| Refusal::io(path.display().to_string(), e);
    let listener = UnixListener::bind(path).map_err(io)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(io)?;
    Ok(listener)
}

/// Returns whether an error is the caller's, or will pass.
fn is_passing(e: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let errno = e.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED | Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// Waits for a caller, for the end of a call, or until the next one has to be ended.
fn wait(listener: &UnixListener, working: &[Working], idle: Instant) -> std::io::Result<()> {
    let mut waited: Vec<PollFd<'_>> =
        working.iter().map(|one| PollFd::from_borrowed_fd(one.child.as_fd(), PollFlags::IN)).collect();
    if working.len() < AT_WORK {
        let listener: BorrowedFd<'_> = listener.as_fd();
        waited.push(PollFd::from_borrowed_fd(listener, PollFlags::IN));
    }
    let until = working.iter().map(|one| one.until).min().unwrap_or(idle);
    // A process that was killed and is still there is checked again a little later.
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
    match poll(&mut waited, Timespec::try_from(left).ok().as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Begins a call, unless its user has too many.
fn begin(stream: &UnixStream, limits: &mut Limits, working: &[Working], now: Instant) -> Option<Working> {
    // A caller that is already gone, or that cannot be identified, is ignored: somebody else may have its end of the
    // socket, who would count as one user more with each ID that has called.
    let known = Peer::of(stream).and_then(|peer| Ok((peer.user()?, peer)));
    // All IDs of a user's namespaces count as that user.
    let (user, peer) = known.map_err(|e| log::info!("who calls cannot be told: {e}")).ok()?;
    let until = now + DEADLINE;
    let busy = working.iter().filter(|one| one.user == user).count() >= OF_ONE_USER;
    if busy || !limits.allow(user, now) {
        let refusal = Refusal::new(Case::R05Many, format!("user {user}"), "too many calls");
        // There is room for it in a socket that is new, so nobody waits; from now on, as this process may have been kept
        // from running.
        let _ = Conversation::new(stream.as_fd(), Instant::now() + REFUSAL)
            .send(&ServiceAnswer::refused(&refusal, None).bytes(), &[]);
        return None;
    }
    match ChildProcess::start(|| worker::answer(stream, &peer, user, until)) {
        Ok(child) => Some(Working { child, user, until: until + WORK }),
        Err(e) => {
            log::warn!("no process for a call: {e}");
            None
        }
    }
}
