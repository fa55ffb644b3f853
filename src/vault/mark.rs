//! Finding out what of a vault is needed.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::references::{ALGORITHMS, References};
use super::{Vault, stack_name};
use crate::digest::{BlobDigest, VerityDigest, verity_digest};
use crate::error::{Case, Refusal, Result};
use crate::image::objects;
use crate::oci::Budget;
use crate::sys::overlays::{self, Overlay};
use crate::sys::{files, verity};

/// What others need of a vault, at one moment; names and mounts are found in any case.
#[derive(Clone, Debug, Default)]
pub struct GcRoots {
    /// Manifests of images: those of container stores, and whatever else is to stay.
    pub images: Vec<BlobDigest>,
    /// Layers of container stores.
    pub layers: Vec<BlobDigest>,
}

/// The objects that EROFS images name. What an image names never changes, so it is read once.
pub(super) type NamedObjects = HashMap<VerityDigest, Vec<VerityDigest>>;

/// What is needed, and what is not, at one moment.
pub(super) struct Marked {
    pub(super) needed: Reachable,
    /// Images that are not needed.
    pub(super) gone: Vec<BlobDigest>,
    /// EROFS images of these.
    pub(super) erofs: BTreeSet<VerityDigest>,
    /// How many images stay.
    pub(super) kept: usize,
    /// Images that only mounts keep.
    pub(super) mounted: Vec<BlobDigest>,
    /// How many mounts of this vault's images there are.
    pub(super) mounts: usize,
}

impl Marked {
    pub(super) fn now(vault: &Vault, roots: &GcRoots, budget: &Budget, names: &mut NamedObjects) -> Result<Self> {
        let images = vault.entries("images")?;
        let images: Vec<BlobDigest> = images.iter().filter_map(|name| BlobDigest::from_hex(name).ok()).collect();
        let wanted = wanted(vault, roots)?;
        let live = live(vault)?;
        let mut marked = Self {
            needed: Reachable::default(),
            gone: Vec::new(),
            erofs: BTreeSet::new(),
            kept: 0,
            mounted: Vec::new(),
            mounts: live.len(),
        };
        let mut stacks = BTreeSet::new();
        for image in images {
            let named = vault.named(&image, budget);
            if let Ok(named) = &named {
                stacks.extend(named.trees.iter().map(|tree| stack(&tree.digests.layers)));
            }
            if wanted.contains(&image) || named.as_ref().is_ok_and(|named| is_live(named, &live)) {
                marked.needed.add(named.map_err(|r| r.within(format!("image {image}")))?);
                marked.kept += 1;
                if !wanted.contains(&image) {
                    marked.mounted.push(image);
                }
            } else {
                // Where an image's documents cannot be read, everything goes all the same, in whatever order.
                marked.erofs.extend(named.map(|named| named.erofs).unwrap_or_default());
                marked.gone.push(image);
            }
        }
        marked.needed.layers(vault, roots)?;
        marked.needed.mounted(vault, &live, &stacks)?;
        marked.needed.follow(vault, budget, names)?;
        Ok(marked)
    }
}

/// Lists the images that have a name, that a store holds, or that somebody asks for.
fn wanted(vault: &Vault, roots: &GcRoots) -> Result<BTreeSet<BlobDigest>> {
    let mut wanted: BTreeSet<BlobDigest> = roots.images.iter().copied().collect();
    wanted.extend(vault.tag_targets()?);
    Ok(wanted)
}

/// What stands in the source of a live mount.
#[derive(Debug, PartialEq, Eq)]
enum LiveSource {
    Image(VerityDigest),
    /// The digest that the mount of several images gives itself.
    Stack(String),
}

/// Lists the mounts that are, or may be, of this vault.
fn live(vault: &Vault) -> Result<Vec<(LiveSource, bool)>> {
    if !overlays::sees_all() {
        log::warn!("only the mounts of this PID namespace can be seen; what others have mounted may be removed");
    }
    let objects = rustix::fs::fstat(&vault.objects).map_err(|e| vault.io(e.into()))?;
    let own = |overlay: &Overlay| overlay.data.map(|data| data == (objects.st_dev, objects.st_ino));
    let overlays = overlays::live().map_err(|e| Refusal::io("/proc", e))?;
    let ours = overlays.iter().filter(|overlay| own(overlay) != Some(false));
    Ok(ours.filter_map(|o| Some((source(&o.source)?, own(o) == Some(true)))).collect())
}

/// Parses the source of a mount: `composefs:HEX`, with or without an algorithm, or `composefs:stack:HEX`.
fn source(text: &str) -> Option<LiveSource> {
    let rest = text.strip_prefix("composefs:")?;
    let (kind, hex) = rest.split_once(':').map_or((None, rest), |(kind, hex)| (Some(kind), hex));
    if kind == Some("stack") {
        return Some(LiveSource::Stack(hex.to_owned()));
    }
    ALGORITHMS
        .iter()
        .filter(|a| kind.is_none_or(|kind| kind.parse() == Ok(**a)))
        .find_map(|a| VerityDigest::from_hex(*a, hex))
        .map(LiveSource::Image)
}

/// Returns the name that the mount of a stack gives itself.
fn stack(lowest_first: &[VerityDigest]) -> String {
    stack_name(lowest_first.iter().rev())
}

fn is_live(named: &References, live: &[(LiveSource, bool)]) -> bool {
    live.iter().any(|(live, _)| match live {
        LiveSource::Image(digest) => named.erofs.contains(digest),
        LiveSource::Stack(name) => named.trees.iter().any(|tree| stack(&tree.digests.layers) == *name),
    })
}

/// What stays.
#[derive(Debug, Default)]
pub(super) struct Reachable {
    pub(super) blobs: BTreeSet<BlobDigest>,
    /// Candidates: those of them that are here and can be read as EROFS images are needed.
    pub(super) erofs: BTreeSet<VerityDigest>,
    pub(super) objects: HashSet<VerityDigest>,
    /// Layers of container stores.
    pub(super) layers: BTreeSet<BlobDigest>,
}

impl Reachable {
    fn add(&mut self, named: References) {
        self.blobs.extend(named.blobs);
        self.erofs.extend(named.erofs);
    }

    /// Marks what was made of layers that are not those of an image, as long as their store has them.
    fn layers(&mut self, vault: &Vault, roots: &GcRoots) -> Result<()> {
        self.layers.extend(&roots.layers);
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

    /// Marks what is mounted, whatever name it was mounted by. The flag beside each source says that the mount is
    /// certainly this vault's: then its image must be here.
    fn mounted(&mut self, vault: &Vault, live: &[(LiveSource, bool)], stacks: &BTreeSet<String>) -> Result<()> {
        for (live, own) in live {
            match live {
                LiveSource::Image(digest) => {
                    if *own {
                        vault.open_erofs(digest)?;
                    }
                    // Whether it is here is looked up with all others.
                    self.erofs.insert(*digest);
                }
                LiveSource::Stack(name) if stacks.contains(name) => {}
                LiveSource::Stack(name) => {
                    let why = "a stack of layers is mounted that no image of this vault makes: unmount it first";
                    return Err(Refusal::new(Case::VaultBusy, format!("composefs:stack:{name}"), why));
                }
            }
        }
        Ok(())
    }

    /// Adds the objects that the EROFS images name.
    fn follow(&mut self, vault: &Vault, budget: &Budget, names: &mut NamedObjects) -> Result<()> {
        for digest in &self.erofs {
            if !vault.has_object(digest)? {
                continue;
            }
            self.objects.insert(*digest);
            if !names.contains_key(digest) {
                names.insert(*digest, named_by(vault, digest, budget)?);
            }
            self.objects.extend(&names[digest]);
        }
        Ok(())
    }
}

/// Lists the objects that an EROFS image names; what is not an EROFS image names none.
fn named_by(vault: &Vault, digest: &VerityDigest, budget: &Budget) -> Result<Vec<VerityDigest>> {
    let name = vault.object_name(digest);
    let bytes = match files::read_all(vault.open_erofs(digest)?, budget.erofs) {
        // Larger than any EROFS image that we mount: it is the content of some file.
        Err(e) if e.kind() == std::io::ErrorKind::FileTooLarge => return Ok(Vec::new()),
        other => other.map_err(|e| verity::read_refusal(e, &name))?,
    };
    if verity_digest(digest.algorithm(), &bytes) != *digest {
        return Err(Refusal::new(Case::I02Object, name, "what it names cannot be told; see `layerseal fsck`"));
    }
    // The bytes are right. What is not an EROFS image is never mounted as one, whatever a seal says.
    let objects = objects(&bytes.into(), digest.algorithm()).unwrap_or_default();
    Ok(objects.into_iter().map(|(digest, _)| digest).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    #[test]
    fn sources_of_mounts_are_read_in_every_form() {
        let digest = verity_digest(Algorithm::Sha256, b"x");
        let long = verity_digest(Algorithm::Sha512, b"x");
        assert_eq!(source(&format!("composefs:{digest}")), Some(LiveSource::Image(digest)));
        assert_eq!(source(&format!("composefs:{long}")), Some(LiveSource::Image(long)));
        assert_eq!(source(&format!("composefs:fsverity-sha256-12:{digest}")), Some(LiveSource::Image(digest)));
        assert_eq!(source("composefs:stack:ab"), Some(LiveSource::Stack("ab".into())));
        for other in ["overlay", "composefs:", "composefs:zz", "layerseal:plain"] {
            assert_eq!(source(other), None, "{other}");
        }
        assert_eq!(source(&format!("composefs:fsverity-sha512-12:{digest}")), None);
    }
}
