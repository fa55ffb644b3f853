//! The parts of a seal, before they are signed.

use super::{Context, ImageLocation, Located, Task};
use crate::digest::{Algorithm, BlobDigest, VerityDigest, verity_digest};
use crate::error::{Case, Refusal, Result};
use crate::fetch::{Session, Staging};
use crate::image::ErofsImages;
use crate::oci::{BlobStore, Layout, Reference, Repository};
use crate::pki::formatted_digest;
use crate::seal::{Artifact, ArtifactRole, Binding, Format, Role, artifact_descriptor};

/// What goes into a binding statement.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The algorithm of its digests.
    pub algorithm: Algorithm,
    /// The names that the image may run under.
    pub identities: Vec<String>,
    /// A number that grows with every release.
    pub sequence: Option<u64>,
}

/// Everything that a seal of an image signs.
#[derive(Debug)]
pub struct Plan {
    pub(super) located: Located,
    pub(super) images: ErofsImages,
    pub(super) binding: Binding,
}

/// One thing to be signed: role, fs-verity digest, and the file that has this digest.
#[derive(Debug)]
pub struct PlanItem<'a> {
    /// Its role.
    pub role: Role,
    /// Its digest.
    pub digest: VerityDigest,
    /// The file.
    pub bytes: std::borrow::Cow<'a, [u8]>,
}

impl PlanItem<'_> {
    /// Returns the bytes that the signature is over.
    pub fn to_sign(&self) -> Vec<u8> {
        formatted_digest(self.digest.algorithm().kernel_id(), self.digest.as_bytes())
    }
}

impl Plan {
    /// Reads the image; `keep` when the seal is to be stored, and therefore its objects as well.
    pub(super) fn new(context: &Context, located: Located, statement: &Statement, keep: bool) -> Result<Self> {
        let identity = |name: &String| {
            let why = "an identity is an image name such as registry.example.com/acme/app, without a tag";
            name.parse().map_err(|_| Refusal::new(Case::Usage, name, why))
        };
        let identities = statement.identities.iter().map(identity).collect::<Result<Vec<_>>>()?;
        let images = located.images(context, statement.algorithm, keep)?;
        let binding = Binding::new(&located.image, &images.digests()?, &identities, statement.sequence);
        Ok(Self { located, images, binding })
    }

    /// Makes a plan with a statement that exists already; it must be about this image and what its layers hold.
    pub(super) fn with_statement(context: &Context, located: Located, text: &[u8]) -> Result<Self> {
        let binding = Binding::parse(text, &context.budget)?;
        let images = located.images(context, binding.algorithm, true)?;
        let ours = Binding::new(&located.image, &images.digests()?, &binding.identities, binding.sequence);
        if ours != binding {
            return Err(Refusal::new(Case::D04Replay, "binding", "it does not describe this image"));
        }
        Ok(Self { located, images, binding })
    }

    /// Returns the image's digest.
    pub fn image(&self) -> &BlobDigest {
        &self.located.image.digest
    }

    /// Returns the statement as it is signed.
    pub fn statement(&self) -> String {
        self.binding.text()
    }

    /// Returns the algorithm of all digests.
    pub fn algorithm(&self) -> Algorithm {
        self.images.algorithm
    }

    /// Lists all items in the order of the format, the statement last.
    pub fn items(&self) -> Vec<PlanItem<'_>> {
        let (image, images) = (&self.located.image, &self.images);
        let hash = |bytes: &[u8]| verity_digest(self.algorithm(), bytes);
        let item = |role, bytes: &'_ [u8]| (role, hash(bytes));
        let mut items = Vec::new();
        for (role, bytes) in [(Role::Manifest, &image.manifest), (Role::Config, &image.config)] {
            let (role, digest) = item(role, bytes);
            items.push(PlanItem { role, digest, bytes: bytes.into() });
        }
        let made = images.container.as_ref().ok();
        let layers = made.into_iter().flat_map(|made| made.layer_digests.iter().zip(&made.layers));
        for (number, (digest, bytes)) in layers.enumerate() {
            items.push(PlanItem { role: Role::Layer(number), digest: *digest, bytes: (&**bytes).into() });
        }
        if let Ok((bytes, digest)) = &images.merged {
            items.push(PlanItem { role: Role::Merged, digest: *digest, bytes: (&**bytes).into() });
        }
        if let Some(made) = made {
            items.push(PlanItem { role: Role::Rootfs, digest: made.rootfs_digest, bytes: (&*made.rootfs).into() });
        }
        let text = self.binding.text().into_bytes();
        items.push(PlanItem { role: Role::Binding, digest: hash(&text), bytes: text.into() });
        items
    }

    /// Builds the artifact from the signatures of all items, which `der` provides.
    pub(super) fn artifact(
        &self,
        format: Format,
        mut der: impl FnMut(&PlanItem<'_>) -> Result<Vec<u8>>,
    ) -> Result<Artifact<'_>> {
        let mut parts = Vec::new();
        let mut statement = Vec::new();
        for item in self.items() {
            let signature = der(&item)?;
            match item.role {
                Role::Binding => statement = signature,
                Role::Layer(_) | Role::Merged | Role::Rootfs => {
                    parts.push(ArtifactRole {
                        role: item.role,
                        digest: item.digest,
                        der: signature,
                        erofs: Some(item.bytes),
                    });
                }
                _ => parts.push(ArtifactRole { role: item.role, digest: item.digest, der: signature, erofs: None }),
            }
        }
        Ok(Artifact::new(format, &self.located.image, &parts, &self.binding.text(), &statement))
    }

    /// Stores the artifact beside the image or where `output` says: blobs first, the manifest next, the
    /// entries that make it findable last, so that a failure leaves nothing that counts.
    pub(super) fn store(
        &self,
        context: &Context,
        artifact: &Artifact<'_>,
        output: Option<&Reference>,
    ) -> Result<BlobDigest> {
        let image = &self.located.image.digest;
        match (output, &self.located.place) {
            (Some(Reference::Layout { dir, .. }), _) => into_layout(&Layout::open_or_create(dir)?, image, artifact),
            (Some(Reference::Registry { repository, .. }), _) => {
                into_registry(context, &*context.session()?, repository, image, artifact)
            }
            (Some(other), _) => {
                Err(Refusal::new(Case::Usage, other.to_string(), "--output takes oci:DIR or docker://HOST/NAME"))
            }
            (None, ImageLocation::Layout(layout)) => {
                if layout.name_only_image()? {
                    log::warn!(
                        "{}: the layout has more than one entry from now on, so the image has got a tag: copy it as \
                         oci:DIR:latest",
                        layout.path().display()
                    );
                }
                into_layout(layout, image, artifact)
            }
            (None, ImageLocation::Registry(remote)) => {
                into_registry(context, &remote.session, &remote.repository, image, artifact)
            }
            (None, ImageLocation::Vault(vault)) => {
                put(artifact, vault.store())?;
                vault.add_seal(image, &artifact.manifest)
            }
        }
    }
}

fn put(artifact: &Artifact<'_>, store: &BlobStore) -> Result<BlobDigest> {
    store.check_room(artifact.blobs.iter().map(|blob| (BlobDigest::of(blob), blob.len() as u64)))?;
    artifact.blobs.iter().try_for_each(|blob| store.write(blob).map(drop))?;
    store.write(&artifact.manifest)
}

fn into_layout(layout: &Layout, image: &BlobDigest, artifact: &Artifact<'_>) -> Result<BlobDigest> {
    let digest = put(artifact, layout.store())?;
    layout.add_referrer(image, &artifact_descriptor(&artifact.manifest))?;
    Ok(digest)
}

fn into_registry(
    context: &Context,
    session: &Session,
    repository: &Repository,
    image: &BlobDigest,
    artifact: &Artifact<'_>,
) -> Result<BlobDigest> {
    let staging = Staging::new()?;
    let digest = put(artifact, staging.store())?;
    let _step = context.begin(Task::Waiting(&format!("pushing the seal to {repository}")));
    session.push_seal(repository, image, &artifact.manifest, staging.store()).map(|()| digest)
}
