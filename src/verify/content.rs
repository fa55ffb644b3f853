//! The images that a seal vouches for, compared with what the layers hold: step 4 of "Accepting a seal" in
//! docs/seal-format.md.

use super::VerifiedErofs;
use super::signatures::SignedDigests;
use crate::digest::{VerityDigest, verity_digest};
use crate::error::{Case, Refusal, Result};
use crate::image::{Contents, EntryKind, Writer, same_meaning};
use crate::oci::{BlobStore, Budget};
use crate::seal::{Dialect, Role, Seal};
use crate::sys::scratch::Scratch;

/// The images that may be mounted.
pub(super) struct CheckedContent {
    /// What a start mounts.
    pub(super) root: VerifiedErofs,
    /// composefs' tree, where it makes one.
    pub(super) merged: Option<VerifiedErofs>,
    pub(super) layers: Vec<VerifiedErofs>,
    pub(super) stackable: bool,
    /// Whether this host noted before that the images are right, and did not compare them now.
    pub(super) before: bool,
}

/// Returns whether the layers' entries are needed to check the seal: for images that are not what we make of them, and
/// for whiteouts where nobody has signed the merged image.
pub(super) fn compares(signed: &SignedDigests, contents: &Contents) -> bool {
    let images = &contents.images;
    let ours = |(role, digest): (&Role, &VerityDigest)| match role {
        Role::Merged => Some(*digest) == images.merged_digest(),
        Role::Layer(number) => {
            images.container.as_ref().is_ok_and(|made| made.layer_digests.get(*number) == Some(digest))
        }
        _ => true,
    };
    !signs_a_tree(signed) || !signed.digests.iter().all(ours)
}

/// Compares every image of the seal with the layers.
pub(super) fn check(
    seal: &Seal,
    signed: &SignedDigests,
    contents: &Contents,
    store: &BlobStore,
    budget: &Budget,
) -> Result<CheckedContent> {
    let check = ContentCheck { seal, signed, contents, store, budget };
    let merged = match (signed.digests.get(&Role::Merged), &contents.images.merged) {
        (Some(digest), Ok((image, made))) => Some(check.merged(digest, (image, made))?),
        (Some(_), Err(refusal)) => return Err(refusal.clone().within("merged")),
        // All layers are signed, and so vouch for what they make together.
        (None, Ok((image, made))) if signed.binding.is_none() => Some(check.made(Role::Merged, *made, image)),
        (None, _) => None,
    };
    let root = check.root(merged.as_ref())?;
    if !signs_a_tree(signed) {
        check.whiteouts()?;
    }
    let made = contents.images.container.as_ref().ok();
    let mut layers = Vec::new();
    let mut stackable = made.is_some();
    for number in 0..contents.count() {
        let role = Role::Layer(number);
        let claimed = signed.digests.get(&role);
        let ours = made.and_then(|made| made.layer_digests.get(number).zip(made.layers.get(number)));
        stackable &= claimed == ours.map(|(digest, _)| digest);
        if let Some(claimed) = claimed {
            check.layer(number, claimed, ours.map(|(digest, _)| digest))?;
        }
        layers.extend(ours.map(|(digest, image)| check.made(role, *digest, image)));
    }
    Ok(CheckedContent { root, merged, layers, stackable, before: false })
}

/// Returns whether a tree of all layers is itself signed.
fn signs_a_tree(signed: &SignedDigests) -> bool {
    [Role::Rootfs, Role::Merged].iter().any(|role| signed.signatures.contains_key(role))
}

struct ContentCheck<'a> {
    seal: &'a Seal,
    signed: &'a SignedDigests,
    contents: &'a Contents,
    store: &'a BlobStore,
    budget: &'a Budget,
}

impl ContentCheck<'_> {
    fn made(&self, role: Role, digest: VerityDigest, bytes: &Scratch) -> VerifiedErofs {
        // A signature over another form of the same tree is not for these bytes.
        let signed = self.signed.digests.get(&role) == Some(&digest);
        let signature = self.signed.signatures.get(&role).filter(|_| signed).map(|(der, _)| der.clone());
        VerifiedErofs { role, digest, signature, bytes: Some(bytes.clone()) }
    }

    /// Reads the image that the seal carries for `role`, if it does; its bytes are the ones claimed.
    fn carried(&self, role: Role) -> Result<Option<Vec<u8>>> {
        let Some(erofs) = self.seal.erofs.iter().find(|e| e.role == role) else { return Ok(None) };
        let bytes = self.store.read(&erofs.blob, Some(erofs.size), self.budget.erofs)?;
        let found = verity_digest(self.seal.algorithm, &bytes);
        if found != erofs.digest {
            return Err(Refusal::new(
                Case::D07Digest,
                role.to_string(),
                format!("the EROFS image in the seal has {found}, it should be {}", erofs.digest),
            ));
        }
        Ok(Some(bytes))
    }

    /// Returns the image of the container's tree, which only we write: it is the one that the layers make. Others seal
    /// composefs' tree only; then their signature is good for that tree, and nobody has vouched for what it leaves out.
    fn root(&self, merged: Option<&VerifiedErofs>) -> Result<VerifiedErofs> {
        let signed = |role| self.signed.signatures.contains_key(&role);
        if self.signed.digests.contains_key(&Role::Rootfs) {
            self.carried(Role::Rootfs)?;
        }
        match (self.signed.digests.get(&Role::Rootfs), merged) {
            (None, Some(merged)) if self.signed.digests.contains_key(&Role::Merged) => return Ok(merged.clone()),
            (Some(_), Some(merged)) if signed(Role::Merged) && !signed(Role::Rootfs) => return Ok(merged.clone()),
            _ => {}
        }
        let made = self.contents.images.container().map_err(|r| r.within(Role::Rootfs))?;
        match self.signed.digests.get(&Role::Rootfs) {
            Some(digest) if *digest != made.rootfs_digest => {
                Err(self.differs(Role::Rootfs, digest, &made.rootfs_digest))
            }
            _ => Ok(self.made(Role::Rootfs, made.rootfs_digest, &made.rootfs)),
        }
    }

    fn merged(&self, digest: &VerityDigest, (image, made): (&Scratch, &VerityDigest)) -> Result<VerifiedErofs> {
        let carried = self.carried(Role::Merged)?;
        if digest == made {
            return Ok(self.made(Role::Merged, *digest, image));
        }
        let bytes = match carried {
            Some(bytes) => {
                same_meaning(self.seal.algorithm, &bytes, self.entries()?, true).map_err(|r| r.within("merged"))?;
                // Bytes that nobody signed are not for the kernel, whatever they mean; ours are.
                if !self.signed.signatures.contains_key(&Role::Merged) {
                    return Ok(self.made(Role::Merged, *made, image));
                }
                bytes
            }
            None => self.other_version(digest, made)?,
        };
        Ok(self.made(Role::Merged, *digest, &bytes.into()))
    }

    /// Looks for the format version that was signed: `canonical.v1` does not say which it is.
    fn other_version(&self, digest: &VerityDigest, made: &VerityDigest) -> Result<Vec<u8>> {
        if self.seal.dialect == Dialect::Canonical {
            for version in [0, 2] {
                let bytes = Writer::merged_version(self.seal.algorithm, self.entries()?, version)?;
                if verity_digest(self.seal.algorithm, &bytes) == *digest {
                    return Ok(bytes);
                }
            }
        }
        Err(self.differs(Role::Merged, digest, made))
    }

    fn layer(&self, number: usize, digest: &VerityDigest, made: Option<&VerityDigest>) -> Result<()> {
        let role = Role::Layer(number);
        let carried = self.carried(role)?;
        if Some(digest) == made {
            return Ok(());
        }
        let entries = &self.contents.entries()?[number];
        if let Some(bytes) = carried {
            return same_meaning(self.seal.algorithm, &bytes, [entries.as_slice()], false).map_err(|r| r.within(role));
        }
        // Other tools leave whiteouts out of layer images.
        let bare = Writer::layer_without_whiteouts(self.seal.algorithm, entries)?;
        let bare = verity_digest(self.seal.algorithm, &bare);
        if bare == *digest {
            return Ok(());
        }
        Err(self.differs(role, digest, made.unwrap_or(&bare)))
    }

    /// Checks that whiteouts are signed. Other tools' layer images do not say what a layer takes away. Where nothing
    /// else does, neither the merged image nor the config with its diff_ids, anybody could add or drop a whiteout.
    fn whiteouts(&self) -> Result<()> {
        if self.signed.signatures.is_empty() || self.signed.signatures.contains_key(&Role::Config) {
            return Ok(());
        }
        for (number, entries) in self.contents.entries()?.iter().enumerate() {
            let takes_away = entries.iter().any(|e| matches!(e.kind, EntryKind::Whiteout | EntryKind::Opaque));
            let made = self.contents.images.container.as_ref().ok().and_then(|made| made.layer_digests.get(number));
            let exact = made.is_some() && self.signed.digests.get(&Role::Layer(number)) == made;
            if takes_away && !exact {
                return Err(Refusal::new(
                    Case::D03Coverage,
                    Role::Layer(number).to_string(),
                    "nobody signed what it takes away",
                ));
            }
        }
        Ok(())
    }

    fn entries(&self) -> Result<impl Iterator<Item = &[crate::image::TarEntry]>> {
        Ok(self.contents.entries()?.iter().map(Vec::as_slice))
    }

    fn differs(&self, role: Role, sealed: &VerityDigest, made: &VerityDigest) -> Refusal {
        Refusal::new(Case::D07Digest, role.to_string(), format!("sealed is {sealed}, the layers make {made}"))
    }
}
