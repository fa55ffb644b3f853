//! Where podman of this host has its containers and images: the one place that knows storage.conf.
//!
//! The podman that is installed decides how it is read ([`generation`]). Variables of the environment count as they
//! do for root's podman: for the verbs that a person calls. A hook or mount program has none left, and podman's
//! own call tells it where the store is.

mod generation;
mod settings;

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

pub use generation::Generation;
use generation::{Files, Missing, Own, Podman};
use settings::Settings;

use crate::report::{Case, Refusal, Result};

/// What podman is configured to use, as far as it concerns us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// The version of podman that is installed, where one is.
    pub podman: Option<(u32, u32)>,
    /// How its files were read.
    pub generation: &'static Generation,
    /// The files that were read, in that order.
    pub files: Vec<PathBuf>,
    /// The storage driver; `None` where podman chooses.
    pub driver: Option<String>,
    /// Where containers are, and all records of layers; images too, unless there is an image store.
    pub graph_root: PathBuf,
    /// Where podman keeps what ends with this boot.
    pub run_root: PathBuf,
    /// Where images are pulled to, if not into the graph root.
    pub image_store: Option<PathBuf>,
    /// Stores that images are taken from and that podman does not write to.
    pub additional: Vec<PathBuf>,
    /// The mount program.
    pub mount_program: Option<String>,
    /// Containers are forgotten with this boot.
    pub transient: bool,
    /// podman mounts images of its own making (`use_composefs`).
    pub composefs: bool,
}

impl Configured {
    /// The storage driver: the one that is asked for, or the one whose directories are there, which podman takes up
    /// again (storage/drivers, `ScanPriorDrivers`).
    pub fn driver(&self) -> Option<String> {
        self.driver.clone().or_else(|| {
            let there = |driver: &str| self.graph_root.join(format!("{driver}-images")).is_dir();
            ["overlay", "btrfs", "zfs", "vfs"].into_iter().find(|driver| there(driver)).map(str::to_owned)
        })
    }
}

/// What root's podman finds around it.
struct Surroundings<'a> {
    /// The root directory.
    root: &'a Path,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    podman: Option<Podman>,
}

impl Surroundings<'_> {
    /// A variable that is set and is text.
    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).and_then(|value| value.into_string().ok())
    }

    /// One that is not empty.
    fn path(&self, name: &str) -> Option<String> {
        self.text(name).filter(|value| !value.is_empty())
    }

    /// `path`, absolute, beneath the root directory.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Root's `.config/containers`, which podman 6 reads (unshare.HomeDir).
    fn home(&self) -> PathBuf {
        match (self.text("XDG_CONFIG_HOME"), self.path("HOME")) {
            (Some(config), _) => PathBuf::from(config).join("containers"),
            (None, Some(home)) => PathBuf::from(home).join(".config/containers"),
            (None, None) => {
                let users = std::fs::read_to_string(self.at("/etc/passwd")).unwrap_or_default();
                let home = users.lines().find_map(|user| {
                    let mut fields = user.split(':').skip(2);
                    let root = fields.next() == Some("0");
                    fields.nth(2).filter(|_| root).map(str::to_owned)
                });
                self.at(&home.unwrap_or_else(|| "/root".into())).join(".config/containers")
            }
        }
    }
}

/// What is configured: read once in a process, which asks for it wherever a store is looked for.
///
/// # Errors
/// [`Case::Usage`] for what podman could not read either, [`Case::Io`].
pub fn configured() -> Result<Configured> {
    static FOUND: OnceLock<Result<Configured>> = OnceLock::new();
    let variable = |name: &str| std::env::var_os(name);
    let look = || read(&Surroundings { root: Path::new("/"), variable: &variable, podman: generation::installed() });
    FOUND.get_or_init(look).clone()
}

/// The graph root of containers-storage (containers-storage.conf(5)).
///
/// # Errors
/// As [`configured`].
pub fn graph_root() -> Result<PathBuf> {
    Ok(configured()?.graph_root)
}

/// The run root of containers-storage.
///
/// # Errors
/// As [`configured`].
pub fn run_root() -> Result<PathBuf> {
    Ok(configured()?.run_root)
}

/// The mount program that podman is configured to use, where there is one.
pub fn mount_program() -> Option<String> {
    configured().ok()?.mount_program
}

/// The other stores that images come from.
///
/// # Errors
/// As [`configured`].
pub fn further_stores() -> Result<Vec<PathBuf>> {
    let Configured { image_store, additional, .. } = configured()?;
    Ok(image_store.into_iter().chain(additional).collect())
}

fn read(around: &Surroundings<'_>) -> Result<Configured> {
    let generation = generation::of(around.podman);
    let mut settings = Settings::default();
    let mut files = Vec::new();
    for file in candidates(around, generation)? {
        let shown = file.path.display().to_string();
        let text = match std::fs::read_to_string(&file.path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !file.required => continue,
            // What it says is not known: nobody may go on as if it said nothing.
            Err(e) => return Err(Refusal::io(shown, e)),
        };
        settings.add(&text, generation).map_err(|why| Refusal::new(Case::Usage, shown, why))?;
        files.push(file.path);
    }
    resolve(around, generation, settings, files)
}

/// A file that may be there.
struct File {
    path: PathBuf,
    required: bool,
}

/// All files that podman would open, of those that there are.
fn candidates(around: &Surroundings<'_>, generation: &Generation) -> Result<Vec<File>> {
    const ENVIRONMENT: &str = "CONTAINERS_STORAGE_CONF";
    const NAME: &str = "storage.conf";
    let [etc, usr] = ["/etc/containers", "/usr/share/containers"].map(|dir| around.at(dir));
    let chosen = |path: String| File { path: path.into(), required: true };
    let first = |dirs: &[&PathBuf]| {
        let found = dirs.iter().map(|dir| dir.join(NAME)).find(|path| std::fs::metadata(path).is_ok());
        found.map(|path| File { path, required: false })
    };
    if generation.files == Files::One {
        // Set and empty is set, and no file.
        if let Some(path) = around.text(ENVIRONMENT) {
            return Ok(vec![chosen(path)]);
        }
        let own = around.text("XDG_CONFIG_HOME").map(|dir| PathBuf::from(dir).join("containers"));
        let order: Vec<&PathBuf> = match generation.own {
            Own::First => own.iter().chain([&etc, &usr]).collect(),
            Own::Last => [&etc, &usr].into_iter().chain(&own).collect(),
        };
        return Ok(first(&order).into_iter().collect());
    }
    let home = around.home();
    let mut files: Vec<File> = Vec::new();
    match around.path(ENVIRONMENT) {
        Some(path) => files.push(chosen(path)),
        None => {
            files.extend(first(&[&home, &etc, &usr]));
            let rootful = |dir: &Path| [dir.join("storage.conf.d"), dir.join("storage.rootful.conf.d")];
            let [usr, usr_rootful] = rootful(&usr);
            let [etc, etc_rootful] = rootful(&etc);
            files.extend(drop_ins(&[usr, usr_rootful, etc, etc_rootful, home.join("storage.conf.d")])?);
        }
    }
    files.extend(around.path(&format!("{ENVIRONMENT}_OVERRIDE")).map(chosen));
    Ok(files)
}

/// The drop-ins of all directories, those that count more last, in the order of their names.
fn drop_ins(directories: &[PathBuf]) -> Result<Vec<File>> {
    let mut named = std::collections::BTreeMap::new();
    for directory in directories {
        let io = |e| Refusal::io(directory.display().to_string(), e);
        let entries = match std::fs::read_dir(directory) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.map_err(io)?,
        };
        for entry in entries {
            let entry = entry.map_err(io)?;
            let is_directory = entry.file_type().map_err(io)?.is_dir();
            if !is_directory && entry.file_name().as_encoded_bytes().ends_with(b".conf") {
                named.insert(entry.file_name(), entry.path());
            }
        }
    }
    Ok(named.into_values().map(|path| File { path, required: false }).collect())
}

/// What containers-storage makes of the settings.
fn resolve(
    around: &Surroundings<'_>,
    generation: &'static Generation,
    settings: Settings,
    files: Vec<PathBuf>,
) -> Result<Configured> {
    let place = |name: &str, value: &str, default: &str| match value {
        // Without any file the defaults are there from the beginning.
        "" if generation.missing == Missing::Refused && !files.is_empty() => {
            let file = files.last().map(|f| f.display().to_string()).unwrap_or_default();
            Err(Refusal::new(Case::Usage, file, format!("{name} must be set for this version of podman")))
        }
        "" => Ok(PathBuf::from(default)),
        value => expand(around, value),
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
            // As Go's strconv.ParseBool.
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

/// The options of the storage driver, in the order in which it reads them, without what driver they are for.
fn options(
    around: &Surroundings<'_>,
    generation: &Generation,
    settings: &Settings,
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
    // Those for overlay alone count where overlay was asked for by name, until podman 6.
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

/// One of `$STORAGE_OPTS`: `overlay.imagestore=/a`, `mount_program=/b`.
fn option(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    let mut key = key.trim().to_lowercase();
    for prefix in ["overlay.", "overlay2.", "."] {
        key = key.strip_prefix(prefix).map(str::to_owned).unwrap_or(key);
    }
    Some((key, value.trim().to_owned()))
}

/// A path as containers-storage writes it out: variables, then symlinks where all of it exists (`expandEnvPath`), and
/// absolute (`GetStore`).
fn expand(around: &Surroundings<'_>, path: &str) -> Result<PathBuf> {
    let path = expand_variables(around, &path.replace("$UID", "0"));
    let resolved = std::fs::canonicalize(&path).unwrap_or_else(|_| clean(Path::new(&path)));
    std::path::absolute(&resolved).map(|path| clean(&path)).map_err(|e| Refusal::io(path, e))
}

/// `$NAME` and `${NAME}`, as os.ExpandEnv.
fn expand_variables(around: &Surroundings<'_>, text: &str) -> String {
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

/// A path without empty parts, `.` and, as far as its text says, `..` (filepath.Clean).
fn clean(path: &Path) -> PathBuf {
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

#[cfg(test)]
mod tests;
