//! What an ordinary user's containers cost: podman's own rootless overlay, fuse-overlayfs, and the service. The mount
//! namespace of the bench has an /etc/passwd of its own.

use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use measure::{Part, done, in_turn, in_turn_and_back, usage};
use support::measure;

use super::{IMAGE, MOUNT_PROGRAM, Place, Program};

const NAME: &str = "bench";
const ID: u32 = 61_234;
const FIRST_OF_THE_CONTAINERS: u32 = 6_000_000;

/// How often a container reads everything: one call of podman is a small part of it then.
const READINGS: usize = 20;

/// Files and bytes of the image that is read.
const LARGE: (usize, usize) = (5_000, 60 << 20);

const WAYS: [(&str, Program); 4] = [
    ("native", Program::Native),
    ("fuse-overlayfs", Program::FuseOverlayfs),
    ("fuse-overlayfs 2", Program::FuseOverlayfs2),
    ("layerseal", Program::Layerseal),
];

/// A user, and a service that mounts for it.
struct User<'a> {
    place: &'a Place,
    runtime: PathBuf,
    service: Child,
    _listener: UnixListener,
}

impl Place {
    /// Measures starts, and reading in a container that runs.
    pub fn rootless(&self, runs: usize) {
        let user = User::new(self);
        let image = self.image("rootless", LARGE.0, LARGE.1);
        done(Command::new("chmod").args(["-R", "a+rX"]).arg(&self.dir));
        for (way, program) in WAYS {
            user.load(way, program, &image);
        }
        let start = ["run", "--rm", "--pull", "never", IMAGE, "/bin/true"];
        let mut parts: Vec<Part<'_>> = Vec::new();
        for (way, _) in WAYS {
            done(&mut user.podman(way, &start));
            let user = &user;
            parts.push((way, Box::new(move |_| usage(&mut user.podman(way, &start)))));
        }
        in_turn_and_back("rootless", "podman run --rm", runs, parts);
        let root = self.store(MOUNT_PROGRAM);
        root.load(&image);
        let keep = ["run", "-d", "--name", "m", "--pull", "never", IMAGE, "/bin/busybox", "sleep", "10000"];
        for (way, _) in WAYS {
            done(&mut user.podman(way, &keep));
        }
        done(&mut root.podman(&keep));
        for (case, work) in [
            ("find, inside", "/bin/busybox find /usr"),
            ("stat of every file, inside", "/bin/busybox find /usr -size +0"),
            ("every file, inside", "/bin/busybox find /usr -type f -exec /bin/busybox cat {} +"),
        ] {
            let script = format!("for n in $(/bin/busybox seq {READINGS}); do {work} >/dev/null; done");
            let inside = ["exec", "m", "/bin/busybox", "sh", "-c", &script];
            let mut parts: Vec<Part<'_>> = Vec::new();
            for (way, _) in WAYS {
                let user = &user;
                parts.push((way, Box::new(move |_| usage(&mut user.podman(way, &inside)))));
            }
            let root = &root;
            parts.push(("layerseal, as root", Box::new(move |_| usage(&mut root.podman(&inside)))));
            in_turn("rootless", case, runs.min(6), parts);
        }
        for (way, _) in WAYS {
            done(&mut user.podman(way, &["rm", "-f", "-t", "0", "m"]));
        }
        done(&mut root.podman(&["rm", "-f", "-t", "0", "m"]));
    }
}

impl<'a> User<'a> {
    fn new(place: &'a Place) -> Self {
        for (file, line) in [
            ("passwd", format!("{NAME}:x:{ID}:{ID}::{}:/bin/sh\n", place.path("home").display())),
            ("group", format!("{NAME}:x:{ID}:\n")),
            ("subuid", format!("{NAME}:{FIRST_OF_THE_CONTAINERS}:65536\n")),
            ("subgid", format!("{NAME}:{FIRST_OF_THE_CONTAINERS}:65536\n")),
        ] {
            let (of_host, own) = (Path::new("/etc").join(file), place.path(file));
            let text = std::fs::read_to_string(&of_host).unwrap_or_default();
            std::fs::write(&own, text + &line).unwrap();
            done(Command::new("mount").arg("--bind").args([&own, &of_host]));
        }
        // As udev leaves it.
        let fuse = place.run.path().join("fuse");
        done(Command::new("mknod").args(["-m", "666"]).arg(&fuse).args(["c", "10", "229"]));
        done(Command::new("mount").arg("--bind").arg(&fuse).arg("/dev/fuse"));
        let policy = std::fs::read_to_string("/etc/layerseal/policy.toml").unwrap();
        std::fs::write("/etc/layerseal/policy.toml", policy + "[rootless]\nmode = \"enforce\"\n").unwrap();
        let runtime = place.run.path().join("user");
        for dir in [place.run.path(), &runtime, &place.path("home")] {
            std::fs::create_dir_all(dir).unwrap();
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        for dir in [&runtime, &place.path("home")] {
            chown(dir, Some(ID), Some(ID)).unwrap();
        }
        let listener = UnixListener::bind("/run/layerseal/serve.sock").unwrap();
        std::fs::set_permissions("/run/layerseal/serve.sock", std::fs::Permissions::from_mode(0o666)).unwrap();
        let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve --idle 600";
        let mut service = Command::new("sh");
        service.args(["-c", script, &Place::layerseal()]);
        let stdin = Stdio::from(listener.as_fd().try_clone_to_owned().unwrap());
        let service = service.stdin(stdin).spawn().unwrap();
        Self { place, runtime, service, _listener: listener }
    }

    fn home(&self, way: &str) -> PathBuf {
        self.place.path("home").join(way.replace(' ', "-"))
    }

    fn load(&self, way: &str, program: Program, image: &Path) {
        let line = program.configured();
        // podman before 5 takes a user's store from nothing but the home directory.
        let (home, runtime) = (self.home(way), self.runtime.join(way));
        let conf = home.join(".config/containers/storage.conf");
        for dir in [conf.parent().unwrap(), &runtime] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let text = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}/g\"\nrunroot = \"{}/run\"\n[storage.options.overlay]\n{line}",
            home.display(),
            runtime.display()
        );
        std::fs::write(conf, text).unwrap();
        done(Command::new("chown").args(["-R", &format!("{ID}:{ID}")]).args([&home, &runtime]));
        let policy = self.place.path("policy.json").display().to_string();
        let oci = format!("oci:{}", image.display());
        let pull = ["pull", "-q", "--signature-policy", &policy, &format!("{oci}:latest")];
        let pulled = self.podman(way, &pull).stdout(Stdio::piped()).output().unwrap();
        assert!(pulled.status.success());
        let id = String::from_utf8(pulled.stdout).unwrap().trim().to_owned();
        done(&mut self.podman(way, &["tag", &id, IMAGE]));
        if program == Program::Layerseal {
            done(&mut self.run(way, &[&Place::layerseal(), "prepare", IMAGE, "--seal", &oci]));
        }
    }

    fn podman(&self, way: &str, args: &[&str]) -> Command {
        self.run(way, &[&["podman"], args].concat())
    }

    /// Runs a program as the user.
    fn run(&self, way: &str, words: &[&str]) -> Command {
        let id = ID.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).args(words);
        let conf = self.place.root(super::NATIVE).join("containers.conf");
        command
            .current_dir("/")
            .stdout(Stdio::null())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home(way))
            .env("XDG_RUNTIME_DIR", self.runtime.join(way))
            .env("CONTAINERS_CONF", conf);
        command
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}
