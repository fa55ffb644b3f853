//! Names of the documents of a store. A container that has a second name of one in what it can write keeps it mapped, takes
//! that name away, and changes the content later, without a trace in the file's times: by then nobody can tell.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, statat};
use rustix::io::Errno;

use super::database::database_paths;
use super::own_files::ANOTHER_NAME;
use crate::error::{Case, Refusal, Result};
use crate::sys::files;

/// Where the records are, and for images their documents.
const RECORDS: [&str; 3] = ["overlay-images", "overlay-layers", "overlay-containers"];

/// Checks that everything that podman reads in a store, for whichever container, has one name: the records, the documents of
/// all images, and its database. podman and containers-storage link none of them.
///
/// # Errors
/// [`Case::B09Replaced`], and [`Case::B15Database`] for a database; [`Case::Io`].
pub fn check_names(root: &Path) -> Result<()> {
    let io = |path: &Path, e: std::io::Error| Refusal::io(path.display().to_string(), e);
    for path in database_paths(root) {
        match std::fs::metadata(&path) {
            Ok(found) if found.is_file() && found.nlink() > 1 => {
                return Err(Refusal::new(Case::B15Database, path.display().to_string(), ANOTHER_NAME));
            }
            Err(e) if files::no_file(&e).is_none() => return Err(io(&path, e)),
            _ => {}
        }
    }
    let store = match files::open_dir(root) {
        Ok(store) => store,
        Err(e) if files::no_file(&e).is_some() => return Ok(()),
        Err(e) => return Err(io(root, e)),
    };
    for name in RECORDS {
        let images = name == "overlay-images";
        check_directory(&store, root, name, &|directory, at, file, kind| match kind {
            FileType::Directory if images => {
                check_directory(directory, at, file, &|directory, at, file, kind| check_name(directory, at, file, kind))
            }
            _ if file.as_bytes().ends_with(b".json") => check_name(directory, at, file, kind),
            _ => Ok(()),
        })?;
    }
    Ok(())
}

type Each<'a> = &'a dyn Fn(&dyn AsFd, &Path, &OsStr, FileType) -> Result<()>;

/// Has a look at each entry of a directory; there may be no such directory, and one that leads elsewhere is refused by those
/// who read it.
fn check_directory(above: &(impl AsFd + ?Sized), at: &Path, name: impl AsRef<OsStr>, each: Each<'_>) -> Result<()> {
    let path = at.join(name.as_ref());
    let failed = |e: std::io::Error| Refusal::io(path.display().to_string(), e);
    let opened = match files::open_dir_at(above.as_fd(), &name) {
        Ok(opened) => opened,
        Err(e) if files::no_file(&e).is_some() => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    for entry in Dir::read_from(&opened).map_err(|e| failed(e.into()))? {
        let entry = entry.map_err(|e| failed(e.into()))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            each(&opened, &path, OsStr::from_bytes(name), entry.file_type())?;
        }
    }
    Ok(())
}

fn check_name(directory: &dyn AsFd, at: &Path, name: &OsStr, kind: FileType) -> Result<()> {
    if !matches!(kind, FileType::RegularFile | FileType::Unknown) {
        return Ok(());
    }
    match statat(directory.as_fd(), name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile && found.st_nlink > 1 => {
            Err(Refusal::new(Case::B09Replaced, at.join(name).display().to_string(), ANOTHER_NAME))
        }
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(Refusal::io(at.join(name).display().to_string(), e)),
    }
}
