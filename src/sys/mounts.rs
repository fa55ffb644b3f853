//! The mount API by descriptor (fsopen(2) and its family).

use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

/// A filesystem that is being configured, and what the kernel says about it.
#[derive(Debug)]
pub struct Configure(OwnedFd);

impl Configure {
    /// Begins with a filesystem type.
    pub fn open(kind: &str) -> Result<Self> {
        Ok(Self(fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?))
    }

    /// `key=value`.
    pub fn string(&self, key: &str, value: &str) -> Result<()> {
        fsconfig_set_string(&self.0, key, value)
    }

    /// A key whose value is an open file or directory.
    pub fn fd(&self, key: &str, value: impl AsFd) -> Result<()> {
        fsconfig_set_fd(&self.0, key, value)
    }

    /// A key without value.
    pub fn flag(&self, key: &str) -> Result<()> {
        fsconfig_set_flag(&self.0, key)
    }

    /// Makes the filesystem.
    pub fn create(&self) -> Result<()> {
        fsconfig_create(&self.0)
    }

    /// Makes a mount of it that is attached nowhere: dropped, it is gone.
    pub fn mount(&self, attributes: MountAttrFlags) -> Result<OwnedFd> {
        fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }

    /// The kernel's own words for what went wrong, as far as it has any.
    pub fn log(&self) -> String {
        let mut lines = Vec::new();
        // Each read gives one message, and ENODATA after the last.
        let mut source = std::fs::File::from(match self.0.try_clone() {
            Ok(fd) => fd,
            Err(_) => return String::new(),
        });
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = source.read(&mut buffer) {
            lines.push(String::from_utf8_lossy(&buffer[..n]).trim().to_owned());
        }
        lines.join("; ")
    }
}

/// A private, detached mount of the directory `dir`, without what is mounted beneath it.
pub fn clone_tree(dir: impl AsFd) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(dir, "", flags)
}

/// Attaches the detached `mount` on the open directory `target`.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// Takes the mount at `path` away as soon as nothing uses it any more.
pub fn detach(path: &Path) -> Result<()> {
    unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
}

/// Takes the mount at `path` away, if nothing uses it.
pub fn unmount_now(path: &Path) -> Result<()> {
    unmount(path, UnmountFlags::NOFOLLOW)
}

/// Opens the directory `path` for mounting on: neither a symlink nor anything but a directory.
pub fn open_target(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// One line of `/proc/self/mountinfo` (proc(5)).
#[derive(Clone, Debug)]
pub struct MountInfo {
    /// The mount's number.
    pub id: u64,
    /// Where it is mounted.
    pub target: String,
    /// Options of the mount: `ro`, `nodev`.
    pub options: Vec<String>,
    /// Filesystem type.
    pub kind: String,
    /// Source.
    pub source: String,
    /// Options of the filesystem: `verity=require`.
    pub super_options: Vec<String>,
}

/// All mounts of this process's namespace, the topmost of a target last.
pub fn mountinfo() -> std::io::Result<Vec<MountInfo>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(parse_mountinfo).collect())
}

fn parse_mountinfo(line: &str) -> Option<MountInfo> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    Some(MountInfo {
        id: left.first()?.parse().ok()?,
        target: unescape(left.get(4)?),
        options: list(left.get(5)?),
        kind: (*right.first()?).to_owned(),
        source: unescape(right.get(1)?),
        super_options: list(right.get(2)?),
    })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        match (byte, octal) {
            (b'\\', Some(value)) => {
                out.push(value);
                rest = &tail[3..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What `uname -r` says, as two numbers.
pub fn kernel_version() -> (u32, u32) {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether the kernel said that it cannot do this at all, rather than not now.
pub fn is_unsupported(e: Errno) -> bool {
    matches!(e, Errno::NODEV | Errno::NOSYS | Errno::OPNOTSUPP)
}
