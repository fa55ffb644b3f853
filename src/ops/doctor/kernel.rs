//! What the kernel and the vault's filesystem can enforce.

use std::path::Path;

use super::{Check, State, check};
use crate::ops::Context;
use crate::prepare;
use crate::report::Case;
use crate::sys::keyring::VerityKeyring;
use crate::sys::mounts::{Configure, kernel_release};
use crate::sys::{files, verity};
use crate::vault::Vault;

pub(super) fn root() -> Check {
    let root = rustix::process::geteuid().is_root();
    let state = if root { State::Ok } else { State::Missing };
    check(
        "root",
        state,
        if root { "running as root" } else { "not running as root" },
        "mounting needs root; rootless comes later",
    )
}

pub(super) fn kernel() -> Check {
    judge_kernel(kernel_release())
}

fn judge_kernel((major, minor, patch): (u32, u32, u32)) -> Check {
    let found = format!("Linux {major}.{minor}");
    if let Some(mended) = broken((major, minor, patch)) {
        let why = format!("{found}.{patch}: the first open of each object of an image fails (verity=require)");
        return check("kernel", State::Missing, why, format!("use Linux {mended} or newer"));
    }
    match (major, minor) {
        (..6, _) | (6, ..6) => {
            check("kernel", State::Missing, found, "use Linux 6.6 or newer: older ones have no verity= for overlayfs")
        }
        (6, 6..12) => check(
            "kernel",
            State::Optional,
            format!("{found}, EROFS through loop devices"),
            "Linux 6.12 and newer mount EROFS images from files",
        ),
        _ => check("kernel", State::Ok, found, ""),
    }
}

/// Kernels that take `verity=require` and do not do what it says: the first that does again. From 7.0 on overlayfs
/// looked for the digest of a file that nobody had opened yet where it was not (f77f281b6118, mended in 7.0.7).
fn broken(release: (u32, u32, u32)) -> Option<&'static str> {
    ((7, 0, 0)..(7, 0, 7)).contains(&release).then_some("7.0.7")
}

pub(super) fn erofs() -> Check {
    match Configure::open("erofs") {
        Ok(_) => check("EROFS", State::Ok, "available", ""),
        Err(e) => check(
            "EROFS",
            State::Missing,
            e.to_string(),
            "modprobe erofs; or a kernel with CONFIG_EROFS_FS and CONFIG_EROFS_FS_XATTR",
        ),
    }
}

pub(super) fn overlay() -> Check {
    const REMEDY: &str = "modprobe overlay; verity=require needs Linux 6.6 or newer";
    let tried = Configure::open("overlay").and_then(|overlay| overlay.string("verity", "require"));
    match tried {
        Ok(()) => check("overlayfs verity=require", State::Ok, "accepted", ""),
        Err(e) => check("overlayfs verity=require", State::Missing, e.to_string(), REMEDY),
    }
}

/// The vault's filesystem, or that of the nearest directory above it that exists.
pub(super) fn filesystem(context: &Context) -> Check {
    const NAME: &str = "fs-verity";
    let existing = context.vault.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/"));
    let shown = existing.display().to_string();
    let probe = files::open_dir(existing)
        .map_err(|e| e.to_string())
        .and_then(|dir| prepare::probe(dir, &shown).map_err(|r| format!("{}: {}", r.case().what(), r.detail())));
    match probe {
        Ok(()) => check(NAME, State::Ok, format!("enabled on a file in {shown}"), ""),
        Err(why) => check(
            NAME,
            State::Missing,
            format!("{shown}: {}", why.trim_end_matches(": ")),
            Case::G06Unsupported.remedy(),
        ),
    }
}

/// What the options and versions of above are worth: see [`crate::start::probe_kernel`].
pub(super) fn proof(context: &Context) -> Option<Check> {
    const NAME: &str = "sealed files, tried";
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    Some(match crate::start::probe_kernel(&context.vault) {
        Ok(()) => check(NAME, State::Ok, "an object is read, and with another digest or without one it is not", ""),
        // It comes to no mount, which the lines above say why.
        Err(refusal) => check(NAME, State::Missing, refusal.to_string(), ""),
    })
}

/// What the filesystem has lost of the vault: see docs/assurance.md.
pub(super) fn objects(context: &Context) -> Option<Check> {
    const NAME: &str = "objects of the vault";
    let lost = || match context.has_vault()? {
        true => Vault::open(&context.vault)?.lost_objects().map(Some),
        false => Ok(None),
    };
    Some(match lost() {
        Ok(None) => return None,
        Ok(Some(lost)) if lost.is_empty() => check(NAME, State::Ok, "none has lost its fs-verity data", ""),
        Ok(Some(lost)) => {
            let found = format!("{} of the vault's objects have lost their fs-verity data: {}", lost.len(), lost[0]);
            check(NAME, State::Missing, found, "`layerseal fsck --repair` makes them again; see docs/assurance.md")
        }
        Err(refusal) => check(NAME, State::Missing, refusal.to_string(), ""),
    })
}

pub(super) fn signatures() -> Check {
    const NAME: &str = "kernel signature checks";
    if verity::kernel_verifies() {
        return check(NAME, State::Ok, "CONFIG_FS_VERITY_BUILTIN_SIGNATURES", "");
    }
    check(
        NAME,
        State::Optional,
        "not in this kernel; layerseal's own checks do not need it",
        Case::G08Unchecked.remedy(),
    )
}

pub(super) fn keys() -> Check {
    const NAME: &str = ".fs-verity keyring";
    match VerityKeyring::find().and_then(|keyring| keyring.list()) {
        Ok(keys) if keys.is_empty() => check(
            NAME,
            State::Optional,
            "empty",
            "`layerseal keyring add-cert CERT` makes the kernel check signatures too",
        ),
        Ok(keys) => check(NAME, State::Ok, format!("{} certificates", keys.len()), ""),
        Err(refusal) => check(NAME, State::Optional, refusal.detail(), Case::G09Keyring.remedy()),
    }
}

pub(super) fn required() -> Check {
    const NAME: &str = "fs.verity.require_signatures";
    if verity::signatures_required() {
        return check(
            NAME,
            State::Missing,
            "1",
            "objects of an image carry no signature of their own: set it to 0, and let policy ask for seals",
        );
    }
    check(NAME, State::Ok, "0", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_cannot_enforce_are_named() {
        for (release, state) in [
            ((6, 1, 0), State::Missing),
            ((6, 6, 30), State::Optional),
            ((6, 12, 57), State::Ok),
            ((6, 18, 44), State::Ok),
            ((6, 19, 14), State::Ok),
            ((7, 0, 0), State::Missing),
            ((7, 0, 6), State::Missing),
            ((7, 0, 7), State::Ok),
            ((7, 3, 0), State::Ok),
        ] {
            assert!(judge_kernel(release).state == state, "{release:?}");
        }
        assert!(judge_kernel((7, 0, 3)).remedy.contains("7.0.7"));
    }
}
