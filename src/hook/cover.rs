use crate::policy::Cover;
use crate::report::{Case, Refusal, Result};
use crate::sys::mounts::MountInfo;

/// Where an image keeps what is run: programs, libraries, kernels, and what tells the loader where they
/// are. Whoever mounts over one of these runs something that nobody sealed. Data and settings are elsewhere,
/// and there mounts are what containers are made for.
const SYSTEM: [&str; 12] = [
    "/bin",
    "/boot",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/sbin",
    "/usr",
];

/// Looks at all mounts beneath `root`: none may be on a system path, beneath one or above one, unless
/// `allowed` says so.
pub(super) fn check(mounts: &[MountInfo], root: &str, allowed: &[Cover]) -> Result<()> {
    for mount in mounts {
        let Some(path) = beneath(&mount.target, root) else { continue };
        if SYSTEM.iter().any(|system| covers(path, system)) && !allowed.iter().any(|cover| cover.holds(path)) {
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
        let allowed: Vec<Cover> = ["/usr/share/zoneinfo"].map(|p| Cover::try_from(p.to_owned()).unwrap()).into();
        let check = |target: &str| check(&mounts(&[&format!("/r/merged{target}")]), "/r/merged", &allowed);
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
            "/usr/share",
        ] {
            assert_eq!(check(bad).unwrap_err().case(), Case::O04Covered, "{bad}");
        }
        // Elsewhere on the host.
        assert_eq!(super::check(&mounts(&["/usr", "/r/merged2/usr", "/other"]), "/r/merged", &[]), Ok(()));
        assert_eq!(super::check(&mounts(&["/usr"]), "/", &[]).unwrap_err().case(), Case::O04Covered);
    }
}
