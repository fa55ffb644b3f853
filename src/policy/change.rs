//! Changes to this host's configuration in `/etc/layerseal`: each file is written as a whole or not at all, and by one
//! process at a time.

use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::{Directories, Mode, Policy, file, refuse};
use crate::error::{Refusal, Result};
use crate::sys::{files, new_files};

/// Where an administrator's configuration is; it hides files that packages install.
pub const ETC: &str = "/etc/layerseal";
/// How long to wait for another process that is changing something.
const WAIT: Duration = Duration::from_secs(10);

/// A directory of the configuration that nobody else is changing meanwhile.
#[derive(Debug)]
pub struct ConfigWriter {
    dir: OwnedFd,
    path: PathBuf,
    _lock: OwnedFd,
}

impl ConfigWriter {
    /// Opens `/etc/layerseal/NAME`, which is made if it is missing, or `/etc/layerseal` for an empty name.
    ///
    /// # Errors
    /// [`crate::error::Case::Io`]; [`crate::error::Case::F03Policy`] if another process does not finish its change.
    pub fn of(name: &str) -> Result<Self> {
        let path = if name.is_empty() { PathBuf::from(ETC) } else { Path::new(ETC).join(name) };
        let io = |e: std::io::Error| Refusal::io(path.display().to_string(), e);
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&path).map_err(io)?;
        let dir = files::open_dir(&path).map_err(io)?;
        let lock = files::lock(&dir, FlockOperation::NonBlockingLockExclusive, WAIT).map_err(io)?;
        let lock = lock.ok_or_else(|| refuse(&path.display().to_string(), "another process changes it"))?;
        Ok(Self { dir, path, _lock: lock })
    }

    /// Reads a file; empty if there is none.
    ///
    /// # Errors
    /// Errors of reading it, as for any file of the configuration.
    pub fn read(&self, name: &str) -> Result<String> {
        let path = self.path.join(name);
        match std::fs::symlink_metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            _ => super::config_dirs::read(&path),
        }
    }

    /// Writes a file, and returns its path.
    ///
    /// # Errors
    /// [`crate::error::Case::Io`].
    pub fn write(&self, name: &str, text: &[u8]) -> Result<PathBuf> {
        let path = self.path.join(name);
        new_files::write_atomic(&self.dir, name, 0o644, text)
            .map_err(|e| Refusal::io(path.display().to_string(), e))?;
        Ok(path)
    }
}

/// The policy of this host with a different mode in `[default]`, before it is written.
#[derive(Debug)]
pub struct ModeChange {
    /// The file to which it is to be written.
    pub path: PathBuf,
    /// The current mode.
    pub before: Mode,
    /// What the file is to hold.
    text: String,
    files: Vec<(String, String)>,
}

impl ModeChange {
    /// Prepares the change of the file that has `[default]`, or of `policy.toml` if none has.
    ///
    /// # Errors
    /// [`crate::error::Case::F03Policy`] for a policy that cannot be used, or changed.
    pub fn new(directories: &Directories, mode: Mode) -> Result<Self> {
        let before = Policy::load(directories)?.default_mode();
        let mut files = directories.files()?;
        let has_default = |(path, text): &(String, String)| file::parse(text, path).is_ok_and(|f| f.default.is_some());
        let at = files.iter().position(has_default).unwrap_or(0);
        let (path, text) = files[at].clone();
        let text = with_mode(&text, mode);
        let read = file::parse(&text, &path)?.default.and_then(|settings| settings.mode);
        if read != Some(mode) {
            return Err(refuse(&path, format!("set mode = \"{mode}\" in [default] by hand")));
        }
        files[at].1.clone_from(&text);
        // A file of the same name hides the one that a package installed.
        let name = Path::new(&path).file_name().unwrap_or_default();
        let dropin = Path::new(&path).parent().is_some_and(|dir| dir.ends_with("policy.d"));
        let path = if dropin { Path::new(ETC).join("policy.d").join(name) } else { Path::new(ETC).join(name) };
        Ok(Self { path, before, text, files })
    }

    /// Returns the policy as it would be.
    ///
    /// # Errors
    /// As for [`Policy::load`].
    pub fn policy(&self, directories: &Directories) -> Result<Policy> {
        let denied = super::Denied::load(directories)?;
        Policy::of_files(Some(directories), self.files.clone(), denied)
    }

    /// Writes it.
    ///
    /// # Errors
    /// The errors of [`ConfigWriter`].
    pub fn write(&self) -> Result<()> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dropin = self.path.parent().is_some_and(|dir| dir.ends_with("policy.d"));
        ConfigWriter::of(if dropin { "policy.d" } else { "" })?.write(&name, self.text.as_bytes()).map(drop)
    }
}

/// Returns the text with this mode in `[default]`; everything else, including comments, stays as it is.
fn with_mode(text: &str, mode: Mode) -> String {
    let table = |line: &str| {
        line.trim_start().starts_with('[').then(|| line.split('#').next().unwrap_or_default().trim().to_owned())
    };
    let is_mode =
        |line: &str| line.trim_start().strip_prefix("mode").is_some_and(|rest| rest.trim_start().starts_with('='));
    let (mut lines, mut in_default, mut header, mut done) = (Vec::new(), false, None, false);
    for line in text.lines() {
        if let Some(name) = table(line) {
            in_default = name == "[default]";
            if in_default {
                header = Some(lines.len());
            }
        }
        if in_default && is_mode(line) && !done {
            let comment = line.find('#').map(|at| format!(" {}", &line[at..])).unwrap_or_default();
            lines.push(format!("mode = \"{mode}\"{comment}"));
            done = true;
        } else {
            lines.push(line.to_owned());
        }
    }
    match (done, header) {
        (true, _) => {}
        (false, Some(header)) => lines.insert(header + 1, format!("mode = \"{mode}\"")),
        (false, None) => lines.extend([String::new(), "[default]".to_owned(), format!("mode = \"{mode}\"")]),
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_of_the_default_is_changed_and_nothing_else() {
        for (before, after) in [
            (
                "version = 1\n[default] # all\n  mode=\"audit\"  # for now\ntrust = [\"a\"]\n[[rule]]\nimage = \"localhost/x\"\nmode = \"audit\"\n",
                "version = 1\n[default] # all\nmode = \"enforce\" # for now\ntrust = [\"a\"]\n[[rule]]\nimage = \"localhost/x\"\nmode = \"audit\"\n",
            ),
            ("version = 1\n[default]\ntrust = []", "version = 1\n[default]\nmode = \"enforce\"\ntrust = []\n"),
            (
                "version = 1\n[[rule]]\nimage = \"localhost/x\"\nmode = \"off\"\n",
                "version = 1\n[[rule]]\nimage = \"localhost/x\"\nmode = \"off\"\n\n[default]\nmode = \"enforce\"\n",
            ),
        ] {
            assert_eq!(with_mode(before, Mode::Enforce), after);
            assert_eq!(file::parse(after, "x").unwrap().default.unwrap().mode, Some(Mode::Enforce));
        }
    }
}
