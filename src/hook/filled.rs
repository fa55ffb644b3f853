//! What podman leaves behind when a container is refused. Before `precreate` it has filled the container's new volumes
//! from a root that nobody had verified, and written users and groups into its upper directory. The volume stays, and
//! the next container would be given it. So what was first filled for a refused container is remembered and refused
//! until a person says otherwise.
//!
//! In `/var/lib/layerseal`, because volumes outlive the boot; beside the rollback floors, and with the same limits: not
//! in the graph root, which is what an attacker writes.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::anonymous_volumes::BeforeStart;
use super::changed::ReadSince;
use super::copies::CopiedFrom;
use super::snapshot::may_be_filled;
use super::users;
use crate::container_store::StoredContainer;
use crate::error::{Case, Refusal, Result};
use crate::mount::{self, MountKind};
use crate::protocol::{self, BindMount, ContainerConfig, IdMapping};
use crate::start::LastStart;
use crate::start::refused::{self, DIR, FOLLOW, RefusedNote, born, note, notes};
use crate::sys::files;
use crate::sys::mountinfo::{self, MountInfo};
use crate::sys::rooted_dir::RootedDir;
use crate::sys::times::birth;
use crate::sys::{mounts, process};

/// What podman writes into the upper directory for a user that the image does not know (libpod,
/// `generatePasswdAndGroup`).
const WRITTEN: [&str; 2] = ["etc/passwd", "etc/group"];

/// What a container was given, and podman may just have filled.
pub(super) struct Filled {
    /// The directories that hold copies of what the root has.
    places: Vec<PathBuf>,
    /// Copies of the image's users and groups.
    written: Vec<PathBuf>,
    /// The container's upper directory. The container is remembered by it, or by the bundle if it cannot be found.
    upper: Option<PathBuf>,
    bundle: Option<PathBuf>,
    /// What is remembered of refused containers, once it was read.
    notes: OnceCell<Vec<(String, RefusedNote)>>,
    /// What is remembered of the container, once it was read.
    ran: OnceCell<LastStart>,
    /// Anything older was not made by podman for this start, from what nobody had verified.
    since: i128,
}

impl Filled {
    /// Looks at the mounts of `config` and at `root`, where nobody has verified anything yet. `started` is when podman
    /// was started, in nanoseconds since 1970, if that is known. Nothing that the store says is needed: what is refused
    /// because the store cannot be read is remembered as well.
    pub(super) fn before(
        config: &ContainerConfig,
        root: Option<&Path>,
        bundle: Option<PathBuf>,
        started: Option<i128>,
    ) -> Self {
        let all = mountinfo::own().unwrap_or_default();
        let top = root.and_then(|root| mountinfo::topmost(&all, &std::fs::canonicalize(root).ok()?));
        let option = |key: &str| {
            // The service's mounts for users show paths that nobody else has; a user's store has the usual ones.
            let path = top.filter(|_| !users::is_in_namespace())?.super_values(key).next()?;
            let path = PathBuf::from(OsString::from_vec(path));
            // podman 4 mounts many layers from within the directory of the store, by names relative to it.
            path.is_absolute().then_some(path)
        };
        // The place that containers-storage uses, even for something that is not an overlay.
        let home = root.filter(|root| root.ends_with("merged")).and_then(Path::parent);
        let beside = |option: Option<PathBuf>, name: &str| option.or_else(|| Some(home?.join(name)));
        // Overlayfs makes its own directory when it is mounted, and podman was started before it filled anything.
        let mounted = beside(option("workdir="), "work")
            .and_then(|work| born(&openat(CWD, work.join("work"), PATH, Mode::empty()).ok()?));
        let since = match top.is_some_and(is_verified) {
            // It was not unmounted since it ran: what podman makes comes from the verified image, and the mount is as
            // old as everything that the container wrote itself.
            true => process::now_nanoseconds(),
            // If it cannot be told, everything is new.
            false => mounted.map(|(_, born)| born).max(started).unwrap_or(i128::MIN),
        };
        let mapped = (&config.uids, &config.gids) != (&IdMapping::None, &IdMapping::None);
        let places = match top.is_some_and(is_verified) {
            true => Vec::new(),
            false => filled_places(config, root, since, mapped, &all),
        };
        // If the root is read-only, podman mounts copies.
        let copies =
            config.mounts.iter().filter(|m| WRITTEN.iter().any(|name| m.destination == Path::new("/").join(name)));
        let copies = copies.flat_map(|mount| mount.sources.clone());
        let upper = beside(option("upperdir="), "diff");
        let written = upper.iter().flat_map(|upper| WRITTEN.map(|name| upper.join(name))).chain(copies);
        let written = written.collect();
        Self { places, written, upper, bundle, notes: OnceCell::new(), ran: OnceCell::new(), since }
    }

    /// Returns when podman began to write into the upper directory what nobody has compared with the image: for this
    /// start, or for an earlier one that was refused.
    ///
    /// # Errors
    /// [`Case::O10Notes`].
    pub(super) fn since(&self) -> Result<i128> {
        let began = self.refused_before()?.and_then(|(_, note)| note.began);
        Ok(began.unwrap_or(self.since).min(self.since))
    }

    /// Returns what tells which files of `root` were changed since podman mounted it for this start.
    pub(super) fn read_since(&self, root: PathBuf) -> ReadSince {
        ReadSince::new(self.since, root, self.upper.clone())
    }

    /// Remembers that the container was started on a verified image.
    pub(super) fn started(&self) {
        if let (Some(path), Ok(upper)) = (&self.upper, self.opened()) {
            LastStart::remember(&upper, path);
        }
    }

    /// Returns what was remembered of the container before this start; it is read once.
    pub(super) fn ran(&self) -> LastStart {
        *self.ran.get_or_init(|| self.opened().map_or(LastStart::Never, |own| LastStart::of(&own)))
    }

    /// Returns what tells the content of a volume from before this start from that of this start.
    pub(super) fn before_start(&self, config: &ContainerConfig) -> BeforeStart {
        let mapped = (&config.uids, &config.gids) != (&IdMapping::None, &IdMapping::None);
        BeforeStart { upper: self.opened().ok(), since: self.since, mapped }
    }

    fn opened(&self) -> std::io::Result<OwnedFd> {
        let upper = self.upper.as_ref().ok_or(std::io::ErrorKind::NotFound)?;
        Ok(openat(CWD, upper, FOLLOW, Mode::empty())?)
    }

    /// Forgets the refusal of a container that has now started: from here on what is in the upper directory is its own.
    pub(super) fn settled(&self) {
        let Ok(Some((name, _))) = self.refused_before() else { return };
        if let Err(e) = DIR.open().and_then(|dir| dir.map_or(Ok(()), |dir| dir.remove(name))) {
            log::warn!("{DIR}/{name}: {e}");
        }
    }

    /// Returns all notes, which are read once.
    fn notes(&self) -> Result<&[(String, RefusedNote)]> {
        if let Some(read) = self.notes.get() {
            return Ok(read);
        }
        let read = notes()?;
        Ok(self.notes.get_or_init(|| read))
    }

    /// Finds the note that a refused start left of the container.
    fn refused_before(&self) -> Result<Option<&(String, RefusedNote)>> {
        let notes = self.notes()?;
        if notes.is_empty() {
            return Ok(None);
        }
        let bundle = self.bundle.as_ref().and_then(|path| openat(CWD, path, FOLLOW, Mode::empty()).ok());
        let own: Vec<OwnedFd> = self.opened().ok().into_iter().chain(bundle).collect();
        let paths: Vec<&Path> = self.upper.iter().chain(&self.bundle).map(PathBuf::as_path).collect();
        Ok(refused::of_container(notes, &own, &paths))
    }

    /// Checks that the container was not refused at its first start, see [`refused::check`].
    ///
    /// # Errors
    /// [`Case::O13Refused`], with the container's name as well as its ID: `podman rm` accepts both, and people know
    /// names.
    pub(super) fn check_refused(&self, stored: &StoredContainer) -> Result<()> {
        let ran = self.ran();
        let note = self.refused_before()?.map(|(_, note)| note);
        let name = stored.names.first().filter(|_| note.is_some_and(|note| stored.id == note.container));
        refused::check(note, ran, name.map(String::as_str))
    }

    /// Checks that the documents of the image are what podman made the container from, if it never ran.
    ///
    /// # Errors
    /// As [`StoredContainer::check_documents`].
    pub(super) fn check_documents(&self, stored: &StoredContainer) -> Result<()> {
        let Some(made) = self.opened().and_then(birth).ok().flatten() else { return Ok(()) };
        if self.ran() == LastStart::Never { stored.check_documents(made) } else { Ok(()) }
    }

    /// Remembers what was filled for a container that is now refused with `refusal`, and returns that refusal, which
    /// then names the container.
    pub(super) fn after(&self, refusal: Refusal, container: &str) -> Refusal {
        // If the container is refused again, the first reason counts, whatever the later ones are.
        let stays = self.refused_before().is_ok_and(|before| before.is_some_and(|(_, note)| note.anew));
        if !stays {
            let began = self.since().unwrap_or(self.since);
            let noted = |path: &PathBuf| note(path, refusal.case(), container, Some(began));
            let by = self.upper.iter().chain(&self.bundle).map(noted).find(std::io::Result::is_ok);
            if by.is_none() {
                log::error!("{container}: it was refused, and that is not noted");
            }
        }
        let mut named = Vec::new();
        for path in self.filled() {
            let shown = path.display().to_string();
            match note(&path, refusal.case(), container, None) {
                Ok(()) => named.push(shown),
                Err(e) => {
                    log::error!("{shown}: filled for a container that was refused, and not noted: {e}");
                    named.push(format!("{shown} (not noted: {e})"));
                }
            }
        }
        match named.is_empty() {
            true => refusal,
            false => refusal.and(format!("podman had filled {}, which is refused from now on", named.join(", "))),
        }
    }

    fn filled(&self) -> Vec<PathBuf> {
        let is_new = |file: &OwnedFd| born(file).is_some_and(|(_, born)| born >= self.since);
        let written = self.written.iter().cloned();
        let written = written.filter(|path| openat(CWD, path, PATH, Mode::empty()).is_ok_and(|file| is_new(&file)));
        self.places.iter().cloned().chain(written).collect()
    }

    /// Checks that none of the mounts shows anything that podman filled for a refused container.
    ///
    /// # Errors
    /// [`Case::O10Filled`] for a mount of something that was filled for a refused container, of a part of it, or of
    /// what contains it.
    pub(super) fn check(&self, mounts: &[BindMount]) -> Result<()> {
        let sources = mounts.iter().flat_map(|m| m.sources.iter().cloned());
        check_sources(self.notes()?, sources.chain(self.written.iter().cloned()))
    }
}

/// Lists the directories mounted by `config` that podman may have filled from `root`, since then.
fn filled_places(
    config: &ContainerConfig,
    root: Option<&Path>,
    since: i128,
    mapped: bool,
    all: &[MountInfo],
) -> Vec<PathBuf> {
    // podman copies nothing from a root that is not there.
    let Some(root) = root.and_then(|root| RootedDir::open(root).ok()) else { return Vec::new() };
    let from = CopiedFrom { root: &root, since, mapped };
    let of_mount = |mount: &BindMount, source: &PathBuf| {
        // Part of a volume is mounted by another path, but it is the volume that is filled.
        let part = FileLocation::open(source, all).filter(|spot| spot.is_mount);
        let whole = part.and_then(|spot| spot.stable(all)).filter(|whole| whole != source);
        let above = whole.iter().flat_map(|whole| whole.ancestors().map(Path::to_owned)).collect::<Vec<_>>();
        let candidates = above.into_iter().chain((whole.is_none()).then(|| source.clone()));
        // What cannot be compared may be a copy.
        candidates.filter(|dir| from.is_in(dir, &mount.destination).unwrap_or(true)).collect::<Vec<_>>()
    };
    // Where the root has no directory, podman has nothing to copy.
    let places = config.mounts.iter().filter(|m| may_be_filled(m) && root.dir(&m.destination).is_ok());
    places.flat_map(|mount| mount.sources.iter().flat_map(|source| of_mount(mount, source))).collect()
}

/// Checks these sources like [`Filled::check`].
///
/// # Errors
/// As for [`Filled::check`].
pub(super) fn check_sources(notes: &[(String, RefusedNote)], sources: impl IntoIterator<Item = PathBuf>) -> Result<()> {
    let notes: Vec<&(String, RefusedNote)> = notes.iter().filter(|(_, note)| note.began.is_none()).collect();
    if notes.is_empty() {
        return Ok(());
    }
    let all = mountinfo::own()?;
    // The notes whose files are still what they were.
    let still = |noted| -> Option<(&(String, RefusedNote), FileLocation)> {
        let noted: &(String, RefusedNote) = noted;
        let file = openat(CWD, noted.1.path.as_str(), FOLLOW, Mode::empty()).ok()?;
        let same = born(&file) == Some((noted.1.inode, noted.1.born));
        same.then(|| Some((noted, FileLocation::of(&file, &all)?))).flatten()
    };
    let live: Vec<(&(String, RefusedNote), FileLocation)> = notes.iter().copied().filter_map(still).collect();
    for path in sources.into_iter().flat_map(|path| shown(path, &all)) {
        let Ok(file) = openat(CWD, &path, FOLLOW, Mode::empty()) else { continue };
        let (it, at) = (born(&file), FileLocation::of(&file, &all));
        let same = |(_, note): &&(String, RefusedNote)| it == Some((note.inode, note.born));
        let found = notes.iter().copied().find(same).or_else(|| {
            let at = at.as_ref()?;
            live.iter().find(|(_, spot)| at.touches(spot)).map(|(noted, _)| *noted)
        });
        if let Some((name, note)) = found {
            let why = format!(
                "{} was refused ({}) when podman had filled it; {DIR}/{name}",
                if note.container.is_empty() { "a container" } else { note.container.as_str() },
                note.case
            );
            return Err(Refusal::new(Case::O10Filled, path.display().to_string(), why));
        }
    }
    Ok(())
}

/// Returns what a mount of `path` shows: itself, what is mounted beneath it, and, if it is on an overlay that somebody made,
/// the directories of that, as podman makes one for a local volume with its own options.
fn shown(path: PathBuf, all: &[MountInfo]) -> Vec<PathBuf> {
    let Ok(real) = std::fs::canonicalize(&path) else { return vec![path] };
    let beneath = all.iter().map(|mount| &mount.target).filter(|target| **target != real && target.starts_with(&real));
    let on = real.ancestors().find_map(|above| mountinfo::topmost(all, above));
    let overlay = on.filter(|mount| mount.kind == "overlay" && !mount::is_ours(mount));
    let of_overlay = overlay.iter().flat_map(|mount| {
        let lowers = mount.super_values("lowerdir=").filter_map(|list| protocol::lowers(&list).ok());
        let others = ["upperdir=", "lowerdir+=", "datadir+="].into_iter().flat_map(|key| mount.super_values(key));
        lowers.flat_map(|(lowers, data)| [lowers, data].concat()).chain(others).collect::<Vec<_>>()
    });
    // podman mounts from the root directory.
    let of_overlay = of_overlay.map(|dir| Path::new("/").join(OsString::from_vec(dir)));
    beneath.cloned().chain(of_overlay).chain([path]).collect()
}

/// Returns whether the mount is of an image that was verified when it was mounted.
fn is_verified(top: &MountInfo) -> bool {
    top.is_overlay_of("composefs:")
        && mount::of_mount(top).is_ok_and(|record| record.is_some_and(|r| r.kind == MountKind::Sealed))
}

const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Where a file is in its filesystem, regardless of which part of that is mounted where.
pub(super) struct FileLocation {
    pub(super) device: (u32, u32),
    path: PathBuf,
    /// Whether a mount begins there.
    pub(super) is_mount: bool,
}

impl FileLocation {
    pub(super) fn open(path: &Path, all: &[MountInfo]) -> Option<Self> {
        Self::of(&openat(CWD, path, FOLLOW, Mode::empty()).ok()?, all)
    }

    /// Finds the file's path by the mount that shows most of its filesystem: other mounts may be gone soon.
    fn stable(&self, all: &[MountInfo]) -> Option<PathBuf> {
        let shows = |m: &&MountInfo| m.device == self.device && self.path.starts_with(&m.root);
        let mount = all.iter().filter(shows).min_by_key(|m| (m.root.as_os_str().len(), m.target.as_os_str().len()))?;
        let path = mount.target.join(self.path.strip_prefix(&mount.root).ok()?);
        Self::open(&path, all).filter(|found| found.path == self.path).map(|_| path)
    }

    pub(super) fn of(file: &OwnedFd, all: &[MountInfo]) -> Option<Self> {
        let identity = mounts::identify(file).ok()?;
        let mount = all.iter().find(|m| m.id == identity.mountinfo)?;
        // The kernel itself says so.
        let path = std::fs::read_link(files::proc_path(file)).ok()?;
        let rest = path.strip_prefix(&mount.target).ok()?;
        Some(Self { device: mount.device, path: mount.root.join(rest), is_mount: identity.is_root })
    }

    pub(super) fn touches(&self, other: &Self) -> bool {
        self.device == other.device && (self.path.starts_with(&other.path) || other.path.starts_with(&self.path))
    }
}
