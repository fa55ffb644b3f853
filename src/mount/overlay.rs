use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::{Place, erofs};
use crate::prepare::{PreparedImage, VerityMode};
use crate::report::{Case, Refusal, Result};
use crate::sys::files::proc_path;
use crate::sys::mounts::{self, Configure, is_unsupported};

/// Makes the overlay, attached nowhere.
pub(super) fn overlay(image: &PreparedImage, place: &Place) -> Result<OwnedFd> {
    let lowers = image.erofs().iter().map(erofs::mount).collect::<Result<Vec<_>>>()?;
    match assemble(image, place, &Lowers::Detached(&lowers)) {
        // Linux 6.12 takes no mount as a layer that is attached nowhere.
        Err((Errno::INVAL | Errno::BADF, _)) => {
            let attached = lowers.iter().map(Attached::new).collect::<Result<Vec<_>>>()?;
            assemble(image, place, &Lowers::Attached(&attached)).map_err(|(e, log)| refuse(e, &log))
        }
        other => other.map_err(|(e, log)| refuse(e, &log)),
    }
}

enum Lowers<'a> {
    Detached(&'a [OwnedFd]),
    Attached(&'a [Attached]),
}

type Attempt<T> = std::result::Result<T, (Errno, String)>;

fn assemble(image: &PreparedImage, place: &Place, lowers: &Lowers<'_>) -> Attempt<OwnedFd> {
    let overlay = Configure::open("overlay").map_err(|e| (e, String::new()))?;
    let configure = || {
        overlay.string("source", image.description())?;
        // Linux 6.12 refuses verity=require without it, later ones imply it or not.
        overlay.string("metacopy", "on")?;
        overlay.string("redirect_dir", "on")?;
        if image.mode() == VerityMode::Require {
            overlay.string("verity", "require")?;
        }
        match lowers {
            Lowers::Detached(mounts) => mounts.iter().try_for_each(|m| overlay.fd("lowerdir+", m))?,
            Lowers::Attached(points) => {
                points.iter().try_for_each(|p| overlay.string("lowerdir+", &p.path.to_string_lossy()))?
            }
        }
        match lowers {
            Lowers::Detached(_) => overlay.fd("datadir+", image.objects())?,
            Lowers::Attached(_) => overlay.string("datadir+", &proc_path(image.objects()))?,
        }
        if let Some((upper, work)) = &place.upper {
            for (key, path) in [("upperdir", upper), ("workdir", work)] {
                match lowers {
                    Lowers::Detached(_) => overlay.fd(key, mounts::open_target(path)?)?,
                    Lowers::Attached(_) => overlay.string(key, &escaped(path))?,
                }
            }
        }
        overlay.create()?;
        let read_only = if place.upper.is_none() { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
        overlay.mount(MountAttrFlags::MOUNT_ATTR_NODEV | read_only)
    };
    configure().map_err(|e| (e, overlay.log()))
}

/// Overlayfs takes a backslash in these two options for an escape (fs/overlayfs/params.c).
fn escaped(path: &std::path::Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\")
}

fn refuse(e: Errno, log: &str) -> Refusal {
    let why = if log.is_empty() { e.to_string() } else { format!("{e}: {log}") };
    let case = match e {
        Errno::BUSY => Case::I07Busy,
        // 6.6 and older know neither lowerdir+ nor verity=.
        _ if is_unsupported(e) || log.contains("nknown parameter") => Case::I09Kernel,
        _ => Case::I11Overlay,
    };
    Refusal::new(case, "overlay", why)
}

/// An EROFS mount on a private directory that exists only until the overlay does.
struct Attached {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

/// Root's own directory for it, on a tmpfs that is gone after a reboot.
const BASE: &str = "/run/layerseal";
const PREFIX: &str = "erofs.";

impl Attached {
    fn new(mount: &OwnedFd) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::I04Erofs, "temporary mount point", e);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(BASE).map_err(|e| refuse(&e))?;
        sweep();
        let prefix = format!("{PREFIX}{}.", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(BASE).map_err(|e| refuse(&e))?;
        let target = mounts::open_target(dir.path()).map_err(|e| refuse(&e))?;
        mounts::attach(mount, &target).map_err(|e| refuse(&e))?;
        Ok(Self { path: dir.path().to_owned(), _dir: dir })
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // The overlay holds the filesystem; the name in the tree is no longer needed.
        if let Err(e) = mounts::detach(&self.path) {
            log::warn!("{}: {e}", self.path.display());
        }
    }
}

/// Takes away what a process that was killed in between has left.
fn sweep() {
    for entry in std::fs::read_dir(BASE).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner =
            name.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next()).and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = mounts::detach(&entry.path());
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}
