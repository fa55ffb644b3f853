//! fs-verity: enable, measure, read back (kernel, Documentation/filesystems/fsverity.rst).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use composefs_ioctls::fsverity::{
    EnableVerityError, MeasureVerityError, fs_ioc_enable_verity_with_sig, fs_ioc_measure_verity,
};
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::digest::{Algorithm, VerityDigest};
use crate::error::{Case, Refusal, Result};
use crate::sys::draft::Draft;

/// Bytes of one Merkle tree block, in all formats that we write.
const BLOCK: u32 = 4096;

/// Enables fs-verity on a file that is open nowhere for writing, under a name that stays until this is over: see
/// [`super::draft`]. With a signature the kernel verifies it against its `.fs-verity` keyring, if it can.
///
/// # Errors
/// G02 and G06: one case for each answer of the kernel.
pub fn enable(draft: &Draft, algorithm: Algorithm, signature: Option<&[u8]>, subject: &str) -> Result<Enabled> {
    loop {
        let error = match fs_ioc_enable_verity_with_sig(draft.file(), algorithm.kernel_id(), BLOCK, signature) {
            Ok(()) => return draft.restore_time().map(|()| Enabled::Now).map_err(|e| Refusal::io(subject, e)),
            Err(EnableVerityError::AlreadyEnabled) => return Ok(Enabled::Before),
            Err(e) => e,
        };
        if matches!(&error, EnableVerityError::Io(e) if e.kind() == io::ErrorKind::Interrupted) {
            continue;
        }
        return Err(enable_refusal(&error, signature.is_some(), subject));
    }
}

/// When fs-verity was enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enabled {
    /// By this call.
    Now,
    /// Earlier; a signature that is given now was ignored.
    Before,
}

fn enable_refusal(error: &EnableVerityError, signed: bool, subject: &str) -> Refusal {
    let refuse = |case| Refusal::new(case, subject, error);
    match error {
        EnableVerityError::FilesystemNotSupported => Refusal::new(Case::G06Unsupported, subject, ""),
        EnableVerityError::FileOpenedForWrite => Refusal::new(Case::G02Busy, subject, ""),
        EnableVerityError::SignatureVerificationFailed => refuse(Case::G02Rejected),
        EnableVerityError::Io(e) => match e.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOKEY) => Refusal::new(Case::G02Key, subject, ""),
            Some(Errno::BADMSG) if signed => refuse(Case::G02Rejected),
            Some(Errno::PERM) if !signed => Refusal::new(Case::G02Required, subject, ""),
            Some(errno @ (Errno::NOSPC | Errno::DQUOT)) => Refusal::io(subject, errno),
            Some(Errno::INVAL) => Refusal::new(
                Case::G02Enable,
                subject,
                "the filesystem needs blocks of 4096 bytes, as mke2fs -b 4096 makes them",
            ),
            Some(Errno::NOPKG) => {
                Refusal::new(Case::G02Enable, subject, "the kernel lacks the hash or signature algorithm")
            }
            _ => refuse(Case::G02Enable),
        },
        _ => refuse(Case::G02Enable),
    }
}

/// Returns the fs-verity digest that the kernel enforces for `file`.
///
/// # Errors
/// [`Case::G01Missing`] without fs-verity, [`Case::G01Other`] for another algorithm,
/// [`Case::G06Unsupported`].
pub fn measure(file: impl AsFd, algorithm: Algorithm, subject: &str) -> Result<VerityDigest> {
    let bytes = match algorithm {
        Algorithm::Sha256 => fs_ioc_measure_verity::<32>(file, 1).map(|b| b.to_vec()),
        Algorithm::Sha512 => fs_ioc_measure_verity::<64>(file, 2).map(|b| b.to_vec()),
    };
    let bytes = bytes.map_err(|e| match e {
        MeasureVerityError::VerityMissing => Refusal::new(Case::G01Missing, subject, ""),
        MeasureVerityError::FilesystemNotSupported => Refusal::new(Case::G06Unsupported, subject, ""),
        MeasureVerityError::InvalidDigestAlgorithm { .. } | MeasureVerityError::InvalidDigestSize { .. } => {
            Refusal::new(Case::G01Other, subject, format!("it is not {algorithm}"))
        }
        MeasureVerityError::Io(e) => Refusal::io(subject, e),
    })?;
    VerityDigest::new(algorithm, &bytes).ok_or_else(|| Refusal::new(Case::Bug, subject, "digest size"))
}

/// Measures `file` and compares; salts and other block sizes show as different digests.
///
/// # Errors
/// As [`measure`], and [`Case::G01Other`].
pub fn check(file: impl AsFd, wanted: &VerityDigest, subject: &str) -> Result<()> {
    let found = measure(file, wanted.algorithm(), subject)?;
    if found == *wanted {
        return Ok(());
    }
    Err(Refusal::new(Case::G01Other, subject, format!("{found} instead of {wanted}")))
}

/// Returns whether the filesystem has lost the Merkle tree and descriptor of a file with fs-verity: `path` is a
/// descriptor of `O_PATH`. Only ext4 is known to lose them (see [`crate::sys::draft`]); it keeps both behind the end of
/// the file.
///
/// Opening such a file is an error of the filesystem for the kernel, which then goes read-only with
/// `errors=remount-ro`. So only what stat(2) tells is looked at: the attribute is there, and no more blocks are
/// allocated than the content takes. A file in so many pieces that ext4 needs a separate block to list them is not
/// found this way; a sparse file can be found wrongly, where its holes are just as large.
///
/// # Errors
/// The kernel's.
pub fn is_lost(path: &impl AsFd) -> io::Result<bool> {
    const EXT4_SUPER_MAGIC: i64 = 0xef53;
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statx(path, "", flags, StatxFlags::SIZE | StatxFlags::BLOCKS)?;
    if !stat.stx_attributes.contains(StatxAttributes::VERITY) {
        return Ok(false);
    }
    let content = stat.stx_size.div_ceil(u64::from(BLOCK)) * u64::from(BLOCK);
    Ok(stat.stx_blocks * 512 == content && rustix::fs::fstatfs(path)?.f_type == EXT4_SUPER_MAGIC)
}

/// Turns the error of a failed read of a file with fs-verity into a refusal.
pub fn read_refusal(error: io::Error, subject: &str) -> Refusal {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::IO) => Refusal::new(Case::G05Damaged, subject, ""),
        _ => Refusal::io(subject, error),
    }
}

#[repr(C)]
struct ReadMetadata {
    metadata_type: u64,
    offset: u64,
    length: u64,
    buffer: u64,
    reserved: u64,
}

/// include/uapi/linux/fsverity.h; the number's form is the architecture's.
const FS_IOC_READ_VERITY_METADATA: libc::Ioctl = libc::_IOWR::<ReadMetadata>(b'f' as u32, 135);
const METADATA_TYPE_SIGNATURE: u64 = 3;

/// Returns whether the kernel holds a builtin signature for `file`. A kernel that does not verify signatures stores
/// them all the same: see [`kernel_verifies`].
pub fn has_signature(file: &File) -> bool {
    let mut byte = 0_u8;
    let mut argument = ReadMetadata {
        metadata_type: METADATA_TYPE_SIGNATURE,
        offset: 0,
        length: 1,
        buffer: (&raw mut byte) as u64,
        reserved: 0,
    };
    // SAFETY: the descriptor is open for the whole call; the argument has the layout of the kernel's
    // structure and points to one writable byte, which is the length given.
    let n = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_READ_VERITY_METADATA, &raw mut argument) };
    n > 0
}

/// Returns whether this kernel verifies the signatures that it is given: one built without
/// `CONFIG_FS_VERITY_BUILTIN_SIGNATURES` takes any bytes and has no such sysctl.
pub fn kernel_verifies() -> bool {
    std::path::Path::new("/proc/sys/fs/verity/require_signatures").exists()
}

/// Returns the value of `fs.verity.require_signatures`.
pub fn signatures_required() -> bool {
    std::fs::read_to_string("/proc/sys/fs/verity/require_signatures").is_ok_and(|v| v.trim() == "1")
}
