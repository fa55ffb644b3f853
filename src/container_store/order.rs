//! The stores in which podman looks for an image, in its order: the image store before all others, where that is known, and
//! the additional ones after them.

use super::configured::configured;
use super::is_dir;
use super::layers::{ChainLink, OpenStores};
use super::storage::Store;
use crate::error::Result;
use crate::oci::ImageId;

impl OpenStores {
    /// Opens the additional stores in which podman has looked for an image that `claimed` names, and, if nobody says which
    /// image it is, all of them: what it takes for the image need not be where the layers are.
    pub fn open_additional(&mut self, claimed: Option<&ImageId>) -> Result<()> {
        let has = |store: &Store| claimed.is_some_and(|id| store.image(id.as_str()).is_some());
        if self.in_order().any(has) {
            return Ok(());
        }
        for place in configured().map(|found| found.additional).unwrap_or_default() {
            if !is_dir(&place)? {
                continue;
            }
            let number = self.number(&place)?;
            self.additional.push(number);
            if has(&self.stores[number]) {
                break;
            }
        }
        Ok(())
    }

    /// Lists the stores whose order is known, as podman looks for an image in them.
    pub fn in_order(&self) -> impl Iterator<Item = &Store> {
        self.image_store
            .into_iter()
            .chain([0])
            .chain(self.additional.iter().copied())
            .map(|number| &self.stores[number])
    }

    /// Returns whether podman's order is known for an image whose uppermost layer is `top`. A layer in a store that no
    /// configuration names is there by an option of podman's command line, and that could have named an image store;
    /// beside one that is configured, another graph root is there by such an option too, or by podman's database.
    pub fn knows_order(&self, top: &ChainLink) -> bool {
        if self.other_image_store {
            return false;
        }
        let store = &self.stores[top.store];
        let is_additional = || configured().is_ok_and(|found| found.additional.iter().any(|place| store.is_at(place)));
        top.store == 0 || self.image_store == Some(top.store) || is_additional()
    }
}
