//! What an OCI runtime hands to a hook: its state, or the container's configuration, as JSON on the standard
//! input (runtime-spec, runtime.md "State" and config.md; oci-hooks(5) for `precreate`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::bundle::Bundle;
use super::{Extent, IdMapping, split};
use crate::error::{Case, Refusal, Result};
use crate::oci::strict_json;

/// A container that is being created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// The container's ID, as the caller of the runtime chose it.
    pub id: String,
    /// Its first process, in the runtime's PID namespace.
    pub pid: u32,
    /// The directory with its configuration.
    pub bundle: PathBuf,
    /// Its root directory, if the runtime says so: crun does, runc does not.
    pub root: Option<PathBuf>,
    /// An annotation that sends what hooks print into a file of the host.
    pub redirection: Option<String>,
    /// Whose container it is, according to itself: for people, and nothing is decided by it.
    pub manager: String,
    /// Which Kubernetes namespace it is in, according to itself: see [`ContainerConfig::namespace`].
    pub namespace: Option<String>,
}

/// Finds an annotation that redirects the output of hooks: crun opens the files that these annotations name, as root,
/// and makes them if they are missing (crun(1)). Whoever makes a pod can set them, and a hook's output contains names
/// that they chose.
pub fn redirection(annotations: &BTreeMap<String, Value>) -> Option<String> {
    let ours = |key: &&String| matches!(key.as_str(), "run.oci.hooks.stdout" | "run.oci.hooks.stderr");
    annotations.keys().find(ours).cloned()
}

/// Returns `io.container.manager`.
fn manager(annotations: &BTreeMap<String, Value>) -> String {
    let said = annotations.get("io.container.manager").and_then(Value::as_str);
    said.filter(|said| said.len() < 64).unwrap_or_default().to_owned()
}

/// Returns `io.kubernetes.pod.namespace`, which the kubelet sets and CRI-O passes on.
fn namespace(annotations: &BTreeMap<String, Value>) -> Option<String> {
    // Anything but a string is not a namespace that any record could name.
    annotations.get("io.kubernetes.pod.namespace").map(|said| said.as_str().unwrap_or_default().to_owned())
}

#[derive(Deserialize)]
struct RawState {
    id: String,
    pid: u32,
    bundle: PathBuf,
    root: Option<PathBuf>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, Value>>,
}

/// Parses the state. What its annotations say about the image is ignored: whoever makes a pod can set them.
///
/// # Errors
/// [`Case::O05Call`].
pub fn state(bytes: &[u8]) -> Result<ContainerState> {
    let raw: RawState = read(bytes, "state")?;
    let refuse = |why: &str| Refusal::new(Case::O05Call, "state", why);
    if raw.pid == 0 {
        return Err(refuse("there is no process yet: this is for the stage createRuntime"));
    }
    if raw.id.is_empty() || !raw.bundle.is_absolute() {
        return Err(refuse("it names no container, or no bundle"));
    }
    let annotations = raw.annotations.unwrap_or_default();
    let (redirection, manager, namespace) = (redirection(&annotations), manager(&annotations), namespace(&annotations));
    Ok(ContainerState { id: raw.id, pid: raw.pid, bundle: raw.bundle, root: raw.root, redirection, manager, namespace })
}

/// Parses the bundle and, if the runtime gives it, the root: for hooks in the container's namespaces, where crun knows
/// no process.
///
/// # Errors
/// [`Case::O05Call`].
pub fn root_of(bytes: &[u8]) -> Result<(PathBuf, Option<PathBuf>)> {
    #[derive(Deserialize)]
    struct Raw {
        bundle: PathBuf,
        root: Option<PathBuf>,
    }
    let raw: Raw = read(bytes, "state")?;
    match raw.bundle.is_absolute() {
        true => Ok((raw.bundle, raw.root)),
        false => Err(Refusal::new(Case::O05Call, "state", "it names no bundle")),
    }
}

/// The parts of a container's configuration that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerConfig {
    /// `root.path`: absolute, or relative to the bundle.
    pub root: PathBuf,
    /// `linux.uidMappings`.
    pub uids: IdMapping,
    /// `linux.gidMappings`.
    pub gids: IdMapping,
    /// The container's ID, as far as its mounts reveal it: podman's own are in `…-containers/ID/userdata`. Containers
    /// of a pod have files of another container too.
    pub container: Option<String>,
    /// podman's run root, as far as the container's own mounts reveal it.
    pub run_root: Option<PathBuf>,
    /// What is mounted in it, except what the kernel makes itself.
    pub mounts: Vec<BindMount>,
    /// Where each tmpfs is mounted in it.
    pub tmpfs: Vec<PathBuf>,
    /// `process.user`, as the container sees it.
    pub user: (u32, u32),
    /// `process.cwd`.
    pub directory: PathBuf,
    /// See [`ContainerState::redirection`].
    pub redirection: Option<String>,
    /// See [`ContainerState::manager`].
    pub manager: String,
    /// Which Kubernetes namespace it is in, according to itself. This loosens nothing: it is compared with the store's
    /// records.
    pub namespace: Option<String>,
    /// Whether it gets a mount namespace of its own (`linux.namespaces`).
    pub has_own_mounts: bool,
}

/// A mount that shows files of the host. podman fills a new volume with what the image holds in its place, and nothing
/// in the configuration distinguishes such a mount from any other: its path comes from a setting, a driver or a
/// database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindMount {
    /// Where it is in the container.
    pub destination: PathBuf,
    /// What it shows: the source, or the lower directories of an overlay.
    pub sources: Vec<PathBuf>,
    /// Whether it may also show what is mounted beneath the source: crun shows that too where only `bind` is asked for.
    pub recursive: bool,
    /// Whether the source itself can be written by it; what is mounted beneath may be all the same.
    pub is_writable: bool,
    /// The upper directory of an overlay.
    pub upper: Option<PathBuf>,
}

/// Filesystems that are empty when they are mounted (`tmpcopyup` is done by the runtime, from the verified root).
const EMPTY: [&str; 7] = ["cgroup", "cgroup2", "devpts", "mqueue", "proc", "sysfs", "tmpfs"];

impl BindMount {
    fn of(raw: RawMount) -> Result<Option<Self>> {
        if EMPTY.contains(&raw.kind.as_str()) {
            return Ok(None);
        }
        let mut sources: Vec<PathBuf> = raw.source.into_iter().filter(|source| source.is_absolute()).collect();
        let options = raw.options.unwrap_or_default();
        for list in options.iter().filter_map(|option| option.strip_prefix("lowerdir=")) {
            let (lowers, data) = split::lowers(list.as_bytes())
                .map_err(|r| Refusal::new(Case::O05Call, raw.destination.display().to_string(), r.detail()))?;
            sources.extend(lowers.into_iter().chain(data).map(|path| PathBuf::from(OsString::from_vec(path))));
        }
        let recursive = raw.kind != "overlay";
        let is_writable = recursive && !options.iter().any(|option| option == "ro" || option == "rro");
        let upper = options.iter().find_map(|option| option.strip_prefix("upperdir=")).map(PathBuf::from);
        Ok(Some(Self { destination: raw.destination, sources, recursive, is_writable, upper }))
    }
}

#[derive(Deserialize)]
struct RawConfig {
    root: RawRoot,
    linux: Option<RawLinux>,
    #[serde(default)]
    process: Option<RawProcess>,
    #[serde(default)]
    mounts: Option<Vec<RawMount>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize, Default)]
struct RawProcess {
    #[serde(default)]
    user: RawUser,
    #[serde(default)]
    cwd: PathBuf,
}

#[derive(Deserialize, Default)]
struct RawUser {
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

#[derive(Deserialize)]
struct RawMount {
    destination: PathBuf,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    source: Option<PathBuf>,
    #[serde(default)]
    options: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawRoot {
    path: PathBuf,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawLinux {
    #[serde(default)]
    uid_mappings: Option<Vec<RawMapping>>,
    #[serde(default)]
    gid_mappings: Option<Vec<RawMapping>>,
    #[serde(default)]
    namespaces: Option<Vec<RawNamespace>>,
}

#[derive(Deserialize)]
struct RawNamespace {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct RawMapping {
    #[serde(rename = "containerID")]
    container: u32,
    #[serde(rename = "hostID")]
    host: u32,
    size: u32,
}

/// Parses `config.json`.
///
/// # Errors
/// [`Case::O05Call`]; A13 for a map of IDs that nobody can mean.
pub fn config(bytes: &[u8]) -> Result<ContainerConfig> {
    let raw: RawConfig = read(bytes, "config.json")?;
    if raw.root.path.as_os_str().is_empty() {
        return Err(Refusal::new(Case::O05Call, "config.json", "root.path is empty"));
    }
    let linux = raw.linux.unwrap_or_default();
    let map = |name: &str, mappings: Option<Vec<RawMapping>>| match mappings.unwrap_or_default() {
        none if none.is_empty() => Ok(IdMapping::None),
        some => {
            let extents = some.iter().map(|m| Extent { container: m.container, host: m.host, size: m.size });
            IdMapping::extents(name, extents.collect())
        }
    };
    let is_own = |namespace: &RawNamespace| namespace.path.as_ref().is_none_or(|path| path.as_os_str().is_empty());
    let has_own_mounts = linux.namespaces.iter().flatten().any(|one| one.kind == "mount" && is_own(one));
    let (uids, gids) = (map("uidMappings", linux.uid_mappings)?, map("gidMappings", linux.gid_mappings)?);
    let annotations = raw.annotations.unwrap_or_default();
    let (redirection, manager, namespace) = (redirection(&annotations), manager(&annotations), namespace(&annotations));
    let mounts = raw.mounts.unwrap_or_default();
    let (container, run_root) = (container_of(&mounts), run_root_of(&mounts));
    let tmpfs = mounts.iter().filter(|m| m.kind == "tmpfs").map(|m| m.destination.clone()).collect();
    let mounts = mounts.into_iter().filter_map(|m| BindMount::of(m).transpose()).collect::<Result<_>>()?;
    let process = raw.process.unwrap_or_default();
    let (user, directory) = ((process.user.uid, process.user.gid), process.cwd);
    Ok(ContainerConfig {
        root: raw.root.path,
        uids,
        gids,
        container,
        run_root,
        mounts,
        tmpfs,
        user,
        directory,
        redirection,
        manager,
        namespace,
        has_own_mounts,
    })
}

/// Finds the container from whose directory podman mounts files. Those of a pod share hosts, names and memory with
/// another one, and podman gives mounts in no order: this file is each container's own (libpod, `makeBindMounts`).
fn container_of(mounts: &[RawMount]) -> Option<String> {
    let of = |m: &RawMount| m.source.as_ref()?.ancestors().find_map(Bundle::of).map(|bundle| bundle.id);
    let own = mounts.iter().filter(|m| m.destination == Path::new("/run/.containerenv")).find_map(of);
    own.or_else(|| mounts.iter().find_map(of))
}

/// Finds the store in which podman keeps the container's files of this boot (libpod, `makeBindMounts`).
fn run_root_of(mounts: &[RawMount]) -> Option<PathBuf> {
    let own = mounts.iter().find(|m| m.destination == Path::new("/run/.containerenv"));
    own?.source.as_ref()?.ancestors().find_map(Bundle::of).map(|bundle| bundle.root)
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::O05Call, what, e);
    if bytes.is_empty() {
        return Err(refuse(&"nothing on the standard input"));
    }
    let value: Value = strict_json::value(bytes, what).map_err(|r| refuse(&r.detail()))?;
    serde_json::from_value(value).map_err(|e| refuse(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o05_states_of_crun_and_runc() {
        let crun = br#"{"ociVersion":"1.0","id":"c1","pid":49,"root":"/g/merged","bundle":"/b","status":"created",
            "annotations":{"io.container.manager":"libpod"}}"#;
        let read = state(crun).unwrap();
        assert_eq!((read.id.as_str(), read.pid, read.root), ("c1", 49, Some("/g/merged".into())));
        let runc = br#"{"ociVersion":"1.0.2","id":"c1","status":"creating","pid":49,"bundle":"/b"}"#;
        assert_eq!(state(runc).unwrap().root, None);
        for bad in [
            &b""[..],
            b"{}",
            b"[]",
            br#"{"id":"c1","pid":0,"bundle":"/b"}"#,
            br#"{"id":"c1","pid":-1,"bundle":"/b"}"#,
            br#"{"id":"c1","pid":49,"bundle":"b"}"#,
            br#"{"id":"","pid":49,"bundle":"/b"}"#,
            br#"{"id":"c1","pid":49,"pid":50,"bundle":"/b"}"#,
            b"{\"id\":\"c1\",\"pid\":49,\"bundle\":\"/\xff\"}",
        ] {
            assert_eq!(state(bad).unwrap_err().case(), Case::O05Call, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_container_of_a_pod_is_told_from_the_one_that_it_shares_files_with() {
        let shared = r#"{"destination":"/etc/hosts","source":"/r/overlay-containers/infra/userdata/hosts"}"#;
        let own = r#"{"destination":"/run/.containerenv","source":"/r/overlay-containers/own/userdata/.containerenv"}"#;
        for mounts in [[shared, own], [own, shared]] {
            let text = format!(r#"{{"root":{{"path":"/m"}},"mounts":[{}]}}"#, mounts.join(","));
            let read = config(text.as_bytes()).unwrap();
            assert_eq!((read.container.as_deref(), read.run_root.as_deref()), (Some("own"), Some(Path::new("/r"))));
        }
    }

    #[test]
    fn o05_configurations() {
        let read = config(
            br#"{"root":{"path":"rootfs"},"linux":{"uidMappings":[{"containerID":0,"hostID":300000,"size":10}]}}"#,
        );
        let read = read.unwrap();
        assert_eq!(read.root, Path::new("rootfs"));
        assert_eq!(read.uids, IdMapping::Map(vec![Extent { container: 0, host: 300_000, size: 10 }]));
        assert_eq!(read.gids, IdMapping::None);
        let read = config(
            br#"{"root":{"path":"/m"},"annotations":{"run.oci.hooks.stderr":"/etc/x"},"mounts":[
            {"destination":"/dev/shm","source":"/g/overlay-containers/abc/userdata/shm"},
            {"destination":"/srv","type":"bind","source":"/g/volumes/v1/_data"},
            {"destination":"/o","type":"overlay","source":"overlay","options":["lowerdir=/v\\:1/_data:/lower","upperdir=/u"]},
            {"destination":"/proc","type":"proc","source":"proc"}],
            "process":{"user":{"uid":7,"gid":8},"cwd":"/work"}}"#,
        );
        let read = read.unwrap();
        assert_eq!(read.container.as_deref(), Some("abc"));
        let sources = |m: &BindMount| m.sources.iter().map(|s| s.display().to_string()).collect::<Vec<_>>().join(" ");
        let mounts: Vec<_> =
            read.mounts.iter().map(|m| (m.destination.to_str().unwrap(), sources(m), m.recursive)).collect();
        assert_eq!(
            mounts,
            [
                ("/dev/shm", "/g/overlay-containers/abc/userdata/shm".into(), true),
                ("/srv", "/g/volumes/v1/_data".into(), true),
                ("/o", "/v:1/_data /lower".into(), false),
            ]
        );
        assert_eq!((read.user, read.directory), ((7, 8), PathBuf::from("/work")));
        assert_eq!(read.redirection.as_deref(), Some("run.oci.hooks.stderr"));
        for (namespaces, own) in [
            (r#"{"type":"pid"},{"type":"mount"}"#, true),
            (r#"{"type":"mount","path":""}"#, true),
            (r#"{"type":"mount","path":"/proc/1/ns/mnt"}"#, false),
            (r#"{"type":"pid"}"#, false),
        ] {
            let text = format!(r#"{{"root":{{"path":"/m"}},"linux":{{"namespaces":[{namespaces}]}}}}"#);
            assert_eq!(config(text.as_bytes()).unwrap().has_own_mounts, own, "{namespaces}");
        }
        for bad in
            [&b"{}"[..], br#"{"root":{"path":""}}"#, br#"{"root":{}}"#, br#"{"root":{"path":"a"},"root":{"path":"b"}}"#]
        {
            assert_eq!(config(bad).unwrap_err().case(), Case::O05Call);
        }
    }
}
