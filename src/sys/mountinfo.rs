//! The mounts of a mount namespace, as `/proc/PID/mountinfo` lists them (proc(5)). Everything in it is bytes: a path or
//! a source is whatever somebody chose.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Refusal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// The mount's number; the kernel gives it again when the mount is gone.
    pub id: u64,
    /// The number of the mount that this one is on.
    pub parent: u64,
    /// Which directory of the filesystem is mounted: `/`, or the source of a bind mount.
    pub root: PathBuf,
    /// Major and minor number of the filesystem.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub target: PathBuf,
    /// Options of the mount: `ro`, `nodev`.
    pub options: Vec<OsString>,
    /// Filesystem type.
    pub kind: OsString,
    /// Source.
    pub source: OsString,
    /// Options of the filesystem, as the kernel escapes them: `verity=require`.
    pub super_options: Vec<OsString>,
}

impl MountInfo {
    /// Returns whether the mount has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// Returns whether the filesystem has this option.
    pub fn super_has(&self, option: &str) -> bool {
        self.super_options.iter().any(|o| o == option)
    }

    /// Returns the values of the filesystem's options that begin with `key`, which includes the `=` (`upperdir=`).
    pub fn super_values(&self, key: &str) -> impl Iterator<Item = Vec<u8>> {
        self.super_options.iter().filter_map(move |o| o.as_bytes().strip_prefix(key.as_bytes())).map(unescape)
    }

    /// Returns whether the mount is an overlay whose source begins with `source`.
    pub fn is_overlay_of(&self, source: &str) -> bool {
        self.kind == "overlay" && self.source.as_bytes().starts_with(source.as_bytes())
    }

    /// Returns whether fuse-overlayfs shows it: the source is that program's then.
    pub fn is_fuse_overlayfs(&self) -> bool {
        self.kind == "fuse.fuse-overlayfs"
    }

    /// Describes the mount by type and source, for messages.
    pub fn describe(&self) -> String {
        format!("{} {}", self.kind.display(), self.source.display())
    }
}

/// The mounts of a namespace as they were read from a file that is still open.
struct ReadMounts {
    namespace: u64,
    file: File,
    mounts: Arc<Vec<MountInfo>>,
}

impl ReadMounts {
    fn new(namespace: u64) -> Result<Self> {
        let file = File::open(OWN)?;
        let mounts = Arc::new(all_of(&file)?);
        Ok(Self { namespace, file, mounts })
    }

    /// Returns whether nothing was mounted, unmounted or changed since: the kernel tells that to whoever polls the file
    /// (proc_pid_mountinfo(5)).
    fn is_current(&self, namespace: u64) -> bool {
        let mut asked = [PollFd::new(&self.file, PollFlags::PRI)];
        self.namespace == namespace && poll(&mut asked, Some(&Timespec::default())) == Ok(0)
    }
}

const OWN: &str = "/proc/self/mountinfo";

/// Reads all mounts of this process's namespace, the topmost of a target last. They are read again only after a change:
/// for the kernel a long list is a lot of work, and a start looks at it several times.
///
/// # Errors
/// [`Case::Io`](crate::error::Case::Io), for a line that cannot be read too: it could be the one that matters.
pub fn own() -> crate::error::Result<Arc<Vec<MountInfo>>> {
    static READ: Mutex<Option<ReadMounts>> = Mutex::new(None);
    let read = || -> Result<_> {
        let namespace = std::fs::metadata("/proc/self/ns/mnt")?.ino();
        let mut last = READ.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = last.as_ref().filter(|read| read.is_current(namespace)) {
            return Ok(current.mounts.clone());
        }
        Ok(last.insert(ReadMounts::new(namespace)?).mounts.clone())
    };
    read().map_err(|e| Refusal::io(OWN, e))
}

/// Reads the file of mounts: each read returns as much as there is room for, and holds up whoever mounts meanwhile.
fn all_of(mut file: &File) -> Result<Vec<MountInfo>> {
    let mut text = Vec::with_capacity(32 << 10);
    file.read_to_end(&mut text)?;
    parse(&text)
}

/// Reads all mounts of the namespace that process `pid` is in, as it sees them.
///
/// # Errors
/// The kernel's; `InvalidData` for a line that cannot be read.
pub fn of_process(pid: u32) -> Result<Vec<MountInfo>> {
    let proc = rustix::fs::openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // What is mounted over that one file does not come from the kernel.
    let stay = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(proc, format!("{pid}/mountinfo"), flags, Mode::empty(), stay)?;
    all_of(&file.into())
}

/// Parses the lines of a mountinfo file.
///
/// # Errors
/// `InvalidData` for a line that cannot be read.
pub fn parse(text: &[u8]) -> Result<Vec<MountInfo>> {
    let bad = |line: &[u8]| {
        let line = crate::error::one_line(&String::from_utf8_lossy(line));
        Error::new(ErrorKind::InvalidData, format!("a line that cannot be read: {line}"))
    };
    // The kernel ends lines with a newline and nothing else: a carriage return is part of a name.
    let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| parse_line(line).ok_or_else(|| bad(line))).collect()
}

/// Finds the mount on `target` that nothing else on `target` covers; `None` where nothing is mounted there, or where
/// the mounts do not lie on one another.
pub fn topmost<'a>(mounts: &'a [MountInfo], target: &Path) -> Option<&'a MountInfo> {
    let there = || mounts.iter().filter(|m| m.target == target);
    let mut uncovered = there().filter(|m| !there().any(|other| other.parent == m.id && other.id != m.id));
    let top = uncovered.next()?;
    uncovered.next().is_none().then_some(top)
}

fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let at = memchr::memmem::find(line, b" - ")?;
    let [left, right] = [&line[..at], &line[at + 3..]].map(|text| text.split(|b| *b == b' ').collect::<Vec<_>>());
    let text = |word: &[u8]| OsString::from_vec(unescape(word));
    let list = |word: &[u8]| {
        let options = split_options(word)?.into_iter();
        Some(options.map(|option| OsString::from_vec(option.to_vec())).collect())
    };
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse().ok();
    let device = std::str::from_utf8(left.get(2)?).ok()?.split_once(':')?;
    Some(MountInfo {
        id: number(left.first()?)?,
        parent: number(left.get(1)?)?,
        root: text(left.get(3)?).into(),
        device: (device.0.parse().ok()?, device.1.parse().ok()?),
        target: text(left.get(4)?).into(),
        options: list(left.get(5)?)?,
        kind: text(right.first()?),
        source: text(right.get(1)?),
        super_options: list(right.get(2)?)?,
    })
}

/// The options of SELinux that hold a label (security/selinux/hooks.c, `selinux_sb_show_options`).
const LABELS: [&str; 4] = ["context", "fscontext", "rootcontext", "defcontext"];

/// Splits the options of mountinfo. A label with categories holds commas, and then stands between double quotes; a
/// quote or the end of a line inside it is written in octal by the kernel (`show_sid`). In all other options a comma is
/// written so, and a quote is a byte like any other: a path may begin with one. `None` for a quote that is not closed
/// where an option ends.
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

/// Removes the quotes from a label as [`split_options`] leaves it.
pub fn label(value: &[u8]) -> Vec<u8> {
    unescape(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
}

/// Decodes the three octal digits that stand for space, comma, tab, newline and backslash.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    if memchr::memchr(b'\\', text).is_none() {
        return text.to_vec();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|d| byte == b'\\' && d.iter().all(|b| (b'0'..=b'7').contains(b)));
        out.push(digits.map_or(byte, |d| d.iter().fold(0_u8, |n, b| n.wrapping_mul(8).wrapping_add(b - b'0'))));
        rest = if digits.is_some() { &tail[3..] } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests lines of hosts with SELinux: Fedora's with podman's own overlay, refpolicy's with one of ours, and the
    /// labels that a filesystem has of its own.
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
        let read = |line: &str| parse_line(line.as_bytes()).unwrap().super_options;
        assert_eq!(read(overlay)[1], "context=\"system_u:object_r:container_file_t:s0:c172,c741\"");
        assert_eq!(read(overlay).len(), 6, "{:?}", read(overlay));
        assert!(read(overlay)[2].to_string_lossy().ends_with("OKH3NU") && read(overlay)[5] == "uuid=on");
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
        // An option of overlayfs whose path begins with a quote, and one that looks like a label: commas of paths are
        // \054.
        let odd = "711 629 0:64 / /o rw - overlay overlay rw,lowerdir=\"a\\054context=\"b,upperdir=\",workdir=/w";
        assert_eq!(read(odd)[1..], ["lowerdir=\"a\\054context=\"b", "upperdir=\"", "workdir=/w"]);
        for bad in ["rw,context=\"a,b", "rw,context=\"a,b\"x", "rw,context=\"a,b\"x,y", "rw,context=\""] {
            assert!(parse_line(format!("1 2 0:64 / /o rw - overlay overlay {bad}").as_bytes()).is_none(), "{bad}");
        }
        assert_eq!(label(b"\"a:s0:c1,c2\""), b"a:s0:c1,c2");
        assert_eq!(label(b"\"a\\042\\012\""), b"a\"\n");
        assert_eq!(label(b"a:s0"), b"a:s0");
    }

    #[test]
    fn o03_a_line_of_mountinfo_that_cannot_be_read_is_not_passed_over() {
        let good = "22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw\n";
        let more = "23 22 0:21 / /a\\040b\r rw - tmpfs  rw,mode=755\n";
        let read = parse(format!("{good}{more}").as_bytes()).unwrap();
        assert_eq!((read[1].target.to_str(), read[1].source.to_str()), (Some("/a b\r"), Some("")));
        for bad in [
            "24 22 0:22 / /usr rw tmpfs tmpfs rw\n",
            "24 22 0:22 / /usr rw - tmpfs\n",
            "x 22 0:22 / /usr rw - tmpfs tmpfs rw\n",
            "24 22 0x22 / /usr rw - tmpfs tmpfs rw\n",
            "24\n",
        ] {
            for text in [format!("{good}{bad}{more}"), format!("{bad}{good}"), format!("{good}{bad}")] {
                let error = parse(text.as_bytes()).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{bad}");
            }
        }
    }
}
