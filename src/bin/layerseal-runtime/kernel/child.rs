//! Children of this process, and what it says to them.

use super::{EINTR, O_CLOEXEC, call, exit, number};

const SIGCHLD: usize = 17;
const SIGKILL: usize = 9;
const PR_SET_PDEATHSIG: usize = 1;
const SIG_IGN: usize = 1;
const AF_UNIX: usize = 1;
const SOCK_STREAM: usize = 1;
const MSG_NOSIGNAL: usize = 0x4000;

/// How a child ended.
pub enum Ended {
    /// By itself.
    Exited(u8),
    /// By a signal, or nobody can tell.
    Otherwise,
}

/// A child of this process.
#[derive(Clone, Copy)]
pub struct Child(usize);

impl Child {
    /// Runs `work` in a child, which ends with this process. `work` becomes another program: a child that comes back
    /// from it has failed. `None` where there is no child, or it would leave no status.
    pub fn start(work: impl FnOnce()) -> Option<Self> {
        let mut action = [0_usize; 4];
        // SAFETY: room for `struct sigaction` of this architecture, whose first word is the handler; numbers.
        let (asked, parent) = unsafe {
            (call(number::RT_SIGACTION, [SIGCHLD, 0, action.as_mut_ptr().addr(), 8, 0]), call(number::GETPID, [0; 5]))
        };
        // Where SIGCHLD is ignored a child leaves no status.
        if asked != 0 || action[0] == SIG_IGN {
            return None;
        }
        // SAFETY: a copy of this process, which has one thread.
        let child = unsafe { call(number::CLONE, [SIGCHLD, 0, 0, 0, 0]) };
        if child == 0 {
            // SAFETY: numbers.
            let orphan = unsafe {
                call(number::PRCTL, [PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0]);
                call(number::GETPPID, [0; 5]) != parent
            };
            if !orphan {
                work();
            }
            exit(127);
        }
        usize::try_from(child).ok().map(Self)
    }

    /// Waits until the child has ended.
    pub fn wait(self) -> Ended {
        let mut status = 0_u32;
        loop {
            // SAFETY: room for the status.
            let answer = unsafe { call(number::WAIT4, [self.0, (&raw mut status).addr(), 0, 0, 0]) };
            return match answer {
                EINTR => continue,
                _ if usize::try_from(answer) != Ok(self.0) || status & 0x7f != 0 => Ended::Otherwise,
                _ => Ended::Exited((status >> 8) as u8),
            };
        }
    }
}

/// One end of a pair of sockets, which programs that this process becomes do not have.
#[derive(Clone, Copy)]
pub struct Socket(usize);

impl Socket {
    /// Makes a pair; `None` also where one end would be a standard descriptor, which the caller has left closed.
    pub fn pair() -> Option<(Self, Self)> {
        let mut pair = [0_u32; 2];
        let arguments = [AF_UNIX, SOCK_STREAM | O_CLOEXEC, 0, pair.as_mut_ptr().addr(), 0];
        // SAFETY: room for two descriptors.
        let answer = unsafe { call(number::SOCKETPAIR, arguments) };
        (answer == 0 && pair.iter().all(|one| *one > 2)).then_some((Self(pair[0] as usize), Self(pair[1] as usize)))
    }

    /// Makes this end the standard input, also of programs that this process becomes; whether that was done.
    pub fn becomes_input(self) -> bool {
        // SAFETY: numbers.
        unsafe { call(number::DUP3, [self.0, 0, 0, 0, 0]) == 0 }
    }

    /// Reads one byte; `None` if there will be none.
    pub fn read(self) -> Option<u8> {
        let mut byte = 0_u8;
        loop {
            // SAFETY: room for one byte.
            match unsafe { call(number::READ, [self.0, (&raw mut byte).addr(), 1, 0, 0]) } {
                EINTR => {}
                read => return (read == 1).then_some(byte),
            }
        }
    }

    /// Writes one byte; whether somebody reads it tells the reader's end.
    pub fn write(self, byte: u8) {
        // SAFETY: one byte; without an address its length, the sixth argument, is not looked at.
        unsafe { call(number::SENDTO, [self.0, (&raw const byte).addr(), 1, MSG_NOSIGNAL, 0]) };
    }

    /// Closes this end.
    pub fn close(self) {
        // SAFETY: a number.
        unsafe { call(number::CLOSE, [self.0, 0, 0, 0, 0]) };
    }
}
