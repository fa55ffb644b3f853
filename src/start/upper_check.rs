//! What podman writes into a container's upper directory before it calls `precreate`. Its own overlay copies up
//! from layers that nobody has verified: so a directory must be as the image has it, and users and groups must begin
//! with the image's.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, fstat, readlinkat, statx};
use rustix::io::Errno;

use super::Ran;
use crate::invoke::IdMapping;
use crate::sys::{files, process};

/// Modes of the root directory of a container: containers-storage gives it that of the uppermost layer's (drivers/overlay,
/// `create` and `defaultPerms`), which is what its tar says, or 0555. The tree that is sealed has always the latter, so
/// of what tars say only the usual is let pass.
const ROOT_MODES: [u32; 2] = [0o555, 0o755];
/// Users of a large image.
const MAX_FILE: u64 = 16 << 20;

/// What podman had to do for a container.
#[derive(Clone, Debug)]
pub struct Written {
    /// The container's user and group, as it sees them.
    pub user: (u32, u32),
    /// Its working directory, which is made where it is missing.
    pub directory: PathBuf,
    /// What is older is not of this start; in nanoseconds since 1970.
    pub since: i128,
}

/// An upper directory beside the image that it is to lie over.
pub(super) struct Beside<'a> {
    pub(super) upper: &'a OwnedFd,
    /// The image alone.
    pub(super) image: &'a OwnedFd,
    /// How IDs of the container are written in the upper directory.
    pub(super) maps: Option<(&'a IdMapping, &'a IdMapping)>,
    /// What podman may have written; nothing where it has not been at it.
    pub(super) written: Option<&'a Written>,
    /// What is older than this start, and what the container did before; `None` where everything counts.
    pub(super) age: Option<(i128, Ran)>,
}

/// Whose an entry of the upper directory is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Podman's, for this start: it must be what podman makes, of the image.
    Podmans,
    /// Of a container that never ran: what `podman cp` brought may be anything, and what it went through must be the
    /// image's.
    Copied,
    /// Of a container that ran verified, and younger than that: its own, or brought by `podman cp` since.
    Since,
    /// The container's own.
    Containers,
}

/// An entry of the upper directory.
struct Entry<'a> {
    /// The directory that it is in.
    dir: &'a OwnedFd,
    /// The same of the image.
    beside: &'a Sealed,
    name: &'a OsStr,
    /// Its path in the container.
    path: &'a Path,
    stat: Statx,
}

/// What the image has in an entry's place.
enum Sealed {
    Directory(OwnedFd),
    /// A file or a link, or it is beneath one.
    Other,
    Nothing,
}

impl Entry<'_> {
    fn sealed(&self) -> io::Result<Sealed> {
        let Sealed::Directory(dir) = self.beside else {
            return Ok(if matches!(self.beside, Sealed::Other) { Sealed::Other } else { Sealed::Nothing });
        };
        match files::open_dir_at(dir, self.name) {
            Ok(sealed) => Ok(Sealed::Directory(sealed)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Sealed::Nothing),
            Err(e) => match Errno::from_io_error(&e) {
                Some(Errno::NOTDIR | Errno::LOOP) => Ok(Sealed::Other),
                _ => Err(e),
            },
        }
    }

    /// Mode and owner.
    fn metadata(&self) -> (u32, u32, u32) {
        (self.stat.stx_mode.into(), self.stat.stx_uid, self.stat.stx_gid)
    }

    fn file(&self) -> io::Result<File> {
        files::open_file_at(self.dir, self.name)
    }

    /// When it was made, in nanoseconds since 1970; changed last, where the filesystem keeps no more.
    fn born(&self) -> i128 {
        let has = self.stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let at = if has { self.stat.stx_btime } else { self.stat.stx_ctime };
        i128::from(at.tv_sec) * 1_000_000_000 + i128::from(at.tv_nsec)
    }
}

impl Beside<'_> {
    /// The first entry that is not as it would be if podman had copied it from `image`, or that it does not make.
    pub(super) fn odd(&self) -> io::Result<Option<PathBuf>> {
        // For reading: a path alone has no attributes.
        let (own, image) = (files::open_dir_at(self.upper, ".")?, files::open_dir_at(self.image, ".")?);
        if self.age.is_none_or(|(_, ran)| ran == Ran::Never) {
            let (root, sealed) = (fstat(&own)?, fstat(&image)?);
            let mode = ROOT_MODES.contains(&(root.st_mode & 0o7777));
            let owners = [(sealed.st_uid, sealed.st_gid), self.mapped((0, 0))];
            if !mode || !owners.contains(&(root.st_uid, root.st_gid)) || attributes(&own)? != attributes(&image)? {
                return Ok(Some("/".into()));
            }
        }
        self.directory(&own, &Sealed::Directory(image), Path::new("/"))
    }

    fn directory(&self, dir: &OwnedFd, beside: &Sealed, path: &Path) -> io::Result<Option<PathBuf>> {
        for name in files::names(dir)? {
            let path = path.join(&name);
            let stat = statx(dir, &name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
            let kind = FileType::from_raw_mode(stat.stx_mode.into());
            let entry = Entry { dir, beside, name: &name, path: &path, stat };
            let whose = self.whose(&entry);
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

    fn whose(&self, entry: &Entry<'_>) -> Whose {
        let Some((since, ran)) = self.age else { return Whose::Podmans };
        let born = entry.born();
        // What was made in the future was made before the clock was set back.
        if (since..=process::now_nanoseconds()).contains(&born) {
            return Whose::Podmans;
        }
        match ran {
            Ran::Never => Whose::Copied,
            Ran::At(at) if born > at => Whose::Since,
            Ran::At(_) | Ran::Before => Whose::Containers,
        }
    }

    fn is_fine_directory(&self, whose: Whose, entry: &Entry<'_>, own: &OwnedFd, sealed: &Sealed) -> io::Result<bool> {
        match (whose, sealed) {
            (Whose::Containers, _) => Ok(true),
            (Whose::Podmans | Whose::Copied, Sealed::Directory(sealed)) => is_as(entry, own, sealed),
            (Whose::Podmans, Sealed::Nothing) => self.is_made(entry, own),
            (Whose::Podmans, Sealed::Other) => Ok(false),
            (Whose::Since, Sealed::Directory(sealed)) => Ok(!is_copied_up(own)? || is_as(entry, own, sealed)?),
            // Of a directory that the layers had, and the image has not.
            (Whose::Copied | Whose::Since, _) => Ok(!is_copied_up(own)?),
        }
    }

    fn is_fine_file(&self, whose: Whose, entry: &Entry<'_>, kind: FileType) -> io::Result<bool> {
        let of_directory = || Ok::<_, io::Error>(matches!(entry.sealed()?, Sealed::Directory(_)));
        match (whose, kind, fields(entry.path)) {
            (Whose::Containers, _, _) => Ok(true),
            (Whose::Podmans, FileType::RegularFile, Some(fields)) => self.is_extended(entry, fields),
            (Whose::Podmans, FileType::Symlink, _) => Ok(entry.path == Path::new("/etc/mtab")
                && readlinkat(entry.dir, entry.name, Vec::new())?.as_bytes() == b"/proc/mounts"),
            (Whose::Podmans, _, _) => Ok(false),
            // A file of several names gets no origin: of users nothing is let pass before they are the container's.
            (Whose::Copied, FileType::RegularFile, Some(fields)) => self.is_extended(entry, fields),
            (Whose::Copied, FileType::RegularFile, None) => {
                // Content of another file than the one that is here, which only the layers can have.
                let elsewhere = attributes(entry.file()?)?.iter().any(|(n, _)| n.starts_with(b"trusted.overlay."));
                Ok(!elsewhere && !of_directory()?)
            }
            (Whose::Copied, _, _) => Ok(!of_directory()?),
            (Whose::Since, FileType::RegularFile, Some(fields)) => {
                Ok(!is_copied_up(entry.file()?)? || self.is_extended(entry, fields)?)
            }
            (Whose::Since, _, _) => Ok(true),
        }
    }

    /// A directory that podman makes where the image has none.
    fn is_made(&self, entry: &Entry<'_>, own: &OwnedFd) -> io::Result<bool> {
        let Some(written) = self.written else { return Ok(false) };
        let (mode, uid, gid) = entry.metadata();
        let owners = [self.mapped((0, 0)), self.mapped(written.user)];
        // Or the one for what it writes there (libpod, `mountStorage`).
        let made = clean(&written.directory).starts_with(entry.path) || entry.path == Path::new("/etc");
        Ok(made && mode & 0o7777 == 0o755 && owners.contains(&(uid, gid)) && attributes(own)?.is_empty())
    }

    /// Users or groups of the image, with a line for the container's own.
    fn is_extended(&self, entry: &Entry<'_>, fields: usize) -> io::Result<bool> {
        let Some(written) = self.written else { return Ok(false) };
        let own = entry.file()?;
        let sealed = match entry.beside {
            Sealed::Other => return Ok(false),
            Sealed::Nothing => None,
            Sealed::Directory(dir) => match files::open_file_at(dir, entry.name) {
                Ok(sealed) => Some(sealed),
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(_) => return Ok(false),
            },
        };
        let as_made = match &sealed {
            Some(sealed) => is_as(entry, &own, sealed)?,
            None => {
                let (mode, uid, gid) = entry.metadata();
                [0o600, 0o644].contains(&(mode & 0o7777))
                    && (uid, gid) == self.mapped((0, 0))
                    && attributes(&own)?.is_empty()
            }
        };
        let read = |file: File| files::read_all(file, MAX_FILE);
        let (bytes, before) = (read(own)?, sealed.map(read).transpose()?.unwrap_or_default());
        let Some(added) = bytes.strip_prefix(before.as_slice()) else { return Ok(false) };
        Ok(as_made && (added.is_empty() || is_entry(added, fields, written.user)))
    }

    fn mapped(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        match self.maps {
            None => (uid, gid),
            Some((uids, gids)) => (map(uids, uid), map(gids, gid)),
        }
    }
}

/// Whether podman's own overlay copied it up: that writes which file it was of, as far as the filesystem has handles for
/// files. The verified overlay has an EROFS image there and writes an empty origin, and what is made anew has none.
fn is_copied_up(file: impl AsFd) -> io::Result<bool> {
    Ok(files::xattrs(file)?.iter().any(|(name, value)| name == b"trusted.overlay.origin" && !value.is_empty()))
}

/// Whether it is as the image's, with nothing else about it.
fn is_as(entry: &Entry<'_>, own: impl AsFd, sealed: impl AsFd) -> io::Result<bool> {
    let wanted = fstat(&sealed)?;
    Ok(entry.metadata() == (wanted.st_mode, wanted.st_uid, wanted.st_gid) && attributes(own)? == attributes(sealed)?)
}

/// Without what overlayfs keeps for itself and changes nothing, and what the host's security module gives.
fn attributes(file: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    const OWN: [&[u8]; 4] =
        [b"trusted.overlay.impure", b"trusted.overlay.origin", b"trusted.overlay.uuid", b"security.selinux"];
    Ok(files::xattrs(file)?.into_iter().filter(|(name, _)| !OWN.contains(&name.as_slice())).collect())
}

/// How many fields a line has, of the two files that podman adds one to.
fn fields(path: &Path) -> Option<usize> {
    match path.as_os_str().as_bytes() {
        b"/etc/passwd" => Some(7),
        b"/etc/group" => Some(4),
        _ => None,
    }
}

/// One line, for the container's own user (libpod, `generateUserPasswdEntry` and `generateUserGroupEntry`): with a
/// password that fits none, and no other ID.
fn is_entry(line: &[u8], fields: usize, (uid, gid): (u32, u32)) -> bool {
    let Some(line) = std::str::from_utf8(line).ok().and_then(|l| l.strip_suffix('\n')) else { return false };
    let parts: Vec<&str> = line.split(':').collect();
    let number = |at: usize| parts.get(at).and_then(|text| text.parse::<u32>().ok());
    let ids = match fields {
        7 => number(2) == Some(uid) && number(3).is_some_and(|found| found == gid),
        // A number alone is the user's, and podman makes a group of the same.
        _ => {
            number(2).is_some_and(|found| found == gid || found == uid)
                && parts.get(3).is_some_and(|l| !l.contains(','))
        }
    };
    parts.len() == fields && !line.contains(['\n', '\r', '\0']) && matches!(parts[1], "*" | "x") && ids
}

fn map(mapping: &IdMapping, id: u32) -> u32 {
    match mapping {
        IdMapping::None => id,
        IdMapping::Squash(one) => *one,
        IdMapping::Map(extents) => extents
            .iter()
            .find_map(|e| id.checked_sub(e.container).filter(|n| *n < e.size).and_then(|n| e.host.checked_add(n)))
            .unwrap_or(id),
    }
}

/// `.` and `..` taken out, as podman does with a working directory.
fn clean(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::from("/"), |mut clean, part| {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
        clean
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m01_podman_adds_one_line_for_the_containers_own_user() {
        let passwd = |line: &str| is_entry(line.as_bytes(), 7, (1000, 0));
        assert!(passwd("1000:*:1000:0:container user:/:/bin/sh\n"));
        for bad in [
            "1000:*:1000:0:container user:/:/bin/sh",
            "evil:*:0:0::/:/bin/sh\n",
            "1000::1000:0::/:/bin/sh\n",
            "1000:*:1000:0::/:/bin/sh\nevil:*:0:0::/:/bin/sh\n",
            "1000:*:1000:0::/:/bin/sh:\n",
            "1000:*:1000:27::/:/bin/sh\n",
            "\n",
        ] {
            assert!(!passwd(bad), "{bad}");
        }
        let group = |line: &str| is_entry(line.as_bytes(), 4, (1000, 5));
        assert!(group("1000:x:1000:1000\n") && group("5:x:5:1000\n"));
        for bad in ["wheel:x:0:1000\n", "1000:x:1000:1000,other\n", "1000:x:1000\n", "1000::1000:1000\n"] {
            assert!(!group(bad), "{bad}");
        }
    }
}
