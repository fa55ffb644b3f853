//! One overlay over measured EROFS images, made detached and put in its place last.
//!
//! ```text
//! EROFS (the measured descriptor) ─► lowerdir+ ─┐
//! objects of the vault ────────────► datadir+ ──┼─► overlay, verity=require ─► target
//! upper, work ──────────────────────────────────┘
//! ```

mod erofs;
mod overlay;

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::prepare::PreparedImage;
use crate::report::{Case, Refusal, Result};
use crate::sys::mounts;

/// Where and how.
#[derive(Clone, Debug)]
pub struct Place {
    /// The directory to mount on.
    pub target: PathBuf,
    /// Upper and work directory; without them the mount is read-only.
    pub upper: Option<(PathBuf, PathBuf)>,
}

/// A mount that is in its place.
#[derive(Debug)]
pub struct Mounted {
    /// False when the same image was mounted there already.
    pub fresh: bool,
}

/// Mounts `image`. On any failure nothing is mounted, and no loop device or directory is left.
///
/// # Errors
/// I04–I11.
pub fn mount(image: &PreparedImage, place: &Place) -> Result<Mounted> {
    let shown = place.target.display().to_string();
    let target = mounts::open_target(&place.target).map_err(|e| match e {
        Errno::LOOP | Errno::NOTDIR => {
            Refusal::new(Case::Usage, &shown, "the target must be a directory and no symlink")
        }
        e => Refusal::new(Case::Usage, &shown, e),
    })?;
    if already(image, place)? {
        return Ok(Mounted { fresh: false });
    }
    let overlay = overlay::overlay(image, place)?;
    mounts::attach(&overlay, &target).map_err(|e| Refusal::new(Case::I05Attach, shown, e))?;
    Ok(Mounted { fresh: true })
}

/// Whether the same read-only image is mounted there.
fn already(image: &PreparedImage, place: &Place) -> Result<bool> {
    let Some(top) = on_top(&place.target)? else { return Ok(false) };
    let same = top.kind == "overlay" && top.source == image.description();
    // Another upper directory is another container: never shared by accident.
    let upper = top.super_options.iter().any(|o| o.starts_with("upperdir="));
    let requires = top.super_options.iter().any(|o| o == "verity=require");
    let wanted = image.mode() == crate::prepare::VerityMode::Require;
    if same && !upper && place.upper.is_none() && requires == wanted {
        return Ok(true);
    }
    Err(Refusal::new(Case::I06Mounted, place.target.display().to_string(), format!("{} {}", top.kind, top.source)))
}

fn on_top(target: &Path) -> Result<Option<mounts::MountInfo>> {
    let real = std::fs::canonicalize(target).map_err(|e| Refusal::new(Case::Usage, target.display().to_string(), e))?;
    let all = mounts::mountinfo().map_err(|e| Refusal::io("/proc/self/mountinfo", e))?;
    Ok(all.into_iter().rev().find(|m| Path::new(&m.target) == real))
}

/// Unmounts an image that was mounted by us, and nothing else.
///
/// # Errors
/// [`Case::I06Mounted`] when something else or nothing is mounted there, [`Case::I05Attach`] when it
/// is in use.
pub fn unmount(target: &Path) -> Result<()> {
    let shown = target.display().to_string();
    let top = on_top(target)?.ok_or_else(|| Refusal::new(Case::I06Nothing, &shown, ""))?;
    if top.kind != "overlay" || !top.source.starts_with("composefs:") {
        return Err(Refusal::new(Case::I06Mounted, shown, format!("{} {}", top.kind, top.source)));
    }
    mounts::unmount_now(Path::new(&top.target)).map_err(|e| Refusal::new(Case::I05Attach, shown, e))
}
