//! What only a kernel with fs-verity can show. Runs as root in the VM, one test at a time: keyring
//! and sysctls are the whole machine's.
#![allow(missing_docs)]

mod boots;
mod corpus;
mod elsewhere;
mod enforce;
mod filesystems;
mod g_verity;
mod interop;
mod k_after;
mod keyring;
mod mapped;
mod selinux;
mod start;
mod tamper;
mod token;
mod upkeep;

use std::path::PathBuf;
use support::{common, disk, host, tree};

use common::{Bench, Run, two_layers};

/// A sealed and pulled image, and a directory to mount it on.
struct Sealed {
    bench: Bench,
}

impl Sealed {
    pub fn new() -> Self {
        Self::in_bench(Bench::new())
    }

    pub fn in_bench(bench: Bench) -> Self {
        bench.sealed(&two_layers());
        bench.run(&["pull", "oci:image", "--name", "app", "--require-signature", "--trust", "signer.crt"]).ok();
        std::fs::create_dir(bench.path("root")).unwrap();
        Self { bench }
    }

    pub fn mount(&self) -> Run {
        self.mount_with(&[])
    }

    pub fn mount_with(&self, more: &[&str]) -> Run {
        self.bench.run(&[&["mount", "app", "root", "--require-signature", "--trust", "signer.crt"][..], more].concat())
    }

    pub fn root(&self, path: &str) -> PathBuf {
        self.bench.path("root").join(path)
    }

    /// The object that holds `content`.
    pub fn object(&self, content: &[u8]) -> PathBuf {
        self.bench
            .vault()
            .join("objects")
            .join(layerseal::digest::verity_digest(layerseal::digest::Algorithm::Sha512, content).object_path())
    }

    /// The object of the EROFS image that is mounted.
    pub fn rootfs(&self) -> PathBuf {
        let digest = self.bench.run(&["digest", "app", "--json"]).ok().json();
        let rootfs = digest["roles"].as_array().unwrap().iter().find(|r| r["role"] == "rootfs").unwrap()["digest"]
            .as_str()
            .unwrap()
            .to_owned();
        self.bench.vault().join("objects").join(&rootfs[..2]).join(&rootfs[2..])
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        while layerseal::sys::mounts::detach(&self.bench.path("root")).is_ok() {}
    }
}

/// What a system call gave, as the name of its error.
pub fn errno(result: std::io::Result<impl Sized>) -> i32 {
    result.err().and_then(|e| e.raw_os_error()).unwrap_or(0)
}

pub const TOOL: [u8; 5000] = [b'x'; 5000];

/// A file as fs-verity wants it: under one more name, beside its own.
pub fn draft(path: impl AsRef<std::path::Path>) -> layerseal::sys::draft::Draft {
    let path = path.as_ref();
    let dir = std::fs::File::open(path.parent().unwrap()).unwrap();
    layerseal::sys::draft::Draft::of(&std::fs::File::open(path).unwrap(), dir).unwrap()
}

/// Whether the kernel can do all of it: 6.1 cannot.
pub fn new_enough() -> bool {
    layerseal::sys::mounts::kernel_version() >= (6, 12)
}
