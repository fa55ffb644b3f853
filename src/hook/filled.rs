//! What podman leaves behind when a container is refused. Before `precreate` it has filled the container's new
//! volumes from a root that nobody had verified, and written users and groups into its upper directory; the volume
//! stays, and the next container would be given it. So what was first filled for a container that was refused is
//! remembered, and refused, until a person says otherwise.
//!
//! In `/var/lib/layerseal`, because volumes outlive the boot; beside the rollback floors, and with their limits: not
//! in the graph root, which is what an attacker writes.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::refused::{DIR, FOLLOW, Note, born, note, notes};
use super::seen::may_be_filled;
use crate::invoke::{Config, Mount};
use crate::report::{Case, Refusal, Result};
use crate::start::Ran;
use crate::sys::files::{self, Within};
use crate::sys::mounts::{self, MountInfo};

/// What podman writes into the upper directory for a user that the image does not know (libpod,
/// `generatePasswdAndGroup`).
const WRITTEN: [&str; 2] = ["etc/passwd", "etc/group"];

/// What a container was given, as far as podman may just have filled it.
pub(super) struct Filled {
    places: Vec<Place>,
    /// Copies of the image's users and groups.
    written: Vec<PathBuf>,
    /// The container's upper directory; by it, or by the bundle where it cannot be told, the container is remembered.
    upper: Option<PathBuf>,
    bundle: Option<PathBuf>,
    /// What is remembered of those that were refused, once it was read.
    notes: OnceCell<Vec<(String, Note)>>,
    /// What is older was not made for this start.
    since: i128,
    /// The mounts that there were.
    all: Vec<MountInfo>,
}

struct Place {
    source: PathBuf,
    /// What the root has at the mount's place, where that can be told.
    names: Option<BTreeSet<OsString>>,
}

impl Filled {
    /// Looks at the mounts of `config` and at `root`, on which nobody has verified anything yet. `started` is when
    /// podman was, in nanoseconds since 1970, where that is known. Nothing that the store says is needed for it: what is
    /// refused because that cannot be read is remembered as well.
    pub(super) fn before(config: &Config, root: Option<&Path>, bundle: Option<PathBuf>, started: Option<i128>) -> Self {
        let all = mounts::mountinfo().unwrap_or_default();
        let top = root.and_then(|root| mounts::topmost(&all, std::fs::canonicalize(root).ok()?.to_str()?));
        let option = |key: &str| {
            let option = top?.super_options.iter().find_map(|o| o.strip_prefix(key))?;
            let path = mounts::unescape(option.as_bytes());
            let path = PathBuf::from(<OsString as std::os::unix::ffi::OsStringExt>::from_vec(path));
            // podman 4 mounts many layers from within the directory of the store, by names that begin there.
            path.is_absolute().then_some(path)
        };
        // Where containers-storage has it, for what is not an overlay either.
        let home = root.filter(|root| root.ends_with("merged")).and_then(Path::parent);
        let beside = |option: Option<PathBuf>, name: &str| option.or_else(|| Some(home?.join(name)));
        // Overlayfs makes its own directory when it is mounted, and podman was started before it fills anything.
        let mounted = beside(option("workdir="), "work")
            .and_then(|work| born(&openat(CWD, work.join("work"), PATH, Mode::empty()).ok()?));
        // Where it cannot be told everything is new.
        let since = mounted.map(|(_, born)| born).max(started).unwrap_or(i128::MIN);
        let within = root.and_then(|root| Within::open(root).ok());
        let names = |place: &Path| -> Option<BTreeSet<OsString>> {
            let dir = match within.as_ref()?.dir(place) {
                Ok(_) => within.as_ref()?.read(place).ok()?,
                Err(_) => return Some(BTreeSet::new()),
            };
            files::names(dir).ok().map(BTreeSet::from_iter)
        };
        let places = config.mounts.iter().filter(|m| may_be_filled(m)).flat_map(|mount| {
            let place = |source: &PathBuf| Place { source: source.clone(), names: names(&mount.destination) };
            mount.sources.iter().map(place).collect::<Vec<_>>()
        });
        // Where the root is read-only podman mounts copies.
        let copies =
            config.mounts.iter().filter(|m| WRITTEN.iter().any(|name| m.destination == Path::new("/").join(name)));
        let copies = copies.flat_map(|mount| mount.sources.clone());
        let upper = beside(option("upperdir="), "diff");
        let written = upper.iter().flat_map(|upper| WRITTEN.map(|name| upper.join(name))).chain(copies);
        let (places, written) = (places.collect(), written.collect());
        Self { places, written, upper, bundle, notes: OnceCell::new(), since, all }
    }

    /// When podman began to write into the upper directory what nobody has compared with the image: for this start, or
    /// for one before that was refused.
    ///
    /// # Errors
    /// [`Case::O10Notes`].
    pub(super) fn since(&self) -> Result<i128> {
        let began = self.refused_before()?.and_then(|(_, note)| note.began);
        Ok(began.unwrap_or(self.since).min(self.since))
    }

    /// Remembers that the container was started on a verified image.
    pub(super) fn started(&self) {
        if let (Some(path), Ok(upper)) = (&self.upper, self.opened()) {
            Ran::remember(&upper, path);
        }
    }

    fn opened(&self) -> std::io::Result<OwnedFd> {
        let upper = self.upper.as_ref().ok_or(std::io::ErrorKind::NotFound)?;
        Ok(openat(CWD, upper, FOLLOW, Mode::empty())?)
    }

    /// The start was not refused: what is in the upper directory by now is the container's own.
    pub(super) fn settled(&self) {
        let Ok(Some((name, _))) = self.refused_before() else { return };
        if let Err(e) = DIR.open().and_then(|dir| dir.map_or(Ok(()), |dir| dir.remove(name))) {
            log::warn!("{DIR}/{name}: {e}");
        }
    }

    /// All notes, read once.
    fn notes(&self) -> Result<&[(String, Note)]> {
        if let Some(read) = self.notes.get() {
            return Ok(read);
        }
        let read = notes()?;
        Ok(self.notes.get_or_init(|| read))
    }

    /// The note of the container, by a start that was refused.
    fn refused_before(&self) -> Result<Option<&(String, Note)>> {
        let mut of_containers = self.notes()?.iter().filter(|(_, note)| note.began.is_some()).peekable();
        if of_containers.peek().is_none() {
            return Ok(None);
        }
        let bundle = self.bundle.as_ref().and_then(|path| openat(CWD, path, FOLLOW, Mode::empty()).ok());
        let own: Vec<OwnedFd> = self.opened().ok().into_iter().chain(bundle).collect();
        Ok(of_containers.find(|(_, note)| own.iter().any(|own| note.is_of(own))))
    }

    /// A container that was refused at its first start is not started later: podman made its record, with command,
    /// user and environment, from an image that was not what it should be.
    ///
    /// # Errors
    /// [`Case::O13Refused`].
    pub(super) fn check_refused(&self) -> Result<()> {
        match self.refused_before()? {
            Some((_, note)) if note.anew && !self.opened().is_ok_and(|own| matches!(Ran::of(&own), Ran::At(_))) => {
                Err(Refusal::new(Case::O13Refused, note.container.as_str(), format!("for {}", note.case)))
            }
            _ => Ok(()),
        }
    }

    /// Remembers what was filled for a container that is refused for `refusal`, which then names it.
    pub(super) fn after(&self, refusal: Refusal, container: &str) -> Refusal {
        // Of one that stays refused the first reason counts, whatever it is refused for meanwhile.
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
        let holds_new = |dir: &Path, names: Option<&BTreeSet<OsString>>| {
            let Ok(dir) = openat(CWD, dir, FOLLOW | OFlags::DIRECTORY, Mode::empty()) else { return false };
            let Ok(entries) = openat(&dir, ".", READ, Mode::empty()).map_err(Into::into).and_then(files::names) else {
                return true;
            };
            let mut copies = entries.iter().filter(|name| names.is_none_or(|names| names.contains(*name)));
            copies.any(|name| openat(&dir, name, PATH, Mode::empty()).is_ok_and(|file| is_new(&file)))
        };
        let volumes = self.places.iter().flat_map(|place| {
            // A part of a volume is mounted by another path, and what is filled is the volume.
            let part = Spot::open(&place.source, &self.all).filter(|spot| spot.is_mount);
            let whole = part.and_then(|spot| spot.stable(&self.all)).filter(|whole| *whole != place.source);
            let above = whole.iter().flat_map(|whole| whole.ancestors().map(Path::to_owned)).collect::<Vec<_>>();
            let candidates = above.into_iter().chain((whole.is_none()).then(|| place.source.clone()));
            candidates.filter(|dir| holds_new(dir, place.names.as_ref())).collect::<Vec<_>>()
        });
        let written = self.written.iter().cloned();
        let written = written.filter(|path| openat(CWD, path, PATH, Mode::empty()).is_ok_and(|file| is_new(&file)));
        volumes.chain(written).collect()
    }

    /// # Errors
    /// [`Case::O10Filled`] for a mount of something that was filled for a container that was refused, for a part of
    /// it, and for what holds it.
    pub(super) fn check(&self, mounts: &[Mount]) -> Result<()> {
        let notes: Vec<&(String, Note)> = self.notes()?.iter().filter(|(_, note)| note.began.is_none()).collect();
        if notes.is_empty() {
            return Ok(());
        }
        let all = mounts::mountinfo().map_err(|e| Refusal::io("/proc/self/mountinfo", e))?;
        // Those that are still what they were.
        let still = |noted| -> Option<(&(String, Note), Spot)> {
            let noted: &(String, Note) = noted;
            let file = openat(CWD, noted.1.path.as_str(), FOLLOW, Mode::empty()).ok()?;
            let same = born(&file) == Some((noted.1.inode, noted.1.born));
            same.then(|| Some((noted, Spot::of(&file, &all)?))).flatten()
        };
        let live: Vec<(&(String, Note), Spot)> = notes.iter().copied().filter_map(still).collect();
        let sources = mounts.iter().flat_map(|m| m.sources.iter().cloned());
        for path in sources.chain(self.written.iter().cloned()) {
            let Ok(file) = openat(CWD, &path, FOLLOW, Mode::empty()) else { continue };
            let (it, at) = (born(&file), Spot::of(&file, &all));
            let same = |(_, note): &&(String, Note)| it == Some((note.inode, note.born));
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
}

const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Where a file is in its filesystem, whatever part of that is mounted where.
struct Spot {
    device: (u32, u32),
    path: PathBuf,
    /// It is where a mount begins.
    is_mount: bool,
}

impl Spot {
    fn open(path: &Path, all: &[MountInfo]) -> Option<Self> {
        Self::of(&openat(CWD, path, FOLLOW, Mode::empty()).ok()?, all)
    }

    /// The path of it by the mount that shows most of its filesystem: others may be gone soon.
    fn stable(&self, all: &[MountInfo]) -> Option<PathBuf> {
        let shows = |m: &&MountInfo| m.device == self.device && self.path.starts_with(&m.root);
        let mount = all.iter().filter(shows).min_by_key(|m| (m.root.len(), m.target.len()))?;
        let path = Path::new(&mount.target).join(self.path.strip_prefix(&mount.root).ok()?);
        Self::open(&path, all).filter(|found| found.path == self.path).map(|_| path)
    }

    fn of(file: &OwnedFd, all: &[MountInfo]) -> Option<Self> {
        let identity = mounts::identify(file).ok()?;
        let mount = all.iter().find(|m| m.id == identity.mountinfo)?;
        // The kernel's own word for it.
        let path = std::fs::read_link(files::proc_path(file)).ok()?;
        let rest = path.strip_prefix(&mount.target).ok()?;
        Some(Self { device: mount.device, path: Path::new(&mount.root).join(rest), is_mount: identity.is_root })
    }

    fn touches(&self, other: &Self) -> bool {
        self.device == other.device && (self.path.starts_with(&other.path) || other.path.starts_with(&self.path))
    }
}
