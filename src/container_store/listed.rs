//! Everything that stores have on record, for verbs that are not about a single container.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::container::StoredContainer;
use super::storage::Store;
use super::stored::manifest_digests_of;
use super::{CallTarget, container, identify_with, is_dir, recorded_lowers, transient_container};
use crate::digest::BlobDigest;
use crate::error::Result;
use crate::oci::LayerId;
use crate::protocol::{MountCall, UpperPaths};

/// A container, and what starting it would mount.
#[derive(Debug)]
pub struct ListedContainer {
    /// Its ID.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// What its record says, or why that cannot be read.
    pub stored: Result<StoredContainer>,
    /// What its root is made of, or why that cannot be found out.
    pub target: Result<CallTarget>,
    /// Where its engine keeps what it hands to the runtime.
    pub directory: PathBuf,
}

/// Lists all containers of the store at `root`, and those in the run root of a transient store.
///
/// # Errors
/// Errors of reading the records.
pub fn listed_containers(root: &Path, run_root: &Path, others: &[PathBuf]) -> Result<Vec<ListedContainer>> {
    let mut found = Vec::new();
    for place in [root, run_root] {
        if !is_dir(&place.join("overlay-containers"))? {
            continue;
        }
        let store = Store::open_without_layers(place, "overlay")?;
        for record in store.containers() {
            let home = root.join("overlay").join(&record.layer);
            let known = |layer: &LayerId| transient_container(run_root, layer);
            let target = call(&home, others).and_then(|call| identify_with(&call, &known));
            found.push(ListedContainer {
                id: record.id.clone(),
                names: record.names.clone(),
                stored: container::stored(&store, record, "overlay", others),
                target,
                directory: place.join("overlay-containers").join(&record.id).join("userdata"),
            });
        }
    }
    Ok(found)
}

/// Builds the call that mounts a container's root.
fn call(home: &Path, others: &[PathBuf]) -> Result<MountCall> {
    let target = home.join("merged");
    let lowers = recorded_lowers(&target, others)?;
    let upper = Some(UpperPaths { upper: home.join("diff"), work: home.join("work") });
    Ok(MountCall { lowers, upper, target, ..MountCall::default() })
}

/// Lists the names that the stores give to their images, by the digests of the manifests.
///
/// # Errors
/// Errors of reading the records.
pub fn image_names(roots: &[PathBuf]) -> Result<HashMap<BlobDigest, Vec<String>>> {
    let mut found: HashMap<BlobDigest, Vec<String>> = HashMap::new();
    for root in roots {
        let store = Store::open_without_layers(root, "overlay")?;
        for record in store.images() {
            let digests = manifest_digests_of(&store, record).unwrap_or_default();
            for digest in digests {
                let names = found.entry(digest).or_default();
                names.extend(record.names.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
            }
        }
    }
    Ok(found)
}

/// Returns the first name of each container, by its ID.
///
/// # Errors
/// Errors of reading the records.
pub fn container_names(root: &Path, run_root: &Path) -> Result<HashMap<String, String>> {
    let mut found = HashMap::new();
    for place in [root, run_root] {
        if is_dir(&place.join("overlay-containers"))? {
            let store = Store::open_without_layers(place, "overlay")?;
            let named = store.containers().filter_map(|c| Some((c.id.clone(), c.names.first()?.clone())));
            found.extend(named);
        }
    }
    Ok(found)
}
