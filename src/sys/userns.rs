//! User namespaces as tables of IDs for mount_setattr(2), and the IDs that the kernel makes files
//! under. Nothing of ours ever runs in such a namespace but a child that waits.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{self, CWD, Mode, OFlags};
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

use crate::report::Result;
use crate::sys::files::check_proc;

/// `/proc/PID/uid_map` takes one write of less than a page.
pub const MAX_MAP: usize = 4095;

/// What went wrong, and at what.
#[derive(Debug)]
pub struct Failure {
    /// The step.
    pub step: &'static str,
    /// The kernel's error.
    pub error: io::Error,
}

/// A user namespace with these maps, as lines of `/proc/PID/uid_map` (user_namespaces(7)): first ID
/// inside, first ID outside, how many.
///
/// # Errors
/// [`crate::report::Case::J03Proc`] outside; inside, the step that failed. No process is left.
pub fn with_maps(uid_map: &str, gid_map: &str) -> Result<std::result::Result<OwnedFd, Failure>> {
    check_proc()?;
    Ok(make(uid_map, gid_map))
}

fn make(uid_map: &str, gid_map: &str) -> std::result::Result<OwnedFd, Failure> {
    let at = |step: &'static str| move |e: io::Error| Failure { step, error: e };
    let child = Child::start().map_err(at("user namespace"))?;
    let path = format!("/proc/{}", child.pid.as_raw_nonzero());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| at("/proc")(e.into()))?;
    for (name, step, map) in [("uid_map", "user IDs", uid_map), ("gid_map", "group IDs", gid_map)] {
        let file = fs::openat(&proc, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        // One write: the kernel takes no second.
        file.map_err(io::Error::from).and_then(|f| File::from(f).write_all(map.as_bytes())).map_err(at(step))?;
    }
    fs::openat(&proc, "ns/user", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| at("user namespace")(e.into()))
}

/// A process in a new user namespace that does nothing and ends when this value does, or when this
/// process dies.
struct Child {
    pid: Pid,
    /// Its end is what the child waits for.
    release: Option<PipeWriter>,
}

/// `struct clone_args`, first version (include/uapi/linux/sched.h): flags are the first word, the
/// signal at the end is the fifth.
#[repr(C, align(8))]
struct CloneArguments([u64; 8]);

impl Child {
    fn start() -> io::Result<Self> {
        let (wait, release) = io::pipe()?;
        let mut arguments = CloneArguments([0; 8]);
        arguments.0[0] = libc::CLONE_NEWUSER as u64;
        arguments.0[4] = libc::SIGCHLD as u64;
        // SAFETY: the structure has the layout of its first version and the size given. Without a stack
        // of its own and without CLONE_VM this is fork(2): the child has a copy of the memory and calls
        // nothing but close, read and _exit, which are async-signal-safe, so that locks which other
        // threads held at this moment do not matter to it.
        let pid =
            unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_ref(&arguments), size_of::<CloneArguments>()) };
        match pid {
            0 => wait_and_exit(&wait, &release),
            1.. => match i32::try_from(pid).ok().and_then(Pid::from_raw) {
                Some(pid) => Ok(Self { pid, release: Some(release) }),
                None => Err(io::Error::other("no process ID")),
            },
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The child's life.
fn wait_and_exit(wait: &PipeReader, release: &PipeWriter) -> ! {
    let mut byte = 0_u8;
    // SAFETY: both descriptors are open, the child's own copies, and nothing uses the closed one after;
    // the buffer is one writable byte. _exit runs no destructor of the parent's values.
    unsafe {
        // With its own copy of this end open it would wait for itself.
        libc::close(release.as_raw_fd());
        while libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1) < 0 && *libc::__errno_location() == libc::EINTR {}
        libc::_exit(0)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.release.take());
        // ECHILD where whoever started us ignores SIGCHLD: then the kernel has reaped it.
        while matches!(waitpid(Some(self.pid), WaitOptions::empty()), Err(rustix::io::Errno::INTR)) {}
    }
}

/// Runs `action` with files made under these IDs, by this thread, and all other rights as before.
///
/// Overlayfs keeps the credentials of whoever makes it, and makes its own files under them; on a
/// directory with mapped IDs, ID 0 of the host may be nobody's.
///
/// # Errors
/// When the IDs cannot be taken.
pub fn with_file_owner<T>(uid: u32, gid: u32, action: impl FnOnce() -> T) -> io::Result<T> {
    let rights = capabilities(None)?;
    let _back = Back { rights, uid: set_fsuid(u32::MAX), gid: set_fsgid(u32::MAX) };
    set_fsgid(gid);
    set_fsuid(uid);
    if (set_fsuid(u32::MAX), set_fsgid(u32::MAX)) != (uid, gid) {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    // Leaving ID 0 drops the rights over files (capabilities(7)).
    set_capabilities(None, rights)?;
    Ok(action())
}

/// What to return to, even when `action` panics.
struct Back {
    rights: CapabilitySets,
    uid: u32,
    gid: u32,
}

impl Drop for Back {
    fn drop(&mut self) {
        set_fsuid(self.uid);
        set_fsgid(self.gid);
        let _ = set_capabilities(None, self.rights);
    }
}

/// Sets the calling thread's file system user ID and gives the one before; an impossible ID asks.
fn set_fsuid(id: u32) -> u32 {
    // SAFETY: setfsuid takes any value, touches no memory, and counts for this thread alone.
    unsafe { libc::setfsuid(id) }.cast_unsigned()
}

/// The same for the group.
fn set_fsgid(id: u32) -> u32 {
    // SAFETY: as for setfsuid.
    unsafe { libc::setfsgid(id) }.cast_unsigned()
}
