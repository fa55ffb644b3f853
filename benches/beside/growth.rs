//! How cost grows with files, bytes and layers.

use std::path::Path;
use std::process::Command;

use super::measure::{Line, Usage, done, remove, usage};
use super::tools::{Place, unmount};

/// Layers, files in each, bytes of a file; and what changes.
const STEPS: [(&str, usize, usize, usize); 11] = [
    ("files 1000", 1, 1_000, 100),
    ("files 10000", 1, 10_000, 100),
    ("files 100000", 1, 100_000, 100),
    ("files 1000000", 1, 1_000_000, 100),
    ("megabytes 10", 1, 100, 100 << 10),
    ("megabytes 100", 1, 100, 1 << 20),
    ("megabytes 1000", 1, 100, 10 << 20),
    ("layers 1", 1, 1_000, 1000),
    ("layers 10", 10, 100, 1000),
    ("layers 100", 100, 10, 1000),
    ("layers 500", 500, 2, 1000),
];

pub fn all(place: &Place) {
    let target = place.path("target");
    std::fs::create_dir_all(&target).unwrap();
    place.key();
    for (case, layers, files, bytes) in STEPS.into_iter().filter(|step| place.wants(step.0)) {
        let made = place.inputs.join("growth").join(case.replace(" ", "-"));
        if !made.exists() {
            // In the VM, which has no Python, there are those that it was given.
            if place.verity {
                continue;
            }
            // Under its name when it is complete.
            let new = place.path("image");
            make(&new, layers, files, bytes);
            std::fs::create_dir_all(made.parent().unwrap()).unwrap();
            std::fs::rename(new, &made).unwrap();
        }
        let dir = place.path("growth");
        std::fs::create_dir_all(&dir).unwrap();
        let image = format!("oci:{}", made.display());
        let record = |tool: &str, runs: &[Usage]| Line { table: "growth", case, tool }.record(runs);
        record(
            "pull",
            &[usage(place.layerseal(&dir).args(["pull", "--algorithm", "sha256", &image, "--name", "bench"]))],
        );
        record("sign", &[usage(&mut place.sign(&dir))]);
        // The first mount compares a new seal with the layers.
        record("first mount", &[usage(&mut place.mount(&dir, &target))]);
        unmount(&target);
        for (tool, shape) in [("verify and mount", None), ("verify and mount --stack", Some("--stack"))] {
            // overlayfs takes 500 layers, the objects among them.
            if shape.is_some() && layers > 499 {
                continue;
            }
            let runs: Vec<Usage> = (0..10)
                .map(|_| {
                    let usage = usage(place.mount(&dir, &target).args(shape));
                    unmount(&target);
                    usage
                })
                .collect();
            record(tool, &runs);
        }
        // The small ones are for the VM.
        if layers * files * bytes > 2_000_000 {
            std::fs::remove_dir_all(&made).unwrap();
        }
        if files < 100_000 {
            std::fs::remove_dir_all(&dir).unwrap();
        } else {
            remove(&dir);
        }
    }
}

/// In a process of its own: a child's `ru_maxrss` begins with that of the process it was forked from.
fn make(dir: &Path, layers: usize, files: usize, bytes: usize) {
    let script = r#"
import hashlib, io, json, os, sys, tarfile
out, layers, files, size = sys.argv[1], *map(int, sys.argv[2:])
blobs = os.path.join(out, "blobs/sha256")
os.makedirs(blobs)
def blob(data, kind):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as file:
        file.write(data)
    return {"mediaType": kind, "digest": "sha256:" + digest, "size": len(data)}
found = []
for layer in range(layers):
    path = os.path.join(out, "layer")
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        def add(name, data=None):
            info = tarfile.TarInfo(name)
            info.mtime, info.mode = 1704067200, 0o755
            if data is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        add("usr")
        for number in range(files):
            if number % 1000 == 0:
                add(f"usr/{layer}-{number // 1000}")
            seed = f"{layer} {number} ".encode()
            add(f"usr/{layer}-{number // 1000}/file-{number}", (seed * (size // len(seed) + 1))[:size])
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    digest = digest.hexdigest()
    os.rename(path, os.path.join(blobs, digest))
    found.append(("sha256:" + digest, os.path.getsize(os.path.join(blobs, digest))))
oci = "application/vnd.oci.image."
config = {"architecture": "amd64", "os": "linux", "config": {},
          "rootfs": {"type": "layers", "diff_ids": [digest for digest, _ in found]}}
manifest = {"schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
            "config": blob(json.dumps(config).encode(), oci + "config.v1+json"),
            "layers": [{"mediaType": oci + "layer.v1.tar", "digest": d, "size": s} for d, s in found]}
entry = blob(json.dumps(manifest).encode(), oci + "manifest.v1+json")
entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
with open(os.path.join(out, "index.json"), "w") as file:
    json.dump({"schemaVersion": 2, "manifests": [entry]}, file)
with open(os.path.join(out, "oci-layout"), "w") as file:
    file.write('{"imageLayoutVersion":"1.0.0"}')
"#;
    let numbers = [layers, files, bytes].map(|n| n.to_string());
    done(Command::new("python3").args(["-c", script]).arg(dir).args(numbers));
}
