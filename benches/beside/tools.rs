//! The tools, and where they find what they work on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::measure::done;

/// Where everything is.
pub struct Place {
    /// To write in.
    pub dir: PathBuf,
    /// The images that inputs.sh made.
    pub inputs: PathBuf,
    /// What tools.sh got: `cfsctl`, and `composefs/` as its packages are unpacked.
    pub tools: PathBuf,
    /// Whether the filesystem has fs-verity.
    pub verity: bool,
}

impl Place {
    pub fn from_environment() -> Option<Self> {
        let var = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Some(Self {
            dir: var("LAYERSEAL_BENCH_DIR")?,
            inputs: var("LAYERSEAL_BENCH_INPUTS")?,
            tools: var("LAYERSEAL_BENCH_TOOLS")?,
            verity: std::env::var("LAYERSEAL_BENCH_VERITY").is_ok_and(|v| v == "on"),
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Returns whether the images of this name are to be measured: LAYERSEAL_BENCH_IMAGES leaves some out.
    pub fn wants(&self, name: &str) -> bool {
        std::env::var("LAYERSEAL_BENCH_IMAGES").map_or(true, |list| list.split(',').any(|word| name.starts_with(word)))
    }

    pub fn image(&self, name: &str) -> String {
        format!("oci:{}", self.inputs.join(name).display())
    }

    /// Lists the blobs of an image's layers, lowest first.
    pub fn layers(&self, name: &str) -> Vec<PathBuf> {
        let blobs = self.inputs.join(name).join("blobs/sha256");
        let read =
            |path: &Path| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
        let blob = |digest: &serde_json::Value| blobs.join(digest.as_str().unwrap().trim_start_matches("sha256:"));
        let index = read(&self.inputs.join(name).join("index.json"));
        let manifest = read(&blob(&index["manifests"][0]["digest"]));
        manifest["layers"].as_array().unwrap().iter().map(|layer| blob(&layer["digest"])).collect()
    }

    /// Makes a command of layerseal on a vault in `dir`.
    pub fn layerseal(&self, dir: &Path) -> Command {
        let mut command = Command::new(std::env::var_os("LAYERSEAL_BIN").unwrap());
        // What it says goes to the terminal only when it is a refusal.
        command.arg("--vault").arg(dir.join("vault")).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Makes a command of cfsctl on a repository in `dir`.
    pub fn cfsctl(&self, dir: &Path) -> Command {
        let mut command = Command::new(self.tools.join("cfsctl"));
        command.arg("--repo").arg(dir.join("cfs")).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    pub fn init_cfsctl(&self, dir: &Path, algorithm: &str) {
        let mut init = self.cfsctl(dir);
        init.args(["init", "--algorithm", &format!("fsverity-{algorithm}-12")]);
        if !self.verity {
            init.arg("--insecure");
        }
        done(&mut init);
    }

    /// Makes a command of a program of the composefs package, with the C library that it was built for.
    pub fn composefs(&self, program: &str) -> Command {
        let root = self.tools.join("composefs");
        let library = root.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(library.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(library).arg(root.join("usr").join(program));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Makes a key and a certificate, `key` and `crt`.
    pub fn key(&self) {
        if self.path("key").exists() {
            return;
        }
        let request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=bench -keyout key -out crt";
        done(Command::new("openssl").args(request.split(' ')).current_dir(&self.dir).stderr(Stdio::null()));
    }

    /// Pulls and signs an image into the vault of `dir`, under the name `bench`.
    pub fn sealed(&self, dir: &Path, image: &str) {
        self.key();
        std::fs::create_dir_all(dir).unwrap();
        done(self.layerseal(dir).args(["pull", "--algorithm", "sha256", image, "--name", "bench"]));
        done(&mut self.sign(dir));
    }

    pub fn sign(&self, dir: &Path) -> Command {
        let mut sign = self.layerseal(dir);
        sign.args(["sign", "bench", "--algorithm", "sha256", "--identity", "registry.example.com/bench"]);
        sign.arg("--cert").arg(self.path("crt")).arg("--key").arg(self.path("key"));
        sign
    }

    /// Verifies what is in the vault of `dir` and mounts it.
    pub fn mount(&self, dir: &Path, target: &Path) -> Command {
        let mut mount = self.layerseal(dir);
        mount.args(["mount", "bench"]).arg(target).arg("--require-signature").arg("--trust").arg(self.path("crt"));
        mount.args(["--identity", "registry.example.com/bench"]);
        if !self.verity {
            mount.args(["--verity", "off"]);
        }
        mount
    }
}

/// Unmounts, however it was mounted.
pub fn unmount(target: &Path) {
    done(Command::new("umount").arg(target));
}
