use std::fs::File;
use std::io::Seek as _;

use rustix::io::Errno;

use super::Vault;
use crate::digest::{Algorithm, VerityDigest};
use crate::report::{Case, Refusal, Result};
use crate::sys::files::{self, NewFile};
use crate::sys::verity;

impl Vault {
    /// Makes `file` of `size` bytes, whose digest was measured or computed through this descriptor, an object:
    /// by one more name for it, or as a copy where it lies in another mount.
    ///
    /// # Errors
    /// [`Case::Io`], G02.
    pub fn adopt(&self, file: &File, digest: &VerityDigest, size: u64) -> Result<()> {
        let path = digest.object_path();
        let linked = match files::link(file, self.objects(), &path) {
            // The first object whose digest begins so.
            Err(e) if Errno::from_io_error(&e) == Some(Errno::NOENT) => {
                self.object_place(digest)?;
                files::link(file, self.objects(), &path)
            }
            other => other,
        };
        match linked {
            Ok(true) => Ok(()),
            Ok(false) if self.holds(digest, size) => Ok(()),
            Ok(false) => {
                let (dir, name) = self.object_place(digest)?;
                files::replace_link(file, dir, &name).map_err(|e| Refusal::io(self.object_name(digest), e))
            }
            // Another filesystem or mount, and files with as many names as the filesystem allows.
            Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::XDEV | Errno::MLINK | Errno::PERM)) => {
                self.copy(file, digest, size)
            }
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
        let mut new = NewFile::create(self.objects(), 0o444).map_err(io)?;
        let mut source = file;
        source.rewind().map_err(io)?;
        std::io::copy(&mut source, &mut new).map_err(io)?;
        let done = new.finish().map_err(io)?;
        let digest = match verity::enable(&done.file, algorithm, None, name) {
            Ok(_) => verity::measure(&done.file, algorithm, name)?,
            Err(r) if r.case() == Case::G06Unsupported => {
                super::hash(done.file.try_clone().map_err(io)?, algorithm).map_err(io)?
            }
            Err(r) => return Err(r),
        };
        let (dir, name) = self.object_place(&digest)?;
        done.replace_in(&dir, &name).map_err(io)?;
        Ok(digest)
    }
}
