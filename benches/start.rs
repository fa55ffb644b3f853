//! What a start costs: `podman run` with native overlay, fuse-overlayfs and layerseal beside each other,
//! the mount call beside `mount.composefs`, the hooks alone, and the first use of a large image beside the kernel's own
//! time for its files. `make bench` runs it by benches/start.sh, which makes the place for it: it writes
//! /etc/layerseal.

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Entry, Layer, Layout};
use layerseal::digest::Algorithm;
use layerseal::sys::verity;

const IMAGE: &str = "registry.example.com/acme/app";

/// Ways to mount containers: `hooks` is native with both hooks, `both` is layerseal with both hooks.
const STORES: [&str; 5] = ["native", "hooks", "fuse-overlayfs", "layerseal", "both"];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, word, command @ ..] = args.as_slice()
        && word == "usage"
    {
        return used(Command::new(&command[0]).args(&command[1..]));
    }
    // `cargo bench` alone and `cargo test` come by as well.
    let Some(dir) = std::env::var_os("LAYERSEAL_BENCH_DIR").map(PathBuf::from) else { return };
    let number =
        |name: &str, default: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let place = Place { dir, verity: std::env::var_os("LAYERSEAL_BENCH_VERITY").is_none_or(|v| v != "off") };
    place.configure();
    place.starts(number("LAYERSEAL_BENCH_RUNS", 20));
    place.calls(number("LAYERSEAL_BENCH_CALLS", 50));
    place.hooks(number("LAYERSEAL_BENCH_CALLS", 50));
    place.first_use(number("LAYERSEAL_BENCH_FILES", 60_000), number("LAYERSEAL_BENCH_MB", 1_500));
}

struct Place {
    dir: PathBuf,
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
                "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/g\"\nrunroot = \"{0}/r\"\n[storage.options.overlay]\n{line}",
                root.display()
            );
            std::fs::write(root.join("storage.conf"), conf).unwrap();
        }
        let hooks = self.path("hooks.d");
        std::fs::create_dir_all(&hooks).unwrap();
        for (name, text) in [
            ("precreate", include_str!("../hooks/podman/layerseal-precreate.json")),
            ("createRuntime", include_str!("../hooks/podman/layerseal-createRuntime.json")),
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
        let sign = ["sign", "oci", "--cert", "crt", "--key", "key", "--identity", IMAGE];
        let oci = format!("oci:{}", path.display());
        done(
            Command::new(Self::layerseal())
                .args(sign.map(|a| if a == "oci" { oci.as_str() } else { a }))
                .current_dir(&self.dir),
        );
        path
    }

    fn starts(&self, runs: usize) {
        let image = self.image("small", 200, 2 << 20);
        let stores = STORES.map(|name| self.store(name));
        for store in &stores {
            store.load(&image);
        }
        println!("podman run --rm, {runs} each, interleaved");
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); stores.len()];
        // The first of each is not counted: it warms the caches.
        for run in 0..=runs {
            for (store, times) in stores.iter().zip(&mut times) {
                let time = time(|| done(&mut store.podman(&["run", "--rm", "--pull", "never", IMAGE, "/bin/true"])));
                if run > 0 {
                    times.push(time);
                }
            }
        }
        for (store, times) in stores.iter().zip(&mut times) {
            show(store.name, times);
        }
    }

    fn calls(&self, runs: usize) {
        println!("the mount call alone, five layers, nine RSA-2048 signatures, {runs} each");
        let call = self.store("layerseal").call();
        let unmount = || done(Command::new("umount").arg(&call.target));
        let mut ours = Vec::new();
        for _ in 0..runs {
            ours.push(time(|| call.run()));
            unmount();
        }
        show("layerseal, warm", &mut ours);
        let mut version: Vec<Duration> = (0..runs)
            .map(|_| time(|| done(Command::new(Self::layerseal()).arg("--version").stdout(Stdio::null()))))
            .collect();
        show("layerseal --version", &mut version);
        let found = Command::new("sh").args(["-c", "command -v mount.composefs"]).output().unwrap();
        if !found.status.success() {
            println!("  mount.composefs is not installed");
            return;
        }
        let (erofs, objects) = self.erofs();
        let (upper, work) = call.upper();
        let verity = if self.verity { ",verity" } else { "" };
        let options = format!("basedir={},upperdir={upper},workdir={work}{verity}", objects.display());
        let mut theirs = Vec::new();
        for _ in 0..runs {
            theirs.push(time(|| {
                done(Command::new("mount.composefs").arg("-o").arg(&options).arg(&erofs).arg(&call.target))
            }));
            unmount();
        }
        show("mount.composefs", &mut theirs);
    }

    /// The hooks as processes of their own, on what they find when a container starts.
    fn hooks(&self, runs: usize) {
        println!("the hooks alone, {runs} each");
        let hook = |stage: &str, input: &Path, dir: &Path| {
            let input = std::fs::File::open(input).unwrap();
            let mut command = Command::new(Self::layerseal());
            command.args(["hook", stage]).current_dir(dir).env_clear().stdout(Stdio::null());
            let status = command.stdin(input).status().unwrap();
            assert!(status.success(), "{stage}: {status}");
        };
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
        let mut times: Vec<Duration> =
            (0..runs).map(|_| time(|| hook("createRuntime", &input, Path::new(bundle)))).collect();
        show("createRuntime", &mut times);
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
            let time = time(|| hook("precreate", &input, Path::new(&container.bundle)));
            if run > 0 {
                times.push(time);
            }
            container.unmount(&store);
        }
        show("precreate, warm", &mut times);
    }

    /// The merged EROFS image in the vault, by what is mounted from it.
    fn erofs(&self) -> (PathBuf, PathBuf) {
        let objects = self.path("layerseal/g/layerseal/objects");
        let prepared = self.path("layerseal/g/layerseal/images");
        let image = std::fs::read_dir(prepared).unwrap().next().unwrap().unwrap().path();
        let text = std::fs::read_to_string(image.join("digests.fsverity-sha512-12")).unwrap();
        let hex = text.lines().next().unwrap().strip_prefix("merged ").unwrap().to_owned();
        (objects.join(&hex[..2]).join(&hex[2..]), objects)
    }

    fn first_use(&self, files: usize, megabytes: usize) {
        if files == 0 {
            return;
        }
        println!("first use of an image of {files} files, {megabytes} MB in five layers");
        let image = self.image("large", files, megabytes << 20);
        let store = self.store("layerseal");
        done(&mut store.podman(&["rmi", "-a", "-f"]));
        store.load(&image);
        std::fs::remove_dir_all(&image).unwrap();
        let overlay = self.path("layerseal/g/overlay");
        if self.verity {
            let copy = self.path("copy");
            done(Command::new("cp").arg("-a").arg(&overlay).arg(&copy));
            done(&mut Command::new("sync"));
            let kernel = time(|| enable(&copy));
            println!("  fs-verity enabled on the same files, 2 threads  {:8.2} s", kernel.as_secs_f64());
            std::fs::remove_dir_all(&copy).unwrap();
        }
        done(&mut Command::new("sync"));
        let call = store.call();
        // By a process of its own: a child counts the memory of the one that it was forked from.
        let itself = std::env::current_exe().unwrap();
        done(Command::new(itself).arg("usage").args(call.argv()));
        done(Command::new("umount").arg(&call.target));
        let mut warm: Vec<Duration> = (0..10)
            .map(|_| {
                let time = time(|| call.run());
                done(Command::new("umount").arg(&call.target));
                time
            })
            .collect();
        show("and warm", &mut warm);
    }
}

/// Enables fs-verity on every file that layerseal makes an object of, on two threads.
fn enable(dir: &Path) {
    let mut files = Vec::new();
    common::walk(dir, &mut |path| {
        if std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.len() > 64) {
            files.push(path.to_owned());
        }
    });
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(path) = files.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    verity::enable(&std::fs::File::open(path).unwrap(), Algorithm::Sha512, None, "file").unwrap();
                }
            });
        }
    });
}

/// Runs a command, and prints what it used.
// wait4(2) waits for it, and says more than the standard library does.
#[allow(clippy::zombie_processes)]
fn used(command: &mut Command) {
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: the pointers are to live variables of the types that wait4(2) fills in.
    let waited = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, usage.as_mut_ptr()) };
    assert!(waited == child.id() as i32 && status == 0, "{command:?}: {status}");
    // SAFETY: all zeros is a value of this type, and wait4(2) has filled it in.
    let usage = unsafe { usage.assume_init() };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    println!(
        "  layerseal, first use                              {:8.2} s ({:.2} user, {:.2} system), {} MB at most",
        start.elapsed().as_secs_f64(),
        seconds(usage.ru_utime),
        seconds(usage.ru_stime),
        usage.ru_maxrss / 1024
    );
}

/// A call as containers-storage makes it.
struct Call {
    options: String,
    target: String,
}

impl Call {
    fn argv(&self) -> Vec<String> {
        vec![Place::layerseal(), "-o".into(), self.options.clone(), self.target.clone()]
    }

    fn run(&self) {
        done(Command::new(Place::layerseal()).args(&self.argv()[1..]));
    }

    fn upper(&self) -> (String, String) {
        let of = |key: &str| self.options.split(',').find_map(|o| o.strip_prefix(key)).unwrap().to_owned();
        (of("upperdir="), of("workdir="))
    }
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

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn show(name: &str, times: &mut [Duration]) {
    times.sort();
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    let at = |part: f64| ms(times[((times.len() - 1) as f64 * part) as usize]);
    println!("  {name:<22} median {:8.2} ms   best {:8.2} ms   p90 {:8.2} ms", at(0.5), at(0.0), at(0.9));
}

fn done(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}");
}
