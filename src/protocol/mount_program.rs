//! The command line of a `mount_program`.
//!
//! containers-storage calls `PROGRAM -o OPTIONS TARGET` (storage/drivers/overlay/overlay.go), with the grammar of
//! fuse-overlayfs, and so does buildah for its overlay volumes (pkg/overlay). An administrator, an image and a command
//! line all contribute to what arrives: nothing in it may weaken a check, and anything ambiguous is refused.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, PathBuf};

use super::IdMapping;
use super::split::{self, MountOption, OptionValue};
use crate::error::{Case, Refusal, Result};

/// `maxDepth` of containers-storage, and `OVL_MAX_STACK` of the kernel.
const MAX_LOWERS: usize = 500;
/// `MAX_ARG_STRLEN`: a single argument cannot be longer, and containers-storage writes a single one.
const MAX_OPTIONS: usize = 128 << 10;
/// `PATH_MAX`, with its final NUL.
const MAX_PATH: usize = 4096;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// `--version`: `podman info` shows its first line.
    Version,
    /// A mount.
    Mount(Box<MountCall>),
}

/// A mount, as the caller asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountCall {
    /// `lowerdir=`, uppermost first.
    pub lowers: Vec<PathBuf>,
    /// The data-only lower directories, which follow `::`.
    pub data_lowers: Vec<PathBuf>,
    /// `upperdir=` and `workdir=`; without them the mount is read-only, and nothing else says so.
    pub upper: Option<UpperPaths>,
    /// Where to mount. It contains no `..`.
    pub target: PathBuf,
    /// `uidmapping=` or `squash_to_uid=`.
    pub uids: IdMapping,
    /// `gidmapping=` or `squash_to_gid=`.
    pub gids: IdMapping,
    /// `xattr_permissions=`: owner and mode are in `user.containers.override_stat` (1: in
    /// `security.`).
    pub xattr_permissions: Option<u8>,
    /// `context=`, the SELinux label of everything, without its quotes.
    pub context: Option<OsString>,
    /// `volatile`: the upper directory need not survive a power cut.
    pub volatile: bool,
    /// `userxattr`: overlayfs is to use `user.overlay.` attributes.
    pub userxattr: bool,
    /// What the caller wants checked.
    pub requests: Requests,
    /// What the caller wants forbidden.
    pub restrictions: Restrictions,
    /// Options that have no meaning here, for the log: fuse-overlayfs ignores them, and callers have come to rely on
    /// it.
    pub ignored: Vec<OsString>,
}

impl MountCall {
    /// Returns whether containers-storage has mapped the IDs of the lower directories, in copies of their mounts
    /// (drivers/overlay, `mapped/N`).
    pub fn has_mapped_lowers(&self) -> bool {
        self.lowers.iter().any(|lower| lower.components().any(|part| part.as_os_str() == "mapped"))
    }

    /// Returns whether containers-storage has copied layers for other user IDs: beneath such a copy lies what it was made
    /// of, `diff1` and so on (drivers/overlay, `UpdateLayerIDMap`).
    pub fn has_copied_lowers(&self) -> bool {
        self.lowers.iter().filter_map(|lower| lower.file_name()?.as_bytes().strip_prefix(b"diff")).any(is_number)
    }
}

/// The writable part of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpperPaths {
    /// `upperdir=`.
    pub upper: PathBuf,
    /// `workdir=`.
    pub work: PathBuf,
}

/// Options of overlayfs that affect integrity. They can ask for more than this host's policy does, but never for less:
/// `verity=off`, `metacopy=off` and the like leave no trace here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// `verity=require`.
    pub verity: bool,
    /// `metacopy=on`.
    pub metacopy: bool,
    /// `redirect_dir=on`.
    pub redirect_dir: bool,
}

/// Flags of mount(2). containers-storage does not pass them on, but other callers may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// `ro`.
    pub read_only: bool,
    /// `nodev`.
    pub nodev: bool,
    /// `nosuid`.
    pub nosuid: bool,
    /// `noexec`.
    pub noexec: bool,
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// Returns whether the arguments are a mount program's and not a verb's. `--version` can be either's, with the same
/// answer.
pub fn looks_like_mount_program(argv: &[OsString]) -> bool {
    argv.first().is_some_and(|first| first.as_bytes().starts_with(b"-o"))
}

/// Parses the arguments, without the program's name.
///
/// # Errors
/// `A01` to `A13` of docs/attacks.md.
pub fn parse(argv: &[OsString]) -> Result<Invocation> {
    let usage = |what: &OsStr, why: &str| Err(Refusal::new(Case::Usage, what.to_string_lossy(), why));
    if let [only] = argv
        && (only == "--version" || only == "-V")
    {
        return Ok(Invocation::Version);
    }
    if let Some(argument) = argv.iter().find(|a| a.as_bytes().contains(&0)) {
        return usage(argument, "holds a NUL");
    }
    let mut options: Vec<u8> = Vec::new();
    let mut target: Option<&OsString> = None;
    let mut argv = argv.iter();
    while let Some(argument) = argv.next() {
        let more = match argument.as_bytes() {
            b"-o" => match argv.next() {
                Some(value) => value.as_bytes(),
                None => return usage(argument, "its value is missing"),
            },
            [b'-', b'o', more @ ..] => more,
            [] | [b'-', ..] => return usage(argument, "not an argument of a mount program"),
            _ if target.is_some() => return usage(argument, "a second target"),
            _ => {
                target = Some(argument);
                continue;
            }
        };
        // mount(8) joins several -o in the same way.
        options.push(b',');
        options.extend_from_slice(more);
        if options.len() > MAX_OPTIONS {
            return usage(OsStr::new("-o"), "longer than an argument can be");
        }
    }
    let Some(target) = target else { return usage(OsStr::new("mount program"), "the target is missing") };
    call(&split::items(&options)?, path("target", target.as_bytes().to_vec())?).map(|c| Invocation::Mount(Box::new(c)))
}

fn call(items: &[MountOption], target: PathBuf) -> Result<MountCall> {
    if target.components().any(|c| c == Component::ParentDir) {
        return Err(Refusal::new(Case::A08Target, target.display().to_string(), "it holds .."));
    }
    let mut call = MountCall { target, ..MountCall::default() };
    let (mut upper, mut work) = (None, None);
    let mut lowerdir = None;
    let mut asked = OverlayOptions::default();
    for item in items {
        let key = item.key.as_slice();
        match (key, &item.value) {
            (b"lowerdir", Some(value)) => once(&mut lowerdir, "lowerdir", value.raw.clone())?,
            (b"upperdir", Some(value)) => once(&mut upper, "upperdir", directory("upperdir", value)?)?,
            (b"workdir", Some(value)) => once(&mut work, "workdir", directory("workdir", value)?)?,
            (b"uidmapping", Some(value)) => ids(&mut call.uids, IdMapping::map("uidmapping", &value.raw)?)?,
            (b"gidmapping", Some(value)) => ids(&mut call.gids, IdMapping::map("gidmapping", &value.raw)?)?,
            (b"squash_to_uid", Some(value)) => ids(&mut call.uids, IdMapping::squash("squash_to_uid", &value.raw)?)?,
            (b"squash_to_gid", Some(value)) => ids(&mut call.gids, IdMapping::squash("squash_to_gid", &value.raw)?)?,
            (b"xattr_permissions", Some(value)) => {
                let [level @ b'0'..=b'2'] = value.raw.as_slice() else {
                    return Err(Refusal::new(Case::Usage, "xattr_permissions", "it is 0, 1 or 2"));
                };
                once(&mut call.xattr_permissions, "xattr_permissions", level - b'0')?;
            }
            (b"context", Some(value)) => {
                once(&mut call.context, "context", OsString::from_vec(split::unescape(&value.raw)?))?;
            }
            (b"verity", Some(value)) => same(&mut asked.verity, "verity", value)?,
            (b"metacopy", Some(value)) => same(&mut asked.metacopy, "metacopy", value)?,
            (b"redirect_dir", Some(value)) => same(&mut asked.redirect_dir, "redirect_dir", value)?,
            (b"volatile", None) => call.volatile = true,
            (b"userxattr", None) => call.userxattr = true,
            (b"ro", None) => call.restrictions.read_only = true,
            (b"nodev", None) => call.restrictions.nodev = true,
            (b"nosuid", None) => call.restrictions.nosuid = true,
            (b"noexec", None) => call.restrictions.noexec = true,
            // An option that needs a value and has none is not an unknown option.
            (b"lowerdir" | b"upperdir" | b"workdir" | b"uidmapping" | b"gidmapping" | b"context", None) => {
                return Err(Refusal::new(Case::Usage, String::from_utf8_lossy(key), "its value is missing"));
            }
            // `private` concerns the propagation of the mount, which is private in any case.
            _ => call.ignored.push(written(item)),
        }
    }
    call.requests = asked.resolve(call.userxattr)?;
    call.upper = match (upper, work) {
        (Some(upper), Some(work)) => Some(UpperPaths { upper, work }),
        (None, None) => None,
        (Some(_), None) => return Err(Refusal::new(Case::Usage, "upperdir", "workdir is missing")),
        (None, Some(_)) => return Err(Refusal::new(Case::Usage, "workdir", "upperdir is missing")),
    };
    let (lowers, data) = split::lowers(&lowerdir.unwrap_or_default())?;
    if lowers.is_empty() {
        return Err(Refusal::new(Case::Usage, "lowerdir", "it is missing or empty"));
    }
    if lowers.len() + data.len() > MAX_LOWERS {
        return Err(Refusal::new(Case::A03Lowers, "lowerdir", lowers.len() + data.len()));
    }
    call.lowers = lowers.into_iter().map(|l| path("lowerdir", l)).collect::<Result<_>>()?;
    call.data_lowers = data.into_iter().map(|l| path("lowerdir", l)).collect::<Result<_>>()?;
    Ok(call)
}

/// The values of the options in [`Requests`]: overlayfs knows which of them go together (fs/overlayfs/params.c,
/// `ovl_fs_params_verify`), and a caller that contradicts itself is refused rather than interpreted.
#[derive(Default)]
struct OverlayOptions {
    verity: Option<Vec<u8>>,
    metacopy: Option<Vec<u8>>,
    redirect_dir: Option<Vec<u8>>,
}

impl OverlayOptions {
    fn resolve(&self, userxattr: bool) -> Result<Requests> {
        let bad = |what: &str, why: &str| Refusal::new(Case::A06Contradiction, what, why);
        let verity = match self.verity.as_deref() {
            // Without `require` overlayfs still checks files that name a digest, and all of ours do.
            None | Some(b"off" | b"on") => false,
            Some(b"require") => true,
            Some(_) => return Err(bad("verity", "it is off, on or require")),
        };
        let metacopy = match self.metacopy.as_deref() {
            None | Some(b"off") => false,
            Some(b"on") => true,
            Some(_) => return Err(bad("metacopy", "it is off or on")),
        };
        let redirect_dir = match self.redirect_dir.as_deref() {
            None | Some(b"off" | b"follow" | b"nofollow") => false,
            Some(b"on") => true,
            Some(_) => return Err(bad("redirect_dir", "it is off, follow, nofollow or on")),
        };
        if matches!(self.verity.as_deref(), Some(b"on" | b"require")) && self.metacopy.as_deref() == Some(b"off") {
            return Err(bad("verity", "it needs metacopy, which is off"));
        }
        if metacopy && self.redirect_dir.is_some() && !redirect_dir {
            return Err(bad("metacopy", "it needs redirect_dir=on"));
        }
        if userxattr && (metacopy || redirect_dir) {
            return Err(bad("userxattr", "it excludes metacopy and redirect_dir"));
        }
        Ok(Requests { verity, metacopy, redirect_dir })
    }
}

/// Sets an option that may be given only once: neither the last nor the first one wins.
fn once<T>(slot: &mut Option<T>, option: &str, value: T) -> Result<()> {
    match slot {
        Some(_) => Err(Refusal::new(Case::A04Twice, option, "")),
        None => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn ids(slot: &mut IdMapping, value: IdMapping) -> Result<()> {
    match slot {
        IdMapping::None => {
            *slot = value;
            Ok(())
        }
        _ => Err(Refusal::new(Case::A13IdMap, "-o", "two mappings of the same kind")),
    }
}

/// Sets an option that may be repeated, as happens with storage.conf and a command line together.
fn same(slot: &mut Option<Vec<u8>>, option: &str, value: &OptionValue) -> Result<()> {
    if slot.as_ref().is_some_and(|before| *before != value.raw) {
        return Err(Refusal::new(Case::A06Contradiction, option, ""));
    }
    *slot = Some(value.raw.clone());
    Ok(())
}

fn directory(option: &str, value: &OptionValue) -> Result<PathBuf> {
    path(option, split::unescape(&value.raw)?)
}

fn path(option: &str, bytes: Vec<u8>) -> Result<PathBuf> {
    match bytes.len() {
        0 => Err(Refusal::new(Case::Usage, option, "it is empty")),
        MAX_PATH.. => Err(Refusal::new(Case::Usage, option, "longer than a path can be")),
        _ => Ok(PathBuf::from(OsString::from_vec(bytes))),
    }
}

/// Returns the option approximately as it was written: for the log.
fn written(item: &MountOption) -> OsString {
    let mut text = item.key.clone();
    if let Some(value) = &item.value {
        text.push(b'=');
        text.extend_from_slice(&value.raw);
    }
    OsString::from_vec(text)
}
