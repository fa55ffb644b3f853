# Makes an OCI layout: DIR LAYERS FILES BYTES, with FILES files of BYTES bytes in each layer.
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
