//! Removing what no image needs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::named::{ALGORITHMS, Named};
use super::sweep::Sweep;
use super::{Vault, stack_name};
use crate::digest::{BlobDigest, VerityDigest, verity_digest};
use crate::identify::{layer_ids, manifest_digests};
use crate::image::objects;
use crate::oci::Budget;
use crate::report::{Case, Refusal, Result};
use crate::sys::overlays::{self, Overlay};
use crate::sys::{files, verity};

/// What others still need; names and mounts are found without being told.
#[derive(Clone, Debug, Default)]
pub struct Others {
    /// Container stores: all images that are in them are kept.
    pub stores: Vec<PathBuf>,
    /// Manifests of further images.
    pub images: Vec<BlobDigest>,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// Manifests of images that are gone.
    pub images: Vec<BlobDigest>,
    /// Objects: contents of files, and EROFS images.
    pub objects: usize,
    /// Manifests, configs, layers, seals and signatures.
    pub blobs: usize,
    /// Files of all kinds, notes and remains among them.
    pub files: usize,
    /// Bytes that become free; a file that containers-storage holds too frees none.
    pub bytes: u64,
    /// Images that stay.
    pub kept: usize,
    /// Live mounts of this vault's images.
    pub mounts: usize,
}

/// Removes what neither a name, nor a store, nor a mount needs. Nobody else may be at work in the
/// vault; what is removed goes in an order in which a kill leaves nothing that looks whole and is not:
/// first the record of an image, then the notes, its EROFS images, and everything else last.
///
/// # Errors
/// [`Case::VaultBusy`]. Where anything that tells what is needed cannot be read, nothing is removed:
/// B01 for a store, [`Case::I02Object`] for a damaged EROFS image, and those of reading.
pub fn collect(vault: &Vault, others: &Others, budget: &Budget, dry_run: bool) -> Result<Collected> {
    let _lock = if dry_run { vault.shared()? } else { vault.exclusive()? };
    let images = vault.entries("images")?;
    let images: Vec<BlobDigest> = images.iter().filter_map(|name| BlobDigest::from_hex(name).ok()).collect();
    let wanted = wanted(vault, others)?;
    let live = live(vault)?;
    let mut needed = Needed::default();
    let mut collected = Collected { mounts: live.len(), ..Collected::default() };
    let (mut gone, mut stacks) = (Named::default(), BTreeSet::new());
    for image in images {
        let named = vault.named(&image, budget);
        if let Ok(named) = &named {
            stacks.extend(named.trees.iter().map(|tree| stack(&tree.digests.layers)));
        }
        if wanted.contains(&image) || named.as_ref().is_ok_and(|named| is_live(named, &live)) {
            needed.add(named.map_err(|r| r.within(format!("image {image}")))?);
            collected.kept += 1;
        } else {
            gone.erofs.extend(named.map(|named| named.erofs).unwrap_or_default());
            collected.images.push(image);
        }
    }
    needed.layers(vault, others)?;
    needed.mounted(vault, &live, &stacks)?;
    needed.follow(vault, budget)?;
    Sweep { vault, dry_run, collected }.run(&needed, &gone.erofs)
}

/// Images that have a name, that a store holds, or that somebody asks for.
fn wanted(vault: &Vault, others: &Others) -> Result<BTreeSet<BlobDigest>> {
    let mut wanted: BTreeSet<BlobDigest> = others.images.iter().copied().collect();
    wanted.extend(vault.tag_targets()?);
    for store in &others.stores {
        wanted.extend(manifest_digests(store)?);
    }
    Ok(wanted)
}

/// What stands in the source of a live mount.
#[derive(Debug, PartialEq, Eq)]
enum Live {
    Image(VerityDigest),
    /// Of several, the digest that the mount gives itself.
    Stack(String),
}

/// The mounts that are, or may be, of this vault.
fn live(vault: &Vault) -> Result<Vec<(Live, bool)>> {
    if !overlays::sees_all() {
        log::warn!("only the mounts of this PID namespace can be seen; what others have mounted may be removed");
    }
    let objects = rustix::fs::fstat(&vault.objects).map_err(|e| vault.io(e.into()))?;
    let own = |overlay: &Overlay| overlay.data.map(|data| data == (objects.st_dev, objects.st_ino));
    let overlays = overlays::live().map_err(|e| Refusal::io("/proc", e))?;
    let ours = overlays.iter().filter(|overlay| own(overlay) != Some(false));
    Ok(ours.filter_map(|o| Some((source(&o.source)?, own(o) == Some(true)))).collect())
}

/// `composefs:HEX`, with or without an algorithm, or `composefs:stack:HEX`.
fn source(text: &str) -> Option<Live> {
    let rest = text.strip_prefix("composefs:")?;
    let (kind, hex) = rest.split_once(':').map_or((None, rest), |(kind, hex)| (Some(kind), hex));
    if kind == Some("stack") {
        return Some(Live::Stack(hex.to_owned()));
    }
    ALGORITHMS
        .iter()
        .filter(|a| kind.is_none_or(|kind| kind.parse() == Ok(**a)))
        .find_map(|a| VerityDigest::from_hex(*a, hex))
        .map(Live::Image)
}

/// How the mount of a stack names itself.
fn stack(lowest_first: &[VerityDigest]) -> String {
    stack_name(lowest_first.iter().rev())
}

fn is_live(named: &Named, live: &[(Live, bool)]) -> bool {
    live.iter().any(|(live, _)| match live {
        Live::Image(digest) => named.erofs.contains(digest),
        Live::Stack(name) => named.trees.iter().any(|tree| stack(&tree.digests.layers) == *name),
    })
}

/// What stays.
#[derive(Debug, Default)]
pub(super) struct Needed {
    pub(super) blobs: BTreeSet<BlobDigest>,
    /// Candidates; those that are here and can be read as EROFS images are.
    pub(super) erofs: BTreeSet<VerityDigest>,
    pub(super) objects: BTreeSet<VerityDigest>,
    /// Layers of container stores.
    pub(super) layers: BTreeSet<BlobDigest>,
}

impl Needed {
    fn add(&mut self, named: Named) {
        self.blobs.extend(named.blobs);
        self.erofs.extend(named.erofs);
    }

    /// What was made of layers that are no image, as long as their store has them.
    fn layers(&mut self, vault: &Vault, others: &Others) -> Result<()> {
        for store in &others.stores {
            self.layers.extend(layer_ids(store)?);
        }
        for layer in vault.entries("layers")?.iter().filter_map(|name| BlobDigest::from_hex(name).ok()) {
            for algorithm in ALGORITHMS {
                if self.layers.contains(&layer)
                    && let Some(digests) = vault.digests(&format!("layers/{}", layer.hex()), algorithm)?
                {
                    self.erofs.extend(digests.all());
                }
            }
        }
        Ok(())
    }

    /// What is mounted, by whatever name it came. `own` says that a mount is certainly this vault's:
    /// then it must be here.
    fn mounted(&mut self, vault: &Vault, live: &[(Live, bool)], stacks: &BTreeSet<String>) -> Result<()> {
        for (live, own) in live {
            match live {
                Live::Image(digest) if vault.open_object(digest).is_ok() => {
                    self.erofs.insert(*digest);
                }
                Live::Image(digest) if *own => vault.open_object(digest).map(drop)?,
                Live::Image(_) => {}
                Live::Stack(name) if stacks.contains(name) => {}
                Live::Stack(name) => {
                    let why = "a stack of layers is mounted that no image of this vault makes: unmount it first";
                    return Err(Refusal::new(Case::VaultBusy, format!("composefs:stack:{name}"), why));
                }
            }
        }
        Ok(())
    }

    /// Adds the objects that the EROFS images name.
    fn follow(&mut self, vault: &Vault, budget: &Budget) -> Result<()> {
        for digest in &self.erofs {
            let name = vault.object_name(digest);
            let file = match files::open_file_at(&vault.objects, digest.object_path()) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(|e| Refusal::new(Case::I02Object, &name, e))?,
            };
            self.objects.insert(*digest);
            let bytes = match files::read_all(file, budget.erofs) {
                // Larger than any EROFS image that we mount: the contents of some file.
                Err(e) if e.kind() == std::io::ErrorKind::FileTooLarge => continue,
                other => other.map_err(|e| verity::read_refusal(&e, &name))?,
            };
            if verity_digest(digest.algorithm(), &bytes) != *digest {
                return Err(Refusal::new(Case::I02Object, name, "what it names cannot be told; see `layerseal fsck`"));
            }
            // The bytes are right. What is no EROFS image is never mounted as one, whatever a seal says.
            if let Ok(objects) = objects(&bytes, digest.algorithm()) {
                self.objects.extend(objects.into_iter().map(|(digest, _)| digest));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    #[test]
    fn sources_of_mounts_are_read_in_every_form() {
        let digest = verity_digest(Algorithm::Sha256, b"x");
        let long = verity_digest(Algorithm::Sha512, b"x");
        assert_eq!(source(&format!("composefs:{digest}")), Some(Live::Image(digest)));
        assert_eq!(source(&format!("composefs:{long}")), Some(Live::Image(long)));
        assert_eq!(source(&format!("composefs:fsverity-sha256-12:{digest}")), Some(Live::Image(digest)));
        assert_eq!(source("composefs:stack:ab"), Some(Live::Stack("ab".into())));
        for other in ["overlay", "composefs:", "composefs:zz", "layerseal:plain"] {
            assert_eq!(source(other), None, "{other}");
        }
        assert_eq!(source(&format!("composefs:fsverity-sha512-12:{digest}")), None);
    }
}
