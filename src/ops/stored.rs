//! What the operations on images of the container store share.

use std::path::Path;

use super::Context;
use crate::identify::{ClaimedImage, StoredImage, configured, stored_images};
use crate::report::{Case, Class, Refusal, Result};

/// Which images of the container stores are meant.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Those of these names or IDs.
    Named(Vec<String>),
    /// All.
    All,
}

/// What has become of one of them.
#[derive(Debug)]
pub struct Outcome<'a, T> {
    /// The image, as the store has it.
    pub stored: &'a StoredImage,
    /// What was done, or why not.
    pub result: Result<T>,
}

impl<T> Outcome<'_, T> {
    /// What to call it.
    pub fn name(&self) -> &str {
        name(self.stored)
    }
}

fn name(stored: &StoredImage) -> &str {
    stored.names.first().unwrap_or(&stored.id)
}

impl Choice {
    /// Does `work` for each, and tells `each`. One that is refused does not keep the others. The first refusal is
    /// what came of them all: unless all that are there were meant, of which some may well be refused.
    ///
    /// # Errors
    /// [`Case::NotStored`] and [`Case::Usage`] for names that are none of the store's, and those of reading it.
    pub(super) fn each<T>(
        &self,
        context: &Context,
        mut work: impl FnMut(&ClaimedImage, &str) -> Result<T>,
        each: &mut dyn FnMut(Outcome<'_, T>),
    ) -> Result<Option<Refusal>> {
        let mut first: Option<Refusal> = None;
        for stored in &self.images(context)? {
            let image = stored.image.as_ref().map_err(Clone::clone);
            let result = image.and_then(|image| work(image, name(stored)));
            if let Err(refusal) = &result {
                first.get_or_insert(refusal.clone());
            }
            each(Outcome { stored, result });
        }
        let all = matches!(self, Self::All);
        Ok(first.filter(|refusal| !all || refusal.case().class() == Class::Internal))
    }

    fn images(&self, context: &Context) -> Result<Vec<StoredImage>> {
        graph_root(&context.vault)?;
        let Self::Named(names) = self else { return stored_images(&context.stores()?, None) };
        if let Some(name) = names.iter().find(|name| name.contains("://") || name.starts_with("oci:")) {
            let why = "this is for images of podman, by their names there; `layerseal pull` is for all others";
            return Err(Refusal::new(Case::Usage, name, why));
        }
        let roots = context.stores()?;
        let found = names.iter().map(|name| stored_images(&roots, Some(name)).map_err(with_driver));
        Ok(found.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}

/// Of another driver than overlay no image is found, although podman lists it.
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

/// The vault that mount programs use is that of a container store.
fn graph_root(vault: &Path) -> Result<()> {
    match (vault.file_name(), vault.parent()) {
        (Some(name), Some(_)) if name == "layerseal" => Ok(()),
        _ => {
            let why = "the vault of a container store is GRAPHROOT/layerseal";
            Err(Refusal::new(Case::Usage, vault.display().to_string(), why))
        }
    }
}
