//! An overlay that containers-storage mounted itself, read back from mountinfo as the call that it would have made to a
//! mount program.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::{IdMapping, MountCall, UpperPaths, split};
use crate::error::{Case, Refusal, Result};
use crate::sys::mountinfo::{self, MountInfo, label};

/// An overlay of containers-storage's own.
#[derive(Clone, Debug)]
pub struct Native {
    /// What a mount program would have been asked for.
    pub call: MountCall,
    /// Whether it leaves entries in the upper directory that hold metadata only, and its owner knows.
    pub metacopy: bool,
    /// Whether its lower directories have names that say nothing about the layers: `mapped/0/diff` and so on, or
    /// numbers.
    pub nameless: bool,
    /// Whether a user other than root has mounted it: overlayfs keeps its notes in attributes of users then.
    pub of_user: bool,
}

impl Native {
    /// Reads `mount`, which is on `target`. `uids` and `gids` are the container's: they count if they are used to show
    /// the overlay's lower directories, beneath `mapped/`.
    ///
    /// # Errors
    /// [`Case::O06Swap`] if it is not an overlay, or one that cannot be written to.
    pub fn of(mount: &MountInfo, target: &Path, uids: IdMapping, gids: IdMapping) -> Result<Self> {
        Self::read(mount, target)?.writable(target, uids, gids)
    }

    /// Reads the same of a mount that a user other than root has made. There the container's IDs count if the overlay
    /// shows copies for them: no filesystem of users' has mapped IDs.
    ///
    /// # Errors
    /// As for [`Self::of`]; [`Case::O06Swap`] for a mount of root's too.
    pub fn of_user(mount: &MountInfo, target: &Path, uids: IdMapping, gids: IdMapping) -> Result<Self> {
        let native = Self::any(mount, target)?;
        if !native.of_user {
            let why = "it is no overlay of a user's (userxattr)";
            return Err(Refusal::new(Case::O06Swap, target.display().to_string(), why));
        }
        let mut native = native.writable(target, IdMapping::None, IdMapping::None)?;
        if native.nameless || native.call.has_copied_lowers() {
            (native.call.uids, native.call.gids) = (uids, gids);
        }
        Ok(native)
    }

    fn writable(self, target: &Path, uids: IdMapping, gids: IdMapping) -> Result<Self> {
        let refuse = |why: &str| Refusal::new(Case::O06Swap, target.display().to_string(), why);
        let mut native = self;
        if native.call.upper.is_none() || native.call.restrictions.read_only {
            return Err(refuse("it cannot be written to"));
        }
        if native.call.lowers.is_empty() {
            return Err(refuse("it shows no lower directory"));
        }
        // Many layers are mounted from descriptors, which have no names: the directories that showed them are beside
        // the target.
        let unnamed = native.nameless && target.with_file_name("mapped").is_dir();
        if native.call.has_mapped_lowers() || unnamed {
            (native.call.uids, native.call.gids) = (uids, gids);
        }
        Ok(native)
    }

    /// Reads any overlay of root's, including one that shows an image read-only.
    ///
    /// # Errors
    /// [`Case::O06Swap`] if it is not an overlay, or another user's.
    pub fn read(mount: &MountInfo, target: &Path) -> Result<Self> {
        let native = Self::any(mount, target)?;
        match native.of_user {
            true => Err(Refusal::new(Case::O06Swap, target.display().to_string(), "it is another user's (userxattr)")),
            false => Ok(native),
        }
    }

    /// Reads any overlay, whoever made it.
    ///
    /// # Errors
    /// [`Case::O06Swap`] if it is not an overlay.
    pub fn any(mount: &MountInfo, target: &Path) -> Result<Self> {
        let refuse = |why: &str| Refusal::new(Case::O06Swap, target.display().to_string(), why);
        if mount.kind != "overlay" || mount.root != Path::new("/") {
            return Err(refuse(&format!("it is {}, and no overlay of containers-storage", mount.describe())));
        }
        let mut call = MountCall { target: target.to_owned(), ..MountCall::default() };
        let (mut upper, mut work, mut metacopy, mut of_user) = (None, None, false, false);
        for option in &mount.super_options {
            let option = option.as_bytes();
            let (key, shown) = match option.iter().position(|b| *b == b'=') {
                Some(at) => (&option[..at], &option[at + 1..]),
                None => (option, &[][..]),
            };
            let value = mountinfo::unescape(shown);
            match (key, value.as_slice()) {
                (b"lowerdir", list) => {
                    let (lowers, data) = split::lowers(list)?;
                    call.lowers.extend(lowers.into_iter().map(path));
                    call.data_lowers.extend(data.into_iter().map(path));
                }
                // Each has its own option, and nothing is escaped.
                (b"lowerdir+", _) => call.lowers.push(path(value)),
                (b"datadir+", _) => call.data_lowers.push(path(value)),
                (b"upperdir", _) => upper = Some(path(value)),
                (b"workdir", _) => work = Some(path(value)),
                (b"metacopy", b"on") => metacopy = true,
                // As Linux wrote it before 6.17, and as it does since then.
                (b"volatile", _) | (b"fsync", b"volatile") => call.volatile = true,
                (b"userxattr", _) => of_user = true,
                (b"context", _) => call.context = Some(OsString::from_vec(label(shown))),
                _ => {}
            }
        }
        call.restrictions = super::Restrictions {
            read_only: mount.has("ro"),
            nodev: mount.has("nodev"),
            nosuid: mount.has("nosuid"),
            noexec: mount.has("noexec"),
        };
        call.upper = upper.zip(work).map(|(upper, work)| UpperPaths { upper, work });
        let nameless = call.lowers.iter().enumerate().all(|(n, lower)| lower.ends_with(format!("mapped/{n}/diff")))
            || call.lowers.iter().all(|lower| is_descriptor(lower));
        Ok(Self { call, metacopy, nameless, of_user })
    }
}

/// Returns whether this is the number of a descriptor that containers-storage had: with many layers it mounts from
/// `/proc/self/fd`, so that their names fit into a page (drivers/overlay, `mountOverlayFrom`).
fn is_descriptor(lower: &Path) -> bool {
    !lower.as_os_str().is_empty() && lower.as_os_str().as_bytes().iter().all(u8::is_ascii_digit)
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mountinfo::split_options;

    fn mount(options: &str) -> MountInfo {
        let text = |option: &[u8]| OsString::from_vec(option.to_vec());
        MountInfo {
            id: 2,
            parent: 1,
            root: "/".into(),
            device: (0, 41),
            target: "/g/overlay/1/merged".into(),
            options: vec!["rw".into(), "nodev".into()],
            kind: "overlay".into(),
            source: "overlay".into(),
            super_options: split_options(options.as_bytes()).unwrap().into_iter().map(text).collect(),
        }
    }

    fn read(options: &str) -> Result<Native> {
        Native::of(&mount(options), Path::new("/g/overlay/1/merged"), IdMapping::Squash(1), IdMapping::Squash(2))
    }

    #[test]
    fn overlays_as_podman_makes_them() {
        let of = |text: &str| read(text).unwrap();
        let native = of("rw,lowerdir=/g/l/A:/g/l/B,upperdir=/g/1/diff,workdir=/g/1/work,uuid=on,fsync=volatile");
        assert_eq!(native.call.lowers, [PathBuf::from("/g/l/A"), "/g/l/B".into()]);
        assert!(native.call.volatile && !native.metacopy && native.call.restrictions.nodev);
        assert_eq!(native.call.uids, IdMapping::None);
        let native = of("rw,lowerdir=/g/1/mapped/0/l/A,upperdir=/g/a\\040b,workdir=/w,metacopy=on,redirect_dir=on");
        assert_eq!(native.call.upper.unwrap().upper, Path::new("/g/a b"));
        assert!(native.metacopy && !native.call.volatile);
        assert_eq!(native.call.uids, IdMapping::Squash(1));
        assert!(!native.nameless);
        assert!(of("rw,lowerdir=/g/1/mapped/0/diff:/g/1/mapped/1/diff,upperdir=/u,workdir=/w").nameless);
        assert!(!of("rw,lowerdir=/g/1/mapped/0/diff:/g/1/mapped/0/diff,upperdir=/u,workdir=/w").nameless);
        assert!(of("rw,lowerdir=3:4:15,upperdir=/u,workdir=/w").nameless);
        assert!(!of("rw,lowerdir=3:/g/l/B,upperdir=/u,workdir=/w").nameless);
        let native = of("rw,lowerdir+=/a,lowerdir+=/b,datadir+=/c,upperdir=/u,workdir=/w");
        assert_eq!((native.call.lowers.len(), native.call.data_lowers.len()), (2, 1));
        let label = "system_u:object_r:container_file_t:s0";
        let native = of(&format!("rw,context=\"{label}:c172,c741\",lowerdir=/g/l/A,upperdir=/u,workdir=/w,uuid=on"));
        assert_eq!(native.call.context.unwrap().to_str(), Some(format!("{label}:c172,c741").as_str()));
        assert_eq!(native.call.lowers, [PathBuf::from("/g/l/A")]);
        let native = of(&format!("rw,context={label},lowerdir=/g/l/A,upperdir=/u,workdir=/w"));
        assert_eq!(native.call.context.unwrap().to_str(), Some(label));
    }

    #[test]
    fn o06_others_are_not_taken_away() {
        for bad in ["rw,lowerdir=/a", "rw,upperdir=/u,workdir=/w", "rw,lowerdir=/a,upperdir=/u,workdir=/w,userxattr"] {
            assert_eq!(read(bad).unwrap_err().case(), Case::O06Swap, "{bad}");
        }
        let of_user = |options: &str| {
            Native::of_user(&mount(options), Path::new("/g/overlay/1/merged"), IdMapping::None, IdMapping::None)
        };
        assert!(of_user("rw,lowerdir=/a,upperdir=/u,workdir=/w,userxattr").unwrap().of_user);
        for (lowers, ids) in [
            ("/g/l/A:/g/l/B", IdMapping::None),
            ("/g/l/A:/g/l/A/../diff1:/g/l/B", IdMapping::Squash(1)),
            ("/g/1/diff:/g/1/diff/../diff12:/g/2/diff", IdMapping::Squash(1)),
            ("/g/1/diff:/g/1/diffs:/g/2/diff", IdMapping::None),
            ("3:4:5", IdMapping::Squash(1)),
        ] {
            let options = format!("rw,lowerdir={lowers},upperdir=/u,workdir=/w,userxattr");
            let target = Path::new("/g/overlay/1/merged");
            let native = Native::of_user(&mount(&options), target, IdMapping::Squash(1), IdMapping::Squash(1)).unwrap();
            assert_eq!((native.call.uids, native.call.gids), (ids.clone(), ids), "{lowers}");
        }
        for bad in ["rw,lowerdir=/a,userxattr", "rw,lowerdir=/a,upperdir=/u,workdir=/w"] {
            assert_eq!(of_user(bad).unwrap_err().case(), Case::O06Swap, "{bad}");
        }
    }
}
