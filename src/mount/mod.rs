//! One overlay over measured EROFS images, made detached and put in its place last.
//!
//! ```text
//! EROFS (the measured descriptor) ─► lowerdir+ ─┐
//! objects of the vault ────────────► datadir+ ──┼─► overlay, verity=require ─► target
//! upper, work ──────────────────────────────────┘
//! ```
//!
//! Where the container has a map of IDs, EROFS, upper and work are idmapped mounts: the disk has the container's own
//! IDs, as fuse-overlayfs leaves them.

mod erofs;
mod existing;
mod fuse;
mod handed;
mod idmap;
mod label;
mod layers;
mod overlay;
mod private;
mod record;
mod replace;
mod summary;
mod volatile;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

pub use crate::policy::RootDriver;
pub use fuse::{hand_on, is_installed as has_fuse_overlayfs};
pub use handed::{Handed, HandedUpper, handed};
pub(crate) use idmap::namespace;
pub use record::{AboutImage, MountKind, Record, WouldRefuse, keep, live, of_mount, sweep as sweep_records, write};
pub use replace::ReplacedMount;
pub use summary::MountSummary;
pub(crate) use volatile::clear as clear_volatile;

use crate::error::{Case, Refusal, Result};
use crate::policy::Verity;
use crate::prepare::PreparedImage;
use crate::protocol::IdMapping;
use crate::sys::files::{check_proc, proc_path};
use crate::sys::mounts::{self, MountId};
use crate::sys::selinux;
use crate::verify::Waiver;
use existing::OnTop;
pub use existing::is_ours;
use layers::OverlayLayers;
use overlay::Recipe;

/// The source of a plain overlay, as mountinfo shows it.
pub const PLAIN: &str = "layerseal:plain";

/// Where an image is mounted, and how.
#[derive(Debug)]
pub struct MountSpec {
    /// The directory to mount on; no symlink.
    pub target: PathBuf,
    /// The same directory, open, where its path must not be looked up again: what lies on that path may have changed
    /// since.
    pub at: Option<OwnedFd>,
    /// Where changes go; without it the mount is read-only.
    pub upper: Option<UpperDir>,
    /// A directory shown read-only above the image: the changes of a container whose differences to
    /// its image are asked for. Only without [`Self::upper`].
    pub above: Option<OwnedFd>,
    /// What the mount is to be like.
    pub how: MountOptions,
    /// An overlay that lies there, which this one is to replace.
    pub instead: Option<ReplacedMount>,
}

impl MountSpec {
    /// Describes a read-only mount on `target`, with every option at its default.
    pub fn read_only(target: impl Into<PathBuf>) -> Self {
        Self { target: target.into(), at: None, upper: None, above: None, how: MountOptions::default(), instead: None }
    }
}

/// The writable part.
#[derive(Debug)]
pub struct UpperDir {
    /// The directory of changes, open.
    pub upper: OwnedFd,
    /// Overlayfs's own directory, open: beside the other, on the same filesystem.
    pub work: OwnedFd,
    /// The path of `upper`, for messages and records.
    pub path: PathBuf,
}

/// What a mount is to be like.
#[derive(Debug, Default)]
pub struct MountOptions {
    /// The user IDs under which files are shown.
    pub uids: IdMapping,
    /// The group IDs under which files are shown.
    pub gids: IdMapping,
    /// The SELinux label of everything, where SELinux is enabled.
    pub context: Option<OsString>,
    /// The SELinux label of what the image holds, where SELinux is enabled: EROFS keeps none, and no confined process
    /// may touch what has none. It is the label of the store's own directories, for mounts that have no
    /// [`Self::context`] of their own.
    pub store_label: Option<OsString>,
    /// Changes need not survive a power cut.
    pub volatile: bool,
    /// Device nodes work; they do not unless this is set.
    pub dev: bool,
    /// Set-user-ID bits and file capabilities do nothing.
    pub nosuid: bool,
    /// Nothing can be executed.
    pub noexec: bool,
    /// What is mounted on the target.
    pub top: RootDriver,
    /// Directories that are shown as they are hold whiteouts that the kernel's overlay does not know (`.wh.NAME`):
    /// fuse-overlayfs is to show them, where there is one.
    pub aufs: bool,
}

impl MountOptions {
    /// Returns whether files are shown under other IDs than they have.
    fn maps_ids(&self) -> bool {
        self.uids != IdMapping::None || self.gids != IdMapping::None
    }
}

/// A mount that is in its place.
#[derive(Clone, Copy, Debug)]
pub struct Mounted {
    /// Whether this call mounted it: false when the same image was mounted there already.
    pub fresh: bool,
    /// Major and minor number of the filesystem.
    pub device: (u32, u32),
    /// The mount's number: since Linux 6.8 one that is never given twice, before that the one of mountinfo.
    pub id: u64,
    /// What mountinfo shows of the mount's layers.
    pub shows: MountSummary,
}

impl Mounted {
    fn new(fresh: bool, identity: MountId, shows: MountSummary) -> Self {
        Self { fresh, device: identity.device, id: identity.id, shows }
    }
}

/// Mounts `image`. On any failure nothing is mounted, and no loop device, directory or process is left.
///
/// # Errors
/// A08, A13, I04–I11, J03.
pub fn mount(image: &PreparedImage, place: &MountSpec) -> Result<Mounted> {
    let target = open(place)?;
    if let Some(instead) = &place.instead {
        return replace::put(image, place, instead);
    }
    if let Some(top) = already(image, place, &target)? {
        return Ok(Mounted::new(false, top.identity, MountSummary::of(&top.info)));
    }
    let layers = OverlayLayers::sealed(image, place)?;
    put(layers, &Recipe::sealed(image), place, &target)
}

/// Mounts the image alone, to be looked at: read-only, attached nowhere, under the IDs that `how` says.
///
/// # Errors
/// As [`mount`].
pub fn view(image: &PreparedImage, how: &MountOptions) -> Result<OwnedFd> {
    let (uids, gids) = (how.uids.clone(), how.gids.clone());
    let how = MountOptions { uids, gids, store_label: how.store_label.clone(), ..MountOptions::default() };
    let place = MountSpec { how, ..MountSpec::read_only(image.description()) };
    if place.how.maps_ids() || selinux::is_enabled() || mounts::kernel_version() < erofs::SEVERAL_OVERLAYS {
        return detached(image, &place);
    }
    let kept = image.shown().get_or_make(|| detached(image, &place))?;
    kept.try_clone().map_err(|e| Refusal::io("the image alone", e))
}

/// Makes what [`mount()`] would put on the target, attached nowhere; no record is kept of it. Where the place gives what
/// the image holds no label, it has the vault's: this process is to read it, and a policy that confines it with podman
/// lets it touch nothing without.
///
/// # Errors
/// As [`mount()`].
pub fn detached(image: &PreparedImage, place: &MountSpec) -> Result<OwnedFd> {
    check_proc()?;
    let label = place.how.store_label.clone();
    let label = label.or_else(|| selinux::is_enabled().then(|| selinux::label_of(image.objects())).flatten());
    overlay::make(&OverlayLayers::sealed_as(image, place, label.as_deref())?, &Recipe::sealed(image), place)
}

/// The options of somebody's directories: a layer's own attributes must not make overlayfs look anywhere else.
const PLAIN_OPTIONS: &[(&str, &str)] = &[("metacopy", "off"), ("redirect_dir", "nofollow")];

/// Directories that nobody vouches for, to be compared with what is sealed: there is a path to read by, and nothing that could
/// be attached.
#[derive(Debug)]
pub struct UnverifiedView(OwnedFd);

impl UnverifiedView {
    /// Somebody's directories, `lowers`, uppermost first, with `above` over them: read-only, and attached nowhere.
    ///
    /// # Errors
    /// As [`plain`].
    pub fn of(lowers: Vec<OwnedFd>, above: Option<OwnedFd>) -> Result<Self> {
        check_proc()?;
        let how = MountOptions { nosuid: true, noexec: true, ..MountOptions::default() };
        let place = MountSpec { above, how, ..MountSpec::read_only(PLAIN) };
        let recipe = Recipe { source: PLAIN, options: PLAIN_OPTIONS };
        Ok(Self(overlay::make(&OverlayLayers::plain(lowers, &place)?, &recipe, &place)?))
    }

    /// Returns the path by which this process can read it, as long as this value lives.
    pub fn path(&self) -> PathBuf {
        proc_path(&self.0).into()
    }
}

/// Mounts somebody's directories, `lowers`, uppermost first, as they are: nobody vouches for them, and
/// the mount's source says so.
///
/// # Errors
/// A08, A13, I05–I11, J03.
pub fn plain(waiver: &Waiver, lowers: Vec<OwnedFd>, place: &MountSpec) -> Result<Mounted> {
    let target = open(place)?;
    if let Some(there) = existing::on_top(&target, &place.target)? {
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
    let layers = OverlayLayers::plain(lowers, place)?;
    let recipe = Recipe { source: PLAIN, options: PLAIN_OPTIONS };
    put(layers, &recipe, place, &target)
}

/// Puts a read-only clone of our mount on top of it, where `target` has one already, and returns whether it has. The
/// caller takes the clone for a mount of its own and unmounts it, and the live mount stays. Where nothing is mounted
/// nothing is done. `at` is the directory where it is open already, see [`MountSpec::at`].
///
/// # Errors
/// [`Case::I06Mounted`] where something else is mounted, A08, I05, J03.
pub fn again(target: &Path, at: Option<&OwnedFd>) -> Result<bool> {
    check_proc()?;
    match at {
        Some(at) => existing::clone_on_top(at, target),
        None => existing::clone_on_top(&open_target(target)?, target),
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
    let top = existing::on_top(&open_target(target)?, target)?;
    let top = top.ok_or_else(|| Refusal::new(Case::I06Nothing, &shown, ""))?;
    if !top.is_ours() && !record::holds(&top.identity)? {
        return Err(top.refuse());
    }
    mounts::unmount_now(target).map_err(|e| Refusal::new(Case::I05Attach, shown, e))?;
    record::forget(&top.identity);
    Ok(())
}

fn open(place: &MountSpec) -> Result<OwnedFd> {
    check_proc()?;
    if place.above.is_some() && place.upper.is_some() {
        return Err(Refusal::new(Case::Bug, place.target.display().to_string(), "above and upper"));
    }
    // Before anything is mounted: a mount that cannot be recorded does not stay.
    record::directory()?;
    // A container store's upper directory belongs to its target, and the target is looked at: the records of all
    // containers need not be read for it.
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

fn put(layers: OverlayLayers, recipe: &Recipe<'_>, place: &MountSpec, target: &OwnedFd) -> Result<Mounted> {
    if place.how.top == RootDriver::FuseOverlayfs {
        return fuse::mount(layers, recipe, place);
    }
    let overlay = overlay::make(&layers, recipe, place)?;
    let shown = || place.target.display().to_string();
    let identity = mounts::identify(&overlay).map_err(|e| Refusal::new(Case::I09Kernel, shown(), e))?;
    mounts::attach(&overlay, target).map_err(|e| Refusal::new(Case::I05Attach, shown(), e))?;
    Ok(Mounted::new(true, identity, MountSummary::expected(&layers, recipe)))
}

/// Returns the mount that is there, if it is the same read-only image; `None` where nothing is mounted.
fn already(image: &PreparedImage, place: &MountSpec, target: &OwnedFd) -> Result<Option<OnTop>> {
    let Some(top) = existing::on_top(target, &place.target)? else { return Ok(None) };
    let how = &place.how;
    // Another upper directory means another container: a mount is never shared by accident.
    let upper = place.upper.is_some() || top.info.super_values("upperdir=").next().is_some();
    let mapped = how.uids != IdMapping::None || how.gids != IdMapping::None;
    let particular = upper || mapped || place.above.is_some() || how.context.is_some() || how.top != RootDriver::Kernel;
    let verity = top.info.super_has("verity=require") == (image.mode() == Verity::Require);
    let flags = [("nodev", !how.dev), ("nosuid", how.nosuid), ("noexec", how.noexec)];
    let strict = flags.iter().all(|(flag, wanted)| top.info.has(flag) == *wanted);
    let same = top.info.kind == "overlay" && top.info.source == *image.description();
    if same && verity && strict && !particular {
        return Ok(Some(top));
    }
    Err(top.refuse())
}
