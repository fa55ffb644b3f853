//! `registries.conf` and its drop-ins, read as containers/image does (`pkg/sysregistriesv2`): skopeo reads them by itself.
//! What of them is not understood is refused, as it may be what blocks a registry. (containers-registries.conf(5))

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::container_store::{drop_in_files, drop_ins_of};
use crate::error::{Case, Refusal, Result, in_toml};
use crate::oci::go_json::folds;
use crate::sys::{files, home};

/// Bytes of a configuration file.
const MAX_FILE: u64 = 1 << 20;

/// The keys of a file, of an entry and of a mirror. `registries` is version 1 of the format.
const OF_FILE: [&str; 7] = [
    "registry",
    "registries",
    "unqualified-search-registries",
    "credential-helpers",
    "short-name-mode",
    "additional-layer-store-auth-helper",
    "aliases",
];
const OF_REGISTRY: [&str; 7] =
    ["prefix", "location", "insecure", "blocked", "mirror-by-digest-only", "pull-from-mirror", "mirror"];
const OF_MIRROR: [&str; 3] = ["location", "insecure", "pull-from-mirror"];

#[derive(Debug, Default, Deserialize)]
struct RegistriesFile {
    #[serde(default)]
    registry: Vec<Registry>,
}

/// An entry of `registries.conf`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Registry {
    /// What it applies to; never empty once it is read.
    pub(super) prefix: String,
    /// What takes the prefix's place; empty if nothing does.
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    mirror_by_digest_only: bool,
    /// Only mirrors may have it.
    pull_from_mirror: String,
    pub(super) mirror: Vec<Mirror>,
}

/// A mirror of one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) pull_from_mirror: String,
}

/// Reads the registries of the configuration file and of its drop-ins, of which later ones replace earlier ones. They are
/// in the order of their prefixes, and each of these is there once.
///
/// # Errors
/// [`Case::Usage`] for a configuration that cannot be read, or is not understood.
pub(super) fn configured() -> Result<Vec<Registry>> {
    let files = match drop_in_files(Path::new("/"), "registries", "CONTAINERS_REGISTRIES_CONF")? {
        Some(files) => files,
        None => before_podman_6(Path::new("/etc/containers"), home::own().as_deref())?,
    };
    read(&files)
}

/// Lists the files of older versions: a user's own file takes the place of all of the system's, drop-ins too
/// (`newConfigWrapperWithHomeDir`, `dropInConfigs`).
fn before_podman_6(system: &Path, home: Option<&Path>) -> Result<Vec<PathBuf>> {
    let own = home.map(|home| home.join(".config/containers"));
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    match own.as_ref().map(|dir| dir.join("registries.conf")).filter(|file| file.exists()) {
        Some(file) => files.push(file),
        None => {
            files.extend(Some(system.join("registries.conf")).filter(|file| !matches!(file.try_exists(), Ok(false))));
            dirs.push(system.to_owned());
        }
    }
    dirs.extend(own);
    for dir in dirs.iter().map(|dir| dir.join("registries.conf.d")) {
        // One that is a link is not followed, and a file behind a link that leads nowhere is not there.
        if std::fs::symlink_metadata(&dir).is_ok_and(|found| found.is_symlink()) {
            continue;
        }
        files.extend(drop_ins_of(&dir)?.into_iter().filter(|file| !matches!(file.try_exists(), Ok(false))));
    }
    Ok(files)
}

fn read(files: &[PathBuf]) -> Result<Vec<Registry>> {
    let mut all: BTreeMap<String, Registry> = BTreeMap::new();
    for file in files {
        let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::Usage, file.display().to_string(), why);
        let text = std::fs::File::open(file).and_then(|file| files::read_all(file, MAX_FILE));
        let text =
            text.and_then(|bytes| String::from_utf8(bytes).map_err(|e| std::io::Error::new(ErrorKind::InvalidData, e)));
        let found = parse(&text.map_err(|e| refuse(&e))?).map_err(|why| refuse(&why))?;
        all.extend(found.into_iter().map(|registry| (registry.prefix.clone(), registry)));
    }
    Ok(all.into_values().collect())
}

/// Reads one file: its entries in the order of their prefixes, and of several with the same one the first
/// (`postProcessRegistries`).
///
/// # Errors
/// What is wrong with it, or is not understood.
pub(super) fn parse(text: &str) -> std::result::Result<Vec<Registry>, String> {
    let table: Table = toml::from_str(text).map_err(|e| in_toml(text, &e))?;
    spelled(&table)?;
    if table.contains_key("registries") {
        return Err(
            "it is in version 1 of the format: write [[registry]] with location, insecure and blocked in place of \
            [registries.insecure] and [registries.block], and unqualified-search-registries in place of \
            [registries.search]"
                .into(),
        );
    }
    let mut file: RegistriesFile = toml::from_str(text).map_err(|e| in_toml(text, &e))?;
    file.registry.iter_mut().try_for_each(check)?;
    let place = |registry: &Registry| match registry.location.as_str() {
        "" => registry.prefix.clone(),
        location => location.to_owned(),
    };
    let mut settings: BTreeMap<String, (bool, bool)> = BTreeMap::new();
    let mut found: BTreeMap<String, Registry> = BTreeMap::new();
    for registry in file.registry {
        let set = (registry.insecure, registry.blocked);
        if *settings.entry(place(&registry)).or_insert(set) != set {
            return Err(format!("{} is there several times, with other insecure or blocked", place(&registry)));
        }
        found.entry(registry.prefix.clone()).or_insert(registry);
    }
    Ok(found.into_values().collect())
}

/// Refuses keys that Go's reader takes for known ones (BurntSushi/toml, `unifyStruct`): if both are there, which of them
/// counts changes from run to run.
fn spelled(table: &Table) -> std::result::Result<(), String> {
    let check = |table: &Table, known: &[&str]| {
        let taken = |key: &String| known.iter().find(|known| **known != key.as_str() && folds(key, known)).copied();
        match table.keys().find_map(|key| Some((key, taken(key)?))) {
            Some((key, known)) => Err(format!("{key} is read as {known} by containers tools: write {known}")),
            None => Ok(()),
        }
    };
    let tables = |table: &Table, key: &str| -> Vec<Table> {
        let list = table.get(key).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|entry| entry.as_table().cloned()).collect()
    };
    check(table, &OF_FILE)?;
    for registry in tables(table, "registry") {
        check(&registry, &OF_REGISTRY)?;
        tables(&registry, "mirror").iter().try_for_each(|mirror| check(mirror, &OF_MIRROR))?;
    }
    Ok(())
}

/// Checks an entry, and writes its places as they are compared.
fn check(registry: &mut Registry) -> std::result::Result<(), String> {
    trim(&mut registry.location)?;
    trim(&mut registry.prefix)?;
    let wild = registry.prefix.starts_with("*.");
    if registry.location.is_empty() && !wild {
        return Err(format!("registry \"{}\" has no location", registry.prefix));
    }
    if registry.prefix.is_empty() {
        registry.prefix.clone_from(&registry.location);
    }
    let name = &registry.prefix;
    if name.starts_with("*.") && name.contains(['/', '@', ':']) {
        return Err(format!("prefix {name}: write *.example.com, without a port or path"));
    }
    if !registry.pull_from_mirror.is_empty() {
        return Err(format!("registry {name}: pull-from-mirror is for mirrors"));
    }
    for mirror in &mut registry.mirror {
        trim(&mut mirror.location)?;
        let from = mirror.pull_from_mirror.as_str();
        if mirror.location.is_empty() {
            return Err(format!("a mirror of {name} has no location"));
        }
        if !matches!(from, "" | "all" | "digest-only" | "tag-only")
            || (registry.mirror_by_digest_only && !from.is_empty())
        {
            return Err(format!("mirror {} of {name}: pull-from-mirror cannot be {from} here", mirror.location));
        }
    }
    Ok(())
}

/// Takes slashes away from the end of a place (`parseLocation`).
fn trim(place: &mut String) -> std::result::Result<(), String> {
    if place.starts_with("http://") || place.starts_with("https://") {
        return Err(format!("{place}: write it without http:// or https://"));
    }
    place.truncate(place.trim_end_matches('/').len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prefixes, with `!` for those that are blocked.
    fn shown(registries: &[Registry]) -> Vec<String> {
        registries.iter().map(|r| format!("{}{}", r.prefix, if r.blocked { "!" } else { "" })).collect()
    }

    #[test]
    fn c17_of_one_prefix_the_first_entry_of_the_last_file_counts() {
        let entry = |prefix: &str, location: &str, blocked: bool| {
            format!("[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{location}\"\nblocked = {blocked}\n")
        };
        let twice = [entry("q.io", "x.io", true), entry("a.io", "y.io", false), entry("q.io/", "y.io", false)].concat();
        assert_eq!(shown(&parse(&twice).unwrap()), ["a.io", "q.io!"]);
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = [file("1", &twice), file("2", &entry("a.io/", "y.io", true)), file("3", "aliases = {}")];
        assert_eq!(shown(&read(&files).unwrap()), ["a.io!", "q.io!"]);
    }

    #[test]
    fn c17_what_is_not_understood_is_refused() {
        for (text, why) in [
            ("[registries.block]\nregistries = [\"q.io\"]", "version 1"),
            ("[registries.search]\nregistries = []", "version 1"),
            ("[Registries.block]\nregistries = [\"q.io\"]", "write registries"),
            ("[[registry]]\nlocation = \"q.io\"\nBlocked = true", "write blocked"),
            ("[[registry]]\nlocation = \"q.io\"\n\"bloc\\u212aed\" = true", "write blocked"),
            ("[[Registry]]\nlocation = \"q.io\"\nblocked = true", "write registry"),
            ("[[registry]]\nlocation = \"q.io\"\n[[registry.mirror]]\nLocation = \"m.io\"", "write location"),
            ("[[registry]]\nlocation = \"q.io\"\nblocked = \"true\"", "line 3"),
            ("[registry]\nlocation = \"q.io\"\nblocked = true", "line 1"),
            ("[[registry]]\nlocation = \"https://q.io\"\nblocked = true", "without http"),
            ("[[registry]]\nprefix = \"q.io\"\nblocked = true", "no location"),
            ("[[registry]]\nblocked = true", "no location"),
            ("[[registry]]\nprefix = \"*.q.io:5000\"", "without a port"),
            ("[[registry]]\nlocation = \"q.io\"\npull-from-mirror = \"all\"", "for mirrors"),
            ("[[registry]]\nlocation = \"q.io\"\n[[registry.mirror]]\nlocation = \"/\"", "no location"),
            ("[[registry]]\nlocation = \"q.io\"\nblocked = true\n[[registry]]\nlocation = \"q.io/\"", "several times"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        // What is not known at all is passed over there too.
        parse("new = 1\n[[registry]]\nlocation = \"q.io\"\nunqualified-search = true").unwrap();
    }

    #[test]
    fn c17_the_files_are_those_that_skopeo_reads() {
        let dir = tempfile::tempdir().unwrap();
        let (system, home) = (dir.path().join("etc"), dir.path().join("home"));
        let own = home.join(".config/containers");
        let add = |path: PathBuf| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        let list = |home: Option<&Path>| -> Vec<String> {
            let files = before_podman_6(&system, home).unwrap();
            files.iter().map(|f| f.strip_prefix(dir.path()).unwrap().display().to_string()).collect()
        };
        assert!(list(Some(&home)).is_empty());
        for name in
            ["registries.conf", "registries.conf.d/b.conf", "registries.conf.d/.conf", "registries.conf.d/a.con"]
        {
            add(system.join(name));
        }
        std::fs::create_dir(system.join("registries.conf.d/c.conf")).unwrap();
        std::os::unix::fs::symlink("nowhere", system.join("registries.conf.d/d.conf")).unwrap();
        add(own.join("registries.conf.d/a.conf"));
        let of_system = ["etc/registries.conf", "etc/registries.conf.d/.conf", "etc/registries.conf.d/b.conf"];
        let of_user = "home/.config/containers/registries.conf.d/a.conf";
        assert_eq!(list(None), of_system);
        assert_eq!(list(Some(&home)), [&of_system[..], &[of_user]].concat());
        add(own.join("registries.conf"));
        assert_eq!(list(Some(&home)), ["home/.config/containers/registries.conf", of_user]);
        std::fs::remove_file(own.join("registries.conf")).unwrap();
        std::fs::rename(system.join("registries.conf.d"), system.join("real")).unwrap();
        std::os::unix::fs::symlink("real", system.join("registries.conf.d")).unwrap();
        assert_eq!(list(Some(&home)), ["etc/registries.conf", of_user]);
    }
}
