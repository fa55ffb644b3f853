use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::MountAttrFlags;

use crate::report::{Case, Refusal, Result};
use crate::sys::files;
use crate::sys::mounts::{self, Configure};

/// Root's own directory, on a tmpfs that is gone after a reboot.
pub(super) const BASE: &str = "/run/layerseal";
const PREFIX: &str = "private.";

/// A tmpfs on a directory of its own, for mounts that must have a path for a moment. Nothing in it
/// shows in other mount namespaces, and all of it goes away with this value.
pub(super) struct Private {
    dir: tempfile::TempDir,
    count: std::cell::Cell<usize>,
}

impl Private {
    pub(super) fn new() -> Result<Self> {
        let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::I05Attach, "temporary mount point", e);
        make_base().map_err(|e| refuse(&e))?;
        sweep();
        let prefix = format!("{PREFIX}{}.", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(BASE).map_err(|e| refuse(&e))?;
        let private = Self { dir, count: 0.into() };
        private.enclose().map_err(|e| refuse(&e))?;
        Ok(private)
    }

    fn enclose(&self) -> rustix::io::Result<()> {
        let tmpfs = Configure::open("tmpfs")?;
        tmpfs.string("source", "layerseal:private")?;
        tmpfs.string("mode", "0700")?;
        tmpfs.create()?;
        let mount = tmpfs.mount(MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID)?;
        mounts::attach(&mount, mounts::open_target(self.dir.path())?)?;
        // On a shared parent it has just become shared itself.
        mounts::make_private(&mount)
    }

    /// Attaches the detached `mount`, and says where.
    pub(super) fn attach(&self, mount: impl AsFd) -> Result<PathBuf> {
        let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::I05Attach, "temporary mount point", e);
        let path = self.dir.path().join(self.count.get().to_string());
        self.count.set(self.count.get() + 1);
        std::fs::create_dir(&path).map_err(|e| refuse(&e))?;
        let target: OwnedFd = mounts::open_target(&path).map_err(|e| refuse(&e))?;
        mounts::attach(mount, &target).map_err(|e| refuse(&e))?;
        Ok(path)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // What still uses the mounts holds them; their names in the tree are no longer needed.
        match mounts::detach(self.dir.path()) {
            // It was never mounted.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(e) => log::warn!("{}: {e}", self.dir.path().display()),
        }
    }
}

/// Makes [`BASE`] where it is missing.
pub(super) fn make_base() -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(BASE)
}

/// Opens the directory `name` beneath `/run/layerseal`, and makes it where it is missing; for root only.
///
/// # Errors
/// The kernel's; one of its own where the directory is another user's.
pub fn runtime_dir(name: &str) -> std::io::Result<OwnedFd> {
    use rustix::fs::{Mode, fchmod, fstat};
    make_base()?;
    let base = files::open_dir(Path::new(BASE))?;
    let dir = files::make_dir_at(&base, name)?;
    for one in [&base, &dir] {
        let stat = fstat(one)?;
        if stat.st_uid != 0 || (stat.st_mode & 0o022 != 0 && std::ptr::eq(one, &base)) {
            return Err(std::io::Error::other(format!("{BASE}: others than root can write to it")));
        }
    }
    // A directory that somebody made before with another mode.
    fchmod(&dir, Mode::RWXU)?;
    Ok(dir)
}

/// Takes away what a process that was killed in between has left.
fn sweep() {
    for entry in std::fs::read_dir(BASE).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner =
            name.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next()).and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = mounts::detach(&entry.path());
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}
