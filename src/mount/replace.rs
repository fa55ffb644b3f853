//! A mount that replaces an overlay of containers-storage's own, with the upper directory that containers-storage goes
//! on reading and writing in its own way.
//!
//! containers-storage takes an entry of the upper directory for what it is, unless it knows of `metacopy`: so no entry
//! that holds metadata only may be left there. Linux 6.12 has no `verity=require` that leaves none; there the container
//! has a second overlay over the verified one, which copies whole files.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;

use super::layers::OverlayLayers;
use super::overlay::{self, Recipe};
use super::{MountSpec, MountSummary, Mounted};
use crate::error::{Case, Refusal, Result};
use crate::policy::Verity;
use crate::prepare::PreparedImage;
use crate::sys::files;
use crate::sys::mounts::{self, MountId};

/// An overlay that is to be replaced.
#[derive(Clone, Copy, Debug)]
pub struct ReplacedMount {
    /// Which overlay it is: no other is taken away.
    pub mount: MountId,
    /// Its owner knows of upper entries that hold metadata only.
    pub metacopy: bool,
}

impl ReplacedMount {
    /// Takes the overlay away, whose layer's directory is `home`; `target` is for messages. Two overlays over one upper
    /// directory damage it: so this one goes first, and is really gone, not only out of sight.
    ///
    /// # Errors
    /// [`Case::O06Swap`] if something uses it, [`Case::O03OtherMount`] if it is not the one that lies there, or not the
    /// only one.
    pub fn remove(&self, home: &OwnedFd, target: &Path) -> Result<()> {
        let shown = || target.display().to_string();
        if identify(home, target)? != self.mount {
            return Err(Refusal::new(Case::O03OtherMount, shown(), "it was mounted again meanwhile"));
        }
        mounts::unmount_in(home, TARGET).map_err(|e| {
            let why = if e == Errno::BUSY { "something uses the container's mount".to_owned() } else { e.to_string() };
            Refusal::new(Case::O06Swap, shown(), why)
        })?;
        match identify(home, target)?.is_root {
            true => Err(Refusal::new(Case::O03OtherMount, shown(), "another mount lies beneath it")),
            false => Ok(()),
        }
    }
}

/// The first version seen to take `verity=require` with `metacopy=off`, and to find the data all the same; it does not
/// matter which version really was the first, for older ones there are two overlays.
const ONE_OVERLAY: (u32, u32) = (6, 18);

/// The name of the target in its layer's directory, which [`MountSpec::at`] is here.
const TARGET: &str = "merged";

pub(super) fn put(image: &PreparedImage, place: &MountSpec, instead: &ReplacedMount) -> Result<Mounted> {
    let shown = || place.target.display().to_string();
    let layers = OverlayLayers::sealed(image, place)?;
    let home = place.at.as_ref().ok_or_else(|| Refusal::new(Case::Bug, shown(), "its directory is not open"))?;
    instead.remove(home, &place.target)?;
    let (overlay, shows) = make(image, layers, place, instead)?;
    let identity = mounts::identify(&overlay).map_err(|e| Refusal::new(Case::I09Kernel, shown(), e))?;
    let target = target(home, &place.target)?;
    mounts::attach(&overlay, &target).map_err(|e| Refusal::new(Case::I05Attach, shown(), e))?;
    Ok(Mounted::new(true, identity, shows))
}

fn make(
    image: &PreparedImage,
    layers: OverlayLayers,
    place: &MountSpec,
    instead: &ReplacedMount,
) -> Result<(OwnedFd, MountSummary)> {
    let sealed = Recipe::sealed(image);
    if instead.metacopy {
        return Ok((overlay::make(&layers, &sealed, place)?, MountSummary::expected(&layers, &sealed)));
    }
    if image.mode() == Verity::Require && mounts::kernel_version() >= ONE_OVERLAY {
        let options = [("metacopy", "off"), ("redirect_dir", "nofollow"), ("verity", "require")];
        let one = Recipe { source: sealed.source, options: &options };
        return Ok((overlay::make(&layers, &one, place)?, MountSummary::expected(&layers, &one)));
    }
    // The upper overlay, which is the one that is seen, gets what was asked for the whole.
    let both = layers.over(|lowers| match image.shown().get() {
        // What podman wrote was compared with the same.
        Some(shown) if place.above.is_none() && !place.how.maps_ids() => {
            shown.try_clone().map_err(|e| Refusal::io("the image alone", e))
        }
        _ => overlay::make(lowers, &sealed, &MountSpec::read_only(&place.target)),
    })?;
    let plain = Recipe { source: image.description(), options: &[("metacopy", "off"), ("redirect_dir", "nofollow")] };
    Ok((overlay::make(&both, &plain, place)?, MountSummary::expected(&both, &plain)))
}

fn target(home: &OwnedFd, shown: &Path) -> Result<OwnedFd> {
    files::open_path_at(home, TARGET).map_err(|e| Refusal::new(Case::A08Target, shown.display().to_string(), e))
}

fn identify(home: &OwnedFd, shown: &Path) -> Result<MountId> {
    mounts::identify(target(home, shown)?).map_err(|e| Refusal::new(Case::I09Kernel, shown.display().to_string(), e))
}
