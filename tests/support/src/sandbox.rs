//! A mount namespace that lives as long as its test, and programs run in it. What is mounted there is
//! seen through `/proc/PID/root`, and gone when the test ends, however it ends.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// Runs first in the namespace: nothing of this machine's `/run`, `/etc` and `/var/lib/layerseal` is written to.
const SETUP: &str = r#"set -e
mount -t tmpfs -o mode=0755 none /run
mkdir -p /run/systemd/journal /run/layerseal /var/lib/layerseal
mount -t tmpfs -o mode=0755 none /var/lib/layerseal
mount --bind "$1/journal" /run/systemd/journal
mkdir -p "$1/etc/layerseal" "$1/etc-upper/layerseal" "$1/etc-work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc-upper,workdir=$1/etc-work" none /etc
mount --bind "$1/etc/layerseal" /etc/layerseal
echo ready
cat"#;

/// The namespace.
pub struct Sandbox {
    holder: Child,
    _stdin: ChildStdin,
    journal: UnixDatagram,
}

/// What a program did in it.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// The records that the journal got meanwhile.
    pub records: Vec<String>,
}

impl Sandbox {
    /// Makes a namespace that keeps its files in `dir`; `dir/etc/layerseal` is `/etc/layerseal`. `None`, with a line
    /// that says so, where this machine has no such namespaces.
    pub fn new(dir: &Path) -> Option<Self> {
        std::fs::create_dir(dir.join("journal")).unwrap();
        let journal = bind(&dir.join("journal"));
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", SETUP, "sh"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let stdin = holder.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let sandbox = Self { holder, _stdin: stdin, journal };
        if line.trim() == "ready" {
            return Some(sandbox);
        }
        crate::skip!("the program in a mount namespace of its own: needs root, tmpfs and overlay")
    }

    /// Returns a path as the namespace sees it.
    pub fn path(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.holder.id(), path.display()))
    }

    /// Makes a command that will run in it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg("--").arg(program);
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, command: &mut Command) -> Ran {
        self.records();
        let output = command.output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            records: self.records(),
        }
    }

    /// Runs a script that must succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let ran = self.run(self.command("sh").args(["-ec", script]));
        assert_eq!(ran.code, 0, "{script}: {ran:?}");
        ran.stdout
    }

    /// Returns what the journal got since it was last asked.
    pub fn records(&self) -> Vec<String> {
        let mut records = Vec::new();
        let mut buffer = vec![0; 1 << 18];
        while let Ok(n) = self.journal.recv(&mut buffer) {
            records.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
        }
        records
    }

    /// Lists mount points, and what mountinfo says after the dash.
    pub fn mounts(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.holder.id())).unwrap();
        let line = |l: &str| {
            let (left, right) = l.split_once(" - ")?;
            Some((left.split(' ').nth(4)?.to_owned(), format!("{} {right}", left.split(' ').nth(5)?)))
        };
        text.lines().filter_map(line).collect()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A daemon in the background would keep the namespace; it ends with its mount.
        for (at, _) in self.mounts().iter().filter(|(_, options)| options.contains(" fuse")) {
            let _ = self.command("umount").arg("-l").arg(at).output();
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Binds a socket in place of journald's. Its path may be longer than a socket's can be.
fn bind(dir: &Path) -> UnixDatagram {
    let open = layerseal::sys::files::open_dir(dir).unwrap();
    let socket = UnixDatagram::bind(layerseal::sys::files::proc_path(&open) + "/socket").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}
