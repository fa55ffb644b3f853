//! What images are called on this host.

use std::collections::HashMap;

use super::Context;
use crate::container_store::stored_images;
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::Reference;
use crate::vault::{Tag, Vault};

/// The names of all images: those in the vault, and those that podman and others have.
#[derive(Clone, Debug, Default)]
pub struct HostNames {
    tags: Vec<Tag>,
    stored: HashMap<BlobDigest, Vec<String>>,
}

/// The names of one image.
#[derive(Clone, Debug, Default)]
pub struct ImageNames {
    /// The names in the vault.
    pub names: Vec<String>,
    /// The names in the container store.
    pub store_names: Vec<String>,
}

impl HostNames {
    /// Returns the names of the image with this manifest.
    pub fn of(&self, image: &BlobDigest) -> ImageNames {
        let names = self.tags.iter().filter(|tag| tag.digest == *image).map(|tag| tag.name.clone());
        ImageNames { names: names.collect(), store_names: self.stored.get(image).cloned().unwrap_or_default() }
    }
}

impl ImageNames {
    /// Lists each name once, those in the vault first.
    pub fn all(&self) -> Vec<&str> {
        let others = self.store_names.iter().filter(|name| !self.names.contains(name));
        self.names.iter().chain(others).map(String::as_str).collect()
    }

    /// Returns what to call it.
    pub fn first(&self) -> Option<&str> {
        self.names.first().or(self.store_names.first()).map(String::as_str)
    }

    /// Returns a name that podman has for it.
    pub fn stored(&self) -> Option<&str> {
        self.store_names.first().map(String::as_str)
    }
}

impl Context {
    /// Collects all names that can be found out. Nothing is refused if they cannot be, and no lock is taken.
    pub(super) fn host_names(&self) -> HostNames {
        let tags = || match self.has_vault()? {
            true => Vault::open(self.vault()?)?.tags(),
            false => Ok(Vec::new()),
        };
        let tags = tags().unwrap_or_else(|refusal| {
            log::debug!("no names of the vault: {refusal}");
            Vec::new()
        });
        HostNames { tags, stored: self.stored_names() }
    }

    /// Translates a name of podman's to the image in the vault, unless the vault itself has that name.
    ///
    /// # Errors
    /// The errors of [`Self::in_vault`].
    pub(super) fn in_own_words(&self, reference: &Reference) -> Result<Reference> {
        if !matches!(reference, Reference::Tag(_)) {
            return Ok(reference.clone());
        }
        let vault = if self.has_vault()? { Some(self.open_vault()?) } else { None };
        // Of several manifests of one image any one will do: each has its seals beside it.
        let digest = self.in_vault(vault.as_ref(), reference)?.into_iter().next();
        Ok(digest.map_or_else(|| reference.clone(), Reference::Digest))
    }

    /// Adds what to do next to the refusal of an image that is not in the vault, if the container store has one of that
    /// name.
    pub(super) fn or_podmans(&self, reference: &Reference, refusal: Refusal) -> Refusal {
        let Reference::Tag(name) = reference else { return refusal };
        let has_it =
            || self.stores().and_then(|roots| stored_images(&roots, Some(name))).is_ok_and(|all| !all.is_empty());
        match refusal.case() == Case::NotFound && has_it() {
            true => Refusal::new(
                Case::NotFound,
                name.as_str(),
                format!(
                    "the vault has none of that name, and podman has: `layerseal sign {name} --push docker://HOST/NAME:TAG` \
                     pushes and signs it, `layerseal prepare {name}` and `layerseal check {name}` look at it here"
                ),
            ),
            false => refusal,
        }
    }

    /// Finds the images in the vault that a name, an ID or a digest stands for, in any form: the vault's own names take
    /// precedence over podman's. The images are not read, so that damaged ones are found too.
    ///
    /// # Errors
    /// [`Case::NotFound`], which says what podman has by that name; [`Case::Usage`] for images in other places.
    pub(super) fn in_vault(&self, vault: Option<&Vault>, reference: &Reference) -> Result<Vec<BlobDigest>> {
        let known = vault.map_or_else(|| Ok(Vec::new()), Vault::images)?;
        let missing = |why: &str| Refusal::new(Case::NotFound, reference.to_string(), why);
        let name = match reference {
            Reference::Digest(digest) => {
                return if known.contains(digest) { Ok(vec![*digest]) } else { Err(missing("")) };
            }
            Reference::Tag(name) => name,
            Reference::Layout { .. } | Reference::Registry { .. } => {
                return Err(Refusal::new(Case::Usage, reference.to_string(), "this is for images in the vault"));
            }
        };
        if let Some(digest) = vault.map(|vault| vault.tag(name)).transpose()?.flatten() {
            return if known.contains(&digest) { Ok(vec![digest]) } else { Err(missing("")) };
        }
        let stored = self.stores().and_then(|roots| stored_images(&roots, Some(name))).unwrap_or_default();
        let claimed = stored.iter().filter_map(|stored| stored.image.as_ref().ok()).flat_map(|claimed| &claimed.images);
        let mut digests: Vec<BlobDigest> = claimed.map(|candidate| candidate.image.digest).collect();
        digests.sort_unstable();
        digests.dedup();
        let is_stored = !digests.is_empty();
        digests.retain(|digest| known.contains(digest));
        match digests.is_empty() {
            false => Ok(digests),
            true if is_stored => {
                Err(missing("podman has it and the vault has nothing of it yet: `layerseal prepare` it, or `check` it"))
            }
            true => Err(missing("")),
        }
    }
}
