//! What an engine gives a container, as far as that is known before a start.

use std::path::PathBuf;

use crate::container_store::StoredImage;
use crate::protocol::BindMount;

/// What a container is given besides its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenMount {
    /// Where it is in the container.
    pub destination: String,
    /// What it is.
    pub what: String,
    /// The image that it shows, where it is one.
    pub image: Option<GivenImage>,
    /// What of the host it shows, where that is known.
    pub source: Option<PathBuf>,
}

impl GivenMount {
    /// Describes it as the hooks see a mount that shows files of the host.
    pub(super) fn as_bind(&self) -> Option<BindMount> {
        let source = self.source.clone().filter(|_| self.image.is_none())?;
        Some(BindMount {
            destination: self.destination.clone().into(),
            sources: vec![source],
            recursive: true,
            is_writable: true,
            upper: None,
        })
    }
}

/// A container, as far as its engine tells what it was made to be.
#[derive(Clone, Debug, Default)]
pub struct GivenContainer {
    /// What it is given besides its root.
    pub mounts: Vec<GivenMount>,
    /// Of one that never ran: the user that it is to have, by name or number, and the group, after a colon.
    pub user: String,
    /// Of one that never ran: where its command begins.
    pub directory: PathBuf,
    /// Of one that never ran: whether its user IDs are not those of the host.
    pub mapped: bool,
    /// Of one that never ran: an annotation that no start is let pass with.
    pub redirection: Option<String>,
}

/// An image that is mounted in a container, as far as it is known before it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenImage {
    /// By its name or ID.
    Named(String),
    /// By its uppermost layer.
    Layer(String),
}

impl GivenImage {
    /// Finds the one among these that it is.
    pub fn find<'a>(&self, stored: &'a [StoredImage]) -> Option<&'a StoredImage> {
        let is = |image: &&StoredImage| match self {
            Self::Named(name) => image.names.contains(name) || image.id == name.trim_start_matches("sha256:"),
            Self::Layer(id) => {
                image.image.as_ref().is_ok_and(|i| i.layers.last().is_some_and(|layer| layer.id.as_str() == id))
            }
        };
        stored.iter().find(is)
    }
}
