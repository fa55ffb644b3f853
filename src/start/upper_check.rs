//! What podman writes into a container's upper directory before it calls `precreate`. Its own overlay copies up from
//! layers that nobody has verified: so a directory must be as it is in the image, and users and groups must begin with
//! the image's.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, fstat, readlinkat, statx};
use rustix::io::Errno;

use super::LastStart;
use super::added_users::{MAX_FILE, clean, ends_with_entry, extends, fields};
use super::overlay_notes::OverlayNotes;
use crate::protocol::IdMapping;
use crate::sys::{files, process};

/// Modes of the root directory of a container: containers-storage gives it the uppermost layer's mode (drivers/overlay,
/// `create` and `defaultPerms`), which is what that layer's tar says, or 0555. The sealed tree always has the latter,
/// and of the modes that tars give only the usual one is let pass.
const ROOT_MODES: [u32; 2] = [0o555, 0o755];

/// What podman had to do for a container.
#[derive(Clone, Debug)]
pub struct PodmanWrites {
    /// The container's user and group, as it sees them.
    pub user: (u32, u32),
    /// Entries older than this are not from this start; in nanoseconds since 1970.
    pub directory: PathBuf,
    /// What is older is not of this start; in nanoseconds since 1970.
    pub since: i128,
    /// Who wrote it.
    pub by: Writer,
}

/// Who wrote into the upper directory before the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// podman, or an engine that does as it does.
    Podman,
    /// CRI-O, which also creates the directories of the image's volumes, owned by the IDs that the container sees.
    CriO,
    /// An engine that unpacked the files of a checkpoint.
    Checkpoint,
}

/// An upper directory together with the image that it will lie over.
pub(super) struct UpperOverImage<'a> {
    pub(super) upper: &'a OwnedFd,
    /// The image alone.
    pub(super) image: &'a OwnedFd,
    /// How IDs of the container are written in the upper directory.
    pub(super) maps: Option<(&'a IdMapping, &'a IdMapping)>,
    /// Whether they are mapped in a way that is not known here: then anybody may own its root.
    pub(super) unknown_ids: bool,
    /// What podman may have written; `None` if it has not written anything.
    pub(super) written: Option<&'a PodmanWrites>,
    /// When this start began, and what the container did before it; `None` if everything counts.
    pub(super) age: Option<(i128, LastStart)>,
    /// Whether it is only looked at.
    pub(super) dry: bool,
    /// How overlayfs notes there what it did.
    pub(super) notes: OverlayNotes,
}

/// Who wrote an entry of the upper directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WrittenBy {
    /// Podman, for this start: it must be what podman makes from the image.
    Podman,
    /// A container that never ran: what `podman cp` brought may be anything, and the directories that it went through
    /// must be the image's.
    BeforeFirstRun,
    /// A container that ran verified: the entry is its own, or was brought by `podman cp` since.
    SinceFirstRun,
    /// A container that is older than what this host remembers: taken as it is.
    Container,
}

/// An entry of the upper directory.
struct UpperEntry<'a> {
    /// The directory that it is in.
    dir: &'a OwnedFd,
    /// The entry of the same name in the image.
    beside: &'a SealedEntry,
    name: &'a OsStr,
    /// Its path in the container.
    path: &'a Path,
    stat: Statx,
}

/// What the image has in an entry's place.
enum SealedEntry {
    Directory(OwnedFd),
    /// A file or a link, or the entry is beneath one.
    Other,
    Nothing,
}

impl UpperEntry<'_> {
    fn sealed(&self) -> io::Result<SealedEntry> {
        let SealedEntry::Directory(dir) = self.beside else {
            return Ok(if matches!(self.beside, SealedEntry::Other) {
                SealedEntry::Other
            } else {
                SealedEntry::Nothing
            });
        };
        match files::open_dir_at(dir, self.name) {
            Ok(sealed) => Ok(SealedEntry::Directory(sealed)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(SealedEntry::Nothing),
            Err(e) => match Errno::from_io_error(&e) {
                Some(Errno::NOTDIR | Errno::LOOP) => Ok(SealedEntry::Other),
                _ => Err(e),
            },
        }
    }

    /// Returns mode and owner.
    fn metadata(&self) -> (u32, u32, u32) {
        (self.stat.stx_mode.into(), self.stat.stx_uid, self.stat.stx_gid)
    }

    fn file(&self) -> io::Result<File> {
        files::open_file_at(self.dir, self.name)
    }

    /// Returns when it was made, in nanoseconds since 1970; when it was last changed, if the filesystem keeps no more.
    fn born(&self) -> i128 {
        let has = self.stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let at = if has { self.stat.stx_btime } else { self.stat.stx_ctime };
        i128::from(at.tv_sec) * 1_000_000_000 + i128::from(at.tv_nsec)
    }
}

impl UpperOverImage<'_> {
    /// Finds the first entry that podman does not make, or that differs from what it would have copied from `image`.
    pub(super) fn first_unexpected(&self) -> io::Result<Option<PathBuf>> {
        // For reading: a descriptor of a path alone gives no attributes.
        let (own, image) = (files::open_dir_at(self.upper, ".")?, files::open_dir_at(self.image, ".")?);
        if self.age.is_none_or(|(_, ran)| ran == LastStart::Never) {
            let (root, sealed) = (fstat(&own)?, fstat(&image)?);
            let mode = ROOT_MODES.contains(&(root.st_mode & 0o7777));
            let owners = [(sealed.st_uid, sealed.st_gid), self.mapped((0, 0))];
            let owned = self.unknown_ids || owners.contains(&(root.st_uid, root.st_gid));
            if !mode || !owned || self.notes.attributes(&own)? != self.notes.attributes(&image)? {
                return Ok(Some("/".into()));
            }
        }
        self.directory(&own, &SealedEntry::Directory(image), Path::new("/"))
    }

    fn directory(&self, dir: &OwnedFd, beside: &SealedEntry, path: &Path) -> io::Result<Option<PathBuf>> {
        for name in files::names(dir)? {
            let path = path.join(&name);
            let stat = statx(dir, &name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
            let kind = FileType::from_raw_mode(stat.stx_mode.into());
            let entry = UpperEntry { dir, beside, name: &name, path: &path, stat };
            let whose = self.written_by(&entry);
            if kind == FileType::Directory {
                let (own, sealed) = (files::open_dir_at(dir, &name)?, entry.sealed()?);
                if !self.is_fine_directory(whose, &entry, &own, &sealed)? {
                    return Ok(Some(path));
                }
                if let odd @ Some(_) = self.directory(&own, &sealed, &path)? {
                    return Ok(odd);
                }
            } else if !self.is_fine_file(whose, &entry, kind)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn written_by(&self, entry: &UpperEntry<'_>) -> WrittenBy {
        let Some((since, ran)) = self.age else { return WrittenBy::Podman };
        let born = entry.born();
        // What was made in the future was made before the clock was set back.
        if (since..=process::now_nanoseconds()).contains(&born) {
            return WrittenBy::Podman;
        }
        match ran {
            LastStart::Never => WrittenBy::BeforeFirstRun,
            LastStart::Verified => WrittenBy::SinceFirstRun,
            LastStart::Before => WrittenBy::Container,
        }
    }

    fn is_fine_directory(
        &self,
        whose: WrittenBy,
        entry: &UpperEntry<'_>,
        own: &OwnedFd,
        sealed: &SealedEntry,
    ) -> io::Result<bool> {
        let fine = match (whose, sealed) {
            (WrittenBy::Container, _) => true,
            (WrittenBy::Podman | WrittenBy::BeforeFirstRun, SealedEntry::Directory(sealed)) => {
                self.is_as(entry, own, sealed)?
            }
            (WrittenBy::Podman, SealedEntry::Nothing) => self.is_made(entry, own)?,
            // Nobody puts a directory in the place of a file or a link: the layers had one there.
            (WrittenBy::Podman | WrittenBy::BeforeFirstRun, SealedEntry::Other) => false,
            (WrittenBy::SinceFirstRun, SealedEntry::Directory(sealed)) => {
                !self.notes.is_copied_up(own)? || self.is_as(entry, own, sealed)?
            }
            // Copied from a directory that the layers had, and the image has not. No verified mount has written
            // anything yet. It does not matter that the origin may not say which directory it was: the layers may have
            // been on any filesystem.
            (WrittenBy::BeforeFirstRun, SealedEntry::Nothing) => self.notes.origin(own)?.is_none(),
            (WrittenBy::SinceFirstRun, _) => !self.notes.is_copied_up(own)?,
        };
        if fine && !self.dry {
            self.notes.forget_origin(own)?;
        }
        Ok(fine)
    }

    fn is_fine_file(&self, whose: WrittenBy, entry: &UpperEntry<'_>, kind: FileType) -> io::Result<bool> {
        let fields = fields(entry.path).filter(|_| kind == FileType::RegularFile);
        let fine = self.is_fine(whose, entry, kind, fields)?;
        if fine && fields.is_some() && !self.dry {
            self.notes.forget_origin(entry.file()?)?;
        }
        Ok(fine)
    }

    fn is_fine(
        &self,
        whose: WrittenBy,
        entry: &UpperEntry<'_>,
        kind: FileType,
        fields: Option<usize>,
    ) -> io::Result<bool> {
        let of_directory = || Ok::<_, io::Error>(matches!(entry.sealed()?, SealedEntry::Directory(_)));
        match (whose, kind, fields) {
            (WrittenBy::Container, _, _) => Ok(true),
            (WrittenBy::Podman, _, Some(fields)) => self.is_extended(entry, fields),
            (WrittenBy::Podman, FileType::Symlink, _) => {
                let to = readlinkat(entry.dir, entry.name, Vec::new())?;
                Ok(is_link_of_podman(entry.path, Path::new(OsStr::from_bytes(to.as_bytes()))))
            }
            (WrittenBy::Podman, _, _) => Ok(false),
            // A file with several names gets no origin: nothing about users is let pass before the file is the
            // container's.
            (WrittenBy::BeforeFirstRun, _, Some(fields)) => self.is_extended(entry, fields),
            (WrittenBy::BeforeFirstRun, FileType::RegularFile, None) => {
                let file = entry.file()?;
                // What podman's overlay copied up, or content of a file other than the one that is here: both come from
                // the layers. An origin that names no file is let pass: the verified overlay writes the same, and notes
                // may be lost.
                let copied = self.notes.has_content_of_layers(&file)?;
                // podman also gives up a start by itself when links of the layers have led it elsewhere with its users.
                // A file with several names gets no origin.
                Ok(!copied && !of_directory()? && !ends_with_entry(file, self.written.map(|written| written.user))?)
            }
            (WrittenBy::BeforeFirstRun, _, _) => Ok(!of_directory()?),
            (WrittenBy::SinceFirstRun, _, Some(fields)) => {
                Ok(!self.notes.is_copied_up(entry.file()?)? || self.is_extended(entry, fields)?)
            }
            (WrittenBy::SinceFirstRun, _, _) => Ok(true),
        }
    }

    /// Checks that a directory is one that podman makes if the image has none.
    fn is_made(&self, entry: &UpperEntry<'_>, own: &OwnedFd) -> io::Result<bool> {
        let Some(written) = self.written else { return Ok(false) };
        let (mode, uid, gid) = entry.metadata();
        let mut owners = vec![self.mapped((0, 0)), self.mapped(written.user)];
        let made = match written.by {
            // Or the directory for what it writes there (libpod, `mountStorage`).
            Writer::Podman | Writer::Checkpoint => {
                clean(&written.directory).starts_with(entry.path) || entry.path == Path::new("/etc")
            }
            // It need not be a volume of the image: it was just made and is empty, wherever links of the layers led CRI-O
            // (cri-o, `addImageVolumes` and `setupWorkingDirectory`).
            Writer::CriO => {
                owners.extend([(0, 0), written.user]);
                self.notes.origin(own)?.is_none()
            }
        };
        Ok(made && mode & 0o7777 == 0o755 && owners.contains(&(uid, gid)) && self.notes.attributes(own)?.is_empty())
    }

    /// Checks that it is the users or groups of the image, with a line for the container's own.
    fn is_extended(&self, entry: &UpperEntry<'_>, fields: usize) -> io::Result<bool> {
        let Some(written) = self.written else { return Ok(false) };
        let own = entry.file()?;
        let sealed = match entry.beside {
            SealedEntry::Other => return Ok(false),
            SealedEntry::Nothing => None,
            SealedEntry::Directory(dir) => match files::open_file_at(dir, entry.name) {
                Ok(sealed) => Some(sealed),
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(_) => return Ok(false),
            },
        };
        let as_made = match &sealed {
            Some(sealed) => self.is_as(entry, &own, sealed)?,
            None => {
                let (mode, uid, gid) = entry.metadata();
                [0o600, 0o644].contains(&(mode & 0o7777))
                    && (uid, gid) == self.mapped((0, 0))
                    && self.notes.attributes(&own)?.is_empty()
            }
        };
        let read = |file: File| files::read_all(file, MAX_FILE);
        let (bytes, before) = (read(own)?, sealed.map(read).transpose()?.unwrap_or_default());
        Ok(as_made && extends(&bytes, &before, fields, written.user, &written.directory))
    }

    /// Checks that an entry is the same as the image's, with nothing added.
    fn is_as(&self, entry: &UpperEntry<'_>, own: impl AsFd, sealed: impl AsFd) -> io::Result<bool> {
        let wanted = fstat(&sealed)?;
        let same = entry.metadata() == (wanted.st_mode, wanted.st_uid, wanted.st_gid);
        Ok(same && self.notes.attributes(own)? == self.notes.attributes(sealed)?)
    }

    fn mapped(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        match self.maps {
            None => (uid, gid),
            Some((uids, gids)) => (uids.host(uid), gids.host(gid)),
        }
    }
}

/// Checks that podman makes this link: the one for the mounts, or the one for the time zone that was asked for, into
/// the image's own zones (libpod, `createTimezoneFile`).
fn is_link_of_podman(path: &Path, to: &Path) -> bool {
    match path.as_os_str().as_bytes() {
        b"/etc/mtab" => to == Path::new("/proc/mounts"),
        b"/etc/localtime" => ["../usr/share/zoneinfo", "/usr/share/zoneinfo"].iter().any(|zones| {
            to.strip_prefix(zones).is_ok_and(|zone| zone.components().all(|part| matches!(part, Component::Normal(_))))
        }),
        _ => false,
    }
}
