//! A filesystem for a vault, for hosts whose own filesystems lack fs-verity: an ext4 in a file.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FallocateFlags, IFlags, fallocate, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

use crate::error::{Case, Refusal, Result, check_room};
use crate::sys::{files, mounts};

/// The smallest size: less holds no image.
const LEAST: u64 = 16 << 20;

/// A vault that is to be made.
#[derive(Clone, Debug)]
pub struct VaultRequest {
    /// Where it is to be mounted.
    pub directory: PathBuf,
    /// The file that holds it; `None` for the directory's name with `.img`.
    pub file: Option<PathBuf>,
    /// Its size in bytes.
    pub size: u64,
}

/// A vault that is not mounted yet.
#[derive(Clone, Debug)]
pub struct MadeVault {
    /// Where it is to be mounted.
    pub directory: PathBuf,
    /// The file that holds it.
    pub file: PathBuf,
    /// The name that systemd requires for its mount unit.
    pub unit_name: String,
    /// The unit.
    pub unit: String,
}

/// Makes a file with an ext4 that has fs-verity, and the directory on which it is to be mounted. All of its space is
/// allocated at once: a file with holes on a full disk would be a damaged filesystem. Nothing is mounted.
///
/// # Errors
/// [`Case::Usage`] for paths that no unit can have and sizes that are too small, [`Case::VaultPlace`] if something
/// already exists there or mkfs.ext4 fails, [`Case::NoRoom`], [`Case::Io`].
pub fn create(request: &VaultRequest) -> Result<MadeVault> {
    let beside = || {
        let mut name = request.directory.as_os_str().to_owned();
        name.push(".img");
        PathBuf::from(name)
    };
    let directory = plain(&request.directory)?;
    let file = plain(&request.file.clone().unwrap_or_else(beside))?;
    if request.size < LEAST {
        return Err(Refusal::new(Case::Usage, "--size", "a vault of less than 16M holds no image"));
    }
    if file.starts_with(&directory) {
        let why = "the file would be beneath what is mounted of it: name another one with --file";
        return Err(Refusal::new(Case::Usage, file.display().to_string(), why));
    }
    let mount_point = mount_point(&directory)?;
    filesystem(&file, request.size)?;
    // If the filesystem of the directory does not have this flag, a vault that is not mounted is refused because
    // fs-verity is missing there.
    let flags = ioctl_getflags(&mount_point).unwrap_or(IFlags::empty());
    if let Err(e) = ioctl_setflags(&mount_point, flags | IFlags::IMMUTABLE) {
        log::info!("{}: it is not made immutable: {e}", directory.display());
    }
    let unit_name = format!("{}.mount", escaped(&directory));
    let unit = unit(&directory, &file, &unit_name);
    Ok(MadeVault { directory, file, unit_name, unit })
}

/// Returns an absolute path that a unit can name without quotes, and in only one way.
fn plain(path: &Path) -> Result<PathBuf> {
    let refuse = |why: &str| Err(Refusal::new(Case::Usage, path.display().to_string(), why));
    let absolute = std::path::absolute(path).map_err(|e| Refusal::io(path.display().to_string(), e))?;
    let known = |byte: &u8| byte.is_ascii_graphic() && !b"\"'\\".contains(byte);
    if !absolute.as_os_str().as_bytes().iter().all(known) {
        return refuse("letters without blanks, quotes and backslashes: systemd reads it too");
    }
    if absolute.components().any(|part| part == std::path::Component::ParentDir) || absolute.file_name().is_none() {
        return refuse("a path without .., and not the root directory");
    }
    Ok(absolute.components().collect())
}

/// Opens the directory, and makes it if it is missing: it is empty, and nothing is mounted on it.
fn mount_point(directory: &Path) -> Result<std::os::fd::OwnedFd> {
    let name = directory.display().to_string();
    let io = |e: std::io::Error| Refusal::io(&name, e);
    let refuse = |why: &str| Refusal::new(Case::VaultPlace, &name, why);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
    let dir = files::open_dir_plain(directory).map_err(|e| match Errno::from_io_error(&e) {
        Some(Errno::LOOP) => refuse("a part of the path is a symlink: name where it leads"),
        _ => io(e),
    })?;
    if mounts::identify(&dir).is_ok_and(|mount| mount.is_root) {
        return Err(refuse("something is mounted there"));
    }
    match files::is_empty(&dir).map_err(io)? {
        true => Ok(dir),
        false => Err(refuse("the directory is not empty: what is in it would be hidden")),
    }
}

/// Makes an ext4 with fs-verity in a new file; nothing is left behind if that fails.
fn filesystem(path: &Path, size: u64) -> Result<()> {
    let name = path.display().to_string();
    let io = |e: std::io::Error| Refusal::io(&name, e);
    let parent = files::open_dir(path.parent().unwrap_or(Path::new("/"))).map_err(io)?;
    check_room(&parent, path.parent().unwrap_or(path), size, 1)?;
    let file =
        File::options().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Refusal::new(Case::VaultPlace, &name, "there is such a file already"),
            _ => io(e),
        })?;
    let made = fill(&file, path, size);
    if made.is_err() {
        let _ = std::fs::remove_file(path);
    }
    made
}

fn fill(file: &File, path: &Path, size: u64) -> Result<()> {
    let name = path.display().to_string();
    let io = |e: std::io::Error| Refusal::io(&name, e);
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::VaultPlace, &name, why);
    match fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP) => {
            return Err(refuse(&"this filesystem cannot set space aside (fallocate): use another"));
        }
        Err(e) => return Err(io(e.into())),
    }
    // Discarding would give the space back.
    let tried = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-b", "4096", "-m", "0", "-O", "verity", "-E", "nodiscard", "-L", "layerseal"])
        .arg(path)
        .stdin(Stdio::null())
        .output();
    match tried {
        Ok(done) if done.status.success() => file.sync_all().map_err(io),
        Ok(done) => Err(refuse(&format!("mkfs.ext4: {}", String::from_utf8_lossy(&done.stderr).trim()))),
        Err(e) => Err(refuse(&format!("mkfs.ext4, of e2fsprogs: {e}"))),
    }
}

/// Escapes a path as systemd does (systemd.unit(5), "string escaping for inclusion in unit names").
fn escaped(path: &Path) -> String {
    let text = path.as_os_str().as_bytes();
    let text = text.strip_prefix(b"/").unwrap_or(text);
    let mut name = String::new();
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            b'_' | b'.' | b':' => name.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            _ => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name
}

fn unit(directory: &Path, file: &Path, name: &str) -> String {
    // systemd expands percent signs (systemd.unit(5), "specifiers").
    let word = |path: &Path| path.display().to_string().replace('%', "%%");
    let (what, at) = (word(file), word(directory));
    format!(
        "# /etc/systemd/system/{name}
[Unit]
Description=Vault of layerseal
Documentation=man:layerseal(1)
RequiresMountsFor={what}

[Mount]
What={what}
Where={at}
Type=ext4
Options=loop,nodev,nosuid,noexec

[Install]
WantedBy=local-fs.target
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_units_are_as_systemd_makes_them() {
        let names = [
            ("/srv/vault", "srv-vault"),
            ("/srv/my-vault", "srv-my\\x2dvault"),
            ("/.hidden/a.b", "\\x2ehidden-a.b"),
            ("/a_b/c:d/e%f", "a_b-c:d-e\\x25f"),
        ];
        for (path, name) in names {
            assert_eq!(escaped(Path::new(path)), name);
            if let Ok(theirs) = Command::new("systemd-escape").args(["--path", path]).output() {
                assert_eq!(String::from_utf8_lossy(&theirs.stdout).trim(), name);
            }
        }
        assert!(unit(Path::new("/a%f"), Path::new("/b%i.img"), "n").contains("What=/b%%i.img\nWhere=/a%%f\n"));
    }

    #[test]
    fn paths_that_a_unit_can_name() {
        for bad in ["/", "/a b", "/a\"b", "/a\\b", "/a\nb", "/a/../b", "/é"] {
            assert!(plain(Path::new(bad)).is_err_and(|r| r.case() == Case::Usage), "{bad:?}");
        }
        assert_eq!(plain(Path::new("/a//b/./c/")).unwrap(), Path::new("/a/b/c"));
    }
}
