use serde::{Deserialize, Serialize};

use super::layers::OverlayLayers;
use super::overlay::Recipe;
use crate::sys::mountinfo::MountInfo;

/// What mountinfo shows of the layers of a mount. Descriptors have no name there: it is their number, and
/// what is asked of them, that can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSummary {
    /// Lower layers, without those that hold data only.
    pub lowers: usize,
    /// Lower layers that hold data only.
    pub data: usize,
    /// Whether the mount has `verity=require`. False where the overlay that has it lies beneath this one, and has no
    /// name.
    pub verity: bool,
    /// Whether it is fuse-overlayfs, of which nothing else is shown.
    pub fuse: bool,
}

impl MountSummary {
    pub(super) const FUSE: Self = Self { lowers: 0, data: 0, verity: false, fuse: true };

    pub(super) fn expected(layers: &OverlayLayers, recipe: &Recipe<'_>) -> Self {
        Self {
            lowers: layers.lowers.len(),
            data: usize::from(layers.data.is_some()),
            verity: recipe.options.contains(&("verity", "require")),
            fuse: false,
        }
    }

    /// Summarizes a mount; a mount that is no overlay has an empty summary.
    pub fn of(mount: &MountInfo) -> Self {
        if mount.is_fuse_overlayfs() {
            return Self::FUSE;
        }
        if mount.kind != "overlay" {
            return Self::default();
        }
        let count = |key: &str| mount.super_values(key).count();
        Self {
            lowers: count("lowerdir+=") + count("lowerdir="),
            data: count("datadir+="),
            verity: mount.super_has("verity=require"),
            fuse: false,
        }
    }
}
