//! What is mounted, and who vouches for it: one file for each mount, for people and for the hook that looks at a
//! container before it starts. A record is believed only while its mount exists.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::fstat;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{MountSpec, MountSummary, Mounted};
use crate::digest::{BlobDigest, Fingerprint};
use crate::error::{Refusal, Result};
use crate::oci::{ContainerId, DenySubjects, ImageId};
use crate::policy::Verity;
use crate::prepare::PreparedImage;
use crate::seal::Identity;
use crate::state::{Notes, StateDir, device_note, remove_device_note, sweep_devices, write_device_note};
use crate::sys::files;
use crate::sys::mount_namespaces;
use crate::sys::mountinfo::{self, MountInfo};
use crate::sys::mounts::MountId;
use crate::sys::process::now;
use crate::sys::statmount;
use crate::verify::SignedBy;

const DIR: StateDir = StateDir::Mounts;
/// There is room for a name of every tag of an image.
const MAX_RECORD: u64 = 1 << 20;
/// The first of the numbers that the kernel never gives twice (fs/namespace.c).
const FIRST_UNIQUE: u64 = 1 << 31;

/// Whether somebody vouches for what is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A seal that passed what the policy asks.
    Sealed,
    /// Nobody vouches for it, or not as the policy asks, and the policy lets that pass with a message in the journal.
    Audit,
    /// The policy asks for nothing.
    Off,
    /// Somebody's own directories, which are not the root of a container.
    Volume,
}

impl std::fmt::Display for MountKind {
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
    pub kind: MountKind,
    /// The manifest's digest.
    pub image: Option<BlobDigest>,
    /// The image's ID in the store.
    #[serde(default)]
    pub image_id: Option<ImageId>,
    /// The container's ID.
    pub container: Option<ContainerId>,
    /// The image's names.
    pub names: Vec<String>,
    /// The names that the seal is for.
    #[serde(default)]
    pub identities: Vec<Identity>,
    /// Everything by which what is mounted can be denied; `None` for volumes, and where an earlier version mounted it.
    #[serde(default)]
    pub facts: Option<DenySubjects>,
    /// The digest of the seal's manifest.
    pub seal: Option<BlobDigest>,
    /// Who signed it.
    pub signer: Option<String>,
    /// SHA-256 of the signer's certificate.
    #[serde(default)]
    pub certificate: Option<Fingerprint>,
    /// SHA-256 of the certificate of the anchor that vouches for the signer's, where that is not trusted itself.
    #[serde(default)]
    pub anchor: Option<Fingerprint>,
    /// Where changes go.
    #[serde(serialize_with = "lossy_option")]
    pub upper: Option<PathBuf>,
    /// Whether the kernel checks every byte.
    pub verity: bool,
    /// Whether it is all of an image, with nothing shown above it except a container's own changes: then it can be a
    /// root.
    #[serde(default)]
    pub whole: bool,
    /// What an audit let pass.
    #[serde(default)]
    pub would_refuse: Option<WouldRefuse>,
    /// The manifest that was signed, where the store has the same image under another one.
    #[serde(default)]
    pub signed_manifest: Option<BlobDigest>,
    /// What mountinfo shows of its layers.
    #[serde(default)]
    pub shows: MountSummary,
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

/// What a record says about the image that is mounted, and about who vouches for it.
#[derive(Clone, Debug, Default)]
pub struct AboutImage<'a> {
    /// The manifest's digest.
    pub manifest: Option<&'a BlobDigest>,
    /// The image's ID in the store.
    pub id: Option<&'a ImageId>,
    /// The image's names.
    pub names: &'a [String],
    /// The names that the seal is for.
    pub identities: &'a [Identity],
    /// Everything by which what is mounted can be denied.
    pub facts: DenySubjects,
    /// The digest of the seal's manifest.
    pub seal: Option<&'a BlobDigest>,
    /// The manifest that was signed, where it is another one.
    pub signed_manifest: Option<BlobDigest>,
    /// Who signed.
    pub signer: Option<&'a SignedBy>,
}

impl Record {
    /// Fills in what is known about `image`, which was mounted.
    #[must_use]
    pub fn describing(self, image: &PreparedImage, about: &AboutImage<'_>) -> Self {
        Self {
            image: about.manifest.copied(),
            image_id: about.id.cloned(),
            names: about.names.to_vec(),
            identities: about.identities.to_vec(),
            facts: Some(about.facts.clone()),
            seal: about.seal.copied(),
            signed_manifest: about.signed_manifest,
            signer: about.signer.map(|s| s.subject.clone()),
            certificate: about.signer.map(|s| s.fingerprint),
            anchor: about.signer.and_then(|s| s.anchor),
            verity: image.mode() == Verity::Require,
            ..self
        }
    }

    /// Makes a record that still lacks the particulars of the image; `source` is what the mount calls itself.
    pub fn new(mounted: &Mounted, place: &MountSpec, source: &str, kind: MountKind) -> Self {
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

/// Writes a path as text, for people: one that is not UTF-8 is shown as well as may be.
fn lossy<S: serde::Serializer>(path: &Path, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

fn lossy_option<S: serde::Serializer>(path: &Option<PathBuf>, to: S) -> std::result::Result<S::Ok, S::Error> {
    path.as_ref().map(|p| p.to_string_lossy()).serialize(to)
}

/// Keeps `record`, or takes the mount away again: the hooks would have to refuse a mount that has no record.
///
/// # Errors
/// [`crate::error::Case::Io`].
pub fn keep(record: &Record) -> Result<()> {
    let written = write(record);
    if written.is_err() {
        let _ = super::unmount(&record.target);
    }
    written
}

/// Keeps `record` as `/run/layerseal/mounts/MAJOR:MINOR.json`, whole or not at all, in place of the record of an
/// earlier mount whose numbers were given again.
///
/// # Errors
/// [`crate::error::Case::Io`].
pub fn write(record: &Record) -> Result<()> {
    let dir = directory()?;
    let text = serde_json::to_vec_pretty(record).map_err(|e| io(e.into()))?;
    // A record that could not be read again would be in the way of whoever gets the number next.
    if text.len() as u64 > MAX_RECORD {
        let names = record.names.len();
        return Err(io(std::io::Error::other(format!(
            "{} bytes, of an image with {names} names: `podman untag` takes some away",
            text.len()
        ))));
    }
    write_device_note(&dir, record.device, &text).map_err(io)
}

/// Opens the directory of records, and makes it where it is missing.
pub(super) fn directory() -> Result<Notes> {
    DIR.make().map_err(io)
}

fn io(e: std::io::Error) -> Refusal {
    Refusal::io(DIR.to_string(), e)
}

/// Lists the records whose mounts exist in this mount namespace, by target. A record that cannot be read, or that
/// others than root could have written, is left out.
///
/// # Errors
/// [`crate::error::Case::Io`], J03.
pub fn live() -> Result<Vec<Record>> {
    files::check_proc()?;
    let Some(dir) = DIR.open().map_err(io)? else { return Ok(Vec::new()) };
    let mut records = all(&dir)?;
    let mounts = mountinfo::own()?;
    records.retain(|r| exists(r, &mounts));
    records.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(records)
}

/// Finds the record of the filesystem that `mount` shows, where the mount that was recorded exists in this mount namespace
/// or in another one. A container for other user IDs is started in a namespace of its own, in which the mount has another
/// number.
///
/// # Errors
/// [`crate::error::Case::Io`], J03.
pub fn of_mount(mount: &MountInfo) -> Result<Option<Record>> {
    files::check_proc()?;
    let Some(dir) = DIR.open().map_err(io)? else { return Ok(None) };
    let name = device_note(mount.device);
    let found = read(&dir, &name).map_err(|e| Refusal::io(format!("{DIR}/{name}"), e))?;
    let Some(record) = found else { return Ok(None) };
    // Engines mount under the number that an ended container has left. A copy keeps the source (and fuse-overlayfs has one
    // of its own); to look for it in every namespace takes as long as everything else.
    let is_copy = mount.source == *record.source || mount.is_fuse_overlayfs();
    if !is_copy {
        return Ok(None);
    }
    let here = if record.mount_id < FIRST_UNIQUE {
        let mounts = mountinfo::own()?;
        exists(&record, &mounts)
    } else {
        exists(&record, &[])
    };
    Ok(Some(record).filter(|r| here || exists_elsewhere(r)))
}

/// Returns whether the mount lies on its target in another namespace.
fn exists_elsewhere(record: &Record) -> bool {
    let found = mount_namespaces::elsewhere(&record.target, record.device)
        .map(|mut found| found.any(|there| there.mount.id == record.mount_id));
    found.unwrap_or_else(|e| {
        log::debug!("{}: {e}", record.target.display());
        false
    })
}

/// Returns whether there is a record of this very mount.
pub(super) fn holds(mount: &MountId) -> Result<bool> {
    Ok(live()?.iter().any(|r| (r.device, r.mount_id) == (mount.device, mount.id)))
}

/// Removes the record of a mount that is gone. One that stays does no harm: it is ignored.
pub(super) fn forget(mount: &MountId) {
    let Ok(Some(dir)) = DIR.open() else { return };
    let about = |name: &str| Ok(read(&dir, name)?.is_some_and(|record| record.mount_id == mount.id));
    if let Err(e) = remove_device_note(&dir, mount.device, about) {
        log::debug!("{DIR}: {e}");
    }
}

/// Removes the records of mounts that are gone from every namespace, and what killed processes were writing. Where not
/// everything can be seen nothing is removed: such a record is ignored in any case.
///
/// # Errors
/// [`crate::error::Case::Io`].
pub fn sweep() -> Result<()> {
    sweep_devices(DIR).map_err(io)
}

/// Finds the live mount whose changes go to the directory `upper` already. Two overlays over one upper directory damage
/// it, and the kernel refuses that only where its index is on.
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
    if *name != device_note(record.device) {
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

#[cfg(test)]
mod tests;
