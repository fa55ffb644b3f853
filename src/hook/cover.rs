use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::error::{Case, Refusal, Result};
use crate::policy::Cover;
use crate::protocol::BindMount;
use crate::sys::mountinfo::MountInfo;
use crate::sys::rooted_dir::RootedDir;

/// Where an image keeps what is run: programs, libraries, kernels, and the files that tell the loader where they are.
/// Whoever mounts over one of these runs something that nobody sealed. Data and settings are elsewhere, and there
/// mounts are what containers are made for.
const SYSTEM: [&str; 15] = [
    "/bin",
    "/boot",
    // Which program a name means, if a system lets that be chosen (update-alternatives(1)).
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
/// Places there that mounts may cover on any host: time zones are data, `-v /etc/localtime:/etc/localtime` and
/// `--tz=local` end there if the image's /etc/localtime is a link, and no program lies there.
const OPEN: [&str; 1] = ["/usr/share/zoneinfo"];
/// musl's loader reads one file per architecture.
const MUSL: &[u8] = b"/etc/ld-musl-";
/// Directories of `/usr` that an image may have elsewhere, behind a link.
const BENEATH_USR: [&str; 6] = ["/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/sbin"];

/// Lists the system paths of any image, by name.
pub(super) fn names() -> Vec<PathBuf> {
    SYSTEM.map(PathBuf::from).into()
}

/// Lists the system paths of the image on `root`: by name, and where the image's own links lead from there.
pub(super) fn system_paths(root: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = names();
    let root = RootedDir::open(root).map_err(|e| Refusal::io(root.display().to_string(), e))?;
    for real in root.real_paths(SYSTEM.into_iter().chain(BENEATH_USR)) {
        // A link to the root directory would make everything a system path.
        if real != Path::new("/") && !paths.contains(&real) {
            paths.push(real);
        }
    }
    Ok(paths)
}

/// Checks all mounts beneath `root`: none may be on a path of `system`, beneath one or above one, unless `allowed` says
/// so.
pub(super) fn check(mounts: &[MountInfo], root: &Path, system: &[PathBuf], allowed: &[Cover]) -> Result<()> {
    for mount in mounts {
        let Some(path) = beneath(&mount.target, root) else { continue };
        check_one(&path, system, allowed, || mount.describe())?;
    }
    Ok(())
}

/// Checks in the same way what is to be mounted on the image at `root`. Of a mount beneath another one the image says nothing.
pub(super) fn check_wanted(mounts: &[BindMount], root: &Path, allowed: &[Cover]) -> Result<()> {
    let open = RootedDir::open(root).map_err(|e| Refusal::io(root.display().to_string(), e))?;
    let is_beneath = |path: &Path| mounts.iter().any(|m| m.destination != path && path.starts_with(&m.destination));
    let mut system = None;
    for mount in mounts.iter().filter(|mount| !is_beneath(&mount.destination)) {
        let Some(path) = real(&open, &mount.destination) else { continue };
        let system = match &mut system {
            Some(system) => system,
            none => none.insert(system_paths(root)?),
        };
        let what = || mount.sources.first().map_or_else(|| "a mount".to_owned(), |from| from.display().to_string());
        check_one(&path, system, allowed, what)?;
    }
    Ok(())
}

/// Finds where a mount on `path` comes to lie, if that can be told: links of the image are followed, and missing directories
/// will be made.
fn real(root: &RootedDir, path: &Path) -> Option<PathBuf> {
    let mut above = path.ancestors().filter_map(|above| {
        let real = root.real_paths([above.to_str()?].into_iter()).pop()?;
        Some((real, path.strip_prefix(above).ok()?))
    });
    let (mut real, rest) = above.next()?;
    let mut parts = rest.components().peekable();
    // A link to what is not there yet.
    if parts.peek().is_some_and(|part| root.last(&real.join(part)).is_ok()) {
        return None;
    }
    for part in parts {
        let Component::Normal(part) = part else { return None };
        real.push(part);
    }
    (real != Path::new("/")).then_some(real)
}

/// Checks one mount in the same way, whose place the container sees as `path`; `what` says what is mounted.
pub(super) fn check_one(
    path: &Path,
    system: &[PathBuf],
    allowed: &[Cover],
    what: impl FnOnce() -> String,
) -> Result<()> {
    let hides = |system: &PathBuf| path.starts_with(system) || system.starts_with(path);
    let covered = system.iter().any(hides) || path.as_os_str().as_bytes().starts_with(MUSL);
    if covered && !OPEN.iter().any(|open| path.starts_with(open)) && !allowed.iter().any(|cover| cover.holds(path)) {
        let what = format!("{}; to allow it: cover = [\"{}\"]", what(), path.display());
        return Err(Refusal::new(Case::O04Covered, path.display().to_string(), what));
    }
    Ok(())
}

/// Returns `path` as the container sees it; `None` for the root itself and for what is not beneath it.
pub(super) fn beneath(path: &Path, root: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(root).ok().filter(|rest| !rest.as_os_str().is_empty())?;
    Some(Path::new("/").join(rest))
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
            target: (*target).into(),
            options: vec![],
            kind: "tmpfs".into(),
            source: "tmpfs".into(),
            super_options: vec![],
        };
        targets.iter().map(mount).collect()
    }

    #[test]
    fn o04_what_is_to_be_mounted_is_told_as_it_will_be() {
        let root = tempfile::tempdir().unwrap();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, root.path().join(name)).unwrap();
        for dir in ["usr/share", "srv", "data", "etc"] {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        link("/srv", "usr/elsewhere");
        link("/srv/none", "usr/dangling");
        link("/usr/share", "srv/inside");
        let wanted = |paths: &[&str]| {
            let mount = |path: &&str| BindMount {
                destination: path.into(),
                sources: vec!["/host".into()],
                recursive: false,
                is_writable: true,
                upper: None,
            };
            let allowed = [Cover::try_from("/usr/share/nginx/html".to_owned()).unwrap()];
            check_wanted(&paths.iter().map(mount).collect::<Vec<_>>(), root.path(), &allowed).map_err(|r| r.case())
        };
        for refused in
            ["/usr", "/usr/share/x/y", "/usr/share", "/srv/inside", "/srv/inside/new", "/lib", "/etc/../usr/share"]
        {
            assert_eq!(wanted(&["/data", refused]), Err(Case::O04Covered), "{refused}");
        }
        // The last ones are for the hook to look at, when they are mounted.
        for fine in
            ["/data", "/usr/share/nginx/html/x", "/usr/elsewhere", "/usr/elsewhere/x", "/etc/new", "/usr/dangling", "/"]
        {
            assert_eq!(wanted(&[fine]), Ok(()), "{fine}");
        }
        assert_eq!(wanted(&["/srv", "/srv/inside/x"]), Ok(()), "not the image's link");
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
        let allowed: Vec<Cover> = ["/usr/share/nginx/html"].map(|p| Cover::try_from(p.to_owned()).unwrap()).into();
        let check =
            |target: &str| check(&mounts(&[&format!("/r/merged{target}")]), Path::new("/r/merged"), &system, &allowed);
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
            "/usr/share/nginx/html",
            "/usr/share/nginx/html/index.html",
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
            "/usr/share/nginx",
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
            let refusal = check(bad).unwrap_err();
            assert_eq!(refusal.case(), Case::O04Covered, "{bad}");
            assert!(refusal.detail().ends_with(&format!("cover = [\"{bad}\"]")), "{refusal}");
        }
        // Elsewhere on the host.
        assert_eq!(
            super::check(&mounts(&["/usr", "/r/merged2/usr", "/other"]), Path::new("/r/merged"), &system, &[]),
            Ok(())
        );
        assert_eq!(
            super::check(&mounts(&["/usr"]), Path::new("/"), &system, &[]).unwrap_err().case(),
            Case::O04Covered
        );
    }
}
