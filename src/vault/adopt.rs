use std::fs::File;

use rustix::io::Errno;

use super::Vault;
use crate::digest::VerityDigest;
use crate::report::{Refusal, Result};
use crate::sys::files::{self, NewFile};

impl Vault {
    /// Makes `file`, whose digest was measured or computed through this descriptor, an object: by one
    /// more name for it, or as a copy where it lies in another mount.
    ///
    /// # Errors
    /// [`crate::report::Case::Io`], G02.
    pub fn adopt(&self, file: &File, digest: &VerityDigest) -> Result<()> {
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
            Ok(false) if self.holds(digest) => Ok(()),
            Ok(false) => {
                let (dir, name) = self.object_place(digest)?;
                files::replace_link(file, dir, &name).map_err(|e| Refusal::io(self.object_name(digest), e))
            }
            // Another filesystem or mount, and files with as many names as the filesystem allows.
            Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::XDEV | Errno::MLINK | Errno::PERM)) => {
                self.copy(file, digest)
            }
            Err(e) => Err(Refusal::io(self.object_name(digest), e)),
        }
    }

    fn copy(&self, file: &File, digest: &VerityDigest) -> Result<()> {
        use std::io::Seek as _;
        if self.holds(digest) {
            return Ok(());
        }
        let io = |e| Refusal::io(self.object_name(digest), e);
        let (dir, name) = self.object_place(digest)?;
        let mut new = NewFile::create(&dir, 0o444).map_err(io)?;
        let mut source = file;
        source.rewind().map_err(io)?;
        std::io::copy(&mut source, &mut new).map_err(io)?;
        let done = new.finish().map_err(io)?;
        self.enable(&done.file, digest, None)?;
        self.verify_copy(&done.file, digest)?;
        done.replace(&name).map_err(io)
    }

    /// What was copied can have been changed since it was measured.
    fn verify_copy(&self, copy: &File, digest: &VerityDigest) -> Result<()> {
        use crate::report::Case;
        use crate::sys::verity;
        let name = self.object_name(digest);
        match verity::check(copy, digest, &name) {
            Err(r) if matches!(r.case(), Case::G06Unsupported | Case::G01Missing) => {
                use std::io::Seek as _;
                let mut again = copy.try_clone().map_err(|e| Refusal::io(&name, e))?;
                again.rewind().map_err(|e| Refusal::io(&name, e))?;
                let found = super::hash(again, digest.algorithm()).map_err(|e| Refusal::io(&name, e))?;
                if found == *digest { Ok(()) } else { Err(Refusal::new(Case::G01Other, name, found)) }
            }
            other => other,
        }
    }
}
