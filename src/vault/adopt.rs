use std::fs::File;
use std::io::Seek as _;

use rustix::io::Errno;

use super::Vault;
use crate::digest::{Algorithm, VerityDigest};
use crate::report::{Case, Refusal, Result};
use crate::sys::draft::{Draft, NewDraft};
use crate::sys::{new_files, verity};

impl Vault {
    /// Makes `file` of `size` bytes, whose digest was measured or computed through this descriptor, an object:
    /// by one more name for it, or as a copy where it lies in another mount.
    ///
    /// # Errors
    /// [`Case::Io`], G02.
    pub fn adopt(&self, file: &File, digest: &VerityDigest, size: u64) -> Result<()> {
        let path = digest.object_path();
        let linked = match new_files::link(file, self.objects(), &path) {
            // The first object whose digest begins so.
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
            Err(e) if cannot_link(&e) => self.copy(file, digest, size),
            Err(e) => Err(Refusal::io(self.object_name(digest), e)),
        }
    }

    fn copy(&self, file: &File, digest: &VerityDigest, size: u64) -> Result<()> {
        if self.holds(digest, size) {
            return Ok(());
        }
        let found = self.copy_as(file, digest.algorithm())?;
        // What was copied can have been changed since it was measured.
        if found == *digest { Ok(()) } else { Err(Refusal::new(Case::G01Other, self.object_name(digest), found)) }
    }

    /// Makes an object of a copy of `file`, with fs-verity of its own where the filesystem has it.
    ///
    /// # Errors
    /// [`Case::Io`], G02.
    pub fn copy_as(&self, file: &File, algorithm: Algorithm) -> Result<VerityDigest> {
        let io = |e| Refusal::io(self.path.display().to_string(), e);
        let name = "new object";
        let mut new = NewDraft::create(self.objects(), 0o444).map_err(io)?;
        let mut source = file;
        source.rewind().map_err(io)?;
        std::io::copy(&mut source, &mut new).map_err(io)?;
        let done = new.finish().map_err(io)?;
        let digest = match verity::enable(&done, algorithm, None, name) {
            Ok(_) => verity::measure(done.file(), algorithm, name)?,
            Err(r) if r.case() == Case::G06Unsupported => {
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
    pub fn protect_and_adopt(&self, file: &File, algorithm: Algorithm) -> Result<VerityDigest> {
        let name = "";
        let draft = match Draft::of(file, self.objects()) {
            Err(e) if cannot_link(&e) => return self.copy_as(file, algorithm),
            other => other.map_err(|e| self.io(e))?,
        };
        verity::enable(&draft, algorithm, None, name)?;
        let digest = verity::measure(file, algorithm, name)?;
        let (dir, name) = self.object_place(&digest)?;
        draft.rename(&dir, &name).map_err(|e| Refusal::io(self.object_name(&digest), e))?;
        Ok(digest)
    }
}

/// Another filesystem or mount, and files with as many names as the filesystem allows.
fn cannot_link(e: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(e), Some(Errno::XDEV | Errno::MLINK | Errno::PERM))
}
