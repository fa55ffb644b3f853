//! The text of storage.conf, and what remains after several files were read (containers-storage.conf(5)).

use toml::{Table, Value};

use super::generation::{Files, Generation};
use crate::error::in_toml;

/// The settings that matter here. A missing text and an empty one are the same to containers-storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StorageSettings {
    pub driver: String,
    pub graph_root: String,
    pub run_root: String,
    pub image_store: String,
    /// Where the stores of users other than root are.
    pub rootless_storage_path: String,
    pub transient: bool,
    pub additional: List,
    pub mount_program: String,
    pub overlay_mount_program: String,
    pub overlay_composefs: String,
}

/// A list that a later file adds to if it, or one before it, holds `{append = true}` (storage/pkg/configfile, `Slice`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    pub values: Vec<String>,
    append: bool,
}

impl StorageSettings {
    /// Reads one more file, as podman of that generation does; what it says overrides earlier files.
    ///
    /// # Errors
    /// Why the file cannot be read, as podman could not.
    pub fn add(&mut self, text: &str, generation: &Generation) -> Result<(), String> {
        let table: Table = text.parse().map_err(|e| in_toml(text, &e))?;
        let Some(storage) = section(&table, "storage")? else { return Ok(()) };
        for (key, into) in
            [("driver", &mut self.driver), ("graphroot", &mut self.graph_root), ("runroot", &mut self.run_root)]
        {
            set(storage, key, into)?;
        }
        set(storage, "rootless_storage_path", &mut self.rootless_storage_path)?;
        // A key that it does not know may hold anything.
        if generation.image_store {
            set(storage, "imagestore", &mut self.image_store)?;
        }
        if let Some(value) = get(storage, "transient_store")?.filter(|_| generation.transient) {
            self.transient = value.as_bool().ok_or_else(|| wrong("transient_store", value))?;
        }
        let Some(options) = section(storage, "options")? else { return Ok(()) };
        set(options, "mount_program", &mut self.mount_program)?;
        if let Some(value) = get(options, "additionalimagestores")? {
            self.additional
                .set(value, generation.files == Files::DropIns)
                .ok_or_else(|| wrong("additionalimagestores", value))?;
        }
        if let Some(overlay) = section(options, "overlay")? {
            set(overlay, "mount_program", &mut self.overlay_mount_program)?;
            set(overlay, "use_composefs", &mut self.overlay_composefs)?;
        }
        Ok(())
    }
}

impl List {
    fn set(&mut self, value: &Value, attributes: bool) -> Option<()> {
        let mut values = Vec::new();
        for item in value.as_array()? {
            match item {
                Value::String(text) => values.push(text.clone()),
                Value::Table(table) if attributes => {
                    for (key, value) in table {
                        self.append = value.as_bool().filter(|_| key == "append")?;
                    }
                }
                _ => return None,
            }
        }
        match self.append {
            true => self.values.extend(values),
            false => self.values = values,
        }
        Some(())
    }
}

/// Returns the value of a key, in whatever case it is written (BurntSushi/toml, `unifyStruct`). If two keys fold to the
/// same, Go's decoder takes the one that its map yields last, which varies from run to run.
fn get<'a>(table: &'a Table, key: &str) -> Result<Option<&'a Value>, String> {
    let mut others = table.iter().filter(|(name, _)| folded(name) == key).map(|(_, value)| value);
    match (others.next(), others.next()) {
        (Some(_), Some(_)) => Err(format!("{key} is there twice, and which of them counts changes")),
        (one, _) => Ok(one),
    }
}

/// Puts a name in lower case; two letters beyond ASCII fold to one of ours.
fn folded(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c == '\u{17f}' {
                's'
            } else if c == '\u{212a}' {
                'k'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

fn section<'a>(table: &'a Table, key: &str) -> Result<Option<&'a Table>, String> {
    get(table, key)?.map(|value| value.as_table().ok_or_else(|| wrong(key, value))).transpose()
}

fn set(table: &Table, key: &str, into: &mut String) -> Result<(), String> {
    if let Some(value) = get(table, key)? {
        value.as_str().ok_or_else(|| wrong(key, value))?.clone_into(into);
    }
    Ok(())
}

fn wrong(key: &str, value: &Value) -> String {
    format!("{key} cannot be {}", value.type_str())
}

/// Parses one option of `$STORAGE_OPTS`: `overlay.imagestore=/a`, `mount_program=/b`.
pub(super) fn option(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    let mut key = key.trim().to_lowercase();
    for prefix in ["overlay.", "overlay2.", "."] {
        key = key.strip_prefix(prefix).map(str::to_owned).unwrap_or(key);
    }
    Some((key, value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: (u32, u32)) -> &'static Generation {
        super::super::generation::of(Some(version.into()))
    }

    fn read(files: &[&str]) -> Result<StorageSettings, String> {
        let mut settings = StorageSettings::default();
        files.iter().try_for_each(|text| settings.add(text, of((6, 1))))?;
        Ok(settings)
    }

    #[test]
    fn files_one_after_another() {
        let settings = read(&[
            "[storage]\ngraphroot = \"/g\"\nrunroot = \"/r\"\n[storage.options]\nadditionalimagestores = [\"/a\"]\n",
            "[storage]\nrunroot = \"\"\n[storage.options]\nadditionalimagestores = [\"/b\", {append = true}]\n",
            "[storage.options]\nadditionalimagestores = [\"/c\"]\n[storage.options.overlay]\nmount_program = \"/p\"\n",
        ])
        .unwrap();
        assert_eq!((settings.graph_root.as_str(), settings.run_root.as_str()), ("/g", ""));
        // It goes on appending until somebody says otherwise.
        assert_eq!(settings.additional.values, ["/a", "/b", "/c"]);
        assert_eq!(settings.overlay_mount_program, "/p");
        let list = |text: &str| format!("[storage.options]\nadditionalimagestores = {text}\n");
        let settings = read(&[&list("[\"/a\", {append = true}]"), &list("[\"/b\", {append = false}]")]).unwrap();
        assert_eq!(settings.additional.values, ["/b"]);
    }

    #[test]
    fn what_podman_cannot_read() {
        for bad in [
            "[storage",
            "storage = 1\n",
            "[storage]\ngraphroot = 1\n",
            "[storage]\ntransient_store = \"true\"\n",
            "[storage.options]\nadditionalimagestores = \"/a\"\n",
            "[storage.options]\nadditionalimagestores = [\"/a\", {prepend = true}]\n",
            "[storage.options]\nadditionalimagestores = [1]\n",
            "[storage]\nGraphRoot = \"/a\"\nGRAPHROOT = \"/b\"\n",
            "[storage]\ngraphroot = \"/a\"\nGraphRoot = \"/b\"\n",
        ] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
        let list = "[storage.options]\nadditionalimagestores = [\"/a\", {append = true}]";
        assert!(StorageSettings::default().add(list, of((5, 4))).is_err());
        let unknown = "[storage]\ntransient_store = \"true\"\nimagestore = 7\n";
        assert_eq!(StorageSettings::default().add(unknown, of((4, 3))), Ok(()));
        assert_eq!(read(&["[Storage]\nGraphRoot = \"/a\"\n\"drive\u{17f}\" = \"x\"\n"]).unwrap().graph_root, "/a");
        assert_eq!(read(&["[\"\u{17f}torage\"]\ngraphroot = \"/a\"\n"]).unwrap().graph_root, "/a");
    }
}
