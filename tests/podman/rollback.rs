//! D10: a build that is older than one that this host has started.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::{Bench, Layout, signer};
use crate::image::{self, APP, FRESH, repository};
use crate::podman::{Podman, Program, copy, default_policy, layouts};
use crate::{ready, scratch};

/// A layout of `image` with a seal for the name of [`APP`], with this sequence.
fn sealed(image: &str, sequence: Option<&str>) -> PathBuf {
    sealed_for(image, sequence, Some(repository(APP)))
}

/// The same for any name, or for none.
fn sealed_for(image: &str, sequence: Option<&str>, name: Option<&str>) -> PathBuf {
    let dir = scratch::fresh("sequence");
    copy(&image::layout(layouts(), image), &dir);
    let bench = Bench::new();
    bench.signer("signer", signer());
    let reference = format!("oci:{}:{image}", dir.display());
    let mut args = vec!["sign", &reference, "--cert", "signer.crt", "--key", "signer.key"];
    args.extend(name.iter().flat_map(|name| ["--identity", name]));
    args.extend(sequence.iter().flat_map(|s| ["--sequence", s]));
    bench.run(&args).ok();
    dir
}

impl Podman {
    /// Gives `image` the name of [`APP`], and the seal to the vault.
    fn becomes_app(&self, image: &str, sequence: Option<&str>) {
        self.becomes_app_by(image, &sealed(image, sequence));
    }

    /// The same with the seal in this layout.
    fn becomes_app_by(&self, image: &str, sealed: &Path) {
        let vault = self.graph_root().join("layerseal");
        let _ = std::fs::remove_dir_all(vault.join("images"));
        self.ok(&["tag", image, APP]);
        let reference = format!("oci:{}:{image}", sealed.display());
        let binary = crate::common::binary().display().to_string();
        let args = ["prepare", APP, "--seals-only", "--seal", &reference];
        let output = self.host.command(&binary, &args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn d10_an_older_build_of_a_name_does_not_start() {
    if !ready("rollback") {
        return;
    }
    let podman = Podman::pulled(Program::Layerseal);
    podman.ok(&["tag", APP, "registry.example.com/acme/new:1"]);
    let new = "registry.example.com/acme/new:1";
    let floors = "ls /var/lib/layerseal/floors 2>/dev/null | wc -l";
    // Nobody keeps count unless the policy says so.
    podman.becomes_app(APP, Some("5"));
    podman.starts(APP);
    assert_eq!(podman.host.sh(floors).trim(), "0");
    podman.policy(&default_policy().replace("[default]\n", "[default]\nrollback = \"refuse\"\n"));
    podman.starts(APP);
    podman.starts(APP);
    assert_eq!(podman.host.sh(floors).trim(), "1");
    // A damaged floor is a matter of its own name.
    let other = "$(printf %s registry.example.com/acme/other | sha256sum | cut -d' ' -f1)";
    podman.host.sh(&format!(": >/var/lib/layerseal/floors/{other}; : >/var/lib/layerseal/floors/.new-999999999-0"));
    podman.starts(APP);
    // An older build, signed all the same, under the same name.
    for sequence in [Some("4"), None] {
        podman.becomes_app(FRESH, sequence);
        podman.refused(APP, &["D10"]);
    }
    // The same number again, and a newer one: from then on the first is too old.
    for sequence in ["5", "6"] {
        podman.becomes_app(FRESH, Some(sequence));
        podman.starts(APP);
    }
    podman.ok(&["tag", new, APP]);
    podman.becomes_app(APP, Some("5"));
    podman.refused(APP, &["D10"]);
    // A floor that cannot be read is not one that is not there.
    podman.host.sh("cd /var/lib/layerseal/floors; for f in *; do cp $f /var/tmp/floor; echo x >$f; done");
    podman.refused(APP, &["D10"]);
    podman.host.sh("chmod 777 /var/lib/layerseal/floors");
    podman.refused(APP, &["D10"]);
    podman.host.sh("rm -r /var/lib/layerseal/floors");
    podman.starts(APP);
}

/// The name of a floor is that of the image, whatever its signer once called the registry; and what does not tell how old
/// it is passes under no floor.
#[test]
fn d10_an_older_build_is_one_by_any_spelling_of_its_name() {
    if !ready("rollback by other spellings") {
        return;
    }
    let podman = Podman::pulled(Program::Layerseal);
    let policy = |more: &str| {
        podman.policy(&default_policy().replace("[default]\n", &format!("[default]\nrollback = \"refuse\"\n{more}")));
    };
    policy("");
    let [newer, older] = ["Registry.Example.com:443/acme/app", "registry.example.com./acme/app"];
    podman.becomes_app_by(APP, &sealed_for(APP, Some("5"), Some(newer)));
    podman.starts(APP);
    for name in [older, newer, repository(APP)] {
        for sequence in [Some("4"), None] {
            podman.becomes_app_by(FRESH, &sealed_for(FRESH, sequence, Some(name)));
            podman.refused(APP, &["D10"]);
        }
    }
    // Where no name is asked for, and no statement.
    policy("identity = false\nbinding = \"local\"\n");
    let old = sealed_for(FRESH, Some("4"), Some(older));
    podman.becomes_app_by(FRESH, &old);
    podman.refused(APP, &["D10"]);
    podman.becomes_app_by(FRESH, &without_statement(&old));
    podman.refused(APP, &["D16"]);
    podman.becomes_app_by(FRESH, &sealed_for(FRESH, Some("6"), None));
    podman.refused(APP, &["D18"]);
    podman.becomes_app_by(FRESH, &sealed_for(FRESH, Some("6"), Some(older)));
    podman.starts(APP);
    // A floor as an earlier version noted it.
    podman.host.sh(&format!(
        "cd /var/lib/layerseal/floors; rm *; printf '{newer}\\n7\\n' >$(printf %s {newer} | sha256sum | cut -d' ' -f1)"
    ));
    podman.refused(APP, &["D10"]);
    let binary = crate::common::binary().display().to_string();
    let reset = podman.host.command(&binary, &["floors", "reset", repository(APP)]).output().unwrap();
    assert!(reset.status.success(), "{reset:?}");
    podman.starts(APP);
}

/// The layout with its seal, without the statement in that: anybody can make this.
fn without_statement(sealed: &Path) -> PathBuf {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let dir = scratch::fresh("stripped");
    copy(sealed, &dir);
    let mut layout = Layout::new(&scratch::fresh("none"), &[]);
    layout.path = dir.clone();
    let mut entries = layout.index()["manifests"].clone();
    // Without the fallback tag, which lists the seal as it was.
    entries.as_array_mut().unwrap().retain(|entry| entry["mediaType"] == MANIFEST);
    for entry in entries.as_array_mut().unwrap().iter_mut().filter(|entry| entry.get("artifactType").is_some()) {
        let digest = entry["digest"].as_str().unwrap();
        let mut artifact: Value = serde_json::from_slice(&layout.read(digest)).unwrap();
        artifact["annotations"] = json!({});
        let kind = entry["artifactType"].clone();
        *entry = layout.descriptor(MANIFEST, artifact.to_string().as_bytes());
        entry["artifactType"] = kind;
    }
    layout.set_index(entries);
    dir
}
