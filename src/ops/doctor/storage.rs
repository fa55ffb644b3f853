//! The container store: where podman has it, by which files, and whether its driver is one that we can stand behind.

use std::path::PathBuf;

use super::{Check, State, check};
use crate::identify::{Configured, configured};
use crate::report::Result;

const NAME: &str = "container store";

/// What is configured, and what is to be said of it.
pub(super) fn look() -> (Check, Result<Configured>) {
    let found = configured();
    (one(&found), found)
}

/// Where the vault is, or would be if nothing were configured.
pub fn vault() -> PathBuf {
    let root = configured().map(|found| found.graph_root);
    root.unwrap_or_else(|_| PathBuf::from("/var/lib/containers/storage")).join("layerseal")
}

fn one(found: &Result<Configured>) -> Check {
    let found = match found {
        Err(refusal) => {
            let why = format!("{}: {}", refusal.subject(), refusal.detail());
            return check(NAME, State::Missing, why, "podman of this version cannot read it either");
        }
        Ok(found) => found,
    };
    let podman =
        found.podman.map_or_else(|| "no podman, read as 5.8 does".to_owned(), |(a, b)| format!("podman {a}.{b}"));
    let by = match found.files.as_slice() {
        [] => "no storage.conf".to_owned(),
        files => files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", "),
    };
    let shown = format!("{} ({podman}, {by})", found.graph_root.display());
    if let Some(driver) = found.driver().filter(|driver| driver != "overlay") {
        let remedy = "layerseal is for the driver overlay: set driver = \"overlay\" in storage.conf, `podman system reset`, and pull anew";
        return check(NAME, State::Missing, format!("{shown}: driver {driver}"), remedy);
    }
    let lost = found.image_store.iter().chain(&found.additional).find(|store| !store.is_dir());
    if let Some(lost) = lost {
        let why = format!("{shown}: {} is not there", lost.display());
        return check(NAME, State::Missing, why, "make or mount that image store: podman does not start without it");
    }
    check(NAME, State::Ok, shown, "")
}
