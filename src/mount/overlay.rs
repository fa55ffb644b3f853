use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::label::label;
use super::layers::{Lower, OverlayLayers};
use super::private::Private;
use super::{MountOptions, MountSpec, RootDriver, volatile};
use crate::error::{Case, Refusal, Result};
use crate::policy::Verity;
use crate::prepare::PreparedImage;
use crate::sys::files::proc_path;
use crate::sys::mounts::{Configure, is_unsupported};
use crate::sys::userns;

/// What all overlays of one kind have in common.
pub(super) struct Recipe<'a> {
    /// The source that mountinfo shows.
    pub(super) source: &'a str,
    /// Options of overlayfs; one whose value is empty has none.
    pub(super) options: &'a [(&'a str, &'a str)],
}

impl<'a> Recipe<'a> {
    /// Returns the recipe for a sealed image.
    pub(super) fn sealed(image: &'a PreparedImage) -> Self {
        // Linux 6.12 refuses verity=require without metacopy; some later versions imply it.
        let options: &[(&str, &str)] = match image.mode() {
            Verity::Require => &[("metacopy", "on"), ("redirect_dir", "on"), ("verity", "require")],
            Verity::Off => &[("metacopy", "on"), ("redirect_dir", "on")],
        };
        Self { source: image.description(), options }
    }
}

/// Makes the overlay, attached nowhere.
pub(super) fn make(layers: &OverlayLayers, recipe: &Recipe<'_>, place: &MountSpec) -> Result<OwnedFd> {
    // The directory as it was given, not one with mapped IDs.
    let upper = place.upper.as_ref().filter(|_| layers.upper.is_some());
    if let Some(upper) = upper.filter(|_| place.how.volatile) {
        volatile::clear(&upper.work)?;
    }
    let overlay = match assemble(layers, recipe, &place.how, LayerNaming::Descriptors) {
        // Linux 6.12 takes no descriptors, and no mount as a layer that is attached nowhere.
        Err((Errno::INVAL | Errno::BADF, _)) => {
            let _attached = attach(layers)?;
            assemble(layers, recipe, &place.how, LayerNaming::Paths)
        }
        other => other,
    };
    overlay.map_err(|(e, log)| match upper {
        Some(upper) if e == Errno::INVAL && volatile::is_left(&upper.work) => {
            Refusal::new(Case::I11Volatile, upper.path.display().to_string(), e)
        }
        // The kernel makes directories in the work directory.
        Some(upper) if matches!(e, Errno::NOSPC | Errno::DQUOT | Errno::ROFS) => {
            Refusal::io(upper.path.display().to_string(), e)
        }
        _ => refuse(e, &log),
    })
}

/// Gives every mount a path until the overlay is made.
fn attach(layers: &OverlayLayers) -> Result<Private> {
    let private = Private::new()?;
    let detached = layers.lowers.iter().filter_map(|l| match l {
        Lower::Detached(mount) => Some(mount),
        Lower::Directory(_) => None,
    });
    for mount in detached.chain(&layers.upper_mount).chain(&layers.data_mount) {
        private.attach(mount)?;
    }
    Ok(private)
}

/// How overlayfs is told which layers it has.
#[derive(Clone, Copy)]
enum LayerNaming {
    Descriptors,
    /// By paths of the same descriptors, in `/proc/self/fd`.
    Paths,
}

impl LayerNaming {
    fn add(self, overlay: &Configure, key: &str, fd: impl std::os::fd::AsFd) -> rustix::io::Result<()> {
        let fd = fd.as_fd();
        match self {
            Self::Descriptors => overlay.fd(key, fd),
            Self::Paths => overlay.string(key, &proc_path(&fd)),
        }
    }
}

type Attempt<T> = std::result::Result<T, (Errno, String)>;

fn assemble(layers: &OverlayLayers, recipe: &Recipe<'_>, how: &MountOptions, names: LayerNaming) -> Attempt<OwnedFd> {
    let label = label(how.context.as_deref()).map_err(|r| (Errno::ILSEQ, r.to_string()))?;
    let overlay = Configure::open("overlay").map_err(|e| (e, String::new()))?;
    let configure = || {
        overlay.string("source", recipe.source)?;
        recipe.options.iter().try_for_each(|(key, value)| match value.is_empty() {
            true => overlay.flag(key),
            false => overlay.string(key, value),
        })?;
        layers.lowers.iter().try_for_each(|l| names.add(&overlay, "lowerdir+", l))?;
        layers.data.iter().try_for_each(|d| names.add(&overlay, "datadir+", d))?;
        if let Some((upper, work)) = &layers.upper {
            names.add(&overlay, "upperdir", upper)?;
            names.add(&overlay, "workdir", work)?;
            if how.volatile {
                overlay.flag("volatile")?;
            }
        }
        if let Some(label) = &label {
            overlay.string("context", label)?;
        }
        create(&overlay, layers)?;
        overlay.mount(attributes(how, layers.upper.is_none()))
    };
    configure().map_err(|e| (e, overlay.log()))
}

/// Makes the overlay's filesystem. Overlayfs keeps our credentials, and makes its own files under our IDs: where these
/// IDs belong to no user on the upper directory, the container's root must take their place.
///
/// Without the right to open files by their handles it does not note of a file that it copies up which file that was,
/// and so never writes what it writes for containers-storage (fs/overlayfs, `ovl_can_decode_fh`).
fn create(overlay: &Configure, layers: &OverlayLayers) -> rustix::io::Result<()> {
    let of = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::PERM);
    let create = || userns::without_handles(|| overlay.create()).map_err(of)?;
    match layers.owner {
        Some((uid, gid)) if layers.upper.is_some() => userns::with_file_owner(uid, gid, create).map_err(of)?,
        _ => create(),
    }
}

fn attributes(how: &MountOptions, read_only: bool) -> MountAttrFlags {
    let mut flags = MountAttrFlags::empty();
    // Beneath fuse-overlayfs only that program sees the mount.
    flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, !how.dev || how.top == RootDriver::FuseOverlayfs);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOSUID, how.nosuid);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, how.noexec);
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    flags
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
