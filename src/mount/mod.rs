//! One overlay over measured EROFS images, made detached and put in its place last.
//!
//! ```text
//! EROFS (the measured descriptor) ─► lowerdir+ ─┐
//! objects of the vault ────────────► datadir+ ──┼─► overlay, verity=require ─► target
//! upper, work ──────────────────────────────────┘
//! ```
//!
//! Where the container has a map of IDs, EROFS, upper and work are idmapped mounts: on the disk are the
//! container's own IDs, as fuse-overlayfs leaves them.

mod again;
mod erofs;
mod fuse;
mod idmap;
mod layers;
mod overlay;
mod private;
mod record;
mod replace;
mod shows;
mod volatile;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

pub use crate::policy::Top;
pub use fuse::{hand_on, is_installed as has_fuse_overlayfs};
pub use record::{AboutImage, Kind, Record, WouldRefuse, keep, live, of_device, sweep as sweep_records, write};
pub use replace::Instead;
pub use shows::Shows;

use crate::invoke::IdMapping;
use crate::policy::Verity;
use crate::prepare::PreparedImage;
use crate::report::{Case, Refusal, Result};
use crate::sys::files::check_proc;
use crate::sys::mounts::{self, Identity};
use crate::verify::Waiver;
use again::OnTop;
use layers::Layers;
use overlay::Recipe;

/// The source of a plain overlay, as mountinfo shows it.
pub const PLAIN: &str = "layerseal:plain";

/// Where and how.
#[derive(Debug)]
pub struct Place {
    /// The directory to mount on; no symlink.
    pub target: PathBuf,
    /// The same directory, open, where its path is not to be gone again: what lies on that path may have
    /// been changed since.
    pub at: Option<OwnedFd>,
    /// Where changes go; without it the mount is read-only.
    pub upper: Option<Upper>,
    /// A directory shown read-only above the image: the changes of a container whose differences to
    /// its image are asked for. Only without [`Self::upper`].
    pub above: Option<OwnedFd>,
    /// What the mount is to be like.
    pub how: How,
    /// An overlay that lies there, and that this one is to take the place of.
    pub instead: Option<Instead>,
}

impl Place {
    /// A read-only mount on `target`, without anything particular.
    pub fn read_only(target: impl Into<PathBuf>) -> Self {
        Self { target: target.into(), at: None, upper: None, above: None, how: How::default(), instead: None }
    }
}

/// The writable part.
#[derive(Debug)]
pub struct Upper {
    /// The directory of changes, open.
    pub upper: OwnedFd,
    /// Overlayfs's own directory, open: beside the other, on the same filesystem.
    pub work: OwnedFd,
    /// The path of `upper`, for messages and records.
    pub path: PathBuf,
}

/// What a mount is to be like.
#[derive(Debug, Default)]
pub struct How {
    /// Under which user IDs files are shown.
    pub uids: IdMapping,
    /// Under which group IDs.
    pub gids: IdMapping,
    /// The SELinux label of everything, where SELinux is enabled.
    pub context: Option<OsString>,
    /// Changes need not survive a power cut.
    pub volatile: bool,
    /// Device nodes work; they do not unless this is set.
    pub dev: bool,
    /// Set-user-ID bits and file capabilities do nothing.
    pub nosuid: bool,
    /// Nothing can be executed.
    pub noexec: bool,
    /// What is mounted on the target.
    pub top: Top,
    /// Directories that are shown as they are hold whiteouts that the kernel's overlay does not know (`.wh.NAME`):
    /// fuse-overlayfs is to show them, where there is one.
    pub aufs: bool,
}

/// A mount that is in its place.
#[derive(Clone, Copy, Debug)]
pub struct Mounted {
    /// False when the same image was mounted there already.
    pub fresh: bool,
    /// Major and minor number of the filesystem.
    pub device: (u32, u32),
    /// The mount's number: never given twice since Linux 6.8, that of mountinfo before.
    pub id: u64,
    /// What mountinfo shows of what it is made of.
    pub shows: Shows,
}

impl Mounted {
    fn new(fresh: bool, identity: Identity, shows: Shows) -> Self {
        Self { fresh, device: identity.device, id: identity.id, shows }
    }
}

/// Mounts `image`. On any failure nothing is mounted, and no loop device, directory or process is left.
///
/// # Errors
/// A08, A13, I04–I11, J03.
pub fn mount(image: &PreparedImage, place: &Place) -> Result<Mounted> {
    let target = open(place)?;
    if let Some(instead) = &place.instead {
        return replace::put(image, place, instead);
    }
    if let Some(top) = already(image, place, &target)? {
        return Ok(Mounted::new(false, top.identity, Shows::of(&top.info)));
    }
    let layers = Layers::sealed(image, place)?;
    put(layers, &Recipe::sealed(image), place, &target)
}

/// The image alone, to be looked at: read-only, attached nowhere, under the IDs that `how` says.
///
/// # Errors
/// As [`mount`].
pub fn view(image: &PreparedImage, how: &How) -> Result<OwnedFd> {
    check_proc()?;
    let (uids, gids) = (how.uids.clone(), how.gids.clone());
    let place = Place { how: How { uids, gids, ..How::default() }, ..Place::read_only(image.description()) };
    overlay::make(&Layers::sealed(image, &place)?, &Recipe::sealed(image), &place)
}

/// Mounts somebody's directories, `lowers`, uppermost first, as they are: nobody vouches for them, and
/// the mount's source says so.
///
/// # Errors
/// A08, A13, I05–I11, J03.
pub fn plain(waiver: &Waiver, lowers: Vec<OwnedFd>, place: &Place) -> Result<Mounted> {
    let target = open(place)?;
    if let Some(there) = again::on_top(&target, &place.target)? {
        return Err(there.refuse());
    }
    log::debug!("{}: a plain overlay: {}", place.target.display(), waiver.why());
    if place.how.aufs {
        match fuse::plain(&lowers, place) {
            Err(refusal) if refusal.case() == Case::I11Fuse => {
                log::warn!("files that upper layers delete will be seen: {refusal}");
            }
            done => return done,
        }
    }
    let layers = Layers::plain(lowers, place)?;
    // A layer's own attributes must not make overlayfs look anywhere else.
    let recipe = Recipe { source: PLAIN, options: &[("metacopy", "off"), ("redirect_dir", "nofollow")] };
    put(layers, &recipe, place, &target)
}

/// Where our mount is on `target` already, puts a read-only clone of it on top, and says so. The caller
/// takes it for a mount of its own and unmounts it, and the live mount stays. Nothing is done where
/// nothing is mounted. `at` is the directory where it is open already, see [`Place::at`].
///
/// # Errors
/// [`Case::I06Mounted`] where something else is mounted, A08, I05, J03.
pub fn again(target: &Path, at: Option<&OwnedFd>) -> Result<bool> {
    check_proc()?;
    match at {
        Some(at) => again::clone_on_top(at, target),
        None => again::clone_on_top(&open_target(target)?, target),
    }
}

/// Unmounts what was mounted by us, and nothing else.
///
/// # Errors
/// [`Case::I06Mounted`] when something else or nothing is mounted there, [`Case::I05Attach`] when it
/// is in use.
pub fn unmount(target: &Path) -> Result<()> {
    check_proc()?;
    let shown = target.display().to_string();
    let top = again::on_top(&open_target(target)?, target)?;
    let top = top.ok_or_else(|| Refusal::new(Case::I06Nothing, &shown, ""))?;
    if !top.is_ours() && !record::holds(&top.identity)? {
        return Err(top.refuse());
    }
    mounts::unmount_now(target).map_err(|e| Refusal::new(Case::I05Attach, shown, e))?;
    record::forget(&top.identity);
    Ok(())
}

fn open(place: &Place) -> Result<OwnedFd> {
    check_proc()?;
    if place.above.is_some() && place.upper.is_some() {
        return Err(Refusal::new(Case::Bug, place.target.display().to_string(), "above and upper"));
    }
    // Before anything is mounted: a mount that cannot be put on record does not stay.
    record::directory()?;
    // A container store's upper directory is its target's own, and that is looked at: nobody has to read the
    // records of all containers for it.
    if place.at.is_none()
        && let Some(upper) = &place.upper
        && let Some(other) = record::with_upper(&upper.upper)?
        && other.target != place.target
    {
        let why = format!("mounted on {}", other.target.display());
        return Err(Refusal::new(Case::I07Busy, upper.path.display().to_string(), why));
    }
    match &place.at {
        Some(at) => at.try_clone().map_err(|e| Refusal::io(place.target.display().to_string(), e)),
        None => open_target(&place.target),
    }
}

fn open_target(target: &Path) -> Result<OwnedFd> {
    let shown = target.display().to_string();
    mounts::open_target(target).map_err(|e| match e {
        Errno::LOOP | Errno::NOTDIR => Refusal::new(Case::A08Target, shown, "it must be a directory and no symlink"),
        e => Refusal::new(Case::Usage, shown, e),
    })
}

fn put(layers: Layers, recipe: &Recipe<'_>, place: &Place, target: &OwnedFd) -> Result<Mounted> {
    if place.how.top == Top::FuseOverlayfs {
        return fuse::mount(layers, recipe, place);
    }
    let overlay = overlay::make(&layers, recipe, place)?;
    let shown = || place.target.display().to_string();
    let identity = mounts::identify(&overlay).map_err(|e| Refusal::new(Case::I09Kernel, shown(), e))?;
    mounts::attach(&overlay, target).map_err(|e| Refusal::new(Case::I05Attach, shown(), e))?;
    Ok(Mounted::new(true, identity, Shows::expected(&layers, recipe)))
}

/// Whether the same read-only image is mounted there.
fn already(image: &PreparedImage, place: &Place, target: &OwnedFd) -> Result<Option<OnTop>> {
    let Some(top) = again::on_top(target, &place.target)? else { return Ok(None) };
    let has = |list: &[String], option: &str| list.iter().any(|o| o == option);
    let how = &place.how;
    // Another upper directory is another container: never shared by accident.
    let upper = place.upper.is_some() || top.info.super_options.iter().any(|o| o.starts_with("upperdir="));
    let mapped = how.uids != IdMapping::None || how.gids != IdMapping::None;
    let particular = upper || mapped || place.above.is_some() || how.context.is_some() || how.top != Top::Kernel;
    let verity = has(&top.info.super_options, "verity=require") == (image.mode() == Verity::Require);
    let flags = [("nodev", !how.dev), ("nosuid", how.nosuid), ("noexec", how.noexec)];
    let strict = flags.iter().all(|(flag, wanted)| has(&top.info.options, flag) == *wanted);
    let same = top.info.kind == "overlay" && top.info.source == image.description();
    if same && verity && strict && !particular {
        return Ok(Some(top));
    }
    Err(top.refuse())
}
