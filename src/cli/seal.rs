//! What `sign`, `digest` and `attach` share: the parts of a seal, before they are signed.

use std::rc::Rc;

use crate::cli::args::StatementArgs;
use crate::cli::home::{Home, Located, Place};
use crate::digest::{Algorithm, VerityDigest, verity_digest};
use crate::image::Contents;
use crate::oci::{Layout, Reference};
use crate::pki::formatted_digest;
use crate::report::{Case, Refusal, Result};
use crate::seal::{Artifact, Binding, Part, Role, artifact_descriptor};

/// Everything that a seal of an image signs.
pub(super) struct Plan {
    pub(super) located: Located,
    pub(super) contents: Rc<Contents>,
    pub(super) binding: Binding,
}

/// One thing to be signed: role, fs-verity digest, and the file that has this digest.
pub(super) struct Item<'a> {
    pub(super) role: Role,
    pub(super) digest: VerityDigest,
    pub(super) bytes: std::borrow::Cow<'a, [u8]>,
}

impl Item<'_> {
    /// The bytes that the signature is over.
    pub(super) fn to_sign(&self) -> Vec<u8> {
        formatted_digest(self.digest.algorithm().kernel_id(), self.digest.as_bytes())
    }
}

impl Plan {
    /// Reads the image; `keep` when the seal is to be stored, and so its objects with it.
    pub(super) fn new(home: &Home, image: &Reference, args: &StatementArgs, keep: bool) -> Result<Self> {
        let located = home.locate(image, args.platform.as_ref())?;
        let contents = match keep {
            true => located.keep_contents(args.algorithm, &home.budget)?,
            false => located.contents(args.algorithm, &home.budget)?,
        };
        let binding = Binding::new(
            &located.image,
            &contents.layer_digests,
            contents.merged_digest,
            &args.identity,
            args.sequence,
        )?;
        Ok(Self { located, contents, binding })
    }

    /// With a statement that exists already; it must be about this image and what its layers hold.
    pub(super) fn with_statement(home: &Home, located: Located, text: &[u8]) -> Result<Self> {
        let binding = Binding::parse(text, &home.budget)?;
        let contents = located.keep_contents(binding.algorithm, &home.budget)?;
        let ours = Binding::new(
            &located.image,
            &contents.layer_digests,
            contents.merged_digest,
            &binding.identities,
            binding.sequence,
        )?;
        if ours != binding {
            return Err(Refusal::new(Case::D04Replay, "binding", "it does not describe this image"));
        }
        Ok(Self { located, contents, binding })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.contents.algorithm
    }

    /// All items, in the order of the format, the statement last.
    pub(super) fn items(&self) -> Vec<Item<'_>> {
        let (image, contents) = (&self.located.image, &self.contents);
        let hash = |bytes: &[u8]| verity_digest(self.algorithm(), bytes);
        let item = |role, bytes: &'_ [u8]| (role, hash(bytes));
        let mut items = Vec::new();
        for (role, bytes) in [(Role::Manifest, &image.manifest), (Role::Config, &image.config)] {
            let (role, digest) = item(role, bytes);
            items.push(Item { role, digest, bytes: bytes.into() });
        }
        for (number, (digest, bytes)) in contents.layer_digests.iter().zip(&contents.layers).enumerate() {
            items.push(Item { role: Role::Layer(number), digest: *digest, bytes: bytes.into() });
        }
        items.push(Item { role: Role::Merged, digest: contents.merged_digest, bytes: (&contents.merged).into() });
        let text = self.binding.text().into_bytes();
        items.push(Item { role: Role::Binding, digest: hash(&text), bytes: text.into() });
        items
    }

    /// The artifact, once every item has its signature; `der` gives it.
    pub(super) fn artifact(&self, mut der: impl FnMut(&Item<'_>) -> Result<Vec<u8>>) -> Result<Artifact> {
        let mut parts = Vec::new();
        let mut statement = Vec::new();
        for item in self.items() {
            let signature = der(&item)?;
            match item.role {
                Role::Binding => statement = signature,
                Role::Layer(_) | Role::Merged => {
                    parts.push(Part {
                        role: item.role,
                        digest: item.digest,
                        der: signature,
                        erofs: Some(item.bytes.into_owned()),
                    });
                }
                _ => parts.push(Part { role: item.role, digest: item.digest, der: signature, erofs: None }),
            }
        }
        Ok(Artifact::erofs_alongside(&self.located.image, &parts, &self.binding.text(), &statement))
    }

    /// Stores the artifact beside the image or in the layout `output`: blobs first, the manifest
    /// next, the entries that make it findable last, so that a failure leaves nothing that counts.
    pub(super) fn store(&self, artifact: &Artifact, output: Option<&Reference>) -> Result<crate::digest::BlobDigest> {
        let image = &self.located.image.digest;
        let layout;
        let target = match output {
            Some(Reference::Layout { dir, .. }) => {
                layout = Layout::open_or_create(dir)?;
                Some(&layout)
            }
            Some(other) => return Err(Refusal::new(Case::Usage, other.to_string(), "--output takes oci:DIR")),
            None => match &self.located.place {
                Place::Layout(layout) => Some(layout),
                Place::Vault(_) => None,
            },
        };
        match (target, &self.located.place) {
            (Some(layout), _) => {
                artifact.blobs.iter().try_for_each(|blob| layout.store().write(blob).map(drop))?;
                let digest = layout.store().write(&artifact.manifest)?;
                layout.add_referrer(image, &artifact_descriptor(&artifact.manifest))?;
                Ok(digest)
            }
            (None, Place::Vault(vault)) => {
                artifact.blobs.iter().try_for_each(|blob| vault.store().write(blob).map(drop))?;
                vault.add_seal(image, &artifact.manifest)
            }
            (None, Place::Layout(_)) => Err(Refusal::new(Case::Bug, "output", "no place for the seal")),
        }
    }
}
