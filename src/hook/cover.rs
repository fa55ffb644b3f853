use std::path::Path;

use crate::policy::Cover;
use crate::report::{Case, Refusal, Result};
use crate::sys::files;
use crate::sys::mounts::MountInfo;

/// Where an image keeps what is run: programs, libraries, kernels, and what tells the loader where they
/// are. Whoever mounts over one of these runs something that nobody sealed. Data and settings are elsewhere,
/// and there mounts are what containers are made for.
const SYSTEM: [&str; 15] = [
    "/bin",
    "/boot",
    // Which program a name means, where a system lets that be chosen (update-alternatives(1)).
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    // Guix and Nix have everything there.
    "/gnu",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix",
    "/sbin",
    "/usr",
];
/// musl's loader has a file for each architecture.
const MUSL: &str = "/etc/ld-musl-";
/// Directories of `/usr` that an image may have elsewhere, by a link.
const BENEATH_USR: [&str; 6] = ["/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/sbin"];

/// The system paths of the image on `root`: by their names, and where links of the image lead from there.
pub(super) fn system_paths(root: &Path) -> Result<Vec<String>> {
    let mut paths: Vec<String> = SYSTEM.map(str::to_owned).into();
    let root = files::Within::open(root).map_err(|e| Refusal::io(root.display().to_string(), e))?;
    for real in root.real_paths(SYSTEM.into_iter().chain(BENEATH_USR)) {
        let real = real.to_str().map(str::to_owned);
        // A link to the root directory would make everything one.
        paths.extend(real.filter(|real| real != "/" && !paths.contains(real)));
    }
    Ok(paths)
}

/// Looks at all mounts beneath `root`: none may be on a path of `system`, beneath one or above one, unless
/// `allowed` says so.
pub(super) fn check(mounts: &[MountInfo], root: &str, system: &[String], allowed: &[Cover]) -> Result<()> {
    for mount in mounts {
        let Some(path) = beneath(&mount.target, root) else { continue };
        let covered = system.iter().any(|system| covers(path, system)) || path.starts_with(MUSL);
        if covered && !allowed.iter().any(|cover| cover.holds(path)) {
            let what = format!("{} {}", mount.kind, mount.source);
            return Err(Refusal::new(Case::O04Covered, path, what));
        }
    }
    Ok(())
}

/// `path` as the container sees it; `None` for the root itself and what is elsewhere.
pub(super) fn beneath<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    path.strip_prefix(root.trim_end_matches('/')).filter(|rest| rest.len() > 1 && rest.starts_with('/'))
}

/// Whether a mount on `path` hides any of `system`.
fn covers(path: &str, system: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(path, system) || within(system, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(targets: &[&str]) -> Vec<MountInfo> {
        let mount = |target: &&str| MountInfo {
            id: 0,
            parent: 0,
            root: "/".into(),
            device: (0, 1),
            target: (*target).to_owned(),
            options: vec![],
            kind: "tmpfs".into(),
            source: "tmpfs".into(),
            super_options: vec![],
        };
        targets.iter().map(mount).collect()
    }

    #[test]
    fn o04_system_paths_are_not_covered() {
        // An image whose /usr/lib is a link.
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr")).unwrap();
        std::fs::create_dir_all(root.path().join("srv/lib/real")).unwrap();
        std::os::unix::fs::symlink("../srv/lib", root.path().join("usr/lib")).unwrap();
        std::os::unix::fs::symlink("/usr/lib/real", root.path().join("lib64")).unwrap();
        let system = system_paths(root.path()).unwrap();
        let allowed: Vec<Cover> = ["/usr/share/zoneinfo"].map(|p| Cover::try_from(p.to_owned()).unwrap()).into();
        let check = |target: &str| check(&mounts(&[&format!("/r/merged{target}")]), "/r/merged", &system, &allowed);
        for fine in [
            "",
            "/",
            "/dev",
            "/proc",
            "/run/secrets",
            "/etc/hosts",
            "/etc/resolv.conf",
            "/data/usr",
            "/usrx",
            "/usr/share/zoneinfo",
            "/usr/share/zoneinfo/UTC",
            "/var/lib",
            "/opt/data",
            "/binary",
            "/etc/alternatives.d",
            "/nixos",
            "/srv/gnu",
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for bad in [
            "/usr",
            "/usr/bin/sh",
            "/bin",
            "/lib64",
            "/etc",
            "/etc/ld.so.preload",
            "/etc/ld.so.conf.d/x.conf",
            "/usr/share/zoneinfo2",
            "/srv/lib",
            "/srv/lib/real/x",
            "/srv",
            "/etc/ld-musl-x86_64.path",
            "/usr/share",
            "/etc/alternatives",
            "/etc/alternatives/editor",
            "/nix/store/x/bin",
            "/nix",
            "/gnu/store",
        ] {
            assert_eq!(check(bad).unwrap_err().case(), Case::O04Covered, "{bad}");
        }
        // Elsewhere on the host.
        assert_eq!(super::check(&mounts(&["/usr", "/r/merged2/usr", "/other"]), "/r/merged", &system, &[]), Ok(()));
        assert_eq!(super::check(&mounts(&["/usr"]), "/", &system, &[]).unwrap_err().case(), Case::O04Covered);
    }
}
