//! From a verified image to files that the kernel will enforce: every EROFS image and object in the
//! vault, with fs-verity, measured.

mod accept;
mod copies;
mod directory;
mod handed;
mod import;

use std::fs::File;
use std::io::Seek as _;

use crate::digest::VerityDigest;
use crate::error::{Case, Refusal, Result};
use crate::image::objects;
use crate::oci::Budget;
use crate::policy::Verity;
use crate::sys::draft::NewDraft;
use crate::sys::mounts::KeptMount;
use crate::sys::{files, verity};
use crate::vault::{Vault, kernel_knows};
use crate::verify::{VerifiedErofs, VerifiedImage};

pub use accept::{Acceptance, Measured, accept, is_lost, keep_contents, made_once};
pub use copies::forget_copies;
pub use directory::digest_of_directory;
pub use handed::handed;
pub use import::{ImportRules, check_content, import, read};

/// Which EROFS images make the root filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootShape {
    /// The one from which containers are started.
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
    mounted: KeptMount,
}

impl MeasuredErofs {
    fn new(file: File, digest: VerityDigest) -> Self {
        Self { file, digest, mounted: KeptMount::default() }
    }

    /// Returns the descriptor that was measured, and is to be mounted.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns its measured digest.
    pub fn digest(&self) -> &VerityDigest {
        &self.digest
    }

    /// Returns the place of a mount of it, attached nowhere and with no IDs or label of its own, that is kept for a
    /// second use: an overlay to compare with, and the container's.
    pub fn mounted(&self) -> &KeptMount {
        &self.mounted
    }
}

/// An image that can be mounted. Only this module makes one, from a [`VerifiedImage`].
#[derive(Debug)]
pub struct PreparedImage {
    erofs: Vec<MeasuredErofs>,
    objects: std::os::fd::OwnedFd,
    mode: Verity,
    description: String,
    shown: KeptMount,
}

impl PreparedImage {
    /// Returns the EROFS images, uppermost first, as overlayfs counts.
    pub fn erofs(&self) -> &[MeasuredErofs] {
        &self.erofs
    }

    /// Returns the directory of objects.
    pub fn objects(&self) -> &std::os::fd::OwnedFd {
        &self.objects
    }

    /// Returns whether the kernel is to check files.
    pub fn mode(&self) -> Verity {
        self.mode
    }

    /// Returns the place of a read-only overlay of the image alone, with no IDs or label of its own: to compare with, and
    /// as the container's only lower layer where its own overlay does not check files.
    pub fn shown(&self) -> &KeptMount {
        &self.shown
    }

    /// Returns the mount's source: `composefs:` and what identifies the EROFS images.
    pub fn description(&self) -> &str {
        &self.description
    }
}

/// Brings everything that `image` needs into the vault and measures it.
///
/// # Errors
/// G01–G06 if the kernel cannot or does not protect a file, I02 for missing objects, I13 for a stack that would show
/// deleted files, H15 if composefs makes no tree.
pub fn prepare(
    vault: &Vault,
    image: &VerifiedImage,
    shape: RootShape,
    mode: Verity,
    budget: &Budget,
) -> Result<PreparedImage> {
    let wanted = match shape {
        RootShape::Root => vec![image.root()],
        RootShape::Merged => vec![image.merged().ok_or_else(|| Refusal::new(Case::H15NoMerged, "", ""))?],
        RootShape::Stack => stack(image, image.layers().len())?,
        RootShape::Lowest(count) => stack(image, count)?,
    };
    let mut erofs = Vec::new();
    for one in wanted {
        let file = open(vault, one, mode, budget)?;
        if !vault.was_prepared(one.digest(), mode == Verity::Require) {
            prepare_objects(vault, &file, one, mode, budget)?;
        } else if image.signer().is_none() {
            // Only this host's own note says that this is its image: whoever has the disk can have written both, and
            // the kernel is given only what composefs makes.
            listed(&file, one, &vault.object_name(one.digest()), budget)?;
        }
        erofs.push(MeasuredErofs::new(file, *one.digest()));
    }
    let description = describe(&erofs);
    let objects = vault.data_dir().try_clone().map_err(|e| Refusal::io("vault", e))?;
    Ok(PreparedImage { erofs, objects, mode, description, shown: KeptMount::default() })
}

/// Finds out what [`prepare`] would come to for the image's root, without writing anything: `None` if something is
/// still to be done, and nothing says that it would fail.
///
/// # Errors
/// As for [`prepare`].
pub fn is_ready(vault: &Vault, image: &VerifiedImage, mode: Verity, budget: &Budget) -> Result<Option<PreparedImage>> {
    let one = image.root();
    let (digest, name) = (one.digest(), vault.object_name(one.digest()));
    let file = match vault.open_erofs(digest) {
        Ok(file) => file,
        // It will be made, with its objects, from what was just read of the layers.
        Err(_) if one.bytes().is_some() => return Ok(None),
        Err(refusal) => return Err(refusal),
    };
    let mut whole = is_right(&file, digest, mode, &name, budget)?;
    let noted = vault.was_prepared(digest, mode == Verity::Require);
    if one.bytes().is_none() && (!noted || image.signer().is_none()) {
        for (digest, size) in listed(&file, one, &name, budget)? {
            if noted {
                continue;
            }
            whole = false;
            let (file, name) = (vault.open_object(&digest)?, vault.object_name(&digest));
            let found = file.metadata().map_err(|e| Refusal::io(&name, e))?.len();
            if found != size {
                return Err(Refusal::new(Case::I02Object, name, format!("{found} bytes instead of {size}")));
            }
            if mode == Verity::Require {
                is_right(&file, &digest, mode, &name, budget)?;
            }
        }
    }
    if !whole || !noted {
        return Ok(None);
    }
    let erofs = vec![MeasuredErofs::new(file, *digest)];
    let description = describe(&erofs);
    let objects = vault.data_dir().try_clone().map_err(|e| Refusal::io("vault", e))?;
    Ok(Some(PreparedImage { erofs, objects, mode, description, shown: KeptMount::default() }))
}

/// Checks that a file matches its digest; false if it does, but the kernel has still to be told.
fn is_right(file: &File, digest: &VerityDigest, mode: Verity, name: &str, budget: &Budget) -> Result<bool> {
    match verity::check(file, digest, name) {
        Err(r) if mode == Verity::Require && r.case() == Case::G01Missing => {
            hashes_to(file, digest, name, budget.erofs.max(budget.layer)).map(|()| false)
        }
        _ if mode == Verity::Off => hashes_to(file, digest, name, budget.erofs.max(budget.layer)).map(|()| true),
        other => other.map(|()| true),
    }
}

fn hashes_to(file: &File, digest: &VerityDigest, name: &str, max: u64) -> Result<()> {
    let size = file.metadata().map_err(|e| Refusal::io(name, e))?.len();
    if size > max {
        return Err(Refusal::new(Case::G01Other, name, format!("{size} bytes, allowed are {max}")));
    }
    let mut copy = file.try_clone().map_err(|e| Refusal::io(name, e))?;
    // Somebody else may have moved it.
    copy.rewind().map_err(|e| Refusal::io(name, e))?;
    let found = crate::vault::hash(copy, digest.algorithm()).map_err(|e| Refusal::io(name, e))?;
    match found == *digest {
        true => Ok(()),
        false => Err(Refusal::new(Case::G01Other, name, format!("{found} instead of {digest}"))),
    }
}

/// Returns the images of the lowest layers, uppermost first.
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

/// Describes what identifies the mount.
fn describe(erofs: &[MeasuredErofs]) -> String {
    match erofs {
        [one] => format!("composefs:{}", one.digest),
        all => format!("composefs:stack:{}", crate::vault::stack_name(all.iter().map(|e| &e.digest))),
    }
}

/// Opens the EROFS image and measures that descriptor; from here on no path is used.
fn open(vault: &Vault, erofs: &VerifiedErofs, mode: Verity, budget: &Budget) -> Result<File> {
    let digest = erofs.digest();
    if let Some(bytes) = erofs.bytes()
        && !vault.holds(digest, bytes.len() as u64)
    {
        vault.put_object(digest, bytes, erofs.signature())?;
        bytes.forget();
    }
    let file = vault.open_erofs(digest)?;
    let name = vault.object_name(digest);
    match mode {
        Verity::Require => measured(vault, &file, digest, &name)?,
        Verity::Off => hashes_to(&file, digest, &name, budget.erofs)?,
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

/// Checks every object that the image refers to: it is there, has the right size and fs-verity, and matches the digest
/// in its name.
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

/// Lists the objects that an EROFS image names, if it is one that composefs makes.
fn listed(erofs: &File, one: &VerifiedErofs, name: &str, budget: &Budget) -> Result<Vec<(VerityDigest, u64)>> {
    use std::io::{Seek as _, SeekFrom};
    let algorithm = one.digest().algorithm();
    if let Some(bytes) = one.bytes() {
        let listed = objects(bytes, algorithm);
        bytes.forget();
        return listed;
    }
    let mut file = erofs.try_clone().map_err(|e| Refusal::io(name, e))?;
    file.seek(SeekFrom::Start(0)).map_err(|e| Refusal::io(name, e))?;
    let bytes = files::read_all(&file, budget.erofs).map_err(|e| verity::read_refusal(e, name))?;
    objects(&bytes.into(), algorithm).map_err(|r| r.within(name))
}

/// Stores an EROFS image with its signature, so that the kernel checks it too if it has the key, and so that IPE and
/// `fs.verity.require_signatures` are satisfied. fs-verity accepts a signature only when it is enabled: a file that was
/// stored without one before is made anew.
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

/// Checks that the vault's filesystem and the kernel have fs-verity, by trying it.
///
/// # Errors
/// [`Case::G06Unsupported`], [`Case::Io`].
pub fn can_enforce(vault: &Vault) -> Result<()> {
    probe(vault.data_dir(), &vault.path().display().to_string())
}

/// Tries fs-verity in any directory, on a file that is removed afterwards.
///
/// # Errors
/// [`Case::G06Unsupported`], [`Case::Io`].
pub fn probe(dir: impl std::os::fd::AsFd, name: &str) -> Result<()> {
    use std::io::Write as _;
    let io = |e: std::io::Error| Refusal::io(name, e);
    let mut file = NewDraft::create(dir, 0o600).map_err(io)?;
    file.write_all(b"probe").map_err(io)?;
    match verity::enable(&file.finish().map_err(io)?, crate::digest::Algorithm::Sha256, None, name) {
        // The kernel requires signatures: so it has fs-verity, and says so in its own way.
        Err(r) if r.case() == Case::G02Required => Ok(()),
        other => other.map(drop),
    }
}
