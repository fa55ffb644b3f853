//! The verbs that write to a vault, a layout or a directory, what they need, and what there must be afterwards: for whoever
//! cuts them off or fills the disk beneath them.

use std::process::Command;

use crate::common::{Bench, Layout, signer};
use crate::{PULL, nothing_is_left, sealed, whole};

/// A verb, whatever became of it the first time.
pub struct Verb {
    pub args: &'static [&'static str],
    /// Makes what it needs in an empty bench.
    pub fresh: fn(&Bench),
    /// Takes away what it made, and what was left of it.
    pub again: fn(&Bench),
    /// Looks at what is there once it went well.
    pub check: fn(&Bench),
}

fn verifies(bench: &Bench, image: &str) {
    let verified = bench.run(&["verify", image, "--trust", "signer.crt", "--json"]).ok();
    assert!(verified.stdout.contains("signer"), "{}", verified.stdout);
}

fn pulled(bench: &Bench) {
    sealed(bench);
    bench.run(&PULL).ok();
}

fn remove(bench: &Bench, name: &str) {
    let _ = std::fs::remove_dir_all(bench.path(name));
}

fn unsealed(bench: &Bench) {
    remove(bench, "image");
    Layout::new(&bench.path("image"), &crate::layers());
    bench.signer("signer", signer());
}

fn in_vault(bench: &Bench) {
    nothing_is_left(bench);
    whole(bench);
}

pub const PULLING: Verb =
    Verb { args: &PULL, fresh: sealed, again: |bench| drop(std::fs::remove_dir_all(bench.vault())), check: in_vault };

pub const SIGNING: Verb = Verb {
    args: &["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key", "--identity", crate::host::APP],
    fresh: unsealed,
    again: unsealed,
    check: |bench| verifies(bench, "oci:image"),
};

/// Of an image in the vault the seal goes there.
pub const SIGNING_IN_VAULT: Verb = Verb {
    args: &["sign", "app", "--cert", "signer.crt", "--key", "signer.key", "--format", "erofs-alongside"],
    fresh: |bench| {
        unsealed(bench);
        bench.run(&["pull", "oci:image", "--name", "app"]).ok();
    },
    again: |bench| {
        remove(bench, "vault");
        bench.run(&["pull", "oci:image", "--name", "app"]).ok();
    },
    check: |bench| {
        verifies(bench, "app");
        nothing_is_left(bench);
    },
};

pub const SEALING: Verb = Verb {
    args: &["seal", "oci:image", "--inline"],
    fresh: unsealed,
    again: unsealed,
    check: |bench| drop(bench.run(&["verify", "oci:image"]).ok()),
};

fn signed_elsewhere(bench: &Bench) {
    unsealed(bench);
    if bench.path("tosign").exists() {
        return;
    }
    bench.run(&["digest", "oci:image", "--write", "tosign"]).ok();
    for entry in std::fs::read_dir(bench.path("tosign")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "tosign") {
            let mut openssl = Command::new("openssl");
            openssl.args(["smime", "-sign", "-binary", "-noattr", "-nocerts", "-md", "sha256", "-outform", "der"]);
            openssl.arg("-signer").arg(bench.path("signer.crt")).arg("-inkey").arg(bench.path("signer.key"));
            openssl.arg("-in").arg(&path).arg("-out").arg(path.with_extension("sig"));
            assert!(openssl.status().unwrap().success());
        }
    }
}

pub const ATTACHING: Verb = Verb {
    args: &["attach", "oci:image", "--signatures", "tosign"],
    fresh: signed_elsewhere,
    again: signed_elsewhere,
    check: |bench| verifies(bench, "oci:image"),
};

pub const DIGESTING: Verb = Verb {
    args: &["digest", "oci:image", "--write", "written"],
    fresh: unsealed,
    again: |bench| remove(bench, "written"),
    check: |bench| {
        for entry in std::fs::read_dir(bench.path("written")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert!(!name.starts_with(".new-"), "{name} is left");
            assert_ne!(entry.metadata().unwrap().len(), 0, "{name} is empty");
        }
    },
};

pub const PUSHING: Verb = Verb {
    args: &["push", "app", "oci:copy:v1", "--signatures"],
    fresh: pulled,
    again: |bench| remove(bench, "copy"),
    check: |bench| verifies(bench, "oci:copy:v1"),
};

pub const EXPORTING: Verb = Verb {
    args: &["export-signatures", "app", "oci:seals"],
    fresh: pulled,
    again: |bench| remove(bench, "seals"),
    check: |bench| {
        let found = bench.run(&["verify", "oci:image", "--seal", "oci:seals", "--trust", "signer.crt"]);
        found.ok();
        let seals = Layout { path: bench.path("seals"), manifest: serde_json::Value::Null, digest: crate::image() };
        assert_eq!(seals.seals().len(), 1);
    },
};

pub const TAGGING: Verb = Verb {
    args: &["tag", "app", "other"],
    fresh: pulled,
    again: |bench| drop(bench.run(&["untag", "other"])),
    check: |bench| {
        verifies(bench, "other");
        in_vault(bench);
    },
};

pub const COLLECTING: Verb = Verb {
    args: &["gc"],
    fresh: two_images,
    again: two_images,
    check: |bench| {
        whole(bench);
        nothing_is_left(bench);
        whole(bench);
        bench.run(&["verify", "other", "--trust", "signer.crt"]).refused(2, "X04");
    },
};

fn two_images(bench: &Bench) {
    if !bench.path("image").exists() {
        sealed(bench);
        Layout::new(&bench.path("other"), &crate::common::two_layers());
    }
    bench.run(&PULL).ok();
    bench.run(&["tag", "app", "kept"]).ok();
    bench.run(&["pull", "oci:other"]).ok();
    bench.run(&["untag", "other"]).ok();
}

pub const REPAIRING: Verb = Verb {
    args: &["fsck", "--repair"],
    fresh: |bench| {
        pulled(bench);
        damaged(bench);
    },
    again: damaged,
    check: in_vault,
};

fn damaged(bench: &Bench) {
    let objects: Vec<String> = bench.vault_files().into_iter().filter(|f| f.starts_with("objects/")).collect();
    for object in objects.iter().step_by(3) {
        std::fs::remove_file(bench.vault().join(object)).unwrap();
    }
}

pub const UNTAGGING: Verb = Verb {
    args: &["untag", "other"],
    fresh: |bench| {
        pulled(bench);
        bench.run(&["tag", "app", "other"]).ok();
    },
    again: |bench| drop(bench.run(&["tag", "app", "other"]).ok()),
    check: |bench| {
        bench.run(&["untag", "other"]).refused(2, "X04");
        whole(bench);
    },
};
