//! The mount API by descriptor (fsopen(2) and its family).

use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
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

    /// Sets an option of the form `key=value`.
    pub fn string(&self, key: &str, value: &str) -> Result<()> {
        fsconfig_set_string(&self.0, key, value)
    }

    /// Sets an option whose value is an open file or directory.
    pub fn fd(&self, key: &str, value: impl AsFd) -> Result<()> {
        fsconfig_set_fd(&self.0, key, value)
    }

    /// Sets an option without a value.
    pub fn flag(&self, key: &str) -> Result<()> {
        fsconfig_set_flag(&self.0, key)
    }

    /// Makes the filesystem.
    pub fn create(&self) -> Result<()> {
        fsconfig_create(&self.0)
    }

    /// Makes a mount of the filesystem that is attached nowhere: when dropped, it is gone.
    pub fn mount(&self, attributes: MountAttrFlags) -> Result<OwnedFd> {
        fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }

    /// Reads the kernel's own words for what went wrong, as far as it has any.
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

/// Whether detached mounts of this process go away with it, and not before.
static LEFT_TO_EXIT: AtomicBool = AtomicBool::new(false);

/// Has this process keep its detached mounts until it ends: for each that goes away the kernel waits for all
/// processors. For a process that has something to say to whoever waits for it, and ends soon after that.
pub fn leave_to_exit() {
    LEFT_TO_EXIT.store(true, Ordering::Relaxed);
}

/// A mount that is attached nowhere, made when it is first asked for, and used by several parts of a start.
#[derive(Debug, Default)]
pub struct KeptMount(OnceLock<OwnedFd>);

impl KeptMount {
    /// Returns the mount if it was made.
    pub fn get(&self) -> Option<&OwnedFd> {
        self.0.get()
    }

    /// Returns the mount, which `make` makes if nobody has yet.
    ///
    /// # Errors
    /// The errors of `make`.
    pub fn get_or_make<E>(
        &self,
        make: impl FnOnce() -> std::result::Result<OwnedFd, E>,
    ) -> std::result::Result<&OwnedFd, E> {
        match self.get() {
            Some(kept) => Ok(kept),
            None => {
                let new = make()?;
                Ok(self.0.get_or_init(|| new))
            }
        }
    }
}

impl Drop for KeptMount {
    fn drop(&mut self) {
        if LEFT_TO_EXIT.load(Ordering::Relaxed) {
            self.0.take().map(std::mem::forget);
        }
    }
}

/// Attaches the detached `mount` on the open directory `target`.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// Clones the mount of the open directory `dir` alone, without the mounts beneath it; the clone is attached nowhere.
pub fn clone_mount(dir: impl AsFd) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(dir, "", flags)
}

/// `struct mount_attr` (include/uapi/linux/mount.h).
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

fn set_attributes(mount: impl AsFd, attributes: &MountAttr) -> Result<()> {
    let fd = mount.as_fd();
    // SAFETY: the descriptor is open for the whole call, the path is a C string of no length, and the
    // structure has the kernel's layout and the size given; the kernel only reads it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Shows the files of a mount that was never attached under the IDs that the user namespace maps theirs to: inside is
/// what the filesystem holds, outside what is seen (mount_setattr(2)).
pub fn map_ids(mount: impl AsFd, user_namespace: &OwnedFd) -> Result<()> {
    let user_namespace = u64::try_from(user_namespace.as_raw_fd()).map_err(|_| Errno::BADF)?;
    set_attributes(mount, &MountAttr { set: libc::MOUNT_ATTR_IDMAP, user_namespace, ..MountAttr::default() })
}

/// Forbids writing through this mount, whatever other mounts of the same filesystem allow.
pub fn make_read_only(mount: impl AsFd) -> Result<()> {
    set_attributes(mount, &MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(), ..MountAttr::default() })
}

/// What a mount is to forbid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restrict {
    /// Device files do nothing.
    pub nodev: bool,
    /// Set-user-ID bits and file capabilities do nothing.
    pub nosuid: bool,
    /// Nothing can be executed.
    pub noexec: bool,
}

/// Restricts this attached mount further.
pub fn restrict(mount: impl AsFd, restrict: Restrict) -> Result<()> {
    let flags = [
        (restrict.nodev, MountAttrFlags::MOUNT_ATTR_NODEV),
        (restrict.nosuid, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (restrict.noexec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ];
    let set = flags.into_iter().filter(|(wanted, _)| *wanted).fold(0, |set, (_, flag)| set | u64::from(flag.bits()));
    set_attributes(mount, &MountAttr { set, ..MountAttr::default() })
}

/// Keeps what is mounted beneath this attached mount from other mount namespaces.
pub fn make_private(mount: impl AsFd) -> Result<()> {
    set_attributes(mount, &MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() })
}

/// Which mount an open file or directory was reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountId {
    /// Major and minor number of the filesystem.
    pub device: (u32, u32),
    /// The mount's number: since Linux 6.8 one that is never given twice, before that the one of mountinfo.
    pub id: u64,
    /// The mount's number in mountinfo.
    pub mountinfo: u64,
    /// Whether it is the uppermost directory of that mount.
    pub is_root: bool,
}

/// Asks which mount `file` was reached through (statx(2)).
pub fn identify(file: impl AsFd) -> Result<MountId> {
    let ask = |flags| rustix::fs::statx(file.as_fd(), "", AtFlags::EMPTY_PATH, flags);
    let old = ask(StatxFlags::MNT_ID)?;
    if old.stx_mask & StatxFlags::MNT_ID.bits() == 0 || !old.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(Errno::NOSYS);
    }
    let unique = ask(StatxFlags::from_bits_retain(libc::STATX_MNT_ID_UNIQUE))?;
    let has_unique = unique.stx_mask & libc::STATX_MNT_ID_UNIQUE != 0;
    Ok(MountId {
        device: (old.stx_dev_major, old.stx_dev_minor),
        id: if has_unique { unique.stx_mnt_id } else { old.stx_mnt_id },
        mountinfo: old.stx_mnt_id,
        is_root: old.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
    })
}

/// Takes the mount at `path` away as soon as nothing uses it any more.
pub fn detach(path: &Path) -> Result<()> {
    unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
}

/// Takes the mount at `path` away, if nothing uses it.
pub fn unmount_now(path: &Path) -> Result<()> {
    unmount(path, UnmountFlags::NOFOLLOW)
}

/// Takes the mount on `name` in the open directory `dir` away, if nothing uses it: no path is looked up again. The
/// working directory is `dir` afterwards.
pub fn unmount_in(dir: impl AsFd, name: &str) -> Result<()> {
    rustix::process::fchdir(dir)?;
    unmount(name, UnmountFlags::NOFOLLOW)
}

/// Opens the directory `path` for mounting on: neither a symlink nor anything but a directory.
pub fn open_target(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Returns the first two numbers of what `uname -r` says.
pub fn kernel_version() -> (u32, u32) {
    let (major, minor, _) = kernel_release();
    (major, minor)
}

/// Returns the kernel's version like [`kernel_version`], with the number of the stable release.
pub fn kernel_release() -> (u32, u32, u32) {
    numbers(&rustix::system::uname().release().to_string_lossy())
}

/// Returns the three numbers that a release begins with; what is not a number is taken as 0. What distributions append
/// to a pre-release, or write after the third number, is left out.
fn numbers(release: &str) -> (u32, u32, u32) {
    let plain = release.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    let mut numbers = plain.split('.').map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

/// Returns whether the kernel said that it cannot do this at all, rather than not now.
pub fn is_unsupported(e: Errno) -> bool {
    matches!(e, Errno::NODEV | Errno::NOSYS | Errno::OPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_kernels() {
        for (release, expected) in [
            ("6.12.57+deb13-cloud-amd64", (6, 12, 57)),
            ("7.0.6", (7, 0, 6)),
            ("7.0.0-rc6", (7, 0, 0)),
            ("7.0-rc1+", (7, 0, 0)),
            ("6.1.0-40-amd64", (6, 1, 0)),
            ("x", (0, 0, 0)),
        ] {
            assert_eq!(numbers(release), expected, "{release}");
        }
    }
}
