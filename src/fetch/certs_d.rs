//! `certs.d`, as our own client needs it: skopeo reads it by itself. (containers-certs.d(5))

use std::path::{Path, PathBuf};

use super::Options;
use crate::sys::home;

/// Certificates for a registry: authorities besides the system's, and what we show it.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    pub(super) authorities: Vec<PathBuf>,
    /// Certificate and key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// Finds the certificates for `host`: those of `--cert-dir`, or of the first `certs.d` that has a directory for it.
pub(super) fn certificates(host: &str, options: &Options) -> Certificates {
    let dir = match &options.cert_dir {
        Some(dir) => Some(dir.clone()),
        None => {
            let home = home::own().map(|home| home.join(".config/containers/certs.d"));
            let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
            home.into_iter().chain(system).map(|dir| dir.join(host)).find(|dir| dir.is_dir())
        }
    };
    let Some(dir) = dir else { return Certificates::default() };
    let client = sorted(&dir, "cert").into_iter().map(|cert| (cert.clone(), cert.with_extension("key")));
    Certificates { authorities: sorted(&dir, "crt"), client: client.rev().find(|(_, key)| key.exists()) }
}

fn sorted(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == ending)).collect();
    files.sort_unstable();
    files
}
