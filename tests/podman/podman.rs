//! podman on a host of its own, with the images of the tests in its store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::common;
use crate::guard::text;
use crate::host::Host;
use crate::image::{self, APP, FRESH};
use crate::scratch;

/// Who mounts containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// What containers-storage knows as a mount program: the standard to compare with.
    FuseOverlayfs,
    /// Nobody: the kernel's overlay by containers-storage itself.
    Native,
    Layerseal,
    /// As [`Self::Native`], with both hooks.
    Hooked,
    /// As [`Self::Layerseal`], with both hooks.
    Guarded,
    /// As [`Self::Native`], with layerseal as the runtime, before crun.
    Runtime,
}

impl Program {
    fn path(self) -> Option<String> {
        match self {
            Self::FuseOverlayfs => Some("/usr/bin/fuse-overlayfs".to_owned()),
            Self::Native | Self::Hooked | Self::Runtime => None,
            Self::Layerseal | Self::Guarded => Some(common::binary().display().to_string()),
        }
    }

    fn has_hooks(self) -> bool {
        matches!(self, Self::Hooked | Self::Guarded)
    }

    /// Whether layerseal has anything to do with its containers.
    pub fn is_ours(self) -> bool {
        !matches!(self, Self::FuseOverlayfs | Self::Native)
    }
}

const CONTAINERS_CONF: &str = r#"
[containers]
cgroups = "disabled"
netns = "none"
pids_limit = 0
# Without CAP_SYS_RESOURCE the defaults of podman are out of reach.
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
hooks_dir = ["/etc/containers/hooks"]
"#;

pub struct Podman {
    pub host: Host,
    pub program: Program,
}

impl Podman {
    /// podman with both images in its store; for layerseal the first is sealed and prepared too.
    pub fn new(program: Program) -> Self {
        let podman = Self::pulled(program);
        podman.prepare(APP);
        podman
    }

    /// The same with both images prepared.
    pub fn with_both(program: Program) -> Self {
        let podman = Self::new(program);
        podman.prepare(FRESH);
        podman
    }

    /// podman with both images in its store, and no seals in the vault.
    pub fn pulled(program: Program) -> Self {
        let dir = scratch::fresh("host");
        std::fs::create_dir(&dir).unwrap();
        copy(&template(program).join("containers"), &dir);
        Self::at(dir, program)
    }

    /// podman with what is in `dir`; empty if there is nothing.
    pub fn at(dir: PathBuf, program: Program) -> Self {
        let podman = Self { host: Host::new(dir), program };
        podman.configure();
        podman
    }

    fn configure(&self) {
        let host = &self.host;
        // What this machine was given by whoever uses it is not what is tested.
        host.sh("rm -rf /etc/containers/*.conf.d");
        host.write("/etc/containers/containers.conf", CONTAINERS_CONF);
        if self.program == Program::Runtime {
            self.runtime("crun");
        }
        host.write("/etc/containers/policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        host.write("/etc/containers/registries.conf", "unqualified-search-registries = []\n");
        host.sh("mkdir -p /etc/containers/hooks");
        for file in ["/etc/subuid", "/etc/subgid"] {
            host.write(file, "containers:200000:1000000\n");
        }
        // New versions of libsubid ask for the user too.
        host.sh("grep -q ^containers: /etc/passwd || echo containers:x:990:990::/:/bin/false >>/etc/passwd");
        if self.program.has_hooks() {
            self.hook("createRuntime");
            self.hook("precreate");
        }
        self.storage_conf(self.program.path().as_deref(), "");
        self.policy(&default_policy());
        host.write("/etc/layerseal/trust.d/acme/acme.crt", common::signer().cert.to_pem().unwrap());
    }

    /// Has layerseal be the runtime, before this one.
    pub fn runtime(&self, name: &str) {
        let host = &self.host;
        let program = support::runtime_program();
        host.sh(&format!("ln -sfn '{}' /var/tmp/layerseal-runtime", program.display()));
        let path = host.sh(&format!("command -v {name}"));
        host.write("/etc/layerseal/runtime.toml", format!("path = {:?}\n", path.trim()));
        let conf = include_str!("../../hooks/podman/runtime.conf")
            .replace("/usr/bin/layerseal-runtime", "/var/tmp/layerseal-runtime");
        host.write("/etc/containers/containers.conf.d/50-layerseal-runtime.conf", conf);
    }

    /// Installs a hook as it is delivered, but for the program's path.
    pub fn hook(&self, stage: &str) {
        let text = match stage {
            "createRuntime" => include_str!("../../hooks/podman/layerseal-createRuntime.json"),
            _ => include_str!("../../hooks/podman/layerseal-precreate.json"),
        };
        let binary = common::binary().display().to_string();
        self.host.write(&format!("/etc/containers/hooks/{stage}.json"), text.replace("/usr/bin/layerseal", &binary));
    }

    /// Writes storage.conf with this mount program and further lines for `[storage.options]`.
    pub fn storage_conf(&self, program: Option<&str>, options: &str) {
        let program = program.map(|p| format!("mount_program = \"{p}\"\n")).unwrap_or_default();
        let conf = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"/var/lib/containers/storage\"\n\
             runroot = \"/run/containers/storage\"\n[storage.options]\n{options}\n[storage.options.overlay]\n{program}"
        );
        self.host.write("/etc/containers/storage.conf", conf);
    }

    /// The mount program, for storage.conf.
    pub fn mount_program(&self) -> Option<String> {
        self.program.path()
    }

    /// Writes the policy of layerseal.
    pub fn policy(&self, text: &str) {
        self.host.write("/etc/layerseal/policy.toml", text);
    }

    /// Runs podman.
    pub fn run(&self, args: &[&str]) -> Output {
        self.host.command("podman", args).output().unwrap()
    }

    /// Runs podman, which must succeed, and gives what it printed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let mut output = self.run(args);
        // podman 4.3 removes a container's directory while its own cleanup still has the shm in it mounted: of 24 containers
        // with mapped users that were started again three, by podman alone.
        if args[0] == "rm" && text(&output).contains("userdata/shm: device or resource busy") {
            output = self.run(args);
        }
        assert_eq!(output.status.code(), Some(0), "podman {args:?}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Pulls `image` from its layout. What name podman then gives it depends on its version.
    pub fn pull(&self, image: &str) {
        let inside = self.host.inside("/var/tmp/layout");
        std::fs::create_dir(&inside).unwrap();
        copy(&image::layout(layouts(), image).join("."), &inside);
        let id = self.ok(&["pull", "-q", &format!("oci:/var/tmp/layout:{image}")]);
        self.ok(&["untag", id.trim()]);
        self.ok(&["tag", id.trim(), image]);
        std::fs::remove_dir_all(&inside).unwrap();
    }

    /// Brings the seals of `image` into the vault, and what they cover; only layerseal needs that.
    #[track_caller]
    pub fn prepare(&self, image: &str) {
        if !self.program.is_ours() {
            return;
        }
        let output = self.try_prepare(image, &sealed(image));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "layerseal prepare {image}: {error}");
    }

    /// [`Self::prepare`] with seals of other layouts; it may fail.
    pub fn try_prepare(&self, image: &str, sealed: &Path) -> Output {
        let seal = format!("oci:{}:{image}", sealed.display());
        let binary = common::binary().display().to_string();
        self.host.command(&binary, &["prepare", image, "--seal", &seal]).output().unwrap()
    }

    /// Whether the userland that podman is of has this program too.
    pub fn has_program(&self, name: &str) -> bool {
        self.host.shell(&format!("command -v {name}")).status.success()
    }

    /// The graph root, as the test sees it. What is mounted there is only in [`Host::inside`].
    pub fn graph_root(&self) -> PathBuf {
        self.host.dir().join("containers/storage")
    }

    /// Mounts of containers and images, and of whoever mounts them: none when nothing runs.
    pub fn container_mounts(&self) -> Vec<String> {
        let own = ["/var/lib/containers", "/var/lib/containers/storage/overlay", "/run/layerseal"];
        let beneath = |target: &str| target.starts_with("/var/lib/containers") || target.starts_with("/run/layerseal");
        let mounts = self.host.mounts().into_iter();
        mounts.map(|m| m.target).filter(|t| beneath(t) && !own.contains(&t.as_str())).collect()
    }

    /// Flags for `build` that this machine needs: without CAP_SYS_RESOURCE a runtime cannot set the
    /// limits that buildah asks for.
    pub fn build_flags() -> &'static [&'static str] {
        const SYS_RESOURCE: u64 = 1 << 24;
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap();
        let capable = u64::from_str_radix(line.trim(), 16).unwrap() & SYS_RESOURCE != 0;
        if capable { &[] } else { &["--isolation=chroot"] }
    }

    /// podman's version: major and minor.
    pub fn version() -> (u32, u32) {
        static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
        *VERSION.get_or_init(|| {
            let host = Host::new(scratch::fresh("version"));
            let output = host.command("podman", &["--version"]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let mut numbers = text.trim().rsplit(' ').next().unwrap().split('.').map(|n| n.parse().unwrap());
            (numbers.next().unwrap(), numbers.next().unwrap())
        })
    }
}

/// Whether everything takes ten times as long here.
pub fn emulated() -> bool {
    std::env::var_os("LAYERSEAL_TEST_EMULATED").is_some()
}

/// Seals are asked for, of everything but what was built here.
pub fn default_policy() -> String {
    let verity = if has_verity() { "require" } else { "off" };
    format!(
        "version = 1\n[default]\nmode = \"enforce\"\ntrust = [\"acme\"]\nverity = \"{verity}\"\n\
         [[rule]]\nimage = \"localhost/*\"\nmode = \"off\"\n[[rule]]\nimage = \"<none>\"\nmode = \"off\"\n"
    )
}

/// Whether the stores of this run are on a filesystem with fs-verity. The VM says that they are:
/// there it must not be missing.
pub fn has_verity() -> bool {
    static VERITY: OnceLock<bool> = OnceLock::new();
    *VERITY.get_or_init(|| {
        let base = std::fs::File::open(scratch::base()).unwrap();
        // A process that another thread is just starting may have the probe's file open for writing still.
        let found = (0..5).any(|_| layerseal::prepare::probe(&base, "the test's directory").is_ok());
        let wanted = std::env::var_os("LAYERSEAL_TEST_VERITY").is_some();
        assert!(found || !wanted, "no fs-verity in {}", scratch::base().display());
        found
    })
}

/// The layouts of both images, without seals.
pub fn layouts() -> &'static Path {
    static LAYOUTS: OnceLock<PathBuf> = OnceLock::new();
    LAYOUTS.get_or_init(|| {
        let dir = scratch::fresh("layouts");
        std::fs::create_dir(&dir).unwrap();
        image::write(&dir);
        dir
    })
}

/// The layout of `image` with its seal.
pub fn sealed(image: &str) -> PathBuf {
    static SEALED: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut sealed = SEALED.lock().unwrap_or_else(PoisonError::into_inner);
    sealed.entry(image.to_owned()).or_insert_with(|| signed(image, common::signer())).clone()
}

/// A new layout of `image`, sealed by `signer`.
pub fn signed(image: &str, signer: &common::Signer) -> PathBuf {
    let dir = scratch::fresh("sealed");
    copy(&image::layout(layouts(), image), &dir);
    image::sign(&dir, image, signer);
    dir
}

/// A store with both images, pulled once: with a mount program storage writes other whiteouts than
/// without, so there are two.
fn template(program: Program) -> &'static Path {
    static WITH: OnceLock<PathBuf> = OnceLock::new();
    static WITHOUT: OnceLock<PathBuf> = OnceLock::new();
    let (cell, program) = match program {
        Program::Native | Program::Hooked | Program::Runtime => (&WITHOUT, Program::Native),
        _ => (&WITH, Program::FuseOverlayfs),
    };
    cell.get_or_init(|| {
        let dir = scratch::fresh("template");
        let podman = Podman::at(scratch::fresh("host"), program);
        for image in [APP, FRESH] {
            podman.pull(image);
        }
        std::fs::create_dir(&dir).unwrap();
        copy(&podman.host.dir().join("containers"), &dir);
        dir
    })
}

/// Takes out of the vault what was made of images, and leaves their seals: the next start is the first.
pub fn forget_use(podman: &Podman) {
    let vault = podman.graph_root().join("layerseal");
    for name in ["objects", "prepared", "layers"] {
        let _ = std::fs::remove_dir_all(vault.join(name));
    }
    common::walk(&vault.join("images"), &mut |file| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("checked.") || name.starts_with("digests.") {
            std::fs::remove_file(file).unwrap();
        }
    });
}

/// Copies a tree with everything that is in it.
pub fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp -a {} {}", from.display(), to.display());
}
