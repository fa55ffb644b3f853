//! A store of its own, on a host of its own, with the images of a batch in it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

use crate::common::{self, Layout};
use crate::generate::Set;
use crate::host::Host;
use crate::list::list;
use crate::scratch;

/// Who mounts images.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The kernel's overlay by podman itself.
    Native,
    /// layerseal, called by podman.
    MountProgram,
}

pub struct Store {
    host: Host,
    dir: PathBuf,
    /// Where each image is mounted, or why it is not.
    mounted: RefCell<HashMap<u64, Result<String, String>>>,
    seeds: Vec<u64>,
}

const GRAPH: &str = "/var/lib/containers/storage";

fn name(seed: u64) -> String {
    format!("localhost/seed-{seed}:1")
}

impl Store {
    /// With all that podman takes of the sets, mounted.
    pub fn new(way: Way, sets: &[Set]) -> Self {
        let host = Host::new(scratch::fresh("host"));
        let program = match way {
            Way::Native => String::new(),
            Way::MountProgram => format!("mount_program = \"{}\"\n", common::binary().display()),
        };
        host.write(
            "/etc/containers/storage.conf",
            format!(
                "[storage]\ndriver = \"overlay\"\ngraphroot = \"{GRAPH}\"\nrunroot = \"/run/containers/storage\"\n\
                 [storage.options.overlay]\n{program}"
            ),
        );
        host.write("/etc/containers/policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        host.write("/etc/layerseal/policy.toml", "version = 1\n[default]\nmode = \"audit\"\nverity = \"off\"\n");
        let dir = scratch::fresh("layouts");
        std::fs::create_dir_all(&dir).unwrap();
        let store = Self { host, dir, mounted: RefCell::default(), seeds: sets.iter().map(|set| set.seed).collect() };
        sets.iter().for_each(|set| store.add(set));
        store.mount();
        store
    }

    fn layout(&self, seed: u64) -> PathBuf {
        self.dir.join(seed.to_string())
    }

    fn add(&self, set: &Set) {
        let mut layout = Layout::new(&self.layout(set.seed), &set.blobs());
        // Sets that are the same by chance are two images all the same.
        let config = layout.read(layout.manifest["config"]["digest"].as_str().unwrap());
        let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        config["author"] = set.seed.to_string().into();
        let mut manifest = layout.manifest.clone();
        let media = "application/vnd.oci.image.config.v1+json";
        manifest["config"] = layout.descriptor(media, config.to_string().as_bytes());
        layout.set_manifest(&manifest);
        let from = format!("oci:{}:latest", self.layout(set.seed).display());
        let to = format!("containers-storage:{}", name(set.seed));
        let output = self.host.command("skopeo", &["copy", "-q", &from, &to]).output().unwrap();
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            self.mounted.borrow_mut().insert(set.seed, Err(why));
        }
    }

    /// All images of the batch with one call, in podman's order of them.
    fn mount(&self) {
        let mut mounted = self.mounted.borrow_mut();
        let wanted: Vec<u64> = self.seeds.iter().copied().filter(|seed| !mounted.contains_key(seed)).collect();
        let names: Vec<String> = wanted.iter().map(|seed| name(*seed)).collect();
        let args: Vec<&str> = ["image", "mount"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let output = self.host.command("podman", &args).output().unwrap();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            // One image alone is shown without its name.
            let (image, path) = line.trim().rsplit_once(char::is_whitespace).unwrap_or((&names[0], line.trim()));
            let seed = wanted.iter().find(|seed| image.contains(name(**seed).trim_start_matches("localhost/")));
            mounted.insert(*seed.unwrap_or_else(|| panic!("{line}")), Ok(path.to_owned()));
        }
        for seed in wanted {
            if mounted.contains_key(&seed) {
                continue;
            }
            // One that cannot be mounted keeps those after it from being tried.
            let output = self.host.command("podman", &["image", "mount", &name(seed)]).output().unwrap();
            let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            let done = if output.status.success() { Ok(path) } else { Err(format!("podman image mount: {error}")) };
            mounted.insert(seed, done);
        }
    }

    /// What podman shows of the image, or why it does not; `None` for one that is not of this store.
    pub fn listing(&self, set: &Set) -> Option<Result<Vec<String>, String>> {
        let mounted = self.mounted.borrow().get(&set.seed)?.clone();
        Some(mounted.map(|path| list(&self.host.inside(&path))))
    }

    /// What a container of the image sees after the hook `precreate`: podman's own mount of it, which that replaces.
    pub fn precreate(&self, set: &Set) -> Result<Vec<String>, String> {
        let container = format!("seed-{}", set.seed);
        let create = ["create", "-q", "--network", "none", "--name", &container, &name(set.seed), "true"];
        self.ok("podman", &create)?;
        let merged = self.ok("podman", &["mount", &container])?.trim().to_owned();
        let before = self.kind_of(&merged);
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "root": {"path": merged},
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["true"]},
            "linux": {},
        });
        self.host.write("/run/config.json", config.to_string());
        let hook = format!("cd /run && {} hook precreate </run/config.json >/dev/null", common::binary().display());
        self.ok("sh", &["-c", &hook])?;
        assert_ne!(self.kind_of(&merged), before, "it is podman's own still");
        let shown = list(&self.host.inside(&merged));
        self.ok("podman", &["rm", "-f", "-t", "0", &container])?;
        Ok(shown)
    }

    /// The source of what is mounted there.
    fn kind_of(&self, target: &str) -> Option<String> {
        self.host.mounts().into_iter().rfind(|m| m.target == target).map(|m| m.source)
    }

    /// Runs a program on the host, and gives what it printed or what it said.
    fn ok(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let output = self.host.command(program, args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// What `layerseal mount` shows of the image, with further options.
    pub fn layerseal(&self, set: &Set, options: &[&str]) -> Result<Vec<String>, String> {
        let image = format!("oci:{}", self.layout(set.seed).display());
        let (vault, at) = (self.dir.join("vault"), "/run/mnt");
        std::fs::create_dir_all(self.host.inside(at)).unwrap();
        let vault = vault.display().to_string();
        let run = |args: &[&str]| {
            let args = [&["--vault", &vault][..], args].concat();
            let output = self.host.command(&common::binary().display().to_string(), &args).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() { Ok(()) } else { Err(error) }
        };
        run(&[&["mount", &image, at, "--verity", "off"], options].concat())?;
        let shown = list(&self.host.inside(at));
        run(&["umount", at])?;
        Ok(shown)
    }
}
