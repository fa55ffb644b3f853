//! Files that were changed while podman read them. A layer's file may have another name, in a volume, by which a container
//! writes it: one thing for podman, and what is sealed for whoever looks next. The kernel keeps when that was.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Stat, StatxAttributes, StatxFlags, statx};

use crate::sys::files;

/// How long is waited for fs-verity on a file that was changed: who makes an image ready gives a file another name first,
/// which counts as a change.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// What tells a file that was changed from others.
pub(super) struct ReadSince {
    /// When podman mounted the root, in nanoseconds since 1970; `i128::MAX` if changes do not matter.
    since: i128,
    /// The root as the kernel names it, and the container's upper directory, into which podman has written itself.
    places: Option<(PathBuf, PathBuf)>,
}

impl ReadSince {
    /// Of a root that is verified, or whose files nothing protects in any case.
    pub(super) const ANY: Self = Self { since: i128::MAX, places: None };

    /// Makes one for a root, with its upper directory if it has one, that podman has read since then.
    pub(super) fn new(since: i128, root: PathBuf, upper: Option<PathBuf>) -> Self {
        Self { since, places: upper.map(|upper| (root, upper)) }
    }

    /// Returns whether the file `name` in `dir`, or `dir` itself if that is empty, was changed since then by anybody but
    /// podman. Not a directory, which has one name; nor a file with fs-verity, which nobody can write.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn has_changed(&self, dir: impl AsFd, name: &OsStr, stat: &Stat) -> std::io::Result<bool> {
        let changed = i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec);
        if changed < self.since || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(false);
        }
        if self.is_podmans(&dir, name)? {
            return Ok(false);
        }
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
            if statx(&dir, name, flags, StatxFlags::MODE)?.stx_attributes.contains(StatxAttributes::VERITY) {
                return Ok(false);
            }
            std::thread::sleep(PAUSE);
        }
        Ok(true)
    }

    fn is_podmans(&self, dir: impl AsFd, name: &OsStr) -> std::io::Result<bool> {
        let Some((root, upper)) = &self.places else { return Ok(false) };
        let opened = std::fs::read_link(files::proc_path(&dir.as_fd()))?;
        let path = if name.is_empty() { opened } else { opened.join(name) };
        Ok(path.strip_prefix(root).is_ok_and(|within| upper.join(within).symlink_metadata().is_ok()))
    }
}
