//! Symlinks in podman's store where podman mounts and writes as root: with the hooks alone, those that lead to the hooks'
//! own directory take effect before anybody is asked.

use std::path::{Path, PathBuf};

use super::{CheckState, HostCheck, check};
use crate::container_store::{Configured, check_layer, check_made, check_own_files, check_volume};
use crate::error::Result;

const NAME: &str = "links in podman's store";

/// Looks at what podman makes in its stores, and at the directories of all containers, volumes and layers; `None` where nothing leads elsewhere.
pub(super) fn look(found: &Configured) -> Option<HostCheck> {
    let places = [&found.graph_root, &found.run_root].into_iter().chain(&found.image_store).chain(&found.additional);
    let refusal = places.filter_map(|root| of_store(root).err()).next()?;
    let shown = format!("{}: {}", refusal.subject(), refusal.what_and_detail());
    Some(check(NAME, CheckState::Missing, shown, refusal.case().remedy()))
}

fn of_store(root: &Path) -> Result<()> {
    let within = |place: &str, name: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(root.join(place)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).map(|path| path.join(name)).collect()
    };
    check_made(root)?;
    within("overlay-containers", "userdata").iter().try_for_each(|directory| check_own_files(directory))?;
    within("volumes", "_data").iter().try_for_each(|volume| check_volume(volume))?;
    within("overlay", "").iter().try_for_each(|layer| check_layer(layer))
}
