use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, Stat, fstat};

use super::idmap::IdMap;
use super::{Place, Top, Upper, erofs};
use crate::prepare::PreparedImage;
use crate::report::{Case, Refusal, Result};
use crate::sys::mounts::MountInfo;
use crate::sys::{files, mounts};

/// Everything that the overlay is to be made of.
pub(super) struct Layers {
    /// Uppermost first.
    pub(super) lowers: Vec<Lower>,
    /// The objects that the lowers' metadata point to.
    pub(super) data: Option<OwnedFd>,
    /// Upper and work directory.
    pub(super) upper: Option<(OwnedFd, OwnedFd)>,
    /// The mount that those two are on, where it is attached nowhere.
    pub(super) upper_mount: Option<OwnedFd>,
    /// Under which IDs overlayfs makes its own files, where they are not ours.
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

impl Layers {
    /// Those of a sealed image.
    pub(super) fn sealed(image: &PreparedImage, place: &Place) -> Result<Self> {
        let map = map(place)?;
        let mut lowers = Vec::new();
        lowers.extend(above(place, map.as_ref())?);
        for one in image.erofs() {
            let mount = erofs::mount(one)?;
            if let Some(map) = &map {
                map.apply(&mount, "EROFS image")?;
            }
            lowers.push(Lower::Detached(mount));
        }
        let data = image.objects().try_clone().map_err(|e| Refusal::io("objects", e))?;
        Self::with_upper(lowers, Some(data), place, map)
    }

    /// Directories as they are.
    pub(super) fn plain(directories: Vec<OwnedFd>, place: &Place) -> Result<Self> {
        let map = map(place)?;
        let mut lowers = Vec::new();
        lowers.extend(above(place, map.as_ref())?);
        let all = if map.is_some() { mountinfo()? } else { Vec::new() };
        for dir in directories {
            lowers.push(lower(dir, map.as_ref(), &all)?);
        }
        if lowers.len() == 1 && (place.upper.is_none() || place.how.top == Top::FuseOverlayfs) {
            // Overlayfs wants two layers at least.
            lowers.push(Lower::Detached(empty()?));
        }
        Self::with_upper(lowers, None, place, map)
    }

    fn with_upper(lowers: Vec<Lower>, data: Option<OwnedFd>, place: &Place, map: Option<IdMap>) -> Result<Self> {
        // containers-storage itself keeps in the upper directory the IDs that are seen on the host.
        let map = map.filter(|_| place.instead.is_none());
        let mut layers = Self { lowers, data, upper: None, upper_mount: None, owner: map.as_ref().map(|m| m.owner) };
        match (&place.upper, place.how.top, map) {
            // fuse-overlayfs has the upper directory, and the kernel's overlay is read-only.
            (None, ..) | (_, Top::FuseOverlayfs, _) => {}
            (Some(upper), Top::Kernel, None) => {
                let copy = |fd: &OwnedFd| fd.try_clone().map_err(|e| Refusal::io(upper.path.display().to_string(), e));
                layers.upper = Some((copy(&upper.upper)?, copy(&upper.work)?));
            }
            (Some(upper), Top::Kernel, Some(map)) => {
                let (mount, directories) = mapped_upper(upper, &map)?;
                layers.upper = Some(directories);
                layers.upper_mount = Some(mount);
            }
        }
        Ok(layers)
    }
}

impl Layers {
    /// What `make` makes of the lower layers alone, and the upper directory over that.
    pub(super) fn over(mut self, make: impl FnOnce(&Self) -> Result<OwnedFd>) -> Result<Self> {
        let (upper, upper_mount) = (self.upper.take(), self.upper_mount.take());
        let lowers = vec![Lower::Detached(make(&self)?)];
        Ok(Self { lowers, data: None, upper, upper_mount, owner: self.owner })
    }
}

/// fuse-overlayfs maps IDs itself; mapped twice they would be somebody else's.
fn map(place: &Place) -> Result<Option<IdMap>> {
    match place.how.top {
        Top::Kernel => IdMap::new(&place.how),
        Top::FuseOverlayfs => Ok(None),
    }
}

fn above(place: &Place, map: Option<&IdMap>) -> Result<Option<Lower>> {
    let Some(above) = &place.above else { return Ok(None) };
    let copy = above.try_clone().map_err(|e| Refusal::io("the container's changes", e))?;
    let all = if map.is_some() { mountinfo()? } else { Vec::new() };
    lower(copy, map, &all).map(Some)
}

/// A directory with its IDs mapped, unless the caller has done that: containers-storage hands in
/// idmapped mounts and the map as well, and the kernel maps nothing twice. `all` are the mounts there are.
fn lower(dir: OwnedFd, map: Option<&IdMap>, all: &[MountInfo]) -> Result<Lower> {
    let Some(map) = map else { return Ok(Lower::Directory(dir)) };
    let id = mounts::identify(&dir).map_err(|e| Refusal::io("lower directory", e))?.mountinfo;
    if all.iter().any(|m| m.id == id && m.options.iter().any(|o| o == "idmapped")) {
        return Ok(Lower::Directory(dir));
    }
    map.clone_of(&dir, "lower directory").map(Lower::Detached)
}

fn mountinfo() -> Result<Vec<MountInfo>> {
    mounts::mountinfo().map_err(|e| Refusal::io("/proc/self/mountinfo", e))
}

/// An empty filesystem.
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

/// Upper and work directory on one mount with mapped IDs, which overlayfs wants them to share: so the
/// directory is mapped that both lie in.
fn mapped_upper(upper: &Upper, map: &IdMap) -> Result<(OwnedFd, (OwnedFd, OwnedFd))> {
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

/// The directory `name` of `mount`, if it is the wanted one.
fn is(mount: &OwnedFd, name: &OsStr, wanted: &Stat) -> Option<OwnedFd> {
    let dir = files::open_dir_at(mount, name.to_str()?).ok()?;
    same(&fstat(&dir).ok()?, wanted).then_some(dir)
}

fn same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}
