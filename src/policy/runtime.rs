//! The OCI runtime behind layerseal: `runtime.toml`, a file of its own. Whoever breaks the policy must still be able to
//! stop containers, so what every verb needs depends on nothing else.
//!
//! ```toml
//! path = "/usr/bin/crun"
//! ```

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, fstat, openat, statx};
use serde::Deserialize;

use super::Directories;
use super::config_dirs::read;
use super::runtime_note::{self, Identity};
use crate::error::{Case, Refusal, Result, in_toml};
use crate::sys::child::OWN;
use crate::sys::{files, new_files, process};

/// How long a file must not have changed before its times can tell it from a later one, in seconds.
const SETTLED: u64 = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuntimeFile {
    path: PathBuf,
}

/// Returns the runtime's path, as the highest `runtime.toml` says. Only root can have written that file and the
/// program, and the program is not layerseal itself.
///
/// # Errors
/// [`Case::F07Runtime`].
pub fn real_runtime(directories: &Directories) -> Result<PathBuf> {
    let file = directories.highest("runtime.toml");
    let shown = file.display().to_string();
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::F07Runtime, shown.as_str(), why);
    let text = read(&file).map_err(|r| refuse(&r.detail()))?;
    let RuntimeFile { path } = toml::from_str(&text).map_err(|e| refuse(&in_toml(&text, &e)))?;
    check(&path).map_err(|why| refuse(&format!("{}: {why}", path.display())))?;
    Ok(path)
}

fn check(path: &Path) -> std::result::Result<(), String> {
    if !path.is_absolute() {
        return Err("the path must be absolute".into());
    }
    let open =
        |path: &Path| openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|e| e.to_string());
    let (program, directory) = (open(path)?, open(path.parent().unwrap_or(Path::new("/")))?);
    let stat = fstat(&program).map_err(|e| e.to_string())?;
    for (stat, what) in [(stat, "it"), (fstat(directory).map_err(|e| e.to_string())?, "its directory")] {
        if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 {
            return Err(format!("{what} must belong to root and be writable for root only"));
        }
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_mode & 0o111 == 0 {
        return Err("it is no program".into());
    }
    let own = std::fs::metadata(OWN).map_err(|e| format!("{OWN}: {e}"))?;
    let at = std::fs::read_link(OWN).map_err(|e| format!("{OWN}: {e}"))?;
    // Each would call the other.
    let beside = ["layerseal", "layerseal-runtime"].map(|name| std::fs::metadata(at.with_file_name(name)).ok());
    if beside.into_iter().flatten().chain([own]).any(|own| (own.dev(), own.ino()) == (stat.st_dev, stat.st_ino)) {
        return Err("that is layerseal itself".into());
    }
    Ok(())
}

/// Which word of an [`Identity`] is the time of the last change.
const CHANGED: usize = 3;

/// Notes what [`real_runtime`] returned, for `layerseal-runtime`. If it cannot be noted, it is asked for again.
pub fn note_runtime(program: &Path) {
    if !process::is_real_root() {
        return;
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(runtime_note::NOTE.to_bytes()));
    let (Some(Ok(run)), Some(name)) = (path.parent().map(files::open_dir), path.file_name().and_then(|n| n.to_str()))
    else {
        return;
    };
    let kept = files::open_file_at(&run, name).and_then(|f| files::read_all(f, runtime_note::LONGEST as u64));
    let counts =
        |kept: &[u8]| runtime_note::path(kept, identity).map(CStr::to_bytes) == Some(program.as_os_str().as_bytes());
    if !kept.is_ok_and(|kept| counts(&kept))
        && let Some(note) = note(program, u64::try_from(process::now()).unwrap_or(0))
    {
        let _ = new_files::write_atomic(run, name, 0o600, &note);
    }
}

/// Returns the note; `None` where what it says could not be told from what comes later.
fn note(program: &Path, now: u64) -> Option<Vec<u8>> {
    let string = |path: &Path| CString::new(path.as_os_str().as_bytes()).ok();
    let (program, directory) = (string(program)?, string(program.parent()?)?);
    let identities = runtime_note::identities(&program, &directory, identity);
    if identities.iter().any(|identity| identity[CHANGED].saturating_add(SETTLED) > now) {
        return None;
    }
    let words = identities.as_flattened().iter().flat_map(|word| word.to_ne_bytes());
    let paths = [program.as_bytes_with_nul(), directory.as_bytes_with_nul()].concat();
    Some(words.chain(paths).collect::<Vec<u8>>()).filter(|note| note.len() <= runtime_note::LONGEST)
}

fn identity(path: &CStr, follow: bool) -> Identity {
    let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let Ok(stat) = statx(CWD, path, flags, StatxFlags::BASIC_STATS) else { return Identity::default() };
    [
        u64::from(stat.stx_uid) << 32 | u64::from(stat.stx_mode),
        stat.stx_ino,
        stat.stx_size,
        stat.stx_ctime.tv_sec.cast_unsigned(),
        stat.stx_ctime.tv_nsec.into(),
        stat.stx_mtime.tv_sec.cast_unsigned(),
        stat.stx_mtime.tv_nsec.into(),
        u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
    ]
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn f07_only_a_program_of_roots_is_run() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let directories = Directories::new(vec![at("low"), at("high")]);
        let found = || real_runtime(&directories).map_err(|r| r.case());
        let program = at("crun");
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(&program, 0o755);
        std::fs::create_dir(at("low")).unwrap();
        std::fs::create_dir(at("high")).unwrap();
        assert_eq!(found(), Err(Case::F07Runtime), "there is none");
        let write = |place: &str, text: String| std::fs::write(at(place).join("runtime.toml"), text).unwrap();
        write("low", format!("path = {program:?}"));
        assert_eq!(found(), Ok(program.clone()));
        write("high", "path = \"/nowhere\"".into());
        assert_eq!(found(), Err(Case::F07Runtime), "the higher one counts, whatever it says");
        for text in [
            "".into(),
            "path = \"crun\"".into(),
            "path = \"\"".into(),
            format!("path = {:?}", dir.path()),
            format!("path = {program:?}\nmore = 1"),
            format!("path = {:?}", std::env::current_exe().unwrap()),
        ] {
            write("high", text.clone());
            assert_eq!(found(), Err(Case::F07Runtime), "{text}");
        }
        write("high", format!("path = {program:?}"));
        assert_eq!(found(), Ok(program.clone()));
        for (path, bad, good) in
            [(&program, 0o775, 0o755), (&program, 0o644, 0o755), (&at("high/runtime.toml"), 0o666, 0o644)]
        {
            mode(path, bad);
            assert_eq!(found(), Err(Case::F07Runtime), "{} {bad:o}", path.display());
            mode(path, good);
        }
        mode(dir.path(), 0o777);
        assert_eq!(found(), Err(Case::F07Runtime), "its directory");
        mode(dir.path(), 0o700);
        assert_eq!(found(), Ok(program));
    }
    #[test]
    fn a_note_counts_while_all_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("crun");
        let text = CString::new(program.as_os_str().as_bytes()).unwrap();
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        let now = u64::try_from(process::now()).unwrap();
        assert_eq!(note(&program, now), None, "it could be changed once more at this very time");
        let noted = note(&program, now + 100).unwrap();
        let path = |note: &[u8]| runtime_note::path(note, identity).map(CStr::to_owned);
        assert_eq!(path(&noted).as_ref(), Some(&text));
        // A word of each identity, the last of the paths, and an end.
        for at in (0..noted.len() - 1).step_by(8).chain([noted.len() - 1]) {
            let mut other = noted.clone();
            other[at] ^= 1;
            assert_ne!(path(&other).as_ref(), Some(&text), "{at}");
            assert_ne!(path(&noted[..at]).as_ref(), Some(&text), "{at}");
        }
        for change in [
            &|| std::fs::write(&program, "#!/bin/sh\n\n").unwrap(),
            &|| std::fs::write(dir.path().join("runc"), "").unwrap(),
            &|| std::fs::rename(dir.path().join("runc"), &program).unwrap(),
            &|| std::fs::remove_file(&program).unwrap(),
        ] as [&dyn Fn(); 4]
        {
            let noted = note(&program, now + 100).unwrap();
            change();
            assert_eq!(path(&noted), None);
        }
        assert_eq!(note(&dir.path().join("x".repeat(1200)), now + 100), None, "longer than what is read");
    }
}
