//! Which hooks podman and CRI-O are configured to run. A hook whose program is missing is silently skipped, and so is
//! one that a file of the same name in a later directory hides (containers-storage's common library, pkg/hooks):
//! somebody has to check.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Stage;
use crate::container_store::{drop_in_files, own_config_dir};

/// Who runs hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// podman.
    Podman,
    /// CRI-O.
    CriO,
}

/// Where podman, CRI-O and buildah look if nobody says otherwise.
const SHARED: &str = "/usr/share/containers/oci/hooks.d";
/// buildah looks here too.
const ALSO_SHARED: &str = "/etc/containers/oci/hooks.d";

impl Caller {
    /// Lists its configuration files, in the order in which they are read.
    fn files(self, root: &Path) -> Vec<PathBuf> {
        // podman 6 reads only the first file, and drop-ins from more directories. It does not start with a file that it
        // cannot read.
        if self == Self::Podman
            && let Ok(Some(files)) = drop_in_files(root, "containers", "CONTAINERS_CONF")
        {
            return files;
        }
        self.files_before_podman_6(root)
    }

    fn files_before_podman_6(self, root: &Path) -> Vec<PathBuf> {
        let (files, dropins): (&[&str], &str) = match self {
            Self::Podman => (
                &["usr/share/containers/containers.conf", "etc/containers/containers.conf"],
                "etc/containers/containers.conf.d",
            ),
            Self::CriO => (&["etc/crio/crio.conf"], "etc/crio/crio.conf.d"),
        };
        let mut all: Vec<PathBuf> = files.iter().map(|f| root.join(f)).collect();
        all.extend(entries(&root.join(dropins), ""));
        if let Some(own) = own_config_dir(root).filter(|_| self == Self::Podman) {
            all.push(own.join("containers.conf"));
            all.extend(entries(&own.join("containers.conf.d"), ""));
        }
        all
    }

    /// Returns `hooks_dir` of one file.
    fn hooks_dir(self, table: &toml::Table) -> Option<&Vec<toml::Value>> {
        let table = match self {
            Self::Podman => table.get("engine")?,
            Self::CriO => table.get("crio")?.get("runtime")?,
        };
        table.get("hooks_dir")?.as_array()
    }

    /// Lists the directories that it reads hooks from.
    fn directories(self, root: &Path) -> Vec<PathBuf> {
        let mut directories = vec![PathBuf::from(SHARED)];
        for file in self.files(root) {
            let Some(table) = std::fs::read_to_string(file).ok().and_then(|t| t.parse::<toml::Table>().ok()) else {
                continue;
            };
            let Some(list) = self.hooks_dir(&table) else { continue };
            // `{append = true}` among them adds to the earlier ones (containers.conf(5)).
            let append = list.iter().any(|v| v.get("append").and_then(toml::Value::as_bool) == Some(true));
            if !append {
                directories.clear();
            }
            directories.extend(list.iter().filter_map(toml::Value::as_str).map(PathBuf::from));
        }
        directories
    }
}

/// Finds the program that podman runs containers by, if containers.conf names one: by a path, or by a name with its own
/// path (containers.conf(5), `runtime` and `[engine.runtimes]`).
pub fn podman_runtime(root: &Path) -> Option<String> {
    let (mut name, mut paths) = (None, BTreeMap::new());
    for file in Caller::Podman.files(root) {
        let table = std::fs::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok());
        let Some(engine) = table.as_ref().and_then(|table| table.get("engine")) else { continue };
        name = engine.get("runtime").and_then(toml::Value::as_str).map(str::to_owned).or(name);
        for (name, list) in engine.get("runtimes").and_then(toml::Value::as_table).into_iter().flatten() {
            let first = list.as_array().and_then(|list| list.first()?.as_str());
            paths.insert(name.clone(), first.unwrap_or_default().to_owned());
        }
    }
    let name = name.filter(|name| !name.is_empty())?;
    Some(if name.starts_with('/') { name } else { paths.get(&name)?.clone() })
}

/// How a hook is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installation {
    /// It is called for every container.
    Ready(PathBuf),
    /// There is none.
    NotInPod,
    /// There is one, but containers start without it, or none start at all.
    Broken(String),
}

/// Looks for the hook of `stage` as `caller` would, in the system whose root directory is `root`.
pub fn installed(root: &Path, caller: Caller, stage: Stage) -> Installation {
    let directories = caller.directories(root);
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut hidden = None;
    for directory in &directories {
        for file in entries(&within(root, directory), ".json") {
            let Some(name) = file.file_name().map(|n| n.to_string_lossy().into_owned()) else { continue };
            if let Some(before) = files.insert(name, file.clone())
                && is_ours(&before, stage)
            {
                hidden = Some((before, file));
            }
        }
    }
    if let Some(ours) = files.values().find(|f| is_ours(f, stage)) {
        return match why_not(root, ours, stage) {
            None => Installation::Ready(ours.clone()),
            Some(why) => Installation::Broken(format!("{}: {why}", ours.display())),
        };
    }
    match hidden {
        Some((ours, by)) => Installation::Broken(format!("{} is hidden by {}", ours.display(), by.display())),
        None => Installation::NotInPod,
    }
}

/// Returns whether a file is a hook of ours for this stage.
fn is_ours(file: &Path, stage: Stage) -> bool {
    let Some(json) = read(file) else { return false };
    let args: Vec<&str> =
        json.pointer("/hook/args").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    matches!(args.as_slice(), [_, "hook", name] | [_, "hook", name, Stage::SEE] if *name == stage.name())
}

/// Returns why a hook of ours is not called for every container.
fn why_not(root: &Path, file: &Path, stage: Stage) -> Option<String> {
    let json = read(file)?;
    let stages = json.get("stages").and_then(Value::as_array).cloned().unwrap_or_default();
    if !stages.iter().any(|s| s.as_str() == Some(stage.name())) {
        return Some(format!("it is for {}", Value::Array(stages)));
    }
    if json.get("when") != Some(&serde_json::json!({"always": true})) {
        return Some("it is not for every container: \"when\" must be {\"always\": true}".into());
    }
    let shared = [SHARED, ALSO_SHARED].iter().any(|dir| file.parent() == Some(&within(root, Path::new(dir))));
    if stage == Stage::Precreate && shared {
        return Some("CRI-O and `podman build` read this directory too, and fail: they do not know the stage".into());
    }
    let path = json.pointer("/hook/path").and_then(Value::as_str).unwrap_or_default();
    match std::fs::metadata(within(root, Path::new(path))) {
        Err(e) => Some(format!("{path}: {e}; every container starts unchecked")),
        Ok(meta) if !meta.is_file() || meta.mode() & 0o111 == 0 => Some(format!("{path} is no program")),
        Ok(meta) if meta.uid() != 0 || meta.mode() & 0o022 != 0 => {
            Some(format!("{path} can be changed by others than root"))
        }
        Ok(_) => None,
    }
}

fn read(file: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// Returns `path`, which is absolute, in the system at `root`.
pub(super) fn within(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Lists the files of a directory with this ending, in the order of their names.
pub(super) fn entries(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.retain(|f| f.to_string_lossy().ends_with(ending));
    files.sort_unstable();
    files
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const PRECREATE: &str = include_str!("../../hooks/podman/layerseal-precreate.json");
    const CREATE_RUNTIME: &str = include_str!("../../hooks/podman/layerseal-createRuntime.json");

    struct System(tempfile::TempDir);

    impl System {
        /// Makes a system as `make install` leaves it.
        fn new() -> Self {
            let system = Self(tempfile::tempdir().unwrap());
            system.write("usr/bin/layerseal", "#!/bin/sh\n");
            system.mode("usr/bin/layerseal", 0o755);
            let ours = "usr/share/layerseal/hooks/podman";
            system.write(&format!("{ours}/layerseal-precreate.json"), PRECREATE);
            system.write(&format!("{ours}/layerseal-createRuntime.json"), CREATE_RUNTIME);
            system.write(
                "etc/containers/containers.conf.d/50-layerseal.conf",
                include_str!("../../hooks/podman/containers.conf"),
            );
            system.write("usr/share/layerseal/hooks/crio/layerseal-createRuntime.json", CREATE_RUNTIME);
            system.write("etc/crio/crio.conf.d/50-layerseal.conf", include_str!("../../hooks/crio/crio.conf"));
            system
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn mode(&self, name: &str, mode: u32) {
            std::fs::set_permissions(self.0.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }

        fn podman(&self, stage: Stage) -> Installation {
            installed(self.0.path(), Caller::Podman, stage)
        }

        #[track_caller]
        fn broken(&self, stage: Stage, why: &str) {
            let found = self.podman(stage);
            assert!(matches!(&found, Installation::Broken(text) if text.contains(why)), "{found:?}");
        }
    }

    #[test]
    fn hooks_as_they_are_installed_are_found() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let system = System::new();
        for stage in [Stage::CreateRuntime, Stage::Precreate] {
            assert!(matches!(system.podman(stage), Installation::Ready(_)), "{:?}", system.podman(stage));
        }
        assert!(matches!(installed(system.0.path(), Caller::CriO, Stage::CreateRuntime), Installation::Ready(_)));
        assert_eq!(installed(system.0.path(), Caller::CriO, Stage::Precreate), Installation::NotInPod);
        assert_eq!(
            installed(&system.0.path().join("usr"), Caller::Podman, Stage::CreateRuntime),
            Installation::NotInPod
        );
    }

    #[test]
    fn podmans_runtime_is_what_its_configuration_names() {
        let system = System::new();
        let found = || podman_runtime(system.0.path());
        assert_eq!(found(), None);
        let conf = "etc/containers/containers.conf.d/60.conf";
        system.write(conf, include_str!("../../hooks/podman/runtime.conf"));
        assert_eq!(found().as_deref(), Some("/usr/bin/layerseal-runtime"));
        system.write("etc/containers/containers.conf.d/70.conf", "[engine]\nruntime = \"crun\"\n");
        assert_eq!(found(), None, "podman looks for it itself");
        system.write("etc/containers/containers.conf.d/80.conf", "[engine]\nruntime = \"/usr/bin/runc\"\n");
        assert_eq!(found().as_deref(), Some("/usr/bin/runc"));
    }

    #[test]
    fn hooks_that_are_not_called_are_found_out() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let stage = Stage::CreateRuntime;
        let system = System::new();
        // Hidden by a file of the same name.
        system.write("etc/containers/containers.conf", "[engine]\nhooks_dir = [\"/other\"]\n");
        assert!(matches!(system.podman(stage), Installation::Ready(_)), "drop-ins come last");
        system
            .write("etc/containers/containers.conf.d/99.conf", "[engine]\nhooks_dir = [\"/other\", {append = true}]\n");
        system.write("other/layerseal-createRuntime.json", "{}");
        system.broken(stage, "hidden by");
        system.write("etc/containers/containers.conf.d/99.conf", "[engine]\nhooks_dir = [\"/other\"]\n");
        assert_eq!(system.podman(stage), Installation::NotInPod);
        let system = System::new();
        let file = "usr/share/layerseal/hooks/podman/layerseal-createRuntime.json";
        system.write(file, &CREATE_RUNTIME.replace("{ \"always\": true }", "{ \"commands\": [\"x\"] }"));
        system.broken(stage, "not for every container");
        system.write(file, &CREATE_RUNTIME.replace("[\"createRuntime\"]", "[\"poststop\"]"));
        system.broken(stage, "poststop");
        system.write(file, CREATE_RUNTIME);
        system.mode("usr/bin/layerseal", 0o777);
        system.broken(stage, "others than root");
        system.mode("usr/bin/layerseal", 0o644);
        system.broken(stage, "no program");
        std::fs::remove_file(system.0.path().join("usr/bin/layerseal")).unwrap();
        system.broken(stage, "every container starts unchecked");
        let system = System::new();
        system.write("usr/share/containers/oci/hooks.d/layerseal-precreate.json", PRECREATE);
        std::fs::remove_file(system.0.path().join("usr/share/layerseal/hooks/podman/layerseal-precreate.json"))
            .unwrap();
        system.broken(Stage::Precreate, "podman build");
    }
}
