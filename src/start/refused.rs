//! Notes of what podman did for containers that were refused, in `/var/lib/layerseal`, because volumes outlive the
//! boot. Not in the graph root, which is what an attacker writes.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags, openat, statx};
use serde::{Deserialize, Serialize};

use super::LastStart;
use crate::digest::BlobDigest;
use crate::error::{Case, Class, Refusal, Result};
use crate::oci::is_id;
use crate::policy::{configuration_at, is_configuration};
use crate::state::{Notes, StateDir};
use crate::sys::{files, process};

/// Where the notes are.
pub const DIR: StateDir = StateDir::Filled;
/// Follows links as the kernel does with the source of a mount.
pub const FOLLOW: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Room for a path with each byte written as six, and a few words. A note that cannot be read makes every start fail.
const MAX_NOTE: u64 = 64 << 10;

/// How many directories above a path are noted: a graph root is never deep, and somebody may name a path in thousands.
const MAX_ABOVE: usize = 64;

/// Something that podman filled for a container that was refused, or that container's upper directory or bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedNote {
    /// Where it was, for people.
    pub path: String,
    /// Its inode: a directory of the same name made later is a different one.
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970.
    pub born: i128,
    /// Why the container was refused.
    pub case: String,
    /// Its ID or name; empty if that was not known.
    pub container: String,
    /// For a container: when podman began to write into its upper directory. Whatever is as new as this was not
    /// verified, and does not become so by being older than the next start.
    #[serde(default)]
    pub began: Option<i128>,
    /// For a container: whether podman made its record from an image that was not what it should be.
    #[serde(default)]
    pub anew: bool,
    /// Inodes and times of birth of the directories that it was in, the nearest first: if different directories are
    /// there, its filesystem is not mounted, and nothing is gone.
    #[serde(default)]
    pub above: Vec<(u64, i128)>,
}

impl RefusedNote {
    /// Returns whether the note is about this very file.
    pub fn is_of(&self, file: &OwnedFd) -> bool {
        born(file) == Some((self.inode, self.born))
    }
}

/// Returns the inode of a file and when it was made; when the inode was last changed, if the filesystem keeps no more.
pub fn born(file: &OwnedFd) -> Option<(u64, i128)> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME | StatxFlags::CTIME;
    let found: Statx = statx(file, "", AtFlags::EMPTY_PATH, wanted).ok()?;
    let has = found.stx_mask & StatxFlags::BTIME.bits() != 0;
    let at = if has { found.stx_btime } else { found.stx_ctime };
    Some((found.stx_ino, i128::from(at.tv_sec) * 1_000_000_000 + i128::from(at.tv_nsec)))
}

/// Remembers what is at `path`; `began` is for a container.
pub fn note(path: &Path, case: Case, container: &str, began: Option<i128>) -> std::io::Result<()> {
    let file = openat(CWD, path, FOLLOW, Mode::empty())?;
    let (inode, born) = born(&file).ok_or_else(|| std::io::Error::other("its inode cannot be told"))?;
    let above = path.ancestors().skip(1).take(MAX_ABOVE).map_while(identity).collect();
    let (path, container) = (path.display().to_string(), container.to_owned());
    let anew = began.is_some() && is_of_image(case);
    let note = RefusedNote { path, inode, born, case: case.id().to_owned(), container, began, anew, above };
    let dir = DIR.make()?;
    sweep(&dir);
    dir.write(&name_of(&note), &serde_json::to_vec_pretty(&note)?)
}

/// Remembers that podman may have written into this host's configuration, if a link of its store leads there.
pub fn note_link(link: &Path, case: Case, container: &str) {
    let Some(place) = std::fs::canonicalize(link).ok().as_deref().and_then(configuration_at) else { return };
    if let Err(e) = note(&place, case, container, None) {
        log::error!("{}: podman may have written into it, and that is not noted: {e}", place.display());
    }
}

/// Remembers, by its upper directory, a container that the mount program refused because of its image. If it is refused
/// again, the first reason counts.
pub fn remember(upper: &Path, case: Case) {
    if !is_of_image(case) {
        return;
    }
    let noted = notes().map_err(std::io::Error::other).and_then(|notes| {
        let own = [openat(CWD, upper, FOLLOW, Mode::empty())?];
        match of_container(&notes, &own, &[upper]) {
            Some((_, before)) if before.anew => Ok(()),
            // podman writes nothing before that mount stands.
            _ => note(upper, case, "", Some(process::now_nanoseconds())),
        }
    });
    if let Err(e) = noted {
        log::error!("{}: it was refused, and that is not noted: {e}", upper.display());
    }
}

/// Returns whether a case says that something is wrong with an image. Other cases are about this host, or about what
/// else the container was given.
fn is_of_image(case: Case) -> bool {
    // Nothing distinguishes what fuse-overlayfs copied up.
    if case == Case::O14FuseOverlay {
        return true;
    }
    let class = matches!(case.class(), Class::NotSealed | Class::Rejected | Class::Inconclusive | Class::Tool);
    class && (case.id().starts_with(['B', 'C', 'D', 'E', 'G', 'H']) || case == Case::O09Tampered)
}

fn name_of(note: &RefusedNote) -> String {
    BlobDigest::of(format!("{}\0{} {}", note.path, note.inode, note.born).as_bytes()).hex()[..32].to_owned()
}

/// Removes the notes about what is gone.
fn sweep(dir: &Notes) {
    for (name, note) in read(dir).unwrap_or_default() {
        let gone = std::fs::symlink_metadata(&note.path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
        if gone && is_place_of(&note) {
            let _ = dir.remove(&name);
        }
    }
}

/// Checks that the nearest directory that still exists was above the noted path then.
fn is_place_of(note: &RefusedNote) -> bool {
    let mut then = Path::new(&note.path).ancestors().skip(1).zip(&note.above);
    then.find_map(|(dir, then)| Some(identity(dir)? == *then)).unwrap_or(false)
}

fn identity(dir: &Path) -> Option<(u64, i128)> {
    born(&openat(CWD, dir, FOLLOW, Mode::empty()).ok()?)
}

/// Finds the note of a container that was refused, by its upper directory or its bundle: by these themselves, and by
/// the IDs in their paths, which no other container gets. So it is also found if its store was copied.
pub fn of_container<'a>(
    notes: &'a [(String, RefusedNote)],
    own: &[OwnedFd],
    paths: &[&Path],
) -> Option<&'a (String, RefusedNote)> {
    let same = |note: &RefusedNote| {
        let by_id = identified(Path::new(&note.path)).is_some_and(|id| paths.iter().any(|p| identified(p) == Some(id)));
        by_id || own.iter().any(|own| note.is_of(own))
    };
    notes.iter().find(|(_, note)| note.began.is_some() && same(note))
}

/// Returns the end of a path in a store, `ID/diff` or `ID/userdata`.
fn identified(path: &Path) -> Option<(&OsStr, &OsStr)> {
    let (id, name) = (path.parent()?.file_name()?, path.file_name()?);
    (is_id(id.as_encoded_bytes()) && (name == "diff" || name == "userdata")).then_some((id, name))
}

/// Checks that a container was not refused at its first start, for then it is not started later either: podman made its
/// record, with command, user and environment, from an image that was not what it should be. `name` is what people call
/// it.
///
/// # Errors
/// [`Case::O13Refused`].
pub fn check(note: Option<&RefusedNote>, ran: LastStart, name: Option<&str>) -> Result<()> {
    match note {
        Some(note) if note.anew && ran == LastStart::Never => {
            let id = if note.container.is_empty() { &note.path } else { &note.container };
            let named = name.map_or_else(|| id.clone(), |name| format!("{name} ({id})"));
            Err(Refusal::new(Case::O13Refused, named, format!("for {}", note.case)))
        }
        _ => Ok(()),
    }
}

/// Checks that podman has not written into the configuration for a container that was refused.
///
/// # Errors
/// [`Case::F10Written`], until a person has looked at it and removed the note.
pub fn check_configuration() -> Result<()> {
    let is_there = |note: &RefusedNote| {
        is_configuration(Path::new(&note.path))
            && openat(CWD, &note.path, FOLLOW, Mode::empty()).is_ok_and(|file| note.is_of(&file))
    };
    // Those who judge by the policy read them too, and say what is wrong with them: audit starts in spite of it.
    match notes().unwrap_or_default().iter().find(|(_, note)| is_there(note)) {
        Some((name, note)) => {
            let why = format!("container {}; the note is {DIR}/{name}", note.container);
            Err(Refusal::new(Case::F10Written, &note.path, why))
        }
        None => Ok(()),
    }
}

/// Reads all notes, each with the name of its file.
///
/// # Errors
/// [`Case::O10Notes`] for a note that cannot be read, or that users other than root could have written.
pub fn notes() -> Result<Vec<(String, RefusedNote)>> {
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::O10Notes, DIR.to_string(), e);
    let Some(dir) = DIR.open().map_err(|e| refuse(&e))? else { return Ok(Vec::new()) };
    read(&dir).map_err(|e| refuse(&e))
}

fn read(dir: &Notes) -> std::io::Result<Vec<(String, RefusedNote)>> {
    let mut notes = Vec::new();
    for name in files::names(dir.as_fd())? {
        let bad = |e: &dyn std::fmt::Display| std::io::Error::other(format!("{}: {e}", name.to_string_lossy()));
        let name = name.to_str().ok_or_else(|| bad(&"a name that is no UTF-8"))?;
        // One that is being written.
        if name.starts_with(".new-") {
            continue;
        }
        // One that has gone away meanwhile no longer matters.
        let Some(bytes) = dir.read(name, MAX_NOTE).map_err(|e| bad(&e))? else { continue };
        notes.push((name.to_owned(), serde_json::from_slice(&bytes).map_err(|e| bad(&e))?));
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::RefusedNote;

    #[test]
    fn o10_a_note_is_read_as_it_is_written() {
        for (began, anew) in [(None, false), (Some(1_795_896_375_987_533_542), true), (Some(i128::MIN), true)] {
            let note = RefusedNote {
                path: "/x".into(),
                inode: 7,
                born: 5,
                case: "C07".into(),
                container: "c".into(),
                began,
                anew,
                above: vec![(3, 4)],
            };
            let text = serde_json::to_vec_pretty(&note).unwrap();
            assert_eq!(serde_json::from_slice::<RefusedNote>(&text).unwrap(), note);
        }
        // As version 0.1.0 wrote it.
        let old = r#"{"path":"/x","inode":7,"born":5,"case":"C07","container":"c"}"#;
        assert!(!serde_json::from_str::<RefusedNote>(old).unwrap().anew);
    }
}
