//! An image that somebody handed in by descriptors: the kernel is given exactly what was verified, whoever owns the
//! files.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags, fstat};

use super::copies::{Copies, NAME};
use super::{MeasuredErofs, PreparedImage, describe, hashes_to};
use crate::error::{Case, Refusal, Result};
use crate::oci::Budget;
use crate::policy::Verity;
use crate::sys::mounts::KeptMount;
use crate::sys::{filesystems, verity};
use crate::verify::VerifiedImage;

/// Makes `image` ready from the descriptors of an EROFS image and of a directory of objects, about which nothing is
/// known. Somebody trusted must have signed the image: without fs-verity on it nobody vouches for what its parser sees.
///
/// If the policy does not require fs-verity, a copy that only root has is mounted: whoever owns the file could change it
/// afterwards.
///
/// # Errors
/// [`Case::C07NoSeal`] for an image that nobody signed, [`Case::R04File`] for a descriptor of anything but a file on a
/// filesystem of this kernel, G01–G06 for what it measures.
pub fn handed(
    image: &VerifiedImage,
    erofs: File,
    objects: OwnedFd,
    mode: Verity,
    budget: &Budget,
) -> Result<PreparedImage> {
    if image.signer().is_none() || image.binding().is_none() {
        return Err(Refusal::new(Case::C07NoSeal, NAME, "nobody signed a statement about it"));
    }
    let digest = *image.root().digest();
    check_kind(&erofs, mode)?;
    let file = match mode {
        Verity::Require => {
            verity::check(&erofs, &digest, NAME)?;
            erofs
        }
        Verity::Off => {
            let size = erofs.metadata().map_err(|e| Refusal::io(NAME, e))?.len();
            if size > budget.erofs {
                return Err(Refusal::new(Case::G01Other, NAME, format!("{size} bytes, allowed are {}", budget.erofs)));
            }
            let copies = Copies::open()?;
            match copies.find(&digest, budget.erofs) {
                Some(copy) => copy,
                None => {
                    // Before anything is written: only what somebody signed may take up root's space.
                    hashes_to(&erofs, &digest, NAME, budget.erofs)?;
                    copies.copy(&erofs, &digest, size)?
                }
            }
        }
    };
    let erofs = vec![MeasuredErofs::new(file, digest)];
    let description = describe(&erofs);
    Ok(PreparedImage { erofs, objects, mode, description, shown: KeptMount::default() })
}

/// Checks that this is a regular file, open for reading, on a filesystem whose answers come from this kernel.
fn check_kind(file: &File, mode: Verity) -> Result<()> {
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::R04File, NAME, why);
    let stat = fstat(file).map_err(|e| refuse(&e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refuse(&"it is no regular file"));
    }
    let flags = rustix::fs::fcntl_getfl(file).map_err(|e| refuse(&e))?;
    if flags.contains(OFlags::PATH) || flags.intersection(OFlags::RWMODE) != OFlags::RDONLY {
        return Err(refuse(&"it is not open for reading alone"));
    }
    let own = match mode {
        Verity::Require => filesystems::has_own_verity(file),
        Verity::Off => filesystems::is_own(file),
    };
    match own.map_err(|e| refuse(&e))? {
        true => Ok(()),
        false => Err(refuse(&"a filesystem that answers by a program, or for another host")),
    }
}
