use std::os::fd::OwnedFd;

use super::label::label;
use super::layers::{Lower, OverlayLayers};
use super::overlay::{self, Recipe};
use super::{MountOptions, MountSpec, MountSummary, erofs};
use crate::error::{Case, Refusal, Result};
use crate::prepare::PreparedImage;
use crate::sys::files::check_proc;
use crate::sys::mounts;

/// What somebody else's mount is made of, besides the image. All directories are of mounts that are attached nowhere.
#[derive(Debug)]
pub struct Handed {
    /// The user namespace under whose IDs the image's files are shown.
    pub namespace: OwnedFd,
    /// Where changes go; without it the mount is read-only.
    pub upper: Option<HandedUpper>,
    /// A directory that is shown read-only above the image.
    pub above: Option<OwnedFd>,
    /// The user and group that own the directories: overlayfs makes its own files under them.
    pub owner: (u32, u32),
    /// Whether the upper directory is that of an overlay which a user's podman mounts itself, before this one and
    /// perhaps after it: what this overlay notes in it must mean the same to that one.
    pub native: bool,
    /// Options of the mount; IDs are those of the namespace, and on the upper directory those of the disk.
    pub how: MountOptions,
}

/// The writable part of such a mount.
#[derive(Debug)]
pub struct HandedUpper {
    /// The mount that both directories are on.
    pub mount: OwnedFd,
    /// The directory of changes.
    pub upper: OwnedFd,
    /// Overlayfs's own directory.
    pub work: OwnedFd,
}

/// The overlay over the verified one, as podman of a user mounts it (drivers/overlay): in an unprivileged user namespace
/// overlayfs keeps its notes in attributes of users. The kernel does not combine these with `verity=require`, which the
/// overlay beneath has.
const NATIVE_OPTIONS: &[(&str, &str)] = &[("userxattr", "")];

/// Makes a mount of the image with somebody's own directories, attached nowhere, and says what mountinfo will show of it.
///
/// # Errors
/// [`Case::A13Cannot`] where the IDs cannot be shown, I04–I11.
pub fn handed(image: &PreparedImage, what: Handed) -> Result<(OwnedFd, MountSummary)> {
    check_proc()?;
    let io = |e: std::io::Error| Refusal::io("the caller's directories", e);
    let mut lowers = Vec::new();
    lowers.extend(what.above.map(Lower::Detached));
    for one in image.erofs() {
        let mount = erofs::mount(one, label(what.how.store_label.as_deref())?)?;
        mounts::map_ids(&mount, &what.namespace).map_err(|e| Refusal::new(Case::A13Cannot, "EROFS image", e))?;
        lowers.push(Lower::Detached(mount));
    }
    let data = Some(image.objects().try_clone().map_err(io)?);
    let data_mount = Some(image.objects().try_clone().map_err(io)?);
    // `overlay` is given no upper directory: what a volatile mount left there is for its owner to take away.
    let place = MountSpec { how: what.how, ..MountSpec::read_only(image.description()) };
    let mut layers =
        OverlayLayers { lowers, data, data_mount, upper: None, upper_mount: None, owner: Some(what.owner) };
    if let Some(HandedUpper { mount, upper, work }) = what.upper {
        (layers.upper, layers.upper_mount) = (Some((upper, work)), Some(mount));
    }
    let sealed = Recipe::sealed(image);
    if !what.native {
        return Ok((overlay::make(&layers, &sealed, &place)?, MountSummary::expected(&layers, &sealed)));
    }
    let both = layers.over(|lowers| overlay::make(lowers, &sealed, &MountSpec::read_only(&place.target)))?;
    let native = Recipe { source: image.description(), options: NATIVE_OPTIONS };
    Ok((overlay::make(&both, &native, &place)?, MountSummary::expected(&both, &native)))
}
