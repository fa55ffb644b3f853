//! Images as builders make them, which 0.1.0 could not seal or start: sealed, and started under enforce.

use serde_json::{Value, json};

use crate::common::{self, Entry, Layer, Layout};
use crate::image::{self, BUSYBOX};
use crate::podman::{Podman, Program, copy};
use crate::scratch;

/// Busybox under the name of one of its programs, which is then what it does.
pub fn program(path: &str) -> Entry {
    let bytes = BUSYBOX.iter().find_map(|p| std::fs::read(p).ok()).unwrap();
    Entry::file(path, bytes).mode(0o755)
}

/// Name, layers, what of the config counts, and what its container prints.
type Case = (&'static str, Vec<Vec<Entry>>, Value, &'static str);

fn cases() -> Vec<Case> {
    let owned = |entry: Entry, uid: u64| Entry { uid, ..entry };
    // A store of packages: no /usr, a hundred layers, hard links within each, mtime 1.
    let nix = (0..100).map(|n| {
        let file = format!("nix/store/{n}-pkg/lib");
        let mut layer = vec![
            Entry { mtime: 1, ..Entry::file(&file, format!("content {n}").repeat(20)).mode(0o444) },
            Entry { mtime: 1, ..Entry::hardlink(&format!("{file}.1"), &file).mode(0o444) },
        ];
        if n == 0 {
            layer.extend([program("nix/store/bin/sh"), Entry::symlink("nix/store/bin/cat", "sh")]);
        }
        layer
    });
    let sh = |script: &str| json!({"Cmd": ["/bin/sh", "-c", script]});
    let bin = || vec![program("bin/sh"), Entry::symlink("bin/ls", "sh"), Entry::symlink("bin/cat", "sh")];
    vec![
        (
            "mysqld",
            vec![[bin(), vec![owned(Entry::dir("run/mysqld"), 33), Entry::symlink("bin/nc", "sh")]].concat()],
            json!({"User": "33", "Cmd": ["/bin/sh", "-c",
                "(sleep 3 | /bin/sh -c 'exec -a nc /bin/nc -lU /run/mysqld/s' || : >/run/mysqld/s) & \
                 i=0; while [ ! -e /run/mysqld/s ] && [ $i -lt 50 ]; do i=$((i+1)); sleep 0.1; done; \
                 [ -e /run/mysqld/s ] && echo written; kill %1 2>/dev/null; exit 0"]}),
            "written\n",
        ),
        ("scratch", vec![vec![program("true")]], json!({"Cmd": ["/true"]}), ""),
        (
            "pause",
            vec![vec![Entry::dir("./"), program("./true")]],
            json!({"Entrypoint": ["/true"], "User": "65535:65535"}),
            "",
        ),
        ("nix", nix.collect(), json!({"Cmd": ["/nix/store/bin/cat", "/nix/store/99-pkg/lib.1"]}), "content 99"),
        (
            "bazel",
            vec![bin(), vec![Entry::file("bin/app.runfiles/_main/app_/app", "data\n")]],
            sh("cat /bin/app.runfiles/_main/app_/app"),
            "data\n",
        ),
        ("ko", vec![vec![program("ko-app/echo")]], json!({"Cmd": ["/ko-app/echo", "ko"]}), "ko\n"),
        (
            "jib",
            vec![bin(), vec![Entry::file("app/libs/a.jar", "a\n")], vec![Entry::file("app/classes/Main", "main\n")]],
            sh("cat /app/libs/a.jar /app/classes/Main"),
            "a\nmain\n",
        ),
        (
            "kaniko",
            vec![
                bin(),
                vec![
                    Entry::dir("/"),
                    Entry::dir("srv"),
                    Entry::file("srv/old", "old"),
                    Entry::file("srv/kept", "kept\n"),
                ],
                vec![
                    Entry::dir("/"),
                    Entry::dir("srv/"),
                    Entry::file("srv/new", "new\n"),
                    Entry::file("srv/.wh.old", ""),
                ],
            ],
            sh("ls /srv; cat /srv/kept /srv/new"),
            "kept\nnew\nkept\nnew\n",
        ),
        (
            "buildkit",
            vec![
                bin(),
                vec![Entry::symlink("lib", "usr/lib"), Entry::dir("run/secrets"), Entry::file("app/f", "old\n")],
                vec![
                    Entry::file("lib/x/libnv.so", "nv\n"),
                    Entry::file("app/f", "new\n"),
                    Entry::file("app/.wh..wh..opq", ""),
                ],
            ],
            sh("cat /lib/x/libnv.so /app/f; ls -d /run/secrets"),
            "nv\nnew\n/run/secrets\n",
        ),
    ]
}

/// Its layout, sealed.
pub fn layout(image: &str, layers: &[Vec<Entry>], config: &Value) -> std::path::PathBuf {
    annotated_layout(image, layers, config, &Value::Null)
}

impl Podman {
    /// Pulls `image` from a layout; its ID.
    pub fn pull_layout(&self, image: &str, layout: &std::path::Path) -> String {
        let inside = self.host.inside("/var/tmp/layout");
        std::fs::create_dir(&inside).unwrap();
        copy(&layout.join("."), &inside);
        let id = self.ok(&["pull", "-q", &format!("oci:/var/tmp/layout:{image}")]);
        self.ok(&["untag", id.trim()]);
        self.ok(&["tag", id.trim(), image]);
        std::fs::remove_dir_all(&inside).unwrap();
        id.trim().to_owned()
    }
}

/// The same, with annotations of the manifest.
fn annotated_layout(image: &str, layers: &[Vec<Entry>], config: &Value, annotations: &Value) -> std::path::PathBuf {
    let dir = scratch::fresh("builder");
    let layers: Vec<Layer> = layers.iter().map(|entries| Layer::new(entries).gzip()).collect();
    let mut layout = Layout::new(&dir, &layers);
    let mut manifest = layout.manifest.clone();
    let raw = layout.read(manifest["config"]["digest"].as_str().unwrap());
    let mut whole: Value = serde_json::from_slice(&raw).unwrap();
    whole["config"] = config.clone();
    let media = "application/vnd.oci.image.config.v1+json";
    manifest["config"] = layout.descriptor(media, whole.to_string().as_bytes());
    if !annotations.is_null() {
        manifest["annotations"] = annotations.clone();
    }
    layout.set_manifest(&manifest);
    let mut index = layout.index();
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = image.into();
    layout.set_index(index["manifests"].clone());
    image::sign(&dir, image, common::signer());
    dir
}

#[test]
fn images_of_all_builders_start_under_enforce() {
    if !crate::ready("images of all builders") {
        return;
    }
    for program in [Program::Guarded, Program::Hooked] {
        let podman = Podman::at(scratch::fresh("host"), program);
        for (name, layers, config, wanted) in cases() {
            let image = format!("registry.example.com/acme/{name}:1");
            let dir = layout(&image, &layers, &config);
            podman.pull_layout(&image, &dir);
            let refused = podman.run(&["run", "--rm", &image]);
            assert!(!refused.status.success(), "{program:?} {name} started without a seal");
            let prepared = podman.try_prepare(&image, &dir);
            assert!(prepared.status.success(), "{name}: {}", String::from_utf8_lossy(&prepared.stderr));
            let printed = podman.ok(&["run", "--rm", &image]);
            assert!(printed.starts_with(wanted), "{program:?} {name}: {printed:?}");
        }
    }
}

/// A seal is for an image, and not for one compression of it: podman's own manifest is another than the registry's.
#[test]
fn a_seal_counts_for_the_same_image_under_another_manifest() {
    if !crate::ready("a seal and another manifest") {
        return;
    }
    let podman = Podman::at(scratch::fresh("host"), Program::Guarded);
    let image = "registry.example.com/acme/again:1";
    let layers = [vec![program("bin/sh"), Entry::file("etc/f", "f\n")]];
    let config = json!({"Cmd": ["/bin/sh", "-c", "echo started"]});
    let signed = layout(image, &layers, &config);
    // The same without compression: other blobs, another manifest, the same config.
    let plain = scratch::fresh("plain");
    let mut other = Layout::new(&plain, &[Layer::new(&layers[0])]);
    let index: Value = serde_json::from_slice(&std::fs::read(signed.join("index.json")).unwrap()).unwrap();
    let first = index["manifests"].as_array().unwrap().iter().find(|e| e.get("artifactType").is_none()).unwrap();
    let blob = |digest: &Value| {
        std::fs::read(signed.join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:"))).unwrap()
    };
    let manifest: Value = serde_json::from_slice(&blob(&first["digest"])).unwrap();
    let mut mine = other.manifest.clone();
    mine["config"] = other.descriptor("application/vnd.oci.image.config.v1+json", &blob(&manifest["config"]["digest"]));
    let put = |other: &mut Layout, manifest: &Value| {
        other.set_manifest(manifest);
        let mut index = other.index();
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = image.into();
        other.set_index(index["manifests"].clone());
    };
    let mut annotated = mine.clone();
    // podman copies them into the container.
    annotated["annotations"] = json!({"run.oci.x": "y"});
    for (what, manifest, docker, starts) in [
        ("another compression", &mine, false, true),
        ("another kind of manifest", &mine, true, true),
        ("annotations", &annotated, false, false),
        ("annotations that podman does not read", &annotated, true, false),
    ] {
        put(&mut other, manifest);
        let id = podman.pull_layout(image, &plain);
        if docker {
            podman.become_docker(id.trim());
        }
        let prepared = podman.try_prepare(image, &signed);
        assert_eq!(prepared.status.success(), starts, "{what}: {}", String::from_utf8_lossy(&prepared.stderr));
        let run = podman.run(&["run", "--rm", image]);
        assert_eq!(run.status.success(), starts, "{what}: {}", String::from_utf8_lossy(&run.stderr));
        if starts {
            podman.ok(&["run", "-d", "--name", "c", image, "/bin/sh", "-c", "sleep 30"]);
            let binary = common::binary().display().to_string();
            let status = podman.host.command(&binary, &["status", "--json"]).output().unwrap();
            let status = String::from_utf8_lossy(&status.stdout).into_owned();
            assert!(status.contains(first["digest"].as_str().unwrap()), "{what}: {status}");
            let known: serde_json::Value = serde_json::from_str(&status).unwrap();
            assert_eq!(known["mounts"][0]["signed_manifest"], first["digest"], "{what}: {status}");
            podman.ok(&["rm", "-f", "-t", "0", "c"]);
            // What was signed is denied by its own digests too, under whatever manifest it lies here.
            for digest in [&first["digest"], &manifest_of(&signed, first)["layers"][0]["digest"]] {
                podman.host.write("/etc/layerseal/deny.d/x.list", format!("{}\n", digest.as_str().unwrap()));
                let output = podman.run(&["run", "--rm", image]);
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(!output.status.success() && said.contains("R-F06"), "{what}: {digest}: {said}");
            }
            podman.host.sh("rm /etc/layerseal/deny.d/x.list");
        }
        podman.ok(&["rmi", "-f", image]);
    }
}

fn manifest_of(layout: &std::path::Path, entry: &Value) -> Value {
    let digest = entry["digest"].as_str().unwrap().trim_start_matches("sha256:");
    serde_json::from_slice(&std::fs::read(layout.join("blobs/sha256").join(digest)).unwrap()).unwrap()
}

/// Whether podman takes annotations or a health check from an image is for the manifest to say, by its kind, and not for
/// what was signed of it.
#[test]
fn d04_what_podman_reads_by_the_kind_of_manifest_counts_under_the_signed_one() {
    if !crate::ready("kinds of manifests") {
        return;
    }
    let podman = Podman::new(Program::Guarded);
    let image = "registry.example.com/acme/kind:1";
    let check = json!({"Test": ["CMD-SHELL", "true"]});
    for (what, config, annotations) in [
        ("annotations", json!({"Cmd": ["/bin/sh", "-c", "true"]}), json!({"com.example.x": "y"})),
        ("a health check", json!({"Cmd": ["/bin/sh", "-c", "true"], "Healthcheck": check}), Value::Null),
        ("one by another key", json!({"Cmd": ["/bin/sh", "-c", "true"], "healthCheck": check}), Value::Null),
    ] {
        let signed = annotated_layout(image, &[vec![program("bin/sh")]], &config, &annotations);
        let id = podman.pull_layout(image, &signed);
        let prepared = podman.try_prepare(image, &signed);
        assert!(prepared.status.success(), "{what}: {}", String::from_utf8_lossy(&prepared.stderr));
        podman.ok(&["run", "--rm", image]);
        // The same document under Docker's names, wherever the store keeps it.
        podman.become_docker(id.trim());
        let seen = podman.ok(&["image", "inspect", "--format", "{{.ManifestType}}", image]);
        assert!(seen.contains("docker"), "{what}: {seen}");
        let _ = podman.try_prepare(image, &signed);
        let output = podman.run(&["run", "--rm", image]);
        assert!(!output.status.success(), "{what}: it started under another kind of manifest");
        podman.ok(&["rmi", "-f", image]);
    }
}

impl Podman {
    /// Has the store's manifest of an image be one of Docker, and everything else as it was.
    fn become_docker(&self, id: &str) {
        let home = self.graph_root().join("overlay-images");
        let old = std::fs::read_to_string(home.join(id).join("manifest")).unwrap();
        let new = old
            .replace(
                "application/vnd.oci.image.manifest.v1+json",
                "application/vnd.docker.distribution.manifest.v2+json",
            )
            .replace("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
            .replace("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip")
            .replace("application/vnd.oci.image.layer.v1.tar\"", "application/vnd.docker.image.rootfs.diff.tar\"");
        assert_ne!(old, new);
        let digest = |text: &str| layerseal::digest::BlobDigest::of(text.as_bytes()).to_string();
        let key = |text: &str| format!("manifest-{}", digest(text));
        for entry in std::fs::read_dir(home.join(id)).unwrap().flatten() {
            if std::fs::read_to_string(entry.path()).is_ok_and(|text| text == old) {
                let name = entry.file_name().into_string().unwrap();
                let name = if name == "manifest" { name } else { base64_key(&key(&new)) };
                std::fs::remove_file(entry.path()).unwrap();
                std::fs::write(home.join(id).join(name), &new).unwrap();
            }
        }
        crate::refusals::edit_json(self, "overlay-images/images.json", |all| {
            for image in all.iter_mut().filter(|image| image["id"] == id) {
                let text = image.to_string().replace(&digest(&old), &digest(&new));
                *image = serde_json::from_str(&text).unwrap();
                image["big-data-sizes"]["manifest"] = new.len().into();
                image["big-data-sizes"][key(&new)] = new.len().into();
            }
        })
        .keep();
    }
}

/// How containers-storage names the file of a key that is no plain name.
fn base64_key(key: &str) -> String {
    format!("={}", openssl::base64::encode_block(key.as_bytes()))
}
