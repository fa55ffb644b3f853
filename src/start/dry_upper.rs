//! What an upper directory would be refused for, found out without a start. Nothing of it is changed.

use super::overlay_notes::OverlayNotes;
use super::upper_check::UpperOverImage;
use super::{LastStart, PodmanWrites};
use crate::container_store::OwnLayer;
use crate::error::{Case, Refusal, Result};
use crate::mount::{self, MountOptions};
use crate::policy::UpperRule;
use crate::prepare::PreparedImage;
use crate::protocol::IdMapping;
use crate::state::{NotedDirectories, StateDir};

/// Checks that the upper directory holds nothing that `upper = "empty"` forbids, as far as that can be told.
///
/// # Errors
/// [`Case::M01Upper`].
pub(super) fn emptiness(own: &OwnLayer, rule: UpperRule, image: Option<&PreparedImage>) -> Result<()> {
    if rule != UpperRule::Empty {
        return Ok(());
    }
    let io = |e: std::io::Error| Refusal::io(own.path.display().to_string(), e);
    let noted = NotedDirectories::open(StateDir::Uppers).map_err(io)?;
    if noted.map_or(Ok(false), |noted| noted.holds(&own.diff)).map_err(io)? {
        return Ok(());
    }
    let Some(image) = image else { return Ok(()) };
    let view = mount::view(image, &MountOptions::default())?;
    let beside = UpperOverImage {
        upper: &own.diff,
        image: &view,
        maps: None,
        unknown_ids: false,
        written: None,
        age: None,
        dry: true,
        notes: OverlayNotes::OfRoot,
    };
    match beside.first_unexpected().map_err(io)? {
        Some(path) => Err(Refusal::new(Case::M01Upper, own.path.display().to_string(), path.display())),
        None => Ok(()),
    }
}

/// Checks what podman copied into the upper directory before, as the next start compares it. `written` says what podman
/// writes through an overlay of its own: nothing of that start is there yet. `uids` and `gids` are the container's.
///
/// # Errors
/// [`Case::O09Tampered`], and those of looking at the image.
pub fn expect_upper(
    own: &OwnLayer,
    image: &PreparedImage,
    written: Option<&PodmanWrites>,
    (uids, gids): (&IdMapping, &IdMapping),
) -> Result<()> {
    let plain = MountOptions::default();
    let mapped = MountOptions { uids: uids.clone(), gids: gids.clone(), ..MountOptions::default() };
    let view = mount::view(image, if written.is_some() { &mapped } else { &plain })?;
    let since = written.map_or(i128::MAX, |written| written.since);
    let beside = UpperOverImage {
        upper: &own.diff,
        image: &view,
        maps: written.is_some().then_some((uids, gids)),
        unknown_ids: written.is_none() && (*uids != IdMapping::None || *gids != IdMapping::None),
        written,
        age: Some((since, LastStart::of_content_if_noted(&own.diff))),
        dry: true,
        notes: OverlayNotes::OfRoot,
    };
    match beside.first_unexpected().map_err(|e| Refusal::io(own.path.display().to_string(), e))? {
        Some(path) => Err(Refusal::new(Case::O09Tampered, path.display().to_string(), "as podman copied it")),
        None => Ok(()),
    }
}
