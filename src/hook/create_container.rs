//! `createContainer`: called in the container's own namespaces, when the runtime is done with its mounts and before it changes
//! the root. crun binds the root on itself and remounts that without the flags that it had, once more for `readonly`: what
//! layerseal mounted with `nodev` or `nosuid` has neither in the container then. Here it gets them back.

use std::path::Path;

use super::MAX_INPUT;
use crate::invoke;
use crate::report::{Case, Refusal, Result};
use crate::sys::mounts::{self, MountInfo, Restrict};
use crate::sys::{files, process};

pub(super) fn run(input: &[u8]) -> Result<()> {
    let (bundle, root) = invoke::root_of(input)?;
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::O05Call, bundle.display().to_string(), e);
    let root = match root {
        Some(root) => root,
        // runc does not say; it keeps the flags, and the user of a namespace of its own need not see the bundle.
        None if !process::is_real_root() => return Ok(()),
        None => {
            let file = files::open_dir(&bundle).and_then(|dir| files::open_file_at(dir, "config.json"));
            let bytes = file.and_then(|file| files::read_all(file, MAX_INPUT)).map_err(|e| refuse(&e))?;
            invoke::config(&bytes)?.root
        }
    };
    let root = std::fs::canonicalize(bundle.join(root)).map_err(|e| refuse(&e))?;
    let all = mounts::mountinfo().map_err(|e| Refusal::io("/proc/self/mountinfo", e))?;
    let shown = root.to_str().ok_or_else(|| refuse(&"its root's path is not UTF-8"))?;
    match wanted(&all, shown) {
        Some(restrict) => set(&root, restrict),
        None => Ok(()),
    }
}

/// What the mount that the root was bound from has, and the one that is to be the root has not. Of mounts of layerseal: others
/// are nobody's promise.
fn wanted(all: &[MountInfo], root: &str) -> Option<Restrict> {
    let top = mounts::topmost(all, root)?;
    let ours = top.source.starts_with("composefs:") || top.source == crate::mount::PLAIN;
    let has = |flag: &str| {
        let below = |m: &&MountInfo| m.id != top.id && m.target == root && m.device == top.device;
        all.iter().filter(below).any(|m| m.options.iter().any(|o| o == flag)) && !top.options.iter().any(|o| o == flag)
    };
    let restrict = Restrict { nodev: has("nodev"), nosuid: has("nosuid"), noexec: has("noexec") };
    (ours && restrict != Restrict::default()).then_some(restrict)
}

fn set(root: &Path, restrict: Restrict) -> Result<()> {
    let place = mounts::open_target(root).and_then(|root| mounts::restrict(root, restrict));
    place.map_err(|e| Refusal::new(Case::I05Attach, root.display().to_string(), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, parent: u64, source: &str, options: &str) -> MountInfo {
        MountInfo {
            id,
            parent,
            root: "/".into(),
            device: (0, 41),
            target: "/m".into(),
            options: options.split(',').map(str::to_owned).collect(),
            kind: "overlay".into(),
            source: source.into(),
            super_options: vec![],
        }
    }

    #[test]
    fn the_flags_of_the_mount_below_are_wanted() {
        let of = |source: &str, below: &str, top: &str| {
            wanted(&[mount(1, 0, source, below), mount(2, 1, source, top)], "/m")
        };
        let none = Restrict::default();
        assert_eq!(of("composefs:x", "rw,nodev", "rw"), Some(Restrict { nodev: true, ..none }));
        assert_eq!(of("layerseal:plain", "rw,nodev,nosuid", "ro,nodev"), Some(Restrict { nosuid: true, ..none }));
        assert_eq!(of("composefs:x", "rw,nodev", "rw,nodev"), None);
        assert_eq!(of("composefs:x", "rw", "rw"), None);
        assert_eq!(of("overlay", "rw,nodev", "rw"), None);
        assert_eq!(wanted(&[mount(1, 0, "composefs:x", "rw,nodev")], "/m"), None);
    }
}
