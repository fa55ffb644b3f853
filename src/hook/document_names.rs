//! Second names of the store's documents in what a container can write. Whoever reads a document for a container refuses one
//! with a second name; this refuses the container that could use it, whatever is asked of that one itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::filled::FileLocation;
use super::users;
use crate::container_store::{check_names, configured};
use crate::error::Result;
use crate::protocol::{BindMount, Bundle, ContainerConfig};
use crate::sys::mountinfo::{self, MountInfo};

/// Checks that the stores' documents have one name each, where the container can write to the filesystem of the store.
///
/// # Errors
/// [`Case::B09Replaced`](crate::error::Case::B09Replaced), [`Case::B15Database`](crate::error::Case::B15Database).
pub(super) fn check(config: &ContainerConfig) -> Result<()> {
    // podman's own files of a container are not written by others.
    let is_given = |path: &&PathBuf| !path.ancestors().any(|above| Bundle::of(above).is_some());
    let given: Vec<(&BindMount, &PathBuf)> = config
        .mounts
        .iter()
        .flat_map(|mount| mount.sources.iter().filter(is_given).map(move |path| (mount, path)))
        .collect();
    let uppers: Vec<&PathBuf> =
        config.mounts.iter().filter_map(|mount| mount.upper.as_ref()).filter(is_given).collect();
    // A user's store is that user's own.
    if (given.is_empty() && uppers.is_empty()) || users::is_in_namespace() {
        return Ok(());
    }
    let Ok(found) = configured() else { return Ok(()) };
    let all = mountinfo::own()?;
    let device = |path: &Path| FileLocation::open(path, &all).map(|at| at.device);
    let itself = given.iter().filter(|(mount, _)| mount.is_writable).map(|(_, path)| *path).chain(uppers);
    let beneath = given.iter().filter(|(mount, _)| mount.recursive).flat_map(|(_, path)| devices_beneath(path, &all));
    let written: BTreeSet<(u32, u32)> = itself.filter_map(|path| device(path)).chain(beneath).collect();
    let roots = [found.graph_root, found.run_root].into_iter().chain(found.image_store).chain(found.additional);
    let roots: BTreeSet<PathBuf> = roots.chain(config.run_root.clone()).collect();
    let is_written = |root: &&PathBuf| device(root).is_some_and(|device| written.contains(&device));
    roots.iter().filter(is_written).try_for_each(|root| check_names(root))
}

/// Lists the filesystems that are mounted beneath a path and can be written to there.
fn devices_beneath(path: &Path, all: &[MountInfo]) -> Vec<(u32, u32)> {
    let Ok(real) = std::fs::canonicalize(path) else { return Vec::new() };
    let beneath = all.iter().filter(|mount| mount.target != real && mount.target.starts_with(&real));
    beneath.map(|mount| mount.device).collect()
}
