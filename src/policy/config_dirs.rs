//! Where the configuration is: `/usr/lib/layerseal` < `/run/layerseal` < `/etc/layerseal`.
//!
//! liboverdrop reads such directories too. It skips files with other endings and files that it cannot read, and does
//! not check who owns a file; here each of these is a refusal.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, statat};

use super::refuse;
use crate::error::{Case, Refusal, Result};
use crate::pki::{Anchor, Certificate};
use crate::pki::{Ownership, TrustStore, anchors};
use crate::sys::files;
use crate::sys::process::{self, User};

/// Why there are no rules, and everything is refused.
const NO_POLICY: &str = "there is none";

/// How many bytes a policy file may have: far more than a person writes.
const MAX_FILE: u64 = 1 << 20;

/// The directories of the configuration, the lowest first. A file in one hides the file of the same name in earlier
/// ones; a link to `/dev/null` removes it.
#[derive(Clone, Debug)]
pub struct Directories(Vec<PathBuf>);

impl Directories {
    /// Returns the directories of this host.
    pub fn system() -> Self {
        Self(["/usr/lib/layerseal", "/run/layerseal", "/etc/layerseal"].map(PathBuf::from).to_vec())
    }

    /// Takes other directories, the lowest first; for tests and images of hosts.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self(paths)
    }

    /// Returns all of them, the highest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().rev().map(PathBuf::as_path)
    }

    /// Returns the file `name` of the highest directory that has one, or the path where it would be.
    pub(super) fn highest(&self, name: &str) -> PathBuf {
        let files = || self.0.iter().rev().map(|directory| directory.join(name));
        files().find(|file| std::fs::symlink_metadata(file).is_ok()).or_else(|| files().next()).unwrap_or_default()
    }

    /// Reads `policy.toml` and the drop-ins of `policy.d/`, in the order of their names, each with its path.
    pub(super) fn files(&self) -> Result<Vec<(String, String)>> {
        let files = self.any_files()?;
        if files.is_empty() {
            let last = self.0.last().map(|d| d.join("policy.toml").display().to_string()).unwrap_or_default();
            return Err(refuse(&last, NO_POLICY));
        }
        Ok(files)
    }

    /// Reads the same; there may be none.
    pub(super) fn any_files(&self) -> Result<Vec<(String, String)>> {
        let found = self.paths(names)?;
        if let Some(other) = found.iter().find(|path| !has_ending(path, &["toml"])) {
            return Err(refuse(&other.display().to_string(), "policy.d/ holds policies (.toml)"));
        }
        found.into_iter().map(|path| Ok((path.display().to_string(), read(&path)?))).collect()
    }

    /// Reads the same for a user other than root, when nothing depends on it: the owner is not checked, since in a user
    /// namespace the files are nobody's, and a file that cannot be read is skipped.
    pub(super) fn readable(&self) -> Vec<(String, String)> {
        let names = |directory: &Path| {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
        };
        let mut found = self.paths(names).unwrap_or_default();
        found.retain(|path| has_ending(path, &["toml"]));
        let text = |path: PathBuf| Some((path.display().to_string(), std::fs::read_to_string(path).ok()?));
        found.into_iter().filter_map(text).collect()
    }

    /// Lists the paths of the policy files that count, by their names and those in `policy.d/`.
    fn paths(&self, names: impl Fn(&Path) -> Result<Vec<String>>) -> Result<Vec<PathBuf>> {
        let mut found: BTreeMap<(bool, String), PathBuf> = BTreeMap::new();
        for directory in &self.0 {
            insert(&mut found, false, directory, &["policy.toml".to_owned()])?;
            let dropins = directory.join("policy.d");
            insert(&mut found, true, &dropins, &names(&dropins)?)?;
        }
        Ok(found.into_values().filter(|path| !is_leftover(path) && !is_mask(path)).collect())
    }

    /// Returns whether there is any policy, even an unusable one.
    pub fn has_policy(&self) -> bool {
        self.files().map_or_else(|refusal| refusal.detail() != NO_POLICY, |_| true)
    }

    /// Lists the names of all trust stores.
    ///
    /// # Errors
    /// [`Case::F03Policy`] for a directory that is not root's, or cannot be read.
    pub fn trust_stores(&self) -> Result<Vec<String>> {
        let mut found = std::collections::BTreeSet::new();
        for directory in &self.0 {
            let place = directory.join("trust.d");
            for name in names(&place)?.into_iter().filter(|name| !name.starts_with('.')) {
                let store = place.join(&name);
                match store.is_dir() {
                    true => drop(found.insert(name)),
                    false => absent(&store)?,
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Reads a trust store: certificates of signers, and of authorities.
    ///
    /// # Errors
    /// F01 and F02 for one that cannot be used.
    pub fn store(&self, name: &str) -> Result<(Vec<Certificate>, Vec<Anchor>)> {
        let (signers, authorities) = self.trust(name)?;
        load(&signers, &authorities)
    }

    /// Lists the certificate files of trust store `name`, from `trust.d/<name>/` of all directories: those of signers,
    /// and those of anchors, which are in `ca/`.
    pub(super) fn trust(&self, name: &str) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(Refusal::new(Case::F01Store, name, "not a name of a trust store"));
        }
        let place = format!("trust.d/{name}");
        let files = |place: &str, what: &str| -> Result<Vec<PathBuf>> {
            let mut files = self.beneath(place)?;
            files.retain(|path| path.file_name().is_none_or(|name| name != "ca") || !path.is_dir() || what.is_empty());
            match files.iter().find(|path| !is_certificate(path)) {
                Some(other) => {
                    let why = format!("{place}/ holds certificates (.crt, .pem, .der, .cer){what}");
                    Err(Refusal::new(Case::F01Store, other.display().to_string(), why))
                }
                None => Ok(files),
            }
        };
        let (signers, anchors) = (files(&place, " and ca/")?, files(&format!("{place}/ca"), "")?);
        if signers.is_empty() && anchors.is_empty() {
            let place = self.0.last().map(|d| d.join("trust.d").join(name).display().to_string()).unwrap_or_default();
            return Err(Refusal::new(Case::F01Store, place, "there is no certificate in it"));
        }
        Ok((signers, anchors))
    }

    /// Lists the files of `deny.d/` of all directories: certificates, and lists of digests (`*.list`).
    ///
    /// # Errors
    /// F03 for a file of any other kind: whoever put it there believes that something is denied.
    pub(super) fn denied(&self) -> Result<Vec<PathBuf>> {
        let files = self.beneath("deny.d")?;
        match files.iter().find(|p| !is_certificate(p) && !is_list(p)) {
            Some(other) => {
                let why = "deny.d/ holds certificates (.crt, .pem, .der, .cer) and lists of digests (.list)";
                Err(refuse(&other.display().to_string(), why))
            }
            None => Ok(files),
        }
    }

    /// Returns whether a file of the directory `name` beneath one of these hides another one, which is no mask.
    pub(super) fn hides(&self, name: &str, path: &Path) -> bool {
        let others = self.0.iter().filter_map(|directory| Some(directory.join(name).join(path.file_name()?)));
        others.take_while(|other| other != path).any(|other| other.symlink_metadata().is_ok() && !is_mask(&other))
    }

    /// Lists the files of the directory `name` beneath each of the directories, one for each file name: the highest
    /// one, and none if that is a mask. Leftovers are omitted.
    fn beneath(&self, name: &str) -> Result<Vec<PathBuf>> {
        let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
        for directory in &self.0 {
            let place = directory.join(name);
            for file in names(&place)? {
                found.insert(file.clone(), place.join(file));
            }
        }
        Ok(found.into_values().filter(|p| !is_mask(p) && !is_leftover(p)).collect())
    }
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| endings.contains(&e))
}

/// Tells by its name whether a file holds certificates.
pub(super) fn is_certificate(path: &Path) -> bool {
    has_ending(path, &["crt", "pem", "der", "cer"])
}

fn is_list(path: &Path) -> bool {
    has_ending(path, &["list"])
}

/// Tells by its name whether a file is hidden, or left behind by an editor or package manager that was replacing a
/// file. Only the ending counts: whoever calls a list `denied.rpm.list` means it.
fn is_leftover(path: &Path) -> bool {
    const ENDINGS: [&str; 12] = [
        "~",
        ".dpkg-bak",
        ".dpkg-dist",
        ".dpkg-new",
        ".dpkg-old",
        ".dpkg-tmp",
        ".rpmnew",
        ".rpmorig",
        ".rpmsave",
        ".ucf-dist",
        ".ucf-new",
        ".ucf-old",
    ];
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn insert(
    found: &mut BTreeMap<(bool, String), PathBuf>,
    dropin: bool,
    directory: &Path,
    names: &[String],
) -> Result<()> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    for name in names {
        let path = directory.join(name);
        match std::fs::symlink_metadata(&path) {
            Ok(_) => drop(found.insert((dropin, name.clone()), path)),
            Err(e) if matches!(e.kind(), NotFound | NotADirectory) => {}
            // A policy that cannot be read still exists.
            Err(e) => return Err(refuse(&path.display().to_string(), e)),
        }
    }
    Ok(())
}

fn is_mask(path: &Path) -> bool {
    std::fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null"))
}

/// Checks that what was not found is not there: a link that leads nowhere is, in its place or in that of a directory
/// above it. Whoever made it meant what it led to.
fn absent(path: &Path) -> Result<()> {
    use std::io::ErrorKind::NotFound;
    for path in path.ancestors() {
        let refused = |why: &dyn std::fmt::Display| Err(refuse(&path.display().to_string(), why));
        match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == NotFound => {}
            Err(e) => return refused(&e),
            Ok(found) if !found.is_symlink() => return Ok(()),
            Ok(_) => {
                return match std::fs::metadata(path) {
                    Ok(_) => Ok(()),
                    Err(e) if e.kind() == NotFound => refused(&"the link leads nowhere; remove it"),
                    Err(e) => refused(&e),
                };
            }
        }
    }
    Ok(())
}

/// Lists the names in a directory that is root's; none if there is no directory. A name that is not UTF-8 is refused:
/// whoever put the file there wanted something by it.
fn names(directory: &Path) -> Result<Vec<String>> {
    let fd = match files::open_dir(directory) {
        Ok(fd) => fd,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            absent(directory)?;
            return Ok(Vec::new());
        }
        Err(e) => return Err(refuse(&directory.display().to_string(), e)),
    };
    owned_by_root(&fd, &directory.display().to_string())?;
    let text = |name: OsString| {
        let shown = |name: &OsString| directory.join(name).display().to_string();
        name.into_string().map_err(|name| refuse(&shown(&name), "its name is no UTF-8"))
    };
    let names = files::names(fd).map_err(|e| refuse(&directory.display().to_string(), e))?;
    names.into_iter().map(text).collect()
}

/// Reads a text file that only root can have written.
pub(super) fn read(path: &Path) -> Result<String> {
    String::from_utf8(read_bytes(path)?).map_err(|_| refuse(&path.display().to_string(), "it is not UTF-8"))
}

/// Reads a file that only root can have written, judged by its descriptor.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let name = path.display().to_string();
    let parent = path.parent().unwrap_or(Path::new("/"));
    let directory = files::open_dir(parent).map_err(|e| refuse(&name, e))?;
    owned_by_root(&directory, &parent.display().to_string())?;
    let file = files::open_file_at(&directory, path.file_name().unwrap_or_default()).map_err(|e| refuse(&name, e))?;
    owned_by_root(&file, &name)?;
    files::read_all(file, MAX_FILE).map_err(|e| refuse(&name, e))
}

fn owned_by_root(fd: &impl std::os::fd::AsFd, name: &str) -> Result<()> {
    let stat = statat(fd, "", AtFlags::EMPTY_PATH).map_err(|e| refuse(name, e))?;
    if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 {
        // There it belongs to nobody, whoever made it.
        let why = match process::user() {
            User::Rootless if rustix::process::geteuid().is_root() => {
                "whose it is cannot be told in a user namespace; run this outside of `podman unshare`"
            }
            _ => "it must belong to root and be writable for root only; chown root and chmod go-w",
        };
        return Err(refuse(name, why));
    }
    Ok(())
}
/// Reads the certificates in these files: those of signers, and those of authorities.
pub(super) fn load(signers: &[PathBuf], authorities: &[PathBuf]) -> Result<(Vec<Certificate>, Vec<Anchor>)> {
    let signers = match signers {
        [] => Vec::new(),
        paths => TrustStore::load(paths, Ownership::RootOnly)?.certificates().to_vec(),
    };
    Ok((signers, anchors(authorities, Ownership::RootOnly)?))
}
