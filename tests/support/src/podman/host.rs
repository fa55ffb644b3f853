//! A separate host for one store: mount and process namespaces with a private `/etc`, `/run` and `/var/lib`, in which
//! podman, its containers and layerseal find their usual paths. All of it ends with the process that holds it, and with
//! the test, in whatever way that ends.

use std::cell::{Cell, RefCell};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use crate::common;
use crate::podman::scratch;

/// The first process of the namespaces. It says which process it is out here, and then waits for its
/// standard input to end; the kernel kills what is left when it ends. `cat` in the foreground lets
/// the shell wait for children, among them orphans.
const INIT: &str = r#"
set -eu
dir=$1 base=$2 binaries=$3 image=$4
read -r pid _ </proc/self/stat
if [ -n "$image" ]; then
    # Another system's programs: everything of this one that is needed goes under its root.
    mkdir -p "$dir/image" "$dir/upper" "$dir/root"
    mount -o loop,ro "$image" "$dir/image"
    mount -t overlay -o "lowerdir=$dir/image,upperdir=$dir/upper,workdir=$dir/work" root "$dir/root"
    cd "$dir/root"
    mkdir -p ".$base" ".$binaries"
    mount --rbind /dev dev
    mount --rbind /sys sys
    mount --bind "$base" ".$base"
    mount --bind "$binaries" ".$binaries"
    pivot_root . mnt
    cd /
    mount -t proc proc /proc
    umount -l /mnt
else
    mount -t overlay -o "lowerdir=/etc,upperdir=$dir/etc,workdir=$dir/work" etc /etc
    cd /
    mount -t proc proc /proc
fi
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=755 lib /var/lib
mount -t tmpfs -o mode=1777 shm /dev/shm
mount --bind "$dir/tmp" /var/tmp
mkdir -p /var/lib/containers /run/lock /run/layerseal
mount --bind "$dir/containers" /var/lib/containers
[ ! -d /usr/lib/layerseal ] || mount -t tmpfs -o mode=755 none /usr/lib/layerseal
# crun takes no hybrid of cgroup versions.
[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo "$pid"
cat >/dev/null
"#;

/// Returns the disk image of a system whose podman is to be tested in place of this one's.
pub fn foreign() -> Option<&'static str> {
    static FOREIGN: OnceLock<Option<String>> = OnceLock::new();
    FOREIGN.get_or_init(|| std::env::var("LAYERSEAL_TEST_ROOT").ok()).as_deref()
}

/// A mount of the host, as mountinfo shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    pub target: String,
    pub kind: String,
    pub source: String,
}

pub struct Host {
    dir: PathBuf,
    holder: RefCell<Child>,
    pid: Cell<u32>,
}

impl Host {
    /// Makes a host whose directories are in `dir`, which is made where it is missing.
    pub fn new(dir: PathBuf) -> Self {
        for name in ["etc", "work", "containers", "tmp"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        let (holder, pid) = boot(&dir);
        Self { dir, holder: RefCell::new(holder), pid: Cell::new(pid) }
    }

    /// Returns the directory on the outside that holds everything that outlives [`Self::reboot`].
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All processes and mounts are gone, and what was in `/run` and `/dev/shm`.
    // The one before was waited for in `end`, and this one is then.
    #[allow(clippy::zombie_processes)]
    pub fn reboot(&self) {
        self.end();
        let (holder, pid) = boot(&self.dir);
        self.holder.replace(holder);
        self.pid.set(pid);
    }

    fn end(&self) {
        let mut holder = self.holder.borrow_mut();
        drop(holder.stdin.take());
        let _ = holder.wait();
    }

    /// Makes a command that runs on this host.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.get().to_string(), "-m", "-p", "-w", "--", program]).args(args);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", "/root").env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    /// Runs a script on this host.
    pub fn shell(&self, script: &str) -> Output {
        self.command("sh", &["-euc", script]).output().unwrap()
    }

    /// Runs a script that must succeed, and returns what it printed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let output = self.shell(script);
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Returns where `path` of this host is for the test itself.
    pub fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid.get()))
    }

    /// Writes a file of this host, and its directory where it is missing.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.inside(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Lists all mounts.
    pub fn mounts(&self) -> Vec<Mount> {
        let text = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.pid.get())).unwrap();
        text.lines().map(parse).collect()
    }

    /// Lists the names of all processes except the first, for a look at what is left.
    pub fn processes(&self) -> Vec<String> {
        let text = self.sh("cat /proc/[0-9]*/comm 2>/dev/null || true");
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        // The first process, its cat, and those that look.
        for own in ["sh", "cat", "sh", "cat"] {
            if let Some(at) = names.iter().position(|n| n == own) {
                names.remove(at);
            }
        }
        names
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn boot(dir: &Path) -> (Child, u32) {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--propagation", "private", "sh", "-c", INIT, "init"]).arg(dir);
    command.arg(scratch::base()).arg(common::binary().parent().unwrap()).arg(foreign().unwrap_or_default());
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid = line.trim().parse().unwrap_or_else(|e| panic!("the namespaces did not come up: {e}"));
    (holder, pid)
}

fn parse(line: &str) -> Mount {
    let (left, right) = line.split_once(" - ").unwrap();
    let mut right = right.split(' ');
    Mount {
        target: left.split(' ').nth(4).unwrap().to_owned(),
        kind: right.next().unwrap().to_owned(),
        source: right.next().unwrap_or_default().to_owned(),
    }
}
