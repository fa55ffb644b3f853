//! Layers whose ID is none. containers-storage takes it for the name of the layer's directory: with `..` in it that is in
//! another place, where nothing is known to be a layer, or in another store, which gives the layer another image's name.

use std::path::PathBuf;

use super::configured::{further_stores, graph_root};
use super::is_dir;
use super::storage::Store;
use crate::error::{Case, Refusal, Result};
use crate::oci::is_id;

/// Checks the IDs of all layers in the stores that are configured, in `others`, and in the one whose driver runs this
/// process: a mount program's directory is the driver's.
///
/// # Errors
/// [`Case::B07Digest`] for an ID that is none; those of records that cannot be read.
pub fn check_layer_ids(others: impl IntoIterator<Item = PathBuf>) -> Result<()> {
    let mut places = vec![graph_root()?];
    places.extend(further_stores()?);
    let driver = std::env::current_dir().ok().filter(|dir| dir.ends_with("overlay"));
    places.extend(driver.and_then(|dir| Some(dir.parent()?.to_owned())));
    places.extend(others);
    places.sort_unstable();
    places.dedup();
    for place in places {
        let records = place.join("overlay-layers");
        if !is_dir(&records)? {
            continue;
        }
        if let Some(id) = Store::open(&place)?.layer_ids().find(|id| !is_id(id.as_bytes())) {
            let why = format!("{id:?} is no ID of a layer");
            return Err(Refusal::new(Case::B07Digest, records.display().to_string(), why));
        }
    }
    Ok(())
}
