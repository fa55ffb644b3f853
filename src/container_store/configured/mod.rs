//! Where podman of this host keeps its containers and images: the one module that knows storage.conf.
//!
//! The podman that is installed decides how it is read ([`generation`]). Environment variables count as they do for
//! root's podman: for the verbs that a person calls. A hook or mount program has none left, and podman's own call tells
//! it where the store is.

mod expand;
mod generation;
mod namespace;
mod settings;
mod user;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use expand::{clean, expand};
pub use generation::Generation;
use generation::{Files, MissingRoots, Podman, UserConfigOrder};
pub use namespace::use_store_of_user;
use settings::{StorageSettings, option};

use crate::error::{Case, Refusal, Result};
use crate::sys::home;

/// What podman is configured to use, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// The version of podman that is installed, if one is.
    pub podman: Option<(u32, u32)>,
    /// How its files were read.
    pub generation: &'static Generation,
    /// The files that were read, in that order.
    pub files: Vec<PathBuf>,
    /// The storage driver; `None` if podman chooses.
    pub driver: Option<String>,
    /// Where containers are, and all records of layers; images too, unless there is an image store.
    pub graph_root: PathBuf,
    /// Where podman keeps what ends with this boot.
    pub run_root: PathBuf,
    /// Where images are pulled to, if not into the graph root.
    pub image_store: Option<PathBuf>,
    /// Stores from which images are taken and to which podman does not write.
    pub additional: Vec<PathBuf>,
    /// The mount program.
    pub mount_program: Option<String>,
    /// Whether containers are forgotten with this boot.
    pub transient: bool,
    /// Whether podman mounts EROFS images that it makes itself (`use_composefs`).
    pub composefs: bool,
}

impl Configured {
    /// Returns the storage driver: the one that is asked for, or the one whose directories exist, which podman takes up
    /// again (storage/drivers, `ScanPriorDrivers`).
    pub fn driver(&self) -> Option<String> {
        self.driver.clone().or_else(|| {
            let there = |driver: &str| self.graph_root.join(format!("{driver}-images")).is_dir();
            ["overlay", "btrfs", "zfs", "vfs"].into_iter().find(|driver| there(driver)).map(str::to_owned)
        })
    }
}

/// The surroundings of root's podman.
struct Surroundings<'a> {
    /// The root directory.
    root: &'a Path,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    podman: Option<Podman>,
}

impl Surroundings<'_> {
    /// Returns a variable that is set and is text.
    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).and_then(|value| value.into_string().ok())
    }

    /// Returns a variable that is not empty.
    fn path(&self, name: &str) -> Option<String> {
        self.text(name).filter(|value| !value.is_empty())
    }

    /// Returns `path`, which is absolute, beneath the root directory.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Returns root's `.config/containers`, which podman 6 reads (unshare.HomeDir).
    fn home(&self) -> PathBuf {
        match (self.text("XDG_CONFIG_HOME"), self.path("HOME")) {
            (Some(config), _) => PathBuf::from(config).join("containers"),
            (None, Some(home)) => PathBuf::from(home).join(".config/containers"),
            (None, None) => self.at(&home::of_user(self.root, 0).unwrap_or_default()).join(".config/containers"),
        }
    }
}

/// Returns what is configured: read once in a process, which asks for it wherever a store is looked for.
///
/// # Errors
/// [`Case::Usage`] for files that podman could not read either, [`Case::Io`].
pub fn configured() -> Result<Configured> {
    static FOUND: OnceLock<Result<Configured>> = OnceLock::new();
    let variable = |name: &str| std::env::var_os(name);
    let look = || {
        let around = Surroundings { root: Path::new("/"), variable: &variable, podman: generation::installed() };
        match rustix::process::geteuid().as_raw() {
            0 => read(&around).map(|found| namespace::of(found, &variable)),
            uid => user::of(&around, uid),
        }
    };
    FOUND.get_or_init(look).clone()
}

/// Returns the graph root of containers-storage (containers-storage.conf(5)).
///
/// # Errors
/// As for [`configured`].
pub fn graph_root() -> Result<PathBuf> {
    Ok(configured()?.graph_root)
}

/// Returns the run root of containers-storage.
///
/// # Errors
/// As for [`configured`].
pub fn run_root() -> Result<PathBuf> {
    Ok(configured()?.run_root)
}

/// Returns the mount program that podman is configured to use, if there is one.
pub fn mount_program() -> Option<String> {
    configured().ok()?.mount_program
}

/// Returns the other stores that images come from.
///
/// # Errors
/// As for [`configured`].
pub fn further_stores() -> Result<Vec<PathBuf>> {
    let Configured { image_store, additional, .. } = configured()?;
    Ok(image_store.into_iter().chain(additional).collect())
}

fn read(around: &Surroundings<'_>) -> Result<Configured> {
    let generation = generation::of(around.podman);
    let mut settings = StorageSettings::default();
    let mut files = Vec::new();
    for file in candidates(around, generation)? {
        if read_file(&file, generation, &mut settings)? {
            files.push(file.path);
        }
    }
    resolve(around, generation, settings, files)
}

/// Adds what a file says, and returns whether there is one.
fn read_file(file: &ConfigFile, generation: &Generation, settings: &mut StorageSettings) -> Result<bool> {
    let shown = file.path.display().to_string();
    let text = match std::fs::read_to_string(&file.path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !file.required => return Ok(false),
        // What it says is unknown: nobody may go on as if it said nothing.
        Err(e) => return Err(Refusal::io(shown, e)),
    };
    settings.add(&text, generation).map_err(|why| Refusal::new(Case::Usage, shown, why))?;
    Ok(true)
}

/// A file that may exist.
struct ConfigFile {
    path: PathBuf,
    required: bool,
}

/// Lists all existing files that podman would open.
fn candidates(around: &Surroundings<'_>, generation: &Generation) -> Result<Vec<ConfigFile>> {
    const ENVIRONMENT: &str = "CONTAINERS_STORAGE_CONF";
    const NAME: &str = "storage.conf";
    let [etc, usr] = ["/etc/containers", "/usr/share/containers"].map(|dir| around.at(dir));
    let chosen = |path: String| ConfigFile { path: path.into(), required: true };
    let first = |dirs: &[&PathBuf]| {
        let found = dirs.iter().map(|dir| dir.join(NAME)).find(|path| std::fs::metadata(path).is_ok());
        found.map(|path| ConfigFile { path, required: false })
    };
    if generation.files == Files::One {
        // Set but empty counts as set, and names no file.
        if let Some(path) = around.text(ENVIRONMENT) {
            return Ok(vec![chosen(path)]);
        }
        let own = around.text("XDG_CONFIG_HOME").map(|dir| PathBuf::from(dir).join("containers"));
        let order: Vec<&PathBuf> = match generation.own {
            UserConfigOrder::First => own.iter().chain([&etc, &usr]).collect(),
            UserConfigOrder::Last => [&etc, &usr].into_iter().chain(&own).collect(),
        };
        return Ok(first(&order).into_iter().collect());
    }
    scheme(around, "storage", ENVIRONMENT)
}

/// Lists the files that podman 6 reads for `NAME.conf`, in order (storage/pkg/configfile): the first of root's own, the
/// administrator's and the distribution's, then drop-ins of all of them. A file that `variable` names takes the place
/// of these, and one more comes after all.
fn scheme(around: &Surroundings<'_>, name: &str, variable: &str) -> Result<Vec<ConfigFile>> {
    let [etc, usr] = ["/etc/containers", "/usr/share/containers"].map(|dir| around.at(dir));
    let chosen = |path: String| ConfigFile { path: path.into(), required: true };
    let home = around.home();
    let mut files: Vec<ConfigFile> = Vec::new();
    match around.path(variable) {
        Some(path) => files.push(chosen(path)),
        None => {
            let mut main = [&home, &etc, &usr].into_iter().map(|dir| dir.join(format!("{name}.conf")));
            let found = main.find(|path| std::fs::metadata(path).is_ok());
            files.extend(found.map(|path| ConfigFile { path, required: false }));
            let (all, rootful) = (format!("{name}.conf.d"), format!("{name}.rootful.conf.d"));
            let directories = [usr.join(&all), usr.join(&rootful), etc.join(&all), etc.join(&rootful), home.join(&all)];
            files.extend(drop_ins(&directories)?);
        }
    }
    files.extend(around.path(&format!("{variable}_OVERRIDE")).map(chosen));
    Ok(files)
}

/// Lists the files of `NAME.conf` and its drop-ins, if the podman that is installed reads it as podman 6 does: in the
/// system whose root directory is `root`. `None` if it does not.
///
/// # Errors
/// [`Case::Io`] for directories of drop-ins that cannot be read.
pub fn drop_in_files(root: &Path, name: &str, variable: &str) -> Result<Option<Vec<PathBuf>>> {
    // Which podman another system has is unknown.
    let podman = if root == Path::new("/") { generation::installed() } else { None };
    // containers.conf is podman's own, and has been read like this since 6.0, whichever storage library it is built
    // with.
    let reads_drop_ins = match name {
        "containers" => podman.is_some_and(|podman| podman.version >= generation::DROP_INS),
        _ => generation::of(podman).files == Files::DropIns,
    };
    if !reads_drop_ins {
        return Ok(None);
    }
    let environment = |name: &str| std::env::var_os(name);
    files_of_podman_6(root, name, variable, &environment).map(Some)
}

/// Returns where root's own configuration is, for a podman that reads it without reading all files as podman 6 does:
/// containers.conf since podman 5 (containers/common, `systemConfigs`).
pub fn own_config_dir(root: &Path) -> Option<PathBuf> {
    let podman = if root == Path::new("/") { generation::installed() } else { None };
    let variable = |name: &str| std::env::var_os(name);
    (podman?.version >= (5, 0)).then(|| Surroundings { root, variable: &variable, podman: None }.home())
}

fn files_of_podman_6(
    root: &Path,
    name: &str,
    named_by: &str,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Vec<PathBuf>> {
    let files = scheme(&Surroundings { root, variable, podman: None }, name, named_by)?;
    Ok(files.into_iter().map(|file| file.path).collect())
}

/// Lists the drop-ins of all directories, the more important ones last, in the order of their names.
fn drop_ins(directories: &[PathBuf]) -> Result<Vec<ConfigFile>> {
    let mut named = std::collections::BTreeMap::new();
    for directory in directories {
        let files = drop_ins_of(directory)?;
        named.extend(files.into_iter().map(|path| (path.file_name().map(ToOwned::to_owned), path)));
    }
    Ok(named.into_values().map(|path| ConfigFile { path, required: false }).collect())
}

/// Lists the drop-ins of one directory, in the order of their names.
///
/// # Errors
/// [`Case::Io`].
pub fn drop_ins_of(directory: &Path) -> Result<Vec<PathBuf>> {
    let io = |e| Refusal::io(directory.display().to_string(), e);
    let entries = match std::fs::read_dir(directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io)?;
        let is_directory = entry.file_type().map_err(io)?.is_dir();
        if !is_directory && entry.file_name().as_encoded_bytes().ends_with(b".conf") {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Returns what containers-storage makes of the settings.
fn resolve(
    around: &Surroundings<'_>,
    generation: &'static Generation,
    settings: StorageSettings,
    files: Vec<PathBuf>,
) -> Result<Configured> {
    let place = |name: &str, value: &str, default: &str| match value {
        // Without any file the defaults apply from the beginning.
        "" if generation.missing == MissingRoots::Refused && !files.is_empty() => {
            let file = files.last().map(|f| f.display().to_string()).unwrap_or_default();
            Err(Refusal::new(Case::Usage, file, format!("{name} must be set for this version of podman")))
        }
        "" => Ok(PathBuf::from(default)),
        value => expand(around, value, 0),
    };
    let run_root = place("runroot", &settings.run_root, "/run/containers/storage")?;
    let graph_root = place("graphroot", &settings.graph_root, "/var/lib/containers/storage")?;
    let image_store = Some(settings.image_store.clone()).filter(|s| !s.is_empty());
    let image_store = image_store.map(|store| clean(Path::new(&store)));
    if image_store.as_ref() == Some(&graph_root) {
        return Err(Refusal::new(
            Case::Usage,
            settings.image_store,
            "imagestore must be another directory than graphroot",
        ));
    }
    let driver = around.path("STORAGE_DRIVER").unwrap_or(settings.driver.clone());
    let driver = if driver == "overlay2" { "overlay".to_owned() } else { driver };
    let options = options(around, generation, &settings, &driver);
    let (mut additional, mut mount_program, mut composefs) = (Vec::new(), None, false);
    for (key, value) in options {
        match key.as_str() {
            "imagestore" | "additionalimagestore" => {
                for store in value.split(',').filter(|_| !value.is_empty()) {
                    let store = clean(Path::new(store));
                    if !store.is_absolute() {
                        return Err(Refusal::new(
                            Case::Usage,
                            store.display().to_string(),
                            "an image store must be absolute",
                        ));
                    }
                    additional.push(store);
                }
            }
            "mount_program" => mount_program = Some(value).filter(|v| !v.is_empty()),
            // Like Go's strconv.ParseBool.
            "use_composefs" => composefs = ["1", "t", "T", "TRUE", "true", "True"].contains(&value.as_str()),
            _ => {}
        }
    }
    Ok(Configured {
        podman: around.podman.map(|podman| podman.version),
        generation,
        files,
        driver: Some(driver).filter(|d| !d.is_empty()),
        graph_root,
        run_root,
        image_store,
        additional,
        mount_program,
        transient: settings.transient,
        composefs,
    })
}

/// Lists the options of the storage driver, in the order in which it reads them, without the driver's name.
fn options(
    around: &Surroundings<'_>,
    generation: &Generation,
    settings: &StorageSettings,
    driver: &str,
) -> Vec<(String, String)> {
    if let Some(options) = around.text("STORAGE_OPTS") {
        return options.split(',').filter_map(option).collect();
    }
    let pair = |key: &str, value: &String| (key.to_owned(), value.clone());
    let mut all: Vec<_> = settings.additional.values.iter().map(|store| pair("imagestore", store)).collect();
    if !settings.mount_program.is_empty() {
        all.push(pair("mount_program", &settings.mount_program));
    }
    // Options for overlay alone count only if overlay was asked for by name, until podman 6.
    if driver == "overlay" || generation.files == Files::DropIns {
        for (key, value) in
            [("mount_program", &settings.overlay_mount_program), ("use_composefs", &settings.overlay_composefs)]
        {
            if !value.is_empty() {
                all.push(pair(key, value));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests;
