//! What podman writes into a container's upper directory before it calls `precreate`. Its own overlay copies up
//! from layers that nobody has verified: so a directory must be as the image has it, and users and groups must begin
//! with the image's.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Stat, StatxFlags, fstat, statat, statx};

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
    /// The container was never started on a verified image: what is older was written by podman as well, by `podman cp`
    /// or for a start that came to nothing.
    pub is_first: bool,
    /// When it was started on one last, in nanoseconds since 1970, where that is known.
    pub verified: Option<i128>,
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
    /// Only what is as new as this counts.
    pub(super) since: Option<i128>,
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

impl Beside<'_> {
    fn is_first(&self) -> bool {
        self.written.is_none_or(|written| written.is_first)
    }

    /// The first entry that is not as it would be if podman had copied it from `image`, or that it does not make.
    pub(super) fn odd(&self) -> io::Result<Option<PathBuf>> {
        if self.is_first() {
            // For reading: a path alone has no attributes.
            let (own, image) = (files::open_dir_at(self.upper, ".")?, files::open_dir_at(self.image, ".")?);
            let (root, sealed) = (fstat(&own)?, fstat(&image)?);
            let mode = ROOT_MODES.contains(&(root.st_mode & 0o7777));
            let owner = [owner(&sealed), self.mapped((0, 0))].contains(&owner(&root));
            if !mode || !owner || attributes(&own)? != attributes(&image)? {
                return Ok(Some("/".into()));
            }
        }
        self.directory(Path::new("."))
    }

    fn directory(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        for name in files::names(files::open_dir_at(self.upper, path)?)? {
            let path = path.join(&name);
            let shown = Path::new("/").join(path.strip_prefix(".").unwrap_or(&path));
            let stat = statat(self.upper, &path, AtFlags::SYMLINK_NOFOLLOW)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let fine = match (self.whose(&path)?, kind) {
                (Whose::Containers, _) => true,
                (Whose::Podmans, FileType::Directory) => self.is_copied(&path, &shown, &stat)?,
                (Whose::Podmans, FileType::Symlink) => {
                    shown == Path::new("/etc/mtab")
                        && rustix::fs::readlinkat(self.upper, &path, Vec::new())?.as_bytes() == b"/proc/mounts"
                }
                (Whose::Podmans, FileType::RegularFile) => self.is_extended(&path, &shown, &stat)?,
                (Whose::Podmans, _) => false,
                (whose, FileType::Directory) => {
                    let native = is_copied_up(files::open_dir_at(self.upper, &path)?)?;
                    match self.sealed(&path)? {
                        Some(sealed) if whose == Whose::Copied || native => self.is_as(&path, &stat, &sealed)?,
                        Some(_) => true,
                        // Of a directory that the layers had, and the image has not.
                        None => !native,
                    }
                }
                (whose, FileType::RegularFile) => {
                    let own = files::open_file_at(self.upper, &path)?;
                    // A file of several names gets no origin.
                    let users = fields(&shown).is_some() && (whose == Whose::Copied || is_copied_up(&own)?);
                    // Content of another file than the one that is here, which only the layers can have.
                    let elsewhere = attributes(&own)?.iter().any(|(n, _)| n.starts_with(b"trusted.overlay."));
                    let fine = whose == Whose::Since || (self.sealed(&path)?.is_none() && !elsewhere);
                    fine && (!users || self.is_extended(&path, &shown, &stat)?)
                }
                (Whose::Copied, _) => self.sealed(&path)?.is_none(),
                (Whose::Since, _) => true,
            };
            if !fine {
                return Ok(Some(shown));
            }
            if kind == FileType::Directory
                && let odd @ Some(_) = self.directory(&path)?
            {
                return Ok(odd);
            }
        }
        Ok(None)
    }

    fn whose(&self, path: &Path) -> io::Result<Whose> {
        let Some(since) = self.since else { return Ok(Whose::Podmans) };
        let found = statx(self.upper, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME | StatxFlags::CTIME)?;
        let has = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        let at = if has { found.stx_btime } else { found.stx_ctime };
        let at = i128::from(at.tv_sec) * 1_000_000_000 + i128::from(at.tv_nsec);
        // What was made in the future was made before the clock was set back.
        let is_new = (since..=process::now_nanoseconds()).contains(&at);
        let verified = self.written.and_then(|written| written.verified);
        Ok(match (is_new, self.is_first()) {
            (true, _) => Whose::Podmans,
            (false, true) => Whose::Copied,
            (false, false) if verified.is_some_and(|verified| at > verified) => Whose::Since,
            (false, false) => Whose::Containers,
        })
    }

    /// The directory that the image has there.
    fn sealed(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        match files::open_dir_at(self.image, path) {
            Ok(sealed) => Ok(Some(sealed)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            // A link, say.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether a directory is as the image's, with nothing else about it.
    fn is_as(&self, path: &Path, stat: &Stat, sealed: &OwnedFd) -> io::Result<bool> {
        let (own, wanted) = (files::open_dir_at(self.upper, path)?, fstat(sealed)?);
        Ok((stat.st_mode, owner(stat)) == (wanted.st_mode, owner(&wanted)) && attributes(&own)? == attributes(sealed)?)
    }

    /// A directory of the image with nothing else about it, or one that podman makes where the image has none.
    fn is_copied(&self, path: &Path, shown: &Path, stat: &Stat) -> io::Result<bool> {
        match files::open_dir_at(self.image, path) {
            Ok(sealed) => self.is_as(path, stat, &sealed),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let own = files::open_dir_at(self.upper, path)?;
                let Some(written) = self.written else { return Ok(false) };
                let owners = [self.mapped((0, 0)), self.mapped(written.user)];
                // Or the one for what it writes there (libpod, `mountStorage`).
                let made = clean(&written.directory).starts_with(shown) || shown == Path::new("/etc");
                Ok(made
                    && stat.st_mode & 0o7777 == 0o755
                    && owners.contains(&owner(stat))
                    && attributes(&own)?.is_empty())
            }
            Err(_) => Ok(false),
        }
    }

    /// Users or groups of the image, with a line for the container's own.
    fn is_extended(&self, path: &Path, shown: &Path, stat: &Stat) -> io::Result<bool> {
        let (Some(written), Some(fields)) = (self.written, fields(shown)) else { return Ok(false) };
        let own = files::open_file_at(self.upper, path)?;
        let sealed = match files::open_file_at(self.image, path) {
            Ok(sealed) => Some(sealed),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(_) => return Ok(false),
        };
        let as_made = match &sealed {
            Some(sealed) => {
                let wanted = fstat(sealed)?;
                (stat.st_mode, owner(stat)) == (wanted.st_mode, owner(&wanted))
                    && attributes(&own)? == attributes(sealed)?
            }
            None => {
                [0o600, 0o644].contains(&(stat.st_mode & 0o7777))
                    && owner(stat) == self.mapped((0, 0))
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
fn is_copied_up(file: impl std::os::fd::AsFd) -> io::Result<bool> {
    Ok(files::xattrs(file)?.iter().any(|(name, value)| name == b"trusted.overlay.origin" && !value.is_empty()))
}

fn owner(stat: &Stat) -> (u32, u32) {
    (stat.st_uid, stat.st_gid)
}

/// Without what overlayfs keeps for itself and changes nothing, and what the host's security module gives.
fn attributes(file: impl std::os::fd::AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
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
