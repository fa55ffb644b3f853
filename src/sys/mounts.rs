//! The mount API by descriptor (fsopen(2) and its family).

use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
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

/// Attaches the detached `mount` on the open directory `target`.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// A mount of the open directory `dir` alone, attached nowhere, without the mounts beneath it.
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

/// `MOUNT_ATTR_IDMAP`
const ATTR_IDMAP: u64 = 0x0010_0000;
/// `MS_PRIVATE`
const PRIVATE: u64 = 1 << 18;

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

/// Shows the files of a mount that was never attached under the IDs that the user namespace maps
/// theirs to: inside is what the filesystem holds, outside what is seen (mount_setattr(2)).
pub fn map_ids(mount: impl AsFd, user_namespace: &OwnedFd) -> Result<()> {
    let user_namespace = u64::try_from(user_namespace.as_raw_fd()).map_err(|_| Errno::BADF)?;
    set_attributes(mount, &MountAttr { set: ATTR_IDMAP, user_namespace, ..MountAttr::default() })
}

/// Forbids to write through this mount, whatever other mounts of the same filesystem allow.
pub fn make_read_only(mount: impl AsFd) -> Result<()> {
    set_attributes(mount, &MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(), ..MountAttr::default() })
}

/// What a mount is not to be good for.
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
    set_attributes(mount, &MountAttr { propagation: PRIVATE, ..MountAttr::default() })
}

/// Which mount an open file or directory was reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Major and minor number of the filesystem.
    pub device: (u32, u32),
    /// The mount's number: one that is never given twice since Linux 6.8, that of mountinfo before.
    pub id: u64,
    /// That of mountinfo.
    pub mountinfo: u64,
    /// Whether it is the uppermost directory of that mount.
    pub is_root: bool,
}

/// Asks which mount `file` was reached through (statx(2)).
pub fn identify(file: impl AsFd) -> Result<Identity> {
    let ask = |flags| rustix::fs::statx(file.as_fd(), "", AtFlags::EMPTY_PATH, flags);
    let old = ask(StatxFlags::MNT_ID)?;
    if old.stx_mask & StatxFlags::MNT_ID.bits() == 0 || !old.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(Errno::NOSYS);
    }
    let unique = ask(StatxFlags::from_bits_retain(libc::STATX_MNT_ID_UNIQUE))?;
    let has_unique = unique.stx_mask & libc::STATX_MNT_ID_UNIQUE != 0;
    Ok(Identity {
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

/// Takes the mount on `name` in the open directory `dir` away, if nothing uses it: no path is gone again.
/// The working directory is `dir` afterwards.
pub fn unmount_in(dir: impl AsFd, name: &str) -> Result<()> {
    rustix::process::fchdir(dir)?;
    unmount(name, UnmountFlags::NOFOLLOW)
}

/// Opens the directory `path` for mounting on: neither a symlink nor anything but a directory.
pub fn open_target(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// One line of `/proc/PID/mountinfo` (proc(5)).
#[derive(Clone, Debug)]
pub struct MountInfo {
    /// The mount's number; the kernel gives it again when the mount is gone.
    pub id: u64,
    /// The number of the mount that this one is on.
    pub parent: u64,
    /// Which directory of the filesystem is mounted: `/`, or the source of a bind mount.
    pub root: String,
    /// Major and minor number of the filesystem.
    pub device: (u32, u32),
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
///
/// # Errors
/// The kernel's; `InvalidData` for a line that cannot be read: it could be the one that matters.
pub fn mountinfo() -> std::io::Result<Vec<MountInfo>> {
    parse_all(&std::fs::read("/proc/self/mountinfo")?)
}

/// All mounts of the namespace that process `pid` is in, as it sees them.
///
/// # Errors
/// As [`mountinfo`].
pub fn mountinfo_of(pid: u32) -> std::io::Result<Vec<MountInfo>> {
    let proc = rustix::fs::openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // What is mounted over that file alone is no word of the kernel.
    let stay = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(proc, format!("{pid}/mountinfo"), flags, Mode::empty(), stay)?;
    // The kernel makes as much of it at a time as there is room for.
    let mut text = Vec::with_capacity(32 << 10);
    std::fs::File::from(file).read_to_end(&mut text)?;
    parse_all(&text)
}

fn parse_all(text: &[u8]) -> std::io::Result<Vec<MountInfo>> {
    let bad = |line: &str| {
        let why = format!("a line that cannot be read: {}", crate::report::one_line(line));
        std::io::Error::new(std::io::ErrorKind::InvalidData, why)
    };
    // The kernel ends lines with a newline and nothing else: a carriage return is part of a name.
    let text = String::from_utf8_lossy(text);
    let lines = text.split('\n').filter(|line| !line.is_empty());
    lines.map(|line| parse_mountinfo(line).ok_or_else(|| bad(line))).collect()
}

/// The mount on `target` that nothing else on `target` covers; `None` where nothing is mounted there, or
/// where the mounts do not lie on one another.
pub fn topmost<'a>(mounts: &'a [MountInfo], target: &str) -> Option<&'a MountInfo> {
    let there = || mounts.iter().filter(|m| m.target == target);
    let mut uncovered = there().filter(|m| !there().any(|other| other.parent == m.id && other.id != m.id));
    let top = uncovered.next()?;
    uncovered.next().is_none().then_some(top)
}

fn parse_mountinfo(line: &str) -> Option<MountInfo> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let list = |text: &str| {
        let options = split_options(text.as_bytes())?.into_iter();
        Some(options.map(|option| String::from_utf8_lossy(option).into_owned()).collect())
    };
    let unescape = |text: &str| String::from_utf8_lossy(&unescape(text.as_bytes())).into_owned();
    Some(MountInfo {
        id: left.first()?.parse().ok()?,
        parent: left.get(1)?.parse().ok()?,
        root: unescape(left.get(3)?),
        device: left.get(2)?.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))?,
        target: unescape(left.get(4)?),
        options: list(left.get(5)?)?,
        kind: (*right.first()?).to_owned(),
        source: unescape(right.get(1)?),
        super_options: list(right.get(2)?)?,
    })
}

/// The options of SELinux that hold a label (security/selinux/hooks.c, `selinux_sb_show_options`).
const LABELS: [&str; 4] = ["context", "fscontext", "rootcontext", "defcontext"];

/// Splits the options of mountinfo. A label with categories holds commas, and stands between double quotes then;
/// what is a quote or the end of a line in it, the kernel writes in octal (`show_sid`). In all other options a comma
/// is written so, and a quote is a byte like any other: a path may begin with one. `None` for a quote that is not
/// closed where an option ends.
pub fn split_options(text: &[u8]) -> Option<Vec<&[u8]>> {
    let mut options = Vec::new();
    let mut rest = text;
    loop {
        let quoted = LABELS.iter().find_map(|key| rest.strip_prefix(key.as_bytes())?.strip_prefix(b"=\""));
        let end = match quoted {
            Some(label) => rest.len() - label.len() + label.iter().position(|b| *b == b'"')? + 1,
            None => rest.iter().position(|b| *b == b',').unwrap_or(rest.len()),
        };
        let (option, after) = rest.split_at(end);
        options.push(option);
        match after.split_first() {
            Some((b',', more)) => rest = more,
            Some(_) => return None,
            None => return Some(options),
        }
    }
}

/// A label as [`split_options`] leaves it, without its quotes.
pub fn label(value: &str) -> Vec<u8> {
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    unescape(inner.as_bytes())
}

/// Space, comma, tab, newline and backslash are written as three octal digits.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|d| byte == b'\\' && d.iter().all(|b| (b'0'..=b'7').contains(b)));
        out.push(digits.map_or(byte, |d| d.iter().fold(0_u8, |n, b| n.wrapping_mul(8).wrapping_add(b - b'0'))));
        rest = if digits.is_some() { &tail[3..] } else { tail };
    }
    out
}

/// What `uname -r` says, as two numbers.
pub fn kernel_version() -> (u32, u32) {
    let (major, minor, _) = kernel_release();
    (major, minor)
}

/// The same with the number of the stable release.
pub fn kernel_release() -> (u32, u32, u32) {
    numbers(&rustix::system::uname().release().to_string_lossy())
}

/// The three numbers that a release begins with; what is no number counts as none. What distributions append to a
/// pre-release, or write after the third number, is left out.
fn numbers(release: &str) -> (u32, u32, u32) {
    let plain = release.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    let mut numbers = plain.split('.').map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

/// Whether the kernel said that it cannot do this at all, rather than not now.
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

    /// Lines of hosts with SELinux: Fedora's with podman's own overlay, refpolicy's with one of ours, and the labels
    /// that a filesystem has of its own.
    #[test]
    fn commas_of_a_label_are_not_those_between_options() {
        let overlay = "707 629 0:60 / /var/lib/containers/storage/overlay/9c1d/merged rw,nodev,relatime - overlay overlay \
                       rw,context=\"system_u:object_r:container_file_t:s0:c172,c741\",lowerdir=/var/lib/containers/storage/\
                       overlay/l/ZNPS4RQGHUAF5H5DP465OKH3NU,upperdir=/var/lib/containers/storage/overlay/9c1d/diff,\
                       workdir=/var/lib/containers/storage/overlay/9c1d/work,uuid=on";
        let plain =
            "708 629 0:61 / /m ro,relatime - overlay composefs:ab ro,seclabel,lowerdir+=/,datadir+=/o,verity=require";
        let erofs = "709 629 0:62 / /e ro,nosuid,nodev - erofs /proc/self/fd/3 \
                     ro,context=system_u:object_r:container_ro_file_t:s0,user_xattr,acl";
        let four = "710 629 0:63 / /d rw - tmpfs tmpfs rw,context=\"a:s0:c1,c2\",fscontext=\"b:s0:c1,c2\",\
                    defcontext=\"c\\042\",rootcontext=d:s0,size=4k";
        let read = |line: &str| parse_mountinfo(line).unwrap().super_options;
        assert_eq!(read(overlay)[1], "context=\"system_u:object_r:container_file_t:s0:c172,c741\"");
        assert_eq!(read(overlay).len(), 6, "{:?}", read(overlay));
        assert!(read(overlay)[2].ends_with("OKH3NU") && read(overlay)[5] == "uuid=on");
        assert_eq!(read(plain)[4], "verity=require");
        assert_eq!(read(erofs)[1], "context=system_u:object_r:container_ro_file_t:s0");
        assert_eq!(
            read(four)[1..],
            [
                "context=\"a:s0:c1,c2\"",
                "fscontext=\"b:s0:c1,c2\"",
                "defcontext=\"c\\042\"",
                "rootcontext=d:s0",
                "size=4k"
            ]
        );
        // A path of overlayfs with a quote in front, and one that looks like a label: commas of paths are \054.
        let odd = "711 629 0:64 / /o rw - overlay overlay rw,lowerdir=\"a\\054context=\"b,upperdir=\",workdir=/w";
        assert_eq!(read(odd)[1..], ["lowerdir=\"a\\054context=\"b", "upperdir=\"", "workdir=/w"]);
        for bad in ["rw,context=\"a,b", "rw,context=\"a,b\"x", "rw,context=\"a,b\"x,y", "rw,context=\""] {
            assert!(parse_mountinfo(&format!("1 2 0:64 / /o rw - overlay overlay {bad}")).is_none(), "{bad}");
        }
        assert_eq!(label("\"a:s0:c1,c2\""), b"a:s0:c1,c2");
        assert_eq!(label("\"a\\042\\012\""), b"a\"\n");
        assert_eq!(label("a:s0"), b"a:s0");
    }

    #[test]
    fn o03_a_line_of_mountinfo_that_cannot_be_read_is_not_passed_over() {
        let good = "22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw\n";
        let more = "23 22 0:21 / /a\\040b\r rw - tmpfs  rw,mode=755\n";
        let read = parse_all(format!("{good}{more}").as_bytes()).unwrap();
        assert_eq!((read[1].target.as_str(), read[1].source.as_str()), ("/a b\r", ""));
        for bad in [
            "24 22 0:22 / /usr rw tmpfs tmpfs rw\n",
            "24 22 0:22 / /usr rw - tmpfs\n",
            "x 22 0:22 / /usr rw - tmpfs tmpfs rw\n",
            "24 22 0x22 / /usr rw - tmpfs tmpfs rw\n",
            "24\n",
        ] {
            for text in [format!("{good}{bad}{more}"), format!("{bad}{good}"), format!("{good}{bad}")] {
                let error = parse_all(text.as_bytes()).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{bad}");
            }
        }
    }
}
