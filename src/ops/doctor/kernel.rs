//! What the kernel and the vault's filesystem can enforce.

use std::path::Path;

use super::{CheckState, HostCheck, check};
use crate::error::{Case, Refusal, Result};
use crate::mount::{self, MountKind};
use crate::ops::Context;
use crate::policy::Verity;
use crate::prepare;
use crate::start::{Way, probe_kernel};
use crate::sys::keyring::VerityKeyring;
use crate::sys::mounts::{Configure, kernel_release};
use crate::sys::{files, process, verity};
use crate::vault::Vault;

pub(super) fn root() -> HostCheck {
    let root = process::is_real_root();
    let (state, found) = if root {
        (CheckState::Ok, "running as root")
    } else {
        (CheckState::Unknown, "not running as root: signing, verifying and copying work; mounting does not")
    };
    check("root", state, found, "run `layerseal doctor` as root to see what this host can enforce")
}

pub(super) fn kernel() -> HostCheck {
    judge_kernel(kernel_release())
}

fn judge_kernel((major, minor, patch): (u32, u32, u32)) -> HostCheck {
    let found = format!("Linux {major}.{minor}");
    let broken = BROKEN.iter().find(|(from, mended, _)| (*from..*mended).contains(&(major, minor, patch)));
    if let Some((_, (major, minor, mended), why)) = broken {
        let shown = format!("{found}.{patch}: {why}");
        let remedy = format!("use Linux {major}.{minor}.{mended} or newer");
        return check("kernel", CheckState::Missing, shown, remedy);
    }
    match (major, minor) {
        (..6, _) | (6, ..6) => check(
            "kernel",
            CheckState::Missing,
            found,
            "use Linux 6.6 or newer: older ones have no verity= for overlayfs",
        ),
        (6, 6..12) => check(
            "kernel",
            CheckState::Optional,
            format!("{found}, EROFS through loop devices"),
            "Linux 6.12 and newer mount EROFS images from files",
        ),
        _ => check("kernel", CheckState::Ok, found, ""),
    }
}

/// A version of the kernel.
type Release = (u32, u32, u32);

/// A fault of overlayfs: from 7.0 on it looked in the wrong place for the digest of a file that nobody had opened yet
/// (f77f281b6118).
const COLD: &str = "the first open of each object of an image fails (verity=require)";

/// CVE-2026-31514, whose record lists the versions: a fix for the end of a filesystem (8d582d65d20b in 6.12) brought it
/// to the stable branches, and it never was in a release of 7.0. Older releases of a branch do not have it.
const ZEROS: &str =
    "a reader of an EROFS image that is killed can leave pages of zeros that count as read (CVE-2026-31514)";

/// Kernels that do not show what was sealed: from the first faulty version to the first that is right again, and why.
const BROKEN: [(Release, Release, &str); 4] = [
    ((6, 12, 75), (6, 12, 80), ZEROS),
    ((6, 18, 14), (6, 18, 21), ZEROS),
    ((6, 19, 4), (6, 19, 11), ZEROS),
    ((7, 0, 0), (7, 0, 7), COLD),
];

pub(super) fn erofs() -> HostCheck {
    match Configure::open("erofs") {
        Ok(_) => check("EROFS", CheckState::Ok, "available", ""),
        Err(e) => check(
            "EROFS",
            CheckState::Missing,
            e.to_string(),
            "modprobe erofs; or a kernel with CONFIG_EROFS_FS and CONFIG_EROFS_FS_XATTR",
        ),
    }
}

pub(super) fn overlay() -> HostCheck {
    const REMEDY: &str = "modprobe overlay; verity=require needs Linux 6.6 or newer";
    let tried = Configure::open("overlay").and_then(|overlay| overlay.string("verity", "require"));
    match tried {
        Ok(()) => check("overlayfs verity=require", CheckState::Ok, "accepted", ""),
        Err(e) => check("overlayfs verity=require", CheckState::Missing, e.to_string(), REMEDY),
    }
}

/// Checks the vault's filesystem, or that of the nearest existing directory above it.
pub(super) fn filesystem(context: &Context, verity: Verity) -> HostCheck {
    const NAME: &str = "fs-verity";
    let Ok(vault) = context.vault() else {
        return check(NAME, CheckState::Missing, "there is no place for the vault", "");
    };
    let existing = vault.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/"));
    let shown = existing.display().to_string();
    let probe = files::open_dir(existing)
        .map_err(|e| e.to_string())
        .and_then(|dir| prepare::probe(dir, &shown).map_err(|r| format!("{}: {}", r.case().what(), r.detail())));
    match (probe, verity) {
        (Ok(()), Verity::Require) => check(NAME, CheckState::Ok, format!("enabled on a file in {shown}"), ""),
        (Ok(()), Verity::Off) => {
            let found = format!("not asked for (verity = \"off\" in the policy), and {shown} has it{}", run_so());
            check(
                NAME,
                CheckState::Weak,
                found,
                "remove verity = \"off\" from the policy: the kernel then checks every read",
            )
        }
        (Err(why), Verity::Off) => {
            let found = format!("not asked for (verity = \"off\" in the policy){}: {shown}: {}", run_so(), plain(&why));
            check(NAME, CheckState::Weak, found, REMEDY)
        }
        (Err(why), Verity::Require) => {
            let remedy = format!(
                "{REMEDY}. Without it: verity = \"off\" in the policy; images are then verified when they start, and what \
                 is read while they run is not checked"
            );
            check(NAME, CheckState::Missing, format!("{shown}: {}", plain(&why)), remedy)
        }
    }
}

/// What ext4 needs. tune2fs also sets the flag in the superblock that the kernel has in memory, so a mounted
/// filesystem, even the root, has it at once; the flag cannot be removed again (tune2fs(8), "verity").
const REMEDY: &str = "ext4: `tune2fs -O verity DEVICE`, which may be done while it is mounted, the root as well, and cannot \
    be undone (kernels before 5.4 mount it read-only then); or use btrfs, and a kernel with CONFIG_FS_VERITY. XFS and others have \
    none: `layerseal vault create` makes a vault for such hosts, for vault = \"DIR\" in the policy's [store]";

fn plain(why: &str) -> &str {
    why.trim_end_matches(": ")
}

/// Tells how many sealed containers run without fs-verity.
fn run_so() -> String {
    let records = mount::live().unwrap_or_default();
    match records.iter().filter(|record| record.kind == MountKind::Sealed && !record.verity).count() {
        0 => String::new(),
        count => format!("; {count} verified so {} mounted", if count == 1 { "is" } else { "are" }),
    }
}

/// Tries what the options and versions above are worth: see [`crate::start::probe_kernel`].
pub(super) fn proof(context: &Context, verity: Verity) -> Option<HostCheck> {
    const NAME: &str = "sealed files, tried";
    // It asks the kernel for something that the policy does not ask for.
    let asked = verity != Verity::Off && rustix::process::geteuid().is_root();
    let vault = context.vault().ok().filter(|_| asked)?;
    let tried = match probe_kernel(vault) {
        Ok(tried) => tried,
        // No image could be made; the lines above say why.
        Err(refusal) => return Some(check(NAME, CheckState::Missing, refusal.to_string(), "")),
    };
    let failed = |(way, result): &(Way, Result<()>)| Some((*way, result.as_ref().err()?.clone()));
    let mut failed: Vec<(Way, Refusal)> = tried.iter().filter_map(failed).collect();
    // The way of mounting matters less than showing what it must not show.
    failed.sort_by_key(|(way, refusal)| (refusal.case() != Case::G10Proof, *way != Way::ReadOnly));
    Some(match failed.first() {
        None => {
            let ways: Vec<&str> = tried.iter().map(|(way, _)| way.name()).collect();
            let found =
                format!("{}: an object is read, and with another digest or without one it is not", ways.join(", "));
            check(NAME, CheckState::Ok, found, "")
        }
        Some((way, refusal)) if refusal.case() == Case::G10Proof || *way == Way::ReadOnly => {
            check(NAME, CheckState::Missing, refusal.to_string(), "")
        }
        Some((_, refusal)) => check(NAME, CheckState::Optional, refusal.to_string(), ""),
    })
}

/// Checks what the filesystem has lost of the vault: see docs/assurance.md.
pub(super) fn objects(context: &Context) -> Option<HostCheck> {
    const NAME: &str = "objects of the vault";
    let lost = || match context.has_vault()? {
        true => Vault::open(context.vault()?)?.lost_objects().map(Some),
        false => Ok(None),
    };
    Some(match lost() {
        Ok(None) => return None,
        Ok(Some(lost)) if lost.is_empty() => check(NAME, CheckState::Ok, "none has lost its fs-verity data", ""),
        Ok(Some(lost)) => {
            let found = format!("{} of the vault's objects have lost their fs-verity data: {}", lost.len(), lost[0]);
            check(NAME, CheckState::Missing, found, "`layerseal fsck --repair` makes them again; see docs/assurance.md")
        }
        Err(refusal) => check(NAME, CheckState::Missing, refusal.to_string(), ""),
    })
}

pub(super) fn signatures() -> HostCheck {
    const NAME: &str = "kernel signature checks";
    if verity::kernel_verifies() {
        return check(NAME, CheckState::Ok, "CONFIG_FS_VERITY_BUILTIN_SIGNATURES", "");
    }
    check(
        NAME,
        CheckState::Optional,
        "not in this kernel; layerseal's own checks do not need it",
        Case::G08Unchecked.remedy(),
    )
}

pub(super) fn keys() -> HostCheck {
    const NAME: &str = ".fs-verity keyring";
    match VerityKeyring::find().and_then(|keyring| keyring.list()) {
        Ok(keys) if keys.is_empty() => check(
            NAME,
            CheckState::Optional,
            "empty",
            "`layerseal keyring add-cert CERT` makes the kernel check signatures too",
        ),
        Ok(keys) => check(NAME, CheckState::Ok, format!("{} certificates", keys.len()), ""),
        Err(refusal) => check(NAME, CheckState::Optional, refusal.detail(), Case::G09Keyring.remedy()),
    }
}

pub(super) fn required() -> HostCheck {
    const NAME: &str = "fs.verity.require_signatures";
    if verity::signatures_required() {
        return check(
            NAME,
            CheckState::Missing,
            "1",
            "objects of an image carry no signature of their own: set it to 0, and let policy ask for seals",
        );
    }
    check(NAME, CheckState::Ok, "0", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_cannot_enforce_are_named() {
        for (release, state) in [
            ((6, 1, 0), CheckState::Missing),
            ((6, 6, 30), CheckState::Optional),
            ((6, 12, 57), CheckState::Ok),
            ((6, 12, 74), CheckState::Ok),
            ((6, 12, 75), CheckState::Missing),
            ((6, 12, 79), CheckState::Missing),
            ((6, 12, 80), CheckState::Ok),
            ((6, 17, 20), CheckState::Ok),
            ((6, 18, 13), CheckState::Ok),
            ((6, 18, 14), CheckState::Missing),
            ((6, 18, 20), CheckState::Missing),
            ((6, 18, 21), CheckState::Ok),
            ((6, 18, 44), CheckState::Ok),
            ((6, 19, 3), CheckState::Ok),
            ((6, 19, 4), CheckState::Missing),
            ((6, 19, 10), CheckState::Missing),
            ((6, 19, 11), CheckState::Ok),
            ((6, 19, 14), CheckState::Ok),
            ((7, 0, 0), CheckState::Missing),
            ((7, 0, 6), CheckState::Missing),
            ((7, 0, 7), CheckState::Ok),
            ((7, 3, 0), CheckState::Ok),
        ] {
            assert!(judge_kernel(release).state == state, "{release:?}");
        }
        assert!(judge_kernel((7, 0, 3)).remedy.contains("7.0.7"));
        let zeros = judge_kernel((6, 18, 15));
        assert!(zeros.remedy.contains("6.18.21") && zeros.found.contains("6.18.15: "), "{zeros:?}");
    }
}
