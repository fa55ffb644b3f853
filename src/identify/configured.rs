//! What containers-storage is configured to do, by the files that root writes.

use std::path::PathBuf;

use crate::report::{Case, Refusal, Result};

/// The host's own file first (containers-storage.conf(5)).
const FILES: [&str; 2] = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];

/// The graph root of containers-storage (containers-storage.conf(5)).
///
/// # Errors
/// [`Case::Usage`], [`Case::Io`].
pub fn graph_root() -> Result<PathBuf> {
    let table = storage_conf()?.unwrap_or_default();
    let root = table.get("storage").and_then(|s| s.get("graphroot")).and_then(toml::Value::as_str);
    Ok(PathBuf::from(root.unwrap_or("/var/lib/containers/storage")))
}

/// The run root of containers-storage.
///
/// # Errors
/// [`Case::Usage`].
pub fn run_root() -> Result<PathBuf> {
    let table = storage_conf()?.unwrap_or_default();
    let root = table.get("storage").and_then(|s| s.get("runroot")).and_then(toml::Value::as_str);
    Ok(PathBuf::from(root.unwrap_or("/run/containers/storage")))
}

/// The mount program that podman is configured to use, where there is one.
pub fn mount_program() -> Option<String> {
    let table: toml::Table = FILES.iter().find_map(|f| std::fs::read_to_string(f).ok())?.parse().ok()?;
    let options = table.get("storage")?.get("options")?;
    let program = options.get("overlay").and_then(|o| o.get("mount_program")).or_else(|| options.get("mount_program"));
    program.and_then(toml::Value::as_str).filter(|p| !p.is_empty()).map(str::to_owned)
}

/// The first of its files that names a graph root.
fn storage_conf() -> Result<Option<toml::Table>> {
    for file in FILES {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            // What it says is not known: nobody may go on as if it said nothing.
            Err(e) => return Err(Refusal::io(file, e)),
        };
        let table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| Refusal::new(Case::Usage, file, e.message()))?;
        if table.get("storage").is_some_and(|s| s.get("graphroot").is_some_and(toml::Value::is_str)) {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

/// The other stores that images come from.
///
/// # Errors
/// [`Case::Usage`], [`Case::Io`].
pub fn further_stores() -> Result<Vec<PathBuf>> {
    Ok(storage_conf()?.map(|table| further(&table)).unwrap_or_default())
}

/// `imagestore` and `additionalimagestores`, at either of the places where they may stand.
fn further(table: &toml::Table) -> Vec<PathBuf> {
    let storage = table.get("storage");
    let options = storage.and_then(|s| s.get("options"));
    let tables = [storage, options, options.and_then(|o| o.get("overlay"))];
    let values = tables.into_iter().flatten().flat_map(|t| [t.get("imagestore"), t.get("additionalimagestores")]);
    let mut stores: Vec<PathBuf> = Vec::new();
    for value in values.flatten() {
        match value {
            toml::Value::String(one) => stores.push(one.into()),
            toml::Value::Array(all) => stores.extend(all.iter().filter_map(toml::Value::as_str).map(PathBuf::from)),
            _ => {}
        }
    }
    stores.retain(|store| !store.as_os_str().is_empty());
    stores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_that_images_come_from_are_all_found() {
        let text = "[storage]\ngraphroot = \"/g\"\nimagestore = \"/i\"\n\
                    [storage.options]\nadditionalimagestores = [\"/a\", \"/b\"]\n\
                    [storage.options.overlay]\nimagestore = \"\"\n";
        assert_eq!(further(&text.parse().unwrap()), ["/i", "/a", "/b"].map(PathBuf::from));
        assert!(further(&"[storage]\ngraphroot = \"/g\"".parse().unwrap()).is_empty());
    }
}
