//! Who is at the other end of a local socket, and user namespaces by descriptor: from the kernel, never by a number
//! that can become another process's.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::fs::{fstat, fstatfs};
use rustix::io::Errno;

use super::userns;

/// `NSFS_MAGIC`
const NSFS: i64 = 0x6e73_6673;
/// The kernel allows no deeper nesting (`user_namespace::level`).
const DEEPEST: usize = 33;

/// The process that connected.
#[derive(Debug)]
pub struct Peer {
    /// Its user, as this process's user namespace counts.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    pid: rustix::process::Pid,
    /// Its process, which may be gone.
    pidfd: OwnedFd,
}

/// The IDs of a user namespace, as they are in this process's: first ID and count.
pub type Ranges = Vec<(u32, u32)>;

impl Peer {
    /// Identifies the process that called connect(2), as it was then.
    ///
    /// # Errors
    /// The kernel's; `ENOPROTOOPT` before Linux 6.5.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let who = rustix::net::sockopt::socket_peercred(&socket)?;
        let mut fd: libc::c_int = -1;
        let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
        // SAFETY: the value is a writable int and the length says so; the kernel writes a new descriptor there.
        let done = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERPIDFD,
                (&raw mut fd).cast(),
                &raw mut length,
            )
        };
        if done != 0 || fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it for this process, and nobody else has it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { uid: who.uid.as_raw(), gid: who.gid.as_raw(), pid: who.pid, pidfd })
    }

    /// Opens the user namespace that the process is in now.
    ///
    /// # Errors
    /// The kernel's; `ESRCH` where it is gone, `ENOTTY` before Linux 6.11.
    pub fn user_namespace(&self) -> io::Result<UserNamespace> {
        UserNamespace::from_ioctl(&self.pidfd, libc::PIDFD_GET_USER_NAMESPACE)
    }

    /// Returns the user that answers for the process: whoever made the uppermost of the user namespaces that it is in,
    /// or, in this process's own, the user that it runs as.
    ///
    /// # Errors
    /// The kernel's, for a process that has ended: whatever ID it ran under may be one of thousands that another user has.
    pub fn user(&self) -> io::Result<u32> {
        let namespace = match self.user_namespace() {
            Ok(namespace) => namespace,
            // Before Linux 6.11, where nothing is mounted for anybody.
            Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOTTY | Errno::INVAL)) => return Ok(self.uid),
            Err(e) => return Err(e),
        };
        if namespace.identity()? == UserNamespace::own()?.identity()? { Ok(self.uid) } else { namespace.user() }
    }

    /// Reads the user IDs that the process's user namespace has.
    ///
    /// # Errors
    /// The kernel's; `ESRCH` where the process is gone.
    pub fn uids(&self) -> io::Result<Ranges> {
        let text = self.proc("uid_map", 1 << 16)?;
        let text = String::from_utf8(text).map_err(io::Error::other)?;
        Ok(userns::ranges(&text)?.into_iter().map(|(_, outside, count)| (outside, count)).collect())
    }

    /// Reads a file of `/proc/PID`, of this very process: no other process can have its number while it lives.
    fn proc(&self, name: &str, max: u64) -> io::Result<Vec<u8>> {
        use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
        super::files::check_proc().map_err(|e| io::Error::other(e.to_string()))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::openat(CWD, "/proc", flags, Mode::empty())?;
        let stay = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let path = format!("{}/{name}", self.pid.as_raw_nonzero());
        let file = rustix::fs::openat2(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), stay)?;
        let text = super::files::read_all(std::fs::File::from(file), max)?;
        self.is_alive()?.then_some(text).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
    }

    fn is_alive(&self) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        // Readable when it has ended (pidfd_open(2)).
        let ended = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        Ok(ended == 0)
    }
}

/// A user namespace.
#[derive(Debug)]
pub struct UserNamespace(OwnedFd);

impl UserNamespace {
    /// Makes a user namespace of a descriptor that somebody sent; `None` where it is anything else. A file that is not
    /// a namespace is not asked: devices do what ioctl(2) says.
    ///
    /// # Errors
    /// The kernel's.
    pub fn from_descriptor(fd: OwnedFd) -> io::Result<Option<Self>> {
        if fstatfs(&fd)?.f_type != NSFS {
            return Ok(None);
        }
        // SAFETY: it is a file of nsfs, where this takes no argument and only returns a number.
        let kind = unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) };
        Ok((kind == libc::CLONE_NEWUSER).then_some(Self(fd)))
    }

    /// Opens the user namespace of this process.
    ///
    /// # Errors
    /// The kernel's, and those of [`super::files::check_proc`].
    pub fn own() -> io::Result<Self> {
        super::files::check_proc().map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Self(std::fs::File::open("/proc/self/ns/user")?.into()))
    }

    fn from_ioctl(fd: &impl AsFd, request: libc::Ioctl) -> io::Result<Self> {
        // SAFETY: neither request takes an argument; each returns a new descriptor or an error, whatever the file is.
        let new = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, 0) };
        if new < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it for this process, and nobody else has it.
        let new = Self(unsafe { OwnedFd::from_raw_fd(new) });
        new.identity().map(|_| new)
    }

    /// Returns the number of the namespace, which no two have while a descriptor is open.
    ///
    /// # Errors
    /// The kernel's.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = fstat(&self.0)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Returns the user that made the namespace, as this process's user namespace counts.
    ///
    /// # Errors
    /// The kernel's.
    pub fn owner(&self) -> io::Result<u32> {
        let mut uid: libc::uid_t = 0;
        // SAFETY: it is a user namespace, of which the kernel writes one uid_t to the address given.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), libc::NS_GET_OWNER_UID, &raw mut uid) } {
            0 => Ok(uid),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Opens the namespace that this one was made in; `None` above that of this process.
    ///
    /// # Errors
    /// The kernel's.
    pub fn parent(&self) -> io::Result<Option<Self>> {
        match Self::from_ioctl(&self.0, libc::NS_GET_PARENT) {
            Ok(parent) => Ok(Some(parent)),
            Err(e) if e.raw_os_error() == Some(Errno::PERM.raw_os_error()) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Returns whether the namespace is `other`, or was made in it or in one that was.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_within(&self, other: &Self) -> io::Result<bool> {
        let wanted = other.identity()?;
        let mut at = Self(self.0.try_clone()?);
        for _ in 0..DEEPEST {
            if at.identity()? == wanted {
                return Ok(true);
            }
            match at.parent()? {
                Some(parent) => at = parent,
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Returns the user that answers for the namespace: whoever made the uppermost of those that it is in, below this
    /// process's.
    ///
    /// # Errors
    /// The kernel's.
    pub fn user(&self) -> io::Result<u32> {
        let own = Self::own()?.identity()?;
        let mut at = Self(self.0.try_clone()?);
        for _ in 0..DEEPEST {
            match at.parent()? {
                Some(parent) if parent.identity()? != own => at = parent,
                _ => break,
            }
        }
        at.owner()
    }
}

impl AsFd for UserNamespace {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<UserNamespace> for OwnedFd {
    fn from(namespace: UserNamespace) -> Self {
        namespace.0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn who_connected_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        let own = UserNamespace::own().unwrap();
        assert!(peer.uids().unwrap().iter().any(|(first, count)| peer.uid >= *first && peer.uid - first < *count));
        match peer.user_namespace() {
            Ok(found) => assert_eq!(found.identity().unwrap(), own.identity().unwrap()),
            Err(e) => assert_eq!(e.raw_os_error(), Some(Errno::NOTTY.raw_os_error()), "{e}"),
        }
        assert!(own.is_within(&own).unwrap());
    }

    #[test]
    fn r02_what_is_no_user_namespace_is_none() {
        for path in ["/", "/dev/null", "/proc/self/status", "/proc/self/ns/mnt"] {
            let file = std::fs::File::open(path).unwrap();
            assert!(UserNamespace::from_descriptor(file.into()).unwrap().is_none(), "{path}");
        }
        let own = std::fs::File::open("/proc/self/ns/user").unwrap();
        assert!(UserNamespace::from_descriptor(own.into()).unwrap().is_some());
    }
}
