//! What layers hold that nobody vouches for: denying one of them rests on that, and how they can be shown.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::common::vault_of;
use crate::digest::BlobDigest;
use crate::identify::{ClaimedLayer, Root};
use crate::oci::Budget;
use crate::prepare::check_content;
use crate::report::{Case, Refusal, Result};
use crate::state::StateDir;
use crate::sys::files;

/// Whether a layer must have a table of its tar, by which it can be put together again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// A layer of an image: podman keeps one of each.
    Needed,
    /// One that is being made was never a tar.
    IfAny,
}

/// Whether the layers are what their diff_ids say: where nobody vouches for them, that is what denying one of
/// them rests on. What was never written as a tar has no such digest. Looked at once in a boot: what is on the
/// disk is changed while the host is off, and by root.
///
/// # Errors
/// [`Case::F06Denied`] for one that is not: what it is may be denied.
pub(super) fn content(root: &Root, layers: &[ClaimedLayer], table: Table) -> Result<()> {
    let io = |e| Refusal::io(StateDir::Content.to_string(), e);
    let seen = StateDir::Content.make().map_err(io)?;
    let vault = vault_of(root)?;
    for layer in layers {
        let diff_id = match (layer.diff_id, layer.tar_split()) {
            (Some(diff_id), Ok(_)) => diff_id,
            (Some(_), Err(e)) if table == Table::Needed => {
                let why = format!("nothing says what its content is, and layers are denied: {e}");
                return Err(Refusal::new(Case::F06Denied, layer.path.display().to_string(), why));
            }
            // Of a table of contents the ID says which it is.
            _ => continue,
        };
        // Other stores have other layers of the same ID.
        let stat = rustix::fs::fstat(&layer.diff).map_err(|e| Refusal::io(layer.path.display().to_string(), e))?;
        let name = format!("{}-{:x}-{}-{}", layer.id, stat.st_dev, stat.st_ino, diff_id.hex());
        if seen.has(&name) {
            continue;
        }
        // Many starts at once are one that reads. Nothing is kept in the vault, so it is not held: a collection may take
        // the turn's name away, and then two read; and so do all where a turn cannot be written down.
        let _turn = vault.turn(&diff_id).inspect_err(|r| log::debug!("{r}")).ok();
        if seen.has(&name) {
            continue;
        }
        check_content(&vault, layer, &Budget::STANDARD).map_err(|r| {
            let why = format!("it is not what its record says, and layers are denied: {r}");
            Refusal::new(Case::F06Denied, layer.path.display().to_string(), why)
        })?;
        seen.write(&name, b"").map_err(io)?;
    }
    Ok(())
}

/// Whether one of the layers holds whiteouts as files `.wh.NAME`, which overlayfs would show, and what
/// they hide with them: containers-storage writes them where it has a mount program.
pub(super) fn any_aufs(root: &Root, layers: &[ClaimedLayer]) -> Result<bool> {
    let vault = vault_of(root)?;
    for layer in layers {
        let id = BlobDigest::from_hex(&layer.id)?;
        let aufs = match vault.aufs_whiteouts(&id) {
            Some(known) => known,
            None => {
                let found = holds_aufs(&layer.diff, &layer.path)?;
                vault.mark_whiteouts(&id, found)?;
                found
            }
        };
        if aufs {
            return Ok(true);
        }
    }
    Ok(false)
}

fn holds_aufs(diff: &OwnedFd, path: &Path) -> Result<bool> {
    use rustix::fs::{Dir, FileType};
    use std::os::unix::ffi::OsStrExt as _;
    let io = |e: std::io::Error| Refusal::io(path.display().to_string(), e);
    // By name and not by descriptor: a directory can hold more directories than may be open.
    let mut todo = vec![PathBuf::from(".")];
    while let Some(name) = todo.pop() {
        let dir = files::open_dir_at(diff, &name).map_err(io)?;
        for entry in Dir::read_from(&dir).map_err(|e| io(e.into()))? {
            let entry = entry.map_err(|e| io(e.into()))?;
            let child = entry.file_name().to_bytes();
            if child.starts_with(b".wh.") {
                return Ok(true);
            }
            if entry.file_type() == FileType::Directory && !matches!(child, b"." | b"..") {
                todo.push(name.join(OsStr::from_bytes(child)));
            }
        }
    }
    Ok(false)
}
