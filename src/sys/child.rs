//! Work that must leave this process as it is: done by a child, which says how it ended.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

/// The program that runs, whatever its path is by now.
pub const OWN: &str = "/proc/self/exe";

/// Runs `work` in a child of this process, which must have one thread, and returns what it returned: nothing where the
/// child ended before that. Environment, descriptors, working directory and mount namespace of this process stay as
/// they are.
///
/// # Errors
/// The kernel's: there is no child.
pub fn in_child(work: impl FnOnce() -> Vec<u8>) -> std::io::Result<Vec<u8>> {
    let (read, write): (OwnedFd, OwnedFd) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: there is one thread, so the child may do all that this process may; it ends without returning to
    // what called us.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()),
        0 => {
            drop(read);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                // The work must not outlive this process.
                let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
                let answer = work();
                std::fs::File::from(write).write_all(&answer)
            }));
            let code = i32::from(!matches!(done, Ok(Ok(()))));
            // SAFETY: one number; nothing of this process's own is left to do.
            unsafe { libc::_exit(code) }
        }
        child => {
            drop(write);
            let mut answer = Vec::new();
            let all = std::fs::File::from(read).read_to_end(&mut answer);
            // Where the caller ignores SIGCHLD there is no child left to wait for.
            while let Err(Errno::INTR) = waitpid(Pid::from_raw(child), WaitOptions::empty()) {}
            all.map(|_| answer)
        }
    }
}

/// A child of this process that runs on beside it.
#[derive(Debug)]
pub struct ChildProcess {
    pid: Pid,
    pidfd: OwnedFd,
}

impl ChildProcess {
    /// Runs `work` in a child of this process, which must have one thread. The child ends with it, and with this
    /// process.
    ///
    /// # Errors
    /// The kernel's: there is no child.
    pub fn start(work: impl FnOnce()) -> std::io::Result<Self> {
        // SAFETY: there is one thread, so the child may do all that this process may; it ends without returning to
        // what called us.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error()),
            0 => {
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
                    work();
                }));
                // SAFETY: one number; nothing of this process's own is left to do.
                unsafe { libc::_exit(i32::from(done.is_err())) }
            }
            child => {
                let pid = Pid::from_raw(child).ok_or_else(|| std::io::Error::other("no process ID"))?;
                // Nobody else waits for the child: the number is still its own.
                match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
                    Ok(pidfd) => Ok(Self { pid, pidfd }),
                    Err(e) => {
                        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                        let _ = waitpid(Some(pid), WaitOptions::empty());
                        Err(e.into())
                    }
                }
            }
        }
    }

    /// Returns whether the child has ended, and reaps it if so.
    pub fn is_over(&self) -> bool {
        !matches!(waitpid(Some(self.pid), WaitOptions::NOHANG), Ok(None) | Err(Errno::INTR))
    }

    /// Kills the child.
    pub fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }
}

impl std::os::fd::AsFd for ChildProcess {
    /// Returns the pidfd, which is readable when the child has ended.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_says_is_heard_and_what_it_does_is_not_felt() {
        let here = std::env::current_dir().unwrap();
        let answer = in_child(|| {
            std::env::set_current_dir("/").unwrap();
            std::env::current_dir().unwrap().into_os_string().into_encoded_bytes()
        });
        assert_eq!(answer.unwrap(), b"/");
        assert_eq!(std::env::current_dir().unwrap(), here);
        // SAFETY: it ends the child.
        assert_eq!(in_child(|| unsafe { libc::_exit(0) }).unwrap(), b"", "it ended before it said anything");
    }
}
