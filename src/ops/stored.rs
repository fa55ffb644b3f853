//! What the operations on images of the container store share.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use super::Context;
use crate::container_store::{ClaimedImage, StoredImage, configured, stored_images};
use crate::error::{Case, Refusal, Result};
use crate::hook;
use crate::vault::NAME;

/// Which images of the container stores are meant.
#[derive(Clone, Debug)]
pub enum ImageSelection {
    /// The images with these names or IDs.
    Named(Vec<String>),
    /// All images.
    All,
}

/// What has become of one of them.
#[derive(Debug)]
pub struct StoredOutcome<'a, T> {
    /// The image, as the store has it.
    pub stored: &'a StoredImage,
    /// What was done, or why not.
    pub result: Result<T>,
    /// Whether it is no failure that this was not done: all images were meant, and nothing is asked of this one.
    pub excused: bool,
}

impl<T> StoredOutcome<'_, T> {
    /// Returns what to call it.
    pub fn name(&self) -> &str {
        name(self.stored)
    }
}

fn name(stored: &StoredImage) -> &str {
    stored.names.first().unwrap_or(&stored.id)
}

/// Warns where CRI-O has its images and containers elsewhere: "all" are then not all.
pub(super) fn warn_of_other_store() {
    if let Some(found) = hook::crio(Path::new("/")).and_then(|crio| crio.store_elsewhere()) {
        log::warn!("CRI-O's store is not looked at: {found}; `layerseal doctor` says what to do");
    }
}

impl ImageSelection {
    /// Does `work` for each, and reports to `each`. If one is refused, the others are still done. The first refusal is
    /// the result for all of them; if all images were meant, `excused` says which refusals do not count.
    ///
    /// All images are also those that are pulled or named meanwhile: systemd's path units see no change while the service
    /// that they have started runs.
    ///
    /// # Errors
    /// [`Case::NotStored`] and [`Case::Usage`] for names that the store does not have, and errors of reading it.
    pub(super) fn each<T>(
        &self,
        context: &Context,
        mut work: impl FnMut(&ClaimedImage, &str) -> Result<T>,
        excused: impl Fn(&StoredImage, &Refusal) -> bool,
        each: &mut dyn FnMut(StoredOutcome<'_, T>),
    ) -> Result<Option<Refusal>> {
        if matches!(self, Self::All) {
            warn_of_other_store();
        }
        let mut first: Option<Refusal> = None;
        let mut done = BTreeSet::new();
        let mut images = self.images(context)?;
        while let Some(stored) = images.pop_front() {
            let image = stored.image.as_ref().map_err(Clone::clone);
            let result = image.and_then(|image| work(image, name(&stored)));
            let excused = match &result {
                Err(refusal) if matches!(self, Self::All) && excused(&stored, refusal) => true,
                Err(refusal) => {
                    first.get_or_insert(refusal.clone());
                    false
                }
                Ok(_) => false,
            };
            each(StoredOutcome { stored: &stored, result, excused });
            if matches!(self, Self::All) {
                done.insert((stored.id, stored.names));
                if images.is_empty() {
                    images = self.images(context)?;
                    images.retain(|image| !done.contains(&(image.id.clone(), image.names.clone())));
                }
            }
        }
        Ok(first)
    }

    fn images(&self, context: &Context) -> Result<VecDeque<StoredImage>> {
        Ok(self.by_word(context)?.into_iter().map(|(_, image)| image).collect())
    }

    /// Lists them, each with the word that named it.
    pub(super) fn by_word(&self, context: &Context) -> Result<Vec<(Option<String>, StoredImage)>> {
        of_a_store(context)?;
        let Self::Named(names) = self else {
            let all = stored_images(&context.stores()?, None)?;
            return Ok(all.into_iter().map(|image| (None, image)).collect());
        };
        if let Some(name) = names.iter().find(|name| name.contains("://") || name.starts_with("oci:")) {
            let why = "this is for images of podman, by their names there; `layerseal pull` is for all others";
            return Err(Refusal::new(Case::Usage, name, why));
        }
        let roots = context.stores()?;
        let mut found = Vec::new();
        for name in names {
            let images = stored_images(&roots, Some(name)).map_err(with_driver)?;
            found.extend(images.into_iter().map(|image| (Some(name.clone()), image)));
        }
        Ok(found)
    }
}

/// Adds a hint to a refusal if the store has a driver other than overlay: then no image is found, although podman lists
/// it.
fn with_driver(refusal: Refusal) -> Refusal {
    let driver = configured().ok().and_then(|found| found.driver()).filter(|driver| driver != "overlay");
    match driver {
        Some(driver) if refusal.case() == Case::NotStored => {
            let why =
                format!("the store is one of the driver {driver}, and layerseal is for overlay; {}", refusal.detail());
            Refusal::new(Case::NotStored, refusal.subject(), why)
        }
        _ => refusal,
    }
}

/// Checks that the vault is one that mount programs use: that of a container store, or the one that the policy names.
fn of_a_store(context: &Context) -> Result<()> {
    let vault = context.vault()?;
    match (vault.file_name(), vault.parent()) {
        (Some(name), Some(_)) if name == NAME => Ok(()),
        _ if context.is_elsewhere()? => Ok(()),
        _ => {
            let why = "the vault of a container store is GRAPHROOT/layerseal, or the one of the policy's [store]";
            Err(Refusal::new(Case::Usage, vault.display().to_string(), why))
        }
    }
}
