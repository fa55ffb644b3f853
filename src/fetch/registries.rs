//! `registries.conf` and `certs.d`, as far as our own questions need them: skopeo reads them by itself.
//! (containers-registries.conf(5), containers-certs.d(5))

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Options;
use crate::container_store::drop_in_files;
use crate::error::{Case, Refusal, Result, in_toml};
use crate::oci::Repository;

/// Bytes of a configuration file.
const MAX_FILE: u64 = 1 << 20;

/// A place where a repository can be asked about: its own registry, or a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Its name in containers tools: credentials are kept by this name, a mirror's by its own.
    pub(super) name: String,
    /// Host and port that answer.
    pub(super) host: String,
    /// The repository's name there.
    pub(super) path: String,
    /// Whether it may be asked without TLS, or with a certificate that is not trusted.
    pub(super) insecure: bool,
}

#[derive(Debug, Default, Deserialize)]
struct RegistriesFile {
    #[serde(default)]
    registry: Vec<Registry>,
}

/// An entry of `registries.conf`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Registry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<Mirror>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Mirror {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

/// Where a repository can be asked about.
#[derive(Debug)]
pub(super) struct Endpoints {
    /// Those that a pull by digest asks, mirrors first.
    pub(super) list: Vec<Endpoint>,
    /// Whether there are mirrors, be it for tags alone: skopeo knows when to ask which.
    pub(super) mirrored: bool,
}

/// Finds where to ask about `repository`, as containers/image does.
///
/// # Errors
/// [`Case::C17Network`] for a blocked registry.
pub(super) fn endpoints(registries: &[Registry], repository: &Repository, options: &Options) -> Result<Endpoints> {
    let mut list = of(registries, repository)?;
    for endpoint in &mut list {
        endpoint.insecure |= !options.tls_verify;
    }
    let mirrored = best(registries, &repository.to_string()).is_some_and(|(_, found)| !found.mirror.is_empty());
    Ok(Endpoints { list, mirrored })
}

/// Returns where `repository` is written: its own registry. A destination has no mirrors, and no other location.
///
/// # Errors
/// As [`endpoints`].
pub(super) fn origin(repository: &Repository, options: &Options) -> Result<Endpoint> {
    let name = repository.to_string();
    let registries = configured()?;
    let insecure = !options.tls_verify || best(&registries, &name).is_some_and(|(_, registry)| registry.insecure);
    endpoint(&name, insecure).ok_or_else(|| Refusal::new(Case::Bug, name, "not a repository"))
}

/// Finds the entry that applies to a name, and how much of the name its prefix is.
fn best<'a>(registries: &'a [Registry], name: &str) -> Option<(usize, &'a Registry)> {
    let matching = registries.iter().filter_map(|r| Some((matched(prefix(r), name)?, r)));
    matching.max_by_key(|(length, _)| *length)
}

fn of(registries: &[Registry], repository: &Repository) -> Result<Vec<Endpoint>> {
    let name = repository.to_string();
    let Some((length, registry)) = best(registries, &name) else {
        return Ok(endpoint(&name, false).into_iter().collect());
    };
    if registry.blocked {
        return Err(Refusal::new(Case::C17Network, name, "registries.conf blocks this registry"));
    }
    let rest = &name[length..];
    let mirrors = registry.mirror.iter().filter(|m| m.pull_from_mirror != "tag-only");
    let mut found: Vec<Endpoint> =
        mirrors.filter_map(|m| endpoint(&format!("{}{rest}", m.location), m.insecure)).collect();
    let own = if registry.location.is_empty() { name.clone() } else { format!("{}{rest}", registry.location) };
    found.extend(endpoint(&own, registry.insecure));
    Ok(found)
}

fn prefix(registry: &Registry) -> &str {
    if registry.prefix.is_empty() { &registry.location } else { &registry.prefix }
}

/// Returns how much of `name` the prefix stands for, if it matches: whole components, or `*.example.com`.
fn matched(prefix: &str, name: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix("*.") {
        let host = name.split('/').next().unwrap_or_default();
        return host.strip_suffix(domain).filter(|front| front.ends_with('.')).map(|_| host.len());
    }
    let rest = name.strip_prefix(prefix).filter(|_| !prefix.is_empty())?;
    (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
}

fn endpoint(name: &str, insecure: bool) -> Option<Endpoint> {
    let (host, path) = name.split_once('/')?;
    // What is called docker.io answers under another name (containers/image, docker_client.go).
    let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
    Some(Endpoint { name: name.to_owned(), host: host.to_owned(), path: path.to_owned(), insecure })
}

/// Reads the registries of the configuration file and of its drop-ins, of which later ones replace earlier ones.
///
/// # Errors
/// [`Case::Usage`] for a configuration that cannot be read.
pub(super) fn configured() -> Result<Vec<Registry>> {
    let files = match drop_in_files(Path::new("/"), "registries", "CONTAINERS_REGISTRIES_CONF")? {
        Some(files) => files,
        None => before_podman_6(),
    };
    registries(&files)
}

/// Lists the files of older versions.
fn before_podman_6() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config/containers"));
    let candidates = home.iter().map(PathBuf::as_path).chain([Path::new("/etc/containers")]);
    files.extend(candidates.map(|dir| dir.join("registries.conf")).find(|file| file.exists()));
    for dir in [Some(PathBuf::from("/etc/containers")), home].into_iter().flatten() {
        files.extend(sorted(&dir.join("registries.conf.d"), "conf"));
    }
    files
}

fn registries(files: &[PathBuf]) -> Result<Vec<Registry>> {
    let mut all: Vec<Registry> = Vec::new();
    for file in files {
        let shown = file.display().to_string();
        let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::Usage, &shown, why);
        let text = std::fs::File::open(file).and_then(|f| crate::sys::files::read_all(f, MAX_FILE));
        let text = text.and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
        let text = text.map_err(|e| refuse(&e))?;
        let parsed: RegistriesFile = toml::from_str(&text).map_err(|e| refuse(&in_toml(&text, &e)))?;
        for registry in parsed.registry {
            all.retain(|known| prefix(known) != prefix(&registry));
            all.push(registry);
        }
    }
    Ok(all)
}

fn sorted(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == ending)).collect();
    files.sort_unstable();
    files
}

/// Certificates for a registry: authorities besides the system's, and what we show it.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    pub(super) authorities: Vec<PathBuf>,
    /// Certificate and key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// Finds the certificates for `host`: those of `--cert-dir`, or of the first `certs.d` that has a directory for it.
pub(super) fn certificates(host: &str, options: &Options) -> Certificates {
    let dir = match &options.cert_dir {
        Some(dir) => Some(dir.clone()),
        None => {
            let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config/containers/certs.d"));
            let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
            home.into_iter().chain(system).map(|dir| dir.join(host)).find(|dir| dir.is_dir())
        }
    };
    let Some(dir) = dir else { return Certificates::default() };
    let client = sorted(&dir, "cert").into_iter().map(|cert| (cert.clone(), cert.with_extension("key")));
    Certificates { authorities: sorted(&dir, "crt"), client: client.rev().find(|(_, key)| key.exists()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str, name: &str) -> Vec<String> {
        let file: RegistriesFile = toml::from_str(text).unwrap();
        let repository = Repository::parse(name).unwrap().repository;
        of(&file.registry, &repository)
            .unwrap()
            .iter()
            .map(|e| format!("{}/{}{}", e.host, e.path, if e.insecure { "!" } else { "" }))
            .collect()
    }

    #[test]
    fn c12_mirrors_come_first_and_the_longest_prefix_counts() {
        let text = r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            location = "q.io"
            [[registry.mirror]]
            location = "m.io/q"
            insecure = true
            [[registry.mirror]]
            location = "tags.io"
            pull-from-mirror = "tag-only"
            [[registry]]
            prefix = "q.io/acme"
            location = "own.io:5000/team"
            [[registry]]
            prefix = "*.wild.io"
            location = "w.io"
            insecure = true
        "#;
        assert_eq!(hosts(text, "q.io/x/y:1"), ["m.io/q/x/y!", "q.io/x/y"]);
        assert_eq!(hosts(text, "q.io/acme/app"), ["own.io:5000/team/app"]);
        assert_eq!(hosts(text, "q.io/acmes/app"), ["m.io/q/acmes/app!", "q.io/acmes/app"]);
        assert_eq!(hosts(text, "a.wild.io/app"), ["w.io/app!"]);
        assert_eq!(hosts(text, "wild.io/app"), ["wild.io/app"]);
        assert_eq!(hosts(text, "busybox"), ["registry-1.docker.io/library/busybox"]);
    }

    #[test]
    fn blocked_registries_are_not_asked() {
        let file: RegistriesFile = toml::from_str("[[registry]]\nlocation = \"q.io\"\nblocked = true").unwrap();
        let repository = Repository::parse("q.io/x").unwrap().repository;
        assert_eq!(of(&file.registry, &repository).unwrap_err().case(), Case::C17Network);
    }
}
