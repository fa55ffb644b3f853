//! SELinux, where the kernel has it and a policy is loaded.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use crate::error::{Case, Refusal, Result};
use crate::sys::files;

/// `SELINUX_MAGIC` (include/uapi/linux/magic.h).
const SELINUX_MAGIC: i64 = 0xf97c_ff8c;

/// Returns whether labels mean anything here. The filesystem is asked, as by libselinux and podman: a podman that a policy
/// confines may not look at the files in it.
pub fn is_enabled() -> bool {
    rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|stat| stat.f_type == SELINUX_MAGIC)
}

/// Reads the label of an open file or directory; `None` where it is not labelled.
pub fn label_of(file: impl AsFd) -> Option<OsString> {
    let mut label = vec![0; 4096];
    // By its name in /proc: a descriptor may be one of O_PATH.
    let length = rustix::fs::getxattr(files::proc_path(&file.as_fd()), "security.selinux", &mut label).ok()?;
    label.truncate(length);
    // libselinux includes the terminating byte.
    while label.last() == Some(&0) {
        label.pop();
    }
    (!label.is_empty()).then(|| OsString::from_vec(label))
}

/// Returns the label of a directory with two categories, as podman gives one to each container: a comma is in it.
///
/// # Errors
/// [`Case::Io`] where the directory has no label.
pub fn two_categories(dir: &Path) -> Result<OsString> {
    let io = |e| Refusal::io(dir.display().to_string(), e);
    let none = || Refusal::new(Case::Io, dir.display().to_string(), "it has no SELinux label");
    let label = label_of(files::open_dir(dir).map_err(io)?).ok_or_else(none)?;
    let parts: Vec<&[u8]> = label.as_bytes().splitn(4, |byte| *byte == b':').take(3).collect();
    Ok(OsString::from_vec([&parts.join(&b':')[..], b":s0:c1,c2"].concat()))
}
