//! What a start costs: `podman run` with native overlay, fuse-overlayfs and layerseal beside each other,
//! the mount call beside fuse-overlayfs, the hooks alone, and the first use of an image beside cfsctl's and the
//! kernel's own time for its files. `make bench` runs it by benches/run.sh, which makes the place for it: it
//! writes /etc/layerseal.

mod check;
mod elsewhere;
mod first_use;
mod registry;
mod rootless;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Entry, Layer, Layout};
use measure::{Line, Part, Usage, done, in_turn, in_turn_and_back, median, usage, usage_with};
use support::{common, measure};
use tempfile::TempDir;

const IMAGE: &str = "registry.example.com/acme/app";

/// A way to run containers.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way {
    name: &'static str,
    program: Program,
    hooks: Hooks,
    runtime: Runtime,
}

/// What podman calls for a container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runtime {
    Crun,
    /// A shell that becomes crun: what any runtime before crun costs.
    Idle,
    Ours,
}

/// What mounts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    /// containers-storage by itself.
    Native,
    Layerseal,
    FuseOverlayfs,
    /// The rewrite in Rust.
    FuseOverlayfs2,
}

impl Program {
    /// Returns the line of storage.conf that names it.
    fn configured(self) -> String {
        let named = |path: &str| format!("mount_program = \"{path}\"\n");
        match self {
            Self::Native => String::new(),
            Self::Layerseal => named(&Place::layerseal()),
            Self::FuseOverlayfs => named("/usr/bin/fuse-overlayfs"),
            Self::FuseOverlayfs2 => {
                let tools = PathBuf::from(std::env::var_os("LAYERSEAL_BENCH_TOOLS").unwrap());
                named(&tools.join("fuse-overlayfs-2/bin/fuse-overlayfs").display().to_string())
            }
        }
    }
}

/// What podman calls beside the runtime.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hooks {
    None,
    /// `cat` for both stages: what podman and crun need for calling any.
    Idle,
    Ours,
}

impl Way {
    const fn new(name: &'static str, program: Program, hooks: Hooks) -> Self {
        Self { name, program, hooks, runtime: Runtime::Crun }
    }

    fn is_ours(self) -> bool {
        self.program == Program::Layerseal || self.hooks == Hooks::Ours || self.runtime == Runtime::Ours
    }
}

const NATIVE: Way = Way::new("native", Program::Native, Hooks::None);
const RUNTIME: Way = Way { name: "runtime", program: Program::Native, hooks: Hooks::None, runtime: Runtime::Ours };
const IDLE_RUNTIME: Way =
    Way { name: "idle runtime", program: Program::Native, hooks: Hooks::None, runtime: Runtime::Idle };
const IDLE: Way = Way::new("idle hooks", Program::Native, Hooks::Idle);
const HOOKS: Way = Way::new("hooks", Program::Native, Hooks::Ours);
const FUSE_OVERLAYFS: Way = Way::new("fuse-overlayfs", Program::FuseOverlayfs, Hooks::None);
const FUSE_OVERLAYFS_2: Way = Way::new("fuse-overlayfs 2", Program::FuseOverlayfs2, Hooks::None);
const MOUNT_PROGRAM: Way = Way::new("mount program", Program::Layerseal, Hooks::None);
const BOTH: Way = Way::new("mount program and hooks", Program::Layerseal, Hooks::Ours);

const WAYS: [Way; 9] =
    [NATIVE, RUNTIME, IDLE_RUNTIME, IDLE, HOOKS, FUSE_OVERLAYFS, FUSE_OVERLAYFS_2, MOUNT_PROGRAM, BOTH];

const RUN: [&str; 6] = ["run", "--rm", "--pull", "never", IMAGE, "/bin/true"];

fn main() {
    // `cargo bench` alone and `cargo test` come by as well.
    let Some(dir) = std::env::var_os("LAYERSEAL_BENCH_DIR").map(PathBuf::from) else { return };
    let number =
        |name: &str, default: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let run = tempfile::Builder::new().prefix("bench-").tempdir_in("/run").unwrap();
    let place = Place { dir, run, verity: std::env::var_os("LAYERSEAL_BENCH_VERITY").is_none_or(|v| v != "off") };
    place.configure();
    if let Ok(images) = std::env::var("LAYERSEAL_BENCH_CHECK") {
        return check::check(&place, images.parse().unwrap());
    }
    if let Ok(name) = std::env::var("LAYERSEAL_BENCH_ELSEWHERE") {
        let inputs = PathBuf::from(std::env::var_os("LAYERSEAL_BENCH_INPUTS").unwrap());
        return elsewhere::elsewhere(&place, &inputs.join(&name), &name);
    }
    if let Some(runs) = std::env::var_os("LAYERSEAL_BENCH_ROOTLESS") {
        return place.rootless(runs.into_string().unwrap().parse().unwrap());
    }
    if let Ok(name) = std::env::var("LAYERSEAL_BENCH_REGISTRY") {
        let inputs = PathBuf::from(std::env::var_os("LAYERSEAL_BENCH_INPUTS").unwrap());
        return place.registry(&inputs.join(&name), &name);
    }
    if std::env::var_os("LAYERSEAL_BENCH_PODMAN").is_some() {
        return place.starts("podmans", &format!("{} run --rm", podman_version()), number("LAYERSEAL_BENCH_RUNS", 20));
    }
    if std::env::var_os("LAYERSEAL_BENCH_HOOKS").is_some() {
        place.warm_stores([HOOKS, BOTH]);
        return place.hooks(number("LAYERSEAL_BENCH_CALLS", 50));
    }
    place.starts("starts", "podman run --rm", number("LAYERSEAL_BENCH_RUNS", 20));
    place.at_once(number("LAYERSEAL_BENCH_AT_ONCE", 5));
    place.calls(number("LAYERSEAL_BENCH_CALLS", 50));
    place.hooks(number("LAYERSEAL_BENCH_CALLS", 50));
    place.passed_through(number("LAYERSEAL_BENCH_CALLS", 50));
    Place::program(number("LAYERSEAL_BENCH_CALLS", 50));
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
    way: Way,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn layerseal() -> String {
        common::binary().display().to_string()
    }

    fn configure(&self) {
        for way in WAYS {
            let line = way.program.configured();
            let root = self.root(way);
            std::fs::create_dir_all(&root).unwrap();
            let conf = format!(
                "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}/g\"\nrunroot = \"{}\"\n[storage.options.overlay]\n{line}",
                root.display(),
                self.run.path().join(way.name.replace(' ', "-")).display()
            );
            std::fs::write(root.join("storage.conf"), conf).unwrap();
            std::fs::write(root.join("containers.conf"), self.containers_conf(way)).unwrap();
        }
        let idle = |command: &str, stage: &str| {
            format!(
                r#"{{"version":"1.0.0","hook":{{"path":"{command}"}},"when":{{"always":true}},"stages":["{stage}"]}}"#
            )
        };
        let ours = |text: &str| text.replace("/usr/bin/layerseal", &Self::layerseal());
        for (dir, first, second) in [
            ("idle.d", idle("/bin/cat", "precreate"), idle("/bin/cat", "createRuntime")),
            (
                "hooks.d",
                ours(include_str!("../../hooks/podman/layerseal-precreate.json")),
                ours(include_str!("../../hooks/podman/layerseal-createRuntime.json")),
            ),
        ] {
            std::fs::create_dir_all(self.path(dir)).unwrap();
            std::fs::write(self.path(dir).join("first.json"), first).unwrap();
            std::fs::write(self.path(dir).join("second.json"), second).unwrap();
        }
        std::fs::create_dir_all(self.path("none")).unwrap();
        let runtime = self.path("before-crun.sh");
        std::fs::write(&runtime, format!("#!/bin/sh\nexec {} \"$@\"\n", crun().display())).unwrap();
        std::fs::set_permissions(runtime, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(self.path("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
        self.signer("bench");
        let verity = if self.verity { "require" } else { "off" };
        let policy =
            format!("version = 1\n[default]\nmode = \"enforce\"\ntrust = [\"bench\"]\nverity = \"{verity}\"\n");
        std::fs::write("/etc/layerseal/policy.toml", policy).unwrap();
        std::fs::write("/etc/layerseal/runtime.toml", format!("path = {:?}\n", crun().display())).unwrap();
    }

    /// Makes a key, and a certificate that is trusted.
    fn signer(&self, name: &str) {
        let key = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"];
        let mut made = Command::new("openssl");
        made.args(key).arg(format!("/CN={name}")).args([
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.crt"),
        ]);
        done(made.current_dir(&self.dir).stderr(Stdio::null()));
        let trusted = Path::new("/etc/layerseal/trust.d/bench");
        std::fs::create_dir_all(trusted).unwrap();
        std::fs::copy(self.path(&format!("{name}.crt")), trusted.join(format!("{name}.crt"))).unwrap();
    }

    fn containers_conf(&self, way: Way) -> String {
        let hooks = self.path(match way.hooks {
            Hooks::None => "none",
            Hooks::Idle => "idle.d",
            Hooks::Ours => "hooks.d",
        });
        let runtime = if way.runtime == Runtime::Crun { "crun" } else { "layerseal" };
        let conf = format!(
            "[containers]\ncgroups = \"disabled\"\nnetns = \"none\"\npids_limit = 0\nlog_driver = \"k8s-file\"\n\
             default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n[engine]\ncgroup_manager = \"cgroupfs\"\n\
             events_logger = \"none\"\nruntime = \"{runtime}\"\nhooks_dir = [\"{}\"]\n",
            hooks.display()
        );
        let known = "runtime_supports_json = [\"crun\", \"layerseal\"]\nruntime_supports_nocgroup = [\"crun\", \"layerseal\"]\n";
        let named = |path: String| format!("{conf}{known}[engine.runtimes]\nlayerseal = [\"{path}\"]\n");
        match way.runtime {
            Runtime::Ours => named(Self::before_crun()),
            Runtime::Idle => named(self.path("before-crun.sh").display().to_string()),
            Runtime::Crun => conf,
        }
    }

    /// Returns the small program that is called in the runtime's place.
    fn before_crun() -> String {
        common::binary().with_file_name("layerseal-runtime").display().to_string()
    }

    fn root(&self, way: Way) -> PathBuf {
        self.path(&way.name.replace(' ', "-"))
    }

    fn store(&self, way: Way) -> Store<'_> {
        Store { place: self, way }
    }

    /// Makes an image of five layers with `files` files of `bytes` bytes in all, sealed: nine signatures.
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
                    entries.push(Entry::symlink("bin/busybox", "true"));
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
        self.sign(&path, IMAGE, "bench");
        path
    }

    fn sign(&self, layout: &Path, name: &str, signer: &str) {
        let [cert, key] = ["crt", "key"].map(|kind| format!("{signer}.{kind}"));
        let sign = ["--cert", &cert, "--key", &key, "--identity", name, "--algorithm", "sha256"];
        let mut command = Command::new(Self::layerseal());
        command.arg("sign").arg(format!("oci:{}", layout.display())).args(sign).current_dir(&self.dir);
        done(command.stdout(Stdio::null()));
    }

    /// Returns the store of each way, with the image, of which a container has run: that warms the caches.
    fn warm_stores<const N: usize>(&self, ways: [Way; N]) -> [Store<'_>; N] {
        let image = self.image("small", 200, 2 << 20);
        let stores = ways.map(|way| self.store(way));
        for store in &stores {
            store.load(&image);
        }
        for store in &stores {
            done(&mut store.podman(&RUN));
        }
        stores
    }

    /// Measures a container by each way in turn.
    fn starts(&self, table: &str, case: &str, runs: usize) {
        let stores = self.warm_stores(WAYS);
        let mut parts: Vec<Part<'_>> = Vec::new();
        for store in &stores {
            parts.push((store.way.name, Box::new(move |_| usage(&mut store.podman(&RUN)))));
        }
        in_turn_and_back(table, case, runs, parts);
    }

    /// Measures fifty containers, as many at a time as podman allows.
    fn at_once(&self, runs: usize) {
        let run = |store: &Store<'_>| {
            let mut command = Command::new("sh");
            let script = "failed=0; for n in $(seq 50); do podman run --rm --pull never \"$0\" /bin/true & all=\"$all $!\"; done; for n in $all; do wait $n || failed=1; done; exit $failed";
            store.environment(command.args(["-c", script, IMAGE]).stdout(Stdio::null()));
            usage(&mut command)
        };
        let stores = [NATIVE, RUNTIME, IDLE_RUNTIME, IDLE, HOOKS].map(|way| self.store(way));
        let parts = stores
            .iter()
            .map(|store| (store.way.name, Box::new(move |_| run(store)) as Box<dyn FnMut(usize) -> Usage>));
        in_turn_and_back("starts", "50 × podman run at once", runs, parts.collect());
    }

    /// Measures what podman asks of a runtime besides running a container.
    fn passed_through(&self, runs: usize) {
        let parts =
            [("crun", crun().display().to_string()), ("layerseal-runtime", Self::before_crun())].map(|(name, path)| {
                let part = move |_| usage(Command::new(&path).arg("--version").stdout(Stdio::null()));
                (name, Box::new(part) as Box<dyn FnMut(usize) -> Usage>)
            });
        in_turn("starts", "a call that is passed through", runs, parts.into());
    }

    fn calls(&self, runs: usize) {
        let call = self.store(MOUNT_PROGRAM).call();
        let fuse = self.store(FUSE_OVERLAYFS).call();
        let unmounted = |call: &Call, program: &str| {
            // fuse-overlayfs names the options that it ignores, each time.
            let mut command = Command::new(program);
            let usage = usage(command.args(["-o", &call.options, &call.target]).stderr(Stdio::null()));
            done(Command::new("umount").arg(&call.target));
            usage
        };
        let ours = Self::layerseal();
        let two = self.sealed_twice();
        for call in [&call, &two] {
            done(Command::new(&ours).args(["-o", &call.options, &call.target]));
            done(Command::new("umount").arg(&call.target));
        }
        in_turn(
            "starts",
            "mount_program call, warm",
            runs,
            vec![
                ("layerseal (9 signatures)", Box::new(|_| unmounted(&call, &ours))),
                ("layerseal, two seals", Box::new(|_| unmounted(&two, &ours))),
                ("fuse-overlayfs", Box::new(|_| unmounted(&fuse, "/usr/bin/fuse-overlayfs"))),
                (
                    "layerseal --version",
                    Box::new(|_| usage(Command::new(&ours).arg("--version").stdout(Stdio::null()))),
                ),
            ],
        );
    }

    /// Returns a call for the image with one more seal, by another trusted signer.
    fn sealed_twice(&self) -> Call {
        let (image, store) = (self.path("twice"), self.store(BOTH));
        done(Command::new("cp").arg("-a").arg(self.path("small")).arg(&image));
        self.signer("other");
        self.sign(&image, IMAGE, "other");
        let vault = self.root(BOTH).join("g/layerseal");
        let prepare = ["prepare", IMAGE, "--seals-only", "--seal", &format!("oci:{}", image.display())];
        done(Command::new(Self::layerseal()).arg("--vault").arg(vault).args(prepare).stdout(Stdio::null()));
        store.call()
    }

    /// Measures the program itself.
    fn program(runs: usize) {
        let ours = Self::layerseal();
        let line = |case| Line { table: "program", case, tool: "layerseal" };
        line("size").value("MB", std::fs::metadata(&ours).unwrap().len() as f64 / 1e6);
        let faults = |_| usage(Command::new(&ours).arg("--version").stdout(Stdio::null())).faults;
        line("page faults of --version").value("faults", median(&(0..runs).map(faults).collect::<Vec<_>>()));
    }

    /// Measures the hooks as separate processes, on what they find when a container starts.
    fn hooks(&self, runs: usize) {
        let hook = |stage: &str, input: &Path, dir: &Path| {
            let mut command = Command::new(Self::layerseal());
            command.args(["hook", stage]).current_dir(dir).env_clear().stdout(Stdio::null());
            usage_with(&mut command, std::fs::File::open(input).unwrap().into())
        };
        let record = |tool: &str, runs: &[Usage]| Line { table: "starts", case: "hooks, warm", tool }.record(runs);
        let input = self.path("input.json");
        // As crun leaves it: the root bound on itself in a new mount namespace.
        let store = self.store(BOTH);
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
        let store = self.store(HOOKS);
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

/// Returns what podman calls itself: `podman 5.8.6`.
fn podman_version() -> String {
    let said = Command::new("podman").arg("--version").output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    format!("podman {}", said.split_whitespace().last().unwrap())
}

/// Finds the runtime that every way ends with.
fn crun() -> PathBuf {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|dir| dir.join("crun"))
        .find(|path| path.exists())
        .expect("crun is installed")
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
    fn container(&self) -> Container {
        let create = ["create", "--pull", "never", IMAGE, "/bin/true"];
        let output = self.podman(&create).stdout(Stdio::piped()).output().unwrap();
        let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let root = self.place.root(self.way);
        let bundle = format!("{}/g/overlay-containers/{id}/userdata", root.display());
        Container { id, bundle }
    }

    fn podman(&self, args: &[&str]) -> Command {
        let mut command = Command::new("podman");
        self.environment(command.args(args).stdout(Stdio::null()));
        command
    }

    fn environment(&self, command: &mut Command) {
        let root = self.place.root(self.way);
        command
            .env("CONTAINERS_STORAGE_CONF", root.join("storage.conf"))
            .env("CONTAINERS_CONF", root.join("containers.conf"));
    }

    fn load(&self, image: &Path) {
        self.load_only(image);
        if self.way.is_ours() {
            // What is measured is the first start, and not what can be done before.
            let vault = self.place.root(self.way).join("g/layerseal");
            let seal = format!("oci:{}", image.display());
            let prepare = ["prepare", IMAGE, "--seals-only", "--seal", &seal];
            done(Command::new(Place::layerseal()).arg("--vault").arg(vault).args(prepare).stdout(Stdio::null()));
        }
    }

    /// Puts an image into the store, and nothing of it into a vault.
    fn load_only(&self, image: &Path) {
        let policy = self.place.path("policy.json").display().to_string();
        let oci = format!("oci:{}:latest", image.display());
        done(&mut self.podman(&["pull", "-q", "--signature-policy", &policy, &oci]));
        let listed = self.podman(&["images", "-q"]).stdout(Stdio::piped()).output().unwrap();
        let id = String::from_utf8(listed.stdout).unwrap().lines().next().unwrap().to_owned();
        done(&mut self.podman(&["tag", &id, IMAGE]));
    }

    /// Returns the call that containers-storage would make for a new container.
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
