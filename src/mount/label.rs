use std::ffi::OsStr;

use crate::error::{Case, Refusal, Result};
use crate::sys::selinux;

/// Returns an SELinux label as a mount takes it; `None` where there is no SELinux.
pub(super) fn label(label: Option<&OsStr>) -> Result<Option<&str>> {
    let Some(label) = label else { return Ok(None) };
    if !selinux::is_enabled() {
        log::debug!("SELinux is not enabled: the context of the mount is left out");
        return Ok(None);
    }
    let text = label.to_str().ok_or_else(|| Refusal::new(Case::Usage, "context", "it is no text"))?;
    Ok(Some(text))
}
