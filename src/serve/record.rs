//! What the service mounted for users: for them and for root to look at, and for the hooks of users, which compare the
//! root of a container with it.

use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::digest::{BlobDigest, Fingerprint};
use crate::error::{Case, Refusal, Result};
use crate::mount::MountSummary;
use crate::oci::DenySubjects;
use crate::policy::Mode;
use crate::seal::Identity;
use crate::state::{Notes, StateDir, device_note, sweep_devices, write_device_note};
use crate::sys::id_maps::IdMaps;
use crate::sys::overlays;
use crate::verify::VerifiedImage;

const DIR: StateDir = StateDir::Users;
/// How many bytes a record may have: names are limited in calls and in signed statements, and so are layers.
const MAX_RECORD: u64 = 256 << 10;
/// How many records are kept, of all users together. Numbers of devices are given again, so there are no more records
/// than there were mounts at one time.
const MAX_RECORDS: usize = 16_000;
/// How many of these may be one user's: an eighth, so that it takes eight users to leave others without, and fifty times the
/// containers of a busy user.
const OF_ONE_USER: usize = MAX_RECORDS / 8;
/// How often records of what is gone are looked for at most, if a user has no room left.
const EACH_SWEEP: Duration = Duration::from_secs(10);

/// Who vouches for an image, by root's policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VouchedImage {
    /// The manifest's digest.
    pub image: BlobDigest,
    /// The names that the seal is for.
    pub identities: Vec<Identity>,
    /// The digest of the seal's manifest; `None` for a seal in the image itself.
    pub seal: Option<BlobDigest>,
    /// Who signed it.
    pub signer: Option<String>,
    /// SHA-256 of the signer's certificate.
    pub certificate: Option<Fingerprint>,
    /// SHA-256 of the certificate that vouches for the signer's, if that is not trusted itself.
    pub anchor: Option<Fingerprint>,
    /// What the policy asks of the image.
    pub mode: Mode,
    /// The rule that decided.
    pub rule: String,
}

impl VouchedImage {
    pub(super) fn new(image: BlobDigest, verified: &VerifiedImage, mode: Mode, rule: &str) -> Self {
        let signer = verified.signer();
        Self {
            image,
            identities: verified.binding().map(|binding| binding.identities.clone()).unwrap_or_default(),
            seal: verified.seal().copied(),
            signer: signer.map(|signer| signer.subject.clone()),
            certificate: signer.map(|signer| signer.fingerprint),
            anchor: signer.and_then(|signer| signer.anchor),
            mode,
            rule: rule.to_owned(),
        }
    }
}

/// A mount that the service made for a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserMount {
    /// The user, whichever of its IDs called.
    pub user: u32,
    /// Major and minor number of the filesystem; given again when it is unmounted.
    pub device: (u32, u32),
    /// What the mount calls itself: `composefs:…`.
    pub source: String,
    /// Who vouches for it.
    pub vouched: VouchedImage,
    /// Whether the kernel checks every byte.
    pub verity: bool,
    /// When it was mounted, in seconds since 1970.
    pub since: i64,
    /// The names that the policy decided by; none in lists of many mounts.
    #[serde(default)]
    pub names: Vec<String>,
    /// Whether nothing is shown above the image except its user's own changes: then it can be a root.
    #[serde(default)]
    pub whole: bool,
    /// What mountinfo shows of its layers.
    #[serde(default)]
    pub shows: MountSummary,
    /// The directory where changes go.
    #[serde(default)]
    pub upper: Option<UpperId>,
    /// The IDs that it was made for, by those of its user's namespace; `None` where they are the same, and in lists of
    /// many mounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<IdMaps>,
    /// The digest of the image's config.
    #[serde(default)]
    pub config: Option<BlobDigest>,
    /// Everything by which what is mounted can be denied; `None` in lists of many mounts.
    #[serde(default)]
    pub facts: Option<DenySubjects>,
}

/// An upper directory, whatever it is called: only its user knows by what path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpperId {
    /// The number of its filesystem.
    device: u64,
    inode: u64,
}

impl UpperId {
    /// Identifies an open directory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of(dir: impl AsFd) -> std::io::Result<Self> {
        let stat = rustix::fs::fstat(dir)?;
        Ok(Self { device: stat.st_dev, inode: stat.st_ino })
    }
}

impl UserMount {
    /// Keeps the record, in place of that of an earlier mount whose number was given again.
    ///
    /// # Errors
    /// The kernel's; an error if there are too many.
    pub(super) fn keep(&self) -> std::io::Result<()> {
        let dir = DIR.make()?;
        let name = device_note(self.device);
        if !dir.has(&name) && dir.names()?.len() >= MAX_RECORDS {
            return Err(std::io::Error::other(format!("{MAX_RECORDS} records; `layerseal gc` removes old ones")));
        }
        let text = serde_json::to_vec(self)?;
        if text.len() as u64 > MAX_RECORD {
            return Err(std::io::Error::other(format!("a record of {} bytes", text.len())));
        }
        write_device_note(&dir, self.device, &text)
    }
}

/// Checks that a user has fewer mounts than one may have, in all mount namespaces and out of them.
///
/// # Errors
/// [`Case::R05Many`], [`Case::Io`].
pub(super) fn has_room(user: u32) -> Result<()> {
    let count = || -> std::io::Result<usize> {
        let Some(dir) = DIR.open()? else { return Ok(0) };
        let all = dir.names()?;
        // Mostly nobody has as many, and then none is read.
        let few = all.len() < OF_ONE_USER;
        Ok(if few { 0 } else { all.iter().filter(|name| owner(&dir, name) == Some(user)).count() })
    };
    let is_full = || count().map(|own| own >= OF_ONE_USER).map_err(|e| Refusal::io(DIR.to_string(), e));
    if !is_full()? {
        return Ok(());
    }
    // Some of them may be gone. To look for that takes longer than a call should: it is not done for each.
    if is_swept_again().map_err(|e| Refusal::io(DIR.to_string(), e))? {
        sweep_user_mounts()?;
        if !is_full()? {
            return Ok(());
        }
    }
    Err(Refusal::new(Case::R05Many, format!("user {user}"), format!("it has {OF_ONE_USER} mounts or more")))
}

/// Returns whether nobody has looked for records of what is gone for a while, and notes that somebody does now.
fn is_swept_again() -> std::io::Result<bool> {
    const NOTE: &str = "swept";
    let dir = DIR.make()?;
    let lately = |at: SystemTime| SystemTime::now().duration_since(at).is_ok_and(|ago| ago < EACH_SWEEP);
    match dir.written(NOTE)?.is_some_and(lately) {
        true => Ok(false),
        false => dir.write(NOTE, b"").map(|()| true),
    }
}

/// Lists the records of `user`'s mounts, or that of one filesystem. Some of them may be gone: whoever sees the mounts
/// can tell.
///
/// # Errors
/// The kernel's.
pub(super) fn of_user(user: u32, device: Option<(u32, u32)>) -> std::io::Result<Vec<UserMount>> {
    let Some(dir) = DIR.open()? else { return Ok(Vec::new()) };
    let own = |record: &UserMount| record.user == user;
    if let Some(device) = device {
        return Ok(read(&dir, &device_note(device)).filter(own).into_iter().collect());
    }
    let all = dir.names()?.into_iter().filter_map(|name| read(&dir, &name)).filter(own);
    Ok(all.map(|record| UserMount { facts: None, names: Vec::new(), ids: None, ..record }).collect())
}

/// Lists the mounts of all users that some process has.
///
/// # Errors
/// [`crate::error::Case::Io`].
pub fn of_all_users() -> Result<Vec<UserMount>> {
    let io = |e| Refusal::io(DIR.to_string(), e);
    let Some(dir) = DIR.open().map_err(io)? else { return Ok(Vec::new()) };
    let mut all: Vec<UserMount> = dir.names().map_err(io)?.iter().filter_map(|name| read(&dir, name)).collect();
    if all.is_empty() {
        return Ok(all);
    }
    let live = overlays::by_device().map_err(|e| Refusal::io("/proc", e))?;
    all.retain(|record| live.get(&record.device).is_some_and(|source| *source == record.source));
    all.sort_by_key(|record| (record.user, record.device));
    Ok(all)
}

/// Removes the records of mounts that are gone. If not everything can be seen from here, nothing is removed.
///
/// # Errors
/// [`crate::error::Case::Io`].
pub fn sweep_user_mounts() -> Result<()> {
    sweep_devices(DIR).map_err(|e| Refusal::io(DIR.to_string(), e))
}

/// Reads whose mount a record is about, and nothing else: there may be thousands.
fn owner(dir: &Notes, name: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Owner {
        user: u32,
    }
    let text = dir.read(name, MAX_RECORD).ok().flatten()?;
    serde_json::from_slice(&text).ok().map(|Owner { user }| user)
}

/// Reads a record; what cannot be read is left out.
fn read(dir: &Notes, name: &str) -> Option<UserMount> {
    let text = dir.read(name, MAX_RECORD).ok().flatten()?;
    let record: UserMount = serde_json::from_slice(&text).ok()?;
    (device_note(record.device) == name).then_some(record)
}
