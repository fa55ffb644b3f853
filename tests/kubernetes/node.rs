//! A node's root filesystem, as far as the installer needs one, with the programs that it calls there.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is called on the node: it notes that it was, and does not start CRI-O where the drop-in says so.
const SYSTEMCTL: &str = r##"#!/bin/sh
echo "$*" >>/run/systemctl.log
file=/etc/crio/crio.conf.d/10-layerseal-runtime.conf
[ -e "$file" ] || exit 0
while read -r line; do [ "$line" != "# broken" ] || exit 1; done <"$file"
"##;

pub const AUDIT: &str = "version = 1\n[default]\nmode = \"audit\"\n";

pub struct Node {
    /// With `host`, the root filesystem, and what the image and the ConfigMap have.
    pub dir: tempfile::TempDir,
}

/// How a run of the installer ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub text: String,
}

/// In memory where that can be: the programs are large and synced each time.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let at = if memory.is_dir() { memory.to_owned() } else { support::scratch_dir() };
    tempfile::Builder::new().prefix("layerseal-node.").tempdir_in(at).unwrap()
}

/// Copies the libraries of a program to where it looks for them.
fn libraries(host: &Path, program: &Path) {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let mut text = String::from_utf8(output.stdout).unwrap();
    // Loaded later, by the name that is in the program: no tool sees that.
    let known = Command::new("/sbin/ldconfig").arg("-p").output().unwrap();
    let known = String::from_utf8(known.stdout).unwrap();
    text.extend(known.lines().filter(|line| ["libcrypto.so.3 ", "libssl.so.3 "].iter().any(|l| line.contains(l))));
    for library in text.split_whitespace().filter_map(|word| word.strip_prefix('/')) {
        let to = host.join(library);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(Path::new("/").join(library), to).unwrap();
    }
}

impl Node {
    /// A node with CRI-O and without layerseal, and a ConfigMap with a policy and the runtime's path.
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            support::skip!("needs root");
        }
        if !Path::new("/usr/bin/crun").exists() {
            support::skip!("needs crun");
        }
        let node = Self { dir: scratch() };
        let host = node.host();
        for dir in ["host/etc/crio", "host/run", "host/proc", "programs", "config"] {
            std::fs::create_dir_all(node.dir.path().join(dir)).unwrap();
        }
        // As in a distribution with one /usr; the libraries' paths go through it.
        for dir in ["lib", "lib64", "bin"] {
            std::fs::create_dir_all(host.join("usr").join(dir)).unwrap();
            symlink(format!("usr/{dir}"), host.join(dir)).unwrap();
        }
        for name in ["realpath", "flock", "sh", "crun"] {
            let path = Path::new("/usr/bin").join(name);
            std::fs::copy(&path, host.join("usr/bin").join(name)).unwrap();
            libraries(&host, &path);
        }
        libraries(&host, support::binary());
        let binaries = support::binary().parent().unwrap();
        for name in ["layerseal", "layerseal-runtime"] {
            let to = node.programs().join(name);
            let stripped = Command::new("strip").arg("-o").arg(&to).arg(binaries.join(name)).status();
            if !stripped.is_ok_and(|s| s.success()) {
                std::fs::copy(binaries.join(name), &to).unwrap();
            }
        }
        let dropin = support::top().join("contrib/crio/10-layerseal-runtime.conf");
        std::fs::copy(dropin, node.programs().join("10-layerseal-runtime.conf")).unwrap();
        std::fs::write(host.join("usr/bin/systemctl"), SYSTEMCTL).unwrap();
        std::fs::set_permissions(host.join("usr/bin/systemctl"), std::fs::Permissions::from_mode(0o755)).unwrap();
        node.key("policy.toml", AUDIT);
        node.key("runtime.toml", "path = \"/usr/bin/crun\"\n");
        Some(node)
    }

    pub fn host(&self) -> PathBuf {
        self.dir.path().join("host")
    }

    pub fn programs(&self) -> PathBuf {
        self.dir.path().join("programs")
    }

    /// Sets a key of the ConfigMap.
    pub fn key(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.dir.path().join("config").join(name), text).unwrap();
    }

    /// Takes a key away.
    pub fn no_key(&self, name: &str) {
        std::fs::remove_file(self.dir.path().join("config").join(name)).unwrap();
    }

    pub fn text(&self, path: &str) -> String {
        let path = self.host().join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// How often systemctl was called; it must have been for CRI-O.
    pub fn restarts(&self) -> usize {
        let log = std::fs::read_to_string(self.host().join("run/systemctl.log")).unwrap_or_default();
        assert!(log.lines().all(|line| line == "restart crio"), "{log}");
        log.lines().count()
    }

    /// A script of the installer, as in its container, with the node's /proc.
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("unshare");
        let mount = format!("mount -t proc proc \"$LAYERSEAL_HOST/proc\"; {script}");
        command.args(["-m", "sh", "-euc", &mount]);
        command.env("LAYERSEAL_HOST", self.host()).env("LAYERSEAL_PROGRAMS", self.programs());
        command.env("LAYERSEAL_CONFIG", self.dir.path().join("config"));
        command.env("INSTALL", support::top().join("contrib/kubernetes/install.sh"));
        command
    }

    fn ran(mut command: Command) -> Ran {
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        Ran { code: output.status.code(), text: String::from_utf8(said).unwrap() }
    }

    pub fn run(&self, verb: &str) -> Ran {
        Self::ran(self.command(&format!("exec sh \"$INSTALL\" {verb}")))
    }

    /// The same with other settings.
    pub fn run_with(&self, verb: &str, name: &str, value: &str) -> Ran {
        let mut command = self.command(&format!("exec sh \"$INSTALL\" {verb}"));
        command.env(name, value);
        Self::ran(command)
    }

    /// Installs with these programs before all others, which may kill it: `$MAIN` is its process.
    pub fn run_by(&self, programs: &Path) -> Ran {
        let mut command = self.command("MAIN=$$; export MAIN; PATH=\"$BEFORE:$PATH\"; exec sh \"$INSTALL\" install");
        command.env("BEFORE", programs);
        Self::ran(command)
    }

    /// What the node's own layerseal says of the policy that the node has.
    pub fn policy(&self, name: &str) -> Ran {
        Self::ran(self.command(&format!("exec chroot \"$LAYERSEAL_HOST\" /usr/bin/layerseal policy check {name}")))
    }

    /// Everything below /etc and /usr/bin, with content, owner, mode, inode and time: what a second run leaves alone.
    pub fn state(&self) -> Vec<String> {
        self.listing("%P %y %m %U %i %T@ %l\\n")
    }

    /// The same by names and kinds only.
    pub fn names(&self) -> Vec<String> {
        self.listing("%P %y %m\\n")
    }

    fn listing(&self, format: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for place in ["etc", "usr/bin"] {
            let mut find = Command::new("find");
            let output = find.arg(self.host().join(place)).args(["-printf", format]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            // A directory's time changes with the copies in it.
            lines.extend(text.lines().filter(|l| !l.contains(" d ")).map(|line| format!("{place}/{line}")));
        }
        lines.sort();
        lines
    }
}
