//! What podman notes in its run root about mounted layers (containers-storage, `layerMountPoint` in layers.go). A layer
//! that is noted there is not mounted again: podman takes what is mounted at the noted place.

use std::io;
use std::path::{Component, Path};

use serde_json::Value;

use crate::oci::strict_json;
use crate::sys::mountinfo::MountInfo;
use crate::sys::{files, same_paths};

/// The file's place in a run root.
const NOTES: &str = "overlay-layers/mountpoints.json";

/// How many bytes it may have: those of a hundred thousand layers.
const MAX_NOTES: u64 = 32 << 20;

/// What a note consists of; Go reads keys in other cases too, and podman writes none.
const KEYS: [&str; 3] = ["id", "path", "count"];

/// Finds a note by which podman takes something else than a layer for that layer: a place that is not the layer's own,
/// `STORE/overlay/ID/merged`. Returns why; `None` if all is as podman notes it.
pub fn find_untrue_note(run_root: &Path, all: &[MountInfo]) -> Option<String> {
    let notes = same_paths::open_dir(run_root).and_then(|dir| files::open_file_at(&dir, NOTES));
    let bytes = match notes.and_then(|file| files::read_all(file, MAX_NOTES)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(e) => return Some(format!("{NOTES} in it cannot be read: {e}")),
    };
    let notes = strict_json::value(&bytes, NOTES).ok();
    let Some(notes) = notes.as_ref().and_then(Value::as_array) else {
        // podman begins with an empty file.
        return (!bytes.is_empty()).then(|| format!("{NOTES} in it is not podman's"));
    };
    notes.iter().find(|note| !is_true(note, all)).map(|note| format!("{NOTES} in it says {note}"))
}

fn is_true(note: &Value, all: &[MountInfo]) -> bool {
    let is_podmans = note.as_object().is_some_and(|note| note.keys().all(|key| KEYS.contains(&key.as_str())));
    let text = |key| note.get(key).and_then(Value::as_str);
    let (true, Some(id), Some(path)) = (is_podmans, text("id"), text("path").or(Some(""))) else { return false };
    if path.is_empty() {
        return true;
    }
    // Not by links of the kernel's own: podman is led elsewhere by them.
    let place = match same_paths::open_dir(Path::new(path)).and_then(|dir| std::fs::read_link(files::proc_path(&dir))) {
        Ok(place) => place,
        Err(e) => return e.kind() == io::ErrorKind::NotFound && is_merged_of(Path::new(path), id),
    };
    let mut there = all.iter().filter(|mount| mount.target == place);
    is_merged_of(&place, id) && there.all(|mount| mount.kind == "overlay" || mount.is_fuse_overlayfs())
}

/// Returns whether a path is `…/overlay/ID/merged`.
fn is_merged_of(path: &Path, id: &str) -> bool {
    let mut last = path.components().rev();
    let mut is = |name: &str| last.next() == Some(Component::Normal(name.as_ref()));
    is("merged") && is(id) && is("overlay")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn o11_a_note_names_the_place_of_its_own_layer() {
        let id = "a".repeat(64);
        for (path, expected) in [
            (String::new(), true),
            (format!("/none/overlay/{id}/merged"), true),
            ("/none/overlay/b/merged".into(), false),
            ("/none".into(), false),
            ("/".into(), false),
            (format!("/proc/self/cwd/none/overlay/{id}/merged"), false),
        ] {
            assert_eq!(is_true(&json!({"id": id, "path": path, "count": 1}), &[]), expected, "{path}");
        }
        assert!(!is_true(&json!({"id": id, "Path": "/none", "count": 1}), &[]));
    }
}
