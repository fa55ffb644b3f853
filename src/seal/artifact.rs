//! Reading artifacts: the three media types that have a `subject`.

use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, ImageManifest};

use super::annotations::{binding, collect};
use super::keys::{self, *};
use super::{Binding, Bytes, Dialect, Erofs, Role, Seal, Signature};
use crate::digest::{Algorithm, BlobDigest, VerityDigest};
use crate::error::{Case, Refusal, Result};
use crate::oci::{Budget, Image, strict_json};

/// What an artifact turned out to be.
#[derive(Debug)]
pub enum Parsed {
    /// A seal of this image.
    Seal(Box<Seal>),
    /// An artifact of a type that is not ours: an SBOM, another project's signature.
    Other(String),
}

/// Reads an artifact manifest as a seal of `image`. `digest` is that of `raw`, which the caller has compared.
///
/// # Errors
/// D01–D09 and D14; notation's dm-verity seals are refused by name.
pub fn parse(raw: &[u8], digest: &BlobDigest, image: &Image, budget: &Budget) -> Result<Parsed> {
    parse_about(ArtifactSubject::Manifest, raw, digest, image, budget)
}

/// What an artifact must be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactSubject {
    /// This manifest.
    Manifest,
    /// This image, if its statement says so: a store may hold it under another manifest, because podman compresses
    /// layers again when it pushes them.
    Image,
}

/// Reads an artifact manifest in the same way, for an image that may be signed under another manifest.
///
/// # Errors
/// As for [`parse`].
pub fn parse_about(
    about: ArtifactSubject,
    raw: &[u8],
    digest: &BlobDigest,
    image: &Image,
    budget: &Budget,
) -> Result<Parsed> {
    let name = format!("seal {digest}");
    let manifest: ImageManifest = strict_json::parse(raw, &name)?;
    let artifact_type = manifest.artifact_type().as_ref().map(ToString::to_string).unwrap_or_default();
    let dialect = match artifact_type.as_str() {
        ALONGSIDE => Dialect::ErofsAlongside,
        CANONICAL => Dialect::Canonical,
        METADATA => Dialect::Metadata,
        _ if is_dm_verity(&manifest) => {
            return Err(Refusal::new(Case::D19Dialect, name, "a dm-verity seal, for containerd"));
        }
        _ => return Ok(Parsed::Other(artifact_type)),
    };
    let parser = Parser { name: &name, image, layers: manifest.layers() };
    let annotations = crate::oci::sorted(manifest.annotations());
    let binding = binding(&annotations, &name, budget);
    let same = || binding.as_ref().is_ok_and(|binding| is_same_image(binding.as_ref(), image, budget));
    let subject = parser.frame(&manifest, about == ArtifactSubject::Image && same())?;
    let SealEntries { algorithm, erofs, signatures } = match dialect {
        Dialect::Metadata => parser.metadata(&annotations)?,
        _ => parser.alongside(&annotations, dialect == Dialect::ErofsAlongside)?,
    };
    let binding = binding?;
    let (subject, origin) = (Some(subject), digest.to_string());
    Ok(Parsed::Seal(Box::new(Seal { dialect, origin, subject, algorithm, erofs, signatures, binding })))
}

/// Returns whether a statement says that it is about this image, so that the same would run. This is a claim until its
/// signature is verified.
fn is_same_image(binding: Option<&(Vec<u8>, Vec<u8>)>, image: &Image, budget: &Budget) -> bool {
    binding.and_then(|(text, _)| Binding::parse(text, budget).ok()).is_some_and(|binding| binding.names(image))
}

fn is_dm_verity(manifest: &ImageManifest) -> bool {
    let mut all = manifest.layers().iter().chain(Some(manifest.config()));
    all.any(|d| {
        d.media_type().to_string().contains("dm-verity")
            || d.annotations().iter().flatten().any(|(k, _)| k.contains("dm-verity"))
    })
}

/// The contents of an artifact's entries.
struct SealEntries {
    algorithm: Algorithm,
    erofs: Vec<Erofs>,
    signatures: Vec<Signature>,
}

struct Parser<'a> {
    name: &'a str,
    image: &'a Image,
    layers: &'a [Descriptor],
}

impl Parser<'_> {
    fn refuse(&self, case: Case, why: impl std::fmt::Display) -> Refusal {
        Refusal::new(case, self.name, why)
    }

    /// Checks what all artifact types have in common, and returns the subject.
    fn frame(&self, manifest: &ImageManifest, any_subject: bool) -> Result<BlobDigest> {
        // In the order of a reader's questions: whose is it, and is it well-formed.
        let subject = manifest.subject().as_ref().ok_or_else(|| self.refuse(Case::D01Subject, "it has no subject"))?;
        let subject: BlobDigest = subject.digest().to_string().parse()?;
        if subject != self.image.digest && !any_subject {
            return Err(self.refuse(Case::D01Subject, format!("its subject is {subject}")));
        }
        let media = manifest.media_type().as_ref().map(ToString::to_string).unwrap_or_default();
        if manifest.schema_version() != 2 || media != MANIFEST {
            return Err(self.refuse(Case::D02Shape, "it is no OCI image manifest"));
        }
        let config = manifest.config();
        if config.media_type().to_string() != EMPTY || config.digest().to_string() != BlobDigest::of(b"{}").to_string()
        {
            return Err(self.refuse(Case::D02Shape, "its config is not the empty one"));
        }
        // N layer images, N layer signatures, and at most seven others.
        if self.layers.len() > 2 * self.image.layers.len() + 8 {
            return Err(self.refuse(
                Case::D05Layers,
                format!("{} entries for {} layers", self.layers.len(), self.image.layers.len()),
            ));
        }
        Ok(subject)
    }

    fn digest(&self, algorithm: Algorithm, hex: &str) -> Result<VerityDigest> {
        VerityDigest::from_hex(algorithm, hex).ok_or_else(|| {
            self.refuse(
                Case::D09Algorithm,
                format!("a digest that is not {} lower-case hex digits", 2 * algorithm.digest_size()),
            )
        })
    }

    fn der(&self, descriptor: &Descriptor) -> Result<Option<Bytes>> {
        if descriptor.media_type().to_string() != PKCS7 {
            return Err(self.refuse(
                Case::D02Shape,
                format!("media type {} where a signature is expected", descriptor.media_type()),
            ));
        }
        // The drafts write empty blobs for "not signed".
        if descriptor.size() == 0 {
            return Ok(None);
        }
        Ok(Some(Bytes::Blob { digest: crate::oci::blob_digest(descriptor)?, size: descriptor.size() }))
    }

    /// Reads the entries of `erofs-alongside.v1` and `canonical.v1`, in the order of the format.
    fn alongside(&self, annotations: &BTreeMap<String, String>, carries_erofs: bool) -> Result<SealEntries> {
        let label =
            annotations.get(ALGORITHM).ok_or_else(|| self.refuse(Case::D02Shape, "composefs.algorithm is missing"))?;
        let algorithm = keys::algorithm(label, self.name)?;
        let (mut erofs, mut signatures) = (Vec::new(), Vec::new());
        let mut last = None;
        for descriptor in self.layers {
            let notes = crate::oci::sorted(descriptor.annotations());
            let is_erofs = notes.contains_key(EROFS_TYPE);
            let kind_key = if is_erofs { EROFS_TYPE } else { SIGNATURE_TYPE };
            if let Some(extra) = notes.keys().find(|k| k.starts_with("composefs.") && *k != kind_key && *k != DIGEST) {
                return Err(self.refuse(Case::D08Annotation, extra));
            }
            let missing = |key: &str| self.refuse(Case::D08Annotation, format!("{key} is missing"));
            let kind = notes.get(kind_key).ok_or_else(|| missing(kind_key))?;
            let count = if is_erofs {
                layers_of(erofs.iter().map(|e: &Erofs| e.role))
            } else {
                layers_of(signatures.iter().map(|s: &Signature| s.role))
            };
            let role = self.role(kind, count)?;
            let digest = self.digest(algorithm, notes.get(DIGEST).ok_or_else(|| missing(DIGEST))?)?;
            let position = (!is_erofs, role);
            if last.is_some_and(|last| last >= position) {
                return Err(self.refuse(Case::D05Layers, format!("{role} stands in the wrong place or twice")));
            }
            last = Some(position);
            if !is_erofs {
                signatures.push(Signature { role, digest, der: self.der(descriptor)? });
                continue;
            }
            if !carries_erofs
                || !matches!(role, Role::Layer(_) | Role::Merged | Role::Rootfs)
                || descriptor.media_type().to_string() != EROFS
            {
                return Err(self.refuse(Case::D02Shape, format!("an EROFS image as {role}")));
            }
            erofs.push(Erofs { role, digest, blob: crate::oci::blob_digest(descriptor)?, size: descriptor.size() });
        }
        self.count(layers_of(erofs.iter().map(|e| e.role)), "EROFS images")?;
        Ok(SealEntries { algorithm, erofs, signatures })
    }

    fn role(&self, kind: &str, layers_so_far: usize) -> Result<Role> {
        match kind {
            "manifest" => Ok(Role::Manifest),
            "config" => Ok(Role::Config),
            "layer" if layers_so_far < self.image.layers.len() => Ok(Role::Layer(layers_so_far)),
            "layer" => Err(self.refuse(Case::D05Layers, "more layer entries than the image has layers")),
            "merged" => Ok(Role::Merged),
            "rootfs" => Ok(Role::Rootfs),
            _ => Err(self.refuse(Case::D08Annotation, format!("{kind:?} is no role"))),
        }
    }

    /// Checks that there are none, or one for each layer. Signatures are counted where coverage is judged.
    fn count(&self, found: usize, what: &str) -> Result<()> {
        let layers = self.image.layers.len();
        if found != 0 && found != layers {
            return Err(self.refuse(Case::D05Layers, format!("{found} {what} for {layers} layers")));
        }
        Ok(())
    }

    /// Reads the entries of `metadata.v1`: one annotation per entry gives role and algorithm. The container's tree,
    /// which upstream's reader does not know, is in the annotations of the artifact, or among the entries.
    fn metadata(&self, annotations: &BTreeMap<String, String>) -> Result<SealEntries> {
        let mut signatures: Vec<Signature> = Vec::new();
        let mut algorithm = None;
        for descriptor in self.layers {
            let notes = crate::oci::sorted(descriptor.annotations());
            let ours: Vec<_> = notes.iter().filter(|(k, _)| k.starts_with("composefs.")).collect();
            let [(key, hex)] = ours[..] else {
                return Err(self.refuse(Case::D08Annotation, format!("{} role annotations on one entry", ours.len())));
            };
            let (role, named) = role_key(key, layers_of(signatures.iter().map(|s| s.role)), self.name)?;
            if matches!(role, Role::Layer(n) if n >= self.image.layers.len()) {
                return Err(self.refuse(Case::D05Layers, "more layer entries than the image has layers"));
            }
            if *algorithm.get_or_insert(named) != named {
                return Err(self.refuse(Case::D09Algorithm, "two algorithms in one seal"));
            }
            if signatures.last().is_some_and(|last| metadata_order(last.role) >= metadata_order(role)) {
                return Err(self.refuse(Case::D05Layers, format!("{role} stands in the wrong place or twice")));
            }
            signatures.push(Signature { role, digest: self.digest(named, hex)?, der: self.der(descriptor)? });
        }
        let before = signatures.len();
        collect(annotations, 0, &[Role::Rootfs], self.name, &mut signatures)?;
        let algorithm = algorithm.ok_or_else(|| self.refuse(Case::D02Shape, "it has no entries"))?;
        if signatures[before..].iter().any(|s| s.digest.algorithm() != algorithm) {
            return Err(self.refuse(Case::D09Algorithm, "two algorithms in one seal"));
        }
        if signatures.iter().filter(|s| s.role == Role::Rootfs).count() > 1 {
            return Err(self.refuse(Case::D05Layers, "rootfs stands in the wrong place or twice"));
        }
        Ok(SealEntries { algorithm, erofs: Vec::new(), signatures })
    }
}

/// Returns the sort key of a role in `metadata.v1`: the roles that upstream's reader knows come first, and the layers
/// last among these.
pub(super) fn metadata_order(role: Role) -> (u8, usize) {
    match role {
        Role::Manifest => (0, 0),
        Role::Config => (1, 0),
        Role::Merged => (2, 0),
        Role::Bootable => (3, 0),
        Role::Layer(n) => (4, n),
        Role::Rootfs => (5, 0),
        Role::Binding => (6, 0),
    }
}

fn layers_of(roles: impl Iterator<Item = Role>) -> usize {
    roles.filter(|r| matches!(r, Role::Layer(_))).count()
}
