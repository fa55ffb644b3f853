//! `createContainer`: called in the container's own namespaces, when the runtime is done with its mounts and before it
//! changes the root. crun binds the root on itself and remounts that without the flags that it had, once more for
//! `readonly`: what layerseal mounted with `nodev` or `nosuid` then has neither in the container. This hook restores
//! the flags.

use std::path::Path;

use crate::error::{Case, Refusal, Result};
use crate::protocol;
use crate::sys::mountinfo::{self, MountInfo};
use crate::sys::mounts::{self, Restrict};
use crate::sys::process;

pub(super) fn run(input: &[u8]) -> Result<()> {
    let (bundle, root) = protocol::root_of(input)?;
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::O05Call, bundle.display().to_string(), e);
    let root = match root {
        Some(root) => root,
        // runc does not say; it keeps the flags, and the user of its own namespace need not be able to see the bundle.
        None if !process::is_real_root() => return Ok(()),
        None => protocol::config(&protocol::read_config(&bundle).map_err(|e| refuse(&e))?)?.root,
    };
    let root = std::fs::canonicalize(bundle.join(root)).map_err(|e| refuse(&e))?;
    let all = mountinfo::own()?;
    match wanted(&all, &root) {
        Some(restrict) => set(&root, restrict),
        None => Ok(()),
    }
}

/// Returns the flags that the mount under the root's binding has and the future root lacks. Only for mounts of
/// layerseal: nobody promised anything about others.
fn wanted(all: &[MountInfo], root: &Path) -> Option<Restrict> {
    let top = mountinfo::topmost(all, root)?;
    let ours = crate::mount::is_ours(top);
    let has = |flag: &str| {
        let below = |m: &&MountInfo| m.id != top.id && m.target == root && m.device == top.device;
        all.iter().filter(below).any(|m| m.has(flag)) && !top.has(flag)
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
            options: options.split(',').map(Into::into).collect(),
            kind: "overlay".into(),
            source: source.into(),
            super_options: vec![],
        }
    }

    #[test]
    fn the_flags_of_the_mount_below_are_wanted() {
        let of = |source: &str, below: &str, top: &str| {
            wanted(&[mount(1, 0, source, below), mount(2, 1, source, top)], Path::new("/m"))
        };
        let none = Restrict::default();
        assert_eq!(of("composefs:x", "rw,nodev", "rw"), Some(Restrict { nodev: true, ..none }));
        assert_eq!(of("layerseal:plain", "rw,nodev,nosuid", "ro,nodev"), Some(Restrict { nosuid: true, ..none }));
        assert_eq!(of("composefs:x", "rw,nodev", "rw,nodev"), None);
        assert_eq!(of("composefs:x", "rw", "rw"), None);
        assert_eq!(of("overlay", "rw,nodev", "rw"), None);
        assert_eq!(wanted(&[mount(1, 0, "composefs:x", "rw,nodev")], Path::new("/m")), None);
    }
}
