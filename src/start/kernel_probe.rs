//! Whether this kernel does what it accepts: a tiny image with one object, mounted as a start mounts it, and read. A kernel
//! may take `verity=require` and then refuse what is right (7.0.0 to 7.0.6), or let pass what is not.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use composefs::generic_tree::Stat;
use rustix::io::Errno;

use crate::digest::{Algorithm, VerityDigest, verity_digest};
use crate::image::{Entry, Kind, Writer};
use crate::mount::{How, view};
use crate::oci::Budget;
use crate::policy::Denied;
use crate::policy::Verity;
use crate::prepare::{Shape, prepare};
use crate::report::{Case, Refusal, Result};
use crate::sys::files;
use crate::vault::Vault;
use crate::verify::{Waiver, unsigned_layers};

/// The algorithm of seals, and the one that composefs has besides.
const ALGORITHM: Algorithm = Algorithm::Sha512;
/// What the object holds, and two that somebody may put in its place. More than a page: it is read in several steps.
const GOOD: [u8; 9000] = [b'g'; 9000];
const OTHER: [u8; 9000] = [b'o'; 9000];

/// Reads a sealed object through a mount, as it is and changed in two ways, each time from an inode that nobody has
/// opened. `vault` is where it is tried: on that filesystem. What is made there is gone afterwards.
///
/// # Errors
/// [`Case::G10Proof`] where the kernel refuses what is right or shows what is not; those of [`prepare`] and [`view`] where it
/// comes to no mount.
pub fn probe_kernel(vault: &Path) -> Result<()> {
    let scratch = Scratch::new(vault)?;
    let vault = Vault::create(&scratch.0)?;
    let good = verity_digest(ALGORITHM, &GOOD);
    vault.put_object(&good, &GOOD, None)?;
    let prepared = image(&vault, &good)?;
    let look = || -> Result<Read> {
        forget_inodes();
        let root = view(&prepared, &How::default())?;
        let mut content = Vec::new();
        Ok(files::open_file_at(&root, "file").and_then(|mut file| file.read_to_end(&mut content)).map(|_| content))
    };
    let right = look()?;
    let place = scratch.0.join("objects").join(good.object_path());
    let io = |e| Refusal::io(place.display().to_string(), e);
    // Another file with fs-verity, and the same content without.
    let other = verity_digest(ALGORITHM, &OTHER);
    vault.put_object(&other, &OTHER, None)?;
    std::fs::rename(scratch.0.join("objects").join(other.object_path()), &place).map_err(io)?;
    let wrong = look()?;
    let bare = place.with_extension("bare");
    std::fs::write(&bare, GOOD).and_then(|()| std::fs::rename(&bare, &place)).map_err(io)?;
    verdict(right, [("an object with another digest", wrong), ("an object without fs-verity", look()?)])
}

/// What reading an object came to.
type Read = std::result::Result<Vec<u8>, std::io::Error>;

/// What was sealed is read; of all else there is only one right answer, an error of input or output, from whoever opens
/// or reads it.
fn verdict(right: Read, wrong: [(&str, Read); 2]) -> Result<()> {
    let fails = |what: String| Err(Refusal::new(Case::G10Proof, "", what));
    match right {
        Ok(content) if content == GOOD => {}
        Ok(_) => return fails("an object was shown as something else".into()),
        Err(e) => return fails(format!("an object that is as it was sealed cannot be read: {e}")),
    }
    for (what, read) in wrong {
        match read {
            Err(e) if Errno::from_io_error(&e) == Some(Errno::IO) => {}
            Err(e) => return fails(format!("{what}: {e}, and not an error of input or output")),
            Ok(_) => return fails(format!("{what} was shown")),
        }
    }
    Ok(())
}

/// An image with one file, which nobody vouches for: nothing of it is run.
fn image(vault: &Vault, object: &VerityDigest) -> Result<crate::prepare::PreparedImage> {
    let entry = |path: &[u8], kind, mode| Entry {
        path: path.into(),
        kind,
        stat: Stat { st_mode: mode, ..Stat::uninitialized() },
        beyond: None,
    };
    let entries =
        vec![entry(b"", Kind::Directory, 0o755), entry(b"file", Kind::External(*object, GOOD.len() as u64), 0o644)];
    let tree = Writer::layer_without_whiteouts(ALGORITHM, &entries)?;
    let rootfs = verity_digest(ALGORITHM, &tree);
    vault.put_object(&rootfs, &tree, None)?;
    let digests = crate::image::TreeDigests { rootfs, merged: None, layers: vec![rootfs] };
    let image = unsigned_layers(&Waiver::for_volume(), &digests, &Denied::nothing())?;
    prepare(vault, &image, Shape::Root, Verity::Require, &Budget::STANDARD)
}

/// Inodes that are in memory know their digests already. Root alone can ask; where it cannot, they are read warm.
fn forget_inodes() {
    rustix::fs::sync();
    let _ = std::fs::write("/proc/sys/vm/drop_caches", "2");
}

/// A directory in the vault that goes with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(vault: &Path) -> Result<Self> {
        let io = |e| Refusal::io(vault.display().to_string(), e);
        let existing = vault.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
        let dir = tempfile::Builder::new().prefix("layerseal-proof.").tempdir_in(existing).map_err(io)?;
        Ok(Self(dir.keep()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's answers are made up here: no kernel that gives the wrong ones is at hand.
    #[test]
    fn g10_kernels_that_answer_wrongly() {
        let failed = |errno: Errno| -> Read { Err(errno.into()) };
        let shown = |content: &[u8]| -> Read { Ok(content.to_vec()) };
        let of = |right, other, bare| {
            let verdict = verdict(right, [("other", other), ("bare", bare)]);
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
