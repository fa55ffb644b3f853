//! Whether this kernel does what it promises: a tiny image with one object, mounted as a start mounts it, and read. A
//! kernel may accept `verity=require` and then refuse what is right (7.0.0 to 7.0.6), or let pass what is not.

mod once;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use composefs::generic_tree::Stat;
use rustix::io::Errno;

pub use once::prepare_proven;

use crate::digest::{Algorithm, VerityDigest, verity_digest};
use crate::error::{Case, Refusal, Result};
use crate::image::{EntryKind, TarEntry, Writer};
use crate::mount::{MountOptions, MountSpec, UpperDir, detached};
use crate::oci::Budget;
use crate::policy::Denied;
use crate::policy::Verity;
use crate::prepare::{PreparedImage, RootShape, prepare};
use crate::protocol::{Extent, IdMapping};
use crate::sys::{files, process, selinux};
use crate::vault::Vault;
use crate::verify::{Waiver, unsigned_layers};

/// The algorithm of seals, and the second one that composefs knows.
const ALGORITHM: Algorithm = Algorithm::Sha512;
/// What the object holds, and two contents that somebody may put in its place. More than a page: it is read in several
/// steps.
const GOOD: [u8; 9000] = [b'g'; 9000];
const OTHER: [u8; 9000] = [b'o'; 9000];

/// A way in which a start mounts an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Read-only, as it is.
    ReadOnly,
    /// With an upper directory.
    Upper,
    /// Under other user IDs.
    Mapped,
    /// Under an SELinux label with two categories.
    Context,
}

impl Way {
    /// Returns what to call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::Upper => "with an upper directory",
            Self::Mapped => "for other user IDs",
            Self::Context => "with an SELinux label",
        }
    }
}

/// Reads a sealed object through mounts of every way that this host has, unchanged and changed in two ways, each time
/// from an inode that nobody has opened. `vault` is where it is tried: on that filesystem. What is made there is
/// removed afterwards.
///
/// The result for a way is [`Case::G10Proof`] if the kernel refuses what is right or shows what is not, and an error of
/// mounting if there was no mount.
///
/// # Errors
/// Errors of making the image; then nothing was tried.
pub fn probe_kernel(vault: &Path) -> Result<Vec<(Way, Result<()>)>> {
    let mut ways = vec![Way::ReadOnly, Way::Upper, Way::Mapped];
    if selinux::is_enabled() {
        ways.push(Way::Context);
    }
    let probe = Probe::new(vault)?;
    Ok(ways.into_iter().map(|way| (way, probe.whole(way))).collect())
}

/// An image with one object, in a vault of its own.
struct Probe {
    vault: Vault,
    prepared: PreparedImage,
    good: VerityDigest,
    /// The last field, because dropping it removes the vault.
    scratch: Scratch,
}

impl Probe {
    /// Makes the probe in a directory of `dir`, or of the nearest existing one above it.
    fn new(dir: &Path) -> Result<Self> {
        let scratch = Scratch::new(dir)?;
        let vault = Vault::create(&scratch.0.join("vault"))?;
        let good = verity_digest(ALGORITHM, &GOOD);
        vault.put_object(&good, &GOOD, None)?;
        let prepared = image(&vault, &good)?;
        Ok(Self { vault, prepared, good, scratch })
    }

    /// Tries the object as it was sealed, and with another digest: the cheapest test.
    fn brief(&self, way: Way) -> Result<()> {
        self.put(&GOOD)?;
        let right = self.look(way)?;
        self.put(&OTHER)?;
        verdict(right, &[(ANOTHER, self.look(way)?)])
    }

    /// Tries the same, and also an object without a digest.
    fn whole(&self, way: Way) -> Result<()> {
        let named = |r: Refusal| r.within(way.name());
        let look = || {
            self.put(&GOOD)?;
            let right = self.look(way)?;
            self.put(&OTHER)?;
            let other = self.look(way)?;
            let bare = self.place().with_extension("bare");
            let done = std::fs::write(&bare, GOOD).and_then(|()| std::fs::rename(&bare, self.place()));
            done.map_err(|e| Refusal::io(self.place().display().to_string(), e))?;
            verdict(right, &[(ANOTHER, other), ("an object without fs-verity", self.look(way)?)])
        };
        look().map_err(named)
    }

    fn place(&self) -> PathBuf {
        self.scratch.0.join("vault/objects").join(self.good.object_path())
    }

    /// Puts a new file with this content and its own digest in the object's place.
    fn put(&self, content: &[u8]) -> Result<()> {
        let digest = verity_digest(ALGORITHM, content);
        self.vault.put_object(&digest, content, None)?;
        if digest != self.good {
            let file = self.scratch.0.join("vault/objects").join(digest.object_path());
            std::fs::rename(&file, self.place()).map_err(|e| Refusal::io(file.display().to_string(), e))?;
        }
        Ok(())
    }

    fn look(&self, way: Way) -> Result<ProbeOutcome> {
        self.forget_inodes();
        let mut place = MountSpec::read_only(self.prepared.description());
        let mut label = None;
        // Removed after what is mounted on it.
        let dir = tempfile::tempdir_in(&self.scratch.0).map_err(|e| Refusal::io("upper directory", e))?;
        match way {
            Way::ReadOnly => {}
            Way::Upper => place.upper = Some(upper(dir.path())?),
            Way::Mapped => {
                let map = IdMapping::Map(vec![Extent { container: 0, host: 100_000, size: 65_536 }]);
                place.how = MountOptions { uids: map.clone(), gids: map, ..MountOptions::default() };
            }
            Way::Context => {
                label = Some(selinux::two_categories(&self.scratch.0)?);
                place.how.context.clone_from(&label);
                place.how.store_label = selinux::label_of(self.scratch.open()?);
            }
        }
        let root = detached(&self.prepared, &place)?;
        let mut content = Vec::new();
        let mut file = match files::open_file_at(&root, "file") {
            Ok(file) => file,
            Err(e) => return Ok(Err(e)),
        };
        if let Some(label) = label
            && selinux::label_of(&file).as_ref() != Some(&label)
        {
            return Err(Refusal::new(Case::I11Overlay, "", "the label that was asked for is not shown"));
        }
        Ok(file.read_to_end(&mut content).map(|_| content))
    }

    /// Drops inodes from memory, for those there already know their digests. Only root can ask for it; otherwise they
    /// are read warm.
    fn forget_inodes(&self) {
        let _ = self.vault.sync();
        let _ = std::fs::write("/proc/sys/vm/drop_caches", "2");
    }
}

fn upper(dir: &Path) -> Result<UpperDir> {
    let make = |name: &str| {
        let path = dir.join(name);
        std::fs::create_dir(&path).and_then(|()| files::open_dir(&path)).map_err(|e| Refusal::io(name, e))
    };
    Ok(UpperDir { upper: make("upper")?, work: make("work")?, path: dir.join("upper") })
}

/// What is in the object's place.
const ANOTHER: &str = "an object with another digest";

/// What reading an object came to.
type ProbeOutcome = std::result::Result<Vec<u8>, std::io::Error>;

/// Judges the outcome: what was sealed must be read, and for anything else the only right answer is an I/O error,
/// whether opening or reading gives it.
fn verdict(right: ProbeOutcome, wrong: &[(&str, ProbeOutcome)]) -> Result<()> {
    match right {
        Ok(content) if content == GOOD => {}
        Ok(_) => return fails("an object was shown as something else".into()),
        Err(e) => return fails(format!("an object that is as it was sealed cannot be read: {e}")),
    }
    for (what, read) in wrong {
        match read {
            Err(e) if Errno::from_io_error(e) == Some(Errno::IO) => {}
            Err(e) => return fails(format!("{what}: {e}, and not an error of input or output")),
            Ok(_) => return fails(format!("{what} was shown")),
        }
    }
    Ok(())
}

fn fails(what: String) -> Result<()> {
    Err(Refusal::new(Case::G10Proof, "", what))
}

/// Makes an image with one file, which nobody vouches for: nothing in it is run.
fn image(vault: &Vault, object: &VerityDigest) -> Result<PreparedImage> {
    let entry = |path: &[u8], kind, mode| TarEntry {
        path: path.into(),
        kind,
        stat: Stat { st_mode: mode, ..Stat::uninitialized() },
        beyond: None,
    };
    let entries = vec![
        entry(b"", EntryKind::Directory, 0o755),
        entry(b"file", EntryKind::External(*object, GOOD.len() as u64), 0o644),
    ];
    let tree = Writer::layer_without_whiteouts(ALGORITHM, &entries)?;
    let rootfs = verity_digest(ALGORITHM, &tree);
    vault.put_object(&rootfs, &tree, None)?;
    let digests = crate::image::TreeDigests { rootfs, merged: None, layers: vec![rootfs] };
    let image = unsigned_layers(&Waiver::for_volume(), &digests, &Denied::nothing())?;
    prepare(vault, &image, RootShape::Root, Verity::Require, &Budget::STANDARD)
}

/// A directory in the vault that is removed with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(vault: &Path) -> Result<Self> {
        let io = |e| Refusal::io(vault.display().to_string(), e);
        let existing = vault.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
        sweep(existing);
        let prefix = format!("{PREFIX}{}.", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(existing).map_err(io)?;
        Ok(Self(dir.keep()))
    }
}

impl Scratch {
    fn open(&self) -> Result<std::os::fd::OwnedFd> {
        files::open_dir(&self.0).map_err(|e| Refusal::io(self.0.display().to_string(), e))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const PREFIX: &str = "layerseal-proof.";

/// Removes what a process that was killed meanwhile has left.
fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next()?.parse().ok());
        if owner.is_some_and(process::has_ended) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes up the kernel's answers: no kernel that gives the wrong ones is at hand.
    #[test]
    fn g10_kernels_that_answer_wrongly() {
        let failed = |errno: Errno| -> ProbeOutcome { Err(errno.into()) };
        let shown = |content: &[u8]| -> ProbeOutcome { Ok(content.to_vec()) };
        let of = |right, other, bare| {
            let verdict = verdict(right, &[("other", other), ("bare", bare)]);
            verdict.map_err(|refusal| (refusal.case(), refusal.detail().to_owned()))
        };
        assert_eq!(of(shown(&GOOD), failed(Errno::IO), failed(Errno::IO)), Ok(()));
        // 7.0.0 to 7.0.6, and kernels without CONFIG_FS_VERITY.
        let (case, why) = of(failed(Errno::IO), failed(Errno::IO), failed(Errno::IO)).unwrap_err();
        assert!(case == Case::G10Proof && why.contains("as it was sealed"), "{why}");
        for (right, other, bare) in [
            (shown(&OTHER), failed(Errno::IO), failed(Errno::IO)),
            (shown(&GOOD), shown(&OTHER), failed(Errno::IO)),
            (shown(&GOOD), failed(Errno::IO), shown(&GOOD)),
            (shown(&GOOD), failed(Errno::NOENT), failed(Errno::IO)),
            (shown(&GOOD), failed(Errno::IO), failed(Errno::ACCESS)),
        ] {
            assert_eq!(of(right, other, bare).unwrap_err().0, Case::G10Proof);
        }
    }
}
