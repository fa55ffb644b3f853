//! Notes of what podman did for containers that were refused, in `/var/lib/layerseal`: volumes outlive the boot. Not in the
//! graph root, which is what an attacker writes.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags, openat, statx};
use serde::{Deserialize, Serialize};

use crate::digest::BlobDigest;
use crate::report::{Case, Class, Refusal, Result};
use crate::state::{Notes, StateDir};
use crate::sys::files;

pub(super) const DIR: StateDir = StateDir::Filled;
/// As the kernel does with the source of a mount.
pub(super) const FOLLOW: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A path and a few words.
const MAX_NOTE: u64 = 16 << 10;

/// Something that podman filled for a container that was refused, or that container's upper directory or bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Where it was, for people.
    pub(super) path: String,
    /// Which one it is: a directory of the same name made later is another.
    pub(super) inode: u64,
    /// When it was made, in nanoseconds since 1970.
    pub(super) born: i128,
    /// Why the container was refused.
    pub(super) case: String,
    pub(super) container: String,
    /// Of a container: when podman began to write into its upper directory. What is as new as this was not verified,
    /// and will not be by being older than the next start.
    #[serde(default)]
    pub(super) began: Option<i128>,
    /// Of a container: podman made its record from an image that was not what it should be.
    #[serde(default)]
    pub(super) anew: bool,
}

impl Note {
    /// Whether it is about this very file.
    pub(super) fn is_of(&self, file: &OwnedFd) -> bool {
        born(file) == Some((self.inode, self.born))
    }
}

/// Its inode and when it was made; when its inode was changed last, where the filesystem keeps no more.
pub(super) fn born(file: &OwnedFd) -> Option<(u64, i128)> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME | StatxFlags::CTIME;
    let found: Statx = statx(file, "", AtFlags::EMPTY_PATH, wanted).ok()?;
    let has = found.stx_mask & StatxFlags::BTIME.bits() != 0;
    let at = if has { found.stx_btime } else { found.stx_ctime };
    Some((found.stx_ino, i128::from(at.tv_sec) * 1_000_000_000 + i128::from(at.tv_nsec)))
}

/// Remembers what is at `path`; `began` of a container.
pub(super) fn note(path: &Path, case: Case, container: &str, began: Option<i128>) -> std::io::Result<()> {
    let file = openat(CWD, path, FOLLOW, Mode::empty())?;
    let (inode, born) = born(&file).ok_or_else(|| std::io::Error::other("its inode cannot be told"))?;
    let (path, container) = (path.display().to_string(), container.to_owned());
    let anew = began.is_some() && is_of_image(case);
    let note = Note { path, inode, born, case: case.id().to_owned(), container, began, anew };
    let dir = DIR.make()?;
    sweep(&dir);
    dir.write(&name_of(&note), &serde_json::to_vec_pretty(&note)?)
}

/// Whether a case says that something is wrong with an image. Others are about this host, or about what else the container
/// was given.
fn is_of_image(case: Case) -> bool {
    let class = matches!(case.class(), Class::NotSealed | Class::Rejected | Class::Inconclusive);
    class && (case.id().starts_with(['B', 'C', 'D', 'E', 'G', 'H']) || case == Case::O09Tampered)
}

fn name_of(note: &Note) -> String {
    BlobDigest::of(format!("{}\0{} {}", note.path, note.inode, note.born).as_bytes()).hex()[..32].to_owned()
}

/// Takes away the notes of what is gone.
fn sweep(dir: &Notes) {
    for (name, note) in read(dir).unwrap_or_default() {
        // Where the store is not mounted nothing is gone.
        let there = Path::new(&note.path).parent().and_then(Path::parent).is_some_and(Path::is_dir);
        let found = std::fs::symlink_metadata(&note.path);
        if there && matches!(found, Err(e) if e.kind() == std::io::ErrorKind::NotFound) {
            let _ = dir.remove(&name);
        }
    }
}

/// All notes with the names of their files.
///
/// # Errors
/// [`Case::O10Notes`] for one that cannot be read, or that others than root could have written.
pub(super) fn notes() -> Result<Vec<(String, Note)>> {
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::O10Notes, DIR.to_string(), e);
    let Some(dir) = DIR.open().map_err(|e| refuse(&e))? else { return Ok(Vec::new()) };
    read(&dir).map_err(|e| refuse(&e))
}

fn read(dir: &Notes) -> std::io::Result<Vec<(String, Note)>> {
    let mut notes = Vec::new();
    for name in files::names(dir.as_fd())? {
        let bad = |e: &dyn std::fmt::Display| std::io::Error::other(format!("{}: {e}", name.to_string_lossy()));
        let name = name.to_str().ok_or_else(|| bad(&"a name that is no UTF-8"))?;
        // One that is being written.
        if name.starts_with(".new-") {
            continue;
        }
        // One that went away meanwhile says nothing any more.
        let Some(bytes) = dir.read(name, MAX_NOTE).map_err(|e| bad(&e))? else { continue };
        notes.push((name.to_owned(), serde_json::from_slice(&bytes).map_err(|e| bad(&e))?));
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::Note;

    #[test]
    fn o10_a_note_is_read_as_it_is_written() {
        for (began, anew) in [(None, false), (Some(1_795_896_375_987_533_542), true), (Some(i128::MIN), true)] {
            let note =
                Note { path: "/x".into(), inode: 7, born: 5, case: "C07".into(), container: "c".into(), began, anew };
            let text = serde_json::to_vec_pretty(&note).unwrap();
            assert_eq!(serde_json::from_slice::<Note>(&text).unwrap(), note);
        }
        // As 0.1.0 wrote it.
        let old = r#"{"path":"/x","inode":7,"born":5,"case":"C07","container":"c"}"#;
        assert!(!serde_json::from_str::<Note>(old).unwrap().anew);
    }
}
