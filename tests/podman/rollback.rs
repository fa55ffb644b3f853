//! D10: a build that is older than one that this host has started.

use std::path::PathBuf;

use crate::common::{Bench, signer};
use crate::image::{self, APP, FRESH, repository};
use crate::podman::{Podman, Program, copy, default_policy, layouts};
use crate::{ready, scratch};

/// A layout of `image` with a seal for the name of [`APP`], with this sequence.
fn sealed(image: &str, sequence: Option<&str>) -> PathBuf {
    let dir = scratch::fresh("sequence");
    copy(&image::layout(layouts(), image), &dir);
    let bench = Bench::new();
    bench.signer("signer", signer());
    let reference = format!("oci:{}:{image}", dir.display());
    let mut args =
        vec!["sign", &reference, "--cert", "signer.crt", "--key", "signer.key", "--identity", repository(APP)];
    args.extend(sequence.iter().flat_map(|s| ["--sequence", s]));
    bench.run(&args).ok();
    dir
}

impl Podman {
    /// Gives `image` the name of [`APP`], and the seal to the vault.
    fn becomes_app(&self, image: &str, sequence: Option<&str>) {
        let vault = self.graph_root().join("layerseal");
        let _ = std::fs::remove_dir_all(vault.join("images"));
        self.ok(&["tag", image, APP]);
        let reference = format!("oci:{}:{image}", sealed(image, sequence).display());
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
