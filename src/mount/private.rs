use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::mount::MountAttrFlags;

use crate::error::{Case, Refusal, Result};
use crate::state::{self, RUN};
use crate::sys::mounts::{self, Configure};
use crate::sys::process;

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
        state::make_base(RUN).map_err(|e| refuse(&e))?;
        sweep();
        let prefix = format!("{PREFIX}{}.", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(RUN).map_err(|e| refuse(&e))?;
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
        // On a shared parent the mount has just become shared itself.
        mounts::make_private(&mount)
    }

    /// Attaches the detached `mount`, and returns its path.
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
        // Users of the mounts hold them; their names in the tree are no longer needed.
        match mounts::detach(self.dir.path()) {
            // It was never mounted.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(e) => log::warn!("{}: {e}", self.dir.path().display()),
        }
    }
}

/// Takes away what a process has left that was killed meanwhile.
fn sweep() {
    for entry in std::fs::read_dir(RUN).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next()?.parse().ok());
        if owner.is_some_and(process::has_ended) {
            let _ = mounts::detach(&entry.path());
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}
