use std::os::fd::OwnedFd;

use composefs_ioctls::loop_device::{flags, loopify_with_flags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::error::{Case, Refusal, Result};
use crate::prepare::MeasuredErofs;
use crate::sys::files::proc_path;
use crate::sys::mounts::{self, Configure, is_unsupported};

/// `COMPOSEFS_FLAGS_HAS_ACL`, bit 0 of the flags word of the composefs header.
const HAS_ACL: u32 = 1;

/// The first version tried with one such mount beneath two overlays; older ones give it a path for a moment, after which it
/// cannot be a layer again.
pub(super) const SEVERAL_OVERLAYS: (u32, u32) = (6, 18);

/// Does what [`mount`] does, for overlays only: without a label several of them have the same mount.
pub(super) fn layer(image: &MeasuredErofs, label: Option<&str>) -> Result<OwnedFd> {
    if label.is_some() || mounts::kernel_version() < SEVERAL_OVERLAYS {
        return mount(image, label);
    }
    let kept = image.mounted().get_or_make(|| mount(image, None))?;
    kept.try_clone().map_err(|e| Refusal::io("EROFS image", e))
}

/// Mounts the measured descriptor, read-only and attached nowhere. Everything in it has the given SELinux label: the
/// image has none.
pub(super) fn mount(image: &MeasuredErofs, label: Option<&str>) -> Result<OwnedFd> {
    match from_file(image, &proc_path(image.file()), label) {
        // Linux before 6.12 mounts block devices only; so does 6.12 for files on some filesystems.
        Err((Errno::NOTBLK, _)) => {
            let device = loop_device(image)?;
            from_file(image, &proc_path(&device), label).map_err(|(e, log)| refuse(e, &log))
        }
        other => other.map_err(|(e, log)| refuse(e, &log)),
    }
}

fn from_file(
    image: &MeasuredErofs,
    source: &str,
    label: Option<&str>,
) -> std::result::Result<OwnedFd, (Errno, String)> {
    let erofs = Configure::open("erofs").map_err(|e| (e, String::new()))?;
    let configure = || {
        erofs.flag("ro")?;
        erofs.string("source", source)?;
        if !has_acl(image) {
            // Without ACLs in the image the kernel need not look for them at every access.
            erofs.flag("noacl")?;
        }
        if let Some(label) = label {
            erofs.string("context", label)?;
        }
        erofs.create()?;
        erofs.mount(
            MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID,
        )
    };
    configure().map_err(|e| (e, erofs.log()))
}

/// Returns whether a file of the image has an ACL, by the flags of the composefs header. That header stands before the
/// EROFS superblock: magic, version, flags.
fn has_acl(image: &MeasuredErofs) -> bool {
    use std::os::unix::fs::FileExt as _;
    let mut flags = [0; 4];
    image.file().read_exact_at(&mut flags, 8).is_err() || u32::from_le_bytes(flags) & HAS_ACL != 0
}

fn loop_device(image: &MeasuredErofs) -> Result<OwnedFd> {
    // Auto-clear: the device goes away with its last user, whatever happens to us.
    loopify_with_flags(image.file(), flags::LO_FLAGS_READ_ONLY | flags::LO_FLAGS_AUTOCLEAR)
        .map_err(|e| Refusal::new(Case::I04Erofs, "loop device", e))
}

fn refuse(e: Errno, log: &str) -> Refusal {
    let why = if log.is_empty() { e.to_string() } else { format!("{e}: {log}") };
    let case = match e {
        // The superblock's block is not what fs-verity expects, although the file still measures right.
        Errno::IO => Case::G05Damaged,
        e if is_unsupported(e) => Case::I09Kernel,
        _ => Case::I04Erofs,
    };
    Refusal::new(case, "EROFS image", why)
}
