//! Which podman this host has, and how podman of that version looks for storage.conf.
//!
//! The first podman in root's usual places for programs is asked: the package that is installed now decides, and no
//! file of the store, which another version may have written. `podman --version` tells the version, opens no store and
//! takes no lock. Distributions build podman with storage libraries of their own choice (Debian has 5.8 with podman
//! 6's), so from 5.8 on the program itself is searched for the function that reads drop-ins. The answer is kept in
//! `/run/layerseal` for as long as the program is the same file. If there is no podman (CRI-O alone), files are read as
//! CRI-O's storage 1.61 does, which podman 5.7 has.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::state::RUN;
use crate::sys::process::{self, User};
use crate::sys::{files, new_files};

/// podman's version: major and minor.
pub(super) type Version = (u32, u32);

/// The podman that is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Podman {
    pub version: Version,
    /// Whether it is built with storage 1.63 or newer.
    pub drop_ins: bool,
}

impl From<Version> for Podman {
    fn from(version: Version) -> Self {
        Self { version, drop_ins: version >= DROP_INS }
    }
}

/// What a version of podman does with its files, and earlier ones did differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The first version that does so.
    pub since: (u32, u32),
    /// Where it looks.
    pub(super) files: Files,
    /// How it treats a user's own file.
    pub(super) own: UserConfigOrder,
    /// What it assumes if its file says nothing.
    pub(super) missing: MissingRoots,
    /// Whether it knows `transient_store`.
    pub(super) transient: bool,
    /// Whether it knows `imagestore`.
    pub(super) image_store: bool,
}

/// Which files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// `$CONTAINERS_STORAGE_CONF`, or the first one that exists; nothing else.
    One,
    /// The first of the main files, then the drop-ins of all directories in the order of their names; one hides another
    /// of the same name in a less important directory (storage/pkg/configfile).
    DropIns,
}

/// When `$XDG_CONFIG_HOME/containers/storage.conf` is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserConfigOrder {
    /// Before all others.
    First,
    /// If there is no other.
    Last,
}

/// What a file without graphroot or runroot means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MissingRoots {
    /// The built-in roots are used.
    Default,
    /// podman does not start.
    Refused,
}

/// The generations, oldest first (storage/types/options.go of the library that each podman is built with).
const GENERATIONS: [Generation; 5] = [
    // storage 1.43: 4.3.
    Generation {
        since: (0, 0),
        files: Files::One,
        own: UserConfigOrder::First,
        missing: MissingRoots::Refused,
        transient: false,
        image_store: false,
    },
    // 1.45: 4.4, 4.5.
    Generation {
        since: (4, 4),
        files: Files::One,
        own: UserConfigOrder::Last,
        missing: MissingRoots::Refused,
        transient: true,
        image_store: false,
    },
    // 1.48: 4.6, to 1.58: 5.5.
    Generation {
        since: (4, 6),
        files: Files::One,
        own: UserConfigOrder::Last,
        missing: MissingRoots::Refused,
        transient: true,
        image_store: true,
    },
    // 1.59: 5.6, to 1.62: upstream's 5.8.
    Generation {
        since: (5, 6),
        files: Files::One,
        own: UserConfigOrder::Last,
        missing: MissingRoots::Default,
        transient: true,
        image_store: true,
    },
    // 1.63: 6.0.
    Generation {
        since: DROP_INS,
        files: Files::DropIns,
        own: UserConfigOrder::First,
        missing: MissingRoots::Default,
        transient: true,
        image_store: true,
    },
];

/// The first version whose storage library reads drop-ins, as released.
pub(super) const DROP_INS: Version = (6, 0);
/// The first version that somebody has built with that library.
const MAY_DROP_IN: Version = (5, 7);
/// A function that only that library has (storage/types/options.go); Go keeps the names of functions in every program.
const READS_DROP_INS: &[u8] = b"go.podman.io/storage/types.LoadStoreOptions";

/// The version that is assumed if there is no podman.
const WITHOUT: Version = (5, 7);

/// Returns how this podman reads its files.
pub(super) fn of(podman: Option<Podman>) -> &'static Generation {
    let podman = podman.unwrap_or(WITHOUT.into());
    let version = if podman.drop_ins { podman.version.max(DROP_INS) } else { podman.version };
    GENERATIONS.iter().rev().find(|g| g.since <= version).unwrap_or(&GENERATIONS[0])
}

/// Where root's programs are; a start has no `PATH`.
const PLACES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Beneath `/run/layerseal`: which program was asked, and what it answered.
const KEPT: &str = "podman";

/// Finds the podman that is installed; `None` if there is none or it does not tell its version. In a user's namespace it is
/// not asked, which takes a fifth of a start: there podman says itself which store it uses ([`super::namespace`]), and
/// what root's files say is not for that user. A process asks once.
pub(super) fn installed() -> Option<Podman> {
    static FOUND: OnceLock<Option<Podman>> = OnceLock::new();
    *FOUND.get_or_init(find)
}

fn find() -> Option<Podman> {
    if rustix::process::geteuid().is_root() && process::user() == User::Rootless {
        return None;
    }
    let (path, stat) = PLACES.iter().find_map(|place| {
        let path = Path::new(place).join("podman");
        let stat = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        Some((path, stat))
    })?;
    let (device, inode, size) = (stat.dev(), stat.ino(), stat.size());
    let key = format!("{} {device} {inode} {size} {}.{}\n", path.display(), stat.mtime(), stat.mtime_nsec());
    let run = files::open_dir(Path::new(RUN)).ok();
    if let Some(run) = &run
        && let Ok(text) = files::open_file_at(run, KEPT).and_then(|file| files::read_all(file, 1 << 12))
        && let Some(kept) = String::from_utf8_lossy(&text).strip_prefix(&key)
    {
        let (said, drop_ins) = kept.split_once('\n')?;
        return Some(Podman { version: parse(said)?, drop_ins: drop_ins == "drop-ins" });
    }
    let said = ask(&path)?;
    let podman = match parse(&said)? {
        version if (MAY_DROP_IN..DROP_INS).contains(&version) => {
            Podman { version, drop_ins: files::contains(&path, READS_DROP_INS).ok()? }
        }
        version => version.into(),
    };
    if let Some(run) = run.filter(|_| rustix::process::geteuid().is_root()) {
        let drop_ins = if podman.drop_ins { "drop-ins" } else { "" };
        // If it cannot be kept, it is asked for again.
        let _ = new_files::write_atomic(run, KEPT, 0o600, format!("{key}{}\n{drop_ins}", said.trim()).as_bytes());
    }
    Some(podman)
}

fn ask(program: &PathBuf) -> Option<String> {
    let mut command = Command::new(program);
    command.arg("--version").env_clear().env("PATH", PLACES.join(":")).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Parses `podman version 6.1.1`, and `6.0.0-rc1`.
fn parse(said: &str) -> Option<Version> {
    let mut numbers = said.trim().strip_prefix("podman version ")?.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_what_they_do() {
        for (said, version) in [
            ("podman version 4.3.1\n", Some((4, 3))),
            ("podman version 6.0.0-rc1", Some((6, 0))),
            ("podman version 5.8", Some((5, 8))),
            ("podman 5.8.1", None),
            ("podman version x.y", None),
            ("", None),
        ] {
            assert_eq!(parse(said), version, "{said}");
        }
        for (version, since) in [
            ((3, 4), (0, 0)),
            ((4, 3), (0, 0)),
            ((4, 9), (4, 6)),
            ((5, 4), (4, 6)),
            ((5, 8), (5, 6)),
            ((6, 1), (6, 0)),
            ((7, 0), (6, 0)),
        ] {
            assert_eq!(of(Some(version.into())).since, since, "{version:?}");
        }
        assert_eq!(of(Some(Podman { version: (5, 8), drop_ins: true })).files, Files::DropIns);
        assert_eq!(of(None).since, (5, 6));
    }
}
