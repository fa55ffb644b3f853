use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, Stat, fstat};

use super::idmap::IdMap;
use super::label::label;
use super::{MountSpec, RootDriver, UpperDir, erofs};
use crate::error::{Case, Refusal, Result};
use crate::prepare::PreparedImage;
use crate::sys::mountinfo::{self, MountInfo};
use crate::sys::{files, mounts};

/// Everything that the overlay is to be made of.
pub(super) struct OverlayLayers {
    /// The lower layers, uppermost first.
    pub(super) lowers: Vec<Lower>,
    /// The objects that the lowers' metadata point to.
    pub(super) data: Option<OwnedFd>,
    /// The mount that the objects are on, where it is attached nowhere.
    pub(super) data_mount: Option<OwnedFd>,
    /// Upper and work directory.
    pub(super) upper: Option<(OwnedFd, OwnedFd)>,
    /// The mount that those two are on, where it is attached nowhere.
    pub(super) upper_mount: Option<OwnedFd>,
    /// The IDs under which overlayfs makes its own files, where they are not ours.
    pub(super) owner: Option<(u32, u32)>,
}

/// One lower layer.
pub(super) enum Lower {
    /// A directory that has a path.
    Directory(OwnedFd),
    /// A mount that is attached nowhere.
    Detached(OwnedFd),
}

impl AsFd for Lower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Directory(fd) | Self::Detached(fd) => fd.as_fd(),
        }
    }
}

impl OverlayLayers {
    /// Mounts and collects the layers of a sealed image.
    pub(super) fn sealed(image: &PreparedImage, place: &MountSpec) -> Result<Self> {
        Self::sealed_as(image, place, place.how.store_label.as_deref())
    }

    /// Does the same with this SELinux label for what the image holds.
    pub(super) fn sealed_as(image: &PreparedImage, place: &MountSpec, as_label: Option<&OsStr>) -> Result<Self> {
        let map = map(place)?;
        let mut lowers = Vec::new();
        lowers.extend(above(place, map.as_ref())?);
        for one in image.erofs() {
            lowers.push(Lower::Detached(match &map {
                None => erofs::layer(one, label(as_label)?)?,
                Some(map) => {
                    let mount = erofs::mount(one, label(as_label)?)?;
                    map.apply(&mount, "EROFS image")?;
                    mount
                }
            }));
        }
        let data = image.objects().try_clone().map_err(|e| Refusal::io("objects", e))?;
        Self::with_upper(lowers, Some(data), place, map)
    }

    /// Lays the directories over one another, as they are.
    pub(super) fn plain(directories: Vec<OwnedFd>, place: &MountSpec) -> Result<Self> {
        let map = map(place)?;
        let mut lowers = Vec::new();
        lowers.extend(above(place, map.as_ref())?);
        let all = if map.is_some() { mountinfo::own()? } else { Arc::default() };
        for dir in directories {
            lowers.push(lower(dir, map.as_ref(), &all)?);
        }
        if lowers.len() == 1 && (place.upper.is_none() || place.how.top == RootDriver::FuseOverlayfs) {
            // Overlayfs wants two layers at least.
            lowers.push(Lower::Detached(empty()?));
        }
        Self::with_upper(lowers, None, place, map)
    }

    fn with_upper(lowers: Vec<Lower>, data: Option<OwnedFd>, place: &MountSpec, map: Option<IdMap>) -> Result<Self> {
        // containers-storage itself keeps in the upper directory the IDs that are seen on the host.
        let map = map.filter(|_| place.instead.is_none());
        let mut layers = Self {
            lowers,
            data,
            data_mount: None,
            upper: None,
            upper_mount: None,
            owner: map.as_ref().map(|m| m.owner),
        };
        match (&place.upper, place.how.top, map) {
            // fuse-overlayfs has the upper directory, and the kernel's overlay is read-only.
            (None, ..) | (_, RootDriver::FuseOverlayfs, _) => {}
            (Some(upper), RootDriver::Kernel, None) => {
                let copy = |fd: &OwnedFd| fd.try_clone().map_err(|e| Refusal::io(upper.path.display().to_string(), e));
                layers.upper = Some((copy(&upper.upper)?, copy(&upper.work)?));
            }
            (Some(upper), RootDriver::Kernel, Some(map)) => {
                let (mount, directories) = mapped_upper(upper, &map)?;
                layers.upper = Some(directories);
                layers.upper_mount = Some(mount);
            }
        }
        Ok(layers)
    }
}

impl OverlayLayers {
    /// Replaces the lower layers by the one mount that `make` makes of them; the upper directory stays.
    pub(super) fn over(mut self, make: impl FnOnce(&Self) -> Result<OwnedFd>) -> Result<Self> {
        let (upper, upper_mount) = (self.upper.take(), self.upper_mount.take());
        let lowers = vec![Lower::Detached(make(&self)?)];
        Ok(Self { lowers, data: None, data_mount: None, upper, upper_mount, owner: self.owner })
    }
}

/// Makes the map of IDs for the kernel's overlay. There is none for fuse-overlayfs, which maps IDs itself: mapped twice
/// they would be somebody else's.
fn map(place: &MountSpec) -> Result<Option<IdMap>> {
    match place.how.top {
        RootDriver::Kernel => IdMap::new(&place.how),
        RootDriver::FuseOverlayfs => Ok(None),
    }
}

fn above(place: &MountSpec, map: Option<&IdMap>) -> Result<Option<Lower>> {
    let Some(above) = &place.above else { return Ok(None) };
    let copy = above.try_clone().map_err(|e| Refusal::io("the container's changes", e))?;
    let all = if map.is_some() { mountinfo::own()? } else { Arc::default() };
    lower(copy, map, &all).map(Some)
}

/// Maps the IDs of a directory, unless the caller has done that: containers-storage hands in idmapped mounts and the
/// map as well, and the kernel maps nothing twice. `all` are the mounts there are.
fn lower(dir: OwnedFd, map: Option<&IdMap>, all: &[MountInfo]) -> Result<Lower> {
    let Some(map) = map else { return Ok(Lower::Directory(dir)) };
    let id = mounts::identify(&dir).map_err(|e| Refusal::io("lower directory", e))?.mountinfo;
    if all.iter().any(|m| m.id == id && m.has("idmapped")) {
        return Ok(Lower::Directory(dir));
    }
    map.clone_of(&dir, "lower directory").map(Lower::Detached)
}

/// Makes an empty filesystem.
fn empty() -> Result<OwnedFd> {
    use rustix::mount::MountAttrFlags;
    let make = || {
        let tmpfs = mounts::Configure::open("tmpfs")?;
        tmpfs.string("source", "layerseal:empty")?;
        tmpfs.create()?;
        tmpfs.mount(MountAttrFlags::MOUNT_ATTR_RDONLY)
    };
    make().map_err(|e| Refusal::new(Case::I11Overlay, "empty layer", e))
}

/// Puts the upper and the work directory on one mount with mapped IDs, which overlayfs wants them to share: so the
/// directory that both lie in is mapped.
fn mapped_upper(upper: &UpperDir, map: &IdMap) -> Result<(OwnedFd, (OwnedFd, OwnedFd))> {
    let shown = upper.path.display().to_string();
    let io = |e: rustix::io::Errno| Refusal::io(&shown, e);
    let parent = |of: &OwnedFd| {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat(of, "..", flags, Mode::empty()).map_err(io)
    };
    let (one, other) = (parent(&upper.upper)?, parent(&upper.work)?);
    let apart = || Refusal::new(Case::A13Cannot, &shown, "upper and work directory must lie in one directory");
    let wanted = [fstat(&upper.upper).map_err(io)?, fstat(&upper.work).map_err(io)?];
    if !same(&fstat(&one).map_err(io)?, &fstat(&other).map_err(io)?) {
        return Err(apart());
    }
    let mount = map.clone_of(&one, &shown)?;
    let found = files::list(one.as_fd()).map_err(|e| Refusal::io(&shown, e))?;
    let reopen = |wanted: &Stat| found.iter().find_map(|name| is(&mount, OsStr::new(name), wanted)).ok_or_else(apart);
    let directories = (reopen(&wanted[0])?, reopen(&wanted[1])?);
    Ok((mount, directories))
}

/// Opens the directory `name` of `mount`, if it is the wanted one.
fn is(mount: &OwnedFd, name: &OsStr, wanted: &Stat) -> Option<OwnedFd> {
    let dir = files::open_dir_at(mount, name.to_str()?).ok()?;
    same(&fstat(&dir).ok()?, wanted).then_some(dir)
}

fn same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}
