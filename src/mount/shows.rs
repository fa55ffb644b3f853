use serde::{Deserialize, Serialize};

use super::layers::Layers;
use super::overlay::Recipe;
use crate::sys::mounts::MountInfo;

/// What mountinfo shows of the layers of a mount. Descriptors have no name there: it is their number, and
/// what is asked of them, that can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shows {
    /// Lower layers, without those that hold data only.
    pub lowers: usize,
    /// Those that hold data only.
    pub data: usize,
    /// `verity=require`. Not where the overlay that says so lies beneath this one, and has no name.
    pub verity: bool,
    /// It is fuse-overlayfs, of which nothing else is shown.
    pub fuse: bool,
}

impl Shows {
    pub(super) const FUSE: Self = Self { lowers: 0, data: 0, verity: false, fuse: true };

    pub(super) fn expected(layers: &Layers, recipe: &Recipe<'_>) -> Self {
        Self {
            lowers: layers.lowers.len(),
            data: usize::from(layers.data.is_some()),
            verity: recipe.options.contains(&("verity", "require")),
            fuse: false,
        }
    }

    /// Of a mount; nothing at all for one that is no overlay.
    pub fn of(mount: &MountInfo) -> Self {
        match mount.kind.as_str() {
            "overlay" => {}
            "fuse.fuse-overlayfs" => return Self::FUSE,
            _ => return Self::default(),
        }
        let count = |key: &str| mount.super_options.iter().filter(|o| o.starts_with(key)).count();
        Self {
            lowers: count("lowerdir+=") + count("lowerdir="),
            data: count("datadir+="),
            verity: mount.super_options.iter().any(|o| o == "verity=require"),
            fuse: false,
        }
    }
}
