//! From a verified image to files that the kernel will enforce: every EROFS image and object in the
//! vault, with fs-verity, measured.

mod accept;
mod directory;
mod import;

use std::fs::File;

use crate::digest::VerityDigest;
use crate::image::objects;
use crate::oci::Budget;
use crate::policy::Verity;
use crate::report::{Case, Refusal, Result};
use crate::sys::draft::NewDraft;
use crate::sys::{files, verity};
use crate::vault::{Vault, kernel_knows};
use crate::verify::{VerifiedErofs, VerifiedImage};

pub use accept::{Acceptance, Measured, accept, keep_contents, made_once};
pub use directory::digest_of_directory;
pub use import::{ImportRules, check_content, import};

/// Which EROFS images make the root filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The one that containers are started from.
    Root,
    /// composefs' canonical tree.
    Merged,
    /// One for each layer.
    Stack,
    /// One for each of the lowest layers, as many as are given.
    Lowest(usize),
}

/// `OVL_MAX_STACK` is 500, and the objects are one of them (fs/overlayfs/params.h).
const MAX_STACK: usize = 499;

/// An EROFS image, open and measured.
#[derive(Debug)]
pub struct MeasuredErofs {
    file: File,
    digest: VerityDigest,
}

impl MeasuredErofs {
    /// The descriptor that was measured, and is to be mounted.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What it measures.
    pub fn digest(&self) -> &VerityDigest {
        &self.digest
    }
}

/// An image that can be mounted. Only this room makes one, from a [`VerifiedImage`].
#[derive(Debug)]
pub struct PreparedImage {
    erofs: Vec<MeasuredErofs>,
    objects: std::os::fd::OwnedFd,
    mode: Verity,
    description: String,
}

impl PreparedImage {
    /// The EROFS images, uppermost first, as overlayfs counts.
    pub fn erofs(&self) -> &[MeasuredErofs] {
        &self.erofs
    }

    /// The directory of objects.
    pub fn objects(&self) -> &std::os::fd::OwnedFd {
        &self.objects
    }

    /// Whether the kernel is to check.
    pub fn mode(&self) -> Verity {
        self.mode
    }

    /// What the mount's source says: `composefs:` and what identifies the EROFS images.
    pub fn description(&self) -> &str {
        &self.description
    }
}

/// Brings everything that `image` needs into the vault and measures it.
///
/// # Errors
/// G01–G06 when the kernel cannot or does not protect a file, I02 for missing objects, I13 for a
/// stack that would show deleted files, H15 where composefs makes no tree.
pub fn prepare(
    vault: &Vault,
    image: &VerifiedImage,
    shape: Shape,
    mode: Verity,
    budget: &Budget,
) -> Result<PreparedImage> {
    let wanted = match shape {
        Shape::Root => vec![image.root()],
        Shape::Merged => vec![image.merged().ok_or_else(|| Refusal::new(Case::H15NoMerged, "", ""))?],
        Shape::Stack => stack(image, image.layers().len())?,
        Shape::Lowest(count) => stack(image, count)?,
    };
    let mut erofs = Vec::new();
    for one in wanted {
        let file = open(vault, one, mode, budget)?;
        if !vault.was_prepared(one.digest(), mode == Verity::Require) {
            prepare_objects(vault, &file, one, mode, budget)?;
        } else if image.signer().is_none() {
            // Only this host's own note says that this is its image: whoever has the disk can have written
            // both, and the kernel is given nothing that composefs does not make.
            listed(&file, one, &vault.object_name(one.digest()), budget)?;
        }
        erofs.push(MeasuredErofs { file, digest: *one.digest() });
    }
    let description = describe(&erofs);
    let objects = vault.data_dir().try_clone().map_err(|e| Refusal::io("vault", e))?;
    Ok(PreparedImage { erofs, objects, mode, description })
}

/// The images of the lowest layers, uppermost first.
fn stack(image: &VerifiedImage, count: usize) -> Result<Vec<&VerifiedErofs>> {
    let refuse = |why: String| Err(Refusal::new(Case::I13Stack, "", why));
    match image.layers().get(..count) {
        None | Some([]) => refuse("the image has no such layers".into()),
        Some(_) if !image.stackable() => refuse("they hold no whiteouts: deleted files would come back".into()),
        Some(layers) if layers.len() > MAX_STACK => {
            refuse(format!("overlayfs takes {MAX_STACK} layers, the image has {}", layers.len()))
        }
        Some(layers) => Ok(layers.iter().rev().collect()),
    }
}

/// What identifies the mount.
fn describe(erofs: &[MeasuredErofs]) -> String {
    match erofs {
        [one] => format!("composefs:{}", one.digest),
        all => format!("composefs:stack:{}", crate::vault::stack_name(all.iter().map(|e| &e.digest))),
    }
}

/// Opens the EROFS image and measures that descriptor; from here on nothing looks at a path.
fn open(vault: &Vault, erofs: &VerifiedErofs, mode: Verity, budget: &Budget) -> Result<File> {
    let digest = erofs.digest();
    if let Some(bytes) = erofs.bytes()
        && !vault.holds(digest, bytes.len() as u64)
    {
        vault.put_object(digest, bytes, erofs.signature())?;
    }
    let file = vault.open_erofs(digest)?;
    let name = vault.object_name(digest);
    match mode {
        Verity::Require => measured(vault, &file, digest, &name)?,
        Verity::Off => {
            let size = file.metadata().map_err(|e| Refusal::io(&name, e))?.len();
            if size > budget.erofs {
                return Err(Refusal::new(Case::G01Other, name, format!("{size} bytes, allowed are {}", budget.erofs)));
            }
            let copy = file.try_clone().map_err(|e| Refusal::io(&name, e))?;
            let found = crate::vault::hash(copy, digest.algorithm()).map_err(|e| Refusal::io(&name, e))?;
            if found != *digest {
                return Err(Refusal::new(Case::G01Other, name, format!("{found} instead of {digest}")));
            }
        }
    }
    Ok(file)
}

fn measured(vault: &Vault, file: &File, digest: &VerityDigest, name: &str) -> Result<()> {
    match verity::check(file, digest, name) {
        Err(r) if r.case() == Case::G01Missing => {
            vault.protect(file, digest)?;
            verity::check(file, digest, name)
        }
        other => other,
    }
}

/// Every object that the image refers to: there, of the right size, with fs-verity and the digest
/// that its name says.
fn prepare_objects(vault: &Vault, erofs: &File, one: &VerifiedErofs, mode: Verity, budget: &Budget) -> Result<()> {
    let name = vault.object_name(one.digest());
    for (digest, size) in listed(erofs, one, &name, budget)? {
        let file = vault.open_object(&digest)?;
        let name = vault.object_name(&digest);
        let found = file.metadata().map_err(|e| Refusal::io(&name, e))?.len();
        if found != size {
            return Err(Refusal::new(Case::I02Object, name, format!("{found} bytes instead of {size}")));
        }
        if mode == Verity::Require {
            measured(vault, &file, &digest, &name)?;
        }
    }
    vault.mark_prepared(one.digest(), mode == Verity::Require)
}

/// The objects that an EROFS image names, if it is one that composefs makes.
fn listed(erofs: &File, one: &VerifiedErofs, name: &str, budget: &Budget) -> Result<Vec<(VerityDigest, u64)>> {
    use std::io::{Seek as _, SeekFrom};
    if let Some(bytes) = one.bytes() {
        return objects(bytes, one.digest().algorithm());
    }
    let mut file = erofs.try_clone().map_err(|e| Refusal::io(name, e))?;
    file.seek(SeekFrom::Start(0)).map_err(|e| Refusal::io(name, e))?;
    let bytes = files::read_all(&file, budget.erofs).map_err(|e| verity::read_refusal(e, name))?;
    objects(&bytes, one.digest().algorithm()).map_err(|r| r.within(name))
}

/// Stores an EROFS image with its signature, so that the kernel checks it too where it has the key,
/// and so that IPE and `fs.verity.require_signatures` are content. fs-verity takes a signature only
/// when it is enabled: a file that was stored without one before is made anew.
///
/// # Errors
/// [`Case::Io`], G02.
pub fn enroll(vault: &Vault, erofs: &VerifiedErofs) -> Result<()> {
    let (Some(bytes), Some(signature)) = (erofs.bytes(), erofs.signature()) else { return Ok(()) };
    let enrolled = || {
        Ok(vault.holds(erofs.digest(), bytes.len() as u64) && verity::has_signature(&vault.open_erofs(erofs.digest())?))
    };
    if !kernel_knows(signature) || enrolled()? {
        return Ok(());
    }
    vault.put_object(erofs.digest(), bytes, Some(signature))
}

/// Whether the vault's filesystem and the kernel have fs-verity, by trying it.
///
/// # Errors
/// [`Case::G06Unsupported`], [`Case::Io`].
pub fn can_enforce(vault: &Vault) -> Result<()> {
    probe(vault.data_dir(), &vault.path().display().to_string())
}

/// Tries fs-verity in any directory, on a file that is gone afterwards.
///
/// # Errors
/// [`Case::G06Unsupported`], [`Case::Io`].
pub fn probe(dir: impl std::os::fd::AsFd, name: &str) -> Result<()> {
    use std::io::Write as _;
    let io = |e: std::io::Error| Refusal::io(name, e);
    let mut file = NewDraft::create(dir, 0o600).map_err(io)?;
    file.write_all(b"probe").map_err(io)?;
    match verity::enable(&file.finish().map_err(io)?, crate::digest::Algorithm::Sha256, None, name) {
        // The kernel wants signatures: it has fs-verity, and says so in its own way.
        Err(r) if r.case() == Case::G02Required => Ok(()),
        other => other.map(drop),
    }
}
