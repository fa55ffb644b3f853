use std::fs::File;

use rustix::io::Errno;

use super::Vault;
use crate::digest::{Algorithm, VerityDigest};
use crate::error::{Case, Refusal, Result};
use crate::policy::Verity;
use crate::sys::draft::{Draft, NewDraft};
use crate::sys::{new_files, verity};

impl Vault {
    /// Makes `file` of `size` bytes, whose digest was measured or computed through this descriptor, an object:
    /// by one more name for it, or as a copy where it lies in another mount.
    ///
    /// # Errors
    /// [`Case::Io`], G02.
    pub fn adopt(&self, file: &File, digest: &VerityDigest, size: u64, mode: Verity) -> Result<()> {
        let path = digest.object_path();
        let linked = match new_files::link(file, self.objects(), &path) {
            // The first object whose digest begins with these digits.
            Err(e) if Errno::from_io_error(&e) == Some(Errno::NOENT) => {
                self.object_place(digest)?;
                new_files::link(file, self.objects(), &path)
            }
            other => other,
        };
        match linked {
            Ok(true) => Ok(()),
            Ok(false) if self.holds(digest, size) => Ok(()),
            Ok(false) => {
                let (dir, name) = self.object_place(digest)?;
                new_files::replace_link(file, dir, &name).map_err(|e| Refusal::io(self.object_name(digest), e))
            }
            Err(e) if cannot_link(&e) => self.copy(file, digest, size, mode),
            Err(e) => Err(Refusal::io(self.object_name(digest), e)),
        }
    }

    fn copy(&self, file: &File, digest: &VerityDigest, size: u64, mode: Verity) -> Result<()> {
        if self.holds(digest, size) {
            return Ok(());
        }
        let found = self.copy_as(file, digest.algorithm(), mode)?;
        // What was copied may have been changed since it was measured.
        if found == *digest { Ok(()) } else { Err(Refusal::new(Case::G01Other, self.object_name(digest), found)) }
    }

    /// Makes an object of a copy of `file`. The copy has fs-verity where the filesystem can: it must, unless `mode`
    /// asks for none. The copy shares its blocks with the file where the filesystem can do that.
    ///
    /// # Errors
    /// [`Case::Io`], G02, G06.
    pub fn copy_as(&self, file: &File, algorithm: Algorithm, mode: Verity) -> Result<VerityDigest> {
        let io = |e| Refusal::io(self.path.display().to_string(), e);
        let name = "new object";
        let mut new = NewDraft::create(self.objects(), 0o444).map_err(io)?;
        new.copy_of(file).map_err(io)?;
        let done = new.finish().map_err(io)?;
        let digest = match verity::enable(&done, algorithm, None, name) {
            Ok(_) => verity::measure(done.file(), algorithm, name)?,
            Err(r) if r.case() == Case::G06Unsupported && mode == Verity::Off => {
                super::hash(done.file().try_clone().map_err(io)?, algorithm).map_err(io)?
            }
            Err(r) => return Err(r),
        };
        let (dir, name) = self.object_place(&digest)?;
        done.rename(&dir, &name).map_err(io)?;
        Ok(digest)
    }

    /// Makes `file` of `size` bytes, which has no fs-verity yet, an object: by one more name, under which it gets
    /// fs-verity, so that nobody takes the last one away meanwhile; or as a copy.
    ///
    /// # Errors
    /// [`Case::Io`], G02 and G06.
    pub fn protect_and_adopt(&self, file: &File, algorithm: Algorithm, mode: Verity) -> Result<VerityDigest> {
        let name = "";
        let draft = match Draft::of(file, self.objects()) {
            Err(e) if cannot_link(&e) => return self.copy_as(file, algorithm, mode),
            other => other.map_err(|e| self.io(e))?,
        };
        verity::enable(&draft, algorithm, None, name)?;
        let digest = verity::measure(file, algorithm, name)?;
        let (dir, name) = self.object_place(&digest)?;
        draft.rename(&dir, &name).map_err(|e| Refusal::io(self.object_name(&digest), e))?;
        Ok(digest)
    }
}

/// Returns whether an error means that a file cannot have another name here: another filesystem or mount, or a file
/// with as many names as the filesystem allows.
fn cannot_link(e: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(e), Some(Errno::XDEV | Errno::MLINK | Errno::PERM))
}
