//! Bytes and descriptors over a local socket, within a time (unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// `SD_LISTEN_FDS_START`
const FIRST: std::os::fd::RawFd = 3;

/// The most descriptors that come with one message: nobody honest sends more.
pub const MAX_DESCRIPTORS: usize = 8;

/// Takes the socket that systemd listens on for this process (sd_listen_fds(3)); `None` where systemd did not start
/// this process. Must be called before the environment and the descriptors of this process are changed.
///
/// # Errors
/// An error of this function for more than one descriptor, or for one that is not a listening local socket.
pub fn inherited() -> io::Result<Option<UnixListener>> {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    if number("LISTEN_FDS") != Some(1) {
        return Err(io::Error::other("systemd gives this service one socket"));
    }
    // SAFETY: whoever set the variables for this process says that 3 is its descriptor; nothing was opened before.
    let fd = unsafe { OwnedFd::from_raw_fd(FIRST) };
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let local = sockopt::socket_domain(&fd)? == AddressFamily::UNIX;
    if !local || sockopt::socket_type(&fd)? != SocketType::STREAM || !sockopt::socket_acceptconn(&fd)? {
        return Err(io::Error::other("descriptor 3 is no listening local socket"));
    }
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(Some(fd.into()))
}

/// The other end of a conversation, which must end by a given time.
#[derive(Debug)]
pub struct Conversation<'a> {
    socket: BorrowedFd<'a>,
    until: Instant,
    received: Vec<OwnedFd>,
}

impl<'a> Conversation<'a> {
    /// Begins a conversation with whoever is behind `socket`.
    pub fn new(socket: BorrowedFd<'a>, until: Instant) -> Self {
        Self { socket, until, received: Vec::new() }
    }

    /// Takes the descriptors that have come so far.
    pub fn descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.received)
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    /// `UnexpectedEof` where the other end closed, `TimedOut`, `InvalidData` for more descriptors than anybody sends.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            self.wait(PollFlags::IN)?;
            match self.once(&mut buffer[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn once(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let message = recvmsg(self.socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)?;
        for control in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = control {
                self.received.extend(descriptors);
            }
        }
        // The kernel has closed the descriptors that there was no room for.
        if message.flags.contains(ReturnFlags::CTRUNC) || self.received.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors"));
        }
        Ok(message.bytes)
    }

    /// Sends all of `bytes`, and with the first of them the descriptors.
    ///
    /// # Errors
    /// `TimedOut` where nobody reads, and the kernel's; no signal comes of an end that is closed.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            self.wait(PollFlags::OUT)?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if sent == 0 && !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(self.socket, &[IoSlice::new(&bytes[sent..])], &mut ancillary, flags) {
                Ok(n) => sent += n,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn wait(&self, what: PollFlags) -> io::Result<()> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let timeout = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(&self.socket.as_fd(), what)], timeout.as_ref()) {
                Ok(1..) => return Ok(()),
                Ok(0) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(200)
    }

    #[test]
    fn bytes_and_descriptors_come_as_they_were_sent() {
        let (one, other) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/").unwrap();
        Conversation::new(one.as_fd(), soon()).send(b"abc", &[file.as_fd(), file.as_fd()]).unwrap();
        let mut here = Conversation::new(other.as_fd(), soon());
        let mut bytes = [0; 3];
        here.receive(&mut bytes).unwrap();
        assert_eq!((&bytes, here.descriptors().len()), (b"abc", 2));
    }

    #[test]
    fn r01_what_is_not_whole_ends() {
        let (one, other) = UnixStream::pair().unwrap();
        let mut here = Conversation::new(other.as_fd(), soon());
        Conversation::new(one.as_fd(), soon()).send(b"ab", &[]).unwrap();
        assert_eq!(here.receive(&mut [0; 3]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut here = Conversation::new(other.as_fd(), soon());
        drop(one);
        assert_eq!(here.receive(&mut [0; 3]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn r01_too_many_descriptors_are_refused_and_closed() {
        let (one, other) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/").unwrap();
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let talk = Conversation::new(one.as_fd(), soon());
        let before = open();
        for _ in 0..2 {
            talk.send(b"a", &[file.as_fd(); MAX_DESCRIPTORS]).unwrap();
        }
        let mut here = Conversation::new(other.as_fd(), soon());
        assert_eq!(here.receive(&mut [0; 2]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(here);
        // Other tests of this process open files too.
        assert!(open() < before + MAX_DESCRIPTORS, "{} {before}", open());
    }
}
