//! Layers that podman finds otherwise than by their IDs. containers-storage takes an ID for the name of the layer's
//! directory: with `..` in it that is in another place, where nothing is known to be a layer, or in another store, which
//! gives the layer another image's name. And an image may name its layer by the beginning of its ID, or by a name of it
//! (storage/layers.go, `lookup`): then it is taken for an image that names the layer by its ID.

use std::path::PathBuf;

use super::configured::{further_stores, graph_root};
use super::is_dir;
use super::storage::{ImageRecord, Store};
use crate::error::{Case, Refusal, Result};
use crate::oci::{is_id, is_image_id};
use crate::sys::process::{self, User};

/// Checks that all layers have IDs, that none has an ID for a name (podman names those of containers `NAME-layer`), and
/// that images name them by their IDs: in the stores that are configured, in `others`, and in the one whose driver runs
/// this process, since a mount program's directory is the driver's. Only images that are mounted themselves need that: a
/// container's record says which image it is made from. IDs may be longer, as those of images are: whoever pushes such an
/// image must not keep others from being mounted.
///
/// # Errors
/// [`Case::B07Digest`] for an ID that is none, or a name; those of records that cannot be read.
pub fn check_layer_ids(others: impl IntoIterator<Item = PathBuf>) -> Result<()> {
    let mut places = Vec::new();
    // In a user's mount program root's configuration is what is found, of stores that the user cannot read.
    if process::user() != User::Rootless {
        places.push(graph_root()?);
        places.extend(further_stores()?);
    }
    let driver = std::env::current_dir().ok().filter(|dir| dir.ends_with("overlay"));
    places.extend(driver.and_then(|dir| Some(dir.parent()?.to_owned())));
    places.extend(others);
    places.sort_unstable();
    places.dedup();
    let mut stores = Vec::new();
    for place in places {
        if is_dir(&place.join("overlay-images"))? || is_dir(&place.join("overlay-layers"))? {
            stores.push(Store::open(&place)?);
        }
    }
    let layers = || stores.iter().flat_map(Store::layers);
    let mut longer: Vec<&str> = layers().map(|layer| layer.id.as_str()).filter(|id| !is_id(id.as_bytes())).collect();
    longer.sort_unstable();
    for store in &stores {
        let tops = || store.images().iter().map(ImageRecord::top).filter(|top| !top.is_empty());
        let mut ids = store.layers().map(|layer| layer.id.as_str()).chain(tops());
        let mut names = store.layers().flat_map(|layer| &layer.names).map(String::as_str);
        let bad =
            ids.find(|id| !is_image_id(id.as_bytes())).or_else(|| tops().find(|top| begins_another(&longer, top)));
        if let Some(bad) = bad.or_else(|| names.find(|name| is_image_id(name.as_bytes()))) {
            let why = format!("{bad:?} is no ID of one layer");
            return Err(Refusal::new(Case::B07Digest, store.path().display().to_string(), why));
        }
    }
    Ok(())
}

/// Returns whether one of these IDs, which are in order, begins with `top` and is longer: whoever writes the records decides
/// how many there are of either.
fn begins_another<T: AsRef<str>>(ids: &[T], top: &str) -> bool {
    let after = ids.partition_point(|id| id.as_ref() <= top);
    ids.get(after).is_some_and(|id| id.as_ref().starts_with(top))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// An ID that counts how often it is looked at.
    struct Counted<'a>(String, &'a Cell<usize>);

    impl AsRef<str> for Counted<'_> {
        fn as_ref(&self) -> &str {
            self.1.set(self.1.get() + 1);
            &self.0
        }
    }

    #[test]
    fn b07_the_beginning_of_an_id_is_found_among_others() {
        let ids = ["0a", "1", "1b", "1b", "1b0", "1c", "2"];
        for top in ["0", "1", "1b", ""] {
            assert!(begins_another(&ids, top), "{top}");
        }
        for top in ["0a", "1a", "1b0", "1c", "2", "20", "3"] {
            assert!(!begins_another(&ids, top), "{top}");
        }
        assert!(!begins_another::<&str>(&[], "1"));
    }

    #[test]
    fn b07_not_every_id_is_compared_with_every_other() {
        let looks = Cell::new(0);
        let ids: Vec<_> = (0..1 << 16).map(|n| Counted(format!("{n:0128x}"), &looks)).collect();
        for n in 0..1000 {
            assert!(!begins_another(&ids, &format!("{:064x}", n + 7)));
        }
        assert!(looks.get() < 1000 * 20, "{}", looks.get());
    }
}
