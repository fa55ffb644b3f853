//! The content of layers that nobody vouches for: denying one of them rests on it, and so does how they can be shown.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::common::{vault_if_any, vault_of};
use crate::container_store::{ClaimedLayer, Root};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::Budget;
use crate::policy::Policy;
use crate::prepare::check_content;
use crate::state::StateDir;
use crate::sys::files;
use crate::vault::Vault;

/// Whether a layer must have a table of its tar, from which the tar can be put together again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// A layer of an image: podman keeps a table for each.
    Needed,
    /// A layer that is being made was never a tar.
    IfAny,
}

/// Checks that the layers are what their diff_ids say: if nobody vouches for them, denying one of them rests on that. A
/// layer that was never written as a tar has no such digest. This is done once per boot: the disk is changed while the
/// host is off, or by root.
///
/// # Errors
/// [`Case::F06Denied`] for a layer that does not match: whatever it is may be denied.
pub(super) fn content(policy: &Policy, root: &Root, layers: &[ClaimedLayer], table: Table) -> Result<()> {
    let io = |e| Refusal::io(StateDir::Content.to_string(), e);
    let seen = StateDir::Content.make().map_err(io)?;
    let vault = vault_of(policy.vault(), root)?;
    for layer in layers {
        let Some((diff_id, name)) = named(layer, table)? else { continue };
        if seen.has(&name) {
            continue;
        }
        // Of many starts at once only one reads. Nothing is kept in the vault, so it is not locked: a garbage
        // collection may remove the turn's name, and then two starts read; and so do all if a turn cannot be written
        // down.
        let _turn = vault.turn(&diff_id).inspect_err(|r| log::debug!("{r}")).ok();
        if seen.has(&name) {
            continue;
        }
        compare(Some(&vault), layer)?;
        seen.write(&name, b"").map_err(io)?;
    }
    Ok(())
}

/// Checks the same, but writes nothing.
pub(super) fn content_if_looked_at(policy: &Policy, root: &Root, layers: &[ClaimedLayer], table: Table) -> Result<()> {
    let seen = StateDir::Content.open().ok().flatten();
    let vault = vault_if_any(policy.vault(), root)?;
    for layer in layers {
        let Some((_, name)) = named(layer, table)? else { continue };
        if !seen.as_ref().is_some_and(|seen| seen.has(&name)) {
            compare(vault.as_ref(), layer)?;
        }
    }
    Ok(())
}

/// Returns the digest that a layer's content must have, and the name of the note that says it does; `None` for a layer
/// without a digest.
fn named(layer: &ClaimedLayer, table: Table) -> Result<Option<(BlobDigest, String)>> {
    let diff_id = match (layer.diff_id, layer.tar_split()) {
        (Some(diff_id), Ok(_)) => diff_id,
        (Some(_), Err(e)) if table == Table::Needed => {
            let why = format!("nothing says what its content is, and layers are denied: {e}");
            return Err(Refusal::new(Case::F06Denied, layer.path.display().to_string(), why));
        }
        // For a layer with a table of contents the ID says which table it is.
        _ => return Ok(None),
    };
    // Other stores have other layers of the same ID.
    let stat = rustix::fs::fstat(&layer.diff).map_err(|e| Refusal::io(layer.path.display().to_string(), e))?;
    let name = format!("{}-{:x}-{}-{}", layer.id, stat.st_dev, stat.st_ino, diff_id.hex());
    Ok(Some((diff_id, name)))
}

fn compare(vault: Option<&Vault>, layer: &ClaimedLayer) -> Result<()> {
    check_content(vault, layer, &Budget::STANDARD).map_err(|r| {
        let why = format!("it is not what its record says, and layers are denied: {r}");
        Refusal::new(Case::F06Denied, layer.path.display().to_string(), why)
    })
}

/// Returns whether one of the layers holds whiteouts as files `.wh.NAME`, which overlayfs would show, along with what
/// they hide: containers-storage writes them when it uses a mount program.
pub(super) fn any_aufs(policy: &Policy, root: &Root, layers: &[ClaimedLayer]) -> Result<bool> {
    let vault = vault_of(policy.vault(), root)?;
    for layer in layers {
        let id = BlobDigest::from_hex(layer.id.as_str())?;
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
