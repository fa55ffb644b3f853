//! Where trusted certificates come from: files and directories.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{self, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::anchor::Anchor;
use super::bundle::{certificates_from_bytes, certificates_of_host};
use super::certificate::{Certificate, MAX_FILE};
use crate::error::{Case, Refusal, Result};
use crate::sys::files::FEW;

/// Names of files in a directory that are certificates; everything else in it is ignored.
const EXTENSIONS: [&str; 4] = ["crt", "pem", "der", "cer"];

/// Write permission for group or others.
const LOOSE: u32 = 0o022;

/// Who may have written a trust store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Anybody: the caller names it and answers for it.
    Any,
    /// Only root: each file, each directory and the directory that each path lies in belong to
    /// root, are not writable for group or others, and no symbolic link leads out of the directory
    /// it lies in. For the configuration of the host.
    RootOnly,
}

/// Certificates that are trusted to sign, each once.
#[derive(Clone, Debug)]
pub struct TrustStore {
    certificates: Vec<Certificate>,
}

impl TrustStore {
    /// Loads all certificates of `paths`.
    ///
    /// A path is a file (PEM with any number of certificates, or DER) or a directory. Of a directory
    /// the files named `*.crt`, `*.pem`, `*.der` and `*.cer` count, in the order of their names;
    /// like the shell's `*`, these leave out names that begin with a dot. One file that cannot be
    /// used makes the whole store unusable: a store that is silently smaller than it looks would
    /// refuse seals for the wrong reason.
    ///
    /// Everything is opened once, and judged by its descriptor.
    ///
    /// # Errors
    /// [`Case::F01Store`] if there is no certificate, if something cannot be read, or if
    /// `ownership` is not met; otherwise as [`certificates_from_bytes`].
    pub fn load(paths: &[PathBuf], ownership: Ownership) -> Result<Self> {
        let mut certificates = Vec::new();
        for path in paths {
            load_path(path, ownership, &mut certificates)?;
        }
        let shown: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        Self::new(certificates, &shown.join(", "))
    }

    /// Makes a store of `certificates`; those that occur twice are kept once, where they are first. `name` is what
    /// refusals call it.
    ///
    /// # Errors
    /// [`Case::F01Store`] if there are none.
    pub fn new(mut certificates: Vec<Certificate>, name: &str) -> Result<Self> {
        let mut seen = HashSet::new();
        certificates.retain(|c| seen.insert(c.fingerprint()));
        if certificates.is_empty() {
            return Err(unusable(name, "there is no certificate in it"));
        }
        Ok(Self { certificates })
    }

    /// Returns the certificates; at least one.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

fn unusable(name: &str, detail: impl std::fmt::Display) -> Refusal {
    Refusal::new(Case::F01Store, name, detail)
}

/// Adds the certificates of one path.
fn load_path(path: &Path, ownership: Ownership, into: &mut Vec<Certificate>) -> Result<()> {
    let name = path.display().to_string();
    let fd = open_path(path, ownership)?;
    let stat = examine(&fd, ownership, &name)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => load_file(fd, &name, ownership, into),
        FileType::Directory => load_directory(fd.as_fd(), path, ownership, into),
        _ => Err(unusable(&name, "neither a file nor a directory")),
    }
}

/// Opens a path that the user or the configuration names.
fn open_path(path: &Path, ownership: Ownership) -> Result<OwnedFd> {
    let name = path.display().to_string();
    let (Ownership::RootOnly, Some(last)) = (ownership, path.file_name()) else {
        return fs::openat(CWD, path, flags(), Mode::empty()).map_err(|e| unusable(&name, e));
    };
    // Anybody who can write to the directory around a store can put another in its place.
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let directory = fs::openat(CWD, parent, flags() | OFlags::DIRECTORY, Mode::empty())
        .map_err(|e| unusable(&parent.display().to_string(), e))?;
    examine(&directory, ownership, &parent.display().to_string())?;
    open_in(directory.as_fd(), last, ownership).map_err(|e| unusable(&name, explain(e)))
}

/// Adds the certificates of the files in `directory`, which is `path`.
fn load_directory(
    directory: BorrowedFd<'_>,
    path: &Path,
    ownership: Ownership,
    into: &mut Vec<Certificate>,
) -> Result<()> {
    for entry in certificate_names(directory)
        .map_err(|e| unusable(&path.display().to_string(), format!("cannot be listed: {e}")))?
    {
        let name = path.join(&entry).display().to_string();
        let fd = open_in(directory, &entry, ownership).map_err(|e| unusable(&name, explain(e)))?;
        let stat = examine(&fd, ownership, &name)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(unusable(&name, "not a file"));
        }
        load_file(fd, &name, ownership, into)?;
    }
    Ok(())
}

/// Lists the names in `directory` that are those of certificates, sorted.
fn certificate_names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
        let counts =
            Path::new(&name).extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
        if counts && !name.as_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens `name` in `directory`.
fn open_in(directory: BorrowedFd<'_>, name: &OsStr, ownership: Ownership) -> rustix::io::Result<OwnedFd> {
    match ownership {
        Ownership::Any => fs::openat(directory, name, flags(), Mode::empty()),
        Ownership::RootOnly => {
            let stay = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            fs::openat2(directory, name, flags(), Mode::empty(), stay)
        }
    }
}

/// Returns the flags for reading; a fifo or a terminal in place of a file must neither hang nor capture us.
fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY
}

/// Explains what the kernel's refusal to resolve a name means here.
fn explain(errno: Errno) -> String {
    match errno {
        Errno::XDEV => "a symbolic link leads out of its directory".into(),
        other => other.to_string(),
    }
}

/// Returns the metadata of what is open, if `ownership` is met.
fn examine(fd: impl AsFd, ownership: Ownership, name: &str) -> Result<Stat> {
    let stat = fs::fstat(fd).map_err(|e| unusable(name, e))?;
    if ownership == Ownership::RootOnly {
        if stat.st_uid != 0 {
            return Err(unusable(name, format!("owned by user {}", stat.st_uid)));
        }
        if stat.st_mode & LOOSE != 0 {
            let mode = stat.st_mode & 0o7777;
            return Err(unusable(name, format!("mode {mode:04o}: writable for group or others")));
        }
    }
    Ok(stat)
}

/// Loads all anchors of `paths`, which are files.
///
/// # Errors
/// [`Case::F01Store`] if something cannot be read, or if `ownership` is not met; otherwise as
/// [`Anchor::from_bytes`].
pub fn anchors(paths: &[PathBuf], ownership: Ownership) -> Result<Vec<Anchor>> {
    let mut anchors = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        let fd = open_path(path, ownership)?;
        let stat = examine(&fd, ownership, &name)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(unusable(&name, "not a file"));
        }
        anchors.extend(Anchor::from_bytes(&read_file(fd, &name)?, &name)?);
    }
    Ok(anchors)
}

/// Adds the certificates of an open file.
fn load_file(fd: OwnedFd, name: &str, ownership: Ownership, into: &mut Vec<Certificate>) -> Result<()> {
    let bytes = read_file(fd, name)?;
    into.append(&mut match ownership {
        Ownership::Any => certificates_from_bytes(&bytes, name)?,
        Ownership::RootOnly => certificates_of_host(&bytes, name)?,
    });
    Ok(())
}

fn read_file(fd: OwnedFd, name: &str) -> Result<Vec<u8>> {
    // One byte more than is allowed, so that a file that is too large shows as such.
    let limit = u64::try_from(MAX_FILE).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::with_capacity(FEW);
    File::from(fd).take(limit).read_to_end(&mut bytes).map_err(|e| unusable(name, e))?;
    Ok(bytes)
}
