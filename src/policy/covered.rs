//! What is mounted over the configuration, or written into it. podman mounts what a store holds as root, and follows symlinks
//! in the store: whoever has the disk can have it mounted over any directory of the host, with files that belong to root.

use std::path::{Path, PathBuf};

use super::Directories;
use crate::container_store::is_of_engine;
use crate::error::{Case, Refusal, Result};
use crate::state::LIB;
use crate::sys::files;
use crate::sys::mountinfo::{self, MountInfo};

/// What else starts depend on: notes that outlive the boot, the hooks, and podman's own configuration.
const FURTHER: [&str; 3] = [LIB, "/usr/share/layerseal", "/etc/containers"];

/// Checks that no mount of a container engine is where the configuration is. The root of the namespace may be one: then
/// all of this runs in a container.
///
/// # Errors
/// [`Case::F10Covered`]; [`Case::J03Proc`] where that cannot be told.
pub(super) fn check(directories: &Directories) -> Result<()> {
    files::check_proc()?;
    let mounts = mountinfo::own()?;
    let is_covering = |mount: &&MountInfo| is_of_engine(mount) && places(directories).any(|place| covers(mount, place));
    match mounts.iter().find(is_covering) {
        Some(mount) => Err(Refusal::new(Case::F10Covered, mount.target.display().to_string(), mount.describe())),
        None => Ok(()),
    }
}

/// Finds what of the configuration may have been written by way of a path: itself, if it is in the configuration, or the
/// first place beneath it.
pub fn configuration_at(path: &Path) -> Option<PathBuf> {
    if is_configuration(path) {
        return Some(path.to_owned());
    }
    let system = Directories::system();
    let mut beneath = places(&system).filter(|place| place.starts_with(path) && place.exists());
    beneath.next().map(Path::to_owned)
}

/// Returns whether a path is in what starts depend on, whoever reads it.
pub fn is_configuration(path: &Path) -> bool {
    places(&Directories::system()).any(|place| path.starts_with(place))
}

/// Lists what starts depend on, on this host.
pub fn configuration_places() -> Vec<PathBuf> {
    places(&Directories::system()).map(Path::to_owned).collect()
}

/// Lists what starts depend on; what hides others comes first.
fn places(directories: &Directories) -> impl Iterator<Item = &Path> {
    directories.all().chain(FURTHER.map(Path::new))
}

fn covers(mount: &MountInfo, place: &Path) -> bool {
    let target = mount.target.as_path();
    target != Path::new("/") && (place.starts_with(target) || target.starts_with(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f10_mounts_of_engines_are_told_from_others() {
        let id = "a".repeat(64);
        let store = "/var/lib/containers/storage/overlay";
        let overlay = |options: &str| format!("40 30 0:50 / /etc rw - overlay overlay rw,{options}\n");
        for (line, expected) in [
            (overlay(&format!("lowerdir={store}/l/ABCDEFGHIJKLMNOPQRSTUVWXYZ:{store}/l/B")), true),
            (overlay(&format!("lowerdir={store}/{id}/diff:{store}/{id}/empty")), true),
            (overlay(&format!("lowerdir+=/proc/self/fd/5,upperdir={store}/{id}/diff,workdir={store}/{id}/work")), true),
            ("40 30 0:50 / /etc rw - tmpfs shm rw\n".to_owned(), true),
            ("40 30 0:50 / /etc rw - fuse.fuse-overlayfs fuse-overlayfs rw\n".to_owned(), true),
            (overlay("lowerdir=/run/confexts/one/etc:/etc"), false),
            (overlay("lowerdir=/etc,upperdir=/data/diff,workdir=/data/work"), false),
            ("40 30 0:50 / /etc rw - tmpfs tmpfs rw\n".to_owned(), false),
            ("40 30 8:1 /etc /etc rw - ext4 /dev/sda1 rw\n".to_owned(), false),
        ] {
            let mounts = mountinfo::parse(line.as_bytes()).unwrap();
            assert_eq!(mounts.iter().any(is_of_engine), expected, "{line}");
        }
        let at = |target: &str| {
            let line = format!("40 30 0:50 / {target} rw - tmpfs shm rw\n");
            covers(&mountinfo::parse(line.as_bytes()).unwrap()[0], Path::new("/etc/layerseal"))
        };
        assert!(["/etc", "/etc/layerseal", "/etc/layerseal/deny.d"].into_iter().all(at));
        assert!(!["/", "/etc/layer", "/etc/layerseals", "/dev/shm"].into_iter().any(at));
    }
}
