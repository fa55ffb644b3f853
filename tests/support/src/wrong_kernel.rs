//! A kernel that answers wrongly when a file of an overlay is opened: the test answers in its place (seccomp_unotify(2)). All
//! else that a program asks is answered by the kernel that is there.

// seccomp(2) and its ioctls, which no crate here offers.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, CWD, FileType, MemfdFlags, Mode, OFlags, fstat, fstatfs, memfd_create, openat, statat};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// What opening a file comes to, in an overlay that is mounted nowhere yet.
#[derive(Clone, Copy, Debug)]
pub enum Opened {
    /// An error of input or output.
    Eio,
    /// A file with this content.
    As(&'static [u8]),
}

/// Has the command and all its children run on such a kernel. What is returned ends with the last of them, once `command` is
/// dropped, and says how often a file was opened.
pub fn run_on(command: &mut Command, opened: Opened) -> JoinHandle<usize> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let install = move || {
        let listener = listen()?;
        let fds = [listener.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(&theirs, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
        Ok(())
    };
    // SAFETY: only system calls are made between fork and exec, without memory from the heap.
    unsafe { command.pre_exec(install) };
    std::thread::spawn(move || receive(&ours).map_or(0, |listener| answer(&listener, opened)))
}

/// Has openat(2) and openat2(2) of this process and its children answered by whoever has what is returned.
fn listen() -> std::io::Result<OwnedFd> {
    let instruction = |code: u32, k: u32, jt| libc::sock_filter { code: code as u16, jt, jf: 0, k };
    let call = |number: libc::c_long, jt| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number as u32, jt);
    let mut filter = [
        // The call's number is the first field of `seccomp_data`.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        call(libc::SYS_openat, 2),
        call(libc::SYS_openat2, 1),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    // SAFETY: the program and what it points to live longer than the call.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    match fd {
        ..0 => Err(std::io::Error::last_os_error()),
        // SAFETY: the kernel has just made it, and nobody else knows it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
    }
}

/// Receives the listener; nothing if the command did not come so far.
fn receive(socket: &UnixStream) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

/// Answers until nobody can ask any more, and counts the wrong answers.
fn answer(listener: &OwnedFd, opened: Opened) -> usize {
    let mut wrong = 0;
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        poll(&mut fds, None).unwrap();
        if !fds[0].revents().contains(PollFlags::IN) {
            return wrong;
        }
        // SAFETY: all zeros is a value of this type, and what the kernel wants to be given.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a live value of the type that this ioctl fills in.
        if unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) } != 0 {
            // Whoever asked was killed meanwhile.
            continue;
        }
        let is_ours = of_new_overlay(&asked);
        wrong += usize::from(is_ours);
        match opened {
            Opened::As(content) if is_ours => give(listener, asked.id, content),
            Opened::Eio if is_ours => reply(listener, asked.id, -libc::EIO, 0),
            _ => reply(listener, asked.id, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        }
    }
}

/// Returns whether a regular file is to be opened of an overlay that is mounted nowhere, as one is before it has been tried.
fn of_new_overlay(asked: &libc::seccomp_notif) -> bool {
    let process = format!("/proc/{}", asked.pid);
    let look = || {
        let mut path = [0; 256];
        let length = File::open(format!("{process}/mem")).ok()?.read_at(&mut path, asked.data.args[1]).ok()?;
        let name = CStr::from_bytes_until_nul(&path[..length]).ok()?;
        let directory = asked.data.args[0] as i32;
        if name.to_bytes().starts_with(b"/") || directory < 0 {
            return None;
        }
        let directory = openat(CWD, format!("{process}/fd/{directory}"), OFlags::PATH, Mode::empty()).ok()?;
        let (device, kind) = (fstat(&directory).ok()?.st_dev, fstatfs(&directory).ok()?.f_type);
        let file = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_file = FileType::from_raw_mode(file.st_mode) == FileType::RegularFile;
        let number = format!(" {}:{} ", rustix::fs::major(device), rustix::fs::minor(device));
        let mounts = std::fs::read_to_string(format!("{process}/mountinfo")).ok()?;
        Some(kind == libc::OVERLAYFS_SUPER_MAGIC && is_file && !mounts.contains(&number))
    };
    look().unwrap_or(false)
}

fn reply(listener: &OwnedFd, id: u64, error: i32, flags: u32) {
    let reply = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the pointer is to a live value of the type that this ioctl reads.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const reply) };
    // Whoever asked may have been killed meanwhile.
    assert!(done == 0 || Errno::from_io_error(&std::io::Error::last_os_error()) == Some(Errno::NOENT));
}

/// Answers with a new file that holds `content`.
fn give(listener: &OwnedFd, id: u64, content: &[u8]) {
    let mut file = File::from(memfd_create("given", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(content).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let give = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
        srcfd: file.as_raw_fd() as u32,
        newfd: 0,
        newfd_flags: libc::O_CLOEXEC as u32,
    };
    // SAFETY: the pointer is to a live value of the type that this ioctl reads.
    let given = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const give) };
    assert!(given >= 0, "{}", std::io::Error::last_os_error());
}
