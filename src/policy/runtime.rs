//! The OCI runtime behind layerseal: `runtime.toml`, a file of its own. Whoever breaks the policy must still be able to
//! stop containers, so what every verb needs depends on nothing else.
//!
//! ```toml
//! path = "/usr/bin/crun"
//! ```

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use serde::Deserialize;

use super::Directories;
use super::config_dirs::read;
use crate::error::{Case, Refusal, Result, in_toml};
use crate::sys::child::OWN;

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
}
