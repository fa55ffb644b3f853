//! What podman removes when it opens its store, as root and before anybody is asked: the directory of a layer that its records
//! call unfinished, by its ID and by the name of its link (storage/drivers/overlay, `Remove`), and the file that a journal beside
//! its database names (SQLite, "Super-Journal Files"; later versions look at that name first).

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde_json::Value;

use super::{CheckState, HostCheck, check};
use crate::container_store::{Configured, database_paths};
use crate::oci::is_image_id;
use crate::sys::files;

const NAME: &str = "what podman removes when it opens its store";
const REMEDY: &str =
    "podman removes files of the host by that: move it away before you run podman, and find out who wrote it";

/// The most bytes of records that are read.
const MAX_RECORDS: u64 = 256 << 20;
/// The most bytes of the name of a link that are read.
const MAX_LINK: u64 = 4096;
/// How a journal ends that names another (SQLite, "Database File Format", 3.1).
const SUPER_JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Looks at the records of all layers, and at the journal of podman's database; `None` where they lead nowhere.
pub(super) fn look(found: &Configured) -> Option<HostCheck> {
    let places = [&found.graph_root, &found.run_root].into_iter().chain(&found.image_store);
    let why = places.filter_map(|root| of_store(root).unwrap_or_else(|e| Some(e.to_string()))).next()?;
    Some(check(NAME, CheckState::Missing, why, REMEDY))
}

/// Returns what is wrong with a store.
fn of_store(root: &Path) -> io::Result<Option<String>> {
    for records in ["overlay-layers/layers.json", "overlay-layers/volatile-layers.json"] {
        let path = root.join(records);
        if let Some(bytes) = read(&path, MAX_RECORDS)?
            && let Some(id) = ids(&bytes)?.into_iter().find(|id| !is_image_id(id.as_bytes()))
        {
            return Ok(Some(format!("{}: a layer has the ID {id:?}", path.display())));
        }
    }
    for layer in std::fs::read_dir(root.join("overlay")).into_iter().flatten() {
        let path = layer?.path().join("link");
        if let Some(name) = read(&path, MAX_LINK)?
            && !name.iter().all(u8::is_ascii_alphanumeric)
        {
            return Ok(Some(format!("{}: it holds {:?}", path.display(), String::from_utf8_lossy(&name))));
        }
    }
    for database in database_paths(root) {
        let mut journal = database.into_os_string();
        journal.push("-journal");
        let journal = Path::new(&journal);
        if names_another(journal)? {
            return Ok(Some(format!("{}: it names another file, which SQLite removes", journal.display())));
        }
    }
    Ok(None)
}

/// Opens a file; `None` if there is none.
fn open(path: &Path) -> io::Result<Option<File>> {
    let Some((dir, name)) = path.parent().zip(path.file_name()) else { return Ok(None) };
    match files::open_dir(dir).and_then(|dir| files::open_file_at(dir, name)) {
        Ok(file) => Ok(Some(file)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
    }
}

fn read(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    open(path)?.map(|file| files::read_all(file, max)).transpose()
}

/// Lists the IDs that records have, by whatever form of the key podman takes.
fn ids(records: &[u8]) -> io::Result<Vec<String>> {
    let all: Vec<serde_json::Map<String, Value>> = serde_json::from_slice(records)?;
    let of = |record: &serde_json::Map<String, Value>| -> Vec<String> {
        let ids = record.iter().filter(|(key, _)| key.eq_ignore_ascii_case("id"));
        ids.map(|(_, id)| id.as_str().map_or_else(|| id.to_string(), str::to_owned)).collect()
    };
    Ok(all.iter().flat_map(of).collect())
}

/// Returns whether a journal names another.
fn names_another(path: &Path) -> io::Result<bool> {
    let Some(mut file) = open(path)? else { return Ok(false) };
    let mut end = [0; SUPER_JOURNAL.len()];
    if file.metadata()?.len() < end.len() as u64 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut end)?;
    Ok(end == SUPER_JOURNAL)
}
