//! OCI artifacts that are mounted in a container: files of podman's store, of which nobody says what they hold.

use serde_json::json;

use layerseal::digest::BlobDigest;

use crate::guard::text;
use crate::hostile::json_of;
use crate::image::APP;
use crate::podman::{Podman, Program, default_policy};
use crate::ready;

/// Gives the only file of the only artifact another name.
fn renamed(podman: &Podman, name: &str) {
    let store = podman.graph_root().join("artifacts");
    let blob = |digest: &str| store.join("blobs").join(digest.replace(':', "/"));
    let mut index = json_of(&store.join("index.json"));
    let mut manifest = json_of(&blob(index["manifests"][0]["digest"].as_str().unwrap()));
    manifest["layers"][0]["annotations"]["org.opencontainers.image.title"] = json!(name);
    let text = manifest.to_string();
    let digest = BlobDigest::of(text.as_bytes()).to_string();
    std::fs::write(blob(&digest), &text).unwrap();
    index["manifests"][0]["digest"] = json!(digest);
    index["manifests"][0]["size"] = json!(text.len());
    std::fs::write(store.join("index.json"), index.to_string()).unwrap();
}

/// podman joins the name of an artifact's file to the directory that it is told, and mounts what lies in its place.
#[test]
fn o11_what_is_mounted_of_an_artifact_is_a_file() {
    if !ready("artifacts") {
        return;
    }
    if Podman::version() < (5, 5) {
        support::skip!("artifacts: podman {:?} mounts none", Podman::version());
    }
    for program in [Program::Hooked, Program::Runtime] {
        let podman = Podman::new(program);
        podman.host.sh("mkdir -p /var/tmp/a /var/tmp/evil; echo evil >/var/tmp/evil/file; echo one >/var/tmp/a/file");
        podman.ok(&["artifact", "add", "localhost/artifact:1", "/var/tmp/a/file"]);
        let run = |to: &str, command: &str| {
            let mount = format!("type=artifact,src=localhost/artifact:1,dst={to}");
            podman.run(&["run", "--rm", "--pull=never", "--mount", &mount, APP, "sh", "-c", command])
        };
        let starts = |what: &str| {
            let output = run("/home", "cat /home/file");
            assert!(output.status.success() && text(&output).contains("one"), "{program:?}: {what}: {}", text(&output));
        };
        starts("as it was added");
        let stage = if program == Program::Runtime { "runtime" } else { "precreate" };
        let refused = |to: &str| {
            let output = run(to, "ls -R /home; cat /home/file /home/*/file");
            assert!(!output.status.success() && !text(&output).contains("evil"), "{program:?} {to}: {}", text(&output));
            assert_eq!(podman.last(stage), ("refused".into(), "O11".into()), "{program:?} {to}: {}", text(&output));
        };
        let blob = format!("/var/lib/containers/storage/artifacts/blobs/sha256/{}", BlobDigest::of(b"one\n").hex());
        for (what, there) in [
            ("a link to a directory", format!("ln -s /var/tmp/evil {blob}")),
            ("a link to a file", format!("ln -s /var/tmp/evil/file {blob}")),
            ("a directory", format!("cp -a /var/tmp/evil {blob}")),
        ] {
            println!("{program:?}: {what}");
            podman.host.sh(&format!("mv {blob} {blob}.kept; {there}"));
            refused("/home");
            if !what.contains("link to a directory") {
                podman.host.sh(&format!("rm -r {blob}; mv {blob}.kept {blob}"));
                continue;
            }
            renamed(&podman, "..");
            // For a file that is /home, and for a directory the container's root.
            refused("/home/app");
            refused("/home");
            renamed(&podman, "file");
            podman.policy(&default_policy().replace("[default]\n", "[default]\ncover = [\"/home/file\"]\n"));
            let output = run("/home", "true");
            assert!(output.status.success(), "{program:?}: covered: {}", text(&output));
            podman.policy(&default_policy());
            podman.host.sh(&format!("rm -r {blob}; mv {blob}.kept {blob}"));
            starts("as it was");
        }
    }
}
