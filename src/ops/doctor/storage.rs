//! The container store: where podman has it, by which files, and whether layerseal supports its driver.

use std::path::{Path, PathBuf};

use super::{CheckState, HostCheck, check};
use crate::container_store::{Configured, configured};
use crate::error::Result;
use crate::ops::Context;
use crate::policy::{Directories, Policy};
use crate::sys::{filesystems, same_paths};
use crate::vault::{NAME, check_place};

/// Checks what is configured.
pub(super) fn look() -> (HostCheck, Result<Configured>) {
    let found = configured();
    (one(&found), found)
}

/// Returns where the vault is, or where it would be if nothing, or nothing readable, were configured.
pub fn vault() -> PathBuf {
    if let Ok(Some(dir)) = Policy::configured_vault(&Directories::system()) {
        return dir;
    }
    let root = configured().map(|found| found.graph_root);
    root.unwrap_or_else(|_| PathBuf::from("/var/lib/containers/storage")).join(NAME)
}

/// Checks that the vault can be where it is to be, and whether that is where the layers are.
pub(super) fn place(context: &Context) -> HostCheck {
    const NAME: &str = "vault";
    let found = context.vault().and_then(|vault| {
        let elsewhere = context.is_elsewhere()?;
        check_place(vault, elsewhere)?;
        Ok((vault, elsewhere))
    });
    let (vault, elsewhere) = match found {
        Ok(found) => found,
        Err(refusal) => return check(NAME, CheckState::Missing, refusal.to_string(), refusal.case().remedy()),
    };
    let shown = vault.display();
    let device = |path: &Path| std::fs::metadata(path).ok().map(|m| std::os::unix::fs::MetadataExt::dev(&m));
    let apart = device(vault).zip(vault.parent().and_then(device)).is_some_and(|(own, above)| own != above);
    match (elsewhere, apart) {
        (true, _) => {
            check(NAME, CheckState::Ok, format!("{shown}, by the policy: files of layers are copied into it"), "")
        }
        (false, true) => {
            check(NAME, CheckState::Ok, format!("{shown}, a mount of its own: files of layers are copied into it"), "")
        }
        (false, false) => check(NAME, CheckState::Ok, format!("{shown}"), ""),
    }
}

/// Checks that what podman notes in its run root ends with the boot; `None` where it does.
pub(super) fn run_root(found: &Configured) -> Option<HostCheck> {
    // podman makes it when it first runs.
    let there = found.run_root.ancestors().find_map(|path| same_paths::open_dir(path).ok())?;
    if filesystems::is_in_memory(there).ok()? {
        return None;
    }
    let shown = found.run_root.display();
    Some(check(
        "run root",
        CheckState::Optional,
        format!(
            "{shown} is on a disk: whoever can write there says where images, and roots of existing containers, are mounted"
        ),
        "let runroot in storage.conf be in /run; until then the hooks look at what is written there (O11), and the mount program cannot",
    ))
}

fn one(found: &Result<Configured>) -> HostCheck {
    const NAME: &str = "container store";
    let found = match found {
        Err(refusal) => {
            let why = format!("{}: {}", refusal.subject(), refusal.detail());
            return check(NAME, CheckState::Missing, why, "podman of this version cannot read it either");
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
        return check(NAME, CheckState::Missing, format!("{shown}: driver {driver}"), remedy);
    }
    let lost = found.image_store.iter().chain(&found.additional).find(|store| !store.is_dir());
    if let Some(lost) = lost {
        let why = format!("{shown}: {} is not there", lost.display());
        return check(
            NAME,
            CheckState::Missing,
            why,
            "make or mount that image store: podman does not start without it",
        );
    }
    check(NAME, CheckState::Ok, shown, "")
}
