//! A host with a container store that skopeo wrote, a policy, and containers as podman records them.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use layerseal::digest::BlobDigest;
use serde_json::{Value, json};

use crate::common::{Bench, Entry, Layer, Layout, signer, two_layers};
use crate::sandbox::{Ran, Sandbox};

// The host trusts the tests' signer, and has no fs-verity.
pub const ENFORCE: &str = "version = 1\n[default]\nmode = \"enforce\"\ntrust = [\"acme\"]\nverity = \"off\"\n";
pub const AUDIT: &str = "version = 1\n[default]\nmode = \"audit\"\ntrust = [\"acme\"]\nverity = \"off\"\n";
pub const OFF: &str = "version = 1\n[default]\nmode = \"off\"\nverity = \"off\"\n";

/// The name that the image is sealed for.
pub const APP: &str = "registry.example.com/acme/app";
/// An image with the same layers and another config, sealed for another name.
pub const TWIN: &str = "registry.example.com/acme/twin";
/// An image that nobody sealed, with other layers.
pub const OTHER: &str = "registry.example.com/acme/other";

/// `usr/bin/tool` of the sealed image, and of the other one.
pub const TOOL: [u8; 5000] = [b'x'; 5000];
pub const EVIL: [u8; 5000] = [b'e'; 5000];

pub struct Host {
    pub bench: Bench,
    pub sandbox: Sandbox,
    /// The graph root.
    pub root: PathBuf,
}

/// Makes the three images as layouts, the first two with seals, and a store with all of them; once.
fn template() -> Option<&'static Path> {
    static TEMPLATE: OnceLock<Option<PathBuf>> = OnceLock::new();
    TEMPLATE
        .get_or_init(|| {
            let bench = Bench::new();
            bench.signer("signer", signer());
            let mut twin = Layout::new(&bench.path("twin"), &two_layers());
            reconfigure(&mut twin);
            Layout::new(&bench.path("app"), &two_layers());
            Layout::new(&bench.path("other"), &other());
            for (layout, name) in [("app", APP), ("twin", TWIN)] {
                let layout = format!("oci:{layout}");
                let sign = ["sign", &layout, "--cert", "signer.crt", "--key", "signer.key", "--identity", name];
                bench.run(&sign).ok();
            }
            for (layout, name) in [("app", APP), ("twin", TWIN), ("other", OTHER)] {
                if !copy_into_store(&bench, layout, name) {
                    return None;
                }
            }
            let host = Host::in_bench(bench, ENFORCE)?;
            for (layout, name) in [("app", APP), ("twin", TWIN)] {
                host.layerseal(&["prepare", &format!("{name}:v1"), "--seal", &format!("oci:{layout}")]);
            }
            let Host { bench, sandbox, .. } = host;
            drop(sandbox);
            // No test is the last one: the next run takes it away.
            let dir = bench.dir.keep();
            for ours in ["journal", "etc", "etc-upper", "etc-work"] {
                std::fs::remove_dir_all(dir.join(ours)).unwrap();
            }
            let kept = dir.with_file_name(format!("start-template.{}", std::process::id()));
            for entry in std::fs::read_dir(dir.parent().unwrap()).unwrap().flatten() {
                let name = entry.file_name().into_string().unwrap_or_default();
                let owner = name.strip_prefix("start-template.").and_then(|pid| pid.parse::<u32>().ok());
                if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                    let _ = std::fs::remove_dir_all(entry.path());
                }
            }
            std::fs::rename(&dir, &kept).unwrap();
            Some(kept)
        })
        .as_deref()
}

/// Gives the same layers another config.
fn reconfigure(layout: &mut Layout) {
    let config = layout.manifest["config"]["digest"].as_str().unwrap().to_owned();
    let mut config: Value = serde_json::from_slice(&layout.read(&config)).unwrap();
    config["config"] = json!({"Cmd": ["twin"]});
    let mut manifest = layout.manifest.clone();
    manifest["config"] = layout.descriptor("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    layout.set_manifest(&manifest);
}

fn other() -> Vec<Layer> {
    vec![Layer::new(&[
        Entry::dir("./"),
        Entry::dir("usr"),
        Entry::dir("usr/bin"),
        Entry::file("usr/bin/tool", EVIL).mode(0o755),
    ])]
}

/// Copies a layout of the bench into its store, in the form for a mount program.
pub fn copy_into_store(bench: &Bench, layout: &str, name: &str) -> bool {
    let (root, run) = (bench.path("graph"), bench.path("run"));
    let options = ":overlay.mount_program=/usr/bin/fuse-overlayfs";
    let to = format!("containers-storage:[overlay@{}+{}{options}]{name}:v1", root.display(), run.display());
    // The driver mounts its directory on itself; here that ends with the namespace.
    let copied = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "skopeo", "--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci:{}:latest", bench.path(layout).display()))
        .arg(to)
        .output();
    match copied {
        Ok(output) if output.status.success() => true,
        Ok(output) if output.status.code() != Some(127) && rustix::process::geteuid().is_root() => {
            panic!("skopeo: {}", String::from_utf8_lossy(&output.stderr))
        }
        other => {
            crate::skip!("the program against a container store: needs root and skopeo: {other:?}")
        }
    }
}

impl Host {
    /// Makes a host with this policy, whose store has the three images and the seals of two.
    pub fn new(policy: &str) -> Option<Self> {
        let Some(template) = template() else { crate::skip!("needs root and skopeo") };
        let bench = Bench::new();
        let copied = Command::new("cp").arg("-a").arg("--").arg(template.join(".")).arg(bench.dir.path()).status();
        assert!(copied.unwrap().success());
        Self::in_bench(bench, policy)
    }

    /// Makes a host like [`Self::new`] without a vault: no seal, and nothing known about any image.
    pub fn bare(policy: &str) -> Option<Self> {
        let host = Self::new(policy)?;
        std::fs::remove_dir_all(host.root.join("layerseal")).unwrap();
        Some(host)
    }

    /// Makes a host without a vault whose files are those of `bench`, with the seals of [`APP`] and [`TWIN`] in the
    /// layouts `app` and `twin` beside the store.
    pub fn bare_in(bench: Bench, policy: &str) -> Option<Self> {
        let Some(template) = template() else { crate::skip!("needs root and skopeo") };
        let copied = Command::new("cp").arg("-a").arg("--").arg(template.join(".")).arg(bench.dir.path()).status();
        assert!(copied.unwrap().success());
        std::fs::remove_dir_all(bench.path("graph/layerseal")).unwrap();
        Self::in_bench(bench, policy)
    }

    /// Makes a host whose store lies in `bench/graph`.
    pub fn in_bench(bench: Bench, policy: &str) -> Option<Self> {
        let sandbox = Sandbox::new(bench.dir.path())?;
        let root = bench.path("graph");
        let host = Self { bench, sandbox, root };
        host.config("policy.toml", policy);
        host.config("trust.d/acme/signer.crt", std::str::from_utf8(&signer().cert.to_pem().unwrap()).unwrap());
        let overlay = host.root.join("overlay").display().to_string();
        host.sandbox.sh(&format!("mount --bind '{overlay}' '{overlay}'"));
        Some(host)
    }

    /// Writes a file of `/etc/layerseal`.
    pub fn config(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.bench.path("etc/layerseal").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Runs a verb in the namespace; it must succeed.
    #[track_caller]
    pub fn layerseal(&self, args: &[&str]) -> Ran {
        let ran = self.verb(args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran
    }

    pub fn verb(&self, args: &[&str]) -> Ran {
        let mut command = self.sandbox.command(binary());
        command.arg("--vault").arg(self.root.join("layerseal")).args(args).current_dir(self.bench.dir.path());
        // nsenter goes to the root of the namespace's first process.
        let mut command = in_dir(&self.sandbox, self.bench.dir.path(), command);
        self.sandbox.run(&mut command)
    }

    pub fn json(&self, name: &str) -> Vec<Value> {
        match std::fs::read(self.root.join(name)) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(_) => Vec::new(),
        }
    }

    pub fn set_json(&self, name: &str, value: &[Value]) {
        let path = self.root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, serde_json::to_vec(value).unwrap()).unwrap();
    }

    /// Changes the records of a kind.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<Value>)) {
        let mut records = self.json(name);
        change(&mut records);
        self.set_json(name, &records);
    }

    /// Finds the image of this name.
    pub fn image(&self, name: &str) -> Image {
        let tag = json!([format!("{name}:v1")]);
        let images = self.json("overlay-images/images.json");
        let image = images.iter().find(|i| i["names"] == tag).unwrap_or_else(|| panic!("{name}: {images:?}"));
        let records = self.json("overlay-layers/layers.json");
        let mut layers = Vec::new();
        let mut next = image["layer"].as_str().unwrap().to_owned();
        while !next.is_empty() {
            let record = records.iter().find(|l| l["id"] == next.as_str()).unwrap();
            layers.push(next);
            next = record["parent"].as_str().unwrap_or_default().to_owned();
        }
        Image { id: image["id"].as_str().unwrap().to_owned(), layers }
    }

    /// Makes a container of this image, as `podman create` leaves it.
    pub fn container(&self, name: &str, image: &Image) -> Container {
        let id = random_id(&format!("container {name}"));
        let layer = random_id(&format!("layer {name}"));
        self.layer(&layer, Some(&image.layers[0]));
        self.edit("overlay-containers/containers.json", |all| {
            all.push(json!({"id": id, "names": [name], "image": image.id, "layer": layer,
                "created": "2026-01-02T03:04:05Z", "flags": {"MountLabel": "", "ProcessLabel": ""}}));
        });
        Container { layer, lowers: image.layers.clone() }
    }

    /// Makes a layer that is to be written to.
    pub fn layer(&self, id: &str, parent: Option<&str>) {
        for dir in ["diff", "work", "merged"] {
            std::fs::create_dir_all(self.root.join("overlay").join(id).join(dir)).unwrap();
        }
        self.edit("overlay-layers/layers.json", |all| {
            let mut record = json!({"id": id, "created": "2026-01-02T03:04:05Z"});
            if let Some(parent) = parent {
                record["parent"] = json!(parent);
            }
            all.push(record);
        });
    }

    /// Returns the path `ROOT/overlay/ID/NAME`.
    pub fn of(&self, id: &str, name: &str) -> String {
        self.root.join("overlay").join(id).join(name).display().to_string()
    }

    /// Returns the options of a call for this container.
    pub fn options(&self, container: &Container) -> String {
        let lowers: Vec<String> = container.lowers.iter().map(|id| self.of(id, "diff")).collect();
        let (upper, work) = (self.of(&container.layer, "diff"), self.of(&container.layer, "work"));
        format!("lowerdir={},upperdir={upper},workdir={work}", lowers.join(":"))
    }

    /// Makes the call by which podman starts the container.
    #[track_caller]
    pub fn start(&self, container: &Container) -> Ran {
        self.call(&self.options(container), &self.of(&container.layer, "merged"))
    }

    /// Runs the program as a person does, who names no vault.
    pub fn verb_without_vault(&self, args: &[&str]) -> Ran {
        let (graph, run) = (self.root.display(), self.bench.path("run").display().to_string());
        let conf = format!("[storage]\ndriver = \"overlay\"\ngraphroot = \"{graph}\"\nrunroot = \"{run}\"\n");
        let conf = self.bench.write("storage.conf", conf.as_bytes());
        let mut command = self.sandbox.command("env");
        command.arg(format!("CONTAINERS_STORAGE_CONF={}", conf.display())).arg(binary()).args(args);
        self.sandbox.run(&mut in_dir(&self.sandbox, self.bench.dir.path(), command))
    }

    /// Makes a call with these options and target, in the directory that containers-storage runs in.
    #[track_caller]
    pub fn call(&self, options: &str, target: &str) -> Ran {
        self.program(&["-o", options, target], |_| ())
    }

    /// Makes a call with these arguments; `change` gets the command before it runs.
    #[track_caller]
    pub fn program(&self, args: &[&str], change: impl FnOnce(&mut Command)) -> Ran {
        let mut command = self.sandbox.command(binary());
        command.args(args);
        let mut command = in_dir(&self.sandbox, &self.root.join("overlay"), command);
        change(&mut command);
        self.sandbox.run(&mut command)
    }

    /// Checks that the call is refused with this case, and leaves nothing: no mount, no change outside the vault.
    #[track_caller]
    pub fn refused(&self, options: &str, target: &str, code: i32, case: &str) -> Ran {
        let before = (self.files(), self.sandbox.mounts());
        let ran = self.call(options, target).refused(code, case);
        assert_eq!((self.files(), self.sandbox.mounts()), before, "something is left of a refusal");
        self.forget_refused();
        ran
    }

    /// Makes the host forget which containers it refused: the container is another one from now on (O13).
    pub fn forget_refused(&self) {
        self.sandbox.sh("rm -rf /var/lib/layerseal/filled");
    }

    /// Checks that starting the container is refused with this case, and leaves nothing.
    #[track_caller]
    pub fn start_refused(&self, container: &Container, code: i32, case: &str) -> Ran {
        self.refused(&self.options(container), &self.of(&container.layer, "merged"), code, case)
    }

    /// Reads the file at a path of the container's root.
    pub fn read(&self, container: &Container, path: &str) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.merged(container).join(path))
    }

    /// Returns the container's root, as the namespace sees it.
    pub fn merged(&self, container: &Container) -> PathBuf {
        self.sandbox.path(Path::new(&self.of(&container.layer, "merged")))
    }

    /// Lists the options of the mounts on the container's root, the uppermost last.
    pub fn mounts_of(&self, container: &Container) -> Vec<String> {
        let merged = self.of(&container.layer, "merged");
        self.sandbox.mounts().into_iter().filter(|(at, _)| *at == merged).map(|(_, options)| options).collect()
    }

    pub fn unmount(&self, container: &Container) {
        self.sandbox.sh(&format!("umount -l '{}'", self.of(&container.layer, "merged")));
    }

    /// Lists everything in the graph root except the vault: name, inode, mode, size, times, content or target.
    pub fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        let mut todo = vec![self.root.clone()];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(&dir).unwrap().flatten() {
                let path = entry.path();
                if path == self.root.join("layerseal") {
                    continue;
                }
                let meta = path.symlink_metadata().unwrap();
                let content = match meta.file_type() {
                    t if t.is_file() && meta.len() < 1 << 20 => BlobDigest::of(&std::fs::read(&path).unwrap()).hex(),
                    t if t.is_symlink() => format!("{:?}", std::fs::read_link(&path).unwrap()),
                    _ => String::new(),
                };
                if meta.is_dir() {
                    todo.push(path.clone());
                }
                // A name in the vault is one more link, which does not change the file.
                let what = format!("{} {:o} {} {} {content}", meta.ino(), meta.mode(), meta.len(), meta.mtime_nsec());
                files.insert(path, what);
            }
        }
        files
    }
}

#[derive(Clone, Debug)]
pub struct Image {
    pub id: String,
    /// The layers, uppermost first.
    pub layers: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Container {
    /// Its own layer.
    pub layer: String,
    /// The layers below, uppermost first.
    pub lowers: Vec<String>,
}

impl Ran {
    /// Checks that the call went well, and silently.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        self
    }

    /// Checks that the call was refused: one line that ends in the case, one record that names it.
    #[track_caller]
    pub fn refused(self, code: i32, case: &str) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        let end = format!("[R-{case}]\n");
        assert!(self.stderr.starts_with("layerseal: ") && self.stderr.ends_with(&end), "wanted {case}: {self:?}");
        assert_eq!((self.stderr.lines().count(), self.stdout.as_str()), (1, ""), "{self:?}");
        let [record] = &self.records[..] else { panic!("not one record: {self:?}") };
        assert!(record.contains(&format!("\nLAYERSEAL_CASE={case}\n")), "{self:?}");
        assert!(record.starts_with("PRIORITY=3\nSYSLOG_IDENTIFIER=layerseal\nMESSAGE_ID=508f57f1"), "{self:?}");
        assert!(record.contains("\nMESSAGE=") && record.contains("\nLAYERSEAL_DECISION=refused\n"), "{self:?}");
        self
    }
}

/// Makes a command that runs the given one in another directory of the namespace.
pub fn in_dir(sandbox: &Sandbox, dir: &Path, command: Command) -> Command {
    // nsenter goes to `/`; what follows its `--` is run from here.
    let mut args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let at = args.iter().position(|a| a.as_bytes() == b"--").unwrap() + 1;
    let program = args.split_off(at);
    let mut command = sandbox.command("sh");
    command.args(["-c", "cd \"$1\" && shift && exec \"$@\"", "sh"]).arg(dir).args(program);
    command
}

/// Makes an ID that is not the digest of anything.
pub fn random_id(seed: &str) -> String {
    BlobDigest::of(format!("random {seed}").as_bytes()).hex()
}

pub fn binary() -> &'static str {
    crate::binary().to_str().unwrap()
}
