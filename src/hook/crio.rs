//! The configuration of CRI-O, read as CRI-O reads it: crio.conf, and then each file of crio.conf.d in the order of
//! their names (cri-o, pkg/config, `UpdateFromFile` and `UpdateFromPath`). A later file wins; lists are replaced, not
//! extended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::installed::{entries, within};
use crate::container_store::{graph_root, run_root};
use crate::error::Result;

const FILE: &str = "etc/crio/crio.conf";
const DROPINS: &str = "etc/crio/crio.conf.d";
/// The file that `make install` puts there says nothing about whether there is a CRI-O.
const OURS: &str = "50-layerseal.conf";
const PROGRAMS: [&str; 4] = ["usr/bin/crio", "usr/local/bin/crio", "usr/libexec/crio/crio", "usr/sbin/crio"];

/// The part of it that concerns layerseal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriO {
    /// Where it has images and containers, if that is not where storage.conf says.
    pub graph_root: Option<PathBuf>,
    /// Where it keeps what does not outlast a boot, likewise.
    pub run_root: Option<PathBuf>,
    /// The mount program that CRI-O gives containers-storage, in addition to storage.conf.
    pub mount_program: Option<String>,
    /// Whether, when it starts after an unclean end, it mounts and unmounts every layer and removes those that fail.
    pub internal_repair: bool,
    /// The handler for pods that name none.
    pub default_runtime: String,
    /// The runtime of each handler; empty if CRI-O looks for a program with the handler's name.
    pub runtimes: BTreeMap<String, String>,
    /// The runtimes that handlers have for images of certain platforms, by handler and platform. CRI-O chooses by the
    /// image's configuration, before anybody has verified it (cri-o, `PlatformRuntimePath`).
    pub platforms: BTreeMap<(String, String), String>,
}

/// Reads it, in the system whose root directory is `root`; `None` if there is no CRI-O.
pub fn crio(root: &Path) -> Option<CriO> {
    let mut files = vec![root.join(FILE)];
    files.extend(entries(&root.join(DROPINS), ""));
    let others = files.iter().any(|file| file.is_file() && file.file_name().is_none_or(|name| name != OURS));
    let installed = PROGRAMS.iter().any(|program| within(root, Path::new(program)).exists());
    if !others && !installed {
        return None;
    }
    let mut crio = CriO {
        graph_root: None,
        run_root: None,
        mount_program: None,
        internal_repair: true,
        default_runtime: "crun".into(),
        runtimes: BTreeMap::new(),
        platforms: BTreeMap::new(),
    };
    for file in files {
        let Some(table) = std::fs::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok()) else {
            continue;
        };
        crio.read(&table);
    }
    Some(crio)
}

impl CriO {
    fn read(&mut self, table: &toml::Table) {
        let Some(crio) = table.get("crio") else { return };
        for (key, place) in [("root", &mut self.graph_root), ("runroot", &mut self.run_root)] {
            if let Some(path) = crio.get(key).and_then(toml::Value::as_str) {
                *place = (!path.is_empty()).then(|| path.into());
            }
        }
        if let Some(options) = crio.get("storage_option").and_then(toml::Value::as_array) {
            // `overlay.mount_program`, `overlay2.mount_program` and the bare word.
            let program = |option: &str| {
                let (key, value) = option.split_once('=')?;
                (key.trim().rsplit('.').next() == Some("mount_program")).then(|| value.trim().to_owned())
            };
            self.mount_program = options
                .iter()
                .filter_map(toml::Value::as_str)
                .filter_map(program)
                .next_back()
                .filter(|p| !p.is_empty());
        }
        if let Some(repair) = crio.get("internal_repair").and_then(toml::Value::as_bool) {
            self.internal_repair = repair;
        }
        let Some(runtime) = crio.get("runtime") else { return };
        if let Some(default) = runtime.get("default_runtime").and_then(toml::Value::as_str) {
            self.default_runtime = default.to_owned();
        }
        for (name, handler) in runtime.get("runtimes").and_then(toml::Value::as_table).into_iter().flatten() {
            let path = handler.get("runtime_path").and_then(toml::Value::as_str).unwrap_or_default();
            self.runtimes.insert(name.clone(), path.to_owned());
            // A handler that is there again takes the place of the earlier.
            self.platforms.retain(|(handler, _), _| handler != name);
            for (platform, path) in
                handler.get("platform_runtime_paths").and_then(toml::Value::as_table).into_iter().flatten()
            {
                let path = path.as_str().unwrap_or_default();
                self.platforms.insert((name.clone(), platform.clone()), path.to_owned());
            }
        }
    }

    /// Says where it has its images, if that is not where layerseal's own verbs look for them, which go by storage.conf.
    pub fn store_elsewhere(&self) -> Option<String> {
        let elsewhere = |key: &str, theirs: &Option<PathBuf>, configured: Result<PathBuf>| {
            let (theirs, ours) = (theirs.as_ref()?, configured.ok()?);
            let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            (real(theirs) != real(&ours)).then(|| format!("{key} {}, not {}", theirs.display(), ours.display()))
        };
        let graph = elsewhere("root", &self.graph_root, graph_root());
        let run = elsewhere("runroot", &self.run_root, run_root());
        let found = graph.into_iter().chain(run).collect::<Vec<_>>().join("; ");
        (!found.is_empty()).then_some(found)
    }

    /// Returns whether pods that name no handler run by layerseal.
    pub fn runs_by_layerseal(&self) -> bool {
        self.runtimes.get(&self.default_runtime).is_some_and(|path| is_ours(path))
    }

    /// Lists the handlers that bypass layerseal, and the platforms for which one of the rest does.
    pub fn others(&self) -> Vec<String> {
        let mut others: Vec<String> =
            self.runtimes.iter().filter(|(_, path)| !is_ours(path)).map(|(name, _)| name.clone()).collect();
        if !self.runtimes.contains_key(&self.default_runtime) {
            others.push(self.default_runtime.clone());
        }
        let platforms =
            self.platforms.iter().filter(|((handler, _), path)| !is_ours(path) && !others.contains(handler));
        let platforms: Vec<String> = platforms
            .map(|((handler, platform), path)| format!("{handler} for images of {platform} ({path})"))
            .collect();
        others.extend(platforms);
        others
    }
}

/// Tells by its name whether a program is layerseal as a runtime.
fn is_ours(path: &str) -> bool {
    PathBuf::from(path).file_name().is_some_and(|name| name.to_string_lossy().ends_with("layerseal-runtime"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crio_is_read_as_it_reads_itself() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let found = || crio(dir.path());
        assert_eq!(found(), None);
        write("etc/crio/crio.conf.d/50-layerseal.conf", include_str!("../../hooks/crio/crio.conf"));
        assert_eq!(found(), None, "what `make install` puts there is no CRI-O");
        write("usr/bin/crio", "");
        let plain = found().unwrap();
        assert!(plain.internal_repair && plain.mount_program.is_none() && !plain.runs_by_layerseal());
        assert_eq!(plain.others(), ["crun"]);
        write(
            "etc/crio/crio.conf",
            "[crio]\nstorage_option = [\"overlay.mount_program=/usr/bin/layerseal\", \"a=b\"]\ninternal_repair = false\n",
        );
        let found_now = found().unwrap();
        assert_eq!(found_now.mount_program.as_deref(), Some("/usr/bin/layerseal"));
        assert!(!found_now.internal_repair);
        write("etc/crio/crio.conf.d/55.conf", "[crio]\nroot = \"/data/g\"\nrunroot = \"/run/r\"\n");
        let found_now = found().unwrap();
        assert_eq!(found_now.graph_root.as_deref(), Some(Path::new("/data/g")));
        assert_eq!(found_now.run_root.as_deref(), Some(Path::new("/run/r")));
        write("etc/crio/crio.conf.d/56.conf", "[crio]\nroot = \"\"\n");
        assert_eq!(found().unwrap().graph_root, None, "nothing is named, so storage.conf says it");
        write("etc/crio/crio.conf.d/60.conf", "[crio]\nstorage_option = []\ninternal_repair = true\n");
        let found_now = found().unwrap();
        assert!(
            found_now.mount_program.is_none() && found_now.internal_repair,
            "a later list takes the place of the earlier"
        );
        write("etc/crio/crio.conf.d/10.conf", include_str!("../../contrib/crio/10-layerseal-runtime.conf"));
        let found_now = found().unwrap();
        assert!(found_now.runs_by_layerseal(), "{found_now:?}");
        assert_eq!(found_now.others(), [""; 0]);
        // The image itself says for which platform it is.
        let handler = include_str!("../../contrib/crio/10-layerseal-runtime.conf");
        let platforms = "platform_runtime_paths = { \"wasi/wasm32\" = \"/usr/bin/crun-wasm\", \"linux/arm64\" = \"/usr/bin/layerseal-runtime\" }\n";
        write("etc/crio/crio.conf.d/65.conf", &format!("{handler}{platforms}"));
        assert_eq!(found().unwrap().others(), ["layerseal for images of wasi/wasm32 (/usr/bin/crun-wasm)"]);
        write("etc/crio/crio.conf.d/66.conf", handler);
        assert_eq!(found().unwrap().others(), [""; 0], "a later handler takes the place of the earlier");
        write("etc/crio/crio.conf.d/70.conf", "[crio.runtime.runtimes.runc]\nruntime_path = \"/usr/bin/runc\"\n");
        assert_eq!(found().unwrap().others(), ["runc"]);
        write("etc/crio/crio.conf.d/80.conf", "[crio.runtime]\ndefault_runtime = \"runc\"\n");
        assert!(!found().unwrap().runs_by_layerseal());
    }
}
