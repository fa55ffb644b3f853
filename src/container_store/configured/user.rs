//! Where an ordinary user's podman has its store (storage/types/options.go, `getRootlessStorageOpts`): it is not
//! root's, and anything said about root's would be about other containers.

use std::path::{Path, PathBuf};

use super::generation::{self, Files, Generation};
use super::settings::StorageSettings;
use super::{ConfigFile, Configured, Surroundings, clean, drop_ins, expand, options, read_file};
use crate::error::Result;

/// Returns what is configured for the user `uid`.
///
/// # Errors
/// As for [`super::configured`].
pub(super) fn of(around: &Surroundings<'_>, uid: u32) -> Result<Configured> {
    let generation = generation::of(around.podman);
    let (mut system, mut settings) = (StorageSettings::default(), StorageSettings::default());
    let mut read = Vec::new();
    // podman 6 begins with the system's files; earlier versions take one thing from them.
    if let Some(file) = first(SYSTEM.map(|dir| around.at(dir).join(CONF)))
        && read_file(&file, generation, &mut system)?
        && generation.files == Files::One
    {
        read.push(file.path);
    }
    for file in files(around, generation, uid)? {
        if read_file(&file, generation, &mut settings)? {
            read.push(file.path);
        }
    }
    let place = |texts: [&str; 3], default: PathBuf| match texts.into_iter().find(|text| !text.is_empty()) {
        Some(text) => expand(around, text, uid),
        None => Ok(default),
    };
    let data = around.path("XDG_DATA_HOME").map(PathBuf::from);
    let data = data.unwrap_or_else(|| home(around).join(".local/share"));
    let graph_root = place(
        [&settings.graph_root, &settings.rootless_storage_path, &system.rootless_storage_path],
        data.join("containers/storage"),
    )?;
    let runtime = around.path("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/user/{uid}"));
    let run_root = place([&settings.run_root, "", ""], Path::new(&runtime).join("containers"))?;
    let driver = around.path("STORAGE_DRIVER").unwrap_or(settings.driver.clone());
    let mut mount_program = None;
    let mut additional = Vec::new();
    for (key, value) in options(around, generation, &settings, &driver) {
        match key.as_str() {
            "mount_program" => mount_program = Some(value).filter(|value| !value.is_empty()),
            "imagestore" | "additionalimagestore" => {
                additional.extend(value.split(',').filter(|store| store.starts_with('/')).map(|s| clean(Path::new(s))));
            }
            _ => {}
        }
    }
    Ok(Configured {
        podman: around.podman.map(|podman| podman.version),
        generation,
        files: read,
        driver: Some(driver).filter(|driver| !driver.is_empty()),
        graph_root,
        run_root,
        image_store: Some(settings.image_store).filter(|s| !s.is_empty()).map(|s| clean(Path::new(&s))),
        additional,
        mount_program,
        transient: settings.transient,
        composefs: false,
    })
}

const CONF: &str = "storage.conf";

/// Where the system's own files are, the more important ones first.
const SYSTEM: [&str; 2] = ["/etc/containers", "/usr/share/containers"];

/// Finds the first one that exists.
fn first(paths: impl IntoIterator<Item = PathBuf>) -> Option<ConfigFile> {
    let path = paths.into_iter().find(|path| std::fs::metadata(path).is_ok())?;
    Some(ConfigFile { path, required: false })
}

/// Lists the files that the user's podman reads, the most important ones last.
fn files(around: &Surroundings<'_>, generation: &Generation, uid: u32) -> Result<Vec<ConfigFile>> {
    let dir = around.text("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| home(around).join(".config")).join("containers");
    let is_one = generation.files == Files::One;
    let main = match around.path("CONTAINERS_STORAGE_CONF") {
        Some(path) => Some(ConfigFile { path: path.into(), required: true }),
        None if is_one => first([dir.join(CONF)]),
        None => first([dir.clone()].into_iter().chain(SYSTEM.map(|dir| around.at(dir))).map(|dir| dir.join(CONF))),
    };
    let mut files: Vec<ConfigFile> = main.into_iter().collect();
    if is_one {
        return Ok(files);
    }
    let mut places = Vec::new();
    for base in SYSTEM.into_iter().rev().map(|dir| around.at(dir)) {
        let rootless = base.join("storage.rootless.conf.d");
        places.extend([base.join("storage.conf.d"), rootless.clone(), rootless.join(uid.to_string())]);
    }
    places.push(dir.join("storage.conf.d"));
    files.extend(drop_ins(&places)?);
    Ok(files)
}

fn home(around: &Surroundings<'_>) -> PathBuf {
    around.path("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from)
}
