//! Where a vault is: in a graph root, on a mount there, or wherever the policy says.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, fstat, statat};
use rustix::io::Errno;

use super::Vault;
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::BlobStore;
use crate::sys::{files, mounts, new_files, same_paths};

/// The vault's name in a graph root.
pub const NAME: &str = "layerseal";

/// The directory of notes of the container stores that use a vault which is in none of them.
const STORES: &str = "stores";

/// The longest path.
const MAX_PATH: u64 = 4096;

impl Vault {
    /// Opens the vault of a container store, `layerseal` beneath its open root, and makes it where it is
    /// missing.
    ///
    /// containers-storage mounts its directory on itself, and nothing can be linked from one mount into another
    /// (linkat(2), EXDEV): so the vault is opened through a private mount of the root, which [`Self::tree`] returns to
    /// callers that have files to link from. Where something is mounted on `layerseal`, or on a part of it, that is the
    /// vault, and files are copied: a private mount would show what lies beneath, and the vault would be in two places.
    ///
    /// # Errors
    /// [`Case::VaultPlace`] for a symlink in its place, [`Case::Io`].
    pub fn of_store(root: impl AsFd, path: &Path) -> Result<Self> {
        let path = path.join(NAME);
        let io = |e: std::io::Error| Refusal::io(format!("vault {}", path.display()), e);
        no_symlink(&root, NAME, &path)?;
        let tree = mounts::clone_mount(&root).ok();
        let dir = files::make_dir_at(&root, NAME).map_err(io)?;
        let attached = files::make_dir_at(&dir, "objects").map_err(io)?;
        let parts = ["", "objects", "blobs", "blobs/sha256"];
        let same = |tree: &OwnedFd| parts.iter().try_fold(true, |same, part| Ok(same && seen_alike(&dir, tree, part)?));
        let tree = match tree {
            Some(tree) if same(&tree).map_err(io)? => Some(tree),
            _ => None,
        };
        let root = match &tree {
            Some(tree) => files::open_dir_at(tree, NAME).map_err(io)?,
            None => dir,
        };
        let store = BlobStore::create(&root, &path)?;
        let objects = files::make_dir_at(&root, "objects").map_err(io)?;
        Ok(Self { root, path, store, objects, attached: Some(attached), tree })
    }

    /// Opens the vault of a container store like [`Self::of_store`], where it is there already; nothing is made.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn of_store_if_any(root: impl AsFd, path: &Path) -> Result<Option<Self>> {
        let path = path.join(NAME);
        let io = |e: std::io::Error| Refusal::io(format!("vault {}", path.display()), e);
        let tree = mounts::clone_mount(&root).ok();
        let at_home = match files::open_dir_at(&root, NAME) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            dir => dir.map_err(io)?,
        };
        let root = match &tree {
            Some(tree) => files::open_dir_at(tree, NAME).map_err(io)?,
            None => at_home.try_clone().map_err(io)?,
        };
        if files::open_dir_at(&root, "blobs/sha256").is_err() {
            return Ok(None);
        }
        let store = BlobStore::open(&root, &path)?;
        // Where there is no directory of objects its parent stands for it: no object is found there, because the
        // directories that they would be in are missing.
        let objects = |dir: &OwnedFd| files::open_dir_at(dir, "objects").or_else(|_| dir.try_clone());
        let (objects, attached) = (objects(&root).map_err(io)?, objects(&at_home).map_err(io)?);
        Ok(Some(Self { root, path, store, objects, attached: Some(attached), tree }))
    }

    /// Opens the vault at `path`, where the policy says that it is, for the container store at `store`: its parts are
    /// made where they are missing, and a note is kept that the store uses it, so that a collection asks that store
    /// too.
    ///
    /// # Errors
    /// [`Case::VaultPlace`] where it is not there, not root's alone or behind a symlink, [`Case::Io`].
    pub fn elsewhere(path: &Path, store: &Path) -> Result<Self> {
        let io = |e: std::io::Error| Refusal::io(format!("vault {}", path.display()), e);
        let root = open_plain(path)?;
        let objects = files::make_dir_at(&root, "objects").map_err(|e| match e.kind() {
            // `layerseal vault create` makes the directory that a vault is mounted on immutable.
            ErrorKind::PermissionDenied => {
                let why = format!("nothing can be made in it, it may not be mounted: {e}");
                Refusal::new(Case::VaultPlace, format!("vault {}", path.display()), why)
            }
            _ => io(e),
        })?;
        let blobs = BlobStore::create(&root, path)?;
        let vault = Self { root, path: path.to_owned(), store: blobs, objects, attached: None, tree: None };
        vault.note_store(store)?;
        Ok(vault)
    }

    fn note_store(&self, store: &Path) -> Result<()> {
        use std::os::unix::ffi::OsStrExt as _;
        let store = std::path::absolute(store).map_err(|e| self.io(e))?;
        let bytes = store.as_os_str().as_bytes();
        let name = BlobDigest::of(bytes).hex();
        match files::open_file_path_at(&self.root, format!("{STORES}/{name}")) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let notes = files::make_dir_at(&self.root, STORES).map_err(|e| self.io(e))?;
                new_files::write_atomic(&notes, &name, 0o600, bytes).map_err(|e| self.io(e))
            }
            Err(e) => Err(self.io(e)),
        }
    }

    /// Lists the container stores that were noted to use this vault.
    ///
    /// # Errors
    /// [`Case::VaultPlace`] for one that is not there: it may not be mounted, and what its images need is not known;
    /// [`Case::Io`].
    pub fn noted_stores(&self) -> Result<Vec<PathBuf>> {
        use std::os::unix::ffi::OsStringExt as _;
        let mut stores = Vec::new();
        for name in self.entries(STORES)?.iter().filter(|name| !name.starts_with(new_files::REMAINS)) {
            let place = format!("{STORES}/{name}");
            let file = files::open_file_at(&self.root, &place).map_err(|e| self.io(e))?;
            let store =
                PathBuf::from(std::ffi::OsString::from_vec(files::read_all(file, MAX_PATH).map_err(|e| self.io(e))?));
            if !same_paths::is_dir(&store.join("overlay-layers")).map_err(|e| self.io(e))? {
                let why = format!(
                    "it used this vault, and no container store is there: mount it, or remove {}",
                    self.path.join(&place).display()
                );
                return Err(Refusal::new(Case::VaultPlace, store.display().to_string(), why));
            }
            stores.push(store);
        }
        Ok(stores)
    }

    /// Returns whether `file` lies on the vault's filesystem, so that it could be an object itself.
    pub fn is_beside(&self, file: impl AsFd) -> bool {
        let device = |fd: std::os::fd::BorrowedFd<'_>| fstat(fd).map(|stat| stat.st_dev);
        matches!((device(file.as_fd()), device(self.objects.as_fd())), (Ok(a), Ok(b)) if a == b)
    }
}

/// Checks the place of a vault that is opened by its path: for the one that is configured, and not for one that was
/// named by hand.
///
/// # Errors
/// [`Case::VaultPlace`], [`Case::Io`].
pub fn check_place(path: &Path, elsewhere: bool) -> Result<()> {
    if elsewhere {
        return open_plain(path).map(drop);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    match files::open_dir(parent) {
        Ok(parent) => no_symlink(parent, name.to_string_lossy().as_ref(), path),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Refusal::io(path.display().to_string(), e)),
    }
}

/// Opens a directory that is root's alone, by a path that goes through no symlink.
fn open_plain(path: &Path) -> Result<OwnedFd> {
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::VaultPlace, format!("vault {}", path.display()), why);
    let dir = files::open_dir_plain(path).map_err(|e| match Errno::from_io_error(&e) {
        Some(Errno::NOENT) => refuse(&"there is no such directory: make it, or mount what it is on"),
        Some(Errno::LOOP) => refuse(&"a part of the path is a symlink: name where it leads"),
        Some(Errno::NOTDIR) => refuse(&"not a directory, or a symlink"),
        _ => Refusal::io(format!("vault {}", path.display()), e),
    })?;
    let stat = fstat(&dir).map_err(|e| Refusal::io(path.display().to_string(), e))?;
    if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 {
        return Err(refuse(&"others than root can write to it"));
    }
    Ok(dir)
}

/// Checks that `name` is not a symlink: it could lead to a filesystem that nothing can be linked to, and to one that is
/// not root's.
fn no_symlink(dir: impl AsFd, name: &str, path: &Path) -> Result<()> {
    let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(Refusal::io(path.display().to_string(), e)),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let why = "a symlink is in the place of the vault: name in the policy where it is to lead";
            Err(Refusal::new(Case::VaultPlace, format!("vault {}", path.display()), why))
        }
        _ => Ok(()),
    }
}

/// Returns whether `part` of a vault is the same directory in `dir`, with all mounts, and in the vault of `tree`, which
/// has none of them.
fn seen_alike(dir: &OwnedFd, tree: &OwnedFd, part: &str) -> std::io::Result<bool> {
    let look = |dir: &OwnedFd, name: &str| match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some((stat.st_dev, stat.st_ino))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(std::io::Error::from(e)),
    };
    let here = look(dir, if part.is_empty() { "." } else { part })?;
    let there = look(tree, Path::new(NAME).join(part).to_string_lossy().as_ref())?;
    Ok(here == there)
}
