//! Bundles: directories with the configuration of a container.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::sys::files;

/// The largest state or configuration that is read, in bytes: several times the size of the largest real ones.
pub const MAX_INPUT: u64 = 16 << 20;

/// Reads the `config.json` of a bundle (runtime-spec, "Filesystem Bundle"), a regular file.
///
/// # Errors
/// The kernel's; `FileTooLarge` for more than [`MAX_INPUT`].
pub fn read_config(bundle: &Path) -> io::Result<Vec<u8>> {
    files::open_dir(bundle)
        .and_then(|dir| files::open_file_at(dir, "config.json"))
        .and_then(|file| files::read_all(file, MAX_INPUT))
}

/// A bundle in a container store: `ROOT/DRIVER-containers/ID/userdata`. podman's is in the graph root, CRI-O's in the
/// run root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The store's root, or the run root.
    pub root: PathBuf,
    /// The storage driver.
    pub driver: String,
    /// The container.
    pub id: String,
}

impl Bundle {
    /// Takes the path of a bundle apart; `None` for a bundle that is in no store.
    pub fn of(path: &Path) -> Option<Self> {
        let id = path.parent().filter(|_| path.ends_with("userdata"))?;
        let containers = id.parent()?;
        let driver = containers.file_name()?.as_bytes().strip_suffix(b"-containers").filter(|d| !d.is_empty())?;
        Some(Self {
            root: containers.parent()?.to_owned(),
            driver: OsStr::from_bytes(driver).to_str()?.to_owned(),
            id: id.file_name()?.to_str()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_of_stores() {
        let bundle = Bundle::of(Path::new("/var/lib/containers/storage/overlay-containers/abc/userdata")).unwrap();
        assert_eq!(bundle.root, Path::new("/var/lib/containers/storage"));
        assert_eq!((bundle.driver.as_str(), bundle.id.as_str()), ("overlay", "abc"));
        for none in ["/tmp/bundle", "/x/overlay-containers/abc", "/x/-containers/abc/userdata", "/userdata", "/"] {
            assert_eq!(Bundle::of(Path::new(none)), None);
        }
    }
}
