//! statmount(2): whether a mount is still there, by the number that is never given twice (Linux 6.8).

use rustix::io::{Errno, Result};

/// `__NR_statmount`, the same on every architecture that has it.
const SYS_STATMOUNT: libc::c_long = 457;
/// `STATMOUNT_SB_BASIC`
const SB_BASIC: u64 = 1;

/// `struct mnt_id_req`, first version (include/uapi/linux/mount.h).
#[repr(C)]
struct StatmountRequest {
    size: u32,
    spare: u32,
    id: u64,
    mask: u64,
}

/// The beginning of `struct statmount`; the kernel writes no more than it is given room for, and
/// refuses less than the whole.
#[repr(C)]
struct StatmountReply {
    size: u32,
    options: u32,
    mask: u64,
    major: u32,
    minor: u32,
    rest: [u64; 125],
}

/// Returns the major and minor number of the filesystem that is mounted as `id` in this mount namespace; `None` when
/// there is no such mount.
///
/// # Errors
/// The kernel's; `ENOSYS` before Linux 6.8.
pub fn device(id: u64) -> Result<Option<(u32, u32)>> {
    let request = StatmountRequest { size: 24, spare: 0, id, mask: SB_BASIC };
    let mut answer = StatmountReply { size: 0, options: 0, mask: 0, major: 0, minor: 0, rest: [0; 125] };
    // SAFETY: the request has the kernel's layout and says its size; the answer is writable memory of
    // the size given, and any bytes are valid values of it.
    let done = unsafe {
        libc::syscall(SYS_STATMOUNT, std::ptr::from_ref(&request), &raw mut answer, size_of::<StatmountReply>(), 0)
    };
    if done == 0 {
        return Ok((answer.mask & SB_BASIC != 0).then_some((answer.major, answer.minor)));
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()) {
        Some(Errno::NOENT) => Ok(None),
        e => Err(e.unwrap_or(Errno::IO)),
    }
}
