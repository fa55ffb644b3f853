//! What overlayfs notes in an upper directory about what it did there, in extended attributes.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::fremovexattr;

use crate::sys::files;

/// Whose overlay it was, and so how the attributes are called (fs/overlayfs/overlayfs.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OverlayNotes {
    /// Root's: `trusted.overlay.*`.
    OfRoot,
    /// One with the option `userxattr`, as users have: `user.overlay.*`.
    OfUser,
}

impl OverlayNotes {
    fn prefix(self) -> &'static str {
        match self {
            Self::OfRoot => "trusted.overlay.",
            Self::OfUser => "user.overlay.",
        }
    }

    /// Returns whether podman's own overlay copied the file up: it notes which file it copied, as far as the filesystem
    /// has handles for files. The verified overlay does not say which (`mount::overlay`, `create`), and what is newly
    /// made has no origin. In an overlay of a user's neither says which file it was.
    pub(super) fn is_copied_up(self, file: impl AsFd) -> io::Result<bool> {
        Ok(self.origin(file)?.is_some_and(|origin| !origin.is_empty()))
    }

    /// Returns whether the content of a file, in a container that never ran verified, may come from the layers: what
    /// podman's overlay copied up, or content of a file other than the one that is here.
    ///
    /// An origin that names no file is let pass where the verified overlay writes the same, and notes may be lost. For
    /// users any origin counts: no other tells podman's copies from those of the verified overlay.
    pub(super) fn has_content_of_layers(self, file: impl AsFd) -> io::Result<bool> {
        let prefix = self.prefix().as_bytes();
        let elsewhere = self.attributes(&file)?.iter().any(|(name, _)| name.starts_with(prefix));
        Ok(elsewhere
            || match self {
                Self::OfRoot => self.is_copied_up(file)?,
                Self::OfUser => self.origin(file)?.is_some(),
            })
    }

    /// Removes the origin of a file that was found to be as it should be: from now on it is the container's, whatever it
    /// makes of it, and nobody needs to know when that was. Overlayfs takes a file's inode number from the origin, and
    /// nothing else.
    pub(super) fn forget_origin(self, file: impl AsFd) -> io::Result<()> {
        match self.is_copied_up(&file)? {
            true => Ok(fremovexattr(file, format!("{}origin", self.prefix()))?),
            false => Ok(()),
        }
    }

    /// Returns what is noted of the file that a copy was made from.
    pub(super) fn origin(self, file: impl AsFd) -> io::Result<Option<Vec<u8>>> {
        files::xattr(file, &format!("{}origin", self.prefix()))
    }

    /// Returns the attributes of a file, without those that overlayfs keeps for itself and that change nothing, and
    /// without the label of the host's security module.
    pub(super) fn attributes(self, file: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        const OWN: [&[u8]; 3] = [b"impure", b"origin", b"uuid"];
        let prefix = self.prefix().as_bytes();
        let is_own = |name: &[u8]| {
            name == b"security.selinux" || name.strip_prefix(prefix).is_some_and(|rest| OWN.contains(&rest))
        };
        Ok(files::xattrs(file)?.into_iter().filter(|(name, _)| !is_own(name)).collect())
    }
}
