//! Which filesystem a descriptor is on. For what others hand in: what a program of theirs answers (FUSE), or another
//! host does (NFS, 9p), may differ the next time, or never come. And for what is to end with the boot.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::fstatfs;

const EXT4: u32 = 0xef53;
const BTRFS: u32 = 0x9123_683e;
const F2FS: u32 = 0xf2f5_2010;
const XFS: u32 = 0x5846_5342;
const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;

/// The kernel's own filesystems that hold containers.
const OWN: [u32; 5] = [EXT4, BTRFS, F2FS, XFS, TMPFS];
/// Those of [`OWN`] whose fs-verity is the kernel's. FUSE has the same ioctl(2), and hands it to its program.
const WITH_VERITY: [u32; 3] = [EXT4, BTRFS, F2FS];
/// Those that are in memory alone.
const IN_MEMORY: [u32; 2] = [TMPFS, RAMFS];

/// Returns whether a file or directory is on a filesystem of this kernel's own.
///
/// # Errors
/// The kernel's.
pub fn is_own(file: impl AsFd) -> io::Result<bool> {
    is_of(file, &OWN)
}

/// Returns whether it is the kernel that answers for the fs-verity digests of the filesystem's files.
///
/// # Errors
/// The kernel's.
pub fn has_own_verity(file: impl AsFd) -> io::Result<bool> {
    is_of(file, &WITH_VERITY)
}

/// Returns whether what is there ends with the boot.
///
/// # Errors
/// The kernel's.
pub fn is_in_memory(file: impl AsFd) -> io::Result<bool> {
    is_of(file, &IN_MEMORY)
}

fn is_of(file: impl AsFd, kinds: &[u32]) -> io::Result<bool> {
    let kind = fstatfs(file)?.f_type;
    Ok(kinds.iter().any(|known| i64::from(*known) == kind & 0xffff_ffff))
}
