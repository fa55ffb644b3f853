//! User namespaces as tables of IDs for mount_setattr(2), and the IDs that the kernel makes files under. The only
//! process of ours that ever runs in such a namespace is a child that waits.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{self, CWD, Mode, OFlags};
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::error::Result;
use crate::sys::files::check_proc;

/// `/proc/PID/uid_map` takes one write of less than a page.
pub const MAX_MAP: usize = 4095;

/// What went wrong, and in which step.
#[derive(Debug)]
pub struct UsernsError {
    /// The step.
    pub step: &'static str,
    /// The kernel's error.
    pub error: io::Error,
}

/// Makes a user namespace with these maps, as lines of `/proc/PID/uid_map` (user_namespaces(7)): first ID inside, first
/// ID outside, how many.
///
/// # Errors
/// [`crate::error::Case::J03Proc`] outside; inside, the step that failed. No process is left.
pub fn with_maps(uid_map: &str, gid_map: &str) -> Result<std::result::Result<OwnedFd, UsernsError>> {
    check_proc()?;
    Ok(make(uid_map, gid_map))
}

fn make(uid_map: &str, gid_map: &str) -> std::result::Result<OwnedFd, UsernsError> {
    let at = |step: &'static str| move |e: io::Error| UsernsError { step, error: e };
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

/// A range of IDs: the first inside, the first outside, how many.
pub type IdRange = (u32, u32, u32);

/// Parses `/proc/PID/uid_map` (user_namespaces(7)), and joins ranges that continue each other.
///
/// # Errors
/// For text that is no such map.
pub fn ranges(text: &str) -> io::Result<Vec<IdRange>> {
    let line = |line: &str| -> Option<IdRange> {
        let numbers: Vec<u32> = line.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
        let &[inside, outside, count] = numbers.as_slice() else { return None };
        // No range has the last number, which is not an ID.
        (inside.checked_add(count).is_some() && outside.checked_add(count).is_some())
            .then_some((inside, outside, count))
    };
    let mut all =
        text.lines().map(line).collect::<Option<Vec<_>>>().ok_or_else(|| io::Error::other("no map of IDs"))?;
    all.sort_unstable();
    let mut joined: Vec<IdRange> = Vec::new();
    for (inside, outside, count) in all {
        match joined.last_mut() {
            Some(last) if last.0 + last.2 == inside && last.1 + last.2 == outside => last.2 += count,
            _ => joined.push((inside, outside, count)),
        }
    }
    Ok(joined)
}

/// A process in a new user namespace that does nothing and ends when this value does, or when this
/// process dies.
struct Child {
    pid: Pid,
    /// The child waits until this is closed.
    release: Option<PipeWriter>,
}

impl Child {
    fn start() -> io::Result<Self> {
        let (wait, release) = io::pipe()?;
        // Not clone3: systemd lets none of its calls pass where it restricts namespaces, because their flags are in
        // memory.
        // SAFETY: without a stack of its own and without CLONE_VM this is fork(2): the child has a copy of the memory and
        // calls nothing but close, read and _exit, which are async-signal-safe, so that locks which other threads held at
        // this moment do not matter to it. All that follows the flags is not there.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0) };
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

/// Waits, as the child, until the parent closes its end of the pipe, and exits.
fn wait_and_exit(wait: &PipeReader, release: &PipeWriter) -> ! {
    let mut byte = 0_u8;
    // SAFETY: both descriptors are open, the child's own copies, and nothing uses the closed one after;
    // the buffer is one writable byte. _exit runs no destructor of the parent's values.
    unsafe {
        // With its own copy of this end open the child would wait for itself.
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

/// Runs `action` so that this thread makes files under these IDs, with all other rights as before.
///
/// Overlayfs keeps the credentials of whoever makes it, and makes its own files under them; on a directory with mapped
/// IDs, ID 0 of the host may belong to no user.
///
/// # Errors
/// When the IDs cannot be taken.
pub fn with_file_owner<T>(uid: u32, gid: u32, action: impl FnOnce() -> T) -> io::Result<T> {
    let rights = capabilities(None)?;
    let _back = RestorePrivileges { rights, uid: set_fsuid(u32::MAX), gid: set_fsgid(u32::MAX) };
    set_fsgid(gid);
    set_fsuid(uid);
    if (set_fsuid(u32::MAX), set_fsgid(u32::MAX)) != (uid, gid) {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    // Leaving ID 0 drops the rights over files (capabilities(7)).
    set_capabilities(None, rights)?;
    Ok(action())
}

/// Runs `action` without this thread's right to open files by their handles (`CAP_DAC_READ_SEARCH`); another right lets
/// it read whatever there is.
///
/// # Errors
/// The kernel's.
pub fn without_handles<T>(action: impl FnOnce() -> T) -> io::Result<T> {
    let rights = capabilities(None)?;
    let _back = RestoreCapabilities(rights);
    let effective = rights.effective.difference(CapabilitySet::DAC_READ_SEARCH);
    set_capabilities(None, CapabilitySets { effective, ..rights })?;
    Ok(action())
}

struct RestoreCapabilities(CapabilitySets);

impl Drop for RestoreCapabilities {
    fn drop(&mut self) {
        let _ = set_capabilities(None, self.0);
    }
}

/// Hands the detached `mount` over to a user namespace: a mount of the same that is attached nowhere, and of which
/// whoever is root there can clear none of the flags that it has now. The kernel locks those when a mount namespace is
/// made for another user namespace, and only then (fs/namespace.c, `lock_mnt_tree`): a mount that is just sent and
/// moved could be mounted again without `nodev`.
///
/// `over` is a directory that may be covered. This process, which must have one thread, is in that user namespace
/// afterwards, in a new mount namespace, and is good for nothing except sending the mount and ending.
///
/// # Errors
/// The kernel's.
pub fn hand_over(mount: OwnedFd, over: &std::path::Path, namespace: impl std::os::fd::AsFd) -> io::Result<OwnedFd> {
    use crate::sys::mounts;
    use rustix::mount::{MountPropagationFlags, mount_change};
    use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
    // No process may look at what this one has in its memory, or has open.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mounts::attach(&mount, mounts::open_target(over)?)?;
    drop(mount);
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))?;
    unshare(UnshareFlags::NEWNS)?;
    Ok(mounts::clone_mount(mounts::open_target(over)?)?)
}

fn unshare(flags: rustix::thread::UnshareFlags) -> io::Result<()> {
    // SAFETY: only the mount namespace becomes one of this process's own, and no descriptor table or working
    // directory that another thread could rely on: there is one thread.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// What to return to, even when `action` panics.
struct RestorePrivileges {
    rights: CapabilitySets,
    uid: u32,
    gid: u32,
}

impl Drop for RestorePrivileges {
    fn drop(&mut self) {
        set_fsuid(self.uid);
        set_fsgid(self.gid);
        let _ = set_capabilities(None, self.rights);
    }
}

/// Sets the calling thread's file system user ID and returns the one before; an impossible ID only asks for it.
fn set_fsuid(id: u32) -> u32 {
    // SAFETY: setfsuid takes any value, touches no memory, and counts for this thread alone.
    unsafe { libc::setfsuid(id) }.cast_unsigned()
}

/// Sets the calling thread's file system group ID and returns the one before; an impossible ID only asks for it.
fn set_fsgid(id: u32) -> u32 {
    // SAFETY: as for setfsuid.
    unsafe { libc::setfsgid(id) }.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_equal_if_they_say_the_same() {
        let of = |text: &str| ranges(text).unwrap();
        assert_eq!(of("  0   1 1234\n1234 0 1\n1235 1235 10\n"), [(0, 1, 1234), (1234, 0, 1), (1235, 1235, 10)]);
        assert_eq!(of("5 105 5\n0 100 5\n"), [(0, 100, 10)]);
        assert_eq!(of("0 0 4294967295\n"), [(0, 0, u32::MAX)]);
        for bad in ["0 1", "0 1 2 3", "0 1 x", "-1 0 1", "0 4294967295 2", "4294967295 0 2"] {
            assert!(ranges(bad).is_err(), "{bad}");
        }
    }
}
