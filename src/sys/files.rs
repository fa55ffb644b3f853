//! Files by descriptor. A name is resolved once, beneath a directory that is open, through no symlink; from then on
//! only the descriptor is used.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt as _};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::fs::{self, CWD, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Case, Refusal};

const STAY: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Opens a directory named by the user; the path itself may go through symlinks.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a directory like [`open_dir`], where no part of the path may be a symlink.
///
/// # Errors
/// The kernel's: `ELOOP` for one.
pub fn open_dir_plain(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(fs::openat2(CWD, path, flags, Mode::empty(), resolve)?)
}

/// Opens the directory `name` beneath `dir`.
pub fn open_dir_at(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<OwnedFd> {
    Ok(fs::openat2(
        dir,
        name.as_ref().as_bytes(),
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
        STAY,
    )?)
}

/// Opens the directory `name` beneath `dir` for mounting on it.
///
/// # Errors
/// The kernel's.
pub fn open_path_at(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat2(dir, name.as_ref().as_bytes(), flags, Mode::empty(), STAY)?)
}

/// Opens the regular file `name` beneath `dir` for reading.
///
/// # Errors
/// The kernel's; `InvalidInput` when it is no regular file.
pub fn open_file_at(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<File> {
    open_known_file_at(dir, name).map(|(file, _)| file)
}

/// Opens a file like [`open_file_at`], and returns what is known of it.
///
/// # Errors
/// As [`open_file_at`].
pub fn open_known_file_at(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<(File, Metadata)> {
    open_regular_at(dir, name, OFlags::RDONLY)
}

/// Opens the regular file `name` beneath `dir` for writing into it.
///
/// # Errors
/// As [`open_file_at`].
pub fn open_file_to_write_at(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<File> {
    open_regular_at(dir, name, OFlags::WRONLY).map(|(file, _)| file)
}

fn open_regular_at(dir: impl AsFd, name: impl AsRef<OsStr>, access: OFlags) -> io::Result<(File, Metadata)> {
    // NONBLOCK: a fifo in place of a file must not hang us.
    let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = File::from(fs::openat2(dir, name.as_ref().as_bytes(), flags, Mode::empty(), STAY)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, metadata))
}

/// What there is in place of a regular file where [`open_file_at`] opens none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFile {
    /// Nothing.
    Missing,
    /// A directory, a symlink, a socket.
    Other,
}

/// Returns why there is no such file, where an error of [`open_file_at`] says so; any other error is a fault (`None`),
/// which says nothing about the file.
pub fn no_file(error: &io::Error) -> Option<NoFile> {
    match (error.kind(), Errno::from_io_error(error)) {
        (io::ErrorKind::NotFound, _) => Some(NoFile::Missing),
        (io::ErrorKind::InvalidInput, None) => Some(NoFile::Other),
        (_, Some(Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::ISDIR | Errno::NOTDIR)) => Some(NoFile::Other),
        _ => None,
    }
}

/// Returns whether an error means that the disk or its filesystem does not give the file back: its content is lost,
/// whatever is done.
pub fn is_damage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::UCLEAN | Errno::BADMSG | Errno::ILSEQ))
}

/// Opens `name` beneath `dir`, which may be no symlink, as a descriptor of `O_PATH`: its filesystem is not asked for
/// it.
///
/// # Errors
/// The kernel's.
pub fn open_file_path_at(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat2(dir, name.as_ref().as_bytes(), flags, Mode::empty(), STAY)?)
}

/// Opens the regular file that a descriptor of `O_PATH` names, for reading.
///
/// # Errors
/// The kernel's; `InvalidInput` when it is no regular file.
pub fn reopen_file(path: &OwnedFd) -> io::Result<File> {
    if fs::FileType::from_raw_mode(fs::fstat(path)?.st_mode) != fs::FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(fs::openat(CWD, proc_path(path), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Opens the file `name` in `dir`, which is there to be locked, and makes it where it is missing.
///
/// # Errors
/// The kernel's.
pub fn open_lock_at(dir: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat2(dir, name, flags, Mode::RUSR | Mode::WUSR, STAY)?.into())
}

/// Makes the directory `name` (one component or several) beneath `dir`, where it is missing, mode 0700, and opens it.
pub fn make_dir_at(dir: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    // Nearly always it is there.
    match open_dir_at(&dir, name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        there => return there,
    }
    let mut at = dir.as_fd().try_clone_to_owned()?;
    for part in name.split('/') {
        match fs::mkdirat(&at, part, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        at = open_dir_at(&at, part)?;
    }
    Ok(at)
}

/// Takes a lock of flock(2) on the directory `dir`, by a new descriptor: such a lock belongs to what was opened, and
/// ends with it. `operation` is one that does not block; `None` when others have the lock for longer than `wait`.
pub fn lock(dir: impl AsFd, operation: FlockOperation, wait: Duration) -> io::Result<Option<OwnedFd>> {
    const PAUSE: Duration = Duration::from_millis(20);
    let lock = fs::openat(dir, ".", OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let until = Instant::now() + wait;
    loop {
        match fs::flock(&lock, operation) {
            Ok(()) => return Ok(Some(lock)),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Returns whether a file holds these bytes, which are few.
///
/// # Errors
/// The kernel's.
pub fn contains(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    const PIECE: usize = 1 << 20;
    let mut file = File::open(path)?;
    let mut buffer = Vec::with_capacity(PIECE + bytes.len());
    let finder = memchr::memmem::Finder::new(bytes);
    loop {
        if (&mut file).take(PIECE as u64).read_to_end(&mut buffer)? == 0 {
            return Ok(false);
        }
        if finder.find(&buffer).is_some() {
            return Ok(true);
        }
        // What begins in this piece may end in the next.
        buffer.drain(..buffer.len().saturating_sub(bytes.len() - 1));
    }
}

/// Room for most files, in bytes: a buffer that grows begins with reads of 32.
pub const FEW: usize = 8 << 10;

/// Reads all of `file`, at most `max` bytes.
///
/// # Errors
/// The kernel's; `FileTooLarge` beyond `max`.
pub fn read_all(file: impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(FEW.min(usize::try_from(max).unwrap_or(FEW)));
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {max} bytes")));
    }
    Ok(bytes)
}

/// Reads a file of `length` bytes, which a digest is known of: it need not be told that there is no more.
///
/// # Errors
/// The kernel's; `UnexpectedEof` if there are fewer.
pub fn read_length(mut file: &File, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The most bytes of names, and of one value, that the kernel returns (linux/limits.h).
const MAX_XATTR: usize = 64 << 10;

/// Asks for something with room that is enough for most attributes, and with all that there can be if it was not.
fn with_room(ask: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let within = |room| {
        let mut value = vec![0; room];
        let length = ask(&mut value)?;
        value.truncate(length);
        Ok(value)
    };
    within(256).or_else(|e| if e == Errno::RANGE { within(MAX_XATTR) } else { Err(e) })
}

/// Reads all extended attributes of an open file or directory that can be seen, sorted.
///
/// # Errors
/// The kernel's.
pub fn xattrs(file: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let file = file.as_fd();
    let names = match with_room(|room| fs::flistxattr(file, room)) {
        Err(Errno::NOTSUP) => Vec::new(),
        names => names?,
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        found.push((name.to_vec(), with_room(|room| fs::fgetxattr(file, name, room))?));
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads one extended attribute of an open file; `None` where the file has no attribute of this name.
///
/// # Errors
/// The kernel's.
pub fn xattr(file: impl AsFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    match with_room(|room| fs::fgetxattr(&file, name, room)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Returns whether the directory holds nothing at all.
///
/// # Errors
/// The kernel's.
pub fn is_empty(dir: impl AsFd) -> io::Result<bool> {
    for entry in fs::Dir::read_from(dir)? {
        // Names that are not text count too.
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lists the names of the entries of `dir`, without `.` and `..`, sorted.
///
/// # Errors
/// The kernel's.
pub fn names(dir: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Lists the names like [`names`], without those that are not UTF-8: for directories where only the names that we give
/// count. Where others put files for us to heed, or where it matters what is there at all, use [`names`].
///
/// # Errors
/// The kernel's.
pub fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    Ok(names(dir)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// Checks once that `/proc` is the kernel's own. What is read there, and the names that [`proc_path`] gives, are
/// believed; a directory or another filesystem in its place could say anything.
///
/// # Errors
/// [`Case::J03Proc`].
pub fn check_proc() -> crate::error::Result<()> {
    static CHECKED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let check = || {
        let proc = fs::openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        if fs::fstatfs(&proc)?.f_type != fs::PROC_SUPER_MAGIC {
            return Err(io::Error::other("another filesystem is mounted there"));
        }
        // A mount over a part of it is found when that part is opened without leaving procfs.
        for part in ["self/fd", "self/mountinfo"] {
            let stay = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
            fs::openat2(&proc, part, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), stay)?;
        }
        Ok(())
    };
    match CHECKED.get_or_init(|| check().map_err(|e| e.to_string())) {
        Ok(()) => Ok(()),
        Err(why) => Err(Refusal::new(Case::J03Proc, "/proc", why)),
    }
}

/// Returns the name under which the kernel knows an open descriptor.
pub fn proc_path(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
