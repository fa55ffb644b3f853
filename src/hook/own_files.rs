//! Symlinks where podman mounts, writes, or has the runtime read: they lead to files of the host, and whatever the policy
//! says about the image, nobody wants those mounted over, written, or run from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::lookup::{Found, StartPaths};
use crate::container_store::{check_merged, check_own_files, configured, layer_of, links_in, stored_container};
use crate::error::{Case, Refusal, Result};
use crate::policy::{ETC, configuration_at};
use crate::protocol::{Bundle, ContainerConfig};
use crate::start::refused::note;
use crate::sys::{files, same_paths};

/// Checks the directories of the container, wherever podman may have them, and every layer that the configuration names.
///
/// # Errors
/// [`Case::O15OwnFiles`]; `B01`, `B09`, `B13` for records that cannot be read.
pub(super) fn check(config: &ContainerConfig, paths: &StartPaths<'_>, found: Option<&Found>) -> Result<()> {
    let bundles = [Some(paths.bundle), paths.named].into_iter().flatten();
    let bundles: Vec<&Path> = bundles.filter(|path| Bundle::of(path).is_some()).collect();
    let by_path = bundles.iter().filter_map(|path| Some(Bundle::of(path)?.id));
    let by_record = found.and_then(Found::stored).map(|stored| stored.id.to_string());
    // podman 4.3 runs its hooks in its own directory, and has the container's files of this boot elsewhere.
    let roots = configured().map(|found| vec![found.graph_root, found.run_root]).unwrap_or_default();
    // It also has the root's place resolved by then, which leads to no layer.
    if let Some(id) = config.container.as_deref().filter(|_| found.and_then(Found::stored).is_none()) {
        for root in &roots {
            let layer = stored_container(root, "overlay", id, &[])?.map(|stored| stored.layer);
            let merged = |layer| roots.iter().map(|root| root.join("overlay").join(&layer).join("merged")).collect();
            layer.map_or_else(Vec::new, merged).iter().try_for_each(|merged| check_merged(merged))?;
        }
    }
    let container = config.container.as_deref().unwrap_or_default();
    // Most of these are the same.
    let mut directories: BTreeSet<PathBuf> = bundles.iter().map(|bundle| bundle.to_path_buf()).collect();
    for id in by_path.chain(by_record).chain(config.container.clone()) {
        let of_root = |root: &PathBuf| root.join("overlay-containers").join(&id).join("userdata");
        directories.extend(roots.iter().chain(config.run_root.as_ref()).map(of_root));
    }
    directories.iter().try_for_each(|directory| check_directory(directory, container))?;
    let sources = config.mounts.iter().flat_map(|mount| &mount.sources).map(PathBuf::as_path);
    let target = found.and_then(Found::target);
    let in_layers = sources.clone().chain([config.root.as_path()]).chain(target);
    in_layers.filter_map(merged_of).try_for_each(check_merged)?;
    [Some(config.root.as_path()), target].into_iter().flatten().filter_map(merged_of).try_for_each(|merged| {
        ["diff", "work"].into_iter().try_for_each(|name| check_writable(&merged.with_file_name(name), container))
    })?;
    let real = |root: &PathBuf| std::fs::canonicalize(root).ok();
    let real: Vec<PathBuf> = roots.iter().filter_map(real).chain(roots.iter().cloned()).collect();
    let mut in_store = sources.filter(|source| real.iter().any(|root| source.starts_with(root)));
    in_store.try_for_each(|source| no_configuration(source, container))
}

/// Checks a container's own directory. podman has written through a link in it by now: users of a root that nobody has
/// verified, and what is asked for on its command line.
///
/// # Errors
/// [`Case::O15OwnFiles`].
pub(super) fn check_directory(directory: &Path, container: &str) -> Result<()> {
    check_own_files(directory).inspect_err(|_| {
        for link in links_in(directory).unwrap_or_default() {
            note_configuration(&link, container);
        }
    })
}

/// Checks that a directory of a container's writable layer is where its name says. podman has made mount points there by
/// now, and has added users.
fn check_writable(directory: &Path, container: &str) -> Result<()> {
    check_merged(directory).inspect_err(|_| drop(note_configuration(directory, container)))
}

/// Checks that a volume of the store is none of this host's configuration: podman has filled it by now, with files of the
/// image that nobody has verified.
fn no_configuration(source: &Path, container: &str) -> Result<()> {
    let Some(place) = note_configuration(source, container) else { return Ok(()) };
    let why = format!("a symlink there leads to {}, and podman may have written into it", place.display());
    Err(Refusal::new(Case::O15OwnFiles, source.display().to_string(), why))
}

/// Notes that podman may have written into this host's configuration, if a path leads there or above it: that lasts, and no later start
/// is about this container. If podman may have found something else than we do by a link of the kernel's own, which leads
/// every process elsewhere, that is taken for the configuration.
fn note_configuration(path: &Path, container: &str) -> Option<PathBuf> {
    let place = match same_paths::open(path, OFlags::PATH) {
        Ok(found) => configuration_at(&std::fs::read_link(files::proc_path(&found)).ok()?)?,
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOENT | Errno::NOTDIR)) => return None,
        Err(_) => PathBuf::from(ETC),
    };
    if let Err(e) = note(&place, Case::O15OwnFiles, container, None) {
        log::error!("{}: podman may have written into it, and that is not noted: {e}", place.display());
    }
    Some(place)
}

/// Returns the `merged` of a layer that a path is, or is in.
fn merged_of(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| layer_of(path).is_some())
}
