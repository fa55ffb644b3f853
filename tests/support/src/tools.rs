//! The programs, and registries that live as long as this process.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::common::{Bench, Run};

/// Returns where `tools.sh` puts the programs; `None`, with a line that says so, where it did not.
pub fn tools() -> Option<&'static Path> {
    static TOOLS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let tools = TOOLS
        .get_or_init(|| {
            let dir = std::env::var_os("LAYERSEAL_TOOLS_DIR")
                .map_or_else(|| crate::top().join("target/tools"), PathBuf::from);
            dir.join("ferro-oci-server/recipe").exists().then_some(dir)
        })
        .as_deref();
    if tools.is_none() {
        crate::skip!("registries: not there; run tests/registry/tools.sh");
    }
    tools
}

/// A policy.json that says something about a registry, so that skopeo is asked about every image.
pub const IMAGE_POLICY: &str = r#"{"default": [{"type": "insecureAcceptAnything"}],
    "transports": {"docker": {"nobody.example.com": [{"type": "reject"}]}}}"#;

/// Where a user has it.
const USERS: &str = ".config/containers/policy.json";

/// Whether this run is one in which skopeo brings what our own client could: the same tests, the other way.
pub fn asks_skopeo() -> bool {
    std::env::var_os("LAYERSEAL_TEST_ASK_SKOPEO").is_some()
}

/// A registry, and the skopeo that is asked to talk to it.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    pub port: u16,
    pub skopeo: &'static str,
    /// Whether it has the referrers API.
    pub api: bool,
}

impl Site {
    /// Starts docker-registry, for the older skopeo.
    pub fn plain() -> Option<Self> {
        Some(Self { port: docker()?, skopeo: "trixie", api: false })
    }

    /// Starts ferro-oci-server, for the newer one.
    pub fn with_api() -> Option<Self> {
        Some(Self { port: ferro()?, skopeo: "forky", api: true })
    }

    /// Starts both.
    pub fn all() -> Vec<Self> {
        [Self::plain(), Self::with_api()].into_iter().flatten().collect()
    }

    /// Names a repository that no other test uses.
    pub fn repository(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Makes a command of layerseal in a bench, with this site's skopeo.
    pub fn command(&self, bench: &Bench, args: &[&str]) -> Command {
        let mut command = bench.command(args);
        command.env("PATH", path(self.skopeo)).env("HOME", bench.dir.path()).env("TMPDIR", bench.dir.path());
        for name in ["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"] {
            command.env_remove(name);
        }
        if asks_skopeo() && !bench.path(USERS).exists() {
            std::fs::create_dir_all(bench.path(USERS).parent().unwrap()).unwrap();
            bench.write(USERS, IMAGE_POLICY.as_bytes());
        }
        command
    }

    pub fn run(&self, bench: &Bench, args: &[&str]) -> Run {
        let args: Vec<&str> = args.iter().copied().chain(["--tls-verify=false"]).collect();
        Run::of(self.command(bench, &args).output().unwrap())
    }
}

/// Returns a `PATH` with that skopeo first; in a bench's directory helpers come before.
pub fn path(skopeo: &str) -> String {
    let tools = tools().unwrap().display().to_string();
    format!("{tools}/skopeo-{skopeo}/bin:{}", std::env::var("PATH").unwrap_or_default())
}

/// Starts a program that ends with this process, however that ends, and after twenty minutes in any case.
fn keep(mut command: Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let (started, wait) = std::sync::mpsc::channel();
    // The program ends with the thread that started it: this one lives as long as we do.
    std::thread::spawn(move || {
        layerseal::sys::process::die_with_us(&mut command);
        let mut child = command.spawn().unwrap();
        started.send(()).unwrap();
        std::thread::sleep(Duration::from_secs(1200));
        let _ = child.kill();
        let _ = child.wait();
    });
    wait.recv().unwrap();
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn answers(port: u16) {
    let until = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "no registry on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes a directory for a registry's blobs, which the next run removes.
fn storage(name: &str) -> PathBuf {
    let base = crate::scratch_dir();
    for entry in std::fs::read_dir(&base).into_iter().flatten().flatten() {
        let file = entry.file_name().into_string().unwrap_or_default();
        let owner = file.strip_prefix("registry.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let dir = base.join(format!("registry.{}.{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Starts Debian's registry once, and returns its port.
pub fn docker() -> Option<u16> {
    static PORT: OnceLock<u16> = OnceLock::new();
    let tools = tools()?;
    Some(*PORT.get_or_init(|| {
        let (port, dir) = (free_port(), storage("docker"));
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n",
            dir.display()
        );
        std::fs::write(dir.join("config.yml"), config).unwrap();
        let mut command = Command::new(tools.join("docker-registry/usr/bin/docker-registry"));
        command.arg("serve").arg(dir.join("config.yml"));
        keep(command);
        answers(port);
        port
    }))
}

/// Starts the registry with the referrers API once, and returns its port.
pub fn ferro() -> Option<u16> {
    static PORT: OnceLock<u16> = OnceLock::new();
    let tools = tools()?;
    Some(*PORT.get_or_init(|| {
        let (port, dir) = (free_port(), storage("ferro"));
        let mut command = Command::new(tools.join("ferro-oci-server/bin/ferro-oci-server"));
        command.env("FERRO_OCI_LISTEN", format!("127.0.0.1:{port}")).env("FERRO_OCI_STORAGE_DIR", dir);
        keep(command);
        answers(port);
        port
    }))
}

/// Returns what oras lists as referrers of an image: types and digests.
pub fn oras_discover(reference: &str) -> String {
    oras(&["discover", "--plain-http", "--format", "tree", reference])
}

pub fn oras(args: &[&str]) -> String {
    let output = Command::new(tools().unwrap().join("oras/usr/bin/oras")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs skopeo itself, for what a person would do with it.
pub fn skopeo(args: &[&str]) -> String {
    let output = Command::new("skopeo").env("PATH", path("forky")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
