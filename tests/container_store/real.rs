//! A store that skopeo wrote, where there is a skopeo.

use std::path::Path;
use std::process::Command;

use layerseal::container_store::Tie;
use layerseal::digest::BlobDigest;
use serde_json::Value;

use crate::store::{call, image};

/// An empty tar: two blocks of zeros.
const TAR: [u8; 1024] = [0; 1024];

fn layout(dir: &Path) -> BlobDigest {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = BlobDigest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        digest
    };
    // As many zeros more make another layer.
    let tars = [TAR.to_vec(), [TAR, TAR].concat()];
    let diff_ids: Vec<String> = tars.iter().map(|t| put(t).to_string()).collect();
    let descriptor = |kind: &str, bytes: &[u8]| {
        serde_json::json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "size": bytes.len(),
            "digest": put(bytes).to_string()})
    };
    let config = serde_json::json!({"os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string();
    let layers: Vec<Value> = tars.iter().map(|t| descriptor("layer.v1.tar", t)).collect();
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config.as_bytes()), "layers": layers})
    .to_string();
    let index = serde_json::json!({"schemaVersion": 2,
        "manifests": [descriptor("manifest.v1+json", manifest.as_bytes())]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    BlobDigest::of(manifest.as_bytes())
}

#[test]
fn an_image_that_skopeo_stored() {
    let dir = tempfile::Builder::new().prefix("t.").tempdir_in(support::scratch_dir()).unwrap();
    let digest = layout(&dir.path().join("layout"));
    let root = dir.path().join("root");
    let to =
        format!("containers-storage:[overlay@{}+{}]localhost/app:v1", root.display(), dir.path().join("run").display());
    let copied = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci:{}", dir.path().join("layout").display()))
        .arg(to)
        .output();
    // Where it can, the driver mounts its directory on itself, and leaves it so.
    let _ = Command::new("umount").arg(root.join("overlay")).output();
    let stored = match &copied {
        Ok(output) if output.status.success() => root.join("overlay-layers/layers.json"),
        other => {
            support::skip!("an image that skopeo stored: {other:?}");
        }
    };
    let records: Value = serde_json::from_slice(&std::fs::read(stored).unwrap()).unwrap();
    let ids: Vec<&str> = records.as_array().unwrap().iter().map(|l| l["id"].as_str().unwrap()).collect();
    let diff = |id: &str| root.join("overlay").join(id).join("diff").display().to_string();
    let options = format!("lowerdir={}:{}", diff(ids[1]), diff(ids[0]));
    let target = root.join("overlay").join(ids[1]).join("merged").display().to_string();
    let claimed = image(call(&options, &target));
    assert_eq!(claimed.images[0].image.digest, digest);
    assert_eq!(claimed.images[0].names, ["localhost/app:v1"]);
    assert!(claimed.layers.iter().all(|l| l.tie == Tie::DiffId));
}
