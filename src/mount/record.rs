//! What is mounted, and by whose word: one file for each mount, for the hook that looks at a container
//! before it starts and for people. A record is believed only while its mount exists.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::fstat;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Mounted, Place, Shows};
use crate::digest::BlobDigest;
use crate::oci::Facts;
use crate::policy::Verity;
use crate::prepare::PreparedImage;
use crate::report::{Refusal, Result};
use crate::state::{Notes, StateDir};
use crate::sys::files;
use crate::sys::mounts::{self, Identity, MountInfo};
use crate::sys::process::now;
use crate::sys::{overlays, statmount};
use crate::verify::SignedBy;

const DIR: StateDir = StateDir::Mounts;
/// A name of every tag of an image would fit.
const MAX_RECORD: u64 = 1 << 20;
/// The first of the numbers that the kernel never gives twice (fs/namespace.c).
const FIRST_UNIQUE: u64 = 1 << 31;

/// Whether somebody vouches for what is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A seal that passed what the policy asks.
    Sealed,
    /// Nobody does, or not as the policy asks, and it lets that pass with a word in the journal.
    Audit,
    /// The policy asks for nothing.
    Off,
    /// Somebody's own directories, which are no container's root.
    Volume,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// A mount, and why it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Major and minor number of the filesystem; given again when it is unmounted.
    pub device: (u32, u32),
    /// The mount's number, see [`super::Mounted::id`].
    pub mount_id: u64,
    /// Where it is.
    #[serde(serialize_with = "lossy")]
    pub target: PathBuf,
    /// `composefs:…` or `layerseal:plain`.
    pub source: String,
    /// Whether somebody vouches for it.
    pub kind: Kind,
    /// The manifest's digest.
    pub image: Option<String>,
    /// The image's ID in the store.
    #[serde(default)]
    pub image_id: Option<String>,
    /// The container's ID.
    pub container: Option<String>,
    /// The image's names.
    pub names: Vec<String>,
    /// The names that the seal is for.
    #[serde(default)]
    pub identities: Vec<String>,
    /// All by which what is mounted can be denied; `None` for volumes, and where an earlier version mounted it.
    #[serde(default)]
    pub facts: Option<Facts>,
    /// The digest of the seal's manifest.
    pub seal: Option<String>,
    /// Who signed it.
    pub signer: Option<String>,
    /// SHA-256 of the signer's certificate.
    #[serde(default)]
    pub certificate: Option<String>,
    /// The same of the anchor that vouches for it, where it is not trusted itself.
    #[serde(default)]
    pub anchor: Option<String>,
    /// Where changes go.
    #[serde(serialize_with = "lossy_option")]
    pub upper: Option<PathBuf>,
    /// Whether the kernel checks every byte.
    pub verity: bool,
    /// It is all of an image with nothing shown above it but a container's own changes: it can be a root.
    #[serde(default)]
    pub whole: bool,
    /// What an audit let pass.
    #[serde(default)]
    pub would_refuse: Option<WouldRefuse>,
    /// The manifest that was signed, where the store has the same image under another one.
    #[serde(default)]
    pub signed_manifest: Option<String>,
    /// What mountinfo shows of its layers.
    #[serde(default)]
    pub shows: Shows,
    /// When it was mounted, in seconds since 1970.
    pub since: i64,
}

/// A refusal that stopped nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WouldRefuse {
    /// The case's ID.
    pub case: String,
    /// What was looked at.
    pub subject: String,
    /// What is wrong, with the particulars.
    pub message: String,
    /// What can be done about it.
    pub remedy: String,
}

impl From<&Refusal> for WouldRefuse {
    fn from(refusal: &Refusal) -> Self {
        Self {
            case: refusal.case().id().to_owned(),
            subject: refusal.subject(),
            message: refusal.to_string(),
            remedy: refusal.case().remedy().to_owned(),
        }
    }
}

/// What a record says of the image that is mounted, and of who vouches for it.
#[derive(Clone, Debug, Default)]
pub struct AboutImage<'a> {
    /// The manifest's digest.
    pub manifest: Option<&'a BlobDigest>,
    /// The image's ID in the store.
    pub id: Option<&'a str>,
    /// The image's names.
    pub names: &'a [String],
    /// The names that the seal is for.
    pub identities: &'a [String],
    /// All by which what is mounted can be denied.
    pub facts: Facts,
    /// The digest of the seal's manifest.
    pub seal: Option<&'a BlobDigest>,
    /// The manifest that was signed, where it is another one.
    pub signed_manifest: Option<BlobDigest>,
    /// Who signed.
    pub signer: Option<&'a SignedBy>,
}

impl Record {
    /// The same record, of a mount of `image`.
    #[must_use]
    pub fn describing(self, image: &PreparedImage, about: &AboutImage<'_>) -> Self {
        Self {
            image: about.manifest.map(ToString::to_string),
            image_id: about.id.map(str::to_owned),
            names: about.names.to_vec(),
            identities: about.identities.to_vec(),
            facts: Some(about.facts.clone()),
            seal: about.seal.map(ToString::to_string),
            signed_manifest: about.signed_manifest.map(|digest| digest.to_string()),
            signer: about.signer.map(|s| s.subject.clone()),
            certificate: about.signer.map(|s| s.fingerprint.clone()),
            anchor: about.signer.and_then(|s| s.anchor.clone()),
            verity: image.mode() == Verity::Require,
            ..self
        }
    }

    /// A record of which only the particulars of the image are missing; `source` is what the mount calls
    /// itself.
    pub fn new(mounted: &Mounted, place: &Place, source: &str, kind: Kind) -> Self {
        Self {
            device: mounted.device,
            mount_id: mounted.id,
            target: place.target.clone(),
            source: source.to_owned(),
            kind,
            image: None,
            image_id: None,
            container: None,
            names: Vec::new(),
            identities: Vec::new(),
            facts: None,
            seal: None,
            signer: None,
            certificate: None,
            anchor: None,
            upper: place.upper.as_ref().map(|u| u.path.clone()),
            verity: false,
            whole: false,
            would_refuse: None,
            signed_manifest: None,
            shows: mounted.shows,
            since: now(),
        }
    }
}

/// Paths are for people: one that is no UTF-8 is shown as well as may be.
fn lossy<S: serde::Serializer>(path: &Path, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

fn lossy_option<S: serde::Serializer>(path: &Option<PathBuf>, to: S) -> std::result::Result<S::Ok, S::Error> {
    path.as_ref().map(|p| p.to_string_lossy()).serialize(to)
}

/// Keeps `record`, or takes the mount away again: the hooks would have to refuse one that nobody can account
/// for.
///
/// # Errors
/// [`crate::report::Case::Io`].
pub fn keep(record: &Record) -> Result<()> {
    let written = write(record);
    if written.is_err() {
        let _ = super::unmount(&record.target);
    }
    written
}

/// Keeps `record` as `/run/layerseal/mounts/MAJOR:MINOR.json`, whole or not at all, in the place of
/// that of an earlier mount whose numbers were given again.
///
/// # Errors
/// [`crate::report::Case::Io`].
pub fn write(record: &Record) -> Result<()> {
    let dir = directory()?;
    let text = serde_json::to_vec_pretty(record).map_err(|e| io(e.into()))?;
    let (major, minor) = record.device;
    dir.write(&format!("{major}:{minor}.json"), &text).map_err(io)
}

/// The directory of records, made where it is missing.
pub(super) fn directory() -> Result<Notes> {
    DIR.make().map_err(io)
}

fn io(e: std::io::Error) -> Refusal {
    Refusal::io(DIR.to_string(), e)
}

/// The records whose mounts exist in this mount namespace, by target. One that cannot be read, or that
/// others than root could have written, counts for nothing.
///
/// # Errors
/// [`crate::report::Case::Io`], J03.
pub fn live() -> Result<Vec<Record>> {
    files::check_proc()?;
    let Some(dir) = DIR.open().map_err(io)? else { return Ok(Vec::new()) };
    let mut records = all(&dir)?;
    let mounts = mounts::mountinfo().map_err(|e| Refusal::io("/proc/self/mountinfo", e))?;
    records.retain(|r| exists(r, &mounts));
    records.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(records)
}

/// The record of the filesystem `device`, where its mount exists in this namespace or in that of the
/// machine's first process. A container for other user IDs is started in a mount namespace of its own, in
/// which the mount has another number.
///
/// # Errors
/// [`crate::report::Case::Io`], J03.
pub fn of_device(device: (u32, u32)) -> Result<Option<Record>> {
    files::check_proc()?;
    let Some(dir) = DIR.open().map_err(io)? else { return Ok(None) };
    let name = format!("{}:{}.json", device.0, device.1);
    let found = read(&dir, &name).map_err(|e| Refusal::io(format!("{DIR}/{name}"), e))?;
    let Some(record) = found else { return Ok(None) };
    let here = if record.mount_id < FIRST_UNIQUE {
        let mounts = mounts::mountinfo().map_err(|e| Refusal::io("/proc/self/mountinfo", e))?;
        exists(&record, &mounts)
    } else {
        exists(&record, &[])
    };
    Ok(Some(record).filter(|r| here || exists_outside(r)))
}

/// Whether the mount lies on its target in the namespace of the machine's first process.
fn exists_outside(record: &Record) -> bool {
    let found =
        files::Within::open(Path::new("/proc/1/root")).and_then(|root| root.dir(&record.target)).and_then(|target| {
            let identity = mounts::identify(&target)?;
            Ok((identity.device, identity.id) == (record.device, record.mount_id) && identity.is_root)
        });
    found.unwrap_or_else(|e| {
        log::debug!("{} of the first process: {e}", record.target.display());
        false
    })
}

/// Whether there is a record of this very mount.
pub(super) fn holds(mount: &Identity) -> Result<bool> {
    Ok(live()?.iter().any(|r| (r.device, r.mount_id) == (mount.device, mount.id)))
}

/// Removes the record of a mount that is gone. One that stays does no harm: it counts for nothing.
pub(super) fn forget(mount: &Identity) {
    let (major, minor) = mount.device;
    let Ok(Some(dir)) = DIR.open() else { return };
    let about_it = |r: &Record| (r.device, r.mount_id) == (mount.device, mount.id);
    if all(&dir).is_ok_and(|records| records.iter().any(about_it)) {
        let _ = dir.remove(&format!("{major}:{minor}.json"));
    }
}

/// Removes the records of mounts that are gone from every namespace, and what killed processes were writing. Where not
/// all can be seen nothing is removed: such a record counts for nothing in any case.
///
/// # Errors
/// [`crate::report::Case::Io`].
pub fn sweep() -> Result<()> {
    let Some(dir) = DIR.open().map_err(io)? else { return Ok(()) };
    dir.sweep().map_err(io)?;
    if !overlays::sees_all() {
        return Ok(());
    }
    // Names first: who mounts meanwhile is not among them.
    let names = dir.names().map_err(io)?;
    let devices = overlays::devices().map_err(|e| Refusal::io("/proc", e))?;
    let gone = |name: &&String| name.strip_suffix(".json").is_some_and(|device| !devices.contains(device));
    names.iter().filter(gone).try_for_each(|name| dir.remove(name)).map_err(io)
}

/// The live mount whose changes go to the directory `upper` already. Two overlays over one upper
/// directory damage it, and the kernel refuses that only where its index is on.
pub(super) fn with_upper(upper: &OwnedFd) -> Result<Option<Record>> {
    let wanted = fstat(upper).map_err(|e| Refusal::io("upper directory", e))?;
    let same = |r: &Record| {
        let found = r.upper.as_ref().and_then(|path| rustix::fs::lstat(path).ok());
        found.is_some_and(|s| (s.st_dev, s.st_ino) == (wanted.st_dev, wanted.st_ino))
    };
    Ok(live()?.into_iter().find(same))
}

fn all(dir: &Notes) -> Result<Vec<Record>> {
    let names = dir.names().map_err(io)?;
    let named = names.iter().filter(|n| n.ends_with(".json"));
    Ok(named
        .filter_map(|name| read(dir, name).inspect_err(|e| log::warn!("{DIR}/{name}: {e}")).ok().flatten())
        .collect())
}

fn read(dir: &Notes, name: &str) -> std::io::Result<Option<Record>> {
    let Some(text) = dir.read(name, MAX_RECORD)? else { return Ok(None) };
    let record: Record = serde_json::from_slice(&text)?;
    let (major, minor) = record.device;
    if *name != format!("{major}:{minor}.json") {
        return Err(std::io::Error::other("it is about another mount than its name says"));
    }
    Ok(Some(record))
}

fn exists(record: &Record, mounts: &[MountInfo]) -> bool {
    let listed = || mounts.iter().any(|m| (m.id, m.device) == (record.mount_id, record.device));
    if record.mount_id < FIRST_UNIQUE {
        return listed();
    }
    match statmount::device(record.mount_id) {
        Ok(device) => device == Some(record.device),
        Err(Errno::NOSYS) => listed(),
        Err(e) => {
            log::warn!("mount {}: {e}", record.mount_id);
            false
        }
    }
}
