//! podman on real stores, started with `mount_program = layerseal` and with fuse-overlayfs: both must
//! give the same, but for what [`differences`] lists; and what layerseal refuses must be a container
//! that does not start. Runs on a machine with podman, as root, and in the VM, where there is
//! fs-verity.
#![allow(missing_docs)]

mod artifacts;
mod builders;
mod bundles;
mod caller;
mod check;
mod configured;
mod copied;
mod crio;
mod database;
mod differences;
mod faults;
mod first_day;
mod found;
mod guard;
mod hooks;
mod hostile;
mod image;
mod log;
mod other_names;
mod own_files;
mod podman;
mod published;
mod refusals;
mod remade;
mod removals;
mod rollback;
mod run_root;
mod runtime;
mod runtime_program;
mod second_look;
mod service;
mod service_hooks;
mod service_pods;
mod service_users;
mod stores;

mod images;
mod life;
mod made_links;
mod many;
mod mounted;
mod names;
mod rootless;
mod users;
mod verdicts;
mod verity;
mod volume_links;
mod whose;

use std::process::Command;
use support::podman::{host, scratch};
use support::{common, disk, tree};

/// Whether podman can run here; says so when it cannot.
fn ready(what: &str) -> bool {
    let missing = |tool: &str| !Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success());
    let why = if !rustix::process::geteuid().is_root() {
        "root".to_owned()
    } else if !image::BUSYBOX.iter().any(|p| std::path::Path::new(p).exists()) {
        "busybox-static".to_owned()
    } else {
        let own = ["nsenter", "unshare"].into_iter();
        let podman = ["podman", "crun", "fuse-overlayfs"].into_iter().filter(|_| host::foreign().is_none());
        own.chain(podman).filter(|t| missing(t)).collect::<Vec<_>>().join(", ")
    };
    if why.is_empty() {
        return true;
    }
    support::skip!("{what}: needs {why}")
}
