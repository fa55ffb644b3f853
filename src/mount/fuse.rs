//! fuse-overlayfs on the target, over a read-only overlay of the kernel's.
//!
//! Every byte of the image still comes through the kernel's overlay, which checks it; fuse-overlayfs
//! has the upper directory, and shows FUSE's magic number to callers that look for it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};

use super::label::label;
use super::layers::OverlayLayers;
use super::overlay::{self, Recipe};
use super::private::Private;
use super::{MountSpec, MountSummary, Mounted};
use crate::error::{Case, Refusal, Result};
use crate::protocol::IdMapping;
use crate::sys::mounts;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PROGRAM: &str = "fuse-overlayfs";
/// More than the program ever says.
const MAX_MESSAGE: u64 = 4096;

/// Mounts the kernel's overlay, which keeps no name, and fuse-overlayfs over it.
pub(super) fn mount(layers: OverlayLayers, recipe: &Recipe<'_>, place: &MountSpec) -> Result<Mounted> {
    let shown = place.target.display().to_string();
    let beneath = overlay::make(&layers, recipe, place)?;
    let private = Private::new()?;
    let lower = private.attach(&beneath)?;
    let before = identify(place)?;
    // Not close-on-exec: the program gets these two, under the numbers that its options name.
    let inherited = match &place.upper {
        Some(upper) => [&upper.upper, &upper.work].map(rustix::io::dup).into_iter().collect(),
        None => Ok(Vec::new()),
    };
    let inherited: Vec<OwnedFd> = inherited.map_err(|e| Refusal::io(&shown, e))?;
    let options = options(place, &lower.to_string_lossy(), &inherited)?;
    start(&options, before, place)
}

/// Returns whether fuse-overlayfs is where we look for it.
pub fn is_installed() -> bool {
    PATH.split(':').any(|dir| std::path::Path::new(dir).join(PROGRAM).is_file())
}

/// Becomes fuse-overlayfs, with these arguments; returns only where that fails.
pub fn hand_on(arguments: &[OsString]) -> Refusal {
    use std::os::unix::process::CommandExt as _;
    let error = Command::new(PROGRAM).args(arguments).env_clear().env("PATH", PATH).exec();
    let why = format!(
        "rootless, where it mounts instead of layerseal: {error}; or take mount_program out of this user's storage.conf"
    );
    Refusal::new(Case::I11Fuse, PROGRAM, why)
}

/// Mounts directories as they are, uppermost first, by fuse-overlayfs alone: it knows whiteouts that the kernel's
/// overlay does not (`.wh.NAME`), which containers-storage writes where it has a mount program.
pub(super) fn plain(lowers: &[OwnedFd], place: &MountSpec) -> Result<Mounted> {
    let shown = place.target.display().to_string();
    let copy = |fd: &OwnedFd| rustix::io::dup(fd).map_err(|e| Refusal::io(&shown, e));
    let before = identify(place)?;
    let above = place.above.iter();
    // Not close-on-exec, as above.
    let lowers: Vec<OwnedFd> = above.chain(lowers).map(copy).collect::<Result<_>>()?;
    let upper = place.upper.iter().flat_map(|upper| [&upper.upper, &upper.work]);
    let inherited: Vec<OwnedFd> = upper.map(copy).collect::<Result<_>>()?;
    let names: Vec<String> = lowers.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let options = options(place, &names.join(":"), &inherited)?;
    start(&options, before, place)
}

fn start(options: &str, before: mounts::MountId, place: &MountSpec) -> Result<Mounted> {
    let shown = place.target.display().to_string();
    let ran = run(options, place);
    let after = identify(place)?;
    match ran {
        Ok(()) if after != before && after.is_root => Ok(Mounted::new(true, after, MountSummary::FUSE)),
        Ok(()) => Err(Refusal::new(Case::I11Fuse, shown, "it ended well, and nothing is mounted")),
        Err(refusal) => {
            if after != before && after.is_root {
                let _ = mounts::detach(&place.target);
            }
            Err(refusal)
        }
    }
}

fn identify(place: &MountSpec) -> Result<mounts::MountId> {
    let refuse = |e| Refusal::new(Case::I05Attach, place.target.display().to_string(), e);
    mounts::identify(mounts::open_target(&place.target).map_err(refuse)?).map_err(refuse)
}

fn options(place: &MountSpec, lower: &str, inherited: &[OwnedFd]) -> Result<String> {
    let how = &place.how;
    let mut options = vec![format!("lowerdir={lower}")];
    if let [upper, work] = inherited {
        // A name in the program's own `/proc/self`: it resolves it once.
        options.push(format!("upperdir=/proc/self/fd/{}", upper.as_raw_fd()));
        options.push(format!("workdir=/proc/self/fd/{}", work.as_raw_fd()));
    } else {
        options.push("ro".into());
    }
    options.extend(ids("uid", &how.uids));
    options.extend(ids("gid", &how.gids));
    let label = label(how.context.as_deref())?;
    options.extend(label.map(|label| format!("context=\"{label}\"")));
    let flags = [("volatile", how.volatile && place.upper.is_some()), ("nosuid", how.nosuid), ("noexec", how.noexec)];
    options.extend(flags.iter().filter(|(_, set)| *set).map(|(flag, _)| (*flag).to_owned()));
    options.push(if how.dev { "dev" } else { "nodev" }.into());
    Ok(options.join(","))
}

fn ids(kind: &str, mapping: &IdMapping) -> Option<String> {
    match mapping {
        IdMapping::None => None,
        IdMapping::Map(extents) if extents.is_empty() => None,
        IdMapping::Map(extents) => {
            // The first colon is the one that containers-storage writes; every version knows it.
            let text: String = extents.iter().map(|e| format!(":{}:{}:{}", e.container, e.host, e.size)).collect();
            Some(format!("{kind}mapping={text}"))
        }
        IdMapping::Squash(id) => Some(format!("squash_to_{kind}={id}")),
    }
}

fn run(options: &str, place: &MountSpec) -> Result<()> {
    let io = |e: &dyn std::fmt::Display| Refusal::new(Case::I11Fuse, PROGRAM, e);
    // A file and not a pipe: what stays in the background keeps it open, and nobody waits for its end.
    let target = std::path::absolute(&place.target).map_err(|e| io(&e))?;
    let mut said = File::from(memfd_create("stderr", MemfdFlags::CLOEXEC).map_err(|e| io(&e))?);
    let status = Command::new(PROGRAM)
        .arg("-o")
        .arg(options)
        .arg(target)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.try_clone().map_err(|e| io(&e))?)
        .status()
        .map_err(|e| io(&e))?;
    let mut words = Vec::new();
    let _ = said.rewind().and_then(|()| (&said).take(MAX_MESSAGE).read_to_end(&mut words));
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    match status.success() {
        true if words.is_empty() => Ok(()),
        true => {
            log::debug!("{PROGRAM}: {words}");
            Ok(())
        }
        false => Err(io(&format!("{status}: {words}"))),
    }
}
