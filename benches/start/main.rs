//! What a start costs: `podman run` with native overlay, fuse-overlayfs and layerseal beside each other,
//! the mount call beside fuse-overlayfs, the hooks alone, and the first use of an image beside cfsctl's and the
//! kernel's own time for its files. `make bench` runs it by benches/run.sh, which makes the place for it: it
//! writes /etc/layerseal.

mod first_use;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Entry, Layer, Layout};
use measure::{Line, Part, Usage, done, in_turn, usage};
use support::{common, measure};
use tempfile::TempDir;

const IMAGE: &str = "registry.example.com/acme/app";

/// Ways to mount containers: `hooks` is native with both hooks, `both` is layerseal with both hooks.
const STORES: [&str; 5] = ["native", "hooks", "fuse-overlayfs", "layerseal", "both"];

fn main() {
    // `cargo bench` alone and `cargo test` come by as well.
    let Some(dir) = std::env::var_os("LAYERSEAL_BENCH_DIR").map(PathBuf::from) else { return };
    let number =
        |name: &str, default: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let run = tempfile::Builder::new().prefix("bench-").tempdir_in("/run").unwrap();
    let place = Place { dir, run, verity: std::env::var_os("LAYERSEAL_BENCH_VERITY").is_none_or(|v| v != "off") };
    place.configure();
    place.starts(number("LAYERSEAL_BENCH_RUNS", 20));
    place.calls(number("LAYERSEAL_BENCH_CALLS", 50));
    place.hooks(number("LAYERSEAL_BENCH_CALLS", 50));
    if let Some(inputs) = std::env::var_os("LAYERSEAL_BENCH_INPUTS") {
        let name = std::env::var("LAYERSEAL_BENCH_FIRST").unwrap_or_else(|_| "big-5".into());
        first_use::first_use(&place, &PathBuf::from(inputs).join(&name), &name);
    }
}

struct Place {
    dir: PathBuf,
    /// For the run roots. podman takes one of more than 50 characters in storage.conf and not on its command line,
    /// where it is for the cleanup that conmon starts: `podman run` then waits 20 seconds for that.
    run: TempDir,
    /// Whether the filesystem has fs-verity.
    verity: bool,
}

/// One way to mount containers.
struct Store<'a> {
    place: &'a Place,
    name: &'static str,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn layerseal() -> String {
        common::binary().display().to_string()
    }

    fn configure(&self) {
        for program in STORES {
            let line = match program {
                "native" | "hooks" => String::new(),
                "layerseal" | "both" => format!("mount_program = \"{}\"\n", Self::layerseal()),
                other => format!("mount_program = \"/usr/bin/{other}\"\n"),
            };
            let root = self.path(program);
            std::fs::create_dir_all(&root).unwrap();
            let conf = format!(
                "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}/g\"\nrunroot = \"{}\"\n[storage.options.overlay]\n{line}",
                root.display(),
                self.run.path().join(program).display()
            );
            std::fs::write(root.join("storage.conf"), conf).unwrap();
        }
        let hooks = self.path("hooks.d");
        std::fs::create_dir_all(&hooks).unwrap();
        for (name, text) in [
            ("precreate", include_str!("../../hooks/podman/layerseal-precreate.json")),
            ("createRuntime", include_str!("../../hooks/podman/layerseal-createRuntime.json")),
        ] {
            let text = text.replace("/usr/bin/layerseal", &Self::layerseal());
            std::fs::write(hooks.join(format!("{name}.json")), text).unwrap();
        }
        let conf = "[containers]\ncgroups = \"disabled\"\nnetns = \"none\"\npids_limit = 0\nlog_driver = \"k8s-file\"\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"crun\"\n";
        for (name, hooks) in [("containers.conf", self.path("none")), ("hooks.conf", hooks)] {
            std::fs::write(self.path(name), format!("{conf}hooks_dir = [\"{}\"]\n", hooks.display())).unwrap();
        }
        std::fs::create_dir_all(self.path("none")).unwrap();
        std::fs::write(self.path("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
        let key = [
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=bench",
            "-keyout",
            "key",
            "-out",
            "crt",
        ];
        done(Command::new("openssl").args(key).current_dir(&self.dir).stderr(Stdio::null()));
        std::fs::create_dir_all("/etc/layerseal/trust.d/bench").unwrap();
        std::fs::copy(self.path("crt"), "/etc/layerseal/trust.d/bench/bench.crt").unwrap();
        let verity = if self.verity { "require" } else { "off" };
        let policy =
            format!("version = 1\n[default]\nmode = \"enforce\"\ntrust = [\"bench\"]\nverity = \"{verity}\"\n");
        std::fs::write("/etc/layerseal/policy.toml", policy).unwrap();
    }

    fn store(&self, name: &'static str) -> Store<'_> {
        Store { place: self, name }
    }

    /// An image of five layers with `files` files of `bytes` bytes in all, sealed: nine signatures.
    fn image(&self, name: &str, files: usize, bytes: usize) -> PathBuf {
        let path = self.path(name);
        let size = (bytes / files.max(1)).max(100);
        let mut seed = 1_u64;
        let mut content = |number: usize| {
            // Sizes as they are found: most files small, a few large, and no two alike.
            let size = if number.is_multiple_of(10) { size * 8 } else { (size / 4).max(70) };
            let mut bytes = vec![0_u8; size];
            for word in bytes.chunks_mut(8) {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                word.copy_from_slice(&seed.to_le_bytes()[..word.len()]);
            }
            bytes
        };
        let layers: Vec<Layer> = (0..5)
            .map(|layer| {
                let mut entries =
                    vec![Entry::dir("usr"), Entry::dir("usr/share"), Entry::dir(&format!("usr/share/{layer}"))];
                if layer == 0 {
                    let busybox = std::fs::read("/bin/busybox").unwrap();
                    let dirs = ["bin", "etc", "run", "proc", "sys", "dev", "tmp"].map(Entry::dir);
                    entries.extend(dirs);
                    entries.push(Entry::file("bin/true", busybox).mode(0o755));
                }
                for number in 0..files / 5 {
                    if number.is_multiple_of(100) {
                        entries.push(Entry::dir(&format!("usr/share/{layer}/{}", number / 100)));
                    }
                    let path = format!("usr/share/{layer}/{}/file-{number}", number / 100);
                    entries.push(Entry::file(&path, content(number)));
                }
                Layer::new(&entries)
            })
            .collect();
        Layout::new(&path, &layers);
        self.sign(&path);
        path
    }

    fn sign(&self, layout: &Path) {
        let sign = ["--cert", "crt", "--key", "key", "--identity", IMAGE, "--algorithm", "sha256"];
        let mut command = Command::new(Self::layerseal());
        command.arg("sign").arg(format!("oci:{}", layout.display())).args(sign).current_dir(&self.dir);
        done(command.stdout(Stdio::null()));
    }

    fn starts(&self, runs: usize) {
        let image = self.image("small", 200, 2 << 20);
        let stores = STORES.map(|name| self.store(name));
        for store in &stores {
            store.load(&image);
        }
        let run = ["run", "--rm", "--pull", "never", IMAGE, "/bin/true"];
        // The first of each is not counted: it warms the caches.
        for store in &stores {
            done(&mut store.podman(&run));
        }
        let mut parts: Vec<Part<'_>> = Vec::new();
        for store in &stores {
            parts.push((store.name, Box::new(move |_| usage(&mut store.podman(&run)))));
        }
        in_turn("starts", "podman run --rm", runs, parts);
    }

    fn calls(&self, runs: usize) {
        let call = self.store("layerseal").call();
        let fuse = self.store("fuse-overlayfs").call();
        let unmounted = |call: &Call, program: &str| {
            // fuse-overlayfs names the options that it ignores, each time.
            let mut command = Command::new(program);
            let usage = usage(command.args(["-o", &call.options, &call.target]).stderr(Stdio::null()));
            done(Command::new("umount").arg(&call.target));
            usage
        };
        let ours = Self::layerseal();
        done(Command::new(&ours).args(["-o", &call.options, &call.target]));
        done(Command::new("umount").arg(&call.target));
        in_turn(
            "starts",
            "mount_program call, warm",
            runs,
            vec![
                ("layerseal (9 signatures)", Box::new(|_| unmounted(&call, &ours))),
                ("fuse-overlayfs", Box::new(|_| unmounted(&fuse, "/usr/bin/fuse-overlayfs"))),
                (
                    "layerseal --version",
                    Box::new(|_| usage(Command::new(&ours).arg("--version").stdout(Stdio::null()))),
                ),
            ],
        );
    }

    /// The hooks as processes of their own, on what they find when a container starts.
    fn hooks(&self, runs: usize) {
        let hook = |stage: &str, input: &Path, dir: &Path| {
            let mut command = Command::new("/bin/sh");
            // The shell is no part of it: it becomes the hook.
            command.args(["-c", "exec \"$0\" hook \"$1\" <\"$2\"", &Self::layerseal(), stage]).arg(input);
            usage(command.current_dir(dir).env_clear().stdout(Stdio::null()))
        };
        let record = |tool: &str, runs: &[Usage]| Line { table: "starts", case: "hooks, warm", tool }.record(runs);
        let input = self.path("input.json");
        // As crun leaves it: the root bound on itself in a mount namespace of its own.
        let store = self.store("both");
        let container = store.container();
        let merged = container.mount(&store);
        let script = format!("mount --rbind {merged} {merged} && echo && exec sleep 1000");
        let unshare = ["--mount", "--propagation", "private", "sh", "-c", &script];
        let mut child =
            Command::new("unshare").args(unshare).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        let (id, bundle) = (&container.id, &container.bundle);
        let state = format!(
            r#"{{"ociVersion":"1.0","id":"{id}","pid":{},"root":"{merged}","bundle":"{bundle}","status":"created"}}"#,
            child.id()
        );
        std::fs::write(&input, state).unwrap();
        let times: Vec<Usage> = (0..runs).map(|_| hook("createRuntime", &input, Path::new(bundle))).collect();
        record("createRuntime", &times);
        child.kill().unwrap();
        child.wait().unwrap();
        container.unmount(&store);
        // podman mounts, and the hook replaces that.
        let store = self.store("hooks");
        let container = store.container();
        let mut times = Vec::new();
        for run in 0..=runs {
            let merged = container.mount(&store);
            std::fs::write(&input, format!(r#"{{"root":{{"path":"{merged}"}}}}"#)).unwrap();
            let usage = hook("precreate", &input, Path::new(&container.bundle));
            if run > 0 {
                times.push(usage);
            }
            container.unmount(&store);
        }
        record("precreate", &times);
    }
}

/// A call as containers-storage makes it.
struct Call {
    options: String,
    target: String,
}

/// A container that was made and not started.
struct Container {
    id: String,
    bundle: String,
}

impl Container {
    fn mount(&self, store: &Store<'_>) -> String {
        let output = store.podman(&["mount", &self.id]).stdout(Stdio::piped()).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn unmount(&self, store: &Store<'_>) {
        done(&mut store.podman(&["umount", &self.id]));
    }
}

impl Store<'_> {
    fn hooked(&self) -> bool {
        matches!(self.name, "hooks" | "both")
    }

    fn container(&self) -> Container {
        let create = ["create", "--pull", "never", IMAGE, "/bin/true"];
        let output = self.podman(&create).stdout(Stdio::piped()).output().unwrap();
        let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let root = self.place.path(self.name);
        let bundle = format!("{}/g/overlay-containers/{id}/userdata", root.display());
        Container { id, bundle }
    }

    fn podman(&self, args: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.args(args).stdout(Stdio::null());
        command
            .env("CONTAINERS_STORAGE_CONF", self.place.path(self.name).join("storage.conf"))
            .env("CONTAINERS_CONF", self.place.path(if self.hooked() { "hooks.conf" } else { "containers.conf" }));
        command
    }

    fn load(&self, image: &Path) {
        let policy = self.place.path("policy.json").display().to_string();
        let oci = format!("oci:{}:latest", image.display());
        done(&mut self.podman(&["pull", "-q", "--signature-policy", &policy, &oci]));
        let listed = self.podman(&["images", "-q"]).stdout(Stdio::piped()).output().unwrap();
        let id = String::from_utf8(listed.stdout).unwrap().lines().next().unwrap().to_owned();
        done(&mut self.podman(&["tag", &id, IMAGE]));
        if !matches!(self.name, "native" | "fuse-overlayfs") {
            // What is measured is the first start, and not what can be done before.
            let vault = self.place.path(self.name).join("g/layerseal");
            let prepare = ["prepare", IMAGE, "--seals-only", "--seal", &oci[..oci.len() - 7]];
            done(Command::new(Place::layerseal()).arg("--vault").arg(vault).args(prepare).stdout(Stdio::null()));
        }
    }

    /// What containers-storage would call for a new container.
    fn call(&self) -> Call {
        let create = ["create", "--pull", "never", IMAGE, "/bin/true"];
        let output = self.podman(&create).stdout(Stdio::piped()).output().unwrap();
        let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let inspect = |key: &str| {
            let format = format!("{{{{.GraphDriver.Data.{key}}}}}");
            let output = self.podman(&["inspect", &id, "--format", &format]).stdout(Stdio::piped()).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let upper = inspect("UpperDir");
        let home = upper.strip_suffix("/diff").unwrap();
        let target = format!("{home}/merged");
        std::fs::create_dir_all(&target).unwrap();
        Call { options: format!("lowerdir={},upperdir={upper},workdir={home}/work", inspect("LowerDir")), target }
    }
}
