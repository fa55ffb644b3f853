//! In the place of an overlay that containers-storage made itself, with the upper directory that it goes on
//! to read and write in its own way.
//!
//! It takes an entry of the upper directory for what it is, unless it knows of `metacopy`: so none may be
//! left there that holds metadata only. Linux 6.12 has no `verity=require` that leaves none; there the
//! container has a second overlay over the verified one, which copies all.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::layers::Layers;
use super::overlay::{self, Recipe};
use super::{Mounted, Place, Shows};
use crate::policy::Verity;
use crate::prepare::PreparedImage;
use crate::report::{Case, Refusal, Result};
use crate::sys::files;
use crate::sys::mounts::{self, Identity};

/// An overlay that is to go.
#[derive(Clone, Copy, Debug)]
pub struct Instead {
    /// Which one it is: no other is taken away.
    pub mount: Identity,
    /// Its owner knows of upper entries that hold metadata only.
    pub metacopy: bool,
}

/// The first version seen to take `verity=require` with `metacopy=off`, and to find the data all the same;
/// which one it was in truth is no matter, for older ones there are two overlays.
const ONE_OVERLAY: (u32, u32) = (6, 18);

/// The name of the target in its layer's directory, which [`Place::at`] is here.
const TARGET: &str = "merged";

pub(super) fn put(image: &PreparedImage, place: &Place, instead: &Instead) -> Result<Mounted> {
    let shown = || place.target.display().to_string();
    let layers = Layers::sealed(image, place)?;
    let home = place.at.as_ref().ok_or_else(|| Refusal::new(Case::Bug, shown(), "its directory is not open"))?;
    let top = identify(home, place)?;
    if top != instead.mount {
        return Err(Refusal::new(Case::O03OtherMount, shown(), "it was mounted again meanwhile"));
    }
    // Two overlays over one upper directory damage it: the other goes first, and it is gone, not only out
    // of sight.
    mounts::unmount_in(home, TARGET).map_err(|e| {
        let why = if e == Errno::BUSY { "something uses the container's mount".to_owned() } else { e.to_string() };
        Refusal::new(Case::O06Swap, shown(), why)
    })?;
    if identify(home, place)?.is_root {
        return Err(Refusal::new(Case::O03OtherMount, shown(), "another mount lies beneath it"));
    }
    let (overlay, shows) = make(image, layers, place, instead)?;
    let identity = mounts::identify(&overlay).map_err(|e| Refusal::new(Case::I09Kernel, shown(), e))?;
    let target = target(home, place)?;
    mounts::attach(&overlay, &target).map_err(|e| Refusal::new(Case::I05Attach, shown(), e))?;
    Ok(Mounted::new(true, identity, shows))
}

fn make(image: &PreparedImage, layers: Layers, place: &Place, instead: &Instead) -> Result<(OwnedFd, Shows)> {
    let sealed = Recipe::sealed(image);
    if instead.metacopy {
        return Ok((overlay::make(&layers, &sealed, place)?, Shows::expected(&layers, &sealed)));
    }
    if image.mode() == Verity::Require && mounts::kernel_version() >= ONE_OVERLAY {
        let options = [("metacopy", "off"), ("redirect_dir", "nofollow"), ("verity", "require")];
        let one = Recipe { source: sealed.source, options: &options };
        return Ok((overlay::make(&layers, &one, place)?, Shows::expected(&layers, &one)));
    }
    // What is asked of the whole is asked of the one that is seen.
    let both = layers.over(|lowers| overlay::make(lowers, &sealed, &Place::read_only(&place.target)))?;
    let plain = Recipe { source: image.description(), options: &[("metacopy", "off"), ("redirect_dir", "nofollow")] };
    Ok((overlay::make(&both, &plain, place)?, Shows::expected(&both, &plain)))
}

fn target(home: &OwnedFd, place: &Place) -> Result<OwnedFd> {
    files::open_path_at(home, TARGET).map_err(|e| Refusal::new(Case::A08Target, place.target.display().to_string(), e))
}

fn identify(home: &OwnedFd, place: &Place) -> Result<Identity> {
    let refuse = |e| Refusal::new(Case::I09Kernel, place.target.display().to_string(), e);
    mounts::identify(target(home, place)?).map_err(refuse)
}
