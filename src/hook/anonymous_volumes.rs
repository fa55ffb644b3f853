//! Volumes without a name that podman made and filled for an earlier start of a container, which it gave up before it
//! asked anybody: from whatever the image's layers were then. podman fills no volume that already holds something, so
//! the next start would be given it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};

use super::copies::{copied_attributes, read_block};
use crate::error::{Case, Refusal, Result};
use crate::protocol::BindMount;
use crate::start::LastStart;
use crate::sys::files;
use crate::sys::process::now_nanoseconds;
use crate::sys::rooted_dir::RootedDir;
use crate::sys::times::birth;

/// How many bytes of two files are compared at once.
const BLOCK: usize = 64 << 10;

const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What tells the content of a volume from before a start from that of the start.
pub(super) struct BeforeStart {
    /// The container's upper directory, as old as the container.
    pub(super) upper: Option<OwnedFd>,
    /// When podman was started, in nanoseconds since 1970: `i128::MIN` if that is not known, `i128::MAX` for a start to come.
    pub(super) since: i128,
    /// Whether the container has other IDs than the host, so that owners are mapped.
    pub(super) mapped: bool,
}

impl BeforeStart {
    /// Returns whether the volume was made with the container or after it, and holds something that was there before
    /// podman was started for this start; anything at all, if that time is not known. False on a filesystem that keeps no
    /// times of birth: whether the container ever ran cannot be told there, and what it wrote itself would count.
    ///
    /// # Errors
    /// The kernel's.
    fn holds_older(&self, volume: &OwnedFd) -> std::io::Result<bool> {
        let container = self.upper.as_ref().map(birth).transpose()?.flatten();
        let Some((container, made)) = container.zip(birth(volume)?) else { return Ok(false) };
        if made < container {
            return Ok(false);
        }
        // What is of a time to come was made when the clock was ahead.
        let is_of_this_start = |born| self.since != i128::MIN && (self.since..=now_nanoseconds()).contains(&born);
        for name in files::names(volume)? {
            let file = openat(volume, name, PATH, Mode::empty())?;
            if !birth(file)?.is_some_and(is_of_this_start) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Compares what was in such volumes before this start with `root`, which is verified, if the container never ran. A
/// volume with a name may be anybody's, and its content may be intended.
///
/// # Errors
/// [`Case::O09Tampered`].
pub(super) fn check(
    mounts: &[BindMount],
    root: &Path,
    before: &BeforeStart,
    ran: impl Fn() -> LastStart,
) -> Result<()> {
    for mount in mounts {
        let [source] = mount.sources.as_slice() else { continue };
        if !is_anonymous(source) {
            continue;
        }
        let io = |e: std::io::Error| Refusal::io(source.display().to_string(), e);
        let volume = match files::open_dir(source) {
            Ok(volume) => volume,
            Err(e) if files::no_file(&e).is_some() => continue,
            Err(e) => return Err(io(e)),
        };
        if !before.holds_older(&volume).map_err(io)? || ran() != LastStart::Never {
            continue;
        }
        let image = RootedDir::open(root).and_then(|root| root.dir(&mount.destination));
        let same = match image {
            Ok(image) => is_same(&volume, &image, before.mapped).map_err(io)?,
            // podman fills no volume from something that is not a directory.
            Err(e) if files::no_file(&e).is_some() => false,
            Err(e) => return Err(Refusal::io(mount.destination.display().to_string(), e)),
        };
        if !same {
            let why = format!("{} was filled before this start", source.display());
            return Err(Refusal::new(Case::O09Tampered, mount.destination.display().to_string(), why));
        }
    }
    Ok(())
}

/// Returns whether podman chose the volume's name, as it does for volumes that are removed with their container
/// (libpod, `newVolume`; `stringid.GenerateRandomID`).
fn is_anonymous(source: &Path) -> bool {
    let name = source.parent().and_then(Path::file_name).map(|name| name.as_bytes());
    source.ends_with("_data")
        && name.is_some_and(|name| name.len() == 64 && name.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// Returns whether both directories hold the same, with all that podman's copier takes along. Owners that podman has
/// `mapped` are not compared, and set-ID bits may be missing then, since the kernel removes them when the owner changes.
fn is_same(volume: &OwnedFd, image: &OwnedFd, mapped: bool) -> std::io::Result<bool> {
    let mut todo = vec![PathBuf::from(".")];
    while let Some(path) = todo.pop() {
        let (own, sealed) = (files::open_dir_at(volume, &path)?, files::open_dir_at(image, &path)?);
        let names = files::names(&own)?;
        // Those of the volume itself are what podman makes it.
        let is_within = path != Path::new(".");
        if names != files::names(&sealed)? || (is_within && !has_same_attributes(&own, &sealed)?) {
            return Ok(false);
        }
        for name in names {
            let (a, b) =
                (statat(&own, &name, AtFlags::SYMLINK_NOFOLLOW)?, statat(&sealed, &name, AtFlags::SYMLINK_NOFOLLOW)?);
            let kind = FileType::from_raw_mode(a.st_mode);
            let same = is_same_inode(&a, &b, mapped)
                && match kind {
                    FileType::Symlink => {
                        readlinkat(&own, &name, Vec::new())? == readlinkat(&sealed, &name, Vec::new())?
                    }
                    FileType::RegularFile => {
                        let (own, sealed) = (files::open_file_at(&own, &name)?, files::open_file_at(&sealed, &name)?);
                        has_same_attributes(&own, &sealed)? && is_same_content(&own, &sealed)?
                    }
                    _ => true,
                };
            if !same {
                return Ok(false);
            }
            if kind == FileType::Directory {
                todo.push(path.join(name));
            }
        }
    }
    Ok(true)
}

fn is_same_inode(own: &Stat, sealed: &Stat, mapped: bool) -> bool {
    const GIVES_RIGHTS: u32 = 0o6000;
    let owner = |stat: &Stat| (stat.st_uid, stat.st_gid);
    let size = |stat: &Stat| match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Symlink => stat.st_size,
        _ => 0,
    };
    let same = match mapped {
        true => own.st_mode & !sealed.st_mode == 0 && own.st_mode | GIVES_RIGHTS == sealed.st_mode | GIVES_RIGHTS,
        false => own.st_mode == sealed.st_mode && owner(own) == owner(sealed),
    };
    same && (own.st_rdev, size(own)) == (sealed.st_rdev, size(sealed))
}

fn has_same_attributes(own: &impl AsFd, sealed: &impl AsFd) -> std::io::Result<bool> {
    Ok(copied_attributes(own)? == copied_attributes(sealed)?)
}

fn is_same_content(own: &File, sealed: &File) -> std::io::Result<bool> {
    let (mut left, mut right, mut at) = (vec![0; BLOCK], vec![0; BLOCK], 0);
    loop {
        let (a, b) = (read_block(own, &mut left, at)?, read_block(sealed, &mut right, at)?);
        if left[..a] != right[..b] {
            return Ok(false);
        }
        if a == 0 {
            return Ok(true);
        }
        at += a as u64;
    }
}
