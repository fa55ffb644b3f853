//! Paths in configuration files, expanded as Go's programs do.

use std::path::{Component, Path, PathBuf};

use super::Surroundings;
use crate::error::{Refusal, Result};

/// Expands a path as containers-storage does: variables, then symlinks if all of it exists (`expandEnvPath`), and makes
/// it absolute (`GetStore`).
pub(super) fn expand(around: &Surroundings<'_>, path: &str, uid: u32) -> Result<PathBuf> {
    let path = expand_variables(around, &path.replace("$UID", &uid.to_string()));
    let resolved = std::fs::canonicalize(&path).unwrap_or_else(|_| clean(Path::new(&path)));
    std::path::absolute(&resolved).map(|path| clean(&path)).map_err(|e| Refusal::io(path, e))
}

/// Expands `$NAME` and `${NAME}`, like os.ExpandEnv.
pub(super) fn expand_variables(around: &Surroundings<'_>, text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let letters = |text: &str| text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        let (name, tail) = match after.strip_prefix('{') {
            Some(inner) => inner.split_once('}').unwrap_or(("", inner)),
            None => after.split_at(letters(after)),
        };
        if name.is_empty() && !after.starts_with('{') {
            out.push('$');
        }
        out.push_str(&around.text(name).unwrap_or_default());
        rest = tail;
    }
    out + rest
}

/// Removes empty parts and `.` from a path, and `..` as far as its text allows (filepath.Clean).
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match (part, out.components().next_back()) {
            (Component::CurDir, _) | (Component::ParentDir, Some(Component::RootDir)) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                out.pop();
            }
            (part, _) => out.push(part),
        }
    }
    if out.as_os_str().is_empty() { PathBuf::from(".") } else { out }
}
