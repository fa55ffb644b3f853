//! What the tests share: the binary, images made entry by entry, keys, vectors.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use layerseal::digest::BlobDigest;
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::KeyUsage;
use openssl::x509::{X509, X509NameBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Returns the directory of images and seals that other tools made: `$LAYERSEAL_VECTORS`, or else the small ones of
/// this repository.
pub fn vectors() -> PathBuf {
    std::env::var_os("LAYERSEAL_VECTORS").map_or_else(|| crate::top().join("tests/vectors"), PathBuf::from)
}

/// Finds the vectors of [`vectors`] with those that are too large for a repository.
pub fn large_vectors() -> Option<PathBuf> {
    let dir = vectors();
    if !dir.join("upstream").exists() {
        crate::skip!("large vectors: none in {}; set LAYERSEAL_VECTORS", dir.display());
    }
    Some(dir)
}

/// Takes the mount at `path` away as soon as nothing uses it: between fork and exec the processes of other tests of this
/// program have the descriptors of ours, those of mounts too.
#[track_caller]
pub fn unmount(path: &Path) {
    when_unused(|| layerseal::sys::mounts::unmount_now(path)).unwrap();
}

/// Does `work` again as long as it says that something is busy, for some seconds.
///
/// # Errors
/// Whatever `work` says in the end.
pub fn when_unused<T, E: std::fmt::Display>(work: impl Fn() -> Result<T, E>) -> Result<T, E> {
    let busy = std::io::Error::from_raw_os_error(libc::EBUSY).to_string();
    let busy = busy.split(" (os error").next().unwrap();
    for _ in 0..500 {
        match work() {
            Err(error) if error.to_string().contains(busy) => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            done => return done,
        }
    }
    work()
}

/// A run of the binary.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Checks that the run succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Checks that the run refused with this exit code and case, in one line.
    #[track_caller]
    pub fn refused(self, code: i32, case: &str) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        let errors: Vec<&str> = self.stderr.lines().filter(|l| l.starts_with("Error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", self.stderr);
        assert!(errors[0].ends_with(&format!("[R-{case}]")), "wanted R-{case}: {}", errors[0]);
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }
}

/// A separate place for one test: a vault, layouts, keys, mount points.
pub struct Bench {
    pub dir: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("t.").tempdir_in(crate::scratch_dir()).unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn vault(&self) -> PathBuf {
        self.path("vault")
    }

    /// Runs the binary with this bench's vault.
    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().unwrap())
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("--vault").arg(self.vault()).args(args).current_dir(self.dir.path()).env_remove("RUST_BACKTRACE");
        command
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes a signer's files as NAME.crt and NAME.key.
    pub fn signer(&self, name: &str, signer: &Signer) {
        self.write(&format!("{name}.crt"), &signer.cert.to_pem().unwrap());
        let key = self.write(&format!("{name}.key"), &signer.key.private_key_to_pem_pkcs8().unwrap());
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Makes a sealed image in `oci:image`, signed by `signer.crt`.
    pub fn sealed(&self, layers: &[Layer]) -> Layout {
        let layout = Layout::new(&self.path("image"), layers);
        self.signer("signer", signer());
        self.run(&[
            "sign",
            "oci:image",
            "--cert",
            "signer.crt",
            "--key",
            "signer.key",
            "--identity",
            "registry.example.com/acme/app",
            // The format that carries everything: most can go wrong with it.
            "--format",
            "erofs-alongside",
        ])
        .ok();
        layout
    }

    /// Lists the names of everything in the vault except empty directories.
    pub fn vault_files(&self) -> Vec<String> {
        let mut files = Vec::new();
        walk(&self.vault(), &mut |path| files.push(path.strip_prefix(self.vault()).unwrap().display().to_string()));
        files.sort();
        files
    }
}

pub fn walk(dir: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), each);
        } else {
            each(&entry.path());
        }
    }
}

pub use crate::binary;

/// A key with a self-signed certificate.
pub struct Signer {
    pub key: PKey<Private>,
    pub cert: X509,
}

impl Signer {
    pub fn new(name: &str, bits: u32, days_from: i64, days_to: u32) -> Self {
        let key = PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
        let mut subject = X509NameBuilder::new().unwrap();
        subject.append_entry_by_text("CN", name).unwrap();
        let subject = subject.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&openssl::bn::BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&subject).unwrap();
        builder.set_issuer_name(&subject).unwrap();
        builder.set_pubkey(&key).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        builder.set_not_before(&Asn1Time::from_unix(now + days_from * 86_400).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(days_to).unwrap()).unwrap();
        builder.append_extension(KeyUsage::new().critical().digital_signature().build().unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self { key, cert: builder.build() }
    }
}

/// Returns the signer that tests trust.
pub fn signer() -> &'static Signer {
    static SIGNER: OnceLock<Signer> = OnceLock::new();
    SIGNER.get_or_init(|| Signer::new("test signer", 2048, -1, 30))
}

/// Returns a signer that tests do not trust.
pub fn stranger() -> &'static Signer {
    static STRANGER: OnceLock<Signer> = OnceLock::new();
    STRANGER.get_or_init(|| Signer::new("stranger", 2048, -1, 30))
}

/// One entry of a tar.
#[derive(Clone)]
pub struct Entry {
    pub path: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub uid: u64,
    pub mtime: u64,
    pub content: Vec<u8>,
    pub link: Vec<u8>,
    pub device: (u32, u32),
    pub pax: Vec<(String, Vec<u8>)>,
    /// The size field of the header, where it is to be false.
    pub size: Option<u64>,
}

impl Entry {
    pub fn new(kind: u8, path: impl AsRef<[u8]>) -> Self {
        Self {
            path: path.as_ref().to_vec(),
            kind,
            mode: 0o644,
            uid: 0,
            mtime: 1_700_000_000,
            content: vec![],
            link: vec![],
            device: (0, 0),
            pax: vec![],
            size: None,
        }
    }
    pub fn dir(path: &str) -> Self {
        Self { mode: 0o755, ..Self::new(b'5', path) }
    }
    pub fn file(path: &str, content: impl AsRef<[u8]>) -> Self {
        Self { content: content.as_ref().to_vec(), ..Self::new(b'0', path) }
    }
    pub fn symlink(path: &str, target: &str) -> Self {
        Self { link: target.into(), mode: 0o777, ..Self::new(b'2', path) }
    }
    pub fn hardlink(path: &str, target: &str) -> Self {
        Self { link: target.into(), ..Self::new(b'1', path) }
    }
    pub fn device(path: &str, kind: u8, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(kind, path) }
    }
    pub fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.into(), value.as_ref().to_vec()));
        self
    }
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Writes header, content and padding: ustar, by hand so that it can be wrong on purpose.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut pax = self.pax.clone();
        if self.path.len() > 100 && !pax.iter().any(|(k, _)| k == "path") {
            pax.push(("path".into(), self.path.clone()));
        }
        if self.link.len() > 100 && !pax.iter().any(|(k, _)| k == "linkpath") {
            pax.push(("linkpath".into(), self.link.clone()));
        }
        if !pax.is_empty() {
            let mut body = Vec::new();
            for (key, value) in &pax {
                // The length counts its own digits (pax(1), "pax Header Block").
                let rest = key.len() + value.len() + 3;
                let mut length = rest;
                while length != rest + length.to_string().len() {
                    length = rest + length.to_string().len();
                }
                body.extend_from_slice(format!("{length} {key}=").as_bytes());
                body.extend_from_slice(value);
                body.push(b'\n');
            }
            out.extend(block(b'x', b"pax", 0o644, 0, 0, body.len() as u64, b"", (0, 0)));
            out.extend_from_slice(&body);
            pad(&mut out);
        }
        let size = self.size.unwrap_or(self.content.len() as u64);
        out.extend(block(
            self.kind,
            &self.path[..self.path.len().min(100)],
            self.mode,
            self.uid,
            self.mtime,
            size,
            &self.link[..self.link.len().min(100)],
            self.device,
        ));
        out.extend_from_slice(&self.content);
        pad(&mut out);
        out
    }
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(512), 0);
}

#[allow(clippy::too_many_arguments)]
fn block(
    kind: u8,
    path: &[u8],
    mode: u32,
    uid: u64,
    mtime: u64,
    size: u64,
    link: &[u8],
    device: (u32, u32),
) -> [u8; 512] {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path);
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, format!("{uid:07o}\0").as_bytes());
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, format!("{mtime:011o}\0").as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}\0", device.0).as_bytes());
    put(337, format!("{:07o}\0", device.1).as_bytes());
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// One layer: a tar, and how it is compressed.
#[derive(Clone)]
pub struct Layer {
    pub tar: Vec<u8>,
    pub compression: &'static str,
}

impl Layer {
    pub fn new(entries: &[Entry]) -> Self {
        let mut tar: Vec<u8> = entries.iter().flat_map(Entry::bytes).collect();
        tar.resize(tar.len() + 1024, 0);
        Self { tar, compression: "" }
    }

    pub fn raw(tar: Vec<u8>) -> Self {
        Self { tar, compression: "" }
    }

    pub fn gzip(mut self) -> Self {
        self.compression = "+gzip";
        self
    }

    pub fn zstd(mut self) -> Self {
        self.compression = "+zstd";
        self
    }

    pub fn blob(&self) -> Vec<u8> {
        match self.compression {
            "+gzip" => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                std::io::Write::write_all(&mut encoder, &self.tar).unwrap();
                encoder.finish().unwrap()
            }
            "+zstd" => zstd::encode_all(&self.tar[..], 3).unwrap(),
            _ => self.tar.clone(),
        }
    }
}

/// An OCI layout that a test may damage.
pub struct Layout {
    pub path: PathBuf,
    pub manifest: Value,
    pub digest: BlobDigest,
}

impl Layout {
    pub fn new(path: &Path, layers: &[Layer]) -> Self {
        std::fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        std::fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let mut layout = Self { path: path.to_owned(), manifest: Value::Null, digest: BlobDigest::of(b"") };
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|layer| {
                layout
                    .descriptor(&format!("application/vnd.oci.image.layer.v1.tar{}", layer.compression), &layer.blob())
            })
            .collect();
        let diff_ids: Vec<String> = layers.iter().map(|l| BlobDigest::of(&l.tar).to_string()).collect();
        let config = json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string();
        let config = layout.descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": descriptors});
        layout.set_manifest(&manifest);
        layout
    }

    /// Writes a blob and returns its descriptor.
    pub fn descriptor(&self, media: &str, bytes: &[u8]) -> Value {
        let digest = self.blob(bytes);
        json!({"mediaType": media, "digest": digest.to_string(), "size": bytes.len()})
    }

    pub fn blob(&self, bytes: &[u8]) -> BlobDigest {
        let digest = BlobDigest::of(bytes);
        std::fs::write(self.blob_path(&digest), bytes).unwrap();
        digest
    }

    pub fn blob_path(&self, digest: &BlobDigest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }

    /// Makes `manifest` the image `latest`, alone in the index.
    pub fn set_manifest(&mut self, manifest: &Value) {
        self.set_raw_manifest(manifest.to_string().as_bytes());
        self.manifest = manifest.clone();
    }

    pub fn set_raw_manifest(&mut self, raw: &[u8]) {
        self.digest = self.blob(raw);
        self.set_index(json!([{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": self.digest.to_string(),
            "size": raw.len(),
            "annotations": {"org.opencontainers.image.ref.name": "latest"},
        }]));
    }

    pub fn set_index(&self, manifests: Value) {
        std::fs::write(self.path.join("index.json"), json!({"schemaVersion": 2, "manifests": manifests}).to_string())
            .unwrap();
    }

    pub fn index(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path.join("index.json")).unwrap()).unwrap()
    }

    pub fn read(&self, digest: &str) -> Vec<u8> {
        std::fs::read(self.blob_path(&digest.parse().unwrap())).unwrap()
    }

    /// Returns the manifests of the seals in the index.
    pub fn seals(&self) -> Vec<Value> {
        let index = self.index();
        let entries = index["manifests"].as_array().unwrap();
        entries
            .iter()
            .filter(|e| e.get("artifactType").is_some())
            .map(|e| serde_json::from_slice(&self.read(e["digest"].as_str().unwrap())).unwrap())
            .collect()
    }

    /// Puts `artifacts` in place of all seals of the image.
    pub fn set_seals(&self, artifacts: &[Value]) {
        let image = self.index()["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .find(|e| e["digest"] == self.digest.to_string())
            .cloned()
            .unwrap();
        let mut entries = vec![image];
        for artifact in artifacts {
            let mut entry =
                self.descriptor("application/vnd.oci.image.manifest.v1+json", artifact.to_string().as_bytes());
            entry["artifactType"] = artifact["artifactType"].clone();
            entries.push(entry);
        }
        self.set_index(Value::Array(entries));
    }
}

/// Makes a small tree with everything that an image commonly has.
pub fn base() -> Vec<Entry> {
    vec![
        Entry::dir("./"),
        Entry::dir("usr/"),
        Entry::dir("usr/bin"),
        Entry::file("usr/bin/tool", vec![b'x'; 5000]).mode(0o755),
        Entry::hardlink("usr/bin/same-tool", "usr/bin/tool"),
        Entry::symlink("bin", "usr/bin"),
        Entry::dir("etc"),
        Entry::file("etc/small", "short\n"),
        Entry::file("etc/gone", vec![b'g'; 300]),
        Entry::dir("etc/opaque"),
        Entry::file("etc/opaque/lower", vec![b'l'; 300]),
        Entry::dir("run"),
        Entry::device("dev", b'5', 0, 0).mode(0o755),
        Entry::device("dev/null", b'3', 1, 3),
    ]
}

/// Makes [`base`], and a second layer that takes away and replaces.
pub fn two_layers() -> Vec<Layer> {
    vec![
        Layer::new(&base()),
        Layer::new(&[
            Entry::dir("etc"),
            Entry::file("etc/.wh.gone", ""),
            Entry::dir("etc/opaque"),
            Entry::file("etc/opaque/.wh..wh..opq", ""),
            Entry::file("etc/opaque/upper", vec![b'u'; 200]),
            Entry::file("etc/small", vec![b's'; 100]),
        ])
        .gzip(),
    ]
}
