//! Times of files that the standard library does not tell.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags, StatxTimestamp, statx};

/// Returns when an open file was made, in nanoseconds since 1970; `None` if its filesystem does not keep that.
///
/// # Errors
/// The kernel's.
pub fn birth(file: impl AsFd) -> io::Result<Option<i128>> {
    let stat = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME)?;
    let at = (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then_some(stat.stx_btime);
    Ok(at.map(nanoseconds))
}

/// Returns when the inode of an open file was last changed, in nanoseconds since 1970.
///
/// # Errors
/// The kernel's.
pub fn changed(file: impl AsFd) -> io::Result<i128> {
    Ok(nanoseconds(statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::CTIME)?.stx_ctime))
}

fn nanoseconds(at: StatxTimestamp) -> i128 {
    i128::from(at.tv_sec) * 1_000_000_000 + i128::from(at.tv_nsec)
}
