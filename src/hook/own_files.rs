//! Symlinks where podman mounts, writes, or has the runtime read: they lead to files of the host, and whatever the policy
//! says about the image, nobody wants those mounted over, written, or run from.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::filled::FileLocation;
use super::lookup::{Found, StartPaths};
use crate::container_store::{
    WRITABLE, check_layer, check_made, check_merged, check_own_files, check_volume, configured, layer_of, links_in,
    made_links, stored_container,
};
use crate::error::{Case, Refusal, Result};
use crate::policy::{configuration_at, configuration_places};
use crate::protocol::{Bundle, ContainerConfig};
use crate::start::refused::note;
use crate::sys::{files, mountinfo, same_paths};

/// Where the content of a volume is in its directory.
const VOLUME: &str = "_data";

/// Checks the directories of the container, wherever podman may have them, every layer that the configuration names, and
/// every volume. All of them, whichever is refused: podman may have written by each.
///
/// # Errors
/// [`Case::O15OwnFiles`]; `B01`, `B09`, `B13` for records that cannot be read.
pub(super) fn check(config: &ContainerConfig, paths: &StartPaths<'_>, found: Option<&Found>) -> Result<()> {
    let bundles = [Some(paths.bundle), paths.named].into_iter().flatten();
    let bundles: Vec<&Path> = bundles.filter(|path| Bundle::of(path).is_some()).collect();
    let by_path = bundles.iter().filter_map(|path| Some(Bundle::of(path)?.id));
    let by_record = found.and_then(Found::stored).map(|stored| stored.id.to_string());
    let container = config.container.as_deref().unwrap_or_default();
    // podman 4.3 runs its hooks in its own directory, and has the container's files of this boot elsewhere.
    let stores = configured();
    let roots = stores.as_ref().map(|found| vec![found.graph_root.clone(), found.run_root.clone()]).unwrap_or_default();
    let others = stores.iter().flat_map(|found| found.image_store.iter().chain(&found.additional));
    let own_root = found.and_then(Found::target).and_then(layer_of).map(|(root, _)| root);
    let made: BTreeSet<&PathBuf> = roots.iter().chain(others).chain(&config.run_root).chain(&own_root).collect();
    let mut checked: Vec<Result<()>> = made.into_iter().map(|root| check_store(root, container)).collect();
    // It also has the root's place resolved by then, which leads to no layer.
    if let Some(id) = config.container.as_deref().filter(|_| found.and_then(Found::stored).is_none()) {
        for root in &roots {
            match stored_container(root, "overlay", id, &[]) {
                Ok(Some(stored)) => {
                    let layers = roots.iter().map(|root| root.join("overlay").join(&stored.layer));
                    checked.extend(layers.map(|layer| check_own_layer(&layer, container)));
                }
                Ok(None) => {}
                Err(refusal) => checked.push(Err(refusal)),
            }
        }
    }
    // Most of these are the same.
    let mut directories: BTreeSet<PathBuf> = bundles.iter().map(|bundle| bundle.to_path_buf()).collect();
    for id in by_path.chain(by_record).chain(config.container.clone()) {
        let of_root = |root: &PathBuf| root.join("overlay-containers").join(&id).join("userdata");
        directories.extend(roots.iter().chain(config.run_root.as_ref()).map(of_root));
    }
    checked.extend(directories.iter().map(|directory| check_directory(directory, container)));
    let own: BTreeSet<&Path> = [Some(config.root.as_path()), found.and_then(Found::target)]
        .into_iter()
        .filter_map(|root| merged_of(root?)?.parent())
        .collect();
    checked.extend(own.into_iter().map(|layer| check_own_layer(layer, container)));
    let sources = config.mounts.iter().flat_map(|mount| &mount.sources).map(PathBuf::as_path);
    checked.extend(sources.clone().filter_map(merged_of).map(check_merged));
    let real = |root: &PathBuf| std::fs::canonicalize(root).ok();
    let real: Vec<PathBuf> = roots.iter().filter_map(real).chain(roots.iter().cloned()).collect();
    let in_store = |source: &Path| real.iter().any(|root| source.starts_with(root));
    // podman can be told to have its volumes anywhere.
    for source in sources.filter(|source| in_store(source) || source.ends_with(VOLUME)) {
        checked.push(no_configuration(source, container));
        if in_store(source) && source.ends_with(VOLUME) {
            checked.push(check_volume(source));
        }
    }
    checked.into_iter().collect()
}

/// Checks what podman makes in a store. It has done so by now.
fn check_store(root: &Path, container: &str) -> Result<()> {
    check_made(root).inspect_err(|_| {
        for link in made_links(root).unwrap_or_default() {
            note_configuration(&link, container);
        }
    })
}

/// Checks a container's own directory. podman has written through a link in it by now: users of a root that nobody has
/// verified, and what is asked for on its command line.
fn check_directory(directory: &Path, container: &str) -> Result<()> {
    check_own_files(directory).inspect_err(|_| {
        for link in links_in(directory).unwrap_or_default() {
            note_configuration(&link, container);
        }
    })
}

/// Checks the file that a runtime reads, before it is read: if podman was led elsewhere, nothing tells what it has mounted
/// and written for the container.
///
/// # Errors
/// [`Case::O15OwnFiles`].
pub(super) fn check_config(file: &Path, container: &str) -> Result<()> {
    let Some(bundle) = file.parent().filter(|bundle| Bundle::of(bundle).is_some()) else { return Ok(()) };
    let links = links_in(bundle)?;
    if !links.iter().any(|link| link == file || link == bundle) {
        return Ok(());
    }
    note_place(configuration_at(Path::new("/")), container);
    check_own_files(bundle)
}

/// Checks the directories of a container's own layer. podman has made mount points there by now, and has added users.
fn check_own_layer(layer: &Path, container: &str) -> Result<()> {
    check_layer(layer).inspect_err(|_| {
        for name in WRITABLE {
            note_configuration(&layer.join(name), container);
        }
    })
}

/// Checks that a volume of the store is none of this host's configuration: podman has filled it by now, with files of the
/// image that nobody has verified.
fn no_configuration(source: &Path, container: &str) -> Result<()> {
    let Some(place) = note_configuration(source, container) else { return Ok(()) };
    let why = format!("a symlink there leads to {}, and podman may have written into it", place.display());
    Err(Refusal::new(Case::O15OwnFiles, source.display().to_string(), why))
}

/// Notes that podman may have written into this host's configuration, if a path leads there or above it. If podman may
/// have found something else than we do by a link of the kernel's own, which leads every process elsewhere, that is taken
/// for the configuration.
fn note_configuration(path: &Path, container: &str) -> Option<PathBuf> {
    let place = match same_paths::open(path, OFlags::PATH) {
        Ok(found) => {
            let by_path = || configuration_at(&std::fs::read_link(files::proc_path(&found)).ok()?);
            by_path().or_else(|| configuration_in(&found, path))?
        }
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOENT | Errno::NOTDIR)) => return None,
        Err(_) => configuration_at(Path::new("/"))?,
    };
    note_place(Some(place), container)
}

/// Finds the place of the configuration that a directory is, holds, or is in, by whatever mount of its filesystem: podman
/// mounts a part of a volume elsewhere, and a host may show its configuration twice. A volume with options of its own
/// (`device=/`) is what podman has mounted on its place, and whoever made it means that.
fn configuration_in(found: &OwnedFd, path: &Path) -> Option<PathBuf> {
    let all = mountinfo::own().ok()?;
    let here = FileLocation::of(found, &all)?;
    let is_there =
        || Some(std::fs::read_link(files::proc_path(found)).ok()? == path.parent()?.canonicalize().ok()?.join(VOLUME));
    if here.is_mount && path.ends_with(VOLUME) && is_there() == Some(true) {
        return None;
    }
    let is_here = |place: &PathBuf| FileLocation::open(place, &all).is_some_and(|there| there.touches(&here));
    configuration_places().into_iter().find(is_here)
}

/// Notes it: what was written stays, and no later start is about this container.
fn note_place(place: Option<PathBuf>, container: &str) -> Option<PathBuf> {
    let place = place?;
    if let Err(e) = note(&place, Case::O15OwnFiles, container, None) {
        log::error!("{}: podman may have written into it, and that is not noted: {e}", place.display());
    }
    Some(place)
}

/// Returns the `merged` of a layer that a path is, or is in.
fn merged_of(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| layer_of(path).is_some())
}
